//! A plan: one assistant, rendered and frozen for one call.
//!
//! A call keeps its plan from the ring to the goodbye, whatever happens to the files meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::audio::Clip;
use crate::phone::PhoneNumber;
use crate::provider::Provider;

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
    pub call_control: CallControl,
    pub limits: Limits,
    /// Said when the call cannot be taken.
    pub busy: Line,
    pub on_failure: OnFailure,
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

/// What the assistant may do with the call itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallControl {
    /// The model may end the call.
    pub end_call: bool,
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
