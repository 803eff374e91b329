//! The form after a call: in nobody's way, and filed.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard::record::Form;
use switchboard_simulator::caller::PhoneHandle;
use switchboard_simulator::model::{
    Aim, Fault, ModelOptions, Moment, Point, Reply, Script, SessionLog, Speech, Trouble, Which,
};

use crate::harness::{Harness, PATIENCE, finished, speech};

const FILE: &str = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { say: "Hello, Example Dental, how can I help?" }
call_control: { end_call: true, transfer_to: { reception: { number: "+15550100008", ring_for: 20s } } }
turn_taking: { interruptions: false }
after_call: { summary: true, fields: { urgent: { type: boolean } } }
"#;

fn model(replies: Vec<Reply>, faults: Vec<Fault>) -> ModelOptions {
    ModelOptions {
        think: Duration::from_millis(100),
        speech: Speech::Tagged,
        script: Script { replies, ..Script::default() },
        faults,
        ..ModelOptions::default()
    }
}

fn mute() -> Vec<Fault> {
    vec![Fault::always(Moment::Response(Which::For(Aim::Form), Point::Created), Trouble::Mute)]
}

fn forms(session: &SessionLog) -> usize {
    session.responses.iter().filter(|response| response.aim == Aim::Form).count()
}

/// The caller hears the greeting, and says something.
async fn ask(phone: &PhoneHandle) {
    assert!(phone.wait_until_playing_for(Duration::from_millis(200)).await, "the assistant speaks");
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "and ends");
    phone.say(speech(600));
    phone.wait_until_playing_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_in_mid_sentence_leaves_a_form() {
    let long = "This answer goes on and on about the opening hours of the clinic. ".repeat(4);
    let replies = vec![Reply::say(long).to("I have pain."), Reply::say("Yes?").to("It is urgent.")];
    let mut harness = Harness::open(FILE, model(replies, Vec::new())).await;
    let phone = harness.dial(harness.phone());
    ask(&phone).await;
    // The caller talks over the answer, and hangs up.
    phone.say(speech(2_000));
    assert!(harness.model.until(PATIENCE, |sessions| sessions[0].speech_started.len() == 2).await);
    phone.hang_up();
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    let (Form { outcome, summary, fields }, record) = harness.form().await;
    assert_eq!(outcome, "ok");
    assert_eq!(summary.as_deref(), Some("The caller said: I have pain. It is urgent."), "{:?}", record.turns);
    assert_eq!(fields.unwrap()["urgent"], true);
    assert!(
        record.turns.iter().any(|turn| turn.text.as_deref() == Some("It is urgent.")),
        "{:?}",
        record.turns
    );
    harness.quit().await;
}

#[tokio::test]
async fn a_call_that_was_transferred_or_took_too_long_leaves_a_form() {
    let limited = format!("{FILE}limits: {{ call: 30s }}\n");
    let transfer = Reply::say("I connect you now.")
        .to("A person, please.")
        .and_call("transfer_call", r#"{"to":"reception"}"#);
    for (file, reply, reason) in [
        (FILE, transfer, EndReason::AssistantTransferred),
        (&*limited, Reply::say("Go on.").to("A person, please."), EndReason::LimitDuration),
    ] {
        let mut harness = Harness::open(file, model(vec![reply], Vec::new())).await;
        let phone = harness.dial(harness.phone());
        ask(&phone).await;
        finished(phone).await.assert_clean();
        assert_eq!(harness.ended().await.reason, reason);
        let (form, _) = harness.form().await;
        assert_eq!(form.summary.as_deref(), Some("The caller said: A person, please."), "{reason:?}");
        harness.quit().await;
    }
}

#[tokio::test]
async fn a_form_takes_no_place_and_delays_a_drain_by_its_time_at_most() {
    let mut harness =
        Harness::with(FILE, &[], model(vec![Reply::say("Yes?").to("Hi.")], mute()), &[("MAX_CALLS", "1")])
            .await;
    for number in 0..2 {
        let phone = harness.dial(harness.phone());
        ask(&phone).await;
        phone.hang_up();
        finished(phone).await.assert_clean();
        assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
        assert!(harness.model.until(PATIENCE, |sessions| forms(&sessions[number]) == 1).await);
    }
    let began = tokio::time::Instant::now();
    harness.close();
    for _ in 0..2 {
        assert_eq!(harness.form().await.0.outcome, "late");
    }
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    harness.quit().await;
}
