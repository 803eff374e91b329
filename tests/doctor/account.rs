//! The account at Twilio and its numbers, and what `--fix` does about them.

use switchboard_simulator::twilio::{ACCOUNT, RestFault, RestServer, number};

use crate::proxy::{Habit, Proxy};
use crate::{OTHER_TOKEN, Place, Serving, TOKEN, mode, twilio};

/// A place with the account of this server.
fn place(twilio: &RestServer) -> Place {
    Place::new().with(&[
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_API_URL", twilio.url()),
        ("PUBLIC_URL", "http://127.0.0.1:9"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_in_place_of_the_account_has_its_code() {
    let rejected = ("twilio.credentials", "error");
    let unusable = ("twilio.reach", "error");
    for (what, fault, expected) in [
        ("not allowed", RestFault::Refuse { status: 403, code: 20403 }, rejected),
        ("not found", RestFault::Refuse { status: 404, code: 20404 }, rejected),
        ("an unknown code", RestFault::Refuse { status: 418, code: 29999 }, unusable),
        ("garbage", RestFault::Garbage, unusable),
        ("a proxy's page", RestFault::Proxy { status: 502 }, unusable),
    ] {
        let twilio = twilio(vec![]).await;
        twilio.plan("GET /2010-04-01/Accounts", usize::MAX, fault);
        let report = place(&twilio).doctor(&[]).await;
        report.assert_bad(what, "twilio.", &[expected]);
        report.assert_lacks(what, &["number.", "twilio.account"]);
    }
    for (what, habit) in [
        ("closed", Habit::Drops),
        ("not HTTP", Habit::Garbage),
        ("a page", Habit::Says("200 OK", "Content-Type: text/html\r\n", "<title>Hello</title>")),
    ] {
        let proxy = Proxy::start(habit).await;
        let place = place(&twilio(vec![]).await).with(&[("TWILIO_API_URL", &proxy.url)]);
        place.doctor(&[]).await.assert_bad(what, "twilio.", &[unusable]);
    }
    let twilio = twilio(vec![]).await;
    let report = place(&twilio).with(&[("TWILIO_AUTH_TOKEN", OTHER_TOKEN)]).doctor(&[]).await;
    report.assert_bad("a wrong token", "twilio.", &[rejected]);
    for name in ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"] {
        let report = place(&twilio).without(name).doctor(&[]).await;
        report.assert_bad(name, "twilio.", &[("twilio.credentials_missing", "warning")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_the_account_has_its_code() {
    for (status, kind, expected) in [
        ("suspended", "Full", Some(("twilio.suspended", "error"))),
        ("closed", "Full", Some(("twilio.closed", "error"))),
        ("resting", "Full", Some(("twilio.status", "warning"))),
        ("active", "Trial", Some(("twilio.trial", "warning"))),
        ("active", "Full", None),
    ] {
        let twilio = twilio(vec![]).await;
        twilio.edit(|account| {
            account.status = status.to_owned();
            account.kind = kind.to_owned();
        });
        let report = place(&twilio).doctor(&[]).await;
        report.assert_bad(status, "twilio.", expected.as_slice());
        assert_eq!(report.found("twilio.account").len(), usize::from(expected.is_none()), "{}", report.out);
    }
}

/// Twilio shows the account itself only to the auth token and to main keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_standard_key_is_accepted_though_it_may_not_see_the_account() {
    let twilio = twilio(vec![]).await;
    let (key, secret) = (format!("SK{TOKEN}"), "0123456789ABCDEFGHIJKLMNOPQRSTUV");
    twilio.edit(|account| account.credentials = vec![(key.clone(), secret.to_owned())]);
    let place = place(&twilio).with(&[("TWILIO_API_KEY", &key), ("TWILIO_API_SECRET", secret)]);
    place.doctor(&[]).await.assert_bad("a key", "twilio.", &[]);
    let rejected = [("twilio.credentials", "error")];
    twilio.edit(|account| account.status = "suspended".to_owned());
    place.doctor(&[]).await.assert_bad("a key of a suspended account", "twilio.", &rejected);
    twilio.edit(|account| account.credentials = vec![(key.clone(), "another".to_owned())]);
    place.doctor(&[]).await.assert_bad("a wrong key", "twilio.", &rejected);
}

/// Twilio could not reach this machine, so its numbers stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn fix_closes_the_env_file_and_points_no_number_at_this_machine() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.forward_to(serving.port);
    let twilio = twilio(vec![number(1, "+15550100001")]).await;
    let place = place(&twilio).with(&[("PUBLIC_URL", &proxy.url)]);
    place.file(".env", "LOG_FORMAT=text\n");
    let env_file = place.folder.path().join(".env");
    std::fs::set_permissions(&env_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    place.doctor(&[]).await.assert_has("before", "setting.permissions", "warning");
    assert_eq!(mode(&env_file), 0o644, "without --fix nothing changes");
    assert!(place.run(&["doctor"]).await.out.contains("doctor --fix"), "it offers the fix");

    let report = place.doctor(&["--fix"]).await;
    assert_eq!(mode(&env_file), 0o640, "the group is the owner's choice");
    report.assert_lacks("fixed", &["setting.permissions"]);
    report.assert_fine("fixed", &["doctor.fix", "number.unchecked"]);
    assert!(twilio.changes().is_empty());
    place.doctor(&["--fix"]).await.assert_lacks("nothing to fix", &["doctor.fix"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fix_points_no_number_at_an_address_without_an_answer() {
    let twilio = twilio(vec![number(1, "+15550100001")]).await;
    let place = place(&twilio).with(&[("PUBLIC_URL", "https://phone.example.com")]);
    let report = place.run(&["doctor"]).await;
    assert!(!report.out.contains("doctor --fix` fixes"), "it promises what it does not do: {}", report.out);
    let report = place.doctor(&["--fix"]).await;
    report.assert_has("to be set", "number.voice_url", "error");
    report.assert_has("left", "doctor.fix", "warning");
    assert!(twilio.changes().is_empty());
}
