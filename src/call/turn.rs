//! Responses: which one runs, which are dead, and when the next may be asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::call::action::Request;
use crate::id::{ItemId, ResponseId};

/// Dead responses and cut items whose late audio is still recognised. More than a conversation ever has under way.
const REMEMBERED: usize = 64;

/// How long a response may be due before it is asked for once more; twice that, and the model has stalled.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What we would have the model do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Go on: a tool was answered, keys were pressed, or a turn ended that the model does not answer by itself.
    Next,
    Say(Request),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Responses {
    active: Option<ResponseId>,
    /// Since when one is due that has not started: we asked, or the caller's turn ended.
    due: Option<Instant>,
    /// Asked for, in case it is refused because another runs.
    asked: Option<Ask>,
    /// To be asked for as soon as none runs and none is due.
    wanted: Option<Ask>,
    nudged: bool,
    failures: u32,
    discarded: VecDeque<ResponseId>,
    over: VecDeque<ResponseId>,
    cut: VecDeque<ItemId>,
}

impl Responses {
    /// Remembers a wish. A goodbye is never replaced by another wish.
    pub fn want(&mut self, ask: Ask) {
        if !matches!(self.wanted, Some(Ask::Say(Request::Goodbye(_)))) {
            self.wanted = Some(ask);
        }
    }

    /// Drops a wish to go on: the answer that comes by itself knows all that it would have known.
    pub fn answered_anyway(&mut self) {
        if self.wanted == Some(Ask::Next) {
            self.wanted = None;
        }
    }

    /// Drops every wish.
    pub fn want_nothing(&mut self) {
        self.wanted = None;
        self.asked = None;
    }

    /// The caller's turn is over, and the model answers by itself.
    pub fn expect(&mut self, now: Instant) {
        if self.active.is_none() {
            self.due = Some(now);
            self.asked = None;
            self.nudged = false;
        }
    }

    /// The wish that may go out now. The caller's own turn goes before a plain wish to go on.
    pub fn take_wish(&mut self, caller_speaks: bool, now: Instant) -> Option<Ask> {
        if self.active.is_some() || self.due.is_some() {
            return None;
        }
        if caller_speaks && self.wanted == Some(Ask::Next) {
            return None;
        }
        let ask = self.wanted.take()?;
        self.due = Some(now);
        self.nudged = false;
        self.asked = Some(ask.clone());
        Some(ask)
    }

    pub fn started(&mut self, response: ResponseId) {
        self.active = Some(response);
        self.due = None;
    }

    /// Something of a response came whose start nobody told: a server may leave that out, or it was lost.
    pub fn is_news(&self, response: &ResponseId) -> bool {
        self.active.is_none() && !self.knows(response)
    }

    /// Whether the response runs in the conversation, or did.
    pub fn knows(&self, response: &ResponseId) -> bool {
        self.active.as_ref() == Some(response) || self.is_discarded(response) || self.over.contains(response)
    }

    pub fn ended(&mut self, response: &ResponseId) {
        if self.active.as_ref() == Some(response) {
            self.active = None;
            self.asked = None;
        }
        remember(&mut self.over, response.clone(), REMEMBERED);
    }

    /// Whether our request has not been answered by a response yet.
    pub fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Our request was refused because another response runs: it is wished for again.
    pub fn refused(&mut self) {
        self.due = None;
        if let Some(ask) = self.asked.take()
            && self.wanted.is_none()
        {
            self.wanted = Some(ask);
        }
    }

    /// Gives up the running response: nobody may hear what still comes of it. It stays the running one until its
    /// end is told. `None` when none runs, or it was given up before.
    pub fn discard_active(&mut self) -> Option<ResponseId> {
        let response = self.active.clone().filter(|response| !self.is_discarded(response))?;
        remember(&mut self.discarded, response.clone(), REMEMBERED);
        Some(response)
    }

    /// Stops waiting for the end of a response that was given up. False when none such runs.
    pub fn forget_discarded(&mut self) -> bool {
        let discarded = self.is_active_discarded();
        if discarded {
            self.active = None;
        }
        discarded
    }

    /// Whether the running response was given up.
    pub fn is_active_discarded(&self) -> bool {
        self.active.as_ref().is_some_and(|response| self.is_discarded(response))
    }

    /// The caller speaks again before the answer began: it is due after this turn.
    pub fn caller_goes_on(&mut self) {
        if self.asked.is_none() {
            self.due = None;
        }
    }

    /// A response broke. True when trying once more is worth it.
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

    /// Takes down that an item was cut. False when it already was.
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

    /// Whether the response that is due or runs is one that we asked for.
    pub fn was_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether that is a goodbye.
    pub fn is_goodbye_asked(&self) -> bool {
        matches!(self.asked, Some(Ask::Say(Request::Goodbye(_))))
    }

    /// Whether it says what we told it to, word for word or nearly.
    pub fn is_told_what_to_say(&self) -> bool {
        matches!(self.asked, Some(Ask::Say(_)))
    }

    /// Whether it only tells the caller to wait.
    pub fn is_filler_asked(&self) -> bool {
        self.asked == Some(Ask::Say(Request::Filler))
    }

    /// Drops a wish to tell the caller to wait.
    pub fn forget_filler(&mut self) {
        if self.wanted == Some(Ask::Say(Request::Filler)) {
            self.wanted = None;
        }
    }

    /// None runs, none is due and none is wished for.
    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.due.is_none() && self.wanted.is_none()
    }

    /// None runs and none is due.
    pub fn is_free(&self) -> bool {
        self.active.is_none() && self.due.is_none()
    }

    /// When a response that is due has taken too long.
    pub fn overdue(&self) -> Option<Instant> {
        let waits_once_more = self.nudged || self.was_asked();
        Some(self.due? + if waits_once_more { PATIENCE * 2 } else { PATIENCE })
    }

    /// Whether to ask for it once more: once, and only where the model was to answer by itself.
    pub fn nudge(&mut self) -> bool {
        !self.was_asked() && !std::mem::replace(&mut self.nudged, true)
    }
}

/// Puts it behind what is remembered; at the limit, the oldest is forgotten.
pub(super) fn remember<T>(list: &mut VecDeque<T>, value: T, most: usize) {
    if list.len() == most {
        list.pop_front();
    }
    list.push_back(value);
}
