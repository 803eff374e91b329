//! What a call hears of, in our words.

use crate::id::{ApprovalId, ItemId, Mark, Piece, ResponseId, ToolCallId};
use crate::secret::Private;
use switchboard_audio::Chunk;

/// Something that happened to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The phone is connected: audio may flow both ways.
    StreamStarted,
    /// The phone's socket is gone, and nobody said why yet.
    StreamLost,
    CallerAudio(Chunk),
    /// The phone has played, or thrown away, all that came before the mark.
    MarkPlayed(Mark),
    /// A key was pressed.
    Digit(char),
    CallerHungUp,

    /// The model is configured.
    ModelReady,
    ResponseStarted(ResponseId),
    /// What [`SayOutOfBand`](crate::call::Action::SayOutOfBand) asked for begins, beside whatever else runs.
    OutOfBandStarted(ResponseId),
    /// The model works on a response; there is nothing to hear of it yet.
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
    /// The model's host has begun to run a tool of its own.
    HostedStarted {
        item: ItemId,
        /// `None`: it runs outside of any, as those do that had to be allowed.
        response: Option<ResponseId>,
    },
    /// It has ended, well or not. It may end after its response.
    HostedEnded {
        item: ItemId,
    },
    /// The model's host asks whether it may run a tool of its own.
    ApprovalRequested {
        id: ApprovalId,
        /// The server's label and the tool's name.
        tool: String,
        arguments: Private,
        response: ResponseId,
    },
    Usage {
        tokens_in: u64,
        tokens_out: u64,
    },
    /// The model complained about something that we sent, and goes on.
    ModelFault(Fault),
    ModelLost(Loss),

    /// A tool that we run is still at work, and says so.
    ToolWorking(ToolCallId),
    /// A tool that we run has ended: what the model is told of it.
    ToolFinished {
        id: ToolCallId,
        output: Private,
    },
    /// A parked phone is on its way back: a new stream is to come.
    Returning,
    /// A parked call is back: its phone is connected again.
    Returned(Return),

    /// The phone's socket has taken this piece.
    AudioLeft(Piece),
    /// A frame for the phone has waited for more than 20 ms.
    CallerStalled,
    /// The model takes no more audio.
    ModelStalled,
    /// The server closes: say goodbye.
    Draining,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Completed,
    /// As far as it was allowed to go: it grew too long, or its host did not let it go on.
    Incomplete,
    Cancelled,
    /// It broke; another try may work.
    Failed,
    /// It broke, and so would the next: no credit, no access.
    Refused,
}

/// A complaint that changes what we do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Our last request for a response was refused: another one was running.
    RequestRefused,
    /// Our last request for a response was refused, for any other reason.
    RequestFailed,
    /// What was to be said beside a response was refused.
    OutOfBandRefused,
    /// Some request was refused because a response was running; whose, is not said.
    ResponseAlreadyActive,
    /// Anything else: counted, and that is all.
    Other,
}

/// Why the model is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nobody answered, or not in time.
    Unreachable,
    /// The key or the model's name was not accepted.
    Refused,
    /// The configuration was not accepted.
    Misconfigured,
    /// It stopped answering.
    Stalled,
    /// It was there, and the socket closed.
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
    /// Nobody took it.
    TransferFailed(TransferFailure),
    /// The keys were pressed.
    KeysPressed,
}

/// Why nobody took a call that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferFailure {
    NoAnswer,
    Busy,
    /// The number could not be reached at all.
    Unreachable,
}

impl TransferFailure {
    /// For a line in the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Unreachable => "failed",
        }
    }
}
