//! Silence on the line in which nobody owes anything: ask whether the caller is there, then say goodbye.

use std::time::{Duration, Instant};

use super::stopwatch::Stopwatch;

/// Counts idle time only: it stands still while somebody speaks, something plays or an answer is due.
#[derive(Debug)]
pub(super) struct SilenceTimer {
    limit: Duration,
    idle: Stopwatch,
    checked: bool,
    over: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// At half of the limit: ask whether the caller is there.
    Check,
    /// At the limit: say goodbye.
    GiveUp,
}

impl SilenceTimer {
    pub fn new(limit: Duration) -> Self {
        Self { limit, idle: Stopwatch::default(), checked: false, over: false }
    }

    /// The caller did something: start again from zero.
    pub fn restart(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Records whether the call is idle at `now`.
    pub fn observe(&mut self, idle: bool, now: Instant) {
        self.idle.observe(idle && !self.over, now);
    }

    /// When the next step is due if the call stays idle.
    pub fn deadline(&self) -> Option<Instant> {
        self.idle.reaches(if self.checked { self.limit } else { self.limit / 2 })
    }

    /// The step that is due at `now`. Each comes once.
    pub fn step(&mut self, now: Instant) -> Option<Step> {
        if self.deadline()? > now {
            return None;
        }
        if self.checked {
            self.over = true;
            self.observe(false, now);
            return Some(Step::GiveUp);
        }
        self.checked = true;
        Some(Step::Check)
    }
}
