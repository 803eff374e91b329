//! MCP servers: those that answer, those that do not, and those that let one listener in at a time.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::stub::{Asked, Stub, legacy, received, tool};
use crate::{Place, Told, WHISPER};

/// A well-behaved server with these tools.
async fn server(names: &[&str]) -> Stub {
    let tools: Vec<Value> = names.iter().map(|name| tool(name)).collect();
    Stub::new(move |asked| {
        let answer = legacy(&asked, &tools).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response());
        Box::pin(async { answer })
    })
    .await
}

/// A check-up where an assistant has these servers.
async fn with(mcp: &str) -> Told {
    let place = Place::new().with(&[("TOOL_TOKEN", WHISPER)]);
    place.file("assistants/clinic.yaml", &format!("{}mcp:\n{mcp}", crate::CLINIC));
    place.doctor(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_their_tools_are_listed_and_what_is_off_says_why() {
    let stub = server(&["add", "find"]).await;
    let told = with(&format!(
        "  good: {{ url: \"{}\", token: \"${{TOOL_TOKEN}}\", allow: [add, fnd] }}\n  off: {{ url: \"${{NOWHERE:-}}\" }}\n  \
         gone: {{ url: \"http://127.0.0.1:9/mcp\" }}\n  program: {{ command: [/nonexistent/program] }}\n",
        stub.url
    ))
    .await;
    told.says("there", "tool.server", "ok", ["the MCP server `good` has 2 tools", "", ""]);
    told.says(
        "misspelt",
        "tool.off",
        "warning",
        ["`good.fnd` of `clinic` is off", "does not have it", "switchboard show clinic"],
    );
    told.says("switched off", "tool.off", "ok", ["`off` of `clinic` is off: its `url` is empty", "", ""]);
    let words =
        ["`gone` cannot be listed: no connection to it can be made", "its tools are off", "inspector"];
    told.says("refused", "tool.server", "error", words);
    let words =
        ["`program` cannot be listed: its program cannot be started", "its tools are off", "in a terminal"];
    told.says("no program", "tool.server", "error", words);
    assert_eq!(told.all("tool.off").len(), 2, "what is down is told once: {}", told.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_answers_is_told() {
    for (what, status, words) in [
        ("401", StatusCode::UNAUTHORIZED, "(401)"),
        ("403", StatusCode::FORBIDDEN, "(403)"),
        ("404", StatusCode::NOT_FOUND, "(404)"),
        ("a fault", StatusCode::INTERNAL_SERVER_ERROR, "(500)"),
        ("a teapot", StatusCode::IM_A_TEAPOT, "(418)"),
    ] {
        let stub = Stub::always(move || status.into_response()).await;
        let told = with(&format!("  one: {{ url: \"{}\" }}\n", stub.url)).await;
        told.says(what, "tool.server", "error", [words, "its tools are off", ""]);
    }
    let page =
        Stub::always(|| ([(header::CONTENT_TYPE, "text/html")], "<html>hello</html>").into_response()).await;
    let told = with(&format!("  one: {{ url: \"{}\" }}\n", page.url)).await;
    told.says("a page", "tool.server", "error", ["cannot be listed", "its tools are off", "inspector"]);
}

/// Made by `fly mcp launch`: 202 to every `POST`, bare JSON lines from the one `GET` that is let in.
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
                    "tools/list" => json!({"tools": [tool("tell")]}),
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
async fn a_server_made_by_fly_mcp_launch_is_warned_of() {
    let wrap = Wrap::default();
    let behind = wrap.clone();
    let stub = Stub::new(move |asked| {
        let answer = behind.answer(&asked);
        Box::pin(async { answer })
    })
    .await;
    let mcp = format!("  todo: {{ url: \"{}\" }}\n", stub.url);
    let told = with(&mcp).await;
    told.says("wrapped", "tool.server", "ok", ["`todo` has 1 tool", "", ""]);
    let words = ["lets one listener in at a time", "(409)", "run the program as a child here (`command:`"];
    told.says("wrapped", "tool.wrapped", "warning", words);
    let (other, _listening) = mpsc::unbounded_channel();
    *wrap.0.lock().unwrap() = Some(other);
    let told = with(&mcp).await;
    let words =
        ["cannot be listed: somebody else listens to it already (409)", "the running server", "`command:`"];
    told.says("taken", "tool.wrapped", "warning", words);
    told.silent("taken", &["tool.server"]);
}
