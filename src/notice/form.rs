//! The form after a call.

use jiff::Timestamp;
use serde_json::json;

use super::page::Page;
use super::told::{self, Who};
use super::{Content, moment};
use crate::assistant::plan::Reader;
use crate::record::{CallRecord, Form, RecordId};

/// A form that the model filled.
#[derive(Debug)]
pub struct Filled<'a> {
    /// Of the call, with the form.
    pub record: &'a CallRecord,
    pub caller: Who<'a>,
    pub form: &'a Form,
    pub at: Timestamp,
    pub reader: &'a Reader,
}

/// The id of the form of a call.
pub fn form_id(record: &RecordId) -> String {
    format!("frm_{record}")
}

/// The words for a form.
pub fn form(filled: &Filled<'_>) -> Content {
    let Filled { record, caller, form, at, reader } = filled;
    let labels = reader.words.labels;
    let assistant = record.assistant.as_deref().unwrap_or_default();
    let subject = told::subject(assistant, labels.form, *caller, labels);
    let mut text = Page::default();
    text.row_if(labels.summary, form.summary.as_deref());
    if let Some(fields) = &form.fields {
        text.fields(fields, labels);
    }
    let mut short = text.clone();
    short.row(labels.time, &moment(reader, record.started));
    text.gap();
    told::caller(&mut text, *caller, labels);
    text.row(labels.time, &moment(reader, record.started));
    text.row(labels.assistant, assistant);
    let known = match caller {
        Who::Known(caller) => Some(caller),
        Who::Withheld | Who::NotKept => None,
    };
    let event = json!({
        "id": form_id(&record.id),
        "type": "form.filled",
        "timestamp": at.to_string(),
        "data": {
            "assistant": record.assistant,
            "call": record.call,
            "record": record.id,
            "caller": known,
            "called": record.to,
            "started": record.started.to_string(),
            "summary": form.summary,
            "fields": form.fields,
        },
    });
    Content { short: short.into_short(&subject), text: text.into_text(), subject, event }
}
