//! A chunk: μ-law audio on its way between phone and model, as base64 text.
//!
//! Both sides carry G.711 μ-law in base64, so a chunk is never decoded. It borrows the bytes of the incoming message and
//! is copied once, into the outgoing message.

use std::fmt;

use bytes::Bytes;

use super::{BYTES_PER_MS, decoded};

/// Valid base64 of raw μ-law bytes (8 kHz, mono: 8 bytes a millisecond).
#[derive(Clone, PartialEq, Eq)]
pub struct Chunk {
    base64: Bytes,
    bytes: u32,
}

/// Why a text is not a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChunk {
    #[error("its length is not divisible by 4")]
    Length,
    #[error("it contains a character that is not base64")]
    Alphabet,
    #[error("it is too long")]
    TooLong,
}

impl Chunk {
    /// The most base64 text in one message to the phone: 7,998 bytes, just under a second.
    pub const MAX_TO_PHONE: usize = 10_664;

    /// Checks base64 text (RFC 4648 §4, padded) without decoding it.
    pub fn from_base64(base64: Bytes) -> Result<Self, InvalidChunk> {
        if !base64.len().is_multiple_of(4) {
            return Err(InvalidChunk::Length);
        }
        if base64.len() > u32::MAX as usize {
            return Err(InvalidChunk::TooLong);
        }
        let padding = base64.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
        let text = &base64[..base64.len() - padding];
        if !is_base64(text) {
            return Err(InvalidChunk::Alphabet);
        }
        let bytes = (base64.len() / 4 * 3 - padding) as u32;
        Ok(Self { base64, bytes })
    }

    /// Encodes raw μ-law, such as a recorded greeting.
    pub fn from_ulaw(ulaw: &[u8]) -> Self {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(ulaw);
        Self { base64: base64.into(), bytes: ulaw.len() as u32 }
    }

    /// The base64 text, safe to put between quotes in JSON.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.base64).expect("a chunk holds base64, which is ASCII")
    }

    /// The number of μ-law bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Calls `take` with its μ-law bytes, in order, without allocating.
    pub fn decode(&self, mut take: impl FnMut(&[u8])) {
        use base64::Engine as _;
        use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
        // Whatever the unused bits before the padding are, it is base64.
        const LENIENT: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
        );
        // Whole groups of four, so that only the last part may be padded.
        for part in self.base64.chunks(1_024) {
            let mut ulaw = [0; 768];
            let length = LENIENT.decode_slice(part, &mut ulaw).expect("a chunk holds base64");
            take(&ulaw[..length]);
        }
    }

    /// Its μ-law bytes.
    pub fn to_ulaw(&self) -> Vec<u8> {
        let mut ulaw = Vec::with_capacity(self.bytes as usize);
        self.decode(|part| ulaw.extend_from_slice(part));
        ulaw
    }

    /// Whether it holds anything but digital silence, which is 0xFF or 0x7F in every byte. It is not decoded: each of the
    /// four characters of a group has two forms in silence.
    pub fn is_audible(&self) -> bool {
        self.base64.chunks_exact(4).any(|group| {
            !matches!(
                group,
                [b'/' | b'f', b'/' | b'3', b'/' | b'9', b'/']
                    | [b'/' | b'f', b'/' | b'3', b'8', b'=']
                    | [b'/' | b'f', b'w', b'=', b'=']
            )
        })
    }

    /// The mean power of each 20 ms, from every sixth sample. Nothing is decoded: the first character of four holds the
    /// sign, the segment and half the step of a µ-law byte, which gives the sample to within a tenth.
    pub fn powers(&self) -> impl Iterator<Item = f32> + '_ {
        self.base64.chunks(FRAME).map(|frame| {
            let samples = frame.chunks(2 * 4).map(|quads| u64::from(SQUARES[usize::from(quads[0] & 0x7F)]));
            samples.sum::<u64>() as f32 / frame.len().div_ceil(2 * 4) as f32
        })
    }

    /// Splits it into pieces of at most [`Self::MAX_TO_PHONE`] characters.
    pub fn pieces(self) -> impl Iterator<Item = Chunk> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let chunk = rest.take()?;
            if chunk.base64.len() <= Self::MAX_TO_PHONE {
                return Some(chunk);
            }
            let first = Self {
                base64: chunk.base64.slice(..Self::MAX_TO_PHONE),
                bytes: (Self::MAX_TO_PHONE / 4 * 3) as u32,
            };
            rest = Some(Self {
                base64: chunk.base64.slice(Self::MAX_TO_PHONE..),
                bytes: chunk.bytes - first.bytes,
            });
            Some(first)
        })
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes as usize;
        if bytes.is_multiple_of(BYTES_PER_MS) {
            write!(f, "{}ms", bytes / BYTES_PER_MS)
        } else {
            write!(f, "{bytes}B")
        }
    }
}

/// The characters of 20 ms, as Twilio sends them: 160 bytes and the padding.
const FRAME: usize = 216;

/// The square of the sample whose byte begins with the six bits of a character of base64.
static SQUARES: [u32; 128] = {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut squares = [0; 128];
    let mut bits = 0;
    while bits < ALPHABET.len() {
        let byte = (bits << 2) as u8;
        // The middle of the four samples that begin so.
        let sample = decoded(byte | 1).midpoint(decoded(byte | 2)) as i32;
        squares[ALPHABET[bits] as usize] = (sample * sample) as u32;
        bits += 1;
    }
    squares
};

/// Whether all bytes belong to base64's alphabet. It has no early exit and no table, so that the compiler vectorises it.
fn is_base64(text: &[u8]) -> bool {
    text.iter().fold(true, |good, byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        good & (letter | digit | (*byte == b'+') | (*byte == b'/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_without_decoding() {
        for (text, bytes) in [("", 0), ("/w==", 1), ("//8=", 2), ("////", 3), ("////////", 6)] {
            assert_eq!(Chunk::from_base64(text.into()).map(|c| c.bytes()), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn text_that_is_not_base64_is_rejected() {
        for (text, error) in [
            ("/w=", InvalidChunk::Length),
            ("ab\"}", InvalidChunk::Alphabet),
            ("a===", InvalidChunk::Alphabet),
            ("=aaa", InvalidChunk::Alphabet),
            ("aa\\/", InvalidChunk::Alphabet),
            ("aa_-", InvalidChunk::Alphabet),
        ] {
            assert_eq!(Chunk::from_base64(text.into()).err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn the_alphabet_is_that_of_base64() {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for byte in 0..=255 {
            assert_eq!(is_base64(&[b'A', byte, b'/']), ALPHABET.contains(&byte), "{byte}");
        }
    }

    #[test]
    fn a_chunk_is_decoded_in_order() {
        for length in [0, 1, 2, 3, 160, 767, 768, 769, 5_000] {
            let ulaw: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut decoded = Vec::new();
            Chunk::from_ulaw(&ulaw).decode(|part| decoded.extend_from_slice(part));
            assert_eq!(decoded, ulaw);
        }
        let mut unused_bits = Vec::new();
        Chunk::from_base64("//9=".into()).unwrap().decode(|part| unused_bits.extend_from_slice(part));
        assert_eq!(unused_bits, [0xFF, 0xFF]);
    }

    #[test]
    fn only_digital_silence_is_inaudible() {
        for length in 0..=7 {
            for pattern in 0..1 << length {
                let mut ulaw: Vec<u8> =
                    (0..length).map(|at| if pattern >> at & 1 == 0 { 0xFF } else { 0x7F }).collect();
                assert!(!Chunk::from_ulaw(&ulaw).is_audible(), "{ulaw:x?}");
                for at in 0..length {
                    for other in (0..=0xFF).filter(|byte| byte & 0x7F != 0x7F) {
                        let silent = std::mem::replace(&mut ulaw[at], other);
                        assert!(Chunk::from_ulaw(&ulaw).is_audible(), "{ulaw:x?}");
                        ulaw[at] = silent;
                    }
                }
            }
        }
    }

    #[test]
    fn the_power_of_each_frame_is_estimated_without_decoding() {
        let exact = |ulaw: &[u8]| {
            let squares = ulaw.iter().map(|byte| f32::from(crate::decode(*byte)).powi(2));
            squares.sum::<f32>() / ulaw.len() as f32
        };
        for byte in 0..=255 {
            let sample = f32::from(crate::decode(byte)).abs();
            let power = Chunk::from_ulaw(&[byte; 160]).powers().next().unwrap();
            // A step and a half of the smallest samples is 12.
            assert!((power.sqrt() - sample).abs() <= 0.1 * sample + 12.0, "{byte:#x}: {power}");
        }
        // 2½ frames of a voice of 150 Hz that fades.
        let voice = |n: u32| (f64::from(n) * 0.118).sin() * f64::from(8_000 - n * 15);
        let ulaw: Vec<u8> = (0..400).map(|n| crate::encode(voice(n) as i16)).collect();
        let powers: Vec<f32> = Chunk::from_ulaw(&ulaw).powers().collect();
        assert_eq!(powers.len(), 3);
        for (power, frame) in powers.iter().zip(ulaw.chunks(162)) {
            assert!((power / exact(frame) - 1.0).abs() < 0.3, "{power} for {}", exact(frame));
        }
        assert_eq!(Chunk::from_ulaw(&[]).powers().count(), 0);
    }

    #[test]
    fn a_long_chunk_is_split_without_loss() {
        let ulaw: Vec<u8> = (0..20_001).map(|n| n as u8).collect();
        let pieces: Vec<Chunk> = Chunk::from_ulaw(&ulaw).pieces().collect();
        assert_eq!(pieces.iter().map(Chunk::bytes).collect::<Vec<_>>(), [7998, 7998, 4005]);
        use base64::Engine as _;
        let joined: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| base64::engine::general_purpose::STANDARD.decode(piece.as_str()).unwrap())
            .collect();
        assert_eq!(joined, ulaw);
    }
}
