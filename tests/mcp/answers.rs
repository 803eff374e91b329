//! Long answers, over HTTP and from a program.

use axum::http::StatusCode;
use serde_json::json;

use crate::stub::{error, events, result_of, text_of};
use crate::trouble::serving;
use crate::{at, call, keeping, listed, program, worked};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_cut_however_it_comes() {
    let long = "x".repeat(900_000);
    let stub = serving(&["json", "stream"], move |asked| {
        let text = json!({"content": [{"type": "text", "text": long}]});
        let response = match asked.body["params"]["name"].as_str() {
            Some("json") => result_of(asked, text),
            _ => {
                let (sender, response) = events();
                sender.send(json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": text})).unwrap();
                response
            }
        };
        Box::pin(async { response })
    })
    .await;
    let server = at("long", &stub.url);
    let script = r#"
        require('readline').createInterface({input: process.stdin}).on('line', line => {
            const {id, method} = JSON.parse(line);
            const say = result => console.log(JSON.stringify({jsonrpc: '2.0', id, result}));
            if (method == 'initialize') {
                say({protocolVersion: '2025-11-25', capabilities: {tools: {}}, serverInfo: {name: 'x', version: '1'}});
            } else if (method == 'tools/list') {
                say({tools: [{name: 'stdio', inputSchema: {type: 'object'}}]});
            } else if (method == 'tools/call') {
                say({content: [{type: 'text', text: 'x'.repeat(900000)}]});
            } else if (id !== undefined) {
                console.log(JSON.stringify({jsonrpc: '2.0', id, error: {code: -32601, message: 'no'}}));
            }
        });
    "#;
    let process = program("long-program", &["node", "-e", script], &[]);
    let tools = keeping(&[&server, &process]);
    listed(&tools, &server).await;
    listed(&tools, &process).await;
    for (server, tool) in [(&server, "json"), (&server, "stream"), (&process, "stdio")] {
        let output = worked(call(&tools, server, tool, json!({})).await);
        assert!(output.len() <= 16 * 1024 && output.ends_with("(cut)"), "{tool}: {}", output.len());
    }
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_20_mb_fails_only_its_call() {
    let long = "x".repeat(20 * 1024 * 1024);
    let stub = serving(&["json", "stream", "short", "error"], move |asked| {
        let text = json!({"content": [{"type": "text", "text": long}]});
        let response = match asked.body["params"]["name"].as_str() {
            Some("json") => result_of(asked, text),
            Some("stream") => {
                let (sender, response) = events();
                sender.send(json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": text})).unwrap();
                response
            }
            Some("error") => error(StatusCode::OK, &asked.body["id"], -32602),
            _ => text_of(asked, "short"),
        };
        Box::pin(async { response })
    })
    .await;
    let server = at("large", &stub.url);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let (json, stream, short) = tokio::join!(
        call(&tools, &server, "json", json!({})),
        call(&tools, &server, "stream", json!({})),
        call(&tools, &server, "short", json!({})),
    );
    assert_eq!(json.failed, Some("too_large"), "{}", json.output.expose());
    assert_eq!(stream.failed, Some("too_large"), "{}", stream.output.expose());
    assert_eq!(worked(short), "short");
    assert_eq!(call(&tools, &server, "error", json!({})).await.failed, Some("refused"));
    assert_eq!(worked(call(&tools, &server, "short", json!({})).await), "short");
    assert_eq!(stub.count("initialize"), 1, "the session went on");
}
