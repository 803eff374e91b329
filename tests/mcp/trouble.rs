//! What can go wrong with a server at an address, with stubs.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use switchboard::assistant::plan::Supply as _;
use switchboard::link::network::Fault;
use switchboard::tool::Trouble;
use tokio::time::{Instant, timeout};

use crate::stub::{Asked, Stub, error, events, json_of, legacy, result_of, text_of, tool};
use crate::{
    WHISPER, at, call, free_port, keeping, listed, log_of, program, tools, trouble, until, used, used_by,
    worked,
};

/// A legacy server with these tools.
pub async fn serving(
    names: &[&str],
    calls: impl Fn(&Asked) -> futures_util::future::BoxFuture<'static, Response> + Send + Sync + 'static,
) -> Stub {
    let offered: Vec<Value> = names.iter().map(|name| tool(name)).collect();
    Stub::new(move |asked| match legacy(&asked, &offered) {
        Some(response) => Box::pin(async { response }),
        None => calls(&asked),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_is_classified_and_logged_once_without_a_secret() {
    let challenge = || {
        let hint = format!("Bearer realm=\"{WHISPER}\"");
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, hint)], WHISPER).into_response()
    };
    let redirect =
        || (StatusCode::FOUND, [(header::LOCATION, format!("/mcp/?key={WHISPER}"))], WHISPER).into_response();
    let html = || ([(header::CONTENT_TYPE, "text/html")], format!("<p>{WHISPER}</p>")).into_response();
    let garbage = || ([(header::CONTENT_TYPE, "application/json")], WHISPER).into_response();
    let plain = |status: StatusCode| move || (status, WHISPER).into_response();
    // The transport before streamable HTTP.
    let old = |asked: Asked| -> futures_util::future::BoxFuture<'static, Response> {
        let response = match asked.method {
            Method::GET => {
                let first = format!("event: endpoint\ndata: /messages?key={WHISPER}\n\n");
                ([(header::CONTENT_TYPE, "text/event-stream")], first).into_response()
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
        Box::pin(async { response })
    };
    let stubs = [
        ("old-sse", Stub::new(old).await, Trouble::OldSse),
        ("405", Stub::always(plain(StatusCode::METHOD_NOT_ALLOWED)).await, Trouble::Rejected(405)),
        ("421", Stub::always(plain(StatusCode::MISDIRECTED_REQUEST)).await, Trouble::Rejected(421)),
        ("429", Stub::always(plain(StatusCode::TOO_MANY_REQUESTS)).await, Trouble::Rejected(429)),
        ("401-challenge", Stub::always(challenge).await, Trouble::Unauthorized),
        ("401-plain", Stub::always(plain(StatusCode::UNAUTHORIZED)).await, Trouble::Unauthorized),
        ("403", Stub::always(plain(StatusCode::FORBIDDEN)).await, Trouble::Forbidden),
        ("404", Stub::always(plain(StatusCode::NOT_FOUND)).await, Trouble::NotFound(404)),
        ("410", Stub::always(plain(StatusCode::GONE)).await, Trouble::NotFound(410)),
        ("302", Stub::always(redirect).await, Trouble::Redirected(302)),
        ("500", Stub::always(plain(StatusCode::INTERNAL_SERVER_ERROR)).await, Trouble::ServerError(500)),
        ("html", Stub::always(html).await, Trouble::NotMcp),
        ("garbage", Stub::always(garbage).await, Trouble::NotMcp),
    ];
    let tools = tools();
    let servers: Vec<_> = stubs.iter().map(|(name, stub, _)| at(name, &stub.url)).collect();
    let refused = at("refused", &format!("http://127.0.0.1:{}/mcp", free_port()));
    let nonsense = at("nonsense", &format!("{WHISPER} nonsense"));
    let all = servers.iter().chain([&refused, &nonsense]);
    tools.keep(all.map(used));
    tools.settled(crate::LIMIT).await;
    let faults = [Fault::ConnectionRefused, Fault::BadUrl].map(Trouble::Network);
    let expected = stubs.iter().map(|(.., expected)| *expected).chain(faults);
    for (server, expected) in servers.iter().chain([&refused, &nonsense]).zip(expected) {
        assert_eq!(trouble(&tools, server).await, expected, "{}", server.name);
        assert_eq!(tools.why_not(server), Some(expected.to_string()), "{}", server.name);
        let done = call(&tools, server, "x", json!({"what": WHISPER})).await;
        assert_eq!(done.failed, Some("unreachable"));
        let warned = log_of(server).iter().filter(|line| line.contains("WARN")).count();
        assert_eq!(warned, 1, "{}", server.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_silent_server() {
    let stub = Stub::new(|_| Box::pin(std::future::pending())).await;
    let server = at("silent", &stub.url);
    let tools = keeping(&[&server]);
    until(|| (!stub.asked().is_empty()).then_some(())).await;
    let since = Instant::now();
    assert_eq!(call(&tools, &server, "x", json!({})).await.failed, Some("unreachable"));
    assert!(since.elapsed() < crate::AT_ONCE);
    assert_eq!(trouble(&tools, &server).await, Trouble::LATE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_leads_in_a_circle_is_read_once() {
    let stub = Stub::new(|asked| {
        Box::pin(async move {
            if asked.rpc() != "tools/list" {
                return legacy(&asked, &[]).expect("no call");
            }
            result_of(&asked, json!({"tools": [tool("one"), tool("two")], "nextCursor": "again"}))
        })
    })
    .await;
    let server = at("circle", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 2);
    assert_eq!(stub.count("tools/list"), 2);
    let warned = log_of(&server).into_iter().filter(|line| line.contains("WARN")).collect::<Vec<_>>();
    assert_eq!(warned.len(), 2, "a tool is listed twice, and the list has no end: {warned:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_tools_are_listed_in_pages_each_name_once() {
    let stub = Stub::new(|asked| {
        Box::pin(async move {
            if asked.rpc() != "tools/list" {
                return legacy(&asked, &[]).expect("no call");
            }
            // An empty cursor is valid.
            let (page, next) = match asked.body["params"]["cursor"].as_str() {
                None => (0, json!("")),
                Some("") => (1, json!("two")),
                Some("two") => (2, json!("three")),
                Some(_) => (3, Value::Null),
            };
            let mut tools: Vec<Value> = (0..50).map(|n| tool(&format!("tool-{}", page * 50 + n))).collect();
            tools.push(tool("tool-0"));
            let mut result = json!({"tools": tools});
            if !next.is_null() {
                result["nextCursor"] = next;
            }
            result_of(&asked, result)
        })
    })
    .await;
    let server = at("pages", &stub.url);
    let tools = tools();
    tools.keep([
        used_by("clinic", &server, Some(&["tool-7"])),
        used_by("night", &server, Some(&["tool-7", "tool-9"])),
    ]);
    assert_eq!(listed(&tools, &server).await.len(), 200);
    assert_eq!(stub.count("tools/list"), 4);
    let log = log_of(&server);
    assert!(log.iter().any(|line| line.contains("Registered tools count: 200") && line.contains("INFO")));
    let of = |tool: &str| -> Vec<String> {
        let tool = format!("tool=\"{tool}\"");
        let lines = log.iter().filter(|line| line.contains("Registered tool ") && line.contains(&tool));
        lines.map(|line| line.split("allowed=").nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(of("tool-7"), ["true assistants=\"clinic, night\""]);
    assert_eq!(of("tool-8"), ["false assistants=\"clinic, night\""]);
    assert_eq!(of("tool-9"), ["true assistants=\"night\"", "false assistants=\"clinic\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_list_is_cut() {
    let stub = Stub::new(|asked| {
        Box::pin(async move {
            if asked.rpc() != "tools/list" {
                return legacy(&asked, &[]).expect("no call");
            }
            let page = asked.body["params"]["cursor"].as_str().unwrap_or("0").parse::<usize>().unwrap();
            result_of(
                &asked,
                json!({"tools": [tool(&format!("t{page}"))], "nextCursor": (page + 1).to_string()}),
            )
        })
    })
    .await;
    let server = at("endless", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 50);
    let log = log_of(&server);
    let warned = log.iter().filter(|line| line.contains("WARN") && line.contains("used=50"));
    assert_eq!(warned.count(), 1, "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_is_cancelled_and_50_that_hang_block_no_other() {
    let stub = serving(&["hang", "quick"], |asked| match asked.body["params"]["name"].as_str() {
        Some("hang") => Box::pin(std::future::pending()),
        _ => {
            let response = text_of(asked, "quick");
            Box::pin(async { response })
        }
    })
    .await;
    let server = at("hanging", &stub.url);
    let tools = Arc::new(keeping(&[&server]));
    listed(&tools, &server).await;
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (tools, server) = (tools.clone(), server.clone());
        hanging.spawn(async move { drop(call(&tools, &server, "hang", json!({})).await) });
    }
    until(|| (stub.count("tools/call") == 50).then_some(())).await;
    let since = Instant::now();
    assert_eq!(worked(call(&tools, &server, "quick", json!({})).await), "quick");
    assert!(since.elapsed() < crate::AT_ONCE);
    hanging.abort_all();
    while hanging.join_next().await.is_some() {}
    until(|| (stub.count("notifications/cancelled") == 50).then_some(())).await;
    assert_eq!(worked(call(&tools, &server, "quick", json!({})).await), "quick");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_is_read_at_once_and_a_burst_only_once() {
    let offered = Arc::new(Mutex::new(vec![tool("first")]));
    let (changes, response) = events();
    let (now, response) = (offered.clone(), Mutex::new(Some(response)));
    let stub = Stub::new(move |asked| {
        let response = match (&asked.method, asked.rpc()) {
            (&Method::GET, _) => match response.lock().unwrap().take() {
                Some(response) => response,
                None => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            },
            (_, "initialize") => {
                let mut response = legacy(&asked, &[]).expect("an answer");
                response.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
                response
            }
            _ => legacy(&asked, &now.lock().unwrap()).unwrap_or_else(|| StatusCode::OK.into_response()),
        };
        Box::pin(async { response })
    })
    .await;
    let server = at("changing", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 1);
    until(|| stub.asked().iter().any(|asked| asked.method == Method::GET).then_some(())).await;
    offered.lock().unwrap().push(tool("second"));
    for _ in 0..20 {
        changes.send(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).unwrap();
    }
    until(|| tools.listed(&server).filter(|known| known.len() == 2)).await;
    let log = log_of(&server);
    assert!(log.iter().any(|line| line.contains("Registered tools count: 2")), "{log:#?}");
    assert!(stub.count("tools/list") <= 4, "a burst is one change");
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_repeated_only_if_the_server_did_nothing() {
    // The server forgets the first session before its first call, as after a restart. One tool fails halfway.
    let forgotten = Mutex::new(None);
    let offered = [tool("once"), tool("broken"), tool("midst")];
    let stub = Stub::new(move |asked| {
        let mut forgotten = forgotten.lock().unwrap();
        let response = match (asked.rpc(), asked.body["params"]["name"].as_str()) {
            ("tools/call", _) if forgotten.is_none() => {
                *forgotten = Some(true);
                error(StatusCode::BAD_REQUEST, &Value::Null, -32000)
            }
            ("tools/list", _) if *forgotten == Some(true) => {
                error(StatusCode::BAD_REQUEST, &Value::Null, -32000)
            }
            // It ran and then failed.
            ("tools/call", Some("midst")) => error(StatusCode::INTERNAL_SERVER_ERROR, &Value::Null, -32603),
            ("tools/call", Some("broken")) => (StatusCode::BAD_GATEWAY, WHISPER).into_response(),
            ("tools/call", _) => text_of(&asked, "done"),
            (rpc, _) => {
                if rpc == "initialize" {
                    *forgotten = forgotten.map(|_| false);
                }
                legacy(&asked, &offered).expect("an answer")
            }
        };
        Box::pin(async { response })
    })
    .await;
    let server = at("forgetful", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "once", json!({})).await), "done");
    assert_eq!((stub.count("tools/call"), stub.count("initialize")), (2, 2));
    let done = call(&tools, &server, "broken", json!({})).await;
    assert_eq!(done.failed, Some("lost"));
    assert_eq!(stub.count("tools/call"), 3, "it may have been done");
    listed(&tools, &server).await;
    assert_eq!(call(&tools, &server, "midst", json!({})).await.failed, Some("lost"));
    assert_eq!(stub.count("tools/call"), 4, "it may have been done");
}

/// A server whose tool `slow` waits for the gate, and the gate.
async fn gated() -> (Stub, tokio::sync::watch::Sender<bool>) {
    let (gate, open) = tokio::sync::watch::channel(false);
    let stub = serving(&["slow", "quick"], move |asked| {
        let mut open = open.clone();
        let (slow, response) = (asked.body["params"]["name"] == "slow", text_of(asked, "done"));
        Box::pin(async move {
            if slow {
                open.wait_for(|open| *open).await.unwrap();
            }
            response
        })
    })
    .await;
    (stub, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_the_same_reach_share_a_connection_under_their_own_names() {
    let (stub, _gate) = gated().await;
    let (server, other) = (at("shared", &stub.url), at("shared-too", &stub.url));
    let tools = tools();
    tools.keep([used_by("clinic", &server, Some(&["slow"])), used_by("night", &other, None)]);
    listed(&tools, &server).await;
    assert!(tools.listed(&other).is_some());
    assert_eq!(stub.count("initialize"), 1);
    let allowed = |server| -> Vec<bool> {
        let log = log_of(server);
        assert!(log.iter().any(|line| line.contains("Registered tools count: 2")), "{log:#?}");
        let lines = log.iter().filter(|line| line.contains("Registered tool "));
        lines.map(|line| line.contains("allowed=true")).collect()
    };
    assert_eq!(allowed(&server), [true, false]);
    assert_eq!(allowed(&other), [true, true]);
    timeout(crate::LIMIT, tools.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lasts_as_long_as_a_plan_uses_it() {
    let (stub, gate) = gated().await;
    // After an edit of a token, the reach differs.
    let (before, after) = (at("edited", &stub.url), at("edited", &format!("{}&token=2", stub.url)));
    let tools = keeping(&[&before]);
    listed(&tools, &before).await;
    let plan = before.clone();
    let (done, ()) = tokio::join!(call(&tools, &plan, "slow", json!({})), async {
        until(|| (stub.count("tools/call") == 1).then_some(())).await;
        tools.keep([used(&after)]);
        drop(before);
        listed(&tools, &after).await;
        assert!(tools.listed(&plan).is_none(), "new calls do not get it");
        assert_eq!(worked(call(&tools, &plan, "quick", json!({})).await), "done");
        gate.send_replace(true);
    });
    assert_eq!(worked(done), "done");
    // The plan holds it through other edits.
    tools.keep([used(&after)]);
    assert_eq!(worked(call(&tools, &plan, "quick", json!({})).await), "done");
    assert_eq!(stub.count("initialize"), 2, "one connection each");
    let again = Arc::new(switchboard::assistant::plan::Server::clone(&plan));
    drop(plan);
    let gone = async {
        while call(&tools, &again, "quick", json!({})).await.failed != Some("unreachable") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(crate::LIMIT, gone).await.expect("it ends with the plan");
    assert_eq!(worked(call(&tools, &after, "quick", json!({})).await), "done");
    timeout(crate::LIMIT, tools.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelled_tool_is_logged_with_a_suggestion() {
    let (stub, _gate) = gated().await;
    let server = at("misspelled", &stub.url);
    let tools = tools();
    let named = |assistant: &str, names: &[&str]| {
        let mut used = used_by(assistant, &server, None);
        used.named = names.iter().map(|&name| name.to_owned()).collect();
        used
    };
    tools.keep([named("clinic", &["slow", "quik"]), named("night", &["quick"])]);
    listed(&tools, &server).await;
    let warned = || log_of(&server).into_iter().filter(|line| line.contains("WARN")).collect::<Vec<_>>();
    until(|| (!warned().is_empty()).then_some(())).await;
    let lines = warned();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for words in ["assistant=\"clinic\"", "tool=\"quik\"", "did you mean `quick`?"] {
        assert!(lines[0].contains(words), "{words} is not in {}", lines[0]);
    }
    timeout(crate::LIMIT, tools.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_repaired_when_it_is_listed() {
    let schema = json!({
        "$defs": {"day": {"type": "str"}}, "properties": {"day": {"$ref": "#/$defs/day"}}, "required": ["day"],
    });
    let offered = [json!({"name": "book", "inputSchema": schema})];
    let stub = Stub::new(move |asked| {
        let response = legacy(&asked, &offered).expect("no call");
        Box::pin(async { response })
    })
    .await;
    let server = at("fitting", &stub.url);
    let tools = keeping(&[&server]);
    let fit = json!({"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]});
    assert_eq!(json!(listed(&tools, &server).await[0].schema), fit);
    timeout(crate::LIMIT, tools.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_at_the_question_for_its_era_is_tried_without_it() {
    let accepted = || StatusCode::ACCEPTED.into_response();
    let empty = || json_of(StatusCode::OK, &json!({}));
    let page = || ([(header::CONTENT_TYPE, "text/html")], "<p>hello</p>").into_response();
    let fault = || StatusCode::INTERNAL_SERVER_ERROR.into_response();
    let elsewhere = || (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response();
    let unlike = || StatusCode::METHOD_NOT_ALLOWED.into_response();
    type Answer = fn() -> Response;
    let kinds: [(&str, Answer, Answer); 5] = [
        ("shy-fault", fault, unlike),
        ("shy-accepts", accepted, unlike),
        ("shy-accepts-all", accepted, elsewhere),
        ("shy-empty", empty, unlike),
        ("shy-page", page, unlike),
    ];
    let mut stubs = Vec::new();
    for (name, question, listening) in kinds {
        let stub = Stub::new(move |asked| {
            let response = match (asked.rpc(), &asked.method) {
                ("server/discover", _) => question(),
                (_, &Method::GET) => listening(),
                _ => legacy(&asked, &[tool("tell")]).unwrap_or_else(|| text_of(&asked, "told")),
            };
            Box::pin(async { response })
        })
        .await;
        stubs.push((at(name, &stub.url), stub));
    }
    // Programs that exit at any request before `initialize`, or answer it with nothing.
    let script = |default: &str| {
        format!(
            r#"
            require("node:readline").createInterface({{input: process.stdin}}).on("line", (line) => {{
                const {{id, method}} = JSON.parse(line);
                const results = {{
                    "initialize": {{
                        protocolVersion: "2025-11-25", capabilities: {{tools: {{}}}},
                        serverInfo: {{name: "shy", version: "1"}},
                    }},
                    "tools/list": {{tools: [{{name: "tell", inputSchema: {{type: "object"}}}}]}},
                }};
                if (!results[method]) {default}
                if (id !== undefined) console.log(JSON.stringify({{jsonrpc: "2.0", id, result: results[method]}}));
            }});
            "#
        )
    };
    let ends =
        program("shy-program", &["node", "-e", &script("return method[0] == 's' && process.exit(1);")], &[]);
    let empty = program("shy-default", &["node", "-e", &script("results[method] = {};")], &[]);
    let servers: Vec<_> = stubs.iter().map(|(server, _)| server).chain([&ends, &empty]).collect();
    let tools = keeping(&servers);
    for server in servers {
        assert_eq!(listed(&tools, server).await.len(), 1);
        let log = log_of(server);
        assert!(!log.iter().any(|line| line.contains("WARN")), "{log:#?}");
    }
    for (server, stub) in &stubs {
        assert_eq!(stub.count("server/discover"), 1, "{}", server.name);
    }
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_looks_like_fly_mcp_launch_is_used_at_the_next_attempt() {
    // It accepts the question without an answer, and allows every listener.
    let stub = Stub::new(|asked| {
        let response = match (asked.rpc(), &asked.method) {
            ("server/discover", _) => StatusCode::ACCEPTED.into_response(),
            (_, &Method::GET) => {
                let silence = axum::body::Body::from_stream(futures_util::stream::pending::<
                    Result<String, Infallible>,
                >());
                ([(header::CONTENT_TYPE, "text/event-stream")], silence).into_response()
            }
            _ => legacy(&asked, &[tool("tell")]).unwrap_or_else(|| text_of(&asked, "told")),
        };
        Box::pin(async { response })
    })
    .await;
    let server = at("like-fly", &stub.url);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 1);
    let log = log_of(&server);
    assert!(log.iter().any(|line| line.contains("transport=\"http\"")), "{log:#?}");
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_tool_does_not_affect_the_others() {
    let mistyped = json!({
        "name": "mistyped", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": "yes"},
    });
    let offered = [tool("first"), json!({"name": "bare"}), mistyped, tool("last")];
    let stub = Stub::new(move |asked| {
        let response = legacy(&asked, &offered).expect("no call");
        Box::pin(async { response })
    })
    .await;
    let server = at("spoilt", &stub.url);
    let tools = keeping(&[&server]);
    let names: Vec<_> = listed(&tools, &server).await.iter().map(|tool| tool.name.clone()).collect();
    assert_eq!(names, ["first", "mistyped", "last"]);
    let log = log_of(&server);
    let warned: Vec<_> = log.iter().filter(|line| line.contains("WARN")).collect();
    assert!(matches!(&warned[..], [line] if line.contains("\"bare\"")), "{warned:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_allow_list_is_logged() {
    let stub = serving(&["first", "second"], |_| unreachable!("no call")).await;
    let server = at("allowing", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let lines = || log_of(&server).iter().filter(|line| line.contains("Registered tool ")).count();
    until(|| (lines() == 2).then_some(())).await;
    tools.keep([used(&server)]);
    assert_eq!(lines(), 2, "nothing changed");
    tools.keep([used_by("clinic", &server, Some(&["second"]))]);
    let log = log_of(&server);
    assert_eq!(lines(), 4, "{log:#?}");
    let refused = log.iter().filter(|line| line.contains("allowed=false")).count();
    assert!(refused == 1 && log.last().unwrap().contains("allowed=true"), "{log:#?}");
}
