//! A plan: one assistant, rendered and frozen for one call.
//!
//! A call keeps its plan from the ring to the goodbye, whatever happens to the files meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::fit;
pub use super::request::{HttpCall, HttpRequest, unfit};
use crate::phone::PhoneNumber;
use crate::provider::Provider;
use crate::secret::Secret;
use switchboard_audio::Clip;

/// All that a call needs to know of its assistant.
#[derive(Clone, PartialEq)]
pub struct Plan {
    /// The assistant's name: its file's name without the extension.
    pub assistant: String,
    /// Whose endpoint answers, with which key, and what it can do.
    pub provider: Arc<Provider>,
    pub model: String,
    pub voice: String,
    /// 0.25 to 1.5; `None` leaves it to the provider.
    pub speed: Option<f64>,
    /// Present only where the provider takes one in the session.
    pub temperature: Option<f64>,
    /// Present only where the model takes one.
    pub reasoning: Option<Effort>,
    /// The rendered prompt: the assistant's fragment, then the shared ones.
    pub instructions: String,
    pub greeting: Greeting,
    pub turn_taking: TurnTaking,
    pub transcription: Option<Transcription>,
    /// What the model may call and we run, each under a name of its own.
    pub tools: Vec<Tool>,
    /// MCP servers whose tools the model's host runs.
    pub hosted: Vec<Hosted>,
    pub limits: Limits,
    /// Said when the call cannot be taken.
    pub busy: Line,
    pub on_failure: OnFailure,
}

impl Plan {
    /// What may still be asked of the plan once its call is over: who answered, and what is said and done when things
    /// went wrong. The tools are gone, and with them what keeps their servers in reach.
    pub fn remains(&self) -> Plan {
        Plan {
            assistant: self.assistant.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            voice: self.voice.clone(),
            speed: self.speed,
            temperature: self.temperature,
            reasoning: self.reasoning,
            instructions: String::new(),
            greeting: self.greeting.clone(),
            turn_taking: self.turn_taking.clone(),
            transcription: self.transcription.clone(),
            tools: Vec::new(),
            hosted: Vec::new(),
            limits: self.limits,
            busy: self.busy.clone(),
            on_failure: self.on_failure.clone(),
        }
    }
}

impl fmt::Debug for Plan {
    /// Names only: rendered text may hold the caller's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { assistant, provider, model, voice, .. } = self;
        write!(f, "Plan({assistant} with {voice} on {model} at {})", provider.name)
    }
}

/// How a call opens.
#[derive(Clone, PartialEq)]
pub struct Greeting {
    pub first: First,
    /// The rendered line. With a clip it is the clip's text; without one the model is asked to say it.
    pub say: Option<String>,
    /// A recorded greeting, played at once from memory.
    pub clip: Option<Arc<Clip>>,
    pub interruptible: bool,
}

/// Who speaks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    Assistant,
    Caller,
}

/// How turns are taken.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnTaking {
    pub detection: Detection,
    /// Whether the caller may talk over the assistant.
    pub interruptions: bool,
    pub noise_reduction: Option<NoiseReduction>,
}

/// Who decides that the caller speaks, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detection {
    /// By energy (`server_vad`). The threshold is 0.0 to 1.0.
    Server { threshold: f64, silence: Duration, prefix: Duration },
    /// By meaning (`semantic_vad`).
    Semantic { eagerness: Eagerness },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eagerness {
    Low,
    Medium,
    High,
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseReduction {
    NearField,
    FarField,
}

/// How hard a reasoning model thinks before it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Not at all.
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

impl Effort {
    /// As written, in YAML and in the session.
    pub fn name(self) -> &'static str {
        match self {
            Effort::None => "none",
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::Xhigh => "xhigh",
        }
    }
}

/// A second model writes down what the caller says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcription {
    pub model: String,
    /// ISO 639-1.
    pub language: Option<String>,
}

/// The tool with which the model ends the call.
pub const END_CALL: &str = "end_call";
/// The tool with which it passes the call on to a person.
pub const TRANSFER_CALL: &str = "transfer_call";
/// The tool with which it presses keys, for a machine at the other end.
pub const SEND_DIGITS: &str = "send_digits";
/// Keys that are pressed at once.
pub const MAX_KEYS: usize = 32;
/// The tool with which it writes to the caller's phone.
pub const SEND_SMS: &str = "send_sms";
/// The tool with which it takes down a message for the owner.
pub const TAKE_MESSAGE: &str = "take_message";

/// Something that the model may call.
#[derive(Clone, PartialEq)]
pub struct Tool {
    /// As the model knows it: 1 to 64 letters, digits, `_` and `-`; no two in a plan have the same.
    pub name: String,
    /// When to use it and what it does, for the model.
    pub description: String,
    /// A JSON Schema of an object, as every provider takes it.
    pub parameters: Map<String, Value>,
    pub rule: Rule,
    pub work: Work,
}

/// How a tool is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The caller is asked first: what they have not agreed to is not run.
    pub ask_first: bool,
    /// How long one use may take.
    pub timeout: Duration,
    /// After how long the caller is told to wait.
    pub filler_after: Duration,
    /// It is given up when the caller speaks.
    pub stop_on_interruption: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            ask_first: false,
            timeout: Duration::from_secs(10),
            filler_after: Duration::from_millis(1_500),
            stop_on_interruption: false,
        }
    }
}

/// What becomes of a tool that is called.
#[derive(Clone, PartialEq)]
pub enum Work {
    /// The call ends once the goodbye is heard.
    EndCall,
    /// The call is passed on; the argument `to` names one of these.
    Transfer(Vec<Target>),
    /// The argument `digits` is pressed: 0 to 9, `*`, `#`, and `w` for half a second's wait.
    SendDigits,
    /// It is done beside the call.
    Job(Arc<Job>),
}

/// Somebody whom a call can be passed on to.
#[derive(Clone, PartialEq)]
pub struct Target {
    pub name: String,
    pub number: PhoneNumber,
    /// How long their phone rings.
    pub ring: Duration,
}

/// Work outside of the call.
#[derive(Clone, PartialEq)]
pub enum Job {
    /// A tool of an MCP server. `fixed` are arguments that the owner gives, and the model does not see.
    Mcp {
        server: Arc<Server>,
        tool: String,
        fixed: Map<String, Value>,
        /// What the owner says of the arguments: others are not sent. `None`: the server alone judges them.
        parameters: Option<Map<String, Value>>,
    },
    Http(HttpCall),
    /// A text message to the caller's own number; the argument is `text`.
    SendSms,
    /// The arguments are a message for the owner.
    TakeMessage(Mailbox),
}

/// An MCP server whose client we are. Servers with the same reach share one connection.
#[derive(Clone, PartialEq)]
pub struct Server {
    /// The key in `mcp`: for logs.
    pub name: String,
    pub reach: Reach,
}

/// How one assistant uses an MCP server whose client we are.
#[derive(Clone, PartialEq)]
pub struct ServerUse {
    /// The assistant's name.
    pub assistant: String,
    pub server: Arc<Server>,
    /// The tools that the model sees by themselves; `None`: all.
    pub allow: Option<Vec<String>>,
    /// The tools that its file speaks of. Whether the server has them is known once it is listed.
    pub named: Vec<String>,
}

/// Where an MCP server is.
#[derive(Clone, PartialEq)]
pub enum Reach {
    /// With the headers of every request, `authorization` among them.
    Url { url: String, headers: Vec<(String, Secret)> },
    /// A program to start, with its arguments, and what it finds in its environment besides `PATH`, `HOME` and the
    /// like. `secrets` is what came into `command` from our environment.
    Command { command: Vec<String>, env: Vec<(String, Secret)>, secrets: Vec<Secret> },
}

/// An MCP server that the model's host asks by itself.
#[derive(Clone, PartialEq)]
pub struct Hosted {
    /// The key in `mcp`.
    pub label: String,
    pub url: String,
    /// An access token, without `Bearer`; never together with a header `authorization`.
    pub authorization: Option<Secret>,
    pub headers: Vec<(String, Secret)>,
    /// The tools that it may use; `None`: all.
    pub allowed: Option<Vec<String>>,
    /// Which tools need the caller's yes.
    pub ask_first: AskFirst,
}

/// Which of a server's tools need the caller's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskFirst {
    Never,
    Always,
    /// These do; no other does.
    Of(Vec<String>),
}

/// Where messages for the owner go.
#[derive(Clone, PartialEq)]
pub struct Mailbox {
    pub url: String,
    /// Signs each delivery, as Standard Webhooks has it.
    pub secret: Secret,
}

/// A tool that an MCP server has.
#[derive(Clone, PartialEq)]
pub struct Listed {
    pub name: String,
    pub description: String,
    /// Its arguments, as every provider takes them. Those that the owner gives are among them.
    pub schema: Map<String, Value>,
}

impl Listed {
    /// A tool with the schema that its server gives it. The schema is made fit for a model here, once: rings only
    /// copy it.
    pub fn new(name: String, description: String, schema: &Map<String, Value>) -> Self {
        Self { name, description, schema: fit::schema(schema) }
    }
}

/// What there is besides the owner's files while a plan is made.
pub trait Supply: Send + Sync {
    /// What the server has listed; `None` while it cannot be reached.
    fn listed(&self, server: &Server) -> Option<Arc<[Listed]>>;
    /// Whether text messages can be sent.
    fn sends_texts(&self) -> bool;
}

/// No server is reached, and no text can be sent.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Supply for Nothing {
    fn listed(&self, _: &Server) -> Option<Arc<[Listed]>> {
        None
    }

    fn sends_texts(&self) -> bool {
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest a call may take.
    pub call: Duration,
    /// The longest both sides may be quiet.
    pub silence: Duration,
}

/// A sentence for Twilio's voice to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    pub say: String,
    /// BCP 47, such as `en-US`.
    pub language: String,
}

/// What the caller hears when the conversation broke, and who is dialled then.
#[derive(Clone, PartialEq, Eq)]
pub struct OnFailure {
    pub line: Line,
    pub dial: Option<PhoneNumber>,
}
