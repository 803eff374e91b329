//! What owners read of their calls: messages, notifications, forms and alerts, in the words of an e-mail, a text message
//! and JSON.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod alert;
mod form;
mod page;
mod told;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use self::alert::{Alert, alert};
pub use self::form::{Filled, form, form_id};
pub use self::told::{Taken, Told, Who, is_wanted, notification, notification_id, of_record};
use crate::assistant::plan::Reader;
use crate::id::CallSid;
use crate::phone::PhoneNumber;
use page::Page;

/// What a delivery is for. With the assistant it says which addresses it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// What a caller left: `take_message`.
    Message,
    /// News of a call: `notify`.
    Notification,
    /// The form after a call: `after_call`.
    Form,
    /// News of the server: `alerts` in `switchboard.yaml`.
    Alert,
}

impl Purpose {
    pub const ALL: [Self; 4] = [Self::Message, Self::Notification, Self::Form, Self::Alert];

    /// For the store and lists.
    pub fn code(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Notification => "notification",
            Self::Form => "form",
            Self::Alert => "alert",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.code() == code)
    }
}

/// How a delivery is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    Email,
    Sms,
    Webhook,
    File,
}

impl Via {
    pub const ALL: [Self; 4] = [Self::Email, Self::Sms, Self::Webhook, Self::File];

    /// For the store, metrics and lists.
    pub fn code(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Webhook => "webhook",
            Self::File => "file",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|via| via.code() == code)
    }
}

/// The same news for every way to deliver it.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The subject of an e-mail: one line.
    pub subject: String,
    /// The text of an e-mail.
    pub text: String,
    /// A text message.
    pub short: String,
    /// For a webhook and a file.
    pub event: Value,
}

/// What a caller left.
#[derive(Debug)]
pub struct Left<'a> {
    pub id: &'a str,
    pub call: &'a CallSid,
    pub assistant: &'a str,
    pub caller: Option<&'a PhoneNumber>,
    pub called: Option<&'a PhoneNumber>,
    pub fields: Map<String, Value>,
    pub at: Timestamp,
    pub reader: &'a Reader,
}

/// The words for a message.
pub fn message(left: Left<'_>) -> Content {
    let Left { id, call, assistant, caller, called, fields, at, reader } = left;
    let labels = reader.words.labels;
    let who = caller.map_or(Who::Withheld, |number| Who::Known(number.expose()));
    let subject = told::subject(assistant, labels.message, who, labels);
    let mut text = Page::default();
    text.fields(&fields, labels);
    let mut short = text.clone();
    short.row(labels.time, &moment(reader, at));
    text.gap();
    told::caller(&mut text, who, labels);
    text.row_if(labels.called, called.map(|number| number.expose()));
    text.row(labels.time, &moment(reader, at));
    text.row(labels.assistant, assistant);
    let event = json!({
        "id": id,
        "type": "message.taken",
        "timestamp": at.to_string(),
        "data": {
            "assistant": assistant,
            "call": call.as_str(),
            "caller": caller.map(|number| number.expose()),
            "called": called.map(|number| number.expose()),
            "fields": fields,
        },
    });
    Content { short: short.into_short(&subject), text: text.into_text(), subject, event }
}

/// `Monday, 30 November 2026, 14:05`
fn moment(reader: &Reader, at: Timestamp) -> String {
    let at = at.to_zoned(reader.zone.clone());
    format!("{}, {}", reader.words.date(&at), reader.words.time(&at))
}

#[cfg(test)]
mod tests;
