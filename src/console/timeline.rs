//! The timeline of a call as SVG: a pure function of its record.
//!
//! Elements with `data-ms` can be clicked, where there is a recording to play.

use std::fmt::Write as _;

use super::chart::escaped;
use super::shown::{clipped, clock, wait};
use crate::record::{CallRecord, Happened, Turn, Voice};

const WIDTH: f64 = 1_000.0;
/// The space for the names of the lanes.
const LEFT: f64 = 80.0;
const LANE: f64 = 24.0;
const CALLER: f64 = 8.0;
const ASSISTANT: f64 = 40.0;
const TOOLS: f64 = 72.0;
const EVENTS: f64 = 104.0;
const FLOOR: f64 = 136.0;
const HEIGHT: f64 = 152.0;
/// Nobody speaks for at least so long, in milliseconds, before it is shown as silence.
const SILENCE: u64 = 2_000;
/// The most letters of what was said.
const WORDS: usize = 120;
/// The most elements of one kind.
const MOST: usize = 2_000;

/// A scale from milliseconds to the picture.
struct Scale {
    length: f64,
}

impl Scale {
    fn x(&self, ms: u64) -> f64 {
        LEFT + (ms as f64 / self.length).min(1.0) * (WIDTH - LEFT)
    }
}

/// The picture.
pub fn timeline(record: &CallRecord) -> String {
    let end = length(record);
    let scale = Scale { length: end as f64 };
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" data-length-ms=\"{end}\" data-left=\"{LEFT}\" \
         aria-labelledby=\"timeline-title timeline-desc\"><title id=\"timeline-title\">Timeline of the call</title>\
         <desc id=\"timeline-desc\">{}</desc>",
        escaped(&described(record))
    );
    for (y, name) in [(CALLER, "Caller"), (ASSISTANT, "Assistant"), (TOOLS, "Tools"), (EVENTS, "Events")] {
        let _ = write!(
            svg,
            "<rect class=\"lane\" x=\"{LEFT}\" y=\"{y}\" width=\"{}\" height=\"{LANE}\"/>\
             <text class=\"lane-label\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            WIDTH - LEFT,
            LEFT - 8.0,
            y + LANE * 0.7
        );
    }
    ticks(&mut svg, &scale, end);
    for (from, to) in silences(&record.turns, end).into_iter().take(MOST) {
        let title = format!("{}: nobody speaks for {}", clock(from), wait(to - from));
        span(&mut svg, &scale, "span-silence", CALLER, ASSISTANT + LANE - CALLER, from, to, &title);
    }
    for turn in record.turns.iter().take(MOST) {
        spoken(&mut svg, &scale, turn);
    }
    for tool in record.tools.iter().take(MOST) {
        let title = format!("{}: {}, {}, {}", clock(tool.start_ms), tool.name, tool.outcome, wait(tool.ms));
        let to = tool.start_ms + tool.ms;
        span(&mut svg, &scale, "mark-tool", TOOLS, LANE, tool.start_ms, to, &title);
    }
    for event in record.events.iter().take(MOST) {
        let (class, y, what) = match &event.what {
            Happened::Interrupted => ("mark-interrupted", ASSISTANT, "the caller interrupts".to_owned()),
            Happened::Keys { count, .. } => ("mark-keys", EVENTS, format!("{count} keys")),
            Happened::Reconnected(it) => (
                "mark-reconnect",
                EVENTS,
                format!("reconnected ({}), {} of silence", it.cause, wait(it.silence_ms)),
            ),
            Happened::Transferred(it) => {
                ("mark-transfer", EVENTS, format!("transfer to {}: {}", it.target, it.outcome))
            }
            Happened::Anomaly { code } => ("mark-anomaly", EVENTS, code.clone()),
        };
        let title = format!("{}: {what}", clock(event.at_ms));
        mark(&mut svg, &scale, class, y, event.at_ms, &title);
    }
    if let Some(reason) = &record.reason {
        mark(&mut svg, &scale, "mark-end", EVENTS, end, &format!("{}: {reason}", clock(end)));
    }
    let _ = write!(
        svg,
        "<line class=\"cursor\" x1=\"{LEFT}\" y1=\"{CALLER}\" x2=\"{LEFT}\" y2=\"{FLOOR}\" data-cursor=\"\"/></svg>"
    );
    svg
}

/// From the stream's start to the end, in milliseconds.
fn length(record: &CallRecord) -> u64 {
    let turns = record.turns.iter().map(|turn| turn.end_ms);
    let tools = record.tools.iter().map(|tool| tool.start_ms + tool.ms);
    let events = record.events.iter().map(|event| event.at_ms);
    // `seconds` counts from the ring, a little before.
    turns.chain(tools).chain(events).max().unwrap_or_default().max(1_000)
}

fn described(record: &CallRecord) -> String {
    let of =
        |caller: bool| record.turns.iter().filter(|turn| (turn.voice == Voice::Caller) == caller).count();
    format!(
        "{} turns of the caller, {} of the assistant, {} interruptions, {} tool calls. The conversation below has them all.",
        of(true),
        of(false),
        record.interruptions,
        record.tools.len()
    )
}

fn spoken(svg: &mut String, scale: &Scale, turn: &Turn) {
    let words = turn.text.as_deref().map(|text| clipped(text, WORDS)).unwrap_or_default();
    let title = format!("{}: {words}", clock(turn.start_ms));
    let Voice::Assistant { sent_ms, heard_ms, interrupted, .. } = &turn.voice else {
        return span(svg, scale, "span-caller", CALLER, LANE, turn.start_ms, turn.end_ms, &title);
    };
    if heard_ms < sent_ms {
        let title = format!("{}: {} were not heard", clock(turn.end_ms), wait(sent_ms - heard_ms));
        let to = turn.start_ms.saturating_add(*sent_ms);
        span(svg, scale, "span-unheard", ASSISTANT, LANE, turn.end_ms, to, &title);
    }
    span(svg, scale, "span-assistant", ASSISTANT, LANE, turn.start_ms, turn.end_ms, &title);
    if *interrupted {
        mark(
            svg,
            scale,
            "mark-interrupted",
            ASSISTANT,
            turn.end_ms,
            &format!("{}: interrupted", clock(turn.end_ms)),
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "a rectangle")]
fn span(svg: &mut String, scale: &Scale, class: &str, y: f64, height: f64, from: u64, to: u64, title: &str) {
    let (x, end) = (scale.x(from), scale.x(to));
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\" data-ms=\"{from}\"><title>{}</title></rect>",
        (end - x).max(1.5),
        escaped(title)
    );
}

/// A line across a lane, wide enough to point at.
fn mark(svg: &mut String, scale: &Scale, class: &str, y: f64, ms: u64, title: &str) {
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{}\" width=\"3\" height=\"{}\" data-ms=\"{ms}\"><title>{}</title></rect>",
        scale.x(ms) - 1.5,
        y - 3.0,
        LANE + 6.0,
        escaped(title)
    );
}

fn ticks(svg: &mut String, scale: &Scale, end: u64) {
    const STEPS: [u64; 10] =
        [1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000];
    let step = STEPS.into_iter().find(|step| end / step <= 12).unwrap_or(end / 12);
    for ms in (0..=end).step_by(step as usize) {
        let x = scale.x(ms);
        // The first and the last would be cut off in the middle of their ticks.
        let anchor = if ms == 0 {
            "start"
        } else if x > WIDTH - 20.0 {
            "end"
        } else {
            "middle"
        };
        let _ = write!(
            svg,
            "<line class=\"tick\" x1=\"{x:.1}\" y1=\"{CALLER}\" x2=\"{x:.1}\" y2=\"{FLOOR}\"/>\
             <text class=\"tick-label\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}:{:02}</text>",
            HEIGHT - 3.0,
            ms / 60_000,
            ms / 1_000 % 60
        );
    }
}

/// Where nobody speaks.
fn silences(turns: &[Turn], end: u64) -> Vec<(u64, u64)> {
    let (mut quiet_from, mut found) = (0, Vec::new());
    let next = turns.iter().map(|turn| (turn.start_ms, turn.end_ms)).chain([(end, end)]);
    for (start, stop) in next {
        if start >= quiet_from + SILENCE {
            found.push((quiet_from, start));
        }
        quiet_from = quiet_from.max(stop);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Event, RecordId, Recorder};

    fn turn(start_ms: u64, end_ms: u64, voice: Voice) -> Turn {
        Turn { start_ms, end_ms, text: Some("<script>alert(1)</script>".to_owned()), voice }
    }

    fn record() -> CallRecord {
        let voice = Voice::Assistant {
            heard_text: None,
            sent_ms: 4_000,
            heard_ms: 2_000,
            interrupted: true,
            latency_ms: None,
        };
        CallRecord {
            turns: vec![turn(0, 2_000, voice), turn(2_000, 3_000, Voice::Caller)],
            events: vec![Event { at_ms: 10_000, what: Happened::Anomaly { code: "x<y".to_owned() } }],
            ..Recorder::new(RecordId::from("01J00000000000000000000000")).record()
        }
    }

    #[test]
    fn lanes_show_who_spoke_when_and_what_was_not_heard() {
        let svg = timeline(&record());
        let document = roxmltree::Document::parse(&svg).expect("it is well-formed");
        let at = |class: &str| {
            let node = document.descendants().find(|node| node.attribute("class") == Some(class)).unwrap();
            let number = |name| node.attribute(name).unwrap().parse::<f64>().unwrap();
            (number("x"), number("width"), node.attribute("data-ms").unwrap().to_owned())
        };
        assert_eq!(at("span-assistant"), (80.0, 184.0, "0".to_owned()));
        assert_eq!(at("span-unheard"), (264.0, 184.0, "2000".to_owned()));
        assert_eq!(at("span-caller"), (264.0, 92.0, "2000".to_owned()));
        assert_eq!(at("span-silence"), (356.0, 644.0, "3000".to_owned()));
        assert!(!svg.contains("<script") && svg.contains("&lt;script"));
        assert!(!svg.contains("style"));
    }

    #[test]
    fn silence_is_where_no_turn_is() {
        let turns = record().turns;
        assert_eq!(silences(&turns, 4_999), []);
        assert_eq!(silences(&turns, 5_000), [(3_000, 5_000)]);
        assert_eq!(silences(&[], 2_000), [(0, 2_000)]);
    }

    #[test]
    fn a_call_without_anything_has_a_timeline() {
        let empty = Recorder::new(RecordId::from("01J00000000000000000000000")).record();
        roxmltree::Document::parse(&timeline(&empty)).expect("it is well-formed");
    }
}
