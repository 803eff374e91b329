//! What happens to a call.

use crate::id::{ApprovalId, ItemId, Mark, Piece, ResponseId, ToolCallId};
use crate::secret::Private;
use switchboard_audio::Chunk;

/// Something that happened to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The phone is connected: audio may flow both ways.
    StreamStarted,
    /// The phone's socket is gone for a reason that is not known yet.
    StreamLost,
    CallerAudio(Chunk),
    /// The phone has played or discarded everything before the mark.
    MarkPlayed(Mark),
    /// A key was pressed.
    Digit(char),
    CallerHungUp,

    /// The model is configured.
    ModelReady,
    ResponseStarted(ResponseId),
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
    Transcript {
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
    },
    /// A hosted tool has ended, successfully or not. It may outlive its response.
    HostedEnded {
        item: ItemId,
    },
    /// The model's host asks whether it may run a hosted tool.
    ApprovalRequested {
        id: ApprovalId,
        /// `LABEL/TOOL`: the MCP server's label and the tool's name.
        tool: String,
        arguments: Private,
        response: ResponseId,
    },
    Usage {
        tokens_in: u64,
        tokens_out: u64,
    },
    /// The model reported an error about something that we sent, and goes on.
    ModelFault(Fault),
    ModelLost(Loss),

    /// A tool that we run has reported progress.
    ToolWorking(ToolCallId),
    /// A tool that we run has finished; `output` is for the model.
    ToolFinished {
        id: ToolCallId,
        output: Private,
    },
    /// A parked phone is on its way back: a new stream will follow.
    Returning,
    /// A parked phone is connected again.
    Returned(Return),

    /// The phone's socket has taken this piece.
    AudioLeft(Piece),
    /// A frame for the phone has waited for more than 20 ms.
    CallerStalled,
    /// The model takes no more audio.
    ModelStalled,
    /// The server shuts down: say goodbye.
    Draining,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Completed,
    /// It was cut off: it grew too long, or the host filtered it.
    Incomplete,
    Cancelled,
    /// It failed; another try may work.
    Failed,
    /// It failed, and another try would too: no credit, no access.
    Refused,
}

/// An error from the model that changes what we do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Our last request for a response was refused because another response was running.
    RequestRefused,
    /// Our last request for a response was refused for any other reason.
    RequestFailed,
    /// Our request for an out-of-band response was refused.
    OutOfBandRefused,
    /// A request was refused because a response was running; the error does not say which request.
    ResponseAlreadyActive,
    /// Anything else; it is only counted.
    Other,
}

/// Why the model is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It did not answer, or not in time.
    Unreachable,
    /// It rejected the key or the model's name.
    Refused,
    /// It rejected the configuration.
    Misconfigured,
    /// It stopped answering.
    Stalled,
    /// It closed an established connection.
    Closed,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Caller,
    Assistant,
}

/// How a parked call came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    TransferFailed(TransferFailure),
    KeysPressed,
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
            Self::Unreachable => "failed",
        }
    }
}
