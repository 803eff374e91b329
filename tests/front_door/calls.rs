//! Calls without faults.

use std::time::Duration;

use serde_json::Value;
use switchboard::call::{Anomaly, EndReason};
use switchboard::record::{Turn, Voice};
use switchboard_audio::stereo_wav;
use switchboard_simulator::caller::{CallEnd, Fault, PhoneEvent};
use switchboard_simulator::model::{self, ModelOptions, Reply, Script, Speech};

use crate::harness::{CLINIC, Harness, TOKEN, counted, finished, http, speech};

const SHORT: &str = "You are welcome. Goodbye.";

fn quick() -> ModelOptions {
    ModelOptions { think: Duration::from_millis(100), speech: Speech::Tagged, ..ModelOptions::default() }
}

fn goodbye() -> Reply {
    Reply::say(SHORT).to("Thank you, bye.").and_call("end_call", "{}")
}

#[tokio::test]
async fn a_call_from_ring_to_goodbye() {
    let script =
        Script { replies: vec![Reply::say("Nine to five.").to("When?"), goodbye()], ..Script::default() };
    let mut harness = Harness::open(CLINIC, ModelOptions { script, ..quick() }).await;
    let mut options = harness.phone();
    options.status_callback = true;
    let phone = harness.dial(options);
    for _ in 0..2 {
        assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "the assistant speaks");
        phone.say(speech(700));
        phone.wait_until_playing_for(Duration::from_millis(10)).await;
    }
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::HungUp);
    assert!(record.said.is_empty(), "Twilio's own voice is not used: {:?}", record.said);
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::AssistantEnded);
    assert_eq!(ended.caller_said().len(), 2);
    assert_eq!(ended.record.interruptions, 0);
    assert!(ended.record.first_word_ms.unwrap() < 1_000, "{:?}", ended.record.first_word_ms);
    let latency = |turn: &Turn| matches!(turn.voice, Voice::Assistant { latency_ms: Some(_), .. });
    assert!(ended.record.turns.iter().any(latency) && ended.record.tokens.taken > 0);

    let session = harness.session();
    assert!(session.authorization_good && session.audio_waited_for_update());
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    // The goodbye was played to its end before the stream closed.
    let stream = &record.streams[0];
    assert_eq!(stream.bytes_played, stream.bytes_received);
    assert_eq!(session.truncations.len(), 0);
    harness.quit().await;
}

#[tokio::test]
async fn the_session_is_configured_from_the_file() {
    let file = r#"
numbers: ["*"]
voice: cedar
speed: 1.1
reasoning: low
language: de
instructions: "You answer {{ called.number }}."
turn_taking: { silence: 700ms, threshold: 0.6, noise_reduction: far_field }
greeting: { first: caller }
"#;
    let harness = Harness::open(file, quick()).await;
    let mut phone = harness.dial(harness.phone());
    phone.wait_for(|event| matches!(event, PhoneEvent::StreamStarted { .. })).await.unwrap();
    let ready = |sessions: &[model::SessionLog]| sessions.iter().any(|session| session.updated.is_some());
    assert!(harness.model.until(Duration::from_secs(5), ready).await);
    phone.hang_up();
    finished(phone).await.assert_clean();
    let session = harness.session();
    let update = &session.of_kind("session.update").next().unwrap()["session"];
    insta::assert_json_snapshot!(update);
    harness.quit().await;
}

#[tokio::test]
async fn the_caller_can_speak_first() {
    let file = CLINIC.replace(
        r#"greeting: { say: "Hello, Example Dental, how can I help?" }"#,
        "greeting: { first: caller }",
    );
    let mut harness = Harness::open(
        &file,
        ModelOptions { script: Script { replies: vec![goodbye()], ..Script::default() }, ..quick() },
    )
    .await;
    let mut phone = harness.dial(harness.phone());
    phone.wait_for(|event| matches!(event, PhoneEvent::StreamStarted { .. })).await.unwrap();
    phone.say(speech(700));
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    assert_eq!(harness.session().responses.len(), 1, "nothing but the answer");
    harness.quit().await;
}

#[tokio::test]
async fn a_recorded_greeting_does_not_wait_for_the_model() {
    let tone: Vec<i16> = (0..8_000).map(|n| ((n as f64 * 0.2).sin() * 9_000.0) as i16).collect();
    let wav = stereo_wav(&tone, &tone);
    let file = CLINIC.replace("greeting: { say:", "greeting: { play: hello.wav, say:");
    let faults = vec![model::Fault::LateUpdated(Duration::from_millis(700))];
    let script = Script { replies: vec![goodbye()], ..Script::default() };
    let mut harness =
        Harness::with(&file, &[("hello.wav", wav)], ModelOptions { faults, script, ..quick() }, &[]).await;
    let mut phone = harness.dial(harness.phone());
    let started = phone.wait_for(|event| matches!(event, PhoneEvent::StreamStarted { .. })).await.unwrap();
    let first = phone.wait_for(|event| matches!(event, PhoneEvent::FirstMedia)).await.unwrap();
    assert!(first.at - started.at < Duration::from_millis(200), "{:?}", first.at - started.at);
    assert!(phone.wait_until_quiet(Duration::from_millis(100)).await);
    phone.say(speech(600));
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.session();
    let items: Vec<&Value> =
        session.of_kind("conversation.item.create").map(|event| &event["item"]).collect();
    assert_eq!(items[0]["role"], "assistant");
    assert_eq!(items[0]["content"][0]["text"], "Hello, Example Dental, how can I help?");
    assert!(session.audio_waited_for_update());
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    harness.quit().await;
}

#[tokio::test]
async fn an_uninterruptible_greeting_is_played_to_its_end() {
    let file = CLINIC.replace("greeting: { say:", "greeting: { interruptible: false, say:");
    let script = Script { replies: vec![goodbye()], ..Script::default() };
    let mut harness = Harness::open(&file, ModelOptions { script, ..quick() }).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_playing_for(Duration::from_millis(300)).await);
    phone.say(speech(600)); // answered when the greeting is over
    let record = finished(phone).await;
    record.assert_clean();
    assert!(record.streams[0].clears.is_empty(), "nothing was cut");
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.session();
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let updates: Vec<&Value> = session.of_kind("session.update").map(|event| &event["session"]).collect();
    let detection = |update: &Value| update["audio"]["input"]["turn_detection"].clone();
    assert_eq!(detection(updates[0])["create_response"], false);
    assert_eq!(detection(updates[1])["create_response"], true);
    assert_eq!(detection(updates[1])["interrupt_response"], true);
    assert_eq!(detection(updates[1])["type"], "server_vad", "the whole object is sent again");
    harness.quit().await;
}

#[tokio::test]
async fn keys_reach_the_model_as_words() {
    let script = Script { replies: vec![goodbye()], ..Script::default() };
    let mut harness = Harness::open(CLINIC, ModelOptions { script, ..quick() }).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(200)).await);
    for digit in "123#".chars() {
        phone.press(digit);
    }
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.session();
    let item = &session.of_kind("conversation.item.create").next().unwrap()["item"];
    assert_eq!(item["role"], "user");
    assert_eq!(item["content"][0]["text"], "The caller pressed 1 2 3.");
    harness.quit().await;
}

#[tokio::test]
async fn a_silent_caller_is_asked_and_then_the_call_ends() {
    let file = format!("{CLINIC}limits: {{ silence: 6s }}\n");
    let mut harness = Harness::open(&file, quick()).await;
    let phone = harness.dial(harness.phone());
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::HungUp);
    assert!(record.said.is_empty());
    assert_eq!(harness.ended().await.reason, EndReason::LimitSilence);
    assert_eq!(harness.session().responses.len(), 3, "the greeting, the question, the goodbye");
    harness.quit().await;
}

#[tokio::test]
async fn a_call_has_a_maximum_duration() {
    let file = format!("{CLINIC}limits: {{ call: 10s }}\n");
    let mut harness = Harness::open(&file, quick()).await;
    let record = finished(harness.dial(harness.phone())).await;
    record.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::LimitDuration);
    let lasted = record.ended - record.started;
    assert!(lasted < Duration::from_secs(18), "{lasted:?}");
    harness.quit().await;
}

#[tokio::test]
async fn a_webhook_sent_twice_gets_the_same_answer_and_one_model() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.faults = vec![Fault::TwoWebhooks];
    let phone = harness.dial(options);
    assert!(phone.wait_until_quiet(Duration::from_millis(100)).await);
    phone.hang_up();
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.documents[0].twiml, record.documents[1].twiml);
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    assert_eq!(harness.model.sessions().len(), 1);
    harness.quit().await;
}

#[tokio::test]
async fn a_webhook_can_be_a_get_request() {
    let harness = Harness::open(CLINIC, quick()).await;
    let path = "/incoming-call?CallSid=CA00000000000000000000000000000077&CallStatus=ringing&\
                From=%2B15550100100&To=%2B15550100001";
    let code = switchboard_simulator::caller::sign(TOKEN, &format!("{}{path}", harness.server), &[]);
    let (status, answer) =
        http(&harness.server, "GET", path, &format!("X-Twilio-Signature: {code}\r\n"), "").await;
    assert_eq!(status, 200);
    assert!(answer.contains("text/xml; charset=utf-8") && answer.contains("<Stream url=\"ws://"), "{answer}");
    harness.quit().await;
}

#[tokio::test]
async fn a_number_without_an_assistant_gets_an_announcement() {
    let harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.to = "+15550100055".to_owned();
    let record = finished(harness.dial(options)).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::HungUp);
    assert_eq!(record.said.len(), 1);
    assert!(harness.model.sessions().is_empty(), "no model was called");
    harness.quit().await;
}

#[tokio::test]
async fn a_full_server_announces_that_it_is_busy() {
    let file = format!("{CLINIC}busy: {{ say: \"All lines are busy.\" }}\n");
    let mut harness = Harness::with(&file, &[], quick(), &[("MAX_CALLS", "1")]).await;
    let first = harness.dial(harness.phone());
    assert!(first.wait_until_playing_for(Duration::from_millis(50)).await);
    let second = finished(harness.dial(harness.phone())).await;
    second.assert_clean();
    assert_eq!(second.said[0].text, "All lines are busy.");
    first.hang_up();
    finished(first).await.assert_clean();
    harness.ended().await;
    let third = harness.dial(harness.phone());
    assert!(third.wait_until_playing_for(Duration::from_millis(50)).await, "there is room again");
    third.hang_up();
    finished(third).await;
    harness.quit().await;
}

#[tokio::test]
async fn a_draining_server_says_goodbye_and_accepts_no_calls() {
    let mut harness = Harness::with(CLINIC, &[], quick(), &[("DRAIN_SECONDS", "1")]).await;
    assert_eq!(http(&harness.server, "GET", "/readyz", "", "").await.0, 200);
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(100)).await);
    harness.close();
    // No new calls from now on.
    while http(&harness.server, "GET", "/readyz", "", "").await.0 != 503 {
        tokio::task::yield_now().await;
    }
    let late = finished(harness.dial(harness.phone())).await;
    assert!(matches!(late.end, CallEnd::Failed(_)), "{:?}: Twilio uses the fallback URL", late.end);
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::HungUp, "the last webhook is still answered");
    assert_eq!(harness.ended().await.reason, EndReason::ServerDraining);
    assert_eq!(harness.session().responses.len(), 2, "the greeting and the goodbye");
    harness.quit().await;
}

#[tokio::test]
async fn health_and_metrics_pages_answer() {
    let harness = Harness::with(CLINIC, &[], quick(), &[("METRICS_TOKEN", "12 34")]).await;
    assert_eq!(http(&harness.server, "GET", "/healthz", "", "").await.0, 200);
    let (status, ready) = http(&harness.server, "GET", "/readyz", "", "").await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(ready.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    assert_eq!(body["status"], "ready");
    assert_eq!(body["assistants"], 1);
    for wrong in
        ["", "Authorization: Bearer 12\r\n", "Authorization: Basic 12 34\r\n", "Authorization: 12 34\r\n"]
    {
        let (status, answer) = http(&harness.server, "GET", "/metrics", wrong, "").await;
        assert_eq!(status, 401, "{wrong}");
        assert!(answer.to_lowercase().contains("\r\nwww-authenticate: bearer"), "{answer}");
    }
    for method in ["GET", "HEAD"] {
        let (status, answer) = http(&harness.server, method, "/", "", "").await;
        assert_eq!(status, 200, "{method}");
        assert!(answer.to_lowercase().contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{answer}");
        assert_eq!(answer.contains("<title>"), method == "GET", "{answer}");
    }
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_playing_for(Duration::from_millis(50)).await);
    let (status, page) =
        http(&harness.server, "GET", "/metrics", "Authorization: bEARER  12 34\r\n", "").await;
    assert_eq!(status, 200, "a scheme has no case");
    assert!(page.contains("\nswitchboard_calls_active "), "{page}");
    assert!(page.contains("switchboard_reload_last_success_timestamp_seconds"), "{page}");
    phone.hang_up();
    finished(phone).await;
    let (_, page) = http(&harness.server, "GET", "/metrics", "Authorization: Bearer 12 34\r\n", "").await;
    assert!(page.contains("switchboard_first_word_seconds_bucket"), "{page}");
    assert!(counted(r#"switchboard_calls_total{assistant="clinic",reason="caller.hung_up"}"#) > 0);
    assert!(!page.contains("5550100"), "no number is a label");
    harness.quit().await;
}

#[tokio::test]
async fn unusual_but_legal_messages_are_accepted() {
    let mut harness = Harness::open(CLINIC, quick()).await;
    let mut options = harness.phone();
    options.faults =
        vec![Fault::EscapedSlashes, Fault::NumericCounters, Fault::ExtraFields, Fault::UnknownEvents];
    let phone = harness.dial(options);
    assert!(phone.wait_until_quiet(Duration::from_millis(200)).await);
    phone.say(speech(600));
    assert!(phone.wait_until_playing_for(Duration::from_millis(50)).await, "it is heard and answered");
    phone.hang_up();
    finished(phone).await.assert_clean();
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::CallerHungUp);
    assert!(ended.count(Anomaly::CallerUnknownEvent) > 0);
    assert!(ended.count(Anomaly::CallerBadAudio) == 0);
    harness.quit().await;
}
