//! Situations that are too unlikely to come up by chance.

use super::*;

/// Who asked for a response. Most providers say nothing.
pub(super) fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        4 => Just(Origin::Unknown),
        1 => Just(Origin::Model),
        2 => (1..6u64).prop_map(Origin::Request),
    ]
}

fn begins(response: ResponseId) -> Event {
    Event::ResponseStarted { response, origin: Origin::Unknown }
}

/// A response waits for a hosted tool long enough for a filler.
pub(super) fn filler() -> impl Strategy<Value = Vec<Step>> {
    let talks_over = proptest::option::of(Just(Step::Event(Event::SpeechStarted("u".into()))));
    (0..50u8, 0..3u8, 0..4_000usize, 0..3usize, talks_over).prop_map(
        |(n, other, bytes, leave, talks_over)| {
            let response = ResponseId::from(format!("b{n}").as_str());
            let item = ItemId::from(format!("out_of_band{other}").as_str());
            let chunk = Chunk::from_ulaw(&vec![0x20; bytes]);
            let hosted = Event::HostedStarted {
                item: format!("b{n}").as_str().into(),
                response: Some(response.clone()),
                tool: None,
            };
            let mut steps = vec![
                Step::Event(Event::StreamStarted),
                Step::Event(Event::ModelReady { endpoint: 0 }),
                Step::Event(Event::SpeechStopped),
                Step::Event(begins(response)),
                Step::Event(hosted),
                Step::Pass(2_500),
                Step::Event(Event::OutOfBandStarted(out_of_band(other))),
                Step::Event(Event::ModelAudio { response: out_of_band(other), item, chunk }),
                Step::Leave(leave),
            ];
            steps.extend(talks_over);
            steps
        },
    )
}

/// A silent response calls a tool and a transfer, and the announcement ends in any way.
pub(super) fn transfer() -> impl Strategy<Value = Vec<Step>> {
    (
        0..50u8,
        proptest::sample::select(vec![
            Outcome::Completed,
            Outcome::Incomplete(Why::TooLong),
            Outcome::Failed(Failure::default()),
        ]),
    )
        .prop_map(|(n, outcome)| {
            let (first, second) = (format!("d{n}"), format!("e{n}"));
            let call = |name: &str, arguments: &str| Event::ToolRequested {
                id: format!("{name}{n}").as_str().into(),
                name: name.to_owned(),
                arguments: arguments.to_owned().into(),
                response: first.as_str().into(),
            };
            let events = vec![
                Event::StreamStarted,
                Event::ModelReady { endpoint: 0 },
                Event::SpeechStopped,
                begins(first.as_str().into()),
                call("slow", "{}"),
                call(TRANSFER_CALL, r#"{"to":"desk"}"#),
                Event::ResponseEnded { response: first.as_str().into(), outcome: Outcome::Completed },
                begins(second.as_str().into()),
                Event::ResponseEnded { response: second.as_str().into(), outcome },
            ];
            events.into_iter().map(Step::Event).collect()
        })
}

/// The stream breaks, something happens meanwhile, and a new one comes.
pub(super) fn broken() -> impl Strategy<Value = Vec<Step>> {
    (proptest::collection::vec(event(), 0..4), 0..3_000u64).prop_map(|(meanwhile, time)| {
        let mut steps = vec![Step::Event(Event::StreamLost), Step::Pass(time)];
        steps.extend(meanwhile.into_iter().map(Step::Event));
        steps.push(Step::Event(Event::Returning));
        steps.push(Step::Event(Event::Returned(Return::StreamAgain)));
        steps
    })
}
