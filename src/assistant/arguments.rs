//! The owner's JSON Schema of a tool's arguments, compiled once with the roster.
//!
//! `format` is only a hint for the model, as JSON Schema says. Nothing is fetched: a schema cannot refer to another address.

use std::fmt;
use std::sync::Arc;

use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

/// The most problems in one sentence for the model.
const MOST_LISTED: usize = 10;
/// The longest part of the sentence about one problem, in characters: it may quote a pattern or many choices.
const LONGEST: usize = 500;

/// See the module. Two are equal if they are written alike.
#[derive(Clone)]
pub struct Arguments {
    schema: Map<String, Value>,
    validator: Arc<Validator>,
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        self.schema == other.schema
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arguments({} keywords)", self.schema.len())
    }
}

impl Arguments {
    /// # Errors
    /// It is not a JSON Schema.
    pub fn new(schema: Map<String, Value>) -> Result<Arguments, ValidationError<'static>> {
        let validator = compile(&Value::Object(schema.clone()))?;
        Ok(Arguments { schema, validator: Arc::new(validator) })
    }

    pub fn schema(&self) -> &Map<String, Value> {
        &self.schema
    }

    /// A sentence for the model about arguments that do not fit; it contains no value. `None`: they fit. A null may stand
    /// for an argument that is left out, as models write it.
    pub fn unfit(&self, given: &Map<String, Value>) -> Option<String> {
        self.fitted(given.clone()).err()
    }

    /// The arguments as they fit: without nulls if they fit only then.
    ///
    /// # Errors
    /// They do not fit; the sentence of [`Self::unfit`].
    pub fn fitted(&self, given: Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut given = Value::Object(given);
        if !self.validator.is_valid(&given) {
            drop_nulls(&mut given);
            let errors: Vec<String> = self.validator.iter_errors(&given).take(MOST_LISTED).map(one).collect();
            if !errors.is_empty() {
                return Err(format!("The arguments do not fit: {}.", errors.join("; ")));
            }
        }
        match given {
            Value::Object(given) => Ok(given),
            _ => Ok(Map::new()),
        }
    }
}

/// Whether the value fits the schema, as far as the schema can be read.
pub fn fits(schema: &Value, value: &Value) -> bool {
    compile(schema).map_or(true, |validator| validator.is_valid(value))
}

fn compile(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    jsonschema::options().offline().build(schema)
}

fn one(error: ValidationError<'_>) -> String {
    let path: Vec<String> = error.instance_path().iter().map(|segment| segment.to_string()).collect();
    let what: String = error.masked().to_string().chars().take(LONGEST).collect();
    match path.is_empty() {
        true => what,
        false => format!("`{}`: {what}", path.join(".")),
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            entries.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_keyword_counts_and_no_value_is_quoted() {
        let schema = object(json!({"type": "object", "required": ["id"], "additionalProperties": false,
            "properties": {
                "id": {"type": "string"}, "guests": {"type": "integer", "maximum": 12}, "size": {"enum": ["small", "large"]},
                "note": {"type": ["string", "null"], "maxLength": 4}, "price": {"type": "number"},
                "zip": {"$ref": "#/$defs/zip"}, "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
                "place": {"type": "object", "required": ["street"], "properties": {
                    "street": {"type": "string"}, "layer": {"type": "integer"}}}},
            "$defs": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}}));
        let arguments = Arguments::new(schema).unwrap();
        for (given, wrong) in [
            (json!({"id": "a", "guests": 4, "size": "small", "price": 1, "tags": ["x"], "zip": "01234"}), ""),
            (json!({"id": "a", "guests": 4.0, "note": null}), ""),
            (json!({"id": "a", "guests": null, "size": null, "place": {"street": "b", "layer": null}}), ""),
            (json!({}), "id"),
            (json!({"id": null}), "id"),
            (json!({"id": 7_777}), "`id`"),
            (json!({"id": "a", "guests": "7777"}), "`guests`"),
            (json!({"id": "a", "guests": 7_777}), "`guests`"),
            (json!({"id": "a", "size": "7777"}), "`size`"),
            (json!({"id": "a", "note": "77777"}), "`note`"),
            (json!({"id": "a", "zip": "7777"}), "`zip`"),
            (json!({"id": "a", "other": "7777"}), "other"),
            (json!({"id": "a", "tags": ["x", 7_777]}), "`tags.1`"),
            (json!({"id": "a", "tags": ["7777", "7777"]}), "`tags`"),
            (json!({"id": "a", "place": {"layer": 1}}), "`place`"),
        ] {
            let sentence = arguments.unfit(&object(given.clone())).unwrap_or_default();
            assert_eq!(sentence.is_empty(), wrong.is_empty(), "{given}: {sentence}");
            assert!(sentence.contains(wrong) && !sentence.contains("7777"), "{given}: {sentence}");
        }
        let both = arguments.unfit(&object(json!({"guests": "x", "place": {}}))).unwrap();
        assert!(["`guests`", "`place`", "id"].iter().all(|part| both.contains(part)), "{both}");
    }

    #[test]
    fn a_schema_that_is_none_or_lies_elsewhere_is_an_error() {
        for schema in [
            json!({"type": "object", "properties": {"a": {"pattern": "("}}}),
            json!({"type": "object", "properties": {"a": {"maxLength": "four"}}}),
            json!({"type": "object", "properties": {"a": {"$ref": "https://example.com/schema.json"}}}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
        ] {
            assert!(Arguments::new(object(schema.clone())).is_err(), "{schema}");
        }
    }
}
