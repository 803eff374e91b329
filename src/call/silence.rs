//! Silence on the line: ask whether the caller is there, then say goodbye.

use std::time::{Duration, Instant};

/// Counts idle time only: it stands still while somebody speaks, something plays or an answer is due.
#[derive(Debug)]
pub(super) struct SilenceTimer {
    limit: Duration,
    spent: Duration,
    since: Option<Instant>,
    checked: bool,
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
        Self { limit, spent: Duration::ZERO, since: None, checked: false }
    }

    /// The caller did something: start again from zero.
    pub fn restart(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Records whether the call is idle at `now`.
    pub fn observe(&mut self, idle: bool, now: Instant) {
        match (idle, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.spent += now.saturating_duration_since(since);
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// When the next step is due if the call stays idle.
    pub fn deadline(&self) -> Option<Instant> {
        let threshold = if self.checked { self.limit } else { self.limit / 2 };
        Some(self.since? + threshold.saturating_sub(self.spent))
    }

    /// The step that is due at `now`. Each comes once.
    pub fn step(&mut self, now: Instant) -> Option<Step> {
        if self.deadline()? > now {
            return None;
        }
        if self.checked {
            self.since = None;
            return Some(Step::GiveUp);
        }
        self.checked = true;
        Some(Step::Check)
    }
}
