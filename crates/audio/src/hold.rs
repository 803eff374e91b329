//! The hold tone: what a caller hears while nobody can speak.
//!
//! Two soft notes swell and fade slowly and never stop, so that the line does not seem dead. No telephone signal sounds
//! like it: those are steady or broken off, and have other pitches.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use super::{Chunk, RATE, encode};

/// One swell. Both notes have whole periods in it, so it repeats without a seam.
const PERIOD: usize = 2 * RATE as usize;
/// A major third that every telephone carries.
const NOTES: [f64; 2] = [528.0, 660.0];
/// The level of both notes together at the height of a swell, and between two swells: -30 and -40 dB of full scale.
const LOUD: f64 = 0.0316;
const SOFT: f64 = 0.01;

static SWELL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sample = |at: usize| {
        let seconds = at as f64 / f64::from(RATE);
        let height = 0.5 - 0.5 * (TAU * at as f64 / PERIOD as f64).cos();
        // A sine's level is its height divided by the root of two, and two different ones add up by their squares.
        let level = SOFT + (LOUD - SOFT) * height;
        let sum: f64 = NOTES.iter().map(|hertz| (TAU * hertz * seconds).sin()).sum();
        encode((level * sum * 32_768.0) as i16)
    };
    (0..PERIOD).map(sample).collect()
});

/// A piece of the hold tone, which has no end: `bytes` of it, after those before `from`. It begins softly.
pub fn hold(from: u64, bytes: usize) -> Chunk {
    let start = (from % PERIOD as u64) as usize;
    let ulaw: Vec<u8> = SWELL.iter().copied().cycle().skip(start).take(bytes).collect();
    Chunk::from_ulaw(&ulaw)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::decode;

    fn ulaw(from: u64, bytes: usize) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(hold(from, bytes).as_str()).unwrap()
    }

    /// Decibels of full scale.
    fn level(ulaw: &[u8]) -> f64 {
        let squares: f64 = ulaw.iter().map(|byte| f64::from(decode(*byte)).powi(2)).sum();
        10.0 * (squares / ulaw.len() as f64 / 32_768_f64.powi(2)).log10()
    }

    #[test]
    fn the_tone_is_soft_and_never_stops() {
        let second = ulaw(0, 6 * PERIOD);
        let levels: Vec<f64> = second.chunks(400).map(level).collect();
        let (most, least) = levels
            .iter()
            .fold((f64::MIN, f64::MAX), |(most, least), level| (most.max(*level), least.min(*level)));
        assert!((-31.0..-29.0).contains(&most), "{most}");
        assert!((-42.0..-38.0).contains(&least), "{least}");
    }

    #[test]
    fn pieces_follow_each_other_without_a_seam() {
        let whole = ulaw(0, 3 * PERIOD);
        let mut pieces = Vec::new();
        while pieces.len() < whole.len() {
            let from = pieces.len();
            pieces.extend(ulaw(from as u64, 1_237.min(whole.len() - from)));
        }
        assert_eq!(pieces, whole);
        // No step is larger than within a swell, also where one follows another.
        let step = |pair: &[u8]| (i32::from(decode(pair[0])) - i32::from(decode(pair[1]))).abs();
        let within = whole[..PERIOD].windows(2).map(step).max();
        assert!(whole.windows(2).map(step).max() <= within);
        assert!(step(&whole[PERIOD - 1..=PERIOD]) < 300);
        assert_eq!(hold(u64::MAX, 8).bytes(), 8);
    }
}
