//! What went wrong between caller and assistant.

use super::super::print::{latencies, seconds};
use super::super::{CallRecord, Happened, Turn, Voice};
use super::{Evidence, Finding, has_words, is_caller};
use crate::problem::counted;

/// A first word later than this, in milliseconds. One second is usual; after two, people say hello again.
const FIRST_WORD: u64 = 2_000;
/// An answer later than this. 800 ms is usual; after two seconds, people repeat what they said.
const ANSWER: u64 = 2_000;
/// A longer silence in which something was due breaks the promise of `docs/reliability.md`.
const SILENCE: u64 = 3_000;
/// Nobody understands enough in less time to interrupt on purpose.
const AT_ONCE: u64 = 700;
/// One such interruption may be chance.
const TWICE: usize = 2;
/// An interruption and the turn that caused it begin within this time of each other.
const SAME_MOMENT: u64 = 1_500;
/// The caller waited this long, and no answer came.
const UNANSWERED: u64 = 4_000;
/// The time between ring and stream, which a record's length includes, at most.
const RINGING: u64 = 5_000;
/// A call in which somebody should have said something.
const SHORT_CALL: f64 = 15.0;

pub(super) fn slow_first_word(record: &CallRecord) -> Option<Finding> {
    let ms = record.first_word_ms.filter(|ms| *ms > FIRST_WORD)?;
    Some(Finding::new(
        "first_word.slow",
        format!("The caller waited {} for the first word.", seconds(ms)),
        vec![Evidence::at(ms, "the first word")],
        "Record the greeting (`greeting.play`): it does not wait for the model. Otherwise run the server in a region near \
         the model.",
    ))
}

/// The assistant's voice never reached the caller, in a call that lasted.
pub(super) fn never_heard(record: &CallRecord) -> Option<Finding> {
    let is_heard = |turn: &Turn| matches!(turn.voice, Voice::Assistant { heard_ms, .. } if heard_ms > 0);
    if record.seconds < SHORT_CALL || record.reason.is_none() || record.turns.iter().any(is_heard) {
        return None;
    }
    Some(Finding::new(
        "assistant.never_heard",
        format!("The caller was on the line for {:.1} s, and never heard the assistant.", record.seconds),
        Vec::new(),
        "`switchboard doctor` tries everything between the phone and the model; `switchboard rehearse NAME` plays a call \
         without either.",
    ))
}

pub(super) fn slow_answers(record: &CallRecord) -> Option<Finding> {
    let slow = record.turns.iter().filter_map(|turn| match turn.voice {
        Voice::Assistant { latency_ms: Some(ms), .. } if ms > ANSWER => {
            Some(Evidence::at(turn.start_ms, format!("answered after {}", seconds(ms))))
        }
        Voice::Assistant { .. } | Voice::Caller => None,
    });
    let slow: Vec<Evidence> = slow.collect();
    if slow.is_empty() {
        return None;
    }
    let sorted = latencies(record);
    let median = sorted[(sorted.len() - 1) / 2];
    let what = format!(
        "{} of {} came after more than {}; half of all came within {}.",
        slow.len(),
        counted(sorted.len(), "answer"),
        seconds(ANSWER),
        seconds(median)
    );
    let advice = match median > ANSWER {
        true => {
            "All answers are slow: choose a region near the model, a faster model, or `reasoning: low`; with \
             `detection: server`, a shorter `turn_taking.silence`."
        }
        false => {
            "Some answers are slow: look at the tools and reconnects of the same moments. With `detection: semantic`, a \
             higher `turn_taking.eagerness` helps."
        }
    };
    Some(Finding::new("answers.slow", what, slow, advice))
}

pub(super) fn long_silence(record: &CallRecord) -> Option<Finding> {
    let ms = record.longest_silence_ms;
    if ms <= SILENCE {
        return None;
    }
    Some(Finding::new(
        "silence.long",
        format!("The caller heard nothing for {} while the assistant owed something.", seconds(ms)),
        Vec::new(),
        "The findings below and the log lines of this call say what failed. Name a `fallback` provider; \
         `switchboard sounds` shows whether the lines that bridge a silence are prepared.",
    ))
}

/// The caller spoke, waited, and no answer came.
pub(super) fn unanswered(record: &CallRecord) -> Option<Finding> {
    let has_transcripts = record.turns.iter().any(|turn| is_caller(turn) && has_words(turn));
    // Sounds without words need no answer.
    let asked = |turn: &&Turn| is_caller(turn) && (has_words(turn) || !has_transcripts);
    let alone = record.turns.iter().filter(asked).filter(|turn| {
        let next = record.turns.iter().find(|next| is_caller(next) && next.start_ms > turn.start_ms);
        let until = match (next, &record.reason) {
            (Some(next), _) => next.start_ms,
            (None, Some(_)) => ((record.seconds * 1_000.0) as u64).saturating_sub(RINGING),
            (None, None) => return false,
        };
        let answered = record.turns.iter().any(|answer| match answer.voice {
            // It goes on while the caller speaks, or begins afterwards.
            Voice::Assistant { sent_ms, .. } => {
                answer.start_ms < until && answer.start_ms + sent_ms >= turn.end_ms
            }
            Voice::Caller => false,
        });
        let waited_for = |at: u64| (turn.start_ms..until).contains(&at);
        let busy = record.tools.iter().any(|tool| waited_for(tool.start_ms))
            || record
                .events
                .iter()
                .any(|event| matches!(event.what, Happened::Transferred(_)) && waited_for(event.at_ms));
        until >= turn.end_ms + UNANSWERED && !answered && !busy
    });
    let evidence: Vec<Evidence> =
        alone.map(|turn| Evidence::at(turn.end_ms, "no answer to what the caller said")).collect();
    if evidence.is_empty() {
        return None;
    }
    Some(Finding::new(
        "caller.unanswered",
        format!("The caller spoke and waited, and nobody answered ({}).", counted(evidence.len(), "time")),
        evidence,
        "If the reconnects or anomalies of that moment do not explain it, please report it with the log lines of this call.",
    ))
}

/// Nothing that the caller said was noticed.
pub(super) fn caller_unheard(record: &CallRecord) -> Option<Finding> {
    let pressed = record.events.iter().any(|event| matches!(event.what, Happened::Keys { .. }));
    let ran = record.first_word_ms.is_some() && record.reason.is_some() && record.seconds >= SHORT_CALL;
    if !ran || pressed || record.turns.iter().any(is_caller) {
        return None;
    }
    Some(Finding::new(
        "caller.unheard",
        format!("The caller was on the line for {:.1} s, and no word was noticed.", record.seconds),
        Vec::new(),
        "A robot or a silent caller, if it happens once. If callers did speak, lower `turn_taking.threshold`, or use \
         `detection: semantic`.",
    ))
}

/// The assistant was interrupted when it had hardly begun.
pub(super) fn interrupted_at_once(record: &CallRecord) -> Option<Finding> {
    let early = record.turns.iter().filter_map(|turn| match turn.voice {
        Voice::Assistant { interrupted: true, heard_ms, .. } if heard_ms < AT_ONCE => {
            Some(Evidence::at(turn.start_ms, format!("interrupted after {}", seconds(heard_ms))))
        }
        Voice::Assistant { .. } | Voice::Caller => None,
    });
    let early: Vec<Evidence> = early.collect();
    if early.len() < TWICE {
        return None;
    }
    Some(Finding::new(
        "interruptions.at_once",
        format!(
            "The assistant was interrupted {} before it had said much. That is rather noise, an echo, or a caller who had \
             not finished.",
            counted(early.len(), "time")
        ),
        early,
        "In `turn_taking`: `noise_reduction: far_field` and a higher `threshold` against noise; a longer `silence`, or \
         `detection: semantic`, for callers who pause to think.",
    ))
}

/// The assistant stopped for a sound without words.
pub(super) fn interrupted_by_noise(record: &CallRecord) -> Option<Finding> {
    if !record.turns.iter().any(|turn| is_caller(turn) && has_words(turn)) {
        return None;
    }
    let noisy = record.turns.iter().filter_map(|turn| {
        let Voice::Assistant { interrupted: true, .. } = turn.voice else { return None };
        let causes = || {
            record
                .turns
                .iter()
                .filter(|caller| is_caller(caller) && caller.start_ms.abs_diff(turn.end_ms) <= SAME_MOMENT)
        };
        let wordless = causes().next().is_some() && !causes().any(has_words);
        wordless.then(|| Evidence::at(turn.end_ms, "interrupted by a sound without words"))
    });
    let noisy: Vec<Evidence> = noisy.collect();
    if noisy.is_empty() {
        return None;
    }
    Some(Finding::new(
        "interruptions.noise",
        format!("The assistant stopped for a sound without words ({}).", counted(noisy.len(), "time")),
        noisy,
        "In `turn_taking`: `noise_reduction: far_field`, and a higher `threshold` or `detection: semantic`.",
    ))
}

/// The assistant's words are there, and the caller's are not.
pub(super) fn missing_transcripts(record: &CallRecord) -> Option<Finding> {
    // With neither, the file does not keep words.
    if !record.turns.iter().any(|turn| !is_caller(turn) && has_words(turn)) {
        return None;
    }
    let callers = record.turns.iter().filter(|turn| is_caller(turn)).count();
    let without = record.turns.iter().filter(|turn| is_caller(turn) && turn.text.is_none());
    let without: Vec<Evidence> =
        without.map(|turn| Evidence::at(turn.start_ms, "no transcript of the caller")).collect();
    if without.is_empty() {
        return None;
    }
    let advice = match without.len() == callers {
        true => {
            "Expected with `transcription: none`. Otherwise the transcription model failed: see the log lines of this \
             call, and `transcription.model`."
        }
        false => "Short sounds have no words. If sentences lack theirs, try another `transcription.model`.",
    };
    let what = format!("{} of the caller's {} have no transcript.", without.len(), counted(callers, "turn"));
    Some(Finding::new("transcripts.missing", what, without, advice))
}
