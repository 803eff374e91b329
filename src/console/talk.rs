//! A phone in the browser. The console is the telephone company: it begins the call, and it says what follows a stream.
//!
//! The browser speaks Media Streams to `/media-stream/{ticket}`, as Twilio does. Only a session gets a ticket, and each
//! ticket lets one stream in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use minijinja::context;
use serde_json::{Value, json};

use super::Console;
use super::assistants::CALLER;
use super::visit::{Posted, Visit};
use crate::assistant::plan::OnFailure;
use crate::http::elsewhere;
use crate::phone::{Party, PhoneNumber};
use crate::session::{Next, Trial, Tried};
use crate::wire::twilio::signature::stream_base;
use crate::wire::twilio::webhook::DialStatus;

/// The account in the browser's messages. There is none.
const ACCOUNT: &str = "AC00000000000000000000000000000000";

/// The phone.
pub async fn page(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    let roster = console.roster.borrow().clone();
    let assistants: Vec<_> = roster
        .iter()
        .map(|assistant| context! { name => assistant.name(), description => assistant.description() })
        .collect();
    let values = context! { assistants, caller => CALLER, account => ACCOUNT };
    console.pages.page(StatusCode::OK, "Talk", "talk", Some(&visit), "talk.html", values)
}

/// Begins a call.
pub async fn begin(State(console): State<Arc<Console>>, posted: Posted) -> Response {
    let caller = match posted.field("caller") {
        "withheld" => Ok(Party::Withheld),
        "unknown" => Ok(Party::Number(unknown())),
        _ => {
            let number = Some(posted.field("number")).filter(|number| !number.is_empty());
            PhoneNumber::parse(number.unwrap_or(CALLER)).map(Party::Number)
        }
    };
    let at = match posted.field("at") {
        "" => Ok(None),
        at => at.parse().map(Some),
    };
    let (caller, at) = match (caller, at) {
        (Ok(caller), Ok(at)) => (caller, at),
        (Err(why), _) => return wrong(StatusCode::BAD_REQUEST, "number", &format!("The number: {why}")),
        (_, Err(why)) => return wrong(StatusCode::BAD_REQUEST, "at", &format!("The time: {why}")),
    };
    let trial = Trial { assistant: posted.field("assistant").to_owned(), caller, at };
    match console.switchboard.try_out(trial) {
        Tried::Stream { call, ticket, notice } => {
            let mut begun = stream(&console, &posted, &ticket);
            begun["call"] = call.as_str().into();
            begun["account"] = ACCOUNT.into();
            begun["live"] = format!("/console/live/now/{}", call.as_str()).into();
            // What the telephone company says before the stream.
            begun["say"] = notice.map(|notice| notice.say).into();
            Json(begun).into_response()
        }
        Tried::Unknown => wrong(StatusCode::NOT_FOUND, "assistant", "There is no such assistant."),
        Tried::BadTime => wrong(StatusCode::BAD_REQUEST, "at", "The time is beyond the calendar."),
        Tried::Draining => wrong(StatusCode::SERVICE_UNAVAILABLE, "draining", "The server is ending."),
        Tried::Busy => {
            let text = "Too many test calls at once. Hang one up first.";
            wrong(StatusCode::SERVICE_UNAVAILABLE, "busy", text)
        }
        Tried::Sorry(on_failure) => Json(sorry(&on_failure)).into_response(),
    }
}

/// A stream has ended, or a dialing: what next?
pub async fn follow(
    State(console): State<Arc<Console>>,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> Response {
    let dialed = match posted.field("dialed") {
        "answered" => Some(DialStatus::Completed),
        "busy" => Some(DialStatus::Busy),
        "no_answer" => Some(DialStatus::NoAnswer),
        "failed" => Some(DialStatus::Failed),
        _ => None,
    };
    // A person who answers has the caller from then on: the call is over for us.
    let is_over = posted.field("over") == "1" || dialed == Some(DialStatus::Completed);
    let after = match console.switchboard.after_trial(&ticket, dialed, is_over).await {
        Ok(after) => after,
        Err(Some(machine)) => {
            let lost = || wrong(StatusCode::NOT_FOUND, "lost", "Another machine has this call.");
            return elsewhere(&headers, &machine).unwrap_or_else(lost);
        }
        Err(None) => return wrong(StatusCode::NOT_FOUND, "unknown", "There is no such test call."),
    };
    if let Some(known) = &after.known {
        let known: Value = serde_json::from_str(known).unwrap_or_default();
        return Json(known).into_response();
    }
    let answer = match &after.next {
        Next::Stream { ticket } => {
            let mut next = stream(&console, &posted, ticket);
            next["then"] = "stream_again".into();
            next
        }
        Next::Press { keys, ticket } => {
            let mut next = stream(&console, &posted, ticket);
            next["then"] = "press".into();
            next["digits"] = keys.expose().into();
            next
        }
        Next::Dial { number, ring } => {
            let follow = format!("/console/talk/{ticket}");
            json!({ "then": "dial", "number": number.expose(), "ring": ring.as_secs(), "follow": follow })
        }
        Next::Sorry(on_failure) => sorry(on_failure),
        Next::Nothing | Next::HangUp | Next::RingElsewhere | Next::Unknown | Next::NotHere { .. } => {
            json!({ "then": "hang_up" })
        }
    };
    console.switchboard.answered(&after, &answer.to_string());
    Json(answer).into_response()
}

/// Where a stream with this ticket goes, under the address that the browser used.
fn stream(console: &Console, posted: &Posted, ticket: &str) -> Value {
    let base = stream_base(console.gate.base(&posted.origin));
    json!({ "stream": format!("{base}/media-stream/{ticket}"), "follow": format!("/console/talk/{ticket}") })
}

fn sorry(on_failure: &OnFailure) -> Value {
    let number = on_failure.dial.as_ref().map(PhoneNumber::expose);
    json!({ "then": "sorry", "say": on_failure.line.say, "number": number })
}

fn wrong(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": code, "message": message }))).into_response()
}

/// A number that nobody has, and no file knows.
fn unknown() -> PhoneNumber {
    let digits = rand::random::<u32>() % 10_000;
    PhoneNumber::parse(&format!("+1555019{digits:04}")).expect("it has the form of a number")
}
