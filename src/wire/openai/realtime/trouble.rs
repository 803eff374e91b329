//! What went wrong: how a response ended, the errors, and the limits of the account.

use std::time::Duration;

use serde_json::Value;

use crate::provider::wait;

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Completed,
    Cancelled(Cancelled),
    Incomplete(Incomplete),
    Failed,
}

/// Why a response was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// The server heard the caller speak.
    TurnDetected,
    /// We asked for it.
    ByClient,
    Unknown,
}

/// Why a response is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    MaxOutputTokens,
    ContentFilter,
    Unknown,
}

/// What is left of a limit of the account, such as its tokens in a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    pub limit: f64,
    pub remaining: f64,
    /// Until all of it is available again.
    pub reset: Duration,
}

/// An error without its message, which may quote what was sent. What matters of the message has fields of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    pub kind: Option<String>,
    pub code: Option<String>,
    /// Which parameter was wrong.
    pub param: Option<String>,
    /// The `event_id` of the event that it answers.
    pub event: Option<String>,
    /// How long to wait: "Please try again in 1.5s".
    pub retry_after: Option<Duration>,
    /// The response that is active already: "Conversation already has an active response in progress: resp_X".
    pub active: Option<String>,
}

impl Status {
    pub(super) fn read(status: Option<&str>, details: &Value) -> Self {
        let reason = details["reason"].as_str();
        match status {
            Some("cancelled") => Self::Cancelled(match reason {
                Some("turn_detected") => Cancelled::TurnDetected,
                Some("client_cancelled") => Cancelled::ByClient,
                _ => Cancelled::Unknown,
            }),
            Some("incomplete") => Self::Incomplete(match reason {
                Some("max_output_tokens") => Incomplete::MaxOutputTokens,
                Some("content_filter") => Incomplete::ContentFilter,
                _ => Incomplete::Unknown,
            }),
            Some("failed") => Self::Failed,
            _ => Self::Completed,
        }
    }
}

impl RateLimit {
    /// All of an event. Limits without figures are left out.
    pub(super) fn all(limits: &Value) -> Vec<Self> {
        let read = |limit: &Value| {
            Some(Self {
                limit: limit["limit"].as_f64()?,
                remaining: limit["remaining"].as_f64()?,
                reset: Duration::try_from_secs_f64(limit["reset_seconds"].as_f64()?).ok()?,
            })
        };
        limits.as_array().into_iter().flatten().filter_map(read).collect()
    }
}

impl ErrorBody {
    pub(super) fn read(error: &Value) -> Self {
        let word = |name: &str| error[name].as_str().map(str::to_owned);
        let message = error["message"].as_str().unwrap_or_default();
        Self {
            kind: word("type"),
            code: word("code"),
            param: word("param"),
            event: word("event_id"),
            retry_after: wait::in_message(message),
            active: active_response(message),
        }
    }
}

/// The id after "active response in progress: ".
fn active_response(message: &str) -> Option<String> {
    let (_, named) = message.split_once("active response")?.1.split_once(": ")?;
    let id =
        named.split(|letter: char| letter.is_whitespace() || letter == ',').next()?.trim_end_matches('.');
    (!id.is_empty()).then(|| id.to_owned())
}
