//! What the owner hears of the server.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard_simulator::model::{ConnectError, Fault, ModelOptions, Speech};

use crate::harness::{CLINIC, Harness, finished};
use crate::service::{Came, Does, Service};

/// Code, whether it is well again, and what it is about.
fn news(came: &Came) -> (String, bool, String) {
    let event = came.json();
    assert_eq!((&event["type"], &event["id"]), (&"alert".into(), &came.header("webhook-id").into()));
    let data = &event["data"];
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    (text("code"), data["well"].as_bool().unwrap(), text("about"))
}

#[tokio::test]
async fn the_owner_hears_once_of_a_provider_that_is_down_without_credit_and_back() {
    let mut owner = Service::open([Does::Answer(200, "")]).await;
    let file = format!(
        "alerts: {{ to: {{ webhook: {{ url: \"{}\", secret: \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\" }} }} }}\n",
        owner.url
    );
    let model = ModelOptions {
        think: Duration::from_millis(50),
        speech: Speech::Tagged,
        faults: vec![Fault::RefuseConnect(ConnectError::InsufficientQuota)],
        faulty_connections: Some(3),
        ..ModelOptions::default()
    };
    let state = tempfile::tempdir().unwrap();
    let settings = [("STATE_DIR", state.path().to_str().unwrap())];
    let mut harness = Harness::with_file(CLINIC, &[], model, &settings, Some(&file)).await;
    for _ in 0..3 {
        finished(harness.dial(harness.phone())).await.assert_clean();
        assert_eq!(harness.ended().await.reason, EndReason::ModelRefused);
    }
    let mut heard = vec![news(&owner.next().await), news(&owner.next().await)];
    heard.sort();
    let wrong = |code: &str| (code.to_owned(), false, "openai".to_owned());
    assert_eq!(heard, [wrong("provider_down"), wrong("quota")]);
    // The server's own attempt finds that it is back.
    assert_eq!(news(&owner.next().await), ("provider_down".to_owned(), true, "openai".to_owned()));
    harness.quit().await;
    assert!(owner.try_next().is_none());
}
