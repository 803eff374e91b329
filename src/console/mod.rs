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

mod api;
mod assets;
mod assistants;
mod attempts;
mod call;
mod calls;
mod chart;
mod conversation;
mod figures;
mod gate;
mod health;
mod hub;
mod keys;
mod lately;
mod live;
mod login;
mod messages;
mod now;
mod page;
mod shown;
mod talk;
mod timeline;
mod visit;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::assistant::Roster;
use crate::record::{CallRecord, reason};
use crate::recording::Archive;
use crate::reload::{Edits, Keeper, Standing};
use crate::session::Switchboard;
use crate::settings::Settings;
use crate::store::{Row, Store, StoreError};
use crate::tool::Tools;
use figures::Figure;
use gate::Gate;
use hub::Hub;
use lately::Lately;
use page::Pages;

pub use keys::OneTimeLink;

/// The largest form that is read.
const MAX_FORM: usize = 16 * 1024;
/// How long a page waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(3);

/// Examines the server as `doctor` does: an array of findings, or why it cannot.
pub type Doctor = Arc<dyn Fn() -> BoxFuture<'static, Result<serde_json::Value, String>> + Send + Sync>;

/// What every page uses.
pub struct Console {
    switchboard: Arc<Switchboard>,
    tools: Arc<Tools>,
    /// `None`: no records are kept.
    store: Option<Store>,
    archive: Archive,
    roster: watch::Receiver<Arc<Roster>>,
    standing: watch::Receiver<Standing>,
    edits: watch::Receiver<Edits>,
    /// The folder of assistants, if it is on this disk.
    folder: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    /// The values of `${NAME}`, of which secrets are hidden.
    environment: Arc<BTreeMap<String, String>>,
    doctor: Option<Doctor>,
    /// Held while it examines.
    examining: Mutex<()>,
    gate: Gate,
    pages: Pages,
    hub: Hub,
    /// One for each open page that watches.
    watchers: Arc<Semaphore>,
    /// The calls of all machines that run.
    others: Lately<Vec<Row>>,
    figures: Lately<Vec<Figure>>,
    began: Timestamp,
    /// Ends what goes on for long: the server drains.
    ending: CancellationToken,
}

/// What the console is made from.
pub struct Parts<'a> {
    pub switchboard: Arc<Switchboard>,
    pub tools: Arc<Tools>,
    pub store: Option<Store>,
    pub archive: Archive,
    pub keeper: &'a Keeper,
    pub settings: &'a Settings,
    pub environment: Arc<BTreeMap<String, String>>,
    /// Opens the console on this machine without a password.
    pub link: Option<OneTimeLink>,
    pub doctor: Option<Doctor>,
    pub ending: CancellationToken,
}

impl Console {
    pub fn new(parts: Parts<'_>) -> Arc<Self> {
        let Parts { switchboard, tools, store, archive, keeper, settings, environment, link, doctor, ending } =
            parts;
        Arc::new(Self {
            switchboard,
            tools,
            store,
            archive,
            roster: keeper.roster(),
            standing: keeper.standing(),
            edits: keeper.edits(),
            folder: settings.assistants_url.is_none().then(|| settings.assistants_dir.clone()),
            state_dir: settings.state_dir.clone(),
            environment,
            doctor,
            examining: Mutex::default(),
            gate: Gate::new(settings, link),
            pages: Pages::new(),
            hub: Hub::default(),
            watchers: Arc::new(Semaphore::new(live::MAX_WATCHERS)),
            others: Lately::default(),
            figures: Lately::default(),
            began: Timestamp::now(),
            ending,
        })
    }

    /// The store.
    ///
    /// # Errors
    /// There is none. A sentence.
    fn store(&self) -> Result<&Store, String> {
        self.store.as_ref().ok_or_else(|| "No records are kept.".to_owned())
    }

    /// An answer of the store, if it comes in time.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
        match timeout(STORE_PATIENCE, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(format!("The database does not answer: {why}.")),
            Err(_) => Err("The database does not answer in time.".to_owned()),
        }
    }

    /// A record by its id, the beginning of its id, or its call SID.
    async fn record(&self, id: &str) -> Result<Option<CallRecord>, String> {
        self.ask(self.store()?.get(id)).await
    }
}

/// Whether a call that ended so is not what an owner wants.
fn is_failure(code: &str) -> bool {
    reason(code).is_some_and(|reason| reason.is_wrong)
}

/// Every route of the console and of the API.
pub fn routes(console: Arc<Console>) -> Router {
    let pages = Router::new()
        .route("/console", get(login::enter))
        .route("/console/", get(now::page))
        .route("/console/login", get(login::form).post(login::log_in))
        .route("/console/logout", post(login::log_out))
        .route("/console/open/{token}", get(login::open))
        .route("/console/now/{call}", get(now::call))
        .route("/console/now/{call}/end", post(now::end))
        .route("/console/calls", get(calls::newest).post(calls::search))
        .route("/console/calls/{id}", get(call::page))
        .route("/console/calls/{id}/record.json", get(call::json))
        .route("/console/calls/{id}/recording.wav", get(call::recording))
        .route("/console/calls/{id}/erase", post(call::erase))
        .route("/console/assistants", get(assistants::page))
        .route("/console/assistants/{name}", get(assistants::one).post(assistants::one_as))
        .route("/console/messages", get(messages::page).post(messages::retry))
        .route("/console/health", get(health::page).post(health::examine))
        .route("/console/talk", get(talk::page).post(talk::begin))
        .route("/console/talk/{ticket}", post(talk::follow))
        .route("/console/live/now", get(live::now))
        .route("/console/live/now/{call}", get(live::call))
        .route("/console/live/assistants", get(live::assistants))
        .route("/console/assets/{file}", get(assets::asset))
        .layer(middleware::from_fn_with_state(console.clone(), gate::guarded));
    pages.merge(api::routes()).layer(DefaultBodyLimit::max(MAX_FORM)).with_state(console)
}
