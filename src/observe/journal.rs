//! The journal: everything that happens in a call, words included, for a rehearsal.
//!
//! A serving process has no journal, and logs nothing that people say.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::call::{EndReason, Note, Tally};
use crate::id::CallSid;

/// Where happenings go. It is unbounded, so that a call never waits for the reader.
pub type Journal = mpsc::UnboundedSender<Happening>;

/// Something that happened in a call.
#[derive(Debug, Clone)]
pub struct Happening {
    pub call: CallSid,
    pub at: Instant,
    pub what: What,
}

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
