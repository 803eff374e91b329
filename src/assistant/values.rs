//! Values of a file, as templates and JSON see them.

use std::collections::BTreeMap;

use minijinja::Value;

use crate::yaml::{Kind, Node};

/// An owner's variable as templates see it.
pub fn value(node: &Node) -> Value {
    match &node.kind {
        Kind::Seq(items) => items.iter().map(value).collect(),
        Kind::Map(entries) => entries
            .iter()
            .map(|(key, node)| (key.name.clone(), value(node)))
            .collect::<BTreeMap<_, _>>()
            .into(),
        Kind::Scalar(scalar) => {
            let text = scalar.text();
            // A plus or a leading zero belongs to the text: a phone number, a code.
            let code =
                text.starts_with('+') || (text.len() > 1 && text.starts_with('0') && !text.starts_with("0."));
            match (scalar.bool(), scalar.number()) {
                _ if scalar.is_null() => Value::from(""),
                (Some(flag), _) => Value::from(flag),
                (None, Some(number)) if !code => match text.parse::<i64>() {
                    Ok(whole) => Value::from(whole),
                    Err(_) => Value::from(number),
                },
                _ => Value::from(text),
            }
        }
    }
}

/// A value as JSON. An empty variable is an empty text.
pub fn json(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Seq(items) => items.iter().map(json).collect(),
        Kind::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.name.clone(), json(node)));
            serde_json::Value::Object(entries.collect())
        }
        Kind::Scalar(scalar) if scalar.is_null() && !scalar.expanded() => serde_json::Value::Null,
        Kind::Scalar(_) => serde_json::to_value(value(node)).unwrap_or_default(),
    }
}
