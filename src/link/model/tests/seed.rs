//! A session that continues the conversation of another one.

use super::*;
use crate::call::Turn;

type Peer = tokio_tungstenite::WebSocketStream<TcpStream>;

fn private(text: &str) -> Private {
    Private::from(text.to_owned())
}

fn find(id: &str, output: Option<&str>) -> Turn {
    let (name, arguments) = ("find".to_owned(), private("{\"a\":1}"));
    Turn::Tool { id: id.into(), name, arguments, output: output.map(private) }
}

/// The next frames that the link sends.
async fn sent(link: &mut ModelLink, socket: &mut Peer, count: usize) -> Vec<Value> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let frame = tokio::select! {
            frame = socket.next() => frame.unwrap().unwrap(),
            step = step(link) => panic!("{step:?}"),
        };
        frames.push(serde_json::from_str(frame.to_text().unwrap()).unwrap());
    }
    frames
}

/// Every frame that the link sends. A last one shows that there are no more.
async fn all_sent(link: &mut ModelLink, socket: &mut Peer) -> Vec<Value> {
    link.tell(&Line::AssistantSaid(private("the end")));
    let mut frames = Vec::new();
    loop {
        let frame = sent(link, socket, 1).await.remove(0);
        if frame.pointer("/item/content/0/text") == Some(&json!("the end")) {
            return frames;
        }
        frames.push(frame);
    }
}

#[tokio::test]
async fn a_fresh_session_is_given_the_conversation_in_every_dialect() {
    for (dialect, said) in
        [(Dialect::Ga, "output_text"), (Dialect::Beta, "text"), (Dialect::Xai, "output_text")]
    {
        let (mut link, mut socket) = linked(plan(dialect)).await;
        link.fill(&[
            Turn::History(private("You said hello.")),
            Turn::Caller(private("Is it open?")),
            find("c1", Some("yes")),
            find("c2", None),
            Turn::Assistant(private("One moment.")),
            Turn::Note(private("The caller pressed 1.")),
            Turn::CallerAudio(Chunk::from_base64("////".into()).unwrap()),
        ]);
        let message = |role: &str, kind: &str, text: &str| json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
        let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "find", "arguments": "{\"a\":1}"});
        let output =
            |id: &str, output: &str| json!({"type": "function_call_output", "call_id": id, "output": output});
        let frames = sent(&mut link, &mut socket, 9).await;
        assert!(frames.iter().all(|frame| frame["type"] == "conversation.item.create"), "{dialect:?}");
        let items: Vec<Value> = frames.into_iter().map(|mut frame| frame["item"].take()).collect();
        let running = items[5]["output"].as_str().unwrap();
        assert_eq!(
            items,
            [
                message("system", "input_text", "You said hello."),
                message("user", "input_text", "Is it open?"),
                call("past1"),
                output("past1", "yes"),
                call("past2"),
                output("past2", running),
                message("assistant", said, "One moment."),
                message("user", "input_text", "The caller pressed 1."),
                json!({"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "////"}]}),
            ],
            "{dialect:?}"
        );
    }
}

#[tokio::test]
async fn the_result_of_a_call_from_another_session_is_a_message() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    link.fill(&[find("c1", None)]);
    sent(&mut link, &mut socket, 2).await;
    let call = r#"{"type":"response.output_item.done","response_id":"r1","item":{"type":"function_call","call_id":"c3","name":"find"}}"#;
    socket.send(Message::Text(call.into())).await.unwrap();
    step(&mut link).await;
    for (id, text) in [("c1", "find"), ("c2", "")] {
        link.answer_tool(&id.into(), "noon");
        let item = sent(&mut link, &mut socket, 1).await[0]["item"].take();
        assert_eq!(
            item["role"], "user",
            "{id}: the API takes one output for each call, and none for an unknown one"
        );
        let told = item["content"][0]["text"].as_str().unwrap();
        assert!(told.contains(text) && told.contains("noon"), "{told}");
    }
    link.answer_tool(&"c3".into(), "noon");
    let item = sent(&mut link, &mut socket, 1).await[0]["item"].take();
    assert_eq!(item, json!({"type": "function_call_output", "call_id": "c3", "output": "noon"}));
}

#[tokio::test]
async fn only_its_own_items_and_responses_are_cut() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let cut = |item: &str| Truncation { item: item.into(), audio_end_ms: 100 };
    link.cancel(&"r0".into());
    link.truncate(&cut("a0"));
    assert_eq!(all_sent(&mut link, &mut socket).await.len(), 2, "the only session knows each");
    link.fill(&[]);
    let audio = r#"{"type":"response.output_audio.delta","response_id":"r1","item_id":"a1","delta":"////"}"#;
    socket.send(Message::Text(audio.into())).await.unwrap();
    step(&mut link).await;
    for (response, item) in [("r0", "a0"), ("r1", "a1")] {
        link.cancel(&response.into());
        link.truncate(&cut(item));
    }
    let frames = all_sent(&mut link, &mut socket).await;
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!((&frames[0]["response_id"], &frames[1]["item_id"]), (&json!("r1"), &json!("a1")));
}
