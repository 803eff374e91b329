//! What can be heard at the caller's end of the line.

use std::f64::consts::TAU;

use bytes::Bytes;
use switchboard_audio::encode;

/// The beginning of a recorded sentence, without its longer pauses.
const SENTENCE: usize = 1_900 * 8;

/// Somebody speaks for this long. No pause is longer than 300 ms.
pub fn speech(ms: usize) -> Bytes {
    let clip = include_bytes!("../speech/heard.ulaw");
    clip[..SENTENCE].iter().copied().cycle().take(ms * 8).collect()
}

/// Music while the caller is on hold: a chord that changes every second and never pauses.
pub fn music(ms: usize) -> Bytes {
    const CHORDS: [[f64; 3]; 4] =
        [[262.0, 330.0, 392.0], [220.0, 262.0, 330.0], [175.0, 220.0, 262.0], [196.0, 247.0, 294.0]];
    let sample = |at: usize| {
        let time = at as f64 / 8_000.0;
        let tones = CHORDS[time as usize % CHORDS.len()];
        let sum: f64 = tones.iter().map(|tone| (tone * time * TAU).sin()).sum();
        encode((sum * 2_500.0) as i16)
    };
    (0..ms * 8).map(sample).collect()
}
