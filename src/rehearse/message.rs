//! The message that the simulated caller leaves with an assistant that takes messages.

use serde_json::{Map, Value, json};

use crate::assistant::plan::{Plan, TAKE_MESSAGE};
use switchboard_simulator::model::fill;

/// What the caller says. Made like the other lines of the caller.
const MESSAGE: (&str, &[u8]) = (
    "Yes, this is Anna Example, please call me back on Monday at nine.",
    include_bytes!("speech/message.wav"),
);
const ORDER: (&str, &[u8]) =
    ("Yes, one Margherita with olives for Anna Example, please.", include_bytes!("speech/order.wav"));

/// A message in the words of the caller, and as the simulated model writes it down.
pub(super) struct Message {
    pub words: &'static str,
    pub wav: &'static [u8],
    pub arguments: Map<String, Value>,
}

/// The message for this plan and a caller of this number. `None`: the assistant takes none that would fit.
pub(super) fn of(plan: &Plan, from: &str) -> Option<Message> {
    let tool = plan.tools.iter().find(|tool| tool.name == TAKE_MESSAGE)?;
    let fields = tool.arguments.as_ref()?;
    let schema = Value::Object(fields.schema().clone());
    // A message with a list of items is an order.
    let is_order = schema["properties"]["items"]["type"] == "array";
    let (words, wav) = if is_order { ORDER } else { MESSAGE };
    let filled = fill(&schema, &[words.to_owned()]).as_object().cloned()?;
    let mut known = filled.clone();
    for (name, value) in &mut known {
        if let Some(said) = said(name, from, is_order) {
            *value = said;
        }
    }
    let arguments = [known, filled].into_iter().find(|arguments| fields.unfit(arguments).is_none())?;
    Some(Message { words, wav, arguments })
}

/// What the caller said of a field with this name.
fn said(field: &str, from: &str, is_order: bool) -> Option<Value> {
    Some(match field {
        "name" => json!("Anna Example"),
        "number" | "phone" | "callback_number" => json!(from),
        "items" if is_order => json!([{ "name": "Margherita", "count": 1, "extras": ["olives"] }]),
        "total" if is_order => json!(10),
        "wished_times" => json!(["Monday at nine"]),
        "reason" => json!("wants to be called back"),
        _ => return None,
    })
}

/// The words of both, for the tests.
#[cfg(test)]
pub(super) fn lines() -> [&'static str; 2] {
    [MESSAGE.0, ORDER.0]
}

#[cfg(test)]
pub(super) fn clips() -> [&'static [u8]; 2] {
    [MESSAGE.1, ORDER.1]
}
