//! What a handler asks for: a visit by somebody with a session, and a form that a page of that session sent.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::Console;
use super::gate::{Address, Origin};
use super::keys::{Session, unix_seconds};
use crate::http::Peer;

/// The cookie of a session. Only a page below `/console` sends it.
const COOKIE: &str = "switchboard_console";

/// Somebody with a session.
pub struct Visit {
    pub session: Session,
    pub address: Address,
    /// The token for the forms of the page.
    pub csrf: String,
}

impl FromRequestParts<Arc<Console>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Response> {
        let address = parts.extensions.get::<Address>().cloned();
        let session = cookie(&parts.headers).and_then(|text| console.gate.keys.open(text, unix_seconds()));
        match (session, address) {
            (Some(session), Some(address)) => {
                let csrf = console.gate.keys.token(&session);
                Ok(Self { session, address, csrf })
            }
            _ => Err(no_session(&parts.method, &parts.headers)),
        }
    }
}

/// A page leads to the login; a program gets a status.
fn no_session(method: &Method, headers: &HeaderMap) -> Response {
    let accepts = |kind: &str| {
        headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).is_some_and(|it| it.contains(kind))
    };
    if *method == Method::GET && accepts("text/html") {
        return Redirect::to("/console/login").into_response();
    }
    (StatusCode::UNAUTHORIZED, "Log in at /console/login\n").into_response()
}

/// A form, and who sent it. Its token was checked.
pub struct Posted {
    pub visit: Visit,
    /// The origin of the page.
    pub origin: String,
    fields: HashMap<String, String>,
}

impl FromRequest<Arc<Console>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, console).await?;
        let Form { fields, origin, .. } =
            Form::from_request(Request::from_parts(parts, body), console).await?;
        let token = fields.get("csrf").map(String::as_str).unwrap_or_default();
        if !console.gate.keys.is_token(&visit.session, token) {
            return Err((StatusCode::FORBIDDEN, "This form is of another session. Load its page again.\n")
                .into_response());
        }
        Ok(Self { visit, origin, fields })
    }
}

impl Posted {
    /// A field, without the spaces around it; empty if it is missing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map(|value| value.trim()).unwrap_or_default()
    }
}

/// A form of a page of ours, from anybody.
pub struct Form {
    pub fields: HashMap<String, String>,
    pub address: Address,
    pub origin: String,
    /// Whose attempts count together.
    pub client: Option<IpAddr>,
}

impl FromRequest<Arc<Console>> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let extensions = request.extensions();
        let (Some(address), Some(Origin(Some(origin)))) =
            (extensions.get::<Address>().cloned(), extensions.get::<Origin>().cloned())
        else {
            return Err(StatusCode::FORBIDDEN.into_response());
        };
        let peer = extensions.get::<Peer>().map(|peer| peer.0.ip());
        let client = console.gate.client(request.headers(), peer);
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
        }
        let body = Bytes::from_request(request, console).await.map_err(IntoResponse::into_response)?;
        let fields = form_urlencoded::parse(&body).into_owned().collect();
        Ok(Self { fields, address, origin, client })
    }
}

/// The session's cookie.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// The header that sets the cookie. A browser drops a `Secure` one that comes without TLS, as it may on this machine.
pub fn set_cookie(value: &str, seconds: u64, origin: &str, address: &Address) -> String {
    let in_clear = address.is_loopback && origin.starts_with("http:");
    let secure = if in_clear { "" } else { "; Secure" };
    format!("{COOKIE}={value}; Path=/console; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
