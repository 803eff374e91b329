//! The model's side of a call: its responses.

use std::time::{Duration, Instant};

use super::action::{Action, Anomaly, Truncation, TurnControl};
use super::end_reason::EndReason;
use super::event::{About, Fault, Loss, Lost, Outcome};
use super::playback::Source;
use super::speech::{Running, What};
use super::transfer::Leaving;
use super::{Call, MARK_EVERY, MAX_UNPLAYED, RESPONSE_TIMEOUT, SPEAKING_TIMEOUT, THINKING_TIMEOUT, count};
use crate::id::{ItemId, ResponseId};
use crate::provider::{Class, Failure};
use switchboard_audio::Chunk;

/// How long after a refusal a response is requested again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Call {
    pub(super) fn response_started(&mut self, response: ResponseId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        let begun = self.speech.begun(response);
        let (waits, is_goodbye) = (begun.can_wait(), begun.what.is_goodbye());
        self.tally.response_started();
        if self.leaving.as_ref().is_some_and(Leaving::is_announced) {
            self.speech.begins_announcement();
        }
        // Nobody would hear it, or we asked before the caller spoke, whom the model answers by itself afterwards.
        let unheard = self.is_away();
        let talks_over = self.speaking.is_some() && self.turn_control == TurnControl::Model && waits;
        // Nothing is said after a goodbye.
        let too_late = self.ending.is_some() && !is_goodbye;
        if unheard || talks_over || too_late {
            self.cancel_active(out);
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
            self.response_started(response.clone(), now, out);
        }
        self.last_from_model = Some(now);
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
        self.speech.spoke(&response);
        self.tools.response_spoke(&response);
        let running = self.speech.running().filter(|_| self.speech.active() == Some(&response));
        if running.is_some_and(|running| !running.what.is_dictated()) {
            self.consent.assistant_speaks(&response, self.playback.end());
        }
        self.play_voice(Source::Item { item, response }, chunk, now, out);
    }

    /// Whether nobody would hear more of the model, or too much is queued already.
    pub(super) fn must_drop_audio(&self) -> bool {
        self.started.is_none() || self.is_away() || self.playback.unplayed() > MAX_UNPLAYED
    }

    pub(super) fn play_voice(&mut self, source: Source, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        self.play(source, chunk, out);
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
            self.response_started(response.clone(), now, out);
        }
        self.last_from_model = Some(now);
        let ended = self.speech.ended(response, now);
        self.tools.response_ended(response, outcome);
        self.mark(now, out);
        let goes_on = self.ending.is_none() && self.leaving.is_none();
        let tools_follow = goes_on && self.tools.is_pending();
        let silent = ended.as_ref().filter(|ended| !ended.spoke).map(|ended| ended.what.clone());
        let cut_off =
            matches!(outcome, Outcome::Incomplete(_)) && silent.is_some() && goes_on && !tools_follow;
        let failed = Outcome::Failed(Failure::default());
        match if cut_off { &failed } else { outcome } {
            Outcome::Completed | Outcome::Incomplete(_) => {
                if let Some(what) = silent.filter(What::must_speak)
                    && self.speech.failed() == 1
                {
                    self.speech.want(what);
                } else {
                    self.consent.response_ended(response);
                    self.speech.succeeded();
                    self.made(ended);
                }
            }
            Outcome::Cancelled(_) => self.made(ended),
            Outcome::Failed(failure) if failure.is_refusal() => {
                return self.fail(EndReason::ModelRefused, failure.clone(), now, out);
            }
            Outcome::Failed(failure) => {
                count(Anomaly::ModelFailedResponse, out);
                if ended.is_some() && self.speech.failed() > 1 {
                    return self.fail(EndReason::from(failure), failure.clone(), now, out);
                }
                match silent {
                    Some(what) if !what.is_filler() && !tools_follow => self.speech.want(what),
                    _ => self.made(ended),
                }
            }
        }
        self.ask_for_goodbye_if_unsaid(out);
        self.announce_if_unsaid(out);
    }

    fn made(&mut self, ended: Option<Running>) {
        if let Some(ended) = ended {
            self.speech.made(ended.what);
        }
    }

    pub(super) fn model_fault(&mut self, fault: Fault, now: Instant, out: &mut Vec<Action>) {
        if fault.failure.is_refusal() {
            return self.model_lost(Lost { loss: Loss::Closed, failure: fault.failure }, now, out);
        }
        count(Anomaly::ModelError, out);
        let is_conflict = fault.failure.class() == Some(Class::Conflict);
        match fault.about {
            About::Request if is_conflict => self.speech.refused(true),
            About::Request if !self.speech.has_asked() => {}
            About::Request if self.speech.is_filler_due() => self.speech.forget_asked(),
            About::Request if self.speech.failed() > 1 => {
                self.fail(EndReason::from(&fault.failure), fault.failure, now, out);
            }
            About::Request => self.speech.retry_later(RETRY_PAUSE, now),
            About::OutOfBand => self.out_of_band.forget_asked(),
            // For a nudge, or for a request that the caller's turn replaced, it means that the answer is being made.
            About::Other if is_conflict => self.speech.refused(false),
            About::Other => {}
        }
    }

    pub(super) fn model_lost(&mut self, lost: Lost, now: Instant, out: &mut Vec<Action>) {
        if let Some(parked) = &mut self.parked {
            parked.lost = Some(lost);
            return;
        }
        // A goodbye that has arrived completely is still heard.
        if !self.speech.is_made(What::is_goodbye) {
            self.fail(EndReason::from(&lost), lost.failure, now, out);
        }
    }

    /// Ends the call because of the model, which failed with this.
    pub(super) fn fail(&mut self, reason: EndReason, failure: Failure, now: Instant, out: &mut Vec<Action>) {
        if !self.ended {
            self.tally.failure = Some(failure);
        }
        self.end(reason, now, out);
    }

    pub(super) fn watch_model(&mut self, now: Instant, out: &mut Vec<Action>) {
        // First of all: a pause that is over would be due again at once.
        self.speech.resume(now);
        if self.model_due().is_none_or(|due| due > now) {
            return;
        }
        if self.speech.is_active_cut() {
            return self.speech.forget_cut(now); // Nobody needs its end.
        }
        if self.speech.active().is_none() && self.speech.nudge() {
            count(Anomaly::ModelSlow, out);
            return out.push(Action::AskForResponse);
        }
        self.end(EndReason::ModelStalled, now, out);
    }

    pub(super) fn model_due(&self) -> Option<Instant> {
        let Some(running) = self.speech.running() else {
            let due = self.speech.due_since().map(|due| {
                due + if self.speech.has_asked() { RESPONSE_TIMEOUT * 2 } else { RESPONSE_TIMEOUT }
            });
            return due.or(self.speech.pause());
        };
        let cut = running.is_cut();
        // A goodbye and hosted tools have deadlines of their own.
        let hosted = self.speech.active().is_some_and(|active| self.tools.hosted.is_running_in(active));
        if !cut && (self.ending.is_some() || hosted) {
            return None;
        }
        // A cut response is not thinking.
        let timeout = if running.spoke || cut { SPEAKING_TIMEOUT } else { THINKING_TIMEOUT };
        let silent_from = self.last_from_model? + timeout;
        // While audio plays, a silent model does no harm.
        Some(self.playback.presumed_over().map_or(silent_from, |over| over.max(silent_from)))
    }
}
