//! The keys that the caller presses, gathered into one line for the model: until the last key, a pause, or as many as the
//! file says.

use std::time::Instant;

use crate::assistant::plan::Dtmf;

#[derive(Debug, Default)]
pub(super) struct Keypad {
    keys: String,
    due: Option<Instant>,
    /// A line became complete by its length. The key that ends one may follow out of habit, until then.
    full_until: Option<Instant>,
}

impl Keypad {
    /// Whether this key only ends a line that was complete by its length.
    pub fn is_late_end(&mut self, key: char, rule: &Dtmf, now: Instant) -> bool {
        self.full_until.take().is_some_and(|until| rule.end == Some(key) && now < until)
    }

    /// Adds a key. Returns true if the line is complete.
    pub fn press(&mut self, key: char, rule: &Dtmf, now: Instant) -> bool {
        let is_last = rule.end == Some(key);
        if !is_last || self.keys.is_empty() {
            self.keys.push(key);
        }
        self.due = Some(now + rule.wait);
        let is_full = self.keys.len() >= rule.length;
        self.full_until = (is_full && !is_last).then_some(now + rule.wait);
        is_last || is_full
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
