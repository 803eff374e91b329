//! The state of a session next to its calls: the server is busy, has forgotten it, or sends too many notifications.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, timeout};

use crate::stub::{Asked, Stub, error, events, legacy, text_of, tool};
use crate::{at, back, call, keeping, listed, log_of, program, until, worked};

/// Sends notifications, once a client listens.
type News = Arc<Mutex<Option<UnboundedSender<Value>>>>;

/// A legacy server with sessions, a tool and notifications. `first` may answer differently.
async fn serving(first: impl Fn(&Asked, &News) -> Option<Response> + Send + Sync + 'static) -> (Stub, News) {
    let news = News::default();
    let ears = news.clone();
    let stub = Stub::new(move |asked| {
        let response = match first(&asked, &ears) {
            Some(response) => response,
            None if asked.method == Method::GET => {
                let (sender, response) = events();
                *ears.lock().unwrap() = Some(sender);
                response
            }
            None => {
                let mut response = legacy(&asked, &[tool("tell")]).unwrap_or_else(|| text_of(&asked, "told"));
                if asked.rpc() == "initialize" {
                    response.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
                }
                response
            }
        };
        Box::pin(async { response })
    })
    .await;
    (stub, news)
}

fn changed(news: &News) {
    if let Some(news) = &*news.lock().unwrap() {
        news.send(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_only_busy_keeps_its_call() {
    // It does one thing at a time, like a Python server whose tool is not async. The call takes longer than a list may.
    let script = r#"
        require('readline').createInterface({input: process.stdin}).on('line', line => {
            const {id, method} = JSON.parse(line);
            const say = message => require('fs').writeSync(1, JSON.stringify({jsonrpc: '2.0', ...message}) + '\n');
            if (method == 'initialize') {
                say({id, result: {protocolVersion: '2025-11-25', capabilities: {tools: {listChanged: true}}, serverInfo: {name: 'x', version: '1'}}});
            } else if (method == 'tools/list') {
                say({id, result: {tools: [{name: 'tell', inputSchema: {type: 'object'}}]}});
            } else if (method == 'tools/call') {
                say({method: 'notifications/tools/list_changed'});
                Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 18000);
                say({id, result: {content: [{type: 'text', text: 'done'}]}});
            } else if (id !== undefined) {
                say({id, error: {code: -32601, message: 'no'}});
            }
        });
    "#;
    let server = program("busy", &["node", "-e", script], &[]);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), "done");
    let log = log_of(&server);
    assert!(!log.iter().any(|line| line.contains("WARN")), "{log:#?}");
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_session_is_replaced_even_if_the_errors_have_an_id() {
    let forgotten = Arc::new(AtomicBool::new(false));
    let restarted = forgotten.clone();
    let (stub, _) = serving(move |asked, _| {
        if asked.rpc() == "initialize" {
            forgotten.store(false, Ordering::Relaxed);
        }
        let refused = forgotten.load(Ordering::Relaxed) && asked.method == Method::POST;
        refused.then(|| error(StatusCode::BAD_REQUEST, &asked.body["id"], -32000))
    })
    .await;
    let server = at("forgotten", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    restarted.store(true, Ordering::Relaxed);
    assert_eq!(call(&tools, &server, "tell", json!({})).await.failed, Some("tool_error"));
    back(&server).await;
    listed(&tools, &server).await;
    assert_eq!(stub.count("initialize"), 2);
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), "told");
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_list_is_replaced_after_the_second_error() {
    let ill = Arc::new(AtomicBool::new(false));
    let fallen = ill.clone();
    let (stub, news) = serving(move |asked, _| {
        if asked.rpc() == "initialize" {
            ill.store(false, Ordering::Relaxed);
        }
        let refused = ill.load(Ordering::Relaxed) && asked.rpc() == "tools/list";
        refused.then(|| error(StatusCode::OK, &asked.body["id"], -32603))
    })
    .await;
    let server = at("ill", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    until(|| news.lock().unwrap().as_ref().map(|_| ())).await;
    fallen.store(true, Ordering::Relaxed);
    changed(&news);
    until(|| (stub.count("tools/list") == 2).then_some(())).await;
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), "told", "one error is tolerated");
    assert_eq!(stub.count("initialize"), 1);
    changed(&news);
    back(&server).await;
    assert_eq!(stub.count("initialize"), 2);
    tools.close().await;
}

#[tokio::test]
async fn a_list_that_does_not_come_keeps_the_known_one() {
    let slow = Arc::new(AtomicBool::new(false));
    let stuck = slow.clone();
    let news = News::default();
    let ears = news.clone();
    let stub = Stub::new(move |asked| {
        let hangs = slow.load(Ordering::Relaxed) && asked.rpc() == "tools/list";
        let response = if asked.method == Method::GET {
            let (sender, response) = events();
            *ears.lock().unwrap() = Some(sender);
            response
        } else if asked.rpc() == "ping" {
            error(StatusCode::OK, &asked.body["id"], -32601)
        } else {
            let mut response = legacy(&asked, &[tool("tell")]).unwrap_or_else(|| text_of(&asked, "told"));
            response.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
            response
        };
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            response
        })
    })
    .await;
    let server = at("slow-list", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    until(|| news.lock().unwrap().as_ref().map(|_| ())).await;
    stuck.store(true, Ordering::Relaxed);
    changed(&news);
    until(|| (stub.count("tools/list") == 2).then_some(())).await;
    until(|| log_of(&server).into_iter().find(|line| line.contains("does not list its tools in time"))).await;
    assert!(tools.is_listed(&server));
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), "told");
    assert_eq!(stub.count("initialize"), 1);
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_notifies_at_each_list_is_slowed_down() {
    let (stub, news) = serving(|asked, news| {
        if asked.rpc() == "tools/list" {
            changed(news);
        }
        None
    })
    .await;
    let server = at("restless", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    until(|| news.lock().unwrap().as_ref().map(|_| ())).await;
    changed(&news);
    let many = until(|| (stub.count("tools/list") > 3).then_some(()));
    assert!(timeout(Duration::from_secs(3), many).await.is_err(), "{}", stub.count("tools/list"));
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_call_fails_at_once_and_keeps_the_session() {
    let stub = Stub::new(|asked| {
        let response = legacy(&asked, &[tool("tell")]).unwrap_or_else(|| {
            let status = asked.body["params"]["name"].as_str().unwrap().parse::<u16>().unwrap();
            StatusCode::from_u16(status).unwrap().into_response()
        });
        Box::pin(async { response })
    })
    .await;
    let server = at("choosy", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    for (status, failed) in [
        ("403", "forbidden"),
        ("413", "too_long"),
        ("429", "too_often"),
        ("404", "unreachable"),
        ("400", "unreachable"),
    ] {
        let since = Instant::now();
        let done = call(&tools, &server, status, json!({})).await;
        assert_eq!(done.failed, Some(failed), "{status}");
        assert!(done.output.expose().contains("nothing was done"), "{}", done.output.expose());
        assert!(since.elapsed() < crate::AT_ONCE, "{status}: {:?}", since.elapsed());
    }
    assert_eq!((stub.count("initialize"), stub.count("tools/call")), (1, 5));
    assert!(stub.count("tools/list") <= 3, "429 must not cause more requests");
    tools.close().await;
}
