//! `switchboard calls`, as its owner types it, with a database that the store's own code filled.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use switchboard::notice::{Purpose, Via};
use switchboard::phone::PhoneNumber;
use switchboard::provider::usage::Tokens;
use switchboard::record::{Ended, Entry, Rang, Reconnect, RecordId, Said, Spoke, ToolCall, Transfer, What};
use switchboard::store::{Fate, Message, MessageFiles, Options, Place, Recipient, Records, Store, start};

const ANNA: &str = "+15550100100";
const BERT: &str = "+15550100200";
const GOOD: &str = "01KBAAAAAA0000000000000001";
const BAD: &str = "01KBBBBBBB0000000000000002";
const RUNNING: &str = "01KBBBBBBC0000000000000003";
const NAMELESS: &str = "01KBCCCCCC0000000000000004";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// One call on its way into the store.
struct Call<'a> {
    records: &'a Records,
    id: RecordId,
}

impl<'a> Call<'a> {
    fn ring(records: &'a Records, id: &str, sid: u8, from: Option<&str>, time: &str) -> Self {
        let rang = Rang {
            call: format!("CA{sid:032}"),
            at: at(time),
            assistant: Some("pizzeria".to_owned()),
            assistant_version: Some(format!("sha256:{}", "0123456789abcdef".repeat(4))),
            from: from.map(str::to_owned),
            to: from.map(|_| "+15550100001".to_owned()),
            caller: from.map(|from| PhoneNumber::parse(from).unwrap()),
            numberless: from.is_none(),
            test: false,
            simulated: false,
            keep_until: None,
        };
        let call = Self { records, id: id.into() };
        call.note(0, What::Rang(rang));
        call.note(0, What::Started { ring_ms: 1_500 });
        call
    }

    fn note(&self, at_ms: u64, what: What) {
        self.records.file(&self.id, Entry { at_ms, what });
    }

    fn caller(&self, item: &str, start_ms: u64, end_ms: u64, text: &str) {
        let item = item.to_owned();
        self.note(end_ms, What::CallerSpoke { item: item.clone(), start_ms, end_ms });
        self.note(end_ms + 100, What::Said(Said { item, text: text.to_owned() }));
    }

    fn assistant(&self, item: &str, start_ms: u64, (heard_ms, sent_ms): (u64, u64), text: &str) {
        let item = item.to_owned();
        self.note(start_ms, What::Said(Said { item: item.clone(), text: text.to_owned() }));
        let interrupted = heard_ms < sent_ms;
        let spoke = Spoke { item: Some(item), text: None, start_ms, sent_ms, heard_ms, interrupted };
        self.note(start_ms + heard_ms, What::AssistantSpoke(spoke));
    }

    fn end(&self, reason: &str, seconds: f64, longest_silence_ms: u64) {
        let reason = reason.to_owned();
        self.note(seconds as u64 * 1_000, What::Ended(Ended { reason, seconds, longest_silence_ms }));
    }
}

/// A call as it should be, with an interruption, a tool and keys.
fn good(records: &Records) {
    let call = Call::ring(records, GOOD, 1, Some(ANNA), "2026-11-30T14:05:09Z");
    call.note(312, What::FirstWord { ms: 312 });
    call.assistant("a1", 312, (2_100, 2_100), "Hello, Mario's, how can I help?");
    call.caller("c1", 3_000, 4_500, "When do you open on Saturday?");
    let tool = ToolCall {
        name: "opening_hours".to_owned(),
        start_ms: 4_700,
        ms: 420,
        outcome: "ok".to_owned(),
        arguments: Some(r#"{"day":"saturday"}"#.to_owned()),
        result: Some("11:00-23:00".to_owned()),
    };
    call.note(5_120, What::Tool(tool));
    call.note(5_300, What::Answered { ms: 800 });
    call.assistant("a2", 5_300, (1_500, 4_000), "On Saturday we open at eleven in the morning.");
    call.caller("c2", 6_800, 7_400, "Thanks, that is enough.");
    call.note(8_000, What::Keys { keys: Some("1 2".to_owned()), count: 2 });
    call.note(8_100, What::Answered { ms: 700 });
    call.assistant("a3", 8_100, (1_000, 1_000), "Goodbye!");
    let tokens = Tokens {
        text_in: 300,
        text_in_cached: 200,
        audio_in: 512,
        text_out: 60,
        audio_out: 370,
        ..Tokens::default()
    };
    let (provider, model) = ("openai".to_owned(), "gpt-realtime-2.1".to_owned());
    call.note(9_000, What::Used { provider, model, tokens, replayed: false });
    call.note(9_100, What::Recording { path: "recordings/x.wav".to_owned() });
    call.end("assistant.ended", 11.0, 900);
}

/// A call in which much went wrong.
fn bad(records: &Records) {
    let call = Call::ring(records, BAD, 2, Some(BERT), "2026-11-30T15:00:00Z");
    call.note(2_900, What::FirstWord { ms: 2_900 });
    call.assistant("a1", 2_900, (2_000, 2_000), "Hello, Mario's.");
    call.caller("c1", 6_000, 7_000, "A margherita, please.");
    let tool = ToolCall {
        name: "order".to_owned(),
        start_ms: 7_200,
        ms: 10_000,
        outcome: "timeout".to_owned(),
        arguments: None,
        result: None,
    };
    call.note(17_200, What::Tool(tool));
    call.note(17_200, What::Anomaly { code: "tool.timeout".to_owned() });
    let reconnect = Reconnect { cause: "model.stalled".to_owned(), worked: false, silence_ms: 3_400 };
    call.note(22_000, What::Reconnected(reconnect));
    let transfer = Transfer { target: "owner".to_owned(), outcome: "no_answer".to_owned() };
    call.note(40_000, What::Transferred(transfer));
    call.end("model.stalled", 45.0, 20_000);
}

/// A folder with four calls: the good and the bad one, one that runs, and one whose file keeps no numbers.
async fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    fill(Place::Sqlite(state.join("switchboard.db"))).await;
    folder
}

async fn fill(place: Place) {
    let (records, _store, closer) = start(Options::new(place));
    good(&records);
    bad(&records);
    let call = Call::ring(&records, RUNNING, 3, Some(BERT), "2026-11-30T15:00:01Z");
    call.caller("c1", 3_000, 4_000, "Hello?");
    Call::ring(&records, NAMELESS, 4, None, "2026-12-01T09:00:00Z").end("caller.hung_up", 3.0, 0);
    closer.close(Duration::from_secs(20)).await;
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command
        .arg("calls")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().unwrap()
}

/// The standard output of a command that succeeds.
#[track_caller]
fn ok(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and standard error of a command that fails.
fn fails(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(folder, arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn ids(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let arguments = [&["list", "--format", "json"], arguments].concat();
    let rows: Vec<Value> = serde_json::from_str(&ok(folder, &arguments)).unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn calls_are_listed_and_filtered() {
    let folder = folder().await;
    let folder = folder.path();
    assert_eq!(ids(folder, &[]), [NAMELESS, RUNNING, BAD, GOOD]);
    for (arguments, expected) in [
        (&["--caller", BERT][..], &[RUNNING, BAD][..]),
        (&["--caller", "+15550100300"], &[]),
        (&["--assistant", "pizzeria", "--limit", "1"], &[NAMELESS]),
        (&["--assistant", "clinic"], &[]),
        (&["--reason", "model"], &[BAD]),
        (&["--reason", "model.stalled"], &[BAD]),
        (&["--text", "SATURDAY"], &[GOOD]),
        (&["--since", "2026-12-01"], &[NAMELESS]),
        (&["--until", "2026-11-30"], &[RUNNING, BAD, GOOD]),
        (&["--since", "2026-11-30T14:30", "--until", "2026-11-30T15:00:01Z"], &[BAD]),
        (&["--before", BAD], &[GOOD]),
        (&["--before", "01kbbbbbbc"], &[BAD, GOOD]),
        (&["--limit", "2", "--before", NAMELESS], &[RUNNING, BAD]),
    ] {
        assert_eq!(ids(folder, arguments), expected, "{arguments:?}");
    }
    let table = ok(folder, &["list"]);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    for word in ["01KBAAAAAA", ANNA, BERT, "assistant.ended", "model.stalled", "(running)"] {
        assert!(table.contains(word), "`{word}` is not in\n{table}");
    }
    // What it prints finds the call.
    ok(folder, &["show", "01KBAAAAAA"]);
    assert!(!ok(folder, &["list", "--assistant", "clinic"]).is_empty());
}

#[tokio::test]
async fn a_call_is_shown_and_explained() {
    let folder = folder().await;
    let folder = folder.path();
    insta::assert_snapshot!("show", ok(folder, &["show", GOOD]));
    insta::assert_snapshot!("explain", ok(folder, &["explain", BAD]));
    let record: Value = serde_json::from_str(&ok(folder, &["show", BAD, "--format", "json"])).unwrap();
    assert_eq!(record["version"], 2);
    assert_eq!((&record["id"], &record["reason"]), (&json!(BAD), &json!("model.stalled")));
    let findings: Value = serde_json::from_str(&ok(folder, &["explain", BAD, "--format", "json"])).unwrap();
    let codes: Vec<&str> =
        findings.as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert_eq!(
        codes,
        [
            "model.stalled",
            "first_word.slow",
            "silence.long",
            "tool.failed",
            "reconnect.failed",
            "transfer.failed"
        ]
    );
    assert_eq!(
        serde_json::from_str::<Value>(&ok(folder, &["explain", GOOD, "--format", "json"])).unwrap(),
        json!([])
    );
    // The beginning of an id, the call SID, and a call that runs.
    for (id, expected) in [("01kbaaa", GOOD), ("CA00000000000000000000000000000002", BAD), (RUNNING, RUNNING)]
    {
        let record: Value = serde_json::from_str(&ok(folder, &["show", id, "--format", "json"])).unwrap();
        assert_eq!(record["id"], expected, "{id}");
    }
    for id in ["01KBBBBB", "01KB", "CA00000000000000000000000000000009", "nobody"] {
        for command in ["show", "explain"] {
            let (code, stderr) = fails(folder, &[command, id]);
            assert_eq!(code, Some(1), "{command} {id}: {stderr}");
            assert!(!stderr.is_empty());
        }
    }
}

#[tokio::test]
async fn records_are_exported_to_a_file_or_a_pipe() {
    let folder = folder().await;
    let folder = folder.path();
    let ids = |text: &str| -> Vec<String> {
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        text.lines().map(id).collect()
    };
    for arguments in [&["export"][..], &["export", "--format", "json"]] {
        assert_eq!(ids(&ok(folder, arguments)), [NAMELESS, RUNNING, BAD, GOOD], "{arguments:?}");
    }
    std::fs::write(folder.join("calls.jsonl"), "old").unwrap();
    assert_eq!(ok(folder, &["export", "--caller", BERT, "--out", "calls.jsonl"]), "");
    assert_eq!(ids(&std::fs::read_to_string(folder.join("calls.jsonl")).unwrap()), [RUNNING, BAD]);
    // The file, the state, and nothing else.
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
    assert_eq!(fails(folder, &["export", "--out", "none/calls.jsonl"]).0, Some(1));
    let closed = Stdio::from(std::io::pipe().unwrap().1);
    assert!(program(folder, &["export"]).stdout(closed).status().unwrap().success());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(program(folder, &["export"]).stdout(full).status().unwrap().code(), Some(1));
}

#[tokio::test]
async fn a_caller_is_erased_only_when_that_is_confirmed() {
    let folder = folder().await;
    let folder = folder.path();
    assert_eq!(fails(folder, &["erase", "--caller", ANNA]).0, Some(2));
    assert_eq!(ids(folder, &["--caller", ANNA]), [GOOD]);
    let recordings = folder.join("state/recordings");
    std::fs::create_dir_all(&recordings).unwrap();
    for name in ["x.wav", "y.wav"] {
        std::fs::write(recordings.join(name), "RIFF").unwrap();
    }
    let erased = ok(folder, &["erase", "--caller", ANNA, "--yes", "--format", "json"]);
    let erased: Value = serde_json::from_str(&erased).unwrap();
    assert_eq!(
        (&erased["calls"], &erased["recordings"], &erased["unknown"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(ids(folder, &[]), [NAMELESS, RUNNING, BAD]);
    let left: Vec<_> =
        std::fs::read_dir(&recordings).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["y.wav"]);
    let again = ok(folder, &["erase", "--caller", ANNA, "--yes", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["calls"], 0);
}

#[tokio::test]
async fn what_cannot_be_erased_is_said_and_keeps_no_recording() {
    let folder = folder().await;
    let folder = folder.path();
    let state = folder.join("state");
    std::fs::create_dir_all(state.join("recordings")).unwrap();
    std::fs::write(state.join("recordings/x.wav"), "RIFF").unwrap();
    // A file that is in the way of a folder, and somebody who reads in the way of the log's end.
    std::fs::write(state.join("waiting"), "").unwrap();
    let url = format!("sqlite://{}", state.join("switchboard.db").display());
    let reader = sqlx::SqlitePool::connect(&url).await.unwrap();
    let mut reading = reader.begin().await.unwrap();
    sqlx::query("SELECT * FROM calls").fetch_all(&mut *reading).await.unwrap();
    let output = run(folder, &["erase", "--caller", ANNA, "--yes", "--format", "json"]);
    drop(reading);
    assert_eq!(output.status.code(), Some(1));
    let erased: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&erased["calls"], &erased["recordings"]), (&json!(1), &json!(1)));
    let left: Vec<_> = erased["left"].as_array().unwrap().iter().map(|left| &left["what"]).collect();
    assert_eq!(left, ["database_files", "waiting_files"]);
    assert!(!state.join("recordings/x.wav").exists());
    std::fs::remove_file(state.join("waiting")).unwrap();
    // Again, and nothing is left.
    let again = ok(folder, &["erase", "--caller", ANNA, "--yes", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["left"], json!([]));
}

#[tokio::test]
async fn a_caller_is_erased_from_files_that_wait_for_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let state = folder.join("state");
    std::fs::create_dir_all(state.join("recordings")).unwrap();
    std::fs::write(state.join("recordings/x.wav"), "RIFF").unwrap();
    let messages = MessageFiles::new(&state);
    let [anna, bert] = [("msg_1", ANNA), ("msg_2", BERT)].map(|(id, caller)| {
        let to = Recipient { assistant: "pizzeria".to_owned(), purpose: Purpose::Message, via: Via::Email };
        let message = Message {
            id: id.to_owned(),
            call: None,
            to,
            caller: PhoneNumber::parse(caller).ok(),
            taken: 1_790_000_000,
            body: "{}".to_owned(),
            keep: Duration::from_secs(3_600),
        };
        messages.put(&message).unwrap();
        message
    });
    // The folder of the database is not there.
    let place = Place::Sqlite(folder.join("gone/switchboard.db"));
    let waiting = state.join("waiting");
    let (records, _store, closer) = start(Options { spill: Some(waiting.clone()), ..Options::new(place) });
    good(&records);
    bad(&records);
    closer.close(Duration::ZERO).await;
    let waits = |number: &str| {
        let files = std::fs::read_dir(&waiting).unwrap();
        files.flatten().any(|file| std::fs::read_to_string(file.path()).unwrap().contains(number))
    };
    assert!(waits(ANNA) && waits(BERT), "they wait");
    let mut erase = program(folder, &["erase", "--caller", ANNA, "--yes", "--format", "json"]);
    let output = erase.env("DATABASE_URL", "sqlite://gone/switchboard.db").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let erased: Value = serde_json::from_slice(&output.stdout).unwrap();
    for what in ["calls", "recordings", "messages"] {
        assert_eq!(erased[what], 1, "{what}");
    }
    assert!(!waits(ANNA) && waits(BERT));
    assert!(!state.join("recordings/x.wav").exists());
    assert!(!messages.has(&anna) && messages.has(&bert));
    assert!(!folder.join("gone").exists(), "nothing is created");
}

#[test]
fn without_a_database_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(!ok(folder, &["list"]).is_empty());
    assert_eq!(ok(folder, &["list", "--format", "json"]), "[]\n");
    assert_eq!(ok(folder, &["export"]), "");
    let erased = ok(folder, &["erase", "--caller", ANNA, "--yes", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&erased).unwrap()["calls"], 0);
    for command in ["show", "explain"] {
        assert_eq!(fails(folder, &[command, GOOD]).0, Some(1));
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[tokio::test]
async fn commands_leave_the_schema_of_another_version_alone() {
    let folder = folder().await;
    let folder = folder.path();
    let file = folder.join("state/switchboard.db");
    let steps = async |before: &str| {
        let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(before.to_owned())).execute(&database).await.unwrap();
        let count = "SELECT count(*) FROM _sqlx_migrations";
        let count: i64 = sqlx::query_scalar(count).fetch_one(&database).await.unwrap();
        database.close().await;
        count
    };
    // As the first version made it.
    let first = steps("DROP TABLE messages; DELETE FROM _sqlx_migrations WHERE version > 1").await;
    for arguments in [&["list"][..], &["show", GOOD], &["export"], &["erase", "--caller", ANNA, "--yes"]] {
        assert_eq!(fails(folder, arguments).0, Some(1), "{arguments:?}");
    }
    assert_eq!((first, steps("").await), (1, 1));
    drop(Store::open(&Place::Sqlite(file.clone())).await.unwrap());
    assert_eq!(ids(folder, &[]), [NAMELESS, RUNNING, BAD, GOOD]);
}

#[test]
fn a_database_that_cannot_be_read_is_an_error_and_wrong_usage_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("notes"), "This is no database. ".repeat(100)).unwrap();
    for url in ["sqlite://notes", "mysql://me:secret@example.com/calls"] {
        let output = program(folder, &["list"]).env("DATABASE_URL", url).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{url}: {stderr}");
        assert!(!stderr.contains("secret") && !stderr.contains("panicked"), "{stderr}");
    }
    for arguments in [
        &["list", "--since", "yesterday"][..],
        &["list", "--caller", "5550100100"],
        &["list", "--reason", "model.tired"],
        &["list", "--limit", "0"],
        &["erase", "--yes"],
        &["show"],
        &[],
    ] {
        assert_eq!(run(folder, arguments).status.code(), Some(2), "{arguments:?}");
    }
    // A wrong reason lists the right ones.
    let (_, stderr) = fails(folder, &["list", "--reason", "model.tired"]);
    assert!(stderr.contains("model.lost") && stderr.contains("caller.hung_up"), "{stderr}");
}

/// A message for one way to the owner.
fn message(id: &str, purpose: Purpose, via: Via, body: &str) -> Message {
    Message {
        id: id.to_owned(),
        call: Some("CA1".to_owned()),
        to: Recipient { assistant: "pizzeria".to_owned(), purpose, via },
        caller: PhoneNumber::parse(ANNA).ok(),
        taken: 1_790_000_000,
        body: body.to_owned(),
        keep: Duration::from_secs(3_600),
    }
}

/// A folder with a message that goes two ways, one that was delivered, a text that may have been sent, and one in a file.
async fn messages() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let store = Store::open(&Place::Sqlite(state.join("switchboard.db"))).await.unwrap();
    let email = r#"{"subject":"Pizzeria: a message","text":"Caller: Anna\nMessage: A \u001b[31mmargherita"}"#;
    let event = r#"{"type":"message.taken","data":{"fields":{"name":"Anna"}}}"#;
    let given_up = |error: &str| Fate::GivenUp { error: error.to_owned() };
    for (message, fate) in [
        (message("msg_aaaaaaaaaa", Purpose::Message, Via::Webhook, event), Fate::Waiting),
        (message("msg_aaaaaaaaaa.email", Purpose::Message, Via::Email, email), given_up("smtp.login")),
        (message("ntf_bbbbbbbbbb.sms", Purpose::Notification, Via::Sms, "{}"), given_up("unclear")),
        (message("alr_cccccccccc", Purpose::Alert, Via::Webhook, event), Fate::Delivered),
    ] {
        assert!(store.put_message(&message, &fate).await.unwrap());
    }
    MessageFiles::new(&state)
        .put(&message("msg_dddddddddd.email", Purpose::Message, Via::Email, email))
        .unwrap();
    (folder, store)
}

fn of_messages(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.arg("messages").args(arguments).current_dir(folder).env_clear().env("TZ", "UTC");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn listed(folder: &Path, arguments: &[&str]) -> Vec<(String, String, Option<String>)> {
    let (code, out, err) = of_messages(folder, &[&["list", "--format", "json"], arguments].concat());
    assert_eq!(code, Some(0), "{err}");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    rows.iter()
        .map(|row| (text(row, "id").unwrap(), text(row, "state").unwrap(), text(row, "error")))
        .collect()
}

#[tokio::test]
async fn messages_are_listed_without_their_words_shown_and_tried_again() {
    let (folder, _store) = messages().await;
    let folder = folder.path();
    let row =
        |id: &str, state: &str, error: Option<&str>| (id.into(), state.into(), error.map(str::to_owned));
    let unclear = row("ntf_bbbbbbbbbb.sms", "given_up", Some("unclear"));
    let expected = [
        row("alr_cccccccccc", "delivered", None),
        row("msg_aaaaaaaaaa", "waiting", None),
        row("msg_aaaaaaaaaa.email", "given_up", Some("smtp.login")),
        row("msg_dddddddddd.email", "waiting", None),
        unclear.clone(),
    ];
    assert_eq!(listed(folder, &[]), expected);
    assert_eq!(listed(folder, &["--state", "given_up"]), [expected[2].clone(), unclear.clone()]);
    assert_eq!(listed(folder, &["--limit", "1"]), expected[..1]);
    let (_, table, _) = of_messages(folder, &["list"]);
    assert!(table.contains("msg_aaaaaaaa") && !table.contains("Anna") && !table.contains(ANNA), "{table}");

    let shown = |id: &str| of_messages(folder, &["show", id]).1;
    let both = shown("msg_aaaaaa");
    assert!(both.contains("\"name\": \"Anna\"") && both.contains("Pizzeria: a message"), "{both}");
    let one = shown("msg_aaaaaa.email");
    assert!(one.contains("Message: A  [31mmargherita") && !one.contains("\"name\""), "{one}");
    assert!(shown("msg_dddddd").contains("margherita"), "it is in a file");
    assert!(!shown("alr_cccccc").contains("Anna"), "it is delivered");
    for id in ["msg_zzzzzz", "msg_", "", "msg_aaaaaa.sms"] {
        assert_eq!(of_messages(folder, &["show", id]).0, Some(1), "{id}");
    }

    // All but the text that may have been sent, which its id alone sends again.
    assert_eq!(of_messages(folder, &["retry"]).0, Some(0));
    assert_eq!(listed(folder, &["--state", "given_up"]), [unclear]);
    let (code, out, _) = of_messages(folder, &["retry", "ntf_bbbbbb", "--format", "json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (Some(0), json!({"retried": 1})));
    assert!(listed(folder, &["--state", "given_up"]).is_empty());
    for id in ["alr_cccccc", "msg_dddddd", "msg_zzzzzz"] {
        assert_eq!(of_messages(folder, &["retry", id]).0, Some(1), "{id}");
    }
    assert_eq!(of_messages(folder, &["list", "--state", "lost"]).0, Some(2));
}

#[test]
fn without_a_database_there_are_no_messages() {
    let folder = tempfile::tempdir().unwrap();
    assert!(listed(folder.path(), &[]).is_empty());
    assert_eq!(of_messages(folder.path(), &["retry"]).0, Some(0));
    assert!(!folder.path().join("state").exists(), "nothing is created");
}
