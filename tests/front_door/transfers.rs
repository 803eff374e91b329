//! Calls that leave the stream: a person is dialed or keys are pressed, and the conversation continues.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard_simulator::caller::{CallEnd, DialOutcome, PhoneEvent, PhoneHandle, PhoneOptions};
use switchboard_simulator::model::{ModelOptions, Reply, Script, SessionLog, Speech};

use crate::harness::{Harness, finished, http, logged, speech};

const FILE: &str = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { say: "Hello, Example Dental, how can I help?" }
call_control:
  end_call: true
  send_digits: true
  transfer_to: { reception: { number: "+15550100008", ring_for: 20s } }
on_failure: { say: "Sorry, something broke.", dial: "+15550100009" }
"#;

fn model(replies: Vec<Reply>) -> ModelOptions {
    ModelOptions {
        think: Duration::from_millis(50),
        speech: Speech::Tagged,
        script: Script { replies, ..Script::default() },
        ..ModelOptions::default()
    }
}

fn transfer() -> Reply {
    Reply::say("I connect you now.").and_call("transfer_call", r#"{"to":"reception"}"#)
}

fn goodbye() -> Reply {
    Reply::say("You are welcome. Goodbye.").to("Thank you, bye.").and_call("end_call", "{}")
}

fn dials(harness: &Harness, status: &str, after: u64) -> PhoneOptions {
    let outcome = DialOutcome { status: status.to_owned(), after: Duration::from_millis(after) };
    PhoneOptions { dials: vec![outcome], status_callback: true, ..harness.phone() }
}

/// The caller waits until the assistant has spoken, then speaks.
async fn ask(phone: &PhoneHandle) {
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "the assistant speaks");
    phone.say(speech(600));
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
}

/// Waits until the phone has left the stream, come back and heard the assistant; then the caller speaks.
async fn go_on(phone: &mut PhoneHandle, left: impl Fn(&PhoneEvent) -> bool) {
    phone.wait_for(left).await.expect("the phone leaves the stream");
    // Nothing plays in between, so the next audio is the assistant's.
    assert!(phone.control().wait_for_reply(Duration::from_millis(300)).await, "the assistant continues");
    phone.say(speech(600));
}

#[tokio::test]
async fn an_unanswered_transfer_continues_the_conversation() {
    for (status, why) in [("no-answer", "no_answer"), ("busy", "busy"), ("failed", "unreachable")] {
        // The outcome is an item of the conversation, which the model answers like a turn.
        let back = Reply::say("They are not there. What else?");
        let mut harness = Harness::open(FILE, model(vec![transfer(), back, goodbye()])).await;
        let mut phone = harness.dial(dials(&harness, status, 200));
        ask(&phone).await;
        go_on(&mut phone, |event| matches!(event, PhoneEvent::Dialled(_))).await;
        let record = finished(phone).await;
        record.assert_clean();
        assert_eq!(record.streams.len(), 2, "{status}");
        assert_ne!(record.streams[0].url, record.streams[1].url, "each stream has its own ticket");
        assert_eq!(record.dialed[0].number, "+15550100008");
        assert_eq!(
            record.dialed[0].caller_id.as_deref(),
            Some("+15550100100"),
            "the person sees the caller's number"
        );
        assert_eq!(record.end, CallEnd::HungUp);
        assert!(record.said.is_empty(), "{status}: {:?}", record.said);
        let ended = harness.ended().await;
        assert_eq!(ended.reason, EndReason::AssistantEnded, "{status}");
        let sessions = harness.model.sessions();
        assert_eq!(sessions.len(), 1, "the model's session is the same");
        assert!(sessions[0].errors.is_empty(), "{:?}", sessions[0].errors);
        assert!(logged(&[&format!("why={why:?}")]), "{status}");
        harness.quit().await;
    }
}

#[tokio::test]
async fn an_answered_transfer_ends_the_call() {
    let mut harness = Harness::open(FILE, model(vec![transfer()])).await;
    let phone = harness.dial(dials(&harness, "completed", 300));
    ask(&phone).await;
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!((record.streams.len(), &record.end), (1, &CallEnd::HungUp));
    assert_eq!(record.streams[0].bytes_played, record.streams[0].bytes_received, "all audio was played");
    assert_eq!(harness.ended().await.reason, EndReason::AssistantTransferred);
    let closed = |sessions: &[SessionLog]| sessions[0].closed.is_some();
    assert!(harness.model.until(Duration::from_secs(3), closed).await, "the model's socket is closed");
    harness.quit().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_it_rings_ends_the_call() {
    let mut harness = Harness::open(FILE, model(vec![transfer()])).await;
    let mut phone = harness.dial(dials(&harness, "no-answer", 15_000));
    ask(&phone).await;
    phone.wait_for(|event| matches!(event, PhoneEvent::Dialled(_))).await.expect("a person is dialed");
    phone.hang_up();
    let record = finished(phone).await;
    assert_eq!(record.end, CallEnd::CallerHungUp);
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    harness.quit().await;
}

#[tokio::test]
async fn keys_are_pressed_and_the_conversation_continues() {
    let press = Reply::say("I press the keys.").and_call("send_digits", r#"{"digits":"1w2#"}"#);
    let press = Reply { after_call: Some("They are pressed.".to_owned()), ..press };
    let mut harness = Harness::open(FILE, model(vec![press, goodbye()])).await;
    let mut phone = harness.dial(harness.phone());
    ask(&phone).await;
    go_on(&mut phone, |event| matches!(event, PhoneEvent::Pressed(_))).await;
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.pressed.iter().map(|pressed| pressed.digits.as_str()).collect::<Vec<_>>(), ["1w2#"]);
    assert_eq!(record.streams.len(), 2);
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    harness.quit().await;
}

#[tokio::test]
async fn a_parked_call_that_returns_to_a_draining_server_hears_goodbye() {
    let mut harness = Harness::open(FILE, model(vec![transfer()])).await;
    let mut phone = harness.dial(dials(&harness, "no-answer", 1_000));
    ask(&phone).await;
    phone.wait_for(|event| matches!(event, PhoneEvent::Dialled(_))).await.expect("a person is dialed");
    harness.close();
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.streams.len(), 2, "the ticket is honoured");
    assert!(record.streams[1].bytes_played > 0, "a goodbye is heard");
    assert_eq!(harness.ended().await.reason, EndReason::ServerDraining);
    harness.quit().await;
}

#[tokio::test]
async fn only_twilio_can_report_how_a_dial_ended() {
    let mut harness = Harness::open(FILE, model(vec![transfer()])).await;
    let mut phone = harness.dial(dials(&harness, "completed", 1_500));
    ask(&phone).await;
    phone.wait_for(|event| matches!(event, PhoneEvent::Dialled(_))).await.expect("a person is dialed");
    let body = "CallSid=CA00000000000000000000000000000001&CallStatus=in-progress&DialCallStatus=busy";
    // The ticket does not matter: the signature is checked first.
    assert_eq!(http(&harness.server, "POST", "/after-stream/x", "", body).await.0, 403);
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantTransferred);
    harness.quit().await;
}
