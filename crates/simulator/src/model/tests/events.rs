//! Client events, and how the server refuses bad ones.

use super::*;

#[tokio::test]
async fn a_bad_connection_gets_its_error_and_its_close_code() {
    let server = ModelServer::start(plain()).await.unwrap();
    let good = ("authorization", "Bearer sk-simulated");
    for (what, query, headers, code, close, reason) in [
        (
            "key",
            "?model=gpt-realtime",
            vec![("authorization", "Bearer sk-no")],
            json!("invalid_api_key"),
            3000,
            "invalid_request_error.invalid_api_key",
        ),
        ("none", "?model=gpt-realtime", vec![], json!(null), 3000, "invalid_request_error"),
        (
            "model",
            "?model=gpt-live-1",
            vec![good],
            json!("invalid_model"),
            4000,
            "invalid_request_error.invalid_model",
        ),
        ("no model", "", vec![good], json!("missing_model"), 4000, "invalid_request_error.missing_model"),
        (
            "beta",
            "?model=gpt-realtime",
            vec![good, ("openai-beta", "realtime=v1")],
            json!("beta_api_shape_disabled"),
            4000,
            "invalid_request_error.beta_api_shape_disabled",
        ),
    ] {
        let mut client = Client::open(&format!("{}{query}", server.url()), &headers).await.expect(what);
        assert_eq!(client.next().await["error"]["code"], code, "{what}");
        assert_eq!(client.close_code().await, Some((close, reason.to_owned())), "{what}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_upgrade_can_be_refused_with_a_status() {
    let options = ModelOptions { faults: vec![Fault::UpgradeStatus(401)], ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    match Client::open(&server.url(), &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("not refused: {:?}", other.err()),
    }
    server.stop().await;
}

#[tokio::test]
async fn a_bad_update_is_refused_by_name_and_changes_nothing() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({"instructions": "first"})).await;
    for (what, session, code, param) in [
        ("unknown", json!({"type": "realtime", "foo": 1}), "unknown_parameter", "session.foo"),
        (
            "temperature",
            json!({"type": "realtime", "temperature": 0.8}),
            "unknown_parameter",
            "session.temperature",
        ),
        ("beta voice", json!({"type": "realtime", "voice": "marin"}), "unknown_parameter", "session.voice"),
        ("no type", json!({"instructions": "x"}), "missing_required_parameter", "session.type"),
        (
            "deep",
            json!({"type": "realtime", "audio": {"input": {"gain": 1}}}),
            "unknown_parameter",
            "session.audio.input.gain",
        ),
        (
            "rate",
            json!({"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}),
            "integer_below_min_value",
            "session.audio.input.format.rate",
        ),
        (
            "speed",
            json!({"type": "realtime", "audio": {"output": {"speed": 2.0}}}),
            "decimal_above_max_value",
            "session.audio.output.speed",
        ),
        (
            "both",
            json!({"type": "realtime", "output_modalities": ["audio", "text"]}),
            "invalid_value",
            "session.output_modalities",
        ),
        (
            "voice",
            json!({"type": "realtime", "audio": {"output": {"voice": "bob"}}}),
            "invalid_value",
            "session.audio.output.voice",
        ),
        (
            "nested",
            json!({"type": "realtime", "tools": [{"type": "function", "function": {"name": "f"}}]}),
            "unknown_parameter",
            "session.tools[0].function",
        ),
        (
            "semantic",
            json!({"type": "realtime", "audio": {"input":
            {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}}),
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            "transcriber",
            json!({"type": "realtime", "audio": {"input": {"transcription": {"model": "ear-1"}}}}),
            "invalid_value",
            "session.audio.input.transcription.model",
        ),
        ("string", json!({"type": "realtime", "instructions": 5}), "invalid_type", "session.instructions"),
    ] {
        let mut session = session;
        if what != "no type" && what != "string" {
            session["instructions"] = json!("lost");
        }
        let error =
            client.error(json!({"type": "session.update", "event_id": "e1", "session": session})).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{what}");
        assert_eq!(error["event_id"], "e1", "{what}");
    }
    client.send(json!({"type": "session.update", "session": {"type": "realtime"}})).await;
    let updated = client.wait("session.updated").await;
    assert_eq!(updated["session"]["instructions"], "first");
    assert_eq!(updated["session"]["audio"]["input"]["format"], json!({"type": "audio/pcmu"}));
    server.stop().await;
}

#[tokio::test]
async fn an_update_merges_objects_and_replaces_arrays() {
    let server = ModelServer::start(plain()).await.unwrap();
    let tool = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let mut client = Client::ready(&server, json!({"tools": [tool("a"), tool("b")]})).await;
    let update = json!({"type": "realtime", "tools": [tool("c")], "reasoning": {"effort": "low"}, "audio": {"input":
        {"turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
         "transcription": {"model": "gpt-transcribe", "keywords": ["Acme"]}}}});
    client.send(json!({"type": "session.update", "session": update})).await;
    let session = client.wait("session.updated").await["session"].take();
    assert_eq!(session["tools"], json!([tool("c")]));
    let detection = &session["audio"]["input"]["turn_detection"];
    assert_eq!((&detection["silence_duration_ms"], &detection["threshold"]), (&json!(700), &json!(0.5)));
    let transcription = json!({"model": "gpt-transcribe", "language": null, "prompt": null});
    assert_eq!(session["audio"]["input"]["transcription"], transcription);
    server.stop().await;
}

#[tokio::test]
async fn reasoning_needs_the_second_generation_and_temperature_a_dialect() {
    let server = ModelServer::start(ModelOptions { temperature: Some(0.6..=1.2), ..plain() }).await.unwrap();
    let url = format!("{}?model=gpt-realtime", server.url());
    let mut client = Client::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
    let session = json!({"type": "realtime", "reasoning": {"effort": "low"}});
    let error = client.error(json!({"type": "session.update", "event_id": "e", "session": session})).await;
    assert_eq!((&error["param"], &error["event_id"]), (&Value::Null, &Value::Null));
    client.send(json!({"type": "session.update", "session": {"type": "realtime", "temperature": 0.9}})).await;
    assert_eq!(client.wait("session.updated").await["session"]["temperature"], 0.9);
    server.stop().await;
}

#[tokio::test]
async fn invalid_events_are_refused_and_the_session_continues() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.socket.send(Message::Binary(vec![1, 2].into())).await.unwrap();
    assert_eq!(client.wait("error").await["error"]["code"], "invalid_event");
    client.socket.send(Message::Text("{no".into())).await.unwrap();
    assert_eq!(client.wait("error").await["error"]["code"], "invalid_json");
    for (what, event, code, param) in [
        ("type", json!({"type": "output_audio_buffer.clear"}), "invalid_value", json!("type")),
        ("no type", json!({"audio": ""}), "invalid_event", json!(null)),
        (
            "base64",
            json!({"type": "input_audio_buffer.append", "audio": "*"}),
            "invalid_value",
            json!("audio"),
        ),
        (
            "no audio",
            json!({"type": "input_audio_buffer.append"}),
            "missing_required_parameter",
            json!("audio"),
        ),
        (
            "empty",
            json!({"type": "input_audio_buffer.commit"}),
            "input_audio_buffer_commit_empty",
            json!(null),
        ),
        ("cancel", json!({"type": "response.cancel"}), "response_cancel_not_active", json!(null)),
        (
            "response key",
            json!({"type": "response.create", "response": {"voice": "marin"}}),
            "unknown_parameter",
            json!("response.voice"),
        ),
        (
            "modalities",
            json!({"type": "response.create", "response": {"modalities": ["audio"]}}),
            "unknown_parameter",
            json!("response.modalities"),
        ),
    ] {
        let error = client.error(event).await;
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{what}");
    }
    client.send(json!({"type": "input_audio_buffer.clear"})).await;
    client.wait("input_audio_buffer.cleared").await;
    server.stop().await;
}

#[tokio::test]
async fn items_are_checked_by_id_position_and_content() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let text = |id: &str, role: &str, kind: &str| json!({"id": id, "type": "message", "role": role, "content": [{"type": kind, "text": "Hi."}]});
    let create = |item: Value| json!({"type": "conversation.item.create", "event_id": "c", "item": item});
    client.send(create(text("a", "user", "input_text"))).await;
    assert_eq!(client.wait("conversation.item.added").await["item"]["status"], "completed");
    client.wait("conversation.item.done").await;
    let mut astray = create(text("b", "user", "input_text"));
    astray["previous_item_id"] = json!("nowhere");
    for (what, event, code) in [
        ("same id", create(text("a", "user", "input_text")), "item_create_duplicate_item_id"),
        ("place", astray, "item_create_invalid_previous_item_id"),
        ("content", create(text("d", "assistant", "text")), "invalid_value"),
        (
            "call",
            create(json!({"type": "function_call_output", "call_id": "call_x", "output": ""})),
            "item_create_invalid_call_id",
        ),
        (
            "key",
            create(json!({"type": "function_call_output", "call_id": "c", "output": "", "name": "f"})),
            "unknown_parameter",
        ),
        (
            "delete",
            json!({"type": "conversation.item.delete", "item_id": "z"}),
            "item_delete_invalid_item_id",
        ),
        (
            "retrieve",
            json!({"type": "conversation.item.retrieve", "item_id": "z"}),
            "item_retrieve_invalid_item_id",
        ),
    ] {
        assert_eq!(client.error(event).await["code"], code, "{what}");
    }
    server.stop().await;
}
