//! Log lines, metrics, and, for a rehearsal, the journal of a call.
//!
//! A log line and its metric come from one place, so that they cannot drift apart. Nothing personal is written:
//! numbers, names and words stay in masked types, and the labels of metrics come from closed lists.

pub mod ended;
pub mod journal;
pub mod metrics;
pub mod reloaded;

use std::io::IsTerminal;

use tracing::Metadata;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

/// Whether a line is one of ours. No others are written, at any level: libraries log the messages that they carry, with
/// what people said.
pub fn is_ours(line: &Metadata<'_>) -> bool {
    line.target().split("::").next() == Some("switchboard")
}

/// Reads a filter in the syntax of `RUST_LOG`.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// Sets up logging to standard error with a filter in the syntax of `RUST_LOG`. Unless `json` decides, the format is
/// text on a terminal and JSON elsewhere.
pub fn init(filter: &str, json: Option<bool>) -> Result<(), ParseError> {
    let filter = self::filter(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let log = match json.unwrap_or(!terminal) {
        true => log.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        false => log.with_target(false).boxed(),
    };
    // In a test, a second call has no effect.
    let _ = registry().with(filter).with(log.with_filter(filter_fn(is_ours))).try_init();
    Ok(())
}
