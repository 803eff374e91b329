//! Items that only a conversation from another session has.

use serde_json::json;

use super::message;
use switchboard_audio::Chunk;

/// What the caller said, as sound: an item of its own, and not a part of the input buffer.
pub fn user_audio(audio: &Chunk) -> String {
    json!({
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "audio": audio.as_str()}],
        },
    })
    .to_string()
}

/// A text that neither the caller nor the assistant said.
pub fn system_text(text: &str) -> String {
    message("system", "input_text", text)
}

/// A function call of the model's. Its output must follow.
pub fn function_call(call: &str, name: &str, arguments: &str) -> String {
    json!({
        "type": "conversation.item.create",
        "item": {"type": "function_call", "call_id": call, "name": name, "arguments": arguments},
    })
    .to_string()
}
