//! One call of the history, explained; its record, its recording, and its end.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::stream;
use minijinja::{Value, context};

use super::Console;
use super::conversation::items;
use super::shown::{clock, dollars, length, moment, party, value, wait};
use super::timeline::timeline;
use super::visit::{Posted, Visit};
use crate::http::Streaming;
use crate::record::{CallRecord, Cost, explain, reason};
use crate::recording::Readable;

/// The page.
pub async fn page(State(console): State<Arc<Console>>, Path(id): Path<String>, visit: Visit) -> Response {
    let record = match found(&console, &id, &visit).await {
        Ok(record) => record,
        Err(answer) => return answer,
    };
    if record.id.as_str() != id {
        return Redirect::to(&format!("/console/calls/{}", record.id)).into_response();
    }
    let conversation = console
        .pages
        .part_or_error("_conversation.html", context! { items => value(items(&record)), live => false });
    let ended = record.reason.as_deref();
    let findings: Vec<Value> = explain(&record)
        .into_iter()
        .map(|finding| {
            let evidence: Vec<Value> = finding
                .evidence
                .into_iter()
                .map(|it| context! { ms => it.at_ms, at => it.at_ms.map(clock), what => it.what })
                .collect();
            context! { code => finding.code, what => finding.what, advice => finding.advice, evidence }
        })
        .collect();
    let picture = timeline(&record);
    let values = context! {
        id => record.id.as_str(),
        call => record.call,
        assistant => record.assistant,
        version => record.assistant_version,
        caller => party(record.from.as_deref()),
        called => party(record.to.as_deref()),
        started => moment(record.started),
        length => length(record.seconds),
        reason => ended,
        why => ended.and_then(reason).map(|known| known.what),
        is_failure => record.broken_off || ended.is_some_and(super::is_failure),
        broken_off => record.broken_off,
        test => record.test,
        simulated => record.simulated,
        first_word => record.first_word_ms.map(wait),
        longest_silence => wait(record.longest_silence_ms),
        interruptions => record.interruptions,
        costs => record.cost.as_ref().map(costs),
        unpriced => record.unpriced.join(", "),
        tokens => context! { taken => record.tokens.taken, made => record.tokens.made },
        summary => record.summary,
        fields => record.fields.as_ref().map(fields),
        message => record.message,
        anomalies => record.anomalies.iter().map(|(code, count)| context! { code, count }).collect::<Vec<_>>(),
        has_recording => record.recording.is_some(),
        timeline => picture,
        conversation,
        findings,
    };
    console.pages.page(StatusCode::OK, "One call", "calls", Some(&visit), "call.html", values)
}

/// What it cost, by kind.
fn costs(cost: &Cost) -> Value {
    let parts: Vec<Value> = [
        ("Model", cost.model),
        ("Transcription", cost.transcription),
        ("Carrier, estimated", cost.carrier_estimate),
    ]
    .into_iter()
    .map(|(name, amount)| context! { name, amount => format!("${amount:.4}") })
    .collect();
    let reconnects =
        Some(cost.reconnects).filter(|amount| *amount > 0.0).map(|amount| format!("${amount:.4}"));
    context! { parts, reconnects, total => dollars(cost.total), prices => cost.prices.as_str() }
}

/// The fields of the form after the call.
fn fields(fields: &serde_json::Value) -> Vec<Value> {
    let all = fields.as_object().into_iter().flatten();
    let text = |it: &serde_json::Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    all.map(|(name, it)| context! { name, value => text(it) }).collect()
}

/// The record, or the answer that says why not.
async fn found(console: &Console, id: &str, visit: &Visit) -> Result<CallRecord, Response> {
    let say = |status, title, text: &str| console.pages.message(status, title, text, visit);
    match console.record(id).await {
        Ok(Some(record)) => Ok(record),
        Ok(None) => {
            let text = "It was erased, or is too old, or is not written yet.";
            Err(say(StatusCode::NOT_FOUND, "No such call", text))
        }
        Err(why) => Err(say(StatusCode::SERVICE_UNAVAILABLE, "The store does not answer", &why)),
    }
}

/// The record as JSON.
pub async fn json(State(console): State<Arc<Console>>, Path(id): Path<String>, visit: Visit) -> Response {
    match found(&console, &id, &visit).await {
        Ok(record) => {
            let text = serde_json::to_string_pretty(&record).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(answer) => answer,
    }
}

/// Asks first, then erases.
pub async fn erase(State(console): State<Arc<Console>>, Path(id): Path<String>, posted: Posted) -> Response {
    let visit = &posted.visit;
    let record = match found(&console, &id, visit).await {
        Ok(record) => record,
        Err(answer) => return answer,
    };
    if record.reason.is_none() {
        let text = "A call in progress cannot be erased. End it first.";
        return console.pages.message(StatusCode::CONFLICT, "Not erased", text, visit);
    }
    if posted.field("confirm") != "yes" {
        let has_recording = record.recording.is_some();
        let values = context! { id => record.id.as_str(), started => moment(record.started), has_recording };
        return console.pages.page(
            StatusCode::OK,
            "Erase this call?",
            "calls",
            Some(visit),
            "erase.html",
            values,
        );
    }
    let erased = match console.store() {
        Ok(store) => console.ask(store.erase_call(record.id.as_str())).await,
        Err(why) => Err(why),
    };
    let mut left = match erased {
        Ok(erased) => erased.left.iter().map(|left| format!("{}: {}", left.what, left.why)).collect(),
        Err(why) => vec![why],
    };
    if let Some(recording) = record.recording.as_ref().filter(|_| left.is_empty())
        && let Err(why) = console.archive.remove(recording).await
    {
        left.push(why.to_string());
    }
    if left.is_empty() {
        tracing::info!(record = %record.id, "The owner erased the record of a call");
        return Redirect::to("/console/calls").into_response();
    }
    let text = format!("Not everything is erased. {}", left.join("; "));
    console.pages.message(StatusCode::SERVICE_UNAVAILABLE, "Not erased", &text, visit)
}

/// The recording, whole or a range of it.
pub async fn recording(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    visit: Visit,
) -> Response {
    let record = match found(&console, &id, &visit).await {
        Ok(record) => record,
        Err(answer) => return answer,
    };
    let Some(recording) = record.recording else { return StatusCode::NOT_FOUND.into_response() };
    let readable = match console.archive.find(&recording).await {
        Ok(Some(readable)) => readable,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(why) => return (StatusCode::BAD_GATEWAY, format!("{why}\n")).into_response(),
    };
    let size = readable.size;
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, from, to) = match asked.map(|asked| range(asked, size)) {
        None | Some(Asked::Everything) => (StatusCode::OK, 0, size),
        Some(Asked::Part(from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(Asked::Beyond) => {
            let range = format!("bytes */{size}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
        }
    };
    let mut answer = (status, Body::from_stream(parts(readable, from, to))).into_response();
    answer.extensions_mut().insert(Streaming);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/wav"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::from_str(&format!("bytes {from}-{}/{size}", to - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    answer
}

/// The bytes, a part at a time.
fn parts(readable: Readable, from: u64, to: u64) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((readable, from), move |(readable, at)| async move {
        if at >= to {
            return Ok(None);
        }
        let end = to.min(at + Readable::PART);
        let part = readable.read(at..end).await?;
        Ok(Some((part, (readable, end))))
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Everything,
    /// From this byte to before that one.
    Part(u64, u64),
    Beyond,
}

/// Reads `bytes=…` (RFC 9110, 14.2). What is not understood, or several ranges, is answered with everything.
fn range(asked: &str, size: u64) -> Asked {
    let Some((from, to)) = asked.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Everything;
    };
    let number =
        |text: &str| Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let (from, to) = match (from.trim(), to.trim()) {
        ("", last) => match number(last) {
            Some(last) => (size.saturating_sub(last), size),
            None => return Asked::Everything,
        },
        (from, "") => match number(from) {
            Some(from) => (from, size),
            None => return Asked::Everything,
        },
        (from, to) => match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => (from, to.saturating_add(1).min(size)),
            _ => return Asked::Everything,
        },
    };
    if from < to { Asked::Part(from, to) } else { Asked::Beyond }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_file() {
        for (asked, expected) in [
            ("bytes=0-99", Asked::Part(0, 100)),
            ("bytes=100-", Asked::Part(100, 1_000)),
            ("bytes=-10", Asked::Part(990, 1_000)),
            ("bytes=990-5000", Asked::Part(990, 1_000)),
            ("bytes=-5000", Asked::Part(0, 1_000)),
            ("bytes=1000-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=5-4", Asked::Everything),
            ("bytes=0-1,5-6", Asked::Everything),
            ("bytes=+1-2", Asked::Everything),
            ("items=0-1", Asked::Everything),
        ] {
            assert_eq!(range(asked, 1_000), expected, "{asked}");
        }
    }
}
