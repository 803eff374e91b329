//! The types in the owner's JSON Schemas. A provider that does not know a type rejects the whole session.

use super::Check;
use crate::assistant::fit::{Within, known_type, within};
use crate::assistant::vocabulary::SCHEMA_TYPES;
use crate::assistant::written::shown;
use crate::problem::Suggestion;
use crate::problem::catalogue::Tool;
use crate::yaml::{Kind, Node};

impl Check<'_> {
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
