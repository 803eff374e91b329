//! *Now*: the calls in progress, one of them as it happens, and the last 24 hours.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use minijinja::{Value, context};
use serde::Serialize;
use tokio::time::timeout;

use super::Console;
use super::conversation::{Item, items};
use super::figures::{self, Figure};
use super::shown::{clipped, dollars, length, moment, party, value};
use super::visit::{Posted, Visit};
use crate::id::CallSid;
use crate::record::CallRecord;
use crate::session::{Glance, LiveCall, Speaker, State as Doing};
use crate::store::Row;

/// The most calls in the list.
const MOST: usize = 100;
/// The most turns of a call that are shown while it runs.
const MOST_TURNS: usize = 200;
/// The most letters of the last words in the list.
const WORDS: usize = 160;
/// How old what the store says about other machines may be.
const OTHERS_AGE: Duration = Duration::from_secs(3);
/// How long the list of calls waits for them.
const OTHERS_PATIENCE: Duration = Duration::from_secs(1);
/// How old the figures of the day may be.
const FIGURES_AGE: Duration = Duration::from_secs(20);

/// A call in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct InProgress {
    /// Its SID; `None` for one of another machine, which alone shows it as it happens.
    call: Option<String>,
    record: String,
    assistant: String,
    caller: String,
    called: String,
    length: String,
    state: &'static str,
    doing: &'static str,
    speaks: Option<&'static str>,
    words: Option<String>,
    cost: Option<String>,
    test: bool,
    elsewhere: bool,
}

/// The first page.
pub async fn page(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    let calls = calls_part(&console).await;
    let (figures, store_says) = match figures(&console).await {
        Ok(figures) => (figures, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let values = context! { calls, figures => value(figures), store_says };
    console.pages.page(StatusCode::OK, "Now", "now", Some(&visit), "now.html", values)
}

/// One call as it happens.
pub async fn call(State(console): State<Arc<Console>>, Path(sid): Path<String>, visit: Visit) -> Response {
    let Some(call) = CallSid::parse(&sid) else { return no_call(&console, &visit) };
    let live = console.switchboard.live_call(&call);
    if live.is_none() {
        // It is over: its record has the same SID.
        return match console.record(&sid).await {
            Ok(Some(record)) => Redirect::to(&format!("/console/calls/{}", record.id)).into_response(),
            _ => no_call(&console, &visit),
        };
    }
    let part = call_part(&console, &call, live.as_ref());
    let values = context! { part, call => call.as_str() };
    console.pages.page(StatusCode::OK, "Call in progress", "now", Some(&visit), "now_call.html", values)
}

fn no_call(console: &Console, visit: &Visit) -> Response {
    let text = "This call is over, or another machine has it. Look among the calls.";
    console.pages.message(StatusCode::NOT_FOUND, "No such call", text, visit)
}

/// Ends it, with a goodbye.
pub async fn end(State(console): State<Arc<Console>>, Path(sid): Path<String>, posted: Posted) -> Response {
    let ended = CallSid::parse(&sid).is_some_and(|call| console.switchboard.end_call(&call));
    if !ended {
        return no_call(&console, &posted.visit);
    }
    tracing::info!(call = sid, "The owner ends this call");
    Redirect::to(&format!("/console/now/{sid}")).into_response()
}

/// The list of calls in progress.
pub async fn calls_part(console: &Console) -> Value {
    let live = console.switchboard.live_calls();
    let (draining, all) = (console.switchboard.is_draining(), live.len());
    let mut rows: Vec<InProgress> = live.iter().rev().take(MOST).map(in_progress).collect();
    let ours: Vec<String> = live.iter().map(|call| call.live.borrow().id.to_string()).collect();
    let mut others = 0;
    for row in others_of(console).await.iter().filter(|row| !ours.contains(&row.id.to_string())) {
        others += 1;
        if rows.len() < MOST {
            rows.push(elsewhere(row));
        }
    }
    let more = (all + others).saturating_sub(rows.len());
    console.pages.part_or_error(
        "_calls_now.html",
        context! { rows => value(rows), more, draining, total => all + others },
    )
}

fn in_progress(call: &LiveCall) -> InProgress {
    let glance = call.live.borrow();
    let record = glance.latest(1);
    let spoken = record.turns.last().and_then(|turn| turn.text.as_deref());
    InProgress {
        call: Some(call.call.as_str().to_owned()),
        record: glance.id.to_string(),
        length: since(&record, &glance),
        words: spoken.map(|text| clipped(text, WORDS)),
        speaks: speaks(&glance),
        state: glance.state.code(),
        doing: doing(glance.state),
        cost: record.cost.as_ref().map(|cost| dollars(cost.total)),
        caller: party(record.from.as_deref()).to_owned(),
        called: party(record.to.as_deref()).to_owned(),
        assistant: record.assistant.unwrap_or_default(),
        test: record.test,
        elsewhere: false,
    }
}

fn elsewhere(row: &Row) -> InProgress {
    InProgress {
        call: None,
        record: row.id.to_string(),
        assistant: row.assistant.clone().unwrap_or_default(),
        caller: party(row.from.as_deref()).to_owned(),
        called: party(row.to.as_deref()).to_owned(),
        length: length(row.seconds),
        state: Doing::Talking.code(),
        doing: "at another machine, a few seconds ago",
        speaks: None,
        words: None,
        cost: row.cost.map(dollars),
        test: row.test,
        elsewhere: true,
    }
}

/// How long the call has lasted.
fn since(record: &CallRecord, glance: &Glance) -> String {
    if glance.state == Doing::Over {
        return length(record.seconds);
    }
    length(Timestamp::now().duration_since(record.started).as_secs_f64())
}

fn speaks(glance: &Glance) -> Option<&'static str> {
    glance.speaks.map(|who| match who {
        Speaker::Caller => "the caller",
        Speaker::Assistant => "the assistant",
    })
}

fn doing(state: Doing) -> &'static str {
    match state {
        Doing::Ringing => "ringing",
        Doing::Talking => "talking",
        Doing::Tool => "using a tool",
        Doing::Away => "being transferred",
        Doing::Reconnecting => "reconnecting",
        Doing::Over => "over",
    }
}

/// One call, with its conversation. One that is over stays as it was.
pub fn call_part(console: &Console, call: &CallSid, live: Option<&LiveCall>) -> Value {
    let Some(live) = live else {
        return console.pages.part_or_error("_call_over.html", context! { call => call.as_str() });
    };
    let (record, state) = {
        let glance = live.live.borrow();
        (glance.latest(MOST_TURNS), glance.state)
    };
    let items: Vec<Item> = items(&record);
    let facts = in_progress(live);
    let conversation =
        console.pages.part_or_error("_conversation.html", context! { items => value(items), live => true });
    let values = context! {
        call => value(facts),
        is_over => state == Doing::Over,
        started => moment(record.started),
        first_word => record.first_word_ms.map(super::shown::wait),
        interruptions => record.interruptions,
        reason => record.reason,
        conversation,
    };
    console.pages.part_or_error("_call_now.html", values)
}

/// The calls of all machines that run, as the store has them. Without an answer there are none: our own are shown at once.
async fn others_of(console: &Console) -> Vec<Row> {
    let Some(store) = &console.store else { return Vec::new() };
    let question = async {
        let answer = timeout(OTHERS_PATIENCE, console.ask(store.under_way(MOST as u32))).await;
        answer.unwrap_or_else(|late| Err(late.to_string()))
    };
    console.others.get(OTHERS_AGE, question).await.unwrap_or_default()
}

/// The figures of the day, or why there are none.
async fn figures(console: &Console) -> Result<Vec<Figure>, String> {
    let store = console.store()?;
    console.figures.get(FIGURES_AGE, console.ask(figures::read(store, Timestamp::now()))).await
}
