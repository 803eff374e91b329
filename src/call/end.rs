//! The end of a call, and the goodbye before it.

use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Note, Request, Spoken};
use super::end_reason::EndReason;
use super::responses::Ask;
use crate::id::ToolCallId;

/// How long a goodbye may take to be heard.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);
/// How much audio that was queued when the model ended the call is still played.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// How much queued audio may play out before a goodbye of ours; more is cut.
const POLITE_WAIT: Duration = Duration::from_secs(4);

/// A call that is about to end: the goodbye is requested, spoken, heard.
#[derive(Debug)]
pub(super) struct Ending {
    pub reason: EndReason,
    /// When the call ends, whether the goodbye was heard or not.
    pub deadline: Instant,
    pub stage: Stage,
    /// The `end_call` that started it, until it is answered.
    pub tool: Option<ToolCallId>,
    /// The server shuts down: the ending cannot be withdrawn.
    pub is_final: bool,
}

/// How far a goodbye or the announcement of a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Requested, or to be requested as soon as possible.
    Asked,
    /// Begun or complete: what follows it waits until everything is heard.
    Said,
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
        let said = self.response_spoke || !self.playback.is_quiet();
        self.responses.want_nothing();
        self.ending = Some(Ending {
            reason: EndReason::AssistantEnded,
            deadline: now + self.playback.remaining(now).min(LAST_WORDS) + GOODBYE,
            stage: if said { Stage::Said } else { Stage::Asked },
            tool: Some(id),
            is_final: false,
        });
        if self.responses.is_free() {
            self.ask_for_goodbye_if_unsaid(out);
        }
    }

    /// Withdraws an ending that `which` selects. Returns the tool call that is to be answered.
    pub(super) fn withdraw_ending(&mut self, which: impl Fn(&Ending) -> bool) -> Option<ToolCallId> {
        let ending = self.ending.take_if(|ending| which(ending))?;
        self.responses.want_nothing();
        ending.tool
    }

    pub(super) fn ask_for_goodbye_if_unsaid(&mut self, out: &mut Vec<Action>) {
        if let Some(ending) = &mut self.ending
            && ending.stage == Stage::Asked
            && let Some(id) = ending.tool.take()
        {
            let output = "Say goodbye in one short sentence; then the call ends.".to_owned().into();
            out.push(Action::AnswerTool { id, output });
            self.responses.want(Ask::Say(Request::Goodbye(ending.reason)));
        }
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
        if self.responses.active().is_some() || self.playback.remaining(now) > POLITE_WAIT {
            self.interrupt(false, now, out);
        }
        self.cancel_transfer("The call is ending, so the caller was not transferred.", out);
        self.stop_tools_for_goodbye(out);
        self.responses.want_nothing();
        self.responses.want(Ask::Say(Request::Goodbye(reason)));
        self.ending = Some(Ending {
            reason,
            deadline: now + GOODBYE,
            stage: Stage::Asked,
            tool: None,
            is_final: false,
        });
    }

    /// Ends the call, and notes what was being said.
    pub(super) fn end(&mut self, reason: EndReason, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        self.ended = true;
        for spoken in self.playback.interrupt(None, now).spoken {
            let spoken = Spoken { interrupted: false, ..spoken };
            out.push(Action::Note(Note::AssistantSpoke(spoken)));
        }
        if let Some((began, item)) = self.speaking.take() {
            out.push(Action::Note(Note::CallerSpoke { item, began, ended: now }));
        }
        self.stop_tools_at_end(out);
        if self.parked.is_none() {
            out.push(Action::HangUp);
        }
        out.push(Action::End(reason));
    }

    /// The response that was to be the goodbye said nothing.
    pub(super) fn goodbye_failed(&mut self) {
        if let Some(ending) = self.ending.as_mut().filter(|ending| ending.tool.is_none()) {
            ending.stage = Stage::Asked;
        }
    }

    pub(super) fn end_if_heard(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(ending) = &self.ending else { return };
        // The assistant's own goodbye does not cut off jobs that it started before.
        let working = ending.reason == EndReason::AssistantEnded && self.tools.is_running();
        let heard =
            ending.stage == Stage::Said && self.responses.is_free() && self.playback.is_quiet() && !working;
        if heard || ending.deadline <= now {
            self.end(ending.reason, now, out);
        }
    }
}
