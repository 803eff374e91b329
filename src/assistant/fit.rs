//! Adapts the tools of MCP servers to models: names and schemas that every provider takes.
//!
//! MCP allows more than the models' hosts take. Only what the model reads is changed: the server still judges the arguments
//! by its own schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The longest name of a tool.
const LONGEST_NAME: usize = 64;
/// The longest description of a tool, in characters.
const LONGEST_DESCRIPTION: usize = 1_024;
/// The largest schema of one tool, in bytes of JSON.
pub const LARGEST_SCHEMA: usize = 16 * 1024;
/// Parts of a schema that are read; the rest is left open. It bounds the work if references multiply.
const MOST_PARTS: usize = 4_000;
/// Words and values of a schema that are kept, in bytes of JSON. The rest is left out, for the same reason.
const MOST_BYTES: usize = 64 * LARGEST_SCHEMA;
/// How deep a schema is read.
const DEEPEST: usize = 16;

/// The names of tools for the model, in the order of `tools`, which are pairs of a server's and a tool's name. A name stays
/// as it is if it is legal and unique. Otherwise it gets the server's name as a prefix, and a short hash as a suffix if
/// that is not enough. The same tools always get the same names.
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

/// Whether it has only characters that a tool's name may have, and at least one.
fn legal(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// A description, shortened if it is too long.
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

/// The schema of a tool's arguments as every provider takes it: a plain object, without references.
pub fn schema(written: &Map<String, Value>) -> Map<String, Value> {
    let root = Value::Object(written.clone());
    let mut reader = Reader { root: &root, open: Vec::new(), parts: 0, bytes: 0 };
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
    if !top.get("properties").is_some_and(Value::is_object) {
        top.insert("properties".to_owned(), json!({}));
    }
    if let Some(Value::Array(required)) = top.get_mut("required") {
        required.retain(Value::is_string);
    }
    top
}

/// A schema without the `fixed` arguments.
pub fn without(mut schema: Map<String, Value>, fixed: &Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| !fixed.contains_key(name));
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| name.as_str().is_some_and(|name| !fixed.contains_key(name)));
    }
    schema
}

/// The schema, shortened to [`LARGEST_SCHEMA`]; `None` if even the names of its arguments are too long.
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

/// Its size as JSON, in bytes.
pub fn size(schema: &Map<String, Value>) -> usize {
    serde_json::to_string(schema).map_or(usize::MAX, |text| text.len())
}

/// The schema without descriptions, examples and defaults.
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

/// Only the type of each argument.
fn bare(schema: Map<String, Value>) -> Map<String, Value> {
    let mut bare = Map::from_iter([("type".to_owned(), json!("object"))]);
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let typed = properties.map(|(name, schema)| {
        let kind = match schema.get("type") {
            Some(kind) if takes_array(kind) => json!({"type": kind, "items": {}}),
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

/// The value of a keyword of JSON Schema.
pub enum Within {
    Schema,
    Schemas,
    /// A map from names to schemas.
    Names,
    Data,
}

/// Which keywords hold schemas.
pub fn within(keyword: &str) -> Within {
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
        "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => Within::Names,
        _ => Within::Data,
    }
}

/// Copies a schema with each reference replaced by its target.
struct Reader<'a> {
    root: &'a Value,
    /// The references that are being replaced.
    open: Vec<String>,
    parts: usize,
    /// Words and values that were copied.
    bytes: usize,
}

impl<'a> Reader<'a> {
    /// `None`: no value fits it.
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
        for (key, value) in schema.iter().filter(|(key, value)| sound(key, value)) {
            let value = match (within(key), value) {
                (Within::Schema, Value::Bool(flag)) => json!(flag),
                // Older drafts describe a tuple by a list of schemas.
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
                (Within::Data, value) if key == "type" => match types(value) {
                    Some(value) => value,
                    None => continue,
                },
                (Within::Data, value) if self.has_room(value) => value.clone(),
                _ => continue,
            };
            out.insert(key.clone(), value);
        }
        if out.get("type").is_some_and(takes_array) && !out.contains_key("items") {
            out.insert("items".to_owned(), json!({}));
        }
        Some(Value::Object(out))
    }

    /// Whether a word or a value may still be copied.
    fn has_room(&mut self, value: &Value) -> bool {
        if self.bytes <= MOST_BYTES {
            self.bytes += serde_json::to_string(value).map_or(MOST_BYTES, |text| text.len());
        }
        self.bytes <= MOST_BYTES
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

    /// The target of a reference within the same schema; `None` if it leads out of the schema, or into itself.
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

/// A `type` that JSON Schema knows: one unknown word would lose every tool. Servers use the words of their programming
/// languages; a word without an obvious meaning is left open.
fn types(written: &Value) -> Option<Value> {
    match written {
        Value::String(word) => known_type(word).map(Value::from),
        Value::Array(words) => {
            let mut known: Vec<&str> = Vec::new();
            for word in words {
                // One unknown word leaves the type open.
                let word = known_type(word.as_str()?)?;
                if !known.contains(&word) {
                    known.push(word);
                }
            }
            (!known.is_empty()).then(|| json!(known))
        }
        _ => None,
    }
}

fn takes_array(kind: &Value) -> bool {
    kind == "array" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "array"))
}

pub fn known_type(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "string" | "str" | "text" => "string",
        "number" | "float" | "double" => "number",
        "integer" | "int" => "integer",
        "boolean" | "bool" => "boolean",
        "object" | "dict" => "object",
        "array" | "list" => "array",
        "null" => "null",
        _ => return None,
    })
}

/// Whether a keyword has a valid value, and means something to a model.
fn sound(keyword: &str, value: &Value) -> bool {
    match keyword {
        "$ref" | "$schema" | "$id" | "id" | "$anchor" | "$comment" | "$defs" | "definitions"
        | "$dynamicRef" | "$dynamicAnchor" | "$vocabulary" | "$recursiveRef" | "$recursiveAnchor" => false,
        "enum" => value.as_array().is_some_and(|words| !words.is_empty()),
        "required" => value.is_array(),
        "description" | "title" | "pattern" | "format" => value.is_string(),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => value.is_number(),
        _ => true,
    }
}

/// A choice or a combination of schemas at the top becomes one object that takes the arguments of all.
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
        // The merged schema does not show which arguments belong together, so the description does.
        choices.dedup();
        if choices.len() > 1 && choices.iter().all(|choice| !choice.is_empty()) {
            let hint = format!("Give one of these: {}.", choices.join(", or "));
            let before = top.get("description").and_then(Value::as_str).unwrap_or_default();
            let text = format!("{before} {hint}").trim().to_owned();
            top.insert("description".to_owned(), Value::from(text));
        }
    }
}

/// Adds an argument. Two arguments with the same name become a choice.
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
mod tests;
