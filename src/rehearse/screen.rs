//! The output of a rehearsal: lines, and on a terminal a progress line below them.

use std::io::{self, IsTerminal, Write};

/// Standard output.
pub struct Screen {
    out: io::Stdout,
    /// Whether the last line can be overwritten.
    terminal: bool,
    progress: String,
}

impl Screen {
    pub fn standard() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { out: io::stdout(), terminal, progress: String::new() }
    }

    pub fn line(&mut self, text: &str) {
        self.wipe();
        // If the pipe is closed, the call and its files still complete.
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// Replaces the progress line. Without a terminal, it writes nothing.
    pub fn progress(&mut self, text: &str) {
        if self.terminal && self.progress != text {
            let _ = write!(self.out, "\r{text}\x1b[K");
            let _ = self.out.flush();
            text.clone_into(&mut self.progress);
        }
    }

    /// Removes the progress line.
    pub fn wipe(&mut self) {
        if !self.progress.is_empty() {
            self.progress.clear();
            let _ = write!(self.out, "\r\x1b[K");
            let _ = self.out.flush();
        }
    }
}
