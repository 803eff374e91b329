//! Opening a session of the model: the socket, and the shaking of hands until the configuration is in force.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Request};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::configure::{LeftOut, session};
use super::{NotConnected, described, is_final};
use crate::assistant::plan::Plan;
use crate::call::initial_turn_control;
use crate::provider::{Auth, Dialect, Provider};
use crate::wire::openai::realtime::{self, Incoming};

/// 8 KiB: the library's default of 128 KiB is filled with zeros at reads, and costs most of the CPU and memory.
const READ_BUFFER: usize = 8 * 1024;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) async fn open(plan: &Plan, tls: Arc<ClientConfig>) -> Result<Socket, NotConnected> {
    let request = request(&plan.provider, &plan.model)?;
    let uri = request.uri();
    let secure = uri.scheme_str() == Some("wss");
    let host = uri.host().ok_or(NotConnected::BadUrl)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let unreachable = |what: &str| NotConnected::Unreachable(format!("{host}, port {port}: {what}"));
    let broken = |error: std::io::Error| unreachable(&error.kind().to_string());
    let found = lookup_host((&*host, port)).await.map_err(|error| {
        // Why a name is not found has no kind, only words, the last of which are the resolver's.
        let words = error.to_string();
        let why = words.rsplit(": ").next().unwrap_or_default();
        unreachable(&format!("the name cannot be looked up ({why})"))
    })?;
    let found: Vec<SocketAddr> = found.collect();
    let tcp = TcpStream::connect(&*found).await.map_err(broken)?;
    tcp.set_nodelay(true).map_err(broken)?;
    let config = socket_config(!plan.hosted.is_empty());
    let connector = if secure { Connector::Rustls(tls) } else { Connector::Plain };
    match client_async_tls_with_config(request, tcp, Some(config), Some(connector)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(response)) => Err(NotConnected::Status(response.status().as_u16())),
        Err(WsError::Io(error)) => Err(broken(error)),
        Err(WsError::Tls(_)) => Err(unreachable("TLS failed")),
        Err(_) => Err(unreachable("no WebSocket there")),
    }
}

/// The limits of a call's socket. `hosts`: whether the model calls tools of the provider's own, which tell more at once.
pub fn socket_config(hosts: bool) -> WebSocketConfig {
    let largest = if hosts { realtime::MAX_MESSAGE_WITH_HOSTED } else { realtime::MAX_MESSAGE };
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}

/// The request that opens a session of `model`: the provider's address and its key.
///
/// # Errors
/// When the address is no URL, or the key can be in no header.
pub fn request(provider: &Provider, model: &str) -> Result<Request<()>, NotConnected> {
    let mut request = address(&provider.url, model)
        .and_then(|url| url.into_client_request().ok())
        .ok_or(NotConnected::BadUrl)?;
    if let Some(key) = &provider.key {
        let (name, value) = match &provider.auth {
            Auth::Bearer => ("authorization", format!("Bearer {}", key.expose())),
            Auth::Header(name) => (name.as_str(), key.expose().to_owned()),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| NotConnected::Refused("the key is not ASCII".to_owned()))?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| NotConnected::BadUrl)?;
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

/// Waits until the session exists: that the socket opened proves nothing.
pub(super) async fn until_created(socket: &mut Socket, dialect: Dialect) -> Result<(), NotConnected> {
    loop {
        let frame = next(socket, NotConnected::Refused).await?;
        match realtime::parse(&frame) {
            Ok(Incoming::SessionCreated) => return Ok(()),
            // xAI may tell of its conversation, and of nothing else.
            Ok(Incoming::ConversationCreated) if dialect == Dialect::Xai => return Ok(()),
            Ok(Incoming::Error(error)) => {
                let passing = [&error.code, &error.kind].into_iter().flatten().any(|word| {
                    matches!(
                        &**word,
                        "server_error" | "internal_error" | "rate_limit_exceeded" | "rate_limit_error"
                    )
                });
                let what = described(&error);
                return Err(if passing {
                    NotConnected::Unreachable(what)
                } else {
                    NotConnected::Refused(what)
                });
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Sends the configuration; where it is refused, again without what the provider may not take: one option or one
/// tool that it does not like must not cost the call. Returns what had to be left out.
pub(super) async fn configure(socket: &mut Socket, plan: &Plan) -> Result<LeftOut, NotConnected> {
    let told = |left_out| session(plan, initial_turn_control(plan), left_out);
    let mut left_out = LeftOut::default();
    loop {
        let session = told(left_out);
        let Some(refused) = refused(socket, &session).await? else { return Ok(left_out) };
        // What the plan does not have cannot be left out: the same again would be refused again.
        let mut next = left_out.more(refused.for_tools);
        while let Some(same) = next.filter(|next| told(*next) == session) {
            next = same.more(refused.for_tools);
        }
        left_out =
            next.filter(|_| !refused.is_final).ok_or(NotConnected::Misconfigured(refused.what.clone()))?;
        tracing::warn!(
            error = refused.what,
            without = left_out.told(plan),
            "The session's configuration was refused; trying without a part of it"
        );
    }
}

/// Why a configuration is not in force.
struct Refused {
    what: String,
    /// The provider blames a tool.
    for_tools: bool,
    /// No other configuration would help.
    is_final: bool,
}

/// Sends one configuration, and waits until it is in force or refused.
async fn refused(socket: &mut Socket, session: &Value) -> Result<Option<Refused>, NotConnected> {
    let update = realtime::session_update(session);
    let unreachable = |_| NotConnected::Unreachable("the socket closed".to_owned());
    socket.send(Message::Text(update.into())).await.map_err(unreachable)?;
    loop {
        let frame = next(socket, NotConnected::Misconfigured).await?;
        match realtime::parse(&frame) {
            Ok(Incoming::SessionUpdated { mulaw: false }) => {
                let what = "it does not take and give G.711 mu-law";
                return Err(NotConnected::Misconfigured(what.to_owned()));
            }
            Ok(Incoming::SessionUpdated { mulaw: true }) => return Ok(None),
            Ok(Incoming::Error(error)) => {
                return Ok(Some(Refused {
                    what: described(&error),
                    for_tools: error.param.as_deref().is_some_and(names_tools),
                    is_final: error.code.as_deref().is_some_and(is_final),
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

/// The next text frame. A close that says why is `refused`.
async fn next(socket: &mut Socket, refused: impl Fn(String) -> NotConnected) -> Result<Bytes, NotConnected> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Bytes::from(text)),
            Some(Ok(Message::Close(Some(close)))) if is_refusal(close.code.into()) => {
                return Err(refused(format!("closed with {}", u16::from(close.code))));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => {
                return Err(NotConnected::Unreachable("the socket closed".to_owned()));
            }
            Some(Ok(_)) => {}
        }
    }
}

/// Codes with which a provider closes on who connects. 1008 is how servers say it that have none of their own.
fn is_refusal(code: u16) -> bool {
    code == 1008 || (3000..5000).contains(&code)
}
