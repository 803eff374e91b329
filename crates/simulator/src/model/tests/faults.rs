//! The server's faults, and how a session can end.

use super::*;

#[tokio::test]
async fn a_session_expires_with_an_error_and_1001() {
    let options = ModelOptions { session_cap: Duration::from_millis(300), ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    assert_eq!(client.wait("error").await["error"]["code"], "session_expired");
    assert_eq!(client.close_code().await.map(|(code, _)| code), Some(1001));
    server.stop().await;
}

#[tokio::test]
async fn each_fault_has_its_effect() {
    let first = When::Response(1);
    for (fault, expected) in [
        (Fault::ResponseFailed { nth: 1, code: "rate_limit_exceeded" }, "failed"),
        (Fault::ResponseIncomplete { nth: 1, reason: "content_filter" }, "incomplete"),
        (Fault::TwoItems, "completed"),
        (Fault::UnsolicitedError(first), "completed"),
        (Fault::Drop(first), ""),
        (Fault::Close { when: first, code: 1011, reason: "boom" }, ""),
    ] {
        let server =
            ModelServer::start(ModelOptions { faults: vec![fault.clone()], ..plain() }).await.unwrap();
        let mut client = Client::ready(&server, json!({})).await;
        client.send(json!({"type": "response.create"})).await;
        if expected.is_empty() {
            while let Some(Message::Text(_)) = client.message().await {}
            assert!(server.until(LIMIT, |logs| logs[0].closed.is_some()).await, "{fault:?}");
        } else {
            let response = client.wait("response.done").await["response"].take();
            assert_eq!(response["status"], expected, "{fault:?}");
            if fault == Fault::TwoItems {
                assert_eq!(response["output"][0]["phase"], "commentary");
                assert_eq!(response["output"][1]["phase"], "final_answer");
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn optional_fields_can_be_refused_once() {
    let faults = vec![Fault::RefuseOptional { once: true }];
    let server = ModelServer::start(ModelOptions { faults, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let update = json!({"type": "session.update", "session": {"type": "realtime", "truncation": "disabled"}});
    assert_eq!(client.error(update.clone()).await["param"], "session.truncation");
    client.send(update).await;
    client.wait("session.updated").await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_can_withhold_its_first_events() {
    for (fault, spoken) in [
        (Fault::NoCreated, &[][..]),
        (Fault::NoUpdated, &["session.created"]),
        (Fault::RefuseUpdates, &["session.created", "error"]),
        (Fault::LateUpdated(Duration::from_millis(100)), &["session.created", "session.updated"]),
    ] {
        let server = ModelServer::start(ModelOptions { faults: vec![fault], ..plain() }).await.unwrap();
        let url = format!("{}?model=gpt-realtime", server.url());
        let mut client = Client::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
        client.send(json!({"type": "session.update", "session": {"type": "realtime"}})).await;
        for kind in spoken {
            assert_eq!(client.next().await["type"], *kind);
        }
        let more = timeout(Duration::from_millis(200), client.socket.next()).await;
        assert!(more.is_err(), "{more:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_stall_lasts_until_it_is_interrupted() {
    let after = Duration::from_millis(300);
    let faults = vec![Fault::Stall { nth: 1, after }, Fault::DuplicateSpeechStarted];
    let server = ModelServer::start(ModelOptions { faults, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create"})).await;
    client.wait("response.output_audio.delta").await;
    assert!(server.until(LIMIT, |logs| logs[0].items[0].sent_ms >= 300).await);
    let quiet = async { while client.next().await["type"] != "response.done" {} };
    assert!(timeout(Duration::from_millis(300), quiet).await.is_err());
    client.append(&voice(200)).await;
    let events = client.through("response.done").await;
    let started = |event: &&Value| event["type"] == "input_audio_buffer.speech_started";
    assert_eq!(events.iter().filter(started).count(), 2);
    server.stop().await;
}

#[tokio::test]
async fn unanswered_pings_end_the_session() {
    let options = ModelOptions { ping: Duration::from_millis(40), ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    let message = timeout(LIMIT, client.socket.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&message, Message::Ping(payload) if payload.len() == 4), "{message:?}");
    // The client reads nothing, so the pings stay unanswered.
    assert!(server.until(LIMIT, |logs| matches!(logs[0].closed, Some(Closed::ByServer(1011, _)))).await);
    server.stop().await;
}

#[tokio::test]
async fn the_session_continues_after_garbage() {
    let huge = Fault::Huge { when: When::Response(1), bytes: 2_000_000 };
    let options = ModelOptions { faults: vec![Fault::Garbage(When::Response(1)), huge], ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create"})).await;
    let (mut binary, mut nonsense, mut largest) = (0, 0, 0);
    loop {
        match client.message().await.expect("an open socket") {
            Message::Binary(_) => binary += 1,
            Message::Text(text) => match serde_json::from_str::<Value>(&text) {
                Ok(event) if event["type"] == "response.done" => break,
                Ok(_) => largest = largest.max(text.len()),
                Err(_) => nonsense += 1,
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((binary, nonsense, largest > 2_000_000), (1, 1, true));
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_server_leaves_no_task() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create"})).await;
    client.wait("response.created").await;
    let tasks = server.tasks.clone();
    timeout(LIMIT, server.stop()).await.unwrap();
    assert!(tasks.is_empty());
}
