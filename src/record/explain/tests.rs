//! One record for each finding, and one without any.

use super::super::{
    Cost, Direction, Event, Happened, Reconnect, RecordId, TokenCounts, ToolCall, Transfer, VERSION,
};
use super::*;

/// A call in which nothing went wrong: a greeting, a question, an answer.
fn good() -> CallRecord {
    CallRecord {
        version: VERSION,
        id: RecordId::from("01JDZZZZZZAAAAAAAAAAAAAAAA"),
        call: "CA00000000000000000000000000000000".to_owned(),
        assistant: Some("clinic".to_owned()),
        assistant_version: None,
        direction: Direction::Inbound,
        test: false,
        simulated: false,
        from: Some("+15550100100".to_owned()),
        to: Some("+15550100001".to_owned()),
        started: "2026-11-30T14:05:09Z".parse().unwrap(),
        seconds: 22.0,
        reason: Some("caller.hung_up".to_owned()),
        broken_off: false,
        first_word_ms: Some(400),
        longest_silence_ms: 900,
        interruptions: 0,
        turns: vec![
            assistant(400, 2_000, Some("Hello, how can I help?")),
            caller(3_000, 4_500, Some("When do you open?")),
            assistant(5_300, 3_000, Some("At nine.")),
            caller(9_000, 10_000, Some("Thank you.")),
            assistant(10_900, 1_000, Some("Goodbye.")),
        ],
        tools: Vec::new(),
        events: Vec::new(),
        tokens: TokenCounts::default(),
        cost: None,
        recording: None,
        summary: None,
        fields: None,
        message: None,
        anomalies: std::collections::BTreeMap::new(),
        unpriced: Vec::new(),
    }
}

fn caller(start_ms: u64, end_ms: u64, text: Option<&str>) -> Turn {
    Turn { start_ms, end_ms, text: text.map(str::to_owned), voice: Voice::Caller }
}

fn assistant(start_ms: u64, ms: u64, text: Option<&str>) -> Turn {
    let text = text.map(str::to_owned);
    let voice = Voice::Assistant {
        heard_text: text.clone(),
        sent_ms: ms,
        heard_ms: ms,
        interrupted: false,
        latency_ms: (start_ms > 1_000).then_some(800),
    };
    Turn { start_ms, end_ms: start_ms + ms, text, voice }
}

/// An interrupted turn.
fn cut(start_ms: u64, ms: u64) -> Turn {
    let heard_text = Some("We".to_owned());
    let voice =
        Voice::Assistant { heard_text, sent_ms: 5_000, heard_ms: ms, interrupted: true, latency_ms: None };
    Turn { start_ms, end_ms: start_ms + ms, text: Some("We are open all day.".to_owned()), voice }
}

fn late(turn: Turn, ms: u64) -> Turn {
    let Voice::Assistant { heard_text, sent_ms, heard_ms, interrupted, .. } = turn.voice else { panic!() };
    let voice = Voice::Assistant { heard_text, sent_ms, heard_ms, interrupted, latency_ms: Some(ms) };
    Turn { voice, ..turn }
}

fn tool(start_ms: u64, ms: u64, outcome: &str) -> ToolCall {
    let (name, outcome) = ("look_up".to_owned(), outcome.to_owned());
    ToolCall { name, start_ms, ms, outcome, arguments: None, result: None }
}

fn reconnect(cause: &str, worked: bool, silence_ms: u64) -> Event {
    let what = Happened::Reconnected(Reconnect { cause: cause.to_owned(), worked, silence_ms });
    Event { at_ms: 6_000, what }
}

fn transfer(outcome: &str) -> Event {
    let what =
        Happened::Transferred(Transfer { target: "reception".to_owned(), outcome: outcome.to_owned() });
    Event { at_ms: 10_500, what }
}

fn codes(record: &CallRecord) -> Vec<String> {
    explain(record).into_iter().map(|finding| finding.code).collect()
}

#[track_caller]
fn finds(record: &CallRecord, expected: &[&str]) {
    assert_eq!(codes(record), expected, "{:#?}", explain(record));
}

#[test]
fn nothing_is_found_in_a_good_call() {
    finds(&good(), &[]);
    // Nor in what every call may have.
    finds(
        &CallRecord {
            events: vec![reconnect("model.renewal", true, 0), transfer("sent")],
            tools: vec![tool(5_000, 800, "ok"), tool(5_000, 800, "stopped")],
            anomalies: [("model.unknown_event".to_owned(), 3)].into(),
            ..good()
        },
        &[],
    );
    // Nor while it runs.
    finds(&CallRecord { reason: None, turns: Vec::new(), first_word_ms: None, ..good() }, &[]);
}

#[test]
fn an_end_that_nobody_wants_is_explained_by_its_reason() {
    for code in ["model.refused", "caller.lost", "limit.duration", "refused.busy"] {
        let found = explain(&CallRecord { reason: Some(code.to_owned()), ..good() });
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].code, code);
        assert!(!found[0].advice.is_empty());
    }
    finds(&CallRecord { reason: Some("assistant.transferred".to_owned()), ..good() }, &[]);
    // A server that was killed did not end the call for a reason of its own.
    let killed = CallRecord { reason: Some("server.fault".to_owned()), broken_off: true, ..good() };
    finds(&killed, &["record.broken_off"]);
}

#[test]
fn a_late_first_word_is_found() {
    finds(&CallRecord { first_word_ms: Some(2_000), ..good() }, &[]);
    finds(&CallRecord { first_word_ms: Some(2_001), ..good() }, &["first_word.slow"]);
}

#[test]
fn a_call_without_a_word_of_the_assistant_is_found() {
    let silent = CallRecord { turns: vec![caller(3_000, 4_500, None)], first_word_ms: None, ..good() };
    finds(&silent, &["assistant.never_heard", "caller.unanswered"]);
    finds(&CallRecord { seconds: 5.0, ..silent }, &[]);
}

#[test]
fn slow_answers_are_found_with_their_times() {
    let mut record = good();
    record.turns[2] = late(record.turns[2].clone(), 2_600);
    let found = explain(&record);
    assert_eq!(found[0].code, "answers.slow");
    assert_eq!(found[0].evidence[0].at_ms, Some(5_300));
    let single = found[0].advice.clone();
    record.turns[4] = late(record.turns[4].clone(), 3_000);
    let found = explain(&record);
    assert_eq!(found[0].evidence.len(), 2);
    assert_ne!(found[0].advice, single, "one slow answer and a slow model have different causes");
}

#[test]
fn a_long_silence_is_found() {
    finds(&CallRecord { longest_silence_ms: 3_000, ..good() }, &[]);
    finds(&CallRecord { longest_silence_ms: 3_100, ..good() }, &["silence.long"]);
}

#[test]
fn a_caller_whom_nobody_answers_is_found() {
    let mut record = good();
    record.seconds = 60.0;
    record.turns.push(caller(20_000, 21_000, Some("Hello?")));
    let found = explain(&record);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].code.as_str(), found[0].evidence[0].at_ms), ("caller.unanswered", Some(21_000)));
    // A caller who spoke again at once, a sound without words, and a wait with a reason are none.
    let mut again = record.clone();
    again.turns.extend([caller(22_000, 23_000, Some("Hello?")), assistant(24_000, 1_000, Some("Yes."))]);
    finds(&again, &[]);
    let mut noise = record.clone();
    noise.turns[5].text = Some(String::new());
    finds(&noise, &[]);
    let away = Event { at_ms: 22_000, what: transfer("sent").what };
    finds(&CallRecord { events: vec![away], ..record.clone() }, &[]);
    let hung_up_at_once = CallRecord { seconds: 24.0, ..record };
    finds(&hung_up_at_once, &[]);
}

#[test]
fn a_caller_of_whom_no_word_is_noticed_is_found() {
    let mut record = good();
    record.turns.retain(|turn| !is_caller(turn));
    finds(&record, &["caller.unheard"]);
    record.events.push(Event { at_ms: 3_000, what: Happened::Keys { keys: None, count: 1 } });
    finds(&record, &[]);
}

#[test]
fn interruptions_right_at_the_start_of_answers_are_found() {
    let mut record = good();
    record.turns[0] = cut(400, 300);
    record.interruptions = 1;
    finds(&record, &[]);
    record.turns[2] = cut(5_300, 600);
    record.turns[3] = caller(5_800, 6_800, Some("No, today."));
    record.turns[4] = assistant(7_600, 2_000, Some("Until five."));
    record.interruptions = 2;
    finds(&record, &["interruptions.at_once"]);
    record.turns[2] = cut(5_300, 1_600);
    finds(&record, &[]);
}

#[test]
fn an_interruption_without_words_is_found() {
    let mut record = good();
    record.turns[2] = cut(5_300, 1_600);
    record.turns.insert(3, caller(6_800, 7_000, Some("")));
    record.turns.insert(4, assistant(7_600, 1_000, Some("Until five.")));
    finds(&record, &["interruptions.noise"]);
    // Without transcripts, nobody knows.
    record.turns.iter_mut().for_each(|turn| turn.text = None);
    finds(&record, &[]);
}

#[test]
fn missing_transcripts_are_found() {
    let mut record = good();
    record.turns[1].text = None;
    let found = explain(&record);
    assert_eq!((found.len(), found[0].code.as_str()), (1, "transcripts.missing"), "{found:#?}");
    let some = found[0].advice.clone();
    record.turns[3].text = None;
    let found = explain(&record);
    assert_ne!(found[0].advice, some, "one that is missing and all have different causes");
    // The file keeps no words.
    record.turns.iter_mut().for_each(|turn| turn.text = None);
    finds(&record, &[]);
}

#[test]
fn tools_that_fail_or_take_long_are_found() {
    let tools = vec![tool(4_600, 500, "ok"), tool(5_000, 10_000, "timeout"), tool(9_000, 3_500, "ok")];
    let anomalies = [("tool.timeout".to_owned(), 1)].into();
    let found = explain(&CallRecord { tools, anomalies, ..good() });
    let codes: Vec<&str> = found.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["tool.failed", "tool.slow"], "the anomaly says nothing new");
    assert_eq!(found[0].evidence[0].at_ms, Some(5_000));
    assert_eq!(found[1].evidence[0].at_ms, Some(9_000));
}

#[test]
fn reconnects_are_found_whether_they_worked_or_not() {
    let events = vec![reconnect("lost", true, 900), reconnect("stalled", false, 2_000)];
    finds(&CallRecord { events, ..good() }, &["reconnect.failed", "reconnected"]);
    finds(&CallRecord { events: vec![reconnect("renewal", true, 400)], ..good() }, &["reconnected"]);
}

#[test]
fn a_transfer_that_nobody_takes_is_found() {
    finds(&CallRecord { events: vec![transfer("no_answer")], ..good() }, &["transfer.failed"]);
}

#[test]
fn anomalies_that_callers_notice_are_found() {
    let event = Event { at_ms: 5_000, what: Happened::Anomaly { code: "caller.stalled".to_owned() } };
    let anomalies = [("caller.stalled".to_owned(), 2), ("model.late_audio".to_owned(), 1)].into();
    let record = CallRecord { events: vec![event], anomalies, ..good() };
    let found = explain(&record);
    assert_eq!((found.len(), found[0].code.as_str()), (1, "caller.stalled"), "{found:#?}");
    assert_eq!(found[0].evidence[0].at_ms, Some(5_000));
    // A newer version counts more.
    finds(&CallRecord { anomalies: [("model.sang".to_owned(), 1)].into(), ..good() }, &["model.sang"]);
}

#[test]
fn a_dear_call_is_found() {
    let cost = |total: f64, reconnects: f64| {
        let currency = "USD".to_owned();
        let (model, transcription, carrier_estimate) = (total - 0.02, 0.01, 0.01);
        let prices = "2026-11-30".to_owned();
        Some(Cost { currency, model, transcription, carrier_estimate, reconnects, total, prices })
    };
    let minutes =
        |cost| CallRecord { seconds: 120.0, cost, turns: Vec::new(), first_word_ms: None, ..good() };
    let dear = |cost| explain(&minutes(cost)).into_iter().find(|finding| finding.code == "cost.high");
    assert_eq!(dear(cost(0.30, 0.0)), None);
    // A short call pays for a whole minute of the carrier's.
    finds(&CallRecord { seconds: 20.0, cost: cost(0.25, 0.0), ..good() }, &[]);
    let prompt = dear(cost(1.20, 0.1)).unwrap();
    let reconnects = dear(cost(1.20, 0.9)).unwrap();
    assert_ne!(prompt.advice, reconnects.advice);
}

#[test]
fn a_model_without_a_price_is_found() {
    finds(&CallRecord { unpriced: vec!["my-model".to_owned()], ..good() }, &["cost.unknown"]);
}
