//! A real MCP server in calls: it works, dies during a call, and comes back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use switchboard::call::EndReason;
use switchboard_simulator::caller::PhoneEvent;
use switchboard_simulator::model::{ModelOptions, Reply, Script, SessionLog, Speech};

use crate::harness::{Harness, PATIENCE, finished};
use crate::tools::{goodbye, outputs, turn};

/// A command for the MCP server that writes its process id. It does not start while a file `closed` exists.
fn command(file: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/mcp/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    assert!(
        script.exists(),
        "the MCP servers are not installed: run `npm ci --prefix tests/mcp`, or `make test`, which does it"
    );
    let closed = file.with_file_name("closed");
    let (file, closed, script) = (file.display(), closed.display(), script.display());
    format!("[sh, -c, 'test ! -e {closed} || exit 1; echo $$ > {file}; exec node {script} stdio']")
}

async fn process(file: &PathBuf, not: &str) -> String {
    let found = async {
        loop {
            match std::fs::read_to_string(file) {
                Ok(id) if !id.trim().is_empty() && id != not => return id,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the program is started")
}

/// The configuration of the newest session.
fn configured(harness: &Harness) -> Option<Value> {
    let session = harness.model.sessions().into_iter().next_back()?;
    let update = session.of_kind("session.update").next()?;
    Some(update["session"].clone())
}

/// Calls until the server's tools are listed. A call does not wait for them; until then, it has no trace of them.
async fn rings_with_tools(harness: &mut Harness) -> switchboard_simulator::caller::PhoneHandle {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "the tools are listed");
        let before = harness.model.sessions().len();
        let mut phone = harness.dial(harness.phone());
        phone.wait_for(|event| matches!(event, PhoneEvent::StreamStarted { .. })).await.unwrap();
        let ready =
            |sessions: &[SessionLog]| sessions.get(before).is_some_and(|session| session.updated.is_some());
        assert!(harness.model.until(Duration::from_secs(5), ready).await);
        let session = configured(harness).unwrap();
        let there = session["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "echo");
        let spoken_of = session["instructions"].as_str().unwrap().contains("You can repeat words.");
        assert_eq!(there, spoken_of, "the fragment is in the prompt exactly when the tool is listed");
        if there {
            return phone;
        }
        phone.hang_up();
        finished(phone).await;
        harness.ended().await;
    }
}

/// An assistant whose MCP server writes its process id into this file.
fn assistant(file: &Path) -> String {
    format!(
        r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: {{ first: caller }}
call_control: {{ end_call: true }}
mcp:
  everything:
    command: {}
    allow: [echo]
    instructions: You can repeat words.
"#,
        command(file)
    )
}

fn is_alive(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_keeps_its_mcp_server_through_an_edit() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("assistants");
    std::fs::create_dir(&folder).unwrap();
    let edit = |file: &Path| std::fs::write(folder.join("clinic.yaml"), assistant(file)).unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    edit(&before);
    let replies = vec![
        Reply::call("echo", r#"{"message":"Example Dental"}"#).then(Reply::say("It said so.")),
        goodbye(),
    ];
    let options = ModelOptions {
        think: Duration::from_millis(50),
        script: Script { replies, ..Script::default() },
        speech: Speech::Tagged,
        ..ModelOptions::default()
    };
    let mut harness = Harness::on_disk(&folder, options).await;
    let phone = rings_with_tools(&mut harness).await;
    let number = harness.model.sessions().len() - 1;
    let old = process(&before, "").await;
    edit(&after);
    let new = process(&after, "").await;
    let other = rings_with_tools(&mut harness).await;
    other.hang_up();
    finished(other).await;
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);

    assert!(is_alive(&old) && is_alive(&new));
    turn(&phone).await;
    phone.say(crate::harness::speech(600));
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    assert_eq!(outputs(&harness.model.sessions().swap_remove(number)), ["Echo: Example Dental"]);
    let gone = async {
        while is_alive(&old) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it ends with its last call");
    assert!(is_alive(&new));
    harness.quit().await;
    assert!(!is_alive(&new));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_server_that_dies_during_a_call_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("process");
    let assistant = assistant(&file);
    let echo = || Reply::call("echo", r#"{"message":"Example Dental"}"#);
    let replies = vec![
        echo().then(Reply::say("It said so.")),
        echo().then(Reply::say("That does not work now.")),
        echo().then(Reply::say("It works again.")),
        goodbye(),
    ];
    let script = Script { replies, ..Script::default() };
    let options = ModelOptions {
        think: Duration::from_millis(50),
        script,
        speech: Speech::Tagged,
        ..ModelOptions::default()
    };
    let mut harness = Harness::open(&assistant, options).await;
    let phone = rings_with_tools(&mut harness).await;
    let number = harness.model.sessions().len() - 1;
    turn(&phone).await;
    let first = process(&file, "").await;
    let closed = dir.path().join("closed");
    std::fs::write(&closed, "").unwrap();
    let killed = std::process::Command::new("kill").args(["-KILL", first.trim()]).status().unwrap();
    assert!(killed.success());
    turn(&phone).await;
    std::fs::remove_file(closed).unwrap();
    process(&file, &first).await;
    // Another call waits until it is listed again.
    let other = rings_with_tools(&mut harness).await;
    other.hang_up();
    finished(other).await;
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    turn(&phone).await;
    phone.say(crate::harness::speech(600));
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::AssistantEnded);
    let session = harness.model.sessions().swap_remove(number);
    assert!(session.errors.is_empty(), "{:?}", session.errors);
    let results = outputs(&session);
    assert_eq!(results.len(), 3, "{results:?}");
    assert_eq!(results[0], "Echo: Example Dental");
    assert!(results[1].contains("everything"), "{}", results[1]);
    assert_eq!(results[2], "Echo: Example Dental");
    harness.quit().await;
}
