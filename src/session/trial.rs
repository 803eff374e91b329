//! Test calls from the console: the same assistants, tickets and sessions, without a telephone company.
//!
//! Such a call is marked as a test in its record. It counts in no limit and in no metric, and takes nobody's place.

use std::sync::Arc;

use jiff::Timestamp;

use super::after::{After, Next};
use super::{Ring, Switchboard, facts, plan_for};
use crate::assistant::CallTime;
use crate::assistant::plan::{Line, OnFailure};
use crate::id::CallSid;
use crate::phone::Party;
use crate::wire::twilio::webhook::{CallRequest, CallStatus, DialStatus};

/// Who tries which assistant, and when.
#[derive(Debug, Clone)]
pub struct Trial {
    pub assistant: String,
    pub caller: Party,
    /// `None`: now.
    pub at: Option<CallTime>,
}

/// The answer to a test call.
pub enum Tried {
    /// Say the recording notice, if there is one, then open a stream with this ticket.
    Stream {
        call: CallSid,
        ticket: String,
        notice: Option<Line>,
    },
    Unknown,
    /// The time is beyond the calendar.
    BadTime,
    Draining,
    /// Too many test calls at once.
    Busy,
    Sorry(OnFailure),
}

impl Switchboard {
    /// Begins a test call.
    pub fn try_out(self: &Arc<Self>, trial: Trial) -> Tried {
        if self.is_draining() {
            return Tried::Draining;
        }
        let Some(assistant) = self.roster.borrow().by_name(&trial.assistant).cloned() else {
            return Tried::Unknown;
        };
        let now = match trial.at {
            Some(at) => match assistant.time(at, Timestamp::now()) {
                Some(now) => Some(now),
                None => return Tried::BadTime,
            },
            None => self.now,
        };
        let called = assistant.numbers().first().cloned().map_or(Party::Withheld, Party::Number);
        let call = CallSid::of_bits(rand::random());
        let request = CallRequest {
            call: call.clone(),
            from: trial.caller,
            to: called,
            status: CallStatus::Up,
            dial_status: None,
        };
        let facts = facts(&request, now);
        let Some(mut plan) = plan_for(&assistant, &facts, &*self.tools) else {
            return Tried::Sorry(assistant.on_failure(&facts));
        };
        plan.test = true;
        match self.open(Arc::new(plan), &request, None) {
            Ring::Stream { ticket, notice } => Tried::Stream { call, ticket, notice },
            Ring::Sorry(on_failure) => Tried::Sorry(on_failure),
            _ => Tried::Busy,
        }
    }

    /// What follows the stream of a test call. `dialed`: how the dialing ended that this asked for; `hung_up`: the call is
    /// over. `None` if the ticket is not one of a test call here; then another machine may know it.
    pub async fn after_trial(
        self: &Arc<Self>,
        ticket: &str,
        dialed: Option<DialStatus>,
        hung_up: bool,
    ) -> Result<After, Option<String>> {
        let opened = self.keys.open(ticket).map_err(|_| None)?;
        match self.registry.is_test(&opened.nonce) {
            Some(true) => {}
            // The telephone company decides, and must get its answers.
            Some(false) => return Err(None),
            None => return Err(self.another(&opened)),
        }
        let request = CallRequest {
            call: opened.call,
            from: Party::Withheld,
            to: Party::Withheld,
            status: if hung_up { CallStatus::Over } else { CallStatus::Up },
            dial_status: dialed,
        };
        let mut after = self.after_stream(ticket, &request).await;
        // A second attempt is for a telephone network that lost the first.
        if matches!(after.next, Next::RingElsewhere) {
            after.next = Next::HangUp;
        }
        Ok(after)
    }
}
