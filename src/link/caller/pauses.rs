//! Pauses in the caller's audio. Twilio sends frames all the time, but some are lost, and a muted client may send none.
//! A model that gets no audio never hears that a turn is over, so a pause becomes silence, and at most
//! [`MOST`] of it.

use std::time::{Duration, Instant};

use switchboard_audio::{BYTES_PER_MS, Chunk, SILENCE};

/// How long no frame may come before the pause becomes silence.
const PATIENCE: Duration = Duration::from_millis(750);
/// The longest silence for one pause, in milliseconds: every model takes it as the end of a turn.
const MOST: u64 = 1_000;
/// A shorter gap between two timestamps is none: the frames fit as they are.
const LEAST: u64 = 60;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// When the first frame came, and the last.
    first: Option<Instant>,
    last: Option<Instant>,
    /// How much audio there was in all, silence for pauses included, in milliseconds.
    total: u64,
    /// The stream's time at which the last frame ended, in milliseconds.
    ended: Option<u64>,
    /// This pause has become silence already.
    filled: bool,
}

impl Pauses {
    /// A frame has come. Returns the silence that belongs before it.
    pub fn frame(&mut self, timestamp: Option<u64>, bytes: u64, now: Instant) -> Option<Chunk> {
        let filled = std::mem::take(&mut self.filled);
        let first = *self.first.get_or_insert(now);
        self.last = Some(now);
        let gap = timestamp.zip(self.ended).map_or(0, |(begins, ended)| begins.saturating_sub(ended));
        let long = bytes / BYTES_PER_MS as u64;
        self.ended = timestamp.map(|begins| begins.saturating_add(long));
        self.total += long;
        // Timestamps that run faster than time are wrong.
        let passed = now.saturating_duration_since(first).as_millis() as u64 + MOST;
        let silence = gap.min(MOST).min(passed.saturating_sub(self.total));
        (!filled && silence >= LEAST).then(|| self.silence(silence))
    }

    /// The stream's time at which the last frame ended, in milliseconds.
    pub fn ended(&self) -> Option<u64> {
        self.ended.filter(|_| !self.filled)
    }

    /// When the last frame came.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// When [`Self::fill`] is next due.
    pub fn due(&self) -> Option<Instant> {
        self.last.filter(|_| !self.filled).map(|last| last + PATIENCE)
    }

    /// The silence for a pause that has become too long.
    pub fn fill(&mut self, now: Instant) -> Option<Chunk> {
        self.due().filter(|due| *due <= now)?;
        self.filled = true;
        Some(self.silence(MOST))
    }

    /// The process stood still, so frames may wait.
    pub fn stood_still(&mut self, time: Duration, now: Instant) {
        self.last = self.last.map(|last| now.min(last + time));
    }

    fn silence(&mut self, ms: u64) -> Chunk {
        self.total += ms;
        Chunk::from_ulaw(&vec![SILENCE; ms as usize * BYTES_PER_MS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 20 ms with these timestamps, each at this time; and the silence before each, in milliseconds.
    fn silences(frames: &[(u64, u64)]) -> Vec<u64> {
        let mut pauses = Pauses::default();
        let began = Instant::now();
        let silence = |(timestamp, at): &(u64, u64)| {
            let chunk = pauses.frame(Some(*timestamp), 160, began + Duration::from_millis(*at));
            chunk.map_or(0, |chunk| chunk.bytes() / 8)
        };
        frames.iter().map(silence).collect()
    }

    #[test]
    fn a_gap_between_timestamps_becomes_silence() {
        for (what, frames, expected) in [
            ("no gap", vec![(5, 0), (25, 20), (45, 40)], vec![0, 0, 0]),
            ("a late frame", vec![(5, 0), (25, 500), (45, 501)], vec![0, 0, 0]),
            ("a lost frame", vec![(5, 0), (45, 40)], vec![0, 0]),
            ("lost frames", vec![(5, 0), (85, 80), (605, 600)], vec![0, 60, 500]),
            ("a long gap", vec![(5, 0), (60_000, 60_000), (60_020, 60_020)], vec![0, 1_000, 0]),
            ("lost on the way, and the rest late", vec![(0, 0), (520, 900)], vec![0, 500]),
            ("a clock that went back", vec![(5_000, 0), (20, 20), (40, 40)], vec![0, 0, 0]),
        ] {
            assert_eq!(silences(&frames), expected, "{what}");
        }
    }

    #[test]
    fn timestamps_that_run_faster_than_time_add_little() {
        // Samples, or nonsense.
        let frames: Vec<_> = (0..500).map(|frame| (frame * 1_000, frame * 20)).collect();
        assert!(silences(&frames).iter().sum::<u64>() <= 1_000);
        let mut pauses = Pauses::default();
        let now = Instant::now();
        for timestamp in [Some(0), Some(u64::MAX), None, Some(0)] {
            assert_eq!(pauses.frame(timestamp, 160, now).map_or(0, |chunk| chunk.bytes()) / 8_001, 0);
        }
    }

    #[test]
    fn frames_that_stop_become_one_second_of_silence() {
        let mut pauses = Pauses::default();
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(pauses.due(), None, "nothing has come yet");
        pauses.frame(Some(0), 160, at(0));
        assert_eq!((pauses.due(), pauses.fill(at(749))), (Some(at(750)), None));
        pauses.stood_still(Duration::from_secs(5), at(5_100));
        assert_eq!(pauses.due(), Some(at(5_750)), "a process that stood still missed nothing");
        let silence = pauses.fill(at(5_750)).unwrap();
        assert_eq!(silence.bytes(), 8_000);
        assert_eq!((pauses.due(), pauses.fill(at(60_000))), (None, None), "once for each pause");
        assert_eq!(pauses.frame(Some(9_000), 160, at(9_000)), None, "the pause has had its silence");
        assert_eq!(pauses.due(), Some(at(9_750)));
    }
}
