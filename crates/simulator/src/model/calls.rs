//! The events of a function call (reference §4.5).

use serde_json::{Value, json};

use super::log::CallLog;
use super::parts::{Kind, Part, call_item};
use super::state::Session;

impl Session {
    /// Sends the arguments of a function call and returns its final item. A call that is cut off has only the first half
    /// of the arguments, and no result is expected.
    pub fn write_call(&mut self, response: &str, index: usize, part: &Part, status: &str) -> Value {
        let Kind::Call { name, arguments, call_id } = &part.kind else { return Value::Null };
        let mut middle = arguments.len() / 2;
        while !arguments.is_char_boundary(middle) {
            middle += 1;
        }
        let (first, rest) = arguments.split_at(middle);
        let is_whole = status == "completed";
        let arguments = if is_whole { arguments } else { first };
        for delta in [first, rest].into_iter().take(if is_whole { 2 } else { 1 }) {
            let obfuscation = self.obfuscation();
            self.emit(json!({"type": "response.function_call_arguments.delta", "response_id": response,
                "item_id": part.item, "output_index": index, "call_id": call_id, "delta": delta,
                "obfuscation": obfuscation}));
        }
        self.emit(json!({"type": "response.function_call_arguments.done", "response_id": response,
            "item_id": part.item, "output_index": index, "call_id": call_id, "name": name,
            "arguments": arguments}));
        if is_whole {
            let entry = CallLog {
                id: call_id.clone(),
                name: name.clone(),
                arguments: arguments.to_owned(),
                response: response.to_owned(),
                answered: None,
            };
            self.note(|log| log.calls.push(entry));
        }
        call_item(&part.item, status, name, arguments, call_id)
    }
}
