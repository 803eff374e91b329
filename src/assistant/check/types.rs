//! The owner's JSON Schemas. A provider that does not know a type rejects the whole session.

use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use super::Check;
use crate::assistant::arguments::Arguments;
use crate::assistant::fit::{Within, known_type, within};
use crate::assistant::vocabulary::SCHEMA_TYPES;
use crate::assistant::written::shown;
use crate::problem::Suggestion;
use crate::problem::catalogue::Tool;
use crate::yaml::{Kind, Node};

impl Check<'_> {
    /// Compiles a schema. It reports one that is not a JSON Schema where it is wrong: `node` is the part of the schema
    /// below the keys `above`.
    pub(super) fn arguments(
        &self,
        node: &Node,
        above: &[&str],
        schema: Map<String, Value>,
    ) -> Option<Arguments> {
        let error = match Arguments::new(schema) {
            Ok(arguments) => return Some(arguments),
            Err(error) => error,
        };
        let path: Vec<String> = error.instance_path().iter().map(|segment| segment.to_string()).collect();
        let mut at = node;
        for step in path.iter().skip(above.len()) {
            let next = match &at.kind {
                Kind::Map(entries) => entries.iter().find(|(key, _)| key.name == *step).map(|(_, node)| node),
                Kind::Seq(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                Kind::Scalar(_) => None,
            };
            let Some(next) = next else { break };
            at = next;
        }
        let what = match error.kind() {
            ValidationErrorKind::Referencing(_) => Tool::SchemaReference,
            _ => Tool::SchemaInvalid { why: error.masked_with("the value").to_string() },
        };
        self.written.problem(at.span, what);
        None
    }

    /// Reports every `type` that JSON Schema does not know, in a schema and in those within it.
    pub(super) fn types(&self, schema: &Node) {
        let Kind::Map(entries) = &schema.kind else { return };
        if let Some((_, node)) = entries.iter().find(|(key, _)| key.name == "type") {
            match &node.kind {
                Kind::Seq(items) => items.iter().for_each(|item| self.one_type(item)),
                _ => self.one_type(node),
            }
        }
        self.types_within(schema);
    }

    /// The same for the schemas within one.
    pub(super) fn types_within(&self, schema: &Node) {
        let Kind::Map(entries) = &schema.kind else { return };
        for (key, node) in entries {
            match (within(&key.name), &node.kind) {
                (Within::Names, Kind::Map(names)) => names.iter().for_each(|(_, node)| self.types(node)),
                (Within::Schema | Within::Schemas, Kind::Seq(items)) => {
                    items.iter().for_each(|item| self.types(item));
                }
                (Within::Schema, Kind::Map(_)) => self.types(node),
                _ => {}
            }
        }
    }

    fn one_type(&self, node: &Node) {
        let what = match node.scalar().filter(|scalar| !scalar.is_null()).map(|scalar| scalar.text()) {
            Some(word) if SCHEMA_TYPES.contains(&word) => return,
            Some(word) => {
                let suggestion = Suggestion::new(known_type(word).unwrap_or(word), SCHEMA_TYPES);
                Tool::SchemaType { word: shown(node), suggestion }
            }
            None => Tool::SchemaTypeNotText { found: node.what() },
        };
        self.written.problem(node.span, what);
    }
}
