//! The playback ledger: what the phone was sent, and how much of it the caller has heard.
//!
//! Positions count bytes of μ-law (8 a millisecond) from the call's first byte. *Heard* means what the phone will have
//! played when a `clear` that leaves at this instant takes effect there.
//!
//! Where the file asks for it, what was not heard is kept, so that playback can be suspended and resumed from there.

mod kept;
mod suspended;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::action::{Recording, Spoken, Truncation};
use crate::id::{ItemId, Mark, Piece, ResponseId};
use kept::Kept;
use suspended::Suspended;
use switchboard_audio::{BYTES_PER_MS, Chunk};

/// Unechoed marks that are remembered, in case a phone echoes none.
const MAX_MARKS: usize = 1024;

/// How long a mark's echo may be late before the audio counts as played without it.
const ECHO_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Playback {
    /// Which positions belong to which item, in order, up to `queued`.
    segments: VecDeque<Segment>,
    /// The pieces that have not left, and where each ends.
    waiting: VecDeque<(Piece, u64)>,
    /// The end of everything queued for the phone.
    queued: u64,
    /// The end of what has left for the phone.
    left: u64,
    /// The end of what is certainly over: played and echoed, or cleared.
    settled: u64,
    run: Option<Run>,
    marks: BTreeMap<Mark, Pending>,
    /// The end of what has a mark after it.
    marked: u64,
    /// The end of the last speech that the caller can hear.
    voiced: u64,
    next_mark: u32,
    next_piece: u64,
    least_round_trip: Option<Duration>,
    /// See [`Self::taken_back`].
    taken_back: u64,
    /// The audio that may have to be played again.
    kept: Option<Kept>,
    /// What was taken back from the phone, and may be played on.
    suspended: Option<Suspended>,
}

/// Whose audio it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Item {
        item: ItemId,
        response: ResponseId,
    },
    /// An item outside the conversation, which cannot be truncated.
    OutOfBand {
        item: ItemId,
        response: ResponseId,
    },
    /// An item of an earlier session, which cannot be truncated any more.
    Earlier {
        item: ItemId,
    },
    Recording(Recording),
    /// The hold tone.
    Tone,
}

impl Source {
    /// Whether it is what the assistant has to say.
    fn is_word(&self) -> bool {
        !matches!(self, Self::Tone | Self::Recording(Recording::Moment | Recording::CutOff))
    }

    pub fn response(&self) -> Option<&ResponseId> {
        match self {
            Source::Item { response, .. } | Source::OutOfBand { response, .. } => Some(response),
            Source::Earlier { .. } | Source::Recording(_) | Source::Tone => None,
        }
    }
}

/// What an interruption found.
#[derive(Debug, Default, PartialEq)]
pub struct Interruption {
    /// Something may still be unplayed: the phone must be cleared.
    pub clear: bool,
    /// The same, or playback was suspended.
    pub cut: bool,
    /// In the order in which the items were heard.
    pub truncations: Vec<Truncation>,
    /// One for each item and recording.
    pub spoken: Vec<Spoken>,
    /// Items of an earlier session.
    pub earlier: Vec<ItemId>,
    /// How much of each recording was heard, 0.0 to 1.0.
    pub recordings: Vec<(Recording, f64)>,
}

#[derive(Debug)]
struct Segment {
    source: Source,
    from: u64,
    to: u64,
    /// When the phone begins to play it, as far as we know.
    began: Option<Instant>,
}

/// An unbroken stretch of playback: the phone's buffer has not run dry since it began.
#[derive(Debug)]
struct Run {
    /// The position at which it began.
    base: u64,
    /// When its first byte left.
    began: Instant,
    /// Since when frames have been stuck; the clock stands still.
    stalled: Option<Instant>,
    /// The least delayed echo: its position, and when it arrived.
    echo: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct Pending {
    position: u64,
    /// When it was sent, if the phone had nothing to play: then its echo measures the round trip.
    alone_since: Option<Instant>,
}

impl Playback {
    /// `keeps`: what was not heard is kept, so that playback can be suspended.
    pub fn new(keeps: bool) -> Self {
        Self { kept: keeps.then(Kept::default), ..Self::default() }
    }

    /// Queues audio of `source` after everything queued before. `None`: playback is suspended, and it waits.
    pub fn put(&mut self, source: Source, chunk: &Chunk) -> Option<Piece> {
        if let Some(suspended) = &mut self.suspended {
            suspended.push(source, chunk);
            return None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(self.queued, chunk);
        }
        Some(self.queue(source, chunk.bytes()))
    }

    fn queue(&mut self, source: Source, bytes: u64) -> Piece {
        let piece = Piece(self.next_piece);
        self.next_piece += 1;
        let from = self.queued;
        self.queued += bytes;
        self.waiting.push_back((piece, self.queued));
        match self.segments.back_mut() {
            Some(last) if last.source == source && last.to == from => last.to = self.queued,
            _ => self.segments.push_back(Segment { source, from, to: self.queued, began: None }),
        }
        piece
    }

    /// A mark after everything queued before.
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

    /// The socket has taken `piece`. Returns whether it was a word, and not something that stands in for one.
    pub fn left(&mut self, piece: Piece, now: Instant) -> bool {
        // Pieces leave in order. One that an interruption dropped is unknown here.
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == piece) else { return false };
        let end = self.waiting.drain(..=at).next_back().map_or(self.left, |(_, end)| end);
        let dry =
            self.settled == self.left || self.run.as_ref().is_none_or(|run| run.by_clock(now) >= self.left);
        if dry {
            self.run = Some(Run { base: self.left, began: now, stalled: None, echo: None });
        }
        let run = self.run.as_mut().expect("a run has begun, above or before");
        if let Some(since) = run.stalled.take() {
            run.began += now.saturating_duration_since(since);
        }
        for segment in &mut self.segments {
            if segment.began.is_none() && segment.from < end {
                segment.began = Some(now.max(run.began + time(segment.from.saturating_sub(run.base))));
            }
        }
        self.left = end;
        let source = self.segments.iter().find(|segment| segment.to >= end).map(|segment| &segment.source);
        source.is_some_and(Source::is_word)
    }

    /// A frame is stuck: the clock proves nothing until one leaves again.
    pub fn stalled(&mut self, now: Instant) {
        if let Some(run) = &mut self.run {
            run.stalled.get_or_insert(now);
        }
    }

    /// The phone echoed `mark`. A second echo, or the echo of a cleared mark, proves nothing. Returns false for a mark
    /// that was never sent.
    pub fn played(&mut self, mark: Mark, now: Instant) -> bool {
        let Some(pending) = self.marks.remove(&mark) else { return mark.0 < self.next_mark };
        if let Some(sent) = pending.alone_since {
            let round_trip = now.saturating_duration_since(sent);
            self.least_round_trip =
                Some(self.least_round_trip.map_or(round_trip, |least| least.min(round_trip)));
        }
        self.settle(self.settled.max(pending.position.min(self.left)));
        if let Some(run) = &mut self.run
            && pending.position > run.base
        {
            let better = |(position, at): (u64, Instant)| {
                position + bytes(now.saturating_duration_since(at)) < pending.position
            };
            if run.echo.is_none_or(better) {
                run.echo = Some((pending.position, now));
            }
            // No phone plays faster than time passes: our clock stood still, and the run began earlier by it.
            if let Some(began) = now.checked_sub(time(pending.position - run.base)) {
                run.began = run.began.min(began);
            }
        }
        true
    }

    /// Counts audio as played if its echoes are long overdue.
    pub fn presume(&mut self, now: Instant) {
        if self.presumed_over().is_some_and(|at| at <= now) {
            self.settle(self.left);
        }
    }

    /// Everything up to this position is over.
    fn settle(&mut self, position: u64) {
        self.settled = position;
        if let Some(kept) = &mut self.kept {
            kept.forget(position);
        }
    }

    /// Drops everything unplayed. An item of the `active` response is truncated even if all of it was heard, because it
    /// was about to grow.
    pub fn interrupt(&mut self, active: Option<&ResponseId>, now: Instant) -> Interruption {
        let heard = self.heard(now);
        self.taken_back = self.left - heard;
        let clear = self.settled < self.queued;
        let cut = clear || self.suspended.is_some();
        let mut found = Interruption { clear, cut, ..Interruption::default() };
        for share in self.shares(heard) {
            let grows = matches!(share.source, Source::Item { response, .. } if Some(response) == active);
            let cut = share.heard < share.total || grows;
            match share.source {
                Source::Item { item, .. } if cut => found
                    .truncations
                    .push(Truncation { item: item.clone(), audio_end_ms: millis(share.heard) }),
                Source::Earlier { item } => found.earlier.push(item.clone()),
                Source::Item { .. } | Source::OutOfBand { .. } | Source::Tone => {}
                Source::Recording(recording) => {
                    let heard = share.heard as f64 / share.total.max(1) as f64;
                    found.recordings.push((*recording, heard));
                }
            }
            found.spoken.extend(share.spoken(share.heard < share.total));
        }
        self.drop_unplayed();
        found
    }

    /// How many bytes had left for the phone, and were not heard, when the last interruption came.
    pub fn taken_back(&self) -> u64 {
        self.taken_back
    }

    /// The phone's socket is gone: what was on its way is lost, and a new socket will have other delays. Pieces and marks
    /// continue to count up.
    pub fn disconnected(&mut self) {
        self.drop_unplayed();
        self.least_round_trip = None;
    }

    fn drop_unplayed(&mut self) {
        self.segments.clear();
        self.suspended = None;
        self.empty_phone();
    }

    /// The phone's buffer is empty.
    fn empty_phone(&mut self) {
        self.waiting.clear();
        self.marks.clear();
        self.queued = self.left;
        self.marked = self.left;
        self.voiced = self.voiced.min(self.left);
        self.run = None;
        self.settle(self.left);
    }

    /// The model's session is gone. What the phone has, or would have, plays on.
    pub fn session_gone(&mut self) {
        let suspended = self.suspended.iter_mut().flat_map(Suspended::sources);
        for source in self.segments.iter_mut().map(|segment| &mut segment.source).chain(suspended) {
            if let Source::Item { item, .. } | Source::OutOfBand { item, .. } = source {
                *source = Source::Earlier { item: item.clone() };
            }
        }
    }

    /// Everything queued so far ends with speech that the caller can hear.
    pub fn voiced(&mut self) {
        match &mut self.suspended {
            Some(suspended) => suspended.voiced(),
            None => self.voiced = self.queued,
        }
    }

    /// Whether speech is the last that is queued, and it has no mark yet.
    pub fn ends_with_voice(&self) -> bool {
        self.voiced == self.queued && self.marked < self.queued
    }

    /// Whether the caller has heard all speech that is queued. The hold tone, and silence that the model sent, may play.
    pub fn is_voice_over(&self) -> bool {
        self.settled >= self.voiced && self.suspended.as_ref().is_none_or(|it| !it.has_voice())
    }

    /// Whether nothing is left to play but the hold tone, or silence that other responses sent.
    pub fn has_no_words(&self, response: Option<&ResponseId>) -> bool {
        let mut unplayed = self.segments.iter().filter(|segment| segment.to > self.settled).peekable();
        let is_recording = |source: &Source| matches!(source, Source::Recording(_));
        unplayed.peek().is_some()
            && self.is_voice_over()
            && unplayed.all(|it| {
                !is_recording(&it.source) && (response.is_none() || it.source.response() != response)
            })
    }

    /// How many milliseconds of each item are queued or played.
    pub fn sent(&self) -> Vec<(ItemId, u64)> {
        let items = self.shares(self.queued).into_iter().filter_map(|share| match share.source {
            Source::Item { item, .. } | Source::Earlier { item } => Some((item.clone(), millis(share.total))),
            Source::OutOfBand { .. } | Source::Recording(_) | Source::Tone => None,
        });
        items.collect()
    }

    /// Forgets items that were heard to their end. Items of the `running` responses stay, because they may grow.
    pub fn forget_heard(&mut self, running: [Option<&ResponseId>; 2]) -> Vec<Spoken> {
        let over = self.settled;
        let suspended = self.suspended.as_ref();
        let grows = |source: &Source| {
            source.response().is_some_and(|response| running.contains(&Some(response)))
                || suspended.is_some_and(|suspended| suspended.has(source))
        };
        let done = |segment: &Segment| segment.to <= over && !grows(&segment.source);
        if !self.segments.front().is_some_and(done) {
            return Vec::new();
        }
        let goes_on: Vec<Source> =
            self.segments.iter().filter(|segment| !done(segment)).map(|it| it.source.clone()).collect();
        let shares = self.shares(over).into_iter().filter(|share| !goes_on.contains(share.source));
        let spoken = shares.filter_map(|share| share.spoken(false)).collect();
        self.segments.retain(|segment| goes_on.contains(&segment.source));
        spoken
    }

    /// The position that the caller has heard: the smaller of two estimates, but never below what an echo proved and
    /// never above what has left. One is the time since this run's first byte left. The other is the position of the
    /// least delayed echo, plus the time since, plus the least round trip.
    pub fn heard(&self, now: Instant) -> u64 {
        let Some(run) = &self.run else { return self.left };
        let by_clock = run.by_clock(now);
        let by_echo = run.echo.map(|(position, at)| {
            let round_trip = self.least_round_trip.unwrap_or_default();
            position + bytes(now.saturating_duration_since(at) + round_trip)
        });
        by_echo.map_or(by_clock, |by_echo| by_echo.min(by_clock)).max(self.settled).min(self.left)
    }

    /// What the caller hears now.
    pub fn speaking(&self, now: Instant) -> Option<Spoken> {
        let shares = self.shares(self.heard(now));
        let share = shares.iter().rev().find(|share| share.heard > 0)?;
        share.spoken(false).filter(|_| !self.is_quiet())
    }

    /// The item that the caller heard last, and how many milliseconds of it, when playback was suspended.
    pub fn last_heard(&self) -> Option<(ItemId, u64)> {
        let shares = self.shares(self.settled);
        let share = shares.iter().rev().find(|share| share.heard > 0)?;
        match share.source {
            Source::Item { item, .. } | Source::Earlier { item } => Some((item.clone(), millis(share.heard))),
            Source::OutOfBand { .. } | Source::Recording(_) | Source::Tone => None,
        }
    }

    /// Since when the phone has played without a break.
    pub fn plays_since(&self) -> Option<Instant> {
        self.run.as_ref().map(|run| run.began)
    }

    /// The least time from here to the phone and back, as far as it is known.
    pub fn round_trip(&self) -> Duration {
        self.least_round_trip.unwrap_or_default()
    }

    /// Nothing is queued, and nothing sent is still to be played.
    pub fn is_quiet(&self) -> bool {
        self.queued == self.settled && self.suspended.is_none()
    }

    /// When the audio counts as played even if no echo ever comes. `None` while some has not left.
    pub fn presumed_over(&self) -> Option<Instant> {
        if self.queued > self.left || self.settled == self.left {
            return None;
        }
        let run = self.run.as_ref()?;
        Some(run.began + time(self.left - run.base) + ECHO_GRACE)
    }

    /// When the phone will have played what has no mark after it. `None` while some has not left.
    pub fn unmarked_over(&self) -> Option<Instant> {
        let run = self.run.as_ref().filter(|_| self.unmarked() > 0 && self.queued == self.left)?;
        Some(run.began + time(self.left - run.base))
    }

    /// How long the phone still has to play.
    pub fn remaining(&self, now: Instant) -> Duration {
        let heard = if self.settled == self.left { self.left } else { self.heard(now) };
        time(self.queued - heard)
    }

    /// How many queued bytes may not have been played.
    pub fn unplayed(&self) -> u64 {
        self.queued - self.settled
    }

    /// The position after everything queued.
    pub fn end(&self) -> u64 {
        self.queued
    }

    /// How many bytes were queued since the last mark.
    pub fn unmarked(&self) -> u64 {
        self.queued - self.marked
    }

    /// What was heard of each source, in playback order, when the phone is at position `heard`.
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
            };
            match shares.iter_mut().find(|share| share.source == add.source) {
                Some(share) => {
                    share.total += add.total;
                    share.sent += add.sent;
                    share.heard += add.heard;
                }
                None => shares.push(add),
            }
        }
        for part in self.suspended.iter().flat_map(Suspended::parts) {
            let (total, sent) = (part.bytes, part.sent);
            match shares.iter_mut().find(|share| *share.source == part.source) {
                Some(share) => {
                    share.total += total;
                    share.sent += sent;
                }
                None => shares.push(Share { source: &part.source, began: None, total, sent, heard: 0 }),
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
}

impl Share<'_> {
    fn spoken(&self, interrupted: bool) -> Option<Spoken> {
        let (item, recording) = match self.source {
            Source::Item { item, .. } | Source::OutOfBand { item, .. } | Source::Earlier { item } => {
                (Some(item.clone()), None)
            }
            Source::Recording(recording) => (None, Some(*recording)),
            Source::Tone => return None,
        };
        Some(Spoken {
            item,
            recording,
            began: self.began?,
            sent_ms: millis(self.sent),
            heard_ms: millis(self.heard),
            interrupted,
        })
    }
}

fn millis(bytes: u64) -> u64 {
    bytes / BYTES_PER_MS as u64
}

fn time(bytes: u64) -> Duration {
    Duration::from_micros(bytes * 1000 / BYTES_PER_MS as u64)
}

fn bytes(time: Duration) -> u64 {
    (time.as_micros() * BYTES_PER_MS as u128 / 1000) as u64
}
