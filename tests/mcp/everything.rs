//! `@modelcontextprotocol/server-everything`, over HTTP and as a program.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use switchboard::assistant::plan::{Reach, Supply as _};
use switchboard::tool::Trouble;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::{
    LIMIT, WHISPER, at, back, call, call_with, free_port, installed, is_alive, keeping, kill, listed, log_of,
    program, tools, trouble, until, used, worked,
};

const SCRIPT: &str = "@modelcontextprotocol/server-everything/dist/index.js";

/// The server over HTTP, listening.
async fn over_http(port: u16) -> Child {
    let mut child = Command::new("node")
        .args([&installed(SCRIPT), "streamableHttp"])
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is installed");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("listening on port") {
                return;
            }
        }
        panic!("the server ended");
    };
    timeout(LIMIT, ready).await.expect("the server listens");
    // Its later words must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_over_http_is_listed_called_and_survives_its_restarts() {
    let port = free_port();
    let mut child = over_http(port).await;
    let server = at("everything-http", &format!("http://127.0.0.1:{port}/mcp"));
    let tools = keeping(&[&server]);
    let known = listed(&tools, &server).await;
    assert_eq!(known.len(), 13);
    let echo = known.iter().find(|tool| tool.name == "echo").expect("echo");
    assert!(!echo.description.is_empty());
    assert_eq!(echo.schema["properties"]["message"]["type"], "string");
    let log = log_of(&server);
    assert!(log.iter().any(|line| line.contains("Registered tools count: 13")), "{log:#?}");
    assert_eq!(log.iter().filter(|line| line.contains("Registered tool ")).count(), 13);

    // The owner's arguments override the model's, and progress is reported.
    let fixed = json!({"message": format!("owner {WHISPER}")});
    let done = call_with(&tools, &server, "echo", json!({"message": "model"}), fixed, || {}).await;
    assert_eq!(worked(done), format!("Echo: owner {WHISPER}"));
    let steps = AtomicUsize::new(0);
    let long = json!({"duration": 0.4, "steps": 4});
    let count = || {
        steps.fetch_add(1, Ordering::Relaxed);
    };
    let done = call_with(&tools, &server, "trigger-long-running-operation", long, json!({}), count).await;
    assert!(worked(done).contains("completed"));
    assert!(steps.load(Ordering::Relaxed) >= 2, "{steps:?}");

    let wrong = call(&tools, &server, "get-sum", json!({"a": "x"})).await;
    assert_eq!(wrong.failed, Some("tool_error"));
    let image = worked(call(&tools, &server, "get-tiny-image", json!({})).await);
    assert!(image.contains("(an image, image/png)") && image.len() < 1000, "{image}");

    // Restarted between two calls: the next call succeeds.
    child.kill().await.unwrap();
    let mut child = over_http(port).await;
    let done = call(&tools, &server, "echo", json!({"message": "again"})).await;
    assert_eq!(worked(done), "Echo: again");

    // Killed in the middle of a call.
    listed(&tools, &server).await;
    let long = json!({"duration": 60, "steps": 600});
    let begun = AtomicUsize::new(0);
    let (done, ()) = tokio::join!(
        call_with(&tools, &server, "trigger-long-running-operation", long, json!({}), || {
            begun.fetch_add(1, Ordering::Relaxed);
        }),
        async {
            until(|| (begun.load(Ordering::Relaxed) > 0).then_some(())).await;
            child.kill().await.unwrap();
        }
    );
    assert_eq!(done.failed, Some("lost"), "{}", done.output.expose());
    trouble(&tools, &server).await;
    let since = Instant::now();
    let done = call(&tools, &server, "echo", json!({"message": "x"})).await;
    assert_eq!(done.failed, Some("unreachable"));
    assert!(since.elapsed() < crate::AT_ONCE, "no wait");
    let _child = over_http(port).await;
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "echo", json!({"message": "back"})).await), "Echo: back");
    assert!(log_of(&server).iter().any(|line| line.contains("works again")));
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_as_a_program_is_restarted_and_ends_with_us() {
    let folder = tempfile::tempdir().unwrap();
    let number = folder.path().join("number");
    let script = format!("echo $$ > {}; exec node {} stdio", number.display(), installed(SCRIPT));
    let server = program("everything-stdio", &["sh", "-c", &script], &[("GREETING", WHISPER)]);
    let tools = keeping(&[&server]);
    assert_eq!(listed(&tools, &server).await.len(), 13);
    assert!(log_of(&server).iter().any(|line| line.contains("Starting default (STDIO) server")));

    // It inherits only what every program needs.
    let environment = worked(call(&tools, &server, "get-env", json!({})).await);
    assert!(environment.contains(WHISPER) && environment.contains("PATH"), "{environment}");
    assert!(!environment.contains("CARGO"), "{environment}");

    let begun = AtomicUsize::new(0);
    let long = json!({"duration": 60, "steps": 600});
    let (done, ()) = tokio::join!(
        call_with(&tools, &server, "trigger-long-running-operation", long, json!({}), || {
            begun.fetch_add(1, Ordering::Relaxed);
        }),
        async {
            until(|| (begun.load(Ordering::Relaxed) > 0).then_some(())).await;
            kill(&number);
        }
    );
    assert_eq!(done.failed, Some("lost"));
    back(&server).await;
    listed(&tools, &server).await;
    assert_eq!(worked(call(&tools, &server, "echo", json!({"message": "back"})).await), "Echo: back");

    let number = std::fs::read_to_string(&number).unwrap();
    assert!(is_alive(&number));
    timeout(LIMIT, tools.close()).await.expect("an end");
    assert!(!is_alive(&number));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_and_its_children_end_when_it_is_unused_or_we_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    // Like npx: the server is a child of the program, and ignores the end of its input.
    let start = |file: &std::path::Path| {
        let inner = format!("echo $$ > {}; exec node {} stdio", file.display(), installed(SCRIPT));
        format!("sh -c '{inner}'; sleep 1000")
    };
    for dropped in [false, true] {
        let number = folder.path().join(format!("number-{dropped}"));
        let server = program(&format!("nested-{dropped}"), &["sh", "-c", &start(&number)], &[]);
        let tools = keeping(&[&server]);
        listed(&tools, &server).await;
        let number = std::fs::read_to_string(&number).unwrap();
        assert!(is_alive(&number));
        let kept = match dropped {
            true => {
                drop(tools);
                None
            }
            false => {
                tools.keep([]);
                assert!(tools.listed(&server).is_none());
                Some(tools)
            }
        };
        drop(server);
        until(|| (!is_alive(&number)).then_some(())).await;
        drop(kept);
    }
}

#[tokio::test]
async fn a_program_that_cannot_start_or_exits_is_reported_with_its_last_lines() {
    let missing = program("missing", &["/nonexistent/mcp-server"], &[]);
    let script = format!("echo 'no key {WHISPER} for +15550100001' >&2; exit 3");
    let broken = program("broken", &["sh", "-c", &script], &[("KEY", WHISPER)]);
    let tools = tools();
    tools.keep([&missing, &broken].map(used));
    tools.settled(LIMIT).await;
    assert_eq!(tools.trouble(&missing), Some(Trouble::NoProgram(std::io::ErrorKind::NotFound)));
    assert_eq!(tools.trouble(&broken), Some(Trouble::Exited));
    let log = log_of(&broken);
    assert!(log.iter().any(|line| line.contains("no key ••• for +1555*****01")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("WARN")), "{log:#?}");
    let why = tools.why_not(&broken).unwrap();
    assert!(why.contains("no key ••• for +1555*****01") && !why.contains(WHISPER), "{why}");
    assert_eq!(call(&tools, &broken, "x", json!({})).await.failed, Some("unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_a_server_is_recognized_by_its_output() {
    // It keeps running without more output.
    let usage = format!("echo 'usage: mcp-server {WHISPER}'; echo 'call +15550100001'; exec sleep 1000");
    let usage = program("usage", &["sh", "-c", &usage], &[("KEY", WHISPER)]);
    let json = program("json", &["sh", "-c", "echo '{\"level\":30}'; exec sleep 1000"], &[]);
    let slow = format!("echo 'Fetching …'; exec node {} stdio", installed(SCRIPT));
    let slow = program("slow-start", &["sh", "-c", &slow], &[]);
    let tools = tools();
    tools.keep([&usage, &json, &slow].map(used));
    let since = Instant::now();
    tools.settled(LIMIT).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    for server in [&usage, &json] {
        assert_eq!(tools.trouble(server), Some(Trouble::Chatter));
    }
    let warned = |server| log_of(server).into_iter().filter(|line| line.contains("WARN")).collect::<Vec<_>>();
    let lines = warned(&usage);
    assert!(matches!(&lines[..], [line] if line.contains("usage: mcp-server •••")), "{lines:#?}");
    let lines = warned(&json);
    assert!(matches!(&lines[..], [line] if line.contains("level")), "{lines:#?}");
    assert_eq!(listed(&tools, &slow).await.len(), 13);
    assert!(tools.trouble(&slow).is_none());
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_after_the_first_tool_call_is_not_logged() {
    // It logs its messages, as the server of Todoist does after errors.
    let script = r#"
        require('readline').createInterface({input: process.stdin}).on('line', line => {
            const asked = JSON.parse(line);
            const answer = result => console.log(JSON.stringify({jsonrpc: '2.0', id: asked.id, result}));
            if (asked.method == 'initialize') {
                console.error('ready to serve');
                console.log('npm notice: this is no message');
                answer({protocolVersion: '2025-11-25', capabilities: {tools: {}}, serverInfo: {name: 'x', version: '1'}});
            } else if (asked.method == 'tools/list') {
                answer({tools: [{name: 'tell', inputSchema: {type: 'object'}}]});
            } else if (asked.method == 'tools/call') {
                console.error('called with', line);
                const text = asked.params.arguments.long ? 'x'.repeat(20e6) : 'done';
                answer({content: [{type: 'text', text}]});
            } else if (asked.id !== undefined) {
                console.log(JSON.stringify({jsonrpc: '2.0', id: asked.id, error: {code: -32601, message: 'no'}}));
            }
        });
    "#;
    let server = program("talkative", &["node", "-e", script], &[]);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let logged = || log_of(&server).into_iter().find(|line| line.contains("ready to serve"));
    until(logged).await;
    for _ in 0..3 {
        assert_eq!(worked(call(&tools, &server, "tell", json!({"what": WHISPER})).await), "done");
    }
    // A message of 20 MB becomes an error, and the next one is complete.
    let since = Instant::now();
    let long = call(&tools, &server, "tell", json!({"long": true})).await;
    assert_eq!(long.failed, Some("too_large"), "{}", long.output.expose());
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(worked(call(&tools, &server, "tell", json!({})).await), "done");
    tools.close().await;
    assert!(!log_of(&server).iter().any(|line| line.contains("called with")));
}

/// A minimal server with one tool, `tell`. `extra` runs at its start, and `called` for a call, which is in `asked`. It
/// prints with `say`.
fn small(extra: &str, called: &str) -> String {
    format!(
        r#"
        const fs = require('fs');
        const say = text => fs.writeSync(1, text + '\n');
        {extra}
        require('readline').createInterface({{input: process.stdin}}).on('line', line => {{
            const asked = JSON.parse(line);
            const answer = result => say(JSON.stringify({{jsonrpc: '2.0', id: asked.id, result}}));
            if (asked.method == 'initialize') {{
                answer({{protocolVersion: '2025-11-25', capabilities: {{tools: {{}}}}, serverInfo: {{name: 'x', version: '1'}}}});
            }} else if (asked.method == 'tools/list') {{
                answer({{tools: [{{name: 'tell', inputSchema: {{type: 'object'}}}}]}});
            }} else if (asked.method == 'tools/call') {{
                {called}
            }} else if (asked.id !== undefined) {{
                say(JSON.stringify({{jsonrpc: '2.0', id: asked.id, error: {{code: -32601, message: 'no'}}}}));
            }}
        }});
        "#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn output_after_a_restart_is_not_logged_either() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let remember = format!("const state = '{}';", state.display());
    let extra =
        format!("{remember} if (fs.existsSync(state)) console.error(fs.readFileSync(state, 'utf8'));");
    let called = "fs.writeFileSync(state, line); process.exit(1);";
    let server = program("mindful", &["node", "-e", &small(&extra, called)], &[]);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    assert_eq!(call(&tools, &server, "tell", json!({"what": WHISPER})).await.failed, Some("lost"));
    back(&server).await;
    tools.close().await;
    assert!(std::fs::read_to_string(&state).unwrap().contains(WHISPER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_the_output_is_masked() {
    let script = "const {KEY, TWO} = process.env; console.error('x'.repeat(480) + KEY);
        console.error('two ' + TWO); console.error(process.argv[1]);";
    let env = [("KEY", WHISPER.repeat(9)), ("TWO", "first line\nsecond line".to_owned())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = program("frank", &["node", "-e", &small(script, ""), WHISPER], &env);
    let Reach::Command { command, env, .. } = server.reach.clone() else { panic!("a program") };
    let secrets = vec![switchboard::secret::Secret::new(WHISPER)];
    let reach = Reach::Command { command, env, secrets };
    let server =
        std::sync::Arc::new(switchboard::assistant::plan::Server { name: "frank".to_owned(), reach });
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let logged = |what: &str| log_of(&server).into_iter().find(|line| line.contains(what));
    until(|| logged("text=\"•••\"")).await;
    let long = until(|| logged("xxx•••")).await;
    assert!(long.len() < 700, "{long}");
    until(|| logged("two •••")).await;
    assert!(logged("first line").is_none() && logged("second line").is_none());
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_starts_in_an_empty_folder_and_finds_the_files_of_its_command() {
    let script = "echo here: $(pwd) and $(ls -A | wc -l) files >&2; exit 3";
    let homeless = program("homeless", &["sh", "-c", script], &[]);
    let relative = program("relative", &["node", &format!("tests/mcp/node_modules/{SCRIPT}"), "stdio"], &[]);
    assert!(std::path::Path::new(&installed(SCRIPT)).exists());
    let tools = keeping(&[&homeless, &relative]);
    let line = until(|| log_of(&homeless).into_iter().find(|line| line.contains("here: "))).await;
    assert!(line.contains(" and 0 files"), "{line}");
    let folder = line.split("here: ").nth(1).unwrap().split(" and ").next().unwrap();
    assert_ne!(std::path::Path::new(folder), std::env::current_dir().unwrap());
    until(|| (!std::path::Path::new(folder).exists()).then_some(())).await;
    assert_eq!(listed(&tools, &relative).await.len(), 13);
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_answer_fails_its_call_at_once() {
    let called = r#"
        const {kind} = asked.params.arguments;
        if (kind == 'latin') {
            const before = `{"jsonrpc": "2.0", "id": ${asked.id}, "result": {"content": [{"type": "text", "text": "caf`;
            fs.writeSync(1, Buffer.concat([Buffer.from(before), Buffer.from([0xe9]), Buffer.from('"}]}}\n')]));
        }
        if (kind == 'nan') say(`{"jsonrpc": "2.0", "id": ${asked.id}, "result": {"content": [], "structuredContent": {"x": NaN}}}`);
        if (kind == 'version') say(JSON.stringify({id: asked.id, result: {content: []}}));
        if (kind == 'error') say(JSON.stringify({jsonrpc: '2.0', id: asked.id, error: 'it broke'}));
    "#;
    let server = program("sloppy", &["node", "-e", &small("", called)], &[]);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let since = Instant::now();
    assert_eq!(worked(call(&tools, &server, "tell", json!({"kind": "latin"})).await), "caf\u{fffd}");
    for kind in ["nan", "version", "error"] {
        let done = call(&tools, &server, "tell", json!({"kind": kind})).await;
        assert_eq!(done.failed, Some("garbage"), "{kind}: {}", done.output.expose());
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    tools.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_the_file_server_becomes_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("menu.png");
    std::fs::write(&path, [b"\x89PNG\r\n\x1a\n".as_slice(), &[0xA7; 4_000]].concat()).unwrap();
    let script = installed("@modelcontextprotocol/server-filesystem/dist/index.js");
    let server = program("files", &["node", &script, &folder.path().display().to_string()], &[]);
    let tools = keeping(&[&server]);
    listed(&tools, &server).await;
    let output = worked(call(&tools, &server, "read_media_file", json!({"path": path})).await);
    assert!(output.contains("(an image, image/png)") && output.len() < 200, "{output}");
    tools.close().await;
}
