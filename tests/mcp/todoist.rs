//! `@doist/todoist-mcp` as a program, with a fake Todoist behind it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::stub::{Stub, json_of};
use crate::{WHISPER, back, call, installed, keeping, kill, listed, program, worked};

const SCRIPT: &str = "@doist/todoist-mcp/dist/main.js";

fn task(content: &Value) -> Value {
    json!({
        "id": "6X7rM8997g3RQmvh", "userId": "1", "projectId": "6Jf8VQXxpwv56VQ7", "sectionId": null,
        "parentId": null, "addedByUid": "1", "assignedByUid": null, "responsibleUid": null, "labels": [],
        "deadline": null, "duration": null, "checked": false, "isDeleted": false, "due": null, "priority": 1,
        "addedAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", "completedAt": null,
        "childOrder": 1, "content": content, "description": "", "noteCount": 0, "dayOrder": 1,
        "isCollapsed": false, "isUncompletable": false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn todoist_adds_tasks_reports_errors_and_survives_a_kill_during_a_call() {
    let fake = Stub::new(|asked| {
        Box::pin(async move {
            match asked.body["content"].as_str() {
                Some(content) if content.contains("break") => {
                    json_of(StatusCode::FORBIDDEN, &json!({"error": "no"}))
                }
                Some(content) if content.contains("wait") => std::future::pending().await,
                Some(_) => json_of(StatusCode::OK, &task(&asked.body["content"])),
                None => json_of(StatusCode::NOT_FOUND, &json!({"error": "no"})),
            }
        })
    })
    .await;
    let base = fake.url.split("/mcp").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let number = folder.path().join("number");
    let script = format!("echo $$ > {}; exec node {}", number.display(), installed(SCRIPT));
    let env = [("TODOIST_API_KEY", WHISPER), ("TODOIST_BASE_URL", base)];
    let server = program("todoist", &["sh", "-c", &script], &env);
    let tools = keeping(&[&server]);
    let known = listed(&tools, &server).await;
    assert_eq!(known.len(), 45);
    assert!(known.iter().any(|tool| tool.name == "add-tasks"));

    let add = |what: &str| json!({"tasks": [{"content": format!("{what} {WHISPER}")}]});
    let output = worked(call(&tools, &server, "add-tasks", add("Buy milk")).await);
    assert!(output.contains("Added 1 task"), "{output}");
    let sent = fake.asked().into_iter().find(|asked| asked.body["content"].is_string()).expect("a task");
    assert_eq!(sent.body["content"], format!("Buy milk {WHISPER}"));
    assert_eq!(sent.headers["authorization"], format!("Bearer {WHISPER}"));

    // It writes the request to standard error, which must not be logged.
    let done = call(&tools, &server, "add-tasks", add("break")).await;
    assert_eq!(done.failed, Some("tool_error"), "{}", done.output.expose());

    let (done, ()) = tokio::join!(call(&tools, &server, "add-tasks", add("wait")), async {
        let waiting =
            || fake.asked().iter().any(|a| a.body["content"].to_string().contains("wait")).then_some(());
        crate::until(waiting).await;
        kill(&number);
    });
    assert_eq!(done.failed, Some("lost"));
    back(&server).await;
    listed(&tools, &server).await;
    assert!(worked(call(&tools, &server, "add-tasks", add("Again")).await).contains("Added 1 task"));
    tools.close().await;
}
