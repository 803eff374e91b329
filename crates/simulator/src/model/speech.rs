//! The simulated model's voice: recorded clips, a local synthesiser, or tagged audio.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::tag;
use switchboard_audio::{self as audio, BYTES_PER_MS};

/// What the spoken audio is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speech {
    /// Real words, from the recorded clips or a synthesiser on this machine.
    #[default]
    Clips,
    /// Each millisecond names its item and position ([`tag::tag`]).
    Tagged,
    /// Each delta begins with the time it was sent ([`tag::stamp`]).
    Stamped,
}

pub(super) const HELLO: &str = "Hello, how can I help you today?";
pub(super) const LONG: &str = "This is the simulated model. It follows a script and understands no words, so it \
    cannot say what your file says. The real model would answer from your instructions now. This answer is long, so \
    that the caller can interrupt it.";
pub(super) const SHORT: &str = "Yes, I can hear you. Is there anything else?";
pub(super) const THANKS: &str = "Thank you for calling. Goodbye.";
pub(super) const STILL_THERE: &str = "Are you still there?";
pub(super) const GOODBYE: &str = "Goodbye, and thank you for calling.";
pub(super) const DONE: &str = "All right, that is done.";
pub(super) const MOMENT: &str = "One moment, let me check that.";
pub(super) const REST: &str = "This is the simulated model. I have nothing more in my script.";
pub(super) const HEARD: &str =
    "This is the simulated model. I heard you speak, but I do not understand words. Please go on.";

/// Made by `speech/make.sh` from `speech/lines.txt`.
const CLIPS: &[(&str, &[u8])] = &[
    ("Hello, Example Dental, how can I help?", include_bytes!("../speech/dental.ulaw")),
    (
        "Thank you for calling Example Pizzeria. What would you like to order?",
        include_bytes!("../speech/pizzeria.ulaw"),
    ),
    (HELLO, include_bytes!("../speech/hello.ulaw")),
    (LONG, include_bytes!("../speech/long.ulaw")),
    (SHORT, include_bytes!("../speech/short.ulaw")),
    (THANKS, include_bytes!("../speech/thanks.ulaw")),
    (STILL_THERE, include_bytes!("../speech/still-there.ulaw")),
    (GOODBYE, include_bytes!("../speech/goodbye.ulaw")),
    (DONE, include_bytes!("../speech/done.ulaw")),
    (MOMENT, include_bytes!("../speech/moment.ulaw")),
    (REST, include_bytes!("../speech/rest.ulaw")),
    (HEARD, include_bytes!("../speech/heard.ulaw")),
];

const SYNTHESIS_LIMIT: Duration = Duration::from_secs(3);
/// A minute of 22,050 Hz 16-bit audio.
const SYNTHESIS_MAX_BYTES: u64 = 60 * 22_050 * 2;

/// The audio of `line` as item number `item`; `None` if it must be synthesised first.
pub(super) fn ready(speech: Speech, line: &str, item: u16) -> Option<Bytes> {
    match speech {
        Speech::Clips => {
            CLIPS.iter().find(|(text, _)| *text == line.trim()).map(|(_, clip)| Bytes::from_static(clip))
        }
        Speech::Tagged => Some((0..length_ms(line)).flat_map(|ms| tag::tag(item, ms)).collect()),
        // Neither silence nor a stamp.
        Speech::Stamped => Some(Bytes::from(vec![0xD5; length_ms(line) as usize * BYTES_PER_MS])),
    }
}

/// The audio of any line: from espeak-ng if it is installed, else a clip cut or repeated to the line's length.
/// Blocks for at most [`SYNTHESIS_LIMIT`].
pub(super) fn synthesise(line: &str) -> Bytes {
    espeak(line).map_or_else(|| stand_in(line), Bytes::from)
}

/// About 15 characters a second.
fn length_ms(line: &str) -> u32 {
    u32::try_from(line.chars().count()).map_or(60_000, |chars| (chars * 1_000 / 15).clamp(400, 60_000))
}

fn stand_in(line: &str) -> Bytes {
    let clip = ready(Speech::Clips, SHORT, 0).unwrap_or_default();
    clip.iter().copied().cycle().take(length_ms(line) as usize * BYTES_PER_MS).collect()
}

fn espeak(line: &str) -> Option<Vec<u8>> {
    let mut child = Command::new("espeak-ng")
        .args(["-v", "en-us", "-s", "165", "--stdout", "--"])
        .arg(line)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let reader = thread::spawn(move || {
        let mut wav = Vec::new();
        stdout.take(SYNTHESIS_MAX_BYTES).read_to_end(&mut wav).map(|_| wav)
    });
    let started = Instant::now();
    while !reader.is_finished() && started.elapsed() < SYNTHESIS_LIMIT {
        thread::sleep(Duration::from_millis(5));
    }
    // This also ends the reader if it is still reading.
    let _ = child.kill();
    let _ = child.wait();
    let wav = reader.join().ok()?.ok()?;
    let samples = wav.get(44..).filter(|samples| !samples.is_empty())?;
    Some(to_telephone(samples))
}

/// Converts 22,050 Hz to 8 kHz by averaging the samples that each output sample covers.
fn to_telephone(wav: &[u8]) -> Vec<u8> {
    let samples: Vec<i32> =
        wav.as_chunks::<2>().0.iter().map(|pair| i32::from(i16::from_le_bytes(*pair))).collect();
    let count = samples.len() * 8_000 / 22_050;
    (0..count)
        .map(|i| {
            let (from, to) = (i * 22_050 / 8_000, (i + 1) * 22_050 / 8_000);
            let covered = &samples[from..to.min(samples.len())];
            let sum: i32 = covered.iter().sum();
            audio::encode((sum / covered.len().max(1) as i32) as i16)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_clip() {
        let lines: Vec<&str> = include_str!("../speech/lines.txt")
            .lines()
            .filter_map(|line| Some(line.split_once('|')?.1))
            .collect();
        let clips: Vec<&str> = CLIPS.iter().map(|(text, _)| *text).collect();
        assert_eq!(lines, clips);
    }

    #[test]
    fn a_line_without_a_clip_has_audio() {
        let audio = stand_in("Something without a clip.");
        assert_eq!(audio.len() % BYTES_PER_MS, 0);
        assert!(audio.iter().any(|byte| *byte != audio::SILENCE));
    }
}
