//! Several machines of one app behind Fly's proxy: each is the real program, in a process of its own.

mod machine;
mod proxy;

use std::time::{Duration, Instant};

use machine::Machine;
use proxy::Proxy;
use switchboard::simulate::caller::{
    Act, CallEnd, CallRecord, Line, Phone, PhoneHandle, PhoneOptions, StreamEnd, When, sign,
};
use switchboard::simulate::model::{ModelOptions, ModelServer, Reply, Script, Speech};
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
async fn a_machine_that_is_killed_while_the_phone_rings_is_replaced() {
    // The question after the stream comes to the machine that took over, or to one that knows nothing of the call.
    for third in [false, true] {
        let app = App::new().await;
        let first = app.machine(FIRST, &[]).await;
        let second = app.machine(SECOND, &[]).await;
        app.proxy.rule("/incoming-call", FIRST);
        app.proxy.rule("/media-stream/", SECOND);
        let kill = first.killer();
        app.proxy.on_ring(move |id| {
            assert_eq!(id, FIRST);
            kill();
        });
        let last = if third { Some(app.machine("0000000000000c", &[]).await) } else { None };
        if let Some(last) = &last {
            app.proxy.rule("/after-stream/", &last.id);
        }
        let record = finished(Phone::dial(app.short_call())).await;
        assert_went_well(&record);
        let seen = app.proxy.seen();
        assert_eq!(seen.streams.len(), 1);
        assert_eq!(seen.streams[0].1, SECOND);
        assert_eq!(
            (seen.replayed, seen.fell_back, seen.elsewhere("/after-stream/")),
            (1, 1, usize::from(third))
        );
        assert_eq!(second.told("Took over a call whose machine is gone"), 1, "{}", second.log());
        assert_eq!(second.told(r#""reason":"assistant.ended""#), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_the_proxy_does_not_reach_gives_its_ticket_up() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    app.proxy.rule("/incoming-call", FIRST);
    let ticket = ring(&app, &first, "CA1").await;
    // Fly says that the machine cannot be reached; on the private network it can.
    let path = format!("/media-stream/{ticket}");
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(app.proxy.seen().peers, [(path.clone(), 204)]);
    assert_eq!(knock(&first.address, &path, &signature(&app, &path)).await.0, 403, "it is used up");
    until(|| first.told("Another machine took the call over") == 1).await;
    // What follows comes to a third one, or to the first: the second is asked, which has the call.
    let third = app.machine("0000000000000c", &[]).await;
    let path = format!("/after-stream/{ticket}");
    let (_, answer) = post(&app, &third.address, &path, "CA1", "").await;
    assert!(
        answer.contains("<Stream "),
        "its stream broke off: the one that adopted it tries once more: {answer}"
    );
    let (_, again) = post(&app, &first.address, &path, "CA1", "").await;
    assert_eq!(stream_of(&again), stream_of(&answer), "the same question gets the same answer");
    let asked: Vec<_> = app.proxy.seen().peers.into_iter().skip(1).map(|(_, status)| status).collect();
    assert_eq!(asked, [404, 200, 200]);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_that_a_closing_machine_waited_for_in_vain_hears_an_apology() {
    let app = presses_keys().await;
    let machine = app.machine(FIRST, &[("DRAIN_SECONDS", "0")]).await;
    let options = app.short_call();
    let call = options.call_sid.clone();
    let _phone = Phone::dial(options);
    let ticket = way_back(&app, &machine, &call).await;
    machine.signal("-TERM").await;
    until(|| machine.told(r#""reason":"house.draining""#) == 1).await;
    let path = format!("/after-stream/{ticket}");
    let (_, answer) = post(&app, &machine.address, &path, &call, "").await;
    assert!(answer.contains("Sorry, something broke."), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_whose_phone_comes_back_elsewhere_is_not_lost() {
    let app = presses_keys().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    app.proxy.rule("/", FIRST);
    let options = app.short_call();
    let call = options.call_sid.clone();
    let _phone = Phone::dial(options);
    let path = format!("/media-stream/{}", way_back(&app, &first, &call).await);
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    until(|| first.told("Another machine took the call over") + first.told(r#""reason":""#) > 0).await;
    assert_eq!(first.told(r#""reason":""#), 0, "its end is told where it goes on: {}", first.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_out_of_reach_gives_its_ticket_up_later() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, "CA1").await);
    app.proxy.add(FIRST, "127.0.0.1:9");
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(first.told("Another machine took the call over"), 0);
    app.proxy.add(FIRST, &first.address);
    until(|| first.told("Another machine took the call over") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_stream_broke_off_at_a_machine_out_of_reach_is_not_begun_again_there() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, "CA1").await;
    let path = format!("/media-stream/{ticket}");
    assert_eq!(knock(&first.address, &path, &signature(&app, &path)).await.0, 101);
    until(|| first.told("The stream did not start") == 1).await;
    app.proxy.add(FIRST, "127.0.0.1:9");
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    app.proxy.add(FIRST, &first.address);
    until(|| app.proxy.seen().peers.contains(&(path.clone(), 204))).await;
    let path = format!("/after-stream/{ticket}");
    post(&app, &first.address, &path, "CA1", "").await;
    assert_eq!(app.proxy.seen().peers.last(), Some(&(path, 200)), "the one that has the call is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_started_again_refuses_nothing() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, "CA1").await);
    first.signal("-KILL").await;
    first.ended(PATIENCE).await;
    let _first = app.machine(FIRST, &[]).await;
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(app.proxy.seen().peers, [(path, 404)]);
}

/// A machine that hangs, and another one that is told to serve a stream of it: the connection on which it was told, after
/// the other one has begun to ask. It asks for a second.
async fn asks_one_that_hangs(app: &App, first: &Machine, second: &Machine, path: &str) -> TcpStream {
    first.signal("-STOP").await;
    let mut socket = TcpStream::connect(&second.address).await.unwrap();
    let request = upgrade(path, &format!("{}fly-replay-failed: no machine\r\n", signature(app, path)));
    socket.write_all(request.as_bytes()).await.unwrap();
    until(|| app.proxy.seen().asked == 1).await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_taken_over_though_the_proxy_has_gone() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, "CA1").await;
    drop(asks_one_that_hangs(&app, &first, &second, &format!("/media-stream/{ticket}")).await);
    first.signal("-CONT").await;
    // It has given the call up, so the other one must have it: its stream broke off, and is tried once more.
    until(|| first.told("Another machine took the call over") == 1).await;
    let (_, answer) = post(&app, &first.address, &format!("/after-stream/{ticket}"), "CA1", "").await;
    assert!(answer.contains("<Stream "), "{answer}");
    assert_eq!(second.told("Took over a call whose machine is gone"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_taken_over_though_the_house_closes_meanwhile() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let mut second = app.machine(SECOND, &[("DRAIN_SECONDS", "0")]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, "CA1").await);
    let mut socket = asks_one_that_hangs(&app, &first, &second, &path).await;
    second.signal("-TERM").await;
    until(|| second.told("Saying goodbye to the calls that are left") == 1).await;
    first.signal("-CONT").await;
    let mut answer = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101", "{}", second.log());
    let start = r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"accountSid":"AC1","streamSid":"MZ1",
        "callSid":"CA1","tracks":["inbound"],"customParameters":{},
        "mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}"#;
    // One text frame, with a mask that changes nothing.
    let length = u16::try_from(start.len()).unwrap().to_be_bytes();
    socket
        .write_all(&[&[0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0], start.as_bytes()].concat())
        .await
        .unwrap();
    assert_eq!(second.ended(Duration::from_secs(20)).await, Some(0));
    assert_eq!(second.told(r#""reason":"house.draining""#), 1, "it hears a goodbye: {}", second.log());
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
async fn a_machine_that_does_not_know_the_newest_token_refuses_nothing() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[("TWILIO_AUTH_TOKEN", "54321,12345")]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, "CA1").await);
    let code = sign("54321", &format!("{}{path}", app.proxy.url.replacen("http", "ws", 1)), &[]);
    let signed = format!("X-Twilio-Signature: {code}\r\nfly-replay-failed: no machine\r\n");
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    let asked = &app.proxy.seen().peers[0];
    assert_eq!(*asked, (path, 403), "for the old machine it is signed by nobody it knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_end_well_though_the_public_address_changes() {
    let app = App::new().await;
    let machine = app.machine(FIRST, &[]).await;
    let ticket = ring(&app, &machine, "CA1").await;
    // Twilio was told these addresses by a machine that knew no other than Fly's.
    let path = format!("/after-stream/{ticket}");
    let (status, _) = post_to("https://phone.fly.dev", &machine.address, &path, "CA1", "").await;
    assert_eq!(status, 200);
    let path = format!("/media-stream/{}", ring(&app, &machine, "CA2").await);
    for (base, status) in [("wss://app.fly.dev", 403), ("wss://phone.fly.dev", 101)] {
        let signed = format!("X-Twilio-Signature: {}\r\n", sign(TOKEN, &format!("{base}{path}"), &[]));
        assert_eq!(knock(&machine.address, &path, &signed).await.0, status, "{base}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_header_opens_no_second_stream() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let used = ring(&app, &first, "CA1").await;
    let path = format!("/media-stream/{used}");
    let signed = signature(&app, &path);
    assert_eq!(knock(&first.address, &path, &signed).await.0, 101, "the call's own stream");
    // Somebody got hold of the path. With what Fly's proxy adds, forged, it opens nothing at another machine.
    for forged in ["fly-replay-failed: x\r\n", "fly-replay-src: instance=x\r\n"] {
        assert_eq!(knock(&second.address, &path, forged).await.0, 403, "{forged}");
        let wrong = format!("{forged}X-Twilio-Signature: {}\r\n", sign("wrong", "", &[]));
        assert_eq!(knock(&second.address, &path, &wrong).await.0, 403, "{forged}");
        // And of the signature too: the machine that issued the ticket says that it is used.
        assert_eq!(knock(&second.address, &path, &format!("{forged}{signed}")).await.0, 403, "{forged}");
    }
    assert!(app.proxy.seen().peers.iter().all(|(_, status)| *status == 410));
    assert_eq!(app.proxy.seen().peers.len(), 2, "only what is signed is asked");
    // A ticket is given up for nobody who cannot sign.
    let waiting = ring(&app, &first, "CA2").await;
    let path = format!("/media-stream/{waiting}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nswitchboard-forwarded: 1\r\n\r\n");
    assert_eq!(http(&first.address, &request).await.0, 426);
    // Without a forged header it is sent where it belongs, and there it is good.
    let (status, head) = knock(&second.address, &path, "").await;
    assert_eq!(status, 200);
    assert!(head.contains(&format!("fly-replay: instance={FIRST};")), "{head}");
    assert_eq!(knock(&first.address, &path, "fly-replay-src: instance=x\r\n").await.0, 101);

    // Now it is gone indeed: what is signed is served, once.
    let orphan = ring(&app, &first, "CA3").await;
    let path = format!("/media-stream/{orphan}");
    let signed = format!("{}fly-replay-failed: x\r\n", signature(&app, &path));
    first.signal("-KILL").await;
    assert_eq!(first.ended(PATIENCE).await, None, "it is dead");
    assert_eq!(knock(&second.address, &path, "fly-replay-failed: x\r\n").await.0, 403);
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(knock(&second.address, &path, &signed).await.0, 403);
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
        assert_eq!(app.proxy.seen().peers.len(), asked, "nobody is asked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_switch_under_fifty_calls() {
    rolling_switch(Switch { under_way: 50, new: 20, drain: 15, ring_for: Duration::from_secs(2) }).await;
}

/// `make soak`: with the drain of production.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes five minutes; `make soak` runs it"]
async fn a_long_rolling_switch() {
    rolling_switch(Switch { under_way: 100, new: 500, drain: 280, ring_for: Duration::from_secs(260) }).await;
}

struct Switch {
    /// Calls that the old machine has.
    under_way: usize,
    /// Calls that ring while it closes.
    new: usize,
    drain: u64,
    ring_for: Duration,
}

async fn rolling_switch(switch: Switch) {
    let _alone = ALONE.lock().await;
    let app = App::new().await;
    let drain = switch.drain.to_string();
    let mut old = app.machine(FIRST, &[("DRAIN_SECONDS", &drain)]).await;
    // One in five stays until the house says goodbye; the others press a key while it closes, one after another.
    let mut staying = Vec::new();
    let mut leaving = Vec::new();
    for number in 0..switch.under_way {
        let phone = Phone::dial(app.long_call());
        if number % 5 == 0 { &mut staying } else { &mut leaving }.push(phone);
        sleep(Duration::from_millis(20)).await;
    }
    for phone in staying.iter().chain(&leaving) {
        assert!(timeout(PATIENCE, phone.wait_until_quiet(Duration::ZERO)).await.expect("they are greeted"));
    }
    let new = app.machine(SECOND, &[]).await;
    old.signal("-TERM").await;
    let closed = Instant::now();
    while http(&old.address, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.0 != 503 {
        assert!(closed.elapsed() < Duration::from_secs(2), "not ready from the signal on");
    }
    // New ones ring meanwhile. Fly sends them to the machine that closes, until a check of its own tells it better.
    app.proxy.rule("/incoming-call", FIRST);
    let mut rings = tokio::task::JoinSet::new();
    let pause = switch.ring_for / u32::try_from(switch.new).unwrap();
    let leave_at_once = leaving.len().div_ceil(switch.new);
    let mut leaving = leaving.into_iter();
    for number in 0..switch.new {
        if number == switch.new / 2 {
            app.proxy.cordon(FIRST);
        }
        rings.spawn(finished_call(app.short_call()));
        for phone in leaving.by_ref().take(leave_at_once) {
            phone.press('1');
            phone.press('#');
            rings.spawn(finished_long(phone));
        }
        sleep(pause).await;
    }
    assert!(leaving.next().is_none());
    for phone in staying {
        rings.spawn(finished_long(phone));
    }
    let longest = Duration::from_secs(switch.drain + 13);
    let code = old.ended((longest + Duration::from_secs(5)).saturating_sub(closed.elapsed())).await;
    let took = closed.elapsed();
    assert_eq!(code, Some(0), "{}", old.log());
    assert!(took < longest, "it ended by itself after {took:?}");
    let records = timeout(PATIENCE, rings.join_all()).await.expect("all calls end");
    assert_eq!(records.len(), switch.under_way + switch.new);
    records.iter().for_each(assert_went_well);
    assert_each_ticket_once(&app.proxy, &records);
    report(&format!("a switch of {took:?}"), &records);
    let seen = app.proxy.seen();
    assert!(seen.elsewhere("/incoming-call") >= switch.new / 2, "these rang at the machine that closes");
    // Who had pressed no key when the goodbyes came heard the house's, the others the assistant's.
    let sent_home = old.told(r#""reason":"house.draining""#);
    let ended = old.told(r#""reason":"assistant.ended""#);
    assert!(sent_home >= switch.under_way.div_ceil(5), "{sent_home} were sent home");
    assert_eq!(sent_home + ended, switch.under_way, "{}", old.log());
    assert_eq!(new.told("house.draining"), 0);
    assert_eq!(old.told("5550100") + new.told("5550100"), 0, "no number is logged");
}

async fn finished_call(options: PhoneOptions) -> CallRecord {
    finished(Phone::dial(options)).await
}

/// One that may last as long as the drain.
async fn finished_long(phone: PhoneHandle) -> CallRecord {
    timeout(Duration::from_secs(400), phone.finished()).await.expect("the call ends in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_machine_ends_in_time_though_a_stream_never_comes() {
    let app = App::new().await;
    let mut machine = app.machine(FIRST, &[("DRAIN_SECONDS", "14")]).await;
    ring(&app, &machine, "CA1").await;
    let closed = Instant::now();
    machine.signal("-TERM").await;
    assert_eq!(machine.ended(Duration::from_secs(20)).await, Some(0), "{}", machine.log());
    assert!(closed.elapsed() >= Duration::from_secs(13), "its ticket was good all the while");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_stream_was_lost_before_the_machine_closed_begins_at_another() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[("DRAIN_SECONDS", "0")]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, "CA1").await;
    // Another call keeps it there.
    ring(&app, &first, "CA3").await;
    first.signal("-TERM").await;
    until(|| first.told("Draining: no new calls") == 1).await;
    // Twilio could not open the stream.
    let (status, answer) = post(&app, &first.address, &format!("/after-stream/{ticket}"), "CA1", "").await;
    assert_eq!(status, 200);
    let redirect = format!("<Redirect method=\"POST\">{}/incoming-call</Redirect>", app.proxy.url);
    assert!(answer.contains(&redirect), "{answer}");
    // It rings there, and may come to the closing one again.
    let (_, answer) = post(&app, &first.address, "/incoming-call", "CA1", "").await;
    assert!(answer.contains("fly-replay: elsewhere=true;"), "{answer}");
    let (_, answer) = post(&app, &second.address, "/incoming-call", "CA1", "").await;
    assert!(answer.contains("<Stream "), "{answer}");
    // A ring that nobody else takes is for the number's fallback.
    let (status, _) = post(&app, &first.address, "/incoming-call", "CA2", "fly-replay-failed: x\r\n").await;
    assert_eq!(status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_does_not_wander_between_machines_that_close() {
    let app = App::new().await;
    let machines = [app.machine(FIRST, &[]).await, app.machine(SECOND, &[]).await];
    for machine in &machines {
        // A call keeps it there.
        ring(&app, machine, "CA1").await;
        machine.signal("-TERM").await;
        until(|| machine.told("Draining: no new calls") == 1).await;
    }
    let address = app.proxy.url.trim_start_matches("http://");
    let (status, _) = post(&app, address, "/incoming-call", "CA2", "").await;
    assert_eq!(
        (status, app.proxy.seen().elsewhere("/incoming-call")),
        (503, 3),
        "the number's fallback is asked"
    );
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
