//! Detects where speech begins and ends in the caller's audio, by its energy in windows of 20 ms.
//!
//! Its clock is the amount of audio written, not the wall clock.

use super::config::Detection;
use super::format::{Format, decode_alaw};
use switchboard_audio as audio;

/// One PCM byte at 24 kHz is one unit; a byte of mu-law or A-law is six.
const UNITS_PER_MS: u64 = 48;
const WINDOW_MS: u64 = 20;
/// Two loud windows in a row are speech; one is a click.
const ONSET_WINDOWS: u64 = 2;

/// What the detector found, in audio time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Started { audio_start_ms: u64 },
    Stopped { audio_end_ms: u64, speech_ms: u64 },
}

/// The input buffer as a clock and a detector; no audio is kept.
#[derive(Debug, Default)]
pub(super) struct Vad {
    clock: u64,
    /// The clock when the buffer was last emptied.
    emptied: u64,
    half: Option<u8>,
    energy: f64,
    samples: u32,
    filled: u64,
    loud: u64,
    quiet_ms: u64,
    speaking_since: Option<u64>,
}

impl Vad {
    /// Processes audio; without `detection` only the clock advances.
    pub fn listen(
        &mut self,
        bytes: &[u8],
        format: Format,
        detection: Option<&Detection>,
        heard: &mut Vec<Heard>,
    ) {
        let per_byte = UNITS_PER_MS / format.bytes_per_ms();
        for &byte in bytes {
            self.clock += per_byte;
            self.filled += per_byte;
            let sample = match format {
                Format::Mulaw => Some(audio::decode(byte)),
                Format::Alaw => Some(decode_alaw(byte)),
                Format::Pcm => self.half.take().map_or_else(
                    || {
                        self.half = Some(byte);
                        None
                    },
                    |low| Some(i16::from_le_bytes([low, byte])),
                ),
            };
            if let Some(sample) = sample {
                self.energy += f64::from(sample) * f64::from(sample);
                self.samples += 1;
            }
            if self.filled >= WINDOW_MS * UNITS_PER_MS {
                self.window(detection, heard);
            }
        }
    }

    /// Milliseconds written to the buffer since the session began.
    pub fn clock_ms(&self) -> u64 {
        self.clock / UNITS_PER_MS
    }

    /// Milliseconds in the buffer since it was last committed or cleared.
    pub fn buffered_ms(&self) -> f64 {
        (self.clock - self.emptied) as f64 / UNITS_PER_MS as f64
    }

    /// Empties the buffer and forgets speech in progress.
    pub fn empty(&mut self) {
        self.emptied = self.clock;
        self.speaking_since = None;
        self.loud = 0;
    }

    /// How long the speech in progress has lasted.
    pub fn speaking_ms(&self) -> Option<u64> {
        self.speaking_since.map(|since| self.clock_ms().saturating_sub(since))
    }

    pub fn is_speaking(&self) -> bool {
        self.speaking_since.is_some()
    }

    fn window(&mut self, detection: Option<&Detection>, heard: &mut Vec<Heard>) {
        let rms = (self.energy / f64::from(self.samples.max(1))).sqrt();
        (self.energy, self.samples, self.filled) = (0.0, 0, 0);
        let Some(detection) = detection else {
            self.speaking_since = None;
            self.loud = 0;
            return;
        };
        let is_loud = rms > detection.level;
        let now = self.clock_ms();
        match self.speaking_since {
            None if is_loud => {
                self.loud += 1;
                if self.loud >= ONSET_WINDOWS {
                    let onset = now.saturating_sub(self.loud * WINDOW_MS);
                    self.speaking_since = Some(onset);
                    self.quiet_ms = 0;
                    heard.push(Heard::Started { audio_start_ms: onset.saturating_sub(detection.prefix_ms) });
                }
            }
            None => self.loud = 0,
            Some(_) if is_loud => self.quiet_ms = 0,
            Some(since) => {
                self.quiet_ms += WINDOW_MS;
                if self.quiet_ms >= detection.silence_ms {
                    self.empty();
                    heard.push(Heard::Stopped { audio_end_ms: now, speech_ms: now - since });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_audio::{SILENCE, encode};

    fn detection() -> Detection {
        Detection {
            level: 327.68,
            prefix_ms: 300,
            silence_ms: 500,
            idle_ms: None,
            creates: true,
            interrupts: true,
        }
    }

    fn tone(ms: usize, amplitude: f64) -> Vec<u8> {
        (0..ms * 8).map(|i| encode((amplitude * (i as f64 * 0.7).sin()) as i16)).collect()
    }

    #[test]
    fn speech_starts_at_its_onset_and_stops_after_the_silence() {
        let mut heard = Vec::new();
        let mut vad = Vad::default();
        let mut audio = vec![SILENCE; 1_000 * 8];
        audio.extend(tone(600, 3_000.0));
        audio.extend(vec![SILENCE; 700 * 8]);
        for frame in audio.chunks(160) {
            vad.listen(frame, Format::Mulaw, Some(&detection()), &mut heard);
        }
        let expected = [
            Heard::Started { audio_start_ms: 700 },
            Heard::Stopped { audio_end_ms: 2_100, speech_ms: 1_100 },
        ];
        assert_eq!(heard, expected);
        assert_eq!(vad.clock_ms(), 2_300);
    }

    #[test]
    fn line_noise_and_a_click_are_not_speech() {
        let mut heard = Vec::new();
        let mut vad = Vad::default();
        for ms_and_level in [(500, 150.0), (20, 8_000.0), (500, 0.0)] {
            let audio = tone(ms_and_level.0, ms_and_level.1);
            vad.listen(&audio, Format::Mulaw, Some(&detection()), &mut heard);
        }
        assert_eq!(heard, []);
    }
}
