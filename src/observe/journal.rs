//! The journal: everything that happens in a call, words included, for whoever rehearses it.
//!
//! Nobody writes it down while serving: what people say is logged nowhere.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::call::{EndReason, Note, Tally};
use crate::id::CallSid;

/// Where happenings go. Nobody waits for the reader.
pub type Journal = mpsc::UnboundedSender<Happening>;

/// Something that happened in a call.
#[derive(Debug, Clone)]
pub struct Happening {
    pub call: CallSid,
    pub at: Instant,
    pub what: What,
}

/// See [`Happening`].
#[derive(Debug, Clone)]
pub enum What {
    /// The phone rang, and this assistant will answer.
    Rang {
        assistant: String,
    },
    /// The stream began.
    Started,
    Note(Note),
    Ended {
        reason: EndReason,
        tally: Tally,
    },
}
