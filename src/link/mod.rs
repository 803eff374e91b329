//! Links: one socket each, translated between a vendor's format and the call's words.

pub mod caller;
pub mod model;
mod outbox;
pub mod peer;
pub mod twilio_rest;

/// Tokio's time, which tests can pause, in the standard library's type.
pub fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
