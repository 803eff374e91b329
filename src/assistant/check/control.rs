//! What the assistant may do with the call itself: `call_control`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Check, Role};
use crate::assistant::plan::{Arguments, Target};
use crate::assistant::toolbox::{Control, Messages, Person};
use crate::assistant::values;
use crate::assistant::vocabulary::{MESSAGE_FIELDS, RING};
use crate::assistant::written::Fields;
use crate::problem::catalogue::Tool;
use crate::problem::{self, Span};
use crate::yaml::{Key, Kind, Node};

impl<'a> Check<'a> {
    pub(super) fn call_control(&self, top: &Fields<'a>) -> Control {
        let Some(map) = top.map("call_control") else { return Control::default() };
        let flag = |key| map.bool(key).unwrap_or(false);
        let people = self.entries(&map, "transfer_to");
        let control = Control {
            end_call: flag("end_call"),
            targets: people.into_iter().filter_map(|(key, node)| self.person(key, node)).collect(),
            send_digits: flag("send_digits"),
            send_sms: flag("send_sms"),
            take_message: map.take("take_message").and_then(|node| self.take_message(node)),
        };
        map.finish();
        control
    }

    /// Somebody to transfer calls to: a number, or a map with one.
    fn person(&self, key: &Key, node: &'a Node) -> Option<Person> {
        let w = self.written;
        let (mut number, mut ring, mut description) = (Some(node).filter(|node| !node.is_null()), None, None);
        if let Kind::Map(_) = &node.kind {
            let map = w.map(node, &key.name)?;
            if !map.has("number") {
                w.problem(key.span, Tool::TransferWithoutNumber { name: problem::shown(&key.name) });
            }
            number = map.take("number");
            ring = map.duration("ring_for", &RING);
            description = map.text("description");
            map.finish();
        }
        let number = number.and_then(|node| self.number(node, &key.name, Role::Transfer));
        let ring = ring.unwrap_or(RING.default);
        let target = number.map(|number| Target { name: key.name.clone(), number, ring });
        Some(Person { name: key.name.clone(), target, description })
    }

    /// Where messages go, and what they contain.
    fn take_message(&self, node: &'a Node) -> Option<Messages> {
        let w = self.written;
        let map = w.map(node, "take_message")?;
        // One with a `url` is from an earlier version: that is a problem of its own.
        if !map.has("to") && !map.has("url") {
            w.problem(node.span, Tool::MessageWithoutTo);
        }
        let mailbox = map.take("to").and_then(|node| self.mailbox(node));
        let description = map.text("description");
        let fields = map.take("fields");
        map.finish();
        let (properties, is_sound) = self.fields(fields);
        let text = || json!({ "type": "string" });
        let properties = properties
            .unwrap_or_else(|| MESSAGE_FIELDS.map(|name| (name.to_owned(), text())).into_iter().collect());
        let required: Vec<String> = properties.keys().cloned().collect();
        let parameters = is_sound.then(|| self.form(fields.unwrap_or(node), properties, &required));
        Some(Messages {
            mailbox: mailbox.filter(|mailbox| !mailbox.is_empty()),
            description,
            parameters: parameters.flatten(),
        })
    }

    /// The owner's `fields`, and whether there is no problem in them.
    pub(super) fn fields(&self, node: Option<&'a Node>) -> (Option<Map<String, Value>>, bool) {
        let before = self.written.reported();
        let fields = node.map(|node| self.message_fields(node));
        (fields, self.written.reported() == before)
    }

    /// The schema of an object with these fields, which are written in `node`.
    pub(super) fn form(
        &self,
        node: &Node,
        properties: Map<String, Value>,
        required: &[String],
    ) -> Option<Arguments> {
        let schema = json!({ "type": "object", "required": required, "properties": properties });
        self.arguments(node, &["properties"], schema.as_object().cloned()?)
    }

    /// A list of names, or a map from names to JSON Schemas.
    fn message_fields(&self, node: &'a Node) -> Map<String, Value> {
        let w = self.written;
        let mut fields = Map::new();
        let Kind::Map(_) = &node.kind else {
            let mut first: BTreeMap<String, Span> = BTreeMap::new();
            for (item, name) in self.names(node, "fields") {
                if let Some(earlier) = first.get(&name) {
                    w.duplicate(item.span, *earlier, Tool::FieldDuplicate { name: problem::shown(&name) });
                    continue;
                }
                fields.insert(name.clone(), json!({ "type": "string" }));
                first.insert(name, item.span);
            }
            return fields;
        };
        let Some(map) = w.map(node, "fields") else { return fields };
        for (key, node) in map.all() {
            self.types(node);
            match values::json(node) {
                Value::Null => fields.insert(key.name.clone(), json!({ "type": "string" })),
                schema @ Value::Object(_) => fields.insert(key.name.clone(), schema),
                _ => {
                    let name = problem::shown(&key.name);
                    w.problem(node.span, Tool::FieldSchema { name, found: node.what() });
                    None
                }
            };
        }
        fields
    }
}
