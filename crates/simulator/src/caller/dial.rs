//! What Twilio does on the phone line: it calls a number, and it plays keys.

use std::time::Duration;

use super::options::{DialOutcome, PhoneOptions};
use super::record::{Dialled, PhoneEvent, Pressed};
use super::state::Call;
use super::twiml::Dial;
use super::webhook::{Form, pairs, sid};
use crate::clock::now;

/// Twilio's codes for a `<Dial>` that it rejects.
const BAD_CALLER_ID: u32 = 13_214;
const BAD_NUMBER: u32 = 13_223;

/// A tone and the gap after it. Twilio does not document it; keypads are about as fast.
const TONE: Duration = Duration::from_millis(250);

impl Call {
    /// Plays tones to the line and waits until they have been played.
    pub async fn press_keys(&mut self, digits: &str) {
        let streams = self.record.streams.len();
        self.record.pressed.push(Pressed { at: now(), digits: digits.to_owned(), streams });
        self.emit(PhoneEvent::Pressed(digits.to_owned()));
        let long = digits.chars().map(|key| match key {
            'w' => Duration::from_millis(500),
            'W' => Duration::from_secs(1),
            _ => TONE,
        });
        self.wait(long.sum()).await;
    }

    /// Calls a number; returns the fields for the next request.
    pub async fn dial(&mut self, dial: &Dial) -> Form {
        let mut is_possible = true;
        if !is_e164(&dial.number) {
            self.violation(BAD_NUMBER, "<Dial> without an E.164 number");
            is_possible = false;
        }
        if let Some(shown) = &dial.caller_id {
            let PhoneOptions { from, to, numbers, .. } = &self.options;
            if !is_e164(shown) || !(shown == from || shown == to || numbers.contains(shown)) {
                self.violation(BAD_CALLER_ID, "a callerId that is neither the caller's nor the account's");
                is_possible = false;
            }
        }
        self.emit(PhoneEvent::Dialled(dial.number.clone()));
        let at = now();
        let turn = self.record.dialed.len().min(self.options.dials.len().saturating_sub(1));
        let (rings, lasts) = (Duration::from_secs(dial.timeout), Duration::from_secs(dial.time_limit));
        let (status, after) = match self.options.dials.get(turn) {
            _ if !is_possible => ("failed".to_owned(), Duration::ZERO),
            Some(DialOutcome { status, after }) if status == "completed" => {
                (status.clone(), (*after).min(rings + lasts))
            }
            Some(DialOutcome { status, after }) => (status.clone(), (*after).min(rings)),
            None => ("no-answer".to_owned(), rings),
        };
        let status = if self.wait(after).await { "canceled".to_owned() } else { status };
        let seconds = (now() - at).as_secs();
        self.record.dialed.push(Dialled {
            at,
            number: dial.number.clone(),
            caller_id: dial.caller_id.clone(),
            status: status.clone(),
            streams: self.record.streams.len(),
        });
        let mut extra = pairs(&[("DialCallStatus", &status), ("DialCallSid", &sid("CA"))]);
        if status == "completed" {
            extra.extend(pairs(&[("DialCallDuration", &seconds.to_string())]));
        }
        extra
    }
}

fn is_e164(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or_default();
    (8..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}
