//! The part of an assistant's file that decides what reaches the owner, and how.
#![expect(dead_code, reason = "these types are described, and never filled")]

use schemars::JsonSchema;
use serde_json::json;

use super::value::*;
use crate::assistant::vocabulary::MESSAGE_FIELDS;

/// Lets the assistant take a message: it asks for what you want to know, and sends it to you.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "to": { "email": "owner@example.com" }, "fields": ["name", "message"] }))]
pub struct TakeMessage {
    to: Option<MessageTo>,
    /// What a message contains: a list of names, or names with a JSON Schema each. The model asks for all of them.
    #[schemars(extend("default" = MESSAGE_FIELDS))]
    #[schemars(example = ["name", "number", "message"], example = json!({ "name": { "type": "string" }, "urgent": { "type": "boolean", "description": "Whether it cannot wait" } }))]
    fields: Option<MessageFields>,
    /// Tells the model when and how to take a message.
    #[schemars(extend("x-default" = "a general description"))]
    #[schemars(example = &"Takes a message for the doctor. Ask whether it is urgent.")]
    description: Option<Text>,
}

/// Where messages go: one or more ways. If all of them are empty, the tool is off.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("x-default" = "required"))]
#[schemars(example = json!({ "email": "owner@example.com", "sms": "+15550100099" }), example = json!({ "file": "messages.jsonl" }))]
struct MessageTo {
    /// An address that gets an e-mail. This needs `SMTP_URL`.
    #[schemars(example = &"owner@example.com")]
    email: Option<Email>,
    /// The number of a phone that gets a text message, from the number that was called. This needs `TWILIO_ACCOUNT_SID`.
    #[schemars(example = &"+15550100099")]
    sms: Option<Phone>,
    webhook: Option<Webhook>,
    /// The name of a file that gets a line of JSON. It ends in `.jsonl`, and lies in the folder `STATE_DIR`.
    #[schemars(example = &"messages.jsonl")]
    file: Option<LinesFile>,
}

/// News of calls for you, once each is over: who called, when, what it was about, what the caller left, and what went wrong.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "to": { "email": "owner@example.com" }, "when": ["message", "failure", "transfer_failed"] }))]
pub struct Notify {
    to: Option<NotifyTo>,
    /// After which calls, as a list or one word: `always`, if the caller left a `message`, after a `failure`, if nobody took a
    /// transferred call (`transfer_failed`), or if a ring was `refused` by a limit or `block`.
    #[schemars(extend("default" = "always"), example = &"failure", example = ["message", "failure"])]
    when: Option<Occasions>,
}

/// Where notifications go: one or more ways. If all of them are empty, there are none.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("x-default" = "required"))]
#[schemars(example = json!({ "email": "owner@example.com" }))]
struct NotifyTo {
    /// An address that gets an e-mail. This needs `SMTP_URL`.
    #[schemars(example = &"owner@example.com")]
    email: Option<Email>,
    /// The number of a phone that gets a text message, from the number that was called. This needs `TWILIO_ACCOUNT_SID`.
    #[schemars(example = &"+15550100099")]
    sms: Option<Phone>,
    webhook: Option<Webhook>,
    /// The name of a file that gets a line of JSON. It ends in `.jsonl`, and lies in the folder `STATE_DIR`.
    #[schemars(example = &"calls.jsonl")]
    file: Option<LinesFile>,
}

/// A form that the model fills in once the caller has hung up. It is in the record of the call, in the notification, and in
/// the request to `webhook`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "summary": true, "fields": { "wish": { "type": "string" }, "urgent": { "type": "boolean" } } }))]
pub struct AfterCall {
    /// Whether the form has a `summary` of the call, in two or three sentences.
    #[schemars(extend("default" = false), example = true)]
    summary: Option<Flag>,
    /// What else it contains: a list of names, or names with a JSON Schema each. The model leaves out what was not spoken of.
    #[schemars(extend("x-default" = "nothing"))]
    #[schemars(example = ["wish", "mood"], example = json!({ "urgent": { "type": "boolean", "description": "Whether it cannot wait" } }))]
    fields: Option<MessageFields>,
    webhook: Option<Webhook>,
}

/// An address of your own program that gets a signed request (see [tools.md](tools.md)).
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "url": "${MESSAGES_URL:-}", "secret": "${MESSAGES_SECRET:-}" }))]
struct Webhook {
    /// Where the requests are sent with POST. If it is empty, there are none.
    #[schemars(extend("x-default" = "required"), example = &"https://hooks.example.com/messages")]
    url: Option<Text>,
    /// The secret that signs each request as in Standard Webhooks, so that your server can verify it: `whsec_` and at
    /// least 24 random bytes in base64. `echo "whsec_$(openssl rand -base64 32)"` makes one. Keep it out of the file.
    #[schemars(extend("x-default" = "required"), example = &"${MESSAGES_SECRET}")]
    secret: Option<Text>,
}
