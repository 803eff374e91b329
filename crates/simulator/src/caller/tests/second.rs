//! Calls that leave the stream and come back: a second stream, keys, silence.

use super::*;

const AGAIN: &str = r#"<Connect action="URL/last"><Stream url="WS/media/u"/></Connect>"#;

#[tokio::test]
async fn an_unanswered_dial_leads_to_a_second_stream() {
    let dial = r#"<Dial action="URL/dialed" timeout="1" callerId="+15550100100" answerOnBridge="true" timeLimit="60">+15550100009</Dial>"#;
    let mut server = Server::new(&[
        ("/incoming-call", CONNECT),
        ("/after", dial),
        ("/dialed", AGAIN),
        ("/last", "<Hangup/>"),
    ])
    .await;
    // It would ring for longer than allowed.
    let dials = vec![DialOutcome { status: "no-answer".to_owned(), after: Duration::from_secs(9) }];
    let script = vec![
        Line { when: When::Stream(2), act: Act::Say(Bytes::from_static(&[5; 320])) },
        Line { when: When::Quiet(Duration::from_millis(40)), act: Act::Press('#') },
    ];
    let mut phone = Phone::dial(PhoneOptions { dials, script, ..server.options() });
    server.asked().await;
    let (_, mut first) = server.stream().await;
    let old = next_of(&mut first, "start").await["streamSid"].clone();
    play(&mut first, &old, &[1; 8_000]).await;
    mark(&mut first, &old, "never heard").await;
    next_of(&mut first, "media").await;
    first.close(None).await.unwrap();
    assert_eq!(server.asked().await.field("CallStatus"), "in-progress");
    let since = Instant::now();
    let dialed = server.asked().await;
    near(since.elapsed(), 1_000);
    assert_eq!(dialed.field("DialCallStatus"), "no-answer");
    assert!(dialed.field("DialCallSid").starts_with("CA") && dialed.field("DialCallDuration").is_empty());

    let (_, mut second) = server.stream().await;
    assert_eq!(next(&mut second).await.unwrap()["event"], "connected");
    let start = next(&mut second).await.unwrap();
    let sid = start["streamSid"].clone();
    assert_ne!(sid, old);
    assert_eq!((&start["sequenceNumber"], &start["start"]["streamSid"]), (&json!("1"), &sid));
    let media = next(&mut second).await.unwrap();
    assert_eq!((&media["sequenceNumber"], &media["media"]["chunk"]), (&json!("2"), &json!("1")));
    let mut loud = usize::from(media["media"]["payload"] == base64(&[5; 160]));
    while loud < 2 {
        let media = next_of(&mut second, "media").await;
        loud += usize::from(media["media"]["payload"] == base64(&[5; 160]));
    }
    // The buffer of the new stream is empty: a mark is echoed at once.
    mark(&mut second, &sid, "at once").await;
    assert_eq!(next_of(&mut second, "mark").await["mark"]["name"], "at once");
    clear(&mut second, &old).await;
    play(&mut second, &sid, &[2; 480]).await;
    assert_eq!(next_of(&mut second, "dtmf").await["dtmf"]["digit"], "#");
    assert!(phone.wait_for(|event| matches!(event, PhoneEvent::Dialled(_))).await.is_some());
    second.close(None).await.unwrap();

    let record = soon(phone.finished()).await;
    let codes: Vec<_> = record.violations.iter().map(|violation| violation.code).collect();
    assert_eq!(codes, [31_951], "a message for the stream that is over");
    let [one, two] = &record.streams[..] else { panic!("{} streams", record.streams.len()) };
    assert!(one.bytes_played < 8_000 && one.marks.is_empty() && one.speech.is_empty());
    assert_eq!((two.bytes_played, two.marks.len(), two.speech.len()), (480, 1, 2));
    assert_eq!((record.dialed[0].streams, record.dialed[0].caller_id.as_deref()), (1, Some("+15550100100")));
    assert_eq!(record.end, CallEnd::HungUp);
}

#[tokio::test]
async fn a_dial_without_an_action_continues_with_the_next_verb() {
    let after = r#"<Dial timeout="0">+15550100009</Dial><Say>Nobody is there.</Say>"#;
    let server = Server::new(&[("/incoming-call", after)]).await;
    let record = soon(Phone::dial(server.options()).finished()).await;
    record.assert_clean();
    assert_eq!((record.documents.len(), record.said[0].text.as_str()), (1, "Nobody is there."));
}

#[tokio::test]
async fn an_answered_dial_reports_its_duration() {
    let dial = r#"<Dial action="/dialed" timeout="0" timeLimit="1">+15550100009</Dial>"#;
    let mut server = Server::new(&[("/incoming-call", dial), ("/dialed", "")]).await;
    let dials = vec![DialOutcome { status: "completed".to_owned(), after: Duration::from_secs(60) }];
    let phone = Phone::dial(PhoneOptions { dials, ..server.options() });
    server.asked().await;
    let dialed = server.asked().await;
    assert_eq!((dialed.field("DialCallStatus"), dialed.field("DialCallDuration")), ("completed", "1"));
    soon(phone.finished()).await.assert_clean();
}

#[tokio::test]
async fn keys_take_their_time_before_the_next_verb() {
    let keys = format!(r#"<Play digits="1w#"/>{AGAIN}"#);
    let mut server =
        Server::new(&[("/incoming-call", CONNECT), ("/after", &keys), ("/last", "<Hangup/>")]).await;
    let mut phone = Phone::dial(server.options());
    let (_, mut first) = server.stream().await;
    next_of(&mut first, "start").await;
    first.close(None).await.unwrap();
    assert!(soon(phone.wait_for(|event| *event == PhoneEvent::Pressed("1w#".into()))).await.is_some());
    let since = Instant::now();
    assert!(soon(phone.wait_for_stream(2)).await);
    near(since.elapsed(), 1_000);
    let (_, mut second) = server.stream().await;
    next_of(&mut second, "start").await;
    second.close(None).await.unwrap();
    let record = soon(phone.finished()).await;
    record.assert_clean();
    let pressed: Vec<_> = record.pressed.iter().map(|keys| (keys.digits.as_str(), keys.streams)).collect();
    assert_eq!(pressed, [("1w#", 1)]);
}

#[tokio::test]
async fn a_script_can_wait_for_silence() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let script = vec![
        Line { when: When::Stream(1), act: Act::Nothing },
        Line { when: When::Silent(Duration::from_millis(200)), act: Act::Press('1') },
        Line { when: When::Silent(Duration::from_millis(200)), act: Act::Press('2') },
    ];
    let phone = Phone::dial(PhoneOptions { script, ..server.options() });
    let (_, mut socket) = server.stream().await;
    let sid = next_of(&mut socket, "start").await["streamSid"].clone();
    let since = Instant::now();
    assert_eq!(next_of(&mut socket, "dtmf").await["dtmf"]["digit"], "1");
    near(since.elapsed(), 210);
    play(&mut socket, &sid, &[1; 1_600]).await;
    let since = Instant::now();
    assert_eq!(next_of(&mut socket, "dtmf").await["dtmf"]["digit"], "2");
    near(since.elapsed(), 410);
    phone.hang_up();
    next_of(&mut socket, "stop").await;
    drain(socket);
    soon(phone.finished()).await.assert_clean();
}

#[tokio::test]
async fn a_stream_that_breaks_is_followed_by_the_next_document() {
    let mut server =
        Server::new(&[("/incoming-call", CONNECT), ("/after", AGAIN), ("/last", "<Hangup/>")]).await;
    let phone = Phone::dial(server.options());
    server.asked().await;
    let (_, mut first) = server.stream().await;
    let old = next_of(&mut first, "start").await["streamSid"].clone();
    phone.break_stream(Duration::ZERO);
    while let Some(Ok(message)) = soon(first.next()).await {
        assert!(!message.to_string().contains("\"stop\""));
    }
    assert_eq!(server.asked().await.field("CallStatus"), "in-progress");
    let (_, mut second) = server.stream().await;
    let new = next_of(&mut second, "start").await["streamSid"].clone();
    assert_ne!(old, new);
    // Only one of them breaks.
    next_of(&mut second, "media").await;
    phone.hang_up();
    next_of(&mut second, "stop").await;
    drain(second);
    let record = soon(phone.finished()).await;
    assert_eq!(record.streams[0].end, StreamEnd::Cut);
    assert_eq!(record.streams[1].end, StreamEnd::CallerHungUp);
}

#[tokio::test]
async fn media_pauses_and_comes_back_later_in_the_stream() {
    let mut server = Server::new(&[("/incoming-call", CONNECT), ("/after", "")]).await;
    let phone = Phone::dial(server.options());
    let (_, mut socket) = server.stream().await;
    let stamp = |media: &Value| media["media"]["timestamp"].as_str().unwrap().parse::<u64>().unwrap();
    let mut before = stamp(&next_of(&mut socket, "media").await);
    let since = Instant::now();
    phone.pause(Duration::from_millis(400));
    let gap = loop {
        let now = stamp(&next_of(&mut socket, "media").await);
        if now - before > 20 {
            break now - before;
        }
        before = now;
    };
    assert!((380..=440).contains(&gap), "{gap}");
    near(since.elapsed(), 400);
    phone.hang_up();
    next_of(&mut socket, "stop").await;
    drain(socket);
    soon(phone.finished()).await.assert_clean();
}
