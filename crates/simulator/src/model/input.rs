//! What a client may send, and what each event does.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::conversation::MAX_AUDIO;
use super::dialect;
use super::log::{Happened, Truncation};
use super::options::Truncating;
use super::refusal::Refusal;
use super::rule::{Rule, check_keys};
use super::state::{Ending, Session};

/// The client events, in the order of the live service's error message.
const KINDS: &[&str] = &[
    "session.update",
    "session.close",
    "input_audio_buffer.append",
    "session.input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "response.create",
    "response.cancel",
];

/// The one event that comes fifty times a second, read without copying.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Append<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    audio: Cow<'a, str>,
    #[serde(borrow, default, rename = "event_id")]
    _event_id: Cow<'a, str>,
}

/// Reads a text frame; a bad one is answered with an error.
pub(super) fn handle_text(session: &mut Session, text: &str, scratch: &mut Vec<u8>) {
    if let Ok(append) = serde_json::from_str::<Append<'_>>(text)
        && matches!(&*append.kind, "input_audio_buffer.append" | "session.input_audio_buffer.append")
    {
        scratch.clear();
        if STANDARD.decode_vec(append.audio.as_bytes(), scratch).is_ok() && scratch.len() <= MAX_AUDIO {
            session.handle_audio(scratch);
            return;
        }
    }
    let event: Value = match serde_json::from_str(text) {
        Ok(event) => event,
        Err(_) => {
            let message = "We could not parse the JSON body of your event.";
            session.refuse(&Refusal::new("invalid_json", message, None), None);
            return;
        }
    };
    let event_id = event["event_id"].as_str().map(str::to_owned);
    if let Err(refusal) = handle_event(session, &event) {
        session.refuse(&refusal, event_id.as_deref());
    }
}

fn handle_event(session: &mut Session, event: &Value) -> Result<(), Refusal> {
    let Some(object) = event.as_object() else {
        return Err(Refusal::new("invalid_event", "The event must be an object.", None));
    };
    let Some(kind) = object.get("type") else {
        return Err(Refusal::new("invalid_event", "The 'type' field is missing.", None));
    };
    let kind = kind.as_str().ok_or_else(|| Refusal::wrong_type("type", "a string", kind))?;
    if !kind.ends_with("input_audio_buffer.append") {
        let now = session.now;
        session.note(|log| log.record(now, event));
        session.publish(Happened::Received(kind.to_owned()));
    }
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    match kind {
        "session.update" => {
            keys(object, [("!session", Rule::Open)])?;
            session.update(&event["session"])
        }
        "session.close" => {
            keys(object, [])?;
            session.ending = Some(Ending::Close(1000, String::new()));
            Ok(())
        }
        "input_audio_buffer.append" | "session.input_audio_buffer.append" => {
            // Good appends were handled above; this names what is wrong with the others.
            keys(object, [("!audio", Rule::Text)])?;
            if text("audio").len() / 4 * 3 > MAX_AUDIO {
                return Err(Refusal::new(
                    "string_above_max_length",
                    "Audio is longer than 15 MiB.",
                    "audio".to_owned(),
                ));
            }
            let mut bytes = STANDARD.decode(text("audio")).map_err(|_| {
                Refusal::invalid("audio", "Invalid 'audio'. Expected base64-encoded audio bytes.")
            })?;
            session.handle_audio(&mut bytes);
            Ok(())
        }
        "input_audio_buffer.commit" => {
            keys(object, [])?;
            session.commit_buffer()
        }
        "input_audio_buffer.clear" => {
            keys(object, [])?;
            session.clear_buffer();
            Ok(())
        }
        "conversation.item.create" => {
            keys(object, [("!item", Rule::Open), ("previous_item_id", Rule::OrNull(&Rule::Text))])?;
            let item = dialect::item(session.options().dialect, &event["item"])?;
            create_item(session, &item, event["previous_item_id"].as_str())
        }
        "conversation.item.truncate" => {
            let index = ("!content_index", Rule::Whole(0, i64::MAX));
            let end = ("!audio_end_ms", Rule::Whole(0, i64::MAX));
            keys(object, [("!item_id", Rule::Text), index, end])?;
            match session.options().truncating {
                Truncating::Works => truncate(session, event),
                Truncating::Ignored => Ok(()),
                Truncating::Refused => Err(Refusal::not_one_of("type", kind, &[])),
            }
        }
        "conversation.item.delete" => {
            keys(object, [("!item_id", Rule::Text)])?;
            session.conversation.delete(text("item_id"))?;
            session.emit(json!({"type": "conversation.item.deleted", "item_id": event["item_id"]}));
            Ok(())
        }
        "conversation.item.retrieve" => {
            keys(object, [("!item_id", Rule::Text)])?;
            let Some(item) = session.conversation.find(text("item_id")) else {
                let message =
                    format!("Error retrieving item: the item with id '{}' does not exist.", text("item_id"));
                return Err(Refusal::item("item_retrieve_invalid_item_id", message));
            };
            let item = item.value.clone();
            session.emit(json!({"type": "conversation.item.retrieved", "item": item}));
            Ok(())
        }
        "response.create" => {
            keys(object, [("response", Rule::Open)])?;
            let asked = event.get("response").cloned().unwrap_or_else(|| json!({}));
            session.create_response(dialect::response(session.options().dialect, &asked)?)
        }
        "response.cancel" => {
            keys(object, [("response_id", Rule::OrNull(&Rule::Text))])?;
            cancel(session, event["response_id"].as_str())
        }
        unknown => Err(Refusal::not_one_of("type", unknown, KINDS)),
    }
}

/// Every event may carry `type` and `event_id`.
fn keys<const N: usize>(event: &Map<String, Value>, rules: [(&str, Rule); N]) -> Result<(), Refusal> {
    let mut all = Vec::with_capacity(N + 2);
    all.extend(rules);
    all.extend([("type", Rule::Text), ("event_id", Rule::OrNull(&Rule::By(event_id)))]);
    check_keys(&all, event, "")
}

fn event_id(value: &Value, path: &str) -> Result<(), Refusal> {
    let id = value.as_str().ok_or_else(|| Refusal::wrong_type(path, "a string", value))?;
    if id.chars().count() > 512 {
        return Err(Refusal::new(
            "string_above_max_length",
            "Invalid 'event_id': string too long.",
            path.to_owned(),
        ));
    }
    Ok(())
}

fn create_item(session: &mut Session, item: &Value, previous: Option<&str>) -> Result<(), Refusal> {
    session.conversation.check_create(item, previous)?;
    let mut item = item.clone();
    if item["id"].is_null() {
        item["id"] = json!(session.new_id("item_"));
    }
    item["status"] = json!("completed");
    if item["type"] == "function_call" && item["call_id"].is_null() {
        item["call_id"] = json!(session.new_id("call_"));
    }
    if item["type"] == "message" {
        match item["role"].as_str() {
            Some("user") => {
                session.turns += 1;
                session.unanswered = true;
                session.results.clear();
            }
            Some("assistant") => {
                session.seeded_words = true;
                session.unanswered = false;
                session.results.clear();
            }
            _ => {}
        }
    }
    // The echo does not repeat the client's audio.
    let mut heard_ms = 0;
    for part in item["content"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        let audio =
            part.remove("audio").as_ref().and_then(Value::as_str).map_or(0, |audio| audio.len() / 4 * 3);
        heard_ms += audio as u64 / session.format.bytes_per_ms();
    }
    let previous = session.conversation.insert(item.clone(), previous, heard_ms);
    session.emit(json!({"type": "conversation.item.added", "previous_item_id": previous, "item": item}));
    session.emit(json!({"type": "conversation.item.done", "previous_item_id": previous, "item": item}));
    let text = |key: &str| item[key].as_str().unwrap_or_default();
    match text("type") {
        "function_call_output" => take_output(session, text("call_id"), text("output")),
        "mcp_approval_response" => {
            let (id, approved) = (text("approval_request_id"), item["approve"] == true);
            session.take_approval(id, approved, item["reason"].as_str());
        }
        _ => {}
    }
    Ok(())
}

fn take_output(session: &mut Session, call_id: &str, output: &str) {
    let now = session.now;
    session.results.push(output.to_owned());
    session.note(|log| {
        if let Some(call) = log.calls.iter_mut().find(|call| call.id == call_id) {
            call.answered = Some((now, output.to_owned()));
        }
    });
}

fn truncate(session: &mut Session, event: &Value) -> Result<(), Refusal> {
    let (id, end) =
        (event["item_id"].as_str().unwrap_or_default(), event["audio_end_ms"].as_i64().unwrap_or(0));
    let sent_ms = session.conversation.truncate(id, event["content_index"].as_i64().unwrap_or(0), end)?;
    let audio_end_ms = u64::try_from(end).unwrap_or(0);
    let truncation = Truncation { at: session.now, item: id.to_owned(), audio_end_ms, sent_ms };
    session.note(|log| log.truncations.push(truncation));
    session.publish(Happened::Truncated { item: id.to_owned(), audio_end_ms });
    session.emit(json!({"type": "conversation.item.truncated", "item_id": id, "content_index": 0,
        "audio_end_ms": audio_end_ms}));
    Ok(())
}

fn cancel(session: &mut Session, wanted: Option<&str>) -> Result<(), Refusal> {
    let running = match wanted {
        Some(wanted) => session.responses.iter().find(|response| response.id == wanted),
        None => session.responses.iter().find(|response| !response.out_of_band),
    };
    let Some(id) = running.map(|response| response.id.clone()) else {
        if session.trouble_cancelled(wanted) {
            return Ok(());
        }
        let message = "Cancellation failed: no active response found";
        return Err(Refusal::new("response_cancel_not_active", message, None));
    };
    session.cancel_response(&id, "client_cancelled");
    Ok(())
}
