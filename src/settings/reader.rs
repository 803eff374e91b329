//! How settings are read: each from the last of its sources that has it, with the place it stands at.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile};
use url::Url;

use super::{DEFAULTS, FILE, NAMES, PROVIDERS, Sources, address, is_loopback, is_secret, providers};
use crate::problem::{self, Problem, Source, Span, Subject};
use crate::provider::Provider;
use crate::secret::Secret;
use crate::yaml::{self, Kind, MISSING, SourceFile, secrets};

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

pub(super) struct Reader {
    figment: Figment,
    /// Where each setting stands in the file, and how its value may be shown.
    places: BTreeMap<String, (Span, String)>,
    source: Option<Source>,
    pub(super) providers: Vec<Arc<Provider>>,
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(sources: &Sources) -> Reader {
        let mut reader = Reader {
            figment: Figment::new(),
            places: BTreeMap::new(),
            source: None,
            providers: Vec::new(),
            problems: Vec::new(),
        };
        let file = sources.file.as_ref().map(|file| reader.file(file, &sources.environment));
        let named = |name: &str, value: &str| (name.to_lowercase(), value.to_owned());
        let defaults = DEFAULTS.iter().map(|(name, value)| named(name, value)).collect();
        let environment = NAMES
            .iter()
            .filter_map(|(name, _)| Some((name, sources.environment.get(*name)?.trim())))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| named(name, value))
            .collect();
        reader.figment = Figment::from(Layer { name: "defaults", values: defaults })
            .merge(Layer { name: FILE, values: file.unwrap_or_default() })
            .merge(Layer { name: "environment", values: environment });
        reader
    }

    /// The settings in the file. Unknown and double ones are problems.
    fn file(
        &mut self,
        file: &SourceFile,
        environment: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut document = yaml::read(file, environment);
        let mut values = BTreeMap::new();
        let entries = match document.root.as_ref().map(|root| &root.kind) {
            Some(Kind::Map(entries)) => entries.as_slice(),
            Some(Kind::Seq(_)) => {
                let message = "settings are a map, such as `port: 5050`, and this is a list";
                self.problems.push(Problem::about(&file.path, "setting.type", message));
                &[]
            }
            Some(Kind::Scalar(scalar)) if !scalar.is_null() => {
                let message = "settings are a map, such as `port: 5050`, and this is a text";
                self.problems.push(Problem::about(&file.path, "setting.type", message));
                &[]
            }
            Some(Kind::Scalar(_)) | None => &[],
        };
        let text = yaml::text("", &file.bytes).unwrap_or_default();
        let is_named = |name: &str| is_secret(&name.to_uppercase()) || secrets::named(name);
        let mut hidden = secrets::lines(text, document.root.as_ref(), &is_named);
        for (key, node) in entries {
            // What a misspelt name holds, nobody knows.
            let plain = NAMES.iter().any(|(name, secret)| !secret && name.eq_ignore_ascii_case(&key.name));
            match key.name == PROVIDERS {
                true => providers::secrets(node, &mut hidden),
                false => secrets::values(node, !plain, &is_named, &mut hidden),
            }
        }
        document.source.hide(hidden);
        let source = &document.source;
        let mut seen_providers = false;
        // Where the keys of providers stand.
        let mut keys: Vec<Span> = Vec::new();
        for (key, node) in entries {
            let known = || NAMES.iter().map(|(name, _)| name.to_lowercase());
            let name = key.name.as_str();
            if name == PROVIDERS && !seen_providers {
                seen_providers = true;
                let (providers, problems) = providers::read(source, node);
                self.providers = providers;
                self.problems.extend(problems);
                keys = providers::keys(node);
                continue;
            }
            if name == PROVIDERS {
                self.problems.push(source.error(key.span, "setting.double", "`providers` is set twice"));
                continue;
            }
            if !known().any(|known| known == name) {
                let known: Vec<String> = known().chain([PROVIDERS.to_owned()]).collect();
                let message = format!("there is no setting `{}`", problem::shown(name));
                let nearest = problem::nearest(name, known.iter().map(String::as_str));
                let help = match nearest.first() {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!(
                        "settings are {}",
                        problem::list(&known.iter().map(String::as_str).collect::<Vec<_>>())
                    ),
                };
                self.problems.push(source.error(key.span, "setting.unknown", message).help(help));
                continue;
            }
            if values.contains_key(name) {
                let message = format!("`{name}` is set twice");
                self.problems.push(source.error(key.span, "setting.double", message));
                continue;
            }
            let value = match &node.kind {
                Kind::Scalar(scalar) if scalar.is_null() => continue,
                Kind::Scalar(scalar) => scalar.text().trim().to_owned(),
                // `twilio_auth_token` and `twilio_shared_keys` read well as lists.
                Kind::Seq(items) if items.iter().all(|item| item.scalar().is_some()) => items
                    .iter()
                    .filter_map(|item| Some(item.scalar()?.text().trim()))
                    .collect::<Vec<_>>()
                    .join(","),
                Kind::Seq(_) | Kind::Map(_) => {
                    let message = format!("`{name}` must be one value, and this is {}", node.what());
                    self.problems.push(source.error(node.span, "setting.type", message));
                    continue;
                }
            };
            let shown = node.scalar().map_or_else(|| problem::shown(&value), |s| s.shown());
            self.places.insert(name.to_owned(), (node.span, shown));
            values.insert(name.to_owned(), value);
        }
        // The reader's own problems were made before the secrets were hidden.
        let found = document.problems.drain(..).map(|problem| problem.within(&document.source));
        // A provider's key may be missing until somebody calls: `check` needs none.
        let inside = |key: &Span, at: Span| (key.start..=key.start + key.len).contains(&at.start);
        self.problems.extend(found.filter(|problem| {
            let at_key = problem.span().is_some_and(|at| keys.iter().any(|key| inside(key, at)));
            problem.code() != "env.missing" || !at_key
        }));
        self.source = Some(document.source);
        values.retain(|_, value| !value.contains(MISSING));
        values
    }

    /// The value in force. Empty means not set.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let value = self.figment.find_value(&name.to_lowercase()).ok()?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    pub(super) fn secret(&mut self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    pub(super) fn secrets(&mut self, name: &str) -> Vec<Secret> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Secret::new).collect()
    }

    pub(super) fn shared_keys(&mut self) -> Vec<(String, Secret)> {
        let text = self.text("TWILIO_SHARED_KEYS").unwrap_or_default();
        let mut keys = Vec::new();
        for (at, part) in text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            match part.split_once('=') {
                Some((id, secret)) if !id.trim().is_empty() && !secret.trim().is_empty() => {
                    keys.push((id.trim().to_owned(), Secret::new(secret.trim())));
                }
                _ => self.wrong(
                    "TWILIO_SHARED_KEYS",
                    &format!("must be `id=secret` pairs parted by commas; pair {} is not", at + 1),
                ),
            }
        }
        keys
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        self.checked(name, what, |_| true)
    }

    pub(super) fn checked<T: FromStr>(&mut self, name: &str, what: &str, fits: fn(&T) -> bool) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok().filter(fits);
        if value.is_none() {
            let shown = self.shown(name, &text);
            self.wrong(name, &format!("must be {what}; `{shown}` is not"));
        }
        value
    }

    pub(super) fn url(&mut self, name: &str, schemes: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        let mut wrong = |why: String| {
            // A user name and password, or a query with a token, may be in it.
            match text.contains(['@', '?']) {
                true => self.wrong(name, &why),
                false => self.wrong(name, &format!("`{}` {why}", self.shown(name, &text))),
            }
            None
        };
        let url = match address::parse(&text, schemes) {
            Ok(url) => url,
            Err(why) => return wrong(why),
        };
        if !url.username().is_empty() || url.password().is_some() {
            // Shown nowhere: it holds a password.
            self.wrong(name, "must hold no user name and no password");
            return None;
        }
        // A provider's own URL may carry a query; Twilio's must not, or signatures never match.
        // So may the address of an archive.
        let query = name == "OPENAI_REALTIME_URL" || name == "ASSISTANTS_URL";
        if url.fragment().is_some() || (!query && url.query().is_some()) {
            return wrong("must hold no `?` and no `#`".to_owned());
        }
        // What is shown elsewhere is the whole address; here it is the part before this.
        let ours = ["/incoming-call", "/allowlist-function", "/fallback-function"];
        let path = url.path().trim_end_matches('/');
        if let Some(end) = ours.into_iter().find(|end| path.ends_with(end))
            && matches!(name, "PUBLIC_URL" | "TWILIO_FUNCTIONS_URL")
        {
            return wrong(format!("must be written without {end} at its end"));
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    /// Its query may be a secret, so no problem shows it.
    pub(super) fn assistants_url(&mut self) -> Option<Secret> {
        const NAME: &str = "ASSISTANTS_URL";
        self.url(NAME, &["https", "http"])?;
        let text = self.text(NAME)?;
        let url = Url::parse(&text).ok()?;
        if url.scheme() == "http" && !is_loopback(&url) {
            self.wrong(NAME, "must start with https://: whoever can change the folder answers your phone");
            return None;
        }
        Some(Secret::new(text))
    }

    pub(super) fn warn_of_http(&mut self) {
        let Some(url) = self.text("PUBLIC_URL").and_then(|text| Url::parse(&text).ok()) else {
            return;
        };
        if url.scheme() == "http" && !is_loopback(&url) {
            let problem = self.about(
                "PUBLIC_URL",
                "setting.http",
                "PUBLIC_URL starts with http://: calls travel unencrypted, and Twilio opens \
                 streams to wss:// only",
            );
            self.problems.push(problem.help("use https:// for real calls").into_warning());
        }
    }

    pub(super) fn warn_of_ipv4(&mut self, host: Option<IpAddr>, on_fly: bool) {
        if on_fly && host.is_some_and(|host| host.is_ipv4()) {
            let message = "HOST is an IPv4 address, and Fly's private network is IPv6: no other machine reaches this \
                           one, so calls whose webhooks come to another end with an apology";
            let problem = self.about("HOST", "setting.ipv4", message);
            self.problems.push(problem.help("unset HOST, or set it to `::`").into_warning());
        }
    }

    pub(super) fn warn_of_idle_token(&mut self) {
        if self.text("ASSISTANTS_TOKEN").is_some() && self.text("ASSISTANTS_URL").is_none() {
            let message = "ASSISTANTS_TOKEN is set, and ASSISTANTS_URL is not: nothing is fetched";
            let problem = self.about("ASSISTANTS_TOKEN", "setting.unused", message);
            self.problems.push(problem.help("set ASSISTANTS_URL, or unset the token").into_warning());
        }
    }

    pub(super) fn wrong(&mut self, name: &str, why: &str) {
        let problem = self.about(name, "setting.value", &format!("{name} {why}"));
        self.problems.push(problem);
    }

    /// Whether the value in force is the file's.
    pub(super) fn is_in_file(&self, name: &str) -> bool {
        self.figment.find_metadata(&name.to_lowercase()).is_some_and(|from| from.name == FILE)
    }

    /// A problem that points at the file or the environment, whichever is in force.
    pub(super) fn about(&self, name: &str, code: &'static str, message: &str) -> Problem {
        match (self.is_in_file(name), &self.source, self.places.get(&name.to_lowercase())) {
            (true, Some(source), Some((span, _))) => source.error(*span, code, message),
            _ => Problem::about("environment", code, message),
        }
        .with_subject(Subject::Setting(name.to_owned()))
    }

    fn shown(&self, name: &str, text: &str) -> String {
        match self.places.get(&name.to_lowercase()) {
            Some((_, shown)) if self.is_in_file(name) => shown.clone(),
            _ => problem::shown(text),
        }
    }
}
