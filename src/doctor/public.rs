//! PUBLIC_URL, asked as Twilio asks it: does the server answer, does a signature arrive intact, and an upgrade as an
//! upgrade.
//!
//! Nothing is opened by this: the call that ends is nobody's, and the ticket is invalid.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::answer::{describe, obstacle, twilio_codes};
use super::{Findings, Net, clock};
use crate::link::network::{ANSWER, Answer, Fault, Upgrade, ask, upgrade};
use crate::problem::catalogue::Public as Found;
use crate::problem::{self, Problem, Subject};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::wire::twilio::signature::{sign, stream_base};

/// Twilio never uses this call SID.
const NO_CALL: &str = "CA00000000000000000000000000000000";
const NO_TICKET: &str = "/media-stream/BAD";
const STATUS: &str = "/call-status";
/// The body of Switchboard's 403.
const FORBIDDEN: &[u8] = b"Forbidden";
/// A slower answer makes callers wait.
const SLOW: Duration = Duration::from_secs(2);

struct Server<'a> {
    net: &'a Net,
    url: &'a str,
    tokens: &'a [Secret],
}

type Asked = Result<Answer, Fault>;

/// Asks everything concurrently. `assistants`: how many the folder in force has.
pub async fn probe(settings: &Settings, net: &Net, assistants: Option<usize>) -> Findings {
    let Some(url) = settings.public_url.as_deref() else { return Findings::default() };
    let server = Server { net, url, tokens: &settings.twilio_auth_tokens };
    let (alive, ready, signed, unsigned, stream, plain) = tokio::join!(
        server.get("/healthz"),
        server.get("/readyz"),
        server.signed(),
        server.post(url, None),
        server.upgrade(),
        server.get(NO_TICKET)
    );
    // Only Switchboard accepts a signed webhook, rejects an unsigned one, and asks a plain request for an upgrade.
    let accepts_all = unsigned.is_ok_and(|answer| answer.status == 204);
    let wants_upgrade = plain.is_ok_and(|answer| answer.status == 426);
    let accepts = matches!(&signed, Some(Ok(answer)) if answer.status == 204) && !accepts_all;
    let is_ours = matches!(&alive, Ok(answer) if answer.status == 200 && answer.body.trim_ascii() == b"ok");
    let mut found = Vec::new();
    match &alive {
        _ if is_ours || (accepts && wants_upgrade) => {
            if !is_ours {
                found.push(Found::Hidden { path: "/healthz", answer: text(&alive) });
            }
            found.extend(state(&server, &ready, assistants));
            found.extend(slow(&alive, &signed, &stream));
            if let Some(signed) = signed {
                found.push(server.webhook(signed, !accepts_all).await);
            }
            found.push(server.stream(stream, wants_upgrade));
        }
        Ok(answer) => found.push(Found::NotOurs {
            url: problem::shown(url),
            answer: describe(answer),
            obstacle: obstacle(answer),
        }),
        Err(fault) => {
            let (webhook, stream) = twilio_codes(fault);
            let (url, fault, help) = (problem::shown(url), fault.to_string(), fault.help());
            found.push(Found::Unreachable { url, fault, help, webhook, stream });
        }
    }
    let subject = || Subject::Server(url.to_owned());
    let problems = found.into_iter().map(|what| Problem::new(what).with_subject(subject())).collect();
    let clock = [&alive, &ready].into_iter().flatten().find_map(|answer| clock::reading(&answer.headers));
    // The server may run on this machine, and then its clock proves nothing.
    let clock = clock.filter(|reading| reading.0 != 0).map(|reading| ("PUBLIC_URL".to_owned(), reading));
    Findings { problems, clocks: clock.into_iter().collect(), ..Findings::default() }
}

impl Server<'_> {
    async fn get(&self, path: &str) -> Asked {
        ask(self.net.http.get(format!("{}{path}", self.url))).await
    }

    /// Reports, signed, the end of a call that does not exist.
    async fn signed(&self) -> Option<Asked> {
        let token = self.tokens.first()?;
        Some(self.post(self.url, Some(token)).await)
    }

    /// Sent to the server, and signed for `url`.
    async fn post(&self, url: &str, token: Option<&Secret>) -> Asked {
        let form = [("CallSid", NO_CALL), ("CallStatus", "completed")];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
        let request = self.net.http.request(Method::POST, format!("{}{STATUS}", self.url));
        let mut request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        if let Some(token) = token {
            request = request.header("x-twilio-signature", sign(token, &format!("{url}{STATUS}"), &form));
        }
        ask(request).await
    }

    /// Asks for a stream without a signature: a wrong one would be refused like the ticket.
    async fn upgrade(&self) -> Result<Upgrade, Fault> {
        let url = format!("{}{NO_TICKET}", stream_base(self.url));
        let request = url.into_client_request().map_err(|_| Fault::BadUrl)?;
        upgrade(request, self.net.tls.clone(), WebSocketConfig::default(), Instant::now() + ANSWER).await
    }

    async fn webhook(&self, signed: Asked, is_proof: bool) -> Found {
        match signed {
            Ok(answer) if answer.status == 204 && is_proof => Found::Signature,
            Ok(answer) if answer.status == 403 && answer.body == FORBIDDEN => self.distrusted().await,
            Ok(answer) => Found::WebhookObstacle { answer: describe(&answer), obstacle: obstacle(&answer) },
            Err(fault) => Found::WebhookFault { fault: fault.to_string(), help: fault.help() },
        }
    }

    /// Why the server rejects our signature, as far as that shows from outside.
    async fn distrusted(&self) -> Found {
        let accepts = |token, url: String| async move {
            self.post(&url, Some(token)).await.is_ok_and(|answer| answer.status == 204)
        };
        let others = join_all(self.tokens.iter().skip(1).map(|token| accepts(token, self.url.to_owned())));
        let other_scheme = match self.url.split_once("://") {
            Some(("https", rest)) => format!("http://{rest}"),
            Some((_, rest)) => format!("https://{rest}"),
            None => String::new(),
        };
        let by_scheme = async {
            match self.tokens.first() {
                Some(token) => accepts(token, other_scheme.clone()).await,
                None => false,
            }
        };
        let (is_lost, others, by_scheme) = tokio::join!(self.loses_signatures(), others, by_scheme);
        match others.iter().position(|accepts| *accepts) {
            _ if is_lost => Found::SignatureLost,
            Some(at) => Found::SecondToken { entry: at + 2 },
            None if by_scheme => {
                Found::OtherScheme { scheme: other_scheme.split(':').next().unwrap_or_default().to_owned() }
            }
            None => Found::Distrusted,
        }
    }

    /// Whether signatures get lost: the server checks a wrong one before it notices the missing upgrade.
    async fn loses_signatures(&self) -> bool {
        let request = self.net.http.get(format!("{}{NO_TICKET}", self.url));
        ask(request.header("x-twilio-signature", "bm9ib2R5")).await.is_ok_and(|answer| answer.status == 426)
    }

    fn stream(&self, stream: Result<Upgrade, Fault>, wants_upgrade: bool) -> Found {
        match stream {
            Ok(Upgrade::Open(..)) => Found::OpenStream,
            // Many servers refuse with 403, but only Switchboard asks a plain request for an upgrade.
            Ok(Upgrade::Refused(answer)) if answer.status == 403 && wants_upgrade => Found::Stream,
            Ok(Upgrade::Refused(answer)) => {
                Found::StreamObstacle { answer: describe(&answer), obstacle: obstacle(&answer) }
            }
            Err(fault) => {
                let (_, stream) = twilio_codes(&fault);
                Found::StreamFault { fault: fault.to_string(), help: fault.help(), stream }
            }
        }
    }
}

/// The state that `/readyz` reports.
fn state(server: &Server<'_>, ready: &Asked, assistants: Option<usize>) -> Vec<Found> {
    let body = ready.as_ref().map(|ready| serde_json::from_slice(&ready.body).unwrap_or(Value::Null));
    let state = body.unwrap_or_default();
    let mut found = vec![match state["status"].as_str() {
        Some("ready") => Found::Ready { url: problem::shown(server.url) },
        Some("draining") => Found::Draining,
        _ => return vec![Found::Hidden { path: "/readyz", answer: text(ready) }],
    }];
    if state["problems"].as_u64().is_some_and(|problems| problems > 0) {
        found.push(Found::RejectedEdit);
    }
    if let (Some(there), Some(here)) = (state["assistants"].as_u64(), assistants)
        && usize::try_from(there) != Ok(here)
    {
        found.push(Found::OtherFolder { there, here });
    }
    found
}

/// The slowest of the answers that a call waits for, if it is slow.
fn slow(alive: &Asked, signed: &Option<Asked>, stream: &Result<Upgrade, Fault>) -> Option<Found> {
    let took = |asked: &Asked| asked.as_ref().ok().map(|answer| answer.took);
    let upgrade = match stream {
        Ok(Upgrade::Refused(answer)) => Some(answer.took),
        Ok(Upgrade::Open(..)) | Err(_) => None,
    };
    let all = [
        ("/healthz", took(alive)),
        ("a webhook", signed.as_ref().and_then(took)),
        ("a WebSocket upgrade", upgrade),
    ];
    let (what, took) =
        all.into_iter().filter_map(|(what, took)| Some((what, took?))).max_by_key(|(_, took)| *took)?;
    (took > SLOW).then_some(Found::Slow { what, seconds: took.as_secs_f64() })
}

fn text(asked: &Asked) -> String {
    match asked {
        Ok(answer) => describe(answer),
        Err(fault) => fault.to_string(),
    }
}
