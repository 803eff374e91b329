//! Jobs with services that work, misbehave, or do not answer.

mod messages;

use std::collections::VecDeque;
use std::fs;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rustls::RootCertStore;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::*;
use crate::assistant::plan::{HttpCall, Mailbox, Webhook};
use crate::post;
use crate::secret::Secret;

/// The longest wait.
const LIMIT: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request.
struct Received {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// Status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// A service on this machine. It gives its answers in turn, and repeats the last one.
struct Service {
    url: String,
    requests: mpsc::UnboundedReceiver<Received>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    serving: AbortHandle,
}

#[derive(Clone)]
struct Script {
    requests: mpsc::UnboundedSender<Received>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Service {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests_tx, requests) = mpsc::unbounded_channel();
        let answers = Arc::default();
        let script = Script { requests: requests_tx, answers: Arc::clone(&answers) };
        let routes = Router::new().fallback(answer).with_state(script);
        let serving =
            tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }).abort_handle();
        Self { url, requests, answers, serving }
    }

    fn answers(&self, status: u16, body: impl Into<Vec<u8>>) {
        self.answers.lock().unwrap().push_back((status, Vec::new(), body.into()));
    }

    fn redirects(&self, status: u16, location: String) {
        self.answers.lock().unwrap().push_back((status, vec![("location", location)], Vec::new()));
    }

    async fn next(&mut self) -> Received {
        timeout(LIMIT, self.requests.recv()).await.expect("a request").unwrap()
    }

    fn is_idle(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    State(script): State<Script>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (status, headers_out, text) = {
        let mut answers = script.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap_or((
            200,
            vec![],
            vec![],
        ))
    };
    let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
    for (name, value) in headers_out {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    let _ = script.requests.send(Received { method, uri, headers, body });
    response
}

fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn tools(state: Option<&Path>) -> Tools {
    Tools::with(&tls(), None, None, state).unwrap()
}

fn client(from: &str) -> Client {
    Client {
        call: CallSid::parse("CA00000000000000000000000000000001").unwrap(),
        assistant: "clinic".to_owned(),
        caller: Party::from_twilio(from),
        called: Party::from_twilio("+15550100001"),
        keep: Duration::from_secs(3_600),
        reader: Default::default(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("{value} is no object") };
    map
}

async fn run(tools: &Tools, job: &Job, arguments: Value, from: &str) -> Done {
    timeout(LIMIT, tools.run(job, object(arguments), &client(from), || {})).await.expect("an end")
}

// ── functions over HTTP ──

fn function(method: &str, url: String) -> HttpCall {
    HttpCall {
        method: method.to_owned(),
        url,
        headers: Vec::new(),
        body: None,
        success: Vec::new(),
        answer: None,
        parameters: Map::new(),
        known: Default::default(),
    }
}

#[tokio::test]
async fn an_answer_becomes_text_for_the_model() {
    let long = "é".repeat(20_000);
    for (what, status, body, part, success, expected, failed) in [
        ("a part", 200, r#"{"tasks":[{"title":"Milk"}]}"#, Some("tasks.0.title"), vec![], "Milk", None),
        ("an object", 200, r#"{"a": {"b": [1, 2]}}"#, Some("a"), vec![], r#"{"b":[1,2]}"#, None),
        ("everything", 201, r#"{"a": 1}"#, None, vec![], r#"{"a":1}"#, None),
        ("text", 200, " It is open.\n", None, vec![], "It is open.", None),
        ("nothing", 204, "", None, vec![], "Done.", None),
        ("nothing instead of a part", 200, "", Some("a"), vec![], "Done.", None),
        ("a status that counts", 404, "[]", None, vec![404], "[]", None),
        ("another part", 200, r#"{"a": 1}"#, Some("b.c"), vec![], "", Some("nothing_there")),
        ("text instead of a part", 200, "x", Some("b"), vec![], "", Some("nothing_there")),
        ("an error", 500, "secret words", None, vec![], "500", Some("status")),
        ("a status that does not count", 200, "{}", None, vec![201], "200", Some("status")),
        ("a long text", 200, long.as_str(), None, vec![], CUT, None),
        ("a very long text", 200, "é".repeat(900_000).leak(), None, vec![], CUT, None),
        (
            "an image",
            200,
            r#"{"p": {"data": "AAAA", "mimeType": "image/png"}}"#,
            Some("p"),
            vec![],
            "(an image, image/png)",
            None,
        ),
    ] {
        let service = Service::open().await;
        service.answers(status, body);
        let mut call = function("GET", format!("{}/path", service.url));
        (call.answer, call.success) = (part.map(str::to_owned), success);
        let done = run(&tools(None), &Job::Http(call), json!({}), "").await;
        assert_eq!(done.failed, failed, "{what}");
        let output = done.output.expose();
        let whole = failed.is_none() && body.len() < 1_000;
        assert!(if whole { output == expected } else { output.contains(expected) }, "{what}: {output}");
        assert!(
            output.len() < 17_000 && !output.contains("secret") && !output.contains("127.0.0.1"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn each_failure_of_a_service_has_a_code() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/path", listener.local_addr().unwrap());
    drop(listener);
    let service = Service::open().await;
    for (what, url, body, failed) in [
        ("unreachable", &closed, Vec::new(), "unreachable"),
        ("too large", &service.url, vec![b'a'; MAX_ANSWER + 1], "too_large"),
        ("no text", &service.url, vec![0xFF, 0xFE, 0x00], "not_text"),
        ("no address", &"nonsense".to_owned(), Vec::new(), "bad_arguments"),
    ] {
        service.answers.lock().unwrap().clear();
        service.answers(200, body);
        let done = run(&tools(None), &Job::Http(function("GET", url.clone())), json!({}), "").await;
        assert_eq!(done.failed, Some(failed), "{what}");
        assert!(done.output.expose().ends_with('.') && !done.output.expose().contains("127"), "{what}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_not_followed() {
    let mut service = Service::open().await;
    let mut stranger = Service::open().await;
    service.redirects(307, format!("{}/take", stranger.url));
    let mut call = function("POST", format!("{}/path", service.url));
    call.headers.push(("authorization".to_owned(), Secret::new("Bearer t0ken")));
    let done = run(&tools(None), &Job::Http(call.clone()), json!({"note": "hello"}), "").await;
    assert_eq!(done.failed, Some("status"));
    assert_eq!(service.next().await.headers["authorization"], "Bearer t0ken");
    assert!(stranger.is_idle());
    // At the same origin it is followed.
    service.answers.lock().unwrap().clear();
    service.redirects(307, "/other".to_owned());
    service.answers(200, "ok");
    let done = run(&tools(None), &Job::Http(call), json!({"note": "hello"}), "").await;
    assert_eq!((done.output.expose(), done.failed), ("ok", None));
    assert_eq!(service.next().await.uri.path(), "/path");
    assert_eq!(service.next().await.uri.path(), "/other");
}

#[tokio::test]
async fn a_redirect_never_turns_a_post_into_a_get() {
    for status in [301, 302, 303] {
        let mut service = Service::open().await;
        service.redirects(status, "/other".to_owned());
        service.answers(200, "ok");
        let call = function("POST", format!("{}/path", service.url));
        let done = run(&tools(None), &Job::Http(call), json!({"note": "hello"}), "").await;
        assert_eq!(done.failed, Some("status"), "{status}");
        let received = service.next().await;
        assert_eq!((received.method, received.uri.path()), (Method::POST, "/path"));
        assert!(service.is_idle(), "{status}");
    }
}

#[tokio::test]
async fn a_failure_after_which_the_request_may_be_done_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs_up = format!("http://{}", listener.local_addr().unwrap());
    let hanging_up = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // It closes the connection after the request.
        tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 64]).await.unwrap();
    });
    let service = Service::open().await;
    for (what, url, status, body, unknown) in [
        ("an error", &service.url, 500, Vec::new(), true),
        ("a gateway error", &service.url, 504, Vec::new(), true),
        ("redirected after the work", &service.url, 303, Vec::new(), true),
        ("too large", &service.url, 200, vec![b'a'; MAX_ANSWER + 1], true),
        ("closed early", &hangs_up, 0, Vec::new(), true),
        ("rejected", &service.url, 403, Vec::new(), false),
    ] {
        service.answers.lock().unwrap().clear();
        service.answers(status.max(200), body);
        let done = run(&tools(None), &Job::Http(function("POST", url.clone())), json!({}), "").await;
        assert!(done.failed.is_some(), "{what}");
        let output = done.output.expose();
        assert_eq!(output.ends_with(http::UNKNOWN), unknown, "{what}: {output}");
    }
    hanging_up.await.unwrap();
    let mut asks_for_an_id = function("POST", service.url.clone());
    asks_for_an_id.answer = Some("task.id".to_owned());
    for (what, body, failed) in [
        ("not text", b"\xe9t\xe9".to_vec(), "not_text"),
        ("without the part", b"{}".to_vec(), "nothing_there"),
        ("no JSON", b"ok".to_vec(), "nothing_there"),
    ] {
        service.answers.lock().unwrap().clear();
        service.answers(201, body);
        let done = run(&tools(None), &Job::Http(asks_for_an_id.clone()), json!({}), "").await;
        assert_eq!(done.failed, Some(failed), "{what}");
    }
}

// ── text messages ──

fn texting(url: &str) -> Tools {
    let account = Account::new(url, "AC1", "SK1", Secret::new("key"), &tls()).unwrap();
    Tools::with(&tls(), Some(account), None, None).unwrap()
}

const CALLER: &str = "+15550100007";

#[tokio::test]
async fn a_text_goes_from_the_called_number_to_the_caller() {
    let mut twilio = Service::open().await;
    twilio.answers(201, r#"{"sid":"SM1","status":"queued"}"#);
    let tools = texting(&twilio.url);
    assert!(tools.sends_texts());
    let done = run(&tools, &Job::SendSms, json!({"text": "Nine & five + 1"}), CALLER).await;
    assert_eq!(done.failed, None);
    let received = twilio.next().await;
    assert_eq!(
        (received.method, received.uri.path()),
        (Method::POST, "/2010-04-01/Accounts/AC1/Messages.json")
    );
    // SK1:key
    assert_eq!(received.headers["authorization"], "Basic U0sxOmtleQ==");
    assert_eq!(received.body, "To=%2B15550100007&From=%2B15550100001&Body=Nine+%26+five+%2B+1");
}

#[tokio::test]
async fn a_text_is_never_sent_twice() {
    let refused = |code: u32| format!(r#"{{"code":{code},"message":"To {CALLER}","status":400}}"#);
    for (what, answers, requests, failed) in [
        ("too often, then success", vec![(429, String::new()), (201, "{}".to_owned())], 2, None),
        ("a server error", vec![(500, String::new())], 1, Some("unknown")),
        ("a landline", vec![(400, refused(21614))], 1, Some("refused")),
        ("wrong key", vec![(401, refused(20003))], 1, Some("denied")),
    ] {
        let mut twilio = Service::open().await;
        answers.into_iter().for_each(|(status, body)| twilio.answers(status, body));
        let done = run(&texting(&twilio.url), &Job::SendSms, json!({"text": "Hi"}), CALLER).await;
        assert_eq!(done.failed, failed, "{what}");
        assert!(!done.output.expose().contains("555"), "{what}: {:?}", done.output.expose());
        for _ in 0..requests {
            twilio.next().await;
        }
        assert!(twilio.is_idle(), "{what}: more than {requests}");
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_sent_is_not_tried() {
    let mut twilio = Service::open().await;
    let long = "x".repeat(1_601);
    for (what, tools, text, from, failed) in [
        ("no credentials", tools(None), json!({"text": "Hi"}), CALLER, "denied"),
        ("withheld", texting(&twilio.url), json!({"text": "Hi"}), "anonymous", "no_number"),
        ("a SIP caller", texting(&twilio.url), json!({"text": "Hi"}), "sip:a@example.com", "no_number"),
        ("empty", texting(&twilio.url), json!({"text": " "}), CALLER, "bad_text"),
        ("no text", texting(&twilio.url), json!({"text": 7}), CALLER, "bad_text"),
        ("too long", texting(&twilio.url), json!({"text": long}), CALLER, "bad_text"),
    ] {
        let done = run(&tools, &Job::SendSms, text, from).await;
        assert_eq!(done.failed, Some(failed), "{what}");
    }
    assert!(twilio.is_idle());
    twilio.answers(201, "{}");
    let longest = json!({"text": "ü".repeat(1_600)});
    assert_eq!(run(&texting(&twilio.url), &Job::SendSms, longest, CALLER).await.failed, None);
}
