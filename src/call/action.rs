//! What a call asks the session to do.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::end_reason::EndReason;
use super::event::{TransferFailure, Who};
use crate::id::{ApprovalId, ItemId, Mark, Piece, ResponseId, ToolCallId};
use crate::provider::usage::{Tokens, Transcribed};
use crate::secret::Private;
use switchboard_audio::Chunk;

/// Something for the session to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send it to the phone. Report [`AudioLeft`](crate::call::Event::AudioLeft) when the socket has taken it.
    PlayToCaller {
        piece: Piece,
        chunk: Chunk,
    },
    /// Send it after all audio so far.
    MarkForCaller(Mark),
    /// Drop all queued audio and marks, then empty the phone's buffer.
    ClearCaller,
    /// Close the phone's socket after recording the [`EndReason`] that follows.
    HangUp,

    /// Configure who controls turns from this point on.
    Configure(TurnControl),
    AppendToModel(Chunk),
    /// End the caller's turn, although the model believes that they still speak.
    CommitAudio,
    CancelResponse(ResponseId),
    /// Tell the model how much of an item was heard.
    TruncateItem(Truncation),
    /// Take an item of the caller's out of the conversation: it was noise.
    DeleteItem(ItemId),
    /// Send the model a tool's result.
    AnswerTool {
        id: ToolCallId,
        output: Private,
    },
    /// Allow or deny the model's host a hosted tool. The reason is for the model.
    AnswerApproval {
        id: ApprovalId,
        approve: bool,
        reason: &'static str,
    },
    /// Add a line to the conversation without requesting a response.
    TellModel(Line),
    /// Request a response that says something in particular.
    Say(Request),
    /// Request a response outside the conversation, next to the one that runs. Report
    /// [`OutOfBandStarted`](crate::call::Event::OutOfBandStarted) when it begins.
    SayOutOfBand(Request),
    /// Request the next response.
    AskForResponse,

    /// Open a second session beside the one in use, at this endpoint of the plan. It replaces a standby that is there.
    /// Report [`StandbyReady`](crate::call::Event::StandbyReady) or
    /// [`StandbyLost`](crate::call::Event::StandbyLost).
    OpenStandby {
        endpoint: usize,
    },
    /// Give the standby the conversation. From here on, what becomes part of it goes to both sessions.
    FillStandby(Vec<Turn>),
    /// Request a response of the standby: a certain one, or the next. Report
    /// [`StandbySpoke`](crate::call::Event::StandbySpoke), and hold its other events until [`Self::UseStandby`].
    AskStandby(Option<Request>),
    /// The standby takes over, and reports what it held. The other session is closed without an event.
    UseStandby,
    /// Close the standby without an event.
    DropStandby,

    /// Run the job of the plan's tool at this index. Report [`ToolFinished`](crate::call::Event::ToolFinished).
    RunTool {
        id: ToolCallId,
        tool: usize,
        arguments: Map<String, Value>,
    },
    /// Stop what [`Self::RunTool`] started, and report nothing more about it.
    StopTool(ToolCallId, Stop),

    /// Close the phone's socket, keep the model's, and send the phone on its detour. Report
    /// [`Returned`](crate::call::Event::Returned) if it comes back.
    Park(Detour),

    /// Count it, and pass it to anyone who follows the call.
    Note(Note),
    /// The call is over. Nothing follows.
    End(EndReason),
}

/// Why a tool is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Timeout,
    /// The caller spoke, or the call ends.
    Cancelled,
}

impl Stop {
    /// The code of a tool that ended so, for its note.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a parked phone goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detour {
    /// It dials a target (by index) of the plan's tool (by index).
    Dial { tool: usize, target: usize },
    /// It presses these keys.
    Press(Private),
}

/// Who ends the caller's turn and starts the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnControl {
    /// The model answers by itself, and stops when the caller speaks.
    Model,
    /// The model answers only on request, and nothing interrupts it.
    Server,
}

/// How much of an item the caller heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    pub item: ItemId,
    /// Whole milliseconds from the start of the item; never more than was sent.
    pub audio_end_ms: u64,
}

/// A line that becomes part of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The caller pressed these keys.
    Pressed(String),
    /// The assistant's own words, played from a recording.
    AssistantSaid(Private),
    /// The caller talked over words that an earlier session said, and heard only these.
    HeardOnly(Private),
    TransferFailed {
        target: String,
        why: TransferFailure,
    },
    /// The call has almost cost what it may.
    ComeToAnEnd,
    /// The phone's stream broke and came back.
    StreamBroke {
        /// The caller did not hear all that was said before.
        unheard: bool,
    },
}

/// What the model is asked to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Exactly these words.
    Greeting(String),
    /// Say the rest of an answer that broke off after these words.
    GoOn(Private),
    /// Say aloud what was answered without sound.
    SayAloud,
    /// Say that the assistant cannot help with that: the answer was filtered.
    CannotHelp,
    /// Ask whether the caller is still there. `heard`: there was sound on the line, but nothing to answer.
    CheckCaller { heard: bool },
    /// Say that a tool takes a moment.
    Filler,
    /// Say what has been done so far: too many rounds of tools passed without a word.
    StatusUpdate,
    /// Say that a hosted tool took too long.
    ToolTimedOut,
    /// Say goodbye for this reason.
    Goodbye(EndReason),
}

/// Something to record about a call. It needs no action.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    Anomaly(Anomaly),
    /// The first word left, this long after the stream began.
    FirstWord(Duration),
    /// An answer began, this long after the caller's turn.
    Answered(Duration),
    CallerSpoke {
        item: ItemId,
        began: Instant,
        ended: Instant,
    },
    /// The phone has played all that it will play of an item.
    AssistantSpoke(Spoken),
    /// The caller speaks still.
    CallerSpeaks {
        item: ItemId,
        began: Instant,
        now: Instant,
    },
    /// The phone plays an item still. Its words so far.
    AssistantSpeaks {
        spoken: Spoken,
        words: Option<Private>,
    },
    /// A standby took over, or did not come.
    Reconnected {
        cause: Cause,
        worked: bool,
        /// The silence at the caller's ear, while something was owed.
        silence: Duration,
    },
    /// The caller pressed these keys.
    Pressed(Private),
    /// A tool has ended, or was stopped.
    ToolEnded {
        name: String,
        began: Instant,
        ended: Instant,
        /// `ok`, or the code of what went wrong: the job's, `timeout`, or `cancelled`; `unknown`, `bad_arguments`,
        /// `limit` or `refused` if it did not run; `unfinished` if it outlives the call.
        outcome: &'static str,
        arguments: Private,
        result: Option<Private>,
    },
    /// The phone was sent to this target of the file, or came back from it.
    Transferred {
        target: String,
        /// `sent`, or the code of why it failed: `no_answer`, `busy` or `unreachable`.
        outcome: &'static str,
    },
    /// The provider at this endpoint charges for a response. `replayed`: it is the first of a session that got the
    /// conversation of another.
    Used {
        endpoint: usize,
        tokens: Tokens,
        replayed: bool,
    },
    /// The provider at this endpoint charges for a transcript.
    Transcribed {
        endpoint: usize,
        used: Transcribed,
    },
    /// A transcript.
    Said {
        who: Who,
        item: ItemId,
        text: Private,
    },
}

/// Something that is played from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    Greeting,
    /// The assistant needs a moment.
    Moment,
    /// The assistant is back after its connection was interrupted.
    CutOff,
}

/// How an item of speech was played.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// `None` for a recording.
    pub item: Option<ItemId>,
    pub recording: Option<Recording>,
    /// When the phone began to play it.
    pub began: Instant,
    pub sent_ms: u64,
    pub heard_ms: u64,
    pub interrupted: bool,
}

codes! {
    /// Something unexpected that is counted and survived: the closed list of `switchboard_anomalies_total{code}`.
    Anomaly {
        CallerBadFrame = "caller.bad_frame",
        CallerBinaryFrame = "caller.binary_frame",
        CallerUnknownEvent = "caller.unknown_event",
        CallerWrongStream = "caller.wrong_stream",
        CallerBadAudio = "caller.bad_audio",
        CallerUnknownMark = "caller.unknown_mark",
        CallerStalled = "caller.stalled",
        CallerAudioDropped = "caller.audio_dropped",
        ModelBadEvent = "model.bad_event",
        ModelUnknownEvent = "model.unknown_event",
        ModelBadAudio = "model.bad_audio",
        ModelAudioDropped = "model.audio_dropped",
        ModelError = "model.error",
        ModelLateAudio = "model.late_audio",
        ModelFailedResponse = "model.failed_response",
        ModelSlow = "model.slow",
        ModelUnknownTool = "model.unknown_tool",
        /// The arguments are not a JSON object, or do not fit the schema.
        ModelBadArguments = "model.bad_arguments",
        /// The model spoke what looks like a tool call instead of making one.
        ModelWroteCall = "model.wrote_call",
        ToolTimeout = "tool.timeout",
        /// The model called a tool more often than one call allows.
        ToolLimit = "tool.limit",
        /// A tool finished after it was stopped.
        ToolLate = "tool.late",
        ModelPlainerConfiguration = "model.plainer_configuration",
        ModelRetried = "model.retried",
        /// Too many responses were requested in a short time, so a request had to wait.
        ModelRequestDelayed = "model.request_delayed",
        /// The process did not run for a while, as on a paused machine.
        ServerStoodStill = "server.stood_still",
    }
}

/// A part of the conversation, for a session that does not know it.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// What the caller said.
    Caller(Private),
    /// What the caller said, if no transcript came.
    CallerAudio(Chunk),
    /// What the caller heard of the assistant.
    Assistant(Private),
    /// A tool call with its output; `None` while the tool runs.
    Tool { id: ToolCallId, name: String, arguments: Private, output: Option<Private> },
    /// What happened besides: keys, news of a transfer.
    Note(Private),
    /// All of it as one text.
    History(Private),
}

codes! {
    /// Why a standby is opened: the causes of `switchboard_reconnects_total{cause,outcome}`.
    Cause {
        /// The connection is gone.
        Lost = "lost",
        /// Nothing audible comes.
        Stalled = "stalled",
        /// It does not notice that the caller speaks.
        Deaf = "deaf",
        /// It refuses to answer, or answers in writing.
        Failed = "failed",
        /// It reaches its greatest age.
        Renewal = "renewal",
        /// Not the session, but the phone's stream broke and came back.
        Stream = "stream",
    }
}
