//! Forms against the simulated model.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use switchboard_simulator::model::{
    Aim, Fault, ModelOptions, ModelServer, Moment, Point, Reply, Script, SessionLog, Speech, Trouble, Which,
};
use switchboard_simulator::pace::Pace;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::assistant::arguments::Arguments;
use crate::assistant::plan::Transcription;
use crate::call::{Turn, TurnControl, Who};
use crate::link::model::tests::{linked, plan};
use crate::link::tls;
use crate::provider::{Dialect, Provider};
use crate::secret::Secret;
use switchboard_audio::Chunk;

/// A form with a summary and these further properties.
fn form(properties: Value) -> AfterCall {
    let mut schema = json!({"type": "object", "properties": properties, "required": ["summary"],
        "additionalProperties": false});
    schema["properties"]["summary"] = json!({"type": "string"});
    let Value::Object(schema) = schema else { panic!("an object") };
    AfterCall { form: Arguments::new(schema).unwrap(), summary: true, webhook: None }
}

fn people() -> AfterCall {
    form(json!({"people": {"type": "integer", "maximum": 12}, "note": {"type": "string"}}))
}

struct Session {
    server: ModelServer,
    link: Box<ModelLink>,
    /// What `see` was shown.
    events: Vec<Event>,
    _pace: Option<Arc<Pace>>,
}

impl Session {
    async fn open(options: ModelOptions, after: AfterCall) -> Self {
        let pace = Pace::keep();
        let think = Duration::from_millis(100);
        let options = ModelOptions { speech: Speech::Stamped, think, ..options };
        let server = ModelServer::start(options).await.unwrap();
        let provider = Provider::openai(server.url(), Some(Secret::new("sk-simulated")));
        let transcription = Transcription { model: "gpt-transcribe".to_owned(), language: None };
        let plan = Plan {
            provider: Arc::new(provider),
            temperature: None,
            transcription: Some(transcription),
            after_call: Some(after),
            ..plan(Dialect::Ga)
        };
        let link =
            ModelLink::connect(Arc::new(plan), tls::client_config(false, None).unwrap()).await.unwrap();
        Self { server, link: Box::new(link), events: Vec::new(), _pace: pace }
    }

    /// The same after the caller has said this.
    async fn after(words: &str, options: ModelOptions, after: AfterCall) -> Self {
        let mut session = Self::open(options, after).await;
        session.link.fill(&[Turn::Caller(words.to_owned().into())]);
        session
    }

    async fn fill(&mut self) -> Result<Filled, NotFilled> {
        let events = &mut self.events;
        self.link.fill_form(|event| events.push(event.clone())).await
    }

    /// Waits for such an event.
    async fn until(&mut self, is: impl Fn(&Event) -> bool) {
        let seen = async { while !is(&self.link.next_event().await) {} };
        timeout(Duration::from_secs(10), seen).await.unwrap();
    }

    fn speaks(&mut self, ms: u64) {
        let tone = |at: u64| switchboard_audio::encode((8_000.0 * (at as f64 * 0.6).sin()) as i16);
        for frame in 0..ms / 20 {
            let ulaw: Vec<u8> = (frame * 160..(frame + 1) * 160).map(tone).collect();
            self.link.append(&Chunk::from_ulaw(&ulaw));
        }
    }

    fn log(&self) -> SessionLog {
        self.server.sessions().remove(0)
    }

    /// The requests for forms.
    fn requests(&self) -> Vec<Value> {
        let log = self.log();
        log.of_kind("response.create")
            .filter(|event| event["response"]["metadata"]["purpose"] == "form")
            .cloned()
            .collect()
    }
}

fn filled(summary: &str, fields: Value) -> Result<Filled, NotFilled> {
    let fields = fields.as_object().cloned();
    Ok(Filled { summary: Some(summary.to_owned()), fields })
}

#[tokio::test]
async fn a_form_is_filled_in_outside_the_conversation() {
    let mut session = Session::after("A table for 4.", ModelOptions::default(), people()).await;
    let expected = filled("The caller said: A table for 4.", json!({"people": 4, "note": "A table for 4."}));
    assert_eq!(session.fill().await, expected);
    let requests = session.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    let response = &request["response"];
    assert_eq!(response["conversation"], "none");
    assert_eq!(response["output_modalities"], json!(["text"]));
    assert_eq!(response["tool_choice"], json!({"type": "function", "name": FUNCTION}));
    assert_eq!(response["tools"][0]["parameters"], Value::Object(people().form.schema().clone()));
    assert_eq!(
        (&response["max_output_tokens"], &response["reasoning"]["effort"]),
        (&json!(1_024), &json!("low"))
    );
    assert!(response["instructions"].as_str().is_some_and(|text| text.contains("Be kind.")));
    assert!(session.log().errors.is_empty());
    let charged =
        session.events.iter().any(|event| matches!(event, Event::Usage { tokens, .. } if tokens.made() > 0));
    assert!(charged, "it is paid for");
    session.link.close().await;
}

#[tokio::test]
async fn what_the_caller_said_last_is_in_the_conversation_before_the_form() {
    let long = "This is an answer that goes on for quite a while, whoever listens to it. ".repeat(3);
    let script = Script { rest: Reply::say(long).to("And a bridge."), ..Script::default() };
    let mut session =
        Session::open(ModelOptions { script, ..ModelOptions::default() }, form(json!({}))).await;
    session.link.configure(TurnControl::Server);
    session.link.tell(&crate::call::Line::Pressed("1".to_owned()));
    session.link.ask();
    session.until(|event| matches!(event, Event::ModelAudio { .. })).await;
    // The caller talks over it, and hangs up in mid-sentence.
    session.speaks(600);
    session.until(|event| matches!(event, Event::SpeechStarted(_))).await;
    let Ok(Filled { summary: Some(summary), fields: None }) = session.fill().await else {
        panic!("a summary")
    };
    assert!(summary.contains("And a bridge."), "{summary}");
    let log = session.log();
    let kinds: Vec<&str> = log.events.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds[kinds.len() - 3..], ["response.cancel", "input_audio_buffer.commit", "response.create"]);
    assert_eq!((log.errors.len(), log.responses[0].status.as_str()), (0, "cancelled"));
    let transcript =
        session.events.iter().position(|event| matches!(event, Event::Transcript { who: Who::Caller, .. }));
    let asked = session.events.iter().position(|event| matches!(event, Event::OutOfBandStarted(_)));
    assert!(transcript.is_some() && transcript < asked, "its words are known before it is asked");
}

#[tokio::test]
async fn a_transcript_that_never_comes_delays_the_form_by_five_seconds() {
    // A sound too short to commit has none, and the model says so.
    for (ms, secs) in [(600, 5), (40, 0)] {
        let _pace = Pace::keep();
        let mut plan = plan(Dialect::Ga);
        plan.after_call = Some(people());
        let (mut link, mut socket) = linked(plan).await;
        let speech = r#"{"type":"input_audio_buffer.speech_started","item_id":"a"}"#;
        let server = async {
            socket.send(Message::Text(speech.into())).await.unwrap();
            let mut committed = None;
            loop {
                let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("a frame") };
                let event: Value = serde_json::from_str(&text).unwrap();
                match (event["type"].as_str(), committed) {
                    (Some("input_audio_buffer.commit"), None) => {
                        committed = Some(Instant::now());
                        if ms < 100 {
                            let code = "input_audio_buffer_commit_empty";
                            let error = json!({"type": "error", "error": {"type": "invalid_request_error", "code": code}});
                            socket.send(Message::Text(error.to_string().into())).await.unwrap();
                        }
                    }
                    (Some("response.create"), Some(committed)) => break committed.elapsed(),
                    other => panic!("{other:?}"),
                }
            }
        };
        let asks = async {
            while !matches!(link.next_event().await, Event::SpeechStarted(_)) {}
            link.fill_form(|_| {}).await
        };
        tokio::select! {
            waited = server => assert_eq!(waited.as_secs(), secs, "{ms} ms"),
            filled = asks => panic!("{filled:?}"),
        }
    }
}

#[tokio::test]
async fn there_is_no_form_if_nobody_said_anything() {
    let script = Script { rest: Reply::say("Hm?").to(" "), ..Script::default() };
    let mut session = Session::open(ModelOptions { script, ..ModelOptions::default() }, people()).await;
    assert!(!session.link.has_words());
    // It was noise, as the transcript shows.
    session.speaks(600);
    session.until(|event| matches!(event, Event::SpeechStarted(_))).await;
    assert!(session.link.has_words());
    assert_eq!(session.fill().await, Err(NotFilled::Skipped));
    assert!(session.requests().is_empty());
}

#[tokio::test]
async fn a_running_tool_has_an_output_before_the_form() {
    let script = Script { rest: Reply::call("end_call", "{}"), ..Script::default() };
    let mut session =
        Session::after("Bye.", ModelOptions { script, ..ModelOptions::default() }, people()).await;
    session.link.ask();
    session.until(|event| matches!(event, Event::ResponseEnded { .. })).await;
    assert!(session.fill().await.is_ok());
    let log = session.log();
    assert!(log.calls[0].answered.as_ref().is_some_and(|(_, output)| output == NO_RESULT));
    assert!(log.errors.is_empty());
}

#[tokio::test]
async fn a_form_that_does_not_fit_is_asked_for_once_more() {
    let unfit = Reply::call(FUNCTION, r#"{"summary": "Of 7777.", "people": 7777}"#);
    let text = || Reply::say("I would rather not.");
    for (what, wrong, is_filled) in [
        ("arguments", vec![unfit.clone()], true),
        ("arguments, twice", vec![unfit.clone(), unfit.clone()], false),
        ("text", vec![text()], true),
        ("text, twice", vec![text(), text()], false),
        ("another function", vec![Reply::call("forget", "{}"); 2], false),
        ("no JSON", vec![Reply::call(FUNCTION, r#"{"summary":"#); 2], false),
        ("no object", vec![Reply::call(FUNCTION, "[1]"); 2], false),
    ] {
        let options = ModelOptions { forms: wrong, ..ModelOptions::default() };
        let mut session = Session::after("A table for 4.", options, people()).await;
        let filled = session.fill().await;
        assert_eq!(filled.as_ref().err(), (!is_filled).then_some(&NotFilled::Invalid), "{what}");
        let requests = session.requests();
        let [_, again] = &requests[..] else { panic!("{what}: {requests:?}") };
        let told = again["response"]["instructions"].as_str().unwrap();
        assert_eq!(told.contains("`people`"), what.starts_with("arguments"), "{what}: {told}");
        assert!(!told.contains("7777"), "{what}: {told}");
        let left = again["response"]["max_output_tokens"].as_u64().unwrap();
        assert!((900..=1_024).contains(&left), "{what}: {left}");
    }
}

#[tokio::test]
async fn a_schema_that_no_model_can_fill_ends() {
    let impossible = form(json!({"people": {"type": "integer", "minimum": 5, "maximum": 3}}));
    let mut session = Session::after("A table for 4.", ModelOptions::default(), impossible).await;
    // Without the field it would fit, but this model fills in all of them.
    assert_eq!(session.fill().await, Err(NotFilled::Invalid));
    assert_eq!(session.requests().len(), 2);
    // A long text leaves no tokens for another try.
    let words = "word ".repeat(900);
    let long = Reply::call(FUNCTION, json!({"people": words}).to_string());
    let endless = Reply::call(FUNCTION, json!({"summary": words.repeat(2)}).to_string());
    for forms in [vec![long.clone(); 2], vec![endless]] {
        let options = ModelOptions { forms, ..ModelOptions::default() };
        let mut session = Session::after("A table for 4.", options, people()).await;
        assert_eq!(session.fill().await, Err(NotFilled::Invalid));
        assert_eq!(session.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_model_that_fails_is_not_waited_for() {
    let of_form = |point| Moment::Response(Which::For(Aim::Form), point);
    let request = Moment::Request(Which::For(Aim::Form));
    for (trouble, moment, why, took) in [
        (Trouble::Failed("server_error"), of_form(Point::Created), NotFilled::Failed, 0),
        (Trouble::Incomplete("content_filter"), of_form(Point::Half), NotFilled::Failed, 0),
        (Trouble::Cancelled, of_form(Point::Created), NotFilled::Failed, 0),
        (Trouble::Refused("rate_limit_exceeded"), request, NotFilled::Failed, 0),
        (Trouble::Drop, of_form(Point::Half), NotFilled::Lost, 0),
        (Trouble::Close(1011, "server_error"), request, NotFilled::Lost, 0),
        (Trouble::Mute, of_form(Point::Created), NotFilled::Late, 15),
        (Trouble::EndlessArguments, of_form(Point::Created), NotFilled::Late, 15),
        (Trouble::HalfOpen, request, NotFilled::Late, 15),
    ] {
        let faults = vec![Fault::once(moment, trouble)];
        let options = ModelOptions { faults, ..ModelOptions::default() };
        let mut session = Session::after("A table for 4.", options, people()).await;
        let began = Instant::now();
        assert_eq!(session.fill().await, Err(why), "{trouble:?}");
        let elapsed = began.elapsed().as_secs();
        assert!((took..took + 5).contains(&elapsed), "{trouble:?}: {elapsed}");
        assert_eq!(session.requests().len(), 1, "{trouble:?}");
    }
}

#[test]
fn a_form_without_a_summary_has_fields_only() {
    let after = people();
    let read_as = |summary, text: &str| read(&AfterCall { summary, ..after.clone() }, text).ok();
    let text = r#"{"summary": " Hi. ", "people": null, "note": "x"}"#;
    let fields = |value: Value| value.as_object().cloned();
    assert_eq!(
        read_as(true, text),
        Some(Filled { summary: Some("Hi.".to_owned()), fields: fields(json!({"note": "x"})) })
    );
    assert_eq!(
        read_as(false, text),
        Some(Filled { summary: None, fields: fields(json!({"summary": " Hi. ", "note": "x"})) })
    );
    let long = json!({"summary": "x".repeat(LONGEST)}).to_string();
    assert_eq!(read_as(true, &long), None);
}
