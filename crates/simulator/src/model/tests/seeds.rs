//! Items that a client puts into the conversation, as after a reconnect.

use super::*;

fn create(item: Value) -> Value {
    json!({"type": "conversation.item.create", "item": item})
}

fn message(role: &str, part: Value) -> Value {
    json!({"type": "message", "role": role, "content": [part]})
}

fn text(kind: &str) -> Value {
    json!({"type": kind, "text": "Pelican."})
}

#[tokio::test]
async fn a_conversation_can_be_brought_back() {
    let server = ModelServer::start(plain()).await.unwrap();
    server.reply_with(Reply::say(super::speech::SHORT));
    let mut client = Client::ready(&server, json!({})).await;
    let audio = json!({"type": "input_audio", "audio": STANDARD.encode(voice(2_000))});
    for item in [
        message("system", text("input_text")),
        message("user", text("input_text")),
        message("assistant", text("output_text")),
        json!({"type": "function_call", "name": "look_up", "call_id": "call_1", "arguments": "{}"}),
        json!({"type": "function_call_output", "call_id": "call_1", "output": "{}"}),
        message("user", audio),
    ] {
        client.send(create(item.clone())).await;
        let done = client.wait("conversation.item.done").await["item"].take();
        assert_eq!((&done["type"], &done["status"]), (&item["type"], &json!("completed")));
        assert!(done["content"][0]["audio"].is_null(), "the echo has no audio");
    }
    client.send(json!({"type": "response.create"})).await;
    let events = client.through("response.done").await;
    assert!(!audio_of(&events).is_empty());
    let usage = &events.last().unwrap()["response"]["usage"]["input_token_details"];
    assert_eq!(usage["audio_tokens"], 20, "2 s of the caller");
    server.stop().await;
}

#[tokio::test]
async fn wrong_items_are_refused() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let with_id =
        |id: &str| json!({"id": id, "type": "message", "role": "user", "content": [text("input_text")]});
    client.send(create(with_id("a"))).await;
    client.wait("conversation.item.done").await;
    let output = json!({"type": "function_call_output", "call_id": "call_x", "output": "{}"});
    let call = json!({"type": "function_call", "name": "f", "call_id": "call_y", "arguments": "{}"});
    let answer = json!({"type": "function_call_output", "call_id": "call_y", "output": "{}"});
    client.send(create(call)).await;
    client.send(create(answer.clone())).await;
    for (item, code, param) in [
        (message("assistant", text("text")), "invalid_value", json!("item.content[0].type")),
        (message("assistant", text("input_text")), "invalid_value", json!("item.content[0].type")),
        (message("user", text("output_text")), "invalid_value", json!("item.content[0].type")),
        (
            message("system", json!({"type": "input_audio", "audio": "AAAA"})),
            "invalid_value",
            json!("item.content[0].type"),
        ),
        (
            message("user", json!({"type": "input_audio", "audio": "no base64"})),
            "invalid_value",
            json!("item.content[0].audio"),
        ),
        (
            message("user", json!({"type": "input_audio"})),
            "missing_required_parameter",
            json!("item.content[0].audio"),
        ),
        (json!({"type": "message", "role": "user", "content": []}), "invalid_value", json!("item.content")),
        (with_id("a"), "item_create_duplicate_item_id", Value::Null),
        (with_id(&"a".repeat(33)), "invalid_value", json!("item.id")),
        (output, "item_create_invalid_call_id", Value::Null),
        (answer, "item_create_invalid_call_id", Value::Null),
    ] {
        let error = client.error(create(item.clone())).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{item}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_may_answer_seeded_words_in_writing() {
    let server = ModelServer::start(ModelOptions { text_after_seed: true, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    for (item, spoken) in
        [(message("system", text("input_text")), true), (message("assistant", text("output_text")), false)]
    {
        client.send(create(item)).await;
        client.send(json!({"type": "response.create"})).await;
        let events = client.through("response.done").await;
        assert_eq!(!audio_of(&events).is_empty(), spoken);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_buffer_is_committed_and_cleared() {
    let server = ModelServer::start(plain()).await.unwrap();
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "turn_detection": null}});
    let mut client = Client::ready(&server, json!({"audio": audio})).await;
    let commit = json!({"type": "input_audio_buffer.commit"});
    assert_eq!(client.error(commit.clone()).await["code"], "input_audio_buffer_commit_empty");
    client.append(&voice(80)).await;
    assert_eq!(client.error(commit.clone()).await["code"], "input_audio_buffer_commit_empty");
    client.append(&voice(80)).await;
    client.send(json!({"type": "input_audio_buffer.clear"})).await;
    client.wait("input_audio_buffer.cleared").await;
    assert_eq!(client.error(commit.clone()).await["code"], "input_audio_buffer_commit_empty");
    client.append(&voice(120)).await;
    client.send(commit).await;
    client.wait("input_audio_buffer.committed").await;
    server.stop().await;
}

#[tokio::test]
async fn several_responses_run_out_of_band() {
    let server = ModelServer::start(ModelOptions { burst: 4.0, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create"})).await;
    for line in ["One moment, please.", "Sorry, we were cut off."] {
        let response = json!({"conversation": "none", "input": [], "instructions": "Say it.",
            "metadata": {"purpose": "sound", "line": line}});
        client.send(json!({"type": "response.create", "response": response})).await;
    }
    let mut said = Vec::new();
    for _ in 0..3 {
        let done = client.wait("response.done").await["response"].take();
        let line = done["output"][0]["content"][0]["transcript"].as_str().unwrap().to_owned();
        said.push((line, done["metadata"]["line"].clone(), done["conversation_id"].is_null()));
    }
    said.sort_by_key(|(line, ..)| line.clone());
    assert_eq!(said[0], (super::speech::HELLO.to_owned(), Value::Null, false));
    assert_eq!(said[1], ("One moment, please.".to_owned(), json!("One moment, please."), true));
    assert_eq!(said[2], ("Sorry, we were cut off.".to_owned(), json!("Sorry, we were cut off."), true));
    let log = &server.sessions()[0].responses;
    assert_eq!(log.iter().map(|one| one.out_of_band).collect::<Vec<_>>(), [false, true, true]);
    server.stop().await;
}
