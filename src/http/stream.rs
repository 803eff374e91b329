//! The upgrade of a media stream: refused before it happens, unless signature and ticket are good.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::Door;
use super::guard::{refused, stream_is_signed};
use crate::observe::metrics;
use crate::wire::twilio::media_stream::MAX_MESSAGE;

/// Small: the library's default of 128 KiB is filled with zeros at reads. A usual frame has 400 bytes.
const READ_BUFFER: usize = 4 * 1024;

/// A stream knocks. Signature before ticket; a refused request uses nothing up.
pub async fn media_stream(
    State(door): State<Door>,
    uri: Uri,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Err(refusal) = stream_is_signed(&door, &headers, uri.path()) {
        return refused(refusal);
    }
    let Ok(upgrade) = upgrade else {
        metrics::refused("stream", "not_an_upgrade");
        return (StatusCode::UPGRADE_REQUIRED, "Upgrade Required").into_response();
    };
    let stream = match door.house().admit(&ticket) {
        Ok(stream) => stream,
        Err(why) => {
            metrics::refused("ticket", why.code());
            return (StatusCode::FORBIDDEN, "Forbidden").into_response();
        }
    };
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        // The session owns the socket; where it has ended meanwhile, the socket closes.
        .on_upgrade(|socket| async move { drop(stream.send(socket)) })
}
