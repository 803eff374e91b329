//! How a simulated model behaves: its speed, its voice, its script, and what goes wrong with it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::script::Script;
use super::speech::Speech;

/// The models the real service knew in November 2026.
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

/// How the messages of the Realtime API are spelt.
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
#[derive(Clone)]
pub struct ModelOptions {
    /// How its messages are spelt; those of the other dialects are refused.
    pub dialect: Dialect,
    /// Where it answers.
    pub path: String,
    /// The one key that is accepted; where it is empty, anybody is.
    pub key: String,
    /// The header that holds the bare key; `None` is `Authorization: Bearer KEY`.
    pub auth_header: Option<String>,
    /// Who has no key, or asks for a model that does not exist, is refused by a status in place of the 101.
    pub denies_at_upgrade: bool,
    /// The models that exist; any other is refused after the 101. Where it is empty, all do.
    pub models: Vec<String>,
    /// Any name of a voice or of a transcription model is taken, and a model's name says nothing of what it can
    /// do: the names are the server's own.
    pub own_names: bool,
    /// Whatever format an update asks for, the session stays with PCM, and says so.
    pub pcm_only: bool,
    /// What becomes of `conversation.item.truncate`.
    pub truncating: Truncating,
    /// It stops its response when the caller speaks, where the session says so.
    pub interrupts: bool,
    /// From the end of the caller's speech, or a request, to the first delta.
    pub think: Duration,
    /// From the beginning of a function call to its last word. Who speaks meanwhile cuts it off.
    pub call_takes: Duration,
    /// Seconds of audio made in one second of wall time.
    pub burst: f64,
    /// What the spoken audio is made of.
    pub speech: Speech,
    /// What it answers.
    pub script: Script,
    /// The hosted MCP servers, and how their calls run.
    pub hosting: Hosting,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Only this many connections, from the first, have the faults; `None` is all.
    pub faulty_connections: Option<usize>,
    /// The range of `session.temperature`; `None` where it is an unknown parameter.
    pub temperature: Option<RangeInclusive<f64>>,
    /// After this long a session expires.
    pub session_cap: Duration,
    /// Unknown event types and fields are sprinkled in.
    pub anomalies: bool,
    /// Up to two audio deltas of an interrupted response still arrive after its end.
    pub late_deltas: bool,
    /// How often it pings; four unanswered ones end the session.
    pub ping: Duration,
    /// The order of things the real service leaves open follows from this.
    pub seed: u64,
    /// All caller audio is kept in the log.
    pub keep_audio: bool,
}

impl std::fmt::Debug for ModelOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelOptions")
            .field("speech", &self.speech)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
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
            hosting: Hosting::default(),
            faults: Vec::new(),
            faulty_connections: None,
            temperature: None,
            session_cap: Duration::from_secs(3_600),
            anomalies: true,
            late_deltas: true,
            ping: Duration::from_secs(20),
            seed: 1,
            keep_audio: false,
        }
    }
}

impl ModelOptions {
    /// The faults of the connection with this number, from 0.
    pub(super) fn faults_of(&self, number: usize) -> &[Fault] {
        let is_affected = self.faulty_connections.is_none_or(|count| number < count);
        if is_affected { &self.faults } else { &[] }
    }
}

/// Hosted MCP: what there is, and what the reference leaves open.
#[derive(Debug, Clone, Default)]
pub struct Hosting {
    /// The servers that exist. One that is not among them has the tools that the client allows it.
    pub servers: Vec<HostedServer>,
    /// A hosted call ends before `response.done`; otherwise its response is over first.
    pub within_response: bool,
    /// An approved call runs in the response that is asked for next; otherwise at once, outside any.
    pub approved_in_response: bool,
}

/// One hosted server, known by its label.
#[derive(Debug, Clone)]
pub struct HostedServer {
    pub label: String,
    pub tools: Vec<HostedTool>,
    pub listing: Listing,
}

/// A tool that a hosted server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedTool {
    pub name: String,
    /// Its annotation `readOnlyHint`.
    pub read_only: bool,
}

/// How a hosted server's tools get known. A tool can be called only after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Works,
    /// After so long.
    Late(Duration),
    Fails,
}

impl HostedServer {
    /// A server whose listing works. No tool of it is read-only.
    pub fn new(label: impl Into<String>, tools: &[&str]) -> Self {
        let tools =
            tools.iter().map(|&name| HostedTool { name: name.to_owned(), read_only: false }).collect();
        Self { label: label.into(), tools, listing: Listing::Works }
    }
}

/// What becomes of a truncation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncating {
    Works,
    /// There is no such event: an error.
    Refused,
    /// It is taken, and nothing happens.
    Ignored,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The upgrade is answered with this HTTP status.
    UpgradeStatus(u16),
    /// The connection is accepted and nothing is ever said.
    SilentTcp,
    /// The connection is refused after the 101, whatever it asked.
    RefuseConnect(ConnectError),
    /// `session.created` never comes.
    NoCreated,
    /// Updates are applied, and `session.updated` never comes.
    NoUpdated,
    /// `session.updated` comes this late.
    LateUpdated(Duration),
    /// An update with transcription, noise reduction, speed, reasoning or truncation is refused; with `once`,
    /// only the server's first such update.
    RefuseOptional { once: bool },
    /// Every update is refused.
    RefuseUpdates,
    /// The n-th response of the session, from 1, fails with this code before it says anything.
    ResponseFailed { nth: usize, code: &'static str },
    /// The client's n-th request for a response, from 1, is refused with this code.
    RefuseResponse { nth: usize, code: &'static str },
    /// The n-th response ends half-way for this reason, in its words or in its call: `max_output_tokens` or
    /// `content_filter`.
    ResponseIncomplete { nth: usize, reason: &'static str },
    /// The n-th response stops making audio for ever once it has sent this much.
    Stall { nth: usize, after: Duration },
    /// The connection is dropped without a close frame.
    Drop(When),
    /// The connection is closed with this code and reason.
    Close { when: When, code: u16, reason: &'static str },
    /// The session expires early: an error, then close 1001.
    Expire(When),
    /// Frames that make no sense: text that is not JSON, JSON without a type, binary.
    Garbage(When),
    /// One text frame of this many bytes.
    Huge { when: When, bytes: usize },
    /// Every spoken answer comes as two items, with phases.
    TwoItems,
    /// Function calls are not made but said, as text that looks like one: `name({"a": 1})`.
    WritesCalls,
    /// Each `speech_started` comes twice.
    DuplicateSpeechStarted,
    /// An `error` nobody asked for, with an unknown code.
    UnsolicitedError(When),
    /// `rate_limits.updated` never comes.
    NoRateLimits,
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This long after the connection was made.
    After(Duration),
    /// At the first delta of the n-th response, from 1.
    Response(usize),
}

/// Why a connection is refused right after the 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// The key is not the one: 3000.
    InvalidKey,
    /// No bearer token came: 3000.
    MissingKey,
    /// No such model: 4000.
    UnknownModel,
    /// No model was named: 4000.
    MissingModel,
    /// The beta's header came: 4000.
    BetaHeader,
    /// Nothing is left on the account: 4000.
    InsufficientQuota,
}

impl Fault {
    /// When a fault that strikes on its own does so.
    pub(super) fn when(&self) -> Option<When> {
        match self {
            Fault::Drop(when)
            | Fault::Expire(when)
            | Fault::Garbage(when)
            | Fault::UnsolicitedError(when)
            | Fault::Huge { when, .. }
            | Fault::Close { when, .. } => Some(*when),
            _ => None,
        }
    }
}
