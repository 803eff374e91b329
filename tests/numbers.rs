//! The account's numbers: the REST client, and the commands that list and set them, against a simulated Twilio.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
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

/// An account with so many numbers, from +15550100001.
fn owning(count: usize) -> AccountOptions {
    let numbers = (1..=count).map(|index| number(index, &format!("+1555010{index:04}"))).collect();
    AccountOptions { numbers, ..AccountOptions::default() }
}

#[tokio::test]
async fn numbers_come_page_by_page() {
    let twilio = RestServer::start(AccountOptions { longest_page: 2, ..owning(5) }).await.unwrap();
    let numbers = account(&twilio, "12345").numbers().await.unwrap();
    let listed: Vec<_> = numbers.iter().map(|number| number.number.expose()).collect();
    assert_eq!(listed, ["+15550100001", "+15550100002", "+15550100003", "+15550100004", "+15550100005"]);
    assert_eq!(numbers[0].voice_url.as_deref(), Some("https://demo.twilio.com/welcome/voice/"));
    assert_eq!((numbers[0].fallback_url.as_ref(), numbers[0].trunk.as_ref()), (None, None));
    assert_eq!(twilio.requests().len(), 3);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_stays_is_told() {
    let refused = |status, code| Err(RestError::Refused { status, code });
    let proxy = RestFault::Proxy { status: 502 };
    for (what, fault, times, expected, requests) in [
        ("429 once", RestFault::Refuse { status: 429, code: 20429 }, 1, Ok(1), 2),
        (
            "429 for ever",
            RestFault::Refuse { status: 429, code: 20429 },
            usize::MAX,
            refused(429, Some(20429)),
            4,
        ),
        ("500 twice", RestFault::Refuse { status: 500, code: 20500 }, 2, Ok(1), 3),
        ("a proxy's page for ever", proxy, usize::MAX, refused(502, None), 4),
        ("garbage", RestFault::Garbage, usize::MAX, Err(RestError::NotTwilio), 1),
        ("somebody else", RestFault::Stranger, usize::MAX, Err(RestError::NotTwilio), 1),
        ("a proxy's page that says 200", RestFault::Proxy { status: 200 }, 9, Err(RestError::NotTwilio), 1),
        // A proxy that wants a login knows nothing of Twilio's credentials.
        ("a proxy's 401", RestFault::Proxy { status: 401 }, 9, Err(RestError::NotTwilio), 1),
        ("a proxy's 403", RestFault::Proxy { status: 403 }, 9, Err(RestError::NotTwilio), 1),
        ("a proxy's 404", RestFault::Proxy { status: 404 }, 9, Err(RestError::NotTwilio), 1),
        ("a proxy's 407", RestFault::Proxy { status: 407 }, 9, Err(RestError::NotTwilio), 1),
        ("a proxy's 429 once", RestFault::Proxy { status: 429 }, 1, Ok(1), 2),
        ("cut once", RestFault::Cut, 1, Ok(1), 2),
        ("not allowed", RestFault::Refuse { status: 403, code: 20403 }, 9, refused(403, Some(20403)), 1),
        (
            "elsewhere",
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
async fn a_next_page_leads_nowhere_else_and_not_on_for_ever() {
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
async fn an_account_says_how_it_stands_and_a_wrong_one_nothing() {
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
    assert!(refused.unwrap_err().help().contains("TWILIO_AUTH_TOKEN"));
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
async fn a_change_sets_what_it_names_and_nothing_else() {
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
    // What the real one refuses.
    for url in ["not an address", "ftp://example.com", "http://127.0.0.1:5050/incoming-call"] {
        let change = Change { voice_url: Some(url.to_owned()), ..Change::default() };
        let refused = account.change_number(&sid, &change).await;
        assert_eq!(refused, Err(RestError::Refused { status: 400, code: Some(21402) }), "{url}");
    }
    let unknown = account.change_number(&format!("PN{:032}", 9), &change).await;
    assert_eq!(unknown, Err(RestError::Refused { status: 404, code: Some(20404) }));
}

#[tokio::test]
async fn silence_ends() {
    let twilio = RestServer::start(owning(1)).await.unwrap();
    twilio.plan("", usize::MAX, RestFault::Silence);
    let account = account(&twilio, "12345");
    // Once is enough to see: a request has 8 s, and is made four times.
    let silent = timeout(Duration::from_secs(20), account.numbers());
    let watch = twilio.until(Duration::from_secs(20), |requests| requests.len() >= 2);
    tokio::select! {
        answer = silent => panic!("{answer:?}"),
        seen = watch => assert!(seen, "it is tried again"),
    }
}

/// What the commands are run with.
struct Desk {
    folder: tempfile::TempDir,
    twilio: RestServer,
    public_url: &'static str,
    more: Vec<(&'static str, String)>,
}

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

    /// Runs `switchboard numbers …`: its exit code, what it says and what it complains of.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_to(arguments, Stdio::piped, Stdio::piped).await
    }

    /// The same, with these in the place of its standard output and error.
    async fn run_to(
        &self,
        arguments: &[&str],
        out: impl Fn() -> Stdio,
        err: impl Fn() -> Stdio,
    ) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.arg("numbers").args(arguments).current_dir(self.folder.path()).env_clear();
        command.envs([
            ("TWILIO_API_URL", self.twilio.url()),
            ("TWILIO_ACCOUNT_SID", ACCOUNT),
            ("TWILIO_AUTH_TOKEN", "12345"),
            ("PUBLIC_URL", self.public_url),
        ]);
        command.envs(self.more.iter().map(|(name, value)| (name, value)));
        let output = command.stdin(Stdio::null()).stdout(out()).stderr(err()).kill_on_drop(true);
        // `output` would take both to itself.
        let output = output.spawn().unwrap().wait_with_output();
        let output = timeout(Duration::from_secs(60), output).await.expect("it ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

/// A pipe whose reader is gone, as `head` goes.
fn unread() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

const STATUS: &str = "https://phone.example.com/call-status";

/// A number that rings `voice` and tells `status`.
fn set(index: usize, name: &str, voice: &str, status: &str) -> serde_json::Value {
    let mut number = number(index, name);
    number["voice_url"] = voice.into();
    number["status_callback"] = status.into();
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_what_is_wrong_page_by_page() {
    let mut taken = set(4, "+15550100004", VOICE, STATUS);
    taken["voice_application_sid"] = format!("AP{:032}", 1).into();
    taken["friendly_name"] = "Front desk".into();
    let numbers = vec![
        set(1, "+15550100001", VOICE, STATUS),
        number(2, "+15550100002"),
        set(3, "+15550100003", "https://other.example.com/voice", ""),
        taken,
    ];
    let options = AccountOptions { numbers, longest_page: 2, ..AccountOptions::default() };
    let files = [
        ("clinic", "[\"+15550100001\", \"+15550100002\", \"+15550100009\"]"),
        ("desk", "[\"+15550100004\"]"),
    ];
    let desk = Desk::open(options, &files).await;
    let (code, out, err) = desk.run(&["list"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    insta::assert_snapshot!(out);
    let (code, out, err) = desk.run(&["list", "--format", "json"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 5);
    assert_eq!(rows[0]["assistant"], "clinic");
    assert_eq!(rows[1]["findings"][0]["code"], "number.voice_url");
    assert_eq!(rows[4]["twilio"], json!(null));
    assert!(desk.twilio.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_sets_what_it_showed_and_the_second_time_nothing() {
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
    let files = [("clinic", "[\"+15550100001\", \"+15550100003\"]")];
    let desk = Desk::open(options, &files).await;
    let before = desk.twilio.numbers();
    let (code, shown, err) = desk.run(&["sync"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{shown}");
    insta::assert_snapshot!("sync_shows", shown);
    assert_eq!(desk.twilio.numbers(), before);
    assert!(desk.twilio.changes().is_empty(), "it only looks");

    let (code, done, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{done}");
    for line in shown.lines().filter(|line| line.contains('→')) {
        assert!(done.contains(line), "{line} was shown, and is not in\n{done}");
    }
    let changes = desk.twilio.changes();
    let fields: Vec<Vec<&str>> =
        changes.iter().map(|change| change.form.iter().map(|(name, _)| name.as_str()).collect()).collect();
    assert_eq!(
        fields,
        [
            vec!["VoiceUrl", "VoiceMethod", "StatusCallback", "StatusCallbackMethod"],
            vec!["VoiceUrl", "VoiceMethod"],
        ]
    );
    for number in ["+15550100001", "+15550100003"] {
        let now = desk.twilio.number(number);
        assert_eq!((&now["voice_url"], &now["status_callback"]), (&VOICE.into(), &STATUS.into()));
    }
    // The owner's own fallback stays, and so do numbers that are none of ours.
    assert_eq!(
        desk.twilio.number("+15550100003")["voice_fallback_url"],
        "https://other.example.com/fallback"
    );
    assert_eq!([&desk.twilio.numbers()[1], &desk.twilio.numbers()[3]], [&before[1], &before[3]]);

    let (code, again, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!((code, err.as_str(), again.as_str()), (0, "", "0 numbers set, 2 right already.\n"));
    assert_eq!(desk.twilio.changes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_rings_a_tunnel_is_left_until_that_is_wished() {
    let tunnel = "https://four-random-words-here.trycloudflare.com";
    let ours = format!("{tunnel}/incoming-call");
    let mut options = owning(2);
    options.numbers[0]["voice_url"] = ours.as_str().into();
    let desk = Desk::open(options, &[("desk", "[\"+15550100001\", \"+15550100002\"]")]).await;
    let voice = |number: &str| desk.twilio.number(number)["voice_url"].clone();
    let (code, out, _) = desk.run(&["sync", "--apply"]).await;
    assert_eq!(code, 1, "{out}");
    for words in ["whether the allowlist Function was in front", "serve --tunnel", "--take-back"] {
        assert!(out.contains(words), "{words} is not in {out}");
    }
    assert!(out.contains("1 number set, 1 left as it is, 0 right already."), "{out}");
    assert!(!out.contains("before that tunnel"), "{out}");
    assert_eq!((voice("+15550100001"), voice("+15550100002")), (ours.as_str().into(), VOICE.into()));
    // As a tunnel that was killed leaves it.
    let guarded = "https://functions.example.com/allowlist-function";
    let mut left = json!({
        "account": ACCOUNT, "sid": format!("PN{:032}", 1), "voice_url": guarded, "voice_method": "POST",
        "status_callback": null, "status_method": "POST", "our_voice_url": ours, "our_status_callback": "",
    });
    let remember = |left: &serde_json::Value| {
        std::fs::write(desk.folder.path().join("tunnel.json"), left.to_string()).unwrap();
    };
    remember(&left);
    let told = format!("before that tunnel it rang {guarded}");
    for arguments in [&["list"][..], &["sync"]] {
        let (_, out, _) = desk.run(arguments).await;
        assert!(out.contains(&told), "{out}");
    }
    // What is remembered of another number, or of another tunnel, is not said of this one.
    for (key, other) in [("sid", "PN00000000000000000000000000000002"), ("our_voice_url", "https://other")] {
        let was = std::mem::replace(&mut left[key], other.into());
        remember(&left);
        let (_, out, _) = desk.run(&["list"]).await;
        assert!(!out.contains("before that tunnel"), "{out}");
        left[key] = was;
    }
    // An allowlist that is known is not taken away.
    remember(&left);
    for arguments in
        [&["sync", "--apply", "--take-back"][..], &["sync", "--apply"], &["list", "--format", "json"]]
    {
        let (_, out, _) = desk.run(arguments).await;
        assert_eq!(voice("+15550100001"), ours, "{out}");
        assert!(out.contains("set TWILIO_FUNCTIONS_URL to that Function's address"), "{out}");
        assert!(!out.contains("--take-back"), "what does nothing is advised: {out}");
    }
    let (code, out, _) = desk.run(&["sync", "--apply", "--take-back"]).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("that is the allowlist Function"), "{out}");
    left["voice_url"] = "https://old.example.com/voice".into();
    remember(&left);
    let (code, out, _) = desk.run(&["sync", "--apply", "--take-back"]).await;
    assert_eq!((code, voice("+15550100001")), (0, VOICE.into()), "{out}");
    assert!(out.contains(&format!("{ours} → {VOICE}")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_what_the_table_tells_and_no_password() {
    let ours = "https://four-random-words-here.trycloudflare.com/incoming-call";
    let secret = |path: &str| format!("https://me:hunter2@old.example.com/{path}?to=+15550100001");
    let mut options = owning(2);
    options.numbers[0]["voice_url"] = ours.into();
    options.numbers[1]["voice_url"] = secret("voice").into();
    options.numbers[1]["voice_fallback_url"] = secret("fallback").into();
    options.numbers[1]["status_callback"] = secret("status").into();
    let desk = Desk::open(options, &[("desk", "[\"+15550100001\", \"+15550100002\"]")]).await;
    for before in [Some(secret("before")), None] {
        let left = json!({
            "account": ACCOUNT, "sid": format!("PN{:032}", 1), "voice_url": before, "voice_method": "POST",
            "status_callback": null, "status_method": "POST", "our_voice_url": ours, "our_status_callback": "",
        });
        std::fs::write(desk.folder.path().join("tunnel.json"), left.to_string()).unwrap();
        let (code, out, err) = desk.run(&["list", "--format", "json"]).await;
        assert_eq!((code, err.as_str(), out.contains("hunter2")), (0, "", false), "{out}");
        let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
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
async fn what_a_number_rang_before_its_tunnel_is_said_before_that_is_set() {
    let ours = "https://four-random-words-here.trycloudflare.com/incoming-call";
    let mut options = owning(1);
    options.numbers[0]["voice_url"] = ours.into();
    let mut desk = Desk::open(options, &[("desk", "[\"+15550100001\"]")]).await;
    // With the Functions known, it is set as any other: nothing else knows that address then.
    desk.more.push(("TWILIO_FUNCTIONS_URL", "https://functions.example.com".to_owned()));
    let left = json!({
        "account": ACCOUNT, "sid": format!("PN{:032}", 1), "voice_url": "https://old.example.com/a",
        "voice_method": "POST", "status_callback": null, "status_method": "POST", "our_voice_url": ours,
        "our_status_callback": "",
    });
    std::fs::write(desk.folder.path().join("tunnel.json"), left.to_string()).unwrap();
    let before = "before that tunnel it rang https://old.example.com/a";
    for arguments in [&["list"][..], &["sync"]] {
        let (_, out, _) = desk.run(arguments).await;
        assert!(out.contains(before), "{arguments:?}: {out}");
    }
    let public_url = std::mem::take(&mut desk.public_url);
    let (_, out, _) = desk.run(&["list"]).await;
    assert!(out.contains(before), "{out}");
    desk.public_url = public_url;

    // While that tunnel is open it is the tunnel's.
    let hold = Hold::take(desk.folder.path()).unwrap();
    let mut advices = Vec::new();
    for arguments in [&["sync"][..], &["sync", "--apply"], &["sync", "--apply", "--take-back"]] {
        let (code, out, _) = desk.run(arguments).await;
        assert_eq!(code, i32::from(arguments.len() > 1), "{out}");
        assert!(out.contains("1 left as it is") && !out.contains('→'), "{arguments:?}: {out}");
        advices.push(out);
    }
    advices.push(desk.run(&["list", "--format", "json"]).await.1);
    let functions = desk.more.pop().unwrap();
    advices.push(desk.run(&["sync", "--apply", "--take-back"]).await.1);
    for out in advices {
        assert!(out.contains("it is put back when that tunnel ends"), "{out}");
        assert!(!out.contains("run `switchboard"), "what does nothing is advised: {out}");
    }
    let (_, out, _) = desk.run(&["list"]).await;
    assert!(out.contains(before), "{out}");
    assert!(desk.twilio.changes().is_empty());
    drop(hold);

    desk.more.push(functions);
    let (code, out, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let [said, set] = [before, "voice URL"].map(|words| out.find(words));
    assert!(said.is_some() && said < set, "{out}");
    let voice = desk.twilio.number("+15550100001")["voice_url"].clone();
    assert_eq!(voice, "https://functions.example.com/allowlist-function");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_tunnel_takes_the_place_of_one_that_nobody_remembers() {
    let [old, new] = ["old", "new"].map(|name| format!("https://{name}.trycloudflare.com/incoming-call"));
    let mut options = owning(1);
    options.numbers[0]["voice_url"] = old.as_str().into();
    let mut desk = Desk::open(options, &[("desk", "[\"+15550100001\"]")]).await;
    desk.public_url = "https://new.trycloudflare.com";
    // What a tunnel will put back itself is left to it.
    let left = json!({
        "account": ACCOUNT, "sid": format!("PN{:032}", 1), "voice_url": VOICE, "voice_method": "POST",
        "status_callback": null, "status_method": "POST", "our_voice_url": old, "our_status_callback": "",
    });
    let file = desk.folder.path().join("tunnel.json");
    std::fs::write(&file, left.to_string()).unwrap();
    let (code, out, _) = desk.run(&["sync", "--apply"]).await;
    assert!(code == 1 && out.contains("1 left as it is"), "{out}");
    assert!(desk.twilio.changes().is_empty(), "{out}");
    std::fs::remove_file(&file).unwrap();
    let (_, out, _) = desk.run(&["list"]).await;
    assert!(out.contains(&format!("error: it rings {old}, not {new}")), "{out}");
    let (code, out, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains(&format!("{old} → {new}")) && out.contains("1 number set"), "{out}");
    assert_eq!(desk.twilio.number("+15550100001")["voice_url"], new);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_name_that_twilio_gave_is_hidden() {
    let mut options = owning(5);
    for (number, name) in options.numbers.iter_mut().zip([
        "(555) 010-0001",
        "+1 555 010 0002",
        "Num 3",
        "0004",
        "Desk 15550100005",
    ]) {
        number["friendly_name"] = name.into();
    }
    let desk = Desk::open(options, &[("desk", "[\"+15550100001\"]")]).await;
    let (_, out, _) = desk.run(&["list"]).await;
    let name = |line: &str| line[14..].split("  ").next().unwrap().to_owned();
    let names: Vec<String> = out.lines().filter(|line| line.starts_with('+')).map(name).collect();
    assert_eq!(names, ["-", "-", "Num 3", "0004", "Desk 15550100005"], "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_in_front_are_what_numbers_ring_and_fall_back_to() {
    let mut desk = Desk::open(owning(1), &[("desk", "[\"+15550100001\"]")]).await;
    desk.more.push(("TWILIO_FUNCTIONS_URL", "https://functions.example.com".to_owned()));
    assert_eq!(desk.run(&["sync", "--apply"]).await.0, 0);
    let now = desk.twilio.number("+15550100001");
    assert_eq!(now["voice_url"], "https://functions.example.com/allowlist-function");
    assert_eq!(now["voice_fallback_url"], "https://functions.example.com/fallback-function");
    assert_eq!(now["status_callback"], STATUS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_star_answers_or_something_else_took_is_asked_for_by_name() {
    let mut options = owning(3);
    options.numbers[2]["trunk_sid"] = format!("TK{:032}", 1).into();
    let files = [("desk", "[\"+15550100001\", \"+15550100003\"]"), ("rest", "[\"*\"]")];
    let desk = Desk::open(options, &files).await;
    let voice = |number: &str| desk.twilio.number(number)["voice_url"].clone();
    let (code, out, _) = desk.run(&["sync", "--apply"]).await;
    assert_eq!(code, 1, "a number that a file lists does not ring: {out}");
    assert!(out.contains("a SIP trunk answers it") && out.contains("--take-back"), "{out}");
    assert!(out.contains("1 number that only \"*\" answers"), "{out}");
    assert_eq!(voice("+15550100001"), VOICE);
    assert_ne!(voice("+15550100002"), VOICE);
    assert_ne!(voice("+15550100003"), VOICE);
    let (_, out, _) = desk.run(&["list", "--format", "json"]).await;
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let help = rows[1]["findings"][0]["help"].as_str().unwrap();
    assert!(help.contains("numbers sync --all --apply"), "what is advised is not what does it: {help}");
    let (code, out, _) = desk.run(&["sync", "--apply", "--all", "--take-back"]).await;
    assert_eq!(code, 0, "{out}");
    assert_eq!((voice("+15550100002"), voice("+15550100003")), (VOICE.into(), VOICE.into()));
    assert_eq!(desk.twilio.number("+15550100003")["trunk_sid"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_number_that_fails_does_not_stop_the_next() {
    let desk =
        Desk::open(owning(3), &[("desk", "[\"+15550100001\", \"+15550100002\", \"+15550100003\"]")]).await;
    let second = format!("POST /2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/PN{:032}", 2);
    desk.twilio.plan(&second, usize::MAX, RestFault::Refuse { status: 400, code: 21402 });
    let (code, out, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!(code, 1);
    assert!(
        out.contains("2 numbers set, 1 failed, 0 right already.") && out.contains("run the same again"),
        "{out}"
    );
    assert!(err.contains("error 21402") && !err.contains("5550100002"), "{err}");
    assert_eq!(desk.twilio.number("+15550100003")["voice_url"], VOICE);
    assert_ne!(desk.twilio.number("+15550100002")["voice_url"], VOICE);
    // An answer that was lost is asked for again: set twice is set once.
    desk.twilio.heal();
    desk.twilio.plan(&second, 1, RestFault::BreakAfter { status: 500 });
    let (code, out, err) = desk.run(&["sync", "--apply"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(desk.twilio.number("+15550100002")["voice_url"], VOICE);
    // A 200 that did nothing is not believed.
    desk.twilio.edit(|account| account.numbers[1]["voice_url"] = "".into());
    desk.twilio.plan(&second, usize::MAX, RestFault::Answer(desk.twilio.number("+15550100002")));
    let (code, _, err) = desk.run(&["sync", "--apply"]).await;
    assert!(code == 1 && err.contains("did not do it"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_set_no_more_is_tried() {
    let files = [("desk", "[\"*\", \"+15550100003\"]")];
    let second = format!("POST /2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/PN{:032}", 2);
    for (what, fault) in [
        ("the token was replaced", RestFault::Refuse { status: 401, code: 20003 }),
        ("the account is suspended", RestFault::Refuse { status: 403, code: 20403 }),
        ("the account is not active", RestFault::Refuse { status: 400, code: 20005 }),
        ("the account is closed", RestFault::Refuse { status: 400, code: 10001 }),
        ("the key may not do this", RestFault::Refuse { status: 400, code: 70051 }),
        ("the network wants a login", RestFault::Proxy { status: 403 }),
    ] {
        let desk = Desk::open(owning(5), &files).await;
        desk.twilio.edit(|account| account.numbers[3] = set(4, "+15550100004", VOICE, STATUS));
        desk.twilio.plan(&second, usize::MAX, fault);
        let (code, out, err) = desk.run(&["sync", "--all", "--apply"]).await;
        assert_eq!(code, 1, "{what}");
        let told = "1 number set, 1 failed, 2 not tried any more, 1 right already.";
        assert!(out.contains(told) && out.contains("run the same again"), "{what}: {out}");
        assert!(!out.contains("+15550100003"), "{what}: {out}");
        assert_eq!(err.matches("could not be set").count(), 1, "{what}: {err}");
        assert_eq!(desk.twilio.changes().len(), 2, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_reading_stops_nothing() {
    let desk = Desk::open(owning(3), &[("desk", "[\"*\"]")]).await;
    for arguments in [&["list"][..], &["list", "--format", "json"], &["sync", "--all"]] {
        let (code, _, err) = desk.run_to(arguments, unread, Stdio::piped).await;
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    }
    let second = format!("POST /2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/PN{:032}", 2);
    desk.twilio.plan(&second, 1, RestFault::Refuse { status: 400, code: 21402 });
    let apply = ["sync", "--all", "--apply"];
    let (code, ..) = desk.run_to(&apply, unread, unread).await;
    assert_eq!(code, 1, "one failed");
    let rings = |number: &str| desk.twilio.number(number)["voice_url"] == VOICE;
    let set = ["+15550100001", "+15550100002", "+15550100003"].map(rings);
    assert_eq!(set, [true, false, true]);
    // A disk that is full loses what was said, and not what was begun: but that is no good end.
    if cfg!(target_os = "linux") {
        let full = || std::fs::File::create("/dev/full").unwrap().into();
        let (code, _, err) = desk.run_to(&apply, full, Stdio::piped).await;
        assert!(code == 1 && err.contains("standard output cannot be written to"), "{err}");
        assert!(rings("+15550100002"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_twilio_refuses_is_a_sentence_with_what_to_do() {
    let refuse = |status, code| RestFault::Refuse { status, code };
    for (what, fault, words) in [
        ("429 for ever", refuse(429, 20429), ["error 20429", "try again in a minute"]),
        ("500 for ever", refuse(500, 20500), ["answered 500", "status.twilio.com"]),
        ("the wrong account", refuse(404, 20404), ["error 20404", "TWILIO_ACCOUNT_SID"]),
        ("garbage", RestFault::Garbage, ["not Twilio's REST interface", "TWILIO_API_URL"]),
        ("a proxy", RestFault::Proxy { status: 200 }, ["not Twilio's REST interface", "proxy"]),
        ("a login page", RestFault::Proxy { status: 401 }, ["not Twilio's REST interface", "login page"]),
        ("a suspended account", refuse(403, 20403), ["error 20403", "suspended or closed"]),
        ("a restricted key", refuse(401, 70051), ["error 70051", "restricted API key"]),
    ] {
        let desk = Desk::open(owning(1), &[("desk", "[\"+15550100001\"]")]).await;
        desk.twilio.plan("", usize::MAX, fault);
        for arguments in [&["list"][..], &["sync", "--apply"]] {
            let (code, out, err) = desk.run(arguments).await;
            assert_eq!((code, out.as_str()), (1, ""), "{what}: {err}");
            for word in words {
                assert!(err.contains(word), "{what}: {err}");
            }
        }
        assert!(desk.twilio.changes().is_empty());
    }
    let mut desk = Desk::open(owning(1), &[("desk", "[\"+15550100001\"]")]).await;
    desk.twilio.plan("", 1, refuse(429, 20429));
    assert_eq!(desk.run(&["list"]).await.0, 0, "429 once is nothing");
    desk.more.push(("TWILIO_AUTH_TOKEN", "hunter2-value".to_owned()));
    let (code, _, err) = desk.run(&["list"]).await;
    assert!(code == 1 && err.contains("error 20003") && err.contains("TWILIO_AUTH_TOKEN"), "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_before_twilio_is_asked() {
    let mut desk = Desk::open(owning(1), &[("desk", "[\"+15550100001\"]")]).await;
    for url in ["http://127.0.0.1:5050", "http://phone.example.com", "https://app.internal", ""] {
        desk.public_url = url;
        let (code, _, err) = desk.run(&["sync", "--apply"]).await;
        assert!(code == 1 && err.contains("PUBLIC_URL") && err.contains("help:"), "{url}: {err}");
        assert!(desk.twilio.requests().is_empty(), "{url}");
    }
    let (code, out, err) = desk.run(&["list"]).await;
    assert!(code == 0 && out.contains("set PUBLIC_URL") && !out.contains("right"), "{out}");
    assert_eq!(err, "", "what goes to this machine is open to nobody");
    desk.more.push(("OPENAI_REALTIME_URL", "ws://model.example.com/v1".to_owned()));
    assert_eq!(desk.run(&["list"]).await.2, "", "nothing is sent there here");
    desk.more.push(("TWILIO_API_URL", "http://nobody.invalid".to_owned()));
    let (code, _, err) = desk.run(&["list"]).await;
    assert!(
        code == 1
            && err.contains("TWILIO_API_URL starts with http://: the account's credentials")
            && !err.contains("OPENAI_REALTIME_URL"),
        "{err}"
    );
    assert!(out.contains("  rings https://demo.twilio.com/welcome/voice/\n"), "{out}");
    let asked = desk.twilio.requests().len();
    for sid in ["AC123", "PN00000000000000000000000000000001", "AC0000000000000000000000000000000X"] {
        desk.more.push(("TWILIO_ACCOUNT_SID", sid.to_owned()));
        let (code, _, err) = desk.run(&["list"]).await;
        assert!(code == 1 && err.contains("TWILIO_ACCOUNT_SID must be `AC` and 32"), "{err}");
        assert!(!err.contains(sid), "{err}");
    }
    desk.more.push(("TWILIO_ACCOUNT_SID", format!("“{ACCOUNT}”")));
    let (code, _, err) = desk.run(&["list"]).await;
    assert!(code == 1 && err.contains("TWILIO_ACCOUNT_SID has quotes around it"), "{err}");
    assert_eq!(desk.twilio.requests().len(), asked);
    desk.more.push(("TWILIO_ACCOUNT_SID", String::new()));
    desk.more.push(("TWILIO_AUTH_TOKEN", String::new()));
    let (code, _, err) = desk.run(&["list"]).await;
    assert_eq!(code, 1);
    for word in
        ["TWILIO_ACCOUNT_SID is not set", "TWILIO_AUTH_TOKEN is not set", "Twilio console", "TWILIO_API_KEY"]
    {
        assert!(err.contains(word), "{err}");
    }
    assert_eq!(desk.run(&["sync", "--now"]).await.0, 2);
    assert_eq!(desk.run(&[]).await.0, 2);
}
