//! Several machines of one app behind Fly's proxy: each is the real program, in a process of its own.

mod deploy;
mod handover;
mod machine;
mod proxy;

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
/// Held by tests with many calls at once: two of them are more than a small machine carries in real time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Longer than any call here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST: &str = "0000000000000a";
const SECOND: &str = "0000000000000b";

const ASSISTANT: &str = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { say: "Hello." }
call_control: { end_call: true }
limits: { silence: 10m }
on_failure: { say: "Sorry, something broke." }
"#;

/// The model, the proxy, and the folder that every machine has.
struct App {
    model: ModelServer,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl App {
    /// Whatever the caller does, the assistant says goodbye and ends the call.
    async fn new() -> Self {
        Self::with(ASSISTANT, Vec::new()).await
    }

    /// The model answers the caller's first turns so.
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

    /// Starts a machine that the proxy knows.
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

    /// A caller who hears the greeting, presses a key and is told goodbye.
    fn short_call(&self) -> PhoneOptions {
        let line = |when, act| Line { when, act };
        let script = vec![
            line(When::Stream(1), Act::Nothing),
            line(When::Quiet(Duration::from_millis(20)), Act::Press('1')),
            line(When::After(Duration::ZERO), Act::Press('#')),
        ];
        PhoneOptions { script, ..self.long_call() }
    }

    /// A caller who says nothing, and stays.
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

/// The caller was spoken to from the first second, heard the goodbye to its end, and nothing else: no line of
/// Twilio's own voice, no error, no silence.
fn assert_went_well(record: &CallRecord) {
    let told = || format!("{:?}\n{:?}\n{:?}", record.end, record.documents, record.streams);
    assert!(record.violations.is_empty(), "{:?}\n{}", record.violations, told());
    assert_eq!(record.end, CallEnd::HungUp, "{}", told());
    assert!(record.said.is_empty(), "somebody apologised: {:?}\n{}", record.said, told());
    let last = record.documents.last().expect("it was answered");
    assert!(last.twiml.ends_with("<Response><Hangup/></Response>"), "{}", told());
    let stream = record.streams.last().expect("there was a stream");
    assert!(matches!(stream.end, StreamEnd::ServerClosed { .. }), "{}", told());
    // What was not played, the caller cut off by a key; the last words were not among it.
    let cut: u64 = stream.clears.iter().map(|clear| clear.dropped).sum();
    let before = stream.clears.last().map_or(0, |clear| clear.total_played);
    assert!(stream.bytes_played + cut == stream.bytes_received, "{}", told());
    assert!(stream.bytes_played > before, "{}", told());
    assert!(silence(record) < Duration::from_secs(10), "nobody spoke for {:?}", silence(record));
}

/// From the first ring to the first word.
fn silence(record: &CallRecord) -> Duration {
    let words = record.streams.iter().filter_map(|stream| stream.first_media).min();
    words.expect("somebody spoke") - record.started
}

/// For whoever runs it by hand.
fn report(what: &str, records: &[CallRecord]) {
    let mut silences: Vec<_> = records.iter().map(silence).collect();
    silences.sort();
    let (half, most) = (silences[silences.len() / 2], silences[silences.len() - 1]);
    println!("{what}: {} calls, first word after {half:?}, at most {most:?}", records.len());
}

/// No ticket let two streams in, and every stream of every call was let in somewhere.
fn assert_each_ticket_once(proxy: &Proxy, records: &[CallRecord]) {
    let mut tickets: Vec<_> = proxy.seen().streams.into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(tickets.len(), records.iter().map(|record| record.streams.len()).sum::<usize>());
    tickets.sort();
    tickets.dedup();
    assert_eq!(tickets.len(), proxy.seen().streams.len(), "a ticket was used twice");
}

/// Rings with these phones, so many at a time.
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

/// The status of a request by hand, and its head.
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

/// An upgrade by hand, with these headers besides.
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
async fn two_hundred_calls_that_wander_between_two_machines() {
    let _alone = ALONE.lock().await;
    let app = App::new().await;
    let mut machines = [app.machine(FIRST, &[]).await, app.machine(SECOND, &[]).await];
    let phones = (0..200).map(|_| app.short_call()).collect();
    let records = ring_all(phones, 40).await;
    assert_eq!(records.len(), 200);
    records.iter().for_each(assert_went_well);
    report("two machines", &records);
    assert!(records.iter().all(|record| record.streams.len() == 1), "each stream came at the first try");
    assert_each_ticket_once(&app.proxy, &records);
    let seen = app.proxy.seen();
    // Half of the streams came to the wrong machine, and half of the questions.
    assert!(seen.replayed > 50 && seen.peers.len() > 50, "{} {}", seen.replayed, seen.peers.len());
    assert_eq!(
        (seen.fell_back, seen.elsewhere("/incoming-call"), seen.elsewhere("/after-stream/")),
        (0, 0, 0)
    );
    assert!(seen.peers.iter().all(|(path, status)| path.starts_with("/after-stream/") && *status == 200));
    let ended: Vec<_> =
        machines.iter().map(|machine| machine.told(r#""reason":"assistant.ended""#)).collect();
    assert_eq!(ended.iter().sum::<usize>(), 200, "{ended:?}");
    for machine in &mut machines {
        machine.signal("-TERM").await;
        assert_eq!(machine.ended(Duration::from_secs(10)).await, Some(0));
        assert_eq!(machine.told("5550100"), 0, "no number is logged");
    }
    app.model.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_machine_is_told_that_a_call_is_over_its_own_machine_hears_of_it() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    app.proxy.rule("/call-status", SECOND);
    ring(&app, &first, "CA1").await;
    let tell = async |call: &str| {
        let address = app.proxy.url.trim_start_matches("http://");
        post_status(&app.proxy.url, address, "/call-status", call, "completed", "").await.0
    };
    // They hung up before a stream came.
    assert_eq!(tell("CA1").await, 204);
    until(|| first.told(r#""reason":"caller.hung_up""#) == 1).await;
    assert_eq!(app.proxy.seen().elsewhere("/call-status"), 1, "who has the call sends the news to nobody");
    // A call that nobody knows does not wander for long.
    assert_eq!(tell("CA2").await, 204);
    assert_eq!(app.proxy.seen().elsewhere("/call-status"), 4);
    assert_eq!(second.told(r#""reason":"#), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_passed_on_once_and_answered_by_the_roster_at_last() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, "CA1").await;
    let ask = async |call: &str, more: &str| {
        let path = format!("/after-stream/{ticket}");
        post(&app, &second.address, &path, call, more).await
    };
    // What is marked as passed on is passed on to nobody, whoever marked it.
    assert_eq!(ask("CA1", "switchboard-forwarded: 1\r\n").await.0, 404);
    assert!(app.proxy.seen().peers.is_empty());
    let (status, answer) = ask("CA1", "").await;
    assert_eq!(status, 200);
    assert!(
        answer.contains("text/xml") && answer.contains("<Stream "),
        "the issuer tries once more: {answer}"
    );
    // It hangs: more silence would not wake it, so the assistant's own words hold.
    first.signal("-STOP").await;
    let (_, answer) = ask("CA1", "").await;
    assert!(!answer.contains("fly-replay") && answer.contains("Sorry, something broke."), "{answer}");
    // It is gone: any other machine may know the call; then the assistant's own words hold.
    first.signal("-KILL").await;
    first.ended(PATIENCE).await;
    let (_, answer) = ask("CA1", "").await;
    assert!(answer.contains("fly-replay: elsewhere=true;"), "{answer}");
    for replayed in ["fly-replay-src: instance=x\r\n", "fly-replay-failed: x\r\n"] {
        let asked = app.proxy.seen().peers.len();
        let (_, answer) = ask("CA1", replayed).await;
        assert!(answer.contains("Sorry, something broke."), "{answer}");
        assert_eq!(app.proxy.seen().peers.len(), asked + 1, "its own machine may be there again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_replay_where_the_call_s_machine_hangs() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let ticket = ring(&app, &first, "CA1").await;
    first.signal("-STOP").await;
    // The other one has no such assistant.
    let file = |name: &str| app.folder.path().join("assistants").join(name);
    std::fs::rename(file("clinic.yaml"), file("desk.yaml")).unwrap();
    let second = app.machine(SECOND, &[]).await;
    let path = format!("/after-stream/{ticket}");
    let (_, answer) = post(&app, &second.address, &path, "CA1", "").await;
    assert!(!answer.contains("fly-replay") && answer.contains("Sorry, something went wrong."), "{answer}");
}

/// One machine that takes its time names another, which hangs: the caller hears nothing all the while.
#[tokio::test(flavor = "multi_thread")]
async fn machines_that_take_their_time_take_two_seconds_together() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let path = format!("/after-stream/{}", ring(&app, &first, "CA1").await);
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
    let (_, answer) = post(&app, &second.address, &path, "CA1", "").await;
    let took = asked.elapsed();
    assert!(answer.contains("Sorry, something broke."), "{answer}");
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_millis(3_200), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_fly_the_private_network_is_listened_on_too() {
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

/// The assistant presses keys, which takes longer than anything here, and goes on.
async fn presses_keys() -> App {
    let digits = format!(r#"{{"digits":"1{}"}}"#, "w".repeat(31));
    let press = Reply::say("One moment.").and_call("send_digits", digits);
    let assistant = ASSISTANT.replace("end_call: true", "end_call: true, send_digits: true");
    App::with(&assistant, vec![press]).await
}

/// Waits until the app's first call is parked at this machine; the ticket by which its phone comes back.
async fn way_back(app: &App, machine: &Machine, call: &str) -> String {
    until(|| machine.told("Call parked") == 1).await;
    let (ticket, _) = app.proxy.seen().streams[0].clone();
    let (_, answer) = post(app, &machine.address, &format!("/after-stream/{ticket}"), call, "").await;
    stream_of(&answer).expect("it comes back").to_owned()
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool) {
    let asked = Instant::now();
    while !so() {
        assert!(asked.elapsed() < PATIENCE, "it never was");
        tokio::task::yield_now().await;
    }
}

/// Rings by hand, at this machine; the ticket.
async fn ring(app: &App, machine: &Machine, call: &str) -> String {
    let (status, answer) = post(app, &machine.address, "/incoming-call", call, "").await;
    assert_eq!(status, 200, "{answer}");
    stream_of(&answer).expect("a stream is to be opened").to_owned()
}

/// The ticket of the stream that an answer opens.
fn stream_of(answer: &str) -> Option<&str> {
    answer.split("/media-stream/").nth(1)?.split('"').next()
}

/// A webhook about a call, signed as Twilio signs it.
async fn post(app: &App, address: &str, path: &str, call: &str, more: &str) -> (u16, String) {
    post_to(&app.proxy.url, address, path, call, more).await
}

/// The same, where Twilio knows the app by the address `base`.
async fn post_to(base: &str, address: &str, path: &str, call: &str, more: &str) -> (u16, String) {
    post_status(base, address, path, call, "in-progress", more).await
}

/// The same about a call that is in this state.
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
