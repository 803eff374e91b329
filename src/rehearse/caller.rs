//! The simulated caller: what they say, when they say it, and when they hang up.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::assistant::plan::First;
use switchboard_audio::{BYTES_PER_MS, Clip, decode};
use switchboard_simulator::caller::Control;

/// They fit any assistant. Made by `speech/make.sh` from `speech/lines.txt`.
const LINES: [(&str, &[u8]); 3] = [
    ("Hello, what can you do for me?", include_bytes!("speech/question.wav")),
    ("Sorry, let me interrupt you, can you hear me?", include_bytes!("speech/interruption.wav")),
    ("No, that is all, thank you, goodbye.", include_bytes!("speech/goodbye.wav")),
];

/// How long the caller listens to the first answer before interrupting it.
const LISTENS: Duration = Duration::from_millis(4_500);
/// After a pause of this length it is the caller's turn.
const PAUSE: Duration = Duration::from_millis(800);
/// A caller who gets no greeting, or no answer, speaks after this time.
const GREETING: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// The caller hangs up after this much quiet.
const GOODBYE: Duration = Duration::from_secs(5);
/// The same after a recording, and how long its last words may stay without an answer.
const AFTER_FILE: Duration = Duration::from_secs(3);
const UNANSWERED: Duration = Duration::from_secs(8);

/// The energy above which a window of 20 ms counts as voice.
const LOUD: f64 = 250.0;
const WINDOW_MS: usize = 20;

/// Everything the caller says.
#[derive(Debug, Clone)]
pub(super) enum CallerSpeech {
    /// Clips: a question, an interruption, perhaps a message, a goodbye.
    Demo(Vec<Clip>),
    /// One recording, played from beginning to end.
    File(Clip),
}

impl CallerSpeech {
    /// The built-in clips, with the one of a `message` before the goodbye.
    pub fn demo(message: Option<&[u8]>) -> anyhow::Result<Self> {
        let [question, interruption, goodbye] = LINES.map(|(_, wav)| wav);
        let clips = [Some(question), Some(interruption), message, Some(goodbye)].into_iter().flatten();
        let clips = clips.map(Clip::from_wav).collect::<Result<_, _>>();
        Ok(Self::Demo(clips.context("a built-in clip cannot be read")?))
    }

    /// # Errors
    /// When it is not a WAV recording, or contains no speech.
    pub fn file(wav: &[u8]) -> anyhow::Result<Self> {
        let clip = Clip::from_wav(wav)?;
        if voiced(&clip.ulaw).is_empty() {
            bail!("it contains nothing loud enough to be speech; record it louder");
        }
        Ok(Self::File(clip))
    }

    /// The words of the built-in clips without a message.
    pub fn words() -> [&'static str; 3] {
        LINES.map(|(words, _)| words)
    }

    /// How long the caller speaks, including pauses in a recording.
    pub fn duration(&self) -> Duration {
        match self {
            Self::Demo(clips) => clips.iter().map(Clip::duration).sum(),
            Self::File(clip) => clip.duration(),
        }
    }

    /// The clips in order.
    pub fn clips(&self) -> impl Iterator<Item = &Bytes> {
        let clips = match self {
            Self::Demo(clips) => clips.as_slice(),
            Self::File(clip) => std::slice::from_ref(clip),
        };
        clips.iter().map(|clip| &clip.ulaw)
    }

    /// Speaks on an open stream, then hangs up unless the assistant has ended the call.
    pub async fn speak(self, phone: Control, first: First) {
        let heard_out = match first {
            First::Assistant => timeout(GREETING, phone.wait_until_quiet(PAUSE)).await.unwrap_or(true),
            First::Caller => {
                sleep(PAUSE).await;
                true
            }
        };
        if heard_out {
            match self {
                Self::Demo(clips) => converse(&phone, clips).await,
                Self::File(clip) => recite(&phone, clip.ulaw).await,
            }
        }
        phone.hang_up();
    }
}

async fn converse(phone: &Control, clips: Vec<Clip>) {
    let mut clips = clips.into_iter().map(|clip| clip.ulaw);
    phone.say(clips.next().unwrap_or_default());
    let long_enough = async {
        tokio::select! {
            alive = phone.wait_until_playing_for(LISTENS) => alive,
            // The answer was too short to interrupt.
            alive = phone.wait_for_reply(PAUSE) => alive,
        }
    };
    if !timeout(ANSWER, long_enough).await.unwrap_or(true) {
        return;
    }
    while let Some(clip) = clips.next() {
        phone.say(clip);
        if clips.len() > 0 && !timeout(ANSWER, phone.wait_for_reply(PAUSE)).await.unwrap_or(true) {
            return;
        }
    }
    // If the assistant does not end the call, the caller does.
    let _ = timeout(ANSWER, phone.wait_for_reply(GOODBYE)).await;
}

async fn recite(phone: &Control, clip: Bytes) {
    let last_word = voiced(&clip).last().map_or(0, |(_, end)| *end);
    let (until_word, whole) =
        (Duration::from_millis(last_word as u64), switchboard_audio::duration(clip.len()));
    phone.say(clip);
    let mut playing = phone.playing();
    sleep(until_word).await;
    let runs = playing.borrow().runs;
    sleep(whole.saturating_sub(until_word)).await;
    let answer = timeout(UNANSWERED, playing.wait_for(|playing| playing.runs > runs)).await;
    if answer.is_ok_and(|answer| answer.is_ok()) {
        phone.wait_for_silence(AFTER_FILE).await;
    }
}

/// The spans of a clip that contain a voice: start and end in milliseconds, adjacent windows joined.
pub(super) fn voiced(ulaw: &[u8]) -> Vec<(usize, usize)> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for (at, window) in ulaw.chunks(WINDOW_MS * BYTES_PER_MS).enumerate() {
        let energy: f64 = window.iter().map(|byte| f64::from(decode(*byte)).powi(2)).sum();
        if (energy / window.len() as f64).sqrt() < LOUD {
            continue;
        }
        let (start, end) = (at * WINDOW_MS, at * WINDOW_MS + window.len() / BYTES_PER_MS);
        match spans.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => spans.push((start, end)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;
    use switchboard_audio::{SILENCE, encode};

    #[test]
    fn every_line_has_a_clip_without_a_long_pause() {
        let lines: Vec<&str> = include_str!("speech/lines.txt")
            .lines()
            .filter_map(|line| Some(line.split_once('|')?.1))
            .collect();
        let [question, interruption, goodbye] = CallerSpeech::words();
        let [message, order] = message::lines();
        assert_eq!(lines, [question, interruption, message, order, goodbye]);
        let clips = LINES.map(|(_, wav)| wav).into_iter().chain(message::clips());
        for clip in clips {
            let clip = &Clip::from_wav(clip).unwrap().ulaw;
            let spans = voiced(clip);
            let pauses = spans.windows(2).map(|pair| pair[1].0 - pair[0].1);
            assert!(pauses.max().unwrap_or(0) <= 300, "a turn would end within {spans:?}");
        }
    }

    #[test]
    fn the_spans_with_a_voice_are_found() {
        let tone = |ms: usize| (0..ms * 8).map(|i| encode(if i % 8 < 4 { 4_000 } else { -4_000 }));
        let mut clip = vec![SILENCE; 100 * 8];
        clip.extend(tone(60));
        clip.extend(vec![SILENCE; 40 * 8]);
        clip.extend(tone(15));
        assert_eq!(voiced(&clip), [(100, 160), (200, 215)]);
        assert!(CallerSpeech::file(&switchboard_audio::stereo_wav(&[0; 800], &[0; 800])).is_err());
    }
}
