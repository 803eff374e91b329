//! Links: one socket each, translated between a vendor's format and the call's words.

mod account;
pub mod caller;
pub mod model;
mod outbox;
pub mod peer;
pub mod quick_tunnel;
pub mod tls;
pub mod twilio_rest;

use std::time::Duration;

/// Tokio's time, which tests can pause, in the standard library's type.
pub fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// What every HTTP client of ours begins with: our name, this trust, so long for a connection, no redirect followed
/// and no proxy of the environment asked.
pub fn http_client(tls: &rustls::ClientConfig, connect: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
        // A redirect is a failure unless somebody says otherwise: what is sent is for one address.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect)
        .no_proxy()
}
