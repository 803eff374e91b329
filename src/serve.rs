//! The server: everything that it needs is handed in, so that a test can hand in something else.
//!
//! It alone listens for signals. The first closes the door: calls go on for as long as they may, then hear a
//! goodbye. The second ends everything at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{IsTerminal as _, stdin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::FutureExt as _;
use metrics_exporter_prometheus::PrometheusHandle;
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::assistant::plan::{Job, Mailbox, Nothing, ServerUse, Work};
use crate::assistant::{Facts, Roster};
use crate::http::{self, Door, DoorParts};
use crate::link::peer::Peers;
use crate::link::twilio_rest::Account;
use crate::observe::journal::Journal;
use crate::observe::metrics;
use crate::phone::Party;
use crate::process;
use crate::reload::{Keeper, Pace, RemoteFolder, SettingsFile, Watcher};
use crate::session::{Parts, Switchboard};
use crate::settings::{ServeSettings, Settings};
use crate::tool::{self, Tools};
use crate::wire::twilio::signature;

/// How long the goodbyes of a closing server may take: 10 s to be heard, and the sockets' own end. They are over when
/// the calls' time is.
const GOODBYES: Duration = Duration::from_secs(13);
/// How often the metrics' samples are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(30);
/// How long the last `/after-stream`s are waited for, once all streams are closed.
const LAST_QUESTIONS: Duration = Duration::from_secs(3);
/// How long Twilio's reports of how streams and calls ended are taken after that. Nothing hangs on them.
const LAST_REPORTS: Duration = Duration::from_secs(1);
/// Calls that ended so long ago, the closing of their stream included, are asked after no more.
const LATELY: Duration = Duration::from_secs(5);
/// What outlives its call has at least so long, once the last call is over.
const LAST_JOBS: Duration = Duration::from_secs(10);
/// How long the MCP servers may take to end.
const LAST_TOOLS: Duration = Duration::from_secs(10);
/// How long connections that are still answered may take to end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long work that cannot be stopped, such as the look-up of a name, may hold the process's end up.
pub const LAST_THREADS: Duration = Duration::from_secs(1);
/// How long the MCP servers have to be listed where tools come first. Programs may have to be downloaded.
const TOOLS_FIRST: Duration = Duration::from_secs(60);
/// How often it is looked whether the terminal is there.
const LOOK_AT_TERMINAL: Duration = Duration::from_secs(1);
/// The most connections that are open for other things than a call: webhooks, health checks, strangers.
pub const SPARE_CONNECTIONS: usize = 1024;

/// What is served.
pub struct Serve {
    pub settings: Settings,
    pub ready: ServeSettings,
    /// In force at start.
    pub roster: Roster,
    /// Where edits of the roster are looked for. `None`: it stays as it is.
    pub reload: Option<Reload>,
    pub listener: TcpListener,
    /// Where `/metrics` answers by itself.
    pub metrics_listener: Option<TcpListener>,
    /// Counts for `/metrics`; see [`metrics::install`].
    pub metrics: Option<PrometheusHandle>,
    pub journal: Option<Journal>,
    /// Nothing is answered before the MCP servers are listed, or are known to be out of reach: for a rehearsal, whose
    /// first call is its only one.
    pub tools_first: bool,
}

/// What is read again when it changes.
pub struct Reload {
    pub from: From,
    /// `switchboard.yaml`, there or not. What it says of the server is not reloaded: a change is said. Where the
    /// folder comes from the remote folder, the disk is not looked at.
    pub settings_file: PathBuf,
    /// What `${NAME}` stands for, and where settings come from besides the file.
    pub environment: BTreeMap<String, String>,
}

/// Where the folder of assistants comes from.
pub enum From {
    Disk(PathBuf),
    /// The first fetch is done.
    Remote(Box<RemoteFolder>),
}

/// Serves until `shutdown`, then drains: no new calls; those under way have the settings' time, then a goodbye.
///
/// # Errors
/// When the system's certificates cannot be read though a provider's address needs them, and when nobody listens any
/// more though nobody asked for that.
pub async fn run(serve: Serve, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Serve {
        settings,
        ready,
        roster,
        reload,
        listener,
        metrics_listener,
        metrics: handle,
        journal,
        tools_first,
    } = serve;
    let secure = ready.providers.iter().any(|provider| provider.url.starts_with("wss:"));
    let tls = client_config(secure, settings.ssl_cert_file.as_deref())?;
    metrics::roster_loaded();
    let assistants = roster.len();
    let environment = reload.as_ref().map(|reload| reload.environment.clone()).unwrap_or_default();
    let environment = Arc::new(environment);
    let keeper = Keeper::new(roster, environment.clone(), ready.providers.clone());
    let account = account(&settings, &tls).context("TLS cannot be set up")?;
    let tools = Tools::with(&tls, account, settings.state_dir.as_deref()).context("TLS cannot be set up")?;
    let tools = Arc::new(tools);
    let roster = keeper.roster();
    let peers = settings
        .peer_url
        .clone()
        .map(|form| Peers::new(form, settings.machine.as_deref().unwrap_or_default(), &tls))
        .transpose();
    let peers = peers.context("TLS cannot be set up")?;
    let switchboard = Arc::new(Switchboard::new(Parts {
        roster: keeper.roster(),
        tokens: ready.twilio_auth_tokens.clone(),
        machine: settings.machine.clone().unwrap_or_default(),
        max_calls: settings.max_calls,
        tls,
        tools: tools.clone(),
        journal,
    }));
    let shared = settings.twilio_shared_keys.iter().cloned().collect();
    let upkeep = handle.clone();
    let door = Door::new(DoorParts {
        switchboard: switchboard.clone(),
        standing: keeper.standing(),
        keys: signature::Keys::new(ready.twilio_auth_tokens.clone(), shared),
        public_url: ready.public_url.clone(),
        on_fly: settings.on_fly,
        fly_url: settings.fly_url.clone().filter(|_| settings.on_fly),
        peers,
        metrics: handle,
        metrics_token: settings.metrics_token.clone(),
    });
    let stop = CancellationToken::new();
    let limit = process::connections(settings.max_calls);
    let address = listener.local_addr().context("the listener has no address")?;
    tools.resume_messages(Arc::new(move |assistant: &str| mailbox(&roster.borrow(), assistant))).await;
    let mut doors = JoinSet::new();
    doors.spawn(http::listen(listener, http::routes(door.clone()), limit, stop.clone()));
    if let Some(listener) = metrics_listener {
        doors.spawn(http::listen(listener, http::metrics_routes(door), 64, stop.clone()));
    }
    let mut background = JoinSet::new();
    if let Some(handle) = upkeep {
        let stop = stop.clone();
        background.spawn(async move {
            // Without it, histograms would keep every sample until somebody asks for the page.
            while timeout(UPKEEP, stop.cancelled()).await.is_err() {
                handle.run_upkeep();
            }
        });
    }
    let watching = stop.child_token();
    if tools_first {
        tools.keep(servers(&keeper.roster().borrow()));
        tools.settled(TOOLS_FIRST).await;
    }
    background.spawn(follow(tools.clone(), keeper.roster(), watching.clone()));
    if let Some(reload) = reload {
        match reload.from {
            From::Disk(dir) => {
                let file = SettingsFile::new(reload.settings_file, environment, settings.clone());
                let watcher = Watcher::new(keeper, dir, Some(file), Pace::default());
                background.spawn(watcher.run(watching.clone()));
            }
            From::Remote(remote_folder) => {
                drop(background.spawn(remote_folder.run(keeper, watching.clone())))
            }
        }
    }
    tracing::info!(%address, public_url = ready.public_url, assistants, "Ready");
    if let Err(broken) = open_until(shutdown, &mut doors).await {
        // Programs that they are would outlive us.
        let _ = timeout(LAST_TOOLS, tools.close()).await;
        return Err(broken);
    }
    // No call begins any more that an edit could reach.
    watching.cancel();
    tools.wake_messages();
    let closed = Instant::now();
    let had_calls = drain(&switchboard, settings.drain).await;
    let left = settings.drain.saturating_sub(closed.elapsed()).max(LAST_JOBS);
    // None of them waits for another.
    let tools_end = timeout(LAST_TOOLS, tools.close());
    let _ = tokio::join!(
        last_questions(&switchboard, had_calls),
        last_jobs(&switchboard, &tools, left),
        tools_end
    );
    tracing::info!("Drained");
    stop.cancel();
    let all_ended = async {
        while doors.join_next().await.is_some() {}
        while background.join_next().await.is_some() {}
    };
    let _ = timeout(LAST_ANSWERS, all_ended).await;
    Ok(())
}

/// Waits for `shutdown`, as long as somebody listens at every door.
///
/// # Errors
/// A listener ended by itself: no call would ever come, and nobody would know.
async fn open_until(shutdown: impl Future<Output = ()>, doors: &mut JoinSet<()>) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown => Ok(()),
        Some(ended) = doors.join_next() => {
            ended.context("a listener broke: nothing could be answered any more")?;
            bail!("a listener ended by itself: nothing could be answered any more")
        }
    }
}

/// The longest that the process lives on after it was told to stop, where calls may go on for `drain`: for whoever
/// kills it in the end, such as Fly after `kill_timeout`.
pub fn longest_end(drain: Duration) -> Duration {
    let last = (LAST_QUESTIONS + LAST_REPORTS).max(LAST_JOBS).max(LAST_TOOLS);
    drain.max(GOODBYES) + last + LAST_ANSWERS + LAST_THREADS
}

/// Closes the server: calls may take `time`, of which the last of it is for their goodbyes. These have theirs, also
/// where `time` is shorter. Whether there were any.
async fn drain(switchboard: &Switchboard, time: Duration) -> bool {
    switchboard.close_door();
    let calls = switchboard.calls();
    tracing::info!(calls, drain_secs = time.as_secs(), "Draining: no new calls");
    if switchboard.is_empty() {
        return false;
    }
    if timeout(time.saturating_sub(GOODBYES), switchboard.empty()).await.is_err() {
        tracing::warn!(calls = switchboard.calls(), "Saying goodbye to the calls that are left");
        switchboard.send_home();
        if timeout(GOODBYES, switchboard.empty()).await.is_err() {
            tracing::error!(calls = switchboard.calls(), "Calls did not end; leaving them");
        }
    }
    true
}

/// Twilio asks what follows each stream: those that ended lately are answered, or the caller would hear an apology.
async fn last_questions(switchboard: &Switchboard, had_calls: bool) {
    let _ = timeout(LAST_QUESTIONS, switchboard.all_asked(LATELY)).await;
    if had_calls {
        sleep(LAST_REPORTS).await;
    }
}

/// Has what outlives its call finish: it has `left` in all.
async fn last_jobs(switchboard: &Switchboard, tools: &Tools, left: Duration) {
    let began = Instant::now();
    // What is being taken down may wait for its delivery.
    tools.hurry_messages();
    if timeout(left, switchboard.jobs_done()).await.is_err() {
        tracing::error!("Messages could not be taken down in time");
    }
    tools.last_messages(left.saturating_sub(began.elapsed())).await;
}

/// The account that sends text messages; `None` without its SID, or without a key or token.
///
/// # Errors
/// When TLS cannot be set up.
pub fn account(settings: &Settings, tls: &Arc<ClientConfig>) -> Result<Option<Account>, reqwest::Error> {
    let Some(sid) = &settings.twilio_account_sid else { return Ok(None) };
    let (user, password) = match (&settings.twilio_api_key, &settings.twilio_api_secret) {
        (Some(key), Some(secret)) => (key, secret),
        _ => match settings.twilio_auth_tokens.first() {
            Some(token) => (sid, token),
            None => return Ok(None),
        },
    };
    Account::new(&settings.twilio_api_url, sid, user, password.clone(), tls).map(Some)
}

/// The MCP servers that we are a client of, as each assistant uses them.
fn servers(roster: &Roster) -> Vec<ServerUse> {
    roster.iter().flat_map(|assistant| assistant.servers()).collect()
}

/// Has the tools' servers be those of the roster in force, from now on.
async fn follow(tools: Arc<Tools>, mut roster: watch::Receiver<Arc<Roster>>, stop: CancellationToken) {
    loop {
        let used = servers(&roster.borrow_and_update());
        tools.keep(used);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = roster.changed() => if changed.is_err() { return },
        }
    }
}

/// Where an assistant's messages go: its plan says so, whoever calls.
fn mailbox(roster: &Roster, assistant: &str) -> Option<Mailbox> {
    let facts = Facts {
        caller: Party::Withheld,
        called: Party::Withheld,
        call: String::new(),
        now: jiff::Timestamp::now(),
    };
    let plan = roster.by_name(assistant)?.plan(&facts, &Nothing).ok()?;
    plan.tools.into_iter().find_map(|tool| match tool.work {
        Work::Job(job) => match &*job {
            Job::TakeMessage(mailbox) => Some(mailbox.clone()),
            Job::Mcp { .. } | Job::Http(_) | Job::SendSms => None,
        },
        Work::EndCall | Work::Transfer(_) | Work::SendDigits => None,
    })
}

/// Waits for SIGTERM or SIGINT, and with `terminal` also for the terminal to go: for SIGHUP, or for the end of the
/// terminal that standard input is. From then on, another one ends the process at once.
///
/// # Errors
/// When the system refuses to tell us of signals.
pub fn signalled(terminal: bool) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be listened for")?;
    // A server that is to outlive its terminal ignores it.
    let mut hangup = match terminal {
        true => Some(signal(SignalKind::hangup()).context("signals cannot be listened for")?),
        false => None,
    };
    let gone = async move {
        match &mut hangup {
            Some(hangup) => tokio::select! {
                _ = hangup.recv() => {}
                () = hung_up() => {}
            },
            None => std::future::pending().await,
        }
    };
    let (first_tx, first) = tokio::sync::oneshot::channel();
    // This task ends with the process: it is what a second signal needs.
    tokio::spawn(async move {
        let mut first_tx = Some(first_tx);
        let mut gone = std::pin::pin!(gone.fuse());
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = &mut gone => {}
            }
            match first_tx.take() {
                Some(first) => drop(first.send(())),
                None => {
                    tracing::warn!("A second signal: ending at once");
                    tool::kill_programs();
                    std::process::exit(1);
                }
            }
        }
    });
    Ok(async move { drop(first.await) })
}

/// Waits until the terminal is gone that standard input was at first; for ever where it was none. The system sends SIGHUP
/// to who leads the terminal's session alone: `make` does not pass it on, and waits for us. Nothing is read: what is
/// typed is for others, and reading would stop a job in the background.
async fn hung_up() {
    if !stdin().is_terminal() {
        return std::future::pending().await;
    }
    // One that hung up is a terminal no more.
    while stdin().is_terminal() {
        sleep(LOOK_AT_TERMINAL).await;
    }
}

/// TLS towards whomever we call, trusting the system's certificates, or those of `bundle`.
///
/// # Errors
/// When certificates are needed and there are none. Where they are not, the tools of an edit to come may be: they
/// are loaded all the same.
pub fn client_config(needed: bool, bundle: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    let found = match bundle {
        Some(bundle) => rustls_native_certs::load_certs_from_paths(Some(bundle), None),
        None => rustls_native_certs::load_native_certs(),
    };
    roots.add_parsable_certificates(found.certs);
    if needed && roots.is_empty() {
        bail!(
            "no trusted certificates were found; install the system's ca-certificates, or name a bundle in \
             SSL_CERT_FILE"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    #[tokio::test]
    async fn a_listener_that_breaks_ends_the_server() {
        let mut doors = JoinSet::new();
        doors.spawn(async { panic!("no more than so many connections") });
        let open = timeout(Duration::from_secs(5), open_until(std::future::pending(), &mut doors)).await;
        assert!(open.expect("it ends").unwrap_err().to_string().contains("nothing could be answered"));
        let mut doors = JoinSet::new();
        doors.spawn(std::future::pending());
        open_until(std::future::ready(()), &mut doors).await.unwrap();
    }

    #[test]
    fn a_closing_server_is_done_before_fly_ends_it() {
        let settings = Settings::read(&Sources::default()).unwrap();
        assert!(settings.drain > GOODBYES, "the goodbyes are within it");
        // Fly kills 300 s after the signal, at the latest.
        let longest = longest_end(settings.drain);
        assert!(longest <= Duration::from_secs(295), "{longest:?}");
        let told = format!(
            "{} s after `DRAIN_SECONDS` at the latest, so {} s of the 300 s",
            (longest - settings.drain).as_secs(),
            longest.as_secs()
        );
        assert!(include_str!("../docs/architecture.md").contains(&told), "{told}");
    }
}
