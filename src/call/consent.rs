//! The caller's yes: which uses of a tool were asked about, and which may be run because of the answer.
//!
//! What the caller said is the model's to understand. What is enforced here is the order: the model wants a use, is
//! told to ask, speaks, the caller answers, and the model wants the very same use again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::id::ResponseId;
use crate::secret::Private;

/// Uses that are remembered at once; the oldest is forgotten first.
const REMEMBERED: usize = 16;
/// How much of a question has to be heard before anything is an answer to it, in bytes: 1 s. A cough that began before
/// the question is none.
const ENOUGH: u64 = 8_000;
/// How long an answer holds. Later, the caller is asked anew.
const HOLDS: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Consent {
    uses: VecDeque<Use>,
}

/// A use of a tool that the caller has to agree to.
#[derive(Debug)]
struct Use {
    tool: String,
    /// In the one way of writing of [`canonical`].
    arguments: Private,
    /// The response that wanted it first.
    response: ResponseId,
    since: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The model was told to ask.
    Wanted,
    /// The assistant speaks, from this position of what the phone plays on; this response spoke last.
    Asked { from: u64, last: ResponseId },
    /// The caller did something after that.
    Answered(Reply),
}

/// What the assistant has done with the caller's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reply {
    /// Nothing: this response spoke when they answered, and what more it says is no reply to them.
    None { during: ResponseId },
    /// This response speaks.
    Speaks(ResponseId),
    /// It ended: whatever the caller says next is about something else.
    Over,
}

impl Consent {
    /// Whether the caller agreed to this use; their yes is then used up. Otherwise it is remembered: the model is to
    /// ask.
    pub fn allows(&mut self, tool: &str, arguments: &str, response: &ResponseId, now: Instant) -> bool {
        self.uses.retain(|known| now.saturating_duration_since(known.since) < HOLDS);
        let arguments = Private::from(canonical(arguments));
        let same = |known: &Use| known.tool == tool && known.arguments == arguments;
        if let Some(at) = self.uses.iter().position(same) {
            if !matches!(self.uses[at].stage, Stage::Answered(_)) {
                return false;
            }
            let Some(used) = self.uses.remove(at) else { return false };
            // One yes is for what was asked together: whatever else waits is asked about anew.
            for other in self.uses.iter_mut().filter(|other| other.response != used.response) {
                other.stage = Stage::Wanted;
            }
            return true;
        }
        if self.uses.len() == REMEMBERED {
            self.uses.pop_front();
        }
        let (tool, response) = (tool.to_owned(), response.clone());
        self.uses.push_back(Use { tool, arguments, response, since: now, stage: Stage::Wanted });
        false
    }

    /// The assistant speaks in words of its own; the phone plays them from this position on.
    pub fn assistant_speaks(&mut self, response: &ResponseId, from: u64) {
        for known in &mut self.uses {
            match &mut known.stage {
                Stage::Wanted if known.response != *response => {
                    known.stage = Stage::Asked { from, last: response.clone() };
                }
                Stage::Asked { last, .. } => *last = response.clone(),
                Stage::Answered(Reply::None { during }) if during != response => {
                    known.stage = Stage::Answered(Reply::Speaks(response.clone()));
                }
                // The one before was talked over: it has answered them all the same.
                Stage::Answered(Reply::Speaks(before)) if before != response => {
                    known.stage = Stage::Answered(Reply::Over);
                }
                Stage::Wanted | Stage::Answered(_) => {}
            }
        }
    }

    /// A response has ended, whole.
    pub fn response_ended(&mut self, response: &ResponseId) {
        for known in &mut self.uses {
            if known.stage == Stage::Answered(Reply::Speaks(response.clone())) {
                known.stage = Stage::Answered(Reply::Over);
            }
        }
    }

    /// The caller spoke or pressed a key, and had heard so much; `all`: nothing was left to hear. Whoever heard nothing
    /// of a question answered none; and what was answered and not used then was not agreed to.
    pub fn caller_acts(&mut self, heard: u64, all: bool) {
        self.uses.retain(|known| known.stage != Stage::Answered(Reply::Over));
        for known in &mut self.uses {
            if let Stage::Asked { from, last } = &known.stage
                && (from + ENOUGH <= heard || (all && *from < heard))
            {
                known.stage = Stage::Answered(Reply::None { during: last.clone() });
            }
        }
    }

    /// What waited to be played was taken back: whatever was not answered yet has to be asked about once more.
    pub fn cut_short(&mut self) {
        for known in self.uses.iter_mut().filter(|known| matches!(known.stage, Stage::Asked { .. })) {
            known.stage = Stage::Wanted;
        }
    }
}

/// The same arguments are the same text, in whatever order the model wrote them.
fn canonical(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            value.sort_all_objects();
            value.to_string()
        }
        Err(_) => arguments.trim().to_owned(),
    }
}
