//! The end of a call, and the goodbye before it.

use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Note, Spoken};
use super::end_reason::EndReason;
use super::speech::What;
use crate::id::ToolCallId;

/// How long a goodbye may take to be heard.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);
/// How much audio that was queued when the model ended the call is still played.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// How much queued audio may play out before a goodbye of ours; more is cut.
const POLITE_WAIT: Duration = Duration::from_secs(4);

/// A call that is about to end, once its goodbye is heard.
#[derive(Debug)]
pub(super) struct Ending {
    pub reason: EndReason,
    /// When the call ends, whether the goodbye was heard or not.
    pub deadline: Instant,
    /// The `end_call` that started it, until it is answered.
    pub tool: Option<ToolCallId>,
    /// The server shuts down: the ending cannot be withdrawn.
    pub is_final: bool,
    /// The caller heard the beginning of a goodbye that broke off.
    pub is_begun: bool,
}

impl Ending {
    /// Whether the call goes on if the caller speaks.
    pub fn yields_to_caller(&self) -> bool {
        !self.is_final && matches!(self.reason, EndReason::AssistantEnded | EndReason::LimitSilence)
    }
}

impl Call {
    /// The model ends the call. The goodbye that it has already said or is saying is heard first.
    pub(super) fn end_call(&mut self, id: ToolCallId, now: Instant, out: &mut Vec<Action>) {
        let said = self.speech.has_spoken() || !self.playback.is_voice_over();
        self.speech.want_nothing();
        self.ending = Some(Ending {
            reason: EndReason::AssistantEnded,
            deadline: now + self.playback.remaining(now).min(LAST_WORDS) + GOODBYE,
            tool: Some(id),
            is_final: false,
            is_begun: false,
        });
        if said {
            self.speech.count_as(What::Goodbye(EndReason::AssistantEnded));
        } else if self.speech.is_free() {
            self.ask_for_goodbye_if_unsaid(out);
        }
    }

    /// Withdraws an ending that `which` selects. Returns the tool call that is to be answered.
    pub(super) fn withdraw_ending(&mut self, which: impl Fn(&Ending) -> bool) -> Option<ToolCallId> {
        let ending = self.ending.take_if(|ending| which(ending))?;
        self.speech.want_nothing();
        self.speech.forget_goodbye();
        ending.tool
    }

    pub(super) fn ask_for_goodbye_if_unsaid(&mut self, out: &mut Vec<Action>) {
        let Some(ending) = self.ending.as_mut().filter(|_| !self.speech.has_begun(What::is_goodbye)) else {
            return;
        };
        let reason = ending.reason;
        if let Some(id) = ending.tool.take() {
            let output = "Say goodbye in one short sentence; then the call ends.".to_owned().into();
            self.tell_result(id, output, out);
            self.speech.want(What::Goodbye(reason));
        }
    }

    /// The server shuts down.
    pub(super) fn draining(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(parked) = &mut self.parked {
            return parked.draining(now);
        }
        if let Some(lost) = &mut self.lost {
            lost.draining(now);
        }
        self.say_goodbye(EndReason::ServerDraining, now, out);
    }

    /// The owner ends the call. Without a phone, nobody would hear a goodbye.
    pub(super) fn operator_ends(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.is_away() {
            return self.end(EndReason::OperatorEnded, now, out);
        }
        if let Some(ending) = &mut self.ending {
            // The caller cannot keep the call any more.
            ending.is_final = true;
            return;
        }
        self.say_goodbye(EndReason::OperatorEnded, now, out);
    }

    /// The server ends the call. The assistant says goodbye first.
    pub(super) fn say_goodbye(&mut self, reason: EndReason, now: Instant, out: &mut Vec<Action>) {
        if let Some(ending) = &mut self.ending {
            if reason == EndReason::ServerDraining {
                // The process exits soon, even in the middle of a sentence.
                ending.deadline = ending.deadline.min(now + GOODBYE);
                ending.is_final = true;
            }
            return;
        }
        if self.started.is_none() {
            return self.end(reason, now, out);
        }
        if self.speech.active().is_some() || self.playback.remaining(now) > POLITE_WAIT {
            self.interrupt(false, now, out);
        }
        self.cancel_transfer("The call is ending, so the caller was not transferred.", out);
        self.stop_tools_for_goodbye(now, out);
        self.speech.want_nothing();
        self.speech.want(What::Goodbye(reason));
        self.ending =
            Some(Ending { reason, deadline: now + GOODBYE, tool: None, is_final: false, is_begun: false });
    }

    /// Ends the call, and notes what was being said.
    pub(super) fn end(&mut self, reason: EndReason, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.tally.silence = self.watch.longest(now);
        self.gap(self.watch.unheard(now), false, out);
        let found = self.playback.interrupt(self.speech.active(), now);
        // A form after the call is about what the caller heard.
        for truncation in found.truncations.into_iter().filter(|_| self.plan.after_call.is_some()) {
            self.truncate(truncation, out);
        }
        for spoken in found.spoken {
            let spoken = Spoken { interrupted: false, ..spoken };
            self.spoken(spoken, out);
        }
        if let Some((began, item)) = self.floor.speaking.take() {
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        self.reconnected(out);
        self.stop_tools_at_end(now, out);
        if self.parked.is_none() {
            out.push(Action::HangUp);
        }
        out.push(Action::End(reason));
    }

    pub(super) fn end_if_heard(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(ending) = self.ending.as_ref().filter(|_| self.lost.is_none()) else { return };
        // The assistant's own goodbye does not cut off jobs that it started before.
        let working = ending.reason == EndReason::AssistantEnded && self.tools.is_running();
        let heard = self.speech.is_made(What::is_goodbye) && self.playback.is_quiet() && !working;
        if heard || ending.deadline <= now {
            self.end(ending.reason, now, out);
        }
    }
}
