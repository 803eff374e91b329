//! A provider that is down: the call is answered by the assistant's next one, and the following rings do not wait.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard_simulator::model::{ConnectError, Fault, ModelOptions, ModelServer, Speech};
use tokio::time::sleep;

use crate::harness::{CLINIC, Harness, counted, finished, http};

fn quick() -> ModelOptions {
    ModelOptions { think: Duration::from_millis(50), speech: Speech::Tagged, ..ModelOptions::default() }
}

/// A server whose own provider has this fault, and the model of the fallback.
async fn server(fault: Fault, faulty_connections: Option<usize>) -> (Harness, ModelServer) {
    server_with(fault, faulty_connections, Vec::new()).await
}

/// The same, with a fallback that has faults, too.
async fn server_with(
    fault: Fault,
    faulty_connections: Option<usize>,
    faults: Vec<Fault>,
) -> (Harness, ModelServer) {
    let house = ModelServer::start(ModelOptions {
        key: String::new(),
        models: Vec::new(),
        own_names: true,
        faults,
        ..quick()
    })
    .await;
    let house = house.unwrap();
    let file =
        format!("providers: {{ house: {{ url: \"{}\", abilities: {{ voices: [anna] }} }} }}", house.url());
    let assistant = format!("{CLINIC}\nfallback: [{{ provider: house, model: house-voice, voice: anna }}]\n");
    let options = ModelOptions { faults: vec![fault], faulty_connections, ..quick() };
    (Harness::with_file(&assistant, &[], options, &[], Some(&file)).await, house)
}

/// A call that ends when its greeting was heard. Returns how long the caller waited for the first word.
async fn call(harness: &mut Harness) -> Duration {
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(100)).await, "the greeting is heard");
    phone.hang_up();
    finished(phone).await.assert_clean();
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::CallerHungUp);
    Duration::from_millis(ended.record.first_word_ms.expect("it was greeted"))
}

#[tokio::test]
async fn a_call_whose_provider_is_down_is_answered_by_the_next() {
    for fault in [
        Fault::RefuseConnect(ConnectError::InvalidKey),
        Fault::RefuseConnect(ConnectError::UnknownModel),
        Fault::RefuseConnect(ConnectError::InsufficientQuota),
        Fault::UpgradeStatus(503),
        Fault::SilentTcp,
        Fault::NoCreated,
        Fault::NoUpdated,
        Fault::RefuseUpdates,
    ] {
        let (mut harness, house) = server(fault.clone(), None).await;
        let waited = call(&mut harness).await;
        assert!(waited < Duration::from_millis(3_100), "{fault:?}: {waited:?}");
        let session = house.sessions().into_iter().next().expect("the fallback was called");
        let configured = &session.of_kind("session.update").next().unwrap()["session"];
        assert_eq!(configured["audio"]["output"]["voice"], "anna", "{fault:?}");
        assert!(session.errors.is_empty(), "{fault:?}: {:?}", session.errors);
        harness.quit().await;
        house.stop().await;
    }
}

/// The time that is left when it is the fallback's turn is no measure of what it needs.
#[tokio::test]
async fn a_fallback_has_time_to_begin() {
    let late = vec![Fault::LateUpdated(Duration::from_millis(1_500))];
    let (mut harness, house) = server_with(Fault::NoCreated, None, late).await;
    let waited = call(&mut harness).await;
    assert!(waited > Duration::from_secs(3) && waited < Duration::from_millis(4_500), "{waited:?}");
    harness.quit().await;
    house.stop().await;
}

#[tokio::test]
async fn rings_do_not_wait_for_a_provider_that_is_down_until_it_is_back() {
    let (mut harness, house) = server(Fault::NoCreated, Some(3)).await;
    let up = "switchboard_provider_up{provider=\"openai\"}";
    http(&harness.server, "GET", "/readyz", "", "").await; // It is up.
    assert_eq!((counted(up), counted("switchboard_provider_up{provider=\"house\"}")), (1, 1));
    for _ in 0..3 {
        assert!(call(&mut harness).await > Duration::from_secs(1));
    }
    assert_eq!(counted(up), 0);
    let (status, answer) = http(&harness.server, "GET", "/readyz", "", "").await;
    assert_eq!(status, 200, "one provider is enough");
    assert!(answer.contains(r#""providers":{"house":true,"openai":false}"#), "{answer}");
    let waited = call(&mut harness).await;
    assert!(waited < Duration::from_millis(600), "the call began at the fallback: {waited:?}");
    assert_eq!(house.sessions().len(), 4);
    while counted(up) == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    call(&mut harness).await;
    assert_eq!(harness.model.sessions().len(), 5, "an attempt, and the next call");
    assert_eq!(house.sessions().len(), 4);
    harness.quit().await;
    house.stop().await;
}

#[tokio::test]
async fn a_provider_that_begins_sessions_and_never_answers_is_down() {
    let fault = Fault::ResponseFailed { nth: 1, code: "insufficient_quota" };
    let mut harness = Harness::open(CLINIC, ModelOptions { faults: vec![fault], ..quick() }).await;
    for _ in 0..3 {
        finished(harness.dial(harness.phone())).await.assert_clean();
        assert_eq!(harness.ended().await.reason, EndReason::ModelRefused);
    }
    assert_eq!(counted("switchboard_provider_up{provider=\"openai\"}"), 0);
    harness.quit().await;
}

/// The model is the file's: other assistants of the same provider are not to suffer.
#[tokio::test]
async fn a_wrong_model_does_not_make_its_provider_seem_down() {
    let (mut harness, house) = server(Fault::RefuseConnect(ConnectError::UnknownModel), None).await;
    for _ in 0..4 {
        call(&mut harness).await;
    }
    assert_eq!(counted("switchboard_provider_up{provider=\"openai\"}"), 1);
    harness.quit().await;
    house.stop().await;
}
