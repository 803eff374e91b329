//! The account at Twilio and its numbers, and what `--fix` does about them.

use serde_json::Value;
use switchboard::simulate::twilio::{ACCOUNT, RestFault, RestServer, number};

use crate::proxy::{Habit, Proxy};
use crate::{Place, Serving, TOKEN, Told, mode, right, twilio};

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
            ["403", NO_REST, "permission"],
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
    }
    let twilio = twilio(vec![]).await;
    let other = place(&twilio).with(&[("TWILIO_AUTH_TOKEN", crate::OTHER_TOKEN)]).doctor(&[]).await;
    let words = ["does not accept the credentials", "20003", "TWILIO_AUTH_TOKEN"];
    other.says("a wrong token", "twilio.credentials", "error", words);
    let none = place(&twilio).without("TWILIO_ACCOUNT_SID").doctor(&[]).await;
    let words = ["there are no credentials", "cannot be looked at", "TWILIO_ACCOUNT_SID"];
    none.says("no SID", "twilio.credentials", "warning", words);
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

#[tokio::test(flavor = "multi_thread")]
async fn each_number_is_told_with_what_mends_it() {
    let url = "http://127.0.0.1:9";
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut owned = right(1, "+15550100001", url);
        change(&mut owned);
        vec![owned]
    };
    for (what, numbers, check, severity, words) in [
        (
            "right",
            changed(&|_| ()),
            "number.ok",
            "ok",
            ["which `clinic` answers: it rings what it should", "", ""],
        ),
        (
            "an example's, which nobody owns",
            vec![],
            "number.example",
            "ok",
            ["which nobody can own", "", "put a number of yours in its place"],
        ),
        (
            "just bought",
            changed(&|owned| owned["voice_url"] = number(1, "+15550100001")["voice_url"].clone()),
            "number.voice_url",
            "error",
            [
                "it rings https://demo.twilio.com/welcome/voice/, not http://127.0.0.1:9/incoming-call",
                "11200",
                "`switchboard numbers sync --apply`, or `switchboard doctor --fix`",
            ],
        ),
        (
            "no URL",
            changed(&|owned| owned["voice_url"] = "".into()),
            "number.voice_url",
            "error",
            ["it rings nothing", "not set up", "--fix"],
        ),
        (
            "a secret in it",
            changed(&|owned| owned["voice_url"] = "https://me:hush-hush@example.com/x?key=hush-hush".into()),
            "number.voice_url",
            "error",
            ["https://•••@example.com/x?•••", "", ""],
        ),
        (
            "an application",
            changed(&|owned| owned["voice_application_sid"] = format!("AP{:032}", 1).into()),
            "number.application",
            "error",
            ["Twilio ignores the voice URL", "never reach", "--take-back"],
        ),
        (
            "a trunk",
            changed(&|owned| owned["trunk_sid"] = format!("TK{:032}", 1).into()),
            "number.trunk",
            "error",
            ["SIP trunk", "never reach", "--take-back"],
        ),
        (
            "no voice",
            changed(&|owned| owned["capabilities"]["voice"] = false.into()),
            "number.no_voice",
            "error",
            ["no voice capability", "not in service", "buy"],
        ),
        (
            "no fallback",
            changed(&|owned| owned["voice_fallback_url"] = "".into()),
            "number.no_fallback",
            "warning",
            ["nothing speaks when this server is down", "11200", "make deploy-function"],
        ),
        (
            "no callback",
            changed(&|owned| owned["status_callback"] = "".into()),
            "number.status_callback",
            "warning",
            ["should have http://127.0.0.1:9/call-status", "learnt late", "--fix"],
        ),
        (
            "by GET",
            changed(&|owned| owned["voice_method"] = "GET".into()),
            "number.by_get",
            "ok",
            ["works as POST does", "", ""],
        ),
    ] {
        let twilio = twilio(numbers).await;
        let told = place(&twilio).doctor(&[]).await;
        told.says(what, check, severity, words);
        assert!(
            told.all(check)[0]["message"].as_str().unwrap().starts_with("+1555•••01"),
            "{what}: {}",
            told.out
        );
        assert!(twilio.changes().is_empty(), "{what}: looking changes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fix_sets_what_a_file_lists_and_nothing_else() {
    // Twilio takes no address of its own machine; so is this one, and it does not look so.
    let proxy = Proxy::start(Habit::Plain).await;
    let url = proxy.url.replace("127.0.0.1", "0.0.0.0");
    let serving = Serving::start(&url, TOKEN);
    proxy.lead_to(serving.port);
    let mut taken = number(3, "+15550100003");
    taken["voice_application_sid"] = format!("AP{:032}", 1).into();
    let twilio = twilio(vec![number(1, "+15550100001"), number(2, "+15550100002"), taken]).await;
    let place = place(&twilio).with(&[("PUBLIC_URL", &url)]);
    place.file("assistants/taken.yaml", "numbers: [\"+15550100003\"]\ninstructions: Hi.\n");
    place.file(".env", "LOG_FORMAT=text\n");
    let env_file = place.folder.path().join(".env");
    std::fs::set_permissions(&env_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    let before = place.doctor(&[]).await;
    before.says(
        "open",
        "settings.permissions",
        "warning",
        ["other users of this machine can read `.env`", "", "chmod 600 .env"],
    );
    assert!(twilio.changes().is_empty() && mode(&env_file) == 0o644, "looking changes nothing");
    assert!(place.run(&["doctor"]).await.out.contains("`switchboard doctor --fix` mends 2 of them."));

    let told = place.doctor(&["--fix"]).await;
    let changes = twilio.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(changes[0].target.contains(&format!("PN{:032x}", 1)), "{changes:?}");
    let now = twilio.number("+15550100001");
    assert_eq!(now["voice_url"], format!("{url}/incoming-call"));
    assert_eq!(now["status_callback"], format!("{url}/call-status"));
    assert_eq!(twilio.number("+15550100003")["voice_application_sid"], format!("AP{:032}", 1));
    assert_eq!(mode(&env_file), 0o640, "a group is the owner's choice");
    assert!(
        told.err.contains("Setting +1555•••01: voice URL = http://0.0.0.0"),
        "it is shown first: {}",
        told.err
    );
    told.silent("mended", &["settings.permissions"]);
    let left = told.all("number.voice_url");
    assert!(
        left.len() == 1 && left[0]["message"].as_str().unwrap().starts_with("+1555•••03"),
        "{}",
        told.out
    );
    assert_eq!(told.all("doctor.mend").len(), 2, "{}", told.out);
    told.fine("mended", &["doctor.mend"]);
    told.says("taken", "number.application", "error", ["+1555•••03", "", ""]);
    // A second time there is nothing to do.
    place.doctor(&["--fix"]).await.silent("again", &["doctor.mend"]);
    assert_eq!(twilio.changes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fix_points_no_number_at_what_does_not_answer() {
    let twilio = twilio(vec![number(1, "+15550100001")]).await;
    let told = place(&twilio).doctor(&["--fix"]).await;
    let words = ["the numbers are left as they are", "", "mend that first"];
    told.says("nobody there", "doctor.mend", "warning", words);
    assert!(twilio.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fix_says_what_twilio_would_not_do() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    let twilio = twilio(vec![number(1, "+15550100001")]).await;
    twilio.plan("POST ", usize::MAX, RestFault::Refuse { status: 403, code: 20403 });
    let told = place(&twilio).with(&[("PUBLIC_URL", &proxy.url)]).doctor(&["--fix"]).await;
    told.says("refused", "doctor.mend", "error", ["not set at Twilio: +1555•••01", "", "permission"]);
    assert_eq!(told.all("number.voice_url").len(), 1, "{}", told.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_star_answers_is_told_and_left_alone() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    let twilio = twilio(vec![number(2, "+15550100002")]).await;
    let place = place(&twilio).with(&[("PUBLIC_URL", &proxy.url)]);
    place.file("assistants/clinic.yaml", "numbers: [\"*\"]\ninstructions: Hi.\n");
    let told = place.doctor(&["--fix"]).await;
    let words =
        ["which `clinic` answers as every other", "11200", "`switchboard numbers sync --all --apply`"];
    told.says("the star", "number.voice_url", "error", words);
    assert!(twilio.changes().is_empty());
}
