//! The output of a rehearsal: lines, and on a terminal a progress line below them.

use std::io::{self, IsTerminal, Write};

use super::conversation::{Turn, Voice};

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

/// The lines of a completed turn. How fast a simulated model answers is its script, so only a live call shows it.
pub(super) fn turn(turn: &Turn, live: bool) -> Vec<String> {
    let lasted = seconds(turn.end_ms.saturating_sub(turn.start_ms));
    match &turn.voice {
        Voice::Caller { transcribed } => {
            let text = match (&turn.text, transcribed) {
                (Some(text), _) => text.as_str(),
                (None, true) => "(words unknown)",
                (None, false) => "(the assistant's file turns transcription off)",
            };
            vec![row(turn.start_ms, "caller", &format!("{text}  [{lasted}]"))]
        }
        Voice::Assistant { sent_ms, heard_ms, interrupted, latency_ms, first_word_ms } => {
            let text = turn.text.as_deref().unwrap_or("(words unknown)");
            let mut facts = Vec::new();
            if live {
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
                && let Some(text) = &turn.text
            {
                let (heard, lost) = split_heard(text, *heard_ms, *sent_ms);
                lines.push(detail("heard", heard));
                lines.push(detail("not heard", lost));
            }
            lines
        }
    }
}

fn detail(what: &str, text: &str) -> String {
    let text = if text.is_empty() { "(nothing)".to_owned() } else { format!("“{text}”") };
    format!("{:19}  {:<10} {text}", "", format!("{what}:"))
}

/// `2.1 s`
pub(super) fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}

/// Splits a text at the words heard in the first `heard` of `sent` milliseconds. A word that was cut was not heard.
fn split_heard(text: &str, heard: u64, sent: u64) -> (&str, &str) {
    if heard >= sent {
        return (text, "");
    }
    let characters = text.chars().count() as u64 * heard / sent;
    let cut = text.char_indices().nth(characters as usize).map_or(text.len(), |(at, _)| at);
    let whole = match text[cut..].starts_with(char::is_whitespace) {
        true => cut,
        false => text[..cut].rfind(char::is_whitespace).unwrap_or(0),
    };
    (text[..whole].trim(), text[whole..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_split_at_what_was_heard() {
        for (heard, expected) in [
            (0, ("", "One two three.")),
            (100, ("", "One two three.")),
            (215, ("One", "two three.")),
            (500, ("One two", "three.")),
            (999, ("One two", "three.")),
            (1_000, ("One two three.", "")),
        ] {
            assert_eq!(split_heard("One two three.", heard, 1_000), expected, "{heard} ms");
        }
        assert_eq!(split_heard("Grüß Gott", 500, 900), ("Grüß", "Gott"));
    }

    #[test]
    fn an_interrupted_turn_shows_what_was_heard() {
        let spoken = Turn {
            start_ms: 65_030,
            end_ms: 66_030,
            text: Some("We are open all day.".to_owned()),
            voice: Voice::Assistant {
                sent_ms: 2_000,
                heard_ms: 1_000,
                interrupted: true,
                latency_ms: Some(512),
                first_word_ms: None,
            },
        };
        insta::assert_snapshot!(turn(&spoken, true).join("\n"), @r"
        1:05.030  assistant  We are open all day.  [answered after 512 ms, interrupted: 1.0 s of 2.0 s heard]
                             heard:     “We are”
                             not heard: “open all day.”
        ");
        assert!(!turn(&spoken, false)[0].contains("512"), "a simulated model's speed is not a result");
    }
}
