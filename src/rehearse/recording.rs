//! The files that a rehearsal writes: `call.wav` and `call.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::record::CallRecord;
use switchboard_audio::{BYTES_PER_MS, decode, stereo_wav};
use switchboard_simulator::caller::CallRecord as PhoneRecord;

const SOUND: &str = "call.wav";
const SHEET: &str = "call.json";

/// The paths of both files.
#[derive(Debug)]
pub(super) struct Files {
    pub sound: PathBuf,
    pub sheet: PathBuf,
}

impl Files {
    /// Creates the folder.
    pub fn prepare(folder: &Path) -> anyhow::Result<Self> {
        let name = folder.display();
        fs::create_dir_all(folder)
            .with_context(|| format!("the folder `{name}` (--out) cannot be created"))?;
        Ok(Self { sound: folder.join(SOUND), sheet: folder.join(SHEET) })
    }

    pub fn write(&self, phone: &PhoneRecord, record: &CallRecord) -> anyhow::Result<()> {
        let unwritten =
            |file: &Path| format!("cannot write `{}` (choose another folder with --out)", file.display());
        let (caller, assistant) = channels(phone);
        fs::write(&self.sound, stereo_wav(&caller, &assistant)).with_context(|| unwritten(&self.sound))?;
        let mut text = serde_json::to_string_pretty(record).context("cannot encode call.json")?;
        text.push('\n');
        fs::write(&self.sheet, text).with_context(|| unwritten(&self.sheet))
    }
}

/// How long the stream was open, from its start to its end.
pub(super) fn stream_seconds(record: &PhoneRecord) -> f64 {
    let lasted = stream(record).map_or(0, |(_, samples)| samples / BYTES_PER_MS);
    lasted as f64 / 1_000.0
}

/// The part of the phone's recordings that the stream covers: its first sample and the number of samples.
fn stream(record: &PhoneRecord) -> Option<(usize, usize)> {
    let started = record.streams.iter().find_map(|stream| stream.started)?;
    let ended = record.streams.last()?.ended;
    let samples = |from, to: std::time::Instant| {
        (to.saturating_duration_since(from).as_nanos() * BYTES_PER_MS as u128 / 1_000_000) as usize
    };
    Some((samples(record.started, started), samples(started, ended)))
}

/// What the caller said and what they heard, sample by sample on the same clock.
fn channels(record: &PhoneRecord) -> (Vec<i16>, Vec<i16>) {
    let Some((first, count)) = stream(record) else { return (Vec::new(), Vec::new()) };
    let channel = |ulaw: &[u8]| {
        let mut samples: Vec<i16> = ulaw.iter().skip(first).take(count).map(|byte| decode(*byte)).collect();
        samples.resize(count, 0);
        samples
    };
    (channel(&record.spoken), channel(&record.heard))
}
