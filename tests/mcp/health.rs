//! What is found out about a session beside the calls: its server is busy, has forgotten it, or talks without end.

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

/// Where a server's news go in, once somebody listens.
type News = Arc<Mutex<Option<UnboundedSender<Value>>>>;

/// A legacy server with sessions, a tool and news. What `first` does not answer is answered as it should be.
async fn telling(first: impl Fn(&Asked, &News) -> Option<Response> + Send + Sync + 'static) -> (Stub, News) {
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
    // It does one thing at a time, as a Python server does whose tool is not async: nothing else is answered meanwhile,
    // for longer than a list may take.
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
    assert!(!log.iter().any(|line| line.contains("cannot be reached")), "{log:#?}");
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_forgotten_is_begun_anew_though_its_refusals_have_an_id() {
    let forgotten = Arc::new(AtomicBool::new(false));
    let restarted = forgotten.clone();
    let (stub, _) = telling(move |asked, _| {
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
async fn a_session_that_lists_no_more_is_begun_anew_at_the_second_refusal() {
    let ill = Arc::new(AtomicBool::new(false));
    let fallen = ill.clone();
    let (stub, news) = telling(move |asked, _| {
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
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), "told", "one refusal is none");
    assert_eq!(stub.count("initialize"), 1);
    changed(&news);
    back(&server).await;
    assert_eq!(stub.count("initialize"), 2);
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tells_of_a_change_at_each_list_is_not_asked_without_a_pause() {
    let (stub, news) = telling(|asked, news| {
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
async fn a_refusal_of_one_call_is_told_at_once_while_the_server_is_well() {
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
        assert!(since.elapsed() < Duration::from_secs(2), "{status}: {:?}", since.elapsed());
    }
    assert_eq!((stub.count("initialize"), stub.count("tools/call")), (1, 5));
    assert!(stub.count("tools/list") <= 3, "who is asked too often is not asked more often for that");
    tools.close().await;
}
