//! Several machines of one app behind Fly's proxy. Each is the real program in its own process.

mod deploy;
mod handover;
mod machine;
mod proxy;
mod standstill;

use std::time::{Duration, Instant};

use machine::Machine;
use proxy::Proxy;
use switchboard_simulator::caller::{
    Act, CallEnd, CallRecord, Line, Phone, PhoneHandle, PhoneOptions, StreamEnd, When, sign,
};
use switchboard_simulator::model::{ModelOptions, ModelServer, Reply, Script, Speech};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const TOKEN: &str = "12345";
/// Held by tests with many calls at once: a small machine cannot run two of them in real time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Longer than any call here.
const PATIENCE: Duration = Duration::from_secs(60);
/// The calls of requests that no simulated phone sends.
const CA1: &str = "CA00000000000000000000000000000001";
const CA2: &str = "CA00000000000000000000000000000002";
const CA3: &str = "CA00000000000000000000000000000003";
const FIRST: &str = "0000000000000a";
const SECOND: &str = "0000000000000b";

/// Parts of the log lines that tests wait for: a field of the line if it has one of its own, else its text.
mod log {
    pub const DRAINING: &str = r#""drain_secs":"#;
    pub const PARKED: &str = r#""away":"#;
    pub const GIVEN_UP: &str = "Another machine took the call over";
    pub const TAKEN_OVER: &str = "Took over a call of another machine";
    pub const NO_START: &str = "The stream did not start";
    pub const GOODBYES: &str = "Saying goodbye to the remaining calls";
}

const ASSISTANT: &str = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { say: "Hello." }
call_control: { end_call: true }
limits: { silence: 10m }
on_failure: { say: "Sorry, something broke." }
"#;

/// The model, the proxy, and the folder of all machines.
struct App {
    model: ModelServer,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl App {
    /// An app whose assistant answers every turn with a goodbye and ends the call.
    async fn new() -> Self {
        Self::with(ASSISTANT, Vec::new()).await
    }

    /// An app whose model gives these replies first.
    async fn with(assistant: &str, replies: Vec<Reply>) -> Self {
        let script = Script { replies, rest: Reply::say("Bye.").and_call("end_call", "{}") };
        let options = ModelOptions {
            think: Duration::from_millis(30),
            speech: Speech::Tagged,
            script,
            ..ModelOptions::default()
        };
        let model = ModelServer::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assistants")).unwrap();
        std::fs::write(folder.path().join("assistants/clinic.yaml"), assistant).unwrap();
        Self { model, proxy: Proxy::start().await, folder }
    }

    /// Starts a machine and adds it to the proxy.
    async fn machine(&self, id: &str, settings: &[(&str, &str)]) -> Machine {
        let url = self.model.url();
        let usual = [
            ("FLY_APP_NAME", "phone"),
            ("OPENAI_API_KEY", "sk-simulated"),
            ("OPENAI_REALTIME_URL", url.as_str()),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("PUBLIC_URL", &self.proxy.url),
            ("PEER_URL", &self.proxy.peers),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
        ];
        let environment: Vec<_> = usual.iter().chain(settings).copied().collect();
        let machine = Machine::start(id, self.folder.path(), &environment).await;
        self.proxy.add(id, &machine.address);
        machine
    }

    /// A caller who hears the greeting, presses a key and hears a goodbye.
    fn short_call(&self) -> PhoneOptions {
        let line = |when, act| Line { when, act };
        let script = vec![
            line(When::Stream(1), Act::Nothing),
            line(When::Quiet(Duration::from_millis(20)), Act::Press('1')),
            line(When::After(Duration::ZERO), Act::Press('#')),
        ];
        PhoneOptions { script, ..self.long_call() }
    }

    /// A caller who says nothing and stays on the line.
    fn long_call(&self) -> PhoneOptions {
        let mut options = PhoneOptions::new(self.proxy.url.clone(), TOKEN);
        options.keep_audio = false;
        options.status_callback = true;
        options
    }
}

async fn finished(phone: PhoneHandle) -> CallRecord {
    timeout(PATIENCE, phone.finished()).await.expect("the call ends in time")
}

/// The caller heard the greeting and the whole goodbye, and no apology, error or long silence.
fn assert_went_well(record: &CallRecord) {
    let details = || format!("{:?}\n{:?}\n{:?}", record.end, record.documents, record.streams);
    assert!(record.violations.is_empty(), "{:?}\n{}", record.violations, details());
    assert_eq!(record.end, CallEnd::HungUp, "{}", details());
    assert!(record.said.is_empty(), "an apology: {:?}\n{}", record.said, details());
    let last = record.documents.last().expect("the call was answered");
    assert!(last.twiml.ends_with("<Response><Hangup/></Response>"), "{}", details());
    let stream = record.streams.last().expect("there was a stream");
    assert!(matches!(stream.end, StreamEnd::ServerClosed { .. }), "{}", details());
    // The caller's key cut off what was not played; the goodbye was played to its end.
    let cut: u64 = stream.clears.iter().map(|clear| clear.dropped).sum();
    let before = stream.clears.last().map_or(0, |clear| clear.total_played);
    assert!(stream.bytes_played + cut == stream.bytes_received, "{}", details());
    assert!(stream.bytes_played > before, "{}", details());
    assert!(silence(record) < Duration::from_secs(10), "silence for {:?}", silence(record));
}

/// The time from the first ring to the first word.
fn silence(record: &CallRecord) -> Duration {
    let words = record.streams.iter().filter_map(|stream| stream.first_media).min();
    words.expect("the assistant spoke") - record.started
}

/// Prints figures for manual runs.
fn report(what: &str, records: &[CallRecord]) {
    let mut silences: Vec<_> = records.iter().map(silence).collect();
    silences.sort();
    let (half, most) = (silences[silences.len() / 2], silences[silences.len() - 1]);
    println!("{what}: {} calls, first word after {half:?}, at most {most:?}", records.len());
}

/// No ticket admitted two streams, and every stream of every call was admitted.
fn assert_each_ticket_once(proxy: &Proxy, records: &[CallRecord]) {
    let mut tickets: Vec<_> = proxy.seen().streams.into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(tickets.len(), records.iter().map(|record| record.streams.len()).sum::<usize>());
    tickets.sort();
    tickets.dedup();
    assert_eq!(tickets.len(), proxy.seen().streams.len(), "a ticket was used twice");
}

/// Makes these calls, `at_once` at a time.
async fn ring_all(phones: Vec<PhoneOptions>, at_once: usize) -> Vec<CallRecord> {
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut calls = tokio::task::JoinSet::new();
    for options in phones {
        let place = room.clone().acquire_owned().await.unwrap();
        calls.spawn(async move {
            let record = finished(Phone::dial(options)).await;
            drop(place);
            record
        });
    }
    calls.join_all().await
}

/// Sends a raw request; returns the status and the head of the answer.
async fn http(address: &str, request: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        if timeout(PATIENCE, socket.read_buf(&mut answer)).await.expect("an answer").unwrap() == 0 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&answer).into_owned();
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), head)
}

/// Sends an upgrade request with additional headers.
async fn knock(address: &str, path: &str, more: &str) -> (u16, String) {
    http(address, &upgrade(path, more)).await
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_are_shared_by_two_machines() {
    let _alone = ALONE.lock().await;
    let app = App::new().await;
    let mut machines = [app.machine(FIRST, &[]).await, app.machine(SECOND, &[]).await];
    let phones = (0..200).map(|_| app.short_call()).collect();
    let records = ring_all(phones, 40).await;
    assert_eq!(records.len(), 200);
    records.iter().for_each(assert_went_well);
    report("two machines", &records);
    assert!(records.iter().all(|record| record.streams.len() == 1), "each stream succeeded at the first try");
    assert_each_ticket_once(&app.proxy, &records);
    let seen = app.proxy.seen();
    // Half of the streams and webhooks reached the wrong machine.
    assert!(seen.replayed > 50 && seen.peers.len() > 50, "{} {}", seen.replayed, seen.peers.len());
    assert_eq!(
        (seen.fell_back, seen.elsewhere("/incoming-call"), seen.elsewhere("/after-stream/")),
        (0, 0, 0)
    );
    assert!(seen.peers.iter().all(|(path, status)| path.starts_with("/after-stream/") && *status == 200));
    let ended: Vec<_> =
        machines.iter().map(|machine| machine.logged(r#""reason":"assistant.ended""#)).collect();
    assert_eq!(ended.iter().sum::<usize>(), 200, "{ended:?}");
    for machine in &mut machines {
        machine.signal("-TERM").await;
        assert_eq!(machine.ended(Duration::from_secs(10)).await, Some(0));
        assert_eq!(machine.logged("5550100"), 0, "no number is logged");
    }
    app.model.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_call_reaches_its_machine() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    app.proxy.rule("/call-status", SECOND);
    ring(&app, &first, CA1).await;
    let tell = async |call: &str| {
        let address = app.proxy.url.trim_start_matches("http://");
        post_status(&app.proxy.url, address, "/call-status", call, "completed", "").await.0
    };
    // The caller hung up before the stream.
    assert_eq!(tell(CA1).await, 204);
    until(|| first.logged(r#""reason":"caller.hung_up""#) == 1).await;
    assert_eq!(app.proxy.seen().elsewhere("/call-status"), 1, "the call's machine forwards nothing");
    // An unknown call is not passed on for long.
    assert_eq!(tell(CA2).await, 204);
    assert_eq!(app.proxy.seen().elsewhere("/call-status"), 4);
    assert_eq!(second.logged(r#""reason":"#), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_forwarded_once_and_finally_answered_from_the_roster() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, CA1).await;
    let ask = async |call: &str, more: &str| {
        let path = format!("/after-stream/{ticket}");
        post(&app, &second.address, &path, call, more).await
    };
    // A request that is marked as forwarded is never forwarded again, even if the mark is forged.
    assert_eq!(ask(CA1, "switchboard-forwarded: 1\r\n").await.0, 404);
    assert!(app.proxy.seen().peers.is_empty());
    let (status, answer) = ask(CA1, "").await;
    assert_eq!(status, 200);
    assert!(
        answer.contains("text/xml") && answer.contains("<Stream "),
        "the issuing machine retries: {answer}"
    );
    // The machine hangs: waiting longer does not help, so the assistant's own apology is used.
    first.signal("-STOP").await;
    let (_, answer) = ask(CA1, "").await;
    assert!(!answer.contains("fly-replay") && answer.contains("Sorry, something broke."), "{answer}");
    // The machine is dead: another one may know the call; otherwise the assistant's own apology is used.
    first.signal("-KILL").await;
    first.ended(PATIENCE).await;
    let (_, answer) = ask(CA1, "").await;
    assert!(answer.contains("fly-replay: elsewhere=true;"), "{answer}");
    for replayed in ["fly-replay-src: instance=x\r\n", "fly-replay-failed: x\r\n"] {
        let asked = app.proxy.seen().peers.len();
        let (_, answer) = ask(CA1, replayed).await;
        assert!(answer.contains("Sorry, something broke."), "{answer}");
        assert_eq!(app.proxy.seen().peers.len(), asked + 1, "its own machine may be back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_machine_gets_no_replay() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let ticket = ring(&app, &first, CA1).await;
    first.signal("-STOP").await;
    // The other machine has no such assistant.
    let file = |name: &str| app.folder.path().join("assistants").join(name);
    std::fs::rename(file("clinic.yaml"), file("desk.yaml")).unwrap();
    let second = app.machine(SECOND, &[]).await;
    let path = format!("/after-stream/{ticket}");
    let (_, answer) = post(&app, &second.address, &path, CA1, "").await;
    assert!(!answer.contains("fly-replay") && answer.contains("Sorry, something went wrong."), "{answer}");
}

/// A slow machine names another one, which hangs. The caller hears nothing in the meantime.
#[tokio::test(flavor = "multi_thread")]
async fn slow_machines_have_two_seconds_in_total() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let path = format!("/after-stream/{}", ring(&app, &first, CA1).await);
    let peers = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let form = format!("http://{}/{{machine}}", peers.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut slow, _) = peers.accept().await.unwrap();
        let _ = slow.read(&mut [0; 4096]).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let answer = "HTTP/1.1 404 Not Found\r\nswitchboard-ask: m3\r\nContent-Length: 0\r\n\r\n";
        slow.write_all(answer.as_bytes()).await.unwrap();
        let _hangs = (slow, peers.accept().await);
        std::future::pending::<()>().await;
    });
    let second = app.machine(SECOND, &[("PEER_URL", &form)]).await;
    let asked = Instant::now();
    let (_, answer) = post(&app, &second.address, &path, CA1, "").await;
    let took = asked.elapsed();
    assert!(answer.contains("Sorry, something broke."), "{answer}");
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_millis(3_200), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_fly_the_server_also_listens_on_the_private_network() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("there is no IPv6 here");
        return;
    }
    let app = App::new().await;
    let machine = app.machine(FIRST, &[("HOST", "")]).await;
    let port = machine.address.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "[::1]"] {
        let request = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert_eq!(http(&format!("{host}:{port}"), request).await.0, 200, "{host}");
    }
}

/// An app whose assistant presses keys, which takes longer than a test, and then continues.
async fn presses_keys() -> App {
    let digits = format!(r#"{{"digits":"1{}"}}"#, "w".repeat(31));
    let press = Reply::say("One moment.").and_call("send_digits", digits);
    let assistant = ASSISTANT.replace("end_call: true", "end_call: true, send_digits: true");
    App::with(&assistant, vec![press]).await
}

/// Waits until the call is parked at this machine; returns the ticket for its return.
async fn way_back(app: &App, machine: &Machine, call: &str) -> String {
    until(|| machine.logged(log::PARKED) == 1).await;
    let (ticket, _) = app.proxy.seen().streams[0].clone();
    let (_, answer) = post(app, &machine.address, &format!("/after-stream/{ticket}"), call, "").await;
    stream_of(&answer).expect("a stream for the return").to_owned()
}

/// Waits until a condition holds.
async fn until(so: impl Fn() -> bool) {
    let asked = Instant::now();
    while !so() {
        assert!(asked.elapsed() < PATIENCE, "the condition never held");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends an incoming call to this machine; returns the ticket.
async fn ring(app: &App, machine: &Machine, call: &str) -> String {
    let (status, answer) = post(app, &machine.address, "/incoming-call", call, "").await;
    assert_eq!(status, 200, "{answer}");
    stream_of(&answer).expect("the answer opens a stream").to_owned()
}

/// The ticket in an answer that opens a stream.
fn stream_of(answer: &str) -> Option<&str> {
    answer.split("/media-stream/").nth(1)?.split('"').next()
}

/// A webhook about a call, signed as Twilio signs it.
async fn post(app: &App, address: &str, path: &str, call: &str, more: &str) -> (u16, String) {
    post_to(&app.proxy.url, address, path, call, more).await
}

/// The same, with `base` as the app's address at Twilio.
async fn post_to(base: &str, address: &str, path: &str, call: &str, more: &str) -> (u16, String) {
    post_status(base, address, path, call, "in-progress", more).await
}

/// The same, with this call status.
async fn post_status(
    base: &str,
    address: &str,
    path: &str,
    call: &str,
    status: &str,
    more: &str,
) -> (u16, String) {
    let form = [("CallSid", call), ("From", "+15550100100"), ("To", "+15550100001"), ("CallStatus", status)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let code = sign(TOKEN, &format!("{base}{path}"), &form);
    let body = format!("CallSid={call}&From=%2B15550100100&To=%2B15550100001&CallStatus={status}");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Twilio-Signature: {code}\r\n{more}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

/// The header with which Twilio signs an upgrade.
fn signature(app: &App, path: &str) -> String {
    let url = app.proxy.url.replacen("http", "ws", 1);
    format!("X-Twilio-Signature: {}\r\n", sign(TOKEN, &format!("{url}{path}"), &[]))
}
