//! The dialects of compatible servers, tested with raw frames.

use super::super::Dialect;
use super::*;

/// A session in a dialect, configured with `session`, and the events so far.
async fn speaking(dialect: Dialect, session: Value) -> (ModelServer, Client, Vec<Value>) {
    let options = ModelOptions { dialect, temperature: Some(0.6..=1.2), ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    let url = format!("{}?model=gpt-realtime-2.1", server.url());
    let mut client = Client::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
    client.send(json!({"type": "session.update", "session": session})).await;
    let seen = client.through("session.updated").await;
    (server, client, seen)
}

fn beta_session() -> Value {
    json!({"modalities": ["text", "audio"], "instructions": "x", "voice": "any", "input_audio_format": "g711_ulaw",
        "output_audio_format": "g711_ulaw", "temperature": 0.9, "turn_detection": {"type": "server_vad"},
        "input_audio_transcription": {"model": "any"}})
}

fn xai_session() -> Value {
    json!({"instructions": "x", "voice": "eve", "turn_detection": {"type": "server_vad", "threshold": 0.5},
        "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcmu"}}}})
}

#[tokio::test]
async fn the_beta_has_its_own_names() {
    let (server, mut client, seen) = speaking(Dialect::Beta, beta_session()).await;
    assert_eq!(seen[0]["session"]["input_audio_format"], "pcm16");
    let session = &seen[1]["session"];
    assert_eq!((&session["input_audio_format"], &session["voice"]), (&json!("g711_ulaw"), &json!("any")));
    assert_eq!((&session["temperature"], session.get("audio")), (&json!(0.9), None));
    let item =
        json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello."}]});
    client.send(json!({"type": "conversation.item.create", "item": item})).await;
    let created = client.wait("conversation.item.created").await;
    assert_eq!(created["item"]["content"][0]["type"], "text");
    client.send(json!({"type": "response.create", "response": {"modalities": ["text", "audio"]}})).await;
    let events = client.through("response.done").await;
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    kinds.retain(|kind| *kind != "response.audio_transcript.delta");
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
            "response.content_part.added",
            "response.audio.delta",
            "response.audio.done",
            "response.audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        ]
    );
    let done = events.last().unwrap();
    assert_eq!(done["response"]["output"][0]["content"][0]["type"], "audio");
    server.stop().await;
}

#[tokio::test]
async fn xai_has_its_own_events() {
    let (server, mut client, seen) = speaking(Dialect::Xai, xai_session()).await;
    assert_eq!(seen[0]["type"], "conversation.created");
    assert_eq!((seen.len(), &seen[1]["session"]["voice"]), (2, &json!("eve")));
    client.append(&voice(400)).await;
    client.append(&silence(700)).await;
    let mut events = client.through("response.done").await;
    while !events.iter().any(|event| event["transcript"] == "This is turn number 1.") {
        events.push(client.next().await);
    }
    let updates: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "conversation.item.input_audio_transcription.updated")
        .map(|event| event["transcript"].as_str().unwrap())
        .collect();
    assert!(updates.len() > 1 && updates.windows(2).all(|two| two[1].starts_with(two[0])), "{updates:?}");
    assert!(!events.iter().any(|event| event["type"] == "conversation.item.done"));
    // Without metadata, the purpose of a request is unknown: it gets a generic line.
    client.send(json!({"type": "response.create", "response": {"instructions": "Say goodbye."}})).await;
    let spoken = client.wait("response.output_audio_transcript.done").await;
    assert_eq!(spoken["transcript"], super::super::speech::DONE);
    server.stop().await;
}

#[tokio::test]
async fn a_dialect_refuses_the_fields_of_the_others() {
    let ga = json!({"type": "realtime", "output_modalities": ["audio"]});
    for (dialect, session) in [
        (Dialect::Ga, beta_session()),
        (Dialect::Ga, xai_session()),
        (Dialect::Beta, ga.clone()),
        (Dialect::Beta, xai_session()),
        (Dialect::Xai, ga),
        (Dialect::Xai, beta_session()),
    ] {
        let options = ModelOptions { dialect, temperature: Some(0.6..=1.2), ..plain() };
        let server = ModelServer::start(options).await.unwrap();
        let url = format!("{}?model=gpt-realtime-2.1", server.url());
        let mut client = Client::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
        let error = client.error(json!({"type": "session.update", "session": session.clone()})).await;
        assert_eq!(error["code"], "unknown_parameter", "{dialect:?}");
        assert!(session.get(error["param"].as_str().unwrap().trim_start_matches("session.")).is_some());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_dialects_ranges_are_its_own() {
    let with = |mut session: Value, at: &str, value: Value| {
        *session.pointer_mut(at).unwrap() = value;
        session
    };
    for (dialect, session, code) in [
        (Dialect::Beta, with(beta_session(), "/temperature", json!(0.5)), "decimal_below_min_value"),
        (Dialect::Beta, with(beta_session(), "/modalities", json!(["audio"])), "invalid_value"),
        (
            Dialect::Xai,
            with(xai_session(), "/turn_detection/threshold", json!(0.95)),
            "decimal_above_max_value",
        ),
        (Dialect::Xai, with(xai_session(), "/turn_detection/type", json!("semantic_vad")), "invalid_value"),
    ] {
        let options = ModelOptions { dialect, temperature: Some(0.6..=1.2), ..plain() };
        let server = ModelServer::start(options).await.unwrap();
        let url = format!("{}?model=gpt-realtime-2.1", server.url());
        let mut client = Client::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
        let error = client.error(json!({"type": "session.update", "session": session})).await;
        assert_eq!(error["code"], code, "{dialect:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn the_key_can_have_its_own_header_and_be_refused_at_the_upgrade() {
    let options = ModelOptions {
        auth_header: Some("api-key".to_owned()),
        denies_at_upgrade: true,
        path: "/openai/v1/realtime".to_owned(),
        ..plain()
    };
    let server = ModelServer::start(options).await.unwrap();
    let url = format!("{}?model=gpt-realtime-2.1", server.url());
    let status = |error: Error| match error {
        Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    };
    for headers in [&[("api-key", "wrong")][..], &[("authorization", "Bearer sk-simulated")][..], &[][..]] {
        assert_eq!(Client::open(&url, headers).await.err().map(status), Some(401), "{headers:?}");
    }
    let unknown = format!("{}?model=gpt-3", server.url());
    assert_eq!(Client::open(&unknown, &[("api-key", "sk-simulated")]).await.err().map(status), Some(400));
    let mut client = Client::open(&url, &[("api-key", "sk-simulated")]).await.unwrap();
    assert_eq!(client.next().await["type"], "session.created");
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_truncation_refuses_or_ignores_it() {
    let cut =
        json!({"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 0});
    for (truncating, code) in [
        (Truncating::Works, "item_truncate_invalid_item_id"),
        (Truncating::Refused, "invalid_value"),
        (Truncating::Ignored, "invalid_event"),
    ] {
        let server = ModelServer::start(ModelOptions { truncating, ..plain() }).await.unwrap();
        let mut client = Client::ready(&server, json!({})).await;
        client.send(cut.clone()).await;
        // The error of the next event shows that nothing was sent in between.
        client.send(json!({"no": "type"})).await;
        assert_eq!(client.wait("error").await["error"]["code"], code);
        server.stop().await;
    }
}
