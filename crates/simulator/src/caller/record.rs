//! What a simulated phone records about its call, for tests, reports and recordings.

use std::time::{Duration, Instant};

/// An error that Twilio would report in its debugger.
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

/// What the person at the phone or Twilio notices.
#[derive(Debug, Clone, PartialEq)]
pub enum PhoneEvent {
    /// The webhook was answered after `took`.
    Rang {
        took: Duration,
    },
    StreamStarted {
        stream_sid: String,
    },
    /// The first audio of a stream arrived.
    FirstMedia,
    /// An empty buffer began to play.
    Playing,
    /// The buffer ran dry or was cleared.
    Quiet {
        played: Duration,
    },
    /// A `clear` took effect.
    Cleared(Cleared),
    /// A mark was sent back: played, or flushed by a `clear`.
    MarkEchoed {
        name: String,
        flushed: bool,
    },
    /// The caller began to say a clip: the frame with its first sound was sent.
    Speaking,
    /// One of the caller's clips was sent completely.
    Spoke,
    StreamEnded(StreamEnd),
    /// Twilio read a line aloud.
    Said(String),
    Dialled(String),
    /// Twilio played key tones (`<Play digits>`) to the caller's line.
    Pressed(String),
    HungUp,
    /// The server did something that Twilio does not allow.
    Violation(Violation),
}

/// The state of the buffer when a `clear` took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    pub at: Instant,
    /// The last bytes played, at most sixteen; empty unless the audio is kept.
    pub last: Vec<u8>,
    /// Bytes played of the run that was cut; 0 if nothing was playing.
    pub run_played: u64,
    /// Bytes played in this stream so far.
    pub total_played: u64,
    /// Bytes dropped.
    pub dropped: u64,
    /// Marks echoed without being played.
    pub marks: usize,
}

/// One `media` message from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaArrival {
    /// When it reached the buffer, including the network's delay.
    pub at: Instant,
    pub bytes: usize,
}

/// One mark, from its arrival to its echo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRecord {
    pub name: String,
    pub flushed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// It never began: no connection, or a status other than 101.
    Refused {
        code: u32,
        status: Option<u16>,
    },
    CallerHungUp,
    /// The server closed the socket with this code, 1005 if it gave none.
    ServerClosed {
        code: u16,
        reason: String,
    },
    /// The connection was lost without a close frame.
    Lost(String),
    /// The server broke the WebSocket protocol.
    Broken(String),
    /// A fault of this phone cut the connection.
    Cut,
}

#[derive(Debug, Clone)]
pub struct StreamRecord {
    pub stream_sid: String,
    /// As written in the TwiML.
    pub url: String,
    /// The upgrade was answered with 101.
    pub opened: Option<Instant>,
    pub started: Option<Instant>,
    pub first_media: Option<Instant>,
    pub ended: Instant,
    pub end: StreamEnd,
    /// Every `media` message, if the audio is kept.
    pub media: Vec<MediaArrival>,
    /// Every echoed mark, if the audio is kept.
    pub marks: Vec<MarkRecord>,
    pub clears: Vec<Cleared>,
    /// When each frame with the caller's speech was sent, if the audio is kept.
    pub speech: Vec<Instant>,
    pub media_received: u64,
    pub bytes_received: u64,
    pub bytes_played: u64,
    /// The latencies of stamped audio, in the order of arrival.
    pub latencies: Vec<Duration>,
    /// The status of a second attempt with the same ticket.
    pub second_connect: Option<u16>,
}

/// One request for TwiML and its answer.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub at: Instant,
    pub took: Duration,
    pub url: String,
    /// `None` if there was no answer.
    pub status: Option<u16>,
    /// The first 64 kB of the body.
    pub twiml: String,
}

/// A line that Twilio read aloud, or a file that it played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub at: Instant,
    pub text: String,
    pub voice: Option<String>,
    pub language: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    pub at: Instant,
    pub number: String,
    pub caller_id: Option<String>,
    /// The `DialCallStatus` it ended with.
    pub status: String,
    /// The number of streams before it, including refused ones.
    pub streams: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pressed {
    pub at: Instant,
    /// As written, including pauses.
    pub digits: String,
    /// The number of streams before it, including refused ones.
    pub streams: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallEnd {
    CallerHungUp,
    /// `<Hangup>`, or the end of the last document.
    HungUp,
    /// `<Reject>`, with its reason.
    Rejected(String),
    /// Twilio failed the call with this code: the caller hears "an application error has occurred".
    Failed(u32),
}

#[derive(Debug, Clone)]
pub struct CallRecord {
    pub call_sid: String,
    /// When the call began: time 0 of `heard` and `spoken`.
    pub started: Instant,
    pub ended: Instant,
    pub end: CallEnd,
    pub documents: Vec<Fetched>,
    pub streams: Vec<StreamRecord>,
    pub said: Vec<Said>,
    pub dialed: Vec<Dialled>,
    pub pressed: Vec<Pressed>,
    /// When the caller pressed a key.
    pub keys: Vec<Instant>,
    pub violations: Vec<Violation>,
    /// μ-law from the phone's speaker, with silence while nothing played.
    pub heard: Vec<u8>,
    /// μ-law from the phone's microphone.
    pub spoken: Vec<u8>,
}

impl CallRecord {
    /// Panics if the server did anything that Twilio does not allow.
    ///
    /// # Panics
    ///
    /// With the list of violations.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "violations: {:#?}", self.violations);
    }
}
