//! Hosted tools: the model's host runs them, after asking us for approval if the plan says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Call;
use super::action::{Action, Note};
use super::consent::ASK_FIRST;
use super::event::Outcome;
use super::speech::remember;
use crate::assistant::plan::{AskFirst, Plan, Rule};
use crate::id::{ApprovalId, ItemId, ResponseId};
use crate::secret::Private;

/// Hosted tools that may run at once.
const MAX_HOSTED: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an approved tool may take to start before we request a response.
const START_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct HostedTools {
    tools: Vec<Hosted>,
    seen: VecDeque<ItemId>,
    approvals_seen: VecDeque<ApprovalId>,
    /// Notes of those that ended, until the call takes them.
    notes: Vec<Note>,
}

/// A hosted tool that runs or is approved.
#[derive(Debug)]
struct Hosted {
    /// `None` until an approved tool has started.
    item: Option<ItemId>,
    /// `LABEL/TOOL`, once it is known.
    tool: Option<String>,
    /// `None` if it runs outside any response.
    response: Option<ResponseId>,
    since: Instant,
    /// When to check again whether an approved tool has started.
    check: Instant,
    /// It ended before its response did.
    ended: bool,
    /// Its response has spoken since it ended.
    spoken: bool,
}

/// What took too long.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    /// Tools were forgotten after the timeout, whether they had ended or not.
    pub expired: bool,
    /// How many of them had not ended.
    pub timed_out: usize,
    /// The active response waits for nothing but a tool that timed out.
    pub blocks_response: bool,
    /// A response must follow.
    pub owed: bool,
}

impl Hosted {
    /// The note that it ended, if it is known and did not end before.
    fn note(&self, outcome: &'static str, now: Instant) -> Option<Note> {
        let name = self.tool.clone().filter(|_| !self.ended && self.item.is_some())?;
        let arguments = String::new().into();
        Some(Note::ToolEnded { name, began: self.since, ended: now, outcome, arguments, result: None })
    }
}

impl HostedTools {
    /// A tool has started. Returns true if it needs a filler: it is neither a repetition nor an approved tool.
    fn started(
        &mut self,
        item: ItemId,
        response: Option<ResponseId>,
        tool: Option<String>,
        now: Instant,
    ) -> bool {
        if self.seen.contains(&item) {
            // The conversation may report it before its response does.
            if let Some(hosted) = self.tools.iter_mut().find(|hosted| hosted.item.as_ref() == Some(&item)) {
                hosted.response = hosted.response.take().or(response);
                hosted.tool = hosted.tool.take().or(tool);
            }
            return false;
        }
        remember(&mut self.seen, item.clone(), MAX_HOSTED);
        if let Some(approved) = self.tools.iter_mut().find(|hosted| hosted.item.is_none()) {
            (approved.item, approved.response) = (Some(item), response);
            approved.tool = tool.or(approved.tool.take());
            return false;
        }
        self.add(Some(item), response, tool, now)
    }

    /// A tool has ended. Returns true if a response must follow: the active one will not cover it.
    fn ended(&mut self, item: &ItemId, failed: bool, active: Option<&ResponseId>, now: Instant) -> bool {
        let known = |hosted: &Hosted| hosted.item.as_ref() == Some(item);
        let Some(at) = self.tools.iter().position(known) else { return false };
        self.notes.extend(self.tools[at].note(if failed { "failed" } else { "ok" }, now));
        let response = self.tools[at].response.as_ref();
        if response.is_some() && response == active {
            self.tools[at].ended = true;
            return false;
        }
        self.tools.remove(at);
        true
    }

    fn add(
        &mut self,
        item: Option<ItemId>,
        response: Option<ResponseId>,
        tool: Option<String>,
        now: Instant,
    ) -> bool {
        let fits = self.tools.len() < MAX_HOSTED;
        if fits {
            let check = now + START_TIMEOUT;
            self.tools.push(Hosted { item, tool, response, since: now, check, ended: false, spoken: false });
        }
        fits
    }

    /// The response speaks, which covers the tools that ended in it.
    pub fn spoken(&mut self, response: &ResponseId) {
        for hosted in &mut self.tools {
            hosted.spoken |= hosted.ended && hosted.response.as_ref() == Some(response);
        }
    }

    /// Forgets the tools that ended with this response, and those that were cut off with it. Returns true if a response
    /// must follow.
    pub fn response_ended(&mut self, response: &ResponseId, outcome: &Outcome, now: Instant) -> bool {
        let completed = matches!(outcome, Outcome::Completed | Outcome::Incomplete(_));
        let over =
            |hosted: &mut Hosted| hosted.response.as_ref() == Some(response) && (hosted.ended || !completed);
        let mut owed = false;
        for hosted in self.tools.extract_if(.., over) {
            self.notes.extend(hosted.note("cancelled", now));
            owed |= completed && !hosted.spoken;
        }
        owed
    }

    /// Forgets the tools that took too long.
    pub fn overdue(&mut self, active: Option<&ResponseId>, now: Instant) -> Overdue {
        let mut overdue = Overdue::default();
        for hosted in self.tools.extract_if(.., |hosted| hosted.since + TIMEOUT <= now) {
            self.notes.extend(hosted.note("timeout", now));
            overdue.expired = true;
            overdue.owed |= !hosted.spoken;
            overdue.timed_out += usize::from(!hosted.ended);
            overdue.blocks_response |=
                !hosted.ended && hosted.response.is_some() && hosted.response.as_ref() == active;
        }
        overdue.blocks_response &= active.is_some_and(|response| !self.is_running_in(response));
        for hosted in self.tools.iter_mut().filter(|hosted| hosted.item.is_none() && hosted.check <= now) {
            hosted.check = now + START_TIMEOUT;
        }
        // The host runs an approved tool that has not started in the response that is requested next.
        let unstarted = |hosted: &mut Hosted| {
            hosted.item.is_none()
                && hosted.since + START_TIMEOUT <= now
                && (active.is_none() || active != hosted.response.as_ref())
        };
        overdue.owed |= self.tools.extract_if(.., unstarted).count() > 0;
        overdue
    }

    /// Forgets all of them: nothing follows.
    pub fn clear(&mut self, now: Instant) {
        let notes = self.tools.drain(..).filter_map(|hosted| hosted.note("cancelled", now));
        self.notes.extend(notes);
    }

    pub fn take_notes(&mut self) -> impl Iterator<Item = Action> {
        self.notes.drain(..).map(Action::Note)
    }

    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// Whether a tool runs in this response, or outside any.
    pub fn is_running_in(&self, response: &ResponseId) -> bool {
        let belongs = |hosted: &Hosted| hosted.response.as_ref().is_none_or(|it| it == response);
        self.tools.iter().any(|hosted| !hosted.ended && belongs(hosted))
    }

    /// When [`Self::overdue`] has something to report.
    pub fn deadline(&self) -> Option<Instant> {
        let due = |hosted: &Hosted| match hosted.item {
            Some(_) => hosted.since + TIMEOUT,
            None => hosted.check.min(hosted.since + TIMEOUT),
        };
        self.tools.iter().map(due).min()
    }
}

impl Call {
    pub(super) fn hosted_started(
        &mut self,
        item: ItemId,
        response: Option<ResponseId>,
        tool: Option<String>,
        now: Instant,
    ) {
        self.last_from_model = Some(now);
        if self.tools.hosted.started(item, response, tool, now) {
            self.tools.schedule_filler(&Rule::default(), now);
        }
    }

    pub(super) fn hosted_ended(&mut self, item: &ItemId, failed: bool, now: Instant) {
        self.last_from_model = Some(now);
        if self.tools.hosted.ended(item, failed, self.speech.active(), now) {
            self.tools.owe_response();
        }
    }

    pub(super) fn approval_requested(
        &mut self,
        id: ApprovalId,
        tool: &str,
        arguments: &Private,
        response: &ResponseId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.last_from_model = Some(now);
        if self.tools.hosted.approvals_seen.contains(&id) {
            return;
        }
        remember(&mut self.tools.hosted.approvals_seen, id.clone(), MAX_HOSTED);
        let refusal = if self.ending.is_some() {
            Some("The call is ending, so this was not done.")
        } else if self.speech.is_cut(response) {
            Some("The caller spoke, so this was not done.")
        } else if asks_first(&self.plan, tool)
            && !self.consent.allows(tool, arguments.expose(), response, now)
        {
            Some(ASK_FIRST)
        } else {
            None
        };
        let approve = refusal.is_none();
        if !approve {
            self.tools.owe_response();
        } else if self.tools.hosted.add(None, Some(response.clone()), Some(tool.to_owned()), now) {
            self.tools.schedule_filler(&Rule::default(), now);
        }
        let reason = refusal.unwrap_or("The caller has agreed, or need not be asked.");
        out.push(Action::AnswerApproval { id, approve, reason });
    }
}

/// Whether the caller has to agree to the hosted tool `LABEL/TOOL`. An unknown tool needs consent.
fn asks_first(plan: &Plan, tool: &str) -> bool {
    let server = plan.hosted.iter().find_map(|server| {
        let name = tool.strip_prefix(&server.label)?.strip_prefix('/')?;
        Some((server, name))
    });
    server.is_none_or(|(server, name)| match &server.ask_first {
        AskFirst::Never => false,
        AskFirst::Always => true,
        AskFirst::Of(names) => names.iter().any(|asked| asked == name),
    })
}
