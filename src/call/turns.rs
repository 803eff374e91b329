//! Turns: the caller speaks, presses keys, and interrupts.

use std::time::Instant;

use super::Call;
use super::action::{Action, Note, Truncation, TurnControl};
use super::end::Ending;
use super::speech::What;
use crate::id::ItemId;

impl Call {
    pub(super) fn speech_started(&mut self, item: ItemId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return; // Speech from before the phone was sent away.
        }
        self.caller_acts(now);
        self.tally.speech_started();
        self.speaking = Some((now, item));
        self.speech.caller_speaks_again();
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
                self.speech.forget_covered();
                // A response that began while the caller spoke keeps the model from answering by itself.
                if self.speech.running().is_some_and(|running| !running.is_cut()) {
                    self.speech.want(What::Answer);
                }
                self.speech.expect(now);
            }
            TurnControl::Server => self.speech.want(What::Answer),
        }
        self.tools.answered_by_itself();
    }

    /// Stops the assistant's voice at once, and tells the model how much of it was heard.
    pub(super) fn interrupt(&mut self, model_cancels: bool, now: Instant, out: &mut Vec<Action>) {
        let active = self.speech.cut();
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
            self.speech.cut_item(&truncation.item);
            self.truncate(truncation, out);
        }
        if let Some(share) = found.clip_share {
            self.tell_model_greeting(share, out);
        }
        if found.spoken.iter().any(|spoken| spoken.interrupted) {
            self.tally.interruptions += 1;
        }
        out.extend(found.spoken.into_iter().map(|spoken| Action::Note(Note::AssistantSpoke(spoken))));
        self.speech.forget_made(|what| *what == What::Greeting);
    }

    /// Cuts the running response and tells the model to cancel it.
    pub(super) fn cancel_active(&mut self, out: &mut Vec<Action>) {
        out.extend(self.speech.cut().map(Action::CancelResponse));
    }

    pub(super) fn truncate(&self, truncation: Truncation, out: &mut Vec<Action>) {
        if self.plan.provider.abilities.truncates {
            out.push(Action::TruncateItem(truncation));
        }
    }
}
