//! The API: what the pages show, as JSON, read-only, with a Bearer token.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Console, assistants, health};
use crate::record::RecordId;
use crate::secret::Secret;
use crate::store::Filter;

/// The calls of one page, unless `limit` says otherwise, and at most.
const PAGE: u32 = 50;
const MOST: u32 = 500;

pub fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/api/calls", get(calls))
        .route("/api/calls/{id}", get(call))
        .route("/api/assistants", get(list))
        .route("/api/health", get(show))
}

/// Somebody with the token. Without a token in the settings, there is no API.
struct Client;

impl FromRequestParts<Arc<Console>> for Client {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Response> {
        let Some(token) = &console.gate.api_token else { return Err(StatusCode::NOT_FOUND.into_response()) };
        let given = crate::http::bearer(&parts.headers).map(Secret::new);
        if given.is_some_and(|given| given == *token) {
            return Ok(Self);
        }
        let scheme = [(header::WWW_AUTHENTICATE, "Bearer realm=\"api\"")];
        Err((StatusCode::UNAUTHORIZED, scheme, Json(json!({ "error": "unauthorized" }))).into_response())
    }
}

/// The filter of `/api/calls`. A caller's number is none of it: addresses are logged by others.
#[derive(Debug, Deserialize)]
struct Asked {
    assistant: Option<String>,
    reason: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// `next` of the page before.
    before: Option<String>,
    limit: Option<u32>,
}

async fn calls(_: Client, State(console): State<Arc<Console>>, Query(asked): Query<Asked>) -> Response {
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, MOST);
    let filter = Filter {
        assistant: asked.assistant,
        reason: asked.reason,
        since: asked.since,
        until: asked.until,
        before: asked.before.as_deref().map(RecordId::from),
        ..Filter::default()
    };
    let store = match console.store() {
        Ok(store) => store,
        Err(why) => return unavailable(why),
    };
    match console.ask(store.list(&filter, limit + 1)).await {
        Ok(mut rows) => {
            let more = rows.len() > limit as usize;
            rows.truncate(limit as usize);
            let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
            answer(json!({ "calls": rows, "next": next }))
        }
        Err(why) => unavailable(why),
    }
}

async fn call(_: Client, State(console): State<Arc<Console>>, Path(id): Path<String>) -> Response {
    match console.record(&id).await {
        Ok(Some(record)) => answer(json!(record)),
        Ok(None) => (StatusCode::NOT_FOUND, Json(json!({ "error": "not_found" }))).into_response(),
        Err(why) => unavailable(why),
    }
}

async fn list(_: Client, State(console): State<Arc<Console>>) -> Response {
    let assistants: Vec<Value> = assistants::summaries(&console)
        .into_iter()
        .map(|it| {
            let off: Vec<Value> =
                it.tools_off.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect();
            json!({
                "name": it.name, "description": it.description, "numbers": it.numbers,
                "answers_the_rest": it.answers_the_rest, "version": it.version, "provider": it.provider,
                "model": it.model, "voice": it.voice, "tools": it.tools, "tools_off": off,
            })
        })
        .collect();
    answer(json!({ "assistants": assistants }))
}

async fn show(_: Client, State(console): State<Arc<Console>>) -> Response {
    answer(json!(health::health(&console).await))
}

fn answer(value: Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

fn unavailable(why: String) -> Response {
    let body = json!({ "error": "store_unavailable", "message": why });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
