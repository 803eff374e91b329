//! The public address, asked as Twilio asks it: is the server there, is a signature still right when it arrives, and
//! does an upgrade arrive as one.
//!
//! Nothing is opened by any of this: the call that is said to be over is nobody's, and the ticket is none.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, header};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::clock::Reading;
use super::net::{Answer, Fault, Net, Upgrade};
use super::report::Finding;
use crate::problem;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::wire::twilio::signature::{sign, stream_base};

/// A call that is nobody's: Twilio gives no such SID.
const NO_CALL: &str = "CA00000000000000000000000000000000";
/// A ticket that is none.
const NO_TICKET: &str = "/media-stream/BAD";
const STATUS: &str = "/call-status";
/// What the server says to whoever it does not trust.
const OURS: &str = "Forbidden";
/// A server that takes longer than this makes callers wait.
const SLOW: Duration = Duration::from_secs(2);
/// The fix where something else takes what Twilio posts.
const NOT_OURS: &str = "have the proxy pass every path on to `switchboard serve`, or mend PUBLIC_URL";

/// The public address of a server that may be running.
pub struct Public<'a> {
    net: Net,
    /// Without a slash at its end.
    url: &'a str,
    tokens: &'a [Secret],
    /// How many assistants the folder here has, where it passes.
    assistants: Option<usize>,
}

/// What one question gave.
type Asked = Result<Answer, Fault>;

impl<'a> Public<'a> {
    /// `None` without a public URL.
    pub fn new(settings: &'a Settings, net: Net, assistants: Option<usize>) -> Option<Public<'a>> {
        let url = settings.public_url.as_deref()?;
        Some(Public { net, url, tokens: &settings.twilio_auth_tokens, assistants })
    }

    /// Asks everything side by side, and tells what is told twice once.
    pub async fn check(&self) -> (Vec<Finding>, Option<Reading>) {
        let (alive, ready, signed, unsigned, stream, plain) = tokio::join!(
            self.get("/healthz"),
            self.get("/readyz"),
            self.signed(),
            self.posted(self.url, None),
            self.stream(),
            self.get(NO_TICKET)
        );
        // Who takes what nobody signed believes no signature either.
        let takes_all = unsigned.is_ok_and(|unsigned| unsigned.status == 204);
        let is_believed = matches!(&signed, Some(Ok(answer)) if answer.status == 204)
            && !takes_all
            && plain.as_ref().is_ok_and(|plain| plain.status == 426);
        let clock = [&alive, &ready].into_iter().find_map(|asked| asked.as_ref().ok()?.clock);
        let mut findings = Vec::new();
        let is_here = match self.is_ours(&alive, &ready, is_believed) {
            Ok(told) => {
                findings.extend(told);
                findings.extend(slowest(&alive, &signed, &stream));
                true
            }
            Err(finding) => {
                findings.push(*finding);
                false
            }
        };
        // Where the same thing stands in the way of everything, it is told once.
        let same = |asked: &Asked| match (&alive, asked) {
            _ if is_here => false,
            // A connection that hangs does so at any of its steps.
            (Err(one), Err(other)) => one.twilio() == other.twilio(),
            (Ok(one), Ok(other)) => one.status == other.status && one.is_page() == other.is_page(),
            _ => false,
        };
        if let Some(signed) = signed
            && !same(&signed)
        {
            findings.push(self.of_signed(signed, is_here && !takes_all).await);
        }
        match stream {
            Ok(Upgrade::Open) => findings.push(self.not_ours_after_all()),
            Ok(Upgrade::Answered(answer)) => {
                if !same(&Ok((*answer).clone())) {
                    // Many refuse with 403; Switchboard alone wants an upgrade of whoever comes without one.
                    let is_ours = plain.is_ok_and(|plain| plain.status == 426)
                        && answer.status == 403
                        && self.refuses_upgrades(&answer).await;
                    findings.push(match is_ours {
                        true => Finding::ok("public.stream", "an upgrade to a WebSocket comes through, and is refused without a ticket, as it should be"),
                        false => self.of_stream(&answer),
                    });
                }
            }
            Err(fault) => {
                if !same(&Err(fault.clone())) {
                    findings.push(of_stream_fault(&fault));
                }
            }
        }
        (findings, clock)
    }

    async fn get(&self, path: &str) -> Asked {
        self.net.ask(self.net.client.get(format!("{}{path}", self.url))).await
    }

    /// Says, signed, that a call is over which nobody knows.
    async fn signed(&self) -> Option<Asked> {
        let token = self.tokens.first()?;
        Some(self.posted(self.url, Some(token)).await)
    }

    /// Asked here, and signed for `url`.
    async fn posted(&self, url: &str, token: Option<&Secret>) -> Asked {
        let form = [("CallSid", NO_CALL), ("CallStatus", "completed")];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
        let request = self.net.client.request(Method::POST, format!("{}{STATUS}", self.url));
        let mut request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        if let Some(token) = token {
            request = request.header("x-twilio-signature", sign(token, &format!("{url}{STATUS}"), &form));
        }
        self.net.ask(request).await
    }

    /// Asks for a stream, as Twilio does but for the signature: one that is wrong would be refused by the same words
    /// as the ticket.
    async fn stream(&self) -> Result<Upgrade, Fault> {
        let url = format!("{}{NO_TICKET}", stream_base(self.url));
        let request = url.into_client_request().map_err(|_| Fault::BadUrl)?;
        self.net.upgrade(request, WebSocketConfig::default()).await
    }

    /// Whether it is Switchboard's refusal. Of the answer to an upgrade only the head is sure to be read: where the rest
    /// is missing, it is asked for anew.
    async fn refuses_upgrades(&self, answer: &Answer) -> bool {
        if answer.body == OURS {
            return true;
        }
        let request = self.net.client.get(format!("{}{NO_TICKET}", self.url));
        let request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "websocket");
        let request = request.header(header::SEC_WEBSOCKET_VERSION, "13");
        let asked = self.net.ask(request.header(header::SEC_WEBSOCKET_KEY, generate_key())).await;
        asked.is_ok_and(|answer| answer.status == 403 && answer.body == OURS)
    }

    fn not_reached(&self, fault: &Fault) -> Finding {
        let (webhook, stream) = fault.twilio();
        let fix = match fault {
            Fault::ConnectionRefused | Fault::AnswerTimeout | Fault::ConnectTimeout => {
                format!("start `switchboard serve` there, or mend PUBLIC_URL; {}", fault.help())
            }
            fault => format!("{}; PUBLIC_URL holds the address", fault.help()),
        };
        Finding::error("public.reach", format!("PUBLIC_URL, {}, is not reached: {fault}", self.shown()))
            .causes(format!(
                "{webhook} when a phone rings, and {stream} for streams: callers hear the fallback URL"
            ))
            .fix(fix)
    }

    /// Whether Switchboard answers; what else there is to say of it. `is_believed`: it answered a signed request, and
    /// one for a stream, as nobody else does.
    fn is_ours(&self, alive: &Asked, ready: &Asked, is_believed: bool) -> Result<Vec<Finding>, Box<Finding>> {
        let mut findings = Vec::new();
        match alive {
            Ok(alive) if alive.status == 200 && alive.body.trim() == "ok" => {}
            // A proxy that keeps a path to itself takes no call away.
            alive if is_believed => findings.push(self.hides(
                "/healthz",
                alive,
                "a platform that asks there takes it for dead, and may start it again",
            )),
            Ok(alive) => return Err(Box::new(self.somebody_else(alive))),
            Err(fault) => return Err(Box::new(self.not_reached(fault))),
        }
        let state = ready.as_ref().ok().map(|ready| serde_json::from_str(&ready.body).unwrap_or(Value::Null));
        let state = state.unwrap_or_default();
        match state["status"].as_str() {
            Some("ready") => findings.push(Finding::ok(
                "public.server",
                format!("Switchboard answers at {} and takes calls", self.shown()),
            )),
            Some("draining") => findings.push(
                Finding::warning(
                    "public.server",
                    "Switchboard answers, and takes no new calls: it is about to end",
                )
                .causes("new callers are sent elsewhere, or hear the fallback URL")
                .fix("wait for the deploy to be over; if there is none, start `switchboard serve` again"),
            ),
            _ if is_believed => {
                findings.push(self.hides(
                    "/readyz",
                    ready,
                    "whether it takes calls is not known here, nor to a platform that asks there",
                ));
                return Ok(findings);
            }
            _ => {
                let message = format!(
                    "something answers `ok` at {}/healthz, and is not Switchboard ({} at /readyz)",
                    self.shown(),
                    seen(ready)
                );
                let finding = Finding::error("public.server", message)
                    .causes("11200 or 12100 when a phone rings")
                    .fix(NOT_OURS);
                return Err(Box::new(finding));
            }
        }
        if state["problems"].as_u64().is_some_and(|problems| problems > 0) {
            findings.push(
                Finding::warning("public.server", "the running server holds back an edit that has errors")
                    .causes("callers meet the assistants of before the edit")
                    .fix("run `switchboard check` where the server runs; its log names each error"),
            );
        }
        if let (Some(there), Some(here)) = (state["assistants"].as_u64(), self.assistants)
            && usize::try_from(there).is_ok_and(|there| there != here)
        {
            let message =
                format!("the running server has {there} assistants, and the folder here has {here}");
            findings.push(
                Finding::warning("public.server", message)
                    .causes("callers meet other assistants than those that were checked here")
                    .fix("deploy the folder, or look whether PUBLIC_URL is that of another server"),
            );
        }
        Ok(findings)
    }

    /// Switchboard is there, and one of the paths that tell how it is does not come through.
    fn hides(&self, path: &str, asked: &Asked, cause: &str) -> Finding {
        let message =
            format!("Switchboard answers at {}, and {path} is not answered: {}", self.shown(), seen(asked));
        Finding::warning("public.server", message)
            .causes(cause)
            .fix(format!("have the proxy pass {path} on; where it does, look at the log of the server"))
    }

    /// Something answers, and it is not Switchboard.
    fn somebody_else(&self, answer: &Answer) -> Finding {
        let seen = answer.seen();
        let told = |what: &str, cause: &str, fix: &str| {
            Finding::error("public.server", format!("{} {what} ({seen})", self.shown()))
                .causes(cause)
                .fix(fix)
        };
        if let Some(fix) = answer.in_between() {
            return told(
                "is not Switchboard's answer",
                "11200 when a phone rings, and 31920 for streams",
                fix,
            );
        }
        match answer.status {
            300..=399 => self.sends_elsewhere(answer, "public.server"),
            401 | 407 => told(
                "wants a password before it lets anybody in",
                "11200 when a phone rings: Twilio has none",
                "take the password away for these paths: requests are signed, and strangers are refused",
            ),
            403 | 429 => told(
                "turns us away before the server is asked",
                "11200 when a phone rings, and 31920 for streams",
                "let these paths through the firewall: requests are signed, and strangers are refused",
            ),
            404 => told(
                "has no /healthz: another program answers there, or the path is wrong",
                "11200 when a phone rings",
                "mend PUBLIC_URL: with its path, if a proxy adds one; or have the proxy pass every path on",
            ),
            502..=504 => told(
                "has a proxy that does not reach the server behind it",
                "11200 when a phone rings, and 31920 for streams",
                "start `switchboard serve` there, and point the proxy at its PORT; on Fly: `fly status`, `fly logs`",
            ),
            500..=599 => told(
                "has a fault of its own",
                "11200 when a phone rings",
                "look at the log of the program or proxy that answers there",
            ),
            200..=299 if answer.is_page() => told(
                "answers with a web page, and not as Switchboard does",
                "12100 when a phone rings: a web page is no TwiML",
                "mend PUBLIC_URL; a tunnel's notice for browsers, a login or a parked domain may answer in its place",
            ),
            _ => told(
                "answers, and not as Switchboard does",
                "11200 or 12100 when a phone rings",
                "mend PUBLIC_URL, or have the proxy pass every path on to `switchboard serve` as it came",
            ),
        }
    }

    fn sends_elsewhere(&self, answer: &Answer, check: &'static str) -> Finding {
        let to = answer.leads_to();
        // It was asked for a path of ours: what stands before that is the address.
        let place =
            ["/healthz", "/readyz", "/call-status"].into_iter().find_map(|path| to.strip_suffix(path));
        let fix = match place {
            Some("") => "have the proxy pass requests on: it sends whoever asks back to itself".to_owned(),
            Some(place) => format!("set PUBLIC_URL to {place}, if that is this server"),
            None => "have the proxy pass every path on to `switchboard serve` as it came, or set PUBLIC_URL to the \
                     address that does"
                .to_owned(),
        };
        let message = format!("{} sends whoever asks elsewhere ({})", self.shown(), answer.seen());
        Finding::error(check, message)
            .causes(
                "31920: a stream is not sent on; and a request that is sent on has another signature: 11200",
            )
            .fix(fix)
    }

    fn not_ours_after_all(&self) -> Finding {
        Finding::error(
            "public.stream",
            format!("{} opens a stream to anybody, without a ticket", self.shown()),
        )
        .causes("what answers there is not Switchboard: no call is ever heard")
        .fix("have the proxy pass /media-stream/ on to `switchboard serve`, or mend PUBLIC_URL")
    }

    /// `is_proof`: who answers is Switchboard, and does not take what nobody signed.
    async fn of_signed(&self, signed: Asked, is_proof: bool) -> Finding {
        let answer = match signed {
            Ok(answer) => answer,
            Err(fault) => {
                let message =
                    format!("a signed request to {}{STATUS} is not answered: {fault}", self.shown());
                return Finding::error("public.signature", message).causes("11200 when a phone rings").fix(
                    format!("the address itself answers, so look at what stands before it: {}", fault.help()),
                );
            }
        };
        let seen = answer.seen();
        let told = |what: &str, cause: &str, fix: &str| {
            Finding::error("public.signature", format!("a signed request {what} ({seen})"))
                .causes(cause)
                .fix(fix)
        };
        match answer.status {
            204 if is_proof => {
                Finding::ok("public.signature", "a request signed as Twilio signs comes through, and is believed")
            }
            200..=299 => told(
                "is taken by something that is not Switchboard",
                "11200 or 12100 when a phone rings",
                NOT_OURS,
            ),
            403 if answer.body == OURS => self.disbelieved().await,
            300..=399 => self.sends_elsewhere(&answer, "public.signature"),
            403 | 401 | 407 | 429 => told(
                "is turned away before the server is asked",
                "11200 when a phone rings",
                answer.in_between().unwrap_or(
                    "let POST requests to /incoming-call, /after-stream/, /call-status and /stream-status through \
                     the firewall: they are signed",
                ),
            ),
            404 | 405 | 501 => told(
                "does not reach the server: its path or method is not passed on",
                "11200 when a phone rings",
                "have the proxy pass every path and method on as it came; look at the path in PUBLIC_URL",
            ),
            408 | 411 | 413 | 415 => told(
                "loses its body on the way",
                "11200 when a phone rings",
                "have the proxy pass bodies of up to 64 KiB on as they came",
            ),
            500..=599 => told(
                "is lost behind the proxy",
                "11200 when a phone rings",
                "look at the proxy's log at this moment, and point it at the PORT of `switchboard serve`",
            ),
            _ => told(
                "is answered in a way that Switchboard does not answer",
                "11200 when a phone rings",
                "look at what stands between here and the server: it must pass requests on as they came",
            ),
        }
    }

    /// The server does not believe our signature: finds out why, as far as that can be seen from outside.
    async fn disbelieved(&self) -> Finding {
        let told = |what: &str, fix: String| {
            let message = format!("the running server does not believe a signed request (403): {what}");
            Finding::error("public.signature", message)
                .causes("11200 on every webhook: callers hear the fallback URL")
                .fix(fix)
        };
        let knows = |token, url: String| async move {
            self.posted(&url, Some(token)).await.is_ok_and(|answer| answer.status == 204)
        };
        let others = join_all(self.tokens.iter().skip(1).map(|token| knows(token, self.url.to_owned())));
        let by_scheme = async {
            let (other, token) = (self.other_scheme()?, self.tokens.first()?);
            knows(token, other.clone()).await.then_some(other)
        };
        // Side by side: a slow server with many tokens is asked no longer than one with a single one.
        let (is_lost, others, other_scheme) = tokio::join!(self.loses_signatures(), others, by_scheme);
        if is_lost {
            return told(
                "the signature does not reach it",
                "have the proxy pass the header `X-Twilio-Signature` on".to_owned(),
            );
        }
        if let Some(at) = others.iter().position(|knows| *knows) {
            return told(
                &format!("it knows entry {} of TWILIO_AUTH_TOKEN, and not the first", at + 2),
                "give it the same TWILIO_AUTH_TOKEN as here, and start it again; on Fly: `fly secrets set TWILIO_AUTH_TOKEN=…`"
                    .to_owned(),
            );
        }
        if let Some(other) = other_scheme {
            let scheme = other.split(':').next().unwrap_or_default();
            return told(
                &format!("its PUBLIC_URL begins with {scheme}://"),
                "give the server the PUBLIC_URL that is set here, and start it again".to_owned(),
            );
        }
        told(
            "its TWILIO_AUTH_TOKEN or its PUBLIC_URL is not the one that is set here",
            "compare both with what the server runs with, letter by letter, and start it again: the address counts \
             with its scheme, port and path; on Fly: `fly secrets set TWILIO_AUTH_TOKEN=…`"
                .to_owned(),
        )
    }

    /// Whether a signature gets lost on the way: a wrong one is refused before it is seen that no upgrade came.
    async fn loses_signatures(&self) -> bool {
        let request = self.net.client.get(format!("{}{NO_TICKET}", self.url));
        let asked = self.net.ask(request.header("x-twilio-signature", "bm9ib2R5")).await;
        asked.is_ok_and(|answer| answer.status == 426)
    }

    fn other_scheme(&self) -> Option<String> {
        match self.url.split_once("://")? {
            ("https", rest) => Some(format!("http://{rest}")),
            ("http", rest) => Some(format!("https://{rest}")),
            _ => None,
        }
    }

    fn of_stream(&self, answer: &Answer) -> Finding {
        let seen = answer.seen();
        let told = |what: &str, fix: &str| {
            Finding::error("public.stream", format!("an upgrade to a WebSocket {what} ({seen})"))
                .causes("31920: no call is ever heard; callers hear `on_failure`")
                .fix(fix)
        };
        match answer.status {
            426 => told(
                "reaches the server as a plain request: a proxy takes the upgrade out",
                "have the proxy pass upgrades on. nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                 proxy_set_header Connection \"upgrade\";`; Apache: `mod_proxy_wstunnel`; a load balancer: switch \
                 WebSockets on",
            ),
            300..=399 => self.sends_elsewhere(answer, "public.stream"),
            401 | 403 | 407 | 429 => told(
                "is turned away before the server is asked",
                answer
                    .in_between()
                    .unwrap_or("let /media-stream/ through the firewall: it takes nobody without a ticket"),
            ),
            404 | 405 | 501 => told(
                "does not reach the server: its path is not passed on",
                "have the proxy pass /media-stream/ on as it came",
            ),
            400 | 505 => told(
                "is taken for a broken request",
                "have the proxy speak HTTP/1.1 to the server and pass upgrades on as they came",
            ),
            500..=599 => told(
                "is lost behind the proxy",
                answer.in_between().unwrap_or(
                    "look at the proxy's log at this moment: it must reach the server and know WebSockets",
                ),
            ),
            200..=299 => told(
                "is answered as a plain request: nothing there knows WebSockets",
                "have the proxy pass /media-stream/ on to `switchboard serve` with upgrades, or mend PUBLIC_URL",
            ),
            _ => told(
                "is answered in a way that Switchboard does not answer",
                "look at what stands between here and the server: it must pass upgrades on as they came",
            ),
        }
    }

    fn shown(&self) -> String {
        problem::shown(self.url)
    }
}

/// What was seen, for people.
fn seen(asked: &Asked) -> String {
    match asked {
        Ok(answer) => answer.seen(),
        Err(fault) => fault.to_string(),
    }
}

/// Where one of the answers that a call waits for takes long.
fn slowest(alive: &Asked, signed: &Option<Asked>, stream: &Result<Upgrade, Fault>) -> Option<Finding> {
    let answered = |asked: &Asked| asked.as_ref().ok().map(|answer| answer.took);
    let upgrade = match stream {
        Ok(Upgrade::Answered(answer)) => Some(answer.took),
        _ => None,
    };
    let took = [
        (answered(alive), "/healthz"),
        (signed.as_ref().and_then(answered), "a webhook"),
        (upgrade, "an upgrade to a WebSocket"),
    ];
    let took = took.into_iter().filter_map(|(took, what)| Some((took?, what)));
    let (longest, what) = took.max_by_key(|(took, _)| *took).filter(|(took, _)| *took > SLOW)?;
    let message = format!("the server takes {:.1} s to answer {what}", longest.as_secs_f64());
    let finding = Finding::warning("public.slow", message).causes(
        "callers hear silence so long; 11205 after 15 s for a webhook, 31901 after about 5 s for a stream",
    );
    Some(finding.fix("look at the machine's load and at the proxy; on Fly, let no machine be stopped: `auto_stop_machines = \"off\"`"))
}

fn of_stream_fault(fault: &Fault) -> Finding {
    let (_, stream) = fault.twilio();
    Finding::error("public.stream", format!("an upgrade to a WebSocket is not answered: {fault}"))
        .causes(format!("{stream}: no call is ever heard; callers hear `on_failure`"))
        .fix(format!("{}; have the proxy pass upgrades on as they came", fault.help()))
}
