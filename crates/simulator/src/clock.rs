//! The clock of both simulators.

use std::time::Instant;

/// The time on tokio's clock, which tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
