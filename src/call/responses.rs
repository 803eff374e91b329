//! Responses: which one runs, which are dead, and when the next may be asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::call::action::Request;
use crate::id::{ItemId, ResponseId};

/// Dead responses and cut items whose late audio is still recognised. More than a conversation ever has under way.
const REMEMBERED: usize = 64;

/// How long a response may be due before it is asked for once more; twice that, and the model has stalled.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long after it was refused a response is asked for once more.
const PAUSE: Duration = Duration::from_secs(1);

/// What we would have the model do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// Go on: a tool was answered, keys were pressed, or a turn ended that the model does not answer by itself.
    Next,
    Say(Request),
}

impl Ask {
    /// Whether it is said even to a caller who speaks.
    fn has_to_be_said(&self) -> bool {
        matches!(self, Self::Say(Request::Goodbye(_) | Request::Greeting(_)))
    }
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
    /// It repeats a nudge that was refused: the answer may yet come by itself.
    wants_nudge: bool,
    /// But not before this.
    pause: Option<Instant>,
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
            self.wants_nudge = false;
        }
    }

    /// Drops a wish that can wait: the answer that comes by itself knows all that it would have known.
    pub fn answered_anyway(&mut self) {
        self.wanted.take_if(|wanted| !wanted.has_to_be_said());
    }

    /// Nobody is greeted any more.
    pub fn forget_greeting(&mut self) {
        self.wanted.take_if(|wanted| matches!(wanted, Ask::Say(Request::Greeting(_))));
    }

    /// Drops every wish. What was asked for may still come, and is nothing in particular.
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

    /// The wish that may go out now. Nobody talks to a caller who speaks, but to greet them and to say goodbye.
    pub fn take_wish(&mut self, caller_speaks: bool, now: Instant) -> Option<Ask> {
        if self.active.is_some() || self.due.is_some() || self.pause.is_some_and(|until| now < until) {
            return None;
        }
        let ask = self.wanted.take_if(|wanted| !caller_speaks || wanted.has_to_be_said())?;
        self.due = Some(now);
        self.nudged = false;
        self.wants_nudge = false;
        self.asked = Some(ask.clone());
        Some(ask)
    }

    pub fn started(&mut self, response: ResponseId) {
        let before = self.active.take_if(|active| *active != response);
        if let Some(before) = before {
            remember(&mut self.over, before, REMEMBERED);
        }
        self.active = Some(response);
        self.due = None;
        // The answer came by itself after all.
        if std::mem::take(&mut self.wants_nudge) {
            self.wanted = None;
        }
    }

    /// Something of a response came whose start nobody told: a server may leave that out, or it was lost.
    pub fn is_news(&self, response: &ResponseId) -> bool {
        self.active.is_none() && !self.knows(response)
    }

    /// Whether the response runs in the conversation, or did.
    pub fn knows(&self, response: &ResponseId) -> bool {
        self.active.as_ref() == Some(response) || self.is_discarded(response) || self.over.contains(response)
    }

    pub fn ended(&mut self, response: &ResponseId, now: Instant) {
        if self.active.as_ref() == Some(response) {
            self.is_free_from(now);
            self.asked = None;
        }
        remember(&mut self.over, response.clone(), REMEMBERED);
    }

    /// Whether our request has not been answered by a response yet.
    pub fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// None runs any more: one that is due in its stead can begin.
    fn is_free_from(&mut self, now: Instant) {
        self.active = None;
        self.due = self.due.map(|_| now);
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

    /// Whether a request of ours is open.
    pub fn has_asked(&self) -> bool {
        self.due.is_some() && (self.asked.is_some() || self.nudged)
    }

    /// Our request was refused, and no other response runs: it is made once more, after a pause.
    pub fn put_off(&mut self, now: Instant) {
        self.wants_nudge = self.asked.is_none() && self.wanted.is_none();
        self.asked.get_or_insert(Ask::Next);
        self.refused();
        self.pause = Some(now + PAUSE);
    }

    /// Ends a pause that is over.
    pub fn resume(&mut self, now: Instant) {
        self.pause.take_if(|until| *until <= now);
    }

    /// Our request was refused, and is not made again.
    pub fn forget_asked(&mut self) {
        (self.due, self.asked) = (None, None);
    }

    /// Gives up the running response: nobody may hear what still comes of it. It stays the running one until its
    /// end is told. `None` when none runs, or it was given up before.
    pub fn discard_active(&mut self) -> Option<ResponseId> {
        let response = self.active.clone().filter(|response| !self.is_discarded(response))?;
        remember(&mut self.discarded, response.clone(), REMEMBERED);
        Some(response)
    }

    /// Stops waiting for the end of a response that was given up. False when none such runs.
    pub fn forget_discarded(&mut self, now: Instant) -> bool {
        let discarded = self.is_active_discarded();
        if discarded {
            self.is_free_from(now);
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

    /// Whether that can wait until the caller has spoken.
    pub fn can_wait(&self) -> bool {
        self.asked.as_ref().is_some_and(|ask| !ask.has_to_be_said())
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

    /// When a response that is due has taken too long, or one that was put off may be asked for.
    pub fn overdue(&self) -> Option<Instant> {
        let Some(due) = self.due else { return self.pause };
        let waits_once_more = self.nudged || self.was_asked();
        Some(due + if waits_once_more { PATIENCE * 2 } else { PATIENCE })
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
