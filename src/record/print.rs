//! A call as lines of text, for the rehearsal and for `switchboard calls`.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::{CallRecord, Cost, Event, Happened, Reconnect, ToolCall, Transfer, Turn, Voice, anomaly, reason};
use crate::problem::counted;

/// An unheard end shorter than this, in milliseconds, is not reported.
const UNHEARD: u64 = 100;
/// The most characters of a tool's arguments or result that are printed. JSON has all of them.
const MAX_SHOWN: usize = 600;

/// How turns are printed.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    /// What stands in place of a caller's words that are not there.
    pub no_words: &'a str,
    /// Whether to print how long answers took.
    pub latencies: bool,
}

/// `m:ss.mmm`
pub fn clock(ms: u64) -> String {
    format!("{}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

/// `2.1 s`
pub fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}

/// One line of the conversation.
pub fn row(ms: u64, who: &str, text: &str) -> String {
    format!("{}  {who:<9}  {text}", clock(ms))
}

/// One line of a summary.
pub fn summary_row(name: &str, value: &str) -> String {
    format!("  {name:<10}  {value}")
}

/// The lines of a completed turn. `first_word_ms` is given for the first turn of a call.
pub fn turn(turn: &Turn, first_word_ms: Option<u64>, manner: Manner<'_>) -> Vec<String> {
    let lasted = seconds(turn.end_ms.saturating_sub(turn.start_ms));
    let text = turn.text.as_deref().map(one_line).filter(|text| !text.is_empty());
    let Voice::Assistant { heard_text, sent_ms, heard_ms, interrupted, latency_ms } = &turn.voice else {
        let text = text.as_deref().unwrap_or(manner.no_words);
        return vec![row(turn.start_ms, "caller", &format!("{text}  [{lasted}]"))];
    };
    let mut facts = Vec::new();
    if manner.latencies {
        facts.extend(first_word_ms.map(|ms| format!("first word after {ms} ms")));
        facts.extend(latency_ms.map(|ms| format!("answered after {ms} ms")));
    }
    let part = format!("{} of {} heard", seconds(*heard_ms), seconds(*sent_ms));
    let ends_early = heard_ms + UNHEARD < *sent_ms;
    facts.push(match (interrupted, ends_early) {
        (true, _) => format!("interrupted: {part}"),
        (false, true) => format!("cut off: {part}"),
        (false, false) => lasted,
    });
    let words = text.as_deref().unwrap_or("(words unknown)");
    let mut lines = vec![row(turn.start_ms, "assistant", &format!("{words}  [{}]", facts.join(", ")))];
    if (*interrupted || ends_early)
        && let (Some(text), Some(heard)) = (&text, heard_text.as_deref().map(one_line))
    {
        let lost = text.strip_prefix(&heard).unwrap_or_default().trim();
        lines.push(detail("heard", &quoted(&heard)));
        lines.push(detail("not heard", &quoted(lost)));
    }
    lines
}

/// Everything that happened in a call, in its order.
pub fn conversation(record: &CallRecord) -> Vec<String> {
    let manner = Manner { no_words: "(no transcript)", latencies: true };
    let mut first_word = record.first_word_ms;
    let mut entries: Vec<(u64, Vec<String>)> = Vec::new();
    for spoken in &record.turns {
        let is_assistant = matches!(spoken.voice, Voice::Assistant { .. });
        let first = first_word.take_if(|_| is_assistant);
        entries.push((spoken.start_ms, turn(spoken, first, manner)));
    }
    entries.extend(record.tools.iter().map(|call| (call.start_ms, tool(call))));
    entries.extend(record.events.iter().filter_map(|event| Some((event.at_ms, vec![happened(event)?]))));
    entries.sort_by_key(|(ms, _)| *ms);
    entries.into_iter().flat_map(|(_, lines)| lines).collect()
}

fn tool(call: &ToolCall) -> Vec<String> {
    let name = one_line(&call.name);
    let mut lines = vec![row(call.start_ms, "tool", &format!("{name}  [{}, {} ms]", call.outcome, call.ms))];
    let kept = [("arguments", &call.arguments), ("result", &call.result)];
    lines.extend(kept.into_iter().filter_map(|(what, text)| Some(detail(what, &clipped(text.as_deref()?)))));
    lines
}

/// `None` for what the turns show.
fn happened(event: &Event) -> Option<String> {
    let (who, text) = match &event.what {
        Happened::Interrupted => return None,
        Happened::Keys { keys: Some(keys), .. } => ("keys", format!("the caller pressed {}", one_line(keys))),
        Happened::Keys { keys: None, count } => (
            "keys",
            format!("the caller pressed {}", counted(usize::try_from(*count).unwrap_or(usize::MAX), "key")),
        ),
        Happened::Reconnected(Reconnect { cause, worked, silence_ms }) => {
            let done = if *worked { "connected again" } else { "could not connect again" };
            let silence = seconds(*silence_ms);
            ("reconnect", format!("{done}, because {}  [{silence} of silence]", cause_in_words(cause)))
        }
        Happened::Transferred(Transfer { target, outcome }) => {
            ("transfer", format!("to {}  [{outcome}]", one_line(target)))
        }
        Happened::Anomaly { code } => match anomaly(code) {
            Some(known) => ("anomaly", format!("{code}: {}", known.what)),
            None => ("anomaly", code.clone()),
        },
    };
    Some(row(event.at_ms, who, &text))
}

/// The code of a cause without its side. The earliest records have no side.
pub(super) fn bare(cause: &str) -> &str {
    cause.rsplit('.').next().unwrap_or(cause)
}

/// Why a session was replaced, as a clause.
pub(super) fn cause_in_words(cause: &str) -> &str {
    match bare(cause) {
        "lost" => "the connection to the model broke",
        "stalled" => "the model gave no sound",
        "deaf" => "the model did not notice that the caller spoke",
        "failed" => "the model's responses failed",
        "renewal" => "the model's session was going to be too old",
        "stream" => "the phone's stream broke",
        other => other,
    }
}

/// What stands above the conversation: which call it was. Times are in `zone`.
pub fn heading(record: &CallRecord, zone: &TimeZone) -> Vec<String> {
    let started = zone.to_datetime(record.started);
    let abbreviation = zone.to_offset_info(record.started).abbreviation().to_owned();
    let version = record.assistant_version.as_deref().map(|version| match version.split_once(':') {
        // As much of a hash as tells two versions apart.
        Some((kind, hash)) => format!(" ({kind}:{})", hash.chars().take(12).collect::<String>()),
        None => format!(" ({version})"),
    });
    let assistant = record.assistant.as_deref().unwrap_or("none");
    let mut kinds = Vec::new();
    kinds.extend(record.test.then_some("test call"));
    kinds.extend(record.simulated.then_some("simulated model"));
    let mut lines = vec![
        format!("Call {}", record.id),
        String::new(),
        summary_row("call", &one_line(&record.call)),
        summary_row("assistant", &format!("{assistant}{}", version.unwrap_or_default())),
        summary_row("from", &one_line(record.from.as_deref().unwrap_or("withheld, or not kept"))),
        summary_row("to", &one_line(record.to.as_deref().unwrap_or("not kept"))),
        summary_row("started", &format!("{} {abbreviation}", started.strftime("%A, %-d %B %Y, %H:%M:%S"))),
    ];
    if !kinds.is_empty() {
        lines.push(summary_row("kind", &kinds.join(", ")));
    }
    lines
}

/// How a call ended, in words.
pub fn end(record: &CallRecord) -> String {
    let why = match &record.reason {
        Some(code) => match reason(code) {
            Some(known) => format!("{code}: {}", known.what),
            None => code.clone(),
        },
        None => "the call is under way".to_owned(),
    };
    if record.broken_off { format!("{why}; the record breaks off, because the server was gone") } else { why }
}

/// The call in figures.
pub fn summary(record: &CallRecord) -> Vec<String> {
    let assistant = record.turns.iter().filter(|turn| matches!(turn.voice, Voice::Assistant { .. })).count();
    let caller = record.turns.len() - assistant;
    let first_word = match record.first_word_ms {
        Some(ms) => format!("{ms} ms after the call was connected"),
        None => "none".to_owned(),
    };
    let answers = match latencies(record).as_slice() {
        [] => "none".to_owned(),
        sorted @ [.., slowest] => format!(
            "after {} ms (median) and {slowest} ms (slowest), from the end of the caller's turn",
            sorted[(sorted.len() - 1) / 2],
        ),
    };
    let tokens = &record.tokens;
    let cached = tokens.kinds.text_in_cached + tokens.kinds.audio_in_cached + tokens.kinds.image_in_cached;
    let mut lines = vec![
        "Summary".to_owned(),
        summary_row("end", &end(record)),
        summary_row("length", &format!("{:.1} s, from the ring", record.seconds)),
        summary_row(
            "turns",
            &format!(
                "{caller} by the caller, {assistant} by the assistant ({} interrupted)",
                record.interruptions
            ),
        ),
        summary_row("first word", &first_word),
        summary_row("answers", &answers),
        summary_row(
            "silence",
            &format!("at most {} while something was due", seconds(record.longest_silence_ms)),
        ),
        summary_row("tokens", &format!("{} in ({cached} cached), {} out", tokens.taken, tokens.made)),
        summary_row("cost", &costs(record)),
    ];
    let anomalies: Vec<String> =
        record.anomalies.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let anomalies = if anomalies.is_empty() { "none".to_owned() } else { anomalies.join(", ") };
    lines.push(summary_row("anomalies", &anomalies));
    let fields = record.fields.as_ref().map(ToString::to_string);
    let more = [
        ("recording", &record.recording),
        ("message", &record.message),
        ("summary", &record.summary),
        ("fields", &fields),
    ];
    lines.extend(
        more.into_iter().filter_map(|(name, text)| Some(summary_row(name, &one_line(text.as_deref()?)))),
    );
    lines
}

/// How long each answer took, sorted. Interrupted ones count: the caller waited for them too.
pub fn latencies(record: &CallRecord) -> Vec<u64> {
    let mut sorted: Vec<u64> = record
        .turns
        .iter()
        .filter_map(|turn| match turn.voice {
            Voice::Assistant { latency_ms, .. } => latency_ms,
            Voice::Caller => None,
        })
        .collect();
    sorted.sort_unstable();
    sorted
}

fn costs(record: &CallRecord) -> String {
    match (&record.cost, record.unpriced.as_slice()) {
        (Some(known), _) => cost(known),
        (None, []) => "none".to_owned(),
        (None, models) => format!("unknown: there is no price for {}", one_line(&models.join(", "))),
    }
}

/// What a call cost, by part.
pub(super) fn cost(cost: &Cost) -> String {
    let Cost { model, transcription, carrier_estimate, reconnects, total, prices, .. } = cost;
    let mut text = format!("${total:.4}: model {model:.4}");
    if *reconnects > 0.0 {
        let _ = write!(text, " (reconnects {reconnects:.4})");
    }
    let _ = write!(
        text,
        ", transcription {transcription:.4}, carrier about {carrier_estimate:.4} (prices of {prices})"
    );
    text
}

fn detail(what: &str, text: &str) -> String {
    format!("{:19}  {:<10} {text}", "", format!("{what}:"))
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "(nothing)".to_owned() } else { format!("“{text}”") }
}

fn clipped(text: &str) -> String {
    let text = one_line(text);
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A text from outside on one line. A terminal would obey its control characters.
pub fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    spaced.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(text: Option<&str>, heard_text: Option<&str>, heard_ms: u64, interrupted: bool) -> Turn {
        let voice = Voice::Assistant {
            heard_text: heard_text.map(str::to_owned),
            sent_ms: 2_000,
            heard_ms,
            interrupted,
            latency_ms: Some(512),
        };
        Turn { start_ms: 65_030, end_ms: 65_030 + heard_ms, text: text.map(str::to_owned), voice }
    }

    #[test]
    fn an_interrupted_turn_shows_what_was_heard() {
        let manner = Manner { no_words: "(no words)", latencies: true };
        let cut = spoken(Some("We are open all day."), Some("We are"), 1_000, true);
        insta::assert_snapshot!(turn(&cut, None, manner).join("\n"), @r"
        1:05.030  assistant  We are open all day.  [answered after 512 ms, interrupted: 1.0 s of 2.0 s heard]
                             heard:     “We are”
                             not heard: “open all day.”
        ");
        let silent = Manner { latencies: false, ..manner };
        assert!(!turn(&cut, None, silent)[0].contains("512"));
        let unheard = spoken(Some("We are open."), Some(""), 0, true);
        assert_eq!(turn(&unheard, None, manner).len(), 3);
        // Without words, there is nothing to split.
        assert_eq!(turn(&spoken(None, None, 1_000, true), None, manner).len(), 1);
        assert_eq!(
            turn(&spoken(Some("We are open."), Some("We are open."), 1_950, false), None, manner).len(),
            1
        );
    }

    #[test]
    fn a_terminal_gets_no_control_characters_from_callers_or_tools() {
        let hostile = "a\u{1b}[2Jb\r\n\u{9b}c";
        let arguments = Some(hostile.to_owned());
        let call = ToolCall {
            name: hostile.to_owned(),
            start_ms: 0,
            ms: 1,
            outcome: "ok".to_owned(),
            arguments,
            result: Some("x".repeat(10_000)),
        };
        let caller = Turn { start_ms: 0, end_ms: 1, text: Some(hostile.to_owned()), voice: Voice::Caller };
        let keys = Happened::Keys { keys: Some(hostile.to_owned()), count: 1 };
        let mut lines = tool(&call);
        lines.extend(turn(&caller, None, Manner { no_words: "", latencies: true }));
        lines.extend(happened(&Event { at_ms: 0, what: keys }));
        assert_eq!(lines.len(), 5);
        for line in lines {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.chars().count() < 1_000);
        }
    }
}
