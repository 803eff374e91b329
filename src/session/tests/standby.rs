//! A session with two scripted models: the one in use, and a standby at the plan's fallback.

use std::collections::VecDeque;
use std::future::poll_fn;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::assistant::plan::Interruptions;
use crate::call::{Action, Call, Event, Line as Told, Origin, Outcome, Truncation, Turn};
use crate::link::model::ModelStep;
use crate::secret::Private;
use crate::session::model::Model;
use switchboard_audio::Chunk;

const PATIENCE: Duration = Duration::from_secs(5);

/// A model: what the test says is what it does.
struct Scripted {
    listener: TcpListener,
    /// The latest session.
    socket: Option<WebSocketStream<TcpStream>>,
}

impl Scripted {
    async fn new() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        (Self { listener, socket: None }, url)
    }

    async fn begin(&mut self) {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        socket
            .send(Message::text(json!({"type": "session.created", "session": {}}).to_string()))
            .await
            .unwrap();
        socket.next().await.unwrap().unwrap();
        socket
            .send(Message::text(json!({"type": "session.updated", "session": {}}).to_string()))
            .await
            .unwrap();
        self.socket = Some(socket);
    }

    async fn send(&mut self, event: Value) {
        self.socket.as_mut().unwrap().send(Message::text(event.to_string())).await.unwrap();
    }

    async fn says(&mut self, item: &str, ulaw: &[u8]) {
        let audio = Chunk::from_ulaw(ulaw);
        self.send(json!({
            "type": "response.output_audio.delta", "response_id": "r1", "item_id": item, "delta": audio.as_str(),
        }))
        .await;
    }

    async fn hears(&mut self, item: &str) {
        self.send(json!({"type": "input_audio_buffer.speech_started", "item_id": item})).await;
    }

    async fn transcribes(&mut self, text: &str) {
        let kind = "conversation.item.input_audio_transcription.completed";
        self.send(json!({"type": kind, "item_id": "u", "transcript": text})).await;
    }
}

/// The session, which does what the test tells it to.
struct Driver {
    session: Session,
    model: Model,
    events: VecDeque<Event>,
    used: Scripted,
    other: Scripted,
}

/// The next step, except that a session tells its age.
async fn step(model: &mut Model) -> ModelStep {
    loop {
        let step = timeout(PATIENCE, poll_fn(|cx| model.poll_step(cx))).await.expect("something happens");
        if !matches!(step, ModelStep::Event(Event::SessionExpires { .. })) {
            return step;
        }
    }
}

impl Driver {
    /// The session in use is ready.
    async fn new() -> Self {
        let ((mut used, used_url), (other, other_url)) = (Scripted::new().await, Scripted::new().await);
        let mut session = session(Parked::new(None));
        let at = |url: String| {
            let mut plan = Plan::clone(&session.plan);
            (plan.turn_taking.interruptions, plan.greeting.interruptible) = (Interruptions::Immediate, true);
            plan.provider = Arc::new(Provider { url, ..Provider::clone(&plan.provider) });
            plan
        };
        let fallback = vec![Arc::new(at(other_url))];
        session.plan = Arc::new(Plan { fallback, ..at(used_url) });
        let mut model = Model::connecting(session.plan.clone(), session.switchboard.clone());
        let (ready, ()) = tokio::join!(step(&mut model), used.begin());
        assert!(matches!(ready, ModelStep::Event(Event::ModelReady { endpoint: 0 })), "{ready:?}");
        Self { session, model, events: VecDeque::new(), used, other }
    }

    /// The same with a standby that is ready.
    async fn with_standby() -> Self {
        let mut driver = Self::new().await;
        driver.open().await;
        driver
    }

    async fn open(&mut self) {
        self.act([Action::OpenStandby { endpoint: 1 }]);
        let (ready, ()) = tokio::join!(step(&mut self.model), self.other.begin());
        assert!(matches!(ready, ModelStep::Event(Event::StandbyReady { endpoint: 1 })), "{ready:?}");
        let update = self.sent(true).await;
        let detection = &update["session"]["audio"]["input"]["turn_detection"];
        assert_eq!(detection["create_response"], false, "it answers nothing by itself: {update}");
    }

    fn act(&mut self, actions: impl Into<Vec<Action>>) {
        let call = Call::new(self.session.plan.clone());
        let mut talk = Talk { call, phone: Phone::Away, model: &mut self.model, actions: actions.into() };
        assert!(self.session.perform(&mut talk, crate::link::now()).is_continue());
    }

    /// The next event for the call.
    async fn next(&mut self) -> Event {
        loop {
            match self.events.pop_front().map(ModelStep::Event) {
                Some(ModelStep::Event(event)) => return event,
                _ => {
                    let step = step(&mut self.model).await;
                    self.keep(step);
                }
            }
        }
    }

    fn keep(&mut self, step: ModelStep) {
        if let ModelStep::Event(event) = step
            && !matches!(event, Event::SessionExpires { .. })
        {
            self.events.push_back(event);
        }
    }

    /// The next frame to either model; `null` once the session is closed.
    async fn sent(&mut self, to_standby: bool) -> Value {
        loop {
            let model = if to_standby { &mut self.other } else { &mut self.used };
            let socket = model.socket.as_mut().unwrap();
            let step = tokio::select! {
                frame = timeout(PATIENCE, socket.next()) => match frame.expect("a frame") {
                    Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Value::Null,
                    Some(Ok(_)) => continue,
                },
                step = poll_fn(|cx| self.model.poll_step(cx)) => step,
            };
            self.keep(step);
        }
    }

    /// The first of what this session has to say reaches the call, and nothing before it.
    async fn only_hears(&mut self, text: &str) {
        self.used.transcribes(text).await;
        let event = self.next().await;
        assert!(
            matches!(&event, Event::Transcript { text: heard, .. } if heard.expose() == text),
            "{event:?}"
        );
    }
}

fn private(text: &str) -> Private {
    Private::from(text.to_owned())
}

fn turns() -> Vec<Turn> {
    vec![Turn::Caller(private("Is it open?")), Turn::Assistant(private("Until six."))]
}

/// What a frame is, in a word.
fn kind(frame: &Value) -> String {
    let item = &frame["item"];
    let words = item.pointer("/content/0/text").or(item.get("output")).and_then(Value::as_str);
    format!("{} {}", frame["type"].as_str().unwrap_or("closed"), words.unwrap_or_default()).trim().to_owned()
}

#[tokio::test]
async fn what_becomes_part_of_the_conversation_goes_to_both() {
    let mut driver = Driver::with_standby().await;
    let audio = Chunk::from_ulaw(&[0x20; 160]);
    driver.act([Action::AppendToModel(audio.clone())]);
    driver.act([Action::FillStandby(turns())]);
    driver.act([
        Action::AppendToModel(audio),
        Action::CancelResponse("r0".into()),
        Action::TruncateItem(Truncation { item: "a0".into(), audio_end_ms: 100 }),
        Action::AnswerTool { id: "c0".into(), output: private("noon") },
        Action::AskForResponse,
        Action::TellModel(Told::Pressed("1".to_owned())),
    ]);
    let mut used = Vec::new();
    for _ in 0..7 {
        used.push(kind(&driver.sent(false).await));
    }
    assert_eq!(
        used,
        [
            "input_audio_buffer.append",
            "input_audio_buffer.append",
            "response.cancel",
            "conversation.item.truncate",
            "conversation.item.create noon",
            "response.create",
            "conversation.item.create The caller pressed 1.",
        ]
    );
    let mut other = Vec::new();
    for _ in 0..5 {
        other.push(kind(&driver.sent(true).await));
    }
    assert_eq!(
        other[..3],
        [
            "conversation.item.create Is it open?",
            "conversation.item.create Until six.",
            "input_audio_buffer.append",
        ]
    );
    assert!(
        other[3].ends_with("noon") && other[3].len() > 40,
        "not the output of a call that it knows: {other:?}"
    );
    assert_eq!(other[4], "conversation.item.create The caller pressed 1.");
}

#[tokio::test]
async fn what_a_standby_says_waits_until_it_takes_over() {
    let mut driver = Driver::with_standby().await;
    driver.act([Action::FillStandby(turns()), Action::AskStandby(None)]);
    for expected in
        ["conversation.item.create Is it open?", "conversation.item.create Until six.", "response.create"]
    {
        assert_eq!(kind(&driver.sent(true).await), expected);
    }
    driver.other.send(json!({"type": "response.created", "response": {"id": "r1"}})).await;
    driver.other.says("a1", &[0xFF, 0x7F, 0xFF]).await;
    driver.other.says("a1", &[0x20; 80]).await;
    driver.other.says("a1", &[0x21; 80]).await;
    assert_eq!(driver.next().await, Event::StandbySpoke, "at its first audible audio, once");
    driver.only_hears("The session in use goes on.").await;
    driver.act([Action::UseStandby]);
    let response = || "r1".into();
    assert_eq!(driver.next().await, Event::ResponseStarted { response: response(), origin: Origin::Unknown });
    for ulaw in [&[0xFF, 0x7F, 0xFF][..], &[0x20; 80], &[0x21; 80]] {
        let chunk = Chunk::from_ulaw(ulaw);
        assert_eq!(driver.next().await, Event::ModelAudio { response: response(), item: "a1".into(), chunk });
    }
    let update = driver.sent(true).await;
    let detection = &update["session"]["audio"]["input"]["turn_detection"];
    assert_eq!(detection["create_response"], true, "the model takes turns as before: {update}");
    // The other one closes beside the call, and reports nothing.
    assert_eq!(driver.sent(false).await, Value::Null);
    driver.act([
        Action::AskForResponse,
        Action::TruncateItem(Truncation { item: "a0".into(), audio_end_ms: 1 }),
    ]);
    assert_eq!(kind(&driver.sent(true).await), "response.create");
    driver.other.transcribes("It is the session in use.").await;
    let event = driver.next().await;
    assert!(matches!(event, Event::Transcript { .. }), "{event:?}");
}

#[tokio::test]
async fn a_standby_that_was_not_asked_only_listens() {
    let mut driver = Driver::with_standby().await;
    driver.act([Action::FillStandby(Vec::new())]);
    driver.other.hears("u1").await;
    driver.other.send(json!({"type": "input_audio_buffer.speech_stopped"})).await;
    driver.other.transcribes("Both hear it.").await;
    driver.other.hears("u2").await;
    // It has read all of that when it is asked.
    driver.other.send(json!({"type": "x"})).await;
    let anomaly = step(&mut driver.model).await;
    assert!(matches!(anomaly, ModelStep::Anomaly(_)), "{anomaly:?}");
    driver.act([Action::UseStandby]);
    assert_eq!(driver.next().await, Event::SpeechStarted("u2".into()), "the caller is speaking just now");
    driver.other.transcribes("And then this.").await;
    let event = driver.next().await;
    assert!(matches!(event, Event::Transcript { .. }), "{event:?}");
}

#[tokio::test]
async fn a_response_without_a_sound_is_reported() {
    let mut driver = Driver::with_standby().await;
    driver.act([Action::FillStandby(turns())]);
    for status in ["completed", "failed"] {
        driver.act([Action::AskStandby(None)]);
        driver.other.says("a1", &[0xFF; 800]).await;
        driver.other.send(json!({"type": "response.done", "response": {"id": "r1", "status": status}})).await;
        let Event::StandbyMute(outcome) = driver.next().await else { panic!("{status}") };
        assert_eq!(outcome == Outcome::Completed, status == "completed");
    }
    driver.act([Action::AskStandby(None)]);
    let call = json!({"type": "function_call", "call_id": "c1", "name": "find"});
    driver.other.send(json!({"type": "response.output_item.done", "response_id": "r2", "item": call})).await;
    assert_eq!(driver.next().await, Event::StandbySpoke, "a tool call is an answer, too");
}

#[tokio::test]
async fn a_standby_is_lost_without_harm() {
    // It cannot be reached.
    let mut driver = Driver::new().await;
    driver.other.listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    driver.act([Action::OpenStandby { endpoint: 1 }]);
    assert!(matches!(driver.next().await, Event::StandbyLost(_)));
    driver.only_hears("It does not try again by itself.").await;
    // It closes; it says more than can wait; it does not answer.
    for way in 0..3 {
        let mut driver = Driver::with_standby().await;
        driver.act([Action::FillStandby(turns()), Action::AskStandby(None)]);
        match way {
            0 => driver.other.socket.as_mut().unwrap().close(None).await.unwrap(),
            1 => {
                for _ in 0..11 {
                    driver.other.says("a1", &[0x20; 8_000]).await;
                }
                assert_eq!(driver.next().await, Event::StandbySpoke);
            }
            _ => {
                tokio::time::pause();
                for _ in 0..4 {
                    assert!(driver.model.deadline().is_some());
                    tokio::time::advance(Duration::from_secs(30)).await;
                    driver.events.extend(driver.model.standby_overdue());
                }
                tokio::time::resume();
            }
        }
        assert!(matches!(driver.next().await, Event::StandbyLost(_)), "{way}");
        driver.act([Action::FillStandby(turns()), Action::AskStandby(None), Action::UseStandby]);
        driver.only_hears("The session in use goes on.").await;
    }
}

#[tokio::test]
async fn a_standby_that_is_dropped_or_replaced_is_closed_without_an_event() {
    let mut driver = Driver::with_standby().await;
    let mut first = driver.other.socket.take().unwrap();
    driver.open().await;
    let is_closed = timeout(PATIENCE, first.next()).await.unwrap();
    assert!(matches!(is_closed, Some(Ok(Message::Close(_)))), "{is_closed:?}");
    driver.act([Action::DropStandby]);
    assert_eq!(driver.sent(true).await, Value::Null);
    driver.only_hears("The session in use goes on.").await;
}

#[tokio::test]
async fn a_busy_session_leaves_a_standby_its_turn() {
    let mut driver = Driver::with_standby().await;
    driver.act([Action::FillStandby(turns()), Action::AskStandby(None)]);
    let mut busy = driver.used.socket.take().unwrap();
    let flood = tokio::spawn(async move {
        let working = json!({"type": "response.output_item.added"}).to_string();
        while busy.send(Message::text(working.clone())).await.is_ok() {}
    });
    driver.other.says("a1", &[0x20; 80]).await;
    let spoke = timeout(PATIENCE, async { while driver.next().await != Event::StandbySpoke {} });
    spoke.await.expect("the standby is polled, too");
    flood.abort();
}
