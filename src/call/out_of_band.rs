//! Telling the caller to wait while a response runs that waits itself, for a tool of the model's host: an aside. It is
//! made beside that response and outside of the conversation, so the phone can be cleared of it, but nothing of it can be
//! truncated, and the model's host never stops it by itself.

use std::collections::VecDeque;
use std::time::Instant;

use super::action::{Action, Anomaly, Request};
use super::event::Outcome;
use super::playback::Source;
use super::responses::remember;
use super::{Call, odd};
use crate::id::{ItemId, ResponseId};
use switchboard_audio::Chunk;

/// Asides whose late audio is still recognised: there is one in a batch of tools.
const REMEMBERED: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asides {
    /// One was asked for, and has not begun.
    asked: bool,
    /// The one that may be heard.
    running: Option<ResponseId>,
    /// All that there were: what still comes of one is never taken for the conversation's.
    known: VecDeque<ResponseId>,
}

impl Asides {
    /// Whether the response is one.
    pub fn knows(&self, response: &ResponseId) -> bool {
        self.known.contains(response)
    }

    pub fn running(&self) -> Option<&ResponseId> {
        self.running.as_ref()
    }

    /// What was asked for and has not begun is not wanted any more.
    pub fn forget_asked(&mut self) {
        self.asked = false;
    }
}

impl Call {
    pub(super) fn say_aside(&mut self, request: Request, out: &mut Vec<Action>) {
        self.asides.asked = true;
        out.push(Action::SayOutOfBand(request));
    }

    pub(super) fn aside_started(&mut self, response: ResponseId, out: &mut Vec<Action>) {
        if self.asides.knows(&response) || self.responses.knows(&response) {
            return; // It began before, in whichever way.
        }
        remember(&mut self.asides.known, response.clone(), REMEMBERED);
        let asked = std::mem::take(&mut self.asides.asked);
        if asked && self.ending.is_none() && self.parked.is_none() {
            self.asides.running = Some(response);
        } else {
            out.push(Action::CancelResponse(response));
        }
    }

    pub(super) fn aside_audio(
        &mut self,
        response: ResponseId,
        item: ItemId,
        chunk: Chunk,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.asides.running.as_ref() != Some(&response) {
            return odd(Anomaly::ModelLateAudio, out);
        }
        if self.must_drop() {
            return odd(Anomaly::ModelAudioDropped, out);
        }
        self.put_out(Source::Aside { item, response }, chunk, now, out);
    }

    pub(super) fn aside_ended(
        &mut self,
        response: &ResponseId,
        outcome: Outcome,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.asides.running.take_if(|running| running == response);
        self.mark(now, out);
        if matches!(outcome, Outcome::Failed | Outcome::Refused) {
            // Nothing is made up for: what it bridges goes on.
            odd(Anomaly::ModelFailedResponse, out);
        }
    }

    /// The caller or the conversation speaks: nothing more of it is played. What the phone has of it is another matter.
    pub(super) fn stop_aside(&mut self, out: &mut Vec<Action>) {
        self.asides.asked = false;
        out.extend(self.asides.running.take().map(Action::CancelResponse));
    }
}
