//! What went wrong in a call, and what its owner can change: a pure function of the record.
//!
//! A finding is something that a caller noticed, or that costs money. What was survived without a trace at the caller's
//! ear is none.

mod conversation;
mod outside;

#[cfg(test)]
mod tests;

use serde::Serialize;

use super::{CallRecord, Turn, Voice};

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable. The code of an end reason or an anomaly, if it is one.
    pub code: String,
    /// What happened, as a sentence.
    pub what: String,
    /// Where it shows, in the order of time.
    pub evidence: Vec<Evidence>,
    /// What to change, as a sentence; empty if nothing can be.
    pub advice: String,
}

/// A place in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Milliseconds since the stream's start, if it has a time.
    pub at_ms: Option<u64>,
    pub what: String,
}

/// What went wrong in a call: first how it ended, then the conversation, then what was around it.
pub fn explain(record: &CallRecord) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(outside::broken_off(record));
    findings.extend(outside::ended(record));
    findings.extend(conversation::slow_first_word(record));
    findings.extend(conversation::never_heard(record));
    findings.extend(conversation::slow_answers(record));
    findings.extend(conversation::long_silence(record));
    findings.extend(conversation::unanswered(record));
    findings.extend(conversation::caller_unheard(record));
    findings.extend(conversation::interrupted_at_once(record));
    findings.extend(conversation::interrupted_by_noise(record));
    findings.extend(conversation::missing_transcripts(record));
    findings.extend(outside::tools(record));
    findings.extend(outside::slow_tools(record));
    findings.extend(outside::reconnects(record));
    findings.extend(outside::transfers(record));
    findings.extend(outside::anomalies(record));
    findings.extend(outside::cost(record));
    findings.extend(outside::unpriced(record));
    findings
}

impl Finding {
    fn new(code: &str, what: impl Into<String>, evidence: Vec<Evidence>, advice: impl Into<String>) -> Self {
        Self { code: code.to_owned(), what: what.into(), evidence, advice: advice.into() }
    }
}

impl Evidence {
    fn at(ms: u64, what: impl Into<String>) -> Self {
        Self { at_ms: Some(ms), what: what.into() }
    }
}

/// A clause as a sentence: with a capital letter and a full stop.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    match letters.next() {
        // A name in code keeps its letters.
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

fn is_caller(turn: &Turn) -> bool {
    matches!(turn.voice, Voice::Caller)
}

/// Whether the turn has words.
fn has_words(turn: &Turn) -> bool {
    turn.text.as_deref().is_some_and(|text| !text.trim().is_empty())
}
