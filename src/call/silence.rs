//! How long nobody has done anything: the silence ladder.

use std::time::{Duration, Instant};

/// Counts idle time only: while somebody speaks, something plays or an answer is due, it stands still.
#[derive(Debug)]
pub(super) struct Quiet {
    limit: Duration,
    spent: Duration,
    since: Option<Instant>,
    checked: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Half of the limit: ask whether the caller is there.
    Check,
    /// All of it: say goodbye.
    GiveUp,
}

impl Quiet {
    pub fn new(limit: Duration) -> Self {
        Self { limit, spent: Duration::ZERO, since: None, checked: false }
    }

    /// The caller did something: the ladder starts anew.
    pub fn heard_from_caller(&mut self) {
        self.spent = Duration::ZERO;
        self.since = None;
        self.checked = false;
    }

    /// Takes down whether the call is idle at `now`.
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

    /// When the next step is due, if the call stays idle.
    pub fn deadline(&self) -> Option<Instant> {
        let threshold = if self.checked { self.limit } else { self.limit / 2 };
        Some(self.since? + threshold.saturating_sub(self.spent))
    }

    /// The step that is due at `now`; each comes once.
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
