//! Telephone audio: G.711 μ-law at 8 kHz, and conversion from and to WAV files.
//!
//! Each sample is one byte, and a millisecond has eight. This crate knows no clock, socket or file: bytes in, bytes out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod chunk;
mod hold;
mod voice;

use std::fmt;
use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType, WindowFunction,
    calculate_cutoff,
};

pub use chunk::{Chunk, InvalidChunk};
pub use hold::hold;
pub use voice::voiced_ms;

/// The μ-law byte of a zero sample.
pub const SILENCE: u8 = 0xFF;

/// One byte per sample, 8,000 samples per second.
pub const BYTES_PER_MS: usize = 8;

/// Samples per second on the telephone.
const RATE: u32 = 8_000;
/// G.711 adds this to a magnitude before it finds the segment.
const BIAS: i16 = 0x84;
const RATES: std::ops::RangeInclusive<u32> = 8_000..=48_000;
const LONGEST_SECONDS: u64 = 60 * 60;

static DECODED: [i16; 256] = {
    let mut table = [0; 256];
    let mut ulaw = 0;
    while ulaw < 256 {
        table[ulaw] = decoded(ulaw as u8);
        ulaw += 1;
    }
    table
};

/// The 16-bit sample that a μ-law byte stands for (ITU-T G.711).
pub fn decode(ulaw: u8) -> i16 {
    DECODED[usize::from(ulaw)]
}

const fn decoded(ulaw: u8) -> i16 {
    let bits = !ulaw;
    let magnitude = ((((bits & 0x0F) as i16) << 3) + BIAS) << ((bits & 0x70) >> 4);
    if bits & 0x80 == 0 { magnitude - BIAS } else { BIAS - magnitude }
}

/// The μ-law byte nearest to a 16-bit sample (ITU-T G.711).
pub fn encode(sample: i16) -> u8 {
    /// The largest magnitude that fits into the top segment with the bias.
    const CLIP: u16 = 32_635;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let biased = sample.unsigned_abs().min(CLIP) + BIAS as u16;
    // The bias sets bit 7, so the highest set bit is 7 to 14.
    let segment = 8 - biased.leading_zeros() as u16;
    let step = (biased >> (segment + 3)) & 0x0F;
    !(sign | (segment << 4) as u8 | step as u8)
}

/// How long μ-law audio of this length plays.
pub fn duration(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000 / BYTES_PER_MS as u64)
}

/// A recording for the telephone.
#[derive(Clone, PartialEq, Eq)]
pub struct Clip {
    /// μ-law, 8 kHz, mono.
    pub ulaw: Bytes,
}

impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clip({:?})", self.duration())
    }
}

/// Why a file is not a usable recording.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    #[error("this is not a WAV file; save it as WAV, 16-bit PCM ({0})")]
    NotWav(String),
    #[error("the WAV file has an unsupported format; save it as 16-bit PCM")]
    Encoding,
    #[error("{0} Hz is outside the supported 8,000 to 48,000 Hz; save it at 8,000 or 16,000 Hz")]
    Rate(u32),
    #[error("the WAV file has {0} channels; save it as mono or stereo")]
    Channels(u16),
    #[error("{0}-bit samples are not supported; save it as 16-bit PCM or 32-bit float")]
    Bits(u16),
    #[error("the WAV file contains no sound; record something first")]
    Empty,
    #[error("the WAV file is {0} minutes long; the limit is 60 minutes, cut it shorter")]
    TooLong(u64),
    #[error("the WAV file ends in the middle; save or copy it again ({0})")]
    Broken(String),
    #[error("{0} Hz could not be converted to 8,000 Hz; save it at 8,000 or 16,000 Hz")]
    Conversion(u32),
}

impl Clip {
    /// Reads a WAV file: 8 to 48 kHz, mono or stereo, 16- or 24-bit PCM, 32-bit float or μ-law.
    ///
    /// # Errors
    ///
    /// If it is not a WAV file, or has another format.
    pub fn from_wav(file: &[u8]) -> Result<Self, WavError> {
        if let Some(ulaw) = Companded::find(file) {
            return ulaw.into_clip();
        }
        let mut reader = hound::WavReader::new(Cursor::new(file)).map_err(|error| match error {
            hound::Error::Unsupported => WavError::Encoding,
            other => WavError::NotWav(other.to_string()),
        })?;
        let spec = reader.spec();
        check_shape(spec.sample_rate, spec.channels, u64::from(reader.duration()))?;
        let broken = |error: hound::Error| WavError::Broken(error.to_string());
        let samples: Vec<f32> = match (spec.sample_format, spec.bits_per_sample) {
            (hound::SampleFormat::Int, bits @ (16 | 24)) => {
                let scale = 1.0 / (1_i32 << (bits - 1)) as f32;
                let scaled = reader.samples::<i32>().map(|sample| Ok(sample? as f32 * scale));
                scaled.collect::<Result<_, _>>().map_err(broken)?
            }
            (hound::SampleFormat::Float, 32) => {
                reader.samples::<f32>().collect::<Result<_, _>>().map_err(broken)?
            }
            (_, bits) => return Err(WavError::Bits(bits)),
        };
        Self::from_samples(&samples, spec.channels, spec.sample_rate)
    }

    /// A WAV file with 16 bits per sample.
    pub fn to_wav(&self) -> Vec<u8> {
        let samples: Vec<i16> = self.ulaw.iter().map(|byte| decode(*byte)).collect();
        wav(&[&samples])
    }

    /// The same without the silence around it, except for a short moment that keeps soft sounds whole.
    pub fn trimmed(&self) -> Clip {
        /// About -40 dB of full scale.
        const AUDIBLE: u16 = 328;
        const BEFORE: usize = 40 * BYTES_PER_MS;
        const AFTER: usize = 120 * BYTES_PER_MS;
        let audible = |byte: &u8| decode(*byte).unsigned_abs() >= AUDIBLE;
        let first = self.ulaw.iter().position(audible);
        let last = self.ulaw.iter().rposition(audible);
        let (Some(first), Some(last)) = (first, last) else { return Clip { ulaw: Bytes::new() } };
        let range = first.saturating_sub(BEFORE)..(last + 1 + AFTER).min(self.ulaw.len());
        Clip { ulaw: Bytes::copy_from_slice(&self.ulaw[range]) }
    }

    /// How long it plays.
    pub fn duration(&self) -> Duration {
        duration(self.ulaw.len())
    }

    /// Interleaved samples from -1 to 1.
    fn from_samples(samples: &[f32], channels: u16, rate: u32) -> Result<Self, WavError> {
        let mono: Vec<f32> = samples
            .chunks_exact(usize::from(channels))
            .map(|frame| frame.iter().sum::<f32>() / f32::from(channels))
            // A float file may contain NaN or infinity, which would spread in the filter.
            .map(|sample| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 })
            .collect();
        let mono = if rate == RATE { mono } else { resample(&mono, rate)? };
        let ulaw = mono.iter().map(|sample| encode((sample * 32_768.0).round() as i16));
        Ok(Self { ulaw: ulaw.collect() })
    }
}

/// Checks the limits that hold for all sample formats.
fn check_shape(rate: u32, channels: u16, frames: u64) -> Result<(), WavError> {
    if !RATES.contains(&rate) {
        return Err(WavError::Rate(rate));
    }
    if !(1..=2).contains(&channels) {
        return Err(WavError::Channels(channels));
    }
    if frames == 0 {
        return Err(WavError::Empty);
    }
    let seconds = frames / u64::from(rate);
    if seconds > LONGEST_SECONDS {
        return Err(WavError::TooLong(seconds / 60));
    }
    Ok(())
}

/// Converts mono samples to 8 kHz, and filters everything above 4 kHz out first.
fn resample(mono: &[f32], rate: u32) -> Result<Vec<f32>, WavError> {
    /// Filter length in samples of 8 kHz: the passband ends at about 3.8 kHz.
    const TAPS: usize = 256;
    /// Up to this many phases, one table of filters has every position exactly (11,025 Hz needs 320).
    const EXACT_PHASES: u32 = 320;
    let window = WindowFunction::BlackmanHarris2;
    // rubato measures the filter in input samples. It must grow with the input rate, or its slope would reach far above
    // 4 kHz and fold back.
    let taps = TAPS * rate.div_ceil(RATE) as usize;
    let phases = RATE / gcd(rate, RATE);
    let parameters = SincInterpolationParameters::new(taps, window).f_cutoff(calculate_cutoff(TAPS, window));
    let parameters = if phases <= EXACT_PHASES {
        parameters.oversampling_factor(phases as usize).interpolation(SincInterpolationType::Nearest)
    } else {
        parameters
    };
    let ratio = f64::from(RATE) / f64::from(rate);
    let mut resampler = Async::<f32>::new_sinc(ratio, 1.0, &parameters, 4_096, 1, FixedAsync::Input)
        .map_err(|_| WavError::Conversion(rate))?;
    let input = InterleavedSlice::new(mono, 1, mono.len()).map_err(|_| WavError::Conversion(rate))?;
    // `process_all` removes the filter's delay and keeps the length.
    let output = resampler.process_all(&input, mono.len(), None).map_err(|_| WavError::Conversion(rate))?;
    Ok(output.take_data())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A WAV file that is μ-law already (format tag 7), which `hound` does not read.
struct Companded<'a> {
    rate: u32,
    channels: u16,
    ulaw: &'a [u8],
}

impl<'a> Companded<'a> {
    const TAG: u16 = 7;

    fn find(file: &'a [u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
        let mut shape = None;
        loop {
            let (head, after) = rest.split_first_chunk::<8>()?;
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let body = &after[..length.min(after.len())];
            match &head[..4] {
                b"fmt " => {
                    let fmt = body.first_chunk::<16>()?;
                    let tag = u16::from_le_bytes([fmt[0], fmt[1]]);
                    let bits = u16::from_le_bytes([fmt[14], fmt[15]]);
                    if tag != Self::TAG || bits != 8 {
                        return None;
                    }
                    let rate = u32::from_le_bytes([fmt[4], fmt[5], fmt[6], fmt[7]]);
                    shape = Some((rate, u16::from_le_bytes([fmt[2], fmt[3]])));
                }
                b"data" => {
                    let (rate, channels) = shape?;
                    return Some(Self { rate, channels, ulaw: body });
                }
                _ => {}
            }
            // Chunks start at even offsets.
            rest = after.get(length.checked_next_multiple_of(2)?..)?;
        }
    }

    fn into_clip(self) -> Result<Clip, WavError> {
        let frames = self.ulaw.len() as u64 / u64::from(self.channels.max(1));
        check_shape(self.rate, self.channels, frames)?;
        if (self.rate, self.channels) == (RATE, 1) {
            return Ok(Clip { ulaw: Bytes::copy_from_slice(self.ulaw) });
        }
        let samples: Vec<f32> = self.ulaw.iter().map(|byte| f32::from(decode(*byte)) / 32_768.0).collect();
        Clip::from_samples(&samples, self.channels, self.rate)
    }
}

/// A stereo WAV file at 8 kHz and 16 bits. The shorter channel is padded with silence.
pub fn stereo_wav(left: &[i16], right: &[i16]) -> Vec<u8> {
    wav(&[left, right])
}

fn wav(channels: &[&[i16]]) -> Vec<u8> {
    let frames = channels.iter().map(|channel| channel.len()).max().unwrap_or(0);
    let header = WavHeader { encoding: WavEncoding::Pcm16, channels: channels.len() as u16 };
    let frames = frames.min(header.most_frames() as usize);
    let mut file = header.bytes(frames as u32);
    file.reserve(frames * 2 * channels.len());
    for frame in 0..frames {
        for channel in channels {
            let sample = channel.get(frame).copied().unwrap_or(0);
            file.extend_from_slice(&sample.to_le_bytes());
        }
    }
    file
}

/// How a WAV file holds its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WavEncoding {
    Pcm16,
    /// G.711 μ-law, one byte a sample.
    Ulaw,
}

/// What stands before the samples of a WAV file at 8 kHz.
#[derive(Debug, Clone, Copy)]
pub struct WavHeader {
    pub encoding: WavEncoding,
    pub channels: u16,
}

impl WavHeader {
    /// How many bytes a frame has: a sample of each channel.
    pub fn frame_bytes(self) -> u32 {
        let sample = match self.encoding {
            WavEncoding::Pcm16 => 2,
            WavEncoding::Ulaw => 1,
        };
        sample * u32::from(self.channels)
    }

    /// The most frames that a file can have: it counts its bytes in 32 bits.
    pub fn most_frames(self) -> u32 {
        (u32::MAX - 64) / self.frame_bytes()
    }

    /// The header of a file with this many frames. Its length depends only on the encoding.
    pub fn bytes(self, frames: u32) -> Vec<u8> {
        let (format, extra): (u16, &[u8]) = match self.encoding {
            WavEncoding::Pcm16 => (1, &[]),
            // The size of what more the format says: nothing.
            WavEncoding::Ulaw => (7, &[0, 0]),
        };
        let frame = self.frame_bytes();
        let mut format_chunk = Vec::with_capacity(18);
        format_chunk.extend_from_slice(&format.to_le_bytes());
        format_chunk.extend_from_slice(&self.channels.to_le_bytes());
        format_chunk.extend_from_slice(&RATE.to_le_bytes());
        format_chunk.extend_from_slice(&(RATE * frame).to_le_bytes());
        format_chunk.extend_from_slice(&(frame as u16).to_le_bytes());
        format_chunk.extend_from_slice(&(8 * frame as u16 / self.channels.max(1)).to_le_bytes());
        format_chunk.extend_from_slice(extra);
        let mut chunks = Vec::with_capacity(58);
        let mut chunk = |name: &[u8; 4], content: &[u8]| {
            chunks.extend_from_slice(name);
            chunks.extend_from_slice(&(content.len() as u32).to_le_bytes());
            chunks.extend_from_slice(content);
        };
        chunk(b"fmt ", &format_chunk);
        // Every format but PCM must say how many frames there are.
        if self.encoding != WavEncoding::Pcm16 {
            chunk(b"fact", &frames.to_le_bytes());
        }
        let length = frames.min(self.most_frames()) * frame;
        let mut file = Vec::with_capacity(58);
        file.extend_from_slice(b"RIFF");
        file.extend_from_slice(&(4 + chunks.len() as u32 + 8 + length).to_le_bytes());
        file.extend_from_slice(b"WAVE");
        file.extend_from_slice(&chunks);
        file.extend_from_slice(b"data");
        file.extend_from_slice(&length.to_le_bytes());
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(rate: u32, channels: u16, float: bool, bits: u16, frames: &[f32]) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: bits,
            sample_format: if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int },
        };
        let mut file = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        for sample in frames {
            for _ in 0..channels {
                if float {
                    writer.write_sample(*sample).unwrap();
                } else {
                    let top = (1_i32 << (bits - 1)) as f32 - 1.0;
                    writer.write_sample((sample * top) as i32).unwrap();
                }
            }
        }
        writer.finalize().unwrap();
        file.into_inner()
    }

    fn sine(rate: u32, hertz: f32, seconds: f32) -> Vec<f32> {
        (0..(rate as f32 * seconds) as usize)
            .map(|i| 0.5 * (i as f32 * hertz * std::f32::consts::TAU / rate as f32).sin())
            .collect()
    }

    fn samples(clip: &Clip) -> Vec<f32> {
        clip.ulaw.iter().map(|byte| f32::from(decode(*byte)) / 32_768.0).collect()
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn samples_match_the_tables_of_g711() {
        // Decoder outputs of G.711 table 2a, at 16 bits.
        for (ulaw, sample) in [
            (0x00, -32_124),
            (0x80, 32_124),
            (0x8F, 16_764),
            (0x90, 15_996),
            (0x9F, 8_316),
            (0xAF, 4_092),
            (0xBF, 1_980),
            (0xCF, 924),
            (0xDF, 396),
            (0xEF, 132),
            (0xFE, 8),
            (0xFF, 0),
            (0x7F, 0),
            (0x7E, -8),
        ] {
            assert_eq!(decode(ulaw), sample, "{ulaw:#x}");
        }
        for (sample, ulaw) in
            [(0, 0xFF), (-1, 0x7F), (32_767, 0x80), (-32_768, 0x00), (1_000, 0xCE), (-1_000, 0x4E)]
        {
            assert_eq!(encode(sample), ulaw, "{sample}");
        }
    }

    #[test]
    fn every_byte_survives_a_round_trip() {
        for ulaw in 0..=255 {
            // 0x7F is the negative zero.
            let expected = if ulaw == 0x7F { SILENCE } else { ulaw };
            assert_eq!(encode(decode(ulaw)), expected, "{ulaw:#x}");
        }
    }

    #[test]
    fn no_sample_moves_by_more_than_half_a_step() {
        for sample in -32_635..=32_635_i16 {
            let byte = encode(sample);
            let half_step = 4 << ((!byte >> 4) & 7);
            let moved = (i32::from(decode(byte)) - i32::from(sample)).abs();
            assert!(moved <= half_step, "{sample} moved by {moved}");
        }
    }

    #[test]
    fn eight_bytes_are_a_millisecond() {
        assert_eq!(duration(160), Duration::from_millis(20));
        assert_eq!(duration(1), Duration::from_micros(125));
    }

    #[test]
    fn a_tone_keeps_its_length_level_and_position_from_every_rate() {
        for rate in [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 44_099, 48_000] {
            let mut tone = sine(rate, 1_000.0, 0.5);
            tone.extend(vec![0.0; rate as usize / 4]);
            let clip = Clip::from_wav(&wav(rate, 2, false, 16, &tone)).unwrap();
            let length = clip.duration().as_secs_f32();
            assert!((length - 0.75).abs() < 0.001, "{rate}: {length} s");
            let heard = samples(&clip);
            let (tone, quiet) = (&heard[400..3_600], &heard[4_200..]);
            assert!((rms(tone) / 0.353_6 - 1.0).abs() < 0.03, "{rate}: {}", rms(tone));
            assert!(rms(quiet) < 0.001, "{rate}: {}", rms(quiet));
            // Aligned with the original to two samples: the filter's delay is removed.
            let exact = sine(8_000, 1_000.0, 0.5);
            let difference = |lead: usize| {
                let pairs = heard[400 - lead..3_600].iter().zip(&exact[400..]);
                rms(&pairs.map(|(a, b)| a - b).collect::<Vec<_>>())
            };
            let least = (0..3).map(difference).fold(f32::MAX, f32::min);
            assert!(least < 0.14, "{rate}: {least}");
        }
    }

    #[test]
    fn frequencies_above_4_khz_do_not_fold_back() {
        for (rate, hertz) in [(16_000, 4_300.0), (16_000, 7_000.0), (48_000, 4_300.0), (44_100, 9_000.0)] {
            let clip = Clip::from_wav(&wav(rate, 1, false, 16, &sine(rate, hertz, 0.3))).unwrap();
            let heard = samples(&clip);
            let left = rms(&heard[200..heard.len() - 200]);
            assert!(left < 0.002, "{hertz} Hz at {rate} leaves {left}");
        }
        // Lower frequencies pass.
        let clip = Clip::from_wav(&wav(48_000, 1, true, 32, &sine(48_000, 3_400.0, 0.3))).unwrap();
        assert!(rms(&samples(&clip)[200..2_000]) > 0.34);
    }

    #[test]
    fn all_sample_formats_sound_the_same() {
        let tone = sine(8_000, 440.0, 0.2);
        let plain = Clip::from_wav(&wav(8_000, 1, false, 16, &tone)).unwrap();
        for (channels, float, bits) in [(1, true, 32), (1, false, 24), (2, false, 24)] {
            let other = Clip::from_wav(&wav(8_000, channels, float, bits, &tone)).unwrap();
            let differ = plain.ulaw.iter().zip(&other.ulaw).filter(|(a, b)| a != b).count();
            assert!(differ < 16, "{bits} bits: {differ} differ");
        }
        let wild = Clip::from_wav(&wav(16_000, 1, true, 32, &[f32::NAN, f32::INFINITY, 9.0])).unwrap();
        assert_eq!(wild.ulaw.len(), 2);
    }

    #[test]
    fn a_ulaw_file_is_copied_unchanged() {
        let ulaw: Vec<u8> = (0..=255).collect();
        let mut file = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
        file.extend_from_slice(&18_u32.to_le_bytes());
        file.extend_from_slice(&[7, 0, 1, 0, 0x40, 0x1F, 0, 0, 0x40, 0x1F, 0, 0, 1, 0, 8, 0, 0, 0]);
        file.extend_from_slice(b"fact\x03\0\0\0abc\0data");
        file.extend_from_slice(&256_u32.to_le_bytes());
        file.extend_from_slice(&ulaw);
        assert_eq!(Clip::from_wav(&file).unwrap().ulaw, ulaw);
    }

    #[test]
    fn an_unusable_file_is_rejected_with_a_reason() {
        let whole = wav(16_000, 1, false, 16, &sine(16_000, 300.0, 0.1));
        let mut long = wav(8_000, 1, false, 16, &[0.1]);
        long[40..44].copy_from_slice(&(61 * 60 * 16_000_u32).to_le_bytes());
        let error = |file: &[u8]| Clip::from_wav(file).unwrap_err();
        assert!(matches!(error(b"ID3 this is an mp3"), WavError::NotWav(_)));
        assert!(matches!(error(b""), WavError::NotWav(_)));
        assert!(matches!(error(&whole[..50]), WavError::Broken(_)));
        assert!(matches!(error(&whole[..whole.len() - 101]), WavError::Broken(_)));
        assert!(matches!(error(&wav(8_000, 1, false, 16, &[])), WavError::Empty));
        assert!(matches!(error(&wav(96_000, 1, false, 16, &[0.1])), WavError::Rate(96_000)));
        assert!(matches!(error(&wav(8_000, 6, false, 16, &[0.1])), WavError::Channels(6)));
        assert!(matches!(error(&wav(8_000, 1, false, 8, &[0.1])), WavError::Bits(8)));
        assert!(matches!(error(&long), WavError::TooLong(61)));
    }

    #[test]
    fn a_stereo_file_can_be_read_back() {
        let file = stereo_wav(&[1, -2, 3], &[400]);
        let mut reader = hound::WavReader::new(Cursor::new(&file)).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 8_000));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(samples, [1, 400, -2, 0, 3, 0]);
    }

    #[test]
    fn a_clip_is_saved_and_read_without_loss() {
        let clip = Clip { ulaw: (0..=255).filter(|byte| *byte != 0x7F).collect() };
        assert_eq!(Clip::from_wav(&clip.to_wav()).unwrap(), clip);
    }

    #[test]
    fn silence_around_a_clip_is_cut() {
        let quiet = |ms: usize| vec![encode(100); ms * BYTES_PER_MS];
        let loud = vec![encode(8_000); 300 * BYTES_PER_MS];
        let with = |before: usize, after: usize| Clip {
            ulaw: [quiet(before), loud.clone(), quiet(100), loud.clone(), quiet(after)].concat().into(),
        };
        assert_eq!(with(2_000, 1_000).trimmed(), with(40, 120));
        assert_eq!(with(10, 20).trimmed(), with(10, 20));
        assert_eq!(Clip { ulaw: quiet(500).into() }.trimmed().duration(), Duration::ZERO);
    }

    proptest::proptest! {
        #[test]
        fn no_file_causes_a_panic(
            changes in proptest::collection::vec((0_usize..200, proptest::num::u8::ANY), 1..12),
            cut in 0_usize..200,
        ) {
            let mut file = wav(12_000, 2, false, 16, &sine(12_000, 700.0, 0.003));
            for (at, byte) in changes {
                if let Some(place) = file.get_mut(at) {
                    *place = byte;
                }
            }
            file.truncate(cut.max(10));
            let _ = Clip::from_wav(&file);
        }
    }
}
