//! The phone against a server written for these tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::pace::Pace;
use switchboard_audio::{SILENCE, duration};

mod second;

const TOKEN: &str = "12345";

type Socket = WebSocketStream<TcpStream>;

/// A request from the phone: its head and its form.
struct Asked {
    head: String,
    form: Vec<(String, String)>,
}

impl Asked {
    fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.clone().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

struct Server {
    url: String,
    asked: mpsc::Receiver<Asked>,
    sockets: mpsc::Receiver<(String, Socket)>,
    _pace: Option<Arc<Pace>>,
}

impl Server {
    /// Answers each path with its document. A path that begins with `/media` is a stream; any other path is a 404.
    async fn new(documents: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let documents: Arc<Vec<(String, String)>> = Arc::new(
            documents
                .iter()
                .map(|(path, xml)| {
                    let xml = xml.replace("WS", &url.replace("http", "ws")).replace("URL", &url);
                    ((*path).to_owned(), format!("<Response>{xml}</Response>"))
                })
                .collect(),
        );
        let (asked_tx, asked) = mpsc::channel(100);
        let (sockets_tx, sockets) = mpsc::channel(10);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let (documents, asked, sockets) = (documents.clone(), asked_tx.clone(), sockets_tx.clone());
                tokio::spawn(serve(socket, documents, asked, sockets));
            }
        });
        Self { url, asked, sockets, _pace: Pace::keep() }
    }

    fn options(&self) -> PhoneOptions {
        PhoneOptions::new(&self.url, TOKEN)
    }

    async fn asked(&mut self) -> Asked {
        soon(self.asked.recv()).await.unwrap()
    }

    async fn stream(&mut self) -> (String, Socket) {
        soon(self.sockets.recv()).await.unwrap()
    }
}

async fn serve(
    mut socket: TcpStream,
    documents: Arc<Vec<(String, String)>>,
    asked: mpsc::Sender<Asked>,
    sockets: mpsc::Sender<(String, Socket)>,
) {
    let mut start = [0; 11];
    while socket.peek(&mut start).await.unwrap() < start.len() {}
    if &start == b"GET /media/" {
        let mut head = String::new();
        #[expect(clippy::result_large_err, reason = "the library's callback is like this")]
        let callback = |request: &Request, response: Response| {
            head = format!("{} {:?}", request.uri(), request.headers());
            Ok(response)
        };
        let stream = tokio_tungstenite::accept_hdr_async(socket, callback).await.unwrap();
        sockets.send((head, stream)).await.unwrap();
        return;
    }
    let mut read = Vec::new();
    let (head, body) = loop {
        socket.read_buf(&mut read).await.unwrap();
        let text = String::from_utf8(read.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .split("Content-Length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().parse::<usize>().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1).unwrap();
    let document = documents.iter().find(|(other, _)| other == path);
    let answer = match document {
        // In chunks, one of them with an unknown extension.
        Some((_, xml)) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;x=y\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            &xml[..5],
            xml.len() - 5,
            &xml[5..]
        ),
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    asked.send(Asked { head, form }).await.unwrap();
    socket.write_all(answer.as_bytes()).await.unwrap();
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.expect("nothing happened in 10 s")
}

/// Reads to the end, because the library answers a close only when it is read.
fn drain(mut socket: Socket) {
    tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
}

async fn next(socket: &mut Socket) -> Option<Value> {
    match soon(socket.next()).await? {
        Ok(Message::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
        _ => None,
    }
}

/// The next message of this kind.
async fn next_of(socket: &mut Socket, event: &str) -> Value {
    loop {
        let message = next(socket).await.expect("the stream ended");
        if message["event"] == event {
            return message;
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn play(socket: &mut Socket, sid: &Value, audio: &[u8]) {
    let media = json!({"event":"media","streamSid":sid,"media":{"payload":base64(audio)}});
    socket.send(Message::text(media.to_string())).await.unwrap();
}

async fn mark(socket: &mut Socket, sid: &Value, name: &str) {
    let mark = json!({"event":"mark","streamSid":sid,"mark":{"name":name}});
    socket.send(Message::text(mark.to_string())).await.unwrap();
}

async fn clear(socket: &mut Socket, sid: &Value) {
    let clear = json!({"event":"clear","streamSid":sid});
    socket.send(Message::text(clear.to_string())).await.unwrap();
}

#[track_caller]
fn near(actual: Duration, expected_ms: u64) {
    let apart = actual.abs_diff(Duration::from_millis(expected_ms));
    assert!(apart < Duration::from_millis(30), "{actual:?} instead of {expected_ms} ms");
}

const CONNECT: &str = r#"<Connect action="URL/after"><Stream url="WS/media/t"><Parameter name="a" value="b"/></Stream></Connect>"#;

#[tokio::test]
async fn a_call_is_signed_and_sends_what_twilio_sends() {
    let mut server =
        Server::new(&[("/incoming-call", CONNECT), ("/after", "<Hangup/>"), ("/call-status", "")]).await;
    let options = PhoneOptions { status_callback: true, ..server.options() };
    let call_sid = options.call_sid.clone();
    let phone = Phone::dial(options);

    let ring = server.asked().await;
    assert_eq!((ring.field("CallStatus"), ring.field("CallSid")), ("ringing", call_sid.as_str()));
    let signed = sign(TOKEN, &format!("{}/incoming-call", server.url), &ring.form);
    assert_eq!(ring.header("X-Twilio-Signature"), Some(signed.as_str()));

    let (head, mut socket) = server.stream().await;
    let ws = server.url.replace("http", "ws");
    assert!(head.contains(&sign(TOKEN, &format!("{ws}/media/t"), &[])), "{head}");
    assert!(head.contains("Twilio.TmeWs/1.0") && !head.contains("sec-websocket-protocol"), "{head}");
    let connected = next(&mut socket).await.unwrap();
    assert_eq!(connected, json!({"event":"connected","protocol":"Call","version":"1.0.0"}));
    let start = next(&mut socket).await.unwrap();
    assert_eq!(start["start"]["customParameters"], json!({"a":"b"}));
    assert_eq!(start["sequenceNumber"], "1");
    let since = Instant::now();
    phone.say(Bytes::from_static(&[7; 200]));
    phone.press('5');
    let mut loud = 0;
    for chunk in 1..=15 {
        let media = next_of(&mut socket, "media").await;
        assert_eq!(media["media"]["chunk"], chunk.to_string());
        if media["media"]["payload"] != base64(&[SILENCE; 160]) {
            loud += 1;
        }
    }
    near(since.elapsed(), 300);
    assert_eq!(loud, 2);
    phone.hang_up();
    let stop = next_of(&mut socket, "stop").await;
    assert_eq!(stop["stop"]["callSid"], call_sid);
    assert!(next(&mut socket).await.is_none());
    drain(socket);
    let after = server.asked().await;
    assert_eq!((after.head.contains("POST /after "), after.field("CallStatus")), (true, "completed"));
    assert!(server.asked().await.head.contains("POST /call-status "));
    let record = soon(phone.finished()).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::CallerHungUp);
    assert_eq!(record.streams[0].end, StreamEnd::CallerHungUp);
    assert_eq!(record.spoken.iter().filter(|byte| **byte == 7).count(), 200);
    assert_eq!(record.streams[0].speech.len(), 2);
}

#[tokio::test]
async fn a_mark_is_echoed_when_it_has_been_played() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "<Hangup/>")]).await;
    let network =
        Network { up: Duration::from_millis(20), down: Duration::from_millis(40), ..Network::default() };
    let mut phone = Phone::dial(PhoneOptions { network, ..server.options() });
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    let since = Instant::now();
    mark(&mut socket, &sid, "at once").await;
    play(&mut socket, &sid, &[1; 1_600]).await;
    mark(&mut socket, &sid, "a").await;
    play(&mut socket, &sid, &[2; 801]).await;
    mark(&mut socket, &sid, "b").await;
    for (name, ms) in [("at once", 60), ("a", 260), ("b", 360)] {
        assert_eq!(next_of(&mut socket, "mark").await["mark"]["name"], name);
        near(since.elapsed(), ms);
    }
    assert!(phone.wait_until_quiet(Duration::from_millis(20)).await);
    assert!(phone.wait_for(|event| matches!(event, PhoneEvent::Quiet { .. })).await.is_some());
    socket.close(None).await.unwrap();
    let record = soon(phone.finished()).await;
    record.assert_clean();
    assert_eq!(record.end, CallEnd::HungUp);
    assert!(matches!(record.streams[0].end, StreamEnd::ServerClosed { code: 1_005, .. }));
    let heard = [vec![1; 1_600], vec![2; 801]].concat();
    assert!(record.heard.ends_with(&heard));
    let silence = &record.heard[..record.heard.len() - heard.len()];
    assert!(silence.iter().all(|byte| *byte == SILENCE));
    near(duration(silence.len()), (record.streams[0].media[0].at - record.started).as_millis() as u64);
    assert_eq!(record.streams[0].bytes_played, 2_401);
}

#[tokio::test]
async fn a_clear_is_recorded_to_the_byte_and_flushes_the_marks() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let mut phone = Phone::dial(server.options());
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    let audio: Vec<u8> = (0..8_000_u32).map(|i| (i % 250) as u8).collect();
    play(&mut socket, &sid, &audio).await;
    mark(&mut socket, &sid, "far").await;
    assert!(phone.wait_until_playing_for(Duration::from_millis(200)).await);
    clear(&mut socket, &sid).await;
    assert_eq!(next_of(&mut socket, "mark").await["mark"]["name"], "far");
    soon(phone.wait_for(|event| matches!(event, PhoneEvent::Cleared(_)))).await.unwrap();
    drop(socket);
    let record = soon(phone.finished()).await;
    record.assert_clean();
    let stream = &record.streams[0];
    let cleared = &stream.clears[0];
    near(duration(cleared.run_played as usize), 200);
    near(cleared.at - stream.media[0].at, 200);
    assert_eq!(cleared.run_played + cleared.dropped, 8_000);
    let played = cleared.run_played as usize;
    assert_eq!(cleared.last, audio[played - 16..played]);
    assert!(record.heard.ends_with(&audio[..played]));
    assert!(stream.marks[0].flushed);
    assert!(matches!(stream.end, StreamEnd::Lost(_)), "{:?}", stream.end);
}

#[tokio::test]
async fn documents_after_the_stream_are_performed() {
    let dial = r#"<Say>One moment.</Say><Dial action="/dialed" timeout="9">+15550100009</Dial>"#;
    let mut server = Server::new(&[
        ("/incoming-call", CONNECT),
        ("/after", dial),
        ("/dialed", r#"<Redirect method="GET">URL/last</Redirect>"#),
    ])
    .await;
    let dials = vec![DialOutcome { status: "busy".to_owned(), after: Duration::from_millis(30) }];
    let phone = Phone::dial(PhoneOptions { dials, ..server.options() });
    server.asked().await;
    let (_, mut socket) = server.stream().await;
    next_of(&mut socket, "start").await;
    socket.close(None).await.unwrap();
    assert_eq!(server.asked().await.field("CallStatus"), "in-progress");
    let dialed = server.asked().await;
    assert_eq!(dialed.field("DialCallStatus"), "busy");
    let last = server.asked().await;
    assert!(last.head.starts_with("GET /last?AccountSid="), "{}", last.head);
    let signed = sign(TOKEN, &format!("{}{}", server.url, last.head.split(' ').nth(1).unwrap()), &[]);
    assert_eq!(last.header("X-Twilio-Signature"), Some(signed.as_str()));
    let record = soon(phone.finished()).await;
    assert_eq!(record.said[0].text, "One moment.");
    assert_eq!(
        (record.dialed[0].number.as_str(), record.dialed[0].status.as_str()),
        ("+15550100009", "busy")
    );
    // `/last?…` does not exist.
    assert_eq!(record.end, CallEnd::Failed(11_200));
    assert_eq!(record.violations.len(), 1);
}

#[tokio::test]
async fn a_refused_upgrade_is_31920_and_the_action_follows() {
    let refused =
        r#"<Connect action="/after"><Stream url="WS/nowhere?lost=1" statusCallback="URL/status"/></Connect>"#;
    let mut server =
        Server::new(&[("/incoming-call", refused), ("/after", "<Reject/>"), ("/status", "")]).await;
    let phone = Phone::dial(server.options());
    server.asked().await;
    let upgrade = server.asked().await;
    assert!(upgrade.head.starts_with("GET /nowhere HTTP/1.1"), "{}", upgrade.head);
    let record = soon(phone.finished()).await;
    assert_eq!(record.streams[0].end, StreamEnd::Refused { code: 31_920, status: Some(404) });
    assert_eq!(record.violations[0].code, 31_920);
    assert_eq!(record.end, CallEnd::HungUp);
    let mut rest = [server.asked().await, server.asked().await];
    rest.sort_by_key(|asked| asked.head.contains("POST /status"));
    assert_eq!(rest[0].field("CallStatus"), "in-progress");
    assert_eq!((rest[1].field("StreamEvent"), rest[1].field("StreamError")), ("stream-error", "31920"));
}

#[tokio::test]
async fn violations_are_recorded() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let mut phone = Phone::dial(server.options());
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    socket.send(Message::binary(vec![1])).await.unwrap();
    clear(&mut socket, &json!("MZother")).await;
    socket.send(Message::text("{}")).await.unwrap();
    play(&mut socket, &sid, &[9; 80]).await;
    soon(phone.wait_for(|event| matches!(event, PhoneEvent::Quiet { .. }))).await.unwrap();
    socket.close(None).await.unwrap();
    let record = soon(phone.finished()).await;
    let codes: Vec<_> = record.violations.iter().map(|violation| violation.code).collect();
    assert_eq!(codes, [31_950, 31_951, 31_951]);
    assert_eq!(record.streams[0].bytes_played, 80);
}

#[tokio::test]
async fn wss_is_required_except_on_loopback() {
    for (public, stream, code) in [
        ("https://voice.example.com", "ws://voice.example.com/media/t", 31_922),
        ("http://voice.example.com", "ws://voice.example.com/media/t", 31_922),
        ("https://voice.example.com", "wss://other.example.com/media/t", 31_901),
        ("https://voice.example.com", "/nowhere", 31_920),
        ("http://127.0.0.1:1", "wss://127.0.0.1:1/media/t", 31_910),
    ] {
        let document = format!(r#"<Connect><Stream url="{stream}"/></Connect>"#);
        let server = Server::new(&[("/incoming-call", &document)]).await;
        let options = PhoneOptions { public_url: public.to_owned(), ..server.options() };
        let record = soon(Phone::dial(options).finished()).await;
        assert_eq!(record.violations[0].code, code, "{public} {stream}");
    }
}

#[tokio::test]
async fn each_fault_has_its_effect() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let faults = vec![
        Fault::TwoWebhooks,
        Fault::TwoConnects,
        Fault::BadSignature,
        Fault::NoStreamSignature,
        Fault::QueryOnTicket,
        Fault::MediaFirst,
        Fault::WrongCallSid,
        Fault::NumericCounters,
        Fault::Binary,
        Fault::Garbage,
        Fault::Silent { after: Duration::from_millis(250), lasting: Duration::from_millis(200) },
        Fault::TwoStops,
    ];
    let options = PhoneOptions { faults, ..server.options() };
    let call_sid = options.call_sid.clone();
    let phone = Phone::dial(options);
    let (once, twice) = (server.asked().await, server.asked().await);
    assert_eq!(once.form, twice.form);
    let right = sign(TOKEN, &format!("{}/incoming-call", server.url), &once.form);
    assert!(once.header("X-Twilio-Signature").is_some_and(|signed| signed != right));
    let (head, mut socket) = server.stream().await;
    assert!(head.starts_with("/media/t?retry=1") && !head.contains("x-twilio-signature"), "{head}");
    let _second = server.stream().await;
    assert_eq!(next(&mut socket).await.unwrap()["event"], "connected");
    assert_eq!(next(&mut socket).await.unwrap()["event"], "media");
    let start = next(&mut socket).await.unwrap();
    assert_eq!(start["sequenceNumber"], 2);
    assert_ne!(start["start"]["callSid"], call_sid);
    for _ in 0..9 {
        assert_eq!(next(&mut socket).await.unwrap()["event"], "media");
    }
    assert!(matches!(soon(socket.next()).await, Some(Ok(Message::Binary(_)))));
    let Some(Ok(Message::Text(garbage))) = soon(socket.next()).await else { panic!("no garbage") };
    assert!(serde_json::from_str::<Value>(&garbage).is_err());
    let mut longest = Duration::ZERO;
    let mut before = Instant::now();
    for _ in 0..10 {
        next_of(&mut socket, "media").await;
        longest = longest.max(before.elapsed());
        before = Instant::now();
    }
    near(longest, 220);
    phone.hang_up();
    next_of(&mut socket, "stop").await;
    assert_eq!(next(&mut socket).await.unwrap()["event"], "stop");
    drain(socket);
    assert_eq!(soon(phone.finished()).await.streams[0].second_connect, Some(101));
}

#[tokio::test]
async fn a_rejected_number_or_caller_id_is_recorded() {
    for (dial, from, wrong) in [
        (r#"<Dial callerId="+15550199999">reception</Dial>"#, "+15550100100", vec![13_223, 13_214]),
        (r#"<Dial callerId="+15550199999">+15550100009</Dial>"#, "+15550100100", vec![13_214]),
        // The caller's own, but not a number.
        (r#"<Dial callerId="anonymous">+15550100009</Dial>"#, "anonymous", vec![13_214]),
        (r#"<Dial timeout="0" callerId="+15550100100">+15550100009</Dial>"#, "+15550100100", vec![]),
        (r#"<Dial timeout="0" callerId="+15550100001">+15550100009</Dial>"#, "anonymous", vec![]),
        (r#"<Dial timeout="0" callerId="+15550100002">+15550100009</Dial>"#, "anonymous", vec![]),
    ] {
        let server = Server::new(&[("/incoming-call", dial)]).await;
        let numbers = vec!["+15550100002".to_owned()];
        let options = PhoneOptions { from: from.to_owned(), numbers, ..server.options() };
        let record = soon(Phone::dial(options).finished()).await;
        let codes: Vec<_> = record.violations.iter().map(|violation| violation.code).collect();
        assert_eq!(codes, wrong, "{dial}");
        let status = if wrong.is_empty() { "no-answer" } else { "failed" };
        assert_eq!((record.dialed[0].status.as_str(), record.end), (status, CallEnd::HungUp), "{dial}");
    }
}

#[tokio::test]
async fn a_loop_of_documents_ends_the_call() {
    let server = Server::new(&[("/incoming-call", "<Redirect>/incoming-call</Redirect>")]).await;
    let record = soon(Phone::dial(server.options()).finished()).await;
    assert_eq!(record.end, CallEnd::Failed(11_215));
    assert_eq!(record.documents.len(), 26);
}

#[tokio::test]
async fn a_half_open_connection_sends_and_reads_nothing() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let (after, lasting) = (Duration::from_millis(100), Duration::from_millis(300));
    let faults = vec![Fault::HalfOpen { after, lasting }];
    let phone = Phone::dial(PhoneOptions { faults, ..server.options() });
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    let since = Instant::now();
    let mut last = Duration::ZERO;
    while let Some(Ok(Message::Text(_))) = soon(socket.next()).await {
        last = since.elapsed();
        if last > Duration::from_millis(90) {
            let media = json!({"event":"media","streamSid":sid,"media":{"payload":""}});
            let _ = socket.send(Message::text(media.to_string())).await;
        }
    }
    near(last, 90);
    near(since.elapsed(), 400);
    assert_eq!(soon(phone.finished()).await.streams[0].end, StreamEnd::Cut);
}

#[tokio::test]
async fn start_and_stop_can_be_missing() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    for fault in [Fault::NoStart, Fault::NoStop] {
        let mut phone = Phone::dial(PhoneOptions { faults: vec![fault], ..server.options() });
        let (_, mut socket) = server.stream().await;
        assert_eq!(next(&mut socket).await.unwrap()["event"], "connected");
        if fault == Fault::NoStart {
            clear(&mut socket, &json!("MZ0")).await;
            let early = |event: &PhoneEvent| matches!(event, PhoneEvent::Violation(_));
            soon(phone.wait_for(early)).await.unwrap();
        }
        phone.hang_up();
        while let Some(Ok(Message::Text(text))) = soon(socket.next()).await {
            assert!(fault == Fault::NoStop && !text.contains("\"stop\""), "{text}");
        }
        drain(socket);
        let record = soon(phone.finished()).await;
        assert_eq!(record.streams[0].started.is_some(), fault == Fault::NoStop);
        assert_eq!(record.end, CallEnd::CallerHungUp);
    }
}

#[tokio::test]
async fn a_cut_connection_sends_no_stop() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let faults = vec![Fault::Cut { after: Duration::from_millis(100) }];
    let phone = Phone::dial(PhoneOptions { faults, ..server.options() });
    let (_, mut socket) = server.stream().await;
    let last = loop {
        match soon(socket.next()).await {
            Some(Ok(Message::Text(text))) => assert!(!text.contains("\"stop\"")),
            other => break other,
        }
    };
    assert!(!matches!(last, Some(Ok(_))), "{last:?}");
    assert_eq!(soon(phone.finished()).await.streams[0].end, StreamEnd::Cut);
}

#[tokio::test]
async fn stamped_audio_measures_the_latency() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let options = PhoneOptions { stamps: true, keep_audio: false, ..server.options() };
    let phone = Phone::dial(options);
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    for _ in 0..5 {
        let media = next_of(&mut socket, "media").await;
        let back = json!({"event":"media","streamSid":sid,"media":{"payload":media["media"]["payload"]}});
        socket.send(Message::text(back.to_string())).await.unwrap();
    }
    next_of(&mut socket, "media").await;
    phone.hang_up();
    next_of(&mut socket, "stop").await;
    drain(socket);
    let record = soon(phone.finished()).await;
    record.assert_clean();
    assert_eq!(record.streams[0].latencies.len(), 5);
    assert!(record.streams[0].latencies.iter().all(|latency| latency.as_millis() < 50));
    assert!(record.heard.is_empty() && record.spoken.is_empty() && record.streams[0].media.is_empty());
}

#[tokio::test]
async fn a_script_waits_for_its_cues() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let script = vec![
        Line { when: When::Quiet(Duration::from_millis(50)), act: Act::Say(Bytes::from_static(&[5; 160])) },
        Line { when: When::PlayingFor(Duration::from_millis(60)), act: Act::Press('#') },
        Line { when: When::After(Duration::from_millis(40)), act: Act::HangUp },
    ];
    let phone = Phone::dial(PhoneOptions { script, ..server.options() });
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    play(&mut socket, &sid, &[1; 800]).await;
    let since = Instant::now();
    while next_of(&mut socket, "media").await["media"]["payload"] != base64(&[5; 160]) {}
    near(since.elapsed(), 160);
    play(&mut socket, &sid, &[1; 8_000]).await;
    let since = Instant::now();
    assert_eq!(next_of(&mut socket, "dtmf").await["dtmf"]["digit"], "#");
    near(since.elapsed(), 70);
    next_of(&mut socket, "stop").await;
    drain(socket);
    assert_eq!(soon(phone.finished()).await.end, CallEnd::CallerHungUp);
}
