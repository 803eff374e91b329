//! The model's side of a call: its responses, and the turns that it and the caller take.

use std::time::Instant;

use super::action::{Action, Anomaly, Note, Request, Truncation, TurnControl};
use super::end::{EndReason, Ending, Stage};
use super::event::{Fault, Loss, Outcome};
use super::greeting::Greeting;
use super::playback::Source;
use super::responses::Ask;
use super::{Call, MARK_EVERY, MAX_AHEAD, SILENT_RESPONSE, THOUGHTFUL_RESPONSE, odd};
use crate::id::{ItemId, ResponseId};
use switchboard_audio::Chunk;

impl Call {
    pub(super) fn model_ready(&mut self, out: &mut Vec<Action>) {
        self.model_ready = true;
        self.early_bytes = 0;
        out.extend(self.untold.drain(..).map(Action::TellModel));
        out.extend(self.early.drain(..).map(Action::AppendToModel));
    }

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
            // Nobody would hear it.
            return out.extend(self.responses.discard_active().map(Action::CancelResponse));
        }
        if self.speaking.is_some() && self.turns_by == TurnControl::Model && self.responses.can_wait() {
            // It was asked for before they spoke. The model answers them by itself when they have.
            return out.extend(self.responses.discard_active().map(Action::CancelResponse));
        }
        self.announcement_begins();
        match &mut self.ending {
            Some(ending) if self.responses.is_goodbye_asked() => ending.stage = Stage::Said,
            // Nothing is said after a goodbye.
            Some(_) => out.extend(self.responses.discard_active().map(Action::CancelResponse)),
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
        if self.asides.knows(&response) {
            return self.aside_audio(response, item, chunk, now, out);
        }
        if self.responses.is_news(&response) {
            self.response_started(response.clone(), now, out);
        }
        self.last_from_model = Some(now);
        if self.responses.is_discarded(&response) {
            // It was on its way when the response was given up. The model believes that it was heard.
            odd(Anomaly::ModelLateAudio, out);
            if self.responses.cut(&item) {
                self.truncate(Truncation { item, audio_end_ms: 0 }, out);
            }
            return;
        }
        if self.must_drop() {
            return odd(Anomaly::ModelAudioDropped, out);
        }
        self.stop_aside(out);
        self.response_spoke = true;
        self.jobs.rounds = 0;
        self.jobs.speaks(&response);
        if self.responses.active() == Some(&response) && !self.responses.is_told_what_to_say() {
            self.consent.assistant_speaks(&response, self.playback.end());
        }
        self.put_out(Source::Item { item, response }, chunk, now, out);
    }

    /// Nobody is there to hear more of the model, or too much waits already.
    pub(super) fn must_drop(&self) -> bool {
        self.started.is_none() || self.parked.is_some() || self.playback.unplayed() > MAX_AHEAD
    }

    /// The model's voice, on its way to the phone.
    pub(super) fn put_out(&mut self, source: Source, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        for chunk in chunk.pieces() {
            self.play(source.clone(), chunk, out);
        }
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
        if self.asides.knows(response) {
            return self.aside_ended(response, outcome, now, out);
        }
        if self.responses.is_news(response) {
            self.response_started(response.clone(), now, out);
        }
        self.last_from_model = Some(now);
        let was_active = self.responses.active() == Some(response) && !self.responses.is_active_discarded();
        let was_filler = self.responses.is_filler_asked();
        let is_mute = was_active && !self.response_spoke;
        let was_to_be_said = self.responses.is_goodbye_asked() || self.is_announcing();
        self.responses.ended(response, now);
        self.jobs.response_ended(response, outcome);
        self.mark(now, out);
        let nobody_leaves = self.ending.is_none() && self.leaving.is_none();
        let nothing_follows = is_mute && nobody_leaves && !self.jobs.is_pending();
        let broke = outcome == Outcome::Incomplete && nothing_follows;
        match if broke { Outcome::Failed } else { outcome } {
            Outcome::Completed | Outcome::Incomplete
                if is_mute && was_to_be_said && self.responses.failed() =>
            {
                self.goodbye_is_unsaid();
                self.announcement_is_unsaid();
                self.responses.want(self.retry());
            }
            Outcome::Completed | Outcome::Incomplete => {
                self.consent.response_ended(response);
                self.responses.succeeded();
            }
            Outcome::Cancelled => {}
            Outcome::Refused => return self.end(EndReason::ModelRefused, now, out),
            Outcome::Failed => {
                odd(Anomaly::ModelFailedResponse, out);
                if was_active && !self.responses.failed() {
                    return self.end(EndReason::ModelRefused, now, out);
                }
                if is_mute {
                    // What follows the tools makes up for it.
                    let made_up = was_filler || (nobody_leaves && self.jobs.is_pending());
                    if !made_up {
                        self.responses.want(self.retry());
                    }
                    self.goodbye_is_unsaid();
                    self.announcement_is_unsaid();
                }
            }
        }
        if was_active {
            self.ask_for_goodbye_if_unsaid(out);
            self.announce_if_unsaid(out);
        }
    }

    /// What a response that broke before its first word was to say.
    pub(super) fn retry(&self) -> Ask {
        match &self.ending {
            Some(ending) => Ask::Say(Request::Goodbye(ending.reason)),
            None if self.greeting == Greeting::Playing => self.opening(),
            None => Ask::Next,
        }
    }

    pub(super) fn model_fault(&mut self, fault: Fault, now: Instant, out: &mut Vec<Action>) {
        odd(Anomaly::ModelError, out);
        match fault {
            Fault::RequestFailed if !self.responses.has_asked() => {}
            Fault::RequestFailed if self.responses.is_filler_asked() => self.responses.forget_asked(),
            Fault::RequestFailed if !self.responses.failed() => self.end(EndReason::ModelRefused, now, out),
            Fault::RequestFailed => {
                self.responses.put_off(now);
                self.request_is_unsaid();
            }
            Fault::RequestRefused if self.responses.was_asked() => {
                self.responses.refused();
                self.request_is_unsaid();
            }
            Fault::OutOfBandRefused => self.asides.forget_asked(),
            // Of a nudge, or of a request that the caller's turn has replaced, it says that the answer is being made.
            Fault::ResponseAlreadyActive if self.responses.is_due() && self.responses.was_asked() => {
                self.responses.refused();
                self.greeting_is_unsaid();
            }
            Fault::RequestRefused | Fault::ResponseAlreadyActive | Fault::Other => {}
        }
    }

    /// Nothing comes of our request for now, whatever it was to say.
    fn request_is_unsaid(&mut self) {
        self.greeting_is_unsaid();
        self.goodbye_is_unsaid();
        self.announcement_is_unsaid();
    }

    pub(super) fn model_lost(&mut self, loss: Loss, now: Instant, out: &mut Vec<Action>) {
        if let Some(parked) = &mut self.parked {
            parked.lost = Some(loss);
            return;
        }
        // A goodbye that is all here is still heard.
        let said = self.ending.as_ref().is_some_and(|ending| ending.stage == Stage::Said);
        if !(said && self.responses.is_free()) {
            self.end(loss.into(), now, out);
        }
    }

    pub(super) fn watch_model(&mut self, now: Instant, out: &mut Vec<Action>) {
        // Before all else: a pause that is over would be due again at once.
        self.responses.resume(now);
        if self.model_due().is_none_or(|due| due > now) {
            return;
        }
        if self.responses.forget_discarded(now) {
            return; // It was given up long ago; that nobody says it ended harms nobody.
        }
        if self.responses.active().is_none() && self.responses.nudge() {
            odd(Anomaly::ModelSlow, out);
            return out.push(Action::AskForResponse);
        }
        self.end(EndReason::ModelStalled, now, out);
    }

    pub(super) fn model_due(&self) -> Option<Instant> {
        if self.responses.active().is_none() {
            return self.responses.overdue();
        }
        if self.ending.is_some() && !self.responses.is_active_discarded() {
            return None; // The goodbye has a deadline of its own.
        }
        let waits = |response| self.jobs.is_hosting(response) && !self.responses.is_discarded(response);
        if self.responses.active().is_some_and(waits) {
            return None; // So have the host's tools.
        }
        // While audio plays, a silent model harms nobody.
        let nothing_plays_from = self.playback.presumed_over();
        // One that was given up does not think any more.
        let soon = self.response_spoke || self.responses.is_active_discarded();
        let patience = if soon { SILENT_RESPONSE } else { THOUGHTFUL_RESPONSE };
        let silent_from = self.last_from_model? + patience;
        Some(nothing_plays_from.map_or(silent_from, |over| over.max(silent_from)))
    }

    // ── turns ──

    pub(super) fn speech_started(&mut self, item: ItemId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return; // The end of what the phone sent before it went.
        }
        self.caller_acts(now);
        self.tally.speech_started();
        self.speaking = Some((now, item));
        self.responses.caller_goes_on();
        if let Some(id) = self.take_back(Ending::yields_to_caller) {
            let output = "The caller spoke again, so the call goes on.".to_owned().into();
            out.push(Action::AnswerTool { id, output });
        }
        if self.turns_by == TurnControl::Model && self.ending.is_none() {
            self.interrupt(self.plan.provider.abilities.interrupts_by_itself, now, out);
            self.stop_interrupted_tools(out);
        }
        self.stay("The caller spoke, so they were not passed on: listen first.", out);
    }

    pub(super) fn speech_stopped(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return;
        }
        self.quiet.heard_from_caller();
        if let Some((began, item)) = self.speaking.take() {
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        self.tally.speech_stopped(now);
        match self.turns_by {
            _ if self.ending.is_some() => {}
            TurnControl::Model => {
                // One that was refused comes too late: the caller has begun, and the model answers them.
                if self.greeting == Greeting::Due {
                    self.greeting = Greeting::Over;
                    self.responses.forget_greeting();
                }
                self.responses.answered_anyway();
                self.jobs.is_answered();
                // One that began while the caller spoke keeps the model from answering by itself.
                if self.responses.active().is_some() && !self.responses.is_active_discarded() {
                    self.responses.want(Ask::Next);
                }
                self.responses.expect(now);
            }
            TurnControl::Server => {
                if matches!(self.greeting, Greeting::Due | Greeting::Asked) {
                    self.spoke_before_greeting = true;
                } else {
                    self.responses.want(Ask::Next);
                }
                self.jobs.is_answered();
            }
        }
    }

    /// Stops the assistant's voice at once, and tells the model how much of it was heard.
    pub(super) fn interrupt(&mut self, model_cancels: bool, now: Instant, out: &mut Vec<Action>) {
        let active = self.responses.discard_active();
        let found = self.playback.interrupt(active.as_ref(), now);
        if found.clear {
            self.consent.cut_short();
            out.push(Action::ClearCaller);
            // On an empty buffer: its echo measures the round trip anew.
            out.push(Action::MarkForCaller(self.playback.mark(now)));
        }
        if let Some(response) = active
            && !model_cancels
        {
            out.push(Action::CancelResponse(response));
        }
        self.stop_aside(out);
        for truncation in found.truncations {
            self.responses.cut(&truncation.item);
            self.truncate(truncation, out);
        }
        if let Some(share) = found.clip_share {
            self.tell_greeting(share, out);
        }
        if found.spoken.iter().any(|spoken| spoken.interrupted) {
            self.tally.interrupted();
        }
        out.extend(found.spoken.into_iter().map(|spoken| Action::Note(Note::AssistantSpoke(spoken))));
        if matches!(self.greeting, Greeting::Asked | Greeting::Playing) {
            self.greeting = Greeting::Over;
        }
    }

    pub(super) fn truncate(&self, truncation: Truncation, out: &mut Vec<Action>) {
        if self.plan.provider.abilities.truncates {
            out.push(Action::TruncateItem(truncation));
        }
    }
}
