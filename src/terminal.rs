//! How a command ends, and what it prints: its answer on standard output, everything else on standard error.
//!
//! The reader may go away, as `head` does. That ends no command: it finishes what it began at Twilio or on the disk, and
//! the exit code tells how that went.

use std::io::{self, IsTerminal as _, Write};

use anyhow::anyhow;
use clap::ValueEnum;
use serde::Serialize;

use crate::problem::{self, Problem};
use crate::workspace::NoRoster;

/// Why a command ends with exit code 1.
#[derive(Debug)]
pub enum Failure {
    Problems(Vec<Problem>),
    Error(anyhow::Error),
    /// The command line is wrong: the exit code is 2.
    Usage(String),
    /// It is already printed.
    Reported,
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

impl From<NoRoster> for Failure {
    fn from(why: NoRoster) -> Self {
        match why {
            NoRoster::Wrong(problems) => Self::Problems(problems),
            NoRoster::Fetch(_) | NoRoster::Setup(_) => Self::Error(why.into()),
        }
    }
}

/// The output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// A value as indented JSON. Ours can always be written.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Prints an answer on standard output, with a line end.
///
/// # Errors
/// It cannot be written, for example to a full disk. A reader that went away is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    match write(io::stdout().lock(), text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow!("cannot write to standard output: {error}").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints on standard error, with a line end. Errors are ignored: there is nowhere else to report them.
pub fn notify(text: &str) {
    let _ = write(io::stderr().lock(), text);
}

/// Prints problems on standard error, with pointers drawn if it is a terminal.
pub fn report(problems: &[Problem]) {
    if !problems.is_empty() {
        let draw = if io::stderr().is_terminal() { problem::pretty } else { problem::plain };
        notify(&draw(problems));
    }
}

fn write(mut to: impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}
