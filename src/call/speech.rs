//! What the assistant is to say, in one lifecycle: an *utterance* is wanted, asked for, and begun; then it is heard, cut
//! or refused.
//!
//! Each stage has a place here. At most one utterance is asked for and at most one is being made, because the model
//! makes one response at a time. A refused utterance is wanted again. A cut one is forgotten, but its response counts as
//! running until the model reports its end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::action::Request;
use super::end_reason::EndReason;
use super::event::Origin;
use crate::id::{ItemId, ResponseId};

/// Ended responses and cut items whose late audio is recognised; far more than are ever on their way.
const REMEMBERED: usize = 64;

/// What an utterance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The next response: a turn ended, keys were pressed, or a tool was answered.
    Answer,
    Greeting,
    /// That the caller is transferred.
    Announcement,
    Goodbye(EndReason),
    /// The rest of an answer that broke off.
    GoOn,
    /// Something that needs instructions of its own.
    Say(Request),
}

impl What {
    /// The same for a session that has nothing but the conversation: not what another one wrote and did not say.
    pub fn in_another_session(self) -> Self {
        match self {
            Self::Say(Request::SayAloud) => Self::Answer,
            other => other,
        }
    }

    /// Whether it is said even while the caller speaks.
    fn is_urgent(&self) -> bool {
        matches!(self, Self::Goodbye(_) | Self::Greeting)
    }

    /// Whether we dictate, more or less, what it says.
    pub fn is_dictated(&self) -> bool {
        !matches!(self, Self::Answer | Self::Announcement | Self::GoOn)
    }

    pub fn is_goodbye(&self) -> bool {
        matches!(self, Self::Goodbye(_))
    }

    /// Whether it only tells the caller to wait.
    pub fn is_filler(&self) -> bool {
        *self == Self::Say(Request::Filler)
    }

    /// Whether something follows once it is heard: the model takes turns, the phone is sent away, or the call ends.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Self::Greeting | Self::Announcement | Self::Goodbye(_))
    }
}

#[derive(Debug, Default)]
pub(super) struct Speech {
    /// To be asked for, in this order, as soon as no response runs or is due.
    wanted: Vec<Wanted>,
    /// Nothing is asked for before this time.
    pause: Option<Instant>,
    /// Asked for, or expected from the model by itself.
    due: Option<Due>,
    /// How many requests this session got, and up to which of them all are answered: one that begins again is a repetition.
    asked: u64,
    answered: u64,
    /// Begun, and still being made.
    running: Option<Running>,
    /// What began last was asked for twice, so that it may begin twice.
    twice: bool,
    /// Made completely, and awaited: something follows once they are heard.
    made: Vec<What>,
    /// The last response that ended had spoken.
    spoke_last: bool,
    /// Failures in a row.
    failures: u32,
    /// Responses that ended, and whether they were cut.
    past: VecDeque<(ResponseId, bool)>,
    cut_items: VecDeque<ItemId>,
}

#[derive(Debug)]
struct Wanted {
    what: What,
    /// The answer may still come by itself.
    may_come: bool,
}

#[derive(Debug)]
struct Due {
    what: What,
    since: Instant,
    /// The model begins it without a request.
    by_itself: bool,
    /// We asked for it all the same, because it did not come.
    nudged: bool,
    /// We asked this session for it twice, or it may have begun by itself as well.
    twice: bool,
}

/// An utterance whose response is being made.
#[derive(Debug)]
pub(super) struct Running {
    response: ResponseId,
    pub what: What,
    /// We asked for it.
    pub asked: bool,
    /// We asked for it twice, so the second request may be refused.
    nudged: bool,
    /// It is the second answer to what we asked for twice.
    pub is_again: bool,
    /// Audio that the caller can hear has been queued for the phone.
    pub spoke: bool,
    /// How many bytes of silence it ends with so far.
    pub silence: u64,
    /// None of it may be heard any more.
    cut: bool,
}

impl Running {
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether it can wait until the caller has spoken.
    pub fn can_wait(&self) -> bool {
        self.asked && !self.what.is_urgent()
    }
}

impl Speech {
    // ── wanted ──

    /// Wants it as soon as possible. It replaces whatever else is wanted, except that a greeting stays before it, and that
    /// nothing replaces a goodbye.
    pub fn want(&mut self, what: What) {
        if self.wanted.iter().any(|wanted| wanted.what.is_goodbye()) {
            return;
        }
        let goodbye = what.is_goodbye();
        self.wanted.retain(|wanted| wanted.what == What::Greeting && what != What::Greeting && !goodbye);
        self.wanted.push(Wanted { what, may_come: false });
    }

    /// No longer wants what `which` selects.
    pub fn forget_wanted(&mut self, which: impl Fn(&What) -> bool) {
        self.wanted.retain(|wanted| !which(&wanted.what));
    }

    /// The model answers by itself: forgets what its answer covers. A greeting would come too late.
    pub fn forget_covered(&mut self) {
        self.forget_wanted(|what| !what.is_goodbye());
    }

    /// A response that was asked for may still come, but then counts as an ordinary one.
    pub fn want_nothing(&mut self) {
        self.wanted.clear();
        self.made.clear();
        if let Some(due) = &mut self.due {
            due.what = What::Answer;
        }
    }

    // ── asked for ──

    /// The caller's turn is over, and the model answers by itself.
    pub fn expect(&mut self, now: Instant) {
        if self.running.as_ref().is_none_or(Running::is_cut) {
            self.due =
                Some(Due { what: What::Answer, since: now, by_itself: true, nudged: false, twice: false });
        }
    }

    /// The model will not answer by itself.
    pub fn expect_nothing(&mut self) {
        self.due.take_if(|due| due.by_itself);
    }

    /// What is to be asked for at this moment. While the caller speaks, only a greeting or a goodbye is.
    pub fn ask(&mut self, caller_speaks: bool, now: Instant) -> Option<What> {
        if !self.is_free() || self.pause.is_some_and(|until| now < until) {
            return None;
        }
        let next = self.wanted.first().filter(|wanted| !caller_speaks || wanted.what.is_urgent())?;
        let what = next.what.clone();
        self.wanted.remove(0);
        self.asked += 1;
        self.due =
            Some(Due { what: what.clone(), since: now, by_itself: false, nudged: false, twice: false });
        Some(what)
    }

    /// Since when something is due that was not asked for again. `None` while another response keeps it from beginning.
    pub fn nudge_since(&self) -> Option<Instant> {
        let due = self.due.as_ref().filter(|due| !due.nudged && self.running.is_none())?;
        Some(due.since)
    }

    /// What is due and does not come: it is asked for again, once.
    pub fn nudge(&mut self) -> Option<What> {
        let due = self.due.as_mut().filter(|due| !due.nudged)?;
        (due.nudged, due.twice) = (true, true);
        self.asked += 1;
        Some(due.what.clone())
    }

    /// A request was refused because another response runs. If it was ours, it is wanted again: `certain` says so, even if
    /// the other response looks like the one that we asked for.
    pub fn refused(&mut self, certain: bool) {
        self.twice = false;
        if let Some(due) = self.due.take_if(|due| !due.by_itself) {
            self.want_again(due.what, false);
        } else if let Some(running) = self.running.as_mut().filter(|it| certain && it.asked && !it.nudged) {
            running.asked = false;
            let what = std::mem::replace(&mut running.what, What::Answer);
            self.want_again(what, false);
        }
    }

    /// Wants it, but not before `pause` has passed.
    pub fn want_later(&mut self, what: What, pause: Duration, now: Instant) {
        self.want_again(what, false);
        self.pause = Some(now + pause).filter(|_| !pause.is_zero());
    }

    /// Our request was refused although no other response runs: it is repeated after a pause.
    pub fn retry_later(&mut self, pause: Duration, now: Instant) {
        if let Some(due) = self.due.take() {
            self.want_again(due.what, due.by_itself);
        }
        self.pause = Some(now + pause);
    }

    /// Asks for nothing before `pause` has passed.
    pub fn wait(&mut self, pause: Duration, now: Instant) {
        self.pause = Some(now + pause);
    }

    /// Wants an utterance again that was refused, unless something else has taken its place.
    fn want_again(&mut self, what: What, may_come: bool) {
        if what == What::Greeting || self.wanted.is_empty() {
            self.wanted.insert(0, Wanted { what, may_come });
        }
    }

    /// Our request was refused, and is not repeated.
    pub fn forget_asked(&mut self) {
        self.due = None;
    }

    /// Ends a pause that is over.
    pub fn resume(&mut self, now: Instant) {
        self.pause.take_if(|until| *until <= now);
    }

    /// The caller speaks again before the answer began: it is due after this turn. One that we asked for may still begin.
    pub fn caller_speaks_again(&mut self) {
        self.due.take_if(|due| due.by_itself && !due.nudged);
    }

    // ── begun ──

    /// A response has begun. What we asked for stays due if the model began to answer by itself.
    pub fn begun(&mut self, response: ResponseId, origin: Origin) -> &Running {
        if let Some(previous) = self.running.take_if(|running| running.response != response) {
            self.remember(previous.response, previous.cut);
        }
        let cut = self.is_cut(&response);
        let was_twice = std::mem::take(&mut self.twice);
        let is_again = match origin {
            Origin::Request(number) => number <= self.answered,
            Origin::Model | Origin::Unknown => was_twice && self.due.is_none(),
        };
        let due = self.due.take_if(|due| !is_again && (due.by_itself || origin != Origin::Model));
        let (what, asked, nudged) = match due {
            Some(due) => {
                self.twice = due.twice;
                (due.what, !due.by_itself || due.nudged, due.nudged)
            }
            None => (What::Answer, false, false),
        };
        if asked {
            self.answered = self.asked;
        }
        // The answer came by itself after all.
        self.wanted.retain(|wanted| !wanted.may_come);
        self.running.insert(Running {
            response,
            what,
            asked,
            nudged,
            is_again,
            spoke: false,
            silence: 0,
            cut,
        })
    }

    /// The response that runs is the announcement of a transfer, whether it was asked for as such or not.
    pub fn begins_announcement(&mut self) {
        if let Some(running) = self.running.as_mut().filter(|running| running.what == What::Answer) {
            running.what = What::Announcement;
        }
    }

    /// Audio of the response came: `bytes`, if they are silent.
    pub fn spoke(&mut self, response: &ResponseId, silence: Option<u64>) {
        match (self.running.as_mut().filter(|running| running.response == *response), silence) {
            (Some(running), Some(bytes)) => running.silence += bytes,
            (Some(running), None) => (running.spoke, running.silence) = (true, 0),
            (None, None) => self.spoke_last = true,
            (None, Some(_)) => {}
        }
    }

    /// A response has ended. Returns the utterance, if it ran and was not cut.
    pub fn ended(&mut self, response: &ResponseId, now: Instant) -> Option<Running> {
        let Some(ended) = self.running.take_if(|running| running.response == *response) else {
            if !self.knows(response) {
                self.remember(response.clone(), false);
            }
            return None;
        };
        // What is due in place of it can begin.
        self.due.iter_mut().for_each(|due| due.since = now);
        self.remember(ended.response.clone(), ended.is_cut());
        self.spoke_last = ended.spoke;
        if ended.cut {
            self.made(ended.what);
            return None;
        }
        Some(ended)
    }

    /// Cuts the running utterance: none of its audio may be heard from here on. `None` if none runs, or it was cut before.
    pub fn cut(&mut self) -> Option<ResponseId> {
        let running = self.running.as_mut().filter(|running| !running.cut)?;
        running.cut = true;
        Some(running.response.clone())
    }

    /// Stops waiting for the end of a cut response.
    pub fn forget_cut(&mut self) {
        if let Some(cut) = self.running.take_if(|running| running.is_cut()) {
            self.remember(cut.response, true);
            self.made(cut.what);
        }
    }

    /// Records that an item was cut. False if it already was.
    pub fn cut_item(&mut self, item: &ItemId) -> bool {
        if self.cut_items.contains(item) {
            return false;
        }
        remember(&mut self.cut_items, item.clone(), REMEMBERED);
        true
    }

    fn remember(&mut self, response: ResponseId, cut: bool) {
        remember(&mut self.past, (response, cut), REMEMBERED);
    }

    // ── sessions ──

    /// The session is gone, and its responses with it. What was owed is wanted again.
    pub fn session_gone(&mut self) {
        (self.past, self.cut_items) = Default::default();
        self.pause = None;
        self.twice = false;
        (self.asked, self.answered) = (0, 0);
        if let Some(due) = self.due.take() {
            self.want_again(due.what, false);
        }
        for wanted in &mut self.wanted {
            wanted.may_come = false;
            wanted.what = std::mem::replace(&mut wanted.what, What::Answer).in_another_session();
        }
        let Some(running) = self.running.take().filter(|running| !running.cut) else { return };
        match running.what {
            what if !running.spoke => self.want_again(what.in_another_session(), false),
            what if what.is_goodbye() => self.want_again(what, false),
            What::Announcement => self.made(What::Announcement),
            what if what.is_filler() => {}
            _ => self.want_again(What::GoOn, false),
        }
    }

    /// Another session was asked for this, and has begun it.
    pub fn takes_over(&mut self, what: What, now: Instant) {
        self.forget_wanted(|wanted| *wanted == what);
        self.asked = 1;
        self.due = Some(Due { what, since: now, by_itself: false, nudged: true, twice: false });
    }

    /// What is owed next.
    pub fn owed(&self) -> Option<What> {
        let running = self.running.as_ref().filter(|running| !running.cut);
        let running = running.map(|it| if it.spoke { What::GoOn } else { it.what.clone() });
        let due = self.due.as_ref().map(|due| due.what.clone());
        running.or(due).or_else(|| self.wanted.first().map(|wanted| wanted.what.clone()))
    }

    /// Whether anything is owed.
    pub fn owes(&self) -> bool {
        self.due.is_some()
            || !self.wanted.is_empty()
            || self.running.as_ref().is_some_and(|running| !running.cut)
    }

    // ── heard ──

    /// What is or was being said counts as `what`, such as the goodbye of a model that then ends the call.
    pub fn count_as(&mut self, what: What) {
        match self.running.as_mut().filter(|running| !running.cut && running.spoke) {
            Some(running) => running.what = what,
            None => self.made(what),
        }
    }

    /// It is made completely: its response has ended, or a recording plays.
    pub fn made(&mut self, what: What) {
        if what.is_awaited() {
            self.made.push(what);
        }
    }

    /// Nothing waits for it any more: it is heard, or the caller spoke over it.
    pub fn forget_made(&mut self, which: impl Fn(&What) -> bool) {
        self.made.retain(|what| !which(what));
    }

    /// The call goes on: what was said was no goodbye.
    pub fn forget_goodbye(&mut self) {
        self.forget_made(What::is_goodbye);
        if let Some(running) = self.running.as_mut().filter(|running| running.what.is_goodbye()) {
            running.what = What::Answer;
        }
    }

    /// The caller stays: nothing that is said sends the phone away.
    pub fn forget_announcement(&mut self) {
        let announces = |what: &What| *what == What::Announcement;
        self.forget_wanted(announces);
        self.forget_made(announces);
        for what in [self.due.as_mut().map(|due| &mut due.what), self.running.as_mut().map(|it| &mut it.what)]
        {
            if let Some(what) = what.filter(|what| announces(what)) {
                *what = What::Answer;
            }
        }
    }

    /// Whether it has begun or is made completely.
    pub fn has_begun(&self, which: impl Fn(&What) -> bool) -> bool {
        let running = self.running.as_ref().filter(|running| !running.is_cut());
        running.is_some_and(|running| which(&running.what)) || self.made.iter().any(which)
    }

    /// Whether it is made completely; if nothing plays, it is heard.
    pub fn is_made(&self, which: impl Fn(&What) -> bool) -> bool {
        self.is_free() && self.made.iter().any(which)
    }

    /// Whether it is at any stage before it is heard, cut or dropped.
    pub fn has(&self, which: impl Fn(&What) -> bool) -> bool {
        self.wanted.iter().any(|wanted| which(&wanted.what))
            || self.due.as_ref().is_some_and(|due| which(&due.what))
            || self.has_begun(which)
    }

    // ── questions ──

    /// The running utterance, cut or not.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The running response, cut or not.
    pub fn active(&self) -> Option<&ResponseId> {
        self.running.as_ref().map(|running| &running.response)
    }

    pub fn is_active_cut(&self) -> bool {
        self.running.as_ref().is_some_and(Running::is_cut)
    }

    pub fn is_cut(&self, response: &ResponseId) -> bool {
        match self.running.as_ref().filter(|running| running.response == *response) {
            Some(running) => running.is_cut(),
            None => self.past.iter().any(|(past, cut)| past == response && *cut),
        }
    }

    /// Whether this response began without an event that said so: the event was lost, or the server sends none.
    pub fn is_unannounced(&self, response: &ResponseId) -> bool {
        self.running.is_none() && !self.knows(response)
    }

    /// Whether the response runs or ran in the conversation.
    pub fn knows(&self, response: &ResponseId) -> bool {
        self.active() == Some(response) || self.past.iter().any(|(past, _)| past == response)
    }

    /// Whether the running response has spoken; if none runs, the last one.
    pub fn has_spoken(&self) -> bool {
        self.running.as_ref().map_or(self.spoke_last, |running| running.spoke)
    }

    /// What is due and has not begun.
    pub fn due(&self) -> Option<What> {
        self.due.as_ref().map(|due| due.what.clone())
    }

    /// Whether a response is due that has not begun.
    pub fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Whether a request of ours is open.
    pub fn has_asked(&self) -> bool {
        self.due.as_ref().is_some_and(|due| !due.by_itself || due.nudged)
    }

    /// Whether what is due only tells the caller to wait.
    pub fn is_filler_due(&self) -> bool {
        self.due.as_ref().is_some_and(|due| due.what.is_filler())
    }

    /// None is running, due or wanted.
    pub fn is_idle(&self) -> bool {
        self.is_free() && self.wanted.is_empty()
    }

    /// None is running or due.
    pub fn is_free(&self) -> bool {
        self.running.is_none() && self.due.is_none()
    }

    /// When a pause before a retry ends.
    pub fn pause(&self) -> Option<Instant> {
        self.pause
    }

    /// A response failed. Returns how many did in a row.
    pub fn failed(&mut self) -> u32 {
        self.twice = false;
        self.failures += 1;
        self.failures
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Appends a value; at the limit, the oldest is forgotten.
pub(super) fn remember<T>(list: &mut VecDeque<T>, value: T, limit: usize) {
    if list.len() == limit {
        list.pop_front();
    }
    list.push_back(value);
}
