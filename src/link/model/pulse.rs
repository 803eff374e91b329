//! Whether the model still answers: what it sends shows it, and a ping asks for it.

use std::time::{Duration, Instant};

/// How long the model may be silent before a ping, while no audio flows to it.
const PING_AFTER: Duration = Duration::from_secs(15);
/// The same while the caller's audio flows: then somebody waits for an answer.
const PING_AFTER_IN_TALK: Duration = Duration::from_secs(4);
/// How long the answer to a ping may take. Any frame is an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug)]
pub(super) struct Pulse {
    last_heard: Instant,
    pinged: Option<Instant>,
    audio_flows: bool,
}

/// What to do about a silent model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Nothing,
    Ping,
    /// It did not answer the last ping.
    Gone,
}

impl Pulse {
    pub fn new(now: Instant) -> Self {
        Self { last_heard: now, pinged: None, audio_flows: false }
    }

    /// The model sent something; or nobody reads what it sends, so that its silence proves nothing.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.pinged = None;
    }

    /// The caller's audio flows to the model.
    pub fn audio_flows(&mut self) {
        self.audio_flows = true;
    }

    /// The process stood still, so the model may not have had a chance.
    pub fn stood_still(&mut self, time: Duration, now: Instant) {
        self.last_heard = now.min(self.last_heard + time);
        self.pinged = self.pinged.map(|at| now.min(at + time));
    }

    /// When [`Self::check`] is next due.
    pub fn due(&self) -> Instant {
        let patience = if self.audio_flows { PING_AFTER_IN_TALK } else { PING_AFTER };
        self.pinged.map_or(self.last_heard + patience, |pinged| pinged + ANSWER_WITHIN)
    }

    pub fn check(&mut self, now: Instant) -> Check {
        match self.due() <= now {
            true if self.pinged.is_some() => Check::Gone,
            true => {
                self.pinged = Some(now);
                Check::Ping
            }
            false => Check::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_half_open_connection_is_found_in_eight_seconds() {
        let began = Instant::now();
        for (audio_flows, ping_after) in [(true, 4), (false, 15)] {
            let mut pulse = Pulse::new(began);
            if audio_flows {
                pulse.audio_flows();
            }
            let ping = began + secs(ping_after);
            assert_eq!(pulse.check(ping - Duration::from_millis(1)), Check::Nothing);
            assert_eq!((pulse.due(), pulse.check(ping)), (ping, Check::Ping));
            assert_eq!(pulse.check(ping + secs(3)), Check::Nothing, "one ping is enough");
            assert_eq!((pulse.due(), pulse.check(ping + secs(4))), (ping + secs(4), Check::Gone));
            pulse.heard(ping + secs(4));
            assert_eq!(pulse.check(ping + secs(5)), Check::Nothing, "any frame is an answer");
            assert_eq!(pulse.due(), ping + secs(4 + ping_after));
        }
    }

    #[test]
    fn a_process_that_stood_still_gives_the_model_its_time() {
        let began = Instant::now();
        let mut pulse = Pulse::new(began);
        pulse.audio_flows();
        assert_eq!(pulse.check(began + secs(4)), Check::Ping);
        pulse.stood_still(secs(60), began + secs(65));
        assert_eq!(pulse.due(), began + secs(68), "a second had passed, and three are left");
        // What came during the standstill was read just now.
        pulse.heard(began + secs(65));
        pulse.stood_still(secs(60), began + secs(65));
        assert_eq!(pulse.due(), began + secs(69), "the future was not heard");
    }
}
