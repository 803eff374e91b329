//! A stub for `fly mcp launch`: 202 for every `POST`, and JSON lines from the one `GET` that it allows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use switchboard::tool::Trouble;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::stub::{Asked, Stub, received, tool};
use crate::{WHISPER, at, back, call, keeping, listed, log_of, trouble, until, worked};

/// The listener of the program's output, which is lost without one.
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
        let mut listening = self.0.lock().unwrap();
        if listening.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return StatusCode::CONFLICT.into_response();
        }
        let (sender, lines) = mpsc::unbounded_channel();
        *listening = Some(sender);
        let body = Body::from_stream(received(lines).map(Ok::<_, std::io::Error>));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    }

    /// The legacy program that all clients share.
    fn program(&self, asked: &Value) {
        let id = &asked["id"];
        let result = match asked["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "wrapped", "version": "1"},
            }),
            "tools/list" => json!({"tools": [tool("tell")]}),
            "tools/call" => {
                // An answer to another client with the same id.
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
async fn a_server_made_by_fly_mcp_launch_is_recognized() {
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
    // After the listener is cut off, it reconnects.
    *wrap.0.lock().unwrap() = None;
    back(&server).await;
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), format!("wrapped {WHISPER}"));
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_listener_is_logged_once_and_outlasted() {
    let (wrap, stub) = wrapped().await;
    let (other, mut listening) = mpsc::unbounded_channel();
    *wrap.0.lock().unwrap() = Some(other);
    let server = at("fly-taken", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(trouble(&tools, &server).await, Trouble::Taken);
    let tries = || stub.asked().iter().filter(|asked| asked.method == Method::GET).count();
    until(|| (tries() >= 2).then_some(())).await;
    let warned = log_of(&server).iter().filter(|line| line.contains("WARN")).count();
    assert_eq!(warned, 1);
    listening.close();
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), format!("wrapped {WHISPER}"));
    tools.close().await;
}

#[tokio::test]
async fn a_wrong_token_does_not_look_like_fly() {
    let (_, stub) = wrapped().await;
    let reach = switchboard::assistant::plan::Reach::Url { url: stub.url.clone(), headers: Vec::new() };
    let server = Arc::new(switchboard::assistant::plan::Server { name: "fly-locked".to_owned(), reach });
    let tools = keeping(&[&server]);
    assert_eq!(trouble(&tools, &server).await, Trouble::Unauthorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn such_a_server_is_listed_more_often() {
    // Proxies cut a stream after a minute of silence.
    let (_, stub) = wrapped().await;
    let server = at("fly-quiet", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let relisted = async {
        while stub.count("tools/list") < 2 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(45), relisted).await.expect("within a minute");
    tools.close().await;
}
