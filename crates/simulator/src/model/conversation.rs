//! The conversation: its items in order, what may be added, and how much of each was spoken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::rule::{Rule, check_keys};

/// The longest audio of one event.
pub(super) const MAX_AUDIO: usize = 15 * 1_024 * 1_024;

#[derive(Debug, Default)]
pub(super) struct Conversation {
    items: Vec<Item>,
}

/// One item, as the API shows it, and the audio behind it.
#[derive(Debug)]
pub(super) struct Item {
    pub value: Value,
    /// Only for assistant messages with audio, from the moment they are opened.
    pub spoken: Option<Spoken>,
    /// Milliseconds of caller audio.
    pub heard_ms: u64,
}

/// How much audio of an item was sent, and where it was cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken {
    pub sent_bytes: u64,
    pub bytes_per_ms: u64,
    pub cut_ms: Option<u64>,
}

impl Spoken {
    pub fn sent_ms(&self) -> u64 {
        self.sent_bytes / self.bytes_per_ms
    }

    pub fn remaining_ms(&self) -> u64 {
        self.cut_ms.map_or(self.sent_ms(), |cut| cut.min(self.sent_ms()))
    }
}

impl Conversation {
    pub fn find(&self, id: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.value["id"] == id)
    }

    pub fn find_mut(&mut self, id: &str) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.value["id"] == id)
    }

    /// The id of the last item, or null.
    pub fn last_id(&self) -> Value {
        self.items.last().map_or(Value::Null, |last| last.value["id"].clone())
    }

    /// The id of the item before this one, or null.
    pub fn before(&self, id: &str) -> Value {
        let at = self.items.iter().position(|item| item.value["id"] == id).and_then(|at| at.checked_sub(1));
        at.map_or(Value::Null, |at| self.items[at].value["id"].clone())
    }

    /// Adds an item at the end; returns the id of the item before it, or null.
    pub fn push(&mut self, value: Value, spoken: Option<Spoken>, heard_ms: u64) -> Value {
        let previous = self.last_id();
        self.items.push(Item { value, spoken, heard_ms });
        previous
    }

    /// Adds a client's item after `previous_item_id`, which [`Self::check_create`] has checked.
    pub fn insert(&mut self, value: Value, previous_item_id: Option<&str>, heard_ms: u64) -> Value {
        let at = match previous_item_id {
            None | Some("") => self.items.len(),
            Some("root") => 0,
            Some(id) => self
                .items
                .iter()
                .position(|item| item.value["id"] == id)
                .map_or(self.items.len(), |at| at + 1),
        };
        let previous = at.checked_sub(1).map_or(Value::Null, |before| self.items[before].value["id"].clone());
        self.items.insert(at, Item { value, spoken: None, heard_ms });
        previous
    }

    pub fn check_create(&self, item: &Value, previous_item_id: Option<&str>) -> Result<(), Refusal> {
        check_item(item, "item")?;
        if let Some(id) = item["id"].as_str()
            && self.find(id).is_some()
        {
            let message = format!("Error adding item: an item with id '{id}' already exists.");
            return Err(Refusal::item("item_create_duplicate_item_id", message));
        }
        if let Some(id) = previous_item_id.filter(|id| !matches!(*id, "" | "root"))
            && self.find(id).is_none()
        {
            let message = format!("Error adding item: the previous item with id '{id}' does not exist.");
            return Err(Refusal::item("item_create_invalid_previous_item_id", message));
        }
        let same = |kind: &str, key: &str, wanted: &Value| {
            self.items.iter().any(|item| item.value["type"] == kind && item.value[key] == *wanted)
        };
        if item["type"] == "function_call_output" {
            let id = &item["call_id"];
            let wrong = if !same("function_call", "call_id", id) {
                format!("Error adding item: no function call with call_id {id} exists.")
            } else if same("function_call_output", "call_id", id) {
                format!("Error adding item: the function call with call_id {id} has an output already.")
            } else {
                return Ok(());
            };
            return Err(Refusal::item("item_create_invalid_call_id", wrong));
        }
        if item["type"] == "mcp_approval_response" {
            let id = &item["approval_request_id"];
            let wrong = if !same("mcp_approval_request", "id", id) {
                "Error adding item: the approval request does not exist."
            } else if same("mcp_approval_response", "approval_request_id", id) {
                "Error adding item: the approval request has been answered already."
            } else {
                return Ok(());
            };
            return Err(Refusal::item("item_create_invalid_approval_request_id", wrong.to_owned()));
        }
        Ok(())
    }

    /// Cuts an item's audio and drops its transcript; returns how much had been sent.
    pub fn truncate(&mut self, id: &str, content_index: i64, audio_end_ms: i64) -> Result<u64, Refusal> {
        let Some(item) = self.find_mut(id) else {
            let message = format!("Error truncating item: the item with id '{id}' does not exist.");
            return Err(Refusal::item("item_truncate_invalid_item_id", message));
        };
        let Some(spoken) = &mut item.spoken else {
            let message = "Only model output audio messages can be truncated";
            return Err(Refusal::new("unsupported_content_type", message, None));
        };
        if content_index != 0 {
            return Err(Refusal::invalid(
                "content_index",
                "Content index out of range: the item has one part.",
            ));
        }
        let end = u64::try_from(audio_end_ms).unwrap_or(0);
        if end > spoken.remaining_ms() {
            let message = format!(
                "Audio content of {}ms is already shorter than {audio_end_ms}ms",
                spoken.remaining_ms()
            );
            return Err(Refusal::invalid("audio_end_ms", message));
        }
        spoken.cut_ms = Some(end);
        let sent_ms = spoken.sent_ms();
        if let Some(part) = item.value["content"].as_array_mut().and_then(|parts| parts.first_mut()) {
            part["transcript"] = json!("");
        }
        Ok(sent_ms)
    }

    pub fn delete(&mut self, id: &str) -> Result<(), Refusal> {
        match self.items.iter().position(|item| item.value["id"] == id) {
            Some(at) => {
                self.items.remove(at);
                Ok(())
            }
            None => Err(Refusal::item(
                "item_delete_invalid_item_id",
                format!("Error deleting item: the item with id '{id}' does not exist."),
            )),
        }
    }

    /// The caller's turns in words, as far as there are any.
    pub fn caller_said(&self) -> Vec<String> {
        let turns = self.items.iter().filter(|item| item.value["role"] == "user");
        let parts = turns.flat_map(|item| item.value["content"].as_array().into_iter().flatten());
        let words = parts.filter_map(|part| part["transcript"].as_str().or(part["text"].as_str()));
        words.filter(|words| !words.trim().is_empty()).map(str::to_owned).collect()
    }

    /// Text and audio tokens of the whole conversation: a token is 4 characters, 100 ms of the caller or 50 ms of
    /// the assistant.
    pub fn tokens(&self) -> (u64, u64) {
        self.items.iter().fold((0, 0), |(text, audio), item| {
            let said = item.spoken.map_or(0, |spoken| spoken.remaining_ms() / 50);
            let words = |value: &Value| value.as_str().map_or(0, str::len);
            let parts: usize = item.value["content"].as_array().map_or(0, |parts| {
                parts.iter().map(|part| words(&part["text"]) + words(&part["transcript"])).sum()
            });
            let rest = words(&item.value["arguments"]) + words(&item.value["output"]);
            (text + (parts + rest) as u64 / 4, audio + said + item.heard_ms / 100)
        })
    }
}

/// `usage` of text and audio tokens in and out; of the `known` tokens, whole runs of 64 come from the cache.
pub(super) fn usage((text, audio): (u64, u64), (out_text, out_audio): (u64, u64), known: u64) -> Value {
    let cached = known.min(text + audio) / 64 * 64;
    let cached_text = cached.min(text);
    json!({
        "total_tokens": text + audio + out_text + out_audio,
        "input_tokens": text + audio,
        "output_tokens": out_text + out_audio,
        "input_token_details": {
            "text_tokens": text, "audio_tokens": audio, "image_tokens": 0, "cached_tokens": cached,
            "cached_tokens_details":
                {"text_tokens": cached_text, "audio_tokens": cached - cached_text, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": out_text, "audio_tokens": out_audio},
    })
}

/// Checks a single item, from an event or from `response.input`.
pub(super) fn check_item(item: &Value, path: &str) -> Result<(), Refusal> {
    let object = item.as_object().ok_or_else(|| Refusal::wrong_type(path, "an object", item))?;
    let at = |key: &str| format!("{path}.{key}");
    let kind = object.get("type").ok_or_else(|| Refusal::missing(&at("type")))?;
    let id = ("id", Rule::By(id));
    let object_name = ("object", Rule::OneOf(&["realtime.item"]));
    let status = ("status", Rule::OneOf(&["completed", "incomplete", "in_progress"]));
    let kind_rule = ("!type", Rule::Text);
    match kind.as_str() {
        Some("message") => {
            let role = ("!role", Rule::OneOf(&["system", "user", "assistant"]));
            let content = ("!content", Rule::List(&Rule::Open));
            check_keys(&[kind_rule, role, content, id, object_name, status], object, path)?;
            let role = object["role"].as_str().unwrap_or_default();
            if object["content"].as_array().is_some_and(Vec::is_empty) {
                return Err(Refusal::invalid(&at("content"), "A message needs at least one content part."));
            }
            for (i, part) in object["content"].as_array().into_iter().flatten().enumerate() {
                check_part(role, part, &format!("{path}.content[{i}]"))?;
            }
            Ok(())
        }
        Some("function_call") => {
            let (name, arguments) = (("!name", Rule::Text), ("!arguments", Rule::Text));
            check_keys(
                &[kind_rule, name, arguments, ("call_id", Rule::Text), id, object_name, status],
                object,
                path,
            )
        }
        Some("function_call_output") => {
            let (call, output) = (("!call_id", Rule::Text), ("!output", Rule::Text));
            check_keys(&[kind_rule, call, output, id, object_name, status], object, path)
        }
        Some("mcp_approval_response") => {
            let (request, approve) = (("!approval_request_id", Rule::Text), ("!approve", Rule::Flag));
            let reason = ("reason", Rule::OrNull(&Rule::Text));
            let id = ("!id", Rule::By(self::id));
            check_keys(&[kind_rule, request, approve, reason, id, object_name, status], object, path)
        }
        Some(other) => Err(Refusal::not_one_of(
            &at("type"),
            other,
            &["message", "function_call", "function_call_output", "mcp_approval_response"],
        )),
        None => Err(Refusal::wrong_type(&at("type"), "a string", kind)),
    }
}

fn check_part(role: &str, part: &Value, path: &str) -> Result<(), Refusal> {
    let allowed: &[&str] = match role {
        "system" => &["input_text"],
        "user" => &["input_text", "input_audio", "input_image"],
        _ => &["output_text"],
    };
    let kind = part.get("type").ok_or_else(|| Refusal::missing(&format!("{path}.type")))?;
    const ANY: (&str, Rule) = ("!type", Rule::Text);
    let kind = kind.as_str().ok_or_else(|| Refusal::wrong_type(&format!("{path}.type"), "a string", kind))?;
    if !allowed.contains(&kind) {
        return Err(Refusal::not_one_of(&format!("{path}.type"), kind, allowed));
    }
    let rules: &[(&str, Rule)] = match kind {
        "input_audio" => &[ANY, ("!audio", Rule::By(audio)), ("transcript", Rule::OrNull(&Rule::Text))],
        "input_image" => {
            &[ANY, ("!image_url", Rule::Text), ("detail", Rule::OneOf(&["auto", "low", "high"]))]
        }
        _ => &[ANY, ("!text", Rule::Text)],
    };
    part.as_object().map_or(Ok(()), |part| check_keys(rules, part, path))
}

/// Audio in base64, as long as an append at most.
fn audio(value: &Value, path: &str) -> Result<(), Refusal> {
    let text = value.as_str().ok_or_else(|| Refusal::wrong_type(path, "a string", value))?;
    if text.len() / 4 * 3 > MAX_AUDIO {
        return Err(Refusal::new("string_above_max_length", "Audio is longer than 15 MiB.", path.to_owned()));
    }
    match STANDARD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(()),
        _ => Err(Refusal::invalid(path, format!("Invalid '{path}'. Expected base64-encoded audio bytes."))),
    }
}

fn id(value: &Value, path: &str) -> Result<(), Refusal> {
    let id = value.as_str().ok_or_else(|| Refusal::wrong_type(path, "a string", value))?;
    if id.is_empty() || id.len() > 32 {
        return Err(Refusal::invalid(
            path,
            format!("Invalid '{path}': string must be 1 to 32 characters long."),
        ));
    }
    Ok(())
}
