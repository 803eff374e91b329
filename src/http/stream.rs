//! The upgrade of a media stream, which needs a good signature and ticket.
//!
//! Another machine's ticket sends the stream there. If that machine is gone, this one serves the stream from its own
//! roster. For that, the upgrade must be signed, in time, and the first with its ticket: here, and at the issuer if it
//! still answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::guard::{refused, stream_is_signed};
use super::upgrade::Upgrade;
use super::{App, replay};
use crate::link::caller::Upgraded;
use crate::link::peer::{Asked, FORWARDED, SERVED, machine_name};
use crate::observe::metrics;
use crate::session::{Adoption, Refused, TICKET_LIFE};

/// The answer that refuses to give up a ticket, because it is used or old. No other answer means that.
const REFUSED: StatusCode = StatusCode::GONE;
/// How long a machine may take to give a ticket up. Twilio waits about 5 s for the upgrade, a replay included.
const GIVING_UP: Duration = Duration::from_secs(1);
/// The pause before asking a machine again that did not answer.
const AGAIN: Duration = Duration::from_secs(3);

/// Checks the signature, then the ticket. A refused request uses nothing up.
pub async fn media_stream(
    State(app): State<Arc<App>>,
    Path(ticket): Path<String>,
    mut request: Request,
) -> Response {
    let upgrade = Upgrade::requested(&mut request);
    let (path, headers) = (request.uri().path(), request.headers());
    let signed = match stream_is_signed(&app, headers, path) {
        Ok(signed) => signed,
        Err(refusal) => return refused(&app, refusal),
    };
    let Some(upgrade) = upgrade else {
        if let Some(asker) = headers.get(FORWARDED).filter(|_| signed) {
            return give_up(&app, &ticket, machine_name(asker), headers.contains_key(SERVED));
        }
        metrics::refused("stream", "not_an_upgrade");
        app.switchboard.came_without_upgrade(&ticket);
        return (StatusCode::UPGRADE_REQUIRED, "Upgrade Required").into_response();
    };
    let stream = match app.switchboard.admit(&ticket) {
        Ok(stream) => stream,
        Err(Refused::Foreign) => match foreign(&app, &ticket, path, headers.clone(), signed).await {
            Ok(stream) => stream,
            Err(response) => return response,
        },
        // A machine with other tokens may have sealed the ticket. A stranger's request is not sent on.
        Err(Refused::Unknown) if signed => {
            return app.elsewhere_once(headers).unwrap_or_else(|| forbidden(Refused::Unknown));
        }
        Err(why) => return forbidden(why),
    };
    upgrade.accept(stream)
}

/// A stream with a ticket that this process did not issue.
async fn foreign(
    app: &Arc<App>,
    ticket: &str,
    path: &str,
    headers: HeaderMap,
    signed: bool,
) -> Result<oneshot::Sender<Upgraded>, Response> {
    let issuer = app.switchboard.issuer(ticket);
    if let Some(machine) = &issuer
        && !replay::was_tried(&headers)
    {
        return Err(replay::to(machine));
    }
    // Anybody can send headers that say that the issuer is gone, but only Twilio can sign.
    if !signed {
        metrics::refused("ticket", "ticket_unsigned");
        return Err((StatusCode::FORBIDDEN, "Forbidden").into_response());
    }
    let adoption = app.switchboard.may_adopt(ticket).map_err(forbidden)?;
    let asked = Asked {
        method: Method::GET,
        path: path.to_owned(),
        headers: signature_only(headers),
        body: Bytes::new(),
    };
    // Its own task, so that it finishes even if the client disconnects: what the issuer gives up must be served here.
    let taking = tokio::spawn(take_over(app.clone(), issuer, asked, adoption));
    taking.await.unwrap_or(Err(Refused::Unknown)).map_err(forbidden)
}

/// Asks the issuer to give its ticket up, and serves the stream here.
async fn take_over(
    app: Arc<App>,
    issuer: Option<String>,
    asked: Asked,
    adoption: Adoption,
) -> Result<oneshot::Sender<Upgraded>, Refused> {
    let (Some(machine), Some(peers)) = (issuer, &app.peers) else {
        return app.switchboard.adopt(adoption);
    };
    // Only this status is a refusal. An issuer that cannot be reached, fails, runs an older version, does not know the
    // key or was restarted has not refused.
    let answer = peers.ask(&machine, &asked, GIVING_UP).await;
    if answer.as_ref().is_ok_and(|answer| answer.status == REFUSED) {
        return Err(Refused::Used);
    }
    let stream = app.switchboard.adopt(adoption)?;
    if answer.is_err() {
        tokio::spawn(ask_again(app.clone(), machine, asked));
    }
    Ok(stream)
}

/// An issuer that did not answer may still be alive and wait for the stream. It is asked until it gives the ticket up,
/// does not know it, or the ticket expires.
async fn ask_again(app: Arc<App>, machine: String, mut asked: Asked) {
    let Some(peers) = &app.peers else { return };
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

/// Another machine serves the stream that this one waits for, because the proxy could not bring it here.
fn give_up(app: &App, ticket: &str, taker: Option<String>, served: bool) -> Response {
    match app.switchboard.give_up(ticket, taker, served) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => {
            // A machine that serves the stream already is only informing us.
            if !served {
                metrics::refused("ticket", why.code());
            }
            // After a restart, this process knows no use of the ticket.
            if why == Refused::Unknown { StatusCode::NOT_FOUND } else { REFUSED }.into_response()
        }
    }
}

/// The headers that the other machine verifies; the others ask for an upgrade.
fn signature_only(headers: HeaderMap) -> HeaderMap {
    let named = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
    named.filter(|(name, _)| name.as_str().starts_with("x-twilio-")).collect()
}

/// The same body for all reasons.
fn forbidden(why: Refused) -> Response {
    metrics::refused("ticket", why.code());
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}
