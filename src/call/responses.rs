//! Responses: which one runs, which are discarded, and when the next may be requested.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::action::Request;
use crate::id::{ItemId, ResponseId};

/// Discarded responses and cut items whose late audio is recognised; far more than are ever on their way.
const REMEMBERED: usize = 64;

/// How long a response may be due before we ask again. After twice that, the model has stalled.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long after a refusal a response is requested again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What we ask the model for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// The next response: a tool was answered, keys were pressed, or a turn ended that the model does not answer by
    /// itself.
    Next,
    Say(Request),
}

impl Ask {
    /// Whether it is said even while the caller speaks.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Say(Request::Goodbye(_) | Request::Greeting(_)))
    }

    fn is_goodbye(&self) -> bool {
        matches!(self, Self::Say(Request::Goodbye(_)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Responses {
    active: Option<ResponseId>,
    /// Since when a response is due that has not started: we asked, or the caller's turn ended.
    due: Option<Instant>,
    /// What we asked for, in case it is refused because another response runs.
    asked: Option<Ask>,
    /// To be asked for as soon as no response runs or is due.
    wanted: Option<Ask>,
    /// `wanted` repeats a refused nudge: the answer may still come by itself.
    wants_nudge: bool,
    /// `wanted` must wait until then.
    pause: Option<Instant>,
    /// We asked again because the model did not answer by itself.
    nudged: bool,
    failures: u32,
    discarded: VecDeque<ResponseId>,
    over: VecDeque<ResponseId>,
    cut: VecDeque<ItemId>,
}

impl Responses {
    /// Asks as soon as possible. Nothing replaces a goodbye.
    pub fn want(&mut self, ask: Ask) {
        if !self.wanted.as_ref().is_some_and(Ask::is_goodbye) {
            self.wanted = Some(ask);
            self.wants_nudge = false;
        }
    }

    /// The model answers by itself: forgets what its answer covers.
    pub fn want_only_urgent(&mut self) {
        self.wanted.take_if(|wanted| !wanted.is_urgent());
    }

    pub fn forget_greeting(&mut self) {
        self.wanted.take_if(|wanted| matches!(wanted, Ask::Say(Request::Greeting(_))));
    }

    /// A response that was asked for may still come, but then counts as an ordinary one.
    pub fn want_nothing(&mut self) {
        self.wanted = None;
        self.wants_nudge = false;
        self.asked = self.asked.take().map(|_| Ask::Next);
    }

    /// The caller's turn is over, and the model answers by itself.
    pub fn expect(&mut self, now: Instant) {
        if self.active.is_none() || self.is_active_discarded() {
            self.due = Some(now);
            self.asked = None;
            self.nudged = false;
        }
    }

    /// What is to be asked for at this moment. While the caller speaks, only a greeting or a goodbye is.
    pub fn take_wanted(&mut self, caller_speaks: bool, now: Instant) -> Option<Ask> {
        if !self.is_free() || self.pause.is_some_and(|until| now < until) {
            return None;
        }
        let ask = self.wanted.take_if(|wanted| !caller_speaks || wanted.is_urgent())?;
        self.due = Some(now);
        self.nudged = false;
        self.wants_nudge = false;
        self.asked = Some(ask.clone());
        Some(ask)
    }

    pub fn started(&mut self, response: ResponseId) {
        if let Some(previous) = self.active.take_if(|active| *active != response) {
            remember(&mut self.over, previous, REMEMBERED);
        }
        self.active = Some(response);
        self.due = None;
        // The answer came by itself after all.
        if std::mem::take(&mut self.wants_nudge) {
            self.wanted = None;
        }
    }

    /// Whether this response began without an event that said so: the event was lost, or the server sends none.
    pub fn is_unannounced(&self, response: &ResponseId) -> bool {
        self.active.is_none() && !self.knows(response)
    }

    /// Whether the response runs or ran in the conversation.
    pub fn knows(&self, response: &ResponseId) -> bool {
        self.active.as_ref() == Some(response) || self.is_discarded(response) || self.over.contains(response)
    }

    pub fn ended(&mut self, response: &ResponseId, now: Instant) {
        if self.active.as_ref() == Some(response) {
            self.clear_active(now);
            self.asked = None;
        }
        remember(&mut self.over, response.clone(), REMEMBERED);
    }

    /// Whether a response is due that has not started.
    pub fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// A response that is due in place of the active one can begin.
    fn clear_active(&mut self, now: Instant) {
        self.active = None;
        self.due = self.due.map(|_| now);
    }

    /// Our request was refused because another response runs: it is wanted again.
    pub fn refused(&mut self) {
        self.due = None;
        if let Some(ask) = self.asked.take()
            && self.wanted.is_none()
        {
            self.wanted = Some(ask);
        }
    }

    /// Whether a request of ours is open.
    pub fn has_asked(&self) -> bool {
        self.due.is_some() && (self.asked.is_some() || self.nudged)
    }

    /// Our request was refused although no other response runs: it is repeated after a pause.
    pub fn retry_later(&mut self, now: Instant) {
        self.wants_nudge = self.asked.is_none() && self.wanted.is_none();
        self.asked.get_or_insert(Ask::Next);
        self.refused();
        self.pause = Some(now + RETRY_PAUSE);
    }

    /// Ends a pause that is over.
    pub fn resume(&mut self, now: Instant) {
        self.pause.take_if(|until| *until <= now);
    }

    /// Our request was refused, and is not repeated.
    pub fn forget_asked(&mut self) {
        (self.due, self.asked) = (None, None);
    }

    /// Discards the active response: none of its audio may be heard from here on. It stays active until its end is
    /// reported. `None` if none is active, or it was discarded before.
    pub fn discard_active(&mut self) -> Option<ResponseId> {
        let response = self.active.clone().filter(|response| !self.is_discarded(response))?;
        remember(&mut self.discarded, response.clone(), REMEMBERED);
        Some(response)
    }

    /// Stops waiting for the end of a discarded response. False if none is active.
    pub fn forget_discarded(&mut self, now: Instant) -> bool {
        let discarded = self.is_active_discarded();
        if discarded {
            self.clear_active(now);
        }
        discarded
    }

    pub fn is_active_discarded(&self) -> bool {
        self.active.as_ref().is_some_and(|response| self.is_discarded(response))
    }

    /// The caller speaks again before the answer began: it is due after this turn.
    pub fn caller_speaks_again(&mut self) {
        if self.asked.is_none() {
            self.due = None;
        }
    }

    /// A response failed. True if it is worth another try.
    pub fn failed(&mut self) -> bool {
        self.failures += 1;
        self.failures == 1
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn is_discarded(&self, response: &ResponseId) -> bool {
        self.discarded.contains(response)
    }

    /// Records that an item was cut. False if it already was.
    pub fn cut(&mut self, item: &ItemId) -> bool {
        if self.cut.contains(item) {
            return false;
        }
        remember(&mut self.cut, item.clone(), REMEMBERED);
        true
    }

    pub fn active(&self) -> Option<&ResponseId> {
        self.active.as_ref()
    }

    /// Whether we asked for the response that is due or active.
    pub fn was_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether we asked for it, and it can wait until the caller has spoken.
    pub fn can_wait(&self) -> bool {
        self.asked.as_ref().is_some_and(|ask| !ask.is_urgent())
    }

    /// Whether it is a goodbye.
    pub fn is_goodbye_asked(&self) -> bool {
        self.asked.as_ref().is_some_and(Ask::is_goodbye)
    }

    /// Whether we dictated, more or less, what it says.
    pub fn is_dictated(&self) -> bool {
        matches!(self.asked, Some(Ask::Say(_)))
    }

    /// Whether it only tells the caller to wait.
    pub fn is_filler_asked(&self) -> bool {
        self.asked == Some(Ask::Say(Request::Filler))
    }

    pub fn forget_filler(&mut self) {
        self.wanted.take_if(|wanted| *wanted == Ask::Say(Request::Filler));
    }

    /// None is active, due or wanted.
    pub fn is_idle(&self) -> bool {
        self.is_free() && self.wanted.is_none()
    }

    /// None is active or due.
    pub fn is_free(&self) -> bool {
        self.active.is_none() && self.due.is_none()
    }

    /// When a response that is due is overdue, or the pause before a retry ends.
    pub fn overdue(&self) -> Option<Instant> {
        let Some(due) = self.due else { return self.pause };
        let last_chance = self.nudged || self.was_asked();
        Some(due + if last_chance { RESPONSE_TIMEOUT * 2 } else { RESPONSE_TIMEOUT })
    }

    /// Whether to ask for the overdue response: once, and only if the model was to answer by itself.
    pub fn nudge(&mut self) -> bool {
        !self.was_asked() && !std::mem::replace(&mut self.nudged, true)
    }
}

/// Appends a value; at the limit, the oldest is forgotten.
pub(super) fn remember<T>(list: &mut VecDeque<T>, value: T, limit: usize) {
    if list.len() == limit {
        list.pop_front();
    }
    list.push_back(value);
}
