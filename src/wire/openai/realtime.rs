//! Events of the Realtime API over WebSocket, both ways.
//!
//! Source: the Realtime API's client and server events (GA). Unknown events, fields and values never fail. The names of
//! the beta and of xAI are accepted everywhere, because compatible servers mix them.

mod aside;
mod seed;
mod trouble;
mod usage;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::provider::usage::{Tokens, Transcribed};
use crate::wire::{Text, chunk_of};
pub use aside::{Function, response_create_of_form, response_create_of_line, response_create_out_of_band};
pub use seed::{function_call, system_text, user_audio};
use switchboard_audio::{Chunk, InvalidChunk};
pub use trouble::{Cancelled, ErrorBody, Incomplete, RateLimit, Status};

/// The largest message accepted from the model, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// The same with hosted tools: an MCP server's answer comes in full, and again with its response.
pub const MAX_MESSAGE_WITH_HOSTED: usize = 8 * 1024 * 1024;

/// An event from the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming<'a> {
    SessionCreated {
        expires_at: Option<u64>,
    },
    /// Some servers send this before or in place of `session.created`.
    ConversationCreated,
    /// The configuration is in force. `mulaw` is false if it names another audio format.
    SessionUpdated {
        mulaw: bool,
        /// When the session reaches its maximum age, in seconds since 1970.
        expires_at: Option<u64>,
    },
    Error(ErrorBody),
    /// The caller began to speak.
    SpeechStarted {
        item: Cow<'a, str>,
    },
    /// The caller's turn is over.
    SpeechStopped,
    ResponseCreated {
        /// `None`: the event does not name it.
        response: Option<Cow<'a, str>>,
        /// It was requested outside the conversation.
        out_of_band: bool,
        /// The `event_id` of its request, from the metadata.
        request: Option<String>,
    },
    AudioDelta {
        response: Cow<'a, str>,
        item: Cow<'a, str>,
        chunk: Result<Chunk, InvalidChunk>,
    },
    /// More of the text of what the model says in an item.
    SpokenMore {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// The complete text of what the model says in an item.
    SpokenText {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// More of the transcript of what the caller said in an item.
    HeardMore {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// The complete transcript of what the caller said in an item, and what it is charged for.
    HeardText {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
        used: Option<Transcribed>,
    },
    /// The transcript so far; the next one replaces it.
    HeardSoFar {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// A complete function call.
    FunctionCall {
        response: Cow<'a, str>,
        call: FunctionCall<'a>,
    },
    ResponseDone(ResponseDone<'a>),
    /// The host runs a tool of an MCP server. Events of the conversation name no response.
    HostedStarted {
        response: Option<Cow<'a, str>>,
        item: Cow<'a, str>,
        /// `LABEL/TOOL`, if the event names it.
        tool: Option<String>,
    },
    /// It has ended, successfully or not.
    HostedEnded {
        item: Cow<'a, str>,
        failed: bool,
    },
    /// The host asks whether it may run a tool.
    ApprovalRequested {
        response: Option<Cow<'a, str>>,
        approval: Approval<'a>,
    },
    /// The host begins to list the tools of an MCP server.
    Listing {
        item: Cow<'a, str>,
        server: Cow<'a, str>,
    },
    /// It has listed them.
    Listed {
        server: Cow<'a, str>,
        tools: Vec<Cow<'a, str>>,
    },
    /// It could not list them. The event gives no reason.
    ListingFailed {
        item: Cow<'a, str>,
    },
    /// What is left of the account's limits.
    RateLimits(Vec<RateLimit>),
    /// A response is in progress and has produced nothing to hear or do yet.
    Working,
    /// Known and irrelevant.
    Ignored,
    Unknown,
}

/// The model calls a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    /// Usually JSON; a cancelled response may cut it.
    pub arguments: Cow<'a, str>,
}

/// The host asks whether it may run a tool of an MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval<'a> {
    pub id: Cow<'a, str>,
    /// The server's label.
    pub server: Cow<'a, str>,
    pub tool: Cow<'a, str>,
    /// JSON.
    pub arguments: Cow<'a, str>,
}

/// The host runs a tool of an MCP server, or has run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosted<'a> {
    pub item: Cow<'a, str>,
    /// `LABEL/TOOL`, if it is named.
    pub tool: Option<String>,
    pub ended: bool,
    pub failed: bool,
}

/// The end of a response.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseDone<'a> {
    /// `None`: the event does not name it.
    pub response: Option<Cow<'a, str>>,
    pub status: Status,
    /// Why it failed, if it did and the event says so.
    pub error: Option<ErrorBody>,
    /// Function calls among its items, in case their own events did not come.
    pub calls: Vec<FunctionCall<'a>>,
    /// Approval requests among its items, likewise.
    pub approvals: Vec<Approval<'a>>,
    /// Hosted tools among its items, likewise.
    pub hosted: Vec<Hosted<'a>>,
    /// What it is charged for.
    pub tokens: Tokens,
}

/// The frame is not a JSON object with a `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a JSON object with a type")]
pub struct BadEvent;

/// Reads one event.
///
/// # Errors
/// [`BadEvent`] if the frame is not a JSON object with a `type`, or a known event lacks a required field.
pub fn parse(frame: &Bytes) -> Result<Incoming<'_>, BadEvent> {
    let raw: Raw<'_> = serde_json::from_slice(frame).map_err(|_| BadEvent)?;
    Ok(match &*raw.kind.0 {
        "response.output_audio.delta" | "response.audio.delta" => Incoming::AudioDelta {
            response: required(raw.response_id)?,
            item: required(raw.item_id)?,
            chunk: chunk_of(frame, required(raw.delta)?),
        },
        "input_audio_buffer.speech_started" => {
            Incoming::SpeechStarted { item: text(raw.item_id).unwrap_or_default() }
        }
        "input_audio_buffer.speech_stopped" => Incoming::SpeechStopped,
        "response.created" => {
            let response: RawResponse<'_> = read(raw.response).ok_or(BadEvent)?;
            let metadata = value(response.metadata);
            let (out_of_band, request) = (aside::is_one(&metadata), aside::request(&metadata));
            Incoming::ResponseCreated { response: text(response.id), out_of_band, request }
        }
        "response.done" => Incoming::ResponseDone(response_done(raw.response).ok_or(BadEvent)?),
        "response.output_item.added" => match item(raw.item) {
            Some(Item::Hosted(Hosted { item, tool, .. })) => {
                Incoming::HostedStarted { response: text(raw.response_id), item, tool }
            }
            _ => Incoming::Working,
        },
        "response.output_item.done" => match item(raw.item) {
            Some(Item::Call(call)) => Incoming::FunctionCall { response: required(raw.response_id)?, call },
            Some(Item::Approval(approval)) => {
                Incoming::ApprovalRequested { response: text(raw.response_id), approval }
            }
            Some(Item::Hosted(Hosted { item, ended: true, failed, .. })) => {
                Incoming::HostedEnded { item, failed }
            }
            _ => Incoming::Working,
        },
        kind @ ("response.mcp_call.completed" | "response.mcp_call.failed") => {
            let failed = kind.ends_with("failed");
            Incoming::HostedEnded { item: required(raw.item_id)?, failed }
        }
        // Only these report an item that the host adds outside any response.
        "conversation.item.added" | "conversation.item.created" => match item(raw.item) {
            Some(Item::Hosted(Hosted { item, tool, ended: false, .. })) => {
                Incoming::HostedStarted { response: None, item, tool }
            }
            Some(Item::Listing { item, server, .. }) => Incoming::Listing { item, server },
            _ => Incoming::Ignored,
        },
        "conversation.item.done" => match item(raw.item) {
            Some(Item::Hosted(Hosted { item, ended: true, failed, .. })) => {
                Incoming::HostedEnded { item, failed }
            }
            Some(Item::Approval(approval)) => Incoming::ApprovalRequested { response: None, approval },
            Some(Item::Listing { server, tools, .. }) => Incoming::Listed { server, tools },
            _ => Incoming::Ignored,
        },
        "mcp_list_tools.failed" => Incoming::ListingFailed { item: required(raw.item_id)? },
        "response.output_audio_transcript.delta" | "response.audio_transcript.delta" => {
            match (text(raw.item_id), text(raw.delta)) {
                (Some(item), Some(text)) => Incoming::SpokenMore { item, text },
                _ => Incoming::Working,
            }
        }
        "conversation.item.input_audio_transcription.delta" => match (text(raw.item_id), text(raw.delta)) {
            (Some(item), Some(text)) => Incoming::HeardMore { item, text },
            _ => Incoming::Ignored,
        },
        "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
            Incoming::SpokenText { item: required(raw.item_id)?, text: required(raw.transcript)? }
        }
        "conversation.item.input_audio_transcription.completed" => {
            let used = usage::transcribed(&value(raw.usage));
            Incoming::HeardText { item: required(raw.item_id)?, text: required(raw.transcript)?, used }
        }
        "conversation.item.input_audio_transcription.updated" => {
            Incoming::HeardSoFar { item: required(raw.item_id)?, text: required(raw.transcript)? }
        }
        "error" => Incoming::Error(ErrorBody::read(&value(raw.error))),
        "rate_limits.updated" => Incoming::RateLimits(RateLimit::all(&value(raw.rate_limits))),
        "session.created" => {
            Incoming::SessionCreated { expires_at: value(raw.session)["expires_at"].as_u64() }
        }
        "session.updated" => {
            let session = value(raw.session);
            Incoming::SessionUpdated { mulaw: is_mulaw(&session), expires_at: session["expires_at"].as_u64() }
        }
        "conversation.created" => Incoming::ConversationCreated,
        known if IRRELEVANT.contains(&known) && known.starts_with("response.") => Incoming::Working,
        known if IRRELEVANT.contains(&known) => Incoming::Ignored,
        _ => Incoming::Unknown,
    })
}

/// Known events that carry nothing that a call needs.
const IRRELEVANT: [&str; 27] = [
    "conversation.item.deleted",
    "conversation.item.input_audio_transcription.failed",
    "conversation.item.input_audio_transcription.segment",
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "input_audio_buffer.cleared",
    "input_audio_buffer.committed",
    "input_audio_buffer.timeout_triggered",
    "mcp_list_tools.completed",
    "mcp_list_tools.in_progress",
    "response.audio.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.output_audio.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.text.delta",
    "response.text.done",
    "input_audio_buffer.dtmf_event_received",
    "output_audio_buffer.cleared",
    "output_audio_buffer.started",
    "output_audio_buffer.stopped",
];

/// The fields of all events, unparsed, so that a field of an unexpected type cannot break another event.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    response_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    transcript: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    session: Option<&'a RawValue>,
    #[serde(borrow, default)]
    rate_limits: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawResponse<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// An item of the conversation with the fields of all kinds.
#[derive(Deserialize)]
struct RawItem<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    call_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    server_label: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
}

/// An item that matters to tools.
enum Item<'a> {
    Call(FunctionCall<'a>),
    Hosted(Hosted<'a>),
    Approval(Approval<'a>),
    Listing { item: Cow<'a, str>, server: Cow<'a, str>, tools: Vec<Cow<'a, str>> },
}

#[derive(Deserialize)]
struct RawListed<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// Whether the session's audio is mu-law both ways. A format that is not named is assumed to be as requested.
fn is_mulaw(session: &Value) -> bool {
    let formats = [
        &session["audio"]["input"]["format"]["type"],
        &session["audio"]["output"]["format"]["type"],
        &session["input_audio_format"],
        &session["output_audio_format"],
    ];
    formats
        .iter()
        .all(|format| format.as_str().is_none_or(|format| matches!(format, "audio/pcmu" | "g711_ulaw")))
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// For what is too rare or too deep for a struct.
fn value(raw: Option<&RawValue>) -> Value {
    read(raw).unwrap_or_default()
}

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    read::<Text<'_>>(raw).map(|text| text.0)
}

fn required(raw: Option<&RawValue>) -> Result<Cow<'_, str>, BadEvent> {
    text(raw).ok_or(BadEvent)
}

fn item(raw: Option<&RawValue>) -> Option<Item<'_>> {
    let item: RawItem<'_> = read(raw)?;
    match &*item.kind.0 {
        "function_call" if text(item.status).as_deref() != Some("incomplete") => {
            Some(Item::Call(FunctionCall {
                id: text(item.call_id)?,
                name: text(item.name)?,
                arguments: text(item.arguments).unwrap_or_default(),
            }))
        }
        "mcp_call" => {
            let is_set = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "null");
            let failed = is_set(item.error);
            let tool = text(item.server_label).zip(text(item.name));
            Some(Item::Hosted(Hosted {
                item: text(item.id)?,
                tool: tool.map(|(server, tool)| format!("{server}/{tool}")),
                ended: is_set(item.output) || failed,
                failed,
            }))
        }
        "mcp_approval_request" => Some(Item::Approval(Approval {
            id: text(item.id)?,
            server: text(item.server_label)?,
            tool: text(item.name)?,
            arguments: text(item.arguments).unwrap_or_default(),
        })),
        "mcp_list_tools" => {
            let tools: Vec<RawListed<'_>> = read(item.tools).unwrap_or_default();
            let tools = tools.into_iter().map(|tool| tool.name.0).collect();
            Some(Item::Listing { item: text(item.id)?, server: text(item.server_label)?, tools })
        }
        _ => None,
    }
}

fn response_done(raw: Option<&RawValue>) -> Option<ResponseDone<'_>> {
    let response: RawResponse<'_> = read(raw)?;
    let details = value(response.status_details);
    let status = Status::read(text(response.status).as_deref(), &details);
    let error = Some(&details["error"]).filter(|error| error.is_object()).map(ErrorBody::read);
    let items: Vec<&RawValue> = read(response.output).unwrap_or_default();
    let (mut calls, mut approvals, mut hosted) = (Vec::new(), Vec::new(), Vec::new());
    if status == Status::Completed {
        for raw in items {
            match item(Some(raw)) {
                Some(Item::Call(call)) => calls.push(call),
                Some(Item::Approval(approval)) => approvals.push(approval),
                Some(Item::Hosted(tool)) => hosted.push(tool),
                Some(Item::Listing { .. }) | None => {}
            }
        }
    }
    Some(ResponseDone {
        response: text(response.id),
        status,
        error,
        calls,
        approvals,
        hosted,
        tokens: usage::tokens(&value(response.usage)),
    })
}

/// The caller's audio; copies the chunk once.
pub fn append(chunk: &Chunk) -> String {
    const START: &str = r#"{"type":"input_audio_buffer.append","audio":""#;
    const END: &str = r#""}"#;
    let audio = chunk.as_str();
    let mut frame = String::with_capacity(START.len() + audio.len() + END.len());
    frame.push_str(START);
    frame.push_str(audio);
    frame.push_str(END);
    frame
}

/// Replaces the given fields of the session: all of them, or none if the server rejects one.
pub fn session_update(session: &Value) -> String {
    json!({"type": "session.update", "session": session}).to_string()
}

/// Ends the caller's turn.
pub fn commit() -> String {
    json!({"type": "input_audio_buffer.commit"}).to_string()
}

/// Cancels one response.
pub fn cancel(response: &str) -> String {
    json!({"type": "response.cancel", "response_id": response}).to_string()
}

/// Reports that the caller heard only this much of the item.
pub fn truncate(item: &str, audio_end_ms: u64) -> String {
    json!({
        "type": "conversation.item.truncate",
        "item_id": item,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    })
    .to_string()
}

/// Takes an item out of the conversation.
pub fn delete(item: &str) -> String {
    json!({"type": "conversation.item.delete", "item_id": item}).to_string()
}

/// The result of a function call.
pub fn function_output(call: &str, output: &str) -> String {
    json!({
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": call, "output": output},
    })
    .to_string()
}

/// Allows or denies a hosted tool. The reason is for the model.
pub fn approval(request: &str, approve: bool, reason: &str) -> String {
    // Each request has one answer. An item's id has at most 32 characters, and the end of the request's id is random.
    let start = request.char_indices().rev().nth(26).map_or(0, |(at, _)| at);
    let id = format!("mcpa_{}", &request[start..]);
    let mut item = json!({"id": id, "type": "mcp_approval_response", "approval_request_id": request, "approve": approve});
    if !approve {
        item["reason"] = json!(reason);
    }
    json!({"type": "conversation.item.create", "item": item}).to_string()
}

/// A line from the caller, such as the keys that they pressed.
pub fn user_text(text: &str) -> String {
    message("user", "input_text", text)
}

/// A line from the assistant, such as a recorded greeting.
pub fn assistant_text(text: &str) -> String {
    message("assistant", "output_text", text)
}

/// The same in the beta's spelling.
pub fn assistant_text_beta(text: &str) -> String {
    message("assistant", "text", text)
}

fn message(role: &str, part: &str, text: &str) -> String {
    json!({
        "type": "conversation.item.create",
        "item": {"type": "message", "role": role, "content": [{"type": part, "text": text}]},
    })
    .to_string()
}

/// Requests a response. Its `instructions` replace the session's, `modalities` are the beta's, and `without_tools` keeps
/// it from calling tools. The server echoes `metadata`. An error about it names `event`.
pub fn response_create(
    event: &str,
    instructions: Option<&str>,
    modalities: Option<&[&str]>,
    without_tools: bool,
    metadata: Option<&Value>,
) -> String {
    let mut request = json!({"type": "response.create", "event_id": event});
    if let Some(instructions) = instructions {
        request["response"]["instructions"] = json!(instructions);
    }
    if let Some(modalities) = modalities {
        request["response"]["modalities"] = json!(modalities);
    }
    if without_tools {
        request["response"]["tool_choice"] = json!("none");
    }
    if let Some(metadata) = metadata {
        request["response"]["metadata"] = metadata.clone();
    }
    request.to_string()
}

#[cfg(test)]
mod tests;
