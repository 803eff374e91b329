//! What an assistant's file may contain, for editors and readers: its JSON Schema, and the reference made from it.
//!
//! The structs here describe a file as it is written. They are never filled: the check walks the tree itself, because it
//! reports every problem with its place. `tests/schema.rs` verifies that both know the same keys.

mod file;
mod owner;
mod reference;
mod value;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

pub use reference::{places, reference};

/// The JSON Schema (draft 2020-12) of an assistant's file, as `docs/assistant.schema.json` holds it.
pub fn schema() -> Value {
    let mut schema = described();
    strip(&mut schema);
    schema
}

/// The schema with the keywords for the reference, which start with `x-`.
fn described() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<file::Assistant>().to_value();
    flatten(&mut schema);
    schema
}

/// Joins a choice within a choice, as an optional choice is generated, and makes each paragraph one line.
fn flatten(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(flatten),
        Value::Object(map) => {
            map.values_mut().for_each(flatten);
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ").replace("  ", "\n\n");
            }
            let Some(Value::Array(choices)) = map.get_mut("anyOf") else { return };
            let nested = matches!(choices.as_slice(), [inner, null]
                if inner.get("anyOf").is_some() && *null == serde_json::json!({ "type": "null" }));
            if !nested {
                return;
            }
            let null = choices.pop().unwrap_or_default();
            let Some(Value::Object(mut inner)) = choices.pop() else { return };
            if let Some(Value::Array(choices)) = inner.get_mut("anyOf") {
                choices.push(null);
            }
            for (key, value) in inner {
                if key == "anyOf" || !map.contains_key(&key) {
                    map.insert(key, value);
                }
            }
        }
        _ => {}
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(map) => {
            let kept = std::mem::take(map).into_iter().filter(|(key, _)| !key.starts_with("x-"));
            *map = kept.collect::<Map<_, _>>();
            map.values_mut().for_each(strip);
        }
        _ => {}
    }
}
