//! What can be seen of the server: log lines, metrics, and, for a rehearsal, the journal of a call.
//!
//! A log line and its metric come from one place, so that they cannot drift apart. Nothing personal is written:
//! numbers, names and words stay in masked types, and metrics' labels come from closed lists.

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

/// Whether a line is one of ours. No other is written, at any level: libraries log the messages that they carry, and
/// those hold what people said.
pub fn is_ours(line: &Metadata<'_>) -> bool {
    line.target().split("::").next() == Some("switchboard")
}

/// Reads a filter, in `RUST_LOG`'s syntax.
///
/// # Errors
/// When it cannot be read; the message says which part.
pub fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// Sets up logging for the program: to standard error, filtered by `filter` (`RUST_LOG`'s syntax), as text on a
/// terminal and as JSON elsewhere unless `json` says which.
///
/// # Errors
/// When the filter cannot be read; the message says which part.
pub fn init(filter: &str, json: Option<bool>) -> Result<(), ParseError> {
    let filter = self::filter(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let log = match json.unwrap_or(!terminal) {
        true => log.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        false => log.with_target(false).boxed(),
    };
    // A second call, in a test, changes nothing.
    let _ = registry().with(filter).with(log.with_filter(filter_fn(is_ours))).try_init();
    Ok(())
}
