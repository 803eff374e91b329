//! What of a call is recorded as sound, if its assistant records calls.

use super::phone::Phone;
use crate::call::Event;
use crate::id::Piece;
use crate::link::now;
use crate::record::RecordId;
use crate::recording::{Recordings, Tap};
use switchboard_audio::Chunk;

/// See the module. By default it is not recorded.
#[derive(Default)]
pub(super) struct Sound(Option<Box<Tap>>);

impl Sound {
    /// The sound of a call whose stream begins now.
    pub fn recorded(recordings: &Recordings, id: &RecordId) -> Self {
        Self(Some(Box::new(recordings.record(id, now()))))
    }

    /// What comes from the phone, and what has left for it.
    pub fn take(&mut self, event: &Event, phone: &mut Phone) {
        let Some(tap) = &mut self.0 else { return };
        let now = now();
        match event {
            Event::CallerAudio(chunk) => {
                tap.said(chunk, phone.line().and_then(|line| line.frame_ended()), now);
            }
            Event::AudioLeft(piece) => tap.left(*piece, now),
            _ => {}
        }
        tap.goes_on(now);
    }

    /// This waits for the phone.
    pub fn queued(&mut self, piece: Piece, chunk: &Chunk) {
        if let Some(tap) = &mut self.0 {
            tap.queued(piece, chunk);
        }
    }

    /// The phone is cleared, and this many bytes of what had left were not heard.
    pub fn cleared(&mut self, unheard: u64) {
        if let Some(tap) = &mut self.0 {
            tap.cleared(unheard);
        }
    }

    /// The phone has no stream any more.
    pub fn away(&mut self) {
        if let Some(tap) = &mut self.0 {
            tap.away(now());
        }
    }

    /// The phone has another stream.
    pub fn back(&mut self) {
        if let Some(tap) = &mut self.0 {
            tap.back(now());
        }
    }

    /// The call lasts until now.
    pub fn goes_on(&mut self) {
        if let Some(tap) = &mut self.0 {
            tap.goes_on(now());
        }
    }

    /// The call is over: what the phone had to play is not heard any more.
    pub fn end(&mut self) {
        self.goes_on();
        self.0 = None;
    }
}
