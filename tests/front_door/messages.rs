//! Messages to the owner, and text messages.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use switchboard::call::EndReason;
use switchboard::record::CallRecord;
use switchboard_simulator::model::{ModelOptions, Reply, Script, Speech};
use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestServer, number};

use crate::harness::{Harness, PATIENCE, finished, speech};
use crate::service::{Came, Does, Service};

const KEY: &[u8] = b"a key of twenty bytes";

fn file(control: &str) -> String {
    format!(
        "numbers: [\"+15550100001\"]\ninstructions: You answer the phone.\n\
         greeting: {{ say: \"Hello, Example Dental, how can I help?\" }}\n{control}\n\
         on_failure: {{ say: \"Sorry, something broke.\" }}\n"
    )
}

const TAKES_MESSAGES: &str = "call_control: { end_call: true, take_message: { to: { webhook: { \
                              url: \"${MESSAGES_URL}\", secret: \"${MESSAGES_SECRET}\" } }, fields: [name, about] } }";

fn model(calls: (&str, &str)) -> ModelOptions {
    let reply = Reply::say("One moment.").and_call(calls.0, calls.1);
    let reply = Reply { after_call: Some("That is done.".to_owned()), ..reply };
    let goodbye = Reply::say("Goodbye.").and_call("end_call", "{}");
    ModelOptions {
        think: Duration::from_millis(50),
        speech: Speech::Tagged,
        script: Script { replies: vec![reply, goodbye], ..Script::default() },
        ..ModelOptions::default()
    }
}

fn message() -> ModelOptions {
    model(("take_message", r#"{"name":"Ann","about":"a tooth"}"#))
}

async fn harness(owner: &Service, model: ModelOptions, settings: &[(&str, &str)]) -> Harness {
    let secret = format!("whsec_{}", STANDARD.encode(KEY));
    let mut all = vec![("MESSAGES_URL", owner.url.as_str()), ("MESSAGES_SECRET", &secret)];
    all.extend_from_slice(settings);
    Harness::with(&file(TAKES_MESSAGES), &[], model, &all).await
}

/// A call in which the caller speaks twice; after the second time, the assistant says goodbye. Returns its record.
async fn call(harness: &mut Harness) -> CallRecord {
    let phone = harness.dial(harness.phone());
    for _ in 0..2 {
        assert!(phone.wait_until_quiet(Duration::from_millis(700)).await, "the assistant speaks");
        phone.say(speech(600));
        phone.wait_until_playing_for(Duration::from_millis(10)).await;
    }
    finished(phone).await.assert_clean();
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::AssistantEnded);
    ended.record
}

fn assert_signed(came: &Came) {
    let signed = format!("{}.{}.", came.header("webhook-id"), came.header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(signed.as_bytes());
    mac.update(&came.body);
    let code = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(came.header("webhook-signature"), format!("v1,{code}"));
}

#[tokio::test]
async fn a_message_is_retried_until_it_reaches_the_owner() {
    let mut owner = Service::open([Does::Answer(500, ""), Does::Answer(200, "")]).await;
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_str().unwrap().to_owned();
    let mut harness = harness(&owner, message(), &[("STATE_DIR", &dir)]).await;
    let record = call(&mut harness).await;
    let (first, second) = (owner.next().await, owner.next().await);
    assert_signed(&first);
    assert_signed(&second);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(record.message.as_deref(), Some(first.header("webhook-id").as_str()));
    let data = &second.json()["data"];
    assert_eq!(data["fields"], serde_json::json!({"name": "Ann", "about": "a tooth"}));
    assert_eq!((&data["assistant"], &data["caller"]), (&"clinic".into(), &"+15550100100".into()));
    harness.quit().await;
    let left: Vec<_> = std::fs::read_dir(state.path().join("messages")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_message_outlives_a_restart() {
    let mut owner = Service::open([Does::Answer(503, "")]).await;
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_str().unwrap().to_owned();
    let mut before = harness(&owner, message(), &[("STATE_DIR", &dir)]).await;
    call(&mut before).await;
    let first = owner.next().await;
    before.quit().await;
    while owner.try_next().is_some() {}
    owner.does(Does::Answer(204, ""));
    let after = harness(&owner, message(), &[("STATE_DIR", &dir)]).await;
    let second = owner.next().await;
    assert_signed(&second);
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    after.quit().await;
}

#[tokio::test]
async fn the_server_delivers_unsaved_messages_before_it_ends() {
    let mut owner =
        Service::open([Does::Answer(503, ""), Does::Answer(503, ""), Does::Answer(200, "")]).await;
    let harness = harness(&owner, message(), &[]).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "the assistant speaks");
    phone.say(speech(600));
    let first = owner.next().await;
    phone.hang_up();
    finished(phone).await;
    harness.quit().await;
    let rest =
        [owner.try_next(), owner.try_next()].map(|came| came.expect("it was delivered before the end"));
    assert!(rest.iter().all(|came| came.header("webhook-id") == first.header("webhook-id")));
}

#[tokio::test]
async fn a_text_message_is_sent_to_the_caller() {
    let line = number(1, "+15550100001");
    let credentials = vec![("SK1".to_owned(), "shh".to_owned())];
    let account = AccountOptions { numbers: vec![line], credentials, ..AccountOptions::default() };
    let twilio = RestServer::start(account).await.unwrap();
    let settings = [
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_API_KEY", "SK1"),
        ("TWILIO_API_SECRET", "shh"),
        ("TWILIO_API_URL", twilio.url()),
    ];
    let control = file("call_control: { end_call: true, send_sms: true }");
    let script = model(("send_sms", r#"{"text":"Example Street 5"}"#));
    let mut harness = Harness::with(&control, &[], script, &settings).await;
    call(&mut harness).await;
    assert!(twilio.until(PATIENCE, |requests| requests.iter().any(|request| request.status == 201)).await);
    harness.quit().await;
    let sent = twilio.messages();
    assert_eq!(sent.len(), 1, "once");
    let message = &sent[0];
    assert_eq!(
        (&message["to"], &message["from"], &message["body"]),
        (&"+15550100100".into(), &"+15550100001".into(), &"Example Street 5".into())
    );
}
