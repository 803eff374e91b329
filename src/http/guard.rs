//! Proves that a webhook comes from Twilio: a handler that takes [`Signed`] cannot be reached otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::App;
use crate::id::CallSid;
use crate::link::peer::Asked;
use crate::observe::metrics;
use crate::wire::twilio::signature::{self, Body, Refusal, Signature};
use crate::wire::twilio::webhook::Form;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// How often refused requests are logged.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// A request that Twilio signed.
pub struct Signed {
    pub form: Form,
    /// The one of our addresses that was signed. The answer keeps it, since another machine may know no other.
    pub base: String,
    /// The request as it came, which another machine needs to check the signature.
    pub asked: Asked,
}

impl FromRequest<Arc<App>> for Signed {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let (method, uri, headers) =
            (request.method().clone(), request.uri().clone(), request.headers().clone());
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_json = content_type.is_some_and(is_json);
        let is_get = method == Method::GET || method == Method::HEAD;
        let body = match timeout(BODY_PATIENCE, Bytes::from_request(request, app)).await {
            Ok(Ok(body)) => body,
            Ok(Err(rejection)) => return Err(rejection.into_response()),
            Err(_) => return Err(StatusCode::REQUEST_TIMEOUT.into_response()),
        };
        // A GET's query is signed as part of the URL; only a form's body is signed by itself.
        let form = if is_get || is_json { Form::default() } else { Form::parse(&body) };
        let signed = if is_json { Body::Raw(&body) } else { Body::Form(form.pairs()) };
        let base =
            signed_under(app, |base| signature::webhook_urls(base, &path), signed, signature_of(&headers));
        let base = base.map_err(|refusal| refused(app, refusal))?.to_owned();
        let query = Form::parse(uri.query().unwrap_or_default().as_bytes());
        if let Some(why) = form.ambiguity().or_else(|| query.ambiguity()) {
            metrics::refused("webhook", why);
            return Err((StatusCode::BAD_REQUEST, "each parameter must be there once").into_response());
        }
        let form = if is_get { query } else { form };
        Ok(Self { form, base, asked: Asked { method, path, headers, body } })
    }
}

/// Whether a stream's upgrade is signed by Twilio. If it has the header, every spelling of its address is tried.
pub fn stream_is_signed(app: &App, headers: &HeaderMap, path: &str) -> Result<bool, Refusal> {
    let signature = signature_of(headers);
    if signature.code.is_none() {
        return Ok(false);
    }
    signed_under(app, |base| signature::stream_urls(base, path), Body::Form(&[]), signature)?;
    Ok(true)
}

/// Finds which of our addresses is signed. `urls` returns the spellings of an address.
fn signed_under<'a>(
    app: &'a App,
    urls: impl Fn(&str) -> Vec<String>,
    body: Body<'_>,
    signature: Signature<'_>,
) -> Result<&'a str, Refusal> {
    let mut refusal = Refusal::Wrong;
    for base in app.signed_urls() {
        match app.keys.verify(&urls(base), body, signature) {
            Ok(()) => return Ok(base),
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// A stranger gets a status, and the metric the reason. The log shows, now and then, what the owner may have to fix.
pub fn refused(app: &App, refusal: Refusal) -> Response {
    metrics::refused("signature", refusal.code());
    let Refusals { wrong, unknown_key, .. } = &app.refusals;
    match refusal {
        // Only scanners send none.
        Refusal::Missing => {}
        Refusal::Wrong => {
            if let Some(requests) = wrong.one_more(Instant::now()) {
                tracing::warn!(
                    requests,
                    public_url = app.public_url,
                    "Refused requests with a wrong signature. PUBLIC_URL must be exactly the address that Twilio \
                     calls, and TWILIO_AUTH_TOKEN the account's; `switchboard doctor` checks both"
                );
            }
        }
        Refusal::UnknownKey => {
            if let Some(requests) = unknown_key.one_more(Instant::now()) {
                tracing::warn!(
                    requests,
                    "Refused requests that are signed with an unknown key. Add the account's key to TWILIO_SHARED_KEYS"
                );
            }
        }
    }
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}

/// Counts the refusals that are not logged yet.
#[derive(Default)]
pub struct Refusals {
    wrong: Rarely,
    unknown_key: Rarely,
    replayed: Rarely,
}

impl Refusals {
    /// A ring of a call that has begun or is over. Twilio sends none, so somebody may have recorded its request.
    pub fn replayed(&self, call: &CallSid) {
        if let Some(requests) = self.replayed.one_more(Instant::now()) {
            tracing::warn!(requests, %call, "Refused a signed ring of a call that has begun already or is over");
        }
    }
}

/// Counts what may happen often, and is logged at most once a minute.
#[derive(Default)]
struct Rarely(Mutex<Count>);

#[derive(Default)]
struct Count {
    unlogged: u64,
    logged: Option<Instant>,
}

impl Rarely {
    /// Counts one more. Returns the count since the last line if another one is due.
    fn one_more(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.unlogged += 1;
        if count.logged.is_some_and(|logged| now.duration_since(logged) < BETWEEN_LINES) {
            return None;
        }
        count.logged = Some(now);
        Some(std::mem::take(&mut count.unlogged))
    }
}

/// Whether a `Content-Type` is JSON, whatever its parameters and case.
fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn signature_of(headers: &HeaderMap) -> Signature<'_> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    Signature { code: text("x-twilio-signature"), settings: text("x-twilio-webhooks-signature-settings") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_has_no_case() {
        for (kind, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json-seq", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_json(kind), expected, "{kind}");
        }
    }

    #[test]
    fn refusals_are_counted_and_logged_once_a_minute() {
        let (rarely, begun) = (Rarely::default(), Instant::now());
        for (after_secs, logged) in
            [(0, Some(1)), (1, None), (59, None), (60, Some(3)), (61, None), (200, Some(2))]
        {
            assert_eq!(
                rarely.one_more(begun + Duration::from_secs(after_secs)),
                logged,
                "after {after_secs} s"
            );
        }
    }
}
