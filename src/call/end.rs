//! Why calls end, and the goodbye before it.

use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Note, Request, Spoken};
use super::event::Loss;
use super::responses::Ask;
use crate::id::ToolCallId;

/// The most time a goodbye has to be heard.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);
/// The most of what was being said when the model ended the call that is heard before that.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// A goodbye waits for this much audio to play out before it; more is cut.
const POLITE_WAIT: Duration = Duration::from_secs(4);

/// Why a call ended: the closed list that log, metrics and docs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    CallerHungUp,
    CallerLost,
    CallerRefused,
    AssistantEnded,
    AssistantTransferred,
    LimitSilence,
    LimitDuration,
    ModelUnreachable,
    ModelRefused,
    ModelMisconfigured,
    ModelStalled,
    ModelLost,
    ServerDraining,
    OperatorEnded,
    ServerFault,
}

impl EndReason {
    /// All of them, for docs and tests.
    pub const ALL: [Self; 15] = [
        Self::CallerHungUp,
        Self::CallerLost,
        Self::CallerRefused,
        Self::AssistantEnded,
        Self::AssistantTransferred,
        Self::LimitSilence,
        Self::LimitDuration,
        Self::ModelUnreachable,
        Self::ModelRefused,
        Self::ModelMisconfigured,
        Self::ModelStalled,
        Self::ModelLost,
        Self::ServerDraining,
        Self::OperatorEnded,
        Self::ServerFault,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::CallerHungUp => "caller.hung_up",
            Self::CallerLost => "caller.lost",
            Self::CallerRefused => "caller.refused",
            Self::AssistantEnded => "assistant.ended",
            Self::AssistantTransferred => "assistant.transferred",
            Self::LimitSilence => "limit.silence",
            Self::LimitDuration => "limit.duration",
            Self::ModelUnreachable => "model.unreachable",
            Self::ModelRefused => "model.refused",
            Self::ModelMisconfigured => "model.misconfigured",
            Self::ModelStalled => "model.stalled",
            Self::ModelLost => "model.lost",
            Self::ServerDraining => "server.draining",
            Self::OperatorEnded => "operator.ended",
            Self::ServerFault => "server.fault",
        }
    }

    /// Whether the conversation broke: whoever is still on the line hears the assistant's `on_failure`.
    pub fn is_failure(self) -> bool {
        match self {
            Self::CallerLost
            | Self::ModelUnreachable
            | Self::ModelRefused
            | Self::ModelMisconfigured
            | Self::ModelStalled
            | Self::ModelLost
            | Self::ServerFault => true,
            Self::CallerHungUp
            | Self::CallerRefused
            | Self::AssistantEnded
            | Self::AssistantTransferred
            | Self::LimitSilence
            | Self::LimitDuration
            | Self::ServerDraining
            | Self::OperatorEnded => false,
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl From<Loss> for EndReason {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Unreachable => Self::ModelUnreachable,
            Loss::Refused => Self::ModelRefused,
            Loss::Misconfigured => Self::ModelMisconfigured,
            Loss::Stalled => Self::ModelStalled,
            Loss::Closed => Self::ModelLost,
        }
    }
}

/// A call on its way out: the goodbye is asked for, spoken, heard.
#[derive(Debug)]
pub(super) struct Ending {
    pub reason: EndReason,
    /// When it ends, heard or not.
    pub deadline: Instant,
    pub stage: Stage,
    /// The `end_call` that started it, while it is unanswered.
    pub tool: Option<ToolCallId>,
    /// The server closes meanwhile: nobody can take it back any more.
    pub is_final: bool,
}

/// How far the goodbye is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// We have asked for it, or will as soon as we may.
    Asked,
    /// It is being said, or was said: the call ends when nothing is left to hear.
    Said,
}

impl Ending {
    /// Whether the caller can stop it by speaking: then the call goes on.
    pub fn yields_to_caller(&self) -> bool {
        !self.is_final && matches!(self.reason, EndReason::AssistantEnded | EndReason::LimitSilence)
    }
}

impl Call {
    /// The model ends the call: its goodbye, said before or in the same breath, is heard first.
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

    /// The call does not end after all, where its end is such a one. What it gives is the tool that is to be answered.
    pub(super) fn take_back(&mut self, which: impl Fn(&Ending) -> bool) -> Option<ToolCallId> {
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

    /// The server ends the call: the assistant says goodbye first.
    pub(super) fn say_goodbye(&mut self, reason: EndReason, now: Instant, out: &mut Vec<Action>) {
        if let Some(ending) = &mut self.ending {
            if reason == EndReason::ServerDraining {
                // The process ends soon, whatever is still being said.
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
        self.stay("The call is ending, so the caller was not passed on.", out);
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

    /// Ends the call. Whoever follows it learns what was being said.
    pub(super) fn end(&mut self, reason: EndReason, now: Instant, out: &mut Vec<Action>) {
        if !self.ended {
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
    }

    /// What was taken for the goodbye was none, or broke before its first word.
    pub(super) fn goodbye_is_unsaid(&mut self) {
        if let Some(ending) = &mut self.ending
            && ending.tool.is_none()
        {
            ending.stage = Stage::Asked;
        }
    }

    pub(super) fn end_if_heard(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(ending) = &self.ending else { return };
        // What was begun before the assistant's own goodbye is not cut off by it.
        let at_work = ending.reason == EndReason::AssistantEnded && self.jobs.is_running();
        let heard =
            ending.stage == Stage::Said && self.responses.is_free() && self.playback.is_quiet() && !at_work;
        if heard || ending.deadline <= now {
            self.end(ending.reason, now, out);
        }
    }
}
