//! The proof that a webhook is Twilio's: a handler that takes [`Signed`] cannot be reached without it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::Door;
use crate::link::peer::Asked;
use crate::observe::metrics;
use crate::wire::twilio::signature::{self, Body, Refusal, Signature};
use crate::wire::twilio::webhook::Form;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// How often strangers may cause a line in the log.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// A form that Twilio signed.
pub struct Signed(pub Form);

/// The same, and under which of our addresses: what is answered stays under it, since any machine that is asked next may
/// know no other.
pub struct SignedUnder(pub Form, pub String);

/// The same, with the request as it came: what another machine needs to see the signature for itself.
pub struct SignedAsItCame(pub Form, pub String, pub Asked);

impl FromRequest<Door> for Signed {
    type Rejection = Response;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Response> {
        SignedAsItCame::from_request(request, door).await.map(|SignedAsItCame(form, ..)| Self(form))
    }
}

impl FromRequest<Door> for SignedUnder {
    type Rejection = Response;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Response> {
        SignedAsItCame::from_request(request, door)
            .await
            .map(|SignedAsItCame(form, base, _)| Self(form, base))
    }
}

impl FromRequest<Door> for SignedAsItCame {
    type Rejection = Response;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let is_json = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/json"));
        let headers = parts.headers.clone();
        let method = parts.method.clone();
        let is_get = method == Method::GET || method == Method::HEAD;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let whole = Request::from_parts(parts, body);
        let body = match timeout(BODY_PATIENCE, Bytes::from_request(whole, door)).await {
            Ok(Ok(body)) => body,
            Ok(Err(rejection)) => return Err(rejection.into_response()),
            Err(_) => return Err(StatusCode::REQUEST_TIMEOUT.into_response()),
        };
        // The query of a GET is in the URL, and is signed there; only a form's body is signed by itself.
        let form = if is_get || is_json { Form::default() } else { Form::parse(&body) };
        let signed = if is_json { Body::Raw(&body) } else { Body::Form(form.pairs()) };
        let base = signed_under(door, |base| signature::webhook_urls(base, &path), signed, of(&headers));
        let base = base.map_err(|refusal| refused(door, refusal))?.to_owned();
        let form = if is_get { Form::parse(query.as_bytes()) } else { form };
        Ok(Self(form, base, Asked { method, path, headers, body }))
    }
}

/// Whether a stream's upgrade is signed by Twilio: checked when the header is there, in every spelling of its address.
///
/// # Errors
/// It is signed by somebody else.
pub fn stream_is_signed(door: &Door, headers: &HeaderMap, path: &str) -> Result<bool, Refusal> {
    let signature = of(headers);
    if signature.code.is_none() {
        return Ok(false);
    }
    signed_under(door, |base| signature::stream_urls(base, path), Body::Form(&[]), signature)?;
    Ok(true)
}

/// Which of our addresses is signed, in one of the spellings that `urls` makes of it.
fn signed_under<'a>(
    door: &'a Door,
    urls: impl Fn(&str) -> Vec<String>,
    body: Body<'_>,
    signature: Signature<'_>,
) -> Result<&'a str, Refusal> {
    let mut refusal = Refusal::Wrong;
    for base in door.signed_urls() {
        match door.0.keys.verify(&urls(base), body, signature) {
            Ok(()) => return Ok(base),
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// A stranger learns a status, the metric the reason; the log, now and then, what the owner may have set wrong.
pub fn refused(door: &Door, refusal: Refusal) -> Response {
    metrics::refused("signature", refusal.code());
    let Untold { wrong, unknown_key } = &door.0.untold;
    match refusal {
        // Scanners come without; Twilio always signs.
        Refusal::Missing => {}
        Refusal::Wrong => {
            if let Some(requests) = wrong.one_more(Instant::now()) {
                tracing::warn!(
                    requests,
                    public_url = door.public_url(),
                    "Refused requests whose signature does not fit: PUBLIC_URL must be exactly what Twilio calls, \
                     and TWILIO_AUTH_TOKEN the account's; `switchboard doctor` tries both"
                );
            }
        }
        Refusal::UnknownKey => {
            if let Some(requests) = unknown_key.one_more(Instant::now()) {
                tracing::warn!(
                    requests,
                    "Refused requests signed with a key that is not configured: TWILIO_SHARED_KEYS must have the one \
                     that the account signs with"
                );
            }
        }
    }
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}

/// The refusals that the log was not told of yet.
#[derive(Default)]
pub struct Untold {
    wrong: Rarely,
    unknown_key: Rarely,
}

/// What may happen often, and is told of once a minute at most.
#[derive(Default)]
struct Rarely(Mutex<Count>);

#[derive(Default)]
struct Count {
    untold: u64,
    told: Option<Instant>,
}

impl Rarely {
    /// It happened. Where it is time for a line: how often, since the last one.
    fn one_more(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.untold += 1;
        if count.told.is_some_and(|told| now.duration_since(told) < BETWEEN_LINES) {
            return None;
        }
        count.told = Some(now);
        Some(std::mem::take(&mut count.untold))
    }
}

fn of(headers: &HeaderMap) -> Signature<'_> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    Signature { code: text("x-twilio-signature"), settings: text("x-twilio-webhooks-signature-settings") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cause_a_line_a_minute_that_counts_them() {
        let (rarely, begun) = (Rarely::default(), Instant::now());
        for (after_secs, told) in
            [(0, Some(1)), (1, None), (59, None), (60, Some(3)), (61, None), (200, Some(2))]
        {
            assert_eq!(
                rarely.one_more(begun + Duration::from_secs(after_secs)),
                told,
                "after {after_secs} s"
            );
        }
    }
}
