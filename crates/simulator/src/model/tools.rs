//! The tools that a client may define (reference §6): functions with their schemas, and hosted servers.

use serde_json::Value;

use super::refusal::Refusal;
use super::rule::Rule;

const CONNECTORS: &[&str] = &[
    "connector_dropbox",
    "connector_gmail",
    "connector_googlecalendar",
    "connector_googledrive",
    "connector_microsoftteams",
    "connector_outlookcalendar",
    "connector_outlookemail",
    "connector_sharepoint",
];
/// The types that a schema may give a value.
const TYPES: &[&str] = &["string", "number", "integer", "boolean", "object", "array", "null"];
/// No handwritten schema is deeper.
const DEEPEST: usize = 100;

pub(super) fn tool_choice(value: &Value, path: &str) -> Result<(), Refusal> {
    match (value, value["type"].as_str()) {
        (Value::String(_), _) => Rule::OneOf(&["none", "auto", "required"]).check(value, path),
        (_, Some("mcp")) => Rule::Keys(&[
            ("!type", Rule::Text),
            ("!server_label", Rule::Text),
            ("name", Rule::OrNull(&Rule::Text)),
        ])
        .check(value, path),
        _ => Rule::Keys(&[("!type", Rule::OneOf(&["function", "mcp"])), ("!name", Rule::Text)])
            .check(value, path),
    }
}

pub(super) fn tools(value: &Value, path: &str) -> Result<(), Refusal> {
    let list = value.as_array().ok_or_else(|| Refusal::wrong_type(path, "an array", value))?;
    let mut labels = Vec::new();
    let mut names = Vec::new();
    for (i, tool) in list.iter().enumerate() {
        let path = format!("{path}[{i}]");
        match tool["type"].as_str() {
            Some("mcp") => {
                mcp_tool(tool, &path)?;
                if labels.contains(&&tool["server_label"]) {
                    return Err(Refusal::invalid(&format!("{path}.server_label"), "Duplicate server_label."));
                }
                labels.push(&tool["server_label"]);
            }
            _ => {
                function_tool(tool, &path)?;
                if names.contains(&&tool["name"]) {
                    let message = format!("Duplicate function name: {}.", tool["name"]);
                    return Err(Refusal::invalid(&format!("{path}.name"), message));
                }
                names.push(&tool["name"]);
            }
        }
    }
    Ok(())
}

fn function_tool(tool: &Value, path: &str) -> Result<(), Refusal> {
    Rule::Keys(&[
        ("!type", Rule::OneOf(&["function", "mcp"])),
        ("!name", Rule::Text),
        ("description", Rule::Text),
        ("parameters", Rule::Open),
    ])
    .check(tool, path)?;
    let name = tool["name"].as_str().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
        let message =
            format!("Invalid '{path}.name': string does not match pattern '^[a-zA-Z0-9_-]{{1,64}}$'.");
        return Err(Refusal::invalid(&format!("{path}.name"), message));
    }
    match tool.get("parameters") {
        Some(parameters) => check_schema(name, parameters, &format!("{path}.parameters")),
        None => Ok(()),
    }
}

fn mcp_tool(tool: &Value, path: &str) -> Result<(), Refusal> {
    fn names_or_object(value: &Value, path: &str) -> Result<(), Refusal> {
        match value {
            Value::Array(_) => Rule::List(&Rule::Text).check(value, path),
            _ => Rule::OrNull(&FILTER).check(value, path),
        }
    }
    fn approval(value: &Value, path: &str) -> Result<(), Refusal> {
        match value {
            Value::String(_) => Rule::OneOf(&["always", "never"]).check(value, path),
            _ => Rule::OrNull(&Rule::Keys(&[("always", FILTER), ("never", FILTER)])).check(value, path),
        }
    }
    const FILTER: Rule = Rule::Keys(&[("tool_names", Rule::List(&Rule::Text)), ("read_only", Rule::Flag)]);
    Rule::Keys(&[
        ("!type", Rule::Text),
        ("!server_label", Rule::Text),
        ("server_url", Rule::OrNull(&Rule::Text)),
        ("connector_id", Rule::OrNull(&Rule::OneOf(CONNECTORS))),
        ("tunnel_id", Rule::OrNull(&Rule::Text)),
        ("authorization", Rule::OrNull(&Rule::Text)),
        ("headers", Rule::OrNull(&Rule::Open)),
        ("allowed_tools", Rule::By(names_or_object)),
        ("require_approval", Rule::By(approval)),
        ("server_description", Rule::OrNull(&Rule::Text)),
        ("defer_loading", Rule::Flag),
        ("allowed_callers", Rule::OrNull(&Rule::List(&Rule::OneOf(&["direct", "programmatic"])))),
    ])
    .check(tool, path)?;
    let headers = tool["headers"].as_object();
    let doubled =
        headers.is_some_and(|all| all.keys().any(|name| name.eq_ignore_ascii_case("authorization")));
    if doubled && !tool["authorization"].is_null() {
        return Err(Refusal::invalid(&format!("{path}.authorization"), "Authorization is given twice."));
    }
    Ok(())
}

/// The tools as they are stored and shown: without secrets. A hosted server that is only named keeps its definition.
pub(super) fn kept(mut tools: Value, known: &Value) -> Value {
    let known = known.as_array();
    for tool in tools.as_array_mut().into_iter().flatten() {
        let same = |old: &&Value| old["type"] == "mcp" && old["server_label"] == tool["server_label"];
        let is_named = tool["type"] == "mcp" && tool.as_object().is_some_and(|keys| keys.len() == 2);
        if let Some(old) = known.into_iter().flatten().find(same).filter(|_| is_named) {
            *tool = old.clone();
        } else if let Some(tool) = tool.as_object_mut() {
            tool.remove("authorization");
            tool.remove("headers");
        }
    }
    tools
}

/// Checks the `parameters` of the function `name`, found at `path`. The service refuses the whole update for one bad
/// schema. The messages are those of OpenAI's other APIs.
fn check_schema(name: &str, parameters: &Value, path: &str) -> Result<(), Refusal> {
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

/// The first error in a schema or those inside it; `at` is then its path.
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
    let kinds = match object.get("type") {
        Some(Value::Array(kinds)) => kinds.as_slice(),
        kind => kind.map_or(&[][..], std::slice::from_ref),
    };
    let is_type = |kind: &&Value| kind.as_str().is_some_and(|kind| TYPES.contains(&kind));
    if let Some(unknown) = kinds.iter().find(|kind| !is_type(kind)) {
        return Some(format!("{unknown} is not valid under any of the given schemas"));
    }
    if kinds.iter().any(|kind| kind == "array")
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
    fn a_schema_is_a_self_contained_object() {
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
            (
                "known types",
                json!({"type": "object", "properties": {"a": {"type": ["integer", "null"]}}}),
                None,
            ),
            (
                "an unknown type",
                json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "int"}]}}}),
                Some("In context=('properties', 'a', 'anyOf', '0'), \"int\" is not valid under any of"),
            ),
            (
                "an unknown type in a list",
                json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": ["string", "any"]}}}}),
                Some("In context=('properties', 'a', 'items'), \"any\" is not valid"),
            ),
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
            let verdict = check_schema("f", &parameters, "session.tools[0].parameters");
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
