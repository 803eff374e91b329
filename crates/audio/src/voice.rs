//! Whether a short sound is a voice: its vocal folds repeat themselves, 70 to 400 times a second. A cough, a knock and
//! the noise of a room do not.

use super::decode;

/// One window: 32 ms, which has at least two periods of the lowest voice.
const WINDOW: usize = 256;
/// From one window to the next: 10 ms.
const STEP: usize = 80;
/// The periods of 400 and 70 Hz, in samples.
const SHORTEST: usize = 20;
const LONGEST: usize = 114;
/// How alike a voice is to itself one period later, at least.
const ALIKE: f32 = 0.6;
/// What is softer is no voice: about -46 dBFS.
const FAINTEST: f32 = 160.0 * 160.0;

/// For how many milliseconds of this μ-law audio somebody uses their voice.
pub fn voiced_ms(ulaw: &[u8]) -> u32 {
    let samples = ulaw.iter().map(|byte| f32::from(decode(*byte)));
    // Without the lowest frequencies: rumbling repeats itself, too.
    let samples: Vec<f32> =
        samples.scan(0.0, |last, sample| Some(sample - 0.5 * std::mem::replace(last, sample))).collect();
    let last = samples.len().saturating_sub(WINDOW + LONGEST);
    let voiced = (0..last).step_by(STEP).filter(|from| is_voiced(&samples[*from..*from + WINDOW + LONGEST]));
    voiced.count() as u32 * (STEP / 8) as u32
}

/// The normalised autocorrelation of a window with what follows it, at its best period.
fn is_voiced(samples: &[f32]) -> bool {
    let mean = samples.iter().sum::<f32>() / samples.len() as f32;
    let power = |part: &[f32]| part.iter().map(|sample| (sample - mean).powi(2)).sum::<f32>();
    let first = &samples[..WINDOW];
    let own = power(first);
    if own < FAINTEST * WINDOW as f32 {
        return false;
    }
    (SHORTEST..=LONGEST).any(|lag| {
        let later = &samples[lag..lag + WINDOW];
        let product: f32 = first.iter().zip(later).map(|(a, b)| (a - mean) * (b - mean)).sum();
        product > ALIKE * (own * power(later)).sqrt()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    fn sound(ms: usize, at: impl FnMut(usize) -> f32) -> Vec<u8> {
        (0..ms * 8).map(at).map(|sample| encode(sample as i16)).collect()
    }

    /// Noise without a period, always the same.
    fn noise() -> impl FnMut() -> f32 {
        let mut state = 1_u32;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 32_768.0 - 1.0
        }
    }

    #[test]
    fn a_voice_repeats_itself() {
        for pitch in [80.0, 120.0, 220.0, 380.0] {
            // Pulses of the vocal folds.
            let voice = sound(300, |n| {
                let phase = (n as f32 * pitch / 8_000.0).fract();
                6_000.0 * (1.0 - phase).powi(3) - 1_500.0
            });
            assert!(voiced_ms(&voice) >= 200, "{pitch} Hz: {}", voiced_ms(&voice));
        }
    }

    #[test]
    fn a_cough_a_knock_and_silence_do_not() {
        let mut random = noise();
        let cough = sound(350, |n| 9_000.0 * random() * (-(n as f32) / 900.0).exp());
        let mut random = noise();
        let hiss = sound(500, |_| 800.0 * random());
        let knock = sound(300, |n| if n % 1_500 < 30 { 12_000.0 } else { 0.0 });
        for quiet in [cough, hiss, knock, sound(500, |_| 0.0), Vec::new()] {
            assert!(voiced_ms(&quiet) <= 30, "{}", voiced_ms(&quiet));
        }
    }
}
