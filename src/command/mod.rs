//! The commands and their arguments.
//!
//! Exit codes: 0 success, also with warnings; 1 errors; 2 wrong usage.
// These macros panic on a closed pipe: see `terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod archive;
mod calls;
mod messages;
pub(crate) mod numbers;
mod owner;
mod secrets;
mod serve;
mod sounds;
mod tunnel;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::assistant::CallTime;
use crate::doctor;
use crate::observe;
use crate::phone::{Party, PhoneNumber};
use crate::problem::Problem;
use crate::process;
use crate::rehearse::{self, Rehearse};
use crate::serve::{Hangup, LAST_THREADS, signalled};
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
    /// Check the folder of assistants and list every problem
    Check {
        /// The folder; by default ASSISTANTS_DIR, or `assistants`
        dir: Option<PathBuf>,
        /// How to print the problems
        #[arg(long, value_enum, default_value = "text")]
        format: owner::Format,
    },
    /// Show an assistant: its instructions and the session configuration that the model gets
    Show {
        /// The assistant's name: the file name without `.yaml`
        assistant: String,
        /// The caller's number, or `anonymous`
        #[arg(long, value_name = "NUMBER", value_parser = calling)]
        from: Option<Party>,
        /// The time of the call: 18:30, 2026-12-24T18:30, or with an offset 2026-12-24T18:30:00Z
        #[arg(long, value_name = "TIME")]
        at: Option<CallTime>,
    },
    /// Show which assistant answers a number
    Who {
        /// The called number, such as +1555…
        #[arg(value_parser = number)]
        number: PhoneNumber,
    },
    /// Create an assistant from a starter file
    New {
        /// The assistant's name
        name: String,
    },
    /// Print the JSON Schema of an assistant file, for editors
    Schema,
    /// List your Twilio numbers, or point them at this server
    Numbers {
        #[command(subcommand)]
        what: numbers::Numbers,
    },
    /// List, show, explain, export or erase the records of calls
    Calls {
        #[command(subcommand)]
        what: calls::Calls,
    },
    /// List, show or retry what is on its way to you: messages, notifications, forms and alerts
    Messages {
        #[command(subcommand)]
        what: messages::Messages,
    },
    /// Print the secrets in .env for `fly secrets import`
    Secrets(secrets::Options),
    /// List the prepared lines of the assistants, or have the model say the missing ones
    Sounds(sounds::Options),
    /// Try a call here with a simulated phone and model, and save the recording
    Rehearse(RehearseArguments),
    /// Check everything between a ringing phone and an assistant, and explain what to fix
    Doctor(doctor::Options),
}

/// What a phone number looks like.
const EXAMPLE: &str = "+15550100001";

#[derive(Debug, clap::Args)]
struct RehearseArguments {
    /// The assistant's name; by default the first
    assistant: Option<String>,
    /// The number to call; the assistant that has it answers
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    to: Option<PhoneNumber>,
    /// The caller's number, or `anonymous`
    #[arg(long, value_name = "NUMBER", value_parser = calling)]
    from: Option<Party>,
    /// The time of the call: 18:30, 2026-12-24T18:30, or with an offset 2026-12-24T18:30:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<CallTime>,
    /// What the caller says: a WAV file of 8 to 48 kHz, mono or stereo
    #[arg(long, value_name = "FILE.wav")]
    caller: Option<PathBuf>,
    /// Where to save call.wav and call.json
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
            notify(&format!("error: cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // These start other programs, which must not read the secrets in this process.
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
            Command::Show { assistant, from, at } => owner::show(&assistant, from, at).await,
            Command::Who { number } => owner::who(&number),
            Command::New { name } => owner::new(&name),
            Command::Schema => owner::schema(),
            Command::Numbers { what } => numbers::numbers(what).await,
            Command::Calls { what } => calls::calls(what).await,
            Command::Messages { what } => messages::messages(what).await,
            Command::Secrets(options) => secrets::run(&options),
            Command::Sounds(options) => sounds::run(options).await,
            Command::Rehearse(arguments) => rehearse_command(arguments).await,
            Command::Doctor(options) => doctor::run(&options).await,
        }
    });
    // Dropping the runtime would wait without limit for blocking work.
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

fn number(text: &str) -> Result<PhoneNumber, String> {
    PhoneNumber::parse(text.trim()).map_err(|why| format!("{why}, as in {EXAMPLE}"))
}

fn calling(text: &str) -> Result<Party, String> {
    Party::calling(text).map_err(|why| format!("{why}, as in {EXAMPLE}"))
}

async fn rehearse_command(arguments: RehearseArguments) -> Result<(), Failure> {
    let RehearseArguments { assistant, to, from, at, caller, out, live } = arguments;
    let workspace = Workspace::open()?;
    // The conversation is the output, so the server logs only warnings.
    const DEFAULT: &str = "warn";
    let filter = workspace.environment.get("RUST_LOG").filter(|filter| !filter.is_empty());
    let filter = filter.map_or(DEFAULT, String::as_str);
    if let Err(what) = observe::filter(filter) {
        report(&[Problem::setting("RUST_LOG", what)]);
    }
    observe::init(filter, DEFAULT, Some(false));
    let stop = signalled(Hangup::Kills)?;
    let options = Rehearse { assistant, to, from, at, caller, out, live };
    rehearse::run(&options, workspace, stop, &mut rehearse::Screen::standard()).await
}
