//! A phone whose stream broke while its call lives: Twilio asks what follows, and a new stream leads back here.

use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Cause, Line, Note};
use super::end::GOODBYE;
use super::speech::What;

/// How long it may take to learn why the phone's socket is gone. Twilio asks within a second, even on a bad day.
const LOST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the new stream may take: longer than its ticket lives, which fails first.
const RETURN_TIMEOUT: Duration = Duration::from_secs(75);

/// See the module.
#[derive(Debug)]
pub(super) struct LostStream {
    /// When the call ends if no stream has come.
    pub until: Instant,
    since: Instant,
    /// The caller did not hear all that was said.
    unheard: bool,
}

impl LostStream {
    pub fn returning(&mut self, now: Instant) {
        self.until = now + RETURN_TIMEOUT;
    }

    /// The server shuts down. It waits for the phone no longer than for a goodbye.
    pub fn draining(&mut self, now: Instant) {
        self.until = self.until.min(now + GOODBYE);
    }
}

impl Call {
    /// The phone's socket is gone. Nobody hears what was on its way, or what the model says until a new stream comes.
    pub(super) fn stream_lost(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.lost.is_some() {
            return;
        }
        let unheard = !self.playback.is_quiet() || !self.speech.is_free();
        self.lost = Some(LostStream { until: now + LOST_TIMEOUT, since: now, unheard });
        if self.started.is_none() {
            return;
        }
        let interruptions = self.tally.interruptions;
        self.interrupt(false, now, out);
        self.tally.interruptions = interruptions; // The caller did not interrupt.
        self.playback.disconnected();
        self.last_from_caller = None;
    }

    /// The phone is connected again by a new stream. What it did not hear is said again.
    pub(super) fn stream_again(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(lost) = self.lost.take() else { return };
        out.push(Action::Note(Note::Reconnected {
            cause: Cause::Stream,
            worked: true,
            silence: if lost.unheard { now.saturating_duration_since(lost.since) } else { Duration::ZERO },
        }));
        self.last_from_caller = Some(now);
        self.last_from_model = Some(now);
        out.push(Action::MarkForCaller(self.playback.mark(now)));
        if let Some(ending) = &mut self.ending {
            ending.deadline = now + GOODBYE;
            let goodbye = What::Goodbye(ending.reason);
            self.speech.forget_goodbye();
            self.ask_for_goodbye_if_unsaid(out);
            return self.speech.want(goodbye);
        }
        if self.speech.has(|what| *what == What::Greeting) {
            return; // Nothing has been said yet.
        }
        self.tell_model(Line::StreamBroke { unheard: lost.unheard }, out);
        self.ask_to_go_on();
    }
}
