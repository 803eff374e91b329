//! The proof that a webhook is Twilio's: a handler that takes [`Signed`] cannot be reached without it.

use std::time::Duration;

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

/// A form that Twilio signed.
pub struct Signed(pub Form);

/// The same, with the request as it came: what another machine needs to see the signature for itself.
pub struct SignedAsItCame(pub Form, pub Asked);

impl FromRequest<Door> for Signed {
    type Rejection = Response;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Response> {
        SignedAsItCame::from_request(request, door).await.map(|SignedAsItCame(form, _)| Self(form))
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
        let urls: Vec<_> = door.signed_urls().flat_map(|base| signature::webhook_urls(base, &path)).collect();
        // The query of a GET is in the URL, and is signed there; only a form's body is signed by itself.
        let form = if is_get || is_json { Form::default() } else { Form::parse(&body) };
        let signed = if is_json { Body::Raw(&body) } else { Body::Form(form.pairs()) };
        door.0.keys.verify(&urls, signed, of(&headers)).map_err(refused)?;
        let form = if is_get { Form::parse(query.as_bytes()) } else { form };
        Ok(Self(form, Asked { method, path, headers, body }))
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
    let urls: Vec<_> = door.signed_urls().flat_map(|base| signature::stream_urls(base, path)).collect();
    door.0.keys.verify(&urls, Body::Form(&[]), signature)?;
    Ok(true)
}

/// A stranger learns a status, the metric the reason.
pub fn refused(refusal: Refusal) -> Response {
    metrics::refused("signature", refusal.code());
    (StatusCode::FORBIDDEN, "Forbidden").into_response()
}

fn of(headers: &HeaderMap) -> Signature<'_> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    Signature { code: text("x-twilio-signature"), settings: text("x-twilio-webhooks-signature-settings") }
}
