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

/// One second of speech at 15 characters a second.
const LINE: &str = "fifteen letters";

/// A tool-less server whose every reply is [`LINE`], and a client that has taken a turn.
async fn asked(faults: Vec<Fault>) -> (ModelServer, Client) {
    let options = ModelOptions { faults, speech: Speech::Tagged, burst: 20.0, ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    server.reply_with(Reply::say(LINE));
    let mut client =
        Client::ready(&server, json!({"tools": [{"type": "function", "name": "look_up"}]})).await;
    client.append(&[voice(300), silence(300)].concat()).await;
    (server, client)
}

#[tokio::test]
async fn a_troubled_response_has_its_status_and_its_sound() {
    let half = Moment::answer(Point::Sound(Duration::from_millis(500)));
    let none = Moment::answer(Point::Created);
    for (moment, trouble, status, detail, sound) in [
        (none, Trouble::Failed("rate_limit_exceeded"), "failed", "rate_limit_exceeded", 0..=0),
        (half, Trouble::Failed("server_error"), "failed", "server_error", 500..=900),
        (half, Trouble::Cancelled, "cancelled", "turn_detected", 500..=900),
        (half, Trouble::Incomplete("max_output_tokens"), "incomplete", "max_output_tokens", 500..=900),
        (none, Trouble::Incomplete("content_filter"), "incomplete", "content_filter", 0..=0),
        (none, Trouble::Empty, "completed", "", 0..=0),
        (half, Trouble::Empty, "completed", "", 500..=900),
        (none, Trouble::TextOnly, "completed", "", 0..=0),
        (none, Trouble::Late(Duration::from_millis(300)), "completed", "", 1_000..=1_000),
    ] {
        let (server, mut client) = asked(vec![Fault::once(moment, trouble)]).await;
        let began = std::time::Instant::now();
        let events = client.through("response.done").await;
        let response = &events.last().unwrap()["response"];
        assert_eq!(response["status"], status, "{trouble:?}");
        let details = &response["status_details"];
        let got = details["reason"].as_str().or(details["error"]["code"].as_str()).unwrap_or_default();
        assert_eq!(got, detail, "{trouble:?}");
        let ms = audio_of(&events).len() / 8;
        assert!(sound.contains(&ms), "{trouble:?}: {ms} ms");
        if let Trouble::Late(long) = trouble {
            assert!(began.elapsed() >= long);
            continue;
        }
        // It struck once: the next answer to the same turn is whole.
        client.send(json!({"type": "response.create", "response": {"instructions": "Go on."}})).await;
        let events = client.through("response.done").await;
        assert_eq!(audio_of(&events).len(), 8_000, "{trouble:?}");
        assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["transcript"], LINE);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_rate_limit_names_the_time_to_wait() {
    let faults = vec![Fault::twice(Moment::answer(Point::Created), Trouble::Failed("rate_limit_exceeded"))];
    let (server, mut client) = asked(faults).await;
    let error = client.wait("response.done").await["response"]["status_details"]["error"].take();
    assert!(error["message"].as_str().unwrap().contains("Please try again in 1.5s."), "{error}");
    let limits = client.wait("rate_limits.updated").await["rate_limits"][0].take();
    assert_eq!((&limits["limit"], &limits["reset_seconds"]), (&json!(40_000), &json!(0.3)));
    client.send(json!({"type": "response.create"})).await;
    assert_eq!(client.wait("response.done").await["response"]["status"], "failed");
    client.send(json!({"type": "response.create"})).await;
    assert_eq!(client.wait("response.done").await["response"]["status"], "completed");
    server.stop().await;
}

#[tokio::test]
async fn some_responses_have_no_end() {
    for (trouble, kind) in [
        (Trouble::WordsOnly, "response.output_audio_transcript.delta"),
        (Trouble::EndlessArguments, "response.function_call_arguments.delta"),
    ] {
        let (server, mut client) = asked(vec![Fault::once(Moment::answer(Point::Created), trouble)]).await;
        for _ in 0..3 {
            client.wait(kind).await;
        }
        client.send(json!({"type": "response.cancel"})).await;
        let events = client.through("response.done").await;
        assert!(audio_of(&events).is_empty());
        server.stop().await;
    }
    let (server, mut client) =
        asked(vec![Fault::once(Moment::answer(Point::Created), Trouble::Silent)]).await;
    let events = client.through("response.done").await;
    assert_eq!(audio_of(&events), silence(1_000));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_ends_in_each_way() {
    let made = Moment::answer(Point::Made);
    for trouble in [
        Trouble::Close(1000, ""),
        Trouble::Close(1012, "restart"),
        Trouble::Close(1013, "later"),
        Trouble::Close(4000, "odd"),
        Trouble::Fatal("session_expired"),
        Trouble::Fatal("rate_limit_exceeded"),
        Trouble::Reset,
    ] {
        let (server, mut client) = asked(vec![Fault::once(made, trouble)]).await;
        if trouble != Trouble::Reset {
            client.wait("response.done").await;
        }
        if let Trouble::Fatal(code) = trouble {
            assert_eq!(client.wait("error").await["error"]["code"], code);
        }
        match trouble {
            Trouble::Close(code, _) => {
                assert_eq!(client.close_code().await.map(|(code, _)| code), Some(code));
            }
            Trouble::Fatal("session_expired") => {
                assert_eq!(client.close_code().await.map(|(code, _)| code), Some(1001));
            }
            Trouble::Fatal(_) => assert_eq!(client.close_code().await.map(|(code, _)| code), Some(4000)),
            _ => {
                let ended = async { while let Some(Ok(_)) = client.socket.next().await {} };
                timeout(LIMIT, ended).await.expect("the connection ends");
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_stalled_session_answers_pings_and_a_half_open_one_nothing() {
    for (trouble, pongs) in [(Trouble::Stalled, true), (Trouble::HalfOpen, false)] {
        let (server, mut client) = asked(Vec::new()).await;
        client.wait("rate_limits.updated").await;
        server.strike(trouble);
        // An event that the trouble overtakes may still be answered.
        while timeout(Duration::from_millis(100), client.socket.next()).await.is_ok() {}
        client.send(json!({"type": "response.create"})).await;
        client.socket.send(Message::Ping("x".into())).await.unwrap();
        let answer = timeout(Duration::from_millis(500), client.socket.next()).await;
        assert_eq!(matches!(answer, Ok(Some(Ok(Message::Pong(_))))), pongs, "{trouble:?}: {answer:?}");
        assert!(server.sessions()[0].closed.is_none());
        drop(client);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_deaf_server_takes_requests() {
    let (server, mut client) = asked(Vec::new()).await;
    client.wait("response.done").await;
    server.strike(Trouble::Deaf);
    assert!(server.until(LIMIT, |logs| logs[0].responses[0].ended.is_some()).await);
    client.append(&[voice(300), silence(300)].concat()).await;
    client.send(json!({"type": "input_audio_buffer.commit"})).await;
    client.send(json!({"type": "response.create"})).await;
    let events = client.through("response.done").await;
    assert!(!order(&events).contains(&"input_audio_buffer.speech_started".to_owned()));
    assert_eq!(audio_of(&events).len(), 8_000);
    server.stop().await;
}

#[tokio::test]
async fn an_endless_speech_ends_with_a_commit() {
    let long = Moment::Speech(Duration::from_millis(100));
    let (server, mut client) = asked(vec![Fault::once(long, Trouble::EndlessSpeech(None))]).await;
    client.wait("input_audio_buffer.speech_started").await;
    client.append(&silence(1_000)).await;
    client.send(json!({"type": "input_audio_buffer.commit"})).await;
    let events = client.through("input_audio_buffer.committed").await;
    assert_eq!(order(&events), ["input_audio_buffer.committed"], "no speech_stopped");
    client.append(&[voice(300), silence(300)].concat()).await;
    client.wait("input_audio_buffer.speech_stopped").await;
    server.stop().await;

    // A phantom cancels the answer, and ends after its time.
    let phantom = Trouble::EndlessSpeech(Some(Duration::from_millis(200)));
    let sound = Moment::answer(Point::Sound(Duration::ZERO));
    let (server, mut client) = asked(vec![Fault::once(sound, phantom)]).await;
    client.wait("input_audio_buffer.speech_stopped").await;
    let events = client.through("input_audio_buffer.speech_stopped").await;
    let done = events.iter().find(|event| event["type"] == "response.done").unwrap();
    assert_eq!(done["response"]["status_details"]["reason"], "turn_detected");
    assert!(order(&events).contains(&"input_audio_buffer.speech_started".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_conflict_lasts_until_its_response_is_cancelled() {
    let ask = json!({"type": "response.create"});
    let faults = vec![Fault::always(Moment::Request(Which::Any), Trouble::Conflict)];
    let (server, mut client) = asked(faults).await;
    client.wait("response.done").await;
    let first = client.error(ask.clone()).await;
    let again = client.error(ask.clone()).await;
    assert_eq!(first["code"], "conversation_already_has_active_response");
    assert_eq!(first["message"], again["message"]);
    let message = first["message"].as_str().unwrap();
    let id = message.split_once("progress: ").unwrap().1.split_once('.').unwrap().0;
    client.send(json!({"type": "response.cancel", "response_id": id})).await;
    assert_eq!(client.wait("response.done").await["response"]["id"], id);
    client.send(ask).await;
    assert_eq!(client.wait("response.done").await["response"]["status"], "completed");
    server.stop().await;
}

#[tokio::test]
async fn connections_can_be_refused_and_accepted_again() {
    let server = ModelServer::start(plain()).await.unwrap();
    server.refuse_connections(true);
    let addr = server.addr();
    let refused = async { while TcpStream::connect(addr).await.is_ok() {} };
    timeout(LIMIT, refused).await.unwrap();
    server.refuse_connections(false);
    let accepted = async { while TcpStream::connect(addr).await.is_err() {} };
    timeout(LIMIT, accepted).await.unwrap();
    Client::ready(&server, json!({})).await;
    server.stop().await;
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
