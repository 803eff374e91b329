//! Asking others over the network: every question has a limit, and whatever comes back can be told in words. It is
//! veiled as it comes: who quotes a secret of ours makes nobody see it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use super::clock::{self, Reading};
use super::veil::Veil;
use crate::link;
use crate::link::network;
pub use crate::link::network::Fault;
use crate::problem;

impl Fault {
    /// The errors that Twilio would report: for a webhook, and for a stream.
    pub fn twilio(&self) -> (&'static str, &'static str) {
        match self {
            Fault::BadUrl => ("11200", "31923"),
            Fault::DnsFailed | Fault::ConnectTimeout | Fault::Unreachable(_) => ("11205", "31901"),
            Fault::ConnectionRefused => ("11205", "31902"),
            Fault::Untrusted(_) | Fault::NotTls | Fault::TlsFailed => ("11200", "31910"),
            Fault::AnswerTimeout => ("11205", "31901"),
            Fault::ConnectionClosed | Fault::NotHttp | Fault::TooSlow | Fault::BadUpgrade(_) => {
                ("11200", "31920")
            }
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

    /// The code of an error in JSON.
    pub fn code(&self) -> Option<String> {
        network::error_code(self.body.as_bytes()).map(|code| word_of(&code))
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
    pub tls: Arc<ClientConfig>,
    veil: Arc<Veil>,
}

/// What became of a request for a WebSocket.
pub enum Upgrade {
    /// It is open.
    Open,
    /// Something else was answered.
    Answered(Box<Answer>),
}

impl Net {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tls: Arc<ClientConfig>, veil: Veil) -> Result<Net, reqwest::Error> {
        let client = link::http_client(&tls).pool_max_idle_per_host(0).build()?;
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
        Ok(self.answer(network::ask(request).await?))
    }

    /// Asks for a WebSocket, whose frames and messages are within the limits of `config`.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn upgrade(&self, request: Request<()>, config: WebSocketConfig) -> Result<Upgrade, Fault> {
        let deadline = Instant::now() + network::ANSWER;
        Ok(match network::upgrade(request, self.tls.clone(), config, deadline).await? {
            network::Upgrade::Open(..) => Upgrade::Open,
            network::Upgrade::Refused(answer) => Upgrade::Answered(Box::new(self.answer(*answer))),
        })
    }

    /// Without what nobody may see.
    pub fn answer(&self, answer: network::Answer) -> Answer {
        let network::Answer { status, headers, body, took } = answer;
        let clock = clock::reading(&headers);
        let veiled = headers.iter().map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), self.veiled(&text))
        });
        // In JSON a letter may be written in several ways; written anew, it is in one.
        let body = match serde_json::from_slice::<Value>(&body) {
            Ok(json) => json.to_string(),
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        let body = self.veiled(&body);
        Answer { status, headers: veiled.collect(), body, took, clock }
    }
}
