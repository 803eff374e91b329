//! Why calls end: the closed list that logs, metrics and docs share.

use std::fmt;

use super::event::Loss;

/// Why a call ended.
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
    /// The stable code in logs, metrics and docs.
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

    /// Whether the conversation broke: a caller who is still on the line gets the assistant's `on_failure`.
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

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
