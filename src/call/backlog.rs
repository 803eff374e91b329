//! What waits for a model that is not ready: the caller's audio, and lines for the conversation. Both are bounded.

use std::collections::VecDeque;

use super::action::{Action, Line};
use switchboard_audio::Chunk;

/// How much of the caller's audio is kept: 10 s.
const MAX_BYTES: u64 = 80_000;
const MAX_LINES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    audio: VecDeque<Chunk>,
    bytes: u64,
    lines: Vec<Line>,
}

impl Backlog {
    /// Keeps the newest audio. Returns how many old chunks were dropped to make room.
    pub fn push_audio(&mut self, chunk: Chunk) -> usize {
        self.bytes += chunk.bytes();
        self.audio.push_back(chunk);
        let mut dropped = 0;
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.audio.pop_front()
        {
            self.bytes -= oldest.bytes();
            dropped += 1;
        }
        dropped
    }

    /// Keeps a line; at the limit, the line is dropped.
    pub fn push_line(&mut self, line: Line) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line);
        }
    }

    /// A session that knows the conversation needs none of it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn drain_into(&mut self, out: &mut Vec<Action>) {
        self.bytes = 0;
        out.extend(self.lines.drain(..).map(Action::TellModel));
        out.extend(self.audio.drain(..).map(Action::AppendToModel));
    }
}
