//! What the fold makes of entries.

use proptest::prelude::*;

use super::*;
use crate::provider::usage::{Tokens, Transcribed};
use crate::record::{Ended, Reconnect, ToolCall, Transfer};

fn at(at_ms: u64, what: What) -> Entry {
    Entry { at_ms, what }
}

fn rang() -> Entry {
    at(
        0,
        What::Rang(Rang {
            call: "CA00000000000000000000000000000001".to_owned(),
            at: "2026-11-30T14:05:09.120Z".parse().unwrap(),
            assistant: Some("clinic".to_owned()),
            assistant_version: Some("sha256:00".to_owned()),
            from: Some("+15550100100".to_owned()),
            to: Some("+15550100001".to_owned()),
            caller: None,
            numberless: false,
            test: false,
            simulated: false,
            keep_until: None,
        }),
    )
}

fn caller(item: &str, start_ms: u64, end_ms: u64) -> Entry {
    at(end_ms, What::CallerSpoke { item: item.to_owned(), start_ms, end_ms })
}

fn assistant(item: &str, at_ms: u64, start_ms: u64, (heard_ms, sent_ms): (u64, u64), cut: bool) -> Entry {
    let item = Some(item.to_owned());
    at(at_ms, What::AssistantSpoke(Spoke { item, text: None, start_ms, sent_ms, heard_ms, interrupted: cut }))
}

fn said(at_ms: u64, item: &str, text: &str) -> Entry {
    at(at_ms, What::Said(Said { item: item.to_owned(), text: text.to_owned() }))
}

fn used(text_in: u64, text_in_cached: u64, audio_out: u64) -> Entry {
    let tokens = Tokens { text_in, text_in_cached, audio_out, ..Tokens::default() };
    let (provider, model) = ("openai".to_owned(), "gpt-realtime-2.1".to_owned());
    at(3_000, What::Used { provider, model, tokens, replayed: false })
}

/// A call with one of everything.
fn call() -> Vec<Entry> {
    let greeting = Spoke {
        item: None,
        text: Some("Hello, Example Dental.".to_owned()),
        start_ms: 312,
        sent_ms: 1_500,
        heard_ms: 1_500,
        interrupted: false,
    };
    let transcribed = What::Transcribed {
        provider: "openai".to_owned(),
        model: "gpt-transcribe".to_owned(),
        used: Transcribed::Seconds { seconds: 2.0 },
    };
    let tool = ToolCall {
        name: "add_tasks".to_owned(),
        start_ms: 5_100,
        ms: 420,
        outcome: "ok".to_owned(),
        arguments: None,
        result: None,
    };
    let ended = Ended { reason: "assistant.ended".to_owned(), seconds: 21.4, longest_silence_ms: 1_240 };
    vec![
        rang(),
        at(0, What::Started { ring_ms: 900 }),
        at(312, What::FirstWord { ms: 312 }),
        at(1_812, What::AssistantSpoke(greeting)),
        caller("u1", 2_000, 3_000),
        at(3_400, What::Answered { ms: 400 }),
        said(3_500, "a1", "We are open all day, every day."),
        used(1_000, 600, 100),
        said(3_600, "u1", " When are you open? "),
        at(3_700, transcribed),
        assistant("a1", 4_402, 3_402, (1_000, 2_000), true),
        at(4_402, What::Anomaly { code: "model.unknown_event".to_owned() }),
        at(5_000, What::Keys { keys: Some("12".to_owned()), count: 2 }),
        at(5_520, What::Tool(tool)),
        at(9_100, What::Reconnected(Reconnect { cause: "lost".to_owned(), worked: true, silence_ms: 900 })),
        at(9_500, What::Transferred(Transfer { target: "desk".to_owned(), outcome: "busy".to_owned() })),
        at(9_600, What::Recording { path: "recordings/x.wav".to_owned() }),
        at(9_700, What::Message { id: "m1".to_owned() }),
        at(20_500, What::Ended(ended)),
    ]
}

fn folded(entries: impl IntoIterator<Item = Entry>) -> CallRecord {
    let mut recorder = Recorder::new(RecordId::from("01JDZK8S0000000000000000AB"));
    entries.into_iter().for_each(|entry| recorder.add(entry));
    recorder.record()
}

/// The format that others read. A change of it is a change of the contract.
#[test]
fn a_record_is_written_in_the_documented_format() {
    let record = folded(call());
    insta::assert_json_snapshot!(record);
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<CallRecord>(&text).unwrap(), record);
}

#[test]
fn entries_survive_being_written_down() {
    for entry in call() {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry, "{text}");
    }
}

#[test]
fn the_callers_number_is_never_written_beside_what_the_file_keeps() {
    let mut entry = rang();
    let What::Rang(rang) = &mut entry.what else { unreachable!() };
    rang.from = Some("+1••••••••77".to_owned());
    rang.caller = Some(crate::phone::PhoneNumber::parse("+15550100177").unwrap());
    let text = serde_json::to_string(&entry).unwrap();
    assert!(!text.contains("5550100177"), "{text}");
}

#[test]
fn a_transcript_finds_its_turn_before_and_after_it() {
    let texts = |entries: Vec<Entry>| -> Vec<Option<String>> {
        folded(entries).turns.into_iter().map(|turn| turn.text).collect()
    };
    let one = Some("One.".to_owned());
    assert_eq!(texts(vec![said(0, "u", "One."), caller("u", 0, 900)]), std::slice::from_ref(&one));
    assert_eq!(texts(vec![caller("u", 0, 900), said(9_000, "u", "One.")]), std::slice::from_ref(&one));
    assert_eq!(texts(vec![caller("u", 0, 900), said(9_000, "u", "  ")]), [None], "nothing was said");
    // A new session begins to count again.
    let again = vec![
        caller("u", 0, 900),
        said(1_000, "u", "One."),
        said(5_000, "u", "Two."),
        caller("u", 4_000, 4_900),
    ];
    assert_eq!(texts(again), [one, Some("Two.".to_owned())]);
}

#[test]
fn turns_stand_in_the_order_in_which_they_began() {
    let record = folded([
        caller("u2", 5_000, 6_000),
        assistant("a1", 9_000, 1_000, (3_000, 3_000), false),
        caller("u1", 200, 900),
    ]);
    let starts: Vec<u64> = record.turns.iter().map(|turn| turn.start_ms).collect();
    assert_eq!(starts, [200, 1_000, 5_000]);
}

#[test]
fn only_the_words_that_were_played_were_heard() {
    for (heard_ms, expected) in [
        (0, ""),
        (1_000, "We are open all"),
        (1_999, "We are open all day, every"),
        (2_000, "We are open all day, every day."),
    ] {
        let record = folded([
            assistant("a", 0, 0, (heard_ms, 2_000), heard_ms < 2_000),
            said(0, "a", "We are open all day, every day."),
        ]);
        let Voice::Assistant { heard_text, .. } = &record.turns[0].voice else { panic!("{record:?}") };
        assert_eq!(heard_text.as_deref(), Some(expected), "{heard_ms} ms");
    }
}

#[test]
fn a_latency_belongs_to_the_turn_that_it_began() {
    let record = folded([
        assistant("filler", 0, 1_000, (500, 500), false),
        // It begins while the filler still plays.
        at(1_200, What::Answered { ms: 700 }),
        assistant("a", 0, 1_500, (900, 900), false),
        at(9_000, What::Answered { ms: 800 }),
        assistant("b", 0, 9_020, (900, 900), false),
        assistant("c", 0, 9_920, (900, 900), false),
    ]);
    let latencies: Vec<Option<u64>> = record
        .turns
        .iter()
        .map(|turn| match turn.voice {
            Voice::Assistant { latency_ms, .. } => latency_ms,
            Voice::Caller => unreachable!(),
        })
        .collect();
    assert_eq!(latencies, [None, Some(700), Some(800), None]);
}

#[test]
fn what_one_interruption_cuts_is_one_interruption() {
    let record = folded([
        assistant("a", 2_000, 1_000, (1_000, 3_000), true),
        assistant("b", 2_000, 4_000, (0, 3_000), true),
        assistant("c", 7_000, 6_000, (1_000, 3_000), true),
    ]);
    assert_eq!(record.interruptions, 2);
}

#[test]
fn a_turn_under_way_is_in_the_record_until_it_is_over() {
    let speaks = |heard_ms, text: &str| {
        let text = Some(text.to_owned());
        let (item, interrupted) = (Some("a".to_owned()), false);
        let spoke = Spoke { item, text, start_ms: 1_000, sent_ms: 3_000, heard_ms, interrupted };
        at(1_000 + heard_ms, What::AssistantSpeaks(spoke))
    };
    let caller = |end_ms| {
        let (item, start_ms) = ("u".to_owned(), 3_500);
        at(end_ms, What::CallerSpeaks { item, start_ms, end_ms })
    };
    let mut recorder = Recorder::new(RecordId::from("01"));
    let entries =
        [rang(), speaks(800, "We are"), speaks(1_500, "We are open all day."), caller(4_000), caller(5_000)];
    entries.into_iter().for_each(|entry| recorder.add(entry));
    let mut broken_off = recorder.clone();
    broken_off.break_off(7.0);
    for record in [recorder.record(), broken_off.record()] {
        let times: Vec<_> = record.turns.iter().map(|turn| (turn.start_ms, turn.end_ms)).collect();
        assert_eq!(times, [(1_000, 2_500), (3_500, 5_000)]);
        let Voice::Assistant { heard_text, .. } = &record.turns[0].voice else { panic!("{record:?}") };
        assert_eq!(heard_text.as_deref(), Some("We are"), "half of the sound");
    }
    recorder.add(assistant("a", 6_000, 1_000, (2_900, 3_000), false));
    recorder.add(super::tests::caller("u", 3_500, 5_200));
    assert_eq!(recorder.record().turns.len(), 2, "each is there once");
}

#[test]
fn a_call_that_runs_or_breaks_off_has_a_record() {
    let mut recorder = Recorder::new(RecordId::from("01"));
    call().into_iter().take(6).for_each(|entry| recorder.add(entry));
    for ms in [300, 200] {
        recorder.add(Entry { at_ms: 0, what: What::Silence { ms } });
    }
    let record = recorder.record();
    assert_eq!(record.longest_silence_ms, 300);
    assert_eq!((record.reason, record.seconds), (None, 4.3), "900 ms until the stream, and 3400 ms of it");
    recorder.break_off(7.5);
    let record = recorder.record();
    assert_eq!((record.reason.as_deref(), record.seconds), (Some("server.fault"), 7.5));
    assert!(record.broken_off && record.cost.is_some());
    // One that ended did not break off.
    let mut recorder = Recorder::new(RecordId::from("01"));
    call().into_iter().for_each(|entry| recorder.add(entry));
    recorder.break_off(99.0);
    assert_eq!(recorder.record(), {
        let mut same = folded(call());
        same.id = RecordId::from("01");
        same
    });
}

#[test]
fn a_timeline_is_bounded_and_its_anomalies_are_counted() {
    let anomalies = (0..5_000).map(|ms| at(ms, What::Anomaly { code: "model.late_audio".to_owned() }));
    let keys = (0..20_000).map(|ms| at(ms, What::Keys { keys: None, count: 1 }));
    let record = folded(anomalies.chain(keys));
    assert_eq!(record.anomalies["model.late_audio"], 5_000);
    let shown = record.events.iter().filter(|event| matches!(event.what, Happened::Anomaly { .. })).count();
    assert_eq!((shown, record.events.len()), (MAX_ANOMALIES, MAX_KEPT));
}

proptest! {
    /// Entries may be lost, doubled, and out of order.
    #[test]
    fn any_entries_make_a_record(order in prop::collection::vec(0..19_usize, 0..60), ms in 0..30_000_u64) {
        let all = call();
        let record = folded(order.iter().map(|nth| {
            let mut entry = all[*nth].clone();
            entry.at_ms = entry.at_ms.wrapping_add(ms);
            entry
        }));
        for turn in &record.turns {
            prop_assert!(turn.start_ms <= turn.end_ms);
            if let Voice::Assistant { heard_text: Some(heard), .. } = &turn.voice {
                prop_assert!(turn.text.as_deref().unwrap_or_default().starts_with(heard.as_str()));
            }
        }
        prop_assert!(record.turns.is_sorted_by_key(|turn| turn.start_ms));
        prop_assert!(record.events.is_sorted_by_key(|event| event.at_ms));
        let text = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<CallRecord>(&text).unwrap(), record);
    }
}
