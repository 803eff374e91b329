//! The account at Twilio and its numbers, and what `--fix` does about them.

use switchboard_simulator::twilio::{ACCOUNT, RestFault, RestServer, number};

use crate::proxy::{Habit, Proxy};
use crate::{Place, Serving, TOKEN, Told, mode, twilio};

const NO_REST: &str = "no text message is sent and no number is set";

/// A place whose account is here.
fn place(twilio: &RestServer) -> Place {
    Place::new().with(&[
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_API_URL", twilio.url()),
        ("PUBLIC_URL", "http://127.0.0.1:9"),
    ])
}

async fn with_fault(fault: RestFault) -> Told {
    let twilio = twilio(vec![]).await;
    twilio.plan("GET /2010-04-01/Accounts", usize::MAX, fault);
    place(&twilio).doctor(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_account_is_told_apart() {
    let html = RestFault::Proxy { status: 502 };
    for (what, fault, check, words) in [
        (
            "not allowed",
            RestFault::Refuse { status: 403, code: 20403 },
            "twilio.credentials",
            ["403", NO_REST, "suspended or closed, which Twilio's console says; or the API key"],
        ),
        (
            "not found",
            RestFault::Refuse { status: 404, code: 20404 },
            "twilio.credentials",
            ["404", "(20404)", "TWILIO_ACCOUNT_SID"],
        ),
        (
            "a code nobody has seen",
            RestFault::Refuse { status: 418, code: 29999 },
            "twilio.reach",
            ["error 29999", "(29999)", "twilio.com/docs"],
        ),
        (
            "garbage",
            RestFault::Garbage,
            "twilio.reach",
            ["is not Twilio's REST interface", NO_REST, "TWILIO_API_URL"],
        ),
        ("a proxy", html, "twilio.reach", ["502", NO_REST, "status.twilio.com"]),
    ] {
        let told = with_fault(fault).await;
        told.says(what, check, "error", words);
        told.silent(what, &["number.list", "twilio.account"]);
        if words[0].contains("is not Twilio's") {
            told.silent(what, &["clock.skew"]);
        }
    }
    let twilio = twilio(vec![]).await;
    let other = place(&twilio).with(&[("TWILIO_AUTH_TOKEN", crate::OTHER_TOKEN)]).doctor(&[]).await;
    let words = ["does not accept the credentials", "20003", "TWILIO_AUTH_TOKEN"];
    other.says("a wrong token", "twilio.credentials", "error", words);
    let none = place(&twilio).without("TWILIO_ACCOUNT_SID").doctor(&[]).await;
    let words = ["there are no credentials", "cannot be looked at", "TWILIO_ACCOUNT_SID"];
    none.says("no SID", "twilio.credentials", "warning", words);
    let none = place(&twilio).without("TWILIO_AUTH_TOKEN").doctor(&[]).await;
    let words =
        ["there are no credentials", "cannot be looked at", "set TWILIO_AUTH_TOKEN, or TWILIO_API_KEY"];
    none.says("no token", "twilio.credentials", "warning", words);
    for (what, habit, words) in [
        (
            "dropped",
            Habit::Drops,
            ["is not reached: it breaks the connection off", NO_REST, "TWILIO_API_URL"],
        ),
        ("no HTTP", Habit::Garbage, ["is not reached: what it answers is not HTTP", NO_REST, "https://"]),
        (
            "a page",
            Habit::Says("200 OK", "Content-Type: text/html\r\n", "<title>Hello</title>"),
            ["is not Twilio's REST interface (200 OK, a web page titled `Hello`)", NO_REST, "TWILIO_API_URL"],
        ),
    ] {
        let proxy = Proxy::start(habit).await;
        let told = place(&twilio).with(&[("TWILIO_API_URL", &proxy.url)]).doctor(&[]).await;
        told.says(what, "twilio.reach", "error", words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_in_order_says_what_that_means() {
    for (status, kind, severity, words) in [
        ("suspended", "Full", "error", ["is suspended", "no call comes in", "console"]),
        ("closed", "Full", "error", ["is closed", "no call comes in", "TWILIO_ACCOUNT_SID"]),
        ("resting", "Full", "warning", ["what is not known here", "", "console"]),
        ("active", "Trial", "warning", ["callers hear a notice first", "21608", "upgrade"]),
        ("active", "Full", "ok", ["the account is active", "", ""]),
    ] {
        let twilio = twilio(vec![]).await;
        twilio.edit(|account| {
            account.status = status.to_owned();
            account.kind = kind.to_owned();
        });
        place(&twilio).doctor(&[]).await.says(status, "twilio.account", severity, words);
    }
}

/// What is set there stays as it is where Twilio cannot reach the public address, also for a Twilio on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn fix_points_no_number_at_this_machine() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    let twilio = twilio(vec![number(1, "+15550100001")]).await;
    let place = place(&twilio).with(&[("PUBLIC_URL", &proxy.url)]);
    place.file(".env", "LOG_FORMAT=text\n");
    let env_file = place.folder.path().join(".env");
    std::fs::set_permissions(&env_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    let before = place.doctor(&[]).await;
    let words = ["other users of this machine can read `.env`", "", "chmod 600 .env"];
    before.says("open", "settings.permissions", "warning", words);
    assert_eq!(mode(&env_file), 0o644, "looking changes nothing");
    assert!(place.run(&["doctor"]).await.out.contains("`switchboard doctor --fix` mends 1 of them."));

    let told = place.doctor(&["--fix"]).await;
    assert_eq!(mode(&env_file), 0o640, "a group is the owner's choice");
    told.silent("mended", &["settings.permissions"]);
    told.fine("mended", &["doctor.mend"]);
    let words = ["not known: PUBLIC_URL is an address of this machine", "", "`switchboard serve --tunnel`"];
    told.says("out of reach", "number.list", "warning", words);
    let words = ["it rings https://demo.twilio.com/welcome/voice/; whether it should is not known", "", ""];
    told.says("as it is", "number.ok", "ok", words);
    assert!(twilio.changes().is_empty());
    // A second time there is nothing to do.
    place.doctor(&["--fix"]).await.silent("again", &["doctor.mend"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fix_points_no_number_at_what_does_not_answer() {
    let twilio = twilio(vec![number(1, "+15550100001")]).await;
    let place = place(&twilio).with(&[("PUBLIC_URL", "https://phone.example.com")]);
    let told = place.run(&["doctor"]).await;
    assert!(!told.out.contains("doctor --fix` mends"), "what it does not do is promised: {}", told.out);
    let told = place.doctor(&["--fix"]).await;
    let words =
        ["it rings https://demo.twilio.com/welcome/voice/, not https://phone.example.com", "", "--fix"];
    told.says("to be set", "number.voice_url", "error", words);
    let words = ["the numbers are left as they are", "", "mend that first"];
    told.says("nobody there", "doctor.mend", "warning", words);
    assert!(twilio.changes().is_empty());
}

/// Twilio shows the account itself to its token and to main keys alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_standard_key_is_accepted_though_it_may_not_see_the_account() {
    let twilio = twilio(vec![]).await;
    let (key, secret) = (format!("SK{TOKEN}"), "0123456789ABCDEFGHIJKLMNOPQRSTUV");
    twilio.edit(|account| account.credentials = vec![(key.clone(), secret.to_owned())]);
    let place = place(&twilio).with(&[("TWILIO_API_KEY", &key), ("TWILIO_API_SECRET", secret)]);
    let told = place.doctor(&[]).await;
    told.says("a key", "twilio.account", "ok", ["Twilio accepts the API key", "", ""]);
    told.silent("a key", &["twilio.credentials"]);
    twilio.edit(|account| account.status = "suspended".to_owned());
    let told = place.doctor(&[]).await;
    let words = ["answered 403, error 20403", "", "suspended or closed, which Twilio's console says"];
    told.says("a key of a suspended account", "twilio.credentials", "error", words);
    told.silent("a key of a suspended account", &["twilio.account", "number.list"]);
    twilio.edit(|account| account.credentials = vec![(key.clone(), "another".to_owned())]);
    let told = place.doctor(&[]).await;
    let words = ["does not accept the credentials", "20003", "TWILIO_API_SECRET"];
    told.says("a wrong key", "twilio.credentials", "error", words);
    told.silent("a wrong key", &["twilio.account", "number.list"]);
}
