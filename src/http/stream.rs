//! The upgrade of a media stream: refused before it happens, unless signature and ticket are good.
//!
//! A ticket of another machine sends the stream there. Where that machine is gone, this one serves it from its own
//! roster: for that the upgrade must be signed, in time, and the first with its ticket, here and, as far as it can
//! still be asked, where the ticket was issued.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::guard::{refused, stream_is_signed};
use super::{Door, replay};
use crate::link::peer::{Asked, FORWARDED, SERVED, machine_name};
use crate::observe::metrics;
use crate::session::{Adoption, Refused, TICKET_LIFE};
use crate::wire::twilio::media_stream::MAX_MESSAGE;

/// Small: the library's default of 128 KiB is filled with zeros at reads. A usual frame has 400 bytes.
const READ_BUFFER: usize = 4 * 1024;
/// A ticket is not given up: it was used, or is too old. No other answer means that.
const REFUSED: StatusCode = StatusCode::GONE;
/// How long a machine may take to give a ticket up. Twilio waits about 5 s for the upgrade, a replay included.
const GIVING_UP: Duration = Duration::from_secs(1);
/// The pause before a machine that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(3);

/// A stream knocks. Signature before ticket; a refused request uses nothing up.
pub async fn media_stream(
    State(door): State<Door>,
    uri: Uri,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let signed = match stream_is_signed(&door, &headers, uri.path()) {
        Ok(signed) => signed,
        Err(refusal) => return refused(&door, refusal),
    };
    let Ok(upgrade) = upgrade else {
        if let Some(asker) = headers.get(FORWARDED).filter(|_| signed) {
            return give_up(&door, &ticket, machine_name(asker), headers.contains_key(SERVED));
        }
        metrics::refused("stream", "not_an_upgrade");
        return (StatusCode::UPGRADE_REQUIRED, "Upgrade Required").into_response();
    };
    let stream = match door.switchboard().admit(&ticket) {
        Ok(stream) => stream,
        Err(Refused::Foreign) => match foreign(&door, &ticket, uri.path(), headers, signed).await {
            Ok(stream) => stream,
            Err(response) => return response,
        },
        // One with other tokens may have sealed the ticket. For a stranger nothing is sent on.
        Err(Refused::Unknown) if signed => {
            return door.elsewhere_once(&headers).unwrap_or_else(|| forbidden(Refused::Unknown));
        }
        Err(why) => return forbidden(why),
    };
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        // The session owns the socket; where it has ended meanwhile, the socket closes.
        .on_upgrade(|socket| async move { drop(stream.send(socket)) })
}

/// A stream with a ticket that is not of this process.
async fn foreign(
    door: &Door,
    ticket: &str,
    path: &str,
    headers: HeaderMap,
    signed: bool,
) -> Result<oneshot::Sender<WebSocket>, Response> {
    let issuer = door.switchboard().issuer(ticket);
    if let Some(machine) = &issuer
        && !replay::was_tried(&headers)
    {
        return Err(replay::to(machine));
    }
    // That the issuer is gone, anybody can say. Twilio alone can sign.
    if !signed {
        metrics::refused("ticket", "ticket_unsigned");
        return Err((StatusCode::FORBIDDEN, "Forbidden").into_response());
    }
    let adoption = door.switchboard().may_adopt(ticket).map_err(forbidden)?;
    let asked = Asked {
        method: Method::GET,
        path: path.to_owned(),
        headers: signature_only(headers),
        body: Bytes::new(),
    };
    // It goes on though nobody waits for the answer any more: what the issuer gives up is here, or nowhere.
    let taking = tokio::spawn(take_over(door.clone(), issuer, asked, adoption));
    taking.await.unwrap_or(Err(Refused::Unknown)).map_err(forbidden)
}

/// Has the issuer give its ticket up, and serves the stream here.
///
/// # Errors
/// The ticket is used.
async fn take_over(
    door: Door,
    issuer: Option<String>,
    asked: Asked,
    adoption: Adoption,
) -> Result<oneshot::Sender<WebSocket>, Refused> {
    let (Some(machine), Some(peers)) = (issuer, &door.0.peers) else {
        return door.switchboard().adopt(adoption);
    };
    // One that cannot be reached is gone. One that stumbles, is too old to understand, does not know who signed, or was
    // started again meanwhile, has not refused.
    let answer = peers.ask(&machine, &asked, GIVING_UP).await;
    if answer.as_ref().is_ok_and(|answer| answer.status == REFUSED) {
        return Err(Refused::Used);
    }
    let stream = door.switchboard().adopt(adoption)?;
    if answer.is_err() {
        tokio::spawn(ask_again(door.clone(), machine, asked));
    }
    Ok(stream)
}

/// A machine that did not answer may yet live, and wait for the stream that is served here: it is told, while its ticket
/// is good, until it gives it up, or says that it was started again and knows of none.
async fn ask_again(door: Door, machine: String, mut asked: Asked) {
    let Some(peers) = &door.0.peers else { return };
    asked.headers.insert(SERVED, HeaderValue::from_static("1"));
    let until = Instant::now() + TICKET_LIFE;
    while Instant::now() < until {
        sleep(AGAIN).await;
        let answer = peers.ask(&machine, &asked, GIVING_UP).await;
        if answer.is_ok_and(|answer| answer.status.is_success() || answer.status == StatusCode::NOT_FOUND) {
            return;
        }
    }
}

/// Another machine serves the stream that this one waits for: it came there, and the way here is closed.
fn give_up(door: &Door, ticket: &str, taker: Option<String>, served: bool) -> Response {
    match door.switchboard().give_up(ticket, taker, served) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => {
            // Who only tells is refused nothing.
            if !served {
                metrics::refused("ticket", why.code());
            }
            // This process was started again under its name: nobody used the ticket here.
            if why == Refused::Unknown { StatusCode::NOT_FOUND } else { REFUSED }.into_response()
        }
    }
}

/// What the other machine verifies; the rest asks for an upgrade.
fn signature_only(headers: HeaderMap) -> HeaderMap {
    let signature = |name: &str| name.starts_with("x-twilio-");
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .filter(|(n, _)| signature(n.as_str()))
        .collect()
}

/// One body for all reasons.
fn forbidden(why: Refused) -> Response {
    metrics::refused("ticket", why.code());
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}
