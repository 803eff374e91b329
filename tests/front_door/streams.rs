//! Streams that break while the call lives: the next one leads into the same conversation.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard_simulator::caller::StreamEnd;
use switchboard_simulator::model::{ModelOptions, Reply, Script, Speech};

use crate::harness::{CLINIC, Harness, finished, speech};

fn model() -> ModelOptions {
    let replies = vec![
        Reply::say("We are open from nine to five, from Monday to Friday, and on Saturday until noon."),
        Reply::say("Sorry, we were cut off. On Saturday until noon."),
        Reply::say("You are welcome."),
    ];
    ModelOptions {
        think: Duration::from_millis(50),
        speech: Speech::Tagged,
        script: Script { replies, ..Script::default() },
        ..ModelOptions::default()
    }
}

#[tokio::test]
async fn a_stream_that_breaks_in_mid_answer_is_followed_by_another_into_the_same_session() {
    let mut harness = Harness::open(CLINIC, model()).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "the greeting is over");
    phone.say(speech(600));
    assert!(phone.wait_until_playing_for(Duration::from_millis(800)).await, "the answer plays");
    phone.break_stream(Duration::ZERO);
    assert!(phone.wait_for_stream(2).await, "another stream comes");
    assert!(phone.wait_for_reply(Duration::from_millis(300)).await, "the assistant goes on");
    phone.say(speech(600));
    assert!(phone.wait_for_reply(Duration::from_millis(300)).await, "and so does the conversation");
    phone.hang_up();
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.streams.len(), 2);
    assert_eq!(record.streams[0].end, StreamEnd::Cut);
    let ended = harness.ended().await;
    assert_eq!((ended.reason, ended.record.interruptions), (EndReason::CallerHungUp, 0));

    assert_eq!(harness.model.sessions().len(), 1, "it is the same session");
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let [cut] = &*session.truncations else { panic!("{:?}", session.truncations) };
    assert!((700..=900).contains(&cut.audio_end_ms), "{cut:?}");
    let users = session.of_kind("conversation.item.create").filter(|event| event["item"]["role"] == "user");
    assert_eq!(users.count(), 1, "the model learns where it broke off");
    harness.quit().await;
}

#[tokio::test]
async fn a_stream_that_breaks_in_the_greeting_is_followed_by_another() {
    let mut harness = Harness::open(CLINIC, model()).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_playing_for(Duration::from_millis(300)).await, "the greeting plays");
    phone.break_stream(Duration::ZERO);
    assert!(phone.wait_for_reply(Duration::from_millis(300)).await, "the assistant goes on");
    phone.hang_up();
    assert_eq!(finished(phone).await.streams.len(), 2);
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    assert_eq!(harness.model.sessions().len(), 1);
    harness.quit().await;
}
