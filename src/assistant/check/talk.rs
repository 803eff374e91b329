//! The keys about the conversation: how it opens, and who speaks when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Check;
use crate::assistant::language::{Language, Words};
use crate::assistant::plan::{
    Detection, Dtmf, Eagerness, First, GREETING, Greeting, Hold, Interruptions, Keys, NoiseReduction, SOUNDS,
    Sound, SoundName, Sounds, TurnTaking, Voice,
};
use crate::assistant::prompt;
use crate::assistant::vocabulary::{
    DTMF_LENGTH, DTMF_WAIT, EAGERNESS, END_KEYS, FIRST, HOLDS, INTERRUPTIONS, KEYS, NOISE_REDUCTIONS,
    SOUND_CHARACTERS, THRESHOLD, TURN_PREFIX, TURN_SILENCE, detections,
};
use crate::assistant::written::{Fields, shown};
use crate::problem::Suggestion;
use crate::problem::catalogue::Assistant;
use crate::provider::{Provider, TurnDetection};
use crate::yaml::Node;
use switchboard_audio::Clip;

impl<'a> Check<'a> {
    /// The greeting, and the line that is to be prepared for it.
    pub(super) fn greeting(&self, top: &Fields<'a>) -> (Greeting, Option<Sound>) {
        let w = self.written;
        let mut greeting = Greeting { first: First::Assistant, say: None, clip: None, interruptible: true };
        let Some(map) = top.map("greeting") else { return (greeting, None) };
        greeting.first = map.word("first", FIRST).unwrap_or(First::Assistant);
        let (say, play) = (map.take("say"), map.take("play"));
        greeting.say = self.template(&map, "say");
        greeting.clip = play.and_then(|node| self.clip(node));
        match (greeting.first, play, say) {
            (First::Caller, Some(node), _) => w.problem(node.span, Assistant::PlayUnused),
            (First::Caller, None, Some(node)) => w.problem(node.span, Assistant::SayUnused),
            (First::Assistant, Some(node), None) => w.problem(node.span, Assistant::SayMissing),
            _ => {}
        }
        let prepared = map.take("prepared").and_then(|node| {
            let prepares = w.bool(node, "prepared") == Some(true);
            prepares.then(|| self.prepared(node, &greeting, play)).flatten()
        });
        greeting.interruptible = map.bool("interruptible").unwrap_or(true);
        map.finish();
        (greeting, prepared)
    }

    /// A greeting that the model says once, for all calls.
    fn prepared(&self, at: &Node, greeting: &Greeting, play: Option<&Node>) -> Option<Sound> {
        let what = match (&greeting.say, greeting.first) {
            (_, First::Caller) | (None, _) => Assistant::PreparedUnused,
            (Some(_), _) if play.is_some() => Assistant::PreparedUnused,
            (Some(say), _) => match prompt::varies(say) {
                Some(name) => Assistant::PreparedVaries { name },
                None => {
                    let own = self.around.sounds.get(&format!("{}-{GREETING}.wav", self.name));
                    let recorded = own.cloned().flatten();
                    let voice = recorded.map_or(Voice::Missing, Voice::Recorded);
                    return Some(Sound { text: say.clone(), voice });
                }
            },
        };
        self.written.problem(at.span, what);
        None
    }

    fn clip(&self, node: &Node) -> Option<Arc<Clip>> {
        let name = self.written.text(node, "play")?;
        if let Some(clip) = self.around.greetings.get(name.trim()) {
            return clip.clone();
        }
        let bare = name.trim().rsplit(['/', '\\']).next().unwrap_or_default();
        let suggestion = Suggestion::new(bare, self.around.greetings.keys().map(String::as_str));
        self.written.problem(node.span, Assistant::GreetingUnknown { name: shown(node), suggestion });
        None
    }

    /// The prepared lines. `NAME-moment.wav` is for the assistant NAME, and `moment.wav` for all others.
    pub(super) fn sounds(&self, top: &Fields<'a>, language: Option<&Language>) -> Sounds {
        let words = match language {
            Some(language) => Words::of(language.tag()),
            None => Some(Words::ENGLISH),
        };
        let mut texts = BTreeMap::new();
        if let Some(map) = top.map("sounds") {
            for SoundName { name, .. } in SOUNDS {
                texts.extend(self.sound_text(&map, name).map(|text| (name, text)));
            }
            map.finish();
        }
        Sounds::new(words, &texts, |name| {
            let own = self.around.sounds.get(&format!("{}-{name}.wav", self.name));
            own.or_else(|| self.around.sounds.get(&format!("{name}.wav")))?.clone()
        })
    }

    /// When the keys that the caller presses are complete.
    pub(super) fn dtmf(&self, top: &Fields<'a>) -> Dtmf {
        let mut dtmf = Dtmf::default();
        let Some(map) = top.map("dtmf") else { return dtmf };
        if let Some(length) = map.count("length", &DTMF_LENGTH) {
            dtmf.length = length as usize;
        }
        dtmf.end = map.word("end", END_KEYS).unwrap_or(dtmf.end);
        dtmf.wait = map.duration("wait", &DTMF_WAIT).unwrap_or(dtmf.wait);
        map.finish();
        dtmf
    }

    /// What the caller hears while a tool takes long: a word, or a recording in the folder's `sounds`.
    pub(super) fn hold(&self, map: &Fields<'a>) -> Option<Hold> {
        let node = map.take("hold")?;
        let text = self.written.text(node, "hold")?.trim().to_owned();
        if let Some((_, hold)) = HOLDS.iter().find(|(word, _)| *word == text) {
            return Some(hold.clone());
        }
        if let Some(clip) = self.around.sounds.get(&text) {
            self.recordings.borrow_mut().push(text);
            return clip.clone().map(Hold::Recording);
        }
        let known = self.around.sounds.keys().map(String::as_str).chain(HOLDS.iter().map(|(word, _)| *word));
        let suggestion = Suggestion::new(&text, known);
        self.written.problem(node.span, Assistant::HoldUnknown { name: shown(node), suggestion });
        None
    }

    /// A text that is the same in every call, because it is captured once.
    fn sound_text(&self, map: &Fields<'a>, name: &'static str) -> Option<String> {
        let node = map.take(name)?;
        let text = self.written.text(node, name)?.trim().to_owned();
        let key = name.to_owned();
        if text.contains("{{") || text.contains("{%") {
            self.written.problem(node.span, Assistant::SoundTemplate { key });
        } else if text.chars().count() > SOUND_CHARACTERS {
            let most = SOUND_CHARACTERS;
            self.written.problem(node.span, Assistant::SoundLong { key, most });
        }
        Some(text).filter(|text| !text.is_empty())
    }

    pub(super) fn turn_taking(&self, top: &Fields<'a>, provider: &Provider) -> TurnTaking {
        let w = self.written;
        let abilities = &provider.abilities;
        let range = &abilities.threshold;
        let server =
            |threshold: Option<f64>, silence: Option<Duration>, prefix: Option<Duration>| Detection::Server {
                threshold: threshold.unwrap_or(THRESHOLD.clamp(*range.start(), *range.end())),
                silence: silence.unwrap_or(TURN_SILENCE.default),
                prefix: prefix.unwrap_or(TURN_PREFIX.default),
            };
        let offered = abilities.turn_detection.first().copied().unwrap_or(TurnDetection::Server);
        let default = match offered {
            TurnDetection::Semantic => Detection::Semantic { eagerness: Eagerness::Auto },
            TurnDetection::Server => server(None, None, None),
        };
        let mut turns = TurnTaking {
            detection: default,
            interruptions: Interruptions::Immediate,
            keys: Keys::Interrupt,
            noise_reduction: abilities.noise_reduction.then_some(NoiseReduction::NearField),
        };
        let Some(map) = top.map("turn_taking") else { return turns };
        let unused = |key: &'static str, detection: TurnDetection| {
            if let Some(node) = map.take(key) {
                w.problem(node.span, Assistant::TurnsUnused { key, detection: detection.name() });
            }
        };
        match self.detection(&map, provider).unwrap_or(offered) {
            TurnDetection::Semantic => {
                unused("silence", TurnDetection::Server);
                unused("threshold", TurnDetection::Server);
                unused("prefix", TurnDetection::Server);
                let eagerness = map.word("eagerness", EAGERNESS).unwrap_or(Eagerness::Auto);
                turns.detection = Detection::Semantic { eagerness };
            }
            TurnDetection::Server => {
                unused("eagerness", TurnDetection::Semantic);
                turns.detection = server(
                    map.take("threshold").and_then(|node| w.number(node, "threshold", range)),
                    map.duration("silence", &TURN_SILENCE),
                    map.duration("prefix", &TURN_PREFIX),
                );
            }
        }
        turns.interruptions = self.interruptions(&map, provider);
        turns.keys = map.word("keys", KEYS).unwrap_or(Keys::Interrupt);
        if let Some(node) = map.take("noise_reduction") {
            turns.noise_reduction = w.word(node, "noise_reduction", NOISE_REDUCTIONS).flatten();
            if turns.noise_reduction.is_some() && !abilities.noise_reduction {
                w.problem(node.span, Assistant::NoiseReductionUnused { provider: provider.name.clone() });
                turns.noise_reduction = None;
            }
        }
        map.finish();
        // The same file may be read for a fallback, which detects turns in another way.
        if !abilities.turn_detection.contains(&turns.detection.kind()) {
            turns.detection = default;
        }
        turns
    }

    fn interruptions(&self, map: &Fields<'a>, provider: &Provider) -> Interruptions {
        let Some(node) = map.take("interruptions") else { return Interruptions::Immediate };
        let interruptions = match node.scalar().and_then(|scalar| scalar.bool()) {
            Some(true) => Some(Interruptions::Immediate),
            Some(false) => Some(Interruptions::None),
            None => self.written.word(node, "interruptions", INTERRUPTIONS),
        };
        if interruptions == Some(Interruptions::Confirmed) && !provider.abilities.leaves_turns {
            let provider = provider.name.clone();
            self.written.problem(node.span, Assistant::ConfirmedUnsupported { provider });
        }
        interruptions.unwrap_or(Interruptions::Immediate)
    }

    /// How the provider notices that a turn is over, if the file decides it.
    fn detection(&self, map: &Fields<'a>, provider: &Provider) -> Option<TurnDetection> {
        let node = map.take("detection")?;
        let offered = &provider.abilities.turn_detection;
        let text = node.scalar().map(|scalar| scalar.text().trim()).unwrap_or_default();
        let known = detections().into_iter().find(|(word, _)| *word == text);
        if let Some((detection, kind)) = known.filter(|(_, kind)| !offered.contains(kind)) {
            let other = offered.first().copied().unwrap_or(TurnDetection::Server).name();
            let provider = provider.name.clone();
            self.written.problem(node.span, Assistant::DetectionUnsupported { provider, detection, other });
            return Some(kind);
        }
        // Only what the provider takes is offered in place of a misspelled word.
        let words: Vec<_> = detections().into_iter().filter(|(_, kind)| offered.contains(kind)).collect();
        self.written.word(node, "detection", &words)
    }
}
