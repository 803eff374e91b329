//! Stubs: an HTTP server, and the answers of a well-behaved legacy MCP server.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub headers: HeaderMap,
    /// `null` if the body was not JSON.
    pub body: Value,
}

impl Asked {
    /// The JSON-RPC method, or an empty string.
    pub fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
}

/// A server that ends with its connections when it is dropped.
pub struct Stub {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    pub async fn new(answer: impl Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync + 'static) -> Stub {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp?key={}", listener.local_addr().unwrap(), crate::WHISPER);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        let router = axum::Router::new().fallback(move |method: Method, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let asked = Asked { method, headers, body };
            log.lock().unwrap().push(asked.clone());
            answer(asked)
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Stub { url, asked, task }
    }

    /// Gives every request the same answer.
    pub async fn always(answer: impl Fn() -> Response + Send + Sync + 'static) -> Stub {
        Stub::new(move |_| {
            let answer = answer();
            Box::pin(async { answer })
        })
        .await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The number of requests with a JSON-RPC method.
    pub fn count(&self, rpc: &str) -> usize {
        self.asked().iter().filter(|asked| asked.rpc() == rpc).count()
    }
}

/// The answers of a legacy server without sessions, except to `tools/call`.
pub fn legacy(asked: &Asked, tools: &[Value]) -> Option<Response> {
    let result = match asked.rpc() {
        _ if asked.method != Method::POST => return Some(StatusCode::METHOD_NOT_ALLOWED.into_response()),
        "server/discover" => return Some(error(StatusCode::BAD_REQUEST, &Value::Null, -32000)),
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "stub", "version": "1"},
        }),
        "tools/list" => json!({"tools": tools}),
        rpc if rpc.starts_with("notifications/") => return Some(StatusCode::ACCEPTED.into_response()),
        _ => return None,
    };
    Some(result_of(asked, result))
}

pub fn tool(name: &str) -> Value {
    json!({"name": name, "description": format!("Does {name}"), "inputSchema": {"type": "object"}})
}

pub fn result_of(asked: &Asked, result: Value) -> Response {
    json_of(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result}))
}

pub fn text_of(asked: &Asked, text: &str) -> Response {
    result_of(asked, json!({"content": [{"type": "text", "text": text}]}))
}

pub fn error(status: StatusCode, id: &Value, code: i32) -> Response {
    json_of(status, &json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}}))
}

pub fn json_of(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A sender of messages, and their stream of server-sent events. It ends when the sender is dropped.
pub fn events() -> (mpsc::UnboundedSender<Value>, Response) {
    let (sender, messages) = mpsc::unbounded_channel::<Value>();
    let messages = received(messages);
    let body = Body::from_stream(
        messages.map(|message| Ok::<_, std::io::Error>(format!("event: message\ndata: {message}\n\n"))),
    );
    (sender, ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// A receiver as a stream.
pub fn received<T: Send + 'static>(
    messages: mpsc::UnboundedReceiver<T>,
) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::unfold(messages, |mut messages| async { Some((messages.recv().await?, messages)) })
}
