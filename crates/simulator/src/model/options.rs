//! How a simulated model behaves: its speed, its voice, its script, its faults.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::faults::Fault;
use super::script::{Reply, Script};
use super::speech::Speech;

/// The models of the real service in November 2026.
const MODELS: &[&str] = &[
    "gpt-realtime-2.1",
    "gpt-realtime-2",
    "gpt-realtime-2.1-mini",
    "gpt-realtime-1.5",
    "gpt-realtime",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-12-15",
    "gpt-realtime-mini-2025-10-06",
];

/// The dialects of the Realtime API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's API since its general availability.
    Ga,
    /// OpenAI's beta API, which many compatible servers still speak.
    Beta,
    /// xAI's: the events of `Ga`, with voice and turn detection at the top of the session.
    Xai,
}

/// Everything about a [`super::ModelServer`]. The default is a healthy, strict server.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// Its dialect; messages of the others are refused.
    pub dialect: Dialect,
    /// The path of its endpoint.
    pub path: String,
    /// The only accepted key. If empty, no key is needed.
    pub key: String,
    /// The header that carries the bare key; `None` means `Authorization: Bearer KEY`.
    pub auth_header: Option<String>,
    /// A bad key or an unknown model is refused with an HTTP status instead of an error after the 101.
    pub denies_at_upgrade: bool,
    /// The models that exist. If empty, any model does.
    pub models: Vec<String>,
    /// The names of models, voices and transcription models are the server's own: any is accepted, and a model's name does
    /// not restrict its abilities.
    pub own_names: bool,
    /// The session keeps PCM, and reports it, whatever format an update asks for.
    pub pcm_only: bool,
    /// How it treats `conversation.item.truncate`.
    pub truncating: Truncating,
    /// It stops its response when the caller speaks, if the session asks for that.
    pub interrupts: bool,
    /// The time from the end of the caller's speech, or from a request, to the first delta.
    pub think: Duration,
    /// How long it takes to write a function call. Speech in that time cuts the call off.
    pub call_takes: Duration,
    /// Seconds of audio generated per second.
    pub burst: f64,
    /// What the spoken audio is made of.
    pub speech: Speech,
    /// Its script.
    pub script: Script,
    /// The n-th answers the session's n-th request that forces a function, whatever the function is. Later ones are
    /// called with values that fit their schemas.
    pub forms: Vec<Reply>,
    /// The hosted MCP servers and how their calls run.
    pub hosting: Hosting,
    /// Its faults.
    pub faults: Vec<Fault>,
    /// The number of connections, from the first, that have the faults; `None` means all.
    pub faulty_connections: Option<usize>,
    /// The range of `session.temperature`; `None` if the parameter is unknown.
    pub temperature: Option<RangeInclusive<f64>>,
    /// The maximum age of a session. At that age it ends with the error `session_expired`.
    pub session_cap: Duration,
    /// What it says about its limits.
    pub rate_limits: RateLimits,
    /// A known habit: after an assistant's words that the client put into the conversation, it answers with text only.
    pub text_after_seed: bool,
    /// It also sends unknown event types and fields.
    pub anomalies: bool,
    /// Up to two audio deltas of an interrupted response arrive after its end.
    pub late_deltas: bool,
    /// How often it pings; four unanswered ones end the session.
    pub ping: Duration,
    /// The seed for everything that the real service leaves open, such as the order of events.
    pub seed: u64,
    /// The number before that of the first spoken item. Two servers of one call need different numbers.
    pub items_from: u16,
    /// Keep all caller audio in the log.
    pub keep_audio: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            dialect: Dialect::Ga,
            path: "/v1/realtime".to_owned(),
            key: "sk-simulated".to_owned(),
            auth_header: None,
            denies_at_upgrade: false,
            own_names: false,
            pcm_only: false,
            truncating: Truncating::Works,
            interrupts: true,
            models: MODELS.iter().map(|&model| model.to_owned()).collect(),
            think: Duration::from_millis(500),
            call_takes: Duration::ZERO,
            burst: 5.0,
            speech: Speech::default(),
            script: Script::default(),
            forms: Vec::new(),
            hosting: Hosting::default(),
            faults: Vec::new(),
            faulty_connections: None,
            temperature: None,
            session_cap: Duration::from_secs(3_600),
            rate_limits: RateLimits::default(),
            text_after_seed: false,
            anomalies: true,
            late_deltas: true,
            ping: Duration::from_secs(20),
            seed: 1,
            items_from: 0,
            keep_audio: false,
        }
    }
}

impl ModelOptions {
    /// Whether the connection with this number, from 0, has the faults.
    pub(super) fn is_faulty(&self, number: usize) -> bool {
        self.faulty_connections.is_none_or(|count| number < count)
    }
}

/// The figures of `rate_limits.updated`, and of the error that a limit causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Tokens per minute.
    pub limit: u64,
    /// What is left of them. `None`: the limit without the tokens of the last response.
    pub remaining: Option<u64>,
    pub reset: Duration,
    /// The "try again in" of the error `rate_limit_exceeded`.
    pub wait: Duration,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            limit: 40_000,
            remaining: None,
            reset: Duration::from_millis(300),
            wait: Duration::from_millis(1_500),
        }
    }
}

/// Hosted MCP: the servers, and what the reference leaves open.
#[derive(Debug, Clone, Default)]
pub struct Hosting {
    /// The servers that exist. Any other server has exactly the tools that the client allows.
    pub servers: Vec<HostedServer>,
    /// A hosted call ends before its response does; otherwise after it.
    pub within_response: bool,
    /// An approved call runs in the next response; otherwise at once, outside any response.
    pub approved_in_response: bool,
}

#[derive(Debug, Clone)]
pub struct HostedServer {
    pub label: String,
    pub tools: Vec<HostedTool>,
    pub listing: Listing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedTool {
    pub name: String,
    /// Its annotation `readOnlyHint`.
    pub read_only: bool,
}

/// How the listing of a hosted server goes. Its tools can be called only after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Works,
    /// Works after this delay.
    Late(Duration),
    Fails,
}

impl HostedServer {
    /// A server whose listing works and whose tools are not read-only.
    pub fn new(label: impl Into<String>, tools: &[&str]) -> Self {
        let tools =
            tools.iter().map(|&name| HostedTool { name: name.to_owned(), read_only: false }).collect();
        Self { label: label.into(), tools, listing: Listing::Works }
    }
}

/// How a server treats truncations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncating {
    Works,
    /// The event is unknown: an error.
    Refused,
    /// The event is accepted and ignored.
    Ignored,
}
