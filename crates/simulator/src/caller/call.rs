//! The call around the stream: the ring, one TwiML document after another, and the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use url::Url;

use super::control::{Command, Playing};
use super::record::{CallEnd, CallRecord, Fetched, Happened, PhoneEvent, Said, Violation};
use super::twiml::{self, Method, Verb};
use super::{Fault, PhoneOptions, StreamEnd, http, now, sign, stream};
use switchboard_audio::SILENCE;

/// No call of ours needs more documents; a longer one is a loop.
const MOST_DOCUMENTS: usize = 25;
const MOST_VIOLATIONS: usize = 1_000;

/// Twilio's codes for a webhook that did not work.
const HTTP_FAILED: u32 = 11_200;
const TOO_MANY_REDIRECTS: u32 = 11_215;
pub(super) type Form = Vec<(String, String)>;

/// One call, owned by one task.
pub(super) struct Call {
    pub options: PhoneOptions,
    pub orders: mpsc::Receiver<Command>,
    pub playing: watch::Sender<Playing>,
    pub speech: Speech,
    pub hung_up: bool,
    pub record: CallRecord,
    happened: mpsc::Sender<Happened>,
    rng: StdRng,
    /// Status callbacks on their way; each gives back what was wrong with its answer.
    callbacks: JoinSet<Option<Violation>>,
}

/// What the caller still has to say.
#[derive(Default)]
pub(super) struct Speech {
    clips: VecDeque<Bytes>,
    pub digits: VecDeque<char>,
}

/// What went into a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Silence,
    Speech,
    /// Speech that ends in this frame.
    End,
}

/// What follows a verb.
pub(super) enum Next {
    Verb,
    Document { url: String, method: Method, extra: Form },
    End(CallEnd),
}

impl Call {
    pub fn new(
        options: PhoneOptions,
        orders: mpsc::Receiver<Command>,
        happened: mpsc::Sender<Happened>,
        playing: watch::Sender<Playing>,
    ) -> Self {
        let started = now();
        let record = CallRecord {
            call_sid: options.call_sid.clone(),
            started,
            ended: started,
            end: CallEnd::HungUp,
            documents: Vec::new(),
            streams: Vec::new(),
            said: Vec::new(),
            dialled: Vec::new(),
            pressed: Vec::new(),
            violations: Vec::new(),
            heard: Vec::new(),
            spoken: Vec::new(),
        };
        let rng = StdRng::seed_from_u64(options.network.seed);
        Self {
            options,
            orders,
            playing,
            speech: Speech::default(),
            hung_up: false,
            record,
            happened,
            rng,
            callbacks: JoinSet::new(),
        }
    }

    /// From the first ring to the last callback.
    pub async fn run(mut self) -> CallRecord {
        self.record.started = now();
        self.record.end = self.conduct().await;
        self.record.ended = now();
        if self.options.status_callback {
            let seconds = (self.record.ended - self.record.started).as_secs();
            let mut form = self.form("completed");
            let minutes = seconds.div_ceil(60);
            form.extend(pairs(&[
                ("CallDuration", &seconds.to_string()),
                ("Duration", &minutes.to_string()),
                ("SipResponseCode", "200"),
                ("Timestamp", &timestamp()),
                ("CallbackSource", "call-progress-events"),
                ("SequenceNumber", "0"),
            ]));
            let url = format!("{}/call-status", self.options.public_url);
            self.call_back(url, form);
        }
        // Each of them has its own limit on time.
        while let Some(done) = self.callbacks.join_next().await {
            if let Ok(Some(violation)) = done {
                self.violation(violation.code, violation.what);
            }
        }
        self.record
    }

    async fn conduct(&mut self) -> CallEnd {
        let url = format!("{}/incoming-call", self.options.public_url);
        let mut verbs = match self.fetch(&url, Method::Post, "ringing", Vec::new()).await {
            Ok(verbs) => verbs,
            Err(end) => return end,
        };
        if self.options.faults.contains(&Fault::TwoWebhooks) {
            verbs = match self.fetch(&url, Method::Post, "ringing", Vec::new()).await {
                Ok(verbs) => verbs,
                Err(end) => return end,
            };
        }
        let took = now() - self.record.started;
        self.emit(PhoneEvent::Rang { took });
        let mut base = url;
        for document in 0..MOST_DOCUMENTS {
            let mut follows = None;
            for (place, verb) in verbs.into_iter().enumerate() {
                if self.hung_up {
                    break;
                }
                match self.perform(verb, document == 0 && place == 0, &base).await {
                    Next::Verb => {}
                    Next::End(end) => return end,
                    Next::Document { url, method, extra } => {
                        follows = Some((url, method, extra));
                        break;
                    }
                }
            }
            let Some((url, method, extra)) = follows else {
                return if self.hung_up { CallEnd::CallerHungUp } else { CallEnd::HungUp };
            };
            let status = if self.hung_up { "completed" } else { "in-progress" };
            verbs = match self.fetch(&url, method, status, extra).await {
                // The answer is read, but there is no call left for it.
                _ if status == "completed" => return CallEnd::CallerHungUp,
                Ok(verbs) => verbs,
                Err(end) => return end,
            };
            base = url;
        }
        self.violation(TOO_MANY_REDIRECTS, "more than 25 documents in one call");
        CallEnd::Failed(TOO_MANY_REDIRECTS)
    }

    async fn perform(&mut self, verb: Verb, first: bool, base: &str) -> Next {
        match verb {
            Verb::Connect { action, method, stream } => {
                let record = stream::run(self, &stream, base).await;
                let end = record.end.clone();
                let failed = !matches!(end, StreamEnd::CallerHungUp | StreamEnd::ServerClosed { .. });
                self.emit(PhoneEvent::StreamEnded(end.clone()));
                if let Some(url) = stream.status_callback {
                    let event = if failed { "stream-error" } else { "stream-stopped" };
                    let name = stream.name.as_deref();
                    self.stream_status(url, name, &record.stream_sid, event, Some(&end));
                }
                self.record.streams.push(record);
                self.follow(action, method, Vec::new(), base)
            }
            Verb::Say { text, voice, language, times } => {
                for _ in 0..times.min(10) {
                    let said = Said {
                        at: now(),
                        text: text.clone(),
                        voice: voice.clone(),
                        language: language.clone(),
                    };
                    self.record.said.push(said);
                }
                self.emit(PhoneEvent::Said(text));
                Next::Verb
            }
            Verb::Play { url } => {
                let said = Said { at: now(), text: url.clone(), voice: None, language: None };
                self.record.said.push(said);
                self.emit(PhoneEvent::Said(url));
                Next::Verb
            }
            Verb::PressKeys { digits, times } => {
                for _ in 0..times.min(10) {
                    self.press_keys(&digits).await;
                }
                Next::Verb
            }
            Verb::Pause { seconds } => {
                self.wait(Duration::from_secs(seconds)).await;
                Next::Verb
            }
            Verb::Hangup => Next::End(CallEnd::HungUp),
            // On a call that is answered already it only hangs up.
            Verb::Reject { reason } if first => Next::End(CallEnd::Rejected(reason)),
            Verb::Reject { .. } => Next::End(CallEnd::HungUp),
            Verb::Redirect { url, method } => self.follow(Some(url), method, Vec::new(), base),
            Verb::Dial(dial) => self.dial(dial, base).await,
        }
    }

    /// The document at `action`, or the next verb.
    pub fn follow(&self, action: Option<String>, method: Method, extra: Form, base: &str) -> Next {
        match action {
            None => Next::Verb,
            Some(url) => Next::Document { url: resolve(base, &url), method, extra },
        }
    }

    /// Requests TwiML as Twilio does, and reads the answer.
    async fn fetch(
        &mut self,
        url: &str,
        method: Method,
        status: &str,
        extra: Form,
    ) -> Result<Vec<Verb>, CallEnd> {
        let mut form = self.form(status);
        form.extend(extra);
        let at = now();
        let answer = self.request(url, method, form).send().await;
        let mut fetched =
            Fetched { at, took: now() - at, url: url.to_owned(), status: None, twiml: String::new() };
        let outcome = match answer {
            Err(why) => Err((HTTP_FAILED, why)),
            Ok(answer) => {
                fetched.status = Some(answer.status);
                let shown = &answer.body[..answer.body.len().min(twiml::LONGEST)];
                fetched.twiml = String::from_utf8_lossy(shown).into_owned();
                if (200..300).contains(&answer.status) {
                    twiml::read(answer.content_type.as_deref(), &answer.body)
                        .map_err(|fault| (fault.code, fault.to_string()))
                } else {
                    Err((HTTP_FAILED, format!("the webhook answered {}", answer.status)))
                }
            }
        };
        self.record.documents.push(fetched);
        while let Ok(command) = self.orders.try_recv() {
            self.obey(command);
        }
        outcome.map_err(|(code, what)| {
            self.violation(code, what);
            CallEnd::Failed(code)
        })
    }

    /// The form of every voice webhook (reference §2.4).
    fn form(&self, status: &str) -> Form {
        let PhoneOptions { account_sid, call_sid, from, to, .. } = &self.options;
        pairs(&[
            ("AccountSid", account_sid),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", call_sid),
            ("CallStatus", status),
            ("CallToken", "{\"parentCallInfoToken\":\"eyJhbGciOiJFUzI1NiJ9.e30.c2ln\"}"),
            ("Called", to),
            ("CalledCity", ""),
            ("CalledCountry", "US"),
            ("CalledState", "CA"),
            ("CalledZip", ""),
            ("Caller", from),
            ("CallerCity", "SAN FRANCISCO"),
            ("CallerCountry", "US"),
            ("CallerState", "CA"),
            ("CallerZip", "94105"),
            ("Direction", "inbound"),
            ("From", from),
            ("FromCity", "SAN FRANCISCO"),
            ("FromCountry", "US"),
            ("FromState", "CA"),
            ("FromZip", "94105"),
            ("StirVerstat", "TN-Validation-Passed-A"),
            ("To", to),
            ("ToCity", ""),
            ("ToCountry", "US"),
            ("ToState", "CA"),
            ("ToZip", ""),
        ])
    }

    /// Prepares a signed request.
    fn request(&mut self, url: &str, method: Method, form: Form) -> Prepared {
        let encoded: String =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(form.iter()).finish();
        let url = url.split('#').next().unwrap_or(url);
        let (url, form, body) = match method {
            Method::Post => (url.to_owned(), form, encoded),
            Method::Get => {
                let joint = if url.contains('?') { '&' } else { '?' };
                (format!("{url}{joint}{encoded}"), Vec::new(), String::new())
            }
        };
        let faults = &self.options.faults;
        let signature = match sign(&self.options.auth_token, &url, &form) {
            _ if faults.contains(&Fault::NoSignature) => None,
            _ if faults.contains(&Fault::BadSignature) => Some(sign("wrong", &url, &form)),
            right => Some(right),
        };
        Prepared {
            address: self.options.address(&url),
            method: if method == Method::Post { "POST" } else { "GET" },
            signature,
            body,
            up: self.options.network.up + self.jitter(),
            down: self.options.network.down + self.jitter(),
        }
    }

    /// Posts a status callback beside the call.
    fn call_back(&mut self, url: String, form: Form) {
        let request = self.request(&url, Method::Post, form);
        self.callbacks.spawn(async move {
            let what = match request.send().await {
                Ok(answer) if (200..300).contains(&answer.status) => return None,
                Ok(answer) => format!("a status callback was answered {}", answer.status),
                Err(why) => format!("a status callback was not answered: {why}"),
            };
            Some(Violation { at: now(), code: HTTP_FAILED, what })
        });
    }

    pub fn stream_status(
        &mut self,
        url: String,
        name: Option<&str>,
        stream_sid: &str,
        event: &str,
        end: Option<&StreamEnd>,
    ) {
        let PhoneOptions { account_sid, call_sid, .. } = &self.options;
        let mut form = pairs(&[
            ("AccountSid", account_sid),
            ("CallSid", call_sid),
            ("StreamSid", stream_sid),
            ("StreamName", name.unwrap_or(stream_sid)),
            ("StreamEvent", event),
            ("Timestamp", &timestamp()),
        ]);
        if event == "stream-error" {
            let code = match end {
                Some(StreamEnd::Refused { code, .. }) => *code,
                Some(StreamEnd::Broken(_)) => 31_924,
                _ => 31_921,
            };
            form.extend(pairs(&[("StreamError", &code.to_string())]));
        }
        self.call_back(url, form);
    }

    /// Lets time pass; says whether the caller hung up meanwhile.
    pub async fn wait(&mut self, long: Duration) -> bool {
        let until = now() + long;
        while !self.hung_up {
            tokio::select! {
                Some(command) = self.orders.recv() => self.obey(command),
                () = sleep_until(until.into()) => break,
            }
        }
        self.hung_up
    }

    pub fn obey(&mut self, command: Command) {
        match command {
            Command::Say(clip) if !clip.is_empty() => self.speech.clips.push_back(clip),
            Command::Say(_) => {}
            Command::Press(digit) => self.speech.digits.push_back(digit),
            Command::HangUp if self.hung_up => {}
            Command::HangUp => {
                self.hung_up = true;
                self.emit(PhoneEvent::HungUp);
            }
        }
    }

    pub fn emit(&self, event: PhoneEvent) {
        self.emit_at(event, now());
    }

    pub fn emit_at(&self, event: PhoneEvent, at: Instant) {
        // Nobody has to listen; the record is complete without.
        let _ = self.happened.try_send(Happened { at, event });
    }

    pub fn violation(&mut self, code: u32, what: impl Into<String>) {
        let violation = Violation { at: now(), code, what: what.into() };
        self.emit(PhoneEvent::Violation(violation.clone()));
        if self.record.violations.len() < MOST_VIOLATIONS {
            self.record.violations.push(violation);
        }
    }

    /// How much longer than usual the next message takes.
    pub fn jitter(&mut self) -> Duration {
        let most = self.options.network.jitter;
        self.up_to(most)
    }

    pub fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return most;
        }
        Duration::from_nanos(self.rng.random_range(0..=most.as_nanos() as u64))
    }
}

impl Speech {
    /// Puts the next of it into a frame of silence.
    pub fn fill(&mut self, frame: &mut [u8]) -> Filled {
        frame.fill(SILENCE);
        let Some(clip) = self.clips.front_mut() else { return Filled::Silence };
        let length = clip.len().min(frame.len());
        frame[..length].copy_from_slice(&clip.split_to(length));
        if clip.is_empty() {
            self.clips.pop_front();
            return Filled::End;
        }
        Filled::Speech
    }
}

impl PhoneOptions {
    /// Where a URL leads: to the server if it is the public one, else nowhere.
    pub(super) fn address(&self, url: &str) -> Result<Address, String> {
        let target = Url::parse(url).map_err(|error| format!("a URL is malformed: {error}"))?;
        let public = Url::parse(&self.public_url).map_err(|error| error.to_string())?;
        let secure = |url: &Url| matches!(url.scheme(), "https" | "wss");
        if (target.host(), target.port_or_known_default(), secure(&target))
            != (public.host(), public.port_or_known_default(), secure(&public))
        {
            return Err(format!("nobody answers at {}", target.host_str().unwrap_or_default()));
        }
        let server = self.server.strip_prefix("http://").unwrap_or(&self.server);
        let server = server.trim_end_matches('/');
        let server = if server.contains(':') { server.to_owned() } else { format!("{server}:80") };
        // The path goes out as it is written.
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(split);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Address { server, host: host.to_owned(), path })
    }
}

/// A URL, taken apart for a connection to the server.
pub(super) struct Address {
    pub server: String,
    pub host: String,
    pub path: String,
}

/// A webhook, ready to go.
struct Prepared {
    address: Result<Address, String>,
    method: &'static str,
    signature: Option<String>,
    body: String,
    up: Duration,
    down: Duration,
}

impl Prepared {
    async fn send(self) -> Result<http::Answer, String> {
        let address = self.address?;
        let token = sid("");
        let mut headers = vec![
            ("User-Agent", "TwilioProxy/1.1"),
            ("Accept", "*/*"),
            ("I-Twilio-Idempotency-Token", token.as_str()),
        ];
        if let Some(signature) = &self.signature {
            headers.push(("X-Twilio-Signature", signature));
        }
        let request = http::Request {
            server: &address.server,
            host: &address.host,
            method: self.method,
            target: &address.path,
            headers: &headers,
            body: &self.body,
        };
        pass(self.up).await;
        let answer = timeout(Duration::from_secs(20), http::send(&request)).await;
        pass(self.down).await;
        answer.map_err(|_| "no answer in 20 s".to_owned())?
    }
}

/// Waits, unless there is nothing to wait for: tokio's shortest sleep is a millisecond.
pub(super) async fn pass(long: Duration) {
    if !long.is_zero() {
        sleep(long).await;
    }
}

/// A URL in a document, relative to where the document came from.
pub(super) fn resolve(base: &str, url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    let joined = Url::parse(base).and_then(|base| base.join(url));
    joined.map_or_else(|_| url.to_owned(), String::from)
}

pub(super) fn sid(prefix: &str) -> String {
    format!("{prefix}{:032x}", rand::random::<u128>())
}

pub(super) fn pairs(list: &[(&str, &str)]) -> Form {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// How far a moment lies behind the first ring.
pub(super) fn place(started: Instant, at: Instant) -> usize {
    super::playback::bytes_between(started, at) as usize
}
