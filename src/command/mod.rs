//! The commands: what a person types, and what they read when something is missing.
//!
//! Exit codes: 0 fine, warnings included; 1 problems; 2 wrong usage.
// They panic where nobody reads: see `say`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod environment;
pub(crate) mod numbers;
mod owner;
pub(crate) mod say;
mod secrets;
mod tunnel;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;

use crate::assistant::{Checked, Roster};
use crate::doctor;
use crate::observe;
use crate::phone::PhoneNumber;
use crate::problem::{self, Problem};
use crate::process;
use crate::provider::Provider;
use crate::rehearse::{self, Rehearse};
use crate::reload::fetch::{Remote, Rounds};
use crate::reload::{self, RemoteFolder, read::read_folder};
use crate::secret::Secret;
use crate::serve::{self, Reload, Serve};
use crate::settings::{LogFormat, Settings, Sources, env_file};
use crate::yaml::SourceFile;
pub(crate) use environment::{odd_lines, placed};

/// The settings' file, where there is one.
const FILE: &str = "switchboard.yaml";
/// What adds to the environment, where there is one.
pub(crate) const ENV_FILE: &str = ".env";
/// What stands for the address of a tunnel that is not open yet.
const UNTIL_TUNNEL: &str = "https://tunnel.invalid";

/// Answers phone numbers with voice assistants.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer the phone: serve Twilio's webhooks and media streams
    Serve(ServeArguments),
    /// Check the folder of assistants and say everything that is wrong with it
    Check {
        /// The folder; by default ASSISTANTS_DIR, or `assistants`
        dir: Option<PathBuf>,
        /// How to tell what is wrong
        #[arg(long, value_enum, default_value = "text")]
        format: owner::Format,
    },
    /// Show an assistant: its instructions as the model gets them, and the configuration that is sent
    Show {
        /// The assistant's name: its file's name without the ending
        assistant: String,
        /// The number that calls, or `anonymous`
        #[arg(long, value_name = "NUMBER")]
        from: Option<String>,
    },
    /// Say which assistant answers a number
    Who {
        /// The number that is called, such as +1555…
        number: String,
    },
    /// Write a new assistant to begin with
    New {
        /// The assistant's name
        name: String,
    },
    /// Print the JSON Schema of an assistant's file, for editors
    Schema,
    /// The account's numbers at Twilio: list them, or set what they ring
    Numbers {
        #[command(subcommand)]
        what: numbers::Numbers,
    },
    /// Print what .env sets, for `fly secrets import`; what is of this machine alone is left out
    Secrets {
        /// Print the value of this one alone, from the environment or else .env; exit 1 if it is not set
        name: Option<String>,
    },
    /// Try one call here, with a simulated phone and a simulated model, and keep its recording
    Rehearse(RehearseArguments),
    /// Look at everything between a ringing phone and an assistant, and say what is wrong and how to mend it
    Doctor(doctor::Options),
}

#[derive(Debug, clap::Args)]
struct ServeArguments {
    /// For development: have cloudflared make a public address, and use it as PUBLIC_URL
    #[arg(long)]
    tunnel: bool,
    /// Have this number of the account ring the tunnel, and what it rang before once this ends
    #[arg(long, value_name = "NUMBER", requires = "tunnel")]
    number: Option<String>,
}

#[derive(Debug, clap::Args)]
struct RehearseArguments {
    /// The assistant's name; by default the only one, or the first
    assistant: Option<String>,
    /// The number that is called: it rings the assistant who answers it
    #[arg(long, value_name = "NUMBER")]
    to: Option<String>,
    /// The number that calls, or `anonymous`
    #[arg(long, value_name = "NUMBER")]
    from: Option<String>,
    /// A WAV file that is all the caller says: 8 to 48 kHz, mono or stereo
    #[arg(long, value_name = "FILE.wav")]
    caller: Option<PathBuf>,
    /// Where call.wav and call.json go
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Talk to the real model, with OPENAI_API_KEY
    #[arg(long)]
    live: bool,
}

/// Why a command ends with 1: what the person reads, on standard error.
#[derive(Debug)]
pub enum Failure {
    Problems(Vec<Problem>),
    Error(anyhow::Error),
    /// The command itself was wrong: the end is 2.
    Usage(String),
    /// It was told already.
    Told,
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Problems(problems)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::complain(&format!("error: the program cannot start its threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // They start programs for their tools, and have secrets.
    let starts = |command: &Command| {
        matches!(
            command,
            Command::Serve(_) | Command::Rehearse(_) | Command::Doctor(_) | Command::Show { .. }
        )
    };
    if starts(&arguments.command)
        && let Some(warning) = process::hide()
    {
        say::complain(&warning);
    }
    let done = runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve_command(arguments).await,
            Command::Check { dir, format } => owner::check(dir, format),
            Command::Show { assistant, from } => owner::show(&assistant, from.as_deref()).await,
            Command::Who { number } => owner::who(&number),
            Command::New { name } => owner::new(&name),
            Command::Schema => owner::schema(),
            Command::Numbers { what } => numbers::numbers(what).await,
            Command::Secrets { name: None } => secrets::all(),
            Command::Secrets { name: Some(name) } => secrets::one(&name),
            Command::Rehearse(arguments) => rehearse_command(arguments).await,
            Command::Doctor(options) => doctor::run(&options).await,
        }
    });
    // It would wait for work that cannot be stopped for as long as that takes.
    runtime.shutdown_timeout(serve::LAST_THREADS);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Problems(problems)) => {
            report(&problems);
            ExitCode::FAILURE
        }
        Err(Failure::Error(error)) => {
            say::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => {
            say::complain(&format!("error: {message}"));
            ExitCode::from(2)
        }
        Err(Failure::Told) => ExitCode::FAILURE,
    }
}

async fn serve_command(arguments: ServeArguments) -> Result<(), Failure> {
    let number = arguments.number.as_deref().map(|text| {
        let usage = |why| format!("`--number {text}` is no phone number: {why}, such as +15550100001");
        PhoneNumber::parse(text.trim()).map_err(|why| Failure::Usage(usage(why)))
    });
    let number = number.transpose()?;
    let mut environment = environment()?;
    let file = settings_file()?;
    let mut settings = Settings::read(&Sources { file: file.clone(), environment: environment.clone() })?;
    let has_address = settings.public_url.is_some();
    if arguments.tunnel {
        environment.insert("PUBLIC_URL".to_owned(), UNTIL_TUNNEL.to_owned());
        settings = Settings::read(&Sources { file, environment: environment.clone() })?;
    }
    let mut problems = Vec::new();
    let ready = settings.for_serve().map_err(|missing| problems.extend(missing)).ok();
    let odd = settings.odd_secrets();
    let (hopeless, odd): (Vec<_>, Vec<_>) =
        odd.iter().map(|odd| odd.problem(&settings)).partition(Problem::is_error);
    problems.extend(hopeless);
    let json = settings.log_format.map(|format| format == LogFormat::Json);
    observe::init(&settings.log, json).map_err(|error| anyhow!("RUST_LOG cannot be read: {error}"))?;
    let remote_folder = match &settings.assistants_url {
        Some(url) if ready.is_some() => {
            Some(RemoteFolder::begin(remote(url, &settings)?, Rounds::default()).await)
        }
        Some(_) | None => None,
    };
    let providers = settings.providers();
    let fetched = remote_folder.as_ref().and_then(RemoteFolder::fresh).cloned();
    let fetched = fetched.map(|folder| {
        let odd = odd_lines(&folder, None, &settings);
        let checked = reload::check_to_serve(Ok(folder), &environment, &providers);
        checked.map(|(roster, warnings)| (roster, [odd, warnings].concat()))
    });
    let checked = match fetched {
        Some(Ok(sound)) => Ok(sound),
        // The folder that is here answers until then, and why was logged, or will be. Where it does not, both are wrong.
        Some(Err(wrong)) => {
            folder(&settings, &environment).map_err(|here| wrong.into_iter().chain(here).collect())
        }
        None => folder(&settings, &environment),
    };
    let (roster, warnings) = checked.map_err(|wrong| problems.extend(wrong)).unwrap_or_default();
    // Without any provider's key `for_serve` has said so.
    if settings.openai_api_key.is_some() || !settings.named_providers.is_empty() {
        problems.extend(roster.without_key());
    }
    let Some(mut ready) = ready.filter(|_| problems.is_empty()) else {
        // What is missing may stand in `.env`, under a name that nothing reads.
        problems.extend(warnings.into_iter().filter(|warning| warning.path() == ENV_FILE));
        return Err(problems.into());
    };

    if arguments.tunnel && has_address {
        tracing::warn!("PUBLIC_URL is not used: --tunnel makes an address of its own");
    }
    for warning in placed(&[settings.warnings.clone(), odd, warnings].concat()) {
        tracing::warn!("{}", warning.line());
    }
    if let Some(warning) = process::raise_descriptor_limit(settings.max_calls) {
        tracing::warn!("{warning}");
    }
    if !roster.answers() {
        tracing::warn!(
            "No number rings any assistant yet: write one into `numbers`, or set the variable that stands there"
        );
    }
    let listener = bind(&settings, settings.port, "PORT").await?;
    let metrics_listener = match settings.metrics_port {
        Some(port) => Some(bind(&settings, port, "METRICS_PORT").await?),
        None => None,
    };
    let metrics = observe::metrics::install().context("metrics cannot be counted")?;
    let mut shutdown = std::pin::pin!(serve::signalled(arguments.tunnel)?);
    let tunnel = if arguments.tunnel {
        let listening = listener.local_addr().context("the listener has no address")?;
        let open = tunnel::open(&settings, &roster, number.as_ref(), listening, shutdown.as_mut()).await?;
        let Some(open) = open else { return Ok(()) };
        open.url().clone_into(&mut ready.public_url);
        settings.public_url = Some(ready.public_url.clone());
        environment.insert("PUBLIC_URL".to_owned(), ready.public_url.clone());
        Some(open)
    } else {
        None
    };
    let from = remote_folder.map_or_else(
        || serve::From::Disk(settings.assistants_dir.clone()),
        |remote_folder| serve::From::Remote(Box::new(remote_folder)),
    );
    let reload = Reload { from, settings_file: FILE.into(), environment };
    let serve = Serve {
        settings,
        ready,
        roster,
        reload: Some(reload),
        listener,
        metrics_listener,
        metrics: Some(metrics),
        journal: None,
        tools_first: false,
    };
    match tunnel {
        Some(open) => open.serve(serve, shutdown).await,
        None => Ok(serve::run(serve, shutdown).await?),
    }
}

async fn rehearse_command(arguments: RehearseArguments) -> Result<(), Failure> {
    let RehearseArguments { assistant, to, from, caller, out, live } = arguments;
    let sources = Sources { file: settings_file()?, environment: environment()? };
    // The conversation is the output: the server speaks up only where something is odd.
    let filter = sources.environment.get("RUST_LOG").filter(|filter| !filter.is_empty());
    let filter = filter.map_or("warn", String::as_str);
    observe::init(filter, Some(false)).map_err(|error| anyhow!("RUST_LOG cannot be read: {error}"))?;
    let stop = serve::signalled(false)?;
    let options = Rehearse { assistant, to, from, caller, out, live };
    rehearse::run(&options, &sources, stop, &mut rehearse::Screen::standard()).await
}

/// The folder at `dir`, read and checked as a whole.
pub(crate) fn look(
    dir: &Path,
    settings: &Settings,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
) -> Result<Checked, Vec<Problem>> {
    let folder = read_folder(dir).map_err(|error| vec![error.into()])?;
    let mut checked = reload::check_whole(&folder, environment, providers);
    checked.warnings.extend(odd_lines(&folder, Some(dir), settings));
    problem::sort(&mut checked.warnings);
    Ok(checked)
}

/// The folder that is here, read and checked as a whole: the roster and what is odd about it, or all that is wrong.
fn folder(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    passed(look(&settings.assistants_dir, settings, environment, &settings.providers())?)
}

/// The folder in force, checked as a whole: the one of ASSISTANTS_URL, which is fetched; without that, the one that is
/// here.
async fn folder_in_force(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
) -> Result<Roster, Failure> {
    let Some(url) = &settings.assistants_url else { return Ok(folder(settings, environment)?.0) };
    let fetched = remote(url, settings)?.fetch_once().await;
    let fetched =
        fetched.context("the folder of assistants, which says who answers each number, was not fetched")?;
    Ok(passed(reload::check_whole(&fetched, environment, &settings.providers()))?.0)
}

/// Where the folder of ASSISTANTS_URL is fetched.
fn remote(url: &Secret, settings: &Settings) -> anyhow::Result<Remote> {
    let url = url.expose();
    let tls = serve::client_config(url.starts_with("https:"), settings.ssl_cert_file.as_deref())?;
    Ok(Remote::new(url, settings.assistants_token.as_ref(), &tls)?)
}

fn passed(checked: Checked) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    let problems = checked.problems();
    match checked.roster {
        Ok(roster) => Ok((roster, checked.warnings)),
        Err(_) => Err(problems),
    }
}

/// The environment, with what `.env` adds; the file never overrides.
pub(crate) fn environment() -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let mut environment = BTreeMap::new();
    if let Some(bytes) = read_or_none(ENV_FILE)? {
        environment.extend(env_file::read(ENV_FILE, &bytes)?);
    }
    environment.extend(own_environment());
    Ok(environment)
}

/// The environment of the process alone.
pub(crate) fn own_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// `switchboard.yaml`, where there is one.
pub(crate) fn settings_file() -> Result<Option<SourceFile>, Vec<Problem>> {
    Ok(read_or_none(FILE)?.map(|bytes| SourceFile::new(FILE, bytes)))
}

/// A file's bytes, where it is there.
pub(crate) fn read_or_none(path: &str) -> Result<Option<Vec<u8>>, Vec<Problem>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(vec![Problem::about(path, "file.unreadable", format!("this file cannot be read: {error}"))])
        }
    }
}

async fn bind(settings: &Settings, port: u16, name: &str) -> anyhow::Result<TcpListener> {
    let host = settings.listens_on();
    let error = match TcpListener::bind((host, port)).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    match refusal(settings, &error) {
        Refusal::ByDefault => {
            tracing::warn!(%error, "`::` cannot be listened on; listening on 0.0.0.0: no other machine reaches this one");
            let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
            other.with_context(|| cannot_listen(Ipv4Addr::UNSPECIFIED.into(), port, name))
        }
        Refusal::NoIpv6 => Err(error).context(
            "HOST is `::`, which cannot be listened on: this machine seems to have no IPv6; set HOST=0.0.0.0, or unset it",
        ),
        Refusal::Port => Err(error).with_context(|| cannot_listen(host, port, name)),
    }
}

fn cannot_listen(host: IpAddr, port: u16, name: &str) -> String {
    format!("cannot listen on {host}, port {port}; if another program does, stop it or choose another {name}")
}

/// Why an address cannot be listened on.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// Every address was to be listened on, and there are none but those of IPv4; nobody asked for others.
    ByDefault,
    /// The same, and HOST asks for them.
    NoIpv6,
    /// The port is taken, or is not for us; or it is no address of this machine.
    Port,
}

fn refusal(settings: &Settings, error: &io::Error) -> Refusal {
    let of_the_port = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied];
    if settings.listens_on() != Ipv6Addr::UNSPECIFIED || of_the_port.contains(&error.kind()) {
        return Refusal::Port;
    }
    if settings.host.is_none() { Refusal::ByDefault } else { Refusal::NoIpv6 }
}

/// Tells a person, on standard error.
pub(crate) fn report(problems: &[Problem]) {
    if problems.is_empty() {
        return;
    }
    let problems = &placed(problems);
    let text =
        if std::io::stderr().is_terminal() { problem::pretty(problems) } else { problem::plain(problems) };
    say::complain(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ipv6_the_other_addresses_are_listened_on_unless_host_says_otherwise() {
        let missing = io::ErrorKind::AddrNotAvailable;
        for (host, kind, expected) in [
            (None, missing, Refusal::ByDefault),
            (None, io::ErrorKind::Unsupported, Refusal::ByDefault),
            (None, io::ErrorKind::AddrInUse, Refusal::Port),
            (None, io::ErrorKind::PermissionDenied, Refusal::Port),
            (Some("::"), missing, Refusal::NoIpv6),
            (Some("::"), io::ErrorKind::AddrInUse, Refusal::Port),
            (Some("0.0.0.0"), missing, Refusal::Port),
        ] {
            let fly = [("FLY_MACHINE_ID", "0123456789abcd"), ("FLY_APP_NAME", "phone")];
            let environment = fly.into_iter().chain(host.map(|host| ("HOST", host)));
            let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let settings = Settings::read(&Sources { file: None, environment }).unwrap();
            assert_eq!(refusal(&settings, &kind.into()), expected, "{host:?} {kind}");
        }
    }
}
