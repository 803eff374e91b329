//! Responses outside the conversation: one is asked for, and followed until it ends. Whatever else the model does meanwhile
//! belongs to a conversation that is over.

use std::future::poll_fn;

use tracing::Span;

use super::{ModelLink, ModelStep, out_of_band_id};
use crate::call::{About, Event, Fault, Outcome};
use crate::id::ResponseId;
use crate::provider::Failure;

/// Why a response outside the conversation did not end.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Broken {
    /// The model did not take the request.
    Refused(Failure),
    /// The session ended.
    Lost,
}

impl ModelLink {
    /// The `event_id` of the next request outside the conversation, which is the latest from here on.
    pub(super) fn next_aside(&mut self) -> String {
        self.out_of_band += 1;
        self.aside = None;
        out_of_band_id(self.out_of_band)
    }

    /// How the response to the latest request ends. `see` is shown what happens until then, with the id of that response
    /// once it is known, and may end this early.
    pub(super) async fn follow_aside<E: From<Broken>>(
        &mut self,
        mut see: impl FnMut(&Event, Option<&ResponseId>) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        loop {
            let event = self.next_event().await;
            let own = self.aside.as_ref();
            see(&event, own)?;
            match event {
                Event::ResponseEnded { response, outcome } if own == Some(&response) => return Ok(outcome),
                Event::ModelFault(Fault { about: About::OutOfBand, failure, active }) => {
                    // Nobody hears the other response: the call is over.
                    active.iter().for_each(|response| self.cancel(response));
                    return Err(Broken::Refused(failure).into());
                }
                Event::ModelLost(_) => return Err(Broken::Lost.into()),
                // Nobody would hear it.
                Event::ResponseStarted { response, .. } => self.cancel(&response),
                _ => {}
            }
        }
    }

    /// The next event, whatever it is.
    pub(super) async fn next_event(&mut self) -> Event {
        loop {
            if let ModelStep::Event(event) = poll_fn(|cx| self.poll_step(&Span::none(), cx)).await {
                return event;
            }
        }
    }
}
