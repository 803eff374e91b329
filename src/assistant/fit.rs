//! Tools of MCP servers made fit for a model: names and schemas that every provider takes.
//!
//! A server says of its tools what MCP allows, which is more than the models' hosts take. What is changed here is
//! only what the model reads: the server still judges the arguments by its own schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The longest name of a tool.
const LONGEST_NAME: usize = 64;
/// The longest description of a tool, in characters.
const LONGEST_DESCRIPTION: usize = 1_024;
/// The largest schema of one tool, in bytes of JSON.
pub const LARGEST_SCHEMA: usize = 16 * 1024;
/// Parts of a schema that are read: what follows is left open. It bounds the work where references multiply.
const MOST_PARTS: usize = 4_000;
/// How deep a schema is read.
const DEEPEST: usize = 16;

/// The names of tools as the model gets them, in the order of `tools`, which are pairs of a server and its tool's own
/// name. A name stays as it is where it is legal and nobody else's; otherwise the server's name stands before it, and
/// where that does not do, a short hash behind it. The same tools always get the same names.
pub fn names(tools: &[(&str, &str)], taken: &BTreeSet<&str>) -> Vec<String> {
    let count = |names: &mut dyn Iterator<Item = String>| {
        names.fold(BTreeMap::<String, usize>::new(), |mut counts, name| {
            *counts.entry(name).or_default() += 1;
            counts
        })
    };
    let plain = count(&mut tools.iter().map(|(_, tool)| (*tool).to_owned()));
    let stays = |tool: &str| {
        legal(tool) && tool.len() <= LONGEST_NAME && plain.get(tool) == Some(&1) && !taken.contains(tool)
    };
    let prefixed = |server: &str, tool: &str| {
        let name = format!("{server}_{tool}");
        name.chars().map(|c| if c.is_ascii() && legal(&c.to_string()) { c } else { '_' }).collect::<String>()
    };
    let moved = tools.iter().filter(|(_, tool)| !stays(tool));
    let prefixes = count(&mut moved.map(|(server, tool)| prefixed(server, tool)));
    let mut used: BTreeSet<String> = taken.iter().map(|name| (*name).to_owned()).collect();
    used.extend(tools.iter().filter(|(_, tool)| stays(tool)).map(|(_, tool)| (*tool).to_owned()));
    let name = |(server, tool): &(&str, &str)| {
        if stays(tool) {
            return (*tool).to_owned();
        }
        let name = prefixed(server, tool);
        if name.len() <= LONGEST_NAME && prefixes.get(&name) == Some(&1) && !used.contains(&name) {
            return name;
        }
        let digest = Sha256::digest(format!("{server}\0{tool}"));
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let kept: String = name.chars().take(LONGEST_NAME - hash.len() - 1).collect();
        format!("{kept}_{hash}")
    };
    tools.iter().map(name).collect()
}

/// Whether it has only signs that a tool's name may have, and any at all.
fn legal(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A description that is not too long.
pub fn description(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(LONGEST_DESCRIPTION) {
        None => text.to_owned(),
        Some(_) => {
            let kept: String = text.chars().take(LONGEST_DESCRIPTION - 1).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// The schema of a tool's arguments as every provider takes it: a plain object, without references, and without the
/// arguments that are `fixed`.
pub fn schema(written: &Map<String, Value>, fixed: &Map<String, Value>) -> Map<String, Value> {
    let root = Value::Object(written.clone());
    let mut reader = Reader { root: &root, open: Vec::new(), parts: 0 };
    let mut top = match reader.schema(&root, 0) {
        Some(Value::Object(top)) => top,
        _ => Map::new(),
    };
    merge_choices(&mut top);
    for keyword in
        ["not", "enum", "const", "if", "then", "else", "$defs", "definitions", "dependentSchemas", "title"]
    {
        top.remove(keyword);
    }
    top.insert("type".to_owned(), json!("object"));
    if let Some(Value::Object(properties)) = top.get_mut("properties") {
        properties.retain(|name, _| !fixed.contains_key(name));
    } else {
        top.insert("properties".to_owned(), json!({}));
    }
    if let Some(Value::Array(required)) = top.get_mut("required") {
        required.retain(|name| name.as_str().is_some_and(|name| !fixed.contains_key(name)));
    }
    top
}

/// The same schema within [`LARGEST_SCHEMA`]; `None` where even the bare names of its arguments are too much.
pub fn small(schema: Map<String, Value>) -> Option<Map<String, Value>> {
    if size(&schema) <= LARGEST_SCHEMA {
        return Some(schema);
    }
    let lean = lean(schema);
    if size(&lean) <= LARGEST_SCHEMA {
        return Some(lean);
    }
    let bare = bare(lean);
    (size(&bare) <= LARGEST_SCHEMA).then_some(bare)
}

/// How long it is as JSON, in bytes.
pub fn size(schema: &Map<String, Value>) -> usize {
    serde_json::to_string(schema).map_or(usize::MAX, |text| text.len())
}

/// The schema without the words that explain it.
pub fn lean(schema: Map<String, Value>) -> Map<String, Value> {
    match annotated(Value::Object(schema)) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn annotated(schema: Value) -> Value {
    let Value::Object(schema) = schema else { return schema };
    let words = ["description", "title", "examples", "default"];
    let kept = schema.into_iter().filter(|(key, _)| !words.contains(&key.as_str()));
    let kept = kept.map(|(key, value)| {
        let value = match (within(&key), value) {
            (Within::Schema, value) => annotated(value),
            (Within::Schemas, Value::Array(items)) => items.into_iter().map(annotated).collect(),
            (Within::Names, Value::Object(names)) => {
                names.into_iter().map(|(name, value)| (name, annotated(value))).collect()
            }
            (_, value) => value,
        };
        (key, value)
    });
    Value::Object(kept.collect())
}

/// Of each argument only its type.
fn bare(schema: Map<String, Value>) -> Map<String, Value> {
    let mut bare = Map::from_iter([("type".to_owned(), json!("object"))]);
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let typed = properties.map(|(name, schema)| {
        let kind = match schema.get("type") {
            Some(kind) if *kind == json!("array") => json!({"type": kind, "items": {}}),
            Some(kind) => json!({"type": kind}),
            None => json!({}),
        };
        (name.clone(), kind)
    });
    bare.insert("properties".to_owned(), Value::Object(typed.collect()));
    if let Some(required) = schema.get("required") {
        bare.insert("required".to_owned(), required.clone());
    }
    bare
}

/// What stands under a keyword.
enum Within {
    Schema,
    Schemas,
    /// Schemas under names of their own.
    Names,
    Data,
}

fn within(keyword: &str) -> Within {
    match keyword {
        "items"
        | "additionalProperties"
        | "not"
        | "contains"
        | "propertyNames"
        | "if"
        | "then"
        | "else"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "additionalItems" => Within::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Within::Schemas,
        "properties" | "patternProperties" | "dependentSchemas" => Within::Names,
        _ => Within::Data,
    }
}

/// Copies a schema with each reference replaced by what it means.
struct Reader<'a> {
    root: &'a Value,
    /// The references that are being replaced.
    open: Vec<String>,
    parts: usize,
}

impl<'a> Reader<'a> {
    /// `None`: nothing fits it.
    fn schema(&mut self, schema: &Value, depth: usize) -> Option<Value> {
        self.parts += 1;
        let schema = match schema {
            Value::Bool(false) => return None,
            Value::Object(schema) if depth <= DEEPEST && self.parts <= MOST_PARTS => schema,
            _ => return Some(json!({})),
        };
        let mut out = Map::new();
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str)
            && let Some(Value::Object(meant)) = self.referred(reference, depth)
        {
            out = meant;
        }
        for (key, value) in schema {
            let value = match (within(key), value) {
                (Within::Schema, Value::Bool(flag)) => json!(flag),
                // A list of schemas, as older drafts have it for tuples.
                (Within::Schema, Value::Array(items)) => json!({ "anyOf": self.list(items, depth) }),
                (Within::Schema, value @ Value::Object(_)) => match self.schema(value, depth + 1) {
                    Some(value) => value,
                    None => json!(false),
                },
                (Within::Schemas, Value::Array(items)) => self.list(items, depth),
                (Within::Names, Value::Object(names)) => {
                    let mut kept = Map::new();
                    for (name, value) in names {
                        if self.parts > MOST_PARTS {
                            break;
                        }
                        kept.extend(self.schema(value, depth + 1).map(|value| (name.clone(), value)));
                    }
                    Value::Object(kept)
                }
                (Within::Data, value) if sound(key, value) => value.clone(),
                _ => continue,
            };
            out.insert(key.clone(), value);
        }
        let is_array = match out.get("type") {
            Some(Value::String(kind)) => kind == "array",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "array"),
            _ => false,
        };
        if is_array && !out.contains_key("items") {
            out.insert("items".to_owned(), json!({}));
        }
        Some(Value::Object(out))
    }

    fn list(&mut self, items: &[Value], depth: usize) -> Value {
        let mut kept = Vec::new();
        for item in items {
            if self.parts > MOST_PARTS {
                break;
            }
            kept.extend(self.schema(item, depth + 1));
        }
        Value::Array(kept)
    }

    /// What a reference within the same schema means; nothing where it leads out of it, or into itself.
    fn referred(&mut self, reference: &str, depth: usize) -> Option<Value> {
        let pointer = reference.strip_prefix('#')?;
        if self.open.iter().any(|open| open == reference) {
            return None;
        }
        let step = |name: &str| name.replace("~1", "/").replace("~0", "~");
        let meant: &'a Value = pointer.split('/').skip(1).try_fold(self.root, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            value => value.get(step(name)),
        })?;
        self.open.push(reference.to_owned());
        let meant = self.schema(meant, depth + 1);
        self.open.pop();
        meant
    }
}

/// Whether a keyword has a value that it may have, and says something to a model.
fn sound(keyword: &str, value: &Value) -> bool {
    match keyword {
        "$ref" | "$schema" | "$id" | "id" | "$anchor" | "$comment" | "$defs" | "definitions"
        | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary" | "$recursiveRef" | "$recursiveAnchor" => false,
        "type" => value.is_string() || value.is_array(),
        "enum" => value.as_array().is_some_and(|words| !words.is_empty()),
        "required" => value.is_array(),
        "description" | "title" | "pattern" | "format" => value.is_string(),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => value.is_number(),
        _ => true,
    }
}

/// A choice or a sum of schemas at the top becomes one object that takes what any of them takes.
fn merge_choices(top: &mut Map<String, Value>) {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let Some(Value::Array(parts)) = top.remove(keyword) else { continue };
        let mut common: Option<Vec<Value>> = None;
        let mut choices: Vec<String> = Vec::new();
        for part in parts {
            let Value::Object(mut part) = part else { continue };
            merge_choices(&mut part);
            let object = part.get("type").is_none_or(|kind| kind == "object" || kind.is_array());
            if !object {
                continue;
            }
            for (name, schema) in
                part.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
            {
                add_property(top, name, schema, keyword != "allOf");
            }
            let required = part.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if keyword == "allOf" {
                require(top, required);
                continue;
            }
            let named: Vec<String> =
                required.iter().filter_map(Value::as_str).map(|name| format!("`{name}`")).collect();
            choices.push(named.join(" and "));
            common = Some(match common {
                None => required,
                Some(common) => common.into_iter().filter(|name| required.contains(name)).collect(),
            });
        }
        require(top, common.unwrap_or_default());
        // Which arguments belong together is lost with the choice: it is said in words.
        choices.dedup();
        if choices.len() > 1 && choices.iter().all(|choice| !choice.is_empty()) {
            let hint = format!("Give one of these: {}.", choices.join(", or "));
            let before = top.get("description").and_then(Value::as_str).unwrap_or_default();
            let text = format!("{before} {hint}").trim().to_owned();
            top.insert("description".to_owned(), Value::from(text));
        }
    }
}

/// Adds an argument; where there is another of this name, both are taken.
fn add_property(top: &mut Map<String, Value>, name: String, schema: Value, choice: bool) {
    let properties = top.entry("properties").or_insert_with(|| json!({}));
    let Value::Object(properties) = properties else { return };
    match properties.get_mut(&name) {
        None => {
            properties.insert(name, schema);
        }
        Some(there) if *there == schema || !choice => {}
        Some(there) => match there.get_mut("anyOf").and_then(Value::as_array_mut) {
            Some(choices) if choices.contains(&schema) => {}
            Some(choices) => choices.push(schema),
            None => *there = json!({ "anyOf": [there.take(), schema] }),
        },
    }
}

fn require(top: &mut Map<String, Value>, names: Vec<Value>) {
    if names.is_empty() {
        return;
    }
    let required = top.entry("required").or_insert_with(|| json!([]));
    let Value::Array(required) = required else { return };
    for name in names {
        if !required.contains(&name) {
            required.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fitted(written: Value) -> Value {
        Value::Object(schema(written.as_object().unwrap(), &Map::new()))
    }

    #[test]
    fn names_are_legal_unlike_and_always_the_same() {
        let long = "x".repeat(128);
        let tools = [
            ("todoist", "add-tasks"),
            ("todoist", "search"),
            ("notes", "search"),
            ("notes", "a.b"),
            ("notes", "c.d"),
            ("notes", "c d"),
            ("notes", "end_call"),
            ("notes", &long),
            ("notes", "é"),
            ("notes", "notes_a_b"),
            ("notes", ""),
        ];
        let taken = BTreeSet::from(["end_call"]);
        let made = names(&tools, &taken);
        let hashed = |name: &str, start: &str| name.starts_with(start) && name.len() == start.len() + 8;
        assert_eq!(made[..3], ["add-tasks", "todoist_search", "notes_search"]);
        assert!(hashed(&made[3], "notes_a_b_"), "{}", made[3]);
        assert!(hashed(&made[4], "notes_c_d_") && hashed(&made[5], "notes_c_d_") && made[4] != made[5]);
        assert_eq!(made[6], "notes_end_call");
        assert!(made[7].starts_with("notes_xxx") && made[7].len() == 64);
        assert_eq!(
            (made[8].as_str(), made[9].as_str(), made[10].as_str()),
            ("notes__", "notes_a_b", "notes_")
        );
        let mut turned = tools;
        turned.reverse();
        let mut again = names(&turned, &taken);
        again.reverse();
        assert_eq!(made, again, "the order decides nothing");
    }

    #[test]
    fn schemas_become_plain_objects() {
        let table = [
            ("no type", json!({}), json!({"type": "object", "properties": {}})),
            (
                "an array without items",
                json!({"properties": {"a": {"type": "array"}}}),
                json!({"properties": {"a": {"type": "array", "items": {}}}, "type": "object"}),
            ),
            (
                "references, with words beside them",
                json!({"type": "object", "$defs": {"Day": {"type": "string", "description": "A day"}}, "properties": {
                    "from": {"$ref": "#/$defs/Day"}, "to": {"$ref": "#/$defs/Day", "description": "The last"}, "x": {"$ref": "https://example.com/x"}}}),
                json!({"type": "object", "properties": {
                    "from": {"type": "string", "description": "A day"}, "to": {"type": "string", "description": "The last"}, "x": {}}}),
            ),
            (
                "a schema within itself",
                json!({"type": "object", "definitions": {"Tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/definitions/Tree"}}}}},
                    "properties": {"tree": {"$ref": "#/definitions/Tree"}}}),
                json!({"type": "object", "properties": {"tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {}}}}}}),
            ),
            (
                "arguments that are called like keywords",
                json!({"type": "object", "properties": {"$ref": {"type": "string"}, "definitions": {"type": "string"}, "enum": {"enum": ["a"]}}}),
                json!({"type": "object", "properties": {"$ref": {"type": "string"}, "definitions": {"type": "string"}, "enum": {"enum": ["a"]}}}),
            ),
            (
                "a choice at the top",
                json!({"oneOf": [
                    {"type": "object", "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}, "required": ["id", "n"]},
                    {"properties": {"name": {"type": "string"}, "n": {"type": "string"}}, "required": ["name", "n"]},
                    {"type": "string"}]}),
                json!({"properties": {"id": {"type": "string"}, "n": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "name": {"type": "string"}},
                    "required": ["n"], "description": "Give one of these: `id` and `n`, or `name` and `n`.", "type": "object"}),
            ),
            (
                "a sum at the top, and what nobody takes",
                json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"$ref": "#/$defs/B"}], "not": {"required": ["c"]},
                    "enum": [{}], "if": {}, "$defs": {"B": {"properties": {"b": false, "c": true}, "required": true}}}),
                json!({"properties": {"a": {"type": "string"}, "c": {}}, "required": ["a"], "type": "object"}),
            ),
            (
                "an old tuple and an old limit",
                json!({"type": ["object", "null"], "properties": {"a": {"type": "array", "items": [{"type": "string"}]}, "b": {"minimum": 1, "exclusiveMinimum": true}}}),
                json!({"type": "object", "properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "string"}]}}, "b": {"minimum": 1}}}),
            ),
        ];
        for (what, written, expected) in table {
            assert_eq!(fitted(written), expected, "{what}");
        }
    }

    #[test]
    fn what_the_owner_fixes_is_hidden() {
        let written = json!({"type": "object", "properties": {"project": {}, "title": {}}, "required": ["project", "title"]});
        let fixed = json!({"project": "inbox"});
        let schema = schema(written.as_object().unwrap(), fixed.as_object().unwrap());
        assert_eq!(
            Value::Object(schema),
            json!({"type": "object", "properties": {"title": {}}, "required": ["title"]})
        );
    }

    #[test]
    fn large_schemas_lose_their_words_first() {
        let of = |words: usize, count: usize| {
            let argument =
                json!({"type": "string", "description": "x".repeat(words), "pattern": "y".repeat(20)});
            let properties: Map<String, Value> =
                (0..count).map(|at| (format!("argument-{at}"), argument.clone())).collect();
            fitted(json!({"properties": properties, "required": ["argument-0"]})).as_object().unwrap().clone()
        };
        let kept = small(of(100, 10)).unwrap();
        assert!(kept["properties"]["argument-0"].get("description").is_some());
        let lean = small(of(1_000, 100)).unwrap();
        assert_eq!(lean["properties"]["argument-0"], json!({"type": "string", "pattern": "y".repeat(20)}));
        let bare = small(of(1_000, 400)).unwrap();
        assert_eq!(bare["properties"]["argument-399"], json!({"type": "string"}));
        assert_eq!(bare["required"], json!(["argument-0"]));
        assert!(small(of(1_000, 1_000)).is_none());
    }

    #[test]
    fn references_that_multiply_come_to_an_end() {
        let mut defs = Map::new();
        for at in 0..60 {
            let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
            defs.insert(format!("d{at}"), json!({"properties": {"a": next, "b": next, "c": next}}));
        }
        let made = fitted(json!({"$defs": defs, "properties": {"x": {"$ref": "#/$defs/d0"}}}));
        assert!(made["properties"]["x"]["properties"]["a"].is_object());
        assert!(made.to_string().len() < 400_000);
    }

    #[test]
    fn long_descriptions_are_cut() {
        assert_eq!(description(" Adds a task. \n"), "Adds a task.");
        assert_eq!(description(&"é".repeat(2_000)).chars().count(), 1_024);
    }

    fn any_schema() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("object"),
            Just("array"),
            Just("string"),
            Just("#"),
            Just("#/$defs/a"),
            Just("#/allOf/0"),
            Just("a")
        ];
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            word.prop_map(Value::from),
            Just(Value::Null),
            Just(json!(1))
        ];
        let key = proptest::sample::select(vec![
            "type",
            "properties",
            "items",
            "allOf",
            "anyOf",
            "oneOf",
            "$ref",
            "$defs",
            "required",
            "enum",
            "not",
            "a",
            "additionalProperties",
            "description",
            "if",
        ]);
        leaf.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| {
                    Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_server_lists_becomes_an_object(written in any_schema()) {
            let Value::Object(written) = written else { return Ok(()) };
            let made = schema(&written, &Map::new());
            prop_assert_eq!(&made["type"], "object");
            prop_assert!(made["properties"].is_object());
            for refused in ["allOf", "anyOf", "oneOf", "not", "enum", "$ref", "$defs"] {
                prop_assert!(!made.contains_key(refused), "{} in {:?}", refused, made);
            }
        }

        #[test]
        fn no_two_tools_have_one_name(tools in proptest::collection::vec(("[ab]", "[a-c._ ]{0,3}"), 0..12)) {
            let set: BTreeSet<(&str, &str)> = tools.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect();
            let tools: Vec<(&str, &str)> = set.into_iter().collect();
            let taken = BTreeSet::from(["a", "b_a"]);
            let made = names(&tools, &taken);
            let unlike: BTreeSet<&str> = made.iter().map(String::as_str).collect();
            prop_assert_eq!(unlike.len(), made.len(), "{:?}", made);
            for name in &made {
                prop_assert!(legal(name) && name.len() <= LONGEST_NAME && !taken.contains(name.as_str()), "{}", name);
            }
        }
    }
}
