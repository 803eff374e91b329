//! Streams that another machine takes over, from one that is dead, unreachable, hanging or restarted.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_killed_while_the_phone_rings_is_replaced() {
    // The webhook after the stream reaches the machine that took over, or one that does not know the call.
    for third in [false, true] {
        let app = App::new().await;
        let first = app.machine(FIRST, &[]).await;
        let second = app.machine(SECOND, &[]).await;
        app.proxy.rule("/incoming-call", FIRST);
        app.proxy.rule("/media-stream/", SECOND);
        let kill = first.killer();
        app.proxy.on_ring(move |id| {
            assert_eq!(id, FIRST);
            kill();
        });
        let last = if third { Some(app.machine("0000000000000c", &[]).await) } else { None };
        if let Some(last) = &last {
            app.proxy.rule("/after-stream/", &last.id);
        }
        let record = finished(Phone::dial(app.short_call())).await;
        assert_went_well(&record);
        let seen = app.proxy.seen();
        assert_eq!(seen.streams.len(), 1);
        assert_eq!(seen.streams[0].1, SECOND);
        assert_eq!(
            (seen.replayed, seen.fell_back, seen.elsewhere("/after-stream/")),
            (1, 1, usize::from(third))
        );
        assert_eq!(second.logged(log::TAKEN_OVER), 1, "{}", second.log());
        assert_eq!(second.logged(r#""reason":"assistant.ended""#), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_the_proxy_cannot_reach_gives_up_its_ticket() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    app.proxy.rule("/incoming-call", FIRST);
    let ticket = ring(&app, &first, CA1).await;
    // The machine is unreachable for the proxy, but reachable on the private network.
    let path = format!("/media-stream/{ticket}");
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(app.proxy.seen().peers, [(path.clone(), 204)]);
    assert_eq!(knock(&first.address, &path, &signature(&app, &path)).await.0, 403, "the ticket is used up");
    until(|| first.logged(log::GIVEN_UP) == 1).await;
    // The next webhook reaches a third machine or the first; both ask the second, which has the call.
    let third = app.machine("0000000000000c", &[]).await;
    let path = format!("/after-stream/{ticket}");
    let (_, answer) = post(&app, &third.address, &path, CA1, "").await;
    assert!(answer.contains("<Stream "), "the machine that took over retries the lost stream: {answer}");
    let (_, again) = post(&app, &first.address, &path, CA1, "").await;
    assert_eq!(stream_of(&again), stream_of(&answer), "a repeated webhook gets the same answer");
    let asked: Vec<_> = app.proxy.seen().peers.into_iter().skip(1).map(|(_, status)| status).collect();
    assert_eq!(asked, [404, 200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_call_that_returns_to_another_machine_is_not_lost() {
    let app = presses_keys().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    app.proxy.rule("/", FIRST);
    let options = app.short_call();
    let call = options.call_sid.clone();
    let _phone = Phone::dial(options);
    let path = format!("/media-stream/{}", way_back(&app, &first, &call).await);
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    until(|| first.logged(log::GIVEN_UP) + first.logged(r#""reason":""#) > 0).await;
    assert_eq!(first.logged(r#""reason":""#), 0, "the end is logged by the other machine: {}", first.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_machine_gives_up_its_ticket_later() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, CA1).await);
    app.proxy.add(FIRST, "127.0.0.1:9");
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(first.logged(log::GIVEN_UP), 0);
    app.proxy.add(FIRST, &first.address);
    until(|| first.logged(log::GIVEN_UP) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_on_an_unreachable_machine_does_not_begin_again_there() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, CA1).await;
    let path = format!("/media-stream/{ticket}");
    assert_eq!(knock(&first.address, &path, &signature(&app, &path)).await.0, 101);
    until(|| first.logged(log::NO_START) == 1).await;
    app.proxy.add(FIRST, "127.0.0.1:9");
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    app.proxy.add(FIRST, &first.address);
    until(|| app.proxy.seen().peers.contains(&(path.clone(), 204))).await;
    let path = format!("/after-stream/{ticket}");
    post(&app, &first.address, &path, CA1, "").await;
    assert_eq!(app.proxy.seen().peers.last(), Some(&(path, 200)), "the call's machine is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_machine_refuses_nothing() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, CA1).await);
    first.signal("-KILL").await;
    first.ended(PATIENCE).await;
    let _first = app.machine(FIRST, &[]).await;
    let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(app.proxy.seen().peers, [(path, 404)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_machine_is_asked_once_and_refuses_nothing() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let taken = async |ticket: &str| {
        let path = format!("/media-stream/{ticket}");
        let signed = format!("{}fly-replay-failed: no machine\r\n", signature(&app, &path));
        assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
        path
    };
    let ticket = ring(&app, &first, CA1).await;
    first.signal("-KILL").await;
    first.ended(PATIENCE).await;
    let path = taken(&ticket).await;
    let first = app.machine(FIRST, &[("METRICS_TOKEN", "12 34")]).await;
    let asked = |path: &str| app.proxy.seen().peers.iter().filter(|(to, _)| to == path).count();
    until(|| app.proxy.seen().peers.contains(&(path.clone(), 404))).await;
    let before = asked(&path);
    // An unreachable machine is asked repeatedly in the meantime.
    let other = ring(&app, &first, CA2).await;
    app.proxy.add(FIRST, "127.0.0.1:9");
    let other = taken(&other).await;
    until(|| asked(&other) == 3).await;
    assert_eq!(asked(&path), before, "a machine that does not know the call is not asked again");
    let request =
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 12 34\r\nConnection: close\r\n\r\n";
    let mut socket = TcpStream::connect(&first.address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut metrics = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut metrics)).await.expect("an answer").unwrap();
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    let refused = r#"switchboard_refusals_total{layer="ticket",why="ticket_unknown"} 0"#;
    assert!(metrics.contains(refused), "{metrics}");
}

/// Sends a stream of a hanging machine to another one; returns the connection once the other machine has begun to ask. It
/// asks for one second.
async fn asks_one_that_hangs(app: &App, first: &Machine, second: &Machine, path: &str) -> TcpStream {
    first.signal("-STOP").await;
    let mut socket = TcpStream::connect(&second.address).await.unwrap();
    let request = upgrade(path, &format!("{}fly-replay-failed: no machine\r\n", signature(app, path)));
    socket.write_all(request.as_bytes()).await.unwrap();
    until(|| app.proxy.seen().asked == 1).await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_taken_over_even_if_the_proxy_disconnects() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let ticket = ring(&app, &first, CA1).await;
    drop(asks_one_that_hangs(&app, &first, &second, &format!("/media-stream/{ticket}")).await);
    first.signal("-CONT").await;
    // It has given up the call, so the other machine has it and retries the lost stream.
    until(|| first.logged(log::GIVEN_UP) == 1 && second.logged(log::TAKEN_OVER) == 1).await;
    let (_, answer) = post(&app, &first.address, &format!("/after-stream/{ticket}"), CA1, "").await;
    assert!(answer.contains("<Stream "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_taken_over_during_a_drain() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let mut second = app.machine(SECOND, &[("DRAIN_SECONDS", "0")]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, CA1).await);
    let mut socket = asks_one_that_hangs(&app, &first, &second, &path).await;
    second.signal("-TERM").await;
    until(|| second.logged(log::GOODBYES) == 1).await;
    first.signal("-CONT").await;
    let mut answer = [0; 12];
    timeout(PATIENCE, socket.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101", "{}", second.log());
    let start = r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"accountSid":"AC1","streamSid":"MZ1",
        "callSid":"CA00000000000000000000000000000001","tracks":["inbound"],"customParameters":{},
        "mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}"#;
    // One text frame with a zero mask.
    let length = u16::try_from(start.len()).unwrap().to_be_bytes();
    socket
        .write_all(&[&[0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0], start.as_bytes()].concat())
        .await
        .unwrap();
    assert_eq!(second.ended(Duration::from_secs(20)).await, Some(0));
    assert_eq!(
        second.logged(r#""reason":"server.draining""#),
        1,
        "the caller hears a goodbye: {}",
        second.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_an_older_token_refuses_nothing() {
    let app = App::new().await;
    let first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[("TWILIO_AUTH_TOKEN", "54321,12345")]).await;
    let path = format!("/media-stream/{}", ring(&app, &first, CA1).await);
    let code = sign("54321", &format!("{}{path}", app.proxy.url.replacen("http", "ws", 1)), &[]);
    let signed = format!("X-Twilio-Signature: {code}\r\nfly-replay-failed: no machine\r\n");
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    let asked = &app.proxy.seen().peers[0];
    assert_eq!(*asked, (path, 403), "the old machine does not know the signing token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_header_opens_no_second_stream() {
    let app = App::new().await;
    let mut first = app.machine(FIRST, &[]).await;
    let second = app.machine(SECOND, &[]).await;
    let used = ring(&app, &first, CA1).await;
    let path = format!("/media-stream/{used}");
    let signed = signature(&app, &path);
    assert_eq!(knock(&first.address, &path, &signed).await.0, 101, "the call's own stream");
    // An attacker has the path. Forged proxy headers open nothing at another machine.
    for forged in ["fly-replay-failed: x\r\n", "fly-replay-src: instance=x\r\n"] {
        assert_eq!(knock(&second.address, &path, forged).await.0, 403, "{forged}");
        let wrong = format!("{forged}X-Twilio-Signature: {}\r\n", sign("wrong", "", &[]));
        assert_eq!(knock(&second.address, &path, &wrong).await.0, 403, "{forged}");
        // With the signature too: the issuing machine reports the ticket as used.
        assert_eq!(knock(&second.address, &path, &format!("{forged}{signed}")).await.0, 403, "{forged}");
    }
    assert!(app.proxy.seen().peers.iter().all(|(_, status)| *status == 410));
    assert_eq!(app.proxy.seen().peers.len(), 2, "machines are asked only about signed requests");
    // A ticket is given up only for a signed request.
    let waiting = ring(&app, &first, CA2).await;
    let path = format!("/media-stream/{waiting}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nswitchboard-forwarded: 1\r\n\r\n");
    assert_eq!(http(&first.address, &request).await.0, 426);
    // Without a forged header, the request is replayed to the right machine, where the ticket is valid.
    let (status, head) = knock(&second.address, &path, "").await;
    assert_eq!(status, 200);
    assert!(head.contains(&format!("fly-replay: instance={FIRST};")), "{head}");
    assert_eq!(knock(&first.address, &path, "fly-replay-src: instance=x\r\n").await.0, 101);

    // Once the machine is dead, a signed request is served, once.
    let orphan = ring(&app, &first, CA3).await;
    let path = format!("/media-stream/{orphan}");
    let signed = format!("{}fly-replay-failed: x\r\n", signature(&app, &path));
    first.signal("-KILL").await;
    assert_eq!(first.ended(PATIENCE).await, None, "it was killed");
    assert_eq!(knock(&second.address, &path, "fly-replay-failed: x\r\n").await.0, 403);
    assert_eq!(knock(&second.address, &path, &signed).await.0, 101);
    assert_eq!(knock(&second.address, &path, &signed).await.0, 403);
}
