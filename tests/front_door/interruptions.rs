//! Truncations compared with what the phone really played.
//!
//! Every millisecond of the model's audio names its item and position, so the phone's last played bytes are the truth.

use std::time::Duration;

use switchboard_simulator::caller::{Cleared, Network, PhoneEvent};
use switchboard_simulator::model::{ClientEvent, Fault, ModelOptions, Reply, Script, SessionLog, Speech};
use switchboard_simulator::tag;
use tokio::sync::watch;
use tokio::time::interval;

use crate::harness::{CLINIC, Harness, finished, speech};

const LONG: &str = "This is a long answer that goes on and on about the opening hours of the clinic, about the \
                    way to it, about where to park, and about what to bring along when you come to see us.";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn talkative() -> ModelOptions {
    ModelOptions {
        think: ms(100),
        speech: Speech::Tagged,
        script: Script { replies: Vec::new(), rest: Reply::say(LONG) },
        ..ModelOptions::default()
    }
}

/// The item and millisecond that the phone had reached when the clear took effect.
fn truth(cleared: &Cleared) -> (u16, u64) {
    let bytes = &cleared.last;
    // The last whole tag; up to seven bytes of the next millisecond may have been played after it.
    let (item, ms) = (0..=bytes.len() - tag::TAG_LEN)
        .rev()
        .find_map(|at| tag::untag(bytes[at..at + tag::TAG_LEN].try_into().unwrap()))
        .unwrap_or_else(|| panic!("no tag in {bytes:?}"));
    (item, u64::from(ms) + 1)
}

/// The error of each clear's truncation in milliseconds. Positive: more was reported than heard.
fn errors(session: &SessionLog, clears: &[Cleared]) -> Vec<i64> {
    assert!(!clears.is_empty(), "something was interrupted");
    clears
        .iter()
        .map(|cleared| {
            assert_eq!(cleared.last.len(), 16, "the voice was playing when it was cleared");
            let (number, heard) = truth(cleared);
            let item = session.items.iter().find(|item| item.number == number).expect("the item is known");
            let cut = session.truncations.iter().find(|cut| cut.item == item.id).unwrap_or_else(|| {
                let kinds: Vec<&str> = session.events.iter().map(ClientEvent::kind).collect();
                let responses = &session.responses;
                panic!(
                    "item {number} was cut at {heard} ms without a truncation: {kinds:?} \
                         {responses:?} {clears:?}"
                )
            });
            assert!(cut.audio_end_ms <= cut.sent_ms, "never more than was sent: {cut:?}");
            cut.audio_end_ms as i64 - heard as i64
        })
        .collect()
}

/// A call with interruptions.
struct Interrupted {
    session: SessionLog,
    clears: Vec<Cleared>,
    /// The longest delay of a timer in this call's runtime.
    stall: Duration,
}

impl Interrupted {
    /// Every truncation is within 20 ms and `jitter` of the truth. A stall of the machine counts twice: for the caller's
    /// voice and for the clear.
    fn assert_exact(&self, jitter: u64) {
        let allowed = Duration::from_millis(20 + jitter) + 2 * self.stall;
        for error in errors(&self.session, &self.clears) {
            assert!(
                u128::from(error.unsigned_abs()) <= allowed.as_millis(),
                "{error} ms off, of {allowed:?}"
            );
        }
    }
}

/// Watches how late a timer of this runtime fires, until the receiver is dropped.
fn watch_the_machine() -> watch::Receiver<Duration> {
    let (worst, receiver) = watch::channel(Duration::ZERO);
    tokio::spawn(async move {
        let mut tick = interval(ms(5));
        let mut last = tick.tick().await;
        while !worst.is_closed() {
            tick.tick().await;
            let now = tokio::time::Instant::now();
            let late = (now - last).saturating_sub(ms(5));
            worst.send_modify(|worst| *worst = late.max(*worst));
            last = now;
        }
    });
    receiver
}

async fn interrupted(network: Network, model: ModelOptions, after: &[u64]) -> Interrupted {
    let stall = watch_the_machine();
    let harness = Harness::open(CLINIC, model).await;
    let mut options = harness.phone();
    options.network = network;
    let mut phone = harness.dial(options);
    assert!(phone.wait_until_quiet(ms(400)).await, "the greeting is over");
    phone.say(speech(500));
    for after in after {
        assert!(phone.wait_until_playing_for(ms(*after)).await, "the answer plays");
        phone.say(speech(500));
        phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_))).await.expect("the voice stops");
    }
    assert!(phone.wait_until_playing_for(ms(100)).await, "the next answer plays");
    phone.hang_up();
    let record = finished(phone).await;
    record.assert_clean();
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let clears = record.streams[0].clears.clone();
    assert_eq!(clears.len(), after.len(), "one clear for each interruption");
    harness.quit().await;
    let stall = *stall.borrow();
    Interrupted { session, clears, stall }
}

fn network(one_way: u64, jitter: u64) -> Network {
    Network { up: ms(one_way), down: ms(one_way), jitter: ms(jitter), seed: 7 }
}

#[tokio::test]
async fn truncations_are_exact_at_any_network_delay() {
    for one_way in [0, 40, 150] {
        interrupted(network(one_way, 0), talkative(), &[700, 1_500]).await.assert_exact(0);
    }
}

#[tokio::test]
async fn truncations_are_within_the_jitter_of_a_jittered_network() {
    for one_way in [0, 40, 150] {
        interrupted(network(one_way, 30), talkative(), &[700, 1_500]).await.assert_exact(30);
    }
}

#[tokio::test]
async fn an_interruption_in_the_second_item_truncates_the_second() {
    // Two items; the first takes about 2 s.
    let reply = Reply {
        items: vec!["One moment please, I will have a look.".to_owned(), LONG.to_owned()],
        ..Reply::default()
    };
    let script = Script { replies: Vec::new(), rest: reply };
    let call = interrupted(network(40, 0), ModelOptions { script, ..talkative() }, &[4_000]).await;
    let (session, clears) = (&call.session, &call.clears);
    let (number, _) = truth(&clears[0]);
    let second = session.items.iter().find(|item| item.number == number).unwrap();
    assert_eq!(second.line, LONG, "the second item was playing");
    call.assert_exact(0);
    let cut: Vec<&str> = session.truncations.iter().map(|cut| cut.item.as_str()).collect();
    assert_eq!(cut, [second.id.as_str()], "the first was heard whole");
}

#[tokio::test]
async fn an_interruption_in_the_first_of_two_items_truncates_both() {
    let model = ModelOptions { faults: vec![Fault::TwoItems], burst: 10.0, ..talkative() };
    let call = interrupted(network(0, 0), model, &[2_500]).await;
    let (session, clears) = (&call.session, &call.clears);
    let (number, _) = truth(&clears[0]);
    let first = session.items.iter().find(|item| item.number == number).unwrap();
    let of_response: Vec<_> = session.items.iter().filter(|item| item.response == first.response).collect();
    for item in of_response.iter().filter(|item| item.number > number) {
        let cut = session.truncations.iter().find(|cut| cut.item == item.id);
        assert!(cut.is_some_and(|cut| cut.audio_end_ms == 0), "truncated to nothing: {cut:?}");
    }
    call.assert_exact(0);
}

#[tokio::test]
async fn an_interruption_after_generation_has_finished_cancels_nothing() {
    let model = ModelOptions { burst: 10.0, ..talkative() };
    let call = interrupted(network(40, 0), model, &[5_000]).await;
    let session = &call.session;
    call.assert_exact(0);
    assert_eq!(session.of_kind("response.cancel").count(), 0);
    let answer = &session.responses[1];
    assert_eq!(answer.status, "completed", "{answer:?}");
}

#[tokio::test]
async fn nothing_is_heard_after_a_clear_until_the_next_answer() {
    let harness = Harness::open(CLINIC, ModelOptions { late_deltas: true, ..talkative() }).await;
    let mut phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(ms(300)).await);
    phone.say(speech(500));
    assert!(phone.wait_until_playing_for(ms(600)).await);
    phone.say(speech(1_500));
    let cleared = phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_))).await.unwrap();
    let again = phone.wait_for(|event| matches!(event, PhoneEvent::Playing)).await.unwrap();
    // The caller speaks for 1.5 s, then 500 ms of silence end the turn. Only then does the voice return.
    assert!(again.at - cleared.at > ms(1_700), "{:?}", again.at - cleared.at);
    phone.hang_up();
    finished(phone).await.assert_clean();
    harness.quit().await;
}

/// The clinic, with interruptions that are confirmed.
fn confirming() -> String {
    format!("{CLINIC}turn_taking: {{ interruptions: confirmed }}\n")
}

/// A cough: noise that fades within 250 ms, always the same.
fn cough() -> bytes::Bytes {
    let mut state = 7_u32;
    let sample = |at: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 16) as f32 / 32_768.0 - 1.0;
        switchboard_audio::encode((12_000.0 * noise * (-(at as f32) / 700.0).exp()) as i16)
    };
    (0..2_000).map(sample).collect()
}

#[tokio::test]
async fn after_a_cough_the_voice_goes_on_where_it_stopped() {
    for (one_way, jitter) in [(0, 0), (40, 0), (150, 0), (40, 20)] {
        let stall = watch_the_machine();
        let harness = Harness::open(&confirming(), talkative()).await;
        let mut options = harness.phone();
        options.network = network(one_way, jitter);
        let mut phone = harness.dial(options);
        assert!(phone.wait_until_quiet(ms(400)).await, "the greeting is over");
        phone.say(speech(500));
        assert!(phone.wait_until_playing_for(ms(1_000)).await, "the answer plays");
        phone.say(cough());
        let cleared =
            phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_))).await.expect("it stops");
        let again = phone.wait_for(|event| matches!(event, PhoneEvent::Playing)).await.expect("it goes on");
        let gap = again.at - cleared.at;
        assert!(phone.wait_until_playing_for(ms(1_500)).await, "the answer goes on");
        phone.hang_up();
        let record = finished(phone).await;
        record.assert_clean();
        let session = harness.session();
        assert!(session.errors.is_empty(), "{:?}", session.errors);
        assert!(session.events.iter().any(|event| event.kind() == "conversation.item.delete"));
        assert!(session.truncations.is_empty(), "the model knows nothing of it");
        assert_eq!(session.responses.len(), 2, "the greeting and one answer");
        let allowed = ms(20 + jitter) + 2 * *stall.borrow();
        assert!(gap <= ms(700 + 2 * one_way) + allowed, "{one_way}±{jitter} ms: silent for {gap:?}");
        // Every millisecond of the answer was heard once, in order.
        let at = tags(&record.heard, session.items.last().expect("it answered").number);
        let (Some(first), Some(last)) = (at.first(), at.last()) else { panic!("nothing was heard") };
        let steps = at.windows(2).map(|pair| i64::from(pair[1]) - i64::from(pair[0]));
        let off: i64 = steps.map(|step| (step - 1).abs()).max().unwrap_or_default();
        assert!(u128::try_from(off).unwrap() <= allowed.as_millis(), "{one_way}±{jitter} ms: {off} ms off");
        assert_eq!(*first, 0);
        assert!(*last > 2_400, "{last}");
        harness.quit().await;
    }
}

/// The milliseconds of an item in what was heard.
fn tags(heard: &[u8], item: u16) -> Vec<u32> {
    let tags = heard.windows(tag::TAG_LEN).filter_map(|bytes| tag::untag(bytes.try_into().unwrap()));
    tags.filter(|(number, _)| *number == item).map(|(_, ms)| ms).collect()
}

#[tokio::test]
async fn speech_that_is_confirmed_is_truncated_as_exactly() {
    for one_way in [0, 40, 150] {
        let stall = watch_the_machine();
        let harness = Harness::open(&confirming(), talkative()).await;
        let mut options = harness.phone();
        options.network = network(one_way, 0);
        let mut phone = harness.dial(options);
        assert!(phone.wait_until_quiet(ms(400)).await, "the greeting is over");
        phone.say(speech(500));
        assert!(phone.wait_until_playing_for(ms(1_000)).await, "the answer plays");
        phone.say(speech(1_500));
        phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_))).await.expect("the voice stops");
        assert!(phone.wait_until_playing_for(ms(100)).await, "the next answer plays");
        phone.hang_up();
        let record = finished(phone).await;
        record.assert_clean();
        let session = harness.session();
        assert!(session.errors.is_empty(), "{:?}", session.errors);
        let clears = record.streams[0].clears.clone();
        harness.quit().await;
        let stall = *stall.borrow();
        Interrupted { session, clears, stall }.assert_exact(0);
    }
}
