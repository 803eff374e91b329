//! The two webhooks that answer with TwiML: a phone rings, and a stream has ended.

use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::guard::{SignedAsItCame, SignedUnder};
use super::{Door, replay};
use crate::assistant::plan::OnFailure;
use crate::link::peer::{ASK, Asked, FORWARDED, NoAnswer};
use crate::phone::PhoneNumber;
use crate::session::{Next, Ring};
use crate::wire::twilio::signature::stream_base;
use crate::wire::twilio::twiml::{Verb, document};
use crate::wire::twilio::webhook::CallRequest;

/// How long a person's phone rings.
const DIAL_SECONDS: u64 = 30;
/// What Twilio's voice says where no assistant can be asked.
const NOBODY: &str = "Sorry, this number is not in use. Goodbye.";
const BROKEN: &str = "Sorry, something went wrong. Please call again later. Goodbye.";
const LANGUAGE: &str = "en-US";
/// How long another machine has to answer a question that came here.
const FORWARDING: Duration = Duration::from_secs(2);
/// How long a closing machine looks for another one: the caller hears it ring.
const RINGING_ON: Duration = Duration::from_secs(5);

/// A phone rings.
pub async fn incoming_call(
    State(door): State<Door>,
    headers: HeaderMap,
    SignedUnder(form, base): SignedUnder,
) -> Response {
    let Some(request) = CallRequest::read(&form) else {
        return (StatusCode::BAD_REQUEST, "a CallSid is missing").into_response();
    };
    match door.switchboard().ring(&request) {
        Ring::Stream { ticket } => twiml(connect(&base, &ticket)),
        Ring::Busy(line) => twiml(said(&line.say, &line.language)),
        Ring::Nobody => twiml(said(NOBODY, LANGUAGE)),
        Ring::Sorry(on_failure) => twiml(sorry(&on_failure)),
        Ring::Draining => elsewhere(&door, &headers),
    }
}

/// A stream, or a `<Dial>`, has ended: what next?
pub async fn after_stream(
    State(door): State<Door>,
    Path(ticket): Path<String>,
    SignedAsItCame(form, base, asked): SignedAsItCame,
) -> Response {
    let Some(request) = CallRequest::read(&form) else {
        return (StatusCode::BAD_REQUEST, "a CallSid is missing").into_response();
    };
    let mut after = door.switchboard().after_stream(&ticket, &request).await;
    if let Some(known) = after.known {
        return twiml(known);
    }
    if let Next::NotHere { machine, otherwise } = after.next {
        match not_here(&door, machine.as_deref(), &asked, &otherwise).await {
            Some(response) => return response,
            None => after.next = *otherwise,
        }
    } else if matches!(after.next, Next::Unknown)
        && let Some(response) = unopened(&door, &asked)
    {
        return response;
    }
    let answer = match &after.next {
        Next::Nothing => document(&[]),
        Next::HangUp => document(&[Verb::Hangup]),
        Next::Sorry(on_failure) => sorry(on_failure),
        Next::Stream { ticket } => connect(&base, ticket),
        Next::Dial { number, ring } => {
            // Who is dialled sees who calls; Twilio lets us show no number but the call's own.
            let caller_id = request.from.number().or(request.to.number());
            document(&[Verb::Dial {
                number: number.expose(),
                timeout_secs: ring.as_secs(),
                caller_id: caller_id.map(PhoneNumber::expose),
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
        Next::Unknown | Next::NotHere { .. } => said(BROKEN, LANGUAGE),
    };
    door.switchboard().answered(&after, &answer);
    twiml(answer)
}

fn connect(base: &str, ticket: &str) -> String {
    let (url, action, status) = addresses(base, ticket);
    document(&[Verb::ConnectStream { url: &url, action: &action, status: &status }])
}

/// Of the stream, of what is asked after it, and of what is told about it.
fn addresses(base: &str, ticket: &str) -> (String, String, String) {
    let url = format!("{}/media-stream/{ticket}", stream_base(base));
    (url, action(base, ticket), format!("{base}/stream-status"))
}

fn action(base: &str, ticket: &str) -> String {
    format!("{base}/after-stream/{ticket}")
}

fn said(text: &str, language: &str) -> String {
    document(&[Verb::Say { text, language }, Verb::Hangup])
}

fn sorry(on_failure: &OnFailure) -> String {
    let say = Verb::Say { text: &on_failure.line.say, language: &on_failure.line.language };
    match &on_failure.dial {
        Some(number) => {
            let (number, timeout_secs) = (number.expose(), DIAL_SECONDS);
            document(&[say, Verb::Dial { number, timeout_secs, caller_id: None, action: None }, Verb::Hangup])
        }
        None => document(&[say, Verb::Hangup]),
    }
}

/// The ticket is none that this machine can open, or of another call: a machine with other tokens may. `None`: none is
/// left to be asked.
fn unopened(door: &Door, asked: &Asked) -> Option<Response> {
    if asked.headers.contains_key(FORWARDED) {
        return Some((StatusCode::NOT_FOUND, "Not Found").into_response());
    }
    door.elsewhere_once(&asked.headers)
}

/// The call is not of this process. Its own machine is asked, and whom that one names; where it is gone, any other may have taken the
/// call over. `None`: nobody else can be asked, and what this roster says holds.
async fn not_here(door: &Door, machine: Option<&str>, asked: &Asked, otherwise: &Next) -> Option<Response> {
    if asked.headers.contains_key(FORWARDED) {
        // Who asks has a roster too, and may know others.
        let mut response = (StatusCode::NOT_FOUND, "Not Found").into_response();
        if let Some(machine) = machine.and_then(|machine| HeaderValue::from_str(machine).ok()) {
            response.headers_mut().insert(ASK, machine);
        }
        return Some(response);
    }
    let mut next = machine.map(str::to_owned);
    // The caller hears nothing all the while.
    let until = Instant::now() + FORWARDING;
    // Who gave the call up knows who has it.
    for _ in 0..2 {
        let (Some(machine), Some(peers)) = (next.take(), &door.0.peers) else { break };
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
                    "The call's machine does not know it"
                );
                next = answer.ask.filter(|other| *other != machine);
            }
            // It has the call, so nobody else knows better.
            Err(NoAnswer::Late) => {
                tracing::warn!(machine, "The call's machine does not answer in time");
                return None;
            }
            Err(error) => tracing::warn!(machine, %error, "The call's machine does not answer"),
        }
    }
    // Worth a detour, its only one, where this machine could do no better than to apologise.
    let sorry = matches!(otherwise, Next::Sorry(_) | Next::Unknown);
    (sorry && !replay::was_tried(&asked.headers)).then(replay::elsewhere)
}

/// The server closes: on Fly another machine takes the ring, elsewhere the number's fallback URL does.
fn elsewhere(door: &Door, headers: &HeaderMap) -> Response {
    door.elsewhere(headers, RINGING_ON)
        .unwrap_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, "draining").into_response())
}

fn twiml(document: String) -> Response {
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], document).into_response()
}
