//! Turns: the caller speaks, presses keys, and interrupts.

use std::time::Instant;

use super::action::{Action, Line, Note, Spoken, Truncation, TurnControl};
use super::end::Ending;
use super::playback::Interruption;
use super::speech::What;
use super::{Call, LISTEN_EVERY, LONGEST_SPEECH, TURN_TIMEOUT};
use crate::id::{ItemId, ResponseId};

impl Call {
    pub(super) fn speech_started(&mut self, item: ItemId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return; // Speech from before the phone was sent away.
        }
        self.caller_acts(now);
        self.tally.speech_started();
        self.heard_caller = Some(now);
        self.conversation.caller_began(&item);
        self.speaking = Some((now, item));
        self.listen = Some(now + TURN_TIMEOUT);
        self.speech.caller_speaks_again();
        if let Some(id) = self.withdraw_ending(Ending::yields_to_caller) {
            let output = "The caller spoke again, so the call goes on.".to_owned().into();
            self.tell_result(id, output, out);
        }
        if self.turn_control == TurnControl::Model && self.ending.is_none() {
            self.interrupt(self.plan.at(self.endpoint).provider.abilities.interrupts_by_itself, now, out);
            self.stop_interrupted_tools(out);
        }
        self.cancel_transfer("The caller spoke, so they were not transferred: listen first.", out);
    }

    pub(super) fn speech_stopped(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return;
        }
        self.heard_caller = Some(now);
        if std::mem::take(&mut self.turn_ended_by_us) && self.speaking.is_none() {
            return; // It is answered already.
        }
        self.silence.restart();
        self.watch.restart();
        self.conversation.caller_stopped();
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
        let found = self.clear(active.as_ref(), now, out);
        if found.clear {
            self.consent.cut_short();
        }
        if let Some(response) = active
            && !model_cancels
        {
            out.push(Action::CancelResponse(response));
        }
        self.stop_out_of_band(out);
        if found.spoken.iter().any(|spoken| spoken.interrupted) {
            self.tally.interruptions += 1;
        }
        self.was_cut(found, out);
        self.speech.forget_made(|what| *what == What::Greeting);
    }

    /// Empties the phone's buffer.
    pub(super) fn clear(
        &mut self,
        active: Option<&ResponseId>,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> Interruption {
        let found = self.playback.interrupt(active, now);
        if found.clear {
            out.push(Action::ClearCaller);
            // The buffer is empty, so the echo of this mark measures the round trip.
            out.push(Action::MarkForCaller(self.playback.mark(now)));
        }
        found
    }

    /// Tells the model how much was heard of what was cut.
    pub(super) fn was_cut(&mut self, found: Interruption, out: &mut Vec<Action>) {
        for truncation in found.truncations {
            self.speech.cut_item(&truncation.item);
            self.truncate(truncation, out);
        }
        for (recording, share) in found.recordings {
            self.tell_model_recording(recording, share, out);
        }
        for spoken in found.spoken {
            let was_cut = spoken.item.clone().filter(|item| spoken.interrupted && found.earlier.contains(item));
            self.spoken(spoken, out);
            // The session was told that all of it would be heard.
            if let Some(heard) = was_cut.and_then(|item| self.conversation.heard(&item)) {
                self.tell_model(Line::HeardOnly(heard), out);
            }
        }
    }

    /// The phone has played all that it will play of something.
    pub(super) fn spoken(&mut self, spoken: Spoken, out: &mut Vec<Action>) {
        if let Some(item) = &spoken.item {
            self.conversation.assistant_heard(item, spoken.heard_ms);
        }
        out.push(Action::Note(Note::AssistantSpoke(spoken)));
    }

    /// Cuts the running response and tells the model to cancel it.
    pub(super) fn cancel_active(&mut self, out: &mut Vec<Action>) {
        out.extend(self.speech.cut().map(Action::CancelResponse));
    }

    pub(super) fn truncate(&self, truncation: Truncation, out: &mut Vec<Action>) {
        if self.plan.at(self.endpoint).provider.abilities.truncates {
            out.push(Action::TruncateItem(truncation));
        }
    }

    // ── our own ear ──

    /// Whether the caller has the floor by the model's ear. Music, or a monologue, has it for a minute only.
    pub(super) fn is_callers_turn(&self, now: Instant) -> bool {
        self.speaking.as_ref().is_some_and(|(began, _)| now < *began + LONGEST_SPEECH)
    }

    /// Whether the caller speaks by the model's ear or ours.
    pub(super) fn caller_speaks(&self, now: Instant) -> bool {
        match self.speaking {
            Some(_) => self.is_callers_turn(now),
            None => self.ear_speaks,
        }
    }

    pub(super) fn ear_changed(&mut self, speaks: bool, now: Instant, out: &mut Vec<Action>) {
        self.ear_speaks = speaks;
        self.ear_heard |= speaks;
        self.listen = Some(now + LISTEN_EVERY);
        self.rearm = true;
        self.settle(now, out);
    }

    /// Compares our ear with the model's.
    pub(super) fn listen(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.listen.take_if(|due| *due <= now).is_none() {
            return;
        }
        // Frames may have stopped.
        self.ear_speaks &= self.ear.speaks(now);
        if let Some(began) = self.speaking.as_ref().map(|(began, _)| *began)
            && self.last_from_caller.is_some_and(|last| now < last + LISTEN_EVERY)
            && self.ear.quiet_since(now).is_some_and(|since| since.max(began) + TURN_TIMEOUT <= now)
        {
            self.end_turn(now, out);
        } else if self.speaking.is_none() {
            self.replace_if_deaf(now, out);
        }
        if self.speaking.is_some() || self.ear_speaks {
            self.listen = Some(now + LISTEN_EVERY / 2);
        }
    }

    /// Ends a turn that the model believes to go on.
    fn end_turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.speech_stopped(now, out);
        self.turn_ended_by_us = true;
        if self.ending.is_none() {
            out.push(Action::CommitAudio);
            self.speech.forget_asked();
            self.speech.want(What::Answer);
        }
    }
}
