//! A function that a response must call: its arguments follow the schema, with values from the conversation where a model
//! would take them from there. It is no validator: what no rule here makes fit does not fit.

use serde_json::{Map, Number, Value, json};

use super::refusal::Refusal;
use super::script::Reply;
use super::state::Session;

/// No handwritten schema is deeper.
const DEEPEST: usize = 20;
/// How much of the conversation a text quotes, in characters.
const QUOTED: usize = 300;

/// The function that a `tool_choice` forces.
pub(super) fn forced(choice: &Value) -> Option<&str> {
    (choice["type"] == "function").then(|| choice["name"].as_str())?
}

impl Session {
    /// The function that a request forces must be among its tools.
    pub fn check_choice(&self, options: &Value) -> Result<(), Refusal> {
        let tools = options.get("tools").unwrap_or(&self.config.session()["tools"]);
        match forced(&options["tool_choice"]) {
            Some(name) if function(tools, name).is_none() => {
                let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
                Err(Refusal::invalid("response.tool_choice", message))
            }
            _ => Ok(()),
        }
    }

    /// What answers a request that forces this function.
    pub fn forced_reply(&mut self, name: &str, tools: &Value) -> Reply {
        let nth = self.forced_count;
        self.forced_count += 1;
        if let Some(reply) = self.options().forms.get(nth) {
            return reply.clone();
        }
        let schema = function(tools, name).map(|tool| tool["parameters"].clone()).unwrap_or_default();
        let said = self.conversation.caller_said();
        Reply::call(name, fill(&schema, &said).to_string())
    }
}

fn function<'a>(tools: &'a Value, name: &str) -> Option<&'a Value> {
    tools.as_array()?.iter().find(|tool| tool["type"] == "function" && tool["name"] == name)
}

/// A value for this schema, out of what the caller said.
pub fn fill(schema: &Value, said: &[String]) -> Value {
    Filling { root: schema, said }.value("", schema, 0)
}

struct Filling<'a> {
    root: &'a Value,
    /// The caller's turns.
    said: &'a [String],
}

impl Filling<'_> {
    /// A value for the property of this name.
    fn value(&self, name: &str, schema: &Value, depth: usize) -> Value {
        if depth > DEEPEST {
            return Value::Null;
        }
        if let Some(target) = schema["$ref"].as_str().and_then(|text| text.strip_prefix('#')) {
            return self.value(name, self.root.pointer(target).unwrap_or(&Value::Null), depth + 1);
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(choices) = schema["enum"].as_array() {
            let is_said = |choice: &&Value| choice.as_str().is_some_and(|word| self.mentions(word));
            return choices.iter().find(is_said).or(choices.first()).cloned().unwrap_or_default();
        }
        let choices = ["anyOf", "oneOf", "allOf"].into_iter().find_map(|key| schema[key].as_array()?.first());
        if let Some(choice) = choices.filter(|_| schema.get("type").is_none()) {
            return self.value(name, choice, depth + 1);
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.first().unwrap_or(&Value::Null),
            kind => kind,
        };
        match kinds.as_str() {
            Some("object") => self.object(schema, depth),
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 10);
                (0..least).map(|_| self.value(name, &schema["items"], depth + 1)).collect()
            }
            Some("integer") => json!(self.number(schema).round() as i64),
            Some("number") => Number::from_f64(self.number(schema)).map_or(json!(0), Value::Number),
            Some("boolean") => json!(self.mentions(name)),
            Some("null") => Value::Null,
            _ => json!(self.text(name, schema)),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let filled: Map<String, Value> =
            properties.map(|(name, schema)| (name.clone(), self.value(name, schema, depth + 1))).collect();
        Value::Object(filled)
    }

    fn text(&self, name: &str, schema: &Value) -> String {
        let last = self.said.last().map_or("Nothing was said.", String::as_str);
        let text = match schema["format"].as_str() {
            Some("date") => "2026-12-01".to_owned(),
            Some("time") => "10:00:00Z".to_owned(),
            Some("date-time") => "2026-12-01T10:00:00Z".to_owned(),
            Some("email") => "caller@example.com".to_owned(),
            Some("uri") => "https://example.com/".to_owned(),
            Some("uuid") => "6d1f9f5e-7c1a-4b0e-9a51-0c6a4c3f2b10".to_owned(),
            _ if name == "summary" => self.summary(),
            _ => last.chars().take(QUOTED).collect(),
        };
        let least = schema["minLength"].as_u64().unwrap_or(0).min(QUOTED as u64) as usize;
        let most = schema["maxLength"].as_u64().unwrap_or(QUOTED as u64) as usize;
        let mut text: String = text.chars().take(most).collect();
        text.extend(std::iter::repeat_n('.', least.saturating_sub(text.chars().count())));
        text
    }

    /// One sentence about what the caller said.
    fn summary(&self) -> String {
        if self.said.is_empty() {
            return "The caller said nothing that was understood.".to_owned();
        }
        let said = self.said.join(" ");
        let quoted: String = said.chars().take(QUOTED).collect();
        format!("The caller said: {quoted}")
    }

    /// The first number that the caller said in digits, if it fits.
    fn number(&self, schema: &Value) -> f64 {
        let least =
            schema["minimum"].as_f64().or(schema["exclusiveMinimum"].as_f64().map(|least| least + 1.0));
        let most = schema["maximum"].as_f64().or(schema["exclusiveMaximum"].as_f64().map(|most| most - 1.0));
        let fits = |number: &f64| {
            least.is_none_or(|least| least <= *number) && most.is_none_or(|most| *number <= most)
        };
        let words = self.said.iter().flat_map(|turn| turn.split(|c: char| !c.is_ascii_digit() && c != '.'));
        let said = words.filter_map(|word| word.trim_matches('.').parse().ok()).find(fits);
        said.unwrap_or_else(|| least.unwrap_or_else(|| most.map_or(1.0, |most| most.min(1.0))))
    }

    fn mentions(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        !word.is_empty() && self.said.iter().any(|turn| turn.to_lowercase().contains(&word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_gets_a_value_out_of_the_conversation() {
        let said = ["I want a large pizza.".to_owned(), "For 4 people, it is urgent.".to_owned()];
        let last = &said[1];
        for (schema, expected) in [
            (json!({"type": "string"}), json!(last)),
            (json!({"type": "string", "maxLength": 5}), json!("For 4")),
            (json!({"type": "string", "format": "date"}), json!("2026-12-01")),
            (json!({"type": ["string", "null"]}), json!(last)),
            (json!({"enum": ["small", "large"]}), json!("large")),
            (json!({"enum": ["red", "green"]}), json!("red")),
            (json!({"const": 7}), json!(7)),
            (json!({"type": "integer"}), json!(4)),
            (json!({"type": "integer", "minimum": 10}), json!(10)),
            (json!({"type": "number", "maximum": 0.5}), json!(0.5)),
            (json!({"type": "boolean"}), json!(false)),
            (json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}), json!(4)),
            (
                json!({"type": "array", "items": {"$ref": "#/$defs/size"}, "minItems": 2,
                    "$defs": {"size": {"enum": ["large"]}}}),
                json!(["large", "large"]),
            ),
            (
                json!({"type": "object", "properties": {"urgent": {"type": "boolean"}, "summary": {"type": "string"}}}),
                json!({"urgent": true,
                    "summary": "The caller said: I want a large pizza. For 4 people, it is urgent."}),
            ),
        ] {
            assert_eq!(fill(&schema, &said), expected, "{schema}");
        }
        let silent = fill(&json!({"type": "object", "properties": {"summary": {"type": "string"}}}), &[]);
        assert!(silent["summary"].as_str().is_some_and(|text| text.ends_with('.')));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(fill(&schema, &[]).is_object());
    }
}
