//! The kinds of single values. A value that is not a text may also be a text with `${…}`, which gets its type when the
//! variable is replaced.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::assistant::prompt::NAMES;
use crate::assistant::vocabulary::*;
use crate::duration;
use crate::provider::{Abilities, OPENAI_REALTIME_URL, Provider};

/// `${NAME}` or `${NAME:-default}`, but not `$${`.
const EXPANSION: &str = r"(^|[^$])\$\{[A-Za-z_][A-Za-z0-9_]*(\}|:-)";
const PHONE: &str = r"^\s*\+[1-9][0-9]{6,14}\s*$";

/// Types that are only their schema.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

values! {
    Text = text("a text");
    Template = text("a text, with names in `{{ … }}`");
    Texts = list("a list of texts, or one", text("a text"));
    Names = list("a list of names, or one", json_schema!({ "type": "string", "minLength": 1 }));
    Flag = typed("`true` or `false`", json!({ "type": "boolean" }));
    Phone = phone();
    Numbers = numbers();
    LanguageList = list("a list of languages", json_schema!({ "type": "string", "minLength": 2 }));
    Vocabulary = list("a list of words", json_schema!({ "type": "string", "minLength": 1, "maxLength": VOCABULARY_CHARACTERS }));
    Language = typed(
        "a language tag",
        json!({ "type": "string", "pattern": r"^\s*[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\s*$" }),
    );
    ModelName = suggested("the name of a model", openai().models.into_iter().map(|model| model.name).collect());
    Voice = suggested("the name of a voice", openai().voices);
    Speed = openai().speed.as_ref().map_or_else(|| typed("a number", json!({ "type": "number" })), number);
    Temperature = number(&TEMPERATURE);
    Threshold = number(&openai().threshold);
    Duration = typed("a duration", json!({ "type": "string", "pattern": duration::PATTERN }));
    Sms = count(&SMS);
    Messages = count(&MESSAGES);
    Transfers = count(&TRANSFERS);
    MaxPerCall = count(&MAX_PER_CALL);
    Calls = count(&CALLS);
    CallsPerHour = count(&CALLS_PER_HOUR);
    CallsPerDay = count(&CALLS_PER_DAY);
    CostPerCall = number(&COST_PER_CALL);
    CostPerDay = number(&COST_PER_DAY);
    Occasions = occasions();
    BlockList = block_list();
    Engine = words(ENGINES);
    Effort = words(EFFORTS);
    FirstSpeaker = words(FIRST);
    Detection = words(&detections());
    Eagerness = words(EAGERNESS);
    KeyPress = words(KEYS);
    EndKey = words(END_KEYS);
    DtmfLength = count(&DTMF_LENGTH);
    Interrupting = words_or_flag(INTERRUPTIONS);
    HoldSound = suggested("a word, or a file in `sounds/`", vec!["tone".into(), "none".into()]);
    NoiseReduction = words(NOISE_REDUCTIONS);
    KeptNumber = words(KEPT_NUMBERS);
    ViaWord = words(VIAS);
    Approval = words(APPROVALS);
    Approvals = approvals();
    Method = words(METHODS);
    Codes = codes();
    MessageFields = message_fields();
    Email = typed("an e-mail address", json!({ "type": "string", "pattern": r"^\s*[^\s@]+@[^\s@]+\s*$" }));
    LinesFile = typed(
        "a name that ends in `.jsonl`",
        json!({ "type": "string", "pattern": r"^\s*[A-Za-z0-9][A-Za-z0-9._-]*\.jsonl\s*$" }),
    );
    Anything = json_schema!({ "x-type": "any value" });
    /// A JSON Schema of its own.
    Parameters = json_schema!({ "type": "object", "x-type": "a map: a JSON Schema of type `object`" });
    Variables = json_schema!({
        "type": "object",
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "not": { "enum": NAMES } },
        "x-type": "a map of texts, numbers, true or false, lists and maps",
    });
    Callers = json_schema!({
        "type": "object",
        // A validator sees a key without quotes as a number, without its plus.
        "propertyNames": { "pattern": r"^\s*\+?[1-9][0-9]{6,14}\s*$" },
        "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        "x-type": "a map from phone numbers to names",
    });
}

pub fn openai() -> Abilities {
    Provider::openai(OPENAI_REALTIME_URL, None).abilities
}

/// A number or `true` counts as a text.
fn text(what: &str) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"], "x-type": what })
}

/// A text that becomes some value.
pub fn expansion() -> Value {
    json!({ "type": "string", "pattern": EXPANSION })
}

/// A value of this type, or a text that becomes one.
fn typed(what: &str, schema: Value) -> Schema {
    json_schema!({ "anyOf": [schema, expansion()], "x-type": what })
}

fn number(range: &RangeInclusive<f64>) -> Schema {
    let (least, most) = (range.start(), range.end());
    let schema = json!({ "type": "number", "minimum": least, "maximum": most });
    typed(&format!("a number from {least} to {most}"), schema)
}

fn count(count: &Count) -> Schema {
    let (least, most) = (count.range.start(), count.range.end());
    let schema = json!({ "type": "integer", "minimum": least, "maximum": most });
    typed(&format!("a whole number from {least} to {most}"), schema)
}

fn words<T>(words: &Words<T>) -> Schema {
    typed("a word", json!({ "enum": names(words) }))
}

/// The same, where `true` and `false` were written before.
fn words_or_flag<T>(words: &Words<T>) -> Schema {
    typed("a word", json!({ "anyOf": [{ "enum": names(words) }, { "type": "boolean" }] }))
}

/// Names that an editor can offer. Another provider may have others.
fn suggested(what: &str, names: Vec<Cow<'_, str>>) -> Schema {
    json_schema!({ "anyOf": [{ "enum": names }, { "type": "string", "minLength": 1 }], "x-type": what })
}

/// Without quotes, YAML reads a number as an integer; the check reads it as it is written.
pub fn phone() -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "string", "pattern": PHONE },
            { "type": "integer", "minimum": 1_000_000, "maximum": 999_999_999_999_999_u64 },
            expansion(),
        ],
        "x-type": "a phone number: a plus, the country code and the number",
    })
}

fn numbers() -> Schema {
    let mut item = phone();
    item.remove("x-type");
    if let Some(Value::Array(choices)) = item.get_mut("anyOf") {
        choices.push(json!({ "type": "string", "pattern": r"^\s*\*\s*$" }));
    }
    let mut schema = list("a list of phone numbers, or one", item);
    if let Some(many) = schema.get_mut("anyOf").and_then(|choices| choices.get_mut(0)) {
        many["uniqueItems"] = json!(true);
    }
    schema
}

/// A list, or a single value in its place. Empty entries of a list are ignored.
pub fn list(what: &str, item: Schema) -> Schema {
    let mut item = item.to_value();
    item.as_object_mut().map(|item| item.remove("x-type"));
    let mut choices = match item.get("anyOf").and_then(Value::as_array) {
        Some(choices) => choices.clone(),
        None => vec![item],
    };
    let mut entries = choices.clone();
    entries.push(json!({ "type": "null" }));
    choices.insert(0, json!({ "type": "array", "items": { "anyOf": entries } }));
    json_schema!({ "anyOf": choices, "x-type": what })
}

fn occasions() -> Schema {
    let word = json_schema!({ "anyOf": [{ "enum": names(OCCASIONS) }, expansion()] });
    let mut schema = list("a list of words, or one", word);
    if let Some(many) = schema.get_mut("anyOf").and_then(|choices| choices.get_mut(0)) {
        many["uniqueItems"] = json!(true);
        many["minItems"] = json!(1);
    }
    schema
}

fn block_list() -> Schema {
    let mut item = phone();
    item.remove("x-type");
    if let Some(Value::Array(choices)) = item.get_mut("anyOf") {
        choices.push(json!({ "type": "string", "pattern": r"^\s*\+[1-9][0-9]{0,13}\*\s*$" }));
        choices.push(json!({ "enum": [WITHHELD] }));
    }
    let mut schema =
        list("a list of phone numbers, of their beginnings (`\"+1900*\"`) and `withheld`, or one", item);
    if let Some(many) = schema.get_mut("anyOf").and_then(|choices| choices.get_mut(0)) {
        many["uniqueItems"] = json!(true);
    }
    schema
}

fn approvals() -> Schema {
    let tools = json!({ "type": "array", "items": { "type": "string", "minLength": 1 } });
    let word = json!({ "enum": names(APPROVALS) });
    json_schema!({ "anyOf": [word, tools, expansion()], "x-type": "a word, or a list of tools" })
}

fn message_fields() -> Schema {
    let field = json!({ "type": ["object", "null"] });
    let name = json_schema!({ "type": "string", "minLength": 1 });
    let mut schema = list("a list of names, or a map from names to JSON Schemas", name);
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices[0]["uniqueItems"] = json!(true);
        choices.push(json!({ "type": "object", "additionalProperties": field }));
    }
    schema
}

/// A name that the model will read.
pub fn tool_name() -> Value {
    json!({ "pattern": "^[A-Za-z0-9_-]{1,64}$" })
}

/// A server with both `url` and `command`. A value from the environment may be empty, so it does not count.
pub fn url_and_command() -> Value {
    let written = json!({ "type": "string", "minLength": 1, "not": { "pattern": EXPANSION } });
    let list = json!({ "type": "array", "prefixItems": [written], "minItems": 1 });
    json!({
        "required": ["url", "command"],
        "properties": { "url": written, "command": { "anyOf": [written, list] } },
    })
}

fn codes() -> Schema {
    let (least, most) = (*STATUS_CODES.start() as u16, *STATUS_CODES.end() as u16);
    let code = json!({ "type": "integer", "minimum": least, "maximum": most });
    json_schema!({
        "anyOf": [{ "type": "array", "items": typed("", code.clone()) }, code],
        "x-type": "a list of HTTP status codes, or one",
    })
}
