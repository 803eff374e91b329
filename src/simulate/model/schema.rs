//! Which schemas a function may have for its parameters.
//!
//! The service refuses the whole update for one bad schema. Its words are those of OpenAI's other APIs, where they
//! have been seen.

use serde_json::Value;

use super::refusal::Refusal;

/// No schema that a person wrote goes deeper.
const DEEPEST: usize = 100;

/// Judges the `parameters` of the function `name`, which stand at `path`.
pub(super) fn check(name: &str, parameters: &Value, path: &str) -> Result<(), Refusal> {
    let wrong = |what: String| {
        let message = format!("Invalid schema for function '{name}': {what}");
        Err(Refusal::new("invalid_function_parameters", message, path.to_owned()))
    };
    if parameters["type"] != "object" {
        let got = parameters["type"].as_str().unwrap_or("None");
        return wrong(format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{got}\"'."));
    }
    if ["oneOf", "anyOf", "allOf", "enum", "not"].iter().any(|key| parameters.get(*key).is_some()) {
        return wrong(
            "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
                .to_owned(),
        );
    }
    let mut at = Vec::new();
    match fault(parameters, parameters, &mut at) {
        None => Ok(()),
        Some(what) => {
            let context: Vec<String> = at.iter().map(|step| format!("'{step}'")).collect();
            wrong(format!("In context=({}), {what}.", context.join(", ")))
        }
    }
}

/// The first thing wrong in a schema and those within it; `at` is left where it is.
fn fault(schema: &Value, root: &Value, at: &mut Vec<String>) -> Option<String> {
    if at.len() > DEEPEST {
        return Some("schema is nested too deeply".to_owned());
    }
    let object = schema.as_object()?;
    if let Some(reference) = object.get("$ref") {
        let found = reference.as_str().and_then(|text| text.strip_prefix('#'));
        if found.and_then(|pointer| root.pointer(pointer)).is_none() {
            return Some(format!("reference to component {reference} which was not found in the schema"));
        }
    }
    if object.get("type").is_some_and(|kind| kind == "array")
        && !["items", "prefixItems"].iter().any(|key| object.contains_key(*key))
    {
        return Some("array schema missing items".to_owned());
    }
    for (key, value) in object {
        at.push(key.clone());
        let inner = match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.iter().find_map(|(name, schema)| within(name, schema, root, at))
            }
            ("oneOf" | "anyOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                list.iter().enumerate().find_map(|(i, schema)| within(&i.to_string(), schema, root, at))
            }
            ("items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains", _) => {
                fault(value, root, at)
            }
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        at.pop();
    }
    None
}

fn within(step: &str, schema: &Value, root: &Value, at: &mut Vec<String>) -> Option<String> {
    at.push(step.to_owned());
    let found = fault(schema, root, at);
    if found.is_none() {
        at.pop();
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_an_object_that_stands_on_its_own() {
        let text = json!({"type": "string"});
        for (what, parameters, wrong) in [
            ("plain", json!({"type": "object", "properties": {"a": text}, "required": ["a"]}), None),
            ("bare", json!({"type": "object"}), None),
            ("choice within", json!({"type": "object", "properties": {"a": {"anyOf": [text]}}}), None),
            (
                "reference",
                json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}}, "$defs": {"t": text}}),
                None,
            ),
            ("itself", json!({"type": "object", "properties": {"a": {"$ref": "#"}}}), None),
            ("a property of that name", json!({"type": "object", "properties": {"enum": text}}), None),
            ("no type", json!({"properties": {}}), Some("got 'type: \"None\"'")),
            ("array", json!({"type": "array", "items": text}), Some("got 'type: \"array\"'")),
            ("a list of types", json!({"type": ["object", "null"]}), Some("got 'type: \"None\"'")),
            ("choice", json!({"type": "object", "oneOf": []}), Some("at the top level")),
            ("not", json!({"type": "object", "not": {}}), Some("at the top level")),
            (
                "lost reference",
                json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}}}),
                Some("In context=('properties', 'a'), reference to component \"#/$defs/t\""),
            ),
            (
                "foreign reference",
                json!({"type": "object", "properties": {"a": {"anyOf": [{"$ref": "https://example.com/t"}]}}}),
                Some("In context=('properties', 'a', 'anyOf', '0'), reference"),
            ),
            (
                "no items",
                json!({"type": "object", "properties": {"a": {"type": "array"}}}),
                Some("In context=('properties', 'a'), array schema missing items."),
            ),
        ] {
            let verdict = check("f", &parameters, "session.tools[0].parameters");
            match (verdict, wrong) {
                (Ok(()), None) => {}
                (Err(refusal), Some(wrong)) => {
                    assert!(refusal.message.contains(wrong), "{what}: {}", refusal.message);
                    assert_eq!(refusal.code.as_deref(), Some("invalid_function_parameters"), "{what}");
                    assert_eq!(refusal.param.as_deref(), Some("session.tools[0].parameters"), "{what}");
                }
                (verdict, _) => panic!("{what}: {verdict:?}"),
            }
        }
    }
}
