//! The audio formats of a session, and the conversion from mu-law.

use bytes::Bytes;
use serde_json::Value;

use switchboard_audio as audio;

/// How audio is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Pcm,
    Mulaw,
    Alaw,
}

impl Format {
    pub fn bytes_per_ms(self) -> u64 {
        match self {
            Format::Pcm => 48,
            Format::Mulaw | Format::Alaw => 8,
        }
    }

    /// The byte of digital silence.
    pub fn silence(self) -> u8 {
        match self {
            Format::Pcm => 0,
            Format::Mulaw => audio::SILENCE,
            Format::Alaw => 0xD5,
        }
    }

    /// Reads the `format` of a session.
    pub fn from_value(value: &Value) -> Self {
        match value["type"].as_str() {
            Some("audio/pcmu") => Format::Mulaw,
            Some("audio/pcma") => Format::Alaw,
            _ => Format::Pcm,
        }
    }
}

/// Converts mu-law into another format.
pub(super) fn convert(mulaw: Bytes, format: Format) -> Bytes {
    match format {
        Format::Mulaw => mulaw,
        Format::Alaw => mulaw.iter().map(|byte| encode_alaw(audio::decode(*byte))).collect(),
        Format::Pcm => {
            let samples = mulaw.iter().map(|byte| i32::from(audio::decode(*byte)));
            let nexts = samples.clone().skip(1).chain([0]);
            samples
                .zip(nexts)
                .flat_map(|(a, b)| [a, a + (b - a) / 3, a + (b - a) * 2 / 3])
                .flat_map(|sample| (sample as i16).to_le_bytes())
                .collect()
        }
    }
}

fn encode_alaw(sample: i16) -> u8 {
    let (sign, magnitude) =
        if sample < 0 { (0, -(i32::from(sample) + 1)) } else { (0x80, i32::from(sample)) };
    let exponent = (0..7).rev().find(|e| magnitude >= 0x100 << e).map_or(0, |e| e + 1);
    let mantissa = if exponent == 0 { magnitude >> 4 } else { magnitude >> (exponent + 3) } & 0x0F;
    (sign | (exponent << 4) as u8 | mantissa as u8) ^ 0x55
}

pub(super) fn decode_alaw(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let exponent = (byte & 0x70) >> 4;
    let mantissa = i16::from(byte & 0x0F) << 4;
    let magnitude = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
    if byte & 0x80 != 0 { magnitude } else { -magnitude }
}
