//! Turns: the caller speaks, presses keys, and interrupts.

use std::time::{Duration, Instant};

use super::action::{Action, Line, Note, Spoken, Truncation, TurnControl};
use super::doubt::{Doubt, Noise};
use super::ear::Ear;
use super::end::Ending;
use super::playback::Interruption;
use super::speech::What;
use super::{Call, LISTEN_EVERY, LONGEST_SPEECH, TURN_TIMEOUT};
use crate::id::{ItemId, ResponseId};

/// How much earlier than our ear the model may notice the same speech.
const NOTICED_BEFORE: Duration = Duration::from_secs(1);
/// How many turns in a row that our ear does not hear are ended by us.
const MAX_PHANTOMS: u32 = 2;
/// What is shorter is no turn that must be answered although the model did not notice it.
const SHORTEST_TURN: Duration = Duration::from_millis(600);

/// Who holds the floor: what the model hears of the caller, and what our ear does.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// A turn that goes on to the model's ear only. Its end may still be reported.
    pub endless_turn: Option<EndlessTurn>,
    /// Since when the caller speaks, and the item that will hold it.
    pub speaking: Option<(Instant, ItemId)>,
    pub ear: Ear,
    /// What our ear last found.
    pub ear_speaks: bool,
    /// When our ear last heard somebody begin to speak.
    ear_began: Option<Instant>,
    /// Since when our ear hears nobody, while the model believes that a turn goes on, or did not notice it at all.
    pub unnoticed: Option<Instant>,
    /// Turns in a row that the model heard and our ear did not.
    phantoms: u32,
    /// Since when it is quiet, if our ear found that only afterwards.
    pub quiet_from: Option<Instant>,
    /// Our ear heard somebody since the caller last did something that the model noticed.
    pub ear_heard: bool,
    /// When our ear is compared next with what the model hears.
    pub listen: Option<Instant>,
    /// When the model last noticed that the caller spoke.
    pub heard_caller: Option<Instant>,
    /// The greeting is due after the caller's turn: nothing of it was heard.
    pub greet_again: bool,
    /// Speech over the assistant's voice is to be confirmed.
    pub confirms: bool,
    /// What may be speech, over the assistant's voice.
    pub doubt: Option<Doubt>,
    /// What was none.
    pub noise: Option<Noise>,
    /// How loudly the phone hears the assistant, in dB above -63 dBFS, if it does.
    pub echo: Option<u8>,
}

/// A turn that goes on to the model's ear only.
#[derive(Debug)]
pub(super) enum EndlessTurn {
    /// We ended it, and it is answered.
    Ended(ItemId),
    /// Noise, or a voice that is too soft for our ear: the model alone knows when it ends.
    Unheard(Instant, ItemId),
}

impl Call {
    /// The model noticed that the caller began to speak.
    pub(super) fn speech_started(&mut self, item: ItemId, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return; // Speech from before the phone was sent away.
        }
        self.floor.heard_caller = Some(now);
        // Until our ear hears it, too, what is owed stays owed.
        let is_quiet =
            !self.floor.ear_speaks && self.floor.ear.quiet_since(now).is_some() && self.frames_flow(now);
        self.floor.unnoticed = is_quiet.then_some(now);
        self.floor.endless_turn = None;
        if self.doubt(&item, now, out) {
            return;
        }
        let by_model = self.turn_control == TurnControl::Model;
        let model_cancels = by_model && self.plan.at(self.endpoint).provider.abilities.interrupts_by_itself;
        if is_quiet && self.floor.phantoms >= MAX_PHANTOMS {
            // Noise that only the model takes for speech. Nobody waits for an answer, unless it ends.
            self.floor.unnoticed = None;
            self.floor.endless_turn = Some(EndlessTurn::Unheard(now, item));
            if by_model && self.ending.is_none() {
                self.interrupt(model_cancels, now, out);
            }
            return;
        }
        self.begin_turn(item, model_cancels, now, out);
    }

    pub(super) fn begin_turn(
        &mut self,
        item: ItemId,
        model_cancels: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.caller_acts(now);
        self.tally.speech_started();
        self.conversation.caller_began(&item);
        self.floor.speaking = Some((now, item));
        self.floor.listen = Some(now + LISTEN_EVERY / 2);
        self.speech.caller_speaks_again();
        if let Some(id) = self.withdraw_ending(Ending::yields_to_caller) {
            let output = "The caller spoke again, so the call goes on.".to_owned().into();
            self.tell_result(id, output, out);
        }
        if self.is_interruptible() && self.ending.is_none() {
            let greets = self.speech.has_begun(|what| *what == What::Greeting);
            let heard_ms = self.interrupt(model_cancels, now, out);
            if greets && heard_ms == 0 {
                self.greet_again(out);
            }
            self.stop_interrupted_tools(now, out);
        }
        self.cancel_transfer("The caller spoke, so they were not transferred: listen first.", out);
    }

    /// The model noticed that the caller's turn is over.
    pub(super) fn speech_stopped(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.last_from_model = Some(now);
        if self.parked.is_some() {
            return;
        }
        self.floor.heard_caller = Some(now);
        if self.doubted_turn_stopped(now, out) {
            return;
        }
        match self.floor.endless_turn.take().filter(|_| self.floor.speaking.is_none()) {
            Some(EndlessTurn::Ended(_)) => return, // It is answered already.
            Some(EndlessTurn::Unheard(began, item)) => {
                self.caller_acts(now);
                self.conversation.caller_began(&item);
                self.floor.speaking = Some((began, item));
            }
            None => {}
        }
        self.stop_turn(now, out);
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
            TurnControl::Server => self.want_answer(),
        }
        self.tools.answered_by_itself();
    }

    /// The caller's turn is ours to answer.
    fn want_answer(&mut self) {
        if std::mem::take(&mut self.floor.greet_again) {
            self.speech.want(What::Greeting);
        }
        self.speech.want(What::Answer);
    }

    fn stop_turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.silence.restart();
        // A turn that our ear did not hear is no reason to wait any longer.
        if self.floor.unnoticed.take().is_none() {
            self.watch.restart_model();
        }
        self.conversation.caller_stopped();
        if let Some((began, item)) = self.floor.speaking.take() {
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        self.tally.speech_stopped(now);
    }

    /// Stops the assistant's voice at once, and tells the model how much of it was heard: so many milliseconds.
    pub(super) fn interrupt(&mut self, model_cancels: bool, now: Instant, out: &mut Vec<Action>) -> u64 {
        self.floor.doubt = None;
        let active = self.speech.cut();
        let found = self.clear(active.as_ref(), now, out);
        if found.cut {
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
        let heard_ms = found.spoken.iter().map(|spoken| spoken.heard_ms).sum();
        self.voice_cut(heard_ms, now);
        self.was_cut(found, out);
        self.speech.forget_made(|what| *what == What::Greeting);
        heard_ms
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
            self.cleared(now, out);
        }
        found
    }

    /// Playback was taken back, and the phone follows.
    pub(super) fn cleared(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.watch.cleared(now);
        out.push(Action::ClearCaller);
        // The buffer is empty, so the echo of this mark measures the round trip.
        out.push(Action::MarkForCaller(self.playback.mark(now)));
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
            let was_cut =
                spoken.item.clone().filter(|item| spoken.interrupted && found.earlier.contains(item));
            self.spoken(spoken, out);
            // The session was told that all of it would be heard. The conversation knows better now.
            let heard = was_cut.filter(|_| self.model_ready).and_then(|item| self.conversation.heard(&item));
            out.extend(heard.map(|heard| Action::TellModel(Line::HeardOnly(heard))));
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
        self.floor.speaking.as_ref().is_some_and(|(began, _)| now < *began + LONGEST_SPEECH)
    }

    /// Whether the caller speaks by the model's ear or ours.
    pub(super) fn caller_speaks(&self, now: Instant) -> bool {
        match self.floor.speaking {
            Some(_) => self.is_callers_turn(now) && self.floor.unnoticed.is_none(),
            None => self.floor.ear_speaks,
        }
    }

    pub(super) fn ear_changed(&mut self, speaks: bool, now: Instant, out: &mut Vec<Action>) {
        self.floor.ear_speaks = speaks;
        self.floor.ear_heard |= speaks;
        if !speaks {
            self.floor.quiet_from = self.floor.ear.quiet_since(now);
            if self.floor.quiet_from.is_some() && (self.floor.speaking.is_some() || self.is_unnoticed(now)) {
                // An answer is due, whether the model notices the end of the turn or not.
                self.floor.unnoticed = Some(now);
                self.answer_unheard();
            }
        } else {
            (self.floor.ear_began, self.floor.unnoticed) = (Some(now), None);
            self.floor.phantoms = 0;
        }
        if speaks
            && self.floor.speaking.is_none()
            && let Some(EndlessTurn::Ended(item) | EndlessTurn::Unheard(_, item)) =
                self.floor.endless_turn.take()
        {
            // The model does not notice it: to its ear, the last turn goes on.
            self.begin_turn(item, false, now, out);
        }
        self.floor.listen = Some(now + LISTEN_EVERY);
        self.rearm = true;
    }

    /// Whether our ear heard a turn of which the session noticed nothing.
    fn is_unnoticed(&self, now: Instant) -> bool {
        let began = self.floor.ear_began.unwrap_or(now);
        let noticed = self.floor.heard_caller.is_some_and(|at| at + NOTICED_BEFORE >= began);
        let window = now.saturating_duration_since(began) + LISTEN_EVERY;
        !noticed && self.playback.is_voice_over() && self.spoke_within(window, now) >= SHORTEST_TURN
    }

    /// How long the caller spoke in the last `window`, without what may be an echo of the assistant's voice.
    pub(super) fn spoke_within(&self, window: Duration, now: Instant) -> Duration {
        let no_echo = self.watch.echo_until().map(|until| now.saturating_duration_since(until));
        self.floor.ear.speech_within(no_echo.map_or(window, |no_echo| no_echo.min(window)), now)
    }

    /// Counts the turn that ends, if only the model heard it.
    fn count_phantom(&mut self) {
        let Some((began, _)) = self.floor.speaking.as_ref() else { return };
        let is_phantom = self.floor.unnoticed.is_some()
            && self.floor.ear_began.is_none_or(|heard| heard + NOTICED_BEFORE < *began);
        self.floor.phantoms = if is_phantom { self.floor.phantoms + 1 } else { 0 };
    }

    fn frames_flow(&self, now: Instant) -> bool {
        self.last_from_caller.is_some_and(|last| now < last + LISTEN_EVERY)
    }

    /// Compares our ear with the model's.
    pub(super) fn listen(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.floor.listen.take_if(|due| *due <= now).is_none() {
            return;
        }
        if self.floor.ear_speaks && !self.floor.ear.speaks(now) {
            self.ear_changed(false, now, out); // Frames have stopped.
        }
        let quiet = self.floor.ear.quiet_since(now);
        match quiet {
            // Music is no turn, and no silence.
            None => self.floor.unnoticed = None,
            Some(since) if self.floor.speaking.is_some() => {
                let since = self.floor.speaking.as_ref().map_or(since, |(began, _)| since.max(*began));
                self.floor.unnoticed.get_or_insert(since);
            }
            Some(_) => {}
        }
        let is_over = |since: Instant| since + TURN_TIMEOUT <= now;
        if self.floor.unnoticed.is_some_and(is_over) {
            if self.model_ready && quiet.is_some_and(is_over) {
                self.end_turn(now, out);
            }
        } else if self.floor.speaking.is_none() {
            self.replace_if_deaf(now, out);
        }
        if self.floor.speaking.is_some() || self.floor.ear_speaks || self.floor.unnoticed.is_some() {
            self.floor.listen = Some(now + LISTEN_EVERY / 2);
        }
    }

    /// Ends a turn that the model believes to go on, or did not notice.
    fn end_turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some((_, item)) = self.floor.speaking.clone() {
            self.count_phantom();
            self.stop_turn(now, out);
            self.floor.endless_turn = Some(EndlessTurn::Ended(item));
        }
        self.floor.unnoticed = None;
        if self.ending.is_none() && !self.is_away() {
            out.push(Action::CommitAudio);
            self.speech.expect_nothing();
            self.want_answer();
            self.tools.answered_by_itself();
        }
    }
}
