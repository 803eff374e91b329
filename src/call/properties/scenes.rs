//! Where too much has to come together for chance alone.

use super::*;

/// A response waits for a tool of its host for so long that the caller is told.
pub(super) fn bridge() -> impl Strategy<Value = Vec<Step>> {
    let talks_over = proptest::option::of(Just(Step::Event(Event::SpeechStarted("u".into()))));
    (0..50u8, 0..3u8, 0..4_000usize, 0..3usize, talks_over).prop_map(
        |(n, beside, bytes, leave, talks_over)| {
            let response = ResponseId::from(format!("b{n}").as_str());
            let item = ItemId::from(format!("beside{beside}").as_str());
            let chunk = Chunk::from_ulaw(&vec![0xFF; bytes]);
            let hosted = Event::HostedStarted {
                item: format!("b{n}").as_str().into(),
                response: Some(response.clone()),
            };
            let mut steps = vec![
                Step::Event(Event::StreamStarted),
                Step::Event(Event::ModelReady),
                Step::Event(Event::SpeechStopped),
                Step::Event(Event::ResponseStarted(response)),
                Step::Event(hosted),
                Step::Pass(2_500),
                Step::Event(Event::OutOfBandStarted(aside(beside))),
                Step::Event(Event::ModelAudio { response: aside(beside), item, chunk }),
                Step::Leave(leave),
            ];
            steps.extend(talks_over);
            steps
        },
    )
}

/// A silent response wants a tool and a transfer, and what is to announce that ends in whichever way.
pub(super) fn departure() -> impl Strategy<Value = Vec<Step>> {
    (0..50u8, proptest::sample::select(vec![Outcome::Completed, Outcome::Incomplete, Outcome::Failed]))
        .prop_map(|(n, outcome)| {
            let (first, second) = (format!("d{n}"), format!("e{n}"));
            let wants = |name: &str, arguments: &str| Event::ToolRequested {
                id: format!("{name}{n}").as_str().into(),
                name: name.to_owned(),
                arguments: arguments.to_owned().into(),
                response: first.as_str().into(),
            };
            let events = vec![
                Event::StreamStarted,
                Event::ModelReady,
                Event::SpeechStopped,
                Event::ResponseStarted(first.as_str().into()),
                wants("slow", "{}"),
                wants(TRANSFER_CALL, r#"{"to":"desk"}"#),
                Event::ResponseEnded { response: first.as_str().into(), outcome: Outcome::Completed },
                Event::ResponseStarted(second.as_str().into()),
                Event::ResponseEnded { response: second.as_str().into(), outcome },
            ];
            events.into_iter().map(Step::Event).collect()
        })
}
