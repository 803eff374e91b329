//! The record of a call: a pure fold of its entries.
//!
//! While a call runs, everything worth remembering becomes an [`Entry`]. A [`Recorder`] folds the entries into one
//! [`CallRecord`], which the store, the commands, the rehearsal and the console share. Neither knows a database, a clock
//! or a socket.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod anomaly;
mod bill;
mod caller;
mod entry;
mod explain;
mod id;
mod note;
pub mod print;
mod reason;
mod recorder;
mod refused;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

pub use anomaly::{ANOMALIES, Meaning, anomaly};
pub use bill::{Bill, Priced};
pub use caller::{caller_key, masked};
pub use entry::{Ended, Entry, Form, Rang, Reconnect, Said, Spoke, ToolCall, Transfer, What};
pub use explain::{Evidence, Finding, explain};
pub use id::RecordId;
pub use note::Answering;
pub use reason::{REASONS, Reason, is_reason, reason, reasons_markdown};
pub use recorder::Recorder;
pub use refused::Refusal;

/// The version of the format of [`CallRecord`].
pub const VERSION: u32 = 2;

/// Such as `2026-11-30T14:05:09.120Z`.
fn in_milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// Where the entries of calls go. It never waits.
pub type Sink = Arc<dyn Fn(&RecordId, Entry) + Send + Sync>;

/// All that is known of one call. Its keys are public; readers ignore keys that they do not know.
///
/// Fields ending in `_ms` count from the stream's start on the phone's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub version: u32,
    pub id: RecordId,
    /// Twilio's call SID.
    pub call: String,
    /// `None` for a ring that no assistant was to answer.
    pub assistant: Option<String>,
    /// `sha256:` and the hash of the assistant's file.
    pub assistant_version: Option<String>,
    pub direction: Direction,
    /// It was a rehearsal, a call from the console, or a test.
    pub test: bool,
    /// The model was simulated.
    pub simulated: bool,
    /// The caller's number, as far as the file keeps it; `None` if it was withheld or is not kept.
    pub from: Option<String>,
    pub to: Option<String>,
    #[serde(serialize_with = "in_milliseconds")]
    pub started: Timestamp,
    /// From the ring to the end; up to the last entry while the call runs.
    pub seconds: f64,
    /// The code of the end reason; `None` while the call runs.
    pub reason: Option<String>,
    /// The process ended before the call did.
    pub broken_off: bool,
    pub first_word_ms: Option<u64>,
    /// The longest silence in which the assistant owed something.
    pub longest_silence_ms: u64,
    pub interruptions: u32,
    pub turns: Vec<Turn>,
    pub tools: Vec<ToolCall>,
    pub events: Vec<Event>,
    pub tokens: TokenCounts,
    /// `None` if nothing was charged, or not everything has a price.
    pub cost: Option<Cost>,
    /// The models that were used and have no price, for which `cost` is `None`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpriced: Vec<String>,
    /// Where the recording is: a path below `STATE_DIR`, or an `s3://` address.
    pub recording: Option<String>,
    pub summary: Option<String>,
    pub fields: Option<serde_json::Value>,
    /// The id of a message that the assistant took.
    pub message: Option<String>,
    /// How often each anomaly occurred, by code.
    pub anomalies: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Inbound,
    Outbound,
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub start_ms: u64,
    pub end_ms: u64,
    /// `None` if there is no transcript, or none is kept.
    pub text: Option<String>,
    #[serde(flatten)]
    pub voice: Voice,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "who", rename_all = "lowercase")]
pub enum Voice {
    Caller,
    Assistant {
        /// The words that the caller heard, by the share of the audio that was played.
        heard_text: Option<String>,
        sent_ms: u64,
        heard_ms: u64,
        interrupted: bool,
        /// From the end of the caller's turn; `None` if it follows none.
        latency_ms: Option<u64>,
    },
}

/// Something that happened beside the turns and the tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: Happened,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happened {
    /// The caller pressed keys; `None` if transcripts are not kept.
    Keys {
        keys: Option<String>,
        count: u64,
    },
    /// The caller talked over the assistant.
    Interrupted,
    Reconnected(Reconnect),
    Transferred(Transfer),
    Anomaly {
        code: String,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    #[serde(rename = "in")]
    pub taken: u64,
    #[serde(rename = "out")]
    pub made: u64,
    #[serde(flatten)]
    pub kinds: crate::provider::usage::Tokens,
}

/// What a call cost, in dollars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Always `USD`.
    pub currency: String,
    pub model: f64,
    pub transcription: f64,
    /// The carrier's minutes, estimated.
    pub carrier_estimate: f64,
    /// The part of `model` that reconnects caused.
    #[serde(default)]
    pub reconnects: f64,
    /// The sum of the first three.
    pub total: f64,
    /// The date of the price table, such as `2026-11-30`.
    pub prices: String,
}
