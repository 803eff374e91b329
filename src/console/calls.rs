//! *Calls*: the history. Searches are forms that are posted, so that no number and no word is in a URL.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use minijinja::context;
use serde::Serialize;

use super::Console;
use super::shown::{Moment, dollars, length, moment, party, value};
use super::visit::{Posted, Visit};
use crate::phone::PhoneNumber;
use crate::record::{REASONS, RecordId};
use crate::store::{Filter, Row};

/// The calls of one page.
const PAGE: u32 = 50;

/// A call in the list.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    started: Moment,
    assistant: String,
    caller: String,
    length: String,
    reason: String,
    is_failure: bool,
    is_running: bool,
    cost: Option<String>,
    anomalies: u64,
    test: bool,
}

/// What was searched for, as it stands in the form.
#[derive(Debug, Default, Serialize)]
struct Search {
    assistant: String,
    caller: String,
    since: String,
    until: String,
    reason: String,
    text: String,
}

/// The newest calls.
pub async fn newest(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    list(&console, &visit, Search::default(), None).await
}

/// A search, or the next page of one.
pub async fn search(State(console): State<Arc<Console>>, posted: Posted) -> Response {
    let field = |name| posted.field(name).to_owned();
    let search = Search {
        assistant: field("assistant"),
        caller: field("caller"),
        since: field("since"),
        until: field("until"),
        reason: field("reason"),
        text: field("text"),
    };
    let before = Some(posted.field("before")).filter(|id| !id.is_empty()).map(RecordId::from);
    list(&console, &posted.visit, search, before).await
}

async fn list(console: &Console, visit: &Visit, search: Search, before: Option<RecordId>) -> Response {
    let is_first = before.is_none();
    let (rows, wrong) = match search.filter(before) {
        Ok(filter) => match console.store() {
            Ok(store) => match console.ask(store.list(&filter, PAGE + 1)).await {
                Ok(rows) => (rows, None),
                Err(why) => (Vec::new(), Some(why)),
            },
            Err(why) => (Vec::new(), Some(why)),
        },
        Err(why) => (Vec::new(), Some(why)),
    };
    let more = rows.len() > PAGE as usize;
    let rows: Vec<Row> = rows.into_iter().take(PAGE as usize).collect();
    let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
    let rows: Vec<Listed> = rows.into_iter().map(listed).collect();
    let assistants: Vec<String> =
        console.roster.borrow().iter().map(|assistant| assistant.name().to_owned()).collect();
    let reasons: Vec<&str> = REASONS.iter().map(|reason| reason.code).collect();
    let values =
        context! { rows => value(rows), next, search => value(search), assistants, reasons, wrong, is_first };
    console.pages.page(StatusCode::OK, "Calls", "calls", Some(visit), "calls.html", values)
}

impl Search {
    /// # Errors
    /// What is wrong with it, as a sentence.
    fn filter(&self, before: Option<RecordId>) -> Result<Filter, String> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let number =
            |text: String| PhoneNumber::parse(&text).map_err(|why| format!("The caller's number: {why}."));
        let day = |text: String| {
            let date = text.parse::<Date>().map_err(|_| "A day is written like 2026-11-30.".to_owned());
            date.and_then(|date| date.to_zoned(TimeZone::UTC).map_err(|why| why.to_string()))
        };
        let until = given(&self.until).map(day).transpose()?;
        let after = until.map(|day| day.checked_add(1.day()).map(|day| day.timestamp()));
        Ok(Filter {
            assistant: given(&self.assistant),
            caller: given(&self.caller).map(number).transpose()?,
            since: given(&self.since).map(day).transpose()?.map(|day| day.timestamp()),
            until: after.map(|after| after.unwrap_or(Timestamp::MAX)),
            reason: given(&self.reason),
            text: given(&self.text),
            before,
        })
    }
}

fn listed(row: Row) -> Listed {
    Listed {
        id: row.id.to_string(),
        started: moment(row.started),
        assistant: row.assistant.unwrap_or_else(|| "–".to_owned()),
        caller: party(row.from.as_deref()).to_owned(),
        length: length(row.seconds),
        is_failure: row.broken_off || row.reason.as_deref().is_some_and(super::is_failure),
        is_running: row.reason.is_none(),
        reason: row.reason.unwrap_or_else(|| "in progress".to_owned()),
        cost: row.cost.map(dollars),
        anomalies: row.anomalies,
        test: row.test,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_becomes_a_filter_or_a_sentence() {
        let search = Search {
            caller: "+15550100100".to_owned(),
            since: "2026-11-30".to_owned(),
            until: "2026-11-30".to_owned(),
            ..Search::default()
        };
        let filter = search.filter(None).unwrap();
        assert_eq!(filter.since.unwrap().to_string(), "2026-11-30T00:00:00Z");
        assert_eq!(filter.until.unwrap().to_string(), "2026-12-01T00:00:00Z");
        assert!(filter.caller.is_some() && filter.assistant.is_none());
        for (caller, since) in [("nonsense", ""), ("", "yesterday")] {
            let search = Search { caller: caller.to_owned(), since: since.to_owned(), ..Search::default() };
            search.filter(None).unwrap_err();
        }
    }
}
