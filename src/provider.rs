//! The providers of speech models, and what each can do.
//!
//! The check, the plan and the links read this one table of abilities. It knows no sockets and no messages: the links
//! know what an ability means on the wire. `failure.rs` has the table of what failures mean.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod failure;
pub mod prices;
pub mod usage;
pub mod wait;

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::secret::Secret;
pub use failure::{Cause, Class, Failure, markdown as failures, word_of};

/// The model of an assistant whose file names none.
pub const DEFAULT_MODEL: &str = "gpt-realtime-2.1";
/// The voice of an assistant whose file names none.
pub const DEFAULT_VOICE: &str = "marin";
/// The transcription model of an assistant whose file names none.
pub const DEFAULT_TRANSCRIPTION: &str = "gpt-transcribe";
/// OpenAI's own endpoint; `?model=` is added.
pub const OPENAI_REALTIME_URL: &str = "wss://api.openai.com/v1/realtime";

/// An endpoint with its credentials and abilities. `Debug` never shows the key.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// As assistants name it. `openai` is built in.
    pub name: String,
    pub engine: Engine,
    /// The spelling of its messages.
    pub dialect: Dialect,
    /// `ws://` or `wss://`, without the model.
    pub url: String,
    pub key: Option<Secret>,
    /// It rejects requests without a key.
    pub needs_key: bool,
    pub auth: Auth,
    pub abilities: Abilities,
}

/// The kind of speech model behind a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// OpenAI Realtime and compatible servers.
    Realtime,
}

impl Engine {
    /// As written in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Realtime => "realtime",
        }
    }
}

/// The spelling of the Realtime API's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's API since its general availability.
    Ga,
    /// OpenAI's API before that, which many compatible servers still use.
    Beta,
    /// xAI's API: the events of `Ga`, with voice and turn detection at the top level of the session.
    Xai,
}

impl Dialect {
    pub const ALL: [Dialect; 3] = [Dialect::Ga, Dialect::Beta, Dialect::Xai];

    /// As written in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Ga => "ga",
            Dialect::Beta => "beta",
            Dialect::Xai => "xai",
        }
    }
}

/// How the key is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of this name with the bare key.
    Header(String),
}

/// What a provider's sessions can do. The links send nothing that a provider cannot do.
#[derive(Debug, Clone, PartialEq)]
pub struct Abilities {
    /// Takes `conversation.item.truncate`.
    pub truncates: bool,
    /// Stops its own response when the caller speaks.
    pub interrupts_by_itself: bool,
    /// Leaves turns to us if it is asked to: it takes `create_response` and `interrupt_response`.
    pub leaves_turns: bool,
    /// The range of a session's `temperature`; `None` if the provider rejects or ignores the field.
    pub temperature: Option<RangeInclusive<f64>>,
    /// The range of the voice's speed; `None` if there is no such field.
    pub speed: Option<RangeInclusive<f64>>,
    /// How it can detect the end of a turn; the first is the default. Never empty.
    pub turn_detection: Vec<TurnDetection>,
    /// The range of the threshold of [`TurnDetection::Server`].
    pub threshold: RangeInclusive<f64>,
    /// Takes `noise_reduction`.
    pub noise_reduction: bool,
    /// The efforts of its reasoning models, as written in YAML; empty if there is no such field.
    pub efforts: Vec<Cow<'static, str>>,
    pub transcription: Transcribing,
    /// Its host connects to MCP servers by itself.
    pub hosted_mcp: bool,
    /// Fills in the form after a call: it takes a request for a response in text, outside the conversation, that must call
    /// one function.
    pub forms: bool,
    /// The longest session.
    pub session_limit: Duration,
    /// Its voices; empty if any name may be right. The first is the default.
    pub voices: Vec<Cow<'static, str>>,
    /// It has other voices too, such as an owner's own.
    pub open_voices: bool,
    /// Its known models; empty if any name may be right. The first is the default.
    pub models: Vec<Model>,
}

/// How a provider detects the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnDetection {
    /// By silence.
    Server,
    /// By meaning.
    Semantic,
}

impl TurnDetection {
    pub const ALL: [TurnDetection; 2] = [TurnDetection::Server, TurnDetection::Semantic];

    /// As written in YAML.
    pub fn name(self) -> &'static str {
        match self {
            TurnDetection::Server => "server",
            TurnDetection::Semantic => "semantic",
        }
    }
}

/// How a provider transcribes what the caller says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transcribing {
    /// With a model that the session names; the first is the default. If none is known, any name may be right, and none
    /// is sent unless the assistant's file names one.
    Named(Vec<Transcriber>),
    /// It transcribes by itself: nothing is sent.
    Automatic,
}

/// An announced last day, such as `20 January 2027`, and the replacement.
pub type Shutdown = (Cow<'static, str>, Cow<'static, str>);

/// What we know about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub name: Cow<'static, str>,
    /// Takes `reasoning` in the session.
    pub reasoning: bool,
    /// May call several tools in one response.
    pub parallel_tool_calls: bool,
    /// The context in tokens, if known.
    pub context: Option<u32>,
    /// The longest response in tokens, if known.
    pub max_output: Option<u32>,
    pub shutdown: Option<Shutdown>,
}

/// What we know about a transcription model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcriber {
    pub name: Cow<'static, str>,
    pub hints: Hints,
    pub shutdown: Option<Shutdown>,
}

/// How a transcription model takes words that it should expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    /// As `keywords`, and several `languages`.
    Keywords,
    /// In its `prompt`.
    Prompt,
    /// It takes none.
    None,
}

impl Provider {
    /// OpenAI's Realtime API, or a compatible server at `url`.
    pub fn openai(url: impl Into<String>, key: Option<Secret>) -> Provider {
        let abilities = Abilities {
            transcription: Transcribing::Named(TRANSCRIBERS.iter().map(Transcriber::from).collect()),
            voices: VOICES.iter().map(|voice| Cow::Borrowed(*voice)).collect(),
            open_voices: false,
            hosted_mcp: true,
            models: MODELS.iter().map(Model::from).collect(),
            ..Abilities::of(Dialect::Ga)
        };
        Provider {
            name: "openai".to_owned(),
            engine: Engine::Realtime,
            dialect: Dialect::Ga,
            url: url.into(),
            key,
            needs_key: true,
            auth: Auth::Bearer,
            abilities,
        }
    }

    /// What we know about the model of this name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.abilities.models.iter().find(|model| model.name == name)
    }

    /// Whether the model takes `reasoning` in its session. An unknown model does not.
    pub fn reasons(&self, model: &str) -> bool {
        self.model(model).is_some_and(|model| model.reasoning)
    }

    /// Whether it needs a key and has none.
    pub fn lacks_key(&self) -> bool {
        self.needs_key && self.key.is_none()
    }

    /// The model of an assistant whose file names none.
    pub fn default_model(&self) -> &str {
        self.abilities.models.first().map_or(DEFAULT_MODEL, |model| &model.name)
    }

    /// The voice of an assistant whose file names none.
    pub fn default_voice(&self) -> &str {
        self.abilities.voices.first().map_or(DEFAULT_VOICE, |voice| voice)
    }

    /// Whether a voice of this name may exist.
    pub fn has_voice(&self, name: &str) -> bool {
        let Abilities { voices, open_voices, .. } = &self.abilities;
        *open_voices || voices.is_empty() || voices.iter().any(|voice| voice == name)
    }

    /// Whether its host connects to MCP servers by itself.
    pub fn hosts_mcp(&self) -> bool {
        self.dialect == Dialect::Ga && self.abilities.hosted_mcp
    }

    /// How a transcription model takes words that it should expect.
    pub fn hints(&self, transcriber: &str) -> Hints {
        match &self.abilities.transcription {
            Transcribing::Named(known) => {
                let known = known.iter().find(|known| known.name == transcriber);
                known.map_or(Hints::None, |known| known.hints)
            }
            Transcribing::Automatic => Hints::None,
        }
    }

    /// Whether a transcription model of this name may exist.
    pub fn has_transcriber(&self, name: &str) -> bool {
        match &self.abilities.transcription {
            Transcribing::Named(known) => {
                known.is_empty() || known.iter().any(|transcriber| transcriber.name == name)
            }
            Transcribing::Automatic => false,
        }
    }

    /// The transcription model of an assistant whose file names none.
    pub fn default_transcriber(&self) -> Option<&str> {
        match &self.abilities.transcription {
            Transcribing::Named(known) => known.first().map(|transcriber| &*transcriber.name),
            Transcribing::Automatic => None,
        }
    }
}

impl Abilities {
    /// What a server of this dialect can do, unless its owner configures something else. Any name of a voice or model may
    /// be right.
    pub fn of(dialect: Dialect) -> Abilities {
        let ga = Abilities {
            truncates: true,
            interrupts_by_itself: true,
            leaves_turns: true,
            // The session has no `temperature`, and an unknown parameter makes the server reject the whole
            // configuration.
            temperature: None,
            speed: Some(0.25..=1.5),
            turn_detection: vec![TurnDetection::Server, TurnDetection::Semantic],
            threshold: 0.0..=1.0,
            noise_reduction: true,
            efforts: ["minimal", "low", "medium", "high", "xhigh"].map(Cow::Borrowed).to_vec(),
            transcription: Transcribing::Named(Vec::new()),
            hosted_mcp: false,
            // After the call, so nothing breaks at a server that cannot.
            forms: true,
            session_limit: Duration::from_secs(60 * 60),
            voices: Vec::new(),
            open_voices: true,
            models: Vec::new(),
        };
        match dialect {
            Dialect::Ga => ga,
            Dialect::Beta => Abilities {
                temperature: Some(0.6..=1.2),
                efforts: Vec::new(),
                forms: false,
                session_limit: Duration::from_secs(30 * 60),
                ..ga
            },
            Dialect::Xai => Abilities {
                speed: Some(0.7..=1.5),
                turn_detection: vec![TurnDetection::Server],
                threshold: 0.1..=0.9,
                noise_reduction: false,
                // Nothing says so.
                leaves_turns: false,
                efforts: ["none", "high"].map(Cow::Borrowed).to_vec(),
                transcription: Transcribing::Automatic,
                // It takes no `tool_choice` for a single response.
                forms: false,
                ..ga
            },
        }
    }
}

impl Model {
    /// A model of this name. If OpenAI has one of the same name, it is the same, except that OpenAI's shutdown date does
    /// not apply.
    pub fn named(name: &str) -> Model {
        match MODELS.iter().find(|row| row.0 == name) {
            Some(row) => Model { shutdown: None, ..Model::from(row) },
            None => Model {
                name: Cow::Owned(name.to_owned()),
                reasoning: false,
                parallel_tool_calls: false,
                context: None,
                max_output: None,
                shutdown: None,
            },
        }
    }
}

impl From<&Row> for Model {
    fn from(&(name, generation, shutdown): &Row) -> Model {
        let second = generation == Generation::Second;
        Model {
            name: Cow::Borrowed(name),
            reasoning: second,
            parallel_tool_calls: second,
            context: Some(if second { 128_000 } else { 32_000 }),
            max_output: Some(if second { 32_000 } else { 4_096 }),
            shutdown: shutdown.map(owned),
        }
    }
}

impl Transcriber {
    /// A model of this name. If OpenAI has one of the same name, it takes the same hints.
    pub fn named(name: String) -> Transcriber {
        let known = TRANSCRIBERS.iter().find(|(known, ..)| *known == name);
        let hints = known.map_or(Hints::None, |(_, hints, _)| *hints);
        Transcriber { name: name.into(), hints, shutdown: None }
    }
}

impl From<&(&'static str, Hints, Option<Announced>)> for Transcriber {
    fn from(&(name, hints, shutdown): &(&'static str, Hints, Option<Announced>)) -> Transcriber {
        Transcriber { name: Cow::Borrowed(name), hints, shutdown: shutdown.map(owned) }
    }
}

fn owned((day, next): Announced) -> Shutdown {
    (Cow::Borrowed(day), Cow::Borrowed(next))
}

/// The best two come first, because suggestions list them.
const VOICES: [&str; 10] =
    ["marin", "cedar", "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"];

/// The announced last day and the replacement.
type Announced = (&'static str, &'static str);

/// The name, the abilities, and the shutdown.
type Row = (&'static str, Generation, Option<Announced>);

/// What the models of one generation have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// 32k tokens of context, no reasoning, one tool at a time.
    First,
    /// 128k tokens of context, reasoning, several tools at once.
    Second,
}

const JANUARY: &str = "20 January 2027";
const FEBRUARY: &str = "26 February 2027";

/// As announced in November 2026.
const MODELS: [Row; 9] = [
    ("gpt-realtime-2.1", Generation::Second, None),
    ("gpt-realtime-2.1-mini", Generation::Second, None),
    ("gpt-realtime-2", Generation::Second, None),
    ("gpt-realtime-1.5", Generation::First, None),
    ("gpt-realtime", Generation::First, Some((JANUARY, "gpt-realtime-2.1"))),
    ("gpt-realtime-2025-08-28", Generation::First, Some((JANUARY, "gpt-realtime-2.1"))),
    ("gpt-realtime-mini", Generation::First, Some((JANUARY, "gpt-realtime-2.1-mini"))),
    ("gpt-realtime-mini-2025-12-15", Generation::First, Some((JANUARY, "gpt-realtime-2.1-mini"))),
    ("gpt-realtime-mini-2025-10-06", Generation::First, Some((JANUARY, "gpt-realtime-2.1-mini"))),
];

/// As announced in November 2026.
const TRANSCRIBERS: [(&str, Hints, Option<Announced>); 8] = [
    ("gpt-transcribe", Hints::Keywords, None),
    ("gpt-live-transcribe", Hints::Keywords, None),
    ("gpt-realtime-whisper", Hints::None, None),
    ("whisper-1", Hints::Prompt, Some((FEBRUARY, "gpt-transcribe"))),
    ("gpt-4o-transcribe", Hints::Prompt, Some((FEBRUARY, "gpt-transcribe"))),
    ("gpt-4o-mini-transcribe", Hints::Prompt, Some((FEBRUARY, "gpt-transcribe"))),
    ("gpt-4o-mini-transcribe-2025-12-15", Hints::Prompt, Some((FEBRUARY, "gpt-transcribe"))),
    ("gpt-4o-transcribe-diarize", Hints::None, Some((FEBRUARY, "gpt-transcribe"))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_key() {
        let provider = Provider::openai(OPENAI_REALTIME_URL, Some(Secret::new("sk-secret")));
        assert!(!format!("{provider:?}").contains("sk-secret"));
    }

    #[test]
    fn defaults_are_in_the_tables() {
        let provider = Provider::openai(OPENAI_REALTIME_URL, None);
        assert!(provider.model(DEFAULT_MODEL).is_some_and(|model| model.shutdown.is_none()));
        assert!(provider.abilities.voices.iter().any(|voice| voice == DEFAULT_VOICE));
        assert_eq!((provider.default_model(), provider.default_voice()), (DEFAULT_MODEL, DEFAULT_VOICE));
        assert_eq!(provider.default_transcriber(), Some(DEFAULT_TRANSCRIPTION));
        assert!(provider.reasons("gpt-realtime-2.1") && !provider.reasons("gpt-realtime"));
        assert!(!provider.reasons("something-else"));
    }

    #[test]
    fn openai_is_never_sent_a_temperature() {
        assert_eq!(Provider::openai(OPENAI_REALTIME_URL, None).abilities.temperature, None);
        assert_eq!(Abilities::of(Dialect::Xai).temperature, None);
        assert_eq!(Abilities::of(Dialect::Beta).temperature, Some(0.6..=1.2));
    }

    #[test]
    fn every_replacement_is_known_and_stays() {
        let provider = Provider::openai(OPENAI_REALTIME_URL, None);
        for model in &provider.abilities.models {
            if let Some((_, next)) = &model.shutdown {
                assert!(provider.model(next).is_some_and(|next| next.shutdown.is_none()), "{}", model.name);
            }
        }
        let Transcribing::Named(known) = &provider.abilities.transcription else { panic!("named") };
        for transcriber in known {
            if let Some((_, next)) = &transcriber.shutdown {
                assert!(known.iter().any(|known| known.name == *next && known.shutdown.is_none()));
            }
        }
    }

    #[test]
    fn a_model_named_like_openais_has_its_abilities_but_not_its_shutdown() {
        let model = Model::named("gpt-realtime");
        assert_eq!((model.context, model.shutdown), (Some(32_000), None));
        assert!(Model::named("gpt-realtime-2.1").reasoning && !Model::named("reception").reasoning);
    }
}
