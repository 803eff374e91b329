//! The caller's consent: which tool calls the assistant has asked about, and which may run because of the answer.
//!
//! The model judges what the caller said. This module enforces the order: the model makes a call, has to ask,
//! speaks, the caller answers, and the model makes the same call again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::id::ResponseId;
use crate::secret::Private;

/// Calls that are remembered; the oldest is forgotten first.
const REMEMBERED: usize = 16;
/// How much of a question must be heard before the caller can answer it, in bytes: 1 s. A cough that began before the
/// question is no answer.
const MIN_HEARD: u64 = 8_000;
/// How long an answer holds. Later, the caller is asked again.
const VALID_FOR: Duration = Duration::from_secs(120);

/// Tells the model to ask.
pub(super) const ASK_FIRST: &str = "Ask the caller first, in one short sentence in the language of the conversation, whether you may do \
                         this. Call it again with the same arguments once they have said yes; if they say no, do not.";

#[derive(Debug, Default)]
pub(super) struct Consent {
    calls: VecDeque<PendingCall>,
}

/// A tool call that the caller has to agree to.
#[derive(Debug)]
struct PendingCall {
    tool: String,
    /// In [`canonical`] form.
    arguments: Private,
    /// The response that made it first.
    response: ResponseId,
    since: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The model was told to ask.
    Wanted,
    /// The assistant speaks, from this playback position on; the response `last` spoke last.
    Asked { from: u64, last: ResponseId },
    /// The caller then spoke or pressed a key.
    Answered(Reply),
}

/// How the assistant has reacted to the caller's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reply {
    /// Not yet. The response `during` spoke when the caller answered, so the rest of it is no reply.
    None { during: ResponseId },
    /// This response speaks.
    Speaks(ResponseId),
    /// It ended: what the caller says next is about something else.
    Over,
}

impl Consent {
    /// Whether the caller agreed to this call, which uses the consent up. If not, the call is remembered, and the model
    /// must ask.
    pub fn allows(&mut self, tool: &str, arguments: &str, response: &ResponseId, now: Instant) -> bool {
        self.calls.retain(|known| now.saturating_duration_since(known.since) < VALID_FOR);
        let arguments = Private::from(canonical(arguments));
        let same = |known: &PendingCall| known.tool == tool && known.arguments == arguments;
        if let Some(at) = self.calls.iter().position(same) {
            if !matches!(self.calls[at].stage, Stage::Answered(_)) {
                return false;
            }
            let Some(used) = self.calls.remove(at) else { return false };
            // One yes covers what one response asked for together. Everything else must be asked about again.
            for other in self.calls.iter_mut().filter(|other| other.response != used.response) {
                other.stage = Stage::Wanted;
            }
            return true;
        }
        if self.calls.len() == REMEMBERED {
            self.calls.pop_front();
        }
        let (tool, response) = (tool.to_owned(), response.clone());
        self.calls.push_back(PendingCall { tool, arguments, response, since: now, stage: Stage::Wanted });
        false
    }

    /// The assistant speaks in its own words, which the phone plays from this position on.
    pub fn assistant_speaks(&mut self, response: &ResponseId, from: u64) {
        for known in &mut self.calls {
            match &mut known.stage {
                Stage::Wanted if known.response != *response => {
                    known.stage = Stage::Asked { from, last: response.clone() };
                }
                Stage::Asked { last, .. } => *last = response.clone(),
                Stage::Answered(Reply::None { during }) if during != response => {
                    known.stage = Stage::Answered(Reply::Speaks(response.clone()));
                }
                // The caller talked over the previous reply, but it was a reply.
                Stage::Answered(Reply::Speaks(before)) if before != response => {
                    known.stage = Stage::Answered(Reply::Over);
                }
                Stage::Wanted | Stage::Answered(_) => {}
            }
        }
    }

    /// Whether the caller was asked, and has not answered.
    pub fn is_asked(&self) -> bool {
        self.calls.iter().any(|known| matches!(known.stage, Stage::Asked { .. }))
    }

    /// A response has completed.
    pub fn response_ended(&mut self, response: &ResponseId) {
        for known in &mut self.calls {
            if known.stage == Stage::Answered(Reply::Speaks(response.clone())) {
                known.stage = Stage::Answered(Reply::Over);
            }
        }
    }

    /// The caller spoke or pressed a key after hearing everything up to `heard`; `all` if nothing was left to hear. A
    /// caller who did not hear a question did not answer it. An answer that led to no call was not a yes.
    pub fn caller_acts(&mut self, heard: u64, all: bool) {
        self.calls.retain(|known| known.stage != Stage::Answered(Reply::Over));
        for known in &mut self.calls {
            if let Stage::Asked { from, last } = &known.stage
                && (from + MIN_HEARD <= heard || (all && *from < heard))
            {
                known.stage = Stage::Answered(Reply::None { during: last.clone() });
            }
        }
    }

    /// Queued audio was dropped: what was not answered yet has to be asked about again.
    pub fn cut_short(&mut self) {
        for known in self.calls.iter_mut().filter(|known| matches!(known.stage, Stage::Asked { .. })) {
            known.stage = Stage::Wanted;
        }
    }
}

/// One text for equal arguments, in any order of keys.
fn canonical(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            value.sort_all_objects();
            value.to_string()
        }
        Err(_) => arguments.trim().to_owned(),
    }
}
