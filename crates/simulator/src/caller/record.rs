//! What a simulated phone notes down about its call, for tests, reports and recordings.

use std::time::{Duration, Instant};

/// Something Twilio would have put into its debugger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub at: Instant,
    /// Twilio's error or warning code.
    pub code: u32,
    /// What was wrong, without the content of the call.
    pub what: String,
}

/// Something that happened in a call, and when.
#[derive(Debug, Clone)]
pub struct Happened {
    pub at: Instant,
    pub event: PhoneEvent,
}

/// What a person at the phone, or Twilio, notices.
#[derive(Debug, Clone, PartialEq)]
pub enum PhoneEvent {
    /// The webhook was answered; `took` is how long that needed.
    Rang { took: Duration },
    /// `start` was sent.
    StreamStarted { stream_sid: String },
    /// The first audio of a stream arrived.
    FirstMedia,
    /// An empty buffer began to play.
    Playing,
    /// The buffer ran dry or was cleared.
    Quiet { played: Duration },
    /// A `clear` took effect.
    Cleared(Cleared),
    /// A mark was sent back: played, or flushed by a `clear`.
    MarkEchoed { name: String, flushed: bool },
    /// The caller began to say a clip: with the frame that holds its first sound.
    Speaking,
    /// A clip of the caller's was sent to its end.
    Spoke,
    /// The stream is over.
    StreamEnded(StreamEnd),
    /// Twilio read a line aloud.
    Said(String),
    /// Twilio called a number.
    Dialled(String),
    /// Twilio played keys (`<Play digits>`) to the caller's line.
    Pressed(String),
    /// The caller hung up.
    HungUp,
    /// The server did what Twilio does not allow.
    Violation(Violation),
}

/// The state of the buffer in the moment a `clear` took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    pub at: Instant,
    /// The last bytes that were played, sixteen at most; empty unless the audio is kept.
    pub last: Vec<u8>,
    /// Bytes played of the unbroken run that was cut; 0 when nothing was playing.
    pub run_played: u64,
    /// Bytes played in this stream so far.
    pub total_played: u64,
    /// Bytes thrown away.
    pub dropped: u64,
    /// Marks sent back unplayed.
    pub marks: usize,
}

/// One `media` message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaArrival {
    /// When it reached the buffer, the network's delay included.
    pub at: Instant,
    pub bytes: usize,
}

/// One mark, from its arrival to its echo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRecord {
    pub name: String,
    pub arrived: Instant,
    pub echoed: Instant,
    pub flushed: bool,
}

/// How a stream came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// It never began: no connection, or an answer other than 101.
    Refused { code: u32, status: Option<u16> },
    /// The caller hung up.
    CallerHungUp,
    /// The server closed the socket, with this code (1005 when it gave none).
    ServerClosed { code: u16, reason: String },
    /// The connection broke without a goodbye.
    Lost(String),
    /// The server broke the WebSocket protocol.
    Broken(String),
    /// A fault of this phone cut the connection.
    Cut,
}

/// Everything about one stream.
#[derive(Debug, Clone)]
pub struct StreamRecord {
    pub stream_sid: String,
    /// As written in the TwiML.
    pub url: String,
    /// The upgrade was answered with 101.
    pub opened: Option<Instant>,
    /// `start` left.
    pub started: Option<Instant>,
    pub first_media: Option<Instant>,
    pub ended: Instant,
    pub end: StreamEnd,
    /// Every `media` message, when the audio is kept.
    pub media: Vec<MediaArrival>,
    /// Every mark that came back, when the audio is kept.
    pub marks: Vec<MarkRecord>,
    pub clears: Vec<Cleared>,
    /// When each frame with the caller's speech was sent, when the audio is kept.
    pub speech: Vec<Instant>,
    /// `media` messages sent.
    pub frames_sent: u64,
    pub media_received: u64,
    pub bytes_received: u64,
    pub bytes_played: u64,
    /// How long stamped audio was on its way here, in the order of arrival.
    pub latencies: Vec<Duration>,
    /// What a second attempt with the same ticket was answered.
    pub second_connect: Option<u16>,
}

/// One request for TwiML and its answer.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub at: Instant,
    pub took: Duration,
    pub url: String,
    /// `None`: no answer at all.
    pub status: Option<u16>,
    /// The body, at most 64 kB of it.
    pub twiml: String,
}

/// One line that Twilio read aloud, or a file that it played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub at: Instant,
    pub text: String,
    pub voice: Option<String>,
    pub language: Option<String>,
}

/// One `<Dial>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    pub at: Instant,
    pub number: String,
    pub caller_id: Option<String>,
    /// The `DialCallStatus` it ended with.
    pub status: String,
    /// The streams that had been opened, or refused, before.
    pub streams: usize,
}

/// One `<Play digits>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressed {
    pub at: Instant,
    /// As written, with its pauses.
    pub digits: String,
    /// The streams that had been opened, or refused, before.
    pub streams: usize,
}

/// Why the call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEnd {
    CallerHungUp,
    /// `<Hangup>`, or the last document came to its end.
    HungUp,
    /// `<Reject>`, with its reason.
    Rejected(String),
    /// Twilio gave up, with this code: the caller hears "an application error has occurred".
    Failed(u32),
}

/// Everything about one call.
#[derive(Debug, Clone)]
pub struct CallRecord {
    pub call_sid: String,
    /// The phone began to ring: time 0 of `heard` and `spoken`.
    pub started: Instant,
    pub ended: Instant,
    pub end: CallEnd,
    pub documents: Vec<Fetched>,
    pub streams: Vec<StreamRecord>,
    pub said: Vec<Said>,
    pub dialled: Vec<Dialled>,
    pub pressed: Vec<Pressed>,
    pub violations: Vec<Violation>,
    /// μ-law that came out of the phone's speaker, silence where nothing played.
    pub heard: Vec<u8>,
    /// μ-law that went into its microphone.
    pub spoken: Vec<u8>,
}

impl CallRecord {
    /// Panics in a test when the server did anything Twilio does not allow.
    ///
    /// # Panics
    ///
    /// With the list of violations.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "violations: {:#?}", self.violations);
    }
}
