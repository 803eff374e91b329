//! The caller is never left in silence.

use super::*;

/// The phone goes on, but the model says nothing more: an owed response is requested, or the call ends. The plan's own
/// silence limit is longer than this.
pub(super) fn check(call: &mut Call, world: &mut World, now: &mut Instant) {
    if world.over || call.started.is_none() {
        return;
    }
    let mut last = vec![Event::ModelReady { endpoint: 0 }];
    last.extend(call.speaking.is_some().then_some(Event::SpeechStopped));
    last.extend(world.running.iter().map(|id| {
        let output = "done".to_owned().into();
        Event::ToolFinished { id: id.clone(), output }
    }));
    for event in last {
        happens(call, world, &event, *now);
    }
    wait(call, world, now, 45);
    if world.over || call.parked.is_some() {
        return;
    }
    let owes = call.tools.is_pending() || call.leaving.is_some() || call.ending.is_some();
    assert!(!owes && call.speech.is_idle(), "a response is owed and not due: {call:?}");
    happens(call, world, &Event::SpeechStarted("u".into()), *now);
    happens(call, world, &Event::SpeechStopped, *now);
    wait(call, world, now, 10);
    assert!(world.over, "the caller is not answered: {call:?}");
}

fn happens(call: &mut Call, world: &mut World, event: &Event, now: Instant) {
    let mut out = Vec::new();
    world.before(event, now);
    call.handle(event.clone(), now, &mut out);
    world.check(&out, now, None);
    world.compare(call);
}

/// The phone sends frames and plays audio for this many seconds.
fn wait(call: &mut Call, world: &mut World, now: &mut Instant, seconds: u64) {
    let mut out = Vec::new();
    for _ in 0..seconds {
        while !world.over && !world.outbox.is_empty() {
            let (piece, item, bytes) = world.outbox.remove(0);
            if let Some(item) = item {
                *world.sent.entry(item).or_default() += bytes;
            }
            happens(call, world, &Event::AudioLeft(piece), *now);
        }
        happens(call, world, &Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160])), *now);
        let until = *now + ms(1_000);
        while let Some((due, _)) = call.deadline().filter(|(due, _)| *due <= until) {
            *now = due.max(*now);
            call.handle_timeout(*now, &mut out);
            world.check(&std::mem::take(&mut out), *now, None);
        }
        *now = until;
    }
}
