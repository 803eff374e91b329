//! A telephone behind Twilio: it calls a running server, follows its TwiML, opens the media stream, plays the audio on a
//! real clock, and records everything.
//!
//! It is written from Twilio's documentation alone and shares no type with the server, so that one misreading cannot
//! pass at both ends. Everything that Twilio would reject is a [`Violation`] in the record.

mod address;
mod call;
mod connect;
mod control;
mod dial;
mod http;
mod message;
mod options;
mod playback;
mod record;
mod sign;
mod state;
mod stream;
mod twiml;
pub mod voice;
mod webhook;

use std::ops::Deref;

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use control::{Act, Control, Line, Playing, When};
pub use options::{DialOutcome, Fault, Network, PhoneOptions};
pub use record::{
    CallEnd, CallRecord, Cleared, Dialled, Fetched, Happened, MarkRecord, MediaArrival, PhoneEvent, Pressed,
    Said, StreamEnd, StreamRecord, Violation,
};
pub use sign::sign;

#[derive(Debug)]
pub struct Phone;

impl Phone {
    /// Starts a call. Its task ends with the call, or when the handle is dropped.
    pub fn dial(options: PhoneOptions) -> PhoneHandle {
        let (acts_tx, acts) = mpsc::channel(64);
        // Enough for any test. Events that do not fit are only in the record.
        let (happened, events) = mpsc::channel(if options.keep_audio { 4_096 } else { 64 });
        let (playing_tx, playing) = watch::channel(Playing::default());
        let control = Control::new(acts_tx, playing);
        let script = control.clone().act(options.script.clone());
        let call = state::Call::new(options, acts, happened, playing_tx);
        let task = tokio::spawn(async move {
            let call = call.run();
            tokio::pin!(call);
            tokio::select! {
                record = &mut call => record,
                () = script => call.await,
            }
        });
        PhoneHandle { control, events, task: AbortOnDropHandle::new(task) }
    }
}

/// A call in progress. Dropping the handle cuts the call off.
#[derive(Debug)]
pub struct PhoneHandle {
    control: Control,
    events: mpsc::Receiver<Happened>,
    task: AbortOnDropHandle<CallRecord>,
}

impl Deref for PhoneHandle {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl PhoneHandle {
    /// A second handle, for another task.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The live events. Unread ones that do not fit are only in the record.
    pub fn events(&mut self) -> &mut mpsc::Receiver<Happened> {
        &mut self.events
    }

    /// Waits for the next event that `wanted` accepts; `None` if the call ended first.
    pub async fn wait_for(&mut self, wanted: impl Fn(&PhoneEvent) -> bool) -> Option<Happened> {
        while let Some(happened) = self.events.recv().await {
            if wanted(&happened.event) {
                return Some(happened);
            }
        }
        None
    }

    /// Waits for the end of the call, without causing it.
    ///
    /// # Panics
    ///
    /// If the call's task panicked.
    pub async fn finished(self) -> CallRecord {
        match self.task.await {
            Ok(record) => record,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("only the handle can abort the task"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
