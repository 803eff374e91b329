//! What a call wants done, in our words. Each says what the session owes it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::call::EndReason;
use crate::id::{ApprovalId, ItemId, Mark, Piece, ResponseId, ToolCallId};
use crate::secret::Private;
use switchboard_audio::Chunk;

/// Something for the session to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send it to the phone, and report [`AudioLeft`](crate::call::Event::AudioLeft) when the socket took it.
    PlayToCaller {
        piece: Piece,
        chunk: Chunk,
    },
    /// Send it behind all audio so far.
    MarkForCaller(Mark),
    /// Take back all audio and marks that wait, then empty the phone's buffer.
    ClearCaller,
    /// Close the phone's socket, once the reason that follows is written down.
    HangUp,

    /// Tell the model who ends turns from here on.
    Configure(TurnControl),
    AppendToModel(Chunk),
    CancelResponse(ResponseId),
    /// Tell the model how much of an item was heard.
    TruncateItem(Truncation),
    /// Give the model a tool's result.
    AnswerTool {
        id: ToolCallId,
        output: Private,
    },
    /// Tell the model's host whether it may run its tool; the reason is for the model.
    AnswerApproval {
        id: ApprovalId,
        approve: bool,
        reason: &'static str,
    },
    /// Add a line to the conversation; nothing is asked.
    TellModel(Line),
    /// Ask the model to say something in particular.
    Say(Request),
    /// Ask the model to say something beside the response that runs, outside of the conversation, and report
    /// [`OutOfBandStarted`](crate::call::Event::OutOfBandStarted).
    SayOutOfBand(Request),
    /// Ask the model to go on.
    AskForResponse,

    /// Run the job of the plan's tool at this index, and report
    /// [`ToolFinished`](crate::call::Event::ToolFinished).
    RunTool {
        id: ToolCallId,
        tool: usize,
        arguments: Map<String, Value>,
    },
    /// Give up what [`Self::RunTool`] began; nothing more is to be reported of it.
    StopTool(ToolCallId, Stop),

    /// Close the phone's socket and keep the model's: the phone is sent elsewhere, and may come back with
    /// [`Returned`](crate::call::Event::Returned).
    Park(Detour),

    /// Count it, and tell whoever follows the call.
    Note(Note),
    /// The call is over. Nothing follows.
    End(EndReason),
}

/// Why a tool is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It took longer than it may.
    Timeout,
    /// The caller spoke, or the call ends.
    Cancelled,
}

/// Where a parked phone is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detour {
    /// To the plan's tool at this index, and there to the target at that one.
    Dial { tool: usize, target: usize },
    /// It presses these keys.
    Press(Private),
}

/// Who ends the caller's turn and starts the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnControl {
    /// The model: it answers, and stops when the caller speaks.
    Model,
    /// We do: nothing is answered or interrupted unasked.
    Server,
}

/// How much of an item the caller heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    pub item: ItemId,
    /// Whole milliseconds from the item's beginning; never more than was sent.
    pub audio_end_ms: u64,
}

/// A line that becomes part of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The caller pressed these keys.
    Pressed(String),
    /// The assistant's own words, spoken by a recording.
    AssistantSaid(Private),
    /// The call was passed on, and nobody took it.
    TransferFailed { target: String, why: TransferFailure },
}

/// What the model is asked to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Exactly these words.
    Greeting(String),
    /// Whether the caller is still there.
    CheckCaller,
    /// That a tool takes a moment.
    Filler,
    /// How things stand, after tools were called again and again and nothing was said.
    StatusUpdate,
    /// That a tool of the host's took too long, and is not waited for.
    ToolTimedOut,
    /// Goodbye, because of this.
    Goodbye(EndReason),
}

/// Something worth knowing about a call that asks for nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// Something odd, that we coped with.
    Anomaly(Anomaly),
    /// The first word left, so long after the stream began.
    FirstWord(Duration),
    /// An answer began, so long after the caller's turn.
    Answered(Duration),
    /// The caller spoke.
    CallerSpoke { item: ItemId, began: Instant, ended: Instant },
    /// The phone has played what it will of an item; no item is a recorded greeting.
    AssistantSpoke(Spoken),
    /// What somebody said.
    Said { who: Who, item: ItemId, text: Private },
}

pub use crate::call::event::{TransferFailure, Who};

/// What became of an item of speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    pub item: Option<ItemId>,
    /// When the phone began to play it.
    pub began: Instant,
    pub sent_ms: u64,
    pub heard_ms: u64,
    pub interrupted: bool,
}

/// Everything odd that is counted rather than acted upon: the closed list of `switchboard_anomalies_total{code}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    CallerBadFrame,
    CallerBinaryFrame,
    CallerUnknownEvent,
    CallerWrongStream,
    CallerBadAudio,
    CallerUnknownMark,
    CallerStalled,
    CallerAudioDropped,
    ModelBadEvent,
    ModelUnknownEvent,
    ModelBadAudio,
    ModelAudioDropped,
    ModelError,
    ModelLateAudio,
    ModelFailedResponse,
    ModelSlow,
    ModelUnknownTool,
    /// Its arguments are no JSON object.
    ModelBadArguments,
    /// It wrote what looks like a call, instead of calling.
    ModelWroteCall,
    ToolTimeout,
    /// It ended after it was given up.
    ToolLate,
    ModelPlainerConfiguration,
    ModelRetried,
}

impl Anomaly {
    /// The stable code: log, metric and `call.json` use it.
    pub fn code(self) -> &'static str {
        match self {
            Self::CallerBadFrame => "caller.bad_frame",
            Self::CallerBinaryFrame => "caller.binary_frame",
            Self::CallerUnknownEvent => "caller.unknown_event",
            Self::CallerWrongStream => "caller.wrong_stream",
            Self::CallerBadAudio => "caller.bad_audio",
            Self::CallerUnknownMark => "caller.unknown_mark",
            Self::CallerStalled => "caller.stalled",
            Self::CallerAudioDropped => "caller.audio_dropped",
            Self::ModelBadEvent => "model.bad_event",
            Self::ModelUnknownEvent => "model.unknown_event",
            Self::ModelBadAudio => "model.bad_audio",
            Self::ModelAudioDropped => "model.audio_dropped",
            Self::ModelError => "model.error",
            Self::ModelLateAudio => "model.late_audio",
            Self::ModelFailedResponse => "model.failed_response",
            Self::ModelSlow => "model.slow",
            Self::ModelUnknownTool => "model.unknown_tool",
            Self::ModelBadArguments => "model.bad_arguments",
            Self::ModelWroteCall => "model.wrote_call",
            Self::ToolTimeout => "tool.timeout",
            Self::ToolLate => "tool.late",
            Self::ModelPlainerConfiguration => "model.plainer_configuration",
            Self::ModelRetried => "model.retried",
        }
    }
}
