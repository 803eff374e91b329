//! What a session waits for, in order: what waits in the sockets is read before any deadline is judged, also after
//! the process stood still.

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::clock::Clock;
use super::jobs::Jobs;
use super::model::Model;
use super::phone::{Phone, PhoneStep};
use super::rare;
use super::registry::Command;
use crate::call::Event;
use crate::link::model::ModelStep;

/// What happened.
pub(super) enum Input {
    Phone(PhoneStep),
    Model(ModelStep),
    Job(Event),
    Command(Command),
    /// The timer fired.
    Tick,
}

/// Where inputs come from.
pub(super) struct Inputs<'a> {
    pub phone: &'a mut Phone,
    pub model: &'a mut Model,
    pub jobs: &'a mut Jobs,
    pub commands: &'a mut rare::Receiver<Command>,
    pub clock: &'a mut Clock,
    pub turns: &'a mut Turns,
}

/// Who is asked first, so that nobody keeps the others waiting.
#[derive(Debug, Default)]
pub(super) struct Turns {
    model_first: bool,
    /// How many inputs in a row came from the sockets.
    in_a_row: u32,
}

/// After so many inputs of the sockets, the others are asked, and then the other sessions of the thread.
const IN_A_ROW: u32 = 64;

impl Inputs<'_> {
    /// Waits for the next input. Cancel-safe: everything happens within one poll.
    pub async fn next(mut self) -> Input {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let yields = self.turns.in_a_row >= IN_A_ROW;
        if !yields && let Poll::Ready(input) = self.poll_sockets(cx) {
            self.turns.in_a_row += 1;
            return Poll::Ready(input);
        }
        self.turns.in_a_row = 0;
        if yields {
            cx.waker().wake_by_ref();
        }
        if let Poll::Ready(event) = self.jobs.poll_event(cx) {
            return Poll::Ready(Input::Job(event));
        }
        if let Poll::Ready(command) = self.commands.poll(cx) {
            return Poll::Ready(Input::Command(command));
        }
        // Whether the phone accepts what waits for it has just turned out.
        self.clock.arm(None, self.phone.line().and_then(|line| line.deadline()));
        self.clock.poll_fired(cx).map(|()| Input::Tick)
    }

    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let mut model_next = self.turns.model_first;
        self.turns.model_first = !model_next;
        for _ in 0..2 {
            let input = match model_next {
                // A phone that does not keep up stops the model, too.
                true if self.phone.is_full() => Poll::Pending,
                true => self.model.poll_step(cx).map(Input::Model),
                false => self.phone.poll_step(cx).map(Input::Phone),
            };
            if input.is_ready() {
                return input;
            }
            model_next = !model_next;
        }
        Poll::Pending
    }
}
