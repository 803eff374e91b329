//! One frame in each direction through the codecs and the pure call: the cost of the hot path without sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use switchboard::assistant::plan::{
    Detection, END_CALL, First, Greeting, Limits, Line, OnFailure, Plan, RecordPolicy, Rule, Tool,
    TurnTaking, Version, Work,
};
use switchboard::call::ear::Ear;
use switchboard::call::{Action, Call, Event};
use switchboard::id::{ItemId, Mark, ResponseId};
use switchboard::provider::Provider;
use switchboard::wire::openai::realtime::{self, Incoming as FromModel};
use switchboard::wire::twilio::media_stream::{self, Incoming as FromPhone, Writer};
use switchboard_audio::Chunk;

const STREAM: &str = "MZ0123456789abcdef0123456789abcdef";

fn plan() -> Arc<Plan> {
    let line = |say: &str| Line { say: say.to_owned(), language: "en-US" };
    Arc::new(Plan {
        assistant: "bench".to_owned(),
        version: Version::of(b""),
        test: false,
        language: None,
        reader: Default::default(),
        provider: Arc::new(Provider::openai("wss://api.example.com/v1/realtime", None)),
        model: "gpt-realtime-2.1".to_owned(),
        voice: "marin".to_owned(),
        speed: None,
        temperature: None,
        reasoning: None,
        instructions: "You answer the phone.".to_owned(),
        greeting: Greeting { first: First::Caller, say: None, clip: None, interruptible: true },
        turn_taking: TurnTaking {
            detection: Detection::Server {
                threshold: 0.5,
                silence: Duration::from_millis(500),
                prefix: Duration::from_millis(300),
            },
            interruptions: true,
            noise_reduction: None,
        },
        transcription: None,
        tools: vec![Tool {
            name: END_CALL.to_owned(),
            description: "Ends the call.".to_owned(),
            parameters: Default::default(),
            arguments: None,
            rule: Rule::default(),
            work: Work::EndCall,
        }],
        hosted: Vec::new(),
        limits: Limits {
            call: Duration::from_secs(1_800),
            silence: Duration::from_secs(60),
            sms: 3,
            messages: 5,
            transfers: 3,
            cost: None,
        },
        busy: line("All lines are busy."),
        busy_dial: None,
        on_failure: OnFailure { line: line("Sorry."), dial: None },
        sounds: Arc::default(),
        record: RecordPolicy::default(),
        recording_notice: None,
        notify: None,
        after_call: None,
        fallback: Vec::new(),
    })
}

/// A call with both sides connected.
fn call(now: Instant) -> Call {
    let mut call = Call::new(plan());
    let mut actions = Vec::new();
    for event in [Event::ModelReady { endpoint: 0 }, Event::StreamStarted, Event::MarkPlayed(Mark(0))] {
        call.handle(event, now, &mut actions);
    }
    call
}

fn media() -> Bytes {
    let payload = Chunk::from_ulaw(&[0x5A; 160]);
    format!(
        r#"{{"event":"media","sequenceNumber":"1234","streamSid":"{STREAM}","media":{{"track":"inbound","chunk":"1232","timestamp":"24640","payload":"{}"}}}}"#,
        payload.as_str()
    )
    .into()
}

fn delta(ms: usize) -> Bytes {
    let audio = Chunk::from_ulaw(&vec![0x5A; ms * 8]);
    format!(
        r#"{{"type":"response.output_audio.delta","event_id":"event_0123456789abcdefghijk","response_id":"resp_0123456789abcdefghijk","item_id":"item_0123456789abcdefghijk","output_index":0,"content_index":0,"delta":"{}","obfuscation":"a1B2c3D4e5"}}"#,
        audio.as_str()
    )
    .into()
}

fn phone_to_model(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("phone to model");
    let frame = media();
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| media_stream::parse(&frame)));
    let (mut now, mut actions) = (Instant::now(), Vec::new());
    let mut ear = Ear::default();
    let Ok(FromPhone::Media { chunk: Ok(chunk), .. }) = media_stream::parse(&frame) else {
        panic!("the frame is media");
    };
    group.bench_function("ear", |bencher| {
        bencher.iter(|| {
            now += Duration::from_millis(20);
            ear.hear(&chunk, now);
            ear.speaks(now)
        });
    });
    let mut call = call(now);
    group.bench_function("parse, call, write", |bencher| {
        bencher.iter(|| {
            now += Duration::from_millis(20);
            let Ok(FromPhone::Media { chunk: Ok(chunk), .. }) = media_stream::parse(&frame) else {
                panic!("the frame is media");
            };
            call.handle(Event::CallerAudio(chunk), now, &mut actions);
            let deadline = call.deadline();
            let written = actions.drain(..).map(|action| match action {
                Action::AppendToModel(chunk) => realtime::append(&chunk),
                other => panic!("unexpected: {other:?}"),
            });
            (written.last(), deadline)
        });
    });
    group.finish();
}

fn model_to_phone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("model to phone");
    for ms in [20, 200] {
        let frame = delta(ms);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("{ms} ms: parse"), |bencher| bencher.iter(|| realtime::parse(&frame)));
        // A fresh call each time: an endless item would distort the measurement.
        group.bench_function(format!("{ms} ms: parse, call, write, echo"), |bencher| {
            bencher.iter_batched(
                || (call(Instant::now()), Vec::new()),
                |(mut call, mut actions)| speak(&mut call, &mut actions, &frame, ms),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// One delta in a call, from its frame to the phone's frames and the echoed mark.
fn speak(call: &mut Call, actions: &mut Vec<Action>, frame: &Bytes, ms: usize) -> usize {
    let writer = Writer::new(STREAM);
    let now = Instant::now();
    let Ok(FromModel::AudioDelta { response, item, chunk: Ok(chunk) }) = realtime::parse(frame) else {
        panic!("the frame is a delta");
    };
    let (response, item) = (ResponseId::from(&*response), ItemId::from(&*item));
    call.handle(Event::ModelAudio { response, item, chunk }, now, actions);
    let mut written = 0;
    let mut events = Vec::new();
    for action in actions.drain(..) {
        match action {
            Action::PlayToCaller { piece, chunk } => {
                written += writer.media(&chunk).len();
                events.push(Event::AudioLeft(piece));
            }
            Action::MarkForCaller(mark) => {
                written += writer.mark(&format!("m{}", mark.0)).len();
                events.push(Event::MarkPlayed(mark));
            }
            _ => {}
        }
    }
    for event in events {
        call.handle(event, now + Duration::from_millis(ms as u64), actions);
    }
    written
}

criterion_group!(benches, phone_to_model, model_to_phone);
criterion_main!(benches);
