//! The server over loopback, tested with raw frames.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;
use crate::tag;
use switchboard_audio::{SILENCE, encode};

mod dialects;
mod events;
mod faults;
mod forms;
mod seeds;
mod tools;

const LIMIT: Duration = Duration::from_secs(10);

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = timeout(LIMIT, connect_async(request)).await.expect("an answer")?;
        Ok(Self { socket })
    }

    /// A session with mu-law in both directions and the settings in `extra`.
    async fn ready(server: &ModelServer, extra: Value) -> Self {
        let url = format!("{}?model=gpt-realtime-2.1", server.url());
        let mut client = Self::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
        assert_eq!(client.next().await["type"], "session.created");
        let mut session = json!({"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}},
            "output": {"format": {"type": "audio/pcmu"}}}});
        for (key, value) in extra.as_object().into_iter().flatten() {
            session[key] = value.clone();
        }
        client.send(json!({"type": "session.update", "session": session})).await;
        client.wait("session.updated").await;
        client
    }

    async fn send(&mut self, event: Value) {
        self.socket.send(Message::Text(event.to_string().into())).await.unwrap();
    }

    /// Asks for a greeting in these words.
    async fn greet(&mut self, line: &str) {
        let metadata = json!({"purpose": "greeting", "line": line});
        self.send(json!({"type": "response.create", "response": {"metadata": metadata}})).await;
    }

    async fn append(&mut self, audio: &[u8]) {
        for frame in audio.chunks(160) {
            self.send(json!({"type": "input_audio_buffer.append", "audio": STANDARD.encode(frame)})).await;
        }
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            match timeout(LIMIT, self.socket.next()).await.expect("a message in time")?.ok()? {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return Some(message),
            }
        }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(self.message().await.expect("an open socket").to_text().unwrap()).unwrap()
    }

    /// All events up to and including the next one of this type.
    async fn through(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await;
            let found = event["type"] == kind;
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    async fn wait(&mut self, kind: &str) -> Value {
        self.through(kind).await.pop().unwrap()
    }

    /// The error that answers `event`.
    async fn error(&mut self, event: Value) -> Value {
        self.send(event).await;
        self.wait("error").await["error"].take()
    }

    async fn close_code(&mut self) -> Option<(u16, String)> {
        match self.message().await? {
            Message::Close(frame) => frame.map(|frame| (frame.code.into(), frame.reason.to_string())),
            other => panic!("not a close: {other:?}"),
        }
    }
}

/// A fast server without extras.
fn plain() -> ModelOptions {
    ModelOptions {
        think: Duration::from_millis(20),
        burst: 50.0,
        anomalies: false,
        late_deltas: false,
        ..ModelOptions::default()
    }
}

fn voice(ms: usize) -> Vec<u8> {
    (0..ms * 8).map(|i| encode((4_000.0 * (i as f64 * 0.6).sin()) as i16)).collect()
}

fn silence(ms: usize) -> Vec<u8> {
    vec![SILENCE; ms * 8]
}

/// The event types in order, without repetitions and without events that may come at any time.
fn order(events: &[Value]) -> Vec<String> {
    let mut kinds: Vec<String> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .filter(|kind| !kind.contains("transcription") && !kind.contains("rate_limits"))
        .map(|kind| {
            if kind.ends_with("audio_transcript.delta") {
                "response.output_audio.delta".to_owned()
            } else {
                kind
            }
        })
        .collect();
    kinds.dedup();
    kinds
}

fn item_of(events: &[Value]) -> String {
    let added = events.iter().find(|event| event["type"] == "response.output_item.added").unwrap();
    added["item"]["id"].as_str().unwrap().to_owned()
}

fn audio_of(events: &[Value]) -> Vec<u8> {
    let deltas = events.iter().filter(|event| event["type"] == "response.output_audio.delta");
    deltas.flat_map(|event| STANDARD.decode(event["delta"].as_str().unwrap()).unwrap()).collect()
}

const TURN: &[&str] = &[
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
];

#[tokio::test]
async fn a_turn_has_the_real_order_of_events() {
    let script =
        Script { replies: vec![Reply::say("Yes, we are open.").to("Are you open?")], ..Script::default() };
    let server =
        ModelServer::start(ModelOptions { script, speech: Speech::Tagged, ..plain() }).await.unwrap();
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "transcription": {"model": "gpt-transcribe"}},
        "output": {"format": {"type": "audio/pcmu"}}});
    let mut client = Client::ready(&server, json!({"audio": audio})).await;
    client.append(&[silence(500), voice(600), silence(400)].concat()).await;
    let events = client.through("response.done").await;
    assert_eq!(order(&events), TURN);
    assert_eq!(events[0]["audio_start_ms"], 200);
    assert_eq!(events[1]["audio_end_ms"], 1_300);
    assert_eq!(events[0]["item_id"], events[2]["item_id"]);
    let done = &events.last().unwrap()["response"];
    assert_eq!((&done["status"], &done["status_details"]), (&json!("completed"), &Value::Null));
    assert_eq!(done["output"][0]["content"][0]["transcript"], "Yes, we are open.");
    assert_eq!(done["usage"]["output_token_details"]["audio_tokens"].as_u64().map(|n| n > 10), Some(true));
    assert!(server.until(LIMIT, |logs| logs[0].responses[0].status == "completed").await);
    assert!(server.sessions()[0].audio_waited_for_update());
    server.stop().await;
}

#[tokio::test]
async fn deltas_have_odd_lengths_and_continuous_tags() {
    let server = ModelServer::start(ModelOptions { speech: Speech::Tagged, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.greet("One two three four five six seven eight nine ten.").await;
    let events = client.through("response.done").await;
    let deltas: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "response.output_audio.delta").collect();
    let odd = |event: &&Value| STANDARD.decode(event["delta"].as_str().unwrap()).unwrap().len() % 2 == 1;
    assert!(deltas.len() > 3 && deltas[..deltas.len() - 1].iter().all(odd));
    let audio = audio_of(&events);
    let (groups, rest) = audio.as_chunks::<8>();
    assert!(rest.is_empty());
    for (ms, group) in groups.iter().enumerate() {
        assert_eq!(tag::untag(group), Some((1, ms as u32)));
    }
    assert_eq!(server.sessions()[0].items[0].sent_ms as usize, groups.len());
    server.stop().await;
}

#[tokio::test]
async fn a_barge_in_cancels_the_running_response() {
    let options = ModelOptions { script: Script::rehearsal(["a", "b", "c"], None), burst: 3.0, ..plain() };
    let server = ModelServer::start(options).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.append(&[voice(400), silence(300)].concat()).await;
    client.wait("response.output_audio.delta").await;
    client.append(&voice(200)).await;
    client.wait("input_audio_buffer.speech_started").await;
    let events = client.through("response.done").await;
    let expected = [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ];
    assert_eq!(order(&events), expected);
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["status_details"], json!({"type": "cancelled", "reason": "turn_detected"}));
    assert_eq!(response["output"][0]["status"], "incomplete");
    client.append(&silence(300)).await;
    assert_eq!(
        client.wait("response.output_audio_transcript.done").await["transcript"],
        super::speech::SHORT
    );
    server.stop().await;
}

#[tokio::test]
async fn speech_after_a_finished_response_cancels_nothing() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create"})).await;
    client.wait("rate_limits.updated").await;
    client.append(&voice(200)).await;
    client.append(&silence(300)).await;
    let events = client.through("input_audio_buffer.speech_stopped").await;
    assert_eq!(order(&events), TURN[..2]);
    server.stop().await;
}

#[tokio::test]
async fn a_truncation_past_the_sent_audio_is_refused() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "conversation.item.create", "item": {"id": "u", "type": "message", "role": "system",
        "content": [{"type": "input_text", "text": "x"}]}})).await;
    client.send(json!({"type": "response.create"})).await;
    let events = client.through("response.done").await;
    let (item, ms) = (item_of(&events), audio_of(&events).len() as i64 / 8);
    let truncate = |item: &str, end: i64| {
        json!({"type": "conversation.item.truncate", "event_id": "t", "item_id": item, "content_index": 0,
            "audio_end_ms": end})
    };
    for (what, event, code) in [
        ("past the end", truncate(&item, ms + 1), "invalid_value"),
        ("negative", truncate(&item, -11), "integer_below_min_value"),
        ("no audio", truncate("u", 0), "unsupported_content_type"),
        ("unknown", truncate("nobody", 0), "item_truncate_invalid_item_id"),
    ] {
        assert_eq!(client.error(event).await["code"], code, "{what}");
    }
    client.send(truncate(&item, 500)).await;
    assert_eq!(client.wait("conversation.item.truncated").await["audio_end_ms"], 500);
    let longer = client.error(truncate(&item, 501)).await;
    assert_eq!(longer["message"], "Audio content of 500ms is already shorter than 501ms");
    client.send(json!({"type": "conversation.item.retrieve", "item_id": item})).await;
    let content = client.wait("conversation.item.retrieved").await["item"]["content"][0].take();
    assert_eq!(content["transcript"], "");
    let log = &server.sessions()[0];
    assert_eq!((log.truncations.len(), log.truncations[0].audio_end_ms), (1, 500));
    server.stop().await;
}

#[tokio::test]
async fn only_out_of_band_responses_run_in_parallel() {
    let server = ModelServer::start(ModelOptions { burst: 3.0, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create", "response": {"metadata": {"why": "hello"}}})).await;
    let created = client.wait("response.created").await;
    assert_eq!(created["response"]["metadata"], json!({"why": "hello"}));
    let error = client.error(json!({"type": "response.create", "event_id": "two"})).await;
    assert_eq!(
        (&error["code"], &error["event_id"]),
        (&json!("conversation_already_has_active_response"), &json!("two"))
    );
    let response = json!({"conversation": "none", "output_modalities": ["text"], "input": []});
    client.send(json!({"type": "response.create", "response": response})).await;
    let done = client.wait("response.done").await;
    assert_eq!(
        (&done["response"]["conversation_id"], &done["response"]["status"]),
        (&Value::Null, &json!("completed"))
    );
    assert_eq!(
        client.error(json!({"type": "response.cancel", "response_id": "resp_x"})).await["code"],
        "response_cancel_not_active"
    );
    client.send(json!({"type": "response.cancel", "response_id": created["response"]["id"]})).await;
    let details = client.wait("response.done").await["response"]["status_details"].take();
    assert_eq!(details, json!({"type": "cancelled", "reason": "client_cancelled"}));
    server.stop().await;
}

#[tokio::test]
async fn a_function_call_is_answered_and_its_result_spoken() {
    let reply = Reply { after_call: Some("It has shipped.".into()), ..Reply::say("Let me look.") };
    let script = Script { replies: vec![reply.and_call("lookup", r#"{"no":"Ä7"}"#)], ..Script::default() };
    let server =
        ModelServer::start(ModelOptions { script, speech: Speech::Tagged, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({"tools": [{"type": "function", "name": "lookup"}]})).await;
    client.append(&[voice(300), silence(300)].concat()).await;
    let events = client.through("response.done").await;
    let tail = [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ];
    assert_eq!(order(&events), [&TURN[..TURN.len() - 1], &tail].concat());
    let call = &events.last().unwrap()["response"]["output"][1];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("lookup"), &json!(r#"{"no":"Ä7"}"#)));
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "{}"});
    client.send(json!({"type": "conversation.item.create", "item": output})).await;
    client.send(json!({"type": "response.create"})).await;
    assert_eq!(client.wait("response.output_audio_transcript.done").await["transcript"], "It has shipped.");
    server.stop().await;
}

#[tokio::test]
async fn the_voice_is_fixed_after_the_first_audio() {
    let server = ModelServer::start(plain()).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    client.send(json!({"type": "response.create"})).await;
    client.wait("response.done").await;
    let update = |voice: &str| json!({"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": voice}}}});
    assert_eq!(client.error(update("marin")).await["code"], "cannot_update_voice");
    client.send(update("alloy")).await;
    client.wait("session.updated").await;
    server.stop().await;
}

#[tokio::test]
async fn the_idle_timeout_prompts_a_silent_caller() {
    let server = ModelServer::start(plain()).await.unwrap();
    let detection = json!({"type": "server_vad", "idle_timeout_ms": 5_000});
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "turn_detection": detection}});
    let mut client = Client::ready(&server, json!({"audio": audio, "output_modalities": ["text"]})).await;
    client.send(json!({"type": "response.create"})).await;
    client.wait("response.done").await;
    client.wait("input_audio_buffer.timeout_triggered").await;
    assert_eq!(client.wait("response.output_text.done").await["text"], super::speech::STILL_THERE);
    server.stop().await;
}

#[tokio::test]
async fn stamps_are_measured_both_ways() {
    let server = ModelServer::start(ModelOptions { speech: Speech::Stamped, ..plain() }).await.unwrap();
    let mut client = Client::ready(&server, json!({})).await;
    for sequence in 0..20 {
        let mut frame = silence(20);
        frame[..tag::STAMP_LEN].copy_from_slice(&tag::stamp(tag::nanos(), sequence));
        client.append(&frame).await;
    }
    client.send(json!({"type": "response.create"})).await;
    let events = client.through("response.done").await;
    assert!(order(&events).first().is_some_and(|kind| kind == "response.created"));
    let head = audio_of(&events).first_chunk().copied().unwrap();
    assert!(tag::unstamp(&head).is_some_and(|(sent, _)| sent <= tag::nanos()));
    let latencies = &server.sessions()[0].latencies;
    assert!(latencies.len() == 20 && latencies.iter().all(|latency| *latency < LIMIT));
    server.stop().await;
}

#[tokio::test]
async fn mulaw_sent_before_the_update_is_read_as_pcm() {
    let server = ModelServer::start(plain()).await.unwrap();
    let url = format!("{}?model=gpt-realtime", server.url());
    let mut client = Client::open(&url, &[("authorization", "Bearer sk-simulated")]).await.unwrap();
    client.append(&silence(480)).await;
    client.send(json!({"type": "input_audio_buffer.commit"})).await;
    // 480 ms of mu-law are 80 ms of PCM.
    let message = client.wait("error").await["error"]["message"].take();
    assert!(message.as_str().unwrap().contains("80.00ms"), "{message}");
    assert!(!server.sessions()[0].audio_waited_for_update());
    server.stop().await;
}

#[tokio::test]
async fn recorded_speech_is_one_turn_and_a_new_line_is_synthesised() {
    let server = ModelServer::start(plain()).await.unwrap();
    let detection = json!({"type": "server_vad", "silence_duration_ms": 500});
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "turn_detection": detection},
        "output": {"format": {"type": "audio/pcmu"}}});
    let mut client = Client::ready(&server, json!({"audio": audio})).await;
    let clip = super::speech::ready(Speech::Clips, super::speech::HELLO, 1).unwrap();
    client.append(&[&silence(300), &clip[..], &silence(700)].concat()).await;
    client.wait("response.done").await;
    client.greet("This line has no clip.").await;
    let events = client.through("response.done").await;
    assert!(audio_of(&events).len() > 8_000);
    assert_eq!(server.sessions()[0].speech_started.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn late_audio_after_an_interruption_can_be_truncated() {
    let options = ModelOptions { anomalies: true, late_deltas: true, burst: 3.0, ..plain() };
    let options =
        ModelOptions { script: Script::rehearsal(["a", "b", "c"], None), speech: Speech::Tagged, ..options };
    let server = ModelServer::start(options).await.unwrap();
    let mut late = 0;
    for _ in 0..6 {
        let mut client = Client::ready(&server, json!({})).await;
        client.append(&[voice(400), silence(300)].concat()).await;
        let mut events = client.through("response.output_audio.delta").await;
        client.append(&voice(200)).await;
        events.extend(client.through("rate_limits.updated").await);
        let done = events.iter().position(|event| event["type"] == "response.done").unwrap();
        late += events[done..].iter().filter(|event| event["type"] == "response.output_audio.delta").count();
        let (item, ms) = (item_of(&events), audio_of(&events).len() / 8);
        client
            .send(json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": ms}))
            .await;
        client.wait("conversation.item.truncated").await;
    }
    assert!(late > 0);
    server.stop().await;
}

#[tokio::test]
async fn the_rehearsal_script_is_transcribed_and_ended_by_the_model() {
    let script = Script::rehearsal(["When are you open?", "Book me in.", "Thank you, bye."], None);
    let server = ModelServer::start(ModelOptions { script, anomalies: true, ..plain() }).await.unwrap();
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "transcription": {"model": "gpt-transcribe"}},
        "output": {"format": {"type": "audio/pcmu"}}});
    let tools = json!([{"type": "function", "name": "end_call"}]);
    let mut client = Client::ready(&server, json!({"audio": audio, "tools": tools})).await;
    let mut said = Vec::new();
    let mut cached = Vec::new();
    for _ in 0..3 {
        client.append(&[voice(300), silence(300)].concat()).await;
        let mut events = client.through("response.done").await;
        let completed = |event: &&Value| event["type"].as_str().unwrap().ends_with("transcription.completed");
        if !events.iter().any(|event| completed(&event)) {
            events.push(client.wait("conversation.item.input_audio_transcription.completed").await);
        }
        let user =
            &events.iter().find(|event| event["type"] == "input_audio_buffer.committed").unwrap()["item_id"];
        let transcript = events.iter().find(completed).unwrap();
        assert_eq!(transcript["item_id"], *user);
        said.push(transcript["transcript"].as_str().unwrap().to_owned());
        let done = events.iter().find(|event| event["type"] == "response.done").unwrap();
        cached.push(done["response"]["usage"]["input_token_details"]["cached_tokens"].as_u64().unwrap());
        if said.len() == 3 {
            assert_eq!(done["response"]["output"][1]["name"], "end_call");
        }
    }
    assert_eq!(said, ["When are you open?", "Book me in.", "Thank you, bye."]);
    assert!(cached[0] == 0 && cached[2] > cached[1] && cached[2] % 64 == 0, "{cached:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_client_can_commit_turns_itself() {
    let server = ModelServer::start(plain()).await.unwrap();
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "turn_detection": null}});
    let mut client = Client::ready(&server, json!({"audio": audio, "output_modalities": ["text"]})).await;
    client.append(&voice(400)).await;
    client.send(json!({"type": "input_audio_buffer.commit"})).await;
    client.send(json!({"type": "response.create"})).await;
    let events = client.through("response.done").await;
    assert_eq!(order(&events)[0], "input_audio_buffer.committed");
    assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], super::speech::REST);
    server.stop().await;
}

#[tokio::test]
async fn with_both_flags_off_only_the_turn_events_are_sent() {
    let server = ModelServer::start(ModelOptions { burst: 3.0, ..plain() }).await.unwrap();
    let detection = json!({"type": "server_vad", "create_response": false, "interrupt_response": false});
    let audio = json!({"input": {"format": {"type": "audio/pcmu"}, "turn_detection": detection},
        "output": {"format": {"type": "audio/pcmu"}}});
    let mut client = Client::ready(&server, json!({"audio": audio})).await;
    client.send(json!({"type": "response.create"})).await;
    client.wait("response.output_audio.delta").await;
    client.append(&[voice(300), silence(300)].concat()).await;
    let events = client.through("response.done").await;
    let kinds = order(&events);
    assert!(kinds.iter().any(|kind| kind == "input_audio_buffer.committed"));
    assert!(!kinds.iter().any(|kind| kind == "response.created"));
    assert_eq!(events.last().unwrap()["response"]["status"], "completed");
    server.stop().await;
}
