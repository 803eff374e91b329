//! Requests for responses outside the conversation, which may run next to the active one. An error about one names `event`;
//! so does its `response.created`, by the metadata that the server echoes.

use serde_json::{Map, Value, json};

/// The key of the metadata that names the request.
const REQUEST: &str = "request";
/// The purposes of such requests.
const LINE: &str = "out_of_band";
const FORM: &str = "form";

/// Whether the request for a response with this metadata was made here.
pub(super) fn is_one(metadata: &Value) -> bool {
    metadata["purpose"] == LINE || metadata["purpose"] == FORM
}

/// The `event_id` of the request for a response with this metadata.
pub(super) fn request(metadata: &Value) -> Option<String> {
    metadata[REQUEST].as_str().map(str::to_owned)
}

/// Requests a response outside the conversation that calls no tools.
pub fn response_create_out_of_band(event: &str, instructions: &str) -> String {
    let response = json!({"conversation": "none", "instructions": instructions, "tool_choice": "none",
        "metadata": {"purpose": LINE, REQUEST: event}});
    json!({"type": "response.create", "event_id": event, "response": response}).to_string()
}

/// The same for a line that is said exactly, without a look at the conversation.
pub fn response_create_of_line(event: &str, instructions: &str, line: &str) -> String {
    let response = json!({"conversation": "none", "input": [], "instructions": instructions, "tool_choice": "none",
        "metadata": {"purpose": LINE, "line": line, REQUEST: event}});
    json!({"type": "response.create", "event_id": event, "response": response}).to_string()
}

/// A function that a response must call.
#[derive(Debug, Clone, Copy)]
pub struct Function<'a> {
    pub name: &'a str,
    pub description: &'a str,
    /// Its JSON Schema.
    pub parameters: &'a Map<String, Value>,
}

/// Requests a response outside the conversation, in text, that calls this function and makes at most so many tokens. An
/// `effort` replaces the session's.
pub fn response_create_of_form(
    event: &str,
    instructions: &str,
    function: Function<'_>,
    most_tokens: u64,
    effort: Option<&str>,
) -> String {
    let Function { name, description, parameters } = function;
    let mut response = json!({
        "conversation": "none",
        "output_modalities": ["text"],
        "instructions": instructions,
        "tools": [{"type": "function", "name": name, "description": description, "parameters": parameters}],
        "tool_choice": {"type": "function", "name": name},
        "max_output_tokens": most_tokens,
        "metadata": {"purpose": FORM, REQUEST: event},
    });
    if let Some(effort) = effort {
        response["reasoning"] = json!({"effort": effort});
    }
    json!({"type": "response.create", "event_id": event, "response": response}).to_string()
}
