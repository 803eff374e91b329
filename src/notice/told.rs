//! What owners are told of a call that is over.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::page::{Page, one_line};
use super::{Content, moment};
use crate::assistant::language::Labels;
use crate::assistant::plan::{Occasion, Reader};
use crate::record::{CallRecord, Happened, RecordId, Transfer, reason};

/// A call that is over, and what its record does not have.
#[derive(Debug)]
pub struct Told<'a> {
    pub record: &'a CallRecord,
    pub caller: Who<'a>,
    pub messages: &'a [Taken],
    /// The code of what became of the form after the call; `None`: there was to be none.
    pub form: Option<&'a str>,
    /// Rings that were refused for the same reason, and of which nobody was told.
    pub also_refused: u64,
    pub reader: &'a Reader,
}

/// The caller, as far as the owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who<'a> {
    /// A number, or another address.
    Known(&'a str),
    Withheld,
    NotKept,
}

/// A message that the assistant took, or was to take.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Of its delivery; `None`: there is none.
    pub id: Option<String>,
    /// `None`: they are known to its delivery alone.
    pub fields: Option<Map<String, Value>>,
    /// The code of why it cannot be promised.
    pub failed: Option<String>,
}

/// The id of the notification of a call: whoever tells the owner, it is told once.
pub fn notification_id(record: &RecordId) -> String {
    format!("ntf_{record}")
}

/// Whether the owner wants to hear of this call. `left_message`: the caller left one, or tried to.
pub fn is_wanted(when: &[Occasion], record: &CallRecord, left_message: bool) -> bool {
    let code = record.reason.as_deref().unwrap_or_default();
    let is_refused = code.starts_with("refused.");
    when.iter().any(|occasion| match occasion {
        Occasion::Refused => is_refused,
        Occasion::Always => !is_refused,
        Occasion::Message => left_message,
        Occasion::Failure => went_wrong(code),
        Occasion::TransferFailed => failed_transfers(record).next().is_some(),
    })
}

/// A limit that acted is what the owner asked for.
fn went_wrong(code: &str) -> bool {
    let by_design = code.starts_with("limit.") || code.starts_with("refused.");
    !by_design && reason(code).is_some_and(|known| known.is_wrong)
}

fn failed_transfers(record: &CallRecord) -> impl Iterator<Item = &Transfer> {
    record.events.iter().filter_map(|event| match &event.what {
        Happened::Transferred(transfer) if transfer.outcome != "sent" => Some(transfer),
        _ => None,
    })
}

/// The words for a call of which only the record is left. `None` if no assistant was to answer it, or it runs.
pub fn of_record(record: &CallRecord, reader: &Reader) -> Option<Content> {
    record.assistant.as_ref()?;
    record.reason.as_ref()?;
    let message = record.message.clone().map(|id| Taken { id: Some(id), fields: None, failed: None });
    Some(notification(&Told {
        record,
        caller: record.from.as_deref().map_or(Who::NotKept, Who::Known),
        messages: message.as_slice(),
        form: None,
        also_refused: 0,
        reader,
    }))
}

/// The words for a call that is over.
pub fn notification(told: &Told<'_>) -> Content {
    let Told { record, reader, .. } = told;
    let labels = reader.words.labels;
    let assistant = record.assistant.as_deref().unwrap_or_default();
    let subject = subject(assistant, headline(told, labels), told.caller, labels);
    let news = news(told, labels);
    let mut text = news.clone();
    text.gap();
    caller(&mut text, told.caller, labels);
    text.row_if(labels.called, record.to.as_deref());
    text.row(labels.time, &moment(reader, record.started));
    text.row(labels.length, &length(record.seconds));
    let code = record.reason.as_deref().unwrap_or_default();
    text.row_if(labels.end, Some(&in_words(code, labels)));
    text.row_if(labels.cost, record.cost.as_ref().map(|cost| dollars(cost.total)).as_deref());
    text.row(labels.assistant, assistant);
    text.row(labels.record, record.id.as_str());
    let mut short = news;
    short.row(labels.time, &moment(reader, record.started));
    short.row(labels.length, &length(record.seconds));
    let event = event(told, labels);
    Content { short: short.into_short(&subject), text: text.into_text(), subject, event }
}

/// `clinic: Message from +15550100007`
pub(super) fn subject(assistant: &str, what: &str, caller: Who<'_>, labels: &Labels) -> String {
    let from = match caller {
        Who::Known(caller) => format!(" {} {}", labels.from, one_line(caller)),
        Who::Withheld => format!(" {}", labels.from_withheld),
        Who::NotKept => String::new(),
    };
    format!("{}: {what}{from}", one_line(assistant))
}

pub(super) fn caller(page: &mut Page, caller: Who<'_>, labels: &Labels) {
    match caller {
        Who::Known(caller) => page.row(labels.caller, &one_line(caller)),
        Who::Withheld => page.row(labels.caller, labels.withheld),
        Who::NotKept => {}
    }
}

/// What the call was, above all.
fn headline(told: &Told<'_>, labels: &Labels) -> &'static str {
    let code = told.record.reason.as_deref().unwrap_or_default();
    match () {
        () if code.starts_with("refused.") => labels.refused_call,
        () if went_wrong(code) => labels.failed_call,
        () if !told.messages.is_empty() => labels.message,
        () if failed_transfers(told.record).next().is_some() => labels.failed_transfer,
        () => labels.call,
    }
}

/// What the owner reads first: what the caller wanted, and what went wrong.
fn news(told: &Told<'_>, labels: &Labels) -> Page {
    let mut page = Page::default();
    page.row_if(labels.summary, told.record.summary.as_deref());
    if let Some(Value::Object(fields)) = &told.record.fields {
        page.fields(fields, labels);
    }
    for message in told.messages {
        page.gap();
        match &message.fields {
            Some(fields) => page.fields_below(labels.message, fields, labels),
            None => page.row(labels.message, labels.separately),
        }
    }
    let wrong = wrong(told, labels);
    if !wrong.is_empty() {
        page.gap();
        page.block(labels.went_wrong, wrong.into_iter().map(|(_, line)| format!("- {line}")).collect());
    }
    if told.also_refused > 0 {
        page.row(labels.also_refused, &told.also_refused.to_string());
    }
    page
}

/// What went wrong: each with a code, and in words.
fn wrong(told: &Told<'_>, labels: &Labels) -> Vec<(String, String)> {
    let code = told.record.reason.as_deref().unwrap_or_default();
    let mut wrong = Vec::new();
    if went_wrong(code) || code.starts_with("refused.") {
        wrong.push((code.to_owned(), in_words(code, labels)));
    }
    wrong.extend(failed_transfers(told.record).map(|Transfer { target, outcome }| {
        let outcome = one_line(outcome);
        let line = format!("{}: {} ({outcome})", labels.failed_transfer, one_line(target));
        (format!("transfer.{outcome}"), line)
    }));
    let not_saved = told.messages.iter().filter_map(|message| message.failed.as_deref());
    wrong.extend(not_saved.map(|code| (format!("message.{code}"), format!("{} ({code})", labels.not_saved))));
    let no_form = told.form.filter(|code| !matches!(*code, "ok" | "skipped"));
    wrong.extend(no_form.map(|code| (format!("form.{code}"), format!("{} ({code})", labels.no_form))));
    wrong
}

/// `the caller hung up (caller.hung_up)`
fn in_words(code: &str, labels: &Labels) -> String {
    match labels.reason(code) {
        Some(words) => format!("{words} ({code})"),
        None => code.to_owned(),
    }
}

/// `2:05 min`
fn length(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    format!("{}:{:02} min", seconds / 60, seconds % 60)
}

fn dollars(amount: f64) -> String {
    if amount < 0.1 { format!("${amount:.3}") } else { format!("${amount:.2}") }
}

fn event(told: &Told<'_>, labels: &Labels) -> Value {
    let record = told.record;
    let code = record.reason.as_deref().unwrap_or_default();
    let lasted = SignedDuration::from_millis((record.seconds.max(0.0) * 1_000.0) as i64);
    let ended: Timestamp = record.started.checked_add(lasted).unwrap_or(record.started);
    let caller = match told.caller {
        Who::Known(caller) => Some(caller),
        Who::Withheld | Who::NotKept => None,
    };
    let message = |message: &Taken| json!({ "id": message.id, "fields": message.fields });
    json!({
        "id": notification_id(&record.id),
        "type": "call.ended",
        "timestamp": ended.to_string(),
        "data": {
            "assistant": record.assistant,
            "call": record.call,
            "record": record.id,
            "caller": caller,
            "called": record.to,
            "started": record.started.to_string(),
            "seconds": record.seconds,
            "reason": code,
            "reason_in_words": labels.reason(code),
            "summary": record.summary,
            "fields": record.fields,
            "messages": told.messages.iter().map(message).collect::<Vec<_>>(),
            "failures": wrong(told, labels).into_iter().map(|(code, _)| code).collect::<Vec<_>>(),
            "also_refused": told.also_refused,
            "cost": record.cost.as_ref().map(|cost| cost.total),
        },
    })
}
