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
    /// How far the call is: where the recording ends, once the tap is gone.
    pub now: AtomicU64,
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

    /// The call is so far. Once the tap is dropped, it ends here.
    pub fn goes_on(&mut self, now: Instant) {
        self.shared.now.store(self.at(now), Ordering::Release);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn tap(room: usize) -> (Tap, Receiver<Part>, Instant) {
        let (sender, parts) = sync_channel(room);
        let began = Instant::now();
        (Tap::new(sender, Arc::default(), began), parts, began)
    }

    fn silence(ms: usize) -> Chunk {
        Chunk::from_ulaw(&vec![0xFF; ms * BYTES_PER_MS])
    }

    /// The parts that wait, with their places in milliseconds: `c` the caller, `h` what was heard, `-` a cut.
    fn waiting(parts: &Receiver<Part>) -> Vec<(char, u64)> {
        let parts = parts.try_iter().map(|part| match part {
            Part::Audio { side: Side::Caller, at, .. } => ('c', at / 8),
            Part::Audio { side: Side::Heard, at, .. } => ('h', at / 8),
            Part::Cut { at } => ('-', at / 8),
        });
        parts.collect()
    }

    #[test]
    fn audio_is_placed_where_the_phone_had_it() {
        let (mut tap, parts, began) = tap(64);
        let at = |ms| began + Duration::from_millis(ms);
        // Late, by the stream's own time; one with nonsense; one without.
        tap.said(&silence(20), Some(25), at(300));
        tap.said(&silence(20), Some(1 << 40), at(320));
        tap.said(&silence(20), None, at(340));
        assert_eq!(waiting(&parts), [('c', 5), ('c', 300)], "silence needs no place");
        // Two pieces at once are played one after the other; a later one when it comes.
        for piece in 0..4 {
            tap.queued(Piece(piece), &silence(1_000));
        }
        tap.left(Piece(0), at(1_000));
        tap.left(Piece(1), at(1_000));
        tap.left(Piece(2), at(5_000));
        tap.cleared(700 * 8);
        tap.left(Piece(3), at(5_310));
        assert_eq!(waiting(&parts), [('h', 1_000), ('h', 2_000), ('h', 5_000), ('-', 5_300)]);
        // The next stream counts from its own start.
        tap.queued(Piece(4), &silence(1_000));
        tap.left(Piece(4), at(6_000));
        tap.away(at(6_400));
        tap.back(at(20_000));
        tap.said(&silence(20), Some(120), at(20_130));
        assert_eq!(waiting(&parts), [('h', 6_000), ('-', 6_400), ('c', 20_100)]);
    }

    #[test]
    fn a_cut_that_finds_no_room_is_late_and_never_lost() {
        let (mut tap, parts, began) = tap(1);
        tap.queued(Piece(0), &silence(1_000));
        tap.left(Piece(0), began);
        tap.cleared(800 * 8);
        assert!(!tap.shared.lost.load(Ordering::Relaxed), "nothing is missing");
        tap.said(&silence(20), Some(500), began + Duration::from_millis(500));
        assert!(tap.shared.lost.load(Ordering::Relaxed), "there was no room");
        assert_eq!(waiting(&parts), [('h', 0)]);
        tap.said(&silence(20), Some(520), began + Duration::from_millis(520));
        assert_eq!(waiting(&parts), [('-', 200)]);
    }
}
