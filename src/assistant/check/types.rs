//! The types in a JSON Schema of the owner's. A host that does not know one refuses the whole configuration of a call.

use super::Check;
use crate::assistant::fit::{Within, within};
use crate::problem;
use crate::yaml::{Kind, Node};

/// What JSON Schema knows.
const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];

impl Check<'_> {
    /// Reports every `type` in a schema that JSON Schema does not know.
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

    /// The same for all schemas that stand in one.
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
        let w = self.written;
        let message = "`type` in a JSON Schema is a word, or a list of words";
        let Some(scalar) = node.scalar() else {
            return w.error_help(node.span, "schema.type", message, "write type: string or the like");
        };
        if scalar.is_null() {
            return w.error_help(
                node.span,
                "schema.type",
                message,
                "write type: string; nothing is \"null\", in quotes",
            );
        }
        let word = scalar.text();
        if TYPES.contains(&word) {
            return;
        }
        let help = match word {
            "float" | "double" | "decimal" => "did you mean `number`?".to_owned(),
            "list" => "did you mean `array`?".to_owned(),
            "map" | "dict" => "did you mean `object`?".to_owned(),
            "text" | "date" | "time" => "did you mean `string`?".to_owned(),
            word => problem::suggestion(word, TYPES),
        };
        w.error_help(node.span, "schema.type", format!("JSON Schema has no type `{}`", scalar.shown()), help);
    }
}
