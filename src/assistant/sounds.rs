//! The prepared lines: what a call plays from memory while its model cannot speak.
//!
//! Each line is recorded by the owner, or captured once from the model in the assistant's own voice. Until then the
//! caller hears the hold tone ([`switchboard_audio::hold`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::language::Words;
use switchboard_audio::Clip;

/// The prepared lines of one plan.
#[derive(Clone, PartialEq, Eq)]
pub struct Sounds {
    /// The assistant needs a moment.
    pub moment: Sound,
    /// The assistant is back after its connection was interrupted.
    pub cut_off: Sound,
    /// A greeting that is to be prepared.
    pub greeting: Option<Sound>,
}

/// One prepared line.
#[derive(Clone, PartialEq, Eq)]
pub struct Sound {
    /// What it says.
    pub text: String,
    pub voice: Voice,
}

/// What there is of a prepared line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voice {
    /// The owner's recording.
    Recorded(Arc<Clip>),
    /// The model said it once.
    Captured(Arc<Clip>),
    /// The model has not said it yet.
    Missing,
    /// There is no text in the assistant's language, so the model is not asked.
    Untranslated,
}

/// One of the prepared lines: its name, in files and in YAML, and our own text.
pub struct SoundName {
    pub name: &'static str,
    ours: fn(&Words) -> &'static str,
}

/// The names, in the order of [`Sounds::iter`].
pub const SOUNDS: [SoundName; 2] = [
    SoundName { name: "moment", ours: |words| words.moment },
    SoundName { name: "cut_off", ours: |words| words.cut_off },
];

/// The name of a greeting in the same place.
pub const GREETING: &str = "greeting";

/// Stands for one line in one voice: it differs if any of what is heard would.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SoundKey(String);

impl Sounds {
    /// Each of [`SOUNDS`] from its text in the file, `texts`, or ours, and from the owner's recording. `words`: of the
    /// assistant's language; `None` if we have none.
    pub(super) fn new(
        words: Option<&Words>,
        texts: &BTreeMap<&str, String>,
        recording: impl Fn(&str) -> Option<Arc<Clip>>,
    ) -> Sounds {
        let [moment, cut_off] = SOUNDS.map(|SoundName { name, ours }| {
            let own = texts.get(name).cloned();
            let voice = match recording(name) {
                Some(clip) => Voice::Recorded(clip),
                None if own.is_some() || words.is_some() => Voice::Missing,
                None => Voice::Untranslated,
            };
            Sound { text: own.unwrap_or_else(|| ours(words.unwrap_or(Words::ENGLISH)).to_owned()), voice }
        });
        Sounds { moment, cut_off, greeting: None }
    }

    /// The same with what was captured.
    pub(super) fn with(&self, captured: impl Fn(&str) -> Option<Arc<Clip>>) -> Sounds {
        let find = |sound: &Sound| {
            let voice = match &sound.voice {
                Voice::Missing => captured(&sound.text).map_or(Voice::Missing, Voice::Captured),
                voice => voice.clone(),
            };
            Sound { text: sound.text.clone(), voice }
        };
        let Sounds { moment, cut_off, greeting } = self;
        Sounds { moment: find(moment), cut_off: find(cut_off), greeting: greeting.as_ref().map(find) }
    }

    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Sound)> {
        let lines = SOUNDS.iter().map(|name| name.name).zip([&self.moment, &self.cut_off]);
        lines.chain(self.greeting.iter().map(|greeting| (GREETING, greeting)))
    }
}

impl Default for Sounds {
    /// Our English texts, of which nothing is captured.
    fn default() -> Sounds {
        Sounds::new(Some(Words::ENGLISH), &BTreeMap::new(), |_| None)
    }
}

impl Sound {
    /// The line itself; `None`: the hold tone stands in for it.
    pub fn clip(&self) -> Option<&Arc<Clip>> {
        match &self.voice {
            Voice::Recorded(clip) | Voice::Captured(clip) => Some(clip),
            Voice::Missing | Voice::Untranslated => None,
        }
    }
}

impl SoundKey {
    /// The key of everything that is heard.
    pub(super) fn of(parts: &[&str]) -> SoundKey {
        let mut hash = Sha256::new();
        for part in parts {
            // With its length, so that no two lists of parts are alike.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        SoundKey(hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads what [`Self::as_str`] gave.
    pub fn read(text: &str) -> Option<SoundKey> {
        let valid =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| SoundKey(text.to_owned()))
    }
}

impl fmt::Display for SoundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
