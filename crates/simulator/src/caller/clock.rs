//! The clock of a simulated call.

use std::time::Instant;

/// The time on tokio's clock, which tests can pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
