//! A second session of the model beside the one in use, and how it takes over with the conversation.
//!
//! It is opened if the session is lost, stalls, refuses or turns deaf, and before it grows too old. While the session in
//! use may still speak, the first of the two that does is used.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Cause, Note, Request};
use super::end_reason::EndReason;
use super::event::{Loss, Lost, Outcome};
use super::speech::What;
use crate::provider::Failure;
use crate::provider::usage::{Tokens, Transcribed};

/// The pause before a second attempt to open a session. It doubles up to 2 s.
const PAUSE: Duration = Duration::from_millis(250);
/// How many sessions are opened for one answer, at all endpoints together. The clock at the caller's ear ends the call
/// before, unless each of them begins to speak.
const MAX_ATTEMPTS: u32 = 12;
/// How long before a session's end the next one is opened.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// How long before its end the next one takes over although nobody paused.
const RENEW_AT_LAST: Duration = Duration::from_secs(20);
/// How long after a renewal that failed the next one is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(30);
/// How much of the caller's speech within the last [`LISTENED`] a session must notice.
const UNNOTICED: Duration = Duration::from_secs(5);
const LISTENED: Duration = Duration::from_secs(8);
/// How often a session may be replaced because it seems deaf.
const DEAF_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Standby {
    open: Option<Open>,
    /// Opens the next one then, for this cause.
    again: Option<(Instant, Cause)>,
    /// Attempts since the last whole answer.
    attempts: u32,
    /// The endpoint that was tried last.
    last: Option<usize>,
    /// Endpoints that refused, and will again.
    refused: BTreeSet<usize>,
    /// The last loss, for the reason of the end.
    pub loss: Option<Lost>,
    /// When the session in use ends.
    expires: Option<Instant>,
    /// When the next one is opened, unless it was.
    renewal: Option<Instant>,
    /// When it takes over although nobody paused.
    at_last: Option<Instant>,
    /// When a session was last replaced because it seemed deaf.
    deaf: Option<Instant>,
    /// The conversation is replayed as one text, because the model answered in writing after a replay of its items.
    as_history: bool,
    /// The session in use got the conversation, and has not answered aloud since.
    replayed: bool,
    /// The session in use got the conversation, and has not charged for it.
    uncharged: bool,
    /// A standby took over for this cause, and the caller has heard nothing since.
    taken_over: Option<Cause>,
    /// The longest silence at the caller's ear since there was a session in use and no other.
    gap: Duration,
}

#[derive(Debug)]
struct Open {
    endpoint: usize,
    cause: Cause,
    stage: Stage,
    /// It got the conversation, and has not charged for it.
    uncharged: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Opening,
    /// Waits for a pause in the conversation.
    Ready,
    /// It was asked for this.
    Asked(What),
}

impl Standby {
    fn is_asked(&self) -> bool {
        self.open.as_ref().is_some_and(|open| matches!(open.stage, Stage::Asked(_)))
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let at_last = self.at_last.filter(|_| self.waits());
        let again = self.again.map(|(at, _)| at);
        again.into_iter().chain(self.renewal).chain(at_last).min()
    }

    /// Whether it waits for a pause.
    fn waits(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.stage == Stage::Ready)
    }

    /// The session in use answered aloud.
    pub fn spoke(&mut self) {
        self.replayed = false;
        self.loss = None;
    }

    /// An endpoint that refuses is not tried again.
    fn shun(&mut self, endpoint: usize, failure: &Failure) {
        if failure.is_refusal() {
            self.refused.insert(endpoint);
        }
    }

    /// The session in use gave a whole answer.
    pub fn answered(&mut self) {
        self.attempts = 0;
    }
}

fn back(at: Instant, by: Duration) -> Instant {
    at.checked_sub(by).unwrap_or(at)
}

/// When a session is renewed that ends at `at`. One that ends soon is not replaced at once, but after a quarter of what is
/// left of it, or after `pause` if that is shorter.
fn renewal(at: Instant, pause: Duration, now: Instant) -> Instant {
    back(at, RENEW_BEFORE).max(now + (at.saturating_duration_since(now) / 4).min(pause))
}

impl Call {
    // ── a session is needed ──

    pub(super) fn model_lost(&mut self, lost: Lost, now: Instant, out: &mut Vec<Action>) {
        // A goodbye that has arrived completely is still heard.
        if self.speech.is_made(What::is_goodbye) {
            return;
        }
        if !self.was_ready {
            // The session tried every endpoint before it gave up.
            return self.fail(EndReason::from(&lost), lost.failure, now, out);
        }
        self.without_session(lost, Cause::Lost, now, out);
    }

    /// The provider refuses to answer in this session, and will refuse again.
    pub(super) fn refused(&mut self, failure: Failure, now: Instant, out: &mut Vec<Action>) {
        let lost = Lost { loss: Loss::Closed, failure };
        self.without_session(lost, Cause::Failed, now, out);
    }

    /// The session is gone, or of no use: another one continues.
    fn without_session(&mut self, lost: Lost, cause: Cause, now: Instant, out: &mut Vec<Action>) {
        // A session that worked and is closed was not refused, whatever the close code, unless it happens again.
        let is_close =
            lost.loss == Loss::Closed && lost.failure.close.is_some() && self.standby.attempts == 0;
        if !is_close {
            self.standby.shun(self.endpoint, &lost.failure);
        }
        self.standby.loss = Some(lost);
        self.model_ready = false;
        self.session_gone(now, out);
        // What there was of a goodbye is heard.
        if self.speech.is_made(What::is_goodbye) {
            return;
        }
        match &mut self.standby.open {
            Some(open) if open.stage == Stage::Opening => open.cause = cause,
            Some(_) => self.use_standby(now, out),
            // One that did not speak either must not make us ask without end.
            None if self.standby.attempts > 0 => self.open_later(cause, now, out),
            None => self.open_another(cause, now, out),
        }
    }

    /// Opens a session after a pause that grows, or at once where nothing was tried yet.
    fn open_later(&mut self, cause: Cause, now: Instant, out: &mut Vec<Action>) {
        let last = self.standby.last.unwrap_or(self.endpoint);
        if self.endpoint_after(last).is_none() || self.standby.refused.contains(&last) {
            return self.open_another(cause, now, out);
        }
        let pause = PAUSE * 2u32.pow(self.standby.attempts.clamp(1, 4) - 1);
        self.standby.again = Some((now + pause, cause));
    }

    /// Opens a session at the same endpoint, or after that the next that has not refused.
    fn open_another(&mut self, cause: Cause, now: Instant, out: &mut Vec<Action>) {
        let again = self.standby.attempts == 0 && !self.standby.refused.contains(&self.endpoint);
        let last = self.standby.last.unwrap_or(self.endpoint);
        let next = if again { Some(self.endpoint) } else { self.endpoint_after(last) };
        match next.filter(|_| self.standby.attempts < MAX_ATTEMPTS) {
            Some(endpoint) => self.open_standby(endpoint, cause, now, out),
            None if self.model_ready => {}
            None => {
                let lost = self.standby.loss.clone().unwrap_or(Loss::Closed.into());
                self.fail(EndReason::from(&lost), lost.failure, now, out);
            }
        }
    }

    /// The next endpoint that has not refused; the same again if there is no other.
    fn endpoint_after(&self, last: usize) -> Option<usize> {
        let count = self.plan.endpoints();
        (1..=count).map(|step| (last + step) % count).find(|it| !self.standby.refused.contains(it))
    }

    /// Opens a session at this endpoint, unless one is there that nobody has asked yet.
    pub(super) fn open_standby(
        &mut self,
        endpoint: usize,
        cause: Cause,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.standby.again = None;
        if let Some(open) = self.standby.open.as_mut().filter(|open| open.endpoint == endpoint) {
            open.cause = cause;
            match open.stage {
                Stage::Opening => return,
                Stage::Ready => return self.standby_ready(now, out),
                Stage::Asked(_) => {}
            }
        }
        self.standby.attempts += 1;
        self.standby.last = Some(endpoint);
        self.standby.open = Some(Open { endpoint, cause, stage: Stage::Opening, uncharged: false });
        out.push(Action::OpenStandby { endpoint });
    }

    /// Nothing audible came for long: another provider may do better.
    pub(super) fn try_next_endpoint(&mut self, now: Instant, out: &mut Vec<Action>) {
        let last = self.standby.open.as_ref().map_or(self.endpoint, |open| open.endpoint);
        let cause = if self.model_ready { Cause::Stalled } else { Cause::Lost };
        if let Some(endpoint) = self.endpoint_after(last) {
            self.open_standby(endpoint, cause, now, out);
        }
    }

    /// The model answers in writing although it was asked to speak.
    pub(super) fn answered_in_writing(&mut self, now: Instant, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.standby.replayed) && !self.standby.as_history {
            self.standby.as_history = true;
            self.open_standby(self.endpoint, Cause::Failed, now, out);
        }
    }

    // ── the standby ──

    pub(super) fn standby_ready(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(open) = &mut self.standby.open else { return out.push(Action::DropStandby) };
        if !self.model_ready {
            return self.use_standby(now, out);
        }
        match open.cause {
            Cause::Renewal => open.stage = Stage::Ready,
            Cause::Deaf => {
                self.floor.unnoticed = Some(now).filter(|_| !self.floor.ear_speaks);
                self.use_standby(now, out);
            }
            Cause::Lost | Cause::Stalled | Cause::Failed | Cause::Stream => match self.speech.owed() {
                Some(what) if self.playback.is_voice_over() => {
                    let what = what.in_another_session();
                    self.fill_standby(out);
                    let request = match self.request(what.clone()) {
                        Action::Say(request) => Some(request),
                        _ => None,
                    };
                    self.ask_standby(what, request, out);
                }
                _ => self.drop_standby(now, out),
            },
        }
    }

    fn ask_standby(&mut self, what: What, request: Option<Request>, out: &mut Vec<Action>) {
        if let Some(open) = &mut self.standby.open {
            open.stage = Stage::Asked(what);
            out.push(Action::AskStandby(request));
        }
    }

    /// It answered before the session in use did.
    pub(super) fn standby_spoke(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.standby.is_asked() && self.playback.is_voice_over() {
            self.use_standby(now, out);
        } else {
            self.drop_standby(now, out);
        }
    }

    /// Its response ended, and nothing was heard of it.
    pub(super) fn standby_mute(&mut self, outcome: &Outcome, now: Instant, out: &mut Vec<Action>) {
        let Some(open) = self.standby.open.take() else { return };
        out.push(Action::DropStandby);
        if let Outcome::Failed(failure) = outcome {
            self.standby.shun(open.endpoint, failure);
        }
        let in_writing = *outcome == Outcome::Completed;
        if in_writing && !std::mem::replace(&mut self.standby.as_history, true) {
            self.open_standby(open.endpoint, Cause::Failed, now, out);
        } else {
            self.open_later(open.cause, now, out);
        }
    }

    pub(super) fn standby_lost(&mut self, lost: Lost, now: Instant, out: &mut Vec<Action>) {
        let Some(open) = self.standby.open.take() else { return };
        out.push(Action::Note(Note::Reconnected {
            cause: open.cause,
            worked: false,
            silence: self.standby.gap,
        }));
        self.standby.shun(open.endpoint, &lost.failure);
        self.standby.loss = Some(lost);
        match open.cause {
            Cause::Renewal if self.model_ready => self.standby.again = Some((now + RENEW_AGAIN, open.cause)),
            _ => self.open_later(open.cause, now, out),
        }
    }

    /// It is not needed. If the session in use will end soon, another one is.
    pub(super) fn drop_standby(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.standby.again = None;
        if self.standby.open.take().is_some() {
            let renewal = self.standby.expires.map(|at| renewal(at, RENEW_AGAIN, now));
            self.standby.renewal = self.standby.renewal.or(renewal);
            out.push(Action::DropStandby);
        }
    }

    /// The session in use speaks: one that was opened because it did not is not needed.
    pub(super) fn drop_rival(&mut self, now: Instant, out: &mut Vec<Action>) {
        let cause =
            self.standby.open.as_ref().map(|open| open.cause).or(self.standby.again.map(|(_, cause)| cause));
        if cause.is_some_and(|cause| !matches!(cause, Cause::Renewal | Cause::Deaf)) {
            self.drop_standby(now, out);
        }
    }

    fn fill_standby(&mut self, out: &mut Vec<Action>) {
        // What plays on will be heard. If it is not, the conversation learns that later.
        for (item, sent_ms) in self.playback.sent() {
            self.conversation.assistant_heard(&item, sent_ms);
        }
        let turns = if self.standby.as_history {
            self.conversation.replay_as_history()
        } else {
            self.conversation.replay()
        };
        if let Some(open) = &mut self.standby.open {
            open.uncharged = true;
        }
        out.push(Action::FillStandby(turns));
    }

    fn use_standby(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(open) = self.standby.open.take() else { return };
        self.session_gone(now, out);
        self.standby.uncharged = match open.stage {
            Stage::Asked(what) => {
                self.speech.takes_over(what, now);
                open.uncharged
            }
            Stage::Opening | Stage::Ready => {
                self.fill_standby(out);
                true
            }
        };
        self.conversation.session_changed();
        self.backlog.clear();
        if self.endpoint != open.endpoint {
            self.limited = None; // Another provider has limits of its own.
        }
        self.endpoint = open.endpoint;
        self.model_ready = true;
        self.last_from_model = Some(now);
        self.was_ready = true;
        (self.standby.expires, self.standby.renewal, self.standby.at_last) = (None, None, None);
        self.reconnected(out);
        if open.cause == Cause::Renewal {
            (self.standby.attempts, self.standby.gap) = (0, Duration::ZERO);
        }
        self.standby.taken_over = Some(open.cause);
        self.standby.replayed = true;
        out.push(Action::UseStandby);
        self.answer_unheard();
    }

    /// The caller's silence lasted so long. Once it is over, it is known what a new session cost them.
    pub(super) fn gap(&mut self, silence: Duration, is_over: bool, out: &mut Vec<Action>) {
        self.standby.gap = self.standby.gap.max(silence);
        if is_over && self.model_ready && self.standby.open.is_none() && self.standby.again.is_none() {
            self.reconnected(out);
            self.standby.gap = Duration::ZERO;
        }
    }

    /// Notes that a standby took over, if that is not noted yet.
    pub(super) fn reconnected(&mut self, out: &mut Vec<Action>) {
        if let Some(cause) = self.standby.taken_over.take() {
            out.push(Action::Note(Note::Reconnected { cause, worked: true, silence: self.standby.gap }));
        }
    }

    // ── charges ──

    /// A response was charged for. The first one after a replay pays for that.
    pub(super) fn response_charged(&mut self, tokens: Tokens, standby: bool, out: &mut Vec<Action>) {
        self.tally.used(&tokens);
        let (endpoint, uncharged) = match &mut self.standby.open {
            Some(open) if standby => (open.endpoint, &mut open.uncharged),
            _ => (self.endpoint, &mut self.standby.uncharged),
        };
        let replayed = std::mem::take(uncharged);
        out.push(Action::Note(Note::Used { endpoint, tokens, replayed }));
    }

    pub(super) fn transcript_charged(&mut self, used: Transcribed, standby: bool, out: &mut Vec<Action>) {
        let open = self.standby.open.as_ref().filter(|_| standby);
        let endpoint = open.map_or(self.endpoint, |open| open.endpoint);
        out.push(Action::Note(Note::Transcribed { endpoint, used }));
    }

    /// Asks for an answer to what the caller said to no session, once our ear found that they have said it.
    pub(super) fn answer_unheard(&mut self) {
        if self.model_ready
            && self.floor.heard_caller.is_none()
            && self.standby.replayed
            && self.floor.unnoticed.take().is_some()
        {
            self.speech.want(What::Answer);
        }
    }

    /// The session's responses, items and turns are no more. What was owed is wanted again.
    fn session_gone(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.floor.heard_caller = None;
        self.floor.endless_turn = None;
        self.forget_doubt(now, out);
        if let Some((began, item)) = self.floor.speaking.take() {
            self.floor.unnoticed = Some(now).filter(|_| !self.floor.ear_speaks);
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        let begun = self.speech.running().filter(|running| running.what.is_goodbye() && running.spoke);
        if begun.is_some_and(|running| !running.is_cut())
            && let Some(ending) = &mut self.ending
        {
            ending.is_begun = true;
        }
        self.speech.session_gone();
        self.out_of_band = Default::default();
        if !self.tools.hosted.is_empty() {
            self.tools.hosted.clear(now);
            self.tools.owe_response();
        }
        self.playback.session_gone();
    }

    // ── time ──

    pub(super) fn session_expires(&mut self, at: Instant, now: Instant) {
        self.standby.expires = Some(at);
        self.standby.renewal = Some(renewal(at, RENEW_BEFORE, now));
        self.standby.at_last = Some(back(at, RENEW_AT_LAST.min(at.saturating_duration_since(now) / 8)));
    }

    /// Does what is due.
    pub(super) fn standby_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some((_, cause)) = self.standby.again.take_if(|(at, _)| *at <= now) {
            match cause {
                Cause::Renewal => self.open_standby(self.endpoint, cause, now, out),
                _ => self.open_another(cause, now, out),
            }
        }
        if self.standby.renewal.take_if(|renewal| *renewal <= now).is_some() {
            if self.standby.open.is_none() && self.model_ready {
                self.open_standby(self.endpoint, Cause::Renewal, now, out);
            } else {
                self.standby.renewal = Some(now + RENEW_AGAIN);
            }
        }
        if self.standby.waits() && self.standby.at_last.is_some_and(|at| at <= now) {
            self.use_standby(now, out);
        }
    }

    /// In a pause, a session that was renewed takes over.
    pub(super) fn renew_in_pause(&mut self, pauses: bool, now: Instant, out: &mut Vec<Action>) {
        if pauses && self.standby.waits() {
            self.use_standby(now, out);
        }
    }

    /// Replaces a session that does not notice that the caller speaks.
    pub(super) fn replace_if_deaf(&mut self, now: Instant, out: &mut Vec<Action>) {
        let noticed = self.floor.heard_caller.is_some_and(|at| now < at + LISTENED);
        let recently = self.standby.deaf.is_some_and(|at| now < at + DEAF_PAUSE);
        if self.model_ready
            && !noticed
            && !recently
            && self.standby.open.is_none()
            && self.playback.is_voice_over()
            && self.spoke_within(LISTENED, now) >= UNNOTICED
        {
            self.standby.deaf = Some(now);
            self.open_standby(self.endpoint, Cause::Deaf, now, out);
        }
    }
}
