//! In and out.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use minijinja::context;

use super::Console;
use super::gate::{Access, Address};
use super::keys::{SESSION_LIFE, unix_seconds};
use super::visit::{Form, Posted, Visit, set_cookie};
use crate::secret::Secret;

/// `/console` is the first page.
pub async fn enter() -> Redirect {
    Redirect::to("/console/")
}

/// The form.
pub async fn form(
    State(console): State<Arc<Console>>,
    visit: Result<Visit, Response>,
    Extension(address): Extension<Address>,
) -> Response {
    match visit {
        Ok(_) => Redirect::to("/console/").into_response(),
        Err(_) => page(&console, StatusCode::OK, None, &address),
    }
}

fn page(console: &Console, status: StatusCode, wrong: Option<&str>, address: &Address) -> Response {
    let by_password = matches!(console.gate.access, Access::Password(_));
    let here = address.is_loopback;
    console.pages.page(status, "Log in", "", None, "login.html", context! { by_password, wrong, here })
}

/// Compares the password.
pub async fn log_in(State(console): State<Arc<Console>>, form: Form) -> Response {
    let Form { fields, address, origin, client } = form;
    let Access::Password(password) = &console.gate.access else {
        return page(&console, StatusCode::FORBIDDEN, None, &address);
    };
    if let Err(wait) = console.gate.attempts.begin(client, Instant::now()) {
        tracing::warn!("Refused a login of the console: too many wrong passwords");
        let wrong = "Too many attempts. Wait a minute, then try again.";
        let mut answer = page(&console, StatusCode::TOO_MANY_REQUESTS, Some(wrong), &address);
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        return answer;
    }
    let given = Secret::new(fields.get("password").map(String::as_str).unwrap_or_default());
    if given != *password {
        tracing::info!("Refused a login of the console: wrong password");
        return page(&console, StatusCode::FORBIDDEN, Some("This is not the password."), &address);
    }
    console.gate.attempts.succeeded(client);
    tracing::info!("Somebody logged in to the console");
    entered(&console, &origin, &address)
}

/// The link of `serve --console`, once.
pub async fn open(
    State(console): State<Arc<Console>>,
    Path(token): Path<String>,
    Extension(address): Extension<Address>,
) -> Response {
    let Access::Link(link) = &console.gate.access else { return StatusCode::NOT_FOUND.into_response() };
    if !link.takes(&token, unix_seconds()) {
        return page(&console, StatusCode::FORBIDDEN, Some("This link was used, or is too old."), &address);
    }
    entered(&console, "http:", &address)
}

/// The first page, with a session.
fn entered(console: &Console, origin: &str, address: &Address) -> Response {
    let (_, cookie) = console.gate.keys.begin(unix_seconds());
    redirect(&set_cookie(&cookie, SESSION_LIFE, origin, address), "/console/")
}

pub async fn log_out(State(console): State<Arc<Console>>, posted: Posted) -> Response {
    console.gate.keys.end(&posted.visit.session, unix_seconds());
    redirect(&set_cookie("", 0, &posted.origin, &posted.visit.address), "/console/login")
}

fn redirect(cookie: &str, to: &str) -> Response {
    let mut answer = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}
