//! `switchboard doctor`: tries everything that a call needs, and reports what is wrong.
//!
//! Each file below is a probe, or a few: it returns problems, and the catalogue has their sentences. This file knows the
//! order and the waiting. Every question has a limit, and independent questions run concurrently. Nothing printed
//! contains a secret or a whole phone number, except the addresses that `--fix` replaces at Twilio: the owner may want
//! them back.

mod answer;
mod clock;
mod fix;
mod fly;
mod folder;
mod function;
mod mail;
mod mounts;
mod provider;
mod public;
mod recordings;
mod redact;
mod report;
mod settings;
mod store;
mod tools;
mod twilio;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Zoned;
use rustls::ClientConfig;
use tokio::time::{Instant, interval_at, timeout};

pub use self::mail::deliveries;
pub use self::settings::local;

use self::clock::Reading;
use self::fix::Change;
use self::redact::Redactor;
use crate::assistant::Roster;
use crate::link::network::http_client;
use crate::link::twilio_rest::Account;
use crate::problem::catalogue::Doctor;
use crate::problem::{Problem, Severity};
use crate::terminal::{Failure, Format, notify, print};
use crate::tool::Tools;
use crate::workspace::Workspace;

/// The limit of one probe. Each has shorter limits of its own; the longest are 65 s to list MCP servers and 60 s to list
/// numbers.
const LIMIT: Duration = Duration::from_secs(90);
/// When it first shows what it waits for, and how often after that.
const SOON: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(10);

/// The command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Fix what is safe to fix, and show it first: the URLs of listed numbers, and the permissions of `.env`
    #[arg(long)]
    fix: bool,
    /// Exit with 1 even if there are only warnings
    #[arg(long)]
    strict: bool,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Checks everything, fixes what `options` allow, and prints the result.
///
/// # Errors
/// [`Failure::Reported`] if there is an error, or with `--strict` a warning.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut found = examine().await?;
    if options.fix {
        let done = fix::apply(&found).await;
        if done.iter().any(|problem| problem.severity() == Severity::Ok) {
            notify("Checking again …");
            found = examine().await?;
        }
        found.problems.extend(done);
    }
    let text = match options.format {
        Format::Json => report::json(&found.problems, &found.redactor),
        Format::Text => {
            let mut text = report::text(&found.problems, &found.redactor);
            let fixable = fix::fixable(&found);
            if !options.fix && fixable > 0 {
                text.push_str(&format!("`switchboard doctor --fix` fixes {fixable} of them.\n"));
            }
            text
        }
    };
    print(&text)?;
    let worst = found.problems.iter().map(Problem::severity).max().unwrap_or(Severity::Ok);
    match worst {
        Severity::Error => Err(Failure::Reported),
        Severity::Warning if options.strict => Err(Failure::Reported),
        Severity::Warning | Severity::Note | Severity::Ok => Ok(()),
    }
}

/// What the console shows: an array like that of `--format json`.
///
/// # Errors
/// Why nothing can be examined, as a sentence.
pub async fn findings() -> Result<serde_json::Value, String> {
    let found = examine().await.map_err(|why| format!("{why:#}."))?;
    serde_json::from_str(&report::json(&found.problems, &found.redactor)).map_err(|why| why.to_string())
}

/// Everything that was found, and what `--fix` needs.
struct Found {
    problems: Vec<Problem>,
    redactor: Redactor,
    account: Option<Account>,
    changes: Vec<Change>,
    open_env_file: bool,
    has_tunnel: bool,
}

/// What one probe found.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    clocks: Vec<(String, Reading)>,
    changes: Vec<Change>,
}

impl From<Vec<Problem>> for Findings {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems, ..Self::default() }
    }
}

/// A question to another machine, and its name for people.
struct Probe<'a> {
    name: String,
    work: BoxFuture<'a, Findings>,
}

/// How the probes ask.
#[derive(Clone)]
struct Net {
    http: reqwest::Client,
    tls: Arc<ClientConfig>,
}

async fn examine() -> anyhow::Result<Found> {
    let workspace = Workspace::read();
    let settings = &workspace.settings;
    let settings::Checked { mut problems, tls, open_env_file } = settings::check(&workspace)?;
    let account = Account::from_settings(settings, &tls)?;
    let tools = Tools::with(&tls, Account::from_settings(settings, &tls)?, None, None)?;
    let (local, found) = folder::local(&workspace);
    problems.extend(found);
    let (remote, found) = patiently("ASSISTANTS_URL", folder::remote(&workspace, &tls)).await;
    problems.extend(found);
    // Only the folder in force decides which numbers call whom. If it is unknown, the models and tools of the local folder
    // are still worth checking: a server that starts now uses it.
    let in_force = if folder::is_remote(&workspace) { remote.as_ref() } else { local.as_ref() };
    let roster = in_force.or(local.as_ref());
    let redactor = Redactor::new(&workspace, roster);
    let http = http_client(&tls).pool_max_idle_per_host(0).build().context("TLS cannot be set up")?;
    let net = Net { http, tls };

    let mut probes: Vec<Probe<'_>> = Vec::new();
    let today = Zoned::now().date();
    // A missing key of the default provider is a missing setting, too.
    let is_reported = problems.iter().any(|problem| problem.of_setting() == Some("OPENAI_API_KEY"));
    for used in provider::used(roster, settings) {
        if is_reported && used.provider.name == "openai" && used.provider.lacks_key() {
            continue;
        }
        problems.extend(provider::known(&used, today));
        let name = used.host();
        let net = &net;
        probes.push(Probe { name, work: Box::pin(async move { provider::probe(&used, net).await }) });
    }
    let twilio = twilio::probe(account.as_ref(), settings, in_force, &net);
    probes.push(Probe { name: "Twilio".to_owned(), work: Box::pin(twilio) });
    let functions = function::probe(settings, &net);
    probes.push(Probe { name: "the Functions".to_owned(), work: Box::pin(functions) });
    let public = public::probe(settings, &net, in_force.map(Roster::len));
    probes.push(Probe { name: "PUBLIC_URL".to_owned(), work: Box::pin(public) });
    let database = store::probe(settings);
    probes.push(Probe { name: "the database".to_owned(), work: Box::pin(database) });
    let mail = mail::probe(settings);
    probes.push(Probe { name: "the mail server".to_owned(), work: Box::pin(mail) });
    let bucket = recordings::probe(settings, &net);
    probes.push(Probe { name: "the bucket of recordings".to_owned(), work: Box::pin(bucket) });
    if let Some(roster) = roster {
        problems.extend(recordings::without_folder(settings, roster));
        problems.extend(mail::deliveries(settings, roster));
        let tools = tools::probe(roster, &tools);
        probes.push(Probe { name: "the MCP servers".to_owned(), work: Box::pin(tools) });
    }
    let (mut clocks, mut changes) = (Vec::new(), Vec::new());
    for found in concurrently(probes).await {
        problems.extend(found.problems);
        clocks.extend(found.clocks);
        changes.extend(found.changes);
    }
    problems.extend(clock::check(&clocks));
    problems.extend(fly::check(&workspace));
    let has_tunnel = settings::has_tunnel(settings);
    Ok(Found { problems, redactor, account, changes, open_env_file, has_tunnel })
}

/// Waits, and shows for what if it takes long.
async fn patiently<T>(name: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    match timeout(SOON, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            notify(&format!("Waiting for {name} …"));
            work.await
        }
    }
}

/// Runs all probes at once and returns their findings in order. If it takes long, it shows what it waits for.
async fn concurrently(probes: Vec<Probe<'_>>) -> Vec<Findings> {
    let mut waiting: BTreeMap<usize, String> = BTreeMap::new();
    let mut done: BTreeMap<usize, Findings> = BTreeMap::new();
    let mut running = FuturesUnordered::new();
    for (at, probe) in probes.into_iter().enumerate() {
        waiting.insert(at, probe.name);
        running.push(async move { (at, timeout(LIMIT, probe.work).await) });
    }
    let mut tick = interval_at(Instant::now() + SOON, AGAIN);
    loop {
        tokio::select! {
            next = running.next() => match next {
                None => return done.into_values().collect(),
                Some((at, found)) => {
                    let what = waiting.remove(&at).unwrap_or_default();
                    let late = |_| Doctor::Late { what, seconds: LIMIT.as_secs() };
                    done.insert(at, found.map_err(late).unwrap_or_else(|late| vec![Problem::new(late)].into()));
                }
            },
            _ = tick.tick() => {
                let names: Vec<&str> = waiting.values().map(String::as_str).collect();
                notify(&format!("Waiting for {} …", names.join(", ")));
            }
        }
    }
}
