//! Asking others over the network: every question has a limit, and whatever comes back can be told in words.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder};
use rustls::{CertificateError, ClientConfig};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::clock::{self, Reading};
use crate::link;
use crate::problem;

/// How long a connection may take to be made, TLS included: as long as Twilio waits for one.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take from the first byte: Twilio gives a webhook 15 s, and a stream less.
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long the rest of an answer may take.
const BODY: Duration = Duration::from_secs(5);
/// How much of an answer is read, in bytes.
const MOST_BODY: usize = 64 * 1024;

/// Why no answer came that could be judged. Each is told as a sentence about `it`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("its address cannot be used: it is no URL with a host")]
    BadUrl,
    #[error("nobody knows its host's name")]
    NoSuchName,
    #[error("it refuses connections: nothing listens at that port")]
    Refused,
    #[error("no connection to it can be made ({0})")]
    Unreachable(io::ErrorKind),
    #[error("its certificate is not trusted: {0}")]
    Untrusted(&'static str),
    #[error("it does not speak TLS at that port")]
    NoTls,
    #[error("no connection to it was made in {} s", .0.as_secs())]
    SlowConnect(Duration),
    #[error("it accepts the connection, and does not answer in {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it breaks the connection off before it has answered")]
    BrokeOff,
    #[error("what it answers is not HTTP")]
    NotHttp,
    #[error("it agrees to a WebSocket, and does it wrong: {0}")]
    BadUpgrade(String),
}

impl Fault {
    /// What to look at.
    pub fn help(&self) -> &'static str {
        match self {
            Fault::BadUrl => "write it like https://phone.example.com",
            Fault::NoSuchName => "check the spelling of the host, and this machine's DNS",
            Fault::Refused => {
                "check host and port, and that the program there runs and listens on every address"
            }
            Fault::Unreachable(_) => "check host and port, the firewall, and this machine's network",
            Fault::Untrusted(_) => {
                "use a certificate of a public authority for that name; where you run your own, name it in SSL_CERT_FILE"
            }
            Fault::NoTls => {
                "check that the port is the one of an https server, or whether the address is http://"
            }
            Fault::SlowConnect(_) => "check host and port, and whether a firewall drops what is sent there",
            Fault::Silent(_) => "check that the program behind it runs and is not overloaded",
            Fault::BrokeOff => "check the log of the proxy or the program there at this moment",
            Fault::NotHttp => "check that host and port are those of a web server",
            Fault::BadUpgrade(_) => "check the proxy in between: it must pass the upgrade on as it came",
        }
    }

    /// The errors that Twilio would tell of: for a webhook, and for a stream.
    pub fn twilio(&self) -> (&'static str, &'static str) {
        match self {
            Fault::BadUrl => ("11200", "31923"),
            Fault::NoSuchName | Fault::SlowConnect(_) | Fault::Unreachable(_) => ("11205", "31901"),
            Fault::Refused => ("11205", "31902"),
            Fault::Untrusted(_) | Fault::NoTls => ("11200", "31910"),
            Fault::Silent(_) => ("11205", "31901"),
            Fault::BrokeOff | Fault::NotHttp | Fault::BadUpgrade(_) => ("11200", "31920"),
        }
    }
}

/// An answer over HTTP, whatever it says.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The beginning of it.
    pub body: String,
    pub took: Duration,
    pub clock: Option<Reading>,
}

impl Answer {
    /// The value of a header; empty where there is none, or where it is no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is a web page, as people get them.
    pub fn is_page(&self) -> bool {
        let start = self.body.trim_start().get(..200).unwrap_or(self.body.trim_start()).to_lowercase();
        self.header("content-type").starts_with("text/html")
            || start.starts_with("<!doctype html")
            || start.starts_with("<html")
    }

    /// What was seen, for people: status, what kind of thing came, and who says to have sent it.
    pub fn seen(&self) -> String {
        let name =
            reqwest::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut seen = match name {
            Some(name) => format!("{} {name}", self.status),
            None => format!("status {}", self.status),
        };
        match (self.is_page(), self.title(), self.body.trim()) {
            (true, Some(title), _) => seen.push_str(&format!(", a web page titled `{title}`")),
            (true, None, _) => seen.push_str(", a web page"),
            (false, _, "") => {}
            (false, _, body) => match self.code() {
                Some(code) => seen.push_str(&format!(", code `{code}`")),
                None => seen.push_str(&format!(", `{}`", problem::shown(body))),
            },
        }
        if let 300..=399 = self.status {
            seen.push_str(&format!(", which leads to {}", self.leads_to()));
        }
        let server = self.header("server");
        if !server.is_empty() {
            seen.push_str(&format!(", from `{}`", problem::shown(server)));
        }
        seen
    }

    /// Where it sends whoever asks, without a query.
    pub fn leads_to(&self) -> String {
        let to = self.header("location").split(['?', '#']).next().unwrap_or_default();
        if to.is_empty() { "nowhere".to_owned() } else { problem::shown(to) }
    }

    /// The word that an error in JSON has as its code: `error.code`, `code`, or `error`.
    pub fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        let found = [&body["error"]["code"], &body["code"], &body["error"]["type"], &body["error"]];
        let word = found.into_iter().find_map(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })?;
        Some(word_of(&word))
    }

    fn title(&self) -> Option<String> {
        let lower = self.body.to_lowercase();
        let from = lower.find("<title>")? + "<title>".len();
        let to = from + lower.get(from..)?.find("</title>")?;
        // Changing case may change lengths, in letters that titles of proxies do not have.
        Some(problem::shown(self.body.get(from..to)?.trim())).filter(|title| !title.is_empty())
    }

    /// What stands between us and the server, where the answer gives it away: what to do about it.
    pub fn in_between(&self) -> Option<&'static str> {
        let has = |name: &str| self.headers.contains_key(name);
        if has("ngrok-error-code") {
            return Some(
                "the tunnel's agent is not running, or its name has changed: start it, and set PUBLIC_URL to what it prints",
            );
        }
        if has("cf-ray") && matches!(self.status, 502 | 521 | 522 | 523 | 530) {
            return Some(
                "Cloudflare is there and the server behind it is not: start cloudflared and `switchboard serve`, or run `switchboard serve --tunnel`",
            );
        }
        if has("cf-mitigated") || (has("cf-ray") && matches!(self.status, 403 | 429 | 503) && self.is_page())
        {
            return Some(
                "Cloudflare keeps visitors out that are no browsers: let Twilio through (a WAF rule that skips the checks for these paths)",
            );
        }
        if self.header("server").starts_with("Fly/") && matches!(self.status, 502 | 503) {
            return Some("Fly's proxy is there and no machine answers: `fly status` and `fly logs` say why");
        }
        None
    }
}

/// A word of a stranger's, short and plain.
pub fn word_of(text: &str) -> String {
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || "_.-[]".contains(*letter);
    let word: String = text.chars().filter(plain).take(80).collect();
    if word.is_empty() { "no code".to_owned() } else { word }
}

/// The client for all questions: no redirect is followed, no proxy of the environment asked.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client(tls: &ClientConfig) -> Result<Client, reqwest::Error> {
    link::http_client(tls, CONNECT).pool_max_idle_per_host(0).build()
}

/// Asks, and reads what is answered.
///
/// # Errors
/// [`Fault`].
pub async fn ask(request: RequestBuilder) -> Result<Answer, Fault> {
    let began = Instant::now();
    let sent = timeout(ANSWER, request.send()).await.map_err(|_| Fault::Silent(ANSWER))?;
    let mut response = sent.map_err(|error| of_client(&error))?;
    let took = began.elapsed();
    let clock = clock::reading(response.headers());
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    // What breaks off, or never ends, is judged by what came.
    let _ = timeout(BODY, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= MOST_BODY {
                break;
            }
        }
    })
    .await;
    body.truncate(MOST_BODY);
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status, headers, body, took, clock })
}

/// What became of a request for a WebSocket.
pub enum Upgrade {
    /// It is open.
    Open(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>, Option<Reading>),
    /// Something else was answered.
    Answered(Box<Answer>),
}

/// Asks for a WebSocket.
///
/// # Errors
/// [`Fault`].
pub async fn upgrade(request: Request<()>, tls: Arc<ClientConfig>) -> Result<Upgrade, Fault> {
    let uri = request.uri();
    let secure = uri.scheme_str() == Some("wss");
    let host = uri.host().ok_or(Fault::BadUrl)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = timeout(CONNECT, TcpStream::connect((host, port))).await;
    let tcp = tcp.map_err(|_| Fault::SlowConnect(CONNECT))?.map_err(|error| of_connecting(&error))?;
    let connector = if secure { Connector::Rustls(tls) } else { Connector::Plain };
    let began = Instant::now();
    let asked = client_async_tls_with_config(request, tcp, None, Some(connector));
    match timeout(ANSWER, asked).await.map_err(|_| Fault::Silent(ANSWER))? {
        Ok((socket, response)) => Ok(Upgrade::Open(Box::new(socket), clock::reading(response.headers()))),
        Err(WsError::Http(response)) => {
            let (parts, body) = response.into_parts();
            let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
            let clock = clock::reading(&parts.headers);
            let status = parts.status.as_u16();
            Ok(Upgrade::Answered(Box::new(Answer {
                status,
                headers: parts.headers,
                body,
                took: began.elapsed(),
                clock,
            })))
        }
        Err(WsError::Io(error)) => Err(of_chain(&error).unwrap_or(Fault::BrokeOff)),
        Err(WsError::Tls(_)) => Err(Fault::NoTls),
        Err(WsError::Protocol(error)) => Err(of_handshake(&error)),
        Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => Err(Fault::BrokeOff),
        Err(_) => Err(Fault::NotHttp),
    }
}

fn of_handshake(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> Fault {
    use tokio_tungstenite::tungstenite::error::ProtocolError as Odd;
    match error {
        Odd::HandshakeIncomplete | Odd::ResetWithoutClosingHandshake => Fault::BrokeOff,
        Odd::HttparseError(_) | Odd::WrongHttpVersion | Odd::WrongHttpMethod => Fault::NotHttp,
        odd => Fault::BadUpgrade(problem::shown(&odd.to_string())),
    }
}

fn of_connecting(error: &io::Error) -> Fault {
    of_chain(error).unwrap_or_else(|| match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::Refused,
        kind => Fault::Unreachable(kind),
    })
}

fn of_client(error: &reqwest::Error) -> Fault {
    if let Some(fault) = of_chain(error) {
        return fault;
    }
    match (error.is_builder(), error.is_timeout(), error.is_connect()) {
        (true, ..) => Fault::BadUrl,
        (_, true, true) => Fault::SlowConnect(CONNECT),
        (_, true, false) => Fault::Silent(ANSWER),
        (_, _, true) => Fault::Unreachable(io::ErrorKind::Other),
        _ => Fault::BrokeOff,
    }
}

/// What the depth of an error says: its own words may quote the address.
fn of_chain(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut cause = Some(error);
    let mut found = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(distrust(error));
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Some(Fault::NotHttp);
        }
        // These have no types that could be seen.
        let text = error.to_string();
        if text.starts_with("dns error")
            || text.starts_with("failed to lookup address")
            || text == "invalid dns name"
        {
            return Some(Fault::NoSuchName);
        }
        let io = error.downcast_ref::<io::Error>();
        found = match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Some(Fault::Refused),
            Some(
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe,
            ) => Some(Fault::BrokeOff),
            Some(kind @ (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)) => {
                Some(Fault::Unreachable(kind))
            }
            _ => found,
        };
        // What an I/O error wraps is not its source.
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}

fn distrust(error: &rustls::Error) -> Fault {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            Fault::Untrusted("it has expired")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            Fault::Untrusted("it is not valid yet, or this machine's clock is wrong")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Fault::Untrusted("it is for another name")
        }
        rustls::Error::InvalidCertificate(_) => Fault::Untrusted("nobody we trust vouches for it"),
        rustls::Error::InvalidMessage(_) => Fault::NoTls,
        _ => Fault::Untrusted("TLS does not come about"),
    }
}
