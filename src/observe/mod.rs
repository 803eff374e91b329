//! Log lines and metrics.
//!
//! A log line and its metric come from one place, so that they cannot drift apart. Nothing personal is written:
//! numbers, names and words stay in masked types, and the labels of metrics come from closed lists.

pub mod ended;
pub mod metrics;
pub mod reloaded;

use std::io::IsTerminal;

use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::problem::catalogue::Setting;

/// Whether a line is one of ours. No others are written, at any level: libraries log the messages that they carry, with
/// what people said.
pub fn is_ours(line: &Metadata<'_>) -> bool {
    line.target().split("::").next() == Some("switchboard")
}

/// Reads a filter in the syntax of `RUST_LOG`.
///
/// # Errors
/// It is not valid, or applies to no line of ours: `warning` is not a level, and so the name of a module.
pub fn filter(text: &str) -> Result<EnvFilter, Setting> {
    let filter = EnvFilter::builder().parse(text);
    let filter = filter.map_err(|error| Setting::LogFilter { error: error.to_string() })?;
    if text.split(',').any(is_heard) { Ok(filter) } else { Err(Setting::LogsNothing) }
}

/// Whether a part of a filter applies to our log lines.
fn is_heard(part: &str) -> bool {
    const LEVELS: [&str; 12] =
        ["off", "error", "warn", "info", "debug", "trace", "0", "1", "2", "3", "4", "5"];
    let part = part.trim();
    if LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level)) {
        return true;
    }
    // A filter without a target applies to all; a target matches by prefix.
    let target = part.split(['=', '[']).next().unwrap_or_default();
    modules().any(|module| module.starts_with(target) || target.starts_with(&format!("{module}::")))
}

/// The modules of this program, as log lines name them.
fn modules() -> impl Iterator<Item = String> {
    let names = include_str!("../lib.rs").lines();
    names.filter_map(|line| {
        Some(format!("switchboard::{}", line.strip_prefix("pub mod ")?.strip_suffix(';')?))
    })
}

/// Sets up logging to standard error with a filter in the syntax of `RUST_LOG`, or if that cannot be used, with
/// `default`. Unless `json` decides, the format is text on a terminal and JSON elsewhere.
pub fn init(filter: &str, default: &str, json: Option<bool>) {
    let filter = self::filter(filter).unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let log = match json.unwrap_or(!terminal) {
        true => log.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        false => log.with_target(false).boxed(),
    };
    // In a test, a second call has no effect.
    let _ = registry().with(filter).with(log.with_filter(filter_fn(is_ours))).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_filter_must_be_valid_and_apply_to_us() {
        for (text, expected) in [
            ("info", None),
            ("WARN", None),
            ("off", None),
            ("hyper=info,switchboard::call=debug", None),
            ("switchboard", None),
            ("switchboard::session::perform=debug", None),
            ("[call]=debug", None),
            ("inof", Some("setting.log")),
            ("infoo", Some("setting.log")),
            ("warning", Some("setting.log")),
            ("switchboard:info", Some("setting.log")),
            ("Switchboard=info", Some("setting.log")),
            ("switchboard::sesion=debug", Some("setting.log")),
            ("hyper=debug", Some("setting.log")),
            ("info,[[", Some("setting.value")),
            ("switchboard=loud", Some("setting.value")),
        ] {
            let found = filter(text).err().map(|what| what.code());
            assert_eq!(found, expected, "{text}");
        }
    }
}
