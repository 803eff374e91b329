//! Who serves speech models, and what each can do.
//!
//! One table of abilities that the check, the plan and the links read. It knows no socket and no
//! message: what an ability means on the wire is the link's business.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::secret::Secret;

/// The model of an assistant that names none.
pub const DEFAULT_MODEL: &str = "gpt-realtime-2.1";
/// The voice of an assistant that names none.
pub const DEFAULT_VOICE: &str = "marin";
/// The model that writes down what callers say, where the file names none.
pub const DEFAULT_TRANSCRIPTION: &str = "gpt-transcribe";
/// Where OpenAI's own endpoint is; `?model=` is added.
pub const OPENAI_REALTIME_URL: &str = "wss://api.openai.com/v1/realtime";

/// An endpoint with its credentials and abilities. `Debug` never shows the key.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// As assistants name it: `openai` is built in.
    pub name: String,
    pub engine: Engine,
    /// `ws://` or `wss://`, without the model.
    pub url: String,
    pub key: Option<Secret>,
    pub auth: Auth,
    pub abilities: Abilities,
}

/// The kind of speech model behind a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// OpenAI Realtime and what speaks like it.
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

/// How the key is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// A header of this name that holds the bare key.
    Header(String),
}

/// What a provider's sessions can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Abilities {
    /// Takes `conversation.item.truncate`.
    pub truncates: bool,
    /// Tells when the caller's speech starts and stops.
    pub turn_events: bool,
    /// Stops its own response when the caller speaks.
    pub interrupts_by_itself: bool,
    /// The range of a session's `temperature`; `None` where the field would be refused or ignored.
    pub temperature: Option<RangeInclusive<f64>>,
    /// The range of the voice's speed; `None` where there is no such field.
    pub speed: Option<RangeInclusive<f64>>,
    /// Audio comes faster than it is spoken.
    pub bursts_audio: bool,
    /// Needs silence to be sent while nobody speaks.
    pub needs_continuous_input: bool,
    /// The longest session, from its start.
    pub session_limit: Duration,
    /// The voices it offers; empty where any name may be right.
    pub voices: Vec<Cow<'static, str>>,
    /// The models it is known to serve; empty where any name may be right.
    pub models: Vec<Model>,
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub name: Cow<'static, str>,
    /// Takes `reasoning` in the session.
    pub reasoning: bool,
    /// The announced last day, such as `20 January 2027`, and what to use then.
    pub shutdown: Option<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Provider {
    /// OpenAI's Realtime API, or whatever answers like it at `url`.
    pub fn openai(url: impl Into<String>, key: Option<Secret>) -> Provider {
        Provider {
            name: "openai".to_owned(),
            engine: Engine::Realtime,
            url: url.into(),
            key,
            auth: Auth::Bearer,
            abilities: Abilities {
                truncates: true,
                turn_events: true,
                interrupts_by_itself: true,
                // A `temperature` in a session is an unknown parameter there, and one of those
                // loses the whole configuration.
                temperature: None,
                speed: Some(0.25..=1.5),
                bursts_audio: true,
                needs_continuous_input: false,
                session_limit: Duration::from_secs(60 * 60),
                voices: VOICES.iter().map(|voice| Cow::Borrowed(*voice)).collect(),
                models: MODELS
                    .iter()
                    .map(|&(name, reasoning, shutdown)| Model {
                        name: Cow::Borrowed(name),
                        reasoning,
                        shutdown: shutdown.map(|(day, next)| (day.into(), next.into())),
                    })
                    .collect(),
            },
        }
    }

    /// What is known of a model of this name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.abilities.models.iter().find(|model| model.name == name)
    }

    /// Whether the model takes `reasoning` in its session. A model nobody knows is not given one.
    pub fn reasons(&self, model: &str) -> bool {
        self.model(model).is_some_and(|model| model.reasoning)
    }
}

/// The best two first: they are what a suggestion lists.
const VOICES: [&str; 10] =
    ["marin", "cedar", "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"];

/// The name, whether it reasons, and the announced last day with its successor.
type Row = (&'static str, bool, Option<(&'static str, &'static str)>);

const MODELS: [Row; 9] = [
    ("gpt-realtime-2.1", true, None),
    ("gpt-realtime-2.1-mini", true, None),
    ("gpt-realtime-2", true, None),
    ("gpt-realtime-1.5", false, None),
    ("gpt-realtime", false, Some(("20 January 2027", "gpt-realtime-2.1"))),
    ("gpt-realtime-2025-08-28", false, Some(("20 January 2027", "gpt-realtime-2.1"))),
    ("gpt-realtime-mini", false, Some(("20 January 2027", "gpt-realtime-2.1-mini"))),
    ("gpt-realtime-mini-2025-12-15", false, Some(("20 January 2027", "gpt-realtime-2.1-mini"))),
    ("gpt-realtime-mini-2025-10-06", false, Some(("20 January 2027", "gpt-realtime-2.1-mini"))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_key() {
        let provider = Provider::openai(OPENAI_REALTIME_URL, Some(Secret::new("sk-secret")));
        assert!(!format!("{provider:?}").contains("sk-secret"));
    }

    #[test]
    fn defaults_are_in_the_tables() {
        let provider = Provider::openai(OPENAI_REALTIME_URL, None);
        assert!(provider.model(DEFAULT_MODEL).is_some_and(|model| model.shutdown.is_none()));
        assert!(provider.abilities.voices.iter().any(|voice| voice == DEFAULT_VOICE));
        assert!(provider.reasons("gpt-realtime-2.1") && !provider.reasons("gpt-realtime"));
        assert!(!provider.reasons("something-else"));
    }
}
