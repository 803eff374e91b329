//! What can be seen of the house: log lines, metrics, and, for a rehearsal, the journal of a call.
//!
//! A log line and its metric come from one place, so that they cannot drift apart. Nothing personal is written:
//! numbers, names and words stay in masked types, and metrics' labels come from closed lists.

pub mod ended;
pub mod journal;
pub mod metrics;
pub mod reloaded;

use std::io::IsTerminal;

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Sets up logging for the program: to standard error, filtered by `filter` (`RUST_LOG`'s syntax), as text on a
/// terminal and as JSON elsewhere unless `json` says which.
///
/// # Errors
/// When the filter cannot be read; the message says which part.
pub fn init(filter: &str, json: Option<bool>) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let discreet = filter_fn(is_discreet);
    // A second call, in a test, changes nothing.
    let _ = if json.unwrap_or(!terminal) {
        let log = log.json().flatten_event(true).with_current_span(false).with_span_list(true);
        log.finish().with(discreet).try_init()
    } else {
        log.with_target(false).finish().with(discreet).try_init()
    };
    Ok(())
}

/// Whether a line may be written at all, whatever the filter says. `rmcp` quotes whole messages, which are tools'
/// arguments and results: none of its lines may.
pub fn is_discreet(about: &Metadata<'_>) -> bool {
    !about.target().starts_with("rmcp")
}
