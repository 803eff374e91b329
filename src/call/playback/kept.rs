//! What was queued for the phone and may not have been heard, as μ-law: 8 KB for each second.

use std::collections::VecDeque;

use switchboard_audio::{BYTES_PER_MS, Chunk};

/// The most audio that is kept: 120 s.
pub(super) const MOST: u64 = 120_000 * BYTES_PER_MS as u64;

#[derive(Debug, Default)]
pub(super) struct Kept {
    pieces: VecDeque<Box<[u8]>>,
    /// The position of the first byte.
    from: u64,
    bytes: u64,
    /// Up to this position, some is missing: there was more than is kept.
    missing: u64,
}

impl Kept {
    /// Audio is queued at `position`, after all that is kept.
    pub fn push(&mut self, position: u64, chunk: &Chunk) {
        if self.bytes + chunk.bytes() > MOST {
            self.pieces.clear();
            self.bytes = 0;
            self.missing = position + chunk.bytes();
        }
        if self.pieces.is_empty() {
            self.from = position;
        }
        if self.missing > position {
            return;
        }
        self.pieces.push_back(chunk.to_ulaw().into());
        self.bytes += chunk.bytes();
    }

    /// Nothing before `position` will be needed.
    pub fn forget(&mut self, position: u64) {
        while let Some(first) = self.pieces.front().map(|piece| piece.len() as u64)
            && self.from + first <= position
        {
            self.pieces.pop_front();
            (self.from, self.bytes) = (self.from + first, self.bytes - first);
        }
        if self.pieces.is_empty() {
            self.pieces.shrink_to_fit();
        }
    }

    /// Takes everything from `position` on. `None`: some of it is missing.
    pub fn take(&mut self, position: u64) -> Option<VecDeque<Box<[u8]>>> {
        if self.missing > position {
            return None;
        }
        self.forget(position);
        self.bytes = 0;
        let mut pieces = std::mem::take(&mut self.pieces);
        if let Some(first) = pieces.front_mut()
            && position > self.from
        {
            *first = first[(position - self.from) as usize..].into();
        }
        Some(pieces)
    }
}
