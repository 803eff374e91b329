//! The commands: what a person types, and what they read when something is missing.
//!
//! Exit codes: 0 fine, warnings included; 1 problems; 2 wrong usage.
// They panic if nobody reads: see `terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub(crate) mod numbers;
mod owner;
mod secrets;
mod serve;
mod tunnel;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Parser, Subcommand};

use crate::doctor;
use crate::observe;
use crate::process;
use crate::rehearse::{self, Rehearse};
use crate::serve::{LAST_THREADS, signalled};
use crate::terminal::{Failure, notify, report};
use crate::workspace::Workspace;

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
    /// Print the secrets in .env for `fly secrets import`
    Secrets(secrets::Options),
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
            notify(&format!("error: the program cannot start its threads: {error}"));
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
        notify(&warning);
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
            Command::Secrets(options) => secrets::run(&options),
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
            notify(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => {
            notify(&format!("error: {message}"));
            ExitCode::from(2)
        }
        Err(Failure::Reported) => ExitCode::FAILURE,
    }
}

async fn rehearse_command(arguments: RehearseArguments) -> Result<(), Failure> {
    let RehearseArguments { assistant, to, from, caller, out, live } = arguments;
    let workspace = Workspace::open()?;
    // The conversation is the output, so the server logs only warnings.
    let filter = workspace.environment.get("RUST_LOG").filter(|filter| !filter.is_empty());
    let filter = filter.map_or("warn", String::as_str);
    observe::init(filter, Some(false)).map_err(|error| anyhow!("RUST_LOG cannot be read: {error}"))?;
    let stop = signalled(false)?;
    let options = Rehearse { assistant, to, from, caller, out, live };
    rehearse::run(&options, workspace, stop, &mut rehearse::Screen::standard()).await
}
