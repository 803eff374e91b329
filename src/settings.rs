//! The server's settings: defaults, then `switchboard.yaml`, then the environment.
//!
//! [`table`] declares every setting. This module reads no file and no process environment: both are arguments. It
//! knows nothing of assistants.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod address;
mod alerts;
mod database;
pub mod env_file;
mod numbers;
mod prices;
mod providers;
mod reader;
mod secret_shapes;
pub mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use crate::assistant::plan::RecordPolicy;
use crate::problem::Problem;
use crate::problem::catalogue::Setting as Problems;
use crate::provider::Provider;
use crate::provider::prices::Prices;
use crate::secret::Secret;
use crate::yaml::SourceFile;
pub use alerts::{AlertKind, Alerts};
pub use database::Database;
pub use numbers::NumberUrls;
use reader::{Reader, Written};
pub use table::Need;
use table::{SETTINGS, setting};

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `switchboard.yaml`, if there is one.
    pub file: Option<SourceFile>,
    /// The process's environment, `.env` included.
    pub environment: BTreeMap<String, String>,
}

/// Every setting, well-formed. [`Settings::for_serve`] checks that there are enough of them to serve.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub openai_api_key: Option<Secret>,
    /// `ws://` or `wss://`, without the model.
    pub openai_realtime_url: String,
    /// The providers of the file; `openai` is not among them.
    pub named_providers: Vec<Arc<Provider>>,
    /// What models and the carrier charge.
    pub prices: Prices,
    /// What is kept of the calls of every assistant whose file says nothing else.
    pub record: RecordPolicy,
    /// Twilio may sign with any of them; the first also keys the tickets.
    pub twilio_auth_tokens: Vec<Secret>,
    /// Id and secret of Twilio's shared-key signatures.
    pub twilio_shared_keys: Vec<(String, Secret)>,
    pub twilio_account_sid: Option<String>,
    pub twilio_api_key: Option<String>,
    pub twilio_api_secret: Option<Secret>,
    pub twilio_api_url: String,
    /// Where the Functions of `twilio/` are deployed, without a trailing slash.
    pub twilio_functions_url: Option<String>,
    /// The address Twilio calls, without a trailing slash.
    pub public_url: Option<String>,
    /// The address that Fly gives the app, even if `public_url` is another.
    pub fly_url: Option<String>,
    /// Where to listen. `None`: see [`Settings::listens_on`].
    pub host: Option<IpAddr>,
    /// 0: any free one.
    pub port: u16,
    pub assistants_dir: PathBuf,
    /// Where the folder is fetched as a `.tar.gz`: https, or http from this machine. Its query may be a secret.
    pub assistants_url: Option<Secret>,
    /// The bearer token for `assistants_url`.
    pub assistants_token: Option<Secret>,
    /// Calls at once in this process; at least 1.
    pub max_calls: usize,
    /// How long calls may continue after SIGTERM or SIGINT.
    pub drain: Duration,
    pub metrics_port: Option<u16>,
    pub metrics_token: Option<Secret>,
    /// Where durable things are kept. It may not exist: only what writes creates it. `None`: everything is in memory.
    pub state_dir: Option<PathBuf>,
    /// Where recordings go after their calls.
    pub recordings: Option<Bucket>,
    /// What DATABASE_URL names. `None`: see [`Settings::database`].
    pub database_url: Option<Database>,
    /// The mail server, with its password.
    pub smtp_url: Option<Secret>,
    /// The sender of e-mail. `None`: the user of `smtp_url`.
    pub smtp_from: Option<String>,
    /// Turns the console on.
    pub console_password: Option<Secret>,
    /// Turns the API on.
    pub api_token: Option<Secret>,
    /// Where news of the server goes; `None`: nowhere.
    pub alerts: Option<Alerts>,
    /// What the calls of all assistants may cost in a day, in dollars.
    pub cost_per_day: Option<f64>,
    /// Certificates to trust in place of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// The log filter, as in `RUST_LOG`.
    pub log: String,
    /// `None`: text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// The name of this Fly machine; `None` elsewhere.
    pub machine: Option<String>,
    /// Where another machine answers, with the placeholder `{machine}`, without a trailing slash. `None`: no other machine
    /// is asked.
    pub peer_url: Option<String>,
    /// The values in force, as they are written.
    written: BTreeMap<&'static str, Written>,
}

/// A bucket at Amazon S3, or at a service that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`, without a trailing slash.
    pub url: String,
    /// The variables of Amazon's tools: keys, region, endpoint.
    pub access: Vec<(String, Secret)>,
}

impl Bucket {
    fn new(url: String, environment: &BTreeMap<String, String>) -> Self {
        let access = environment.iter().filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
        let access = access.map(|(name, value)| (name.clone(), Secret::new(value))).collect();
        Self { url: url.trim_end_matches('/').to_owned(), access }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
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

/// The name of each setting in the environment.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name)
}

/// Whether the value of this variable is a secret: it is a secret setting, or it is named like one.
pub fn is_secret(variable: &str) -> bool {
    setting(variable).is_some_and(|setting| setting.secret)
        || variable.split('_').any(|part| {
            matches!(
                part,
                "KEY" | "TOKEN" | "SECRET" | "PASSWORD" | "PASS" | "PASSWD" | "PWD" | "AUTH" | "CREDENTIALS"
            )
        })
}

/// The text without the values of secret variables, plain or as JSON writes them.
pub fn without_secrets(text: &str, environment: &BTreeMap<String, String>) -> String {
    let secrets = environment.iter().filter(|(name, value)| is_secret(name) && value.len() >= 4);
    secrets.fold(text.to_owned(), |text, (_, value)| {
        let quoted = serde_json::Value::from(value.as_str()).to_string();
        let text = text.replace(quoted.trim_matches('"'), "•••");
        // A value of several lines is shown indented.
        value.lines().filter(|line| line.trim().len() >= 4).fold(text, |text, line| text.replace(line, "•••"))
    })
}

/// The settings' file, as problems name it.
pub const FILE: &str = "switchboard.yaml";
/// The settings that are maps, and only in the file.
const PROVIDERS: &str = "providers";
const RECORD: &str = "record";
const PRICES: &str = "prices";
const ALERTS: &str = "alerts";
const LIMITS: &str = "limits";
const MAPS: [&str; 5] = [PROVIDERS, RECORD, PRICES, ALERTS, LIMITS];

impl Settings {
    /// Reads every setting. A setting with an error is left at its default; all problems come at once.
    pub fn read(sources: &Sources) -> (Settings, Vec<Problem>) {
        let mut reader = Reader::new(sources);
        let port = reader.parsed("PORT").unwrap_or_default();
        let settings = Settings {
            openai_api_key: reader.secret("OPENAI_API_KEY"),
            openai_realtime_url: reader.url("OPENAI_REALTIME_URL").unwrap_or_default(),
            named_providers: std::mem::take(&mut reader.providers),
            prices: std::mem::take(&mut reader.prices),
            record: reader.record,
            twilio_auth_tokens: reader.list("TWILIO_AUTH_TOKEN").into_iter().map(Secret::new).collect(),
            twilio_shared_keys: reader.shared_keys(),
            twilio_account_sid: reader.text("TWILIO_ACCOUNT_SID"),
            twilio_api_key: reader.text("TWILIO_API_KEY"),
            twilio_api_secret: reader.secret("TWILIO_API_SECRET"),
            twilio_api_url: reader.url("TWILIO_API_URL").unwrap_or_default(),
            twilio_functions_url: reader.url("TWILIO_FUNCTIONS_URL"),
            public_url: reader.url("PUBLIC_URL"),
            fly_url: fly_url(&sources.environment),
            host: reader.parsed("HOST"),
            port,
            assistants_dir: reader.text("ASSISTANTS_DIR").unwrap_or_default().into(),
            assistants_url: reader.assistants_url(),
            assistants_token: reader.secret("ASSISTANTS_TOKEN"),
            max_calls: reader.parsed("MAX_CALLS").unwrap_or_default(),
            drain: Duration::from_secs(reader.parsed("DRAIN_SECONDS").unwrap_or_default()),
            metrics_port: reader.parsed("METRICS_PORT"),
            metrics_token: reader.secret("METRICS_TOKEN"),
            state_dir: reader.text("STATE_DIR").map(PathBuf::from),
            recordings: reader.url("RECORDINGS_URL").map(|url| Bucket::new(url, &sources.environment)),
            database_url: reader.database(),
            smtp_url: reader.secret("SMTP_URL"),
            smtp_from: reader.text("SMTP_FROM"),
            console_password: reader.secret("CONSOLE_PASSWORD"),
            api_token: reader.secret("API_TOKEN"),
            alerts: reader.alerts.take(),
            cost_per_day: reader.cost_per_day,
            ssl_cert_file: reader.text("SSL_CERT_FILE").map(PathBuf::from),
            log: reader.text("RUST_LOG").unwrap_or_default(),
            log_format: reader.parsed("LOG_FORMAT"),
            machine: fly_variable(&sources.environment, "FLY_MACHINE_ID"),
            peer_url: reader.peer_url(port),
            written: reader.written(),
        };
        settings.warn(&mut reader);
        (settings, reader.problems)
    }

    /// The settings, if none has an error.
    ///
    /// # Errors
    /// All problems, warnings included.
    pub fn checked(sources: &Sources) -> Result<Settings, Vec<Problem>> {
        match Settings::read(sources) {
            (_, problems) if problems.iter().any(Problem::is_error) => Err(problems),
            (settings, _) => Ok(settings),
        }
    }

    /// Warnings about settings that are valid and hardly meant.
    fn warn(&self, reader: &mut Reader) {
        if let Some(url) = self.public_url.as_deref().and_then(|url| Url::parse(url).ok())
            && url.scheme() == "http"
            && !is_loopback(&url)
        {
            reader.report("PUBLIC_URL", Problems::PublicUrlHttp);
        }
        if self.on_fly() && self.host.is_some_and(|host| host.is_ipv4()) {
            reader.report("HOST", Problems::HostIpv4);
        }
        if self.assistants_token.is_some() && reader.text("ASSISTANTS_URL").is_none() {
            reader.report("ASSISTANTS_TOKEN", Problems::TokenUnused);
        }
        if self.smtp_from.is_some() && self.smtp_url.is_none() {
            reader.report("SMTP_FROM", Problems::FromUnused);
        }
        if self.port != 0 && self.metrics_port == Some(self.port) {
            reader.report("METRICS_PORT", Problems::SamePort { port: self.port });
        }
        const CALLS: &str = "the key and what callers say";
        for (name, url, safe, what) in [
            ("OPENAI_REALTIME_URL", &self.openai_realtime_url, "wss", CALLS),
            ("TWILIO_API_URL", &self.twilio_api_url, "https", "the account's credentials"),
        ] {
            if let Some(scheme) = clear_text(url, safe) {
                let what = Problems::ClearText { name: name.to_owned(), scheme, safe, what };
                reader.report(name, what);
            }
        }
        for provider in &self.named_providers {
            if let Some(scheme) = clear_text(&provider.url, "wss") {
                let name = format!("`url` of `{}`", provider.name);
                let what = Problems::ClearText { name, scheme, safe: "wss", what: CALLS };
                reader.problems.push(Problem::file(FILE, what));
            }
        }
    }

    /// Every secret among the settings.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let written =
            self.written.iter().filter(|(name, _)| is_secret(name)).map(|(_, written)| &written.value);
        let keys = self.named_providers.iter().filter_map(|provider| provider.key.as_ref());
        written
            .chain(keys)
            .chain(self.alerts.as_ref().and_then(|alerts| Some(&alerts.to.webhook.as_ref()?.secret)))
            .chain(&self.twilio_auth_tokens)
            .chain(self.twilio_shared_keys.iter().map(|(_, key)| key))
    }

    /// Whether this process runs on a Fly machine. The app's name alone is set wherever somebody works with it.
    pub fn on_fly(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether the value in force is that of `switchboard.yaml`.
    pub fn is_in_file(&self, name: &str) -> bool {
        self.written.get(name).is_some_and(|written| written.in_file)
    }

    /// The settings whose values differ, as `switchboard.yaml` names them.
    pub fn changed(&self, other: &Settings) -> Vec<String> {
        let value =
            |settings: &Settings, name: &str| settings.written.get(name).map(|written| written.value.clone());
        let changed = names().filter(|name| value(self, name) != value(other, name)).map(str::to_lowercase);
        let maps = [
            (PROVIDERS, self.named_providers != other.named_providers),
            (RECORD, self.record != other.record),
            (PRICES, self.prices != other.prices),
            (ALERTS, self.alerts != other.alerts),
            (LIMITS, self.cost_per_day != other.cost_per_day),
        ];
        let maps = maps.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned());
        changed.chain(maps).collect()
    }

    /// Where to listen: by default every address, on Fly also those of its private network, which is IPv6.
    pub fn listens_on(&self) -> IpAddr {
        // `::` accepts IPv4 as well.
        let every = if self.on_fly() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.host.unwrap_or(every)
    }

    /// The database of the records: by default a file in the state folder. `None`: in memory.
    pub fn database(&self) -> Option<Database> {
        let default = || Some(Database::Sqlite(self.state_dir.as_ref()?.join("switchboard.db")));
        self.database_url.clone().or_else(default)
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

    /// A problem for each setting that is needed and not set. One that is set but wrong is not missing.
    pub fn missing(&self, need: Need) -> Vec<Problem> {
        let has_key = self.twilio_api_key.is_some() && self.twilio_api_secret.is_some();
        let is_set = |name: &str| match name {
            // With other providers, the assistants decide: see `Roster::without_key`.
            "OPENAI_API_KEY" if !self.named_providers.is_empty() => true,
            "TWILIO_AUTH_TOKEN" => !self.twilio_auth_tokens.is_empty() || (need == Need::Account && has_key),
            // On Fly it has a default.
            "PUBLIC_URL" if self.public_url.is_some() => true,
            name => self.written.contains_key(name),
        };
        let missing = SETTINGS.iter().filter(|setting| !is_set(setting.name)).filter_map(|setting| {
            let what = setting.missing(need)?.clone();
            Some(Problem::setting(setting.name, what))
        });
        missing.collect()
    }

    /// Everything that `serve` needs, if nothing is missing or wrong.
    pub fn for_serve(&self) -> Option<ServeSettings> {
        let public_url = self.public_url.clone().filter(|_| self.missing(Need::Serve).is_empty())?;
        Some(ServeSettings {
            providers: self.providers(),
            twilio_auth_tokens: self.twilio_auth_tokens.clone(),
            public_url,
        })
    }
}

/// The scheme of a URL that should have another, unless it leads to this machine.
fn clear_text(url: &str, safe: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() != safe && !is_loopback(url))?;
    Some(url.scheme().to_owned())
}

/// A variable that Fly sets.
fn fly_variable(environment: &BTreeMap<String, String>, name: &str) -> Option<String> {
    environment.get(name).filter(|value| !value.is_empty()).cloned()
}

fn fly_url(environment: &BTreeMap<String, String>) -> Option<String> {
    Some(format!("https://{}.fly.dev", fly_variable(environment, "FLY_APP_NAME")?))
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

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    }
}

#[cfg(test)]
mod tests;
