//! The server's settings: defaults, then `switchboard.yaml`, then the environment.
//!
//! It knows every name of the contract's table and how its value is written. It reads no file and
//! no process environment: both are handed in, and all problems come back at once. What assistants
//! say is not known here.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod env_file;
mod peers;
mod providers;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile};
use url::{Host, Url};

use crate::problem::{self, Problem, Source, Span};
use crate::provider::{OPENAI_REALTIME_URL, Provider};
use crate::secret::Secret;
use crate::yaml::{self, Kind, MISSING, SourceFile, secrets};

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `switchboard.yaml`, where there is one.
    pub file: Option<SourceFile>,
    /// The process's environment, `.env` included.
    pub environment: BTreeMap<String, String>,
}

/// Every setting, well-formed. Whether there are enough of them to serve, [`Settings::for_serve`]
/// tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub openai_api_key: Option<Secret>,
    /// `ws://` or `wss://`, without the model.
    pub openai_realtime_url: String,
    /// Those of the file, by name; `openai` is not among them.
    pub named_providers: Vec<Arc<Provider>>,
    /// Each may have signed a request; the first also keys the tickets.
    pub twilio_auth_tokens: Vec<Secret>,
    /// Id and secret of Twilio's shared-key signatures.
    pub twilio_shared_keys: Vec<(String, Secret)>,
    pub twilio_account_sid: Option<String>,
    pub twilio_api_key: Option<String>,
    pub twilio_api_secret: Option<Secret>,
    pub twilio_api_url: String,
    /// Where the Functions of `twilio/` are deployed, without a slash at its end.
    pub twilio_functions_url: Option<String>,
    /// The address Twilio calls, without a trailing slash.
    pub public_url: Option<String>,
    /// The address that Fly gives the app, whatever its own is.
    pub fly_url: Option<String>,
    /// By default every address: on Fly also those of its private network, which is IPv6.
    pub host: IpAddr,
    /// 0: any free one.
    pub port: u16,
    pub assistants_dir: PathBuf,
    /// Where the folder is fetched as a `.tar.gz`: https, or http to this machine. Its query may be a secret.
    pub assistants_url: Option<Secret>,
    /// Sent to `assistants_url` as Bearer.
    pub assistants_token: Option<Secret>,
    /// Calls at once in this process; at least 1.
    pub max_calls: usize,
    /// How long calls may go on once the program was told to stop.
    pub drain: Duration,
    pub metrics_port: Option<u16>,
    pub metrics_token: Option<Secret>,
    pub state_dir: Option<PathBuf>,
    /// Trusted certificates, in place of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// The log filter, as in `RUST_LOG`.
    pub log: String,
    /// `None`: text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// The Fly machine this is, where it is one.
    pub machine: Option<String>,
    pub on_fly: bool,
    /// Where another machine answers, its name written as `{machine}`; without a trailing slash. `None`: no other
    /// machine is asked.
    pub peer_url: Option<String>,
    /// What is odd, and no reason to stop.
    pub warnings: Vec<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The three addresses of a number at Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberUrls {
    /// Asked when it rings: the Function in front, or this server.
    pub voice: String,
    /// Asked when the first one fails; known only with Functions.
    pub fallback: Option<String>,
    /// Told when a call is over.
    pub status: String,
}

/// What `serve` cannot do without.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeSettings {
    /// All of them; the first is the default.
    pub providers: Vec<Arc<Provider>>,
    /// At least one.
    pub twilio_auth_tokens: Vec<Secret>,
    /// Without a trailing slash.
    pub public_url: String,
}

/// The name of each setting in the environment, and whether its value is a secret. In
/// `switchboard.yaml` the name is in lower case.
const NAMES: [(&str, bool); 24] = [
    ("OPENAI_API_KEY", true),
    ("OPENAI_REALTIME_URL", false),
    ("TWILIO_AUTH_TOKEN", true),
    ("TWILIO_SHARED_KEYS", true),
    ("TWILIO_ACCOUNT_SID", true),
    ("TWILIO_API_KEY", true),
    ("TWILIO_API_SECRET", true),
    ("TWILIO_API_URL", false),
    ("TWILIO_FUNCTIONS_URL", false),
    ("PUBLIC_URL", false),
    ("HOST", false),
    ("PORT", false),
    ("PEER_URL", false),
    ("ASSISTANTS_DIR", false),
    ("ASSISTANTS_URL", true),
    ("ASSISTANTS_TOKEN", true),
    ("MAX_CALLS", false),
    ("DRAIN_SECONDS", false),
    ("METRICS_PORT", false),
    ("METRICS_TOKEN", true),
    ("STATE_DIR", false),
    ("RUST_LOG", false),
    ("LOG_FORMAT", false),
    ("SSL_CERT_FILE", false),
];

/// The name of each setting in the environment.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// Whether what this variable holds is for nobody's eyes: one of ours, or one that is named so.
pub fn is_secret(variable: &str) -> bool {
    NAMES.iter().any(|(name, secret)| *secret && *name == variable)
        || variable.split('_').any(|part| {
            matches!(
                part,
                "KEY" | "TOKEN" | "SECRET" | "PASSWORD" | "PASS" | "PASSWD" | "PWD" | "AUTH" | "CREDENTIALS"
            )
        })
}

const DEFAULTS: [(&str, &str); 7] = [
    ("OPENAI_REALTIME_URL", OPENAI_REALTIME_URL),
    ("TWILIO_API_URL", "https://api.twilio.com"),
    ("PORT", "5050"),
    ("ASSISTANTS_DIR", "assistants"),
    ("MAX_CALLS", "1000"),
    ("DRAIN_SECONDS", "280"),
    ("RUST_LOG", "info"),
];

/// The one setting that is a map, and in the file only.
const PROVIDERS: &str = "providers";

/// A day: nobody waits longer for a call to end.
const LONGEST_DRAIN: u64 = 24 * 60 * 60;

impl Settings {
    /// Reads every setting; all problems come at once.
    pub fn read(sources: &Sources) -> Result<Settings, Vec<Problem>> {
        let mut reader = Reader::new(sources);
        let environment =
            |name: &str| sources.environment.get(name).filter(|value| !value.is_empty()).cloned();
        let app = environment("FLY_APP_NAME");
        let fly_url = app.as_ref().map(|app| format!("https://{app}.fly.dev"));
        // The app's name alone is set wherever somebody works with it.
        let on_fly = environment("FLY_MACHINE_ID").is_some();
        let port = reader.parsed("PORT", "a port, 0 to 65535").unwrap_or_default();
        let settings = Settings {
            openai_api_key: reader.secret("OPENAI_API_KEY"),
            openai_realtime_url: reader.url("OPENAI_REALTIME_URL", &["wss", "ws"]).unwrap_or_default(),
            named_providers: std::mem::take(&mut reader.providers),
            twilio_auth_tokens: reader.secrets("TWILIO_AUTH_TOKEN"),
            twilio_shared_keys: reader.shared_keys(),
            twilio_account_sid: reader.text("TWILIO_ACCOUNT_SID"),
            twilio_api_key: reader.text("TWILIO_API_KEY"),
            twilio_api_secret: reader.secret("TWILIO_API_SECRET"),
            twilio_api_url: reader.url("TWILIO_API_URL", &["https", "http"]).unwrap_or_default(),
            twilio_functions_url: reader.url("TWILIO_FUNCTIONS_URL", &["https", "http"]),
            public_url: reader.url("PUBLIC_URL", &["https", "http"]).or_else(|| fly_url.clone()),
            fly_url,
            host: reader
                .parsed("HOST", "an IP address, such as `0.0.0.0`")
                // `::` hears IPv4 as well.
                .unwrap_or(if on_fly { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }),
            port,
            assistants_dir: reader.text("ASSISTANTS_DIR").unwrap_or_default().into(),
            assistants_url: reader.assistants_url(),
            assistants_token: reader.secret("ASSISTANTS_TOKEN"),
            max_calls: reader
                .checked("MAX_CALLS", "a number of calls, 1 or more", |calls: &usize| *calls >= 1)
                .unwrap_or(1),
            drain: Duration::from_secs(
                reader
                    .checked("DRAIN_SECONDS", "a number of seconds, at most 86400", |seconds: &u64| {
                        *seconds <= LONGEST_DRAIN
                    })
                    .unwrap_or_default(),
            ),
            metrics_port: reader.parsed("METRICS_PORT", "a port, 0 to 65535"),
            metrics_token: reader.secret("METRICS_TOKEN"),
            state_dir: reader.text("STATE_DIR").map(PathBuf::from),
            ssl_cert_file: reader.text("SSL_CERT_FILE").map(PathBuf::from),
            log: reader.text("RUST_LOG").unwrap_or_default(),
            log_format: reader.parsed("LOG_FORMAT", "`text` or `json`"),
            machine: environment("FLY_MACHINE_ID"),
            on_fly,
            peer_url: reader.peer_url(app.as_deref(), port),
            warnings: Vec::new(),
        };
        reader.warn_of_http();
        reader.warn_of_ipv4(settings.host, on_fly);
        reader.warn_of_idle_token();
        let (mut warnings, mut problems): (Vec<_>, Vec<_>) =
            reader.problems.into_iter().partition(|problem| !problem.is_error());
        if problems.is_empty() {
            warnings.extend(settings.in_clear_text());
            return Ok(Settings { warnings, ..settings });
        }
        problems.extend(warnings);
        Err(problems)
    }

    /// OpenAI, or what answers at `OPENAI_REALTIME_URL`, with a key or without.
    pub fn provider(&self) -> Provider {
        Provider::openai(self.openai_realtime_url.clone(), self.openai_api_key.clone())
    }

    /// Every provider; `openai`, the default, is the first.
    pub fn providers(&self) -> Vec<Arc<Provider>> {
        let first = Arc::new(self.provider());
        std::iter::once(first).chain(self.named_providers.iter().cloned()).collect()
    }

    /// What each number at Twilio is to be set to; `None` without a public URL.
    pub fn number_urls(&self) -> Option<NumberUrls> {
        let public_url = self.public_url.as_deref()?;
        let functions = self.twilio_functions_url.as_deref();
        Some(NumberUrls {
            voice: functions.map_or_else(
                || format!("{public_url}/incoming-call"),
                |functions| format!("{functions}/allowlist-function"),
            ),
            fallback: functions.map(|functions| format!("{functions}/fallback-function")),
            status: format!("{public_url}/call-status"),
        })
    }

    /// Everything that `serve` needs, or a sentence for each thing that is missing.
    pub fn for_serve(&self) -> Result<ServeSettings, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut missing = |name: &str, message: &str, help: &str| {
            let message = format!("{name} is not set: {message}");
            problems.push(Problem::about("environment", "setting.missing", message).help(help));
        };
        // With others the assistants decide: see `Roster::without_key`.
        if self.openai_api_key.is_none() && self.named_providers.is_empty() {
            missing(
                "OPENAI_API_KEY",
                "no speech model can be reached",
                "put OPENAI_API_KEY=sk-… into `.env` or the environment; to try without any key, \
                 run `switchboard rehearse`",
            );
        }
        if self.twilio_auth_tokens.is_empty() {
            missing(
                "TWILIO_AUTH_TOKEN",
                "nobody could tell Twilio's requests from a stranger's",
                "copy the auth token from the start page of the Twilio console; to try without \
                 Twilio, run `switchboard rehearse`",
            );
        }
        let public_url = self.public_url.clone().unwrap_or_default();
        if public_url.is_empty() {
            missing(
                "PUBLIC_URL",
                "Twilio has to know where to reach this server",
                "set it to the address that Twilio calls, such as \
                 PUBLIC_URL=https://phone.example.com, without a path unless a proxy adds one",
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(ServeSettings {
            providers: self.providers(),
            twilio_auth_tokens: self.twilio_auth_tokens.clone(),
            public_url,
        })
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<LogFormat, ()> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(()),
        }
    }
}

/// One source of settings; all values are texts.
struct Layer {
    name: &'static str,
    values: BTreeMap<String, String>,
}

const FILE: &str = "switchboard.yaml";

impl figment::Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = self.values.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
        Ok(Profile::Default.collect(values.collect()))
    }
}

struct Reader {
    figment: Figment,
    /// Where each setting stands in the file, and how its value may be shown.
    places: BTreeMap<String, (Span, String)>,
    source: Option<Source>,
    providers: Vec<Arc<Provider>>,
    problems: Vec<Problem>,
}

impl Reader {
    fn new(sources: &Sources) -> Reader {
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
            let at_key = problem.span.is_some_and(|at| keys.iter().any(|key| inside(key, at)));
            problem.code != "env.missing" || !at_key
        }));
        self.source = Some(document.source);
        values.retain(|_, value| !value.contains(MISSING));
        values
    }

    /// The value in force. Empty means not set.
    fn text(&mut self, name: &str) -> Option<String> {
        let value = self.figment.find_value(&name.to_lowercase()).ok()?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn secret(&mut self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    fn secrets(&mut self, name: &str) -> Vec<Secret> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Secret::new).collect()
    }

    fn shared_keys(&mut self) -> Vec<(String, Secret)> {
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

    fn parsed<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        self.checked(name, what, |_| true)
    }

    fn checked<T: FromStr>(&mut self, name: &str, what: &str, fits: fn(&T) -> bool) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok().filter(fits);
        if value.is_none() {
            let shown = self.shown(name, &text);
            self.wrong(name, &format!("must be {what}; `{shown}` is not"));
        }
        value
    }

    fn url(&mut self, name: &str, schemes: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        let mut wrong = |why: String| {
            // A user name and password, or a query with a token, may be in it.
            match text.contains(['@', '?']) {
                true => self.wrong(name, &why),
                false => self.wrong(name, &format!("`{}` {why}", self.shown(name, &text))),
            }
            None
        };
        let starts = schemes.iter().map(|s| format!("{s}://")).collect::<Vec<_>>().join(" or ");
        let Ok(url) = Url::parse(&text) else {
            return wrong(format!("is not a URL; it starts with {starts}"));
        };
        if !schemes.contains(&url.scheme()) {
            return wrong(format!("must start with {starts}"));
        }
        if url.host().is_none() {
            return wrong("names no host".to_owned());
        }
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
    fn assistants_url(&mut self) -> Option<Secret> {
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

    fn warn_of_http(&mut self) {
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

    fn warn_of_ipv4(&mut self, host: IpAddr, on_fly: bool) {
        if on_fly && host.is_ipv4() {
            let message = "HOST is an IPv4 address, and Fly's private network is IPv6: no other machine reaches this \
                           one, so calls whose webhooks come to another end with an apology";
            let problem = self.about("HOST", "setting.ipv4", message);
            self.problems.push(problem.help("unset HOST, or set it to `::`").into_warning());
        }
    }

    fn warn_of_idle_token(&mut self) {
        if self.text("ASSISTANTS_TOKEN").is_some() && self.text("ASSISTANTS_URL").is_none() {
            let message = "ASSISTANTS_TOKEN is set, and ASSISTANTS_URL is not: nothing is fetched";
            let problem = self.about("ASSISTANTS_TOKEN", "setting.unused", message);
            self.problems.push(problem.help("set ASSISTANTS_URL, or unset the token").into_warning());
        }
    }

    fn wrong(&mut self, name: &str, why: &str) {
        let problem = self.about(name, "setting.value", &format!("{name} {why}"));
        self.problems.push(problem);
    }

    /// A problem that points at the file or the environment, whichever is in force.
    fn about(&self, name: &str, code: &'static str, message: &str) -> Problem {
        let key = name.to_lowercase();
        let from_file = self.figment.find_metadata(&key).is_some_and(|from| from.name == FILE);
        match (from_file, &self.source, self.places.get(&key)) {
            (true, Some(source), Some((span, _))) => source.error(*span, code, message),
            _ => Problem::about("environment", code, message),
        }
    }

    fn shown(&self, name: &str, text: &str) -> String {
        let key = name.to_lowercase();
        let from_file = self.figment.find_metadata(&key).is_some_and(|from| from.name == FILE);
        match self.places.get(&key) {
            Some((_, shown)) if from_file => shown.clone(),
            _ => problem::shown(text),
        }
    }
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    }
}

mod changes;
mod clear_text;

#[cfg(test)]
mod tests;
