//! What every client of ours shares: how it connects, its limits, and what can go wrong on the way.
//!
//! A [`Fault`] never holds the words of a library: they may quote an address, a header or an answer.

mod addresses;
mod proxy;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response, redirect};
use rustls::{CertificateError, ClientConfig};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use self::proxy::PROXIES;

/// How long a connection may take, TLS included. Twilio waits as long for one of ours.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long TLS and the upgrade of a WebSocket may take once the server is connected.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// How long the first byte of an answer may take: Twilio gives a webhook 15 s, and a stream less.
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long the rest of an answer may take.
const BODY: Duration = Duration::from_secs(5);
/// How much of an answer [`ask`] reads, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// How many redirects [`same_origin`] follows.
const MAX_REDIRECTS: usize = 3;

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a request got no answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("not a URL with a host")]
    BadUrl,
    #[error("DNS lookup failed")]
    DnsFailed,
    #[error("connection refused")]
    ConnectionRefused,
    #[error("connection failed: {0}")]
    Unreachable(io::ErrorKind),
    #[error("certificate not trusted: {0}")]
    Untrusted(Distrust),
    #[error("the port does not speak TLS")]
    NotTls,
    #[error("TLS handshake failed")]
    TlsFailed,
    #[error("connection timed out")]
    ConnectTimeout,
    #[error("timed out waiting for an answer")]
    AnswerTimeout,
    #[error("connection closed before an answer")]
    ConnectionClosed,
    #[error("the answer is not HTTP")]
    NotHttp,
    #[error("the answer is too slow or too long")]
    TooSlow,
    #[error("the proxy in HTTPS_PROXY or HTTP_PROXY cannot be reached")]
    ProxyUnreachable,
    #[error("the proxy in HTTPS_PROXY or HTTP_PROXY wants a login (407)")]
    ProxyLogin,
    #[error("the proxy in HTTPS_PROXY or HTTP_PROXY does not connect to this host")]
    ProxyRefused,
    #[error("invalid WebSocket upgrade: {0}")]
    BadUpgrade(&'static str),
}

impl Fault {
    pub fn code(self) -> &'static str {
        match self {
            Self::BadUrl => "bad_url",
            Self::DnsFailed => "dns_failed",
            Self::ConnectionRefused => "connection_refused",
            Self::Unreachable(_) => "unreachable",
            Self::Untrusted(_) => "untrusted",
            Self::NotTls => "not_tls",
            Self::TlsFailed => "tls_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::AnswerTimeout => "answer_timeout",
            Self::ConnectionClosed => "connection_closed",
            Self::NotHttp => "not_http",
            Self::TooSlow => "too_slow",
            Self::ProxyUnreachable => "proxy_unreachable",
            Self::ProxyLogin => "proxy_login",
            Self::ProxyRefused => "proxy_refused",
            Self::BadUpgrade(_) => "bad_upgrade",
        }
    }
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotValidYet,
    #[error("issued for another name")]
    WrongName,
    #[error("unknown issuer")]
    UnknownIssuer,
    #[error("not valid")]
    Invalid,
}

impl Fault {
    /// What to check, as the second half of a sentence.
    pub fn help(&self) -> &'static str {
        match self {
            Self::BadUrl => "write the address like https://phone.example.com",
            Self::DnsFailed => "check the spelling of the host name, and DNS on this machine",
            Self::ConnectionRefused => {
                "check host and port, and that the server is running and listens on all interfaces"
            }
            Self::Unreachable(_) => "check host and port, the firewall, and this machine's network",
            Self::Untrusted(Distrust::Expired | Distrust::NotValidYet) => {
                "renew the certificate, and check the clock of this machine"
            }
            Self::Untrusted(Distrust::WrongName) => {
                "check the host name, or use a certificate issued for it by a public authority"
            }
            Self::Untrusted(Distrust::UnknownIssuer | Distrust::Invalid) => {
                "use a certificate of a public authority, or name your own authority in SSL_CERT_FILE"
            }
            Self::NotTls => "check the port, and whether the address should start with http://",
            Self::TlsFailed => {
                "check the server's TLS: it needs TLS 1.2 or 1.3, a certificate for this host name, and must not \
                 ask for a client certificate"
            }
            Self::ConnectTimeout => {
                "check host and port, whether the port speaks TLS if the address says so, and the firewall"
            }
            Self::AnswerTimeout => "check that the server is running and not overloaded",
            Self::ConnectionClosed => "check the log of the server or of the proxy in front of it",
            Self::NotHttp => {
                "check that host and port are those of a web server, and whether the address needs https:// or wss://"
            }
            Self::TooSlow => "check the server, and whether a proxy slows it down",
            Self::ProxyUnreachable => "check the address of the proxy",
            Self::ProxyLogin => "write it into the address: http://user:password@proxy.example.com:3128",
            Self::ProxyRefused => "allow the host there, or exclude it with NO_PROXY",
            Self::BadUpgrade(_) => "check the proxy in between: it must pass WebSocket upgrades on unchanged",
        }
    }

    /// Whether the request certainly never reached the server.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::BadUrl | Self::DnsFailed | Self::ConnectionRefused | Self::Unreachable(_) => true,
            Self::Untrusted(_) | Self::NotTls | Self::TlsFailed | Self::ConnectTimeout => true,
            Self::ProxyUnreachable | Self::ProxyLogin | Self::ProxyRefused => true,
            Self::AnswerTimeout | Self::ConnectionClosed | Self::NotHttp => false,
            Self::TooSlow | Self::BadUpgrade(_) => false,
        }
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        match (classify(&error), error.is_connect()) {
            // On a connection that was open already, the request may have been read.
            (Some(Self::ConnectionRefused | Self::Unreachable(_)), false) => Self::ConnectionClosed,
            (Some(fault), _) => fault,
            (None, true) if error.is_timeout() => Self::ConnectTimeout,
            (None, true) => Self::Unreachable(io::ErrorKind::NotConnected),
            (None, false) if error.is_timeout() => Self::AnswerTimeout,
            (None, false) if error.is_builder() => Self::BadUrl,
            (None, false) => Self::ConnectionClosed,
        }
    }
}

impl From<io::Error> for Fault {
    /// An error while connecting.
    fn from(error: io::Error) -> Self {
        classify(&error).unwrap_or(match error.kind() {
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            kind => Self::Unreachable(kind),
        })
    }
}

impl From<WsError> for Fault {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Io(error) => classify(&error).unwrap_or(Self::ConnectionClosed),
            WsError::Tls(_) => Self::NotTls,
            WsError::Protocol(error) => match error {
                ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake => {
                    Self::ConnectionClosed
                }
                ProtocolError::HttparseError(_)
                | ProtocolError::WrongHttpVersion
                | ProtocolError::WrongHttpMethod => Self::NotHttp,
                ProtocolError::MissingUpgradeWebSocketHeader => Self::BadUpgrade("no `Upgrade` header"),
                ProtocolError::MissingConnectionUpgradeHeader => Self::BadUpgrade("no `Connection` header"),
                ProtocolError::SecWebSocketAcceptKeyMismatch => {
                    Self::BadUpgrade("wrong `Sec-WebSocket-Accept` header")
                }
                _ => Self::BadUpgrade("protocol error"),
            },
            WsError::AttackAttempt | WsError::Capacity(_) => Self::TooSlow,
            WsError::ConnectionClosed | WsError::AlreadyClosed => Self::ConnectionClosed,
            _ => Self::NotHttp,
        }
    }
}

impl From<&rustls::Error> for Fault {
    fn from(error: &rustls::Error) -> Self {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(bad) => Self::Untrusted(match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Distrust::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Distrust::NotValidYet,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Distrust::WrongName,
                Bad::UnknownIssuer | Bad::BadSignature => Distrust::UnknownIssuer,
                _ => Distrust::Invalid,
            }),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::TlsFailed,
        }
    }
}

/// The fault at the bottom of a chain of errors. `None`: no error of the chain is known.
pub(super) fn classify(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut cause = Some(error);
    let mut found = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.into());
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Some(Fault::NotHttp);
        }
        // The types of these errors are private.
        let text = error.to_string();
        if text.starts_with("dns error") || text == "invalid dns name" {
            return Some(Fault::DnsFailed);
        }
        match text.strip_prefix("tunnel error: ") {
            Some("unsuccessful") => return Some(Fault::ProxyRefused),
            Some("proxy authorization required") => return Some(Fault::ProxyLogin),
            Some(_) => return Some(Fault::ProxyUnreachable),
            None => {}
        }
        let io = error.downcast_ref::<io::Error>();
        found = match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Some(Fault::ConnectionRefused),
            Some(
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe,
            ) => Some(Fault::ConnectionClosed),
            Some(kind @ (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)) => {
                Some(Fault::Unreachable(kind))
            }
            _ => found,
        };
        // `source` skips the error that an I/O error wraps.
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}

/// The start of every HTTP client: our name, these certificates, [`CONNECT`], no redirects, and the proxy of the
/// environment.
pub fn http_client(tls: &ClientConfig) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT);
    PROXIES.client(builder)
}

/// Follows the redirects that repeat the same request at the same origin. Another origin would see the caller's words
/// and the owner's headers; another status would turn a POST into a GET. The client returns any other redirect as the
/// answer.
pub fn same_origin() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let same = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
        let repeats = matches!(attempt.status().as_u16(), 307 | 308);
        match same && repeats && attempt.previous().len() <= MAX_REDIRECTS {
            true => attempt.follow(),
            false => attempt.stop(),
        }
    })
}

/// An HTTP answer of any status. `Debug` hides the body: it may quote what was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// At most its first 64 KiB.
    pub body: Vec<u8>,
    /// From the request to the headers.
    pub took: Duration,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// The code of an error in JSON: `error.code`, `code`, `error.type` or `error`.
pub fn error_code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let places = [&body["error"]["code"], &body["code"], &body["error"]["type"], &body["error"]];
    places.into_iter().find_map(|value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Sends a request and reads the answer. A body that breaks off or never ends is cut.
pub async fn ask(request: RequestBuilder) -> Result<Answer, Fault> {
    let began = Instant::now();
    let mut response = timeout(ANSWER, request.send()).await.map_err(|_| Fault::AnswerTimeout)??;
    let took = began.elapsed();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    let _ = timeout(BODY, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= MAX_BODY {
                break;
            }
        }
    })
    .await;
    body.truncate(MAX_BODY);
    Ok(Answer { status, headers, body, took })
}

/// Reads a body of at most `max` bytes. `None`: it is longer.
pub async fn body(mut response: Response, max: usize) -> Result<Option<Vec<u8>>, Fault> {
    if response.content_length().is_some_and(|length| length > max as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What answered a request for a WebSocket.
pub enum Upgrade {
    /// The socket, and the headers of the answer.
    Open(Box<Socket>, HeaderMap),
    Refused(Box<Answer>),
}

/// Connects and asks for a WebSocket. It takes until `deadline`, no longer than [`CONNECT`] to connect, and then no longer
/// than 3 s.
pub async fn upgrade(
    request: Request<()>,
    tls: Arc<ClientConfig>,
    config: WebSocketConfig,
    deadline: Instant,
) -> Result<Upgrade, Fault> {
    let uri = request.uri();
    let secure = uri.scheme_str() == Some("wss");
    let host = uri.host().ok_or(Fault::BadUrl)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let connect = PROXIES.connect(&host, port, secure);
    let connect_by = deadline.min(Instant::now() + CONNECT);
    let tcp = timeout_at(connect_by, connect).await.map_err(|_| Fault::ConnectTimeout)??;
    let connector = if secure { Connector::Rustls(tls) } else { Connector::Plain };
    let began = Instant::now();
    let handshake = client_async_tls_with_config(request, tcp, Some(config), Some(connector));
    match timeout_at(deadline.min(began + HANDSHAKE), handshake).await.map_err(|_| Fault::AnswerTimeout)? {
        Ok((socket, response)) => Ok(Upgrade::Open(Box::new(socket), response.into_parts().0.headers)),
        Err(WsError::Http(response)) => {
            let (parts, body) = response.into_parts();
            let (status, body) = (parts.status.as_u16(), body.unwrap_or_default());
            let answer = Answer { status, headers: parts.headers, body, took: began.elapsed() };
            Ok(Upgrade::Refused(Box::new(answer)))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, Error, PeerIncompatible};

    use super::*;

    #[test]
    fn a_bad_certificate_is_distinguished_from_a_failed_handshake() {
        for (error, fault) in [
            (Error::InvalidCertificate(CertificateError::Expired), Fault::Untrusted(Distrust::Expired)),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                Fault::Untrusted(Distrust::UnknownIssuer),
            ),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), Fault::TlsFailed),
            (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), Fault::TlsFailed),
            (Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), Fault::NotTls),
        ] {
            assert_eq!(Fault::from(&error), fault, "{error}");
        }
    }

    #[tokio::test]
    async fn faults_of_an_http_client_are_classified() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let roots = rustls::RootCertStore::empty();
        let client = http_client(&tls.unwrap().with_root_certificates(roots).with_no_client_auth());
        let client = client.build().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        for (url, fault) in [
            (format!("http://{closed}"), Fault::ConnectionRefused),
            (format!("http://{}.invalid", "x".repeat(64)), Fault::DnsFailed),
            ("nonsense".to_owned(), Fault::BadUrl),
        ] {
            assert_eq!(ask(client.get(&url)).await.unwrap_err(), fault, "{url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_accepts_and_says_nothing_has_three_seconds() {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
        let tls = crate::link::tls::client_config(false, None).unwrap();
        for scheme in ["ws", "wss"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("{scheme}://{}", listener.local_addr().unwrap());
            let began = Instant::now();
            let request = url.into_client_request().unwrap();
            let opened = upgrade(request, tls.clone(), WebSocketConfig::default(), began + CONNECT).await;
            assert_eq!(opened.err(), Some(Fault::AnswerTimeout), "{scheme}");
            assert_eq!(began.elapsed().as_secs(), 3, "{scheme}");
        }
    }
}
