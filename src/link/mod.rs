//! Links: one socket each, translated between a vendor's format and the call's words.

mod account;
pub mod caller;
mod inbox;
pub mod mail;
pub mod model;
pub mod network;
mod outbox;
pub mod peer;
pub mod quick_tunnel;
pub mod tls;
pub mod twilio_rest;

pub use network::http_client;

/// Tokio's time, which tests can pause, in the standard library's type.
pub fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
