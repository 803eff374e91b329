//! A second session of the model beside the one in use, and how it takes over with the conversation.
//!
//! It is opened if the session is lost, stalls, refuses or turns deaf, and before it grows too old. While the session in
//! use may still speak, the first of the two that does is used.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Note, Request};
use super::end_reason::EndReason;
use super::event::{Loss, Lost, Outcome};
use super::speech::What;
use crate::provider::Failure;

/// The pause before a second attempt to open a session. It doubles up to 2 s.
const PAUSE: Duration = Duration::from_millis(250);
/// How long before a session's end the next one is opened.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// How long before its end the next one takes over although nobody paused.
const RENEW_AT_LAST: Duration = Duration::from_secs(20);
/// How much of the caller's speech within the last [`LISTENED`] a session must notice.
const UNNOTICED: Duration = Duration::from_secs(5);
const LISTENED: Duration = Duration::from_secs(8);
/// How often a session may be replaced because it seems deaf.
const DEAF_PAUSE: Duration = Duration::from_secs(60);

codes! {
    /// Why a standby is opened: the causes of `switchboard_reconnects_total{cause,outcome}`.
    Cause {
        /// The connection is gone.
        Lost = "lost",
        /// Nothing audible comes.
        Stalled = "stalled",
        /// It does not notice that the caller speaks.
        Deaf = "deaf",
        /// It refuses to answer, or answers in writing.
        Failed = "failed",
        /// It reaches its greatest age.
        Renewal = "renewal",
        /// Not the session, but the phone's stream broke and came back.
        Stream = "stream",
    }
}

#[derive(Debug, Default)]
pub(super) struct Standby {
    open: Option<Open>,
    /// Opens the next one then.
    again: Option<Instant>,
    /// Attempts since a session was last in use.
    attempts: u32,
    /// The endpoint that was tried last.
    last: Option<usize>,
    /// Endpoints that refused, and will again.
    refused: BTreeSet<usize>,
    /// The last loss, for the reason of the end.
    pub loss: Option<Lost>,
    /// When the session in use ends.
    expires: Option<Instant>,
    renewal_began: bool,
    /// When a session was last replaced because it seemed deaf.
    deaf: Option<Instant>,
    /// The caller spoke while no session listened.
    unheard_speech: bool,
    /// The conversation is replayed as one text, because the model answered in writing after a replay of its items.
    as_history: bool,
    /// The session in use got the conversation, and has not answered aloud since.
    replayed: bool,
}

#[derive(Debug)]
struct Open {
    endpoint: usize,
    cause: Cause,
    stage: Stage,
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
        let renewal = self.expires.filter(|_| !self.renewal_began).map(|at| back(at, RENEW_BEFORE));
        let at_last = self.expires.filter(|_| self.waits()).map(|at| back(at, RENEW_AT_LAST));
        self.again.into_iter().chain(renewal).chain(at_last).min()
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
}

fn back(at: Instant, by: Duration) -> Instant {
    at.checked_sub(by).unwrap_or(at)
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
        if lost.failure.is_refusal() {
            self.standby.refused.insert(self.endpoint);
        }
        self.standby.loss = Some(lost);
        self.model_ready = false;
        self.session_gone(now, out);
        match &mut self.standby.open {
            Some(open) if open.stage == Stage::Opening => open.cause = cause,
            Some(_) => self.use_standby(now, out),
            None => self.open_another(cause, now, out),
        }
    }

    /// Opens a session at the same endpoint, or after that the next that has not refused.
    fn open_another(&mut self, cause: Cause, now: Instant, out: &mut Vec<Action>) {
        let again = self.standby.attempts == 0 && !self.standby.refused.contains(&self.endpoint);
        let last = self.standby.last.unwrap_or(self.endpoint);
        let Some(endpoint) = Some(self.endpoint).filter(|_| again).or_else(|| self.endpoint_after(last)) else {
            let lost = self.standby.loss.clone().unwrap_or(Loss::Closed.into());
            return self.fail(EndReason::from(&lost), lost.failure, now, out);
        };
        self.open_standby(endpoint, cause, out);
    }

    /// The next endpoint that has not refused; the same again if there is no other.
    fn endpoint_after(&self, last: usize) -> Option<usize> {
        let count = self.plan.endpoints();
        (1..=count).map(|step| (last + step) % count).find(|it| !self.standby.refused.contains(it))
    }

    pub(super) fn open_standby(&mut self, endpoint: usize, cause: Cause, out: &mut Vec<Action>) {
        let is_opening = |open: &Open| open.endpoint == endpoint && open.stage == Stage::Opening;
        if !self.standby.open.as_ref().is_some_and(is_opening) {
            self.standby.attempts += 1;
            self.standby.again = None;
            self.standby.last = Some(endpoint);
            self.standby.open = Some(Open { endpoint, cause, stage: Stage::Opening });
            out.push(Action::OpenStandby { endpoint });
        }
    }

    /// Nothing audible came for long: another provider may do better.
    pub(super) fn try_next_endpoint(&mut self, out: &mut Vec<Action>) {
        let (last, cause) = match &self.standby.open {
            Some(open) => (open.endpoint, open.cause),
            None => (self.endpoint, Cause::Stalled),
        };
        if let Some(endpoint) = self.endpoint_after(last) {
            self.open_standby(endpoint, cause, out);
        }
    }

    /// The model answers in writing although it was asked to speak.
    pub(super) fn answered_in_writing(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.standby.replayed) && !self.standby.as_history {
            self.standby.as_history = true;
            self.open_standby(self.endpoint, Cause::Failed, out);
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
            Cause::Deaf => self.use_standby(now, out),
            Cause::Lost | Cause::Stalled | Cause::Failed | Cause::Stream => match self.speech.owed() {
                Some(what) if self.playback.is_voice_over() => {
                    self.fill_standby(out);
                    let request = match self.request(what.clone()) {
                        Action::Say(request) => Some(request),
                        _ => None,
                    };
                    self.ask_standby(what, request, out);
                }
                _ => self.drop_standby(out),
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
        if self.standby.is_asked() && self.playback.is_voice_over() && self.ending.is_none() {
            self.use_standby(now, out);
        } else {
            self.drop_standby(out);
        }
    }

    pub(super) fn standby_mute(&mut self, _outcome: &Outcome, out: &mut Vec<Action>) {
        let endpoint = self.standby.open.as_ref().map(|open| open.endpoint);
        self.drop_standby(out);
        if let Some(endpoint) = endpoint
            && !std::mem::replace(&mut self.standby.as_history, true)
        {
            self.open_standby(endpoint, Cause::Failed, out);
        }
    }

    pub(super) fn standby_lost(&mut self, lost: Lost, now: Instant, out: &mut Vec<Action>) {
        let Some(open) = self.standby.open.take() else { return };
        out.push(Action::Note(Note::Reconnected { cause: open.cause, worked: false }));
        if lost.failure.is_refusal() {
            self.standby.refused.insert(open.endpoint);
        }
        self.standby.loss = Some(lost);
        if self.model_ready {
            return;
        }
        if self.endpoint_after(open.endpoint).is_none() {
            return self.open_another(open.cause, now, out); // No endpoint is left.
        }
        let pause = if self.standby.refused.contains(&open.endpoint) {
            Duration::ZERO
        } else {
            PAUSE * 2u32.pow(self.standby.attempts.clamp(1, 4) - 1)
        };
        self.standby.again = Some(now + pause);
    }

    /// It is not needed: the session in use speaks.
    pub(super) fn drop_standby(&mut self, out: &mut Vec<Action>) {
        if self.standby.open.take().is_some() {
            out.push(Action::DropStandby);
        }
    }

    /// The session in use speaks: one that was opened because it did not is not needed.
    pub(super) fn drop_rival(&mut self, out: &mut Vec<Action>) {
        if self.standby.open.as_ref().is_some_and(|open| open.cause == Cause::Stalled) {
            self.drop_standby(out);
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
        out.push(Action::FillStandby(turns));
    }

    fn use_standby(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(open) = self.standby.open.take() else { return };
        if self.model_ready {
            self.session_gone(now, out);
        }
        match open.stage {
            Stage::Asked(what) => self.speech.takes_over(what, now),
            Stage::Opening | Stage::Ready => self.fill_standby(out),
        }
        self.conversation.session_changed();
        self.backlog.clear();
        self.endpoint = open.endpoint;
        self.model_ready = true;
        self.last_from_model = Some(now);
        self.was_ready = true;
        self.standby.attempts = 0;
        self.standby.expires = None;
        self.standby.replayed = true;
        out.push(Action::UseStandby);
        out.push(Action::Note(Note::Reconnected { cause: open.cause, worked: true }));
        if std::mem::take(&mut self.standby.unheard_speech) && !self.ear.speaks(now) {
            self.speech.want(What::Answer);
        }
    }

    /// The session's responses, items and turns are no more. What was owed is wanted again.
    fn session_gone(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.standby.unheard_speech |= self.speaking.is_some();
        if let Some((began, item)) = self.speaking.take() {
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        self.speech.session_gone();
        self.out_of_band = Default::default();
        if !self.tools.hosted.is_empty() {
            self.tools.hosted.clear();
            self.tools.owe_response();
        }
        self.playback.session_gone();
    }

    // ── time ──

    pub(super) fn session_expires(&mut self, at: Instant) {
        self.standby.expires = Some(at);
        self.standby.renewal_began = false;
    }

    /// The caller's audio while no session listens.
    pub(super) fn unheard(&mut self, speaks: bool) {
        self.standby.unheard_speech |= speaks && self.was_ready;
    }

    /// Does what is due.
    pub(super) fn standby_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.standby.again.take_if(|again| *again <= now).is_some() {
            self.open_another(Cause::Lost, now, out);
        }
        let Some(expires) = self.standby.expires else { return };
        if !self.standby.renewal_began && back(expires, RENEW_BEFORE) <= now {
            self.standby.renewal_began = true;
            if self.standby.open.is_none() && self.model_ready {
                self.open_standby(self.endpoint, Cause::Renewal, out);
            }
        }
        if self.standby.waits() && back(expires, RENEW_AT_LAST) <= now {
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
        let noticed = self.heard_caller.is_some_and(|at| now < at + LISTENED);
        let recently = self.standby.deaf.is_some_and(|at| now < at + DEAF_PAUSE);
        if self.model_ready
            && !noticed
            && !recently
            && self.standby.open.is_none()
            && self.playback.is_voice_over()
            && self.ear.speech_within(LISTENED, now) >= UNNOTICED
        {
            self.standby.deaf = Some(now);
            self.standby.unheard_speech = true;
            self.open_standby(self.endpoint, Cause::Deaf, out);
        }
    }
}
