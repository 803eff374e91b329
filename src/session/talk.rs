//! What a session holds while it lasts, and how its parts end.

use std::time::{Duration, Instant};

use super::model::Model;
use super::phone::Phone;
use crate::call::{Action, Call, EndReason};
use crate::link::caller::{NotStarted, Socket};

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
    /// Another machine serves the call.
    GivenUp,
    /// Twilio reports that the stream ended before it came. Holds why, for the log.
    NeverCame(&'static str),
    /// The ticket is too old.
    Expired,
    NotStarted(NotStarted, Box<Socket>),
}
