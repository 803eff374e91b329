//! The console from the outside: who gets in, what a page shows, and the phone in the browser.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use switchboard::assistant::plan::RecordPolicy;
use switchboard::call::EndReason;
use switchboard::phone::{Party, PhoneNumber};
use switchboard::record::{Answering, Entry, Rang, RecordId, What};
use switchboard::store::{self, Options, Place};
use switchboard_simulator::caller::CallEnd;
use switchboard_simulator::model::{ModelOptions, Reply, Script, Speech};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{CLINIC, Harness, PATIENCE, counted, finished, speech};

const PASSWORD: &str = "correct horse battery";
const SETTINGS: [(&str, &str); 2] = [("CONSOLE_PASSWORD", PASSWORD), ("API_TOKEN", "api-token-of-a-test")];

/// An answer: its status, its head in lower case but for values, and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// A browser without JavaScript.
struct Browser {
    host: String,
    origin: String,
    cookie: String,
    csrf: String,
}

impl Browser {
    fn new(server: &str) -> Self {
        let host = server.trim_start_matches("http://").to_owned();
        Self { origin: format!("http://{host}"), host, cookie: String::new(), csrf: String::new() }
    }

    /// One that is logged in.
    async fn in_console(server: &str) -> Self {
        let mut browser = Self::new(server);
        let answer = browser.log_in(PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookie = answer.header("set-cookie").expect("a session").to_owned();
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        let page = browser.get("/console/talk").await;
        let token = page.body.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        browser.csrf = token.expect("a token").to_owned();
        browser
    }

    async fn log_in(&self, password: &str) -> Answer {
        self.send("POST", "/console/login", &format!("password={}", password.replace(' ', "+"))).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// A form of a page.
    async fn post(&self, path: &str, fields: &str) -> Answer {
        self.send("POST", path, &format!("csrf={}&{fields}", self.csrf)).await
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [
            format!("Host: {}", self.host),
            format!("Origin: {}", self.origin),
            format!("Cookie: {}", self.cookie),
            "Accept: text/html".to_owned(),
        ];
        ask(&self.host, method, path, &headers, body).await
    }
}

async fn connect(host: &str, method: &str, path: &str, headers: &[String], body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(host).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        headers.join("\r\n"),
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

async fn ask(host: &str, method: &str, path: &str, headers: &[String], body: &str) -> Answer {
    let mut socket = connect(host, method, path, headers, body).await;
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn model(replies: Vec<Reply>) -> ModelOptions {
    ModelOptions {
        think: Duration::from_millis(50),
        speech: Speech::Tagged,
        script: Script { replies, ..Script::default() },
        ..ModelOptions::default()
    }
}

async fn open() -> Harness {
    Harness::with(CLINIC, &[], ModelOptions::default(), &SETTINGS).await
}

/// The browser's end of a media stream.
struct Line(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Line {
    async fn open(begun: &Value) -> Result<Self, u16> {
        let url = begun["stream"].as_str().expect("a stream");
        match tokio_tungstenite::connect_async(url).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn start(&mut self, begun: &Value) {
        self.send(json!({"event": "connected", "protocol": "Call", "version": "1.0.0"})).await;
        self.send(json!({
            "event": "start", "sequenceNumber": "1", "streamSid": "MZ00000000000000000000000000000001",
            "start": {
                "streamSid": "MZ00000000000000000000000000000001", "accountSid": begun["account"],
                "callSid": begun["call"], "tracks": ["inbound"], "customParameters": {},
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        }))
        .await;
    }

    /// Waits for the assistant's voice.
    async fn hear(&mut self) {
        let heard = async {
            while let Some(Ok(message)) = self.0.next().await {
                if message.to_text().is_ok_and(|text| text.contains("\"media\"")) {
                    return;
                }
            }
            panic!("the stream ended before the assistant spoke");
        };
        timeout(PATIENCE, heard).await.expect("the assistant speaks");
    }
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let harness = open().await;
    let browser = Browser::new(&harness.server);
    let page = browser.get("/console/").await;
    assert_eq!((page.status, page.header("location")), (303, Some("/console/login")));
    for path in ["/console/calls", "/console/health", "/console/live/now", "/console/calls/01J0/record.json"]
    {
        let answer = ask(&browser.host, "GET", path, &[format!("Host: {}", browser.host)], "").await;
        assert_eq!(answer.status, 401, "{path}");
    }
    assert_eq!(browser.log_in("wrong").await.status, 403);
    let entered = browser.log_in(PASSWORD).await;
    let cookie = entered.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let inside = Browser::in_console(&harness.server).await;
    let page = inside.get("/console/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(inside.post("/console/logout", "").await.status, 303);
    assert_eq!(inside.get("/console/").await.status, 303, "a session that ended is none");
    harness.quit().await;
}

#[tokio::test]
async fn a_session_is_sent_in_clear_on_this_machine_only() {
    let settings = [SETTINGS[0], ("PUBLIC_URL", "https://phone.example.com")];
    let harness = Harness::with(CLINIC, &[], ModelOptions::default(), &settings).await;
    let browser = Browser::new(&harness.server);
    for (host, origin, is_secure) in [
        ("phone.example.com", "https://phone.example.com", true),
        ("localhost", "http://localhost", false),
        ("localhost", "https://localhost", true),
    ] {
        let headers = [format!("Host: {host}"), format!("Origin: {origin}")];
        let form = format!("password={}", PASSWORD.replace(' ', "+"));
        let answer = ask(&browser.host, "POST", "/console/login", &headers, &form).await;
        assert_eq!(answer.status, 303, "{host}");
        assert_eq!(answer.header("set-cookie").unwrap().contains("Secure"), is_secure, "{host} {origin}");
    }
    harness.quit().await;
}

#[tokio::test]
async fn guessing_is_stopped_even_for_the_right_password() {
    let harness = open().await;
    let browser = Browser::new(&harness.server);
    for _ in 0..5 {
        assert_eq!(browser.log_in("wrong").await.status, 403);
    }
    let stopped = browser.log_in(PASSWORD).await;
    assert_eq!(stopped.status, 429);
    assert!(stopped.header("retry-after").is_some() && stopped.header("set-cookie").is_none());
    harness.quit().await;
}

#[tokio::test]
async fn a_page_of_somebody_else_changes_nothing() {
    let harness = open().await;
    let (inside, other) =
        (Browser::in_console(&harness.server).await, Browser::in_console(&harness.server).await);
    let begin = format!("csrf={}&assistant=clinic&caller=known", inside.csrf);
    let (host, cookie) = (format!("Host: {}", inside.host), format!("Cookie: {}", inside.cookie));
    let origin = format!("Origin: {}", inside.origin);
    for (what, headers, body) in [
        ("no origin", vec![host.clone(), cookie.clone()], begin.clone()),
        (
            "another origin",
            vec![host.clone(), cookie.clone(), "Origin: https://evil.example".to_owned()],
            begin.clone(),
        ),
        ("no page at all", vec![host.clone(), cookie.clone(), "Origin: null".to_owned()], begin.clone()),
        (
            "a name that leads here",
            vec!["Host: evil.example".to_owned(), cookie.clone(), origin.clone()],
            begin.clone(),
        ),
        ("no token", vec![host.clone(), cookie.clone(), origin.clone()], "assistant=clinic".to_owned()),
        (
            "the token of another session",
            vec![host.clone(), cookie.clone(), origin.clone()],
            format!("csrf={}&assistant=clinic", other.csrf),
        ),
    ] {
        let answer = ask(&inside.host, "POST", "/console/talk", &headers, &body).await;
        assert_eq!(answer.status, 403, "{what}");
    }
    let no_session = ask(&inside.host, "POST", "/console/talk", &[host, origin], &begin).await;
    assert_eq!(no_session.status, 401);
    assert_eq!(inside.post("/console/talk", "assistant=clinic&caller=known").await.status, 200);
    harness.quit().await;
}

#[tokio::test]
async fn without_a_password_and_a_token_there_is_nothing() {
    let harness = Harness::open(CLINIC, ModelOptions::default()).await;
    let browser = Browser::new(&harness.server);
    for path in [
        "/console",
        "/console/",
        "/console/login",
        "/console/assets/live.js",
        "/console/open/x",
        "/api/calls",
    ] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    assert_eq!(browser.log_in("").await.status, 404);
    harness.quit().await;
}

#[tokio::test]
async fn assets_are_checked_again_and_not_sent_twice() {
    let harness = open().await;
    let browser = Browser::new(&harness.server);
    for (file, kind) in [("console.css", "text/css"), ("phone.js", "text/javascript")] {
        let first = browser.get(&format!("/console/assets/{file}")).await;
        assert_eq!(first.status, 200);
        assert!(first.header("content-type").unwrap().starts_with(kind));
        let tag = format!("If-None-Match: {}", first.header("etag").unwrap());
        let headers = [format!("Host: {}", browser.host), tag];
        let again = ask(&browser.host, "GET", &format!("/console/assets/{file}"), &headers, "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
    }
    assert_eq!(browser.get("/console/assets/..%2f..%2fCargo.toml").await.status, 404);
    harness.quit().await;
}

#[tokio::test]
async fn every_page_is_made_and_the_api_needs_its_token() {
    let harness = open().await;
    let inside = Browser::in_console(&harness.server).await;
    for page in ["", "calls", "assistants", "assistants/clinic", "messages", "health", "talk"] {
        let answer = inside.get(&format!("/console/{page}")).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        assert!(answer.body.contains("<main") && !answer.body.contains("cannot be made"), "{page}");
        assert!(!answer.body.contains(" style=") && !answer.body.contains("onclick"), "{page}");
    }
    for (method, page, status) in [
        ("POST", "assistants/clinic", 200),
        ("POST", "calls", 200),
        ("GET", "assistants/nobody", 404),
        ("GET", "now/CA00000000000000000000000000000001", 404),
    ] {
        let path = format!("/console/{page}");
        let answer = match method {
            "POST" => inside.post(&path, "caller=withheld&at=18:30").await,
            _ => inside.get(&path).await,
        };
        assert_eq!(answer.status, status, "{page}");
        assert!(!answer.body.contains("cannot be made"), "{page}");
    }
    let host = format!("Host: {}", inside.host);
    for (token, status) in [("", 401), ("Authorization: Bearer wrong", 401)] {
        let headers: Vec<String> =
            [host.as_str(), token].iter().filter(|it| !it.is_empty()).map(|it| (*it).to_owned()).collect();
        assert_eq!(ask(&inside.host, "GET", "/api/assistants", &headers, "").await.status, status);
    }
    let headers = [host, format!("Authorization: Bearer {}", SETTINGS[1].1)];
    let assistants = ask(&inside.host, "GET", "/api/assistants", &headers, "").await.json();
    assert_eq!(assistants["assistants"][0]["name"], "clinic");
    let health = ask(&inside.host, "GET", "/api/health", &headers, "").await.json();
    assert_eq!((&health["status"], &health["providers"][0]["up"]), (&json!("ready"), &json!(true)));
    harness.quit().await;
}

#[tokio::test]
async fn a_call_from_the_browser_is_a_test_and_counts_for_nothing() {
    // One call of a real caller is all that this file lets in.
    let file = format!("{CLINIC}limits: {{ calls: 1 }}\n");
    let mut harness = Harness::with(&file, &[], ModelOptions::default(), &SETTINGS).await;
    let inside = Browser::in_console(&harness.server).await;
    let series = "switchboard_calls_total{assistant=\"clinic\",reason=\"caller.hung_up\"}";
    let before = harness.metrics().lines().find(|line| line.starts_with(series)).map(str::to_owned);
    let begun = inside.post("/console/talk", "assistant=clinic&caller=withheld").await.json();
    let mut line = Line::open(&begun).await.unwrap();
    assert_eq!(Line::open(&begun).await.err(), Some(403), "a ticket lets one stream in");
    line.start(&begun).await;
    line.hear().await;
    let live = inside.get(&format!("/console/now/{}", begun["call"].as_str().unwrap())).await;
    assert!(live.status == 200 && live.body.contains("badge-test"), "{}", live.body);
    // A real caller gets the only place meanwhile.
    let phone = harness.dial(harness.phone());
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
    phone.control().hang_up();
    finished(phone).await;
    line.send(json!({"event": "stop", "streamSid": "MZ00000000000000000000000000000001"})).await;
    let then = inside.post(begun["follow"].as_str().unwrap(), "over=1").await.json();
    assert_eq!(then["then"], "hang_up");
    let mut tests = Vec::new();
    for _ in 0..2 {
        let ended = harness.ended().await;
        assert_eq!(ended.reason, EndReason::CallerHungUp);
        tests.push(ended.record.test);
    }
    assert_eq!(tests, [false, true]);
    let after = harness.metrics().lines().find(|line| line.starts_with(series)).map(str::to_owned);
    let count =
        |line: Option<String>| line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap());
    let (before, after): (u64, u64) = (count(before), count(after));
    assert_eq!(after, before + 1, "the caller counts, and the test does not");
    harness.quit().await;
}

#[tokio::test]
async fn a_transfer_in_the_browser_is_shown_and_its_outcome_chosen() {
    let file = format!(
        "{}call_control:\n  transfer_to: {{ reception: {{ number: \"+15550100008\", ring_for: 20s }} }}\n",
        CLINIC.replace("call_control: { end_call: true }\n", "")
    );
    let transfer = Reply::say("I connect you now.").and_call("transfer_call", r#"{"to":"reception"}"#);
    let script = model(vec![transfer, Reply::say("They are not there. What else?")]);
    let harness = Harness::with(&file, &[], script, &SETTINGS).await;
    let inside = Browser::in_console(&harness.server).await;
    let begun = inside.post("/console/talk", "assistant=clinic&caller=known").await.json();
    let mut line = Line::open(&begun).await.unwrap();
    line.start(&begun).await;
    let (mut at, mut marks) = (0, 0);
    // The browser plays what it gets, answers marks, and the caller speaks once the greeting was heard.
    let talk = async {
        let words = speech(600);
        let mut frames = words.chunks(160).cycle();
        let mut spoken = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    let silence = [0xff; 160];
                    let frame = if marks > 0 && spoken < 30 { spoken += 1; frames.next().unwrap() } else { &silence[..] };
                    let payload = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, frame);
                    line.send(json!({
                        "event": "media", "sequenceNumber": (at + 2).to_string(),
                        "streamSid": "MZ00000000000000000000000000000001",
                        "media": {"track": "inbound", "chunk": (at + 1).to_string(), "timestamp": (at * 20).to_string(), "payload": payload},
                    })).await;
                    at += 1;
                }
                message = line.0.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let message: Value = serde_json::from_str(&text).unwrap();
                        if message["event"] == "mark" {
                            marks += 1;
                            line.send(message).await;
                        }
                    }
                    Some(Ok(Message::Close(_))) | None | Some(Err(_)) => return,
                    Some(Ok(_)) => {}
                }
            }
        }
    };
    timeout(PATIENCE, talk).await.expect("the assistant sends the caller away");
    let follow = begun["follow"].as_str().unwrap();
    let dial = inside.post(follow, "").await.json();
    assert_eq!((&dial["then"], &dial["number"]), (&json!("dial"), &json!("+15550100008")));
    assert_eq!(inside.post(follow, "").await.json(), dial, "the same question gets the same answer");
    let back = inside.post(follow, "dialed=busy").await.json();
    assert_eq!(back["then"], "stream_again");
    assert_ne!(back["stream"], begun["stream"]);
    let mut line = Line::open(&back).await.unwrap();
    line.start(&begun).await;
    line.hear().await;
    harness.quit().await;
}

#[tokio::test]
async fn the_browser_cannot_steer_a_call_of_a_real_caller() {
    let mut harness = open().await;
    let inside = Browser::in_console(&harness.server).await;
    let phone = harness.dial(harness.phone());
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
    phone.control().hang_up();
    let record = finished(phone).await;
    let ticket = record.streams[0].url.rsplit('/').next().unwrap().to_owned();
    for ticket in [ticket.as_str(), "AAAA", ""] {
        let answer = inside.post(&format!("/console/talk/{ticket}"), "dialed=busy").await;
        assert!([404, 405].contains(&answer.status), "{}", answer.body);
    }
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    harness.quit().await;
}

#[tokio::test]
async fn an_operator_watches_a_call_and_ends_it_with_a_goodbye() {
    let mut harness = open().await;
    let inside = Browser::in_console(&harness.server).await;
    let phone = harness.dial(harness.phone());
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
    let list = inside.get("/console/").await;
    let sid = list.body.split("href=\"/console/now/").nth(1).and_then(|rest| rest.split('"').next());
    let sid = sid.expect("the call is listed").to_owned();
    let headers = [
        format!("Host: {}", inside.host),
        format!("Cookie: {}", inside.cookie),
        "Accept: text/event-stream".to_owned(),
    ];
    let mut events = connect(&inside.host, "GET", &format!("/console/live/now/{sid}"), &headers, "").await;
    let mut seen = String::new();
    let ended = inside.post(&format!("/console/now/{sid}/end"), "").await;
    assert_eq!(ended.status, 303);
    let record = finished(phone).await;
    assert_eq!(record.end, CallEnd::HungUp);
    let ended = harness.ended().await;
    assert_eq!(ended.reason, EndReason::OperatorEnded);
    assert!(ended.record.turns.len() >= 2, "a greeting and a goodbye: {:?}", ended.record.turns);
    let over = async {
        let mut part = [0; 4096];
        while !seen.contains("operator.ended") {
            let read = events.read(&mut part).await.unwrap();
            assert!(read > 0, "the stream goes on: {seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..read]));
        }
    };
    timeout(PATIENCE, over).await.expect("the end is shown");
    assert!(seen.contains("text/event-stream") && seen.contains("data: "), "{seen}");
    harness.quit().await;
}

#[tokio::test]
async fn a_page_that_watches_is_ended_when_the_server_drains() {
    let mut harness = open().await;
    let inside = Browser::in_console(&harness.server).await;
    let headers = [format!("Host: {}", inside.host), format!("Cookie: {}", inside.cookie)];
    let mut events = connect(&inside.host, "GET", "/console/live/now", &headers, "").await;
    let mut part = [0; 4096];
    assert!(timeout(PATIENCE, events.read(&mut part)).await.unwrap().unwrap() > 0, "a snapshot comes first");
    harness.close();
    let ended = async { while events.read(&mut part).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, ended).await.expect("the stream ends");
    harness.quit().await;
}

#[tokio::test]
async fn a_session_that_ended_watches_no_more() {
    let harness = open().await;
    let inside = Browser::in_console(&harness.server).await;
    let headers = [format!("Host: {}", inside.host), format!("Cookie: {}", inside.cookie)];
    let mut events = connect(&inside.host, "GET", "/console/live/now", &headers, "").await;
    let mut part = [0; 4096];
    assert!(timeout(PATIENCE, events.read(&mut part)).await.unwrap().unwrap() > 0);
    assert_eq!(inside.post("/console/logout", "").await.status, 303);
    let ended = async { while events.read(&mut part).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, ended).await.expect("the stream ends at the next heartbeat");
    harness.quit().await;
}

#[tokio::test]
async fn anybody_may_try_no_more_than_eight_calls_at_once() {
    let harness = open().await;
    let inside = Browser::in_console(&harness.server).await;
    for _ in 0..8 {
        assert_eq!(inside.post("/console/talk", "assistant=clinic").await.status, 200);
    }
    assert_eq!(inside.post("/console/talk", "assistant=clinic").await.status, 503);
    for (form, status) in [
        ("assistant=nobody", 404),
        ("assistant=clinic&number=12", 400),
        ("assistant=clinic&at=yesterday", 400),
    ] {
        assert_eq!(inside.post("/console/talk", form).await.status, status, "{form}");
    }
    assert_eq!(counted("switchboard_calls_active"), 0, "they take no place of a caller");
    harness.quit().await;
}

/// The first call of the history that is over, as its page.
async fn first_call(inside: &Browser) -> (String, Answer) {
    let found = async {
        loop {
            let list = inside.get("/console/calls").await;
            let row =
                list.body.split("<tr class=\"call-row\">").nth(1).filter(|row| !row.contains("in progress"));
            if let Some(row) = row {
                let href = row.split("href=\"").nth(1).and_then(|rest| rest.split('"').next());
                break href.expect("a link").to_owned();
            }
        }
    };
    let href = timeout(PATIENCE, found).await.expect("the call is in the history");
    let page = inside.get(&href).await;
    (href, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_says_is_text_on_every_page_and_can_be_erased() {
    const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'";
    let state = tempfile::tempdir().unwrap();
    let settings = [SETTINGS[0], SETTINGS[1], ("STATE_DIR", state.path().to_str().unwrap())];
    let replies = vec![Reply::say(format!("I heard {HOSTILE}")).to(HOSTILE)];
    let harness = Harness::keeping(CLINIC, model(replies), &settings).await;
    let inside = Browser::in_console(&harness.server).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await);
    phone.say(speech(600));
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
    assert!(phone.wait_until_quiet(Duration::from_millis(300)).await);
    let now = inside.get("/console/").await;
    phone.control().hang_up();
    finished(phone).await;
    let (href, page) = first_call(&inside).await;
    let (_, json) = (inside.get("/console/").await, inside.get(&format!("{href}/record.json")).await);
    assert!(json.json()["turns"].to_string().contains("<script>"), "the record has the words: {}", json.body);
    assert_eq!(json.header("content-type"), Some("application/json"));
    for answer in [&now, &page] {
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("<script>") && !answer.body.contains("<img"), "{}", answer.body);
    }
    assert!(page.body.contains("&lt;script&gt;"), "{}", page.body);
    assert!(!href.contains("5550100"), "{href}");

    // A search is posted, and finds the call by its number and its words.
    for (form, is_found) in [
        ("caller=%2B15550100100", true),
        ("caller=%2B15550100101", false),
        ("text=alert", true),
        ("reason=model", false),
        ("assistant=clinic&reason=caller.hung_up", true),
    ] {
        let list = inside.post("/console/calls", form).await;
        assert_eq!(list.body.contains(&format!("href=\"{href}\"")), is_found, "{form}: {}", list.body);
    }
    // Erasing asks first.
    let asks = inside.post(&format!("{href}/erase"), "").await;
    assert_eq!((asks.status, inside.get(&href).await.status), (200, 200));
    assert_eq!(inside.post(&format!("{href}/erase"), "confirm=yes").await.status, 303);
    assert_eq!(inside.get(&href).await.status, 404);
    harness.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_played_in_parts_by_those_with_a_session_and_goes_with_its_call() {
    let state = tempfile::tempdir().unwrap();
    let settings = [SETTINGS[0], SETTINGS[1], ("STATE_DIR", state.path().to_str().unwrap())];
    let assistant = format!("{CLINIC}record: {{ audio: true }}\n");
    let harness = Harness::keeping(&assistant, ModelOptions::default(), &settings).await;
    let inside = Browser::in_console(&harness.server).await;
    let phone = harness.dial(harness.phone());
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
    phone.control().hang_up();
    finished(phone).await;
    let (href, page) = first_call(&inside).await;
    let path = format!("{href}/recording.wav");
    assert!(page.body.contains(&path), "{}", page.body);
    let cookie = format!("Cookie: {}", inside.cookie);
    let hear = async |session: Option<&String>, range: &str| {
        let mut headers = vec![format!("Host: {}", inside.host), format!("Range: {range}")];
        headers.extend(session.cloned());
        ask(&inside.host, "GET", &path, &headers, "").await
    };

    assert_eq!(hear(None, "bytes=0-3").await.status, 401);
    let part = hear(Some(&cookie), "bytes=0-3").await;
    assert_eq!((part.status, part.body.as_str()), (206, "RIFF"));
    assert_eq!((part.header("content-type"), part.header("content-length")), (Some("audio/wav"), Some("4")));
    let size = part.header("content-range").and_then(|range| range.strip_prefix("bytes 0-3/")).unwrap();
    let files: Vec<_> = std::fs::read_dir(state.path().join("recordings")).unwrap().collect();
    let file = files[0].as_ref().unwrap().path();
    assert_eq!(size, std::fs::metadata(&file).unwrap().len().to_string());
    assert_eq!(hear(Some(&cookie), &format!("bytes={size}-")).await.status, 416);

    assert_eq!(inside.post(&format!("{href}/erase"), "confirm=yes").await.status, 303);
    assert_eq!(hear(Some(&cookie), "bytes=0-3").await.status, 404);
    assert!(!file.exists());
    harness.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_another_machine_is_shown_as_that() {
    let state = tempfile::tempdir().unwrap();
    let settings = [SETTINGS[0], SETTINGS[1], ("STATE_DIR", state.path().to_str().unwrap())];
    let harness = Harness::keeping(CLINIC, ModelOptions::default(), &settings).await;
    let inside = Browser::in_console(&harness.server).await;
    // Another process with the same database.
    let place = Place::Sqlite(state.path().join("switchboard.db"));
    let (records, _, closer) = store::start(Options::new(place));
    let (now, caller) = (Timestamp::now(), Party::Number(PhoneNumber::parse("+15550100007").unwrap()));
    let sid = "CA000000000000000000000000000000e1";
    let rang = Rang::new(sid, &caller, &caller, Answering::nobody(RecordPolicy::default()), now);
    records.file(&RecordId::new(now, 1), Entry { at_ms: 0, what: What::Rang(rang) });
    let shown = async {
        loop {
            let page = inside.get("/console/").await.body;
            if page.contains("+15550100007") {
                break page;
            }
        }
    };
    let page = timeout(PATIENCE, shown).await.expect("the call is shown");
    assert!(page.contains("another machine") && !page.contains("/console/now/CA"), "{page}");
    assert_eq!(
        inside.post(&format!("/console/now/{sid}/end"), "").await.status,
        404,
        "it cannot be ended here"
    );
    closer.close(PATIENCE).await;
    harness.quit().await;
}

#[tokio::test]
async fn a_link_opens_the_console_once_and_on_this_machine_only() {
    let harness = Harness::with_link(CLINIC).await;
    let mut browser = Browser::new(&harness.server);
    let link = harness.link.clone().expect("a link");
    let through_a_tunnel = [
        vec![format!("Host: {}", browser.host), "X-Forwarded-For: 192.0.2.1".to_owned()],
        vec!["Host: tunnel.example.com".to_owned()],
    ];
    for headers in through_a_tunnel {
        assert_eq!(ask(&browser.host, "GET", &link, &headers, "").await.status, 404, "{headers:?}");
    }
    assert_eq!(browser.get("/console/open/AAAA").await.status, 403);
    let opened = browser.get(&link).await;
    assert_eq!(opened.status, 303);
    assert_eq!(browser.get(&link).await.status, 403, "it was used");
    let cookie = opened.header("set-cookie").unwrap();
    browser.cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(browser.get("/console/").await.status, 200);
    let headers = [
        format!("Host: {}", browser.host),
        format!("Cookie: {}", browser.cookie),
        "CF-Connecting-IP: 192.0.2.1".to_owned(),
    ];
    assert_eq!(ask(&browser.host, "GET", "/console/", &headers, "").await.status, 404);
    assert_eq!(browser.log_in("").await.status, 403, "there is no password to guess");
    harness.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_the_pages_say_so_and_calls_are_shown() {
    // Nothing listens there.
    let settings = [SETTINGS[0], SETTINGS[1], ("DATABASE_URL", "postgres://nobody@127.0.0.1:9/none")];
    let harness = Harness::keeping(CLINIC, ModelOptions::default(), &settings).await;
    let inside = Browser::in_console(&harness.server).await;
    let phone = harness.dial(harness.phone());
    phone.wait_until_playing_for(Duration::from_millis(10)).await;
    for (page, is_said) in
        [("", true), ("calls", true), ("messages", true), ("health", false), ("talk", false)]
    {
        let answer = timeout(Duration::from_secs(10), inside.get(&format!("/console/{page}"))).await;
        let answer = answer.unwrap_or_else(|_| panic!("/console/{page} hangs"));
        assert_eq!(answer.status, 200, "{page}");
        let says = answer.body.contains("The database does not answer");
        assert_eq!(says, is_said, "{page}: {}", answer.body);
        if page.is_empty() {
            assert!(answer.body.contains("/console/now/CA"), "the call is shown: {}", answer.body);
        }
    }
    assert_eq!(inside.get("/console/calls/01J00000000000000000000000").await.status, 503);
    let headers = [format!("Host: {}", inside.host), format!("Authorization: Bearer {}", SETTINGS[1].1)];
    assert_eq!(ask(&inside.host, "GET", "/api/calls", &headers, "").await.status, 503);
    phone.control().hang_up();
    finished(phone).await;
    harness.quit().await;
}
