//! The numbers at Twilio, and what `--fix` does about them: at an address that this machine could not have.

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::settings::{Settings, Sources};
use crate::tunnel::pointing::Hold;
use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestFault, RestServer, number};

const URL: &str = "https://phone.example.com";
const CLINIC: &str = "numbers: [\"+15550100001\"]\ninstructions: Hi.\n";

/// A number as it should be.
fn right(index: usize, digits: &str) -> Value {
    let mut right = number(index, digits);
    right["voice_url"] = format!("{URL}/incoming-call").into();
    right["status_callback"] = format!("{URL}/call-status").into();
    right["voice_fallback_url"] = "https://example.com/fallback".into();
    right
}

async fn owning(numbers: Vec<Value>) -> RestServer {
    RestServer::start(AccountOptions { numbers, ..AccountOptions::default() }).await.unwrap()
}

/// What is found of the account and its numbers, with these assistants and settings.
async fn seen(twilio: &RestServer, files: &[(&str, &str)], variables: &[(&str, &str)]) -> Examined {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let set = [
        ("ASSISTANTS_DIR", folder.path().to_str().unwrap()),
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_AUTH_TOKEN", "12345"),
        ("TWILIO_API_URL", twilio.url()),
        ("PUBLIC_URL", URL),
    ];
    let environment: BTreeMap<String, String> =
        set.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let settings = Settings::read(&Sources { file: None, environment: environment.clone() }).unwrap();
    let tls = crate::link::tls::client_config(false, None).unwrap();
    let account = Account::from_settings(&settings, &tls).unwrap();
    let (roster, _) = folder::check(&settings, &environment, false);
    let net = Net::new(tls, Veil::default()).unwrap();
    let seen = twilio::check(account.as_ref(), &settings, roster.as_ref(), false, &net).await;
    Examined {
        findings: seen.findings,
        veil: Veil::default(),
        account,
        mends: seen.mends,
        open_env_file: false,
        has_tunnel: false,
    }
}

/// The one finding of a name has this severity, and these words in its message, its cause and its fix.
#[track_caller]
fn says(findings: &[Finding], what: &str, check: &str, severity: &str, words: [&str; 3]) {
    let found =
        findings.iter().filter(|finding| finding.check == check && finding.severity.name() == severity);
    let fits = |finding: &&Finding| {
        let texts = [Some(&finding.message), finding.cause.as_ref(), finding.fix.as_ref()];
        texts.iter().zip(words).all(|(text, words)| text.map_or("", |text| text).contains(words))
    };
    assert_eq!(
        found.filter(fits).count(),
        1,
        "{what}: no one `{severity}` of `{check}` with {words:?} in {findings:?}"
    );
}

#[tokio::test]
async fn each_number_is_told_with_what_mends_it() {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut owned = right(1, "+15550100001");
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
                "it rings https://demo.twilio.com/welcome/voice/, not https://phone.example.com/incoming-call",
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
            "a voice URL behind a trunk",
            changed(&|owned| {
                owned["trunk_sid"] = format!("TK{:032}", 1).into();
                owned["voice_url"] = "https://old.example.com/".into();
            }),
            "number.voice_url",
            "error",
            ["it rings https://old.example.com/, not", "", "`switchboard numbers sync --apply --take-back`"],
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
            ["should have https://phone.example.com/call-status", "learnt late", "--fix"],
        ),
        (
            "by GET",
            changed(&|owned| owned["voice_method"] = "GET".into()),
            "number.by_get",
            "ok",
            ["works as POST does", "", ""],
        ),
    ] {
        let twilio = owning(numbers).await;
        let found = seen(&twilio, &[("clinic.yaml", CLINIC)], &[]).await.findings;
        says(&found, what, check, severity, words);
        let of_number = found.iter().find(|finding| finding.check == check).unwrap();
        assert!(of_number.message.starts_with("+1555•••01"), "{what}: {found:?}");
        assert!(twilio.changes().is_empty(), "{what}: looking changes nothing");
    }
}

#[tokio::test]
async fn mending_sets_what_a_file_lists_and_nothing_else() {
    let mut taken = number(3, "+15550100003");
    taken["voice_application_sid"] = format!("AP{:032}", 1).into();
    let mut first = number(1, "+15550100001");
    first["voice_url"] = "https://old.example.com/a?number=+15550100009".into();
    first["voice_method"] = "GET".into();
    let twilio = owning(vec![first, number(2, "+15550100002"), taken]).await;
    let files = [("clinic.yaml", CLINIC), ("taken.yaml", "numbers: [\"+15550100003\"]\ninstructions: Hi.\n")];
    let examined = seen(&twilio, &files, &[]).await;
    let told: Vec<&str> = examined.mends.iter().map(|mend| mend.told.as_str()).collect();
    assert_eq!(
        told,
        ["+1555•••01: voice URL = https://phone.example.com/incoming-call, \
          status callback = https://phone.example.com/call-status"]
    );
    let done = mend(&examined).await;
    says(&done, "it is set", "doctor.mend", "ok", ["set at Twilio: +1555•••01: voice URL", "", ""]);
    // In full: what it was is known nowhere else.
    assert_eq!(
        done[0].changes,
        [
            "voice URL       https://old.example.com/a?number=+15550100009 (GET) → \
             https://phone.example.com/incoming-call (POST)",
            "status callback none → https://phone.example.com/call-status",
        ]
    );
    let [text, json] = [report::text(&done), report::json(&done)];
    for told in [&text, &json] {
        assert!(told.contains("https://old.example.com/a?number=+15550100009 (GET) → "), "{told}");
    }
    let changes = twilio.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(changes[0].target.contains(&format!("PN{:032x}", 1)), "{changes:?}");
    let now = twilio.number("+15550100001");
    assert_eq!(now["voice_url"], format!("{URL}/incoming-call"));
    assert_eq!(now["status_callback"], format!("{URL}/call-status"));
    assert_eq!(twilio.number("+15550100003")["voice_application_sid"], format!("AP{:032}", 1));
    let after = seen(&twilio, &files, &[]).await;
    assert!(after.mends.is_empty(), "there is nothing left to do");
    says(&after.findings, "taken", "number.application", "error", ["+1555•••03", "", ""]);
    assert!(mend(&after).await.is_empty());
}

#[tokio::test]
async fn nothing_is_mended_where_callers_would_meet_nobody() {
    let twilio = owning(vec![number(1, "+15550100001")]).await;
    let clinic = [("clinic.yaml", CLINIC)];
    for url in ["http://127.0.0.1:9", "https://192.168.1.4", "http://phone.example.com"] {
        let examined = seen(&twilio, &clinic, &[("PUBLIC_URL", url)]).await;
        assert!(examined.mends.is_empty(), "{url}");
        let words =
            ["what the numbers should ring is not known: PUBLIC_URL is", "", "`switchboard serve --tunnel`"];
        says(&examined.findings, url, "number.list", "warning", words);
    }
    let mut examined = seen(&twilio, &clinic, &[]).await;
    for (check, what) in [
        ("settings.read", "a setting"),
        ("public.server", "what they would ring"),
        ("function.allowlist", "what they would ring"),
        ("doctor.late", "what they would ring"),
        ("twilio.account", "the account"),
        ("twilio.reach", "the account"),
    ] {
        examined.findings.push(Finding::error(check, "it is down").fix("start it"));
        let words = [&format!("the numbers are left as they are: {what} is not right ({check})"), "", ""];
        says(&mend(&examined).await, check, "doctor.mend", "warning", words);
        assert_eq!(examined.mendable(), 0, "{check}: nothing is promised");
        examined.findings.pop();
    }
    examined.findings.push(Finding::error("number.no_voice", "it is deaf").fix("buy another"));
    assert_eq!(examined.mendable(), 1, "what does not matter to it stops nothing");
    examined.has_tunnel = true;
    examined.open_env_file = true;
    assert_eq!(examined.mendable(), 1, "the file, and no number");
    examined.open_env_file = false;
    let words = ["the numbers are left as they are: a tunnel is open", "", "end the tunnel"];
    says(&mend(&examined).await, "a tunnel", "doctor.mend", "warning", words);
    assert!(twilio.changes().is_empty());
}

#[tokio::test]
async fn what_twilio_would_not_do_is_told() {
    let twilio = owning(vec![number(1, "+15550100001")]).await;
    twilio.plan("POST ", usize::MAX, RestFault::Refuse { status: 403, code: 20403 });
    let clinic = [("clinic.yaml", CLINIC)];
    let done = mend(&seen(&twilio, &clinic, &[]).await).await;
    says(&done, "refused", "doctor.mend", "error", ["not set at Twilio: +1555•••01", "", "permission"]);
    let twilio = owning(vec![number(1, "+15550100001")]).await;
    twilio.plan("POST ", usize::MAX, RestFault::Answer(number(1, "+15550100001")));
    let done = mend(&seen(&twilio, &clinic, &[]).await).await;
    says(&done, "a yes that is none", "doctor.mend", "error", ["and did not do it", "", "try again"]);
    // Credentials of another account than the one that answers.
    let twilio = owning(vec![number(1, "+15550100001")]).await;
    let other = serde_json::json!({"sid": format!("AC{:032}", 9), "status": "active", "type": "Full"});
    twilio.plan(&format!("Accounts/{ACCOUNT}.json"), usize::MAX, RestFault::Answer(other));
    let done = mend(&seen(&twilio, &clinic, &[]).await).await;
    let words = ["the account is not right (twilio.reach)", "", "mend that first"];
    says(&done, "another account", "doctor.mend", "warning", words);
    assert!(twilio.changes().is_empty());
}

#[tokio::test]
async fn what_only_the_star_answers_is_told_and_left_alone() {
    let twilio = owning(vec![number(2, "+15550100002")]).await;
    let examined = seen(&twilio, &[("any.yaml", "numbers: [\"*\"]\ninstructions: Hi.\n")], &[]).await;
    let words = ["which `any` answers as every other", "11200", "`switchboard numbers sync --all --apply`"];
    says(&examined.findings, "the star", "number.voice_url", "error", words);
    assert!(mend(&examined).await.is_empty() && twilio.changes().is_empty());
}

const TUNNEL: &str = "https://calm-red-fox-bird.trycloudflare.com";

/// A number that rings a tunnel, and a folder for state that remembers what it rang before.
fn tunnelled(before: &str) -> (Value, TempDir) {
    let mut owned = right(1, "+15550100001");
    owned["voice_url"] = format!("{TUNNEL}/incoming-call").into();
    let state = TempDir::new().unwrap();
    let told = serde_json::json!({
        "account": ACCOUNT, "sid": owned["sid"], "voice_url": before, "voice_method": "POST",
        "status_callback": null, "status_method": "POST", "our_voice_url": owned["voice_url"],
        "our_status_callback": format!("{TUNNEL}/call-status"),
    });
    std::fs::write(state.path().join("tunnel.json"), told.to_string()).unwrap();
    (owned, state)
}

#[tokio::test]
async fn a_tunnel_is_judged_as_numbers_judges_it() {
    let clinic = [("clinic.yaml", CLINIC)];
    let (owned, state) = tunnelled("https://example.com/allowlist-function");
    let twilio = owning(vec![owned]).await;
    let dir = [("STATE_DIR", state.path().to_str().unwrap())];
    let left = seen(&twilio, &clinic, &dir).await;
    says(
        &left.findings,
        "an allowlist",
        "number.tunnel",
        "error",
        ["", "", "puts the Function in front again"],
    );
    // While it is open it is there on purpose.
    let hold = Hold::take(state.path()).unwrap();
    let open = seen(&twilio, &clinic, &dir).await;
    says(&open.findings, "open", "number.tunnel", "ok", ["rings what it rang before once that ends", "", ""]);
    assert!(open.findings.iter().all(|finding| finding.severity != Severity::Error), "{:?}", open.findings);
    // Also where it is known what it should ring.
    let functions = ("TWILIO_FUNCTIONS_URL", "https://switchboard-1234-dev.twil.io");
    let open = seen(&twilio, &clinic, &[dir[0], functions]).await;
    assert!(open.findings.iter().all(|finding| finding.severity != Severity::Error), "{:?}", open.findings);
    drop(hold);
    // What it rang before is written nowhere else, once it is set.
    let mends = seen(&twilio, &clinic, &[dir[0], functions]).await.mends;
    let before = "before that tunnel it rang https://example.com/allowlist-function";
    assert!(mends[0].steps()[0].starts_with(before), "{:?}", mends[0].steps());
    // Where tunnels are all there is, the next takes the place of one that nobody remembers.
    std::fs::remove_file(state.path().join("tunnel.json")).unwrap();
    let next = ("PUBLIC_URL", "https://warm-blue-cat-tree.trycloudflare.com");
    let forgotten = seen(&twilio, &clinic, &[dir[0], next]).await;
    says(
        &forgotten.findings,
        "forgotten",
        "number.voice_url",
        "error",
        ["", "", "`switchboard doctor --fix`"],
    );
    assert_eq!(forgotten.mends.len(), 1, "{:?}", forgotten.findings);
}

#[tokio::test]
async fn where_nothing_can_be_set_no_more_is_tried() {
    let digits = ["+15550100001", "+15550100002", "+15550100003"];
    let twilio = owning((1..).zip(digits).map(|(index, digits)| number(index, digits)).collect()).await;
    twilio.plan("POST ", usize::MAX, RestFault::Refuse { status: 401, code: 20003 });
    let files = [("all.yaml", format!("numbers: {digits:?}\ninstructions: Hi.\n"))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let examined = seen(&twilio, &files, &[]).await;
    assert_eq!(examined.mends.len(), 3);
    let done = mend(&examined).await;
    assert_eq!(done.len(), 2, "{done:?}");
    says(
        &done,
        "the rest",
        "doctor.mend",
        "warning",
        ["2 numbers were not tried any more", "", "mend that first"],
    );
}
