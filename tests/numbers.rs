//! The account's numbers: the REST client, and the commands that list and set them, against a simulated Twilio.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::link::tls;
use switchboard::link::twilio_rest::{Account, Change, RestError, Standing, Status};
use switchboard::secret::Secret;
use switchboard::tunnel::pointing::Hold;
use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestFault, RestServer, number};
use tokio::time::timeout;

const VOICE: &str = "https://phone.example.com/incoming-call";

fn account(twilio: &RestServer, password: &str) -> Account {
    let tls = tls::client_config(false, None).unwrap();
    Account::new(twilio.url(), ACCOUNT, ACCOUNT, Secret::new(password), &tls).unwrap()
}

/// An account with this many numbers, from +15550100001.
fn owning(count: usize) -> AccountOptions {
    let numbers = (1..=count).map(|index| number(index, &format!("+1555010{index:04}"))).collect();
    AccountOptions { numbers, ..AccountOptions::default() }
}

#[tokio::test]
async fn numbers_are_read_page_by_page() {
    let twilio = RestServer::start(AccountOptions { longest_page: 2, ..owning(5) }).await.unwrap();
    let numbers = account(&twilio, "12345").numbers().await.unwrap();
    let listed: Vec<_> = numbers.iter().map(|number| number.number.expose()).collect();
    assert_eq!(listed, ["+15550100001", "+15550100002", "+15550100003", "+15550100004", "+15550100005"]);
    assert_eq!(numbers[0].voice_url.as_deref(), Some("https://demo.twilio.com/welcome/voice/"));
    assert_eq!((numbers[0].fallback_url.as_ref(), numbers[0].trunk.as_ref()), (None, None));
    assert_eq!(twilio.requests().len(), 3);
}

#[tokio::test]
async fn a_temporary_error_is_retried_and_a_permanent_one_returned() {
    let refused = |status, code| Err(RestError::Refused { status, code });
    let proxy = RestFault::Proxy { status: 502 };
    for (what, fault, times, expected, requests) in [
        ("429 once", RestFault::Refuse { status: 429, code: 20429 }, 1, Ok(1), 2),
        (
            "429 forever",
            RestFault::Refuse { status: 429, code: 20429 },
            usize::MAX,
            refused(429, Some(20429)),
            4,
        ),
        ("500 twice", RestFault::Refuse { status: 500, code: 20500 }, 2, Ok(1), 3),
        ("a proxy's page forever", proxy, usize::MAX, refused(502, None), 4),
        ("garbage", RestFault::Garbage, usize::MAX, Err(RestError::NotTwilio), 1),
        ("another server", RestFault::Stranger, usize::MAX, Err(RestError::NotTwilio), 1),
        ("a proxy's page with 200", RestFault::Proxy { status: 200 }, 9, Err(RestError::NotTwilio), 1),
        // A proxy that wants a login proves nothing about Twilio's credentials.
        ("a proxy's 401", RestFault::Proxy { status: 401 }, 9, Err(RestError::NotTwilio), 1),
        ("a proxy's 429 once", RestFault::Proxy { status: 429 }, 1, Ok(1), 2),
        ("cut off once", RestFault::Cut, 1, Ok(1), 2),
        ("not allowed", RestFault::Refuse { status: 403, code: 20403 }, 9, refused(403, Some(20403)), 1),
        (
            "a redirect",
            RestFault::Redirect { status: 302, to: "https://example.com/".to_owned() },
            9,
            Err(RestError::NotTwilio),
            1,
        ),
    ] {
        let twilio = RestServer::start(owning(1)).await.unwrap();
        twilio.plan("GET ", times, fault);
        let numbers = account(&twilio, "12345").numbers().await.map(|numbers| numbers.len());
        assert_eq!(numbers, expected, "{what}");
        assert_eq!(twilio.requests().len(), requests, "{what}");
    }
}

#[tokio::test]
async fn a_next_page_must_be_at_twilio_and_pages_must_end() {
    let page = |next: &str| RestFault::Answer(json!({"incoming_phone_numbers": [], "next_page_uri": next}));
    let itself = "/2010-04-01/Accounts/AC00000000000000000000000000000001/IncomingPhoneNumbers.json?Page=1";
    for (next, requests) in
        [("@127.0.0.1:9/2010-04-01/x", 1), ("https://example.com/2010-04-01/x", 1), (itself, 2)]
    {
        let twilio = RestServer::start(owning(1)).await.unwrap();
        twilio.plan("", usize::MAX, page(next));
        assert_eq!(account(&twilio, "12345").numbers().await, Err(RestError::NotTwilio), "{next}");
        assert_eq!(twilio.requests().len(), requests, "{next}");
    }
    let twilio = RestServer::start(owning(1)).await.unwrap();
    (1..=200).for_each(|index| twilio.plan("", 1, page(&format!("{itself}{index}"))));
    assert_eq!(account(&twilio, "12345").numbers().await, Err(RestError::NotTwilio));
    assert_eq!(twilio.requests().len(), 100);
}

#[tokio::test]
async fn the_state_of_the_account_is_read_with_the_right_credentials() {
    let options = AccountOptions {
        status: "suspended".to_owned(),
        kind: "Trial".to_owned(),
        ..AccountOptions::default()
    };
    let twilio = RestServer::start(options).await.unwrap();
    let standing = account(&twilio, "12345").standing().await;
    assert_eq!(standing, Ok(Standing { status: Status::Suspended, trial: true }));
    let refused = account(&twilio, "wrong").standing().await;
    assert_eq!(refused, Err(RestError::Refused { status: 401, code: Some(20003) }));
    assert_eq!(
        account(&twilio, "12345").numbers().await,
        Err(RestError::Refused { status: 403, code: Some(20403) })
    );
    let tls = tls::client_config(false, None).unwrap();
    let other = format!("AC{:032}", 2);
    let other = Account::new(twilio.url(), &other, ACCOUNT, Secret::new("12345"), &tls).unwrap();
    assert_eq!(other.standing().await, Err(RestError::Refused { status: 401, code: Some(20003) }));
}

#[tokio::test]
async fn a_change_sets_its_fields_and_nothing_else() {
    let twilio = RestServer::start(owning(2)).await.unwrap();
    twilio.edit(|account| account.numbers[0]["trunk_sid"] = format!("TK{:032}", 1).into());
    let account = account(&twilio, "12345");
    let sid = format!("PN{:032}", 1);
    let before = twilio.number("+15550100001");
    let change = Change { voice_url: Some(VOICE.to_owned()), take_back: true, ..Change::default() };
    let changed = account.change_number(&sid, &change).await.unwrap();
    assert_eq!((changed.voice_url.as_deref(), changed.is_taken()), (Some(VOICE), false));
    let mut expected = before;
    expected["voice_url"] = VOICE.into();
    expected["trunk_sid"] = json!(null);
    let now = twilio.number("+15550100001");
    expected["date_updated"] = now["date_updated"].clone();
    assert_eq!(now, expected);
    // Twilio rejects these.
    for url in ["not an address", "ftp://example.com", "http://127.0.0.1:5050/incoming-call"] {
        let change = Change { voice_url: Some(url.to_owned()), ..Change::default() };
        let refused = account.change_number(&sid, &change).await;
        assert_eq!(refused, Err(RestError::Refused { status: 400, code: Some(21402) }), "{url}");
    }
    let unknown = account.change_number(&format!("PN{:032}", 9), &change).await;
    assert_eq!(unknown, Err(RestError::Refused { status: 404, code: Some(20404) }));
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_forever() {
    let twilio = RestServer::start(owning(1)).await.unwrap();
    twilio.plan("", usize::MAX, RestFault::Silence);
    let account = account(&twilio, "12345");
    // One retry is enough to see it: a request has 8 s, and four attempts.
    let silent = timeout(Duration::from_secs(20), account.numbers());
    let watch = twilio.until(Duration::from_secs(20), |requests| requests.len() >= 2);
    tokio::select! {
        answer = silent => panic!("{answer:?}"),
        seen = watch => assert!(seen, "it is tried again"),
    }
}

/// A folder with assistants, and an account.
struct Desk {
    folder: tempfile::TempDir,
    twilio: RestServer,
    public_url: &'static str,
    more: Vec<(&'static str, String)>,
}

/// The exit code, standard output and standard error of a command.
type Printed = (i32, String, String);

impl Desk {
    async fn open(options: AccountOptions, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assistants")).unwrap();
        for (name, numbers) in files {
            let text = format!("numbers: {numbers}\ninstructions: You answer the phone.\n");
            std::fs::write(folder.path().join(format!("assistants/{name}.yaml")), text).unwrap();
        }
        let twilio = RestServer::start(options).await.unwrap();
        Self { folder, twilio, public_url: "https://phone.example.com", more: Vec::new() }
    }

    /// Runs `switchboard numbers …`.
    async fn run(&self, arguments: &[&str]) -> Printed {
        self.run_to(arguments, Stdio::piped, Stdio::piped).await
    }

    /// The same, with this standard output and error.
    async fn run_to(&self, arguments: &[&str], out: impl Fn() -> Stdio, err: impl Fn() -> Stdio) -> Printed {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.arg("numbers").args(arguments).current_dir(self.folder.path()).env_clear();
        command.envs([
            ("TWILIO_API_URL", self.twilio.url()),
            ("TWILIO_ACCOUNT_SID", ACCOUNT),
            ("TWILIO_AUTH_TOKEN", "12345"),
            ("PUBLIC_URL", self.public_url),
        ]);
        command.envs(self.more.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(out()).stderr(err()).kill_on_drop(true).spawn();
        let output = child.unwrap().wait_with_output();
        let output = timeout(Duration::from_secs(60), output).await.expect("it ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Runs `sync --apply` and more: its exit code.
    async fn apply(&self, more: &[&str]) -> i32 {
        self.run(&[&["sync", "--apply"], more].concat()).await.0
    }

    /// `list --format json`.
    async fn rows(&self) -> Value {
        let (code, out, err) = self.run(&["list", "--format", "json"]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        serde_json::from_str(&out).unwrap()
    }

    /// The codes of what is wrong with each number.
    async fn codes(&self) -> Vec<Vec<String>> {
        let codes = |row: &Value| -> Vec<String> {
            let findings = row["findings"].as_array().unwrap();
            findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
        };
        self.rows().await.as_array().unwrap().iter().map(codes).collect()
    }

    /// The voice URL of a number at Twilio.
    fn voice(&self, number: &str) -> String {
        self.twilio.number(number)["voice_url"].as_str().unwrap().to_owned()
    }

    /// Leaves a `tunnel.json` as a killed tunnel does.
    fn remember(&self, before: Option<&str>, tunnel: &str) {
        let left = json!({
            "account": ACCOUNT, "sid": format!("PN{:032}", 1), "voice_url": before, "voice_method": "POST",
            "status_callback": null, "status_method": "POST", "our_voice_url": tunnel, "our_status_callback": "",
        });
        let state = self.folder.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("tunnel.json"), left.to_string()).unwrap();
    }
}

/// A pipe whose reader has stopped, as `head` does.
fn unread() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

const STATUS: &str = "https://phone.example.com/call-status";
const TUNNEL: &str = "https://four-random-words-here.trycloudflare.com/incoming-call";
const DESK: [(&str, &str); 1] = [("desk", "[\"+15550100001\", \"+15550100002\"]")];

/// A number with this voice URL and status callback.
fn set(index: usize, name: &str, voice: &str, status: &str) -> Value {
    let mut number = number(index, name);
    number["voice_url"] = voice.into();
    number["status_callback"] = status.into();
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_what_is_wrong() {
    let mut taken = set(4, "+15550100004", VOICE, STATUS);
    taken["voice_application_sid"] = format!("AP{:032}", 1).into();
    taken["friendly_name"] = "Front desk".into();
    let mut good = set(5, "+15550100005", VOICE, STATUS);
    good["voice_fallback_url"] = "https://other.example.com/fallback".into();
    let numbers = vec![
        set(1, "+15550100001", VOICE, STATUS),
        number(2, "+15550100002"),
        set(3, "+15550100003", "https://other.example.com/voice", ""),
        taken,
        good,
    ];
    let options = AccountOptions { numbers, longest_page: 2, ..AccountOptions::default() };
    let files = [
        ("clinic", "[\"+15550100001\", \"+15550100002\", \"+15550100009\"]"),
        ("desk", "[\"+15550100004\"]"),
        ("rest", "[\"*\"]"),
    ];
    let desk = Desk::open(options, &files).await;
    let (code, out, err) = desk.run(&["list"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    insta::assert_snapshot!(out);
    let rows = desk.rows().await;
    let assistants: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["assistant"].clone()).collect();
    assert_eq!(assistants, ["clinic", "clinic", "rest", "desk", "rest", "clinic"]);
    assert_eq!(rows[5]["twilio"], json!(null));
    let codes = desk.codes().await;
    assert_eq!(codes[1], ["number.voice_url", "number.status_callback", "number.no_fallback"]);
    assert_eq!((&codes[3][0], codes[4].len()), (&"number.application".to_owned(), 0));
    assert!(desk.twilio.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_sets_what_it_showed_once() {
    let mut kept = set(3, "+15550100003", "https://other.example.com/voice", STATUS);
    kept["voice_fallback_url"] = "https://other.example.com/fallback".into();
    let options = AccountOptions {
        numbers: vec![
            number(1, "+15550100001"),
            set(2, "+15550100002", "https://other.example.com/voice", ""),
            kept,
            number(4, "+15550100004"),
        ],
        longest_page: 2,
        ..AccountOptions::default()
    };
    let desk = Desk::open(options, &[("clinic", "[\"+15550100001\", \"+15550100003\"]")]).await;
    let before = desk.twilio.numbers();
    let (code, shown, err) = desk.run(&["sync"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{shown}");
    insta::assert_snapshot!("sync_shows", shown);
    assert!(desk.twilio.changes().is_empty(), "without --apply nothing changes");

    let (code, done, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{done}");
    for line in shown.lines().filter(|line| line.contains('→')) {
        assert!(done.contains(line), "{line} was shown, but is not in\n{done}");
    }
    let changes = desk.twilio.changes();
    let fields: Vec<Vec<&str>> =
        changes.iter().map(|change| change.form.iter().map(|(name, _)| name.as_str()).collect()).collect();
    let both = vec!["VoiceUrl", "VoiceMethod", "StatusCallback", "StatusCallbackMethod"];
    assert_eq!(fields, [both, vec!["VoiceUrl", "VoiceMethod"]]);
    for number in ["+15550100001", "+15550100003"] {
        let now = desk.twilio.number(number);
        assert_eq!((&now["voice_url"], &now["status_callback"]), (&VOICE.into(), &STATUS.into()));
    }
    // The owner's own fallback stays, and so do numbers that no file lists.
    let after = desk.twilio.numbers();
    assert_eq!(after[2]["voice_fallback_url"], "https://other.example.com/fallback");
    assert_eq!([&after[1], &after[3]], [&before[1], &before[3]]);

    assert_eq!(desk.apply(&[]).await, 0);
    assert_eq!(desk.twilio.changes().len(), 2, "there is nothing left to set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_at_a_tunnel_changes_only_with_take_back() {
    let mut options = owning(2);
    options.numbers[0]["voice_url"] = TUNNEL.into();
    let desk = Desk::open(options, &DESK).await;
    assert_eq!(desk.apply(&[]).await, 1, "one is left alone");
    assert_eq!((desk.voice("+15550100001").as_str(), desk.voice("+15550100002").as_str()), (TUNNEL, VOICE));
    // An allowlist that was in front before the tunnel is not removed.
    desk.remember(Some("https://functions.example.com/allowlist-function"), TUNNEL);
    assert_eq!(desk.codes().await[0], ["number.tunnel"]);
    assert_eq!((desk.apply(&["--take-back"]).await, desk.voice("+15550100001").as_str()), (1, TUNNEL));
    desk.remember(Some("https://old.example.com/voice"), TUNNEL);
    assert_eq!((desk.apply(&["--take-back"]).await, desk.voice("+15550100001").as_str()), (0, VOICE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_an_open_tunnel_is_left_alone() {
    let mut options = owning(1);
    options.numbers[0]["voice_url"] = TUNNEL.into();
    let mut desk = Desk::open(options, &DESK).await;
    desk.remember(Some("https://old.example.com/a"), TUNNEL);
    let hold = Hold::take(&desk.folder.path().join("state")).unwrap();
    for functions in ["", "https://functions.example.com"] {
        desk.more = vec![("TWILIO_FUNCTIONS_URL", functions.to_owned())];
        assert_eq!(desk.apply(&["--take-back"]).await, 1);
        assert_eq!(desk.codes().await[0], ["number.tunnel"]);
    }
    assert!(desk.twilio.changes().is_empty());
    drop(hold);
    // With the Functions known, nothing is lost.
    assert_eq!(desk.apply(&[]).await, 0);
    assert_eq!(desk.voice("+15550100001"), "https://functions.example.com/allowlist-function");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tunnel_replaces_one_that_is_not_remembered() {
    let new = "https://new.trycloudflare.com/incoming-call";
    let mut options = owning(1);
    options.numbers[0]["voice_url"] = TUNNEL.into();
    let mut desk = Desk::open(options, &[("desk", "[\"+15550100001\"]")]).await;
    desk.public_url = "https://new.trycloudflare.com";
    // The next `serve --tunnel` points this one back.
    desk.remember(Some(VOICE), TUNNEL);
    assert_eq!((desk.apply(&[]).await, desk.twilio.changes().len()), (1, 0));
    std::fs::remove_file(desk.folder.path().join("state/tunnel.json")).unwrap();
    assert_eq!(desk.codes().await[0][0], "number.voice_url");
    assert_eq!((desk.apply(&[]).await, desk.voice("+15550100001").as_str()), (0, new));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_urls_without_their_passwords() {
    let secret = |path: &str| format!("https://me:hunter2@old.example.com/{path}?to=+15550100001");
    let mut options = owning(2);
    options.numbers[0]["voice_url"] = TUNNEL.into();
    options.numbers[1]["voice_url"] = secret("voice").into();
    options.numbers[1]["voice_fallback_url"] = secret("fallback").into();
    options.numbers[1]["status_callback"] = secret("status").into();
    let desk = Desk::open(options, &DESK).await;
    for before in [Some(secret("before")), None] {
        desk.remember(before.as_deref(), TUNNEL);
        let rows = desk.rows().await;
        assert!(!rows.to_string().contains("hunter2"), "{rows}");
        let shown = |path: &str| json!(secret(path).replace("hunter2", "xxx"));
        let is = &rows[1]["twilio"];
        let urls = ["voice_url", "fallback_url", "status_callback"].map(|name| is[name].clone());
        assert_eq!(urls, ["voice", "fallback", "status"].map(shown));
        assert_eq!(is["before_tunnel"], json!(null));
        let before = before.map(|_| shown("before"));
        assert_eq!(rows[0]["twilio"]["before_tunnel"], json!({ "voice_url": before }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_hides_names_that_twilio_gave() {
    let mut options = owning(3);
    for (number, name) in options.numbers.iter_mut().zip(["(555) 010-0001", "0002", "Desk 15550100003"]) {
        number["friendly_name"] = name.into();
    }
    let desk = Desk::open(options, &[("desk", "[\"+15550100001\"]")]).await;
    let (_, out, _) = desk.run(&["list"]).await;
    let name = |line: &str| line[14..].split("  ").next().unwrap().to_owned();
    let names: Vec<String> = out.lines().filter(|line| line.starts_with('+')).map(name).collect();
    assert_eq!(names, ["-", "0002", "Desk 15550100003"], "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_in_front_are_the_voice_url_and_the_fallback() {
    let mut desk = Desk::open(owning(1), &[("desk", "[\"+15550100001\"]")]).await;
    desk.more.push(("TWILIO_FUNCTIONS_URL", "https://functions.example.com".to_owned()));
    assert_eq!(desk.apply(&[]).await, 0);
    let now = desk.twilio.number("+15550100001");
    assert_eq!(now["voice_url"], "https://functions.example.com/allowlist-function");
    assert_eq!(now["voice_fallback_url"], "https://functions.example.com/fallback-function");
    assert_eq!(now["status_callback"], STATUS);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_star_and_of_a_trunk_need_an_option() {
    let mut options = owning(3);
    options.numbers[2]["trunk_sid"] = format!("TK{:032}", 1).into();
    let files = [("desk", "[\"+15550100001\", \"+15550100003\"]"), ("rest", "[\"*\"]")];
    let desk = Desk::open(options, &files).await;
    let ours = || ["+15550100001", "+15550100002", "+15550100003"].map(|number| desk.voice(number) == VOICE);
    assert_eq!((desk.apply(&[]).await, ours()), (1, [true, false, false]));
    let codes = desk.codes().await;
    assert_eq!((codes[1][0].as_str(), codes[2][0].as_str()), ("number.voice_url", "number.trunk"));
    assert_eq!((desk.apply(&["--all", "--take-back"]).await, ours()), (0, [true; 3]));
    assert_eq!(desk.twilio.number("+15550100003")["trunk_sid"], json!(null));
}

/// The request that sets the second number.
fn second() -> String {
    format!("POST /2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/PN{:032}", 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_number_that_fails_does_not_stop_the_next() {
    let desk = Desk::open(owning(3), &[("desk", "[\"*\", \"+15550100003\"]")]).await;
    let ours = || ["+15550100001", "+15550100002", "+15550100003"].map(|number| desk.voice(number) == VOICE);
    desk.twilio.plan(&second(), usize::MAX, RestFault::Refuse { status: 400, code: 21402 });
    let (code, _, err) = desk.run(&["sync", "--all", "--apply"]).await;
    assert_eq!((code, ours()), (1, [true, false, true]));
    assert!(err.contains("21402") && !err.contains("5550100002"), "{err}");
    // A request whose answer was lost is sent again.
    desk.twilio.heal();
    desk.twilio.plan(&second(), 1, RestFault::BreakAfter { status: 500 });
    assert_eq!((desk.apply(&["--all"]).await, ours()), (0, [true; 3]));
    // A 200 without effect is a failure.
    desk.twilio.edit(|account| account.numbers[1]["voice_url"] = "".into());
    desk.twilio.plan(&second(), usize::MAX, RestFault::Answer(desk.twilio.number("+15550100002")));
    assert_eq!(desk.apply(&["--all"]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_error_that_affects_all_numbers_no_more_are_tried() {
    for (what, fault) in [
        ("the token was replaced", RestFault::Refuse { status: 401, code: 20003 }),
        ("the account is suspended", RestFault::Refuse { status: 403, code: 20403 }),
        ("the account is closed", RestFault::Refuse { status: 400, code: 10001 }),
        ("the key lacks the permission", RestFault::Refuse { status: 400, code: 70051 }),
        ("the network wants a login", RestFault::Proxy { status: 403 }),
    ] {
        let desk = Desk::open(owning(4), &[("desk", "[\"*\"]")]).await;
        desk.twilio.plan(&second(), usize::MAX, fault);
        assert_eq!(desk.apply(&["--all"]).await, 1, "{what}");
        assert_eq!(desk.twilio.changes().len(), 2, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_stops_no_change() {
    let desk = Desk::open(owning(3), &[("desk", "[\"*\"]")]).await;
    for arguments in [&["list"][..], &["list", "--format", "json"], &["sync", "--all"]] {
        let (code, _, err) = desk.run_to(arguments, unread, Stdio::piped).await;
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    }
    let ours = || ["+15550100001", "+15550100002", "+15550100003"].map(|number| desk.voice(number) == VOICE);
    let apply = ["sync", "--all", "--apply"];
    desk.twilio.plan(&second(), 1, RestFault::Refuse { status: 400, code: 21402 });
    let (code, ..) = desk.run_to(&apply, unread, unread).await;
    assert_eq!((code, ours()), (1, [true, false, true]));
    // A full disk loses the output, but no change. It is still an error.
    if cfg!(target_os = "linux") {
        let full = || std::fs::File::create("/dev/full").unwrap().into();
        let (code, _, err) = desk.run_to(&apply, full, Stdio::piped).await;
        assert_eq!((code, ours()), (1, [true; 3]), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_twilio_is_shown_with_its_code() {
    let refuse = |status, code| RestFault::Refuse { status, code };
    for (what, fault, code) in [
        ("429 forever", refuse(429, 20429), "20429"),
        ("500 forever", refuse(500, 20500), "500"),
        ("another account", refuse(404, 20404), "20404"),
        ("a suspended account", refuse(403, 20403), "20403"),
        ("a restricted key", refuse(401, 70051), "70051"),
        ("a login page", RestFault::Proxy { status: 401 }, "TWILIO_API_URL"),
    ] {
        let desk = Desk::open(owning(1), &DESK).await;
        desk.twilio.plan("", usize::MAX, fault);
        for arguments in [&["list"][..], &["sync", "--apply"]] {
            let (exit, out, err) = desk.run(arguments).await;
            assert_eq!((exit, out.as_str(), err.contains(code)), (1, "", true), "{what}: {err}");
        }
        assert!(desk.twilio.changes().is_empty());
    }
    let mut desk = Desk::open(owning(1), &DESK).await;
    desk.more.push(("TWILIO_AUTH_TOKEN", "hunter2-value".to_owned()));
    let (code, _, err) = desk.run(&["list"]).await;
    assert!(code == 1 && err.contains("20003") && !err.contains("hunter2"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_wrong_settings_are_reported_before_twilio_is_asked() {
    let mut desk = Desk::open(owning(1), &DESK).await;
    for url in ["http://127.0.0.1:5050", "http://phone.example.com", "https://app.internal", ""] {
        desk.public_url = url;
        let (code, _, err) = desk.run(&["sync", "--apply"]).await;
        assert!(code == 1 && err.contains("PUBLIC_URL"), "{url}: {err}");
    }
    for (name, value) in [
        ("TWILIO_ACCOUNT_SID", "AC123"),
        ("TWILIO_ACCOUNT_SID", "“AC00000000000000000000000000000001”"),
        ("TWILIO_ACCOUNT_SID", ""),
        ("TWILIO_AUTH_TOKEN", ""),
        // In clear text, with the credentials.
        ("TWILIO_API_URL", "http://nobody.invalid"),
    ] {
        desk.more = vec![(name, value.to_owned())];
        let (code, _, err) = desk.run(&["list"]).await;
        assert!(code == 1 && err.contains(name), "{name}={value}: {err}");
        assert!(value.is_empty() || name == "TWILIO_API_URL" || !err.contains(value), "{err}");
    }
    assert!(desk.twilio.requests().is_empty());
    // Without PUBLIC_URL, the list shows what the numbers call.
    desk.more.clear();
    let (code, out, err) = desk.run(&["list"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("https://demo.twilio.com/welcome/voice/") && out.contains("PUBLIC_URL"), "{out}");
    assert_eq!(desk.run(&["sync", "--now"]).await.0, 2);
    assert_eq!(desk.run(&[]).await.0, 2);
}
