//! What is noted while a call runs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::phone::PhoneNumber;
use crate::provider::usage::{Tokens, Transcribed};

/// Something about a call that is worth remembering. It is stored while the call runs, so that a record survives a
/// process that is killed; a newer version may meet entries of an older one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since the stream's start; 0 before.
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    Rang(Rang),
    /// The stream began, this long after the ring.
    Started {
        ring_ms: u64,
    },
    FirstWord {
        ms: u64,
    },
    /// An answer began, this long after the caller's turn.
    Answered {
        ms: u64,
    },
    CallerSpoke {
        item: String,
        start_ms: u64,
        end_ms: u64,
    },
    AssistantSpoke(Spoke),
    /// The caller speaks still. A later entry replaces it.
    CallerSpeaks {
        item: String,
        start_ms: u64,
        end_ms: u64,
    },
    /// The assistant speaks still, with its words so far. A later entry replaces it.
    AssistantSpeaks(Spoke),
    Said(Said),
    Keys {
        keys: Option<String>,
        count: u64,
    },
    Tool(ToolCall),
    Reconnected(Reconnect),
    Transferred(Transfer),
    Anomaly {
        code: String,
    },
    /// A response was charged. `replayed`: the conversation had just been replayed to a new session.
    Used {
        provider: String,
        model: String,
        tokens: Tokens,
        replayed: bool,
    },
    Transcribed {
        provider: String,
        model: String,
        used: Transcribed,
    },
    /// A message was taken.
    Message {
        id: String,
    },
    /// The longest silence so far in which the assistant owed something. The end has it, too, unless it is missing.
    Silence {
        ms: u64,
    },
    /// The call is recorded here.
    Recording {
        path: String,
    },
    Ended(Ended),
    /// What the model wrote into the form after the call.
    Form(Form),
    /// The form or a notification comes after the end, and then [`Self::Settled`].
    Unsettled,
    Settled,
    /// The call rang at another machine, which knows the numbers.
    Adopted,
    /// Another machine goes on with a call that only rang here.
    GivenUp,
    /// The stream did not start, and the call rings again, with a record of its own.
    Withdrawn,
}

/// What is known when the phone rings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rang {
    pub call: String,
    pub at: Timestamp,
    pub assistant: Option<String>,
    pub assistant_version: Option<String>,
    /// As far as the file keeps it.
    pub from: Option<String>,
    pub to: Option<String>,
    /// The caller's number, of which the store keeps a keyed hash, to find the call again. It is never written. `None` if
    /// it was withheld, or the file keeps no numbers.
    #[serde(skip)]
    pub caller: Option<PhoneNumber>,
    /// The file keeps no numbers.
    #[serde(default)]
    pub numberless: bool,
    pub test: bool,
    pub simulated: bool,
    /// Until when the record is kept.
    pub keep_until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spoke {
    /// `None` for a recording.
    pub item: Option<String>,
    /// The words of a recording.
    pub text: Option<String>,
    pub start_ms: u64,
    pub sent_ms: u64,
    pub heard_ms: u64,
    pub interrupted: bool,
}

/// A transcript. It may come before or after the turn it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    pub item: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub name: String,
    pub start_ms: u64,
    pub ms: u64,
    /// `ok`, or the code of what went wrong.
    pub outcome: String,
    /// `None` unless the file keeps them.
    pub arguments: Option<String>,
    pub result: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconnect {
    /// Such as `model.lost` or `caller.stream`.
    pub cause: String,
    pub worked: bool,
    /// The silence that the caller heard.
    pub silence_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The target's name in the file.
    pub target: String,
    /// `sent`, or the code of why it failed.
    pub outcome: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub reason: String,
    /// Since the ring.
    pub seconds: f64,
    pub longest_silence_ms: u64,
}

/// The form after a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// `ok`, or the code of why there is none.
    pub outcome: String,
    pub summary: Option<String>,
    pub fields: Option<serde_json::Map<String, serde_json::Value>>,
}
