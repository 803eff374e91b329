//! One session as a machine: client events, audio and the time go in, frames come out.
//!
//! It owns no socket; [`super::connection`] moves its frames.

use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::faults::{Fault, Trouble};
use super::input;
use super::options::RateLimits;
use super::refusal::Refusal;
use super::state::{Due, Ending, Session};

impl Session {
    pub fn handle_text(&mut self, text: &str, now: Instant, scratch: &mut Vec<u8>) {
        self.now = now;
        // A session that was never created answers nothing.
        if !self.stalled && !self.faults.contains(&Fault::NoCreated) {
            input::handle_text(self, text, scratch);
        }
    }

    pub fn handle_binary(&mut self, now: Instant) {
        self.now = now;
        self.refuse(&Refusal::new("invalid_event", "Binary messages are not supported.", None), None);
    }

    pub fn handle_pong(&mut self, now: Instant) {
        self.last_pong = now;
    }

    /// Runs everything that is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(entry) = self.schedule.first_entry()
            && entry.key().0 <= now
            && self.ending.is_none()
        {
            let due = entry.remove();
            self.run(due);
        }
    }

    /// A trouble from outside.
    pub fn handle_strike(&mut self, trouble: Trouble, now: Instant) {
        self.now = now;
        self.strike(trouble);
    }

    /// `line` has been synthesised.
    pub fn handle_speech(&mut self, line: &str, audio: &Bytes, now: Instant) {
        self.now = now;
        self.supply(line, audio);
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn deadline(&self) -> Option<Instant> {
        self.schedule.first_key_value().map(|((at, _), _)| *at)
    }

    fn run(&mut self, due: Due) {
        match due {
            Due::Ping => self.ping(),
            _ if self.stalled => {}
            Due::Step(id) => self.step_response(&id),
            Due::Send(message) => self.outbox.push_back(message),
            Due::Updated => self.updated(),
            Due::RateLimits => {
                let RateLimits { limit, remaining, reset, .. } = self.options().rate_limits;
                let remaining = remaining.unwrap_or(limit.saturating_sub(self.last_input));
                let reset = reset.as_secs_f64();
                self.emit(json!({"type": "rate_limits.updated", "rate_limits":
                    [{"name": "tokens", "limit": limit, "remaining": remaining, "reset_seconds": reset}]}));
            }
            Due::Transcript { item, text, heard_ms } => self.transcribe(&item, &text, heard_ms),
            Due::Idle(armed) => self.idle(armed),
            Due::HostedEnds(item) => self.end_hosted(&item),
            Due::Listed(label) => self.listed(&label),
            Due::Strike(trouble) => self.strike(trouble),
            Due::Trouble(delay) => self.trouble_after(delay),
            Due::SpeechEnds(number) => self.speech_ends(number),
            Due::Expire => self.expire(),
        }
    }

    fn ping(&mut self) {
        if self.now.duration_since(self.last_pong) > self.options().ping * 4 {
            self.ending = Some(Ending::Close(1011, "keepalive ping timeout".to_owned()));
            return;
        }
        let payload = self.letters(4);
        self.outbox.push_back(Message::Ping(payload.into()));
        self.later(self.options().ping, Due::Ping);
    }
}
