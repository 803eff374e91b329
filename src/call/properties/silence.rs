//! The caller is never left in silence: the bounds of `watch.rs`, measured at the phone, in whatever state random events
//! led to.

use super::*;
use crate::call::tests::inputs::owes;

/// The longest time without a sound while something is owed: 2.5 s, and two frames, because the phone echoes only between
/// frames. And the time until the call ends, if the model says nothing more.
const BOUND: Duration = Duration::from_secs(3);
const GIVEN_UP: Duration = Duration::from_secs(25);
const FRAME: Duration = Duration::from_millis(100);

/// The phone goes on, but the model says nothing more. Whatever is owed leads to a sound or to the end.
pub(super) fn check(call: &mut Call, world: &mut World, now: &mut Instant) {
    if world.over || call.started.is_none() {
        return;
    }
    let mut last = vec![Event::ModelReady { endpoint: 0 }];
    last.extend(call.floor.speaking.is_some().then_some(Event::SpeechStopped));
    last.extend(world.running.iter().map(|id| {
        let output = "done".to_owned().into();
        Event::ToolFinished { id: id.clone(), outcome: "ok", output }
    }));
    for event in last {
        happens(call, world, &event, *now);
    }
    // A hosted tool has 30 s, and the model 20 s after it.
    // Random echoes may have come too early, so that what still played then counts as heard only 2 s later.
    wait(call, world, now, 75, BOUND + Duration::from_secs(2));
    if world.over || call.parked.is_some() || call.lost.is_some() {
        return;
    }
    let owes = call.tools.is_pending() || call.leaving.is_some() || call.ending.is_some();
    assert!(!owes && call.speech.is_idle(), "a response is owed and not due: {call:?}");
    // The caller asks something, and nobody answers.
    happens(call, world, &Event::SpeechStarted("u".into()), *now);
    happens(call, world, &Event::SpeechStopped, *now);
    wait(call, world, now, GIVEN_UP.as_secs(), BOUND);
    assert!(world.over, "the caller is not answered: {call:?}");
}

fn happens(call: &mut Call, world: &mut World, event: &Event, now: Instant) {
    let mut out = Vec::new();
    world.before(event, now);
    call.handle(event.clone(), now, &mut out);
    world.check(&out, now, None);
    world.compare(call);
}

/// The phone sends frames, and plays and echoes all audio, for this many seconds. While something is owed, no silence is
/// longer than `bound`.
fn wait(call: &mut Call, world: &mut World, now: &mut Instant, seconds: u64, bound: Duration) {
    let end = *now + Duration::from_secs(seconds);
    let mut heard_until = *now;
    let mut owed_from = *now;
    let mut echoes: Vec<(Instant, Mark)> = Vec::new();
    while *now < end && !world.over {
        while !world.over && !world.outbox.is_empty() {
            let (piece, item, bytes) = world.outbox.remove(0);
            if let Some(item) = item {
                *world.sent.entry(item).or_default() += bytes;
            }
            heard_until = heard_until.max(*now) + ms(bytes / 8);
            happens(call, world, &Event::AudioLeft(piece), *now);
        }
        echoes.extend(world.marks.drain(..).map(|mark| (heard_until.max(*now), mark)));
        for (_, mark) in echoes.extract_if(.., |(due, _)| *due <= *now).collect::<Vec<_>>() {
            happens(call, world, &Event::MarkPlayed(mark), *now);
        }
        if !owes(call, *now) {
            owed_from = *now;
        }
        let silence = now.saturating_duration_since(heard_until.max(owed_from));
        assert!(world.over || silence <= bound, "silence for {silence:?}: {call:?}");
        happens(call, world, &Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160])), *now);
        let until = *now + FRAME;
        let mut out = Vec::new();
        while let Some((due, _)) = call.deadline().filter(|(due, _)| *due <= until && !world.over) {
            *now = due.max(*now);
            call.handle_timeout(*now, &mut out);
            world.check(&std::mem::take(&mut out), *now, None);
        }
        *now = until;
    }
}
