//! A stand-in for `fly mcp launch`: 202 to every `POST`, bare JSON lines from the one `GET` that is let in.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::stub::{Asked, Stub, received, tool};
use crate::{WHISPER, at, back, call, keeping, listed, log_of, until, worked, wrong};

/// Where what the program says goes: lost while nobody listens.
#[derive(Clone, Default)]
struct Wrap(Arc<Mutex<Option<mpsc::UnboundedSender<String>>>>);

impl Wrap {
    fn say(&self, message: &Value) {
        if let Some(listener) = &*self.0.lock().unwrap() {
            let _ = listener.send(format!("{message}\n"));
        }
    }

    fn answer(&self, asked: &Asked) -> Response {
        if asked.headers.get("authorization").is_none_or(|token| token != &format!("Bearer {WHISPER}")) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        match asked.method {
            Method::GET => self.listen(),
            Method::POST => {
                self.program(&asked.body);
                StatusCode::ACCEPTED.into_response()
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    fn listen(&self) -> Response {
        let mut place = self.0.lock().unwrap();
        if place.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return StatusCode::CONFLICT.into_response();
        }
        let (sender, lines) = mpsc::unbounded_channel();
        *place = Some(sender);
        let body = Body::from_stream(received(lines).map(Ok::<_, std::io::Error>));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    }

    /// The program behind it: one for all, in the legacy era.
    fn program(&self, asked: &Value) {
        let id = &asked["id"];
        let result = match asked["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "wrapped", "version": "1"},
            }),
            "tools/list" => json!({"tools": [tool("tell")]}),
            "tools/call" => {
                // An answer to somebody else, who had the same number.
                self.say(&json!({"jsonrpc": "2.0", "id": 3, "result": {"content": []}}));
                let token = &asked["params"]["_meta"]["progressToken"];
                let params = json!({"progressToken": token, "progress": 1});
                self.say(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
                json!({"content": [{"type": "text", "text": format!("wrapped {WHISPER}")}]})
            }
            _ if id.is_null() => return,
            _ => {
                let error = json!({"code": -32601, "message": "no"});
                return self.say(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
            }
        };
        self.say(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }
}

async fn wrapped() -> (Wrap, Stub) {
    let wrap = Wrap::default();
    let answering = wrap.clone();
    let stub = Stub::new(move |asked| {
        let response = answering.answer(&asked);
        Box::pin(async { response })
    })
    .await;
    (wrap, stub)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_made_by_fly_mcp_launch_is_seen_as_one_and_used() {
    let (wrap, stub) = wrapped().await;
    let server = at("fly", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 1);
    let log = log_of(&server);
    assert!(
        log.iter().any(|line| line.contains("Registered tools count: 1") && line.contains("fly mcp launch"))
    );
    for _ in 0..5 {
        let done = call(&tools, &server, "tell", json!({"what": WHISPER})).await;
        assert_eq!(worked(done), format!("wrapped {WHISPER}"));
    }
    // The listener is cut off: it is taken up again.
    *wrap.0.lock().unwrap() = None;
    back(&server).await;
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), format!("wrapped {WHISPER}"));
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_else_listens_it_is_said_once_and_tried_again() {
    let (wrap, stub) = wrapped().await;
    let (other, mut listening) = mpsc::unbounded_channel();
    *wrap.0.lock().unwrap() = Some(other);
    let server = at("fly-taken", &stub.url);
    let tools = keeping(&[&server]);
    let trouble = wrong(&tools, &server).await;
    assert!(trouble.contains("(409)") && trouble.contains("`command`"), "{trouble}");
    let tries = || stub.asked().iter().filter(|asked| asked.method == Method::GET).count();
    until(|| (tries() >= 2).then_some(())).await;
    let told = log_of(&server).iter().filter(|line| line.contains("WARN")).count();
    assert_eq!(told, 1);
    listening.close();
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), format!("wrapped {WHISPER}"));
    tools.close().await;
}

#[tokio::test]
async fn a_wrong_token_is_no_sign_of_fly() {
    let (_, stub) = wrapped().await;
    let reach = switchboard::assistant::plan::Reach::Url { url: stub.url.clone(), headers: Vec::new() };
    let server = Arc::new(switchboard::assistant::plan::Server { name: "fly-locked".to_owned(), reach });
    let tools = keeping(&[&server]);
    assert!(wrong(&tools, &server).await.contains("(401)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_to_such_a_server_is_never_silent_for_long() {
    // Proxies cut what is silent for a minute.
    let (_, stub) = wrapped().await;
    let server = at("fly-quiet", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let looked = async {
        while stub.count("tools/list") < 2 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(45), looked).await.expect("it is looked at before a minute is over");
    tools.close().await;
}
