//! How settings are read: figment merges the sources, and each value is parsed as the table declares it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile};
use url::Url;

use super::table::{Form, SETTINGS, setting};
use super::{
    ALERTS, Alerts, Database, FILE, LIMITS, MAPS, PRICES, PROVIDERS, RECORD, Sources, address, alerts,
    database, fly_url, fly_variable, is_loopback, is_secret, prices, providers,
};
use crate::assistant::plan::RecordPolicy;
use crate::assistant::record_defaults;
use crate::problem::catalogue::Setting as Problems;
use crate::problem::{self, Problem, Source, Span, Subject, Suggestion};
use crate::provider::Provider;
use crate::provider::prices::Prices;
use crate::secret::Secret;
use crate::yaml::{self, Key, Kind, MISSING, Node, SourceFile, secrets};

/// One source of settings; all values are texts.
struct Layer {
    name: &'static str,
    values: BTreeMap<String, String>,
}

impl figment::Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = self.values.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
        Ok(Profile::Default.collect(values.collect()))
    }
}

/// A value in force, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Written {
    pub value: Secret,
    /// It comes from `switchboard.yaml`.
    pub in_file: bool,
}

pub(super) struct Reader {
    figment: Figment,
    app: Option<String>,
    /// Where each setting stands in the file, and its value as it may be shown.
    places: BTreeMap<String, (Span, String)>,
    source: Option<Source>,
    pub(super) providers: Vec<Arc<Provider>>,
    pub(super) record: RecordPolicy,
    pub(super) prices: Prices,
    pub(super) alerts: Option<Alerts>,
    pub(super) cost_per_day: Option<f64>,
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(sources: &Sources) -> Reader {
        let mut reader = Reader {
            figment: Figment::new(),
            app: fly_variable(&sources.environment, "FLY_APP_NAME"),
            places: BTreeMap::new(),
            source: None,
            providers: Vec::new(),
            record: RecordPolicy::default(),
            prices: Prices::default(),
            alerts: None,
            cost_per_day: None,
            problems: Vec::new(),
        };
        let file = sources.file.as_ref().map(|file| reader.file(file, &sources.environment));
        let named = |name: &str, value: &str| (name.to_lowercase(), value.to_owned());
        let defaults =
            SETTINGS.iter().filter_map(|setting| Some(named(setting.name, setting.default?))).collect();
        let on_fly = fly_url(&sources.environment).map(|url| named("PUBLIC_URL", &url)).into_iter().collect();
        let environment = SETTINGS
            .iter()
            .filter_map(|setting| Some((setting.name, sources.environment.get(setting.name)?.trim())))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| named(name, value))
            .collect();
        reader.figment = Figment::from(Layer { name: "defaults", values: defaults })
            .merge(Layer { name: "Fly", values: on_fly })
            .merge(Layer { name: FILE, values: file.unwrap_or_default() })
            .merge(Layer { name: "environment", values: environment });
        reader
    }

    /// The settings in the file. Unknown and duplicate ones are problems.
    fn file(
        &mut self,
        file: &SourceFile,
        environment: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut document = yaml::read(file, environment);
        let entries = match &document.root {
            Some(root) => match &root.kind {
                Kind::Map(entries) => entries.as_slice(),
                _ if root.is_null() => &[],
                _ => {
                    let what = Problems::NotAMap { found: root.what() };
                    self.problems.push(Problem::file(&file.path, what));
                    &[]
                }
            },
            None => &[],
        };
        let text = yaml::text(file).unwrap_or_default();
        document.source.hide(hidden(text, document.root.is_none(), entries));
        let source = &document.source;
        let mut values = BTreeMap::new();
        let mut maps: Vec<&str> = Vec::new();
        // Where the keys of providers stand.
        let mut keys: Vec<Span> = Vec::new();
        for (key, node) in entries {
            let name = key.name.as_str();
            let is_double = values.contains_key(name) || maps.contains(&name);
            if is_double {
                let what = Problems::Duplicate { name: name.to_owned() };
                self.problems.push(source.problem(key.span, what));
                continue;
            }
            if MAPS.contains(&name) {
                maps.push(name);
            }
            if name == RECORD {
                let (record, problems) = record_defaults(source, node);
                self.record = record;
                self.problems.extend(problems);
                continue;
            }
            if name == PRICES {
                let (prices, problems) = prices::read(source, node);
                self.prices = prices;
                self.problems.extend(problems);
                continue;
            }
            if name == ALERTS {
                let (alerts, problems) = alerts::read(source, node);
                self.alerts = alerts;
                self.problems.extend(problems);
                continue;
            }
            if name == LIMITS {
                let (cost_per_day, problems) = alerts::limits(source, node);
                self.cost_per_day = cost_per_day;
                self.problems.extend(problems);
                continue;
            }
            if name == PROVIDERS {
                let (providers, problems) = providers::read(source, node);
                self.providers = providers;
                self.problems.extend(problems);
                keys = providers::keys(node);
                continue;
            }
            let known = |known: &str| SETTINGS.iter().any(|setting| setting.name.to_lowercase() == known);
            if !known(name) {
                let known: Vec<String> = SETTINGS.iter().map(|setting| setting.name.to_lowercase()).collect();
                let names = known.iter().map(String::as_str).chain(MAPS);
                let suggestion = Suggestion::new(name, names);
                let what = Problems::Unknown { name: problem::shown(name), suggestion };
                self.problems.push(source.problem(key.span, what));
                continue;
            }
            if node.is_null() {
                continue;
            }
            let Some(value) = joined(node) else {
                let what =
                    Problems::Type { name: name.to_owned(), expected: "one value", found: node.what() };
                self.problems.push(source.problem(node.span, what).with_subject(subject(name)));
                continue;
            };
            let shown = node.scalar().map_or_else(|| problem::shown(&value), |scalar| scalar.shown());
            self.places.insert(name.to_owned(), (node.span, shown));
            values.insert(name.to_owned(), value);
        }
        // The YAML reader's problems were made before the secrets were hidden.
        let found = document.problems.drain(..).map(|problem| problem.within(&document.source));
        // A provider's key may be missing until a call needs it: `check` does not.
        let inside = |key: &Span, at: Span| (key.start..=key.start + key.len).contains(&at.start);
        self.problems.extend(found.filter(|problem| {
            let at_key = problem.span().is_some_and(|at| keys.iter().any(|key| inside(key, at)));
            problem.code() != "env.missing" || !at_key
        }));
        self.source = Some(document.source);
        values.retain(|_, value| !value.contains(MISSING));
        values
    }

    /// The value in force; an empty one is none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.figment.find_value(&name.to_lowercase()).ok()?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Every value in force.
    pub(super) fn written(&self) -> BTreeMap<&'static str, Written> {
        let written = |name: &'static str| {
            Some((name, Written { value: self.secret(name)?, in_file: self.is_in_file(name) }))
        };
        super::names().filter_map(written).collect()
    }

    pub(super) fn shared_keys(&mut self) -> Vec<(String, Secret)> {
        let mut keys = Vec::new();
        for (at, part) in self.list("TWILIO_SHARED_KEYS").iter().enumerate() {
            match part.split_once('=').map(|(id, secret)| (id.trim(), secret.trim())) {
                Some((id, secret)) if !id.is_empty() && !secret.is_empty() => {
                    keys.push((id.to_owned(), Secret::new(secret)));
                }
                _ => self.report("TWILIO_SHARED_KEYS", Problems::SharedKey { pair: at + 1 }),
            }
        }
        keys
    }

    /// A value of the form that the table declares; the default, if it has another form.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        let text = self.text(name)?;
        let form = setting(name)?.form;
        let (fits, expected) = match form {
            Form::Port => (text.parse::<u16>().is_ok(), "a port from 0 to 65535".to_owned()),
            Form::Number { least, most, unit } => (
                text.parse::<u64>().is_ok_and(|number| (least..=most).contains(&number)),
                format!("a number of {unit} from {least} to {most}"),
            ),
            Form::IpAddress => (true, "an IP address such as `0.0.0.0`".to_owned()),
            Form::OneOf(words) => {
                (words.contains(&text.as_str()), format!("one of {}", problem::list(words)))
            }
            Form::Text | Form::List | Form::Url { .. } | Form::PeerUrl | Form::Database => {
                (true, String::new())
            }
        };
        if let Some(value) = text.parse().ok().filter(|_| fits) {
            return Some(value);
        }
        let shown = self.shown(name, &text);
        self.report(name, Problems::Value { name, expected, shown });
        setting(name)?.default?.parse().ok()
    }

    /// A URL without a trailing slash; the default, if it is not valid.
    pub(super) fn url(&mut self, name: &'static str) -> Option<String> {
        let Form::Url { schemes, query } = setting(name)?.form else { return None };
        let text = self.text(name)?;
        match address::parse(&text, schemes, query).and_then(|url| without_our_path(name, &url)) {
            Ok(()) => Some(text.trim_end_matches('/').to_owned()),
            Err(why) => {
                // A user name and password, or a query with a token, may be in it.
                let why = match text.contains(['@', '?']) {
                    true => why.to_string(),
                    false => format!("is `{}`, which {why}", self.shown(name, &text)),
                };
                self.report(name, Problems::Address { name: name.to_owned(), why });
                setting(name)?.default.map(str::to_owned)
            }
        }
    }

    /// Its query may be a secret, so no problem shows it.
    pub(super) fn assistants_url(&mut self) -> Option<Secret> {
        const NAME: &str = "ASSISTANTS_URL";
        self.url(NAME)?;
        let text = self.text(NAME)?;
        let url = Url::parse(&text).ok()?;
        if url.scheme() == "http" && !is_loopback(&url) {
            let why =
                "must start with https://, so that nobody can change the assistants on the way".to_owned();
            self.report(NAME, Problems::Address { name: NAME.to_owned(), why });
            return None;
        }
        Some(Secret::new(text))
    }

    /// The pattern of other machines' addresses. `{app}` is filled in here, `{machine}` when one is asked.
    pub(super) fn peer_url(&mut self, port: u16) -> Option<String> {
        const NAME: &str = "PEER_URL";
        let app = self.app.clone();
        let Some(text) = self.text(NAME) else {
            return app.map(|app| format!("http://{{machine}}.vm.{app}.internal:{port}"));
        };
        if !text.contains("{machine}") {
            self.report(NAME, Problems::PeerUrlWithoutMachine);
            return None;
        }
        if text.contains("{app}") && app.is_none() {
            self.report(NAME, Problems::PeerUrlWithoutApp);
            return None;
        }
        let pattern = text.replace("{app}", &app.unwrap_or_default());
        if address::parse(&pattern.replace("{machine}", "m1"), &["http", "https"], false).is_err() {
            // Not shown: a password may be in it.
            self.report(NAME, Problems::PeerUrl);
            return None;
        }
        Some(pattern.trim_end_matches('/').to_owned())
    }

    /// Never shown: there may be a password in it.
    pub(super) fn database(&mut self) -> Option<Database> {
        const NAME: &str = "DATABASE_URL";
        let text = self.text(NAME)?;
        match database::parse(&text) {
            Ok(database) => Some(database),
            Err(why) => {
                self.report(NAME, Problems::Address { name: NAME.to_owned(), why: why.to_string() });
                None
            }
        }
    }

    /// Reports a problem at the place of a setting: in the file or the environment, whichever is in force.
    pub(super) fn report(&mut self, name: &str, what: Problems) {
        let problem = match (self.is_in_file(name), &self.source, self.places.get(&name.to_lowercase())) {
            (true, Some(source), Some((span, _))) => source.problem(*span, what),
            _ => Problem::new(what),
        };
        self.problems.push(problem.with_subject(subject(name)));
    }

    fn is_in_file(&self, name: &str) -> bool {
        self.figment.find_metadata(&name.to_lowercase()).is_some_and(|from| from.name == FILE)
    }

    fn shown(&self, name: &str, text: &str) -> String {
        match self.places.get(&name.to_lowercase()) {
            Some((_, shown)) if self.is_in_file(name) => shown.clone(),
            _ => problem::shown(text),
        }
    }
}

/// Where the secrets of the file are.
fn hidden(text: &str, nested: bool, entries: &[(Key, Node)]) -> Vec<Span> {
    let is_named = |name: &str| is_secret(&name.to_uppercase()) || secrets::named(name);
    let mut hidden = secrets::lines(text, nested, &is_named);
    for (key, node) in entries {
        let secret = match setting(&key.name.to_uppercase()) {
            Some(setting) => setting.secret,
            None => secrets::possible(&key.name, node),
        };
        match key.name == PROVIDERS {
            true => providers::secrets(node, &mut hidden),
            false => secrets::values(node, secret, &is_named, &mut hidden),
        }
    }
    hidden
}

/// One value, or a list of values with commas between them.
fn joined(node: &Node) -> Option<String> {
    let text = |node: &Node| Some(node.scalar()?.text().trim().to_owned());
    match &node.kind {
        Kind::Scalar(_) => text(node),
        Kind::Seq(items) => Some(items.iter().map(text).collect::<Option<Vec<_>>>()?.join(",")),
        Kind::Map(_) => None,
    }
}

fn subject(name: &str) -> Subject {
    Subject::Setting(name.to_uppercase())
}

/// What others see is the whole address; a setting is the part before our own paths.
fn without_our_path(name: &str, url: &Url) -> Result<(), address::Invalid> {
    let ours = ["/incoming-call", "/allowlist-function", "/fallback-function"];
    let path = url.path().trim_end_matches('/');
    match ours.into_iter().find(|end| path.ends_with(end)) {
        Some(end) if matches!(name, "PUBLIC_URL" | "TWILIO_FUNCTIONS_URL") => {
            Err(address::Invalid::OurPath(end))
        }
        Some(_) | None => Ok(()),
    }
}
