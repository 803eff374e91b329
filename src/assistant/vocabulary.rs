//! What an owner may write as a value: every word, range and default, once. The check, the schema and the reference
//! read them here.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::plan::{
    Dtmf, Eagerness, Effort, First, Hold, Interruptions, KeptNumbers, Keys, NoiseReduction, Occasion,
    RecordPolicy, Rule,
};
use crate::duration::spell;
use crate::provider::TurnDetection;

/// Words with their meanings.
pub type Words<T> = [(&'static str, T)];

pub const ENGINES: &Words<()> = &[("realtime", ())];
pub const EFFORTS: &Words<Effort> = &[
    ("none", Effort::None),
    ("minimal", Effort::Minimal),
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::Xhigh),
];
pub const FIRST: &Words<First> = &[("assistant", First::Assistant), ("caller", First::Caller)];
pub const EAGERNESS: &Words<Eagerness> = &[
    ("low", Eagerness::Low),
    ("medium", Eagerness::Medium),
    ("high", Eagerness::High),
    ("auto", Eagerness::Auto),
];
pub const NOISE_REDUCTIONS: &Words<Option<NoiseReduction>> = &[
    ("near_field", Some(NoiseReduction::NearField)),
    ("far_field", Some(NoiseReduction::FarField)),
    ("none", None),
];
/// What happens when the caller talks over the assistant. `true` and `false` are older words for the first and the last.
pub const INTERRUPTIONS: &Words<Interruptions> = &[
    ("immediate", Interruptions::Immediate),
    ("confirmed", Interruptions::Confirmed),
    ("none", Interruptions::None),
];
/// What happens when a key is pressed while the assistant speaks.
pub const KEYS: &Words<Keys> = &[("interrupt", Keys::Interrupt), ("wait", Keys::Wait)];
/// The key that ends a line of keys.
pub const END_KEYS: &Words<Option<char>> = &[("#", Some('#')), ("*", Some('*')), ("none", None)];
/// What the caller hears while a tool takes long, or a recording.
pub const HOLDS: &Words<Hold> = &[("tone", Hold::Tone), ("none", Hold::None)];
/// How the caller's number is kept.
pub const KEPT_NUMBERS: &Words<KeptNumbers> =
    &[("full", KeptNumbers::Full), ("masked", KeptNumbers::Masked), ("none", KeptNumbers::None)];
/// Who connects to an MCP server.
pub const VIAS: &Words<Via> = &[("runtime", Via::Runtime), ("provider", Via::Provider)];
/// When the owner is notified of a call.
pub const OCCASIONS: &Words<Occasion> = &[
    ("always", Occasion::Always),
    ("message", Occasion::Message),
    ("failure", Occasion::Failure),
    ("transfer_failed", Occasion::TransferFailed),
    ("refused", Occasion::Refused),
];
impl Occasion {
    /// As the owner writes it.
    pub fn word(self) -> &'static str {
        OCCASIONS.iter().find(|(_, occasion)| *occasion == self).map_or("", |(word, _)| word)
    }
}
/// Callers without a number, in `block`.
pub const WITHHELD: &str = "withheld";
/// The field for `after_call.summary`.
pub const FORM_SUMMARY: &str = "summary";
/// Whether the caller must agree first.
pub const APPROVALS: &Words<bool> = &[("never", false), ("always", true)];
pub const METHODS: &Words<&str> =
    &[("GET", "GET"), ("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("DELETE", "DELETE")];
/// The types of JSON Schema.
pub const SCHEMA_TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];
/// Providers in `fallback`.
pub const MOST_FALLBACKS: usize = 5;
/// Turns `transcription` off.
pub const NO_TRANSCRIPTION: &str = "none";

impl Effort {
    /// As written, in YAML and in the session.
    pub fn name(self) -> &'static str {
        EFFORTS.iter().find(|(_, effort)| *effort == self).map_or("none", |(word, _)| word)
    }
}

/// Who connects to an MCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Runtime,
    Provider,
}

/// The entries of `vocabulary`, and the characters of each.
pub const VOCABULARY_ENTRIES: usize = 100;
pub const VOCABULARY_CHARACTERS: usize = 60;

/// The longest text of a prepared line: it takes 6 s to say.
pub const SOUND_CHARACTERS: usize = 100;

/// A key that holds a duration.
pub struct Timing {
    pub range: RangeInclusive<Duration>,
    pub default: Duration,
}

impl Timing {
    const fn new(least: Duration, most: Duration, default: Duration) -> Timing {
        Timing { range: least..=most, default }
    }

    /// The range in words.
    pub fn spelled(&self) -> String {
        format!("{} to {}", spell(*self.range.start()), spell(*self.range.end()))
    }

    pub fn spelled_default(&self) -> String {
        spell(self.default)
    }
}

/// A key that holds how often something may happen.
pub struct Count {
    pub range: RangeInclusive<u32>,
    pub default: u32,
}

impl Count {
    const fn new(least: u32, most: u32, default: u32) -> Count {
        Count { range: least..=most, default }
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// `turn_taking.silence`
pub const TURN_SILENCE: Timing = Timing::new(ms(100), secs(5), ms(500));
/// `turn_taking.prefix`
pub const TURN_PREFIX: Timing = Timing::new(ms(0), secs(2), ms(300));
/// `limits.call`
pub const CALL: Timing = Timing::new(secs(10), secs(4 * 3600), secs(30 * 60));
/// `limits.silence`
pub const CALL_SILENCE: Timing = Timing::new(secs(5), secs(30 * 60), secs(60));
/// `limits.sms`
pub const SMS: Count = Count::new(1, 100, 3);
/// `limits.messages`
pub const MESSAGES: Count = Count::new(1, 100, 5);
/// `limits.transfers`
pub const TRANSFERS: Count = Count::new(1, 100, 3);
/// `limits.calls`
pub const CALLS: Count = Count::new(1, 10_000, 0);
/// `limits.calls_per_caller.per_hour`
pub const CALLS_PER_HOUR: Count = Count::new(1, 1_000, 0);
/// `limits.calls_per_caller.per_day`
pub const CALLS_PER_DAY: Count = Count::new(1, 10_000, 0);
/// `max_per_call` of a tool
pub const MAX_PER_CALL: Count = Count::new(1, 1_000, 100);
/// `transfer_to.NAME.ring_for`
pub const RING: Timing = Timing::new(secs(5), secs(120), secs(25));
/// `timeout` of a tool
pub const TIMEOUT: Timing = Timing::new(secs(1), secs(300), secs(10));
/// `record.keep`
pub const KEEP: Timing = Timing::new(secs(3600), secs(10 * 365 * 24 * 3600), RecordPolicy::DEFAULT.keep);
/// `filler_after` of a tool
pub const FILLER: Timing = Timing::new(ms(200), secs(60), ms(1_500));

/// `dtmf.length`: the keys of one line
pub const DTMF_LENGTH: Count = Count::new(1, 32, 32);
/// `dtmf.wait`
pub const DTMF_WAIT: Timing = Timing::new(ms(500), secs(10), ms(1_500));

impl Default for Dtmf {
    fn default() -> Self {
        Self { length: DTMF_LENGTH.default as usize, end: Some('#'), wait: DTMF_WAIT.default }
    }
}

impl Default for Rule {
    fn default() -> Self {
        let (timeout, filler_after) = (TIMEOUT.default, FILLER.default);
        let max_per_call = MAX_PER_CALL.default;
        Self {
            ask_first: false,
            timeout,
            filler_after,
            stop_on_interruption: false,
            max_per_call,
            hold: None,
        }
    }
}

/// For providers that state no range of their own.
pub const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
/// `limits.cost_per_call`, in dollars
pub const COST_PER_CALL: RangeInclusive<f64> = 0.01..=1_000.0;
/// `limits.cost_per_day`, in dollars
pub const COST_PER_DAY: RangeInclusive<f64> = 0.01..=1_000_000.0;
pub const THRESHOLD: f64 = 0.5;
pub const STATUS_CODES: RangeInclusive<f64> = 100.0..=599.0;

/// What a message contains.
pub const MESSAGE_FIELDS: [&str; 2] = ["name", "message"];

pub fn detections() -> [(&'static str, TurnDetection); 2] {
    TurnDetection::ALL.map(|detection| (detection.name(), detection))
}

/// The words without their meanings.
pub fn names<T>(words: &Words<T>) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}
