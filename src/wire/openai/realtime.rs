//! Events of the Realtime API over WebSocket, both ways.
//!
//! Source: the Realtime API's client and server events (GA). Reading is lenient: an event, field or value that
//! nobody knows never fails. The names of the beta and of xAI are understood everywhere, since compatible servers
//! mix them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::wire::{Text, chunk_of};
use switchboard_audio::{Chunk, InvalidChunk};

/// The largest message that is taken from the model, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// The same where the model's host asks MCP servers: what a server answers comes whole, and again with its response.
pub const MAX_MESSAGE_WITH_HOSTED: usize = 8 * 1024 * 1024;

/// An event from the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming<'a> {
    SessionCreated,
    /// There is a conversation: some servers say so before, or in place of, the session.
    ConversationCreated,
    /// The configuration is in force. False where it says plainly that its audio is something else than mu-law.
    SessionUpdated {
        mulaw: bool,
    },
    Error(ErrorBody<'a>),
    /// The caller began to speak.
    SpeechStarted {
        item: Cow<'a, str>,
    },
    /// The caller's turn is over.
    SpeechStopped,
    ResponseCreated {
        response: Cow<'a, str>,
        /// It was asked for with [`response_create_out_of_band`], and is no part of the conversation.
        out_of_band: bool,
    },
    AudioDelta {
        response: Cow<'a, str>,
        item: Cow<'a, str>,
        chunk: Result<Chunk, InvalidChunk>,
    },
    /// What the model says in an item, once whole.
    SpokenText {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// What the caller said, after the transcription model.
    HeardText {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// What the caller has said so far in an item; the next one replaces it.
    HeardSoFar {
        item: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// An item is whole. Only calls of functions matter.
    FunctionCall {
        response: Cow<'a, str>,
        call: FunctionCall<'a>,
    },
    ResponseDone(ResponseDone<'a>),
    /// The host runs a tool of an MCP server. No response is named where the conversation tells of it.
    HostedStarted {
        response: Option<Cow<'a, str>>,
        item: Cow<'a, str>,
    },
    /// It has ended, well or not.
    HostedEnded {
        item: Cow<'a, str>,
    },
    /// The host asks whether it may.
    ApprovalRequested {
        response: Option<Cow<'a, str>>,
        approval: Approval<'a>,
    },
    /// The host begins to list the tools of an MCP server.
    Listing {
        item: Cow<'a, str>,
        server: Cow<'a, str>,
    },
    /// It has listed them, by their names.
    Listed {
        server: Cow<'a, str>,
        tools: Vec<Cow<'a, str>>,
    },
    /// It could not; why, it does not say.
    ListingFailed {
        item: Cow<'a, str>,
    },
    /// A response is being made; nothing of it can be heard or done yet.
    Working,
    /// Known, and nothing for us.
    Ignored,
    /// An event that this version does not know.
    Unknown,
}

/// The model wants a function called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    /// JSON, if all went well; a cancelled response may cut it.
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

/// The end of a response.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseDone<'a> {
    pub response: Cow<'a, str>,
    pub status: Status,
    /// Why it failed, as a code.
    pub failure: Option<Cow<'a, str>>,
    /// Calls of functions among its items, in case their own event did not come.
    pub calls: Vec<FunctionCall<'a>>,
    /// The host's questions among its items, likewise.
    pub approvals: Vec<Approval<'a>>,
    /// The host's tools among its items, likewise, and whether each has ended.
    pub hosted: Vec<(Cow<'a, str>, bool)>,
    pub tokens_in: u64,
    pub tokens_out: u64,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Completed,
    Cancelled,
    Incomplete,
    Failed,
}

/// An error, without its message: that may quote what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody<'a> {
    pub kind: Option<Cow<'a, str>>,
    pub code: Option<Cow<'a, str>>,
    /// Which parameter was wrong.
    pub param: Option<Cow<'a, str>>,
    /// The `event_id` of the event that it answers, where that is known.
    pub event: Option<Cow<'a, str>>,
}

/// The frame is not a JSON object with a `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a JSON object with a type")]
pub struct BadEvent;

/// Reads one event.
///
/// # Errors
/// [`BadEvent`] when the frame is no JSON object with a `type`, or a known event lacks what it must carry.
pub fn parse(frame: &Bytes) -> Result<Incoming<'_>, BadEvent> {
    let raw: Raw<'_> = serde_json::from_slice(frame).map_err(|_| BadEvent)?;
    Ok(match &*raw.kind.0 {
        "response.output_audio.delta" | "response.audio.delta" => Incoming::AudioDelta {
            response: must(raw.response_id)?,
            item: must(raw.item_id)?,
            chunk: chunk_of(frame, must(raw.delta)?),
        },
        "input_audio_buffer.speech_started" => {
            Incoming::SpeechStarted { item: text(raw.item_id).unwrap_or_default() }
        }
        "input_audio_buffer.speech_stopped" => Incoming::SpeechStopped,
        "response.created" => {
            let response: RawResponse<'_> = read(raw.response).ok_or(BadEvent)?;
            let metadata: RawMetadata<'_> = read(response.metadata).unwrap_or_default();
            let out_of_band = text(metadata.purpose).as_deref() == Some(OUT_OF_BAND);
            Incoming::ResponseCreated { response: response.id.0, out_of_band }
        }
        "response.done" => Incoming::ResponseDone(response_done(raw.response).ok_or(BadEvent)?),
        "response.output_item.added" => match item(raw.item) {
            Some(Item::Hosted { item, .. }) => {
                Incoming::HostedStarted { response: text(raw.response_id), item }
            }
            _ => Incoming::Working,
        },
        "response.output_item.done" => match item(raw.item) {
            Some(Item::Call(call)) => Incoming::FunctionCall { response: must(raw.response_id)?, call },
            Some(Item::Approval(approval)) => {
                Incoming::ApprovalRequested { response: text(raw.response_id), approval }
            }
            Some(Item::Hosted { item, ended: true }) => Incoming::HostedEnded { item },
            _ => Incoming::Working,
        },
        "response.mcp_call.completed" | "response.mcp_call.failed" => {
            Incoming::HostedEnded { item: must(raw.item_id)? }
        }
        // An item that the host adds outside of a response is told of here alone.
        "conversation.item.added" | "conversation.item.created" => match item(raw.item) {
            Some(Item::Hosted { item, ended: false }) => Incoming::HostedStarted { response: None, item },
            Some(Item::Listing { item, server, .. }) => Incoming::Listing { item, server },
            _ => Incoming::Ignored,
        },
        "conversation.item.done" => match item(raw.item) {
            Some(Item::Hosted { item, ended: true }) => Incoming::HostedEnded { item },
            Some(Item::Approval(approval)) => Incoming::ApprovalRequested { response: None, approval },
            Some(Item::Listing { server, tools, .. }) => Incoming::Listed { server, tools },
            _ => Incoming::Ignored,
        },
        "mcp_list_tools.failed" => Incoming::ListingFailed { item: must(raw.item_id)? },
        "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
            Incoming::SpokenText { item: must(raw.item_id)?, text: must(raw.transcript)? }
        }
        "conversation.item.input_audio_transcription.completed" => {
            Incoming::HeardText { item: must(raw.item_id)?, text: must(raw.transcript)? }
        }
        "conversation.item.input_audio_transcription.updated" => {
            Incoming::HeardSoFar { item: must(raw.item_id)?, text: must(raw.transcript)? }
        }
        "error" => {
            let error: RawError<'_> = read(raw.error).unwrap_or_default();
            Incoming::Error(ErrorBody {
                kind: text(error.kind),
                code: text(error.code),
                param: text(error.param),
                event: text(error.event_id),
            })
        }
        "session.created" => Incoming::SessionCreated,
        "session.updated" => Incoming::SessionUpdated { mulaw: is_mulaw(raw.session) },
        "conversation.created" => Incoming::ConversationCreated,
        known if NOTHING_FOR_US.contains(&known) => {
            if known.starts_with("response.") {
                Incoming::Working
            } else {
                Incoming::Ignored
            }
        }
        _ => Incoming::Unknown,
    })
}

/// Events that are part of every conversation and carry nothing that a call needs.
const NOTHING_FOR_US: [&str; 29] = [
    "conversation.item.deleted",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.failed",
    "conversation.item.input_audio_transcription.segment",
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "input_audio_buffer.cleared",
    "input_audio_buffer.committed",
    "input_audio_buffer.timeout_triggered",
    "mcp_list_tools.completed",
    "mcp_list_tools.in_progress",
    "rate_limits.updated",
    "response.audio.done",
    "response.audio_transcript.delta",
    "response.content_part.added",
    "response.content_part.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.output_audio.done",
    "response.output_audio_transcript.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.text.delta",
    "response.text.done",
    "input_audio_buffer.dtmf_event_received",
    "output_audio_buffer.cleared",
];

/// Every field that some event carries, unread: whatever its type, it cannot spoil another event.
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
}

#[derive(Deserialize)]
struct RawResponse<'a> {
    #[serde(borrow)]
    id: Text<'a>,
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

/// What a request for a response said of itself, and its response says again.
#[derive(Deserialize, Default)]
struct RawMetadata<'a> {
    #[serde(borrow, default)]
    purpose: Option<&'a RawValue>,
}

/// An item of the conversation: what all kinds carry, so that none is read twice.
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

/// An item that matters for tools.
enum Item<'a> {
    Call(FunctionCall<'a>),
    Hosted { item: Cow<'a, str>, ended: bool },
    Approval(Approval<'a>),
    Listing { item: Cow<'a, str>, server: Cow<'a, str>, tools: Vec<Cow<'a, str>> },
}

#[derive(Deserialize)]
struct RawListed<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Deserialize, Default)]
struct RawError<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawDetails<'a> {
    #[serde(borrow, default)]
    error: Option<RawError<'a>>,
}

#[derive(Deserialize, Default)]
struct RawUsage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

/// Whether the session's audio is mu-law both ways, as far as it tells: what is not said is taken to be as asked.
fn is_mulaw(session: Option<&RawValue>) -> bool {
    let session: Value = read(session).unwrap_or_default();
    let said = [
        &session["audio"]["input"]["format"]["type"],
        &session["audio"]["output"]["format"]["type"],
        &session["input_audio_format"],
        &session["output_audio_format"],
    ];
    said.iter()
        .all(|format| format.as_str().is_none_or(|format| matches!(format, "audio/pcmu" | "g711_ulaw")))
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    read::<Text<'_>>(raw).map(|text| text.0)
}

fn must(raw: Option<&RawValue>) -> Result<Cow<'_, str>, BadEvent> {
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
            let is_there = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "null");
            Some(Item::Hosted { item: text(item.id)?, ended: is_there(item.output) || is_there(item.error) })
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
    let status = match text(response.status).as_deref() {
        Some("cancelled") => Status::Cancelled,
        Some("incomplete") => Status::Incomplete,
        Some("failed") => Status::Failed,
        _ => Status::Completed,
    };
    let error = read::<RawDetails<'_>>(response.status_details).and_then(|details| details.error);
    let failure = error.and_then(|error| text(error.code).or_else(|| text(error.kind)));
    let usage: RawUsage = read(response.usage).unwrap_or_default();
    let items: Vec<&RawValue> = read(response.output).unwrap_or_default();
    let (mut calls, mut approvals, mut hosted) = (Vec::new(), Vec::new(), Vec::new());
    if status == Status::Completed {
        for raw in items {
            match item(Some(raw)) {
                Some(Item::Call(call)) => calls.push(call),
                Some(Item::Approval(approval)) => approvals.push(approval),
                Some(Item::Hosted { item, ended }) => hosted.push((item, ended)),
                Some(Item::Listing { .. }) | None => {}
            }
        }
    }
    Some(ResponseDone {
        response: response.id.0,
        status,
        failure,
        calls,
        approvals,
        hosted,
        tokens_in: usage.input_tokens.unwrap_or_default(),
        tokens_out: usage.output_tokens.unwrap_or_default(),
    })
}

/// The caller's audio, copied once.
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

/// Replaces the given fields of the session; all of them, or none when one is refused.
pub fn session_update(session: &Value) -> String {
    json!({"type": "session.update", "session": session}).to_string()
}

/// Stops one response.
pub fn cancel(response: &str) -> String {
    json!({"type": "response.cancel", "response_id": response}).to_string()
}

/// The caller heard this much of the item, and no more.
pub fn truncate(item: &str, audio_end_ms: u64) -> String {
    json!({
        "type": "conversation.item.truncate",
        "item_id": item,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    })
    .to_string()
}

/// The result of a function.
pub fn function_output(call: &str, output: &str) -> String {
    json!({
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": call, "output": output},
    })
    .to_string()
}

/// Whether the host may run its tool; the reason is for the model.
pub fn approval(request: &str, approve: bool, reason: &str) -> String {
    let mut item =
        json!({"type": "mcp_approval_response", "approval_request_id": request, "approve": approve});
    if !approve {
        item["reason"] = json!(reason);
    }
    json!({"type": "conversation.item.create", "item": item}).to_string()
}

/// A line in the caller's name, such as the keys that were pressed.
pub fn user_text(text: &str) -> String {
    message("user", "input_text", text)
}

/// A line in the assistant's name, such as a recorded greeting.
pub fn assistant_text(text: &str) -> String {
    message("assistant", "output_text", text)
}

/// The same for a server that speaks as the beta did.
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

/// Asks for a response; `instructions` replace the session's for this one, `modalities` are the beta's,
/// `without_tools` keeps it from calling any, and the server echoes `metadata`. An error that answers it names `event`.
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

/// The `purpose` of an aside.
const OUT_OF_BAND: &str = "aside";

/// Asks for a response outside of the conversation, which may run beside the one that is active there; it calls no
/// tools. An error that answers it names `event`.
pub fn response_create_out_of_band(event: &str, instructions: &str) -> String {
    let response = json!({"conversation": "none", "instructions": instructions, "tool_choice": "none",
        "metadata": {"purpose": OUT_OF_BAND}});
    json!({"type": "response.create", "event_id": event, "response": response}).to_string()
}

#[cfg(test)]
mod tests;
