//! MCP servers: those that answer, those that do not, and those that accept one client at a time.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::stub::{Asked, Stub, legacy, received, tool};
use crate::{Place, Report, WHISPER};

/// A report for an assistant with these servers.
async fn with(mcp: &str) -> Report {
    let place = Place::new().with(&[("TOOL_TOKEN", WHISPER)]);
    place.file("assistants/clinic.yaml", &format!("{}mcp:\n{mcp}", crate::CLINIC));
    place.doctor(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_listed_and_tools_that_are_off_are_reported() {
    let tools: Vec<Value> = ["add", "find"].map(tool).to_vec();
    let stub = Stub::new(move |asked| {
        let answer = legacy(&asked, &tools).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response());
        Box::pin(async { answer })
    })
    .await;
    let report = with(&format!(
        "  good: {{ url: \"{}\", token: \"${{TOOL_TOKEN}}\", allow: [add, fnd] }}\n  off: {{ url: \"${{NOWHERE:-}}\" }}\n  \
         gone: {{ url: \"http://127.0.0.1:9/mcp\" }}\n  program: {{ command: [/nonexistent/program] }}\n",
        stub.url
    ))
    .await;
    let servers = [("tool.server", "ok"), ("tool.server", "error"), ("tool.server", "error")];
    assert_eq!(report.found("tool.server"), servers, "{}", report.out);
    // One is misspelled, one is switched off; those of a server that cannot be listed are not reported again.
    let mut off = report.found("tool.off");
    off.sort();
    assert_eq!(off, [("tool.off", "ok"), ("tool.off", "warning")], "{}", report.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_as_an_mcp_server_is_an_error() {
    let page = || ([(header::CONTENT_TYPE, "text/html")], "<html>hello</html>").into_response();
    let unauthorized = Stub::always(|| StatusCode::UNAUTHORIZED.into_response()).await;
    let broken = Stub::always(|| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    let stubs = [("401", unauthorized), ("500", broken), ("a page", Stub::always(page).await)];
    for (what, stub) in &stubs {
        let report = with(&format!("  one: {{ url: \"{}\" }}\n", stub.url)).await;
        report.assert_bad(what, "tool.", &[("tool.server", "error")]);
    }
}

/// A server made by `fly mcp launch`: it answers every `POST` with 202, and sends bare JSON lines to the one `GET` that
/// it accepts.
#[derive(Clone, Default)]
struct Wrap(Arc<Mutex<Option<mpsc::UnboundedSender<String>>>>);

impl Wrap {
    fn answer(&self, asked: &Asked) -> Response {
        match asked.method {
            Method::GET => self.listen(),
            _ => {
                let id = &asked.body["id"];
                let result = match asked.rpc() {
                    "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                                           "serverInfo": {"name": "wrapped", "version": "1"}}),
                    "tools/list" => json!({"tools": [tool("add")]}),
                    _ => return StatusCode::ACCEPTED.into_response(),
                };
                if let Some(listener) = &*self.0.lock().unwrap() {
                    let _ =
                        listener.send(format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "result": result})));
                }
                StatusCode::ACCEPTED.into_response()
            }
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_made_by_fly_mcp_launch_is_a_warning() {
    let wrap = Wrap::default();
    let behind = wrap.clone();
    let stub = Stub::new(move |asked| {
        let answer = behind.answer(&asked);
        Box::pin(async { answer })
    })
    .await;
    let mcp = format!("  todo: {{ url: \"{}\" }}\n", stub.url);
    let report = with(&mcp).await;
    report.assert_bad("free", "tool.", &[("tool.wrapped", "warning")]);
    report.assert_fine("free", &["tool.server"]);
    let (other, _listening) = mpsc::unbounded_channel();
    *wrap.0.lock().unwrap() = Some(other);
    let report = with(&mcp).await;
    report.assert_bad("taken", "tool.", &[("tool.wrapped", "warning")]);
    report.assert_lacks("taken", &["tool.server"]);
}
