//! The console: pages for the owner, served by the running server itself, and the read-only API.
//!
//! | route | guarded by |
//! | --- | --- |
//! | `/console/login`, `/console/open/{token}` | `Host` and `Origin`, and how often a password may be tried |
//! | `/console/assets/…` | nothing: they are the same everywhere |
//! | every other page below `/console` | a session, and for every change a token of that session |
//! | `/api/…` | a Bearer token |
//!
//! What callers said is hostile input. Pages are made by templates that escape everything, and the browser may load
//! nothing but our own files.

mod assets;
mod attempts;
mod gate;
mod keys;
mod login;
mod page;
mod talk;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::assistant::Roster;
use crate::session::Switchboard;
use crate::settings::Settings;
use gate::Gate;
use page::Pages;

pub use keys::OneTimeLink;

/// The largest form that is read.
const MAX_FORM: usize = 16 * 1024;

/// What every page uses.
pub struct Console {
    switchboard: Arc<Switchboard>,
    gate: Gate,
    pages: Pages,
    roster: watch::Receiver<Arc<Roster>>,
    /// Ends what goes on for long: the server drains.
    ending: CancellationToken,
}

/// What the console is made from.
pub struct Parts<'a> {
    pub switchboard: Arc<Switchboard>,
    pub settings: &'a Settings,
    pub roster: watch::Receiver<Arc<Roster>>,
    /// Opens the console on this machine without a password.
    pub link: Option<OneTimeLink>,
    pub ending: CancellationToken,
}

impl Console {
    pub fn new(parts: Parts<'_>) -> Arc<Self> {
        let Parts { switchboard, settings, roster, link, ending } = parts;
        Arc::new(Self {
            switchboard,
            gate: Gate::new(settings, link),
            pages: Pages::new(),
            roster,
            ending,
        })
    }
}

/// Every route of the console and of the API.
pub fn routes(console: Arc<Console>) -> Router {
    let pages = Router::new()
        .route("/console", get(login::enter))
        .route("/console/login", get(login::form).post(login::log_in))
        .route("/console/logout", post(login::log_out))
        .route("/console/open/{token}", get(login::open))
        .route("/console/talk", get(talk::page).post(talk::begin))
        .route("/console/talk/{ticket}", post(talk::follow))
        .route("/console/assets/{file}", get(assets::asset))
        .layer(middleware::from_fn_with_state(console.clone(), gate::guarded));
    pages.layer(DefaultBodyLimit::max(MAX_FORM)).with_state(console)
}
