//! Edits of the folder during calls.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use switchboard::call::EndReason;
use switchboard_simulator::caller::sign;
use switchboard_simulator::model::{Fault, ModelOptions, Speech};
use tokio::time::{sleep, timeout};

use crate::harness::{CLINIC, Harness, PATIENCE, TOKEN, counted, finished, http, speech};

/// The call after the last edit.
const LAST: &str = "CA000000000000000000000000000000ff";

#[tokio::test(flavor = "multi_thread")]
async fn calls_keep_their_plan_through_good_and_bad_edits() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("assistants");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("clinic.yaml");
    let edition = |sorry: &str, voice: &str| {
        CLINIC.replace("something broke.", sorry).replace("greeting:", &format!("voice: {voice}\ngreeting:"))
    };
    fs::write(&file, edition("one.", "marin")).unwrap();
    // The model refuses to answer, and the caller hears the plan's `on_failure`.
    let faults = vec![Fault::ResponseFailed { nth: 2, code: "insufficient_quota" }];
    let model = ModelOptions {
        think: Duration::from_millis(50),
        speech: Speech::Tagged,
        faults,
        ..ModelOptions::default()
    };
    let mut harness = Harness::on_disk(&dir, model).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(200)).await, "the greeting is heard");

    for edit in 1..=50 {
        let text = match edit {
            50 => edition("fifty.", "cedar"),
            _ if edit % 2 == 0 => edition(&format!("{edit}."), "ash"),
            // Half of a file, as left by a slow writer.
            _ => edition("odd.", "ash").replace("\"Hello", "Hello: {{").to_owned(),
        };
        fs::write(&file, text).unwrap();
        ring(&harness, &format!("CA{edit:032}")).await;
        over(&harness, &format!("CA{edit:032}")).await;
        let (status, ready) = http(&harness.server, "GET", "/readyz", "", "").await;
        assert_eq!(status, 200, "{ready}");
        // Every tenth edit is applied or rejected before the next one.
        if edit % 10 == 9 {
            until(&harness, "\"problems\":1").await;
        }
    }
    until(&harness, "\"problems\":0").await;

    // The next call uses the last edit.
    ring(&harness, LAST).await;
    let cedar = async {
        while !harness
            .model
            .sessions()
            .iter()
            .any(|session| format!("{:?}", session.events).contains("cedar"))
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, cedar).await.expect("the last edit is in force");
    over(&harness, LAST).await;

    // The running call has kept its plan.
    phone.say(speech(600));
    let record = finished(phone).await;
    record.assert_clean();
    assert_eq!(record.said[0].text, "Sorry, one.");
    let events = format!("{:?}", harness.session().events);
    assert!(events.contains("marin") && !events.contains("cedar") && !events.contains("ash\""), "{events}");
    let mut reasons = Vec::new();
    while !reasons.contains(&EndReason::ModelRefused) {
        reasons.push(harness.ended().await.reason);
    }
    assert!(counted("switchboard_reloads_total{outcome=\"rejected\"}") > 0);
    assert_eq!(counted("switchboard_roster_problems"), 0);
    harness.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_answered_while_its_file_is_deleted_and_recreated() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("assistants");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("clinic.yaml");
    fs::write(&file, CLINIC).unwrap();
    fs::write(dir.join("other.yaml"), "instructions: You answer nobody.\n").unwrap();
    let harness = Harness::on_disk(&dir, ModelOptions::default()).await;
    let stop = Arc::<AtomicBool>::default();
    let stopped = stop.clone();
    let saving = tokio::task::spawn_blocking(move || {
        while !stopped.load(Ordering::Relaxed) {
            fs::remove_file(&file).unwrap();
            std::thread::sleep(Duration::from_millis(8));
            fs::write(&file, CLINIC).unwrap();
            std::thread::sleep(Duration::from_millis(6));
        }
    });
    // Long enough to read a constantly changing folder three times.
    for number in 0..75 {
        ring(&harness, &format!("CA{number:032}")).await;
        over(&harness, &format!("CA{number:032}")).await;
        sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    saving.await.unwrap();
    harness.quit().await;
}

/// Waits until `/readyz` reports this.
async fn until(harness: &Harness, words: &str) {
    let said = async {
        while !http(&harness.server, "GET", "/readyz", "", "").await.1.contains(words) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("/readyz never says {words}"));
}

/// A call is answered with a stream.
async fn ring(harness: &Harness, call: &str) {
    let (status, answer) = post(harness, "/incoming-call", call, "ringing").await;
    assert!(status == 200 && answer.contains("<Stream"), "{call}: {answer}");
}

/// The caller hangs up at once.
async fn over(harness: &Harness, call: &str) {
    let (status, answer) = post(harness, "/call-status", call, "completed").await;
    assert_eq!(status, 204, "{call}: {answer}");
}

async fn post(harness: &Harness, path: &str, call: &str, status: &str) -> (u16, String) {
    let form = [("CallSid", call), ("From", "+15550100100"), ("To", "+15550100001"), ("CallStatus", status)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let code = sign(TOKEN, &format!("{}{path}", harness.server), &form);
    let body = format!("CallSid={call}&From=%2B15550100100&To=%2B15550100001&CallStatus={status}");
    http(&harness.server, "POST", path, &format!("X-Twilio-Signature: {code}\r\n"), &body).await
}
