//! A conversation as a list, for a call that runs and for one that is over.

use serde::Serialize;

use super::shown::{clipped, clock, wait};
use crate::record::{CallRecord, Happened, ToolCall, Turn, Voice, anomaly};

/// A part that the caller did not hear, in milliseconds, below which it is not worth a word.
const UNHEARD: u64 = 100;
/// The most characters of what a tool got or gave. The record has all of them.
const MAX_SHOWN: usize = 2_000;

/// A line of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// `caller`, `assistant`, `tool` or `event`.
    pub kind: &'static str,
    pub ms: u64,
    pub end_ms: u64,
    pub at: String,
    pub who: &'static str,
    /// What was said and heard, or what happened.
    pub text: Option<String>,
    /// What the caller did not hear of it.
    pub unheard: Option<String>,
    /// It is being said.
    pub live: bool,
    pub facts: Vec<String>,
    /// What a tool got and gave.
    pub details: Vec<(&'static str, String)>,
}

/// Everything that happened, in its order.
pub fn items(record: &CallRecord) -> Vec<Item> {
    let mut first_word = record.first_word_ms;
    let last = record.turns.len().saturating_sub(1);
    let turns = record.turns.iter().enumerate();
    let mut items: Vec<Item> = turns
        .map(|(nth, turn)| spoken(turn, record.reason.is_none() && nth == last, &mut first_word))
        .collect();
    items.extend(record.tools.iter().map(tool));
    items.extend(record.events.iter().filter_map(|event| happened(event.at_ms, &event.what)));
    items.sort_by_key(|item| item.ms);
    items
}

/// `may_go_on`: it is the last turn of a call that goes on.
fn spoken(turn: &Turn, may_go_on: bool, first_word: &mut Option<u64>) -> Item {
    let mut item = Item {
        kind: "caller",
        ms: turn.start_ms,
        end_ms: turn.end_ms,
        at: clock(turn.start_ms),
        who: "Caller",
        text: turn.text.clone(),
        unheard: None,
        live: false,
        facts: vec![wait(turn.end_ms.saturating_sub(turn.start_ms))],
        details: Vec::new(),
    };
    let Voice::Assistant { heard_text, sent_ms, heard_ms, interrupted, latency_ms } = &turn.voice else {
        return item;
    };
    (item.kind, item.who) = ("assistant", "Assistant");
    item.facts.extend(first_word.take().map(|ms| format!("first word after {}", wait(ms))));
    item.facts.extend(latency_ms.map(|ms| format!("answered after {}", wait(ms))));
    // What the assistant says now is heard until its end, unless it is interrupted.
    item.live = may_go_on && !*interrupted && heard_ms < sent_ms;
    let is_cut = *interrupted || !item.live && heard_ms + UNHEARD < *sent_ms;
    if is_cut {
        let how = if *interrupted { "interrupted" } else { "cut off" };
        item.facts.push(format!("{how}, {} of {} heard", wait(*heard_ms), wait(*sent_ms)));
        if let (Some(text), Some(heard)) = (&turn.text, heard_text) {
            let rest = text.strip_prefix(heard.as_str()).unwrap_or_default();
            item.unheard = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
            item.text = Some(heard.clone());
        }
    }
    item
}

fn tool(call: &ToolCall) -> Item {
    let kept = [("arguments", &call.arguments), ("result", &call.result)];
    let details =
        kept.into_iter().filter_map(|(name, text)| Some((name, clipped(text.as_deref()?, MAX_SHOWN))));
    Item {
        kind: "tool",
        ms: call.start_ms,
        end_ms: call.start_ms + call.ms,
        at: clock(call.start_ms),
        who: "Tool",
        text: Some(call.name.clone()),
        unheard: None,
        live: false,
        facts: vec![call.outcome.clone(), wait(call.ms)],
        details: details.collect(),
    }
}

/// `None` for what the turns show.
fn happened(at_ms: u64, what: &Happened) -> Option<Item> {
    let (who, text, facts) = match what {
        Happened::Interrupted => return None,
        Happened::Keys { keys: Some(keys), .. } => ("Keys", keys.clone(), Vec::new()),
        Happened::Keys { keys: None, count } => ("Keys", format!("{count} pressed"), Vec::new()),
        Happened::Reconnected(it) => {
            let done = if it.worked { "connected again" } else { "could not connect again" };
            let facts = vec![it.cause.clone(), format!("{} of silence", wait(it.silence_ms))];
            ("Connection", done.to_owned(), facts)
        }
        Happened::Transferred(it) => ("Transfer", it.target.clone(), vec![it.outcome.clone()]),
        Happened::Anomaly { code } => {
            let what = anomaly(code).map_or_else(|| code.clone(), |known| known.what.to_owned());
            ("Anomaly", what, vec![code.clone()])
        }
    };
    Some(Item {
        kind: "event",
        ms: at_ms,
        end_ms: at_ms,
        at: clock(at_ms),
        who,
        text: Some(text),
        unheard: None,
        live: false,
        facts,
        details: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_turn_is_split_where_the_caller_stopped_hearing() {
        let turn = Turn {
            start_ms: 1_000,
            end_ms: 2_000,
            text: Some("We are open all day.".to_owned()),
            voice: Voice::Assistant {
                heard_text: Some("We are".to_owned()),
                sent_ms: 2_000,
                heard_ms: 1_000,
                interrupted: true,
                latency_ms: Some(512),
            },
        };
        let item = spoken(&turn, false, &mut Some(300));
        assert_eq!(item.text.as_deref(), Some("We are"));
        assert_eq!(item.unheard.as_deref(), Some("open all day."));
        assert_eq!(item.facts.len(), 4);
        let caller = Turn { voice: Voice::Caller, ..turn };
        assert_eq!(
            (spoken(&caller, false, &mut None).kind, spoken(&caller, false, &mut None).unheard),
            ("caller", None)
        );
    }
}
