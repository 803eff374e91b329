//! News of the server.

use jiff::Timestamp;
use serde_json::json;

use super::page::{Page, one_line};
use super::{Content, moment};
use crate::assistant::plan::Reader;

/// Something about the server that its owner wants to know at once.
#[derive(Debug)]
pub struct Alert<'a> {
    /// Of the delivery.
    pub id: &'a str,
    /// The code of what happened, as in `alerts.when`.
    pub code: &'a str,
    /// What was wrong is right again.
    pub well: bool,
    /// What it is about: the name of a provider or an assistant.
    pub about: Option<&'a str>,
    /// More about it: what went wrong, line by line.
    pub details: &'a str,
    pub at: Timestamp,
    pub reader: &'a Reader,
}

/// The words for an alert.
pub fn alert(alert: &Alert<'_>) -> Content {
    let Alert { id, code, well, about, details, at, reader } = alert;
    let labels = reader.words.labels;
    let what = labels.alert(code, *well).unwrap_or(code);
    let about = about.map(one_line).filter(|about| !about.is_empty());
    let headline = match &about {
        Some(about) => format!("{what}: {about}"),
        None => what.to_owned(),
    };
    let mut text = Page::default();
    text.row(labels.alert, &format!("{headline} ({code})"));
    let mut short = Page::default();
    for page in [&mut text, &mut short] {
        page.row_if(labels.went_wrong, Some(details));
        page.row(labels.time, &moment(reader, *at));
    }
    let subject = format!("Switchboard: {headline}");
    let event = json!({
        "id": id,
        "type": "alert",
        "timestamp": at.to_string(),
        "data": { "code": code, "well": well, "about": about, "details": details },
    });
    Content { short: short.into_short(&subject), text: text.into_text(), subject, event }
}
