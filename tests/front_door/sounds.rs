//! Prepared lines: captured after a call, and never in anybody's way.

use std::time::Duration;

use switchboard::call::EndReason;
use switchboard_simulator::caller::CallRecord;
use switchboard_simulator::model::{Fault, ModelOptions, SessionLog, Speech};

use crate::harness::{CLINIC, Harness, PATIENCE, finished};

fn options(faults: Vec<Fault>) -> ModelOptions {
    let think = Duration::from_millis(100);
    ModelOptions { think, faults, speech: Speech::Stamped, ..ModelOptions::default() }
}

/// One call: the caller hears the greeting and hangs up.
async fn call(harness: &mut Harness) -> CallRecord {
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "the assistant speaks");
    phone.hang_up();
    let record = finished(phone).await;
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    record
}

/// The lines that a session was asked for.
fn lines(session: &SessionLog) -> usize {
    let lines = session.events.iter().filter(|event| event.event["response"]["metadata"]["line"].is_string());
    lines.filter(|event| event.event["response"]["conversation"] == "none").count()
}

/// The same once the session is closed.
async fn lines_when_closed(harness: &Harness, number: usize) -> usize {
    let closed = |sessions: &[SessionLog]| sessions.get(number).is_some_and(|one| one.closed.is_some());
    assert!(harness.model.until(PATIENCE, closed).await);
    lines(&harness.model.sessions()[number])
}

#[tokio::test]
async fn the_first_call_captures_the_lines_and_the_next_asks_for_none() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().to_str().unwrap().to_owned();
    let mut harness = Harness::capturing(CLINIC, options(Vec::new()), &[("STATE_DIR", &dir)]).await;
    for (number, asked) in [(0, 2), (1, 0)] {
        call(&mut harness).await.assert_clean();
        assert_eq!(lines_when_closed(&harness, number).await, asked);
        assert!(harness.model.sessions()[number].errors.is_empty());
    }
    assert_eq!(std::fs::read_dir(state.path().join("sounds")).unwrap().count(), 2);
    harness.quit().await;
}

#[tokio::test]
async fn capturing_takes_no_place_and_delays_no_drain() {
    let stall = Fault::Stall { nth: 2, after: Duration::ZERO };
    let settings = [("MAX_CALLS", "1"), ("DRAIN_SECONDS", "280")];
    let mut harness = Harness::capturing(CLINIC, options(vec![stall]), &settings).await;
    call(&mut harness).await.assert_clean();
    assert!(harness.model.until(PATIENCE, |sessions| lines(&sessions[0]) == 1).await);
    // The one place is free although the first session still waits for its line, which the second does not ask for.
    call(&mut harness).await.assert_clean();
    assert!(harness.model.until(PATIENCE, |sessions| sessions.len() == 2 && lines(&sessions[1]) == 1).await);
    assert!(harness.model.sessions().iter().all(|session| session.closed.is_none()));
    let began = tokio::time::Instant::now();
    harness.close();
    let closed = |sessions: &[SessionLog]| sessions.iter().all(|session| session.closed.is_some());
    assert!(harness.model.until(PATIENCE, closed).await);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    harness.quit().await;
}

#[tokio::test]
async fn a_line_that_the_model_never_says_is_not_asked_for_again() {
    let mut harness = Harness::capturing(CLINIC, options(vec![Fault::TwoItems]), &[]).await;
    for (number, asked) in [(0, 4), (1, 0)] {
        call(&mut harness).await.assert_clean();
        assert_eq!(lines_when_closed(&harness, number).await, asked);
    }
    harness.quit().await;
}

#[tokio::test]
async fn no_line_is_asked_of_a_session_that_failed() {
    let failed = Fault::RefuseResponse { nth: 1, code: "insufficient_quota" };
    let mut harness = Harness::capturing(CLINIC, options(vec![failed]), &[]).await;
    finished(harness.dial(harness.phone())).await;
    assert_eq!(harness.ended().await.reason, EndReason::ModelRefused);
    assert_eq!(lines_when_closed(&harness, 0).await, 0);
    harness.quit().await;
}

#[tokio::test]
async fn a_prepared_greeting_is_heard_at_once_from_the_second_call_on() {
    let file = CLINIC.replace("greeting: {", "greeting: { prepared: true,");
    assert_ne!(file, CLINIC);
    let mut harness = Harness::capturing(&file, options(Vec::new()), &[]).await;
    for number in [0, 1] {
        let phone = harness.dial(harness.phone());
        assert!(phone.wait_until_quiet(Duration::from_millis(300)).await, "the assistant speaks");
        phone.hang_up();
        finished(phone).await.assert_clean();
        let first_word = harness.ended().await.record.first_word_ms.unwrap();
        // The model thinks for 100 ms.
        assert_eq!(first_word < 50, number == 1, "{first_word} ms");
        assert_eq!(lines_when_closed(&harness, number).await, if number == 0 { 3 } else { 0 });
    }
    let session = &harness.model.sessions()[1];
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    assert!(session.responses.is_empty(), "nobody had to say it");
    harness.quit().await;
}
