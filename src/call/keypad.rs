//! The keys that the caller presses, gathered into one line for the model: until `#`, a pause, or the limit.

use std::time::{Duration, Instant};

/// How long after the last key the line is complete.
const PAUSE: Duration = Duration::from_millis(1_500);
const MAX_KEYS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Keypad {
    keys: String,
    due: Option<Instant>,
}

impl Keypad {
    /// Adds a key. Returns true if the line is complete.
    pub fn press(&mut self, key: char, now: Instant) -> bool {
        if key != '#' || self.keys.is_empty() {
            self.keys.push(key);
        }
        self.due = Some(now + PAUSE);
        key == '#' || self.keys.len() == MAX_KEYS
    }

    /// Takes the line, complete or not.
    pub fn take(&mut self) -> String {
        self.due = None;
        std::mem::take(&mut self.keys)
    }

    /// When the line is complete if no other key follows.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }
}
