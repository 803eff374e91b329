//! A clock that can stand still.

use std::time::{Duration, Instant};

/// Adds up the time during which something holds.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    spent: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    /// Starts again from zero.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// One that has counted `spent`, and stands still.
    pub fn after(spent: Duration) -> Self {
        Self { spent, since: None }
    }

    /// Records whether it runs from `now` on.
    pub fn observe(&mut self, runs: bool, now: Instant) {
        match (runs, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(_)) => {
                self.spent = self.spent(now);
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// How much time it has counted.
    pub fn spent(&self, now: Instant) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When it will have counted `total`. `None` while it stands still.
    pub fn reaches(&self, total: Duration) -> Option<Instant> {
        Some(self.since? + total.saturating_sub(self.spent))
    }
}
