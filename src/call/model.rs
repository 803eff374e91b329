//! The model's side of a call: its responses.

use std::time::{Duration, Instant};

use super::action::{Action, Anomaly, Note, Request, Truncation};
use super::end_reason::EndReason;
use super::event::{About, By, Fault, Origin, Outcome, Who, Why};
use super::playback::Source;
use super::speech::{Running, What};
use super::transfer::Leaving;
use super::{Call, MARK_EVERY, MAX_UNPLAYED, count, tools};
use crate::id::{ItemId, ResponseId};
use crate::provider::{Cause, Class, Failure};
use crate::secret::Private;
use switchboard_audio::Chunk;

/// The pause before a response is requested again after its second failure. It doubles up to 4 s.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest time that a provider may make us wait; the clock at the caller's ear goes on.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// After this many failures in a row, the next provider is tried, and after the other the call ends: even if each of
/// them began to speak.
const TRY_ANOTHER: u32 = 3;
const MAX_FAILURES: u32 = 8;
/// An answer that ends with more silence than this broke off: 2 s.
const LONGEST_TAIL: u64 = 16_000;
/// How long the end of a cut response is waited for.
pub(super) const CUT_TIMEOUT: Duration = Duration::from_secs(3);

impl Call {
    /// The first session of the call.
    pub(super) fn model_is_ready(&mut self, endpoint: usize, now: Instant, out: &mut Vec<Action>) {
        if self.was_ready {
            return;
        }
        self.drop_standby(now, out);
        self.endpoint = endpoint;
        (self.model_ready, self.was_ready) = (true, true);
        self.last_from_model = Some(now);
        self.backlog.drain_into(out);
    }

    pub(super) fn transcribed(
        &mut self,
        who: Who,
        item: ItemId,
        text: Private,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.last_from_model = Some(now);
        match who {
            Who::Caller => {
                self.floor.heard_caller = Some(now);
                if self.is_noise(&item, text.expose(), now, out) {
                    return;
                }
            }
            Who::Assistant if tools::looks_like_a_call(text.expose(), &self.plan) => {
                count(Anomaly::ModelWroteCall, out);
            }
            Who::Assistant => {}
        }
        self.conversation.said(who, &item, &text);
        out.push(Action::Note(Note::Said { who, item, text }));
    }

    pub(super) fn response_started(
        &mut self,
        response: ResponseId,
        origin: Origin,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.last_from_model = Some(now);
        let begun = self.speech.begun(response, origin);
        let (waits, is_goodbye) = (begun.can_wait(), begun.what.is_goodbye());
        let (is_greeting, is_again) = (begun.what == What::Greeting, begun.is_again);
        if is_again {
            return self.cancel_active(out);
        }
        self.tally.response_started();
        if self.leaving.as_ref().is_some_and(Leaving::is_announced) {
            self.speech.begins_announcement();
        }
        // Nobody would hear it, or we asked before the caller spoke, whom the model answers by itself afterwards.
        let unheard = self.is_away();
        let talks_over = self.is_callers_turn(now) && self.is_interruptible() && waits;
        // Nothing is said after a goodbye.
        let too_late = self.ending.is_some() && !is_goodbye;
        if unheard || talks_over || too_late {
            self.cancel_active(out);
            if is_greeting && unheard {
                self.speech.want(What::Greeting);
            }
        }
    }

    pub(super) fn model_audio(
        &mut self,
        response: ResponseId,
        item: ItemId,
        chunk: Chunk,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if chunk.bytes() == 0 {
            return;
        }
        if self.out_of_band.knows(&response) {
            return self.out_of_band_audio(response, item, chunk, now, out);
        }
        if self.speech.is_unannounced(&response) {
            self.response_started(response.clone(), Origin::Unknown, now, out);
        }
        self.last_from_model = Some(now);
        self.conversation.assistant_audio(&item, chunk.bytes());
        if self.speech.is_cut(&response) {
            // It was on its way when the response was discarded. The model believes that it was heard.
            count(Anomaly::ModelLateAudio, out);
            if self.speech.cut_item(&item) {
                self.truncate(Truncation { item, audio_end_ms: 0 }, out);
            }
            return;
        }
        if self.must_drop_audio() {
            return count(Anomaly::ModelAudioDropped, out);
        }
        self.stop_out_of_band(out);
        let is_audible = chunk.is_audible();
        self.speech.spoke(&response, (!is_audible).then_some(chunk.bytes()));
        if is_audible {
            // The session in use speaks: nothing has to stand in for it.
            self.drop_rival(now, out);
            self.standby.spoke();
            self.tools.response_spoke(&response);
        }
        let running = self.speech.running().filter(|_| self.speech.active() == Some(&response));
        if running.is_some_and(|running| !running.what.is_dictated()) {
            self.consent.assistant_speaks(&response, self.playback.end());
        }
        if !is_audible && self.watch.sounds() {
            return; // The hold tone goes on.
        }
        self.play_voice(Source::Item { item, response }, chunk, now, out);
    }

    /// Whether nobody would hear more of the model, or too much is queued already.
    pub(super) fn must_drop_audio(&self) -> bool {
        self.started.is_none() || self.is_away() || self.playback.unplayed() > MAX_UNPLAYED
    }

    pub(super) fn play_voice(&mut self, source: Source, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        let is_audible = chunk.is_audible();
        if is_audible {
            self.stop_sound(source.response(), now, out);
        } else if self.playback.ends_with_voice() {
            self.mark(now, out); // The silence that follows must not hide when the voice was over.
        }
        self.play(source, chunk, out);
        if is_audible {
            self.playback.voiced();
        }
        if self.playback.unmarked() >= MARK_EVERY {
            self.mark(now, out);
        }
    }

    pub(super) fn response_ended(
        &mut self,
        response: &ResponseId,
        outcome: &Outcome,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.out_of_band.knows(response) {
            return self.out_of_band_ended(response, outcome, now, out);
        }
        if self.speech.is_unannounced(response) {
            self.response_started(response.clone(), Origin::Unknown, now, out);
        }
        self.last_from_model = Some(now);
        let ended = self.speech.ended(response, now);
        self.tools.response_ended(response, outcome, now);
        self.mark(now, out);
        match outcome {
            Outcome::Completed => self.consent.response_ended(response),
            Outcome::Failed(_) | Outcome::Incomplete(_) => count(Anomaly::ModelFailedResponse, out),
            Outcome::Cancelled(_) => {}
        }
        if let Some(ended) = ended {
            self.judge(ended, outcome, now, out);
        }
        if !self.ended {
            self.ask_for_goodbye_if_unsaid(out);
            self.announce_if_unsaid(out);
        }
    }

    /// Whether an utterance was said as a whole. If not, it is asked for again: at once the first time, later with growing
    /// pauses. The clock at the caller's ear bounds it all.
    fn judge(&mut self, ended: Running, outcome: &Outcome, now: Instant, out: &mut Vec<Action>) {
        let calls_control = self.ending.as_ref().is_some_and(|ending| ending.tool.is_some())
            || self.leaving.as_ref().is_some_and(|leaving| leaving.tool().is_some());
        let tools_follow =
            calls_control || self.ending.is_none() && self.leaving.is_none() && self.tools.is_pending();
        let is_whole = match outcome {
            Outcome::Completed => ended.spoke && ended.silence < LONGEST_TAIL,
            // The caller spoke over it; or they only seemed to.
            Outcome::Cancelled(By::Caller) => self.floor.speaking.is_some(),
            Outcome::Cancelled(By::Us) => true,
            Outcome::Cancelled(By::Unknown) | Outcome::Incomplete(_) | Outcome::Failed(_) => false,
        };
        let Running { what, spoke, .. } = ended;
        if is_whole {
            self.speech.succeeded();
            self.failure = None;
            self.standby.answered();
            return self.speech.made(what);
        }
        let failure = failure_of(outcome);
        if failure.class() == Some(Class::Failover) {
            self.speech.want_later(what, Duration::ZERO, now);
            return self.refused(failure, now, out);
        }
        if !matches!(outcome, Outcome::Completed | Outcome::Cancelled(_)) {
            self.failure = Some(failure.clone());
        }
        // A filler is not worth it, and what follows a tool comes anyway.
        if what.is_filler() || tools_follow {
            return self.speech.made(what);
        }
        let failures = self.speech.failed();
        // Half a goodbye will do, and none after the second try.
        let is_last = what.is_awaited() && what != What::Greeting;
        if is_last && (spoke || failures > 1) {
            return self.speech.made(what);
        }
        if failures > MAX_FAILURES {
            return self.fail(EndReason::ModelFailed, failure, now, out);
        }
        if !is_last && failure.class() == Some(Class::Permanent) {
            return self.forbidden(&what, failure, now, out);
        }
        if *outcome == Outcome::Completed && !spoke {
            self.answered_in_writing(now, out);
        }
        if failures == TRY_ANOTHER {
            self.try_next_endpoint(now, out);
        }
        let what = match outcome {
            _ if is_last => what,
            Outcome::Incomplete(Why::Filtered) => What::Say(Request::CannotHelp),
            _ if spoke => What::GoOn,
            Outcome::Completed if what == What::Answer => What::Say(Request::SayAloud),
            _ => what,
        };
        self.speech.want_later(what, pause(failures, self.told_to_wait(&failure, now)), now);
    }

    /// The provider's rules forbid the answer, and so will those of others: the assistant says so once, and if that is
    /// forbidden as well, the call ends.
    fn forbidden(&mut self, what: &What, failure: Failure, now: Instant, out: &mut Vec<Action>) {
        let excuse = What::Say(Request::CannotHelp);
        if *what == excuse {
            return self.fail(EndReason::from(&failure), failure, now, out);
        }
        self.speech.want_later(excuse, Duration::ZERO, now);
    }

    /// How long the provider makes us wait, by the failure itself or by what it said of its limits before.
    fn told_to_wait(&self, failure: &Failure, now: Instant) -> Option<Duration> {
        let limited = self.limited.filter(|_| failure.cause == Some(Cause::RateLimit));
        failure.retry_after.or(limited.map(|until| until.saturating_duration_since(now)))
    }

    /// Whether a limit of the account is almost used up, so that nothing is asked for that can be left out.
    pub(super) fn is_limited(&self, now: Instant) -> bool {
        self.limited.is_some_and(|until| now < until)
    }

    pub(super) fn model_fault(&mut self, fault: Fault, now: Instant, out: &mut Vec<Action>) {
        count(Anomaly::ModelError, out);
        if fault.failure.class() == Some(Class::Failover) {
            return self.refused(fault.failure, now, out);
        }
        let is_conflict = fault.failure.class() == Some(Class::Conflict);
        match fault.about {
            // For a nudge, or for a request that the caller's turn replaced, it means that the answer is being made.
            About::Request | About::Other if is_conflict => {
                self.speech.refused(fault.about == About::Request);
                self.wait_for_conflict(fault, now, out);
            }
            About::Request if !self.speech.has_asked() => {}
            About::Request if self.speech.is_filler_due() => self.speech.forget_asked(),
            About::Request => {
                let failures = self.speech.failed();
                self.failure = Some(fault.failure.clone());
                let forbidden = fault.failure.class() == Some(Class::Permanent);
                match self.speech.due().filter(|what| forbidden && !what.is_goodbye()) {
                    Some(what) => {
                        self.speech.forget_asked();
                        self.forbidden(&what, fault.failure, now, out);
                    }
                    None => {
                        let told = self.told_to_wait(&fault.failure, now);
                        self.speech.retry_later(pause(failures + 1, told), now);
                    }
                }
            }
            About::OutOfBand => self.out_of_band.forget_asked(),
            About::Other => {}
        }
    }

    /// A response runs of which we know nothing: it is cancelled if the error names it. In any case we wait.
    fn wait_for_conflict(&mut self, fault: Fault, now: Instant, out: &mut Vec<Action>) {
        if self.speech.is_free() {
            out.extend(fault.active.map(Action::CancelResponse));
            self.speech.wait(RETRY_PAUSE, now);
        }
    }

    /// Ends the call because of the model, which failed with this.
    pub(super) fn fail(&mut self, reason: EndReason, failure: Failure, now: Instant, out: &mut Vec<Action>) {
        if let Some(ending) = self.ending.as_ref().filter(|ending| ending.is_begun) {
            return self.end(ending.reason, now, out); // What there was of a goodbye has been heard.
        }
        if !self.ended {
            self.tally.failure = Some(failure);
        }
        self.end(reason, now, out);
    }

    /// Nobody needs the end of a cut response for ever.
    pub(super) fn forget_cut_response(&mut self, now: Instant) {
        if self.cut_due().is_some_and(|due| due <= now) {
            self.speech.forget_cut();
        }
    }

    pub(super) fn cut_due(&self) -> Option<Instant> {
        self.last_from_model.filter(|_| self.speech.is_active_cut()).map(|last| last + CUT_TIMEOUT)
    }
}

/// How long to wait before the next try, after this many failures in a row.
fn pause(failures: u32, as_told: Option<Duration>) -> Duration {
    let ours = if failures < 2 { Duration::ZERO } else { RETRY_PAUSE * 2u32.pow(failures.min(4) - 2) };
    as_told.map_or(ours, |told| told.max(ours)).min(MAX_PAUSE)
}

fn failure_of(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure.clone(),
        Outcome::Incomplete(Why::Filtered) => Cause::Filtered.into(),
        Outcome::Completed | Outcome::Incomplete(_) | Outcome::Cancelled(_) => Failure::default(),
    }
}
