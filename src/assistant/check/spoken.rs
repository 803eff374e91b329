//! The language, and the sentences that Twilio's voice says: `busy`, `on_failure` and `recording_notice`.

use super::{Check, Role, Text};
use crate::assistant::language::{self, ENGLISH, Language, NoLanguage, Spoken, Words};
use crate::assistant::plan::{Line, OnFailure};
use crate::assistant::vocabulary::{VOCABULARY_CHARACTERS, VOCABULARY_ENTRIES};
use crate::assistant::written::{Fields, shown};
use crate::phone::PhoneNumber;
use crate::problem::{self, catalogue::Assistant};
use crate::yaml::{Node, Scalar};

/// A file's language, and what it leaves open about the sentences of Twilio's voice.
#[derive(Default)]
pub(super) struct Tongue<'a> {
    pub(super) language: Option<Language>,
    /// Where it is written.
    node: Option<&'a Node>,
    /// The maps whose sentences are said in another locale than their language.
    elsewhere: Vec<&'static str>,
    /// The maps without a sentence in a language in which we have none, and where that language is written.
    unwritten: Vec<(&'static str, &'a Node)>,
}

impl<'a> Check<'a> {
    pub(super) fn tongue(&self, top: &Fields<'a>) -> Tongue<'a> {
        Tongue { language: self.language(top), node: top.take("language"), ..Tongue::default() }
    }

    /// A language that a model may speak.
    pub(super) fn language(&self, map: &Fields<'a>) -> Option<Language> {
        self.language_at(map.take("language")?)
    }

    fn language_at(&self, node: &'a Node) -> Option<Language> {
        let tag = self.written.text(node, "language")?;
        let why = match Language::read(&tag) {
            Ok(language) => return Some(language),
            Err(why) => why,
        };
        // A suggestion would show a value that comes from a variable.
        let meant = language::suggestion(&tag).filter(|_| !is_expanded(node));
        let (value, example) = (shown(node), meant.unwrap_or("en-GB"));
        let what = match why {
            NoLanguage::Form => Assistant::LanguageInvalid { value, example },
            NoLanguage::Code => Assistant::LanguageUnknown { value, example },
        };
        self.written.problem(node.span, what);
        None
    }

    /// All languages that may be spoken, if the file names several: its `language`, or else the first, is where a call
    /// begins.
    pub(super) fn languages(&self, top: &Fields<'a>, tongue: &mut Tongue<'a>) -> Vec<Language> {
        let mut languages = Vec::new();
        for node in top.list("languages") {
            languages.extend(self.language_at(node).filter(|language| !languages.contains(language)));
        }
        let (Some(first), Some(node)) = (languages.first(), top.take("languages")) else { return languages };
        match &tongue.language {
            None => (tongue.language, tongue.node) = (Some(first.clone()), Some(node)),
            Some(own) if !languages.contains(own) => {
                let language = own.tag().to_owned();
                self.written.problem(node.span, Assistant::LanguagesWithout { language });
            }
            Some(_) => {}
        }
        if languages.len() == 1 { Vec::new() } else { languages }
    }

    /// Names and words that may be said.
    pub(super) fn vocabulary(&self, top: &Fields<'a>) -> Vec<String> {
        let mut words = Vec::new();
        for node in top.list("vocabulary") {
            let Some(word) = self.written.text(node, "vocabulary") else { continue };
            let word = word.trim().to_owned();
            if word.chars().count() > VOCABULARY_CHARACTERS || words.len() == VOCABULARY_ENTRIES {
                let (most, characters) = (VOCABULARY_ENTRIES, VOCABULARY_CHARACTERS);
                self.written.problem(node.span, Assistant::VocabularyLong { most, characters });
                break;
            }
            words.push(word);
        }
        words.retain(|word| !word.is_empty());
        words
    }

    /// What is said if the call cannot be taken, and who is dialed then.
    pub(super) fn busy(&self, top: &Fields<'a>, tongue: &mut Tongue<'a>) -> (Line, Option<PhoneNumber>) {
        let map = top.map("busy");
        let dial = self.dial(map.as_ref());
        let line = self.line(map.as_ref(), "busy", |words| words.busy, tongue);
        if let Some(map) = map {
            map.finish();
        }
        (line, dial)
    }

    /// The number that a map dials.
    fn dial(&self, map: Option<&Fields<'a>>) -> Option<PhoneNumber> {
        self.number(map?.take("dial")?, "dial", Role::Fallback)
    }

    pub(super) fn on_failure(&self, top: &Fields<'a>, tongue: &mut Tongue<'a>) -> OnFailure {
        let map = top.map("on_failure");
        let dial = self.dial(map.as_ref());
        let line = self.line(map.as_ref(), "on_failure", OnFailure::prepared(dial.is_some()), tongue);
        if let Some(map) = map {
            map.finish();
        }
        OnFailure { line, dial }
    }

    /// The sentence of a map, in a locale that `<Say>` speaks. Without a sentence ours is said, in the same language if we
    /// have it, otherwise in English.
    fn line(
        &self,
        map: Option<&Fields<'a>>,
        key: &'static str,
        ours: fn(&Words) -> &'static str,
        tongue: &mut Tongue<'a>,
    ) -> Line {
        let said = map.and_then(|map| self.said(map));
        let own = map.and_then(|map| self.own_locale(map));
        self.spoken(said, own, key, ours, tongue)
    }

    /// The same, with what the map says: a sentence, and a locale with its place.
    pub(super) fn spoken(
        &self,
        said: Option<String>,
        own: Option<(&'a Node, &'static str)>,
        key: &'static str,
        ours: fn(&Words) -> &'static str,
        tongue: &mut Tongue<'a>,
    ) -> Line {
        let spoken = match (own, &tongue.language) {
            (Some((_, locale)), _) => Spoken::Exactly(locale),
            (None, Some(language)) => language.spoken(),
            (None, None) => Spoken::Exactly(ENGLISH),
        };
        let (locale, words) = match spoken {
            Spoken::Exactly(locale) | Spoken::Elsewhere(locale) => (locale, Words::of(locale)),
            Spoken::Never => (ENGLISH, None),
        };
        let say = match (said, words) {
            (Some(say), _) => say,
            (None, Some(words)) => ours(words).to_owned(),
            (None, None) => {
                let node = own.map(|(node, _)| node).or(tongue.node);
                tongue.unwritten.extend(node.map(|node| (key, node)));
                return Line { say: ours(Words::ENGLISH).to_owned(), language: ENGLISH };
            }
        };
        if !matches!(spoken, Spoken::Exactly(_)) {
            tongue.elsewhere.push(key);
        }
        Line { say, language: locale }
    }

    /// The template of a sentence for Twilio's voice; `None` if it is empty, even in quotes.
    pub(super) fn said(&self, map: &Fields<'a>) -> Option<String> {
        self.sentence(map.take("say")?, "say")
    }

    /// The same, of a key of its own.
    pub(super) fn sentence(&self, node: &'a Node, key: &'static str) -> Option<String> {
        let template = self.written.text(node, key).filter(|text| !text.is_empty())?;
        self.texts.borrow_mut().push(Text { template: template.clone(), node, spoken: true });
        Some(template)
    }

    /// The locale that the map names for Twilio's voice, with its place.
    pub(super) fn own_locale(&self, map: &Fields<'a>) -> Option<(&'a Node, &'static str)> {
        Some((map.take("language")?, self.locale(map)?))
    }

    /// The locale of Twilio's voice.
    fn locale(&self, map: &Fields<'a>) -> Option<&'static str> {
        let language = self.language(map)?;
        let node = map.take("language")?;
        let example = match language.spoken() {
            Spoken::Exactly(locale) => return Some(locale),
            Spoken::Elsewhere(locale) if !is_expanded(node) => locale,
            Spoken::Elsewhere(_) | Spoken::Never => ENGLISH,
        };
        self.written.problem(node.span, Assistant::LanguageOfSay { value: shown(node), example });
        None
    }

    /// Warns about sentences that callers hear in another language or accent than the file says.
    pub(super) fn unheard(&self, tongue: &Tongue<'a>) {
        let keys = |keys: &[&str], part: &str| {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key}{part}")).collect();
            problem::list(&keys)
        };
        if let (Some(node), Some(language), [_, ..]) = (tongue.node, &tongue.language, &*tongue.elsewhere) {
            let locale = match language.spoken() {
                Spoken::Exactly(locale) | Spoken::Elsewhere(locale) => locale,
                Spoken::Never => ENGLISH,
            };
            let (value, written) = (shown(node), keys(&tongue.elsewhere, ".language"));
            let keys = keys(&tongue.elsewhere, "");
            self.written.problem(node.span, Assistant::LanguageUnspoken { value, locale, keys, written });
        }
        for alike in tongue.unwritten.chunk_by(|(_, one), (_, other)| one.span == other.span) {
            let named: Vec<&str> = alike.iter().map(|(key, _)| *key).collect();
            let (_, node) = alike[0];
            let (language, keys) = (shown(node), keys(&named, ".say"));
            self.written.problem(node.span, Assistant::LanguageUnwritten { language, keys });
        }
    }
}

fn is_expanded(node: &Node) -> bool {
    node.scalar().is_some_and(Scalar::expanded)
}
