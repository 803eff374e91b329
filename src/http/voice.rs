//! The two webhooks that answer with TwiML: a phone rings, and a stream has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::guard::Signed;
use super::{App, replay};
use crate::assistant::language::Words;
use crate::assistant::plan::{Line, OnFailure};
use crate::id::CallSid;
use crate::link::network::Fault;
use crate::link::peer::{ASK, Asked, FORWARDED};
use crate::observe::metrics;
use crate::phone::{Party, PhoneNumber};
use crate::session::{Next, Ring};
use crate::wire::twilio::signature::stream_base;
use crate::wire::twilio::twiml::{Verb, document, sayable};
use crate::wire::twilio::webhook::CallRequest;

/// How long the phone of `on_failure` or `busy` rings.
const DIAL_SECONDS: u64 = 30;
/// How long another machine may take to answer a question that came here.
const FORWARDING: Duration = Duration::from_secs(2);
/// How long a draining machine looks for another one. The caller hears the phone ring.
const RINGING_ON: Duration = Duration::from_secs(5);

pub async fn incoming_call(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Signed { form, base, .. }: Signed,
) -> Response {
    let Some(request) = CallRequest::read(&form) else {
        return bad_request();
    };
    match app.switchboard.ring(&request) {
        Ring::Stream { ticket, notice } => {
            let notice = notice.map(|line| said(line, |words| words.recorded));
            twiml(connect(&base, &ticket, notice.as_ref()))
        }
        Ring::Busy(busy) => twiml(say_and_dial(busy, |words| words.busy)),
        Ring::Blocked => twiml(document(&[Verb::Reject])),
        Ring::Nobody => {
            let locale = app.switchboard.words(&request.to).locale;
            twiml(say(&Line::ours(locale, |words| words.not_in_use)))
        }
        Ring::Sorry(on_failure) => twiml(sorry(on_failure)),
        Ring::Draining => elsewhere(&app, &headers),
        Ring::Replayed => replayed(&app, &request.call),
        Ring::Over => twiml(document(&[])),
    }
}

/// A stream or a `<Dial>` has ended: what next?
pub async fn after_stream(
    State(app): State<Arc<App>>,
    Path(ticket): Path<String>,
    Signed { form, base, asked }: Signed,
) -> Response {
    let Some(request) = CallRequest::read(&form) else {
        return bad_request();
    };
    let mut after = app.switchboard.after_stream(&ticket, &request).await;
    if let Some(known) = after.known {
        return twiml(known);
    }
    if let Next::NotHere { machine, otherwise } = after.next {
        match not_here(&app, machine.as_deref(), &asked, &otherwise).await {
            Some(response) => return response,
            None => after.next = *otherwise,
        }
    } else if matches!(after.next, Next::Unknown)
        && let Some(response) = unopened(&app, &asked)
    {
        return response;
    }
    let answer = match &after.next {
        Next::Nothing => document(&[]),
        Next::HangUp => document(&[Verb::Hangup]),
        Next::Sorry(on_failure) => sorry(on_failure.clone()),
        Next::Stream { ticket } => connect(&base, ticket, None),
        Next::Dial { number, ring } => {
            // The dialed person sees the caller's number; Twilio only allows the call's own numbers, not one in an address.
            let own = |party: &Party, name: &str| {
                party.number().filter(|number| form.field(name) == Some(number.expose())).cloned()
            };
            let caller_id = own(&request.from, "From").or(own(&request.to, "To"));
            document(&[Verb::Dial {
                number: number.expose(),
                timeout_secs: ring.as_secs(),
                caller_id: caller_id.as_ref().map(PhoneNumber::expose),
                action: Some(&action(&base, &ticket)),
            }])
        }
        Next::Press { keys, ticket } => {
            let (url, action, status) = addresses(&base, ticket);
            document(&[
                Verb::PlayDigits(keys.expose()),
                Verb::ConnectStream { url: &url, action: &action, status: &status },
            ])
        }
        Next::RingElsewhere => document(&[Verb::Redirect(&format!("{base}/incoming-call"))]),
        Next::Unknown | Next::NotHere { .. } => {
            let locale = app.switchboard.words(&request.to).locale;
            say(&Line::ours(locale, |words| words.lost))
        }
    };
    app.switchboard.answered(&after, &answer);
    twiml(answer)
}

/// Says the notice, word for word, and then opens the stream.
fn connect(base: &str, ticket: &str, notice: Option<&Line>) -> String {
    let (url, action, status) = addresses(base, ticket);
    let say = notice.map(|line| Verb::Say { text: &line.say, language: line.language });
    let connect = Verb::ConnectStream { url: &url, action: &action, status: &status };
    document(&say.into_iter().chain([connect]).collect::<Vec<_>>())
}

/// The addresses of the stream, of the question after it, and of its status reports.
fn addresses(base: &str, ticket: &str) -> (String, String, String) {
    let url = format!("{}/media-stream/{ticket}", stream_base(base));
    (url, action(base, ticket), format!("{base}/stream-status"))
}

fn action(base: &str, ticket: &str) -> String {
    format!("{base}/after-stream/{ticket}")
}

fn say(line: &Line) -> String {
    document(&[Verb::Say { text: &line.say, language: line.language }, Verb::Hangup])
}

fn sorry(on_failure: OnFailure) -> String {
    let ours = OnFailure::prepared(on_failure.dial.is_some());
    say_and_dial(on_failure, ours)
}

/// Says the line, or ours if Twilio would not say it, and then dials, if there is somebody.
fn say_and_dial(OnFailure { line, dial }: OnFailure, ours: fn(&Words) -> &'static str) -> String {
    let line = said(line, ours);
    let say = Verb::Say { text: &line.say, language: line.language };
    match &dial {
        Some(number) => {
            let (number, timeout_secs) = (number.expose(), DIAL_SECONDS);
            document(&[say, Verb::Dial { number, timeout_secs, caller_id: None, action: None }, Verb::Hangup])
        }
        None => document(&[say, Verb::Hangup]),
    }
}

/// A sentence as rendered for this call, or ours if Twilio would not say it.
fn said(line: Line, ours: fn(&Words) -> &'static str) -> Line {
    match sayable(&line.say) {
        Ok(()) => line,
        Err(why) => {
            tracing::warn!(
                ?why,
                "Twilio would not say a sentence of this assistant: a prepared one replaces it"
            );
            Line::ours(line.language, ours)
        }
    }
}

/// For a ticket that this machine cannot open, or of another call: a machine with other tokens may know it. `None` if
/// no machine is left to ask.
fn unopened(app: &App, asked: &Asked) -> Option<Response> {
    if asked.headers.contains_key(FORWARDED) {
        return Some((StatusCode::NOT_FOUND, "Not Found").into_response());
    }
    app.elsewhere_once(&asked.headers)
}

/// For a call of another process: asks its machine, and the one that this names. If that machine is gone, any other may
/// have taken the call over. `None` if no machine can be asked, so that our roster's answer counts.
async fn not_here(app: &App, machine: Option<&str>, asked: &Asked, otherwise: &Next) -> Option<Response> {
    if asked.headers.contains_key(FORWARDED) {
        // The machine that asks has a roster, too, and may ask others.
        let mut response = (StatusCode::NOT_FOUND, "Not Found").into_response();
        if let Some(machine) = machine.and_then(|machine| HeaderValue::from_str(machine).ok()) {
            response.headers_mut().insert(ASK, machine);
        }
        return Some(response);
    }
    let mut next = machine.map(str::to_owned);
    // The caller hears nothing meanwhile.
    let until = Instant::now() + FORWARDING;
    // A machine that gave the call up knows who has it.
    for _ in 0..2 {
        let (Some(machine), Some(peers)) = (next.take(), &app.peers) else { break };
        match peers.ask(&machine, asked, until.saturating_duration_since(Instant::now())).await {
            Ok(answer) if answer.status.is_success() => {
                let mut response = (answer.status, answer.body).into_response();
                if let Some(kind) = answer.content_type {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                return Some(response);
            }
            Ok(answer) => {
                tracing::warn!(
                    machine,
                    status = answer.status.as_u16(),
                    "The call's machine does not know the call"
                );
                next = answer.ask.filter(|other| *other != machine);
            }
            // It has the call, so no other machine can answer.
            Err(Fault::AnswerTimeout) => {
                tracing::warn!(machine, "The call's machine does not answer in time");
                return None;
            }
            Err(error) => tracing::warn!(machine, %error, "The call's machine does not answer"),
        }
    }
    // Sending it on, once, is better than an apology.
    let sorry = matches!(otherwise, Next::Sorry(_) | Next::Unknown);
    (sorry && !replay::was_tried(&asked.headers)).then(replay::elsewhere)
}

fn bad_request() -> Response {
    metrics::refused("webhook", "incomplete");
    (StatusCode::BAD_REQUEST, "CallSid or CallStatus is missing or not valid").into_response()
}

/// Should it be Twilio after all, the number's fallback URL answers.
fn replayed(app: &App, call: &CallSid) -> Response {
    app.refusals.replayed(call);
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}

/// The server drains: on Fly another machine takes the ring; elsewhere the number's fallback URL does.
fn elsewhere(app: &App, headers: &HeaderMap) -> Response {
    app.elsewhere(headers, RINGING_ON)
        .unwrap_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, "draining").into_response())
}

fn twiml(document: String) -> Response {
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], document).into_response()
}
