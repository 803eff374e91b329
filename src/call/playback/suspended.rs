//! Playback that was suspended: what the caller has not heard, and what comes meanwhile.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Playback, Segment, Source, kept};
use crate::id::Piece;
use switchboard_audio::Chunk;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspended {
    parts: Vec<Part>,
    /// The bytes of all parts.
    bytes: u64,
    /// How many of them end with speech that the caller can hear.
    voiced: u64,
}

/// Audio of one source.
#[derive(Debug)]
pub(super) struct Part {
    pub source: Source,
    pub bytes: u64,
    /// How much of it had left for the phone.
    pub sent: u64,
    pieces: VecDeque<Box<[u8]>>,
}

impl Suspended {
    pub fn push(&mut self, source: Source, chunk: &Chunk) {
        let ulaw: Box<[u8]> = chunk.to_ulaw().into();
        self.bytes += chunk.bytes();
        match self.parts.last_mut().filter(|last| last.source == source) {
            Some(last) => {
                last.bytes += chunk.bytes();
                last.pieces.push_back(ulaw);
            }
            None => self.parts.push(Part { source, bytes: chunk.bytes(), sent: 0, pieces: [ulaw].into() }),
        }
    }

    pub fn voiced(&mut self) {
        self.voiced = self.bytes;
    }

    pub fn has_voice(&self) -> bool {
        self.voiced > 0
    }

    pub fn has(&self, source: &Source) -> bool {
        self.parts.iter().any(|part| part.source == *source)
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    pub fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        self.parts.iter_mut().map(|part| &mut part.source)
    }
}

impl Playback {
    /// Takes back what the caller has not heard: the phone is to be cleared. False if not all of it was kept: then
    /// nothing has changed.
    pub fn suspend(&mut self, now: Instant) -> bool {
        let heard = self.heard(now);
        let Some(mut pieces) = self.kept.as_mut().and_then(|kept| kept.take(heard)) else { return false };
        let mut suspended = Suspended { voiced: self.voiced.saturating_sub(heard), ..Suspended::default() };
        for segment in self.segments.iter().filter(|segment| segment.to > heard) {
            let from = segment.from.max(heard);
            let (bytes, sent) = (segment.to - from, self.left.clamp(from, segment.to) - from);
            let pieces = take_bytes(&mut pieces, bytes);
            suspended.bytes += bytes;
            suspended.parts.push(Part { source: segment.source.clone(), bytes, sent, pieces });
        }
        self.segments.retain_mut(|Segment { from, to, .. }| {
            *to = (*to).min(heard);
            from < to
        });
        self.taken_back = self.left - heard;
        self.empty_phone();
        self.suspended = Some(suspended);
        true
    }

    /// How much audio waits for playback to go on.
    pub fn suspended(&self) -> u64 {
        self.suspended.as_ref().map_or(0, |suspended| suspended.bytes)
    }

    /// Whether more waits than is kept.
    pub fn has_too_much_suspended(&self) -> bool {
        self.suspended() > kept::MOST
    }

    /// Queues what was suspended, from where the caller stopped hearing.
    pub fn resume(&mut self) -> Vec<(Piece, Chunk)> {
        let Some(suspended) = self.suspended.take() else { return Vec::new() };
        let voiced = (suspended.voiced > 0).then_some(self.queued + suspended.voiced);
        let mut queued = Vec::new();
        for part in suspended.parts {
            for chunk in part.pieces.iter().flat_map(|piece| Chunk::from_ulaw(piece).pieces()) {
                let piece = self.put(part.source.clone(), &chunk);
                queued.extend(piece.map(|piece| (piece, chunk)));
            }
        }
        self.voiced = voiced.unwrap_or(self.voiced);
        queued
    }
}

/// Takes this many bytes off the front.
fn take_bytes(pieces: &mut VecDeque<Box<[u8]>>, bytes: u64) -> VecDeque<Box<[u8]>> {
    let mut taken = VecDeque::new();
    let mut left = bytes as usize;
    while left > 0
        && let Some(piece) = pieces.pop_front()
    {
        if piece.len() <= left {
            left -= piece.len();
            taken.push_back(piece);
        } else {
            let (first, rest) = piece.split_at(left);
            taken.push_back(first.into());
            pieces.push_front(rest.into());
            left = 0;
        }
    }
    taken
}
