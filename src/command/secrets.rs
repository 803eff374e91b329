//! What `.env` sets, for the tools of a deployment: they read such a file each in a way of its own, and none as the
//! program does.

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::say::say;
use super::{ENV_FILE, Failure, environment, read_or_none};
use crate::settings::env_file;

/// What means something on this machine alone. A domain of your own, as PUBLIC_URL, goes into `fly.toml`, as the
/// others do; TODOIST_API_KEY is for the MCP server, which is an app of its own.
const OF_THIS_MACHINE: [&str; 13] = [
    "PUBLIC_URL",
    "HOST",
    "PORT",
    "METRICS_PORT",
    "MAX_CALLS",
    "DRAIN_SECONDS",
    "PEER_URL",
    "ASSISTANTS_DIR",
    "STATE_DIR",
    "SSL_CERT_FILE",
    "RUST_LOG",
    "LOG_FORMAT",
    "TODOIST_API_KEY",
];

/// `switchboard secrets`: what `.env` sets, but for what is of this machine, as `fly secrets import` reads it.
pub fn all() -> Result<(), Failure> {
    let Some(bytes) = read_or_none(ENV_FILE)? else {
        return Err(anyhow!("{ENV_FILE} is not there: copy .env.example to it, and fill it in").into());
    };
    let set: BTreeMap<String, String> = env_file::read(ENV_FILE, &bytes)?.into_iter().collect();
    let mut text = String::new();
    for (name, value) in set {
        if value.is_empty() || OF_THIS_MACHINE.contains(&name.as_str()) {
            continue;
        }
        let Some(written) = for_fly(&value) else {
            return Err(anyhow!(
                "{name} of {ENV_FILE} holds quotes or line ends that `fly secrets import` would not keep; remove \
                 it from there and set it with `fly secrets set`"
            )
            .into());
        };
        text += &format!("{name}={written}\n");
    }
    if text.is_empty() {
        return Err(anyhow!("{ENV_FILE} sets nothing for another machine: fill it in first").into());
    }
    say(&text)
}

/// `switchboard secrets NAME`: the value that the program has, alone. Of one that is not set nothing is said: the end
/// is 1.
pub fn one(name: &str) -> Result<(), Failure> {
    let environment = environment()?;
    let value = environment.get(name).filter(|value| !value.is_empty()).ok_or(Failure::Told)?;
    say(&format!("{value}\n"))
}

/// A value so that flyctl reads it back whole; `None` where it cannot.
///
/// flyctl (`internal/command/secrets/parser.go`) takes away spaces before a value, one pair of quotes around it, and
/// all from a `#` on that has an even number of `"` before it. Three `"` begin and end several lines; nothing is escaped.
fn for_fly(value: &str) -> Option<String> {
    let (first, more) = value.split_once('\n').map_or((value, false), |(first, _)| (first, true));
    let odd = first.split_once('#').map(|(before, _)| before.matches('"').count() % 2 == 1);
    if more {
        let (lines, _) = value.rsplit_once('\n')?;
        let ends = lines.split('\n').any(|line| line.ends_with("\"\"\"") || line.ends_with('\r'));
        return (!ends && odd != Some(true)).then(|| format!("\"\"\"{value}\"\"\""));
    }
    if !value.starts_with([' ', '"', '\'']) && !value.ends_with('\r') && odd != Some(false) {
        return Some(value.to_owned());
    }
    let opens_lines = value == "\"" || value.starts_with("\"\"");
    (!opens_lines && odd != Some(true)).then(|| format!("\"{value}\""))
}
