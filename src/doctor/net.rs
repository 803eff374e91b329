//! Asking others over the network: every question has a limit, and whatever comes back can be told in words. It is
//! veiled as it comes: who quotes a secret of ours makes nobody see it.

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
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::Url;

use super::clock::{self, Reading};
use super::veil::Veil;
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
    #[error("it speaks TLS, and comes to no agreement with us")]
    NoAgreement,
    #[error("no connection to it was made in {} s", .0.as_secs())]
    SlowConnect(Duration),
    #[error("it accepts the connection, and does not answer in {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it breaks the connection off before it has answered")]
    BrokeOff,
    #[error("what it answers is not HTTP")]
    NotHttp,
    #[error("its answer comes byte by byte, or has no end")]
    Trickle,
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
            Fault::NoAgreement => {
                "check that the program there knows its host's name, speaks TLS 1.2 or 1.3, and wants no certificate of whoever asks"
            }
            Fault::SlowConnect(_) => {
                "check host and port, whether the port speaks TLS where the address says so, and whether a firewall drops what is sent there"
            }
            Fault::Silent(_) => "check that the program behind it runs and is not overloaded",
            Fault::BrokeOff => "check the log of the proxy or the program there at this moment",
            Fault::NotHttp => {
                "check that host and port are those of a web server, and whether the address begins as it must: with TLS, \
                 https:// or wss://"
            }
            Fault::Trickle => "check the program behind it, and whether something in between slows it down",
            Fault::BadUpgrade(_) => "check the proxy in between: it must pass the upgrade on as it came",
        }
    }

    /// The errors that Twilio would tell of: for a webhook, and for a stream.
    pub fn twilio(&self) -> (&'static str, &'static str) {
        match self {
            Fault::BadUrl => ("11200", "31923"),
            Fault::NoSuchName | Fault::SlowConnect(_) | Fault::Unreachable(_) => ("11205", "31901"),
            Fault::Refused => ("11205", "31902"),
            Fault::Untrusted(_) | Fault::NoTls | Fault::NoAgreement => ("11200", "31910"),
            Fault::Silent(_) => ("11205", "31901"),
            Fault::BrokeOff | Fault::NotHttp | Fault::Trickle | Fault::BadUpgrade(_) => ("11200", "31920"),
        }
    }
}

/// An answer over HTTP, whatever it says.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case; where one stands twice, the first holds.
    headers: Vec<(String, String)>,
    /// The beginning of it.
    pub body: String,
    pub took: Duration,
    pub clock: Option<Reading>,
}

impl Answer {
    /// The value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(there, _)| there == name).map_or("", |(_, value)| value)
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

    /// Whether it leads to another address, and not only about its own.
    pub fn leads_away(&self) -> bool {
        self.header("location").contains("://")
    }

    /// Whether it leads to the host that was asked.
    pub fn leads_back(&self, asked: &str) -> bool {
        let asked = Url::parse(asked).ok();
        let to = asked.as_ref().and_then(|asked| asked.join(self.header("location")).ok());
        matches!((&asked, &to), (Some(asked), Some(to)) if asked.host() == to.host())
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
        let has = |name: &str| self.headers.iter().any(|(there, _)| there == name);
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

/// A word of a stranger's, short and plain. What is secret in it is veiled before.
pub fn word_of(text: &str) -> String {
    let plain = |letter: &char| letter.is_ascii_alphanumeric() || "_.-[]•".contains(*letter);
    let word: String = problem::masked(text).chars().filter(plain).take(80).collect();
    if word.is_empty() { "no code".to_owned() } else { word }
}

/// What to do where somebody sends whoever asks to another host. What is asked holds credentials: they are for nobody
/// else.
pub const IN_BETWEEN: &str =
    "something in between answers, such as a login page: have this machine let through";

/// What asks all questions: no redirect is followed, no proxy of the environment asked.
#[derive(Clone)]
pub struct Net {
    pub client: Client,
    tls: Arc<ClientConfig>,
    veil: Arc<Veil>,
}

/// What became of a request for a WebSocket.
pub enum Upgrade {
    /// It is open.
    Open(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>, Option<Reading>),
    /// Something else was answered.
    Answered(Box<Answer>),
}

impl Net {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tls: Arc<ClientConfig>, veil: Veil) -> Result<Net, reqwest::Error> {
        let client = link::http_client(&tls, CONNECT).pool_max_idle_per_host(0).build()?;
        Ok(Net { client, tls, veil: Arc::new(veil) })
    }

    /// What others said, whole, without what nobody may see.
    pub fn veiled(&self, text: &str) -> String {
        self.veil.received(text)
    }

    /// Asks, and reads what is answered.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn ask(&self, request: RequestBuilder) -> Result<Answer, Fault> {
        let began = Instant::now();
        let sent = timeout(ANSWER, request.send()).await.map_err(|_| Fault::Silent(ANSWER))?;
        let mut response = sent.map_err(|error| of_client(&error))?;
        let took = began.elapsed();
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
        Ok(self.answer(status, &headers, &body, took))
    }

    /// Asks for a WebSocket, whose frames and messages are within the limits of `config`.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn upgrade(&self, request: Request<()>, config: WebSocketConfig) -> Result<Upgrade, Fault> {
        let uri = request.uri();
        let secure = uri.scheme_str() == Some("wss");
        let host = uri.host().ok_or(Fault::BadUrl)?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = timeout(CONNECT, TcpStream::connect((host, port))).await;
        let tcp = tcp.map_err(|_| Fault::SlowConnect(CONNECT))?.map_err(|error| of_connecting(&error))?;
        let connector = if secure { Connector::Rustls(self.tls.clone()) } else { Connector::Plain };
        let began = Instant::now();
        let asked = client_async_tls_with_config(request, tcp, Some(config), Some(connector));
        match timeout(ANSWER, asked).await.map_err(|_| Fault::Silent(ANSWER))? {
            Ok((socket, response)) => Ok(Upgrade::Open(Box::new(socket), clock::reading(response.headers()))),
            Err(WsError::Http(response)) => {
                let (parts, body) = response.into_parts();
                let (body, took) = (body.unwrap_or_default(), began.elapsed());
                let answer = self.answer(parts.status.as_u16(), &parts.headers, &body, took);
                Ok(Upgrade::Answered(Box::new(answer)))
            }
            Err(WsError::Io(error)) => Err(of_chain(&error).unwrap_or(Fault::BrokeOff)),
            Err(WsError::Tls(_)) => Err(Fault::NoTls),
            Err(WsError::Protocol(error)) => Err(self.of_handshake(&error)),
            Err(WsError::AttackAttempt | WsError::Capacity(_)) => Err(Fault::Trickle),
            Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => Err(Fault::BrokeOff),
            Err(_) => Err(Fault::NotHttp),
        }
    }

    fn answer(&self, status: u16, headers: &HeaderMap, body: &[u8], took: Duration) -> Answer {
        let clock = clock::reading(headers);
        let veiled = headers.iter().map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), self.veiled(&text))
        });
        // In JSON a letter may be written in several ways; written anew, it is in one.
        let body = match serde_json::from_slice::<Value>(body) {
            Ok(json) => json.to_string(),
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let body = self.veiled(&body);
        Answer { status, headers: veiled.collect(), body, took, clock }
    }

    fn of_handshake(&self, error: &ProtocolError) -> Fault {
        match error {
            ProtocolError::HandshakeIncomplete | ProtocolError::ResetWithoutClosingHandshake => {
                Fault::BrokeOff
            }
            ProtocolError::HttparseError(_)
            | ProtocolError::WrongHttpVersion
            | ProtocolError::WrongHttpMethod => Fault::NotHttp,
            odd => Fault::BadUpgrade(problem::shown(&self.veiled(&odd.to_string()))),
        }
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
            Fault::Untrusted("it has expired, or this machine's clock is wrong")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            Fault::Untrusted("it is not valid yet, or this machine's clock is wrong")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Fault::Untrusted("it is for another name")
        }
        rustls::Error::InvalidCertificate(_) => Fault::Untrusted("nobody we trust vouches for it"),
        rustls::Error::InvalidMessage(_) => Fault::NoTls,
        _ => Fault::NoAgreement,
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, Error, PeerIncompatible};

    use super::*;

    #[test]
    fn who_speaks_tls_and_comes_to_no_agreement_is_told_apart_from_a_bad_certificate() {
        let bad = |bad| distrust(&Error::InvalidCertificate(bad)).to_string();
        assert!(bad(CertificateError::Expired).contains("it has expired, or this machine's clock is wrong"));
        assert!(bad(CertificateError::UnknownIssuer).contains("nobody we trust"));
        for error in [
            Error::AlertReceived(AlertDescription::UnrecognisedName),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        ] {
            let fault = distrust(&error);
            assert_eq!(fault, Fault::NoAgreement, "{error}");
            assert!(fault.help().contains("TLS 1.2 or 1.3"));
        }
    }
}
