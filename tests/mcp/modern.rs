//! A server of version 2026-07-28: no sessions, and notifications only for subscribers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use switchboard::assistant::plan::Supply as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::stub::{Asked, Stub, error, events, result_of, text_of, tool};
use crate::{WHISPER, at, call, keeping, listed, until, worked};

/// The subscribers, each with the id of its request.
type Listeners = Arc<Mutex<Vec<(Value, UnboundedSender<Value>)>>>;

/// The answers of a strict server.
fn answer(asked: &Asked, tools: &[Value], listeners: &Listeners) -> Response {
    let id = &asked.body["id"];
    let header =
        |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if asked.method != axum::http::Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let meta = &asked.body["params"]["_meta"];
    let name = asked.body["params"]["name"].as_str().unwrap_or_default();
    let whole = header("mcp-protocol-version") == "2026-07-28"
        && meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        && meta["io.modelcontextprotocol/clientInfo"]["name"] == "switchboard"
        && meta["io.modelcontextprotocol/clientCapabilities"].is_object()
        && header("mcp-method") == asked.rpc()
        && header("mcp-name") == name;
    if !whole {
        return error(StatusCode::BAD_REQUEST, id, -32020);
    }
    match asked.rpc() {
        "server/discover" => result_of(
            asked,
            json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 3_600_000,
                "cacheScope": "public", "capabilities": {"tools": {"listChanged": true}},
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "modern", "version": "1"}},
            }),
        ),
        "tools/list" => result_of(
            asked,
            json!({"resultType": "complete", "tools": tools, "ttlMs": 3_600_000, "cacheScope": "public"}),
        ),
        "tools/call" if name == "ask_back" => result_of(
            asked,
            json!({
                "resultType": "input_required", "requestState": "s",
                "inputRequests": {"k": {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}}},
            }),
        ),
        "tools/call" => text_of(asked, &format!("modern {WHISPER}")),
        "subscriptions/listen" => {
            let (sender, response) = events();
            let acknowledged = json!({
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {
                    "notifications": {"toolsListChanged": true},
                    "_meta": {"io.modelcontextprotocol/subscriptionId": id},
                },
            });
            sender.send(acknowledged).unwrap();
            listeners.lock().unwrap().push((id.clone(), sender));
            response
        }
        _ => error(StatusCode::NOT_FOUND, id, -32601),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_server_is_listed_called_and_subscribed_to() {
    let offered = Arc::new(Mutex::new(vec![tool("tell"), tool("ask_back")]));
    let listeners = Listeners::default();
    let (now, ears) = (offered.clone(), listeners.clone());
    let stub = Stub::new(move |asked| {
        let response = answer(&asked, &now.lock().unwrap(), &ears);
        Box::pin(async { response })
    })
    .await;
    let server = at("modern", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 2);
    assert_eq!(
        worked(call(&tools, &server, "tell", json!({"what": WHISPER})).await),
        format!("modern {WHISPER}")
    );
    assert_eq!(call(&tools, &server, "ask_back", json!({})).await.failed, Some("input_required"));
    assert_eq!(stub.count("initialize"), 0);
    for asked in stub.asked() {
        assert_eq!(asked.headers["authorization"], format!("Bearer {WHISPER}"));
    }

    // A notification causes a new list.
    let (id, sender) = until(|| listeners.lock().unwrap().first().cloned()).await;
    offered.lock().unwrap().push(tool("third"));
    let changed = json!({
        "jsonrpc": "2.0", "method": "notifications/tools/list_changed",
        "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": id}},
    });
    sender.send(changed).unwrap();
    until(|| tools.listed(&server).filter(|known| known.len() == 3)).await;
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_ends_at_once_is_not_renewed_at_once() {
    let stub = Stub::new(|asked| {
        // The sender is dropped, so the stream ends after its first event.
        let response = answer(&asked, &[tool("tell")], &Listeners::default());
        Box::pin(async { response })
    })
    .await;
    let server = at("terse", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    // It lists once more: a change may have been missed.
    until(|| (stub.count("tools/list") == 2).then_some(())).await;
    let again = until(|| (stub.count("tools/list") + stub.count("subscriptions/listen") > 3).then_some(()));
    assert!(
        timeout(Duration::from_secs(3), again).await.is_err(),
        "{:?}",
        stub.count("subscriptions/listen")
    );
    tools.close().await;
}
