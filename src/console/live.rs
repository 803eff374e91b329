//! Server-sent events: the parts of pages that change while they are open.
//!
//! A snapshot comes first, then changes. A client that is slow skips what it missed; one that reads nothing is dropped.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;

use super::Console;
use super::hub::{self, Shown, Topic};
use super::keys::{Session, unix_seconds};
use super::visit::Visit;
use crate::http::Streaming;
use crate::id::CallSid;

/// A client and every proxy see that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// The most clients at once.
pub const MAX_WATCHERS: usize = 256;

pub async fn now(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    events(&console, visit, Topic::Now).await
}

pub async fn call(State(console): State<Arc<Console>>, Path(call): Path<String>, visit: Visit) -> Response {
    let known = CallSid::parse(&call).filter(|call| console.switchboard.live_call(call).is_some());
    match known {
        Some(call) => events(&console, visit, Topic::Call(call)).await,
        // The browser does not come again.
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

pub async fn assistants(State(console): State<Arc<Console>>, visit: Visit) -> Response {
    events(&console, visit, Topic::Assistants).await
}

/// A client that watches.
struct Watcher {
    console: Arc<Console>,
    session: Session,
    shown: watch::Receiver<Shown>,
    is_first: bool,
    _place: OwnedSemaphorePermit,
}

async fn events(console: &Arc<Console>, visit: Visit, topic: Topic) -> Response {
    let Ok(place) = console.watchers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many open pages\n").into_response();
    };
    let watcher = Watcher {
        console: console.clone(),
        session: visit.session,
        shown: hub::watch(console, topic).await,
        is_first: true,
        _place: place,
    };
    let body = Body::from_stream(stream::unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await?;
        Some((Ok::<_, Infallible>(next), watcher))
    }));
    let mut answer = body.into_response();
    answer.extensions_mut().insert(Streaming);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

impl Watcher {
    /// What is sent next; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.is_first) {
            tokio::select! {
                () = self.console.ending.cancelled() => return None,
                changed = self.shown.changed() => changed.ok()?,
                () = sleep(HEARTBEAT) => {
                    return self.may_watch().then(|| Bytes::from_static(b": here\n\n"));
                }
            }
        }
        let shown = self.shown.borrow_and_update().clone();
        self.may_watch().then(|| event(&shown).into())
    }

    /// The session may have ended meanwhile.
    fn may_watch(&self) -> bool {
        self.console.gate.keys.holds(&self.session, unix_seconds())
    }
}

/// An event with this HTML.
fn event(html: &str) -> String {
    let mut event = String::with_capacity(html.len() + 256);
    for line in html.split(['\n', '\r']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_part_becomes_a_field_of_its_own() {
        assert_eq!(
            event("<p>\nevent: x\r\n\n</p>"),
            "data: <p>\ndata: event: x\ndata: \ndata: \ndata: </p>\n\n"
        );
    }
}
