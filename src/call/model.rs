//! The model's side of a call: its responses, and the turns that it and the caller take.

use std::time::Instant;

use super::action::{Action, Anomaly, Note, Request, Truncation, TurnControl};
use super::end::{Ending, Stage};
use super::end_reason::EndReason;
use super::event::{Fault, Loss, Outcome};
use super::greeting::Greeting;
use super::playback::Source;
use super::responses::Ask;
use super::{Call, MARK_EVERY, MAX_UNPLAYED, SPEAKING_TIMEOUT, THINKING_TIMEOUT, count};
use crate::id::{ItemId, ResponseId};
use switchboard_audio::Chunk;

impl Call {
    pub(super) fn response_started(&mut self, response: ResponseId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        self.responses.started(response);
        self.response_spoke = false;
        if self.greeting == Greeting::Asked {
            self.greeting = Greeting::Playing;
            if std::mem::take(&mut self.spoke_before_greeting) {
                self.responses.want(Ask::Next);
            }
        }
        self.tally.response_started();
        if self.parked.is_some() {
            return self.cancel_active(out); // Nobody would hear it.
        }
        if self.speaking.is_some() && self.turn_control == TurnControl::Model && self.responses.can_wait() {
            // We asked before the caller spoke. The model answers them by itself afterwards.
            return self.cancel_active(out);
        }
        self.announcement_begins();
        match &mut self.ending {
            Some(ending) if self.responses.is_goodbye_asked() => ending.stage = Stage::Said,
            // Nothing is said after a goodbye.
            Some(_) => self.cancel_active(out),
            None => {}
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
        if self.responses.is_unannounced(&response) {
            self.response_started(response.clone(), now, out);
        }
        self.last_from_model = Some(now);
        if self.responses.is_discarded(&response) {
            // It was on its way when the response was discarded. The model believes that it was heard.
            count(Anomaly::ModelLateAudio, out);
            if self.responses.cut(&item) {
                self.truncate(Truncation { item, audio_end_ms: 0 }, out);
            }
            return;
        }
        if self.must_drop_audio() {
            return count(Anomaly::ModelAudioDropped, out);
        }
        self.stop_out_of_band(out);
        self.response_spoke = true;
        self.tools.response_spoke(&response);
        if self.responses.active() == Some(&response) && !self.responses.is_dictated() {
            self.consent.assistant_speaks(&response, self.playback.end());
        }
        self.play_voice(Source::Item { item, response }, chunk, now, out);
    }

    /// Whether nobody would hear more of the model, or too much is queued already.
    pub(super) fn must_drop_audio(&self) -> bool {
        self.started.is_none() || self.parked.is_some() || self.playback.unplayed() > MAX_UNPLAYED
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
        outcome: Outcome,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.out_of_band.knows(response) {
            return self.out_of_band_ended(response, outcome, now, out);
        }
        if self.responses.is_unannounced(response) {
            self.response_started(response.clone(), now, out);
        }
        self.last_from_model = Some(now);
        let was_active = self.responses.active() == Some(response) && !self.responses.is_active_discarded();
        let was_filler = self.responses.is_filler_asked();
        let was_silent = was_active && !self.response_spoke;
        let had_to_speak = self.responses.is_goodbye_asked() || self.is_announcing();
        self.responses.ended(response, now);
        self.tools.response_ended(response, outcome);
        self.mark(now, out);
        let call_goes_on = self.ending.is_none() && self.leaving.is_none();
        let tools_follow = call_goes_on && self.tools.is_pending();
        let was_cut_off =
            outcome == Outcome::Incomplete && was_silent && call_goes_on && !self.tools.is_pending();
        match if was_cut_off { Outcome::Failed } else { outcome } {
            Outcome::Completed | Outcome::Incomplete
                if was_silent && had_to_speak && self.responses.failed() =>
            {
                self.goodbye_failed();
                self.announcement_failed();
                self.responses.want(self.retry());
            }
            Outcome::Completed | Outcome::Incomplete => {
                self.consent.response_ended(response);
                self.responses.succeeded();
            }
            Outcome::Cancelled => {}
            Outcome::Refused => return self.end(EndReason::ModelRefused, now, out),
            Outcome::Failed => {
                count(Anomaly::ModelFailedResponse, out);
                if was_active && !self.responses.failed() {
                    return self.end(EndReason::ModelRefused, now, out);
                }
                if was_silent {
                    if !was_filler && !tools_follow {
                        self.responses.want(self.retry());
                    }
                    self.goodbye_failed();
                    self.announcement_failed();
                }
            }
        }
        if was_active {
            self.ask_for_goodbye_if_unsaid(out);
            self.announce_if_unsaid(out);
        }
    }

    /// What to ask for again after a response that said nothing.
    fn retry(&self) -> Ask {
        match &self.ending {
            Some(ending) => Ask::Say(Request::Goodbye(ending.reason)),
            None if self.greeting == Greeting::Playing => self.greeting_ask(),
            None => Ask::Next,
        }
    }

    pub(super) fn model_fault(&mut self, fault: Fault, now: Instant, out: &mut Vec<Action>) {
        count(Anomaly::ModelError, out);
        match fault {
            Fault::RequestFailed if !self.responses.has_asked() => {}
            Fault::RequestFailed if self.responses.is_filler_asked() => self.responses.forget_asked(),
            Fault::RequestFailed if !self.responses.failed() => self.end(EndReason::ModelRefused, now, out),
            Fault::RequestFailed => {
                self.responses.retry_later(now);
                self.request_failed();
            }
            Fault::RequestRefused if self.responses.was_asked() => {
                self.responses.refused();
                self.request_failed();
            }
            Fault::OutOfBandRefused => self.out_of_band.forget_asked(),
            // For a nudge, or for a request that the caller's turn replaced, it means that the answer is being made.
            Fault::ResponseAlreadyActive if self.responses.is_due() && self.responses.was_asked() => {
                self.responses.refused();
                self.greeting_failed();
            }
            Fault::RequestRefused | Fault::ResponseAlreadyActive | Fault::Other => {}
        }
    }

    /// Our request was refused, whatever it was for.
    fn request_failed(&mut self) {
        self.greeting_failed();
        self.goodbye_failed();
        self.announcement_failed();
    }

    pub(super) fn model_lost(&mut self, loss: Loss, now: Instant, out: &mut Vec<Action>) {
        if let Some(parked) = &mut self.parked {
            parked.lost = Some(loss);
            return;
        }
        // A goodbye that has arrived completely is still heard.
        let said = self.ending.as_ref().is_some_and(|ending| ending.stage == Stage::Said);
        if !(said && self.responses.is_free()) {
            self.end(loss.into(), now, out);
        }
    }

    pub(super) fn watch_model(&mut self, now: Instant, out: &mut Vec<Action>) {
        // First of all: a pause that is over would be due again at once.
        self.responses.resume(now);
        if self.model_due().is_none_or(|due| due > now) {
            return;
        }
        if self.responses.forget_discarded(now) {
            return; // Nobody needs the end of a discarded response.
        }
        if self.responses.active().is_none() && self.responses.nudge() {
            count(Anomaly::ModelSlow, out);
            return out.push(Action::AskForResponse);
        }
        self.end(EndReason::ModelStalled, now, out);
    }

    pub(super) fn model_due(&self) -> Option<Instant> {
        let Some(active) = self.responses.active() else { return self.responses.overdue() };
        let discarded = self.responses.is_active_discarded();
        // A goodbye and hosted tools have deadlines of their own.
        if !discarded && (self.ending.is_some() || self.tools.hosted.is_running_in(active)) {
            return None;
        }
        // A discarded response is not thinking.
        let has_begun = self.response_spoke || discarded;
        let timeout = if has_begun { SPEAKING_TIMEOUT } else { THINKING_TIMEOUT };
        let silent_from = self.last_from_model? + timeout;
        // While audio plays, a silent model does no harm.
        Some(self.playback.presumed_over().map_or(silent_from, |over| over.max(silent_from)))
    }

    // ── turns ──

    pub(super) fn speech_started(&mut self, item: ItemId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return; // Speech from before the phone was sent away.
        }
        self.caller_acts(now);
        self.tally.speech_started();
        self.speaking = Some((now, item));
        self.responses.caller_speaks_again();
        if let Some(id) = self.withdraw_ending(Ending::yields_to_caller) {
            let output = "The caller spoke again, so the call goes on.".to_owned().into();
            out.push(Action::AnswerTool { id, output });
        }
        if self.turn_control == TurnControl::Model && self.ending.is_none() {
            self.interrupt(self.plan.provider.abilities.interrupts_by_itself, now, out);
            self.stop_interrupted_tools(out);
        }
        self.cancel_transfer("The caller spoke, so they were not transferred: listen first.", out);
    }

    pub(super) fn speech_stopped(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return;
        }
        self.silence.restart();
        if let Some((began, item)) = self.speaking.take() {
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        self.tally.speech_stopped(now);
        if self.ending.is_some() {
            return;
        }
        match self.turn_control {
            TurnControl::Model => {
                // The model answers what the caller said, so a greeting that it refused earlier comes too late.
                if self.greeting == Greeting::Due {
                    self.greeting = Greeting::Over;
                    self.responses.forget_greeting();
                }
                self.responses.want_only_urgent();
                // A response that began while the caller spoke keeps the model from answering by itself.
                if self.responses.active().is_some() && !self.responses.is_active_discarded() {
                    self.responses.want(Ask::Next);
                }
                self.responses.expect(now);
            }
            TurnControl::Server if matches!(self.greeting, Greeting::Due | Greeting::Asked) => {
                self.spoke_before_greeting = true;
            }
            TurnControl::Server => self.responses.want(Ask::Next),
        }
        self.tools.answered_by_itself();
    }

    /// Stops the assistant's voice at once, and tells the model how much of it was heard.
    pub(super) fn interrupt(&mut self, model_cancels: bool, now: Instant, out: &mut Vec<Action>) {
        let active = self.responses.discard_active();
        let found = self.playback.interrupt(active.as_ref(), now);
        if found.clear {
            self.consent.cut_short();
            out.push(Action::ClearCaller);
            // The buffer is empty, so the echo of this mark measures the round trip.
            out.push(Action::MarkForCaller(self.playback.mark(now)));
        }
        if let Some(response) = active
            && !model_cancels
        {
            out.push(Action::CancelResponse(response));
        }
        self.stop_out_of_band(out);
        for truncation in found.truncations {
            self.responses.cut(&truncation.item);
            self.truncate(truncation, out);
        }
        if let Some(share) = found.clip_share {
            self.tell_model_greeting(share, out);
        }
        if found.spoken.iter().any(|spoken| spoken.interrupted) {
            self.tally.interruptions += 1;
        }
        out.extend(found.spoken.into_iter().map(|spoken| Action::Note(Note::AssistantSpoke(spoken))));
        if matches!(self.greeting, Greeting::Asked | Greeting::Playing) {
            self.greeting = Greeting::Over;
        }
    }

    /// Discards the active response and tells the model to cancel it.
    pub(super) fn cancel_active(&mut self, out: &mut Vec<Action>) {
        out.extend(self.responses.discard_active().map(Action::CancelResponse));
    }

    fn truncate(&self, truncation: Truncation, out: &mut Vec<Action>) {
        if self.plan.provider.abilities.truncates {
            out.push(Action::TruncateItem(truncation));
        }
    }
}
