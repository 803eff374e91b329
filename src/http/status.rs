//! Twilio's reports, health checks and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::App;
use super::guard::Signed;
use crate::id::CallSid;
use crate::observe::metrics as count;
use crate::reload::Standing;
use crate::secret::Secret;
use crate::wire::twilio::webhook::{CallRequest, CallStatus};

/// How long to look for another machine that may have a call.
const SENDING_ON: Duration = Duration::from_secs(1);

const INDEX: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="robots" content="noindex">
<title>Switchboard</title>
<p>This is a Switchboard server. It answers phone calls.
<p><a href="/readyz">Is it ready?</a>
</html>
"#;

/// Logs the streams that Twilio reports as failed.
pub async fn stream_status(Signed { form, .. }: Signed) -> StatusCode {
    if form.field("StreamEvent") == Some("stream-error") {
        let call = form.field("CallSid").and_then(CallSid::parse);
        let call = call.as_ref().map(CallSid::as_str);
        count::refused("stream", "twilio_error");
        tracing::warn!(call, error = plain(form.field("StreamError")), "Twilio reports a failed stream");
    }
    StatusCode::NO_CONTENT
}

/// Twilio reports a call's end, which ends ours. The report has no ticket, so if the call is unknown here, the report
/// goes on to another machine.
pub async fn call_status(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Signed { form, .. }: Signed,
) -> Response {
    let request = CallRequest::read(&form);
    if let Some(request) = request.filter(|request| request.status == CallStatus::Over)
        && !app.switchboard.call_is_over(&request.call)
        && let Some(replayed) = app.elsewhere(&headers, SENDING_ON)
    {
        return replayed;
    }
    StatusCode::NO_CONTENT.into_response()
}

/// For people who open the address in a browser.
pub async fn index() -> Html<&'static str> {
    Html(INDEX)
}

pub async fn healthz() -> &'static str {
    "ok"
}

/// Whether the server takes new calls.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let switchboard = &app.switchboard;
    let (code, status) = if switchboard.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ready")
    };
    let Standing { generation, problems } = *app.standing.borrow();
    let assistants = switchboard.assistants();
    let providers = switchboard.providers();
    let body = json!({
        "status": status, "assistants": assistants, "generation": generation, "problems": problems,
        "providers": providers,
    });
    (code, Json(body)).into_response()
}

/// The metrics for Prometheus, if the request has the token. Without a token in the settings, 404.
pub async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Some(token) = &app.metrics_token else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if bearer(&headers).map(Secret::new).is_none_or(|given| given != *token) {
        count::refused("metrics", "token");
        let scheme = [(header::WWW_AUTHENTICATE, "Bearer realm=\"metrics\"")];
        return (StatusCode::UNAUTHORIZED, scheme).into_response();
    }
    rendered(&app)
}

/// The token of an `Authorization` header. The scheme has no case (RFC 9110, 11.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// The same, on a listener of its own.
pub async fn open_metrics(State(app): State<Arc<App>>) -> Response {
    rendered(&app)
}

fn rendered(app: &App) -> Response {
    match &app.metrics {
        Some(handle) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, count::rendered(handle)).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Twilio's text, shortened and with long numbers masked.
fn plain(text: Option<&str>) -> String {
    let text = text.unwrap_or("no reason given");
    crate::problem::masked(&text.chars().take(200).collect::<String>())
}
