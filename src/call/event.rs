//! What happens to a call.

use std::time::Instant;

use crate::id::{ApprovalId, ItemId, Mark, Piece, ResponseId, ToolCallId};
use crate::provider::Failure;
use crate::provider::usage::{Tokens, Transcribed};
use crate::secret::Private;
use switchboard_audio::Chunk;

/// Something that happened to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The phone is connected: audio may flow both ways.
    StreamStarted,
    /// The phone's socket is gone for a reason that is not known yet. A new stream may follow.
    StreamLost,
    CallerAudio(Chunk),
    /// The phone has played or discarded everything before the mark.
    MarkPlayed(Mark),
    /// A key was pressed.
    Digit(char),
    CallerHungUp,

    /// The model is configured.
    ModelReady {
        /// Which of the plan's endpoints serves the call.
        endpoint: usize,
    },
    ResponseStarted {
        response: ResponseId,
        origin: Origin,
    },
    /// The response that [`SayOutOfBand`](crate::call::Action::SayOutOfBand) requested has started.
    OutOfBandStarted(ResponseId),
    /// The model works on a response that has produced nothing to hear yet.
    ModelWorking,
    ModelAudio {
        response: ResponseId,
        item: ItemId,
        chunk: Chunk,
    },
    ResponseEnded {
        response: ResponseId,
        outcome: Outcome,
    },
    /// The caller began to speak; `item` will hold what they say.
    SpeechStarted(ItemId),
    SpeechStopped,
    /// The whole transcript of an item.
    Transcript {
        who: Who,
        item: ItemId,
        text: Private,
    },
    /// More of an item's transcript, before the whole of it. Not every provider sends it.
    TranscriptGrew {
        who: Who,
        item: ItemId,
        text: Private,
    },
    /// The model calls a tool; `arguments` is what it wrote, JSON or not.
    ToolRequested {
        id: ToolCallId,
        name: String,
        arguments: Private,
        response: ResponseId,
    },
    /// The model's host has started a hosted tool.
    HostedStarted {
        item: ItemId,
        /// `None` if it runs outside any response, as an approved tool does.
        response: Option<ResponseId>,
        /// `LABEL/TOOL`, if the host names it.
        tool: Option<String>,
    },
    /// A hosted tool has ended, successfully or not. It may outlive its response.
    HostedEnded {
        item: ItemId,
        failed: bool,
    },
    /// The model's host asks whether it may run a hosted tool.
    ApprovalRequested {
        id: ApprovalId,
        /// `LABEL/TOOL`: the MCP server's label and the tool's name.
        tool: String,
        arguments: Private,
        response: ResponseId,
    },
    /// What a response was charged for. `standby`: by the standby, not the session in use.
    Usage {
        tokens: Tokens,
        standby: bool,
    },
    /// What the transcript of a turn was charged for.
    TranscriptUsage {
        used: Transcribed,
        standby: bool,
    },
    /// The model reported an error about something that we sent, and goes on.
    ModelFault(Fault),
    /// A limit of the account is almost used up until then.
    RateLimited {
        until: Instant,
    },
    /// The model's session reaches its maximum age then.
    SessionExpires {
        at: Instant,
    },
    ModelLost(Lost),

    /// The standby is configured.
    StandbyReady {
        endpoint: usize,
    },
    /// The standby did not come, or is gone.
    StandbyLost(Lost),
    /// The standby was asked, and has begun to say something or called a tool.
    StandbySpoke,
    /// The standby was asked, and its response has ended without anything audible.
    StandbyMute(Outcome),

    /// A tool that we run has reported progress.
    ToolWorking(ToolCallId),
    /// A tool that we run has finished; `output` is for the model, `outcome` is `ok` or the code of what went wrong.
    ToolFinished {
        id: ToolCallId,
        outcome: &'static str,
        output: Private,
    },
    /// A parked phone, or one whose stream broke, is on its way back: a new stream will follow.
    Returning,
    /// It is connected again.
    Returned(Return),

    /// The phone's socket has taken this piece.
    AudioLeft(Piece),
    /// A frame for the phone has waited for more than 20 ms.
    CallerStalled,
    /// The model takes no more audio.
    ModelStalled,
    /// The call has cost most of what it may.
    CostNear,
    /// It has cost all of it. It is reported again and again, until the call ends.
    CostReached,
    /// The server shuts down: say goodbye.
    Draining,
    /// The owner ends the call: say goodbye.
    OperatorEnds,
}

impl Event {
    /// Whether it is about the model's session in use.
    pub(super) fn comes_from_the_model(&self) -> bool {
        match self {
            Self::ResponseStarted { .. }
            | Self::OutOfBandStarted(_)
            | Self::ModelWorking
            | Self::ModelAudio { .. }
            | Self::ResponseEnded { .. }
            | Self::SpeechStarted(_)
            | Self::SpeechStopped
            | Self::Transcript { .. }
            | Self::TranscriptGrew { .. }
            | Self::ToolRequested { .. }
            | Self::HostedStarted { .. }
            | Self::HostedEnded { .. }
            | Self::ApprovalRequested { .. }
            | Self::ModelFault(_)
            | Self::RateLimited { .. }
            | Self::SessionExpires { .. }
            | Self::ModelLost(_)
            | Self::ModelStalled => true,
            Self::StreamStarted
            | Self::StreamLost
            | Self::CallerAudio(_)
            | Self::MarkPlayed(_)
            | Self::Digit(_)
            | Self::CallerHungUp
            | Self::ModelReady { .. }
            | Self::Usage { .. }
            | Self::TranscriptUsage { .. }
            | Self::StandbyReady { .. }
            | Self::StandbyLost(_)
            | Self::StandbySpoke
            | Self::StandbyMute(_)
            | Self::ToolWorking(_)
            | Self::ToolFinished { .. }
            | Self::Returning
            | Self::Returned(_)
            | Self::AudioLeft(_)
            | Self::CallerStalled
            | Self::CostNear
            | Self::CostReached
            | Self::Draining
            | Self::OperatorEnds => false,
        }
    }
}

/// Who asked for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Our n-th request for one in this session.
    Request(u64),
    /// Nobody: the model answers by itself.
    Model,
    /// The provider does not say.
    Unknown,
}

/// How a response ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Completed,
    Incomplete(Why),
    Cancelled(By),
    /// The class of the failure says whether another try may work.
    Failed(Failure),
}

/// Why a response is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It reached the limit of its tokens.
    TooLong,
    /// The model's host filtered it.
    Filtered,
    Unknown,
}

/// For whose sake a response was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The model's host heard the caller speak.
    Caller,
    /// We asked for it.
    Us,
    Unknown,
}

/// An error from the model about something that we sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub about: About,
    pub failure: Failure,
    /// In a conflict: the response that is active, if the error names it.
    pub active: Option<ResponseId>,
}

impl Fault {
    pub fn new(about: About, failure: impl Into<Failure>) -> Self {
        Self { about, failure: failure.into(), active: None }
    }
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Our last request for a response.
    Request,
    /// Our last request for an out-of-band response.
    OutOfBand,
    /// Anything else, or the error does not say.
    Other,
}

/// The model is gone: how, and what is known of the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub loss: Loss,
    pub failure: Failure,
}

/// How the model was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No session began: it did not answer in time, or refused.
    Unreachable,
    /// It rejected the configuration.
    Misconfigured,
    /// It stopped answering.
    Stalled,
    /// It closed an established connection.
    Closed,
}

impl From<Loss> for Lost {
    fn from(loss: Loss) -> Self {
        Self { loss, failure: Failure::default() }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Caller,
    Assistant,
}

/// How a call came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    TransferFailed(TransferFailure),
    KeysPressed,
    /// Its stream broke, and a new one took its place.
    StreamAgain,
}

/// Why a transfer reached nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferFailure {
    NoAnswer,
    Busy,
    Unreachable,
}

impl TransferFailure {
    /// The code for the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
        }
    }
}
