//! `providers:` in `switchboard.yaml`: whose servers there are besides OpenAI's own, and what each can do.
//!
//! It knows the keys and how their values are written. What is left out is as [`Abilities::of`] the dialect.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::address;
use crate::problem::catalogue::Setting;
use crate::problem::{self, Problem, Source, Span, Suggestion};
use crate::provider::{
    Abilities, Auth, Dialect, Engine, Model, Provider, Transcriber, Transcribing, TurnDetection,
};
use crate::secret::{self, Secret};
use crate::yaml::{Key, Kind, MISSING, Node, Scalar, secrets};

/// The keys of one provider.
const PROVIDER: [&str; 5] = ["url", "key", "auth", "dialect", "abilities"];
/// The keys of its `abilities`.
const ABILITIES: [&str; 15] = [
    "voices",
    "open_voices",
    "models",
    "transcription",
    "temperature",
    "speed",
    "reasoning",
    "turn_detection",
    "threshold",
    "noise_reduction",
    "truncates",
    "interrupts",
    "hosted_mcp",
    "forms",
    "session",
];
/// The keys of one of its `models`.
const MODEL: [&str; 5] = ["name", "reasoning", "parallel_tool_calls", "context", "max_output"];
/// As assistants may write them.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];
/// Names in a query that would hold a secret where everybody reads it.
const SECRET_QUERIES: [&str; 6] = ["key", "api_key", "api-key", "apikey", "token", "access_token"];

/// Where every key stands, and every URL that may hold one: nothing of them is shown.
pub(super) fn secrets(node: &Node, hidden: &mut Vec<Span>) {
    for (_, provider) in entries(node) {
        if provider.scalar().is_some() {
            hidden.push(provider.span);
        }
        for (key, value) in entries(provider) {
            let is_secret = match key.name.as_str() {
                "url" => value.scalar().is_some_and(|scalar| scalar.text().contains(['@', '?'])),
                // The key itself, where the name of its header is meant.
                "auth" => value.scalar().is_none_or(|scalar| !is_header(scalar.text().trim())),
                "dialect" => false,
                "abilities" => {
                    for (key, value) in entries(value) {
                        let known = ABILITIES.contains(&key.name.as_str());
                        let secret = !known && secrets::possible(&key.name, value);
                        secrets::values(value, secret, &secrets::named, hidden);
                    }
                    false
                }
                // A misspelled `key` holds a key, too.
                name => secrets::possible(name, value),
            };
            if is_secret {
                secrets::values(value, true, &secrets::named, hidden);
            }
        }
    }
}

/// The places of all keys. A variable that is missing there matters only where somebody is to be called.
pub(super) fn keys(node: &Node) -> Vec<Span> {
    let providers = entries(node).iter().flat_map(|(_, provider)| entries(provider));
    providers.filter(|(key, _)| key.name == "key").map(|(_, value)| value.span).collect()
}

/// Every provider that is sound, and all that is wrong with the others.
pub(super) fn read(source: &Source, node: &Node) -> (Vec<Arc<Provider>>, Vec<Problem>) {
    let mut reading = Reading { source, problems: Vec::new() };
    let mut providers = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    if node.is_null() {
        return (providers, reading.problems);
    }
    for (key, value) in reading.map(node, "providers") {
        let name = key.name.as_str();
        let fits = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if name == "openai" {
            reading.report(key.span, Setting::ProviderBuiltIn);
        } else if !fits {
            reading.report(key.span, Setting::ProviderName { name: problem::shown(name) });
        } else if names.contains(&name) {
            reading.report(key.span, Setting::Duplicate { name: name.to_owned() });
        } else {
            names.push(name);
            providers.extend(reading.provider(key, value).map(Arc::new));
        }
    }
    (providers, reading.problems)
}

fn entries(node: &Node) -> &[(Key, Node)] {
    match &node.kind {
        Kind::Map(entries) => entries,
        Kind::Seq(_) | Kind::Scalar(_) => &[],
    }
}

pub(super) struct Reading<'a> {
    pub source: &'a Source,
    pub problems: Vec<Problem>,
}

/// The known keys of one map. Empty values are left out.
pub(super) struct Fields<'a>(Vec<(&'a str, &'a Node)>);

impl<'a> Fields<'a> {
    pub fn get(&self, name: &str) -> Option<&'a Node> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, node)| *node)
    }
}

impl<'a> Reading<'a> {
    fn provider(&mut self, name: &'a Key, node: &'a Node) -> Option<Provider> {
        let before = self.problems.len();
        let fields = self.fields(node, &name.name, &PROVIDER);
        let url = match fields.get("url") {
            Some(node) => self.url(node),
            None if self.problems.len() > before => None,
            None => {
                self.report(name.span, Setting::ProviderWithoutUrl { name: name.name.clone() });
                None
            }
        };
        let dialects = Dialect::ALL.map(|dialect| (dialect.name(), dialect));
        let dialect = fields.get("dialect").and_then(|node| self.word(node, "dialect", &dialects));
        let dialect = dialect.unwrap_or(Dialect::Ga);
        let auth = fields.get("auth").and_then(|node| self.auth(node)).unwrap_or(Auth::Bearer);
        let written = entries(node).iter().find(|(key, _)| key.name == "key").map(|(_, node)| node);
        let (key, needs_key) = written.map_or((None, false), |node| self.key(node));
        let abilities = match fields.get("abilities") {
            Some(node) => self.abilities(node, dialect),
            None => Abilities::of(dialect),
        };
        let (name, engine) = (name.name.clone(), Engine::Realtime);
        let provider = Provider { name, engine, dialect, url: url?, key, needs_key, auth, abilities };
        (self.problems.len() == before).then_some(provider)
    }

    fn abilities(&mut self, node: &'a Node, dialect: Dialect) -> Abilities {
        let mut abilities = Abilities::of(dialect);
        let fields = self.fields(node, "abilities", &ABILITIES);
        if let Some(node) = fields.get("voices") {
            abilities.voices = self.names(node, "voices").into_iter().map(Into::into).collect();
            // A list says which voices there are, unless the next key says that there are others.
            abilities.open_voices = abilities.voices.is_empty();
        }
        if let Some(node) = fields.get("models") {
            abilities.models = self.list(node, "models").iter().filter_map(|node| self.model(node)).collect();
        }
        if let Some(node) = fields.get("transcription") {
            abilities.transcription = match node.scalar().map(|scalar| scalar.text().trim()) {
                Some("itself") => Transcribing::Automatic,
                _ => Transcribing::Named(
                    self.names(node, "transcription").into_iter().map(Transcriber::named).collect(),
                ),
            };
        }
        if let Some(node) = fields.get("reasoning") {
            let words = EFFORTS.map(|effort| (effort, effort));
            abilities.efforts = self.words(node, "reasoning", &words).into_iter().map(Into::into).collect();
        }
        if let Some(node) = fields.get("turn_detection") {
            let words = TurnDetection::ALL.map(|kind| (kind.name(), kind));
            let kinds = self.words(node, "turn_detection", &words);
            if !kinds.is_empty() {
                abilities.turn_detection = kinds;
            }
        }
        if let Some(node) = fields.get("session")
            && let Some(limit) = self.minutes(node)
        {
            abilities.session_limit = limit;
        }
        if let Some(node) = fields.get("threshold")
            && let Some(range) = self.range(node, "threshold", 0.0..=1.0)
        {
            abilities.threshold = range;
        }
        for (name, largest, range) in
            [("temperature", 2.0, &mut abilities.temperature), ("speed", 4.0, &mut abilities.speed)]
        {
            let Some(node) = fields.get(name) else { continue };
            *range = match node.scalar().map(|scalar| scalar.text().trim()) {
                Some("none") => None,
                _ => self.range(node, name, 0.0..=largest),
            };
        }
        for (name, flag) in [
            ("open_voices", &mut abilities.open_voices),
            ("noise_reduction", &mut abilities.noise_reduction),
            ("truncates", &mut abilities.truncates),
            ("interrupts", &mut abilities.interrupts_by_itself),
            ("hosted_mcp", &mut abilities.hosted_mcp),
            ("forms", &mut abilities.forms),
        ] {
            if let Some(node) = fields.get(name) {
                *flag = self.flag(node, name).unwrap_or(*flag);
            }
        }
        abilities
    }

    /// A model by its name, or a map that says more of it.
    fn model(&mut self, node: &'a Node) -> Option<Model> {
        if node.scalar().is_some() {
            return Some(Model::named(&self.text(node, "models")?));
        }
        let fields = self.fields(node, "models", &MODEL);
        let Some(name) = fields.get("name") else {
            if matches!(node.kind, Kind::Map(_)) {
                self.report(node.span, Setting::ProviderModel);
            }
            return None;
        };
        let mut model = Model::named(&self.text(name, "name")?);
        for (name, flag) in
            [("reasoning", &mut model.reasoning), ("parallel_tool_calls", &mut model.parallel_tool_calls)]
        {
            if let Some(node) = fields.get(name) {
                *flag = self.flag(node, name).unwrap_or(*flag);
            }
        }
        for (name, count) in [("context", &mut model.context), ("max_output", &mut model.max_output)] {
            if let Some(node) = fields.get(name) {
                *count = self.tokens(node, name);
            }
        }
        Some(model)
    }

    fn url(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "url")?;
        // The value is not shown: it may contain a password.
        let mut wrong = |why: String| {
            self.report(node.span, Setting::ProviderUrl { why });
            None
        };
        let url = match address::parse(&text, &["wss", "ws"], true) {
            Ok(url) => url,
            Err(why) => return wrong(why.to_string()),
        };
        if url.query_pairs().any(|(name, _)| SECRET_QUERIES.contains(&&*name.to_lowercase())) {
            return wrong("must not contain the key: write it as `key`".to_owned());
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    /// The key, and whether there should be one.
    fn key(&mut self, node: &Node) -> (Option<Secret>, bool) {
        let Some(scalar) = node.scalar() else {
            self.wrong_type(node, "key", "one value");
            return (None, true);
        };
        let text = scalar.text().trim();
        if text.is_empty() || scalar.is_null() {
            // `${NAME:-}` says that it may be missing; `${NAME}` that it must not.
            return (None, scalar.expanded() && !scalar.shown().contains(":-"));
        }
        if text.contains(MISSING) {
            return (None, true);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = match secret::scheme(text) {
                Some(scheme) => Setting::SchemeTwice { name: "`key`".to_owned(), scheme },
                None => Setting::ProviderKey,
            };
            self.report(node.span, what);
            return (None, true);
        }
        (Some(Secret::new(text)), true)
    }

    fn auth(&mut self, node: &Node) -> Option<Auth> {
        let text = self.text(node, "auth")?;
        match text.as_str() {
            scheme if scheme.eq_ignore_ascii_case("bearer") => Some(Auth::Bearer),
            name if is_header(name) => Some(Auth::Header(name.to_ascii_lowercase())),
            _ => {
                // The value is not shown: it may be the key.
                self.report(node.span, Setting::ProviderAuth);
                None
            }
        }
    }

    fn minutes(&mut self, node: &Node) -> Option<Duration> {
        let text = self.text(node, "session")?;
        let (number, seconds) = match (text.strip_suffix('m'), text.strip_suffix('h')) {
            (Some(number), _) => (number, 60),
            (_, Some(number)) => (number, 60 * 60),
            _ => ("", 0),
        };
        let limit = number.parse::<u32>().ok().map(|count| Duration::from_secs(u64::from(count) * seconds));
        let limit = limit.filter(|limit| (60..=24 * 60 * 60).contains(&limit.as_secs()));
        if limit.is_none() {
            self.report(node.span, Setting::ProviderSession { shown: shown(node) });
        }
        limit
    }

    fn range(
        &mut self,
        node: &Node,
        name: &'static str,
        within: RangeInclusive<f64>,
    ) -> Option<RangeInclusive<f64>> {
        let numbers: Vec<f64> = match &node.kind {
            Kind::Seq(items) => items.iter().filter_map(|item| item.scalar()?.number()).collect(),
            Kind::Scalar(_) | Kind::Map(_) => Vec::new(),
        };
        if let [least, most] = numbers[..]
            && least <= most
            && within.contains(&least)
            && within.contains(&most)
        {
            return Some(least..=most);
        }
        let (least, most) = (*within.start(), *within.end());
        self.report(node.span, Setting::ProviderRange { name, least, most });
        None
    }

    fn tokens(&mut self, node: &Node, name: &'static str) -> Option<u32> {
        let count = node.scalar().and_then(|scalar| scalar.text().trim().replace('_', "").parse().ok());
        if count.is_none() {
            self.wrong_type(node, name, "a number of tokens, such as 32000");
        }
        count
    }

    fn flag(&mut self, node: &Node, name: &'static str) -> Option<bool> {
        let flag = node.scalar().and_then(Scalar::bool);
        if flag.is_none() {
            self.wrong_type(node, name, "true or false");
        }
        flag
    }

    fn names(&mut self, node: &'a Node, name: &str) -> Vec<String> {
        let items = self.list(node, name);
        items.into_iter().filter_map(|item| self.text(item, name)).collect()
    }

    fn words<T: Copy>(&mut self, node: &'a Node, name: &'static str, words: &[(&str, T)]) -> Vec<T> {
        let items = self.list(node, name);
        items.into_iter().filter_map(|item| self.word(item, name, words)).collect()
    }

    fn word<T: Copy>(&mut self, node: &Node, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let suggestion = Suggestion::new(&text, words.iter().map(|(word, _)| *word));
            self.report(node.span, Setting::ProviderWord { name, shown: shown(node), suggestion });
        }
        found.map(|(_, value)| *value)
    }

    /// The items, or the one value in their place; an empty one is an empty list.
    pub fn list(&mut self, node: &'a Node, name: &str) -> Vec<&'a Node> {
        match &node.kind {
            Kind::Seq(items) => items.iter().filter(|item| !item.is_null()).collect(),
            Kind::Scalar(_) => vec![node],
            Kind::Map(_) => {
                self.wrong_type(node, name, "a list");
                Vec::new()
            }
        }
    }

    /// A text without white space around it; `None` also for a variable that is missing, which was noted.
    pub fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        let Some(scalar) = node.scalar() else {
            self.wrong_type(node, name, "one value");
            return None;
        };
        Some(scalar.text().trim().to_owned()).filter(|text| !text.contains(MISSING) && !text.is_empty())
    }

    pub fn fields(&mut self, node: &'a Node, name: &str, known: &[&'static str]) -> Fields<'a> {
        let mut fields = Fields(Vec::new());
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in self.map(node, name) {
            let shown = problem::shown(&key.name);
            if !known.contains(&key.name.as_str()) {
                let suggestion = Suggestion::new(&key.name, known.iter().copied());
                let parent = name.to_owned();
                self.report(key.span, Setting::ProviderKeyUnknown { name: shown, parent, suggestion });
            } else if seen.contains(&key.name.as_str()) {
                self.report(key.span, Setting::Duplicate { name: shown });
            } else {
                seen.push(&key.name);
                if !value.is_null() {
                    fields.0.push((&key.name, value));
                }
            }
        }
        fields
    }

    pub fn map(&mut self, node: &'a Node, name: &str) -> &'a [(Key, Node)] {
        if !matches!(node.kind, Kind::Map(_)) {
            self.wrong_type(node, name, "a map");
        }
        entries(node)
    }

    fn wrong_type(&mut self, node: &Node, name: &str, expected: &'static str) {
        self.report(node.span, Setting::Type { name: name.to_owned(), expected, found: node.what() });
    }

    pub fn report(&mut self, at: Span, what: Setting) {
        self.problems.push(self.source.problem(at, what));
    }
}

fn is_header(name: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.len() <= 64 && name.bytes().all(of_name)
}

pub(super) fn shown(node: &Node) -> String {
    node.scalar().map(Scalar::shown).unwrap_or_default()
}
