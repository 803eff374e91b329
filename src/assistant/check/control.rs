//! What the assistant may do with the call itself: `call_control`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::Check;
use crate::assistant::plan::{Mailbox, Target};
use crate::assistant::toolbox::{Control, Messages, Person};
use crate::assistant::values;
use crate::assistant::written::Fields;
use crate::problem::{self, Span};
use crate::secret::Secret;
use crate::yaml::{Kind, Node};

/// How long a person's phone may ring.
const RING: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(120);
/// How long it rings where the file says nothing.
const DEFAULT_RING: Duration = Duration::from_secs(25);
/// The shortest key that Standard Webhooks allows to sign with, in bytes.
const SHORTEST_KEY: usize = 24;
/// What is asked for in a message where the file says nothing.
const FIELDS: [&str; 2] = ["name", "message"];

impl<'a> Check<'a> {
    pub(super) fn call_control(&self, top: &Fields<'a>) -> Control {
        let w = self.written;
        let example = "call_control: { end_call: true }";
        let map = top.take("call_control").and_then(|node| w.map(node, "call_control", example));
        let Some(map) = map else { return Control::default() };
        let flag = |name| map.take(name).and_then(|node| w.bool(node, name)).unwrap_or(false);
        let control = Control {
            end_call: flag("end_call"),
            targets: self.transfer_to(&map),
            send_digits: flag("send_digits"),
            send_sms: flag("send_sms"),
            take_message: map.take("take_message").and_then(|node| self.take_message(node)),
        };
        map.finish();
        control
    }

    /// Whom the call can be passed on to: a number, or a map with one.
    fn transfer_to(&self, map: &Fields<'a>) -> Vec<Person> {
        let w = self.written;
        let mut people = Vec::new();
        for (key, node) in self.entries(map, "transfer_to", "transfer_to: { reception: \"+1555…\" }") {
            let (number, ring, description) = match &node.kind {
                Kind::Map(_) => {
                    let Some(map) = w.map(node, &key.name, "{ number: \"+1555…\", ring_for: 25s }") else {
                        continue;
                    };
                    if !map.has("number") {
                        let message = format!("`{}` has no `number`", problem::shown(&key.name));
                        w.error_help(key.span, "transfer.number", message, "write number: \"+1555…\"");
                    }
                    let number = map.take("number");
                    let ring = map.take("ring_for").and_then(|node| w.duration(node, "ring_for", RING));
                    let description = map.take("description").and_then(|node| w.text(node, "description"));
                    map.finish();
                    (number, ring, description)
                }
                _ => (Some(node).filter(|node| !node.is_null()), None, None),
            };
            let number = number.and_then(|node| self.number(node, &key.name));
            let target = number.map(|number| Target {
                name: key.name.clone(),
                number,
                ring: ring.unwrap_or(DEFAULT_RING),
            });
            people.push(Person { name: key.name.clone(), target, description });
        }
        people
    }

    /// Where messages go, and what is in one.
    fn take_message(&self, node: &'a Node) -> Option<Messages> {
        let w = self.written;
        let example = "take_message: { url: \"${MESSAGES_URL}\", secret: \"${MESSAGES_SECRET}\" }";
        let map = w.map(node, "take_message", example)?;
        if !map.has("url") {
            let message = "`take_message` does not say where messages go";
            w.error_help(node.span, "message.where", message, format!("write {example}"));
        }
        let url = map.take("url");
        if let Some(node) = url {
            self.literal_within("url", node);
        }
        let url = url.and_then(|node| Some((node, self.address(node, "url")?)));
        let secret = map.take("secret");
        if let Some(secret) = secret {
            self.literal("secret", secret);
        }
        let key = secret.and_then(|node| Some((node, w.text(node, "secret")?.trim().to_owned())));
        match (&url, &key) {
            (Some((node, _)), None) if secret.is_none() => {
                let message =
                    "`take_message` has no `secret`: whoever gets a message could not know that it is yours";
                w.error_help(node.span, "message.secret", message, "write secret: \"${MESSAGES_SECRET}\"");
            }
            (_, Some((node, key))) => self.signing_secret(node, key),
            _ => {}
        }
        let description = map.take("description").and_then(|node| w.text(node, "description"));
        let fields = map.take("fields").map(|node| self.message_fields(node));
        map.finish();
        let fields = fields.unwrap_or_else(|| {
            FIELDS.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect()
        });
        let required: Vec<&String> = fields.keys().collect();
        let parameters = json!({ "type": "object", "required": required, "properties": fields });
        Some(Messages {
            mailbox: url
                .zip(key)
                .map(|((_, url), (_, key))| Mailbox { url: url.into(), secret: Secret::new(key) }),
            description,
            parameters: parameters.as_object().cloned().unwrap_or_default(),
        })
    }

    /// What signs messages: whoever gets them verifies with the same, as Standard Webhooks has it.
    fn signing_secret(&self, node: &Node, secret: &str) {
        let w = self.written;
        let error = |message, help| w.error_help(node.span, "message.secret", message, help);
        let warning = |message, help| w.warning(node.span, "message.secret", message, help);
        let make = "make one: echo \"whsec_$(openssl rand -base64 32)\"";
        match secret.strip_prefix("whsec_").map(|key| BASE64_STANDARD.decode(key)) {
            None if secret.is_empty() => error("`secret` is empty, so it signs nothing", make),
            None => warning(
                "`secret` does not start with `whsec_`, as Standard Webhooks has it: most receivers read it \
                 differently, and refuse the messages",
                make,
            ),
            Some(Err(_)) => {
                error(
                    "what follows `whsec_` in `secret` is not base64",
                    "copy the secret whole, as it was given",
                );
            }
            Some(Ok(key)) if key.is_empty() => error("nothing follows `whsec_` in `secret`", make),
            Some(Ok(key)) if key.len() < SHORTEST_KEY => {
                warning("`secret` is too short to be safe: Standard Webhooks asks for 24 bytes", make);
            }
            Some(Ok(_)) => {}
        }
    }

    /// A list of names, or each with a JSON Schema of its value.
    fn message_fields(&self, node: &'a Node) -> Map<String, Value> {
        let w = self.written;
        let mut fields = Map::new();
        let Kind::Map(_) = &node.kind else {
            let mut first: BTreeMap<String, Span> = BTreeMap::new();
            for (item, name) in self.names(node, "fields", "[name, message]") {
                if let Some(earlier) = first.get(&name) {
                    let message = format!("`{}` is listed twice", problem::shown(&name));
                    let problem = w.source.error(item.span, "message.fields", message).help("take one out");
                    w.note(problem.also(w.source.place(*earlier), "first listed here"));
                    continue;
                }
                fields.insert(name.clone(), json!({ "type": "string" }));
                first.insert(name, item.span);
            }
            return fields;
        };
        let Some(map) = w.map(node, "fields", "fields: [name, message]") else { return fields };
        for (key, node) in map.all() {
            self.types(node);
            let schema = match values::json(node) {
                Value::Null => json!({ "type": "string" }),
                Value::Object(schema) => Value::Object(schema),
                _ => {
                    let message = format!(
                        "`{}` in `fields` is a JSON Schema, and this is {}",
                        problem::shown(&key.name),
                        node.what()
                    );
                    let help = "write { type: string, description: … }, or a list of names alone";
                    w.error_help(node.span, "message.fields", message, help);
                    continue;
                }
            };
            fields.insert(key.name.clone(), schema);
        }
        fields
    }
}
