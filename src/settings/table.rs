//! Every setting, once: its name, how its value is written, its default, and what it means.

use std::fmt::Write as _;

use crate::problem::catalogue::Setting as Missing;
use crate::provider::OPENAI_REALTIME_URL;

/// One setting. In `switchboard.yaml` its name is in lower case.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// In the environment.
    pub name: &'static str,
    pub form: Form,
    pub default: Option<&'static str>,
    /// Its value is never shown.
    pub secret: bool,
    /// What does not work without it, and the problem to report then.
    pub needed_by: &'static [(Need, Missing)],
    /// Meaningful on one machine only, so it is not deployed.
    pub local: bool,
    /// For the docs.
    pub meaning: &'static str,
    /// For the docs, if the default is more than a value.
    pub default_note: Option<&'static str>,
}

/// What needs settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `serve` does not start without them.
    Serve,
    /// The account at Twilio: its numbers, and text messages.
    Account,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Text,
    /// Separated by commas; in the file also a list.
    List,
    /// With one of these schemes.
    Url {
        schemes: &'static [&'static str],
        query: bool,
    },
    /// A URL with the placeholder `{machine}`.
    PeerUrl,
    IpAddress,
    /// 0 stands for any free port.
    Port,
    Number {
        least: u64,
        most: u64,
        unit: &'static str,
    },
    OneOf(&'static [&'static str]),
    /// `sqlite://PATH` or `postgres://…`
    Database,
}

const HTTP: Form = Form::Url { schemes: &["https", "http"], query: false };
const PLAIN: Setting = Setting {
    name: "",
    form: Form::Text,
    default: None,
    secret: false,
    needed_by: &[],
    local: false,
    meaning: "",
    default_note: None,
};

impl Setting {
    /// The problem if this is needed and not set.
    pub fn missing(&self, need: Need) -> Option<&'static Missing> {
        self.needed_by.iter().find(|(by, _)| *by == need).map(|(_, missing)| missing)
    }
}

/// Every setting, in the order of the docs.
pub const SETTINGS: [Setting; 30] = [
    Setting {
        name: "OPENAI_API_KEY",
        secret: true,
        needed_by: &[(Need::Serve, Missing::MissingKey)],
        meaning: "the default provider's key",
        ..PLAIN
    },
    Setting {
        name: "OPENAI_REALTIME_URL",
        form: Form::Url { schemes: &["wss", "ws"], query: true },
        default: Some(OPENAI_REALTIME_URL),
        meaning: "the default provider's endpoint; `?model=` is added",
        ..PLAIN
    },
    Setting {
        name: "TWILIO_AUTH_TOKEN",
        form: Form::List,
        secret: true,
        needed_by: &[(Need::Serve, Missing::MissingToken), (Need::Account, Missing::MissingCredentials)],
        meaning: "verifies signatures and seals tickets. While you rotate it: both tokens, separated by a comma \
                  ([in this order](deploy.md#rotating-the-auth-token))",
        ..PLAIN
    },
    Setting {
        name: "TWILIO_SHARED_KEYS",
        form: Form::List,
        secret: true,
        meaning: "`id=secret,…` for Twilio's shared-key signatures",
        ..PLAIN
    },
    Setting {
        name: "TWILIO_ACCOUNT_SID",
        secret: true,
        needed_by: &[(Need::Account, Missing::MissingAccount)],
        meaning: "the account, for what needs Twilio's REST API: text messages and setting up numbers",
        ..PLAIN
    },
    Setting {
        name: "TWILIO_API_KEY",
        secret: true,
        meaning: "an API key for the REST API, in place of the auth token",
        ..PLAIN
    },
    Setting { name: "TWILIO_API_SECRET", secret: true, meaning: "the secret of that API key", ..PLAIN },
    Setting {
        name: "TWILIO_API_URL",
        form: HTTP,
        default: Some("https://api.twilio.com"),
        meaning: "the REST API; accounts in other regions have another",
        ..PLAIN
    },
    Setting {
        name: "TWILIO_FUNCTIONS_URL",
        form: HTTP,
        meaning: "where the Functions of [`twilio/`](../twilio/README.md) are deployed: the allowlist, and the \
                  fallback for when the server is down",
        default_note: Some("none: numbers call this server directly"),
        ..PLAIN
    },
    Setting {
        name: "PUBLIC_URL",
        form: HTTP,
        needed_by: &[(Need::Serve, Missing::MissingPublicUrl)],
        local: true,
        meaning: "the address that Twilio calls, without a trailing slash",
        default_note: Some("on Fly the app's address"),
        ..PLAIN
    },
    Setting {
        name: "HOST",
        form: Form::IpAddress,
        local: true,
        meaning: "the address to listen on; `::` accepts IPv4 too",
        default_note: Some("`0.0.0.0`, on Fly `::`"),
        ..PLAIN
    },
    Setting {
        name: "PORT",
        form: Form::Port,
        default: Some("5050"),
        local: true,
        meaning: "the port to listen on",
        ..PLAIN
    },
    Setting {
        name: "PEER_URL",
        form: Form::PeerUrl,
        local: true,
        meaning: "where other machines of this app answer, for requests that reach the wrong machine; `{machine}` and \
                  `{app}` are filled in",
        default_note: Some("on Fly `http://{machine}.vm.{app}.internal:PORT`"),
        ..PLAIN
    },
    Setting {
        name: "ASSISTANTS_DIR",
        default: Some("assistants"),
        local: true,
        meaning: "the folder of assistants",
        ..PLAIN
    },
    Setting {
        name: "ASSISTANTS_URL",
        form: Form::Url { schemes: &["https", "http"], query: true },
        secret: true,
        meaning: "an HTTPS `.tar.gz` to fetch the folder from, every 30 s",
        ..PLAIN
    },
    Setting {
        name: "ASSISTANTS_TOKEN",
        secret: true,
        meaning: "the bearer token for ASSISTANTS_URL",
        ..PLAIN
    },
    Setting {
        name: "MAX_CALLS",
        form: Form::Number { least: 1, most: 100_000, unit: "calls" },
        default: Some("1000"),
        local: true,
        meaning: "calls at once in this process",
        ..PLAIN
    },
    Setting {
        name: "DRAIN_SECONDS",
        // Nobody waits longer than a day for a call to end.
        form: Form::Number { least: 0, most: 24 * 60 * 60, unit: "seconds" },
        default: Some("280"),
        local: true,
        meaning: "how long calls may continue after SIGTERM or SIGINT. The last 13 s are for goodbyes; the process ends \
                  at most 16 s later",
        ..PLAIN
    },
    Setting {
        name: "METRICS_PORT",
        form: Form::Port,
        local: true,
        meaning: "serves `/metrics` on a second port, without a token",
        default_note: Some("none: 404"),
        ..PLAIN
    },
    Setting {
        name: "METRICS_TOKEN",
        secret: true,
        meaning: "serves `/metrics` on the main port, with this bearer token",
        default_note: Some("none: 404"),
        ..PLAIN
    },
    Setting {
        name: "STATE_DIR",
        default: Some("state"),
        local: true,
        meaning: "where durable things are kept: the records of calls, messages until they are delivered, prepared \
                  lines. The server creates it; if it cannot, it keeps everything in memory, and warns",
        ..PLAIN
    },
    Setting {
        name: "DATABASE_URL",
        form: Form::Database,
        secret: true,
        meaning: "the database of the records: `sqlite://PATH`, or `postgres://…` if there are several machines",
        default_note: Some("`sqlite://$STATE_DIR/switchboard.db`"),
        ..PLAIN
    },
    Setting {
        name: "RECORDINGS_URL",
        form: Form::Url { schemes: &["s3"], query: false },
        meaning: "where recordings go after their calls: `s3://BUCKET/PREFIX`, with the usual `AWS_…` variables \
                  ([recordings.md](recordings.md))",
        default_note: Some("none: they stay in `$STATE_DIR/recordings`"),
        ..PLAIN
    },
    Setting {
        name: "SMTP_URL",
        secret: true,
        meaning: "the mail server for messages to owners: `smtps://USER:PASSWORD@HOST:465` (TLS) or \
                  `smtp://USER:PASSWORD@HOST:587` (STARTTLS; in the clear only to this machine). Special characters in a \
                  password must be percent-encoded",
        default_note: Some("none: nothing is sent by e-mail"),
        ..PLAIN
    },
    Setting {
        name: "SMTP_FROM",
        meaning: "the sender of that e-mail: an address, also with a name, as in `Switchboard <phone@example.com>`",
        default_note: Some("the user of SMTP_URL, if it is an address"),
        ..PLAIN
    },
    Setting {
        name: "CONSOLE_PASSWORD",
        secret: true,
        meaning: "turns the [console](console.md) on, at `/console`",
        default_note: Some("none: 404, but for the link of `serve --console`"),
        ..PLAIN
    },
    Setting {
        name: "API_TOKEN",
        secret: true,
        meaning: "turns the read-only [API](console.md#the-api) on, at `/api`, with this bearer token",
        default_note: Some("none: 404"),
        ..PLAIN
    },
    Setting {
        name: "RUST_LOG",
        default: Some("info"),
        local: true,
        meaning: "the log filter: `error`, `warn`, `info`, `debug` or `trace`, also for one module: `info,switchboard::session=debug`",
        ..PLAIN
    },
    Setting {
        name: "LOG_FORMAT",
        form: Form::OneOf(&["text", "json"]),
        local: true,
        meaning: "`text` or `json`",
        default_note: Some("`text` on a terminal, otherwise `json`"),
        ..PLAIN
    },
    Setting {
        name: "SSL_CERT_FILE",
        local: true,
        meaning: "a PEM bundle to trust in place of the system's certificates",
        ..PLAIN
    },
];

/// The setting of this name in the environment.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The table of `docs/settings.md`.
pub fn markdown() -> String {
    let mut table = "| variable | meaning | default |\n| --- | --- | --- |\n".to_owned();
    for setting @ Setting { name, default, meaning, default_note, .. } in SETTINGS {
        let required = setting.missing(Need::Serve).is_some();
        let default = match (default, default_note) {
            (_, Some(note)) if required => format!("required; {note}"),
            (_, Some(note)) => note.to_owned(),
            (Some(value), None) => format!("`{value}`"),
            (None, None) if required => "required".to_owned(),
            (None, None) => "none".to_owned(),
        };
        let _ = writeln!(table, "| `{name}` | {meaning} | {default} |");
    }
    table
}
