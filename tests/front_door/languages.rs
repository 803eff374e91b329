//! What callers hear from Twilio's voice, in the assistant's language.

use std::time::Duration;

use switchboard::assistant::language::Words;
use switchboard_simulator::caller::CallRecord;
use switchboard_simulator::model::{Fault, ModelOptions, Speech};

use crate::harness::{Harness, finished};

fn quick() -> ModelOptions {
    ModelOptions { think: Duration::from_millis(50), speech: Speech::Tagged, ..ModelOptions::default() }
}

fn file(language: &str, more: &str) -> String {
    format!("numbers: [\"+15550100001\"]\nlanguage: {language}\ninstructions: You answer the phone.\n{more}")
}

/// The one sentence of a call, with its locale.
fn said(record: &CallRecord) -> (&str, &str) {
    record.assert_clean();
    assert_eq!(record.said.len(), 1, "{:?}", record.said);
    (&record.said[0].text, record.said[0].language.as_deref().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_sentences_are_said_in_the_language_of_the_assistant() {
    for (language, locale) in [("fr-CA", "fr-CA"), ("pl", "pl-PL"), ("de-CH", "de-DE"), ("cs", "en-US")] {
        let words = Words::of(locale).unwrap();
        let file = file(language, "");
        let harness =
            Harness::open(&file, ModelOptions { faults: vec![Fault::UpgradeStatus(401)], ..quick() }).await;
        let failed = finished(harness.dial(harness.phone())).await;
        assert_eq!(said(&failed), (words.sorry, locale), "{language}");
        let mut elsewhere = harness.phone();
        elsewhere.to = "+15550100055".to_owned();
        let nobody = finished(harness.dial(elsewhere)).await;
        assert_eq!(said(&nobody), (words.not_in_use, words.locale), "{language}");
        harness.quit().await;

        let harness = Harness::with(&file, &[], quick(), &[("MAX_CALLS", "1")]).await;
        let first = harness.dial(harness.phone());
        assert!(first.wait_until_playing_for(Duration::from_millis(20)).await);
        let second = finished(harness.dial(harness.phone())).await;
        assert_eq!(said(&second), (words.busy, locale), "{language}");
        first.hang_up();
        finished(first).await;
        harness.quit().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_that_twilio_would_not_say_is_replaced() {
    let empty = "on_failure: { say: \"{% if called.number == '+15550100002' %}Moment.{% endif %}\" }";
    let harness = Harness::open(
        &file("de", empty),
        ModelOptions { faults: vec![Fault::UpgradeStatus(401)], ..quick() },
    )
    .await;
    let record = finished(harness.dial(harness.phone())).await;
    assert_eq!(said(&record), (Words::of("de").unwrap().sorry, "de-DE"));
    harness.quit().await;

    let dials = file("it", "on_failure: { dial: \"+15550100009\" }");
    let harness =
        Harness::open(&dials, ModelOptions { faults: vec![Fault::UpgradeStatus(401)], ..quick() }).await;
    let record = finished(harness.dial(harness.phone())).await;
    assert_eq!(said(&record), (Words::of("it").unwrap().connecting, "it-IT"), "nobody is to call again");
    harness.quit().await;
}
