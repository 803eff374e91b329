//! The server's settings: defaults, then `switchboard.yaml`, then the environment.
//!
//! It knows every name of the contract's table and how its value is written. It reads no file and
//! no process environment: both are handed in, and all problems come back at once. What assistants
//! say is not known here.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod address;
pub mod env_file;
mod looks;
mod numbers;
mod peers;
mod providers;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use crate::problem::{Problem, Subject};
use crate::provider::{OPENAI_REALTIME_URL, Provider};
use crate::secret::Secret;
use crate::yaml::SourceFile;
pub use looks::OddSecret;
pub use numbers::NumberUrls;
use reader::Reader;

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
    /// Where to listen. `None`: wherever it can be, see [`Settings::listens_on`].
    pub host: Option<IpAddr>,
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
    /// The names of those whose value in force is that of `switchboard.yaml`.
    pub in_file: BTreeSet<&'static str>,
    /// What is odd, and no reason to stop.
    pub warnings: Vec<Problem>,
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

/// The file of settings, as problems name it.
const FILE: &str = "switchboard.yaml";
/// The one setting that is a map, and in the file only.
const PROVIDERS: &str = "providers";

/// A day: nobody waits longer for a call to end.
const LONGEST_DRAIN: u64 = 24 * 60 * 60;
/// More calls at once than one machine can have.
const MOST_CALLS: usize = 100_000;

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
            host: reader.parsed("HOST", "an IP address, such as `0.0.0.0`"),
            port,
            assistants_dir: reader.text("ASSISTANTS_DIR").unwrap_or_default().into(),
            assistants_url: reader.assistants_url(),
            assistants_token: reader.secret("ASSISTANTS_TOKEN"),
            max_calls: reader
                .checked("MAX_CALLS", "a number of calls, 1 to 100000", |calls: &usize| {
                    (1..=MOST_CALLS).contains(calls)
                })
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
            in_file: names().filter(|name| reader.is_in_file(name)).collect(),
            warnings: Vec::new(),
        };
        reader.warn_of_http();
        reader.warn_of_ipv4(settings.host, on_fly);
        reader.warn_of_idle_token();
        let in_clear_text = settings.in_clear_text(&reader);
        let (mut warnings, mut problems): (Vec<_>, Vec<_>) =
            reader.problems.into_iter().partition(|problem| !problem.is_error());
        if problems.is_empty() {
            warnings.extend(in_clear_text);
            return Ok(Settings { warnings, ..settings });
        }
        problems.extend(warnings);
        Err(problems)
    }

    /// Where to listen: by default every address, on Fly also those of its private network, which is IPv6.
    pub fn listens_on(&self) -> IpAddr {
        // `::` hears IPv4 as well.
        let every = if self.on_fly { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        self.host.unwrap_or(every)
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

    /// Everything that `serve` needs, or a sentence for each thing that is missing.
    pub fn for_serve(&self) -> Result<ServeSettings, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut missing = |name: &str, message: &str, help: &str| {
            let message = format!("{name} is not set: {message}");
            problems.push(
                Problem::about("environment", "setting.missing", message)
                    .help(help)
                    .with_subject(Subject::Setting(name.to_owned())),
            );
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
                 PUBLIC_URL=https://phone.example.com, without a path unless a proxy adds one; or run \
                 `switchboard serve --tunnel`, which makes one for trying",
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
