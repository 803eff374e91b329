//! What a command says: its answer on standard output, what it complains of on standard error.
//!
//! Whoever reads may stop, as `head` does. That ends no command: what it began at Twilio or on the disk it brings to
//! its end, and the exit code says how that was.

use std::io::{self, Write};

use anyhow::anyhow;

use super::Failure;

/// Says it on standard output. A line end is added to a text that has none.
///
/// # Errors
/// When it cannot be written, such as to a disk that is full. Nobody who reads is no error.
pub fn say(text: &str) -> Result<(), Failure> {
    match write(io::stdout().lock(), text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow!("standard output cannot be written to: {error}").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says it on standard error, where there is nobody else to tell that it cannot be written. A line end is added as well.
pub fn complain(text: &str) {
    let _ = write(io::stderr().lock(), text);
}

fn write(mut to: impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}
