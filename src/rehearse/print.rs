//! The output of a rehearsal: lines, and on a terminal a progress line below them.

use std::io::{self, IsTerminal, Write};

use crate::record::{Turn, Voice};

/// An unheard end shorter than this, in milliseconds, is not reported.
const UNHEARD: u64 = 100;

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

/// `m:ss.mmm`
pub(super) fn clock(ms: u64) -> String {
    format!("{}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}

/// One line of the conversation.
pub(super) fn row(ms: u64, who: &str, text: &str) -> String {
    format!("{}  {who:<9}  {text}", clock(ms))
}

/// How turns are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// What stands in place of a caller's words that are not there.
    pub no_words: &'a str,
    /// Whether to print how long answers took.
    pub latencies: bool,
}

/// The lines of a completed turn. `first_word_ms` is given for the first turn of a call.
pub(super) fn turn(turn: &Turn, first_word_ms: Option<u64>, manner: Manner<'_>) -> Vec<String> {
    let lasted = seconds(turn.end_ms.saturating_sub(turn.start_ms));
    let Voice::Assistant { heard_text, sent_ms, heard_ms, interrupted, latency_ms } = &turn.voice else {
        let text = turn.text.as_deref().unwrap_or(manner.no_words);
        return vec![row(turn.start_ms, "caller", &format!("{text}  [{lasted}]"))];
    };
    let text = turn.text.as_deref().unwrap_or("(words unknown)");
    let mut facts = Vec::new();
    if manner.latencies {
        facts.extend(first_word_ms.map(|ms| format!("first word after {ms} ms")));
        facts.extend(latency_ms.map(|ms| format!("answered after {ms} ms")));
    }
    let part = format!("{} of {} heard", seconds(*heard_ms), seconds(*sent_ms));
    let ends_early = heard_ms + UNHEARD < *sent_ms;
    facts.push(match (interrupted, ends_early) {
        (true, _) => format!("interrupted: {part}"),
        (false, true) => format!("cut off by the end of the call: {part}"),
        (false, false) => lasted,
    });
    let mut lines = vec![row(turn.start_ms, "assistant", &format!("{text}  [{}]", facts.join(", ")))];
    if (*interrupted || ends_early)
        && let Some(heard) = heard_text
    {
        lines.push(detail("heard", heard));
        lines.push(detail("not heard", text[heard.len()..].trim()));
    }
    lines
}

fn detail(what: &str, text: &str) -> String {
    let text = if text.is_empty() { "(nothing)".to_owned() } else { format!("“{text}”") };
    format!("{:19}  {:<10} {text}", "", format!("{what}:"))
}

/// `2.1 s`
pub(super) fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner(latencies: bool) -> Manner<'static> {
        Manner { no_words: "", latencies }
    }

    #[test]
    fn an_interrupted_turn_shows_what_was_heard() {
        let spoken = Turn {
            start_ms: 65_030,
            end_ms: 66_030,
            text: Some("We are open all day.".to_owned()),
            voice: Voice::Assistant {
                heard_text: Some("We are".to_owned()),
                sent_ms: 2_000,
                heard_ms: 1_000,
                interrupted: true,
                latency_ms: Some(512),
            },
        };
        insta::assert_snapshot!(turn(&spoken, None, manner(true)).join("\n"), @r"
        1:05.030  assistant  We are open all day.  [answered after 512 ms, interrupted: 1.0 s of 2.0 s heard]
                             heard:     “We are”
                             not heard: “open all day.”
        ");
        assert!(
            !turn(&spoken, None, manner(false))[0].contains("512"),
            "a simulated model's speed is not a result"
        );
    }
}
