//! What a session did, for tests and reports.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::faults::Aim;

/// The most client events in a log; later ones are dropped.
const MAX_EVENTS: usize = 10_000;

/// One session, as the server saw it, without secrets.
#[derive(Debug, Clone, Default)]
pub struct SessionLog {
    /// The session's number on this server, from 0.
    pub number: usize,
    /// Whether the request had the header that carries the key.
    pub authorization_present: bool,
    /// Whether the key was right.
    pub authorization_good: bool,
    /// The names of all request headers, in lower case.
    pub headers: Vec<String>,
    /// The `model` of the query.
    pub model: Option<String>,
    /// Every client event except audio appends, unchanged.
    pub events: Vec<ClientEvent>,
    pub appends: u64,
    /// The caller audio, if [`super::ModelOptions::keep_audio`] is set.
    pub audio: Vec<u8>,
    pub first_append: Option<Instant>,
    /// When `session.updated` was first sent.
    pub updated: Option<Instant>,
    pub speech_started: Vec<Instant>,
    pub speech_stopped: Vec<Instant>,
    pub truncations: Vec<Truncation>,
    /// The assistant's items with audio.
    pub items: Vec<SpokenItem>,
    /// Every response, in the order they were created.
    pub responses: Vec<ResponseLog>,
    /// Every function call the model made, in order.
    pub calls: Vec<CallLog>,
    /// Every call of a hosted tool that was run, in order.
    pub hosted: Vec<HostedLog>,
    /// Every approval that was asked for, in order.
    pub approvals: Vec<ApprovalLog>,
    /// The codes of all errors sent; an error without a code is the empty string.
    pub errors: Vec<String>,
    /// The latencies of stamped caller audio ([`super::Speech::Stamped`]).
    pub latencies: Vec<Duration>,
    /// How the session ended; `None` while it lives.
    pub closed: Option<Closed>,
}

#[derive(Debug, Clone)]
pub struct ClientEvent {
    pub at: Instant,
    pub event: Value,
}

impl ClientEvent {
    /// The event's `type`, or an empty string.
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    pub at: Instant,
    pub item: String,
    pub audio_end_ms: u64,
    /// How much of the item had been sent when it was cut.
    pub sent_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpokenItem {
    pub id: String,
    /// The number its tags carry.
    pub number: u16,
    pub response: String,
    pub line: String,
    /// A fault turned its audio, or the end of it, into digital silence.
    pub silent: bool,
    pub sent_bytes: u64,
    pub sent_ms: u64,
    pub first_delta: Option<Instant>,
}

/// A response; its status is `in_progress` while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseLog {
    pub id: String,
    pub aim: Aim,
    pub out_of_band: bool,
    pub created: Instant,
    pub ended: Option<Instant>,
    /// It calls functions or hosted tools.
    pub calls: bool,
    pub status: String,
    /// `status_details.reason`, or the code of its error.
    pub reason: Option<String>,
}

/// A function call by the model, and the client's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLog {
    /// Its `call_id`.
    pub id: String,
    pub name: String,
    pub arguments: String,
    pub response: String,
    /// Its `function_call_output`, and when that arrived.
    pub answered: Option<(Instant, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedLog {
    /// The `mcp_call` item.
    pub item: String,
    pub server: String,
    pub tool: String,
    /// The id of the request that was approved.
    pub approval: Option<String>,
    pub ended: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLog {
    /// The `mcp_approval_request` item.
    pub id: String,
    pub server: String,
    pub tool: String,
    pub approved: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The client closed, with this code.
    ByClient(Option<u16>),
    /// The server closed, with this code and reason.
    ByServer(u16, String),
    /// The connection was dropped by a fault.
    Dropped,
    /// The client vanished or broke the protocol.
    Lost,
    Stopped,
}

/// Something that happened in a session, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEvent {
    pub session: usize,
    pub at: Instant,
    pub what: Happened,
}

/// What a [`ModelEvent`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Connected,
    /// A client event of this type arrived. Only the first audio append is reported.
    Received(String),
    /// A server event of this type was sent. Audio and transcript deltas are not reported.
    Sent(String),
    /// The caller's turn was reported with these words.
    CallerSaid(String),
    /// An item began to be spoken.
    Speaking {
        item: String,
        line: String,
    },
    Truncated {
        item: String,
        audio_end_ms: u64,
    },
    /// An `error` with this code was sent.
    Refused(String),
    Closed(Closed),
}

impl SessionLog {
    /// The events of one type.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event.kind() == kind).map(|event| &event.event)
    }

    /// Whether the caller's audio waited for `session.updated`.
    pub fn audio_waited_for_update(&self) -> bool {
        match (self.first_append, self.updated) {
            (Some(append), Some(updated)) => append >= updated,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    pub(super) fn record(&mut self, at: Instant, event: &Value) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(ClientEvent { at, event: event.clone() });
        }
    }
}
