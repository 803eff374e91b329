//! The records of calls, compared with what the phone heard: the real program, a real SQLite file, real sockets.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use switchboard::record::{CallRecord, Turn, Voice};
use switchboard::store::{Filter, Place, Store};
use switchboard_simulator::caller::{
    CallEnd, CallRecord as Heard, Phone, PhoneEvent, PhoneHandle, PhoneOptions,
};
use switchboard_simulator::model::{ModelOptions, ModelServer, Reply, Script, SessionLog, Speech};
use switchboard_simulator::tag;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

#[path = "records/limits.rs"]
mod limits;
#[path = "records/owners.rs"]
mod owners;

const TOKEN: &str = "12345";
const GREETING: &str = "Hello, Example Dental, how can I help?";
const LONG: &str = "We are open from Monday to Friday, from eight in the morning to six in the evening, and on the first \
                    Saturday of each month.";
const CALLER: &str = "When are you open?";
const ASSISTANT: &str = "numbers: [\"+15550100001\"]\ninstructions: You answer the phone.\n\
                         greeting: { say: \"Hello, Example Dental, how can I help?\" }\n";
/// Longer than any step of a test.
const PATIENCE: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A model whose voice names its item and millisecond.
async fn model() -> ModelServer {
    let reply = || Reply { caller_says: Some(CALLER.to_owned()), ..Reply::say(LONG) };
    let options = ModelOptions {
        think: ms(100),
        speech: Speech::Tagged,
        script: Script { replies: Vec::new(), rest: reply() },
        keep_audio: false,
        ..ModelOptions::default()
    };
    ModelServer::start(options).await.unwrap()
}

/// A tone, loud enough to be speech.
fn speech(ms: usize) -> Bytes {
    let sample = |at: usize| ((at as f64 / 8_000.0 * 220.0 * std::f64::consts::TAU).sin() * 9_000.0) as i16;
    (0..ms * 8).map(|at| switchboard_audio::encode(sample(at))).collect()
}

/// The program in a folder; killed when dropped.
struct Server {
    child: Child,
    url: String,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(folder: &Path, model: &ModelServer, environment: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(folder.join("assistants")).unwrap();
        let file = folder.join("assistants/clinic.yaml");
        if !file.exists() {
            std::fs::write(file, ASSISTANT).unwrap();
        }
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let url = format!("http://127.0.0.1:{port}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .arg("serve")
            .current_dir(folder)
            .env_clear()
            .envs([
                ("OPENAI_API_KEY", "sk-simulated"),
                ("OPENAI_REALTIME_URL", &model.url()),
                ("TWILIO_AUTH_TOKEN", TOKEN),
                ("PUBLIC_URL", &url),
                ("HOST", "127.0.0.1"),
                ("PORT", &port.to_string()),
                ("LOG_FORMAT", "json"),
                ("DRAIN_SECONDS", "0"),
            ])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stderr.take().unwrap()).lines();
        let (lines_tx, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let _ = lines_tx.send(line);
            }
        });
        let mut server = Self { child, url, lines };
        server.logged("\"Ready\"").await;
        server
    }

    /// Waits for a log line with these words.
    async fn logged(&mut self, words: &str) -> String {
        let look = async {
            loop {
                let line = self.lines.recv().await.expect("the server runs");
                if line.contains(words) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("no line with {words}"))
    }

    fn phone(&self) -> PhoneOptions {
        PhoneOptions::new(self.url.clone(), TOKEN)
    }

    /// As the system does when memory runs out.
    async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    async fn end(&mut self) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap();
        assert!(status.success());
    }
}

fn database(folder: &Path) -> Place {
    Place::Sqlite(folder.join("state/switchboard.db"))
}

/// The record of a call, once it is `right`.
async fn record(place: &Place, call: &str, right: impl Fn(&CallRecord) -> bool) -> CallRecord {
    let look = async {
        loop {
            if let Ok(store) = Store::open(place).await
                && let Ok(Some(record)) = store.get(call).await
                && right(&record)
            {
                return record;
            }
            sleep(ms(50)).await;
        }
    };
    timeout(PATIENCE, look).await.expect("there is a record")
}

/// An assistant's turn as the phone heard it, in milliseconds since the stream's start.
#[derive(Debug)]
struct Played {
    item: u16,
    start: i64,
    end: i64,
    /// How much of it was played.
    heard: i64,
}

/// What the phone played, by the tags in the audio.
fn played(phone: &Heard) -> Vec<Played> {
    let began = (phone.streams[0].started.unwrap() - phone.started).as_millis() as i64;
    let mut played: Vec<Played> = Vec::new();
    let mut at = 0;
    while at + tag::TAG_LEN <= phone.heard.len() {
        let Some((item, _)) = tag::untag(phone.heard[at..at + tag::TAG_LEN].try_into().unwrap()) else {
            at += 1;
            continue;
        };
        let now = at as i64 / 8 - began;
        match played.last_mut().filter(|last| last.item == item) {
            Some(last) => (last.end, last.heard) = (now + 1, last.heard + 1),
            None => played.push(Played { item, start: now, end: now + 1, heard: 1 }),
        }
        at += tag::TAG_LEN;
    }
    played
}

fn near(what: &str, recorded: u64, heard: i64, by: i64) {
    let off = recorded as i64 - heard;
    assert!(off.abs() <= by, "{what}: {recorded} ms in the record, {heard} ms at the phone");
}

/// Compares the assistant's turns with what the phone heard of them.
fn assert_heard(record: &CallRecord, phone: &Heard, model: &SessionLog) {
    let turns: Vec<&Turn> =
        record.turns.iter().filter(|turn| matches!(turn.voice, Voice::Assistant { .. })).collect();
    let played = played(phone);
    assert_eq!(turns.len(), played.len(), "{turns:#?} {played:#?}");
    for (turn, played) in turns.iter().zip(&played) {
        let Voice::Assistant { heard_text, sent_ms, heard_ms, .. } = &turn.voice else { unreachable!() };
        near("start", turn.start_ms, played.start, 50);
        near("end", turn.end_ms, played.end, 50);
        near("heard", *heard_ms, played.heard, 50);
        assert!(heard_ms <= sent_ms);
        let item = model.items.iter().find(|item| item.number == played.item).unwrap();
        let text = turn.text.as_deref().unwrap_or_else(|| panic!("no transcript: {turns:#?} {played:#?}"));
        let heard_text = heard_text.as_deref().expect("something was heard");
        assert!(
            item.line.starts_with(text.trim_end()) && text.starts_with(heard_text),
            "{text} | {heard_text}"
        );
        // The simulated voice says 15 characters a second.
        let words =
            |chars: usize| item.line.chars().take(chars).collect::<String>().split_whitespace().count();
        let said = |ms: i64| words((ms.max(0) as usize) * 15 / 1000);
        let (least, most) = (
            said(played.heard - 500).min(said(played.heard).saturating_sub(2)),
            said(played.heard + 500).max(said(played.heard) + 2),
        );
        let count = heard_text.split_whitespace().count();
        assert!((least..=most).contains(&count), "{count} words, of {least} to {most}: {heard_text}");
    }
}

/// Waits until the greeting was heard, and interrupts the answer.
async fn greet_and_interrupt(phone: &mut PhoneHandle) {
    assert!(phone.wait_until_quiet(ms(300)).await, "the greeting is over");
    phone.say(speech(500));
    assert!(phone.wait_until_playing_for(ms(1_500)).await, "the answer plays");
    phone.say(speech(500));
    phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_))).await.expect("the voice stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_what_the_phone_heard_and_its_call_rings_no_more_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let model = model().await;
    let mut server = Server::start(folder.path(), &model, &[]).await;
    let options = server.phone();
    let (sid, ringing) = (options.call_sid.clone(), options.clone());
    let rang = jiff::Timestamp::now();
    let mut phone = Phone::dial(options);
    greet_and_interrupt(&mut phone).await;
    assert!(phone.wait_for_reply(ms(300)).await, "the next answer is over");
    phone.hang_up();
    let heard = phone.finished().await;
    heard.assert_clean();
    let session = model.sessions().remove(0);

    let record = record(&database(folder.path()), &sid, |record| record.reason.is_some()).await;
    assert_eq!(record.reason.as_deref(), Some("caller.hung_up"));
    assert_eq!((record.assistant.as_deref(), record.broken_off), (Some("clinic"), false));
    assert_eq!(record.from.as_deref(), Some("+15550100100"));
    assert_eq!(record.to.as_deref(), Some("+15550100001"));
    assert!((record.started - rang).total(jiff::Unit::Second).unwrap().abs() < 1.0, "{}", record.started);
    let lasted = (heard.ended - heard.started).as_secs_f64();
    assert!(
        (record.seconds - lasted).abs() < 0.5,
        "{} s in the record, {lasted} at the phone",
        record.seconds
    );
    assert_eq!(record.interruptions, 1);
    assert_heard(&record, &heard, &session);
    let began = heard.streams[0].started.unwrap();
    let first = heard.streams[0].first_media.unwrap() - began;
    near("first word", record.first_word_ms.unwrap(), first.as_millis() as i64, 50);
    // The caller spoke twice, for half a second each.
    let turns: Vec<&Turn> = record.turns.iter().filter(|turn| turn.voice == Voice::Caller).collect();
    let mut spoke = heard.streams[0].speech.chunk_by(|one, next| *next - *one < ms(300));
    for turn in &turns {
        let spoke = spoke.next().expect("a turn");
        near("caller", turn.start_ms, (spoke[0] - began).as_millis() as i64, 100);
        assert_eq!(turn.text.as_deref(), Some(CALLER));
    }
    assert_eq!(turns.len(), 2);

    server.end().await;
    let mut server = Server::start(folder.path(), &model, &[]).await;
    server.logged("open nothing").await;
    let sessions = model.sessions().len();
    let again = PhoneOptions { server: server.url.clone(), public_url: server.url.clone(), ..ringing };
    let again = Phone::dial(again).finished().await;
    assert!(again.streams.is_empty(), "{:?}", again.documents);
    let another = Phone::dial(server.phone());
    assert!(another.wait_until_playing_for(ms(100)).await, "another call rings");
    assert_eq!(model.sessions().len(), sessions + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_a_record_up_to_the_last_second() {
    let folder = tempfile::tempdir().unwrap();
    let model = model().await;
    let mut server = Server::start(folder.path(), &model, &[]).await;
    let options = server.phone();
    let sid = options.call_sid.clone();
    let mut phone = Phone::dial(options);
    greet_and_interrupt(&mut phone).await;
    assert!(phone.wait_until_playing_for(ms(1_200)).await, "the next answer plays");
    // What is being said is there while it is being said.
    let running = record(&database(folder.path()), &sid, |record| record.turns.len() == 5).await;
    assert_eq!((running.reason, running.broken_off), (None, false));
    let rang = Instant::now();
    server.kill().await;
    drop(phone);
    let mut next = Server::start(folder.path(), &model, &[]).await;
    let record = record(&database(folder.path()), &sid, |record| record.broken_off).await;
    assert!(rang.elapsed() < PATIENCE);
    assert_eq!(record.reason.as_deref(), Some("server.fault"));
    let said: Vec<&str> = record.turns.iter().filter_map(|turn| turn.text.as_deref()).collect();
    assert_eq!(said[..2], [GREETING, CALLER], "{said:?}");
    assert!(LONG.starts_with(said[2].trim_end()), "{said:?}");
    let under_way = &record.turns[4];
    let Voice::Assistant { heard_ms, .. } = under_way.voice else { panic!("{record:?}") };
    assert!(heard_ms > 0 && under_way.text.is_some(), "{record:?}");
    next.end().await;
}

/// Every millisecond of the greeting, in order and without a gap.
fn assert_intact(phone: &Heard, model: &SessionLog) {
    let played = &played(phone)[0];
    let item = model.items.iter().find(|item| item.number == played.item).unwrap();
    assert_eq!((played.heard, played.end - played.start), (item.sent_ms as i64, item.sent_ms as i64));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_without_a_database() {
    // Accepts, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging_url = format!("postgres://me:secret@{}/calls", hanging.local_addr().unwrap());
    let dead = "postgres://me:secret@127.0.0.1:1/calls".to_owned();
    let folder = tempfile::tempdir().unwrap();
    // A folder is no file.
    std::fs::create_dir_all(folder.path().join("broken.db")).unwrap();
    let broken = format!("sqlite://{}", folder.path().join("broken.db").display());
    let call = async |url: &str| {
        let folder = tempfile::tempdir().unwrap();
        let model = model().await;
        let mut server = Server::start(folder.path(), &model, &[("DATABASE_URL", url)]).await;
        let mut phone = Phone::dial(server.phone());
        let rang = phone.wait_for(|event| matches!(event, PhoneEvent::Rang { .. })).await.unwrap();
        let PhoneEvent::Rang { took } = rang.event else { unreachable!() };
        assert!(took < ms(250), "{url}: the ring was answered after {took:?}");
        assert!(phone.wait_until_quiet(ms(300)).await, "the greeting is over");
        phone.hang_up();
        let heard = phone.finished().await;
        heard.assert_clean();
        assert_eq!(heard.end, CallEnd::CallerHungUp);
        assert_intact(&heard, &model.sessions()[0]);
        let ended = Instant::now();
        server.end().await;
        assert!(ended.elapsed() < Duration::from_secs(10), "{url}: it ended after {:?}", ended.elapsed());
    };
    tokio::join!(call(&hanging_url), call(&dead), call(&broken));
    drop(hanging);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stands_still_in_mid_call_costs_the_call_and_its_record_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (model, place) = (model().await, database(folder.path()));
    let mut server = Server::start(folder.path(), &model, &[]).await;
    let options = server.phone();
    let sid = options.call_sid.clone();
    let mut phone = Phone::dial(options);
    assert!(phone.wait_until_playing_for(ms(50)).await);
    record(&place, &sid, |_| true).await;
    let Place::Sqlite(file) = &place else { unreachable!() };
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    greet_and_interrupt(&mut phone).await;
    let mut next = Phone::dial(server.phone());
    let rang = next.wait_for(|event| matches!(event, PhoneEvent::Rang { .. })).await.unwrap();
    let PhoneEvent::Rang { took } = rang.event else { unreachable!() };
    assert!(took < ms(250), "the ring was answered after {took:?}");
    next.hang_up();
    next.finished().await;
    assert!(phone.wait_for_reply(ms(300)).await, "the next answer is over");
    phone.hang_up();
    let heard = phone.finished().await;
    heard.assert_clean();
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let record = record(&place, &sid, |record| record.reason.is_some()).await;
    assert_heard(&record, &heard, &model.sessions()[0]);
    assert_eq!((record.turns.len(), record.interruptions, record.broken_off), (5, 1, false));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_that_are_refused_have_short_records() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model().await);
    std::fs::write(folder.path().join("switchboard.yaml"), "record: { numbers: masked }\n").unwrap();
    let mut server = Server::start(folder.path(), &model, &[("MAX_CALLS", "1")]).await;
    let first = Phone::dial(server.phone());
    assert!(first.wait_until_playing_for(ms(50)).await, "the first call is answered");
    let busy = server.phone();
    let nobody = PhoneOptions { to: "+15550100077".to_owned(), ..server.phone() };
    let place = database(folder.path());
    for (options, reason, assistant) in
        [(busy, "refused.busy", Some("clinic")), (nobody, "refused.nobody", None)]
    {
        let sid = options.call_sid.clone();
        let heard = Phone::dial(options).finished().await;
        assert!(heard.streams.is_empty());
        let record = record(&place, &sid, |record| record.reason.is_some()).await;
        assert_eq!((record.reason.as_deref(), record.assistant.as_deref()), (Some(reason), assistant));
        assert_eq!(record.from.as_deref(), Some("+1••••••••00"), "{reason}");
        assert!(record.turns.is_empty() && !record.broken_off);
    }
    let store = Store::open(&place).await.unwrap();
    let filter = Filter { reason: Some("refused".to_owned()), ..Filter::default() };
    assert_eq!(store.list(&filter, 10).await.unwrap().len(), 2);
    first.hang_up();
    first.finished().await;
    server.end().await;
}

/// A receiver of webhooks: what came, and the status that it answers with.
async fn owner() -> (String, mpsc::UnboundedReceiver<serde_json::Value>, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (came_tx, came) = mpsc::unbounded_channel();
    let status = Arc::new(AtomicU16::new(503));
    let answer = status.clone();
    let take = async move |body: String| {
        let _ = came_tx.send(serde_json::from_str(&body).unwrap());
        axum::http::StatusCode::from_u16(answer.load(Ordering::Relaxed)).unwrap()
    };
    let routes = axum::Router::new().fallback(take);
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, came, status)
}

/// The next alert that the owner gets: its id, and whether it is well again.
async fn alert(came: &mut mpsc::UnboundedReceiver<serde_json::Value>) -> (String, bool) {
    let event = timeout(PATIENCE, came.recv()).await.expect("an alert comes").unwrap();
    assert_eq!(event["data"]["code"], "store_down", "{event}");
    (event["id"].as_str().unwrap().to_owned(), event["data"]["well"].as_bool().unwrap())
}

#[tokio::test]
async fn an_alert_about_the_database_survives_a_kill_and_is_taken_back() {
    let (url, mut came, status) = owner().await;
    let (folder, model) = (tempfile::tempdir().unwrap(), model().await);
    let file = format!(
        "alerts: {{ to: {{ webhook: {{ url: \"{url}\", secret: \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\" }} }} }}\n"
    );
    std::fs::write(folder.path().join("switchboard.yaml"), file).unwrap();
    let disk = folder.path().join("disk");
    let database = format!("sqlite://{}/calls.db", disk.display());
    let mut server = Server::start(folder.path(), &model, &[("DATABASE_URL", &database)]).await;
    let (id, well) = alert(&mut came).await;
    assert!(!well);
    server.kill().await;
    while came.try_recv().is_ok() {}
    status.store(200, Ordering::Relaxed);
    let mut server = Server::start(folder.path(), &model, &[("DATABASE_URL", &database)]).await;
    assert_eq!(alert(&mut came).await, (id, false), "it was on the disk");
    server.logged("Alerted the owner").await;
    std::fs::create_dir(&disk).unwrap();
    while !alert(&mut came).await.1 {}
    server.end().await;
    assert_eq!(std::fs::read_dir(folder.path().join("state/messages")).unwrap().count(), 0);
}
