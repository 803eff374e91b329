//! The keys that the caller presses, gathered into one line for the model: until the last key, a pause, or as many as the
//! file says.

use std::time::Instant;

use crate::assistant::plan::Dtmf;

#[derive(Debug, Default)]
pub(super) struct Keypad {
    keys: String,
    due: Option<Instant>,
}

impl Keypad {
    /// Adds a key. Returns true if the line is complete.
    pub fn press(&mut self, key: char, rule: &Dtmf, now: Instant) -> bool {
        let is_last = rule.end == Some(key);
        if !is_last || self.keys.is_empty() {
            self.keys.push(key);
        }
        self.due = Some(now + rule.wait);
        is_last || self.keys.len() >= rule.length
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
