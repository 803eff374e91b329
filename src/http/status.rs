//! What Twilio reports, and what our keepers ask.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Door;
use super::guard::Signed;
use crate::observe::metrics as count;
use crate::reload::Standing;
use crate::secret::Secret;
use crate::wire::twilio::webhook::{CallRequest, CallStatus};

/// How long another machine is looked for that may have a call.
const TELLING: Duration = Duration::from_secs(1);

/// Twilio tells how a stream fares; only what went wrong is worth a line.
pub async fn stream_status(Signed(form): Signed) -> StatusCode {
    if form.field("StreamEvent") == Some("stream-error") {
        let call = CallRequest::read(&form).map(|request| request.call.to_string()).unwrap_or_default();
        count::refused("stream", "twilio_error");
        tracing::warn!(call, error = plain(form.field("StreamError")), "Twilio reports a failed stream");
    }
    StatusCode::NO_CONTENT
}

/// Twilio tells how a call fares; its end ends ours. It bears no ticket, so where the call is not known here, another
/// machine is told, and may do the same.
pub async fn call_status(State(door): State<Door>, headers: HeaderMap, Signed(form): Signed) -> Response {
    let request = CallRequest::read(&form);
    if let Some(request) = request.filter(|request| request.status == CallStatus::Over)
        && !door.switchboard().call_is_over(&request.call)
        && let Some(replayed) = door.elsewhere(&headers, TELLING)
    {
        return replayed;
    }
    StatusCode::NO_CONTENT.into_response()
}

/// The process is alive.
pub async fn healthz() -> &'static str {
    "ok"
}

/// Whether new calls are welcome.
pub async fn readyz(State(door): State<Door>) -> Response {
    let switchboard = door.switchboard();
    let (code, status) = if switchboard.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ready")
    };
    let Standing { generation, problems } = *door.0.standing.borrow();
    let assistants = switchboard.assistants();
    let body =
        json!({"status": status, "assistants": assistants, "generation": generation, "problems": problems});
    (code, Json(body)).into_response()
}

/// Prometheus' text, for whoever bears the token; without one, there is no such page.
pub async fn metrics(State(door): State<Door>, headers: HeaderMap) -> Response {
    let Some(token) = &door.0.metrics_token else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).map(Secret::new);
    if given.is_none_or(|given| given != *token) {
        count::refused("metrics", "token");
        return StatusCode::UNAUTHORIZED.into_response();
    }
    rendered(&door)
}

/// The same, on a listener of its own.
pub async fn open_metrics(State(door): State<Door>) -> Response {
    rendered(&door)
}

fn rendered(door: &Door) -> Response {
    match &door.0.metrics {
        Some(handle) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, handle.render()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Twilio's own words, short and without digits in a row: they could be a number.
fn plain(text: Option<&str>) -> String {
    let text = text.unwrap_or("no reason given");
    crate::problem::masked(&text.chars().take(200).collect::<String>())
}
