//! The figures of a call for its last log line and `call.json`.

use std::time::{Duration, Instant};

use super::action::{Action, Note};
use crate::provider::Failure;
use crate::provider::usage::Tokens;

/// Turn times kept for the median. Hours of talk have fewer.
const MAX_TURN_TIMES: usize = 4096;

/// Counts and times of one call.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The caller's turns.
    pub turns: u32,
    /// How often the caller talked over the assistant.
    pub interruptions: u32,
    /// The stream's start → the first audio that left.
    pub first_word: Option<Duration>,
    /// The longest silence at the caller's ear while the assistant owed something.
    pub silence: Duration,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// What the model failed with, if the call ends for it.
    pub failure: Option<Failure>,
    turn_times: Vec<Duration>,
    turn: Turn,
}

/// The turn that is being measured.
#[derive(Debug, Clone, Copy, Default)]
enum Turn {
    #[default]
    None,
    /// The caller stopped speaking at this time.
    Over(Instant),
    /// A response has started since.
    Answered(Instant),
}

impl Tally {
    /// The median time from the end of the caller's turn to the first audio of the answer. Interrupted turns do not
    /// count. `None` before the first.
    pub fn turn_median(&self) -> Option<Duration> {
        let mut times = self.turn_times.clone();
        times.sort_unstable();
        times.get(times.len().checked_sub(1)? / 2).copied()
    }

    /// The longest of those times.
    pub fn turn_max(&self) -> Option<Duration> {
        self.turn_times.iter().max().copied()
    }

    pub(super) fn speech_started(&mut self) {
        self.turn = Turn::None;
    }

    pub(super) fn speech_stopped(&mut self, now: Instant) {
        self.turns += 1;
        self.turn = Turn::Over(now);
    }

    pub(super) fn response_started(&mut self) {
        if let Turn::Over(at) = self.turn {
            self.turn = Turn::Answered(at);
        }
    }

    pub(super) fn used(&mut self, tokens: &Tokens) {
        self.tokens_in += tokens.taken();
        self.tokens_out += tokens.made();
    }

    pub(super) fn audio_left(&mut self, started: Option<Instant>, now: Instant, out: &mut Vec<Action>) {
        if self.first_word.is_none()
            && let Some(started) = started
        {
            let first_word = now.saturating_duration_since(started);
            self.first_word = Some(first_word);
            out.push(Action::Note(Note::FirstWord(first_word)));
        }
        if let Turn::Answered(since) = self.turn {
            self.turn = Turn::None;
            let time = now.saturating_duration_since(since);
            if self.turn_times.len() < MAX_TURN_TIMES {
                self.turn_times.push(time);
            }
            out.push(Action::Note(Note::Answered(time)));
        }
    }
}
