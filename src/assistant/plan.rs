//! A plan: one assistant, rendered and frozen for one call.
//!
//! A call keeps its plan from the ring to the goodbye, even if the files change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

pub use super::arguments::Arguments;
use super::fit;
use super::language::{ENGLISH, Language, Words, is_backchannel};
pub use super::request::{HttpCall, HttpRequest};
pub use super::sounds::{GREETING, SOUNDS, Sound, SoundKey, SoundName, Sounds, Voice};
use crate::phone::PhoneNumber;
use crate::provider::{Provider, TurnDetection};
use crate::secret::Secret;
use switchboard_audio::Clip;

/// Everything that a call needs to know about its assistant.
#[derive(Clone, PartialEq)]
pub struct Plan {
    /// The assistant's name: its file's name without the extension.
    pub assistant: String,
    /// Of that file.
    pub version: Version,
    /// The call is a test, such as one from the console: it counts in no limit and no figure.
    pub test: bool,
    /// The language that the callers speak; `None` if the file does not say.
    pub language: Option<Language>,
    /// All that may be spoken, if there are several.
    pub languages: Vec<Language>,
    /// Names and words that may be said.
    pub vocabulary: Vec<String>,
    pub reader: Reader,
    /// Whose endpoint answers, with which key, and what it can do.
    pub provider: Arc<Provider>,
    pub model: String,
    pub voice: String,
    /// 0.25 to 1.5; `None` leaves it to the provider.
    pub speed: Option<f64>,
    /// `None` unless the provider takes one.
    pub temperature: Option<f64>,
    /// `None` unless the model takes one.
    pub reasoning: Option<Effort>,
    /// The rendered prompt: the assistant's instructions, then the fragments, then the tools' instructions.
    pub instructions: String,
    pub greeting: Greeting,
    pub turn_taking: TurnTaking,
    pub dtmf: Dtmf,
    pub transcription: Option<Transcription>,
    /// What the model may call and the server runs, each with a unique name.
    pub tools: Vec<Tool>,
    /// MCP servers whose tools the model's host runs.
    pub hosted: Vec<Hosted>,
    pub limits: Limits,
    /// Said if the call cannot be taken.
    pub busy: Line,
    /// Dialed after that.
    pub busy_dial: Option<PhoneNumber>,
    pub on_failure: OnFailure,
    /// Played from memory while the model cannot speak.
    pub sounds: Arc<Sounds>,
    /// What the caller hears while a tool takes long, unless the tool has its own.
    pub hold: Hold,
    pub record: RecordPolicy,
    /// Said before anything else of a call that is recorded; it needs `record.audio`.
    pub recording_notice: Option<Line>,
    pub notify: Option<Notify>,
    /// `None` also if the provider cannot fill it.
    pub after_call: Option<AfterCall>,
    /// The same assistant at each of its fallback providers, in order. Theirs are empty.
    pub fallback: Vec<Arc<Plan>>,
}

/// How an assistant's owner reads: in which words, and by which clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    pub words: &'static Words,
    pub zone: TimeZone,
}

impl Default for Reader {
    /// In English, in UTC.
    fn default() -> Self {
        Self { words: Words::ENGLISH, zone: TimeZone::UTC }
    }
}

/// The version of an assistant's file: `sha256:` and its hash. It does not change what the file means, so that plans of
/// different versions can be equal.
#[derive(Debug, Clone)]
pub struct Version(Arc<str>);

impl Version {
    pub fn of(file: &[u8]) -> Self {
        let hash: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hash}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Version {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What is kept of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPolicy {
    /// What was said.
    pub transcript: bool,
    /// How it sounded.
    pub audio: bool,
    /// The arguments and results of tools.
    pub tools: bool,
    /// For how long.
    pub keep: Duration,
    pub numbers: KeptNumbers,
}

/// How the caller's number is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptNumbers {
    Full,
    /// Its last digits, and a keyed hash that finds it again.
    Masked,
    None,
}

impl RecordPolicy {
    /// If nobody wrote anything.
    pub const DEFAULT: RecordPolicy = RecordPolicy {
        transcript: true,
        audio: false,
        tools: false,
        keep: Duration::from_secs(30 * 24 * 3600),
        numbers: KeptNumbers::Full,
    };
}

impl Default for RecordPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Plan {
    /// How many endpoints can serve the call: the assistant's own provider, then its fallbacks.
    pub fn endpoints(&self) -> usize {
        1 + self.fallback.len()
    }

    /// The plan for an endpoint: 0 is the assistant's own provider, 1 the first fallback. There are
    /// [`Self::endpoints`]; any other index is the assistant's own.
    pub fn at(self: &Arc<Self>, endpoint: usize) -> &Arc<Plan> {
        endpoint.checked_sub(1).and_then(|fallback| self.fallback.get(fallback)).unwrap_or(self)
    }

    /// How long Twilio's voice takes for the recording notice, at most.
    pub fn notice_takes(&self) -> Duration {
        /// Every voice says more than four letters in a second.
        const LETTER: Duration = Duration::from_millis(250);
        let letters = self.recording_notice.as_ref().map_or(0, |notice| notice.say.chars().count());
        LETTER * u32::try_from(letters).unwrap_or(u32::MAX)
    }

    /// The prepared lines that the model has not said yet: the key under which each is kept, its name and its text.
    pub fn missing_sounds(&self) -> impl Iterator<Item = (SoundKey, &'static str, &str)> {
        let missing = self.sounds.iter().filter(|(_, sound)| sound.voice == Voice::Missing);
        missing.map(|(name, sound)| (self.sound_key(&sound.text), name, sound.text.as_str()))
    }

    /// Whether the caller says nothing but that the assistant may go on, such as "mhm".
    pub fn is_backchannel(&self, words: &str) -> bool {
        is_backchannel(self.language.as_ref(), words)
    }

    /// The key of a line in this plan's voice.
    pub fn sound_key(&self, text: &str) -> SoundKey {
        let language = self.language.as_ref().map(|language| language.tag()).unwrap_or_default();
        let speed = self.speed.map(|speed| speed.to_string()).unwrap_or_default();
        let Provider { name, url, .. } = &*self.provider;
        SoundKey::of(&[text, &self.voice, &speed, &self.model, name, url, language])
    }
}

impl fmt::Debug for Plan {
    /// Names only: rendered text may contain the caller's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { assistant, provider, model, voice, .. } = self;
        write!(f, "Plan({assistant} with {voice} on {model} at {})", provider.name)
    }
}

/// How a call opens.
#[derive(Clone, PartialEq)]
pub struct Greeting {
    pub first: First,
    /// The rendered line: with a clip its text, otherwise what the model says.
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
    pub interruptions: Interruptions,
    /// What happens when a key is pressed while the assistant speaks.
    pub keys: Keys,
    pub noise_reduction: Option<NoiseReduction>,
}

/// What happens when a key is pressed while the assistant speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The assistant stops, as for speech.
    Interrupt,
    /// The assistant goes on. The keys are answered afterwards.
    Wait,
}

/// When the keys that the caller presses are one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dtmf {
    /// It has so many keys at most.
    pub length: usize,
    /// This key ends it, and is no part of it. `None`: no key does.
    pub end: Option<char>,
    /// No other key follows for so long.
    pub wait: Duration,
}

/// What happens when the caller talks over the assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruptions {
    /// The assistant stops, and the model hears how much was heard.
    Immediate,
    /// The assistant stops, and goes on if it was no speech.
    Confirmed,
    /// The assistant goes on. What the caller says is answered afterwards.
    None,
}

/// How the end of the caller's turn is noticed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detection {
    /// By energy (`server_vad`). The threshold is 0.0 to 1.0.
    Server { threshold: f64, silence: Duration, prefix: Duration },
    /// By meaning (`semantic_vad`).
    Semantic { eagerness: Eagerness },
}

impl Detection {
    pub fn kind(&self) -> TurnDetection {
        match self {
            Detection::Server { .. } => TurnDetection::Server,
            Detection::Semantic { .. } => TurnDetection::Semantic,
        }
    }
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

/// A second model transcribes the caller.
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
/// Keys in one use of it.
pub const MAX_KEYS: usize = 32;
/// The tool with which it writes to the caller's phone.
pub const SEND_SMS: &str = "send_sms";
/// The tool with which it takes down a message for the owner.
pub const TAKE_MESSAGE: &str = "take_message";

/// A tool that the model may call.
#[derive(Clone, PartialEq)]
pub struct Tool {
    /// As the model knows it: 1 to 64 letters, digits, `_` and `-`; unique within a plan.
    pub name: String,
    /// When to use it and what it does, for the model.
    pub description: String,
    /// A JSON Schema of an object that every provider takes.
    pub parameters: Map<String, Value>,
    /// The owner's own schema of the arguments: the tool does not run with others. `None`: whoever runs it judges them.
    pub arguments: Option<Arguments>,
    pub rule: Rule,
    pub work: Work,
}

/// How a tool is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The tool runs only if the caller agrees.
    pub ask_first: bool,
    /// How long one use may take.
    pub timeout: Duration,
    /// After how long the assistant asks the caller to wait.
    pub filler_after: Duration,
    /// The tool is cancelled when the caller interrupts.
    pub stop_on_interruption: bool,
    /// How often it runs in one call. The built-in tools have [`Limits`].
    pub max_per_call: u32,
    /// What the caller hears while it runs; `None`: what the assistant has for all tools.
    pub hold: Option<Hold>,
}

/// What the caller hears while a tool takes long.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Hold {
    /// The soft tone.
    #[default]
    Tone,
    /// Nothing.
    None,
    /// The owner's recording, again and again.
    Recording(Arc<Clip>),
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tone => "tone",
            Self::None => "none",
            Self::Recording(_) => "recording",
        })
    }
}

/// What a tool call does.
#[derive(Clone, PartialEq)]
pub enum Work {
    /// The call ends once the goodbye is heard.
    EndCall,
    /// The call is passed on; the argument `to` names one of these.
    Transfer(Vec<Target>),
    /// Presses the argument `digits`: 0 to 9, `*`, `#`, and `w` to wait for half a second.
    SendDigits,
    /// Runs while the call goes on.
    Job(Arc<Job>),
}

/// A person whom a call can be transferred to.
#[derive(Clone, PartialEq)]
pub struct Target {
    pub name: String,
    pub number: PhoneNumber,
    /// How long their phone rings.
    pub ring: Duration,
}

/// Work outside the call.
#[derive(Clone, PartialEq)]
pub enum Job {
    /// A tool of an MCP server. The owner sets the arguments in `fixed`; the model does not see them.
    Mcp {
        server: Arc<Server>,
        tool: String,
        fixed: Map<String, Value>,
    },
    Http(HttpCall),
    /// Sends the argument `text` as a message to the caller's own number.
    SendSms,
    /// Sends the arguments as a message to the owner.
    TakeMessage(Mailbox),
}

/// An MCP server with `via: runtime`. Servers with the same reach share one connection.
#[derive(Clone, PartialEq)]
pub struct Server {
    /// The key in `mcp`: for logs.
    pub name: String,
    pub reach: Reach,
}

/// How one assistant uses an MCP server with `via: runtime`.
#[derive(Clone, PartialEq)]
pub struct ServerUse {
    /// The assistant's name.
    pub assistant: String,
    pub server: Arc<Server>,
    /// The tools that the model sees directly; `None`: all.
    pub allow: Option<Vec<String>>,
    /// The tools that its file names. The server may not have them.
    pub named: Vec<String>,
}

/// Where an MCP server is.
#[derive(Clone, PartialEq)]
pub enum Reach {
    /// With the headers of every request, including `authorization`.
    Url { url: String, headers: Vec<(String, Secret)> },
    /// A program to start, with its arguments, and its environment in addition to `PATH`, `HOME` and the like. `secrets`
    /// are the values in `command` that come from variables.
    Command { command: Vec<String>, env: Vec<(String, Secret)>, secrets: Vec<Secret> },
}

/// An MCP server with `via: provider`: the model's host connects to it.
#[derive(Clone, PartialEq)]
pub struct Hosted {
    /// The key in `mcp`.
    pub label: String,
    pub url: String,
    /// An access token, without `Bearer`; never together with a header `authorization`.
    pub authorization: Option<Secret>,
    pub headers: Vec<(String, Secret)>,
    /// The tools that the model may use; `None`: all.
    pub allowed: Option<Vec<String>>,
    /// Which tools need the caller's yes.
    pub ask_first: AskFirst,
}

/// Which of a server's tools need the caller's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskFirst {
    Never,
    Always,
    Of(Vec<String>),
}

/// Where something for the owner goes: each way that is there.
#[derive(Clone, PartialEq, Default)]
pub struct Mailbox {
    /// An address for e-mail.
    pub email: Option<String>,
    /// The phone that gets a text message.
    pub sms: Option<PhoneNumber>,
    pub webhook: Option<Webhook>,
    /// The path of a file below `STATE_DIR` that gets a line of JSON.
    pub file: Option<String>,
}

impl Mailbox {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An address that gets signed requests.
#[derive(Clone, PartialEq)]
pub struct Webhook {
    pub url: String,
    /// Signs each delivery as in Standard Webhooks.
    pub secret: Secret,
}

/// What the owner wants to hear of calls once they are over.
#[derive(Clone, PartialEq)]
pub struct Notify {
    pub to: Mailbox,
    /// At least one.
    pub when: Vec<Occasion>,
}

/// The calls after which the owner gets a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// Every call.
    Always,
    /// The caller left a message.
    Message,
    /// The call went wrong.
    Failure,
    /// Nobody took a transferred call.
    TransferFailed,
    /// A ring was refused.
    Refused,
}

/// The form that the model fills after the call.
#[derive(Clone, PartialEq)]
pub struct AfterCall {
    /// The schema of the form: the owner's fields, and `summary` if the file asks for one.
    pub form: Arguments,
    /// Whether the form has a `summary`.
    pub summary: bool,
    pub webhook: Option<Webhook>,
}

impl AfterCall {
    /// The names of what the form contains.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let properties = self.form.schema().get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(|fields| fields.keys().map(String::as_str))
    }
}

/// A tool that an MCP server lists.
#[derive(Clone, PartialEq)]
pub struct Listed {
    pub name: String,
    pub description: String,
    /// Its arguments as every provider takes them, including those that the owner fixes.
    pub schema: Map<String, Value>,
}

impl Listed {
    /// A tool with its server's schema. The schema is adapted for models here, once; calls copy it.
    pub fn new(name: String, description: String, schema: &Map<String, Value>) -> Self {
        Self { name, description, schema: fit::schema(schema) }
    }
}

/// What a plan depends on in addition to the owner's files.
pub trait Supply: Send + Sync {
    /// The tools that the server has listed; `None` while it cannot be reached.
    fn listed(&self, server: &Server) -> Option<Arc<[Listed]>>;
    /// Whether text messages can be sent.
    fn sends_texts(&self) -> bool;
    /// The prepared line that the model said under this key.
    fn captured(&self, line: &SoundKey) -> Option<Arc<Clip>>;
}

/// No server can be reached, and no text message can be sent.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Supply for Nothing {
    fn listed(&self, _: &Server) -> Option<Arc<[Listed]>> {
        None
    }

    fn sends_texts(&self) -> bool {
        false
    }

    fn captured(&self, _: &SoundKey) -> Option<Arc<Clip>> {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The longest call.
    pub call: Duration,
    /// The longest silence of both sides.
    pub silence: Duration,
    /// Text messages to the caller.
    pub sms: u32,
    /// Messages for the owner.
    pub messages: u32,
    /// Transfers for which a phone rings.
    pub transfers: u32,
    /// What the call may cost, in dollars.
    pub cost: Option<f64>,
}

/// Who gets through to an assistant. It is judged when the phone rings, before there is a plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gate {
    /// Calls at once.
    pub calls: Option<u32>,
    /// What the calls of a day may cost, in dollars. The day is one of the assistant's time zone.
    pub cost_per_day: Option<f64>,
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
    /// Withheld numbers count as one caller.
    pub count_withheld: bool,
    pub block: Vec<Blocked>,
}

impl Gate {
    /// Whether all but the blocked callers is the same.
    pub fn same_limits(&self, other: &Self) -> bool {
        Self { block: Vec::new(), ..self.clone() } == Self { block: Vec::new(), ..other.clone() }
    }
}

/// Callers who are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocked {
    Number(PhoneNumber),
    /// Every number that begins with these digits, the plus included.
    Prefix(String),
    /// Callers whose number is withheld.
    Withheld,
}

/// A sentence for Twilio's voice to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    pub say: String,
    /// A locale of `<Say>`, such as `en-US`.
    pub language: &'static str,
}

impl Line {
    /// One of our own sentences, in the language of this locale if we have it, otherwise in English.
    pub fn ours(locale: &'static str, sentence: fn(&Words) -> &'static str) -> Line {
        match Words::of(locale) {
            Some(words) => Line { say: sentence(words).to_owned(), language: locale },
            None => Line { say: sentence(Words::ENGLISH).to_owned(), language: ENGLISH },
        }
    }
}

impl OnFailure {
    /// Our own sentence, for whether somebody is dialed.
    pub fn prepared(dial: bool) -> fn(&Words) -> &'static str {
        if dial { |words| words.connecting } else { |words| words.sorry }
    }
}

/// What the caller hears after a failure, and who is dialed then.
#[derive(Clone, PartialEq, Eq)]
pub struct OnFailure {
    pub line: Line,
    pub dial: Option<PhoneNumber>,
}
