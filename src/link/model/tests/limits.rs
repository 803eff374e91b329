//! What is bounded, whatever the other end does: how long it may be silent, and how many requests it gets.

use super::*;

/// What a session does while nothing comes: it wakes at the link's deadlines. Returns when the model is gone.
async fn until_gone(link: &mut ModelLink) -> Duration {
    let began = now();
    loop {
        let due = link.alive_deadline().expect("something is due");
        tokio::select! {
            step = step(link) => panic!("{step:?}"),
            () = tokio::time::sleep_until(due.into()) => {}
        }
        if !link.check_alive(now()) {
            return now() - began;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_open_socket_is_found_in_eight_seconds_while_audio_flows() {
    let chunk = Chunk::from_ulaw(&[0xFF; 160]);
    for (audio_flows, gone_after) in [(true, 8), (false, 19)] {
        // The other end is open, and nobody reads or answers there.
        let (mut link, _socket) = linked(plan(Dialect::Ga)).await;
        if audio_flows {
            link.append(&chunk);
        }
        let took = until_gone(&mut link).await.as_millis() as u64;
        assert!((gone_after * 1_000..gone_after * 1_000 + 20).contains(&took), "{took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_every_request_gets_few() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let refusing = tokio::spawn(async move {
        let mut requests = 0;
        while let Some(Ok(frame)) = socket.next().await {
            let Ok(frame) = serde_json::from_slice::<Value>(&frame.into_data()) else { continue };
            if frame["type"] == "response.create" {
                requests += 1;
                let error = json!({"code": "conversation_already_has_active_response", "event_id": frame["event_id"]});
                let error = json!({"type": "error", "error": error});
                let _ = socket.send(Message::Text(error.to_string().into())).await;
            }
        }
        requests
    });
    let over = now() + Duration::from_secs(10);
    let mut delayed = 0;
    link.ask();
    loop {
        let due = link.alive_deadline().expect("something is due").min(over);
        tokio::select! {
            step = step(&mut link) => match step {
                // As eager as can be: each refusal leads to the next request.
                ModelStep::Event(Event::ModelFault(Fault { about: About::Request, .. })) => link.ask(),
                ModelStep::Anomaly(Anomaly::ModelRequestDelayed) => delayed += 1,
                step => panic!("{step:?}"),
            },
            () = tokio::time::sleep_until(due.into()) => {}
        }
        if now() >= over {
            break;
        }
        assert!(link.check_alive(now()));
    }
    drop(link);
    let requests = refusing.await.unwrap();
    assert!((20..=25).contains(&requests), "{requests} requests in 10 s");
    assert!((15..=21).contains(&delayed), "{delayed} were counted as delayed");
}
