//! The out-of-band response: it tells the caller to wait while the running response waits for a hosted tool.
//!
//! The model makes it next to that response and outside the conversation. The phone can be cleared of it, but it
//! cannot be truncated, and the model's host never interrupts it.

use std::collections::VecDeque;
use std::time::Instant;

use super::action::{Action, Anomaly, Request};
use super::event::Outcome;
use super::playback::Source;
use super::speech::remember;
use super::{Call, count};
use crate::id::{ItemId, ResponseId};
use switchboard_audio::Chunk;

/// Responses whose late audio is recognised; there is one for each batch of tools.
const REMEMBERED: usize = 16;

#[derive(Debug, Default)]
pub(super) struct OutOfBand {
    /// One is requested and has not started.
    asked: bool,
    /// The one that may be heard.
    running: Option<ResponseId>,
    /// All recent ones, so that late events are not attributed to the conversation.
    known: VecDeque<ResponseId>,
}

impl OutOfBand {
    pub fn knows(&self, response: &ResponseId) -> bool {
        self.known.contains(response)
    }

    pub fn running(&self) -> Option<&ResponseId> {
        self.running.as_ref()
    }

    /// Withdraws a request whose response has not started.
    pub fn forget_asked(&mut self) {
        self.asked = false;
    }
}

impl Call {
    pub(super) fn say_out_of_band(&mut self, request: Request, out: &mut Vec<Action>) {
        self.out_of_band.asked = true;
        out.push(Action::SayOutOfBand(request));
    }

    pub(super) fn out_of_band_started(&mut self, response: ResponseId, out: &mut Vec<Action>) {
        if self.out_of_band.knows(&response) || self.speech.knows(&response) {
            return; // It has started already, in band or out of band.
        }
        remember(&mut self.out_of_band.known, response.clone(), REMEMBERED);
        let asked = std::mem::take(&mut self.out_of_band.asked);
        if asked && self.ending.is_none() && !self.is_away() {
            self.out_of_band.running = Some(response);
        } else {
            out.push(Action::CancelResponse(response));
        }
    }

    pub(super) fn out_of_band_audio(
        &mut self,
        response: ResponseId,
        item: ItemId,
        chunk: Chunk,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        if self.out_of_band.running.as_ref() != Some(&response) {
            return count(Anomaly::ModelLateAudio, out);
        }
        if self.must_drop_audio() {
            return count(Anomaly::ModelAudioDropped, out);
        }
        self.play_voice(Source::OutOfBand { item, response }, chunk, now, out);
    }

    pub(super) fn out_of_band_ended(
        &mut self,
        response: &ResponseId,
        outcome: &Outcome,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.out_of_band.running.take_if(|running| running == response);
        self.mark(now, out);
        if matches!(outcome, Outcome::Failed(_)) {
            // It is not retried: the response that it bridges goes on.
            count(Anomaly::ModelFailedResponse, out);
        }
    }

    /// The caller or the conversation speaks: play no more of it. Audio that already left stays with the phone.
    pub(super) fn stop_out_of_band(&mut self, out: &mut Vec<Action>) {
        self.out_of_band.asked = false;
        out.extend(self.out_of_band.running.take().map(Action::CancelResponse));
    }
}
