//! An MCP server at an address: streamable HTTP, with our own client beneath `rmcp`'s transport.
//!
//! Our client keeps connections open, has our certificates, turns errors into a [`Trouble`], and notices a server that
//! does not speak streamable HTTP.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, RequestId, ServerJsonRpcMessage};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::{BoxedSseResponse, SseRetryPolicy};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep_until, timeout};

use super::lines::{MAX_LINE, TOO_LONG, instead};
use super::trouble::{Trouble, is_unknown_session};
use crate::link;
use crate::link::network::{Fault, same_origin};
use crate::secret::Secret;

/// How long an idle connection is kept. Many servers close it after 5 s, and a request at that moment would be lost.
const IDLE: Duration = Duration::from_secs(4);
/// How many requests one server may have at a time: each active call may have one, and it may hang.
const MAX_REQUESTS: usize = 1024;
/// At most this many event streams are opened in [`STREAMS_IN`]. The transport reopens a stream as soon as it ends, and
/// some servers end each at once.
const STREAMS: usize = 32;
const STREAMS_IN: Duration = Duration::from_secs(32);
/// How long an old server may take to begin its event stream.
const OLD_SSE: Duration = Duration::from_secs(3);

/// The client for all servers of the process.
pub fn client(tls: &ClientConfig) -> Result<reqwest::Client, reqwest::Error> {
    link::http_client(tls)
        .redirect(same_origin())
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(Duration::from_secs(30))
        .build()
}

/// The owner's headers.
pub fn headers(written: &[(String, Secret)]) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| Trouble::BadHeader)?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| Trouble::BadHeader)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The transport to a streamable HTTP server, and a witness of what its client sees.
pub fn transport(
    client: reqwest::Client,
    url: &str,
    headers: HeaderMap,
) -> (StreamableHttpClientTransport<Http>, Arc<Witness>) {
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.custom_headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect();
    config.retry_config = Arc::new(Resume);
    config.max_concurrent_requests = MAX_REQUESTS;
    config.max_json_response_size = MAX_LINE;
    config.max_sse_event_size = MAX_LINE;
    config.max_error_response_size = 4 * 1024;
    let witness = Arc::new(Witness::default());
    let client = Http { client, witness: witness.clone(), openings: Arc::default() };
    (StreamableHttpClientTransport::with_client(client, config), witness)
}

/// Whether the address is that of a server of the transport before streamable HTTP: it takes no POST, and its event
/// stream begins with the address for messages.
pub async fn is_old_sse(client: &reqwest::Client, url: &str, headers: HeaderMap) -> bool {
    let begins = async {
        let request = client.get(url).headers(headers).header(ACCEPT, "text/event-stream");
        let mut response = request.send().await.ok()?;
        let mut start = Vec::new();
        while start.len() < 1024 && !start.windows(2).any(|pair| pair == b"\n\n") {
            start.extend_from_slice(&response.chunk().await.ok()??);
        }
        Some(String::from_utf8_lossy(&start).lines().any(|line| line.trim_end() == "event: endpoint"))
    };
    timeout(OLD_SSE, begins).await.ok().flatten().unwrap_or(false)
}

/// How an event stream is resumed: at once, then twice more. Calls hang meanwhile.
#[derive(Debug)]
struct Resume;

impl SseRetryPolicy for Resume {
    fn retry(&self, times: usize) -> Option<Duration> {
        [0, 250, 1000].get(times).map(|&pause| Duration::from_millis(pause))
    }
}

/// What a client saw: the transport does not report why a session did not begin.
#[derive(Debug, Default)]
pub struct Witness(Mutex<Option<Seen>>);

/// See [`Witness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A request failed.
    Trouble(Trouble),
    /// A request was accepted without an answer, as servers made by `fly mcp launch` do.
    NoAnswer,
}

impl Witness {
    pub fn seen(&self) -> Option<Seen> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, seen: Seen) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

/// Our client beneath the transport.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    witness: Arc<Witness>,
    openings: Arc<Openings>,
}

/// When the last [`STREAMS`] streams were opened, or will be.
#[derive(Debug, Default)]
struct Openings(Mutex<VecDeque<Instant>>);

impl Openings {
    /// When the next stream may be opened.
    fn next(&self, now: Instant) -> Instant {
        let mut openings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = (openings.len() >= STREAMS).then(|| openings.pop_front()).flatten();
        let due = first.map_or(now, |first| now.max(first + STREAMS_IN));
        openings.push_back(due);
        due
    }
}

type Answer<T> = Result<T, StreamableHttpError<Trouble>>;

impl StreamableHttpClient for Http {
    type Error = Trouble;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Answer<StreamableHttpPostResponse> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits)
            .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Answer<StreamableHttpPostResponse> {
        let (id, probe) = match &message {
            ClientJsonRpcMessage::Request(request) => {
                let probe = matches!(request.request, ClientRequest::DiscoverRequest(_));
                (Some(request.id.clone()), probe)
            }
            _ => (None, false),
        };
        let post = self.client.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            custom_headers,
            limits,
        );
        let fail = |trouble| {
            self.witness.see(Seen::Trouble(trouble));
            Err(StreamableHttpError::Client(trouble))
        };
        match (post.await, id) {
            (Ok(StreamableHttpPostResponse::Accepted), Some(_)) => {
                self.witness.see(Seen::NoAnswer);
                Err(StreamableHttpError::Client(Trouble::NotMcp))
            }
            // Without the request's id, the error would reach no waiting request.
            (Ok(StreamableHttpPostResponse::Json(ServerJsonRpcMessage::Error(error), _)), Some(id))
                if !probe && error.id.as_ref().is_none_or(|answered| *answered != id) =>
            {
                fail(match error.error.code {
                    code if is_unknown_session(code) => Trouble::Rejected(400),
                    code => Trouble::RpcError(code.0),
                })
            }
            // The connection still works, so only this request fails.
            (Err(StreamableHttpError::ResponseBodyTooLarge { .. }), Some(id)) => {
                Ok(StreamableHttpPostResponse::Json(instead(TOO_LONG, id), None))
            }
            (Ok(StreamableHttpPostResponse::Sse(events, session)), Some(id)) => {
                Ok(StreamableHttpPostResponse::Sse(bounded(events, id), session))
            }
            (Ok(answer), _) => Ok(answer),
            // The transport begins a new session.
            (Err(StreamableHttpError::SessionExpired), _) => Err(StreamableHttpError::SessionExpired),
            (Err(error), _) => fail(trouble(error)),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Answer<()> {
        let deleted = self.client.delete_session(uri, session_id, auth_header, custom_headers).await;
        deleted.map_err(|error| StreamableHttpError::Client(trouble(error)))
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Answer<BoxedSseResponse> {
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            MAX_LINE,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Answer<BoxedSseResponse> {
        sleep_until(self.openings.next(Instant::now())).await;
        let stream = self.client.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            max_sse_event_size,
        );
        stream.await.map_err(|error| match error {
            // The transport must not retry these.
            StreamableHttpError::ServerDoesNotSupportSse => StreamableHttpError::ServerDoesNotSupportSse,
            StreamableHttpError::AuthRequired(challenge) => StreamableHttpError::AuthRequired(challenge),
            StreamableHttpError::InsufficientScope(challenge) => {
                StreamableHttpError::InsufficientScope(challenge)
            }
            error => StreamableHttpError::Client(trouble(error)),
        })
    }
}

/// The events of an answer, with an error in place of an event that is too long.
fn bounded(events: BoxedSseResponse, id: RequestId) -> BoxedSseResponse {
    // The type of the error is private.
    let too_long = |error: &dyn std::error::Error| error.to_string().contains("exceeded the maximum size");
    let events = events.map(move |event| match &event {
        Err(error) if too_long(error) => {
            let mut event = event.unwrap_or_default();
            event.data = serde_json::to_string(&instead(TOO_LONG, id.clone())).ok();
            Ok(event)
        }
        _ => event,
    });
    events.boxed()
}

/// Classifies an error without its words, which may quote the server.
fn trouble(error: StreamableHttpError<reqwest::Error>) -> Trouble {
    match error {
        StreamableHttpError::Client(error) => match error.status() {
            Some(status) => Trouble::from_status(status.as_u16()),
            None => Fault::from(error).into(),
        },
        StreamableHttpError::HttpStatus(error) => Trouble::from_status(error.status),
        StreamableHttpError::AuthRequired(_) => Trouble::Unauthorized,
        StreamableHttpError::InsufficientScope(_) => Trouble::Forbidden,
        StreamableHttpError::ReservedHeaderConflict(_) => Trouble::BadHeader,
        StreamableHttpError::ResponseBodyTooLarge { .. } => Trouble::TooLarge,
        StreamableHttpError::UnexpectedServerResponse(text) => match status_in(&text) {
            Some(status) => Trouble::from_status(status),
            None => Trouble::NotMcp,
        },
        StreamableHttpError::UnexpectedContentType(_) | StreamableHttpError::Deserialize(_) => {
            Trouble::NotMcp
        }
        StreamableHttpError::Sse(_) => Trouble::NotMcp,
        _ => Trouble::LOST,
    }
}

/// The transport reports most statuses as text only: `HTTP 302 Found: …`.
fn status_in(text: &str) -> Option<u16> {
    text.strip_prefix("HTTP ")?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_each_stream_at_once_is_slowed_down() {
        let openings = Openings::default();
        let began = Instant::now();
        for _ in 0..STREAMS {
            assert_eq!(openings.next(began), began, "an ordinary server does not wait");
        }
        let mut now = began;
        for asked in 0..10 * STREAMS {
            now = openings.next(now);
            assert!(now - began >= STREAMS_IN * (asked / STREAMS + 1) as u32, "{asked}");
        }
        let later = now + 2 * STREAMS_IN;
        assert_eq!(openings.next(later), later);
    }
}
