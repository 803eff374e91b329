//! Builds a server from its parts and starts its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::alerts::{Alerts, Watched};
use super::uploads::Uploads;
use super::{From, Reload, Serve, Server, limits, records};
use crate::assistant::plan::{Job, Mailbox, Nothing, ServerUse, Work};
use crate::assistant::{Facts, Roster};
use crate::console::{self, Console};
use crate::disk;
use crate::http::{self, App, Refusals};
use crate::link::mail::{BadMailer, Mailer};
use crate::link::network::http_client;
use crate::link::peer::Peers;
use crate::link::tls;
use crate::link::twilio_rest::Account;
use crate::notice::Purpose;
use crate::observe::metrics;
use crate::phone::Party;
use crate::problem::catalogue::Recording;
use crate::process;
use crate::recording::{self, Archive, Recordings};
use crate::reload::{Keeper, Pace, SettingsFile, Watcher};
use crate::session::{Parts, Switchboard};
use crate::settings::Settings;
use crate::store::Store;
use crate::tool::Tools;
use crate::wire::twilio::signature;

/// How often ended calls are forgotten, and the samples of histograms moved into their buckets; without that, they would
/// pile up until the next ring or scrape.
const UPKEEP: Duration = Duration::from_secs(30);
/// How long the MCP servers may take to be listed if tools come first: a program may have to be downloaded.
const TOOLS_FIRST: Duration = Duration::from_secs(60);
/// The most connections to the metrics' own listener.
const METRICS_CONNECTIONS: usize = 64;

impl Server {
    pub(super) async fn build(serve: Serve) -> anyhow::Result<Server> {
        let Serve { mut settings, ready, roster, reload, metrics, .. } = serve;
        settings.state_dir = disk::state(settings.state_dir);
        let secure = ready.providers.iter().any(|provider| provider.url.starts_with("wss:"));
        let tls = tls::client_config(secure, settings.ssl_cert_file.as_deref())?;
        metrics::roster_loaded(&roster);
        let assistants = roster.len();
        let environment = reload.as_ref().map(|reload| reload.environment.clone()).unwrap_or_default();
        let environment = Arc::new(environment);
        let keeper = Keeper::new(roster, environment.clone(), ready.providers.clone(), settings.record);
        let (tools, peers) = clients(&settings, &tls).context("TLS cannot be set up")?;
        if let Some(observer) = serve.letters {
            tools.show_letters(observer);
        }
        let archive = archive(&settings, &tls).context("TLS cannot be set up")?;
        let (sink, kept) = match serve.records {
            Some(sink) => (sink, None),
            None => {
                let (sink, store, closer) = records::start(&settings, archive.clone(), keeper.roster());
                (sink, Some((store, closer)))
            }
        };
        let archive = match &kept {
            Some((store, _)) => archive.with_store(records::with_waiting(store, &settings)),
            None => archive,
        };
        let uploads = archive.has_bucket().then(|| Uploads::start(archive.clone(), sink.clone()));
        if kept.is_some() && settings.state_dir.is_none() {
            warn_of_lost_recordings(&keeper);
        }
        let (recordings, complete) = (settings.state_dir.clone(), archive.clone());
        let recordings =
            recordings.map(|folder| Recordings::start(folder, sink.clone(), move |_| complete.completed()));
        let recordings = recordings.transpose().context("cannot start threads")?;
        let switchboard = Switchboard::new(Parts {
            roster: keeper.roster(),
            tokens: ready.twilio_auth_tokens.clone(),
            machine: settings.machine.clone().unwrap_or_default(),
            max_calls: settings.max_calls,
            cost_per_day: settings.cost_per_day,
            providers: ready.providers.iter().map(|provider| provider.name.clone()).collect(),
            tls,
            tools: tools.clone(),
            records: Some(sink),
            prices: Arc::new(settings.prices.clone()),
            policy: settings.record,
            recordings,
            now: serve.now,
            captures: serve.captures,
            simulated: serve.simulated,
        });
        let switchboard = Arc::new(switchboard.context("cannot start threads")?);
        let shared = settings.twilio_shared_keys.iter().cloned().collect();
        let app = Arc::new(App {
            switchboard: switchboard.clone(),
            standing: keeper.standing(),
            keys: signature::Keys::new(ready.twilio_auth_tokens, shared),
            public_url: ready.public_url.clone(),
            on_fly: settings.on_fly(),
            fly_url: settings.fly_url.clone().filter(|_| settings.on_fly()),
            peers,
            metrics: metrics.clone(),
            metrics_token: settings.metrics_token.clone(),
            refusals: Refusals::default(),
        });
        let (stop, mut listeners, mut background) =
            (CancellationToken::new(), JoinSet::new(), JoinSet::new());
        let pages = stop.child_token();
        let console = Console::new(console::Parts {
            switchboard: switchboard.clone(),
            settings: &settings,
            tools: tools.clone(),
            store: kept.as_ref().map(|(store, _)| records::with_waiting(store, &settings)),
            archive: archive.clone(),
            keeper: &keeper,
            environment: environment.clone(),
            link: serve.console,
            doctor: serve.doctor,
            ending: pages.clone(),
        });
        let routes = http::routes(app.clone()).merge(console::routes(console));
        let watching = stop.child_token();
        let address = serve.listener.local_addr().context("the listener has no address")?;
        let limit = process::connections(settings.max_calls);
        let roster = keeper.roster();
        let for_alerts = settings.alerts.as_ref().map(|alerts| alerts.to.clone());
        let mailboxes = move |assistant: &str, purpose| match purpose {
            Purpose::Alert => for_alerts.clone(),
            purpose => mailbox(&roster.borrow(), assistant, purpose),
        };
        let store = kept.as_ref().map(|(store, _)| store.clone());
        let alerts = alerts(&settings, &tools, &switchboard, &keeper, store.clone());
        background.spawn(limits::follow(store.clone(), switchboard.clone(), stop.clone()));
        tools.resume_messages(store, Arc::new(mailboxes)).await;
        listeners.spawn(http::listen(serve.listener, routes, limit, stop.clone()));
        if let Some(listener) = serve.metrics_listener {
            let routes = http::metrics_routes(app);
            listeners.spawn(http::listen(listener, routes, METRICS_CONNECTIONS, stop.clone()));
        }
        let records = kept.map(|(store, closer)| {
            background.spawn(archive.tidy_daily(stop.clone()));
            background.spawn(records::close_earlier(store, switchboard.clone(), stop.clone()));
            closer
        });
        background.spawn(upkeep(metrics, switchboard.clone(), stop.clone()));
        if serve.tools_first {
            tools.keep(servers(&keeper.roster().borrow()));
            tools.settled(TOOLS_FIRST).await;
        }
        background.spawn(follow(tools.clone(), keeper.roster(), watching.clone()));
        let drain = settings.drain;
        if let Some(reload) = reload {
            watch_folder(reload, keeper, environment, settings, &mut background, &watching);
        }
        tracing::info!(%address, public_url = ready.public_url, assistants, "Ready");
        Ok(Server {
            switchboard,
            alerts,
            tools,
            uploads,
            drain,
            records,
            listeners,
            background,
            pages,
            watching,
            stop,
        })
    }
}

/// The places of recordings.
fn archive(settings: &Settings, tls: &ClientConfig) -> reqwest::Result<Archive> {
    let client = recording::client(http_client(tls))?;
    Ok(Archive::new(settings.state_dir.clone(), settings.recordings.clone(), client))
}

fn warn_of_lost_recordings(keeper: &Keeper) {
    for assistant in keeper.roster().borrow().iter().filter(|assistant| assistant.records_audio()) {
        let problem = Recording::NoFolder { assistant: assistant.name().to_owned() };
        tracing::warn!(code = problem.code(), "{problem}");
    }
}

/// What tells the owner how the server is.
fn alerts(
    settings: &Settings,
    tools: &Tools,
    switchboard: &Arc<Switchboard>,
    keeper: &Keeper,
    store: Option<Store>,
) -> Alerts {
    let (standing, roster) = (keeper.standing(), keeper.roster());
    let watched = Watched { switchboard: switchboard.clone(), standing, roster, store };
    let alerts = Alerts::start(settings.alerts.clone(), tools.post().clone(), watched);
    let reporter = alerts.reporter();
    tools.post().on_given_up(Arc::new(move |given_up| reporter.given_up(given_up)));
    alerts
}

/// The clients of other servers.
fn clients(
    settings: &Settings,
    tls: &Arc<ClientConfig>,
) -> Result<(Arc<Tools>, Option<Peers>), reqwest::Error> {
    let account = Account::from_settings(settings, tls)?;
    // What is wrong with it was reported before.
    let mailer = mailer(settings).unwrap_or_default();
    let tools = Tools::with(tls, account, mailer, settings.state_dir.as_deref())?;
    let machine = settings.machine.as_deref().unwrap_or_default();
    let peers = settings.peer_url.clone().map(|form| Peers::new(form, machine, tls)).transpose()?;
    Ok((Arc::new(tools), peers))
}

fn watch_folder(
    reload: Reload,
    keeper: Keeper,
    environment: Arc<BTreeMap<String, String>>,
    settings: Settings,
    background: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    match reload.from {
        From::Disk(dir) => {
            let file = SettingsFile::new(reload.settings_file, environment, settings);
            let watcher = Watcher::new(keeper, dir, Some(file), Pace::default()).woken_by(reload.again);
            background.spawn(watcher.run(stop.clone()));
        }
        From::Remote(folder) => {
            drop(background.spawn(folder.woken_by(reload.again).run(keeper, stop.clone())))
        }
    }
}

async fn upkeep(metrics: Option<PrometheusHandle>, switchboard: Arc<Switchboard>, stop: CancellationToken) {
    while timeout(UPKEEP, stop.cancelled()).await.is_err() {
        if let Some(handle) = &metrics {
            handle.run_upkeep();
        }
        switchboard.upkeep();
    }
}

/// Offers the MCP servers of the roster in force, after each swap.
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

/// The MCP servers that we are a client of, as each assistant uses them.
fn servers(roster: &Roster) -> Vec<ServerUse> {
    roster.iter().flat_map(|assistant| assistant.servers()).collect()
}

/// The mail server of the settings, if there is one.
///
/// # Errors
/// What is wrong with SMTP_URL or SMTP_FROM.
pub fn mailer(settings: &Settings) -> Result<Option<Mailer>, BadMailer> {
    let new = |url| Mailer::new(url, settings.smtp_from.as_deref(), settings.ssl_cert_file.as_deref());
    settings.smtp_url.as_ref().map(new).transpose()
}

/// Where what is for an assistant's owner goes. Its plan says so, and is the same for every caller in that.
pub fn mailbox(roster: &Roster, assistant: &str, purpose: Purpose) -> Option<Mailbox> {
    let facts = Facts {
        caller: Party::Withheld,
        called: Party::Withheld,
        call: String::new(),
        now: jiff::Timestamp::now(),
    };
    let plan = roster.by_name(assistant)?.plan(&facts, &Nothing).ok()?;
    match purpose {
        Purpose::Message => plan.tools.into_iter().find_map(|tool| match tool.work {
            Work::Job(job) => match &*job {
                Job::TakeMessage(mailbox) => Some(mailbox.clone()),
                Job::Mcp { .. } | Job::Http(_) | Job::SendSms => None,
            },
            Work::EndCall | Work::Transfer(_) | Work::SendDigits => None,
        }),
        Purpose::Notification => plan.notify.map(|notify| notify.to),
        Purpose::Form => {
            let webhook = plan.after_call?.webhook;
            Some(Mailbox { webhook, ..Mailbox::default() })
        }
        Purpose::Alert => None,
    }
}
