//! Our events in the types of OpenAI's own package, both ways (`tests/openai`).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::*;
use crate::assistant::plan::Transcription;

/// Runs the script with this input.
fn script(what: &str, input: &str) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openai");
    let python = folder.join(".venv/bin/python");
    assert!(
        python.exists(),
        "OpenAI's package is not installed: run `make tests/openai/.venv/installed`, or `make test`, which does it"
    );
    let mut command = Command::new(python);
    command.arg(folder.join("realtime.py")).arg(what).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Every event that we send: the reference, which `wire` is tested against, and sessions with everything in them.
fn sent() -> String {
    let mut lines = vec![include_str!("../../../../tests/frames/realtime-outgoing.jsonl").trim().to_owned()];
    let mut plan = plan(Dialect::Ga);
    plan.hosted = servers();
    plan.tools.push(fetched());
    plan.temperature = None;
    let mut patient = plan.clone();
    patient.turn_taking.detection =
        crate::assistant::plan::Detection::Semantic { eagerness: crate::assistant::plan::Eagerness::Low };
    // Each kind of hints for the transcription.
    let hinted = ["gpt-transcribe", "whisper-1", "gpt-realtime-whisper"].map(|model| {
        let transcription = Some(Transcription { model: model.to_owned(), language: None });
        let languages = ["de", "en"].map(|tag| Language::read(tag).unwrap()).to_vec();
        Plan { transcription, languages, vocabulary: vec!["Grünwald".to_owned()], ..plan.clone() }
    });
    for plan in hinted.iter().chain([&plan, &patient]) {
        for turns in [TurnControl::Model, TurnControl::Server] {
            for left_out in [WHOLE, PLAIN] {
                lines.push(realtime::session_update(&session(plan, turns, left_out)));
            }
            lines.push(realtime::session_update(&configure::turns_alone(plan, turns)));
        }
    }
    lines.join("\n")
}

#[test]
fn the_official_types_take_every_event_that_we_send() {
    let sent = sent();
    let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned();
    let kinds: BTreeSet<String> = sent.lines().map(kind).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    let checked = script("client", &sent);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let unknown = r#"{"type":"response.cancel","response_id":"r","reason":"x"}"#;
    assert!(!script("client", unknown).status.success(), "the script finds a field that is not in the types");
}

#[test]
fn every_event_of_the_official_types_is_read() {
    let made = script("server", "");
    assert!(made.status.success());
    let made = String::from_utf8(made.stdout).unwrap();
    let mut kinds = BTreeSet::new();
    for line in made.lines() {
        let frame = bytes::Bytes::copy_from_slice(line.as_bytes());
        match realtime::parse(&frame) {
            Ok(realtime::Incoming::Unknown) | Err(_) => panic!("{line}"),
            Ok(_) => kinds.insert(serde_json::from_str::<Value>(line).unwrap()["type"].to_string()),
        };
    }
    assert!(kinds.len() > 40, "{kinds:?}");
}

#[tokio::test]
async fn a_response_without_an_id_is_the_one_that_its_events_name() {
    let (mut link, mut socket) = linked(plan(Dialect::Ga)).await;
    let (created, done) =
        (r#"{"type":"response.created","response":{}}"#, r#"{"type":"response.done","response":{}}"#);
    let audio = r#"{"type":"response.output_audio.delta","response_id":"r1","item_id":"a","delta":"////"}"#;
    let call = r#"{"type":"response.output_item.done","response_id":"r2","item":{"type":"function_call","call_id":"c1","name":"find"}}"#;
    for (between, expected) in [(Some(audio), "r1"), (Some(call), "r2"), (None, "unnamed-0")] {
        for frame in [Some(created), between, Some(done)].into_iter().flatten() {
            socket.send(Message::Text(frame.into())).await.unwrap();
        }
        let mut started = Vec::new();
        let ended = loop {
            match timeout(Duration::from_secs(5), step(&mut link)).await.unwrap() {
                ModelStep::Event(Event::ResponseEnded { response, .. }) => break response,
                ModelStep::Event(Event::ResponseStarted { response, .. }) => started.push(response),
                ModelStep::Event(_) => {}
                ModelStep::Anomaly(anomaly) => panic!("{anomaly:?}"),
            }
        };
        assert_eq!(ended.as_ref(), expected);
        assert_eq!(started.len(), usize::from(between.is_none()), "the call has to know what ends");
    }
}

#[test]
fn a_transcription_gets_the_hints_that_its_model_takes() {
    for (model, language, hints) in [
        ("gpt-transcribe", None, json!({"languages": ["de", "en"], "keywords": ["Grünwald", "Dr. Özdemir"]})),
        ("gpt-transcribe", Some("de"), json!({"language": "de", "keywords": ["Grünwald", "Dr. Özdemir"]})),
        ("whisper-1", None, json!({"prompt": "Grünwald, Dr. Özdemir"})),
        ("gpt-realtime-whisper", Some("de"), json!({"language": "de"})),
    ] {
        let mut plan = plan(Dialect::Ga);
        plan.transcription =
            Some(Transcription { model: model.to_owned(), language: language.map(str::to_owned) });
        plan.languages = ["de", "en"].map(|tag| Language::read(tag).unwrap()).to_vec();
        plan.vocabulary = vec!["Grünwald".to_owned(), "Dr. Özdemir".to_owned()];
        let mut expected = hints;
        expected["model"] = model.into();
        let session = session(&plan, TurnControl::Model, WHOLE);
        assert_eq!(session["audio"]["input"]["transcription"], expected, "{model}");
    }
}
