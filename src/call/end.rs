//! Why calls end, and the goodbye before it.

use std::time::{Duration, Instant};

use crate::call::event::Loss;
use crate::id::ToolCallId;

/// The most time a goodbye has to be heard.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);

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
    HouseDraining,
    HouseOperator,
    HouseFault,
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
        Self::HouseDraining,
        Self::HouseOperator,
        Self::HouseFault,
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
            Self::HouseDraining => "house.draining",
            Self::HouseOperator => "house.operator",
            Self::HouseFault => "house.fault",
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
            | Self::HouseFault => true,
            Self::CallerHungUp
            | Self::CallerRefused
            | Self::AssistantEnded
            | Self::AssistantTransferred
            | Self::LimitSilence
            | Self::LimitDuration
            | Self::HouseDraining
            | Self::HouseOperator => false,
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
        matches!(self.reason, EndReason::AssistantEnded | EndReason::LimitSilence)
    }
}
