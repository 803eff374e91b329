//! The session's end of a recording.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use switchboard_audio::{BYTES_PER_MS, Chunk};

use super::{Part, Side};
use crate::id::Piece;

/// How far a frame's timestamp may be from when it came: ahead of it, and behind.
const MOST_AHEAD: u64 = frames(Duration::from_secs(1));
const MOST_BEHIND: u64 = frames(Duration::from_secs(10));

/// Takes a call's audio, and never makes the call wait.
#[derive(Debug)]
pub struct Tap {
    parts: SyncSender<Part>,
    shared: Arc<Shared>,
    /// The start of the first stream, and where on the call's clock the stream in use began.
    began: Instant,
    stream: u64,
    /// What has not left for the phone.
    waiting: VecDeque<(Piece, Chunk)>,
    /// The end of what the caller said, and of what the phone has to play.
    said: u64,
    sent: u64,
    /// A cut that found no room.
    cut: Option<u64>,
}

/// What the writer learns otherwise than by the channel, which may be full.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Where the recording ends, once the tap is gone.
    pub end: AtomicU64,
    /// Parts found no room.
    pub lost: AtomicBool,
}

impl Tap {
    pub(super) fn new(parts: SyncSender<Part>, shared: Arc<Shared>, began: Instant) -> Self {
        Self { parts, shared, began, stream: 0, waiting: VecDeque::new(), said: 0, sent: 0, cut: None }
    }

    /// A frame of the caller's that ended at this millisecond of its stream; `None` if it does not say.
    pub fn said(&mut self, chunk: &Chunk, ended_ms: Option<u64>, now: Instant) {
        // What stands for a pause is silence anyway.
        if ended_ms.is_none() && !chunk.is_audible() {
            return;
        }
        let (length, now) = (chunk.bytes(), self.at(now));
        let by_stream = ended_ms.map(|ms| {
            self.stream.saturating_add(ms.saturating_mul(BYTES_PER_MS as u64)).saturating_sub(length)
        });
        let is_likely = |at: &u64| *at <= now + MOST_AHEAD && at + MOST_BEHIND >= now;
        let at = by_stream.filter(is_likely).unwrap_or(now.saturating_sub(length)).max(self.said);
        // A phone that sends faster than time passes is not followed.
        if at > now + MOST_AHEAD {
            return;
        }
        self.said = at + length;
        self.put(Part::Audio { side: Side::Caller, at, chunk: chunk.clone() });
    }

    /// This piece waits for the phone.
    pub fn queued(&mut self, piece: Piece, chunk: &Chunk) {
        self.waiting.push_back((piece, chunk.clone()));
    }

    /// The phone has this piece, and plays it after what it has.
    pub fn left(&mut self, piece: Piece, now: Instant) {
        let Some(index) = self.waiting.iter().position(|(waiting, _)| *waiting == piece) else { return };
        let Some((_, chunk)) = self.waiting.drain(..=index).next_back() else { return };
        let at = self.sent.max(self.at(now));
        self.sent = at + chunk.bytes();
        self.put(Part::Audio { side: Side::Heard, at, chunk });
    }

    /// The phone's buffer is cleared, and this much of what had left was not heard, by the call's ledger.
    pub fn cleared(&mut self, unheard: u64) {
        self.waiting.clear();
        self.cut(self.sent.saturating_sub(unheard));
    }

    /// The phone has no stream any more.
    pub fn away(&mut self, now: Instant) {
        self.waiting.clear();
        self.cut(self.at(now).min(self.sent));
    }

    /// The phone has another stream.
    pub fn back(&mut self, now: Instant) {
        self.stream = self.at(now);
        self.said = self.said.max(self.stream);
    }

    /// Where the recording ends if the call ends now.
    pub fn ends(&mut self, now: Instant) {
        self.shared.end.store(self.at(now), Ordering::Release);
    }

    fn cut(&mut self, at: u64) {
        if at < self.sent {
            self.sent = at;
            self.put(Part::Cut { at });
        }
    }

    fn put(&mut self, part: Part) {
        let cut = match (&part, self.cut.take()) {
            (Part::Cut { at }, earlier) => Some(earlier.map_or(*at, |earlier| earlier.min(*at))),
            (Part::Audio { .. }, cut) => cut,
        };
        // A cut may be late, but is never lost.
        if let Some(at) = cut
            && self.parts.try_send(Part::Cut { at }).is_err()
        {
            self.cut = Some(at);
        }
        if matches!(part, Part::Audio { .. }) && (self.cut.is_some() || self.parts.try_send(part).is_err()) {
            self.shared.lost.store(true, Ordering::Relaxed);
        }
    }

    fn at(&self, now: Instant) -> u64 {
        frames(now.saturating_duration_since(self.began))
    }
}

pub(super) const fn frames(time: Duration) -> u64 {
    (time.as_micros() * BYTES_PER_MS as u128 / 1_000) as u64
}
