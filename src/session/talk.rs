//! What a session holds while it lasts, and how its parts end.

use std::time::{Duration, Instant};

use super::input::Input;
use super::model::Model;
use super::phone::{Phone, PhoneStep};
use crate::call::{Action, Call, EndReason, Event};
use crate::link;
use crate::link::caller::{CallerStep, NotStarted, Socket};

/// A conversation: the call, and both its ends.
pub(super) struct Talk<'a> {
    pub call: Call,
    pub phone: Phone,
    pub model: &'a mut Model,
    /// Not carried out yet.
    pub actions: Vec<Action>,
}

impl Talk<'_> {
    /// The process stood still, which is not the fault of either end.
    pub fn stood_still(&mut self, time: Duration) {
        self.phone.with(|line| line.stood_still(time));
        self.model.each(|link| link.stood_still(time));
    }

    /// When the caller's frame was read, if this is one.
    pub fn heard_at(&mut self, input: &Input) -> Option<Instant> {
        match input {
            Input::Phone(PhoneStep::Caller(CallerStep::Event(Event::CallerAudio(_)))) => {
                self.phone.line()?.heard_at()
            }
            _ => None,
        }
    }

    /// Whether anything is due at this time of the call.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let (in_call, outside) = self.deadlines();
        in_call.is_some_and(|due| due <= now) || outside.is_some_and(|due| due <= link::now())
    }

    /// When something is due: in the call's time, and in the machine's.
    pub fn deadlines(&mut self) -> (Option<Instant>, Option<Instant>) {
        let call = self.call.deadline().map(|(due, _)| due);
        let phone = self.phone.line().and_then(|line| line.deadline());
        (call, phone.into_iter().chain(self.model.deadline()).min())
    }
}

/// How a conversation ended.
pub(super) enum Over {
    Ended(EndReason),
    /// The phone did not come back. Its socket, if it came but did not start.
    NotBack(Option<Box<Socket>>),
    GivenUp,
}

/// Why there is no stream.
pub(super) enum Absent {
    HungUp,
    /// The owner ended the call.
    OperatorEnded,
    /// Another machine serves the call.
    GivenUp,
    /// Twilio reports that the stream ended before it came. Holds why, for the log.
    NeverCame(&'static str),
    /// The ticket is too old.
    Expired,
    NotStarted(NotStarted, Box<Socket>),
}
