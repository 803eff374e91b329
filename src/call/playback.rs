//! The playback ledger: what the phone was sent, and how much of it the caller has heard.
//!
//! It counts bytes of μ-law (8 a millisecond) as positions from the call's first byte on. *Heard* means what the
//! phone will have played when a `clear` that leaves this instant takes effect there.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::call::action::{Spoken, Truncation};
use crate::id::{ItemId, Mark, Piece, ResponseId};
use switchboard_audio::BYTES_PER_MS;

/// Marks that may be under way at once. A phone that echoes none cannot make us remember more.
const MAX_MARKS: usize = 1024;

/// How long after its time a mark's echo is waited for, before audio counts as played without it.
const ECHO_GRACE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub struct Playback {
    /// Which positions belong to which item, in order, up to `queued`.
    segments: VecDeque<Segment>,
    /// Where each piece that waits to be sent ends.
    waiting: VecDeque<(Piece, u64)>,
    /// The end of all that was put out for the phone.
    queued: u64,
    /// The end of what has left.
    left: u64,
    /// The end of what is surely over: played and echoed, or cleared.
    settled: u64,
    run: Option<Run>,
    marks: BTreeMap<Mark, Pending>,
    /// The end of what has a mark behind it.
    marked: u64,
    next_mark: u32,
    next_piece: u64,
    least_round_trip: Option<Duration>,
}

/// Whose audio it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Item {
        item: ItemId,
        response: ResponseId,
    },
    /// What the model says outside of the conversation: nothing there can be truncated.
    Aside {
        item: ItemId,
        response: ResponseId,
    },
    /// A recorded greeting: no item of the model's.
    Clip,
}

impl Source {
    fn response(&self) -> Option<&ResponseId> {
        match self {
            Source::Item { response, .. } | Source::Aside { response, .. } => Some(response),
            Source::Clip => None,
        }
    }
}

/// What an interruption found.
#[derive(Debug, Default, PartialEq)]
pub struct Interruption {
    /// Something waits, or may still be unplayed: the phone must be cleared.
    pub clear: bool,
    /// What the model must be told, in the order in which it was heard.
    pub truncations: Vec<Truncation>,
    /// What became of each item, and of the clip.
    pub spoken: Vec<Spoken>,
    /// How much of the recorded greeting was heard, 0.0 to 1.0.
    pub clip_share: Option<f64>,
}

#[derive(Debug)]
struct Segment {
    source: Source,
    from: u64,
    to: u64,
    /// When the phone begins to play it, as far as we can know.
    began: Option<Instant>,
}

/// An unbroken stretch of playing: the phone's buffer has not run dry since it began.
#[derive(Debug)]
struct Run {
    /// The position at which it began.
    base: u64,
    /// When its first byte left.
    began: Instant,
    /// Since when frames have been waiting to leave; the clock stands still.
    stalled: Option<Instant>,
    /// The least delayed echo: its position, and when it was heard of.
    echo: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct Pending {
    position: u64,
    /// When it was sent, if the phone had nothing to play then: its echo measures the round trip.
    alone_since: Option<Instant>,
}

impl Playback {
    /// Puts audio of `source` behind all that was put out before.
    pub fn put(&mut self, source: Source, bytes: u64) -> Piece {
        let piece = Piece(self.next_piece);
        self.next_piece += 1;
        let from = self.queued;
        self.queued += bytes;
        self.waiting.push_back((piece, self.queued));
        match self.segments.back_mut() {
            Some(last) if last.source == source => last.to = self.queued,
            _ => self.segments.push_back(Segment { source, from, to: self.queued, began: None }),
        }
        piece
    }

    /// A mark behind all that was put out before.
    pub fn mark(&mut self, now: Instant) -> Mark {
        let mark = Mark(self.next_mark);
        self.next_mark += 1;
        let alone = self.settled == self.queued;
        self.marks.insert(mark, Pending { position: self.queued, alone_since: alone.then_some(now) });
        if self.marks.len() > MAX_MARKS {
            self.marks.pop_first();
        }
        self.marked = self.queued;
        mark
    }

    /// The socket has taken `piece`.
    pub fn left(&mut self, piece: Piece, now: Instant) {
        // Pieces leave in order; one that was taken back by an interruption is unknown here.
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == piece) else { return };
        let end = self.waiting.drain(..=at).next_back().map_or(self.left, |(_, end)| end);
        let dry =
            self.settled == self.left || self.run.as_ref().is_none_or(|run| run.by_clock(now) >= self.left);
        if dry {
            self.run = Some(Run { base: self.left, began: now, stalled: None, echo: None });
        }
        let run = self.run.as_mut().expect("a run was begun above, or was under way");
        if let Some(since) = run.stalled.take() {
            run.began += now.saturating_duration_since(since);
        }
        for segment in &mut self.segments {
            if segment.began.is_none() && segment.from < end {
                segment.began = Some(now.max(run.began + time(segment.from.saturating_sub(run.base))));
            }
        }
        self.left = end;
    }

    /// A frame waits: from now on the clock proves nothing, until one leaves again.
    pub fn stalled(&mut self, now: Instant) {
        if let Some(run) = &mut self.run {
            run.stalled.get_or_insert(now);
        }
    }

    /// The phone echoed `mark`. One that was echoed before, or cleared, proves nothing. False for one that was
    /// never sent.
    pub fn played(&mut self, mark: Mark, now: Instant) -> bool {
        let Some(pending) = self.marks.remove(&mark) else { return mark.0 < self.next_mark };
        if let Some(sent) = pending.alone_since {
            let round_trip = now.saturating_duration_since(sent);
            self.least_round_trip =
                Some(self.least_round_trip.map_or(round_trip, |least| least.min(round_trip)));
        }
        self.settled = self.settled.max(pending.position.min(self.left));
        if let Some(run) = &mut self.run
            && pending.position > run.base
        {
            let better = |(position, at): (u64, Instant)| {
                position + bytes(now.saturating_duration_since(at)) < pending.position
            };
            if run.echo.is_none_or(better) {
                run.echo = Some((pending.position, now));
            }
        }
        true
    }

    /// Where echoes are long overdue, takes the audio as played without them.
    pub fn presume(&mut self, now: Instant) {
        if self.presumed_over().is_some_and(|at| at <= now) {
            self.settled = self.left;
        }
    }

    /// The caller talks over it, or the server cuts it: everything unplayed is given up. An item of the `active`
    /// response is truncated even where all of it was heard, because it was about to grow.
    pub fn interrupt(&mut self, active: Option<&ResponseId>, now: Instant) -> Interruption {
        let heard = self.heard(now);
        let mut found = Interruption { clear: self.settled < self.queued, ..Interruption::default() };
        for share in self.shares(heard) {
            let grows = matches!(share.source, Source::Item { response, .. } if Some(response) == active);
            let cut = share.heard < share.total || grows;
            match share.source {
                Source::Item { item, .. } if cut => found
                    .truncations
                    .push(Truncation { item: item.clone(), audio_end_ms: millis(share.heard) }),
                Source::Item { .. } | Source::Aside { .. } => {}
                Source::Clip => found.clip_share = Some(share.heard as f64 / share.total.max(1) as f64),
            }
            found.spoken.extend(share.spoken(share.heard < share.total));
        }
        self.segments.clear();
        self.waiting.clear();
        self.marks.clear();
        self.queued = self.left;
        self.settled = self.left;
        self.marked = self.left;
        self.run = None;
        found
    }

    /// The phone's socket is gone, and another may come: what is under way is lost, and nothing is known of the new
    /// one's delays. Pieces and marks go on counting.
    pub fn disconnected(&mut self) {
        self.segments.clear();
        self.waiting.clear();
        self.marks.clear();
        self.queued = self.left;
        self.settled = self.left;
        self.marked = self.left;
        self.run = None;
        self.least_round_trip = None;
    }

    /// Forgets items that were heard to their end; those of the `running` responses may still grow.
    pub fn forget_heard(&mut self, running: [Option<&ResponseId>; 2]) -> Vec<Spoken> {
        let over = self.settled;
        let grows = |source: &Source| source.response().is_some_and(|of| running.contains(&Some(of)));
        let done = |segment: &Segment| segment.to <= over && !grows(&segment.source);
        if !self.segments.front().is_some_and(done) {
            return Vec::new();
        }
        let spoken = self.shares(over).into_iter().filter(|share| share.to <= over);
        let spoken: Vec<Spoken> =
            spoken.filter(|share| !grows(share.source)).filter_map(|share| share.spoken(false)).collect();
        self.segments.retain(|segment| !done(segment));
        spoken
    }

    /// The position that the caller has heard. Two estimates: the time since this run's first byte left, and the
    /// least delayed echo plus the time since plus the least round trip. The smaller one holds, never below what
    /// an echo proved and never above what has left.
    pub fn heard(&self, now: Instant) -> u64 {
        let Some(run) = &self.run else { return self.left };
        let by_clock = run.by_clock(now);
        let by_echo = run.echo.map(|(position, at)| {
            let round_trip = self.least_round_trip.unwrap_or_default();
            position + bytes(now.saturating_duration_since(at) + round_trip)
        });
        by_echo.map_or(by_clock, |by_echo| by_echo.min(by_clock)).max(self.settled).min(self.left)
    }

    /// Nothing waits, and nothing sent is still to be played.
    pub fn is_quiet(&self) -> bool {
        self.queued == self.settled
    }

    /// When the audio counts as played even if no echo ever comes. `None` while some waits to be sent.
    pub fn presumed_over(&self) -> Option<Instant> {
        if self.queued > self.left || self.settled == self.left {
            return None;
        }
        Some(self.ends()? + ECHO_GRACE)
    }

    /// How long the phone still has to play.
    pub fn remaining(&self, now: Instant) -> Duration {
        let heard = if self.settled == self.left { self.left } else { self.heard(now) };
        time(self.queued - heard)
    }

    /// How many bytes were put out and may not have been played.
    pub fn unplayed(&self) -> u64 {
        self.queued - self.settled
    }

    /// The position behind all that was put out.
    pub fn end(&self) -> u64 {
        self.queued
    }

    /// How many bytes were put out since the last mark.
    pub fn unmarked(&self) -> u64 {
        self.queued - self.marked
    }

    fn ends(&self) -> Option<Instant> {
        let run = self.run.as_ref()?;
        Some(run.began + time(self.left - run.base))
    }

    /// Per source, in the order of hearing, what was heard when the phone stands at `heard`.
    fn shares(&self, heard: u64) -> Vec<Share<'_>> {
        let mut shares: Vec<Share<'_>> = Vec::new();
        for segment in &self.segments {
            let within = |position: u64| position.clamp(segment.from, segment.to) - segment.from;
            let add = Share {
                source: &segment.source,
                began: segment.began,
                total: segment.to - segment.from,
                sent: within(self.left),
                heard: within(heard),
                to: segment.to,
            };
            match shares.iter_mut().find(|share| share.source == add.source) {
                Some(share) => {
                    share.total += add.total;
                    share.sent += add.sent;
                    share.heard += add.heard;
                    share.to = add.to;
                }
                None => shares.push(add),
            }
        }
        shares
    }
}

impl Run {
    fn by_clock(&self, now: Instant) -> u64 {
        let until = self.stalled.map_or(now, |since| since.min(now));
        self.base + bytes(until.saturating_duration_since(self.began))
    }
}

struct Share<'a> {
    source: &'a Source,
    began: Option<Instant>,
    total: u64,
    sent: u64,
    heard: u64,
    to: u64,
}

impl Share<'_> {
    fn spoken(&self, interrupted: bool) -> Option<Spoken> {
        Some(Spoken {
            item: match self.source {
                Source::Item { item, .. } | Source::Aside { item, .. } => Some(item.clone()),
                Source::Clip => None,
            },
            began: self.began?,
            sent_ms: millis(self.sent),
            heard_ms: millis(self.heard),
            interrupted,
        })
    }
}

/// Whole milliseconds of so many bytes.
fn millis(bytes: u64) -> u64 {
    bytes / BYTES_PER_MS as u64
}

/// How long so many bytes play.
fn time(bytes: u64) -> Duration {
    Duration::from_micros(bytes * 1000 / BYTES_PER_MS as u64)
}

/// How many bytes play in that time.
fn bytes(time: Duration) -> u64 {
    (time.as_micros() * BYTES_PER_MS as u128 / 1000) as u64
}
