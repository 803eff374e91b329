//! Opening a session of the model: the socket, and the handshake until the configuration is in force.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reqwest::header::HeaderMap;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::configure::{LeftOut, session};
use super::{ATTEMPT, CLOSE_TIMEOUT, described};
use crate::assistant::plan::Plan;
use crate::call::{Loss, Lost, initial_turn_control};
use crate::link::network::{self, Answer, Fault, Socket, Upgrade};
use crate::link::outbox;
use crate::provider::{Auth, Cause, Class, Dialect, Failure, Provider, wait};
use crate::wire::openai::realtime::{self, Incoming};

/// 8 KiB: the library's default of 128 KiB is filled with zeros at reads, and costs most of the CPU and memory.
const READ_BUFFER: usize = 8 * 1024;

/// The longest life of a session that is believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why there is no session. No message holds the provider's own words, except for an error's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotConnected {
    #[error("the key has characters that no HTTP header may hold")]
    BadKey,
    #[error("{0}")]
    Network(#[from] Fault),
    #[error("the provider answered the upgrade with status {}", .0.status)]
    Refused(Box<Answer>),
    #[error("the provider reported an error ({})", .0.code.as_deref().unwrap_or("no code"))]
    Error(Failure),
    #[error("the provider closed the connection ({})", code.map_or("no code".to_owned(), |code| code.to_string()))]
    Closed { code: Option<u16>, reason: String },
    #[error("the provider sent a frame that is invalid or too large")]
    BadFrame,
    #[error("the provider did not begin a session in time")]
    Late {
        /// How many frames came that are no events of the Realtime API.
        garbage: usize,
    },
    #[error("the provider does not accept the session's configuration ({0})")]
    Misconfigured(String),
}

impl NotConnected {
    /// What is behind it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::BadKey => Cause::Key.into(),
            // Nothing that another attempt could change, and nothing that the provider said.
            Self::Network(Fault::BadUrl) => Failure::default(),
            Self::Network(_) | Self::BadFrame | Self::Late { .. } => Cause::Unreachable.into(),
            Self::Refused(answer) => {
                let header = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
                let code = network::error_code(&answer.body);
                Failure::of_status(answer.status, code.as_deref(), wait::in_headers(header))
            }
            Self::Error(failure) => failure.clone(),
            Self::Closed { code, reason } => Failure::of_close(*code, reason),
            Self::Misconfigured(_) => Cause::Option.into(),
        }
    }

    /// What the call makes of it.
    pub fn lost(&self) -> Lost {
        let loss = match self {
            Self::Network(Fault::BadUrl) | Self::Misconfigured(_) => Loss::Misconfigured,
            _ => Loss::Unreachable,
        };
        Lost { loss, failure: self.failure() }
    }

    /// Whether another attempt may succeed.
    pub fn is_temporary(&self) -> bool {
        let Lost { loss, failure } = self.lost();
        loss == Loss::Unreachable && !failure.is_refusal()
    }
}

/// What happened when a session was opened only to see whether one begins.
pub struct Probe {
    pub outcome: Result<(), NotConnected>,
    /// The headers of the answer to the upgrade; empty if there was no answer.
    pub headers: HeaderMap,
    pub took: Duration,
}

/// Begins a session as a call does, with the limits of a call, and closes it again. `hosts`: the assistant has hosted
/// MCP servers.
pub async fn probe(provider: &Provider, model: &str, hosts: bool, tls: Arc<ClientConfig>) -> Probe {
    let began = Instant::now();
    let deadline = began + ATTEMPT;
    let (outcome, headers, took) = match open(provider, model, hosts, tls, deadline).await {
        Err(why) => {
            let headers = match &why {
                NotConnected::Refused(answer) => answer.headers.clone(),
                _ => HeaderMap::new(),
            };
            (Err(why), headers, began.elapsed())
        }
        Ok((mut socket, headers)) => {
            let created = until_created(&mut socket, provider.dialect, deadline).await.map(drop);
            let took = began.elapsed();
            let _ = timeout(CLOSE_TIMEOUT, socket.close(None)).await;
            (created, headers, took)
        }
    };
    Probe { outcome, headers, took }
}

/// The socket, and the headers of the answer to the upgrade.
pub(super) async fn open(
    provider: &Provider,
    model: &str,
    hosts: bool,
    tls: Arc<ClientConfig>,
    deadline: Instant,
) -> Result<(Socket, HeaderMap), NotConnected> {
    let request = request(provider, model)?;
    match network::upgrade(request, tls, socket_config(hosts), deadline).await? {
        Upgrade::Open(socket, headers) => Ok((*socket, headers)),
        Upgrade::Refused(answer) => Err(NotConnected::Refused(answer)),
    }
}

/// The limits of a call's socket. `hosts`: the provider's host calls MCP servers, whose results come in larger messages.
fn socket_config(hosts: bool) -> WebSocketConfig {
    let largest = if hosts { realtime::MAX_MESSAGE_WITH_HOSTED } else { realtime::MAX_MESSAGE };
    outbox::limits(READ_BUFFER, largest, realtime::MAX_MESSAGE)
}

/// The request that opens a session of `model`, with the provider's key.
fn request(provider: &Provider, model: &str) -> Result<Request<()>, NotConnected> {
    let mut request =
        address(&provider.url, model).and_then(|url| url.into_client_request().ok()).ok_or(Fault::BadUrl)?;
    if let Some(key) = &provider.key {
        let (name, value) = match &provider.auth {
            Auth::Bearer => ("authorization", format!("Bearer {}", key.expose())),
            Auth::Header(name) => (name.as_str(), key.expose().to_owned()),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| NotConnected::BadKey)?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Fault::BadUrl)?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// The provider's endpoint with `model` in its query.
fn address(url: &str, model: &str) -> Option<String> {
    let mut url = url::Url::parse(url).ok()?;
    if !url.query_pairs().any(|(name, _)| name == "model") {
        url.query_pairs_mut().append_pair("model", model);
    }
    Some(url.into())
}

/// Waits until the session exists: an open socket proves nothing, because OpenAI checks key and model after the upgrade.
/// Returns when the session expires, in seconds since 1970, if the provider says so.
pub(super) async fn until_created(
    socket: &mut Socket,
    dialect: Dialect,
    deadline: Instant,
) -> Result<Option<u64>, NotConnected> {
    let mut garbage = 0;
    let created = async {
        loop {
            let Some(frame) = next(socket).await? else {
                garbage += 1;
                continue;
            };
            match realtime::parse(&frame) {
                Ok(Incoming::SessionCreated { expires_at }) => return Ok(expires_at),
                // xAI may report its conversation and nothing else.
                Ok(Incoming::ConversationCreated) if dialect == Dialect::Xai => return Ok(None),
                Ok(Incoming::Error(error)) => {
                    let failure = super::failure(&error);
                    // OpenAI's error has no code if no key reached it.
                    let is_mute = error.code.is_none()
                        && error.kind.as_deref().is_none_or(|kind| kind == "invalid_request_error");
                    return Err(NotConnected::Error(if is_mute { failure.or(Cause::Key) } else { failure }));
                }
                Ok(_) => {}
                Err(_) => garbage += 1,
            }
        }
    };
    let created = timeout_at(deadline, created).await;
    created.unwrap_or(Err(NotConnected::Late { garbage }))
}

/// How long a session lives whose provider names this end, in seconds since 1970. An end that cannot be right, because a
/// clock is wrong, does not count.
pub(super) fn left(expires_at: Option<u64>, longest: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let left = expires_at.and_then(|at| Duration::from_secs(at).checked_sub(now));
    left.filter(|left| !left.is_zero()).map_or(longest, |left| left.min(MAX_LIFE))
}

/// Sends the configuration. If the provider rejects it, sends it again without what may have been rejected: one option
/// or one tool must not cost the call. Returns what was left out, and when the session expires.
pub(super) async fn configure(
    socket: &mut Socket,
    plan: &Plan,
) -> Result<(LeftOut, Option<u64>), NotConnected> {
    let without = |left_out| session(plan, initial_turn_control(plan), left_out);
    let mut left_out = LeftOut::default();
    loop {
        let session = without(left_out);
        let rejected = match answer(socket, &session).await? {
            Ok(expires_at) => return Ok((left_out, expires_at)),
            Err(rejected) => rejected,
        };
        // Leaving out what the plan does not have would send the same configuration again.
        let mut next = left_out.more(rejected.blames_tool);
        while let Some(same) = next.filter(|next| without(*next) == session) {
            next = same.more(rejected.blames_tool);
        }
        left_out = next.ok_or_else(|| NotConnected::Misconfigured(rejected.error.clone()))?;
        tracing::warn!(
            error = rejected.error,
            without = left_out.described(plan),
            "The provider rejected the session's configuration; trying again without a part of it"
        );
    }
}

/// Why a configuration is not in force.
struct Rejected {
    error: String,
    blames_tool: bool,
}

/// Sends one configuration, and waits until it is in force or rejected. Returns when the session expires.
async fn answer(socket: &mut Socket, session: &Value) -> Result<Result<Option<u64>, Rejected>, NotConnected> {
    let update = realtime::session_update(session);
    socket.send(Message::Text(update.into())).await.map_err(|_| Fault::ConnectionClosed)?;
    loop {
        let Some(frame) = next(socket).await? else { continue };
        match realtime::parse(&frame) {
            Ok(Incoming::SessionUpdated { mulaw: false, .. }) => {
                return Err(NotConnected::Misconfigured("no G.711 mu-law in both directions".to_owned()));
            }
            Ok(Incoming::SessionUpdated { mulaw: true, expires_at }) => return Ok(Ok(expires_at)),
            Ok(Incoming::Error(error)) => {
                let failure = super::failure(&error);
                // Any other code may be about an option.
                if matches!(failure.class(), Some(Class::Transient | Class::Failover | Class::Permanent)) {
                    return Err(NotConnected::Error(failure));
                }
                return Ok(Err(Rejected {
                    error: described(&error),
                    blames_tool: error.param.as_deref().is_some_and(names_tools),
                }));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether it is the path of a tool, such as `session.tools[3].parameters`.
fn names_tools(param: &str) -> bool {
    param.split(['.', '[']).any(|step| step == "tools")
}

/// The next text frame. `None`: a binary frame.
async fn next(socket: &mut Socket) -> Result<Option<Bytes>, NotConnected> {
    loop {
        return match socket.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(Bytes::from(text))),
            Some(Ok(Message::Binary(_))) => Ok(None),
            Some(Ok(Message::Close(frame))) => Err(closed(frame)),
            Some(Err(WsError::Capacity(_) | WsError::Utf8(_))) => Err(NotConnected::BadFrame),
            Some(Err(WsError::Protocol(error))) if error != ProtocolError::ResetWithoutClosingHandshake => {
                Err(NotConnected::BadFrame)
            }
            Some(Err(_)) | None => Err(closed(None)),
            Some(Ok(_)) => continue,
        };
    }
}

pub(super) fn closed(frame: Option<CloseFrame>) -> NotConnected {
    let (code, reason) = frame.map(|frame| (frame.code.into(), frame.reason.to_string())).unzip();
    NotConnected::Closed { code, reason: reason.unwrap_or_default() }
}
