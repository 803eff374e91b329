//! What Twilio does with the audio it receives: a buffer that plays in order at 8 bytes per millisecond, marks that are
//! echoed when their position has been played, and a `clear` that empties it. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::record::Cleared;
use switchboard_audio::SILENCE;

/// Audio beyond ten minutes in the buffer is dropped.
const CAPACITY: u64 = 10 * 60 * 8_000;
/// A call, and so its recording, lasts at most four hours.
const LONGEST_RECORDING: usize = 4 * 3_600 * 8_000;
const NANOS_PER_BYTE: u64 = 125_000;

/// What happens as time passes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// An empty buffer began to play.
    Began { at: Instant },
    /// A mark is echoed.
    Echo { name: String, at: Instant, flushed: bool },
    /// The buffer ran dry or was cleared after a run of `played` bytes.
    Quiet { at: Instant, played: u64 },
}

/// Playback without a gap.
struct Run {
    began: Instant,
    queued: u64,
    played: u64,
}

impl Run {
    fn reaches(&self, position: u64) -> Instant {
        self.began + Duration::from_nanos(position * NANOS_PER_BYTE)
    }
}

struct Mark {
    position: u64,
    name: String,
    arrived: Instant,
}

/// One stream's buffer. Call `advance` with the time of an event before any other method.
pub(super) struct Playback {
    origin: Instant,
    /// Everything heard since the origin, including silence, if the audio is kept.
    heard: Option<Vec<u8>>,
    waiting: VecDeque<u8>,
    run: Option<Run>,
    marks: VecDeque<Mark>,
    /// Bytes played in the whole stream.
    pub total: u64,
}

impl Playback {
    pub fn new(origin: Instant, heard: Option<Vec<u8>>) -> Self {
        Self { origin, heard, waiting: VecDeque::new(), run: None, marks: VecDeque::new(), total: 0 }
    }

    pub fn advance(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Some(run) = &mut self.run else { return };
        let reached = bytes_between(run.began, now).min(run.queued).max(run.played);
        let fresh = reached - run.played;
        run.played = reached;
        self.total += fresh;
        if let Some(heard) = &mut self.heard {
            let played = self.waiting.drain(..fresh as usize);
            if heard.len() < LONGEST_RECORDING {
                heard.extend(played);
            }
        }
        while self.marks.front().is_some_and(|mark| mark.position <= reached) {
            let Some(mark) = self.marks.pop_front() else { break };
            let at = run.reaches(mark.position).max(mark.arrived);
            out.push(Effect::Echo { name: mark.name, at, flushed: false });
        }
        if reached == run.queued {
            out.push(Effect::Quiet { at: run.reaches(reached), played: reached });
            self.run = None;
        }
    }

    /// Returns whether all of it fit into the buffer.
    pub fn media(&mut self, audio: &[u8], now: Instant, out: &mut Vec<Effect>) -> bool {
        if audio.is_empty() {
            return true;
        }
        if self.run.is_none() {
            out.push(Effect::Began { at: now });
            if let Some(heard) = &mut self.heard {
                let place = (bytes_between(self.origin, now) as usize).min(LONGEST_RECORDING);
                heard.resize(place.max(heard.len()), SILENCE);
            }
        }
        let run = self.run.get_or_insert(Run { began: now, queued: 0, played: 0 });
        let room = CAPACITY - (run.queued - run.played);
        let taken = (audio.len() as u64).min(room);
        run.queued += taken;
        if self.heard.is_some() {
            self.waiting.extend(&audio[..taken as usize]);
        }
        taken == audio.len() as u64
    }

    /// What is heard at `now`, as much as fits; less if nothing plays.
    pub fn heard_until(&self, now: Instant, bytes: usize) -> &[u8] {
        let Some(heard) = &self.heard else { return &[] };
        let end = bytes_between(self.origin, now) as usize;
        &heard[end.saturating_sub(bytes).min(heard.len())..end.min(heard.len())]
    }

    pub fn mark(&mut self, name: String, now: Instant, out: &mut Vec<Effect>) {
        match &self.run {
            Some(run) => self.marks.push_back(Mark { position: run.queued, name, arrived: now }),
            None => out.push(Effect::Echo { name, at: now, flushed: false }),
        }
    }

    pub fn clear(&mut self, now: Instant, out: &mut Vec<Effect>) -> Cleared {
        let run = self.run.take().unwrap_or(Run { began: now, queued: 0, played: 0 });
        let marks = self.marks.len();
        for mark in self.marks.drain(..) {
            out.push(Effect::Echo { name: mark.name, at: now, flushed: true });
        }
        if run.queued > 0 {
            out.push(Effect::Quiet { at: now, played: run.played });
        }
        self.waiting.clear();
        let tail = self.heard.as_deref().unwrap_or_default();
        let last = tail.len().min(run.played.min(16) as usize);
        Cleared {
            at: now,
            last: tail[tail.len() - last..].to_vec(),
            run_played: run.played,
            total_played: self.total,
            dropped: run.queued - run.played,
            marks,
        }
    }

    /// When a mark is next reached or the buffer runs dry.
    pub fn deadline(&self) -> Option<Instant> {
        let run = self.run.as_ref()?;
        let position = self.marks.front().map_or(run.queued, |mark| mark.position);
        Some(run.reaches(position))
    }

    /// The recording of what was heard.
    pub fn finish(self) -> Option<Vec<u8>> {
        self.heard
    }
}

/// The number of bytes played between two times.
pub(super) fn bytes_between(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_nanos() as u64 / NANOS_PER_BYTE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn echoes(effects: &[Effect], start: Instant) -> Vec<(String, u64, bool)> {
        let echo = |effect: &Effect| match effect {
            Effect::Echo { name, at, flushed, .. } => {
                Some((name.clone(), (*at - start).as_millis() as u64, *flushed))
            }
            _ => None,
        };
        effects.iter().filter_map(echo).collect()
    }

    #[test]
    fn a_mark_is_echoed_when_everything_before_it_has_played() {
        let start = Instant::now();
        let mut playback = Playback::new(start, Some(Vec::new()));
        let mut out = Vec::new();
        playback.mark("empty".into(), start, &mut out);
        playback.media(&[1; 800], start + ms(10), &mut out);
        playback.mark("a".into(), start + ms(10), &mut out);
        playback.media(&[2; 800], start + ms(10), &mut out);
        playback.mark("b".into(), start + ms(11), &mut out);
        assert_eq!(playback.deadline(), Some(start + ms(110)));
        playback.advance(start + ms(109), &mut out);
        assert_eq!(echoes(&out, start), [("empty".into(), 0, false)]);
        playback.advance(start + ms(500), &mut out);
        assert_eq!(echoes(&out[1..], start), [("a".into(), 110, false), ("b".into(), 210, false)]);
        assert!(matches!(out.last(), Some(Effect::Quiet { played: 1_600, .. })));
        assert_eq!(playback.deadline(), None);
        let heard = playback.finish().unwrap();
        assert_eq!(heard, [[SILENCE; 80].as_slice(), &[1; 800], &[2; 800]].concat());
    }

    #[test]
    fn a_clear_empties_at_once_and_flushes_marks() {
        let start = Instant::now();
        let mut playback = Playback::new(start, Some(Vec::new()));
        let mut out = Vec::new();
        let audio: Vec<u8> = (0..800).map(|i| (i % 251) as u8).collect();
        playback.media(&audio, start, &mut out);
        playback.mark("a".into(), start, &mut out);
        playback.advance(start + ms(50), &mut out);
        let cleared = playback.clear(start + ms(50), &mut out);
        assert_eq!((cleared.run_played, cleared.dropped, cleared.marks), (400, 400, 1));
        assert_eq!(cleared.last, audio[384..400]);
        assert_eq!(echoes(&out, start), [("a".into(), 50, true)]);
        // The next audio begins a run of its own, at its own time.
        playback.media(&[9; 8], start + ms(70), &mut out);
        playback.advance(start + ms(80), &mut out);
        let heard = playback.finish().unwrap();
        assert_eq!(heard.len(), 71 * 8);
        assert_eq!(heard[400..560], [SILENCE; 160]);
        assert_eq!(heard[560..], [9; 8]);
    }

    #[test]
    fn a_dry_buffer_starts_again_when_audio_comes() {
        let start = Instant::now();
        let mut playback = Playback::new(start, None);
        let mut out = Vec::new();
        for at in [0, 40] {
            playback.advance(start + ms(at), &mut out);
            playback.media(&[1; 160], start + ms(at), &mut out);
        }
        playback.advance(start + ms(59), &mut out);
        assert_eq!(playback.total, 160 + 19 * 8);
        assert_eq!(out.iter().filter(|effect| matches!(effect, Effect::Began { .. })).count(), 2);
    }

    #[test]
    fn more_than_ten_minutes_are_dropped() {
        let start = Instant::now();
        let mut playback = Playback::new(start, None);
        let mut out = Vec::new();
        assert!(playback.media(&vec![0; CAPACITY as usize], start, &mut out));
        assert!(!playback.media(&[0], start, &mut out));
        playback.advance(start + ms(1), &mut out);
        assert!(playback.media(&[0; 8], start + ms(1), &mut out));
    }
}
