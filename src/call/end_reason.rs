//! Why calls end: the closed list that logs, metrics and docs share.

use std::fmt;

use super::event::{Loss, Lost};
use crate::provider::Failure;

codes! {
    /// Why a call ended.
    EndReason {
        CallerHungUp = "caller.hung_up",
        CallerLost = "caller.lost",
        CallerRefused = "caller.refused",
        AssistantEnded = "assistant.ended",
        AssistantTransferred = "assistant.transferred",
        LimitSilence = "limit.silence",
        LimitDuration = "limit.duration",
        LimitCost = "limit.cost",
        ModelUnreachable = "model.unreachable",
        ModelRefused = "model.refused",
        ModelMisconfigured = "model.misconfigured",
        ModelStalled = "model.stalled",
        ModelLost = "model.lost",
        /// Its responses failed again and again.
        ModelFailed = "model.failed",
        ServerDraining = "server.draining",
        OperatorEnded = "operator.ended",
        ServerFault = "server.fault",
    }
}

impl EndReason {
    /// Whether the conversation broke: a caller who is still on the line gets the assistant's `on_failure`.
    pub fn is_failure(self) -> bool {
        match self {
            Self::CallerLost
            | Self::ModelUnreachable
            | Self::ModelRefused
            | Self::ModelMisconfigured
            | Self::ModelStalled
            | Self::ModelLost
            | Self::ModelFailed
            | Self::ServerFault => true,
            Self::CallerHungUp
            | Self::CallerRefused
            | Self::AssistantEnded
            | Self::AssistantTransferred
            | Self::LimitSilence
            | Self::LimitDuration
            | Self::LimitCost
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

impl From<&Lost> for EndReason {
    fn from(lost: &Lost) -> Self {
        match lost.loss {
            Loss::Misconfigured => Self::ModelMisconfigured,
            _ if lost.failure.is_refusal() => Self::ModelRefused,
            Loss::Unreachable => Self::ModelUnreachable,
            Loss::Stalled => Self::ModelStalled,
            Loss::Closed => Self::ModelLost,
        }
    }
}

/// Why a call ends whose responses fail.
impl From<&Failure> for EndReason {
    fn from(failure: &Failure) -> Self {
        if failure.is_refusal() { Self::ModelRefused } else { Self::ModelFailed }
    }
}
