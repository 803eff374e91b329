//! A process that does not run for a while, as on a paused machine or a starved host.

use super::*;

/// Fifty calls, of which the last ones ring or hear the greeting; the others wait for the caller. All go on after the
/// pause.
async fn standstill(pause: Duration, beginning: usize) {
    let _alone = ALONE.lock().await;
    let app = App::new().await;
    let machine = app.machine(FIRST, &[]).await;
    let mut phones = Vec::new();
    for number in 1..=50 {
        phones.push(Phone::dial(app.long_call()));
        sleep(Duration::from_millis(20)).await;
        if number + beginning == 50 {
            for phone in &phones {
                assert!(timeout(PATIENCE, phone.wait_until_quiet(Duration::ZERO)).await.expect("a greeting"));
            }
        }
    }
    machine.signal("-STOP").await;
    sleep(pause).await;
    machine.signal("-CONT").await;
    let mut records = Vec::new();
    for phone in &phones {
        let _ = timeout(PATIENCE, phone.wait_until_quiet(Duration::ZERO)).await;
        phone.press('1');
        phone.press('#');
    }
    for phone in phones {
        records.push(finished(phone).await);
    }
    records.iter().for_each(assert_went_well);
    assert_eq!(machine.logged(r#""reason":"assistant.ended""#), 50, "{}", machine.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_survive_a_standstill_of_3_seconds() {
    standstill(Duration::from_secs(3), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long; `make soak` runs it"]
async fn fifty_calls_survive_standstills_of_8_and_20_seconds() {
    for seconds in [8, 20] {
        // Twilio waits 5 s for an upgrade, so calls that begin then are lost.
        standstill(Duration::from_secs(seconds), 0).await;
    }
}
