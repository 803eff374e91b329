//! The running server: built, run, drained. Everything it needs is passed in, so that a test can replace it.

pub mod alerts;
mod build;
mod drain;
mod limits;
mod records;
mod signals;
mod uploads;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::assistant::Roster;
use crate::console::{Doctor, OneTimeLink};
use crate::record::Sink;
use crate::reload::RemoteFolder;
use crate::session::Switchboard;
use crate::settings::{ServeSettings, Settings};
use crate::store::Closer;
use crate::tool::{Observer, Tools};
use alerts::Alerts;
use uploads::Uploads;

pub use build::{mailbox, mailer};
pub use drain::{LAST_THREADS, longest_end};
pub use records::waiting;
pub use signals::{Hangup, signalled};

/// How long the MCP servers may take to end.
const LAST_TOOLS: Duration = Duration::from_secs(10);

/// What to serve.
pub struct Serve {
    pub settings: Settings,
    pub ready: ServeSettings,
    /// In force at start.
    pub roster: Roster,
    /// Where edits come from. `None`: the roster never changes.
    pub reload: Option<Reload>,
    pub listener: TcpListener,
    /// A second listener that serves only `/metrics`.
    pub metrics_listener: Option<TcpListener>,
    /// What `/metrics` renders; see [`crate::observe::metrics::install`].
    pub metrics: Option<PrometheusHandle>,
    /// Where the entries of calls go; `None`: to the store that the settings name.
    pub records: Option<Sink>,
    /// Sees what is for owners, for a rehearsal.
    pub letters: Option<Arc<Observer>>,
    /// Wait at start until the MCP servers are listed or known to be unreachable: a rehearsal has only one call.
    pub tools_first: bool,
    /// The time of every call, for a rehearsal; `None`: the clock's.
    pub now: Option<Timestamp>,
    /// Capture missing prepared lines at the end of calls. A rehearsal would forget them.
    pub captures: bool,
    /// A simulated model answers.
    pub simulated: bool,
    /// Opens the console on this machine without a password.
    pub console: Option<OneTimeLink>,
    /// What the console's examination of the server does.
    pub doctor: Option<Doctor>,
}

/// What is read again when it changes.
pub struct Reload {
    pub from: From,
    /// `switchboard.yaml`, which need not exist. Server settings do not reload: a change is only logged. With a remote
    /// folder, the file is not watched.
    pub settings_file: PathBuf,
    /// The values of `${NAME}`, and the settings that do not come from the file.
    pub environment: BTreeMap<String, String>,
    /// Makes it look again at once.
    pub again: Arc<Notify>,
}

/// Where the folder of assistants comes from.
pub enum From {
    Disk(PathBuf),
    /// It was fetched once already.
    Remote(Box<RemoteFolder>),
}

/// Serves until `shutdown`, then drains: calls under way may go on for the settings' drain time, then hear a goodbye.
///
/// # Errors
/// If a provider or peer needs TLS that cannot be set up, or a listener stops before `shutdown`.
pub async fn run(serve: Serve, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut server = Server::build(serve).await?;
    if let Err(stopped) = open_until(shutdown, &mut server.listeners).await {
        // The programs that MCP servers are would outlive this process.
        let _ = timeout(LAST_TOOLS, server.tools.close()).await;
        return Err(stopped);
    }
    server.drain().await;
    Ok(())
}

/// A server with its listeners open.
struct Server {
    switchboard: Arc<Switchboard>,
    alerts: Alerts,
    tools: Arc<Tools>,
    uploads: Option<Uploads>,
    /// How long calls may go on once the server drains.
    drain: Duration,
    /// Writes the records.
    records: Option<Closer>,
    listeners: JoinSet<()>,
    background: JoinSet<()>,
    /// Ends what the console's pages wait for.
    pages: CancellationToken,
    /// Ends reloading.
    watching: CancellationToken,
    /// Ends everything.
    stop: CancellationToken,
}

/// Waits for `shutdown`.
async fn open_until(shutdown: impl Future<Output = ()>, listeners: &mut JoinSet<()>) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown => Ok(()),
        Some(ended) = listeners.join_next() => {
            ended.context("a listener broke, so no request can be answered")?;
            bail!("a listener stopped, so no request can be answered")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broken_listener_ends_the_server() {
        let mut listeners = JoinSet::new();
        listeners.spawn(async { panic!("a listener breaks") });
        let open = timeout(Duration::from_secs(5), open_until(std::future::pending(), &mut listeners)).await;
        assert!(open.expect("it ends").is_err());
        let mut listeners = JoinSet::new();
        listeners.spawn(std::future::pending());
        open_until(std::future::ready(()), &mut listeners).await.unwrap();
    }
}
