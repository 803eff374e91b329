//! `switchboard doctor`: everything that stands between a ringing phone and an assistant, looked at from here.
//!
//! Each file below knows one thing that is looked at, but for `mend.rs`, which knows what `--fix` may do; this one knows
//! the order and the waiting. Nothing hangs: every question has a limit, and what does not depend on each other is asked
//! side by side. What was found is data (`report.rs`); what is printed holds no secret, and of phone numbers only the
//! ends; but what `--fix` replaces at Twilio is shown in full, so that it can be put back.
// They panic where nobody reads.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod clock;
mod fly;
mod folder;
mod function;
mod local;
mod mend;
mod net;
mod provider;
mod public;
pub mod report;
mod settings;
mod toml;
mod tool;
mod twilio;
mod veil;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Zoned;
use tokio::time::{Instant, interval_at, timeout};

use self::clock::{Clock, Reading};
use self::mend::mend;
use self::net::Net;
use self::public::Public;
use self::report::{Finding, Severity};
use self::settings::Read;
use self::twilio::Mend;
use self::veil::Veil;
use crate::command::say::{complain, say};
use crate::command::{Failure, read_or_none};
use crate::link::twilio_rest::Account;
use crate::settings::Settings;
use crate::tool::Tools;
use crate::yaml::SourceFile;

/// No check takes longer; each has shorter limits of its own, so that nothing it found is lost. The longest are those of
/// the MCP servers, 65 s to list their tools and 10 s to end, and of Twilio's list of numbers, 60 s.
const LIMIT: Duration = Duration::from_secs(90);
/// After how long it is said what is waited for, and how often again.
const SOON: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(10);

/// What a person asks for.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Mend what can be mended safely, after showing it: the URLs of numbers that a file lists, and the permissions of `.env`
    #[arg(long)]
    fix: bool,
    /// End with 1 also where there are only warnings
    #[arg(long)]
    strict: bool,
    /// How to tell what was found
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// How the findings are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// An array of findings
    Json,
}

/// Looks at everything, mends what it may, and prints what was found.
///
/// # Errors
/// [`Failure::Told`] where the findings are bad enough for exit code 1.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let mut examined = examine().await?;
    if options.fix {
        let done = mend(&examined).await;
        if done.iter().any(|finding| finding.severity == Severity::Ok) {
            complain("Looking again …");
            examined = examine().await?;
        }
        examined.findings.extend(done);
    }
    let left = examined.mendable();
    let veil = &examined.veil;
    let findings: Vec<Finding> = examined.findings.into_iter().map(|finding| finding.veiled(veil)).collect();
    let mut told = match options.format {
        Format::Text => report::text(&findings),
        Format::Json => report::json(&findings),
    };
    if options.format == Format::Text && !options.fix && left > 0 {
        told.push_str(&format!("`switchboard doctor --fix` mends {left} of them.\n"));
    }
    say(&told)?;
    match report::is_fine(&findings, options.strict) {
        true => Ok(()),
        false => Err(Failure::Told),
    }
}

/// What looking gave, and what could be mended.
struct Examined {
    findings: Vec<Finding>,
    veil: Veil,
    account: Option<Account>,
    mends: Vec<Mend>,
    open_env_file: bool,
    /// A number rings a tunnel of this folder, on purpose.
    has_tunnel: bool,
}

/// What one job gave.
#[derive(Default)]
struct Part {
    findings: Vec<Finding>,
    clocks: Vec<Clock>,
    mends: Vec<Mend>,
}

/// Something that is asked of others.
struct Job<'a> {
    /// Whom it waits for.
    name: String,
    work: BoxFuture<'a, Part>,
}

async fn examine() -> anyhow::Result<Examined> {
    let Read { settings, environment, file, tls, mut findings, open_env_file, is_remote } = settings::read()?;
    let account = Account::from_settings(&settings, &tls).context("TLS cannot be set up")?;
    let texts = Account::from_settings(&settings, &tls).context("TLS cannot be set up")?;
    let tools = Tools::with(&tls, texts, None).context("TLS cannot be set up")?;
    let (here, told) = folder::check(&settings, &environment, is_remote);
    findings.extend(told);
    let providers = settings.providers();
    let fetching = folder::fetch(&settings, &environment, &providers, &tls);
    let (remote_folder, told) = patiently("the folder at ASSISTANTS_URL", fetching).await;
    findings.extend(told);
    // That folder alone says which numbers ring whom. The one here only stands in: a server that starts while the other
    // cannot be fetched answers with it, so its models and tools are worth a look.
    let in_force = if is_remote { remote_folder.as_ref() } else { here.as_ref() };
    let roster = in_force.or(here.as_ref());
    if in_force.is_none() && roster.is_some() {
        findings.push(folder::stand_in(&settings));
    }
    let mut veil = Veil::over(&environment, &settings);
    roster.into_iter().flat_map(tool::secrets).for_each(|secret| veil.add(secret.expose()));
    let net = Net::new(tls, veil.clone()).context("TLS cannot be set up")?;

    let today = Zoned::now().date();
    let used = provider::used(roster, &settings);
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for used in &used {
        findings.extend(provider::known(used, today));
        let place = used.place();
        let net = &net;
        jobs.push(Job {
            name: format!("the model at {place}"),
            work: Box::pin(async move {
                let (findings, clock) = provider::ask(used, net).await;
                Part { findings, clocks: clock_of(&place, clock), mends: Vec::new() }
            }),
        });
    }
    jobs.push(Job {
        name: "Twilio".to_owned(),
        work: Box::pin(async {
            let seen = twilio::check(account.as_ref(), &settings, in_force, is_remote, &net).await;
            Part { findings: seen.findings, clocks: clock_of("Twilio", seen.clock), mends: seen.mends }
        }),
    });
    jobs.push(Job {
        name: "the Functions".to_owned(),
        work: Box::pin(async {
            Part { findings: function::check(&settings, &net).await, ..Part::default() }
        }),
    });
    if let Some(public) = Public::new(&settings, net.clone(), in_force.map(|roster| roster.len())) {
        jobs.push(Job {
            name: "the public address".to_owned(),
            work: Box::pin(async move {
                let (findings, clock) = public.check().await;
                let mut clocks = clock_of("the server at PUBLIC_URL", clock);
                clocks.iter_mut().for_each(|clock| clock.may_be_ours = true);
                Part { findings, clocks, mends: Vec::new() }
            }),
        });
    }
    if let Some(roster) = roster {
        jobs.push(Job {
            name: "the MCP servers".to_owned(),
            work: Box::pin(async {
                let findings = tool::check(roster, &tools).await;
                tools.close().await;
                Part { findings, ..Part::default() }
            }),
        });
    }
    let mut clocks = Vec::new();
    let mut mends = Vec::new();
    for part in side_by_side(jobs).await {
        findings.extend(part.findings);
        clocks.extend(part.clocks);
        mends.extend(part.mends);
    }
    findings.extend(clock::judge(&clocks));
    findings.extend(on_fly(file.as_ref(), &settings));
    let has_tunnel = local::has_tunnel(&settings);
    Ok(Examined { findings, veil, account, mends, open_env_file, has_tunnel })
}

/// What is found in `fly.toml`, where there is one.
fn on_fly(file: Option<&SourceFile>, settings: &Settings) -> Vec<Finding> {
    match read_or_none(fly::FILE) {
        Ok(None) => Vec::new(),
        Ok(Some(bytes)) => fly::check(&String::from_utf8_lossy(&bytes), file, settings),
        Err(problems) => {
            let unread = problems.into_iter().map(|problem| {
                let finding =
                    Finding::error("fly.file", format!("{}: {}", problem.path(), problem.message()));
                finding.fix("have whoever runs the program be able to read that file, or take it away")
            });
            unread.collect()
        }
    }
}

fn clock_of(who: &str, reading: Option<Reading>) -> Vec<Clock> {
    let clock = |reading| Clock { who: who.to_owned(), reading, may_be_ours: false };
    reading.map(clock).into_iter().collect()
}

/// Waits; where it takes long, it says what for.
async fn patiently<T>(name: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    match timeout(SOON, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            complain(&format!("Waiting for {name} …"));
            work.await
        }
    }
}

/// Does all jobs at once, and gives their parts in the order of the jobs. Where it takes long, it says what is waited
/// for.
async fn side_by_side(jobs: Vec<Job<'_>>) -> Vec<Part> {
    let mut waiting: BTreeMap<usize, String> = BTreeMap::new();
    let mut done: BTreeMap<usize, Part> = BTreeMap::new();
    let mut running = FuturesUnordered::new();
    for (at, job) in jobs.into_iter().enumerate() {
        waiting.insert(at, job.name);
        running.push(async move { (at, timeout(LIMIT, job.work).await) });
    }
    let mut tick = interval_at(Instant::now() + SOON, AGAIN);
    loop {
        tokio::select! {
            next = running.next() => match next {
                None => return done.into_values().collect(),
                Some((at, part)) => {
                    let name = waiting.remove(&at).unwrap_or_default();
                    done.insert(at, part.unwrap_or_else(|_| late(&name)));
                }
            },
            _ = tick.tick() => {
                let names: Vec<&str> = waiting.values().map(String::as_str).collect();
                complain(&format!("Waiting for {} …", names.join(", ")));
            }
        }
    }
}

fn late(name: &str) -> Part {
    let message = format!("nothing was learnt of {name} in {} s", LIMIT.as_secs());
    let finding =
        Finding::error("doctor.late", message).fix("run `switchboard doctor` again; then look there by hand");
    Part { findings: vec![finding], ..Part::default() }
}

#[cfg(test)]
mod tests;
