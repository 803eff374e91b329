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
mod serve;
mod tunnel;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};

use crate::assistant::{Checked, Roster};
use crate::doctor;
use crate::link::tls;
use crate::observe;
use crate::problem::{self, Problem};
use crate::process;
use crate::provider::Provider;
use crate::rehearse::{self, Rehearse};
use crate::reload::fetch::Remote;
use crate::reload::{self, read::read_folder};
use crate::secret::Secret;
use crate::serve::{LAST_THREADS, signalled};
use crate::settings::{Settings, Sources, env_file};
use crate::yaml::SourceFile;
pub(crate) use environment::{odd_lines, placed};

/// The settings' file, where there is one.
const FILE: &str = "switchboard.yaml";
/// What adds to the environment, where there is one.
pub(crate) const ENV_FILE: &str = ".env";

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
    Serve(serve::Arguments),
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
            Command::Serve(arguments) => serve::run(arguments).await,
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
    runtime.shutdown_timeout(LAST_THREADS);
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

async fn rehearse_command(arguments: RehearseArguments) -> Result<(), Failure> {
    let RehearseArguments { assistant, to, from, caller, out, live } = arguments;
    let sources = Sources { file: settings_file()?, environment: environment()? };
    // The conversation is the output: the server speaks up only where something is odd.
    let filter = sources.environment.get("RUST_LOG").filter(|filter| !filter.is_empty());
    let filter = filter.map_or("warn", String::as_str);
    observe::init(filter, Some(false)).map_err(|error| anyhow!("RUST_LOG cannot be read: {error}"))?;
    let stop = signalled(false)?;
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
    let tls = tls::client_config(url.starts_with("https:"), settings.ssl_cert_file.as_deref())?;
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
