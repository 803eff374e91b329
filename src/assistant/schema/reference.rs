//! The reference for owners: every key of the schema in words, after an introduction.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::described;
use super::value::openai;

const OPENING: &str = include_str!("opening.md");
/// The longest line of an example; longer ones are written as a block.
const WIDEST: usize = 88;

/// Where each key stands, from the top, such as `mcp.NAME.url`.
pub fn places() -> Vec<String> {
    let (schema, mut keys) = (described(), Vec::new());
    collect(&schema, &mut Vec::new(), &mut keys);
    keys.iter().map(Key::title).collect()
}

/// The whole text of `docs/assistants.md`.
pub fn reference() -> String {
    let schema = described();
    let mut keys = Vec::new();
    collect(&schema, &mut Vec::new(), &mut keys);
    let mut out = OPENING.to_owned();
    out.push_str("\n## All keys at a glance\n\n| key | what it is | default |\n| --- | --- | --- |\n");
    for key in &keys {
        let link = key.title().to_lowercase().replace('.', "");
        let first = key.first_sentence();
        let _ = writeln!(out, "| [`{}`](#{link}) | {first} | {} |", key.title(), key.default());
    }
    out.push_str("\n## Every key\n");
    keys.iter().for_each(|key| key.write(&mut out));
    abilities(&mut out);
    out
}

/// A key with its place in the file.
struct Key<'a> {
    /// From the top.
    path: Vec<Step>,
    schema: &'a Value,
}

/// One key on the way to another.
#[derive(Clone, PartialEq)]
struct Step {
    title: String,
    /// The same, or an example of a name that the owner chooses.
    name: String,
    /// Examples of the other keys that its map requires.
    required: Map<String, Value>,
}

impl Step {
    fn new(title: &str, name: &str, map: &Value) -> Step {
        let required = map["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let required = required.filter(|key| *key != name).map(|key| {
            let example = &map["properties"][key]["examples"][0];
            (key.to_owned(), example.clone())
        });
        Step { title: title.to_owned(), name: name.to_owned(), required: required.collect() }
    }
}

/// Every key of a map, each before the keys within it.
fn collect<'a>(map: &'a Value, path: &mut Vec<Step>, keys: &mut Vec<Key<'a>>) {
    for (map, name, schema) in properties(map) {
        let depth = path.len();
        path.push(Step::new(name, name, map));
        keys.push(Key { path: path.clone(), schema });
        let mut within = schema;
        if let [Value::String(title), Value::String(name)] =
            schema["x-key"].as_array().map_or(&[][..], Vec::as_slice)
        {
            path.push(Step::new(title, name, schema));
            within = &schema["additionalProperties"];
        }
        collect(within, path, keys);
        path.truncate(depth);
    }
}

/// The keys of a map, also of one that is a choice among others. Each comes with its map.
fn properties(schema: &Value) -> impl Iterator<Item = (&Value, &String, &Value)> {
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let maps = std::iter::once(schema).chain(choices).filter(|map| map.get("additionalProperties").is_some());
    maps.flat_map(|map| {
        let properties = map["properties"].as_object().into_iter().flatten();
        properties.map(move |(name, schema)| (map, name, schema))
    })
}

impl Key<'_> {
    fn title(&self) -> String {
        let names: Vec<&str> = self.path.iter().map(|step| step.title.as_str()).collect();
        names.join(".")
    }

    fn description(&self) -> &str {
        self.schema["description"].as_str().unwrap_or_default()
    }

    fn first_sentence(&self) -> &str {
        let text = self.description();
        let end = text.match_indices(['.', ':', ';']).map(|(at, _)| at).find(|at| {
            let (before, after) = (&text[..*at], &text[at + 1..]);
            before.matches('`').count() % 2 == 0 && (after.is_empty() || after.starts_with([' ', '\n']))
        });
        &text[..end.unwrap_or(text.len())]
    }

    fn is_map(&self) -> bool {
        properties(self.schema).next().is_some()
    }

    fn default(&self) -> String {
        match (&self.schema["x-default"], &self.schema["default"]) {
            (Value::String(words), _) => words.clone(),
            (_, Value::Null) if self.is_map() => String::new(),
            (_, Value::Null) => "none".to_owned(),
            (_, value) => format!("`{}`", flow(value)),
        }
    }

    fn kind(&self) -> String {
        match self.schema["x-type"].as_str() {
            Some(kind) => kind.to_owned(),
            None if self.schema.get("x-key").is_some() => {
                "a map; you choose the names of its keys".to_owned()
            }
            None => "a map".to_owned(),
        }
    }

    /// The allowed words, if the value is one of a few.
    fn words(&self) -> Option<String> {
        let choices = self.schema["anyOf"].as_array()?;
        if self.kind() != "a word" && !self.kind().starts_with("a word,") {
            return None;
        }
        let words = choices.iter().find_map(|choice| choice["enum"].as_array())?;
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", flow(word))).collect();
        Some(words.join(", "))
    }

    fn write(&self, out: &mut String) {
        let depth = if self.path.len() == 1 { "###" } else { "####" };
        let _ = write!(out, "\n{depth} {}\n\n{}\n", self.title(), self.description());
        let _ = write!(out, "\n- Type: {}\n", self.kind());
        if let Some(words) = self.words() {
            let _ = writeln!(out, "- Allowed: {words}");
        }
        if let Some(range) = self.schema["x-range"].as_str() {
            let _ = writeln!(out, "- Range: {range}");
        }
        if !self.default().is_empty() {
            let _ = writeln!(out, "- Default: {}", self.default());
        }
        if self.is_map() && self.schema.get("x-key").is_none() {
            let keys: Vec<String> = properties(self.schema).map(|(_, name, _)| format!("`{name}`")).collect();
            let _ = writeln!(out, "- Keys: {}", keys.join(", "));
        }
        for example in self.schema["examples"].as_array().into_iter().flatten() {
            let whole = self.path.iter().rev().fold(example.clone(), |value, step| {
                let mut map = step.required.clone();
                map.insert(step.name.clone(), value);
                Value::Object(map)
            });
            let _ = write!(out, "\n```yaml\n{}```\n", block(&whole, 0));
        }
    }
}

/// What OpenAI offers, from the table that the check reads too.
fn abilities(out: &mut String) {
    let abilities = openai();
    let voices: Vec<String> = abilities.voices.iter().map(|voice| format!("`{voice}`")).collect();
    let _ = write!(
        out,
        "\n## OpenAI's voices and models\n\nVoices, the best two first: {}.\n\n\
         | model | takes `reasoning` | will be shut down |\n| --- | --- | --- |\n",
        voices.join(", ")
    );
    for model in &abilities.models {
        let reasons = if model.reasoning { "yes" } else { "no" };
        let end = model.shutdown.as_ref();
        let end = end.map_or(String::new(), |(day, next)| format!("{day}; use `{next}`"));
        let _ = writeln!(out, "| `{}` | {reasons} | {end} |", model.name);
    }
    let minutes = abilities.session_limit.as_secs() / 60;
    let _ = write!(out, "\nOpenAI ends every session after {minutes} minutes, and the call with it.\n");
}

/// A map or a list on lines of its own, or in one line where that is short.
fn block(value: &Value, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut out = String::new();
    let Value::Object(map) = value else { return format!("{margin}{}\n", flow(value)) };
    for (key, value) in map {
        let line = format!("{margin}{}: {}\n", plain(key), flow(value));
        match value {
            Value::String(text) if text.contains('\n') => {
                let _ = writeln!(out, "{margin}{}: |", plain(key));
                text.lines().for_each(|line| {
                    let _ = writeln!(out, "{margin}  {line}");
                });
            }
            Value::Object(inner) if line.len() > WIDEST && !inner.is_empty() => {
                let _ = write!(out, "{margin}{}:\n{}", plain(key), block(value, indent + 2));
            }
            _ => out.push_str(&line),
        }
    }
    out
}

/// A value in one line.
fn flow(value: &Value) -> String {
    let pairs = |map: &Map<String, Value>| {
        let pairs = map.iter().map(|(key, value)| format!("{}: {}", plain(key), flow(value)));
        pairs.collect::<Vec<_>>().join(", ")
    };
    match value {
        Value::String(text) => plain(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => format!("{{ {} }}", pairs(map)),
        other => other.to_string(),
    }
}

/// A text, without quotes if YAML allows it.
fn plain(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && text.contains(|c: char| c.is_ascii_alphabetic())
        && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off");
    if word { text.to_owned() } else { Value::from(text).to_string() }
}
