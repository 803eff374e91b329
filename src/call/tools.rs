//! Tools in a call: what the model may run beside it, what it is owed for that, and what the caller hears meanwhile.
//!
//! Whatever is answered while something else runs is one batch: one response is asked for when all of it is answered,
//! and the response that wanted it has ended. Tools of the model's host belong to the batch, too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::action::{Action, Anomaly, Request, Stop};
use super::end::{EndReason, Ending};
use super::event::Outcome;
use super::responses::{Ask, remember};
use super::transfer::Leaving;
use super::{Call, odd};
use crate::assistant::plan::{AskFirst, Job, Plan, Rule, Tool, Work};
use crate::id::{ApprovalId, ItemId, ResponseId, ToolCallId};
use crate::secret::Private;

/// Tools that run at once in a call.
const MAX_RUNNING: usize = 16;
/// Tools of the model's host that are waited for at once.
const MAX_HOSTED: usize = 64;
/// How long a tool of the model's host is waited for.
const HOSTED_PATIENCE: Duration = Duration::from_secs(30);
/// A tool that says that it is at work is given so many times its time in all.
const MOST_TIMEOUTS: u32 = 4;
/// So often in a row the model may use tools without a word to the caller.
const MOST_ROUNDS: u32 = 6;
/// How long a tool that the host was allowed to run may take to begin without being asked for.
const BEGINS_BY_ITSELF: Duration = Duration::from_secs(2);
/// The call cannot be ended by the model before that, unless the caller has done something.
const JUST_BEGUN: Duration = Duration::from_secs(5);

const ASK_FIRST: &str = "Ask the caller first, in one short sentence, whether you may do this. Call it again with the \
                         same arguments once they have said yes; if they say no, do not.";
const FIRST_THE_MESSAGE: &str =
    "The message is still being delivered: wait for its result, then end the call.";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// Requests that were told of: each comes twice. A server may count them anew in each response.
    seen: VecDeque<(ResponseId, ToolCallId)>,
    running: Vec<Running>,
    hosted: Vec<Hosted>,
    hosted_seen: VecDeque<ItemId>,
    approvals_seen: VecDeque<ApprovalId>,
    /// Something was answered: a response is to follow.
    owed: bool,
    /// A tool of the host's was given up, which nobody has told the model.
    given_up: bool,
    /// How often in a row that was asked for, and nothing was said.
    pub rounds: u32,
    filler: Filler,
}

/// A tool that runs.
#[derive(Debug)]
struct Running {
    id: ToolCallId,
    /// Its index in the plan.
    tool: usize,
    arguments: Map<String, Value>,
    began: Instant,
    deadline: Instant,
}

/// A tool that the model's host runs, or was allowed to run.
#[derive(Debug)]
struct Hosted {
    /// `None`: it was allowed, and has not begun.
    item: Option<ItemId>,
    /// `None`: it runs outside of any.
    response: Option<ResponseId>,
    since: Instant,
    /// Allowed and not begun: when it is looked at again.
    look: Instant,
    /// It ended before its response did.
    ended: bool,
    /// Its response has spoken since.
    spoken_of: bool,
}

/// How far the batch is with telling the caller to wait.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Filler {
    #[default]
    None,
    Due(Instant),
    /// Due as soon as nobody speaks and nothing plays.
    Ripe,
    /// Once a batch is enough.
    Asked,
}

impl Jobs {
    /// Whether something runs that the model waits for.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.hosted.is_empty()
    }

    /// Whether a tool of ours runs.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether a response follows, because of what was answered or still runs.
    pub fn is_pending(&self) -> bool {
        self.owed || self.is_busy()
    }

    /// A response is to follow when nothing runs any more.
    pub fn owe(&mut self) {
        self.owed = true;
    }

    /// The caller is told to wait, told before or not.
    pub fn tell_to_wait(&mut self) {
        self.filler = Filler::Ripe;
    }

    /// Whether a message for the owner is being taken down.
    fn takes_message(&self, plan: &Plan) -> bool {
        self.running.iter().any(|running| is_message_tool(&plan.tools[running.tool]))
    }

    /// A response comes by itself that knows all that was answered.
    pub fn is_answered(&mut self) {
        if !self.is_busy() {
            (self.owed, self.given_up) = (false, false);
        }
    }

    /// The host's tools of this response, or of who knows which, have not all ended.
    pub fn is_hosting(&self, response: &ResponseId) -> bool {
        let may_be = |hosted: &Hosted| hosted.response.as_ref().is_none_or(|of| of == response);
        self.hosted.iter().any(|hosted| may_be(hosted) && !hosted.ended)
    }

    /// The response speaks: what has ended in it needs no other response.
    pub fn speaks(&mut self, response: &ResponseId) {
        for hosted in
            self.hosted.iter_mut().filter(|hosted| hosted.ended && hosted.response.as_ref() == Some(response))
        {
            hosted.spoken_of = true;
        }
    }

    /// What waits for the end of this response waits no longer; what was cut off with it never ends.
    pub fn response_ended(&mut self, response: &ResponseId, outcome: Outcome) {
        let whole = matches!(outcome, Outcome::Completed | Outcome::Incomplete);
        let mut owed = false;
        self.hosted.retain(|hosted| {
            let over = hosted.response.as_ref() == Some(response) && (hosted.ended || !whole);
            owed |= over && whole && !hosted.spoken_of;
            !over
        });
        self.owed |= owed;
    }

    /// When [`Call::tools_due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let running = self.running.iter().map(|running| running.deadline);
        let hosted = self.hosted.iter().map(|hosted| match hosted.item {
            Some(_) => hosted.since + HOSTED_PATIENCE,
            None => hosted.look.min(hosted.since + HOSTED_PATIENCE),
        });
        let filler = match self.filler {
            Filler::Due(due) => Some(due),
            Filler::None | Filler::Ripe | Filler::Asked => None,
        };
        running.chain(hosted).chain(filler).min()
    }

    fn began(&mut self, rule: &Rule, now: Instant) {
        let due = now + rule.filler_after;
        self.filler = match self.filler {
            Filler::None => Filler::Due(due),
            Filler::Due(earlier) => Filler::Due(due.min(earlier)),
            later @ (Filler::Ripe | Filler::Asked) => later,
        };
    }

    fn host(&mut self, item: Option<ItemId>, response: Option<ResponseId>, now: Instant) {
        if self.hosted.len() < MAX_HOSTED {
            self.hosted.push(Hosted {
                item,
                response,
                since: now,
                look: now + BEGINS_BY_ITSELF,
                ended: false,
                spoken_of: false,
            });
            self.began(&Rule::default(), now);
        }
    }

    #[cfg(test)]
    pub fn running(&self) -> impl Iterator<Item = &ToolCallId> {
        self.running.iter().map(|running| &running.id)
    }
}

impl Call {
    pub(super) fn tool_requested(
        &mut self,
        id: ToolCallId,
        name: &str,
        arguments: &Private,
        response: &ResponseId,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.last_from_model = Some(now);
        let request = (response.clone(), id.clone());
        if self.jobs.seen.contains(&request) || self.is_unanswered(&id) {
            return; // The same request is told of twice: when it is whole, and when its response is.
        }
        remember(&mut self.jobs.seen, request, 256);
        if self.responses.is_news(response) && !self.asides.knows(response) {
            self.response_started(response.clone(), now, out);
        }
        let plan = self.plan.clone();
        let Some((index, tool)) = plan.tools.iter().enumerate().find(|(_, tool)| tool.name == name) else {
            odd(Anomaly::ModelUnknownTool, out);
            return self.answer(id, "There is no such tool.", out);
        };
        let ended_by_the_model =
            |ending: &Ending| ending.reason == EndReason::AssistantEnded && !ending.is_final;
        if is_message_tool(tool)
            && let Some(id) = self.take_back(ended_by_the_model)
        {
            self.answer(id, FIRST_THE_MESSAGE, out);
        }
        let Some(object) = object(arguments.expose()) else {
            odd(Anomaly::ModelBadArguments, out);
            return self.answer(id, "The arguments are not a JSON object: call it again with one.", out);
        };
        if let Some(refusal) = self.refusal(tool, response, now) {
            return self.answer(id, refusal, out);
        }
        if tool.rule.ask_first && !self.consent.allows(name, arguments.expose(), response, now) {
            return self.answer(id, ASK_FIRST, out);
        }
        match &tool.work {
            Work::EndCall => self.end_call(id, now, out),
            Work::Transfer(targets) => self.transfer(id, index, targets, &object, out),
            Work::SendDigits => self.press(id, &object, out),
            Work::Job(_) => {
                let again = |running: &Running| running.tool == index && running.arguments == object;
                if self.jobs.running.iter().any(again) {
                    return self.answer(id, "This is being done already: its result will come.", out);
                }
                let (arguments, deadline) = (object.clone(), now + tool.rule.timeout);
                let id_here = id.clone();
                self.jobs.running.push(Running { id: id_here, tool: index, arguments, began: now, deadline });
                self.jobs.began(&tool.rule, now);
                out.push(Action::RunTool { id, tool: index, arguments: object });
            }
        }
    }

    /// Whether a tool with this id is under way.
    fn is_unanswered(&self, id: &ToolCallId) -> bool {
        let leaving = self.leaving.as_ref().and_then(Leaving::tool);
        let parked = self.parked.as_ref().and_then(|parked| parked.tool.as_ref());
        let ending = self.ending.as_ref().and_then(|ending| ending.tool.as_ref());
        self.jobs.running.iter().any(|running| running.id == *id)
            || [leaving, parked, ending].contains(&Some(id))
    }

    /// Why a tool cannot be used at this moment.
    fn refusal(&self, tool: &Tool, response: &ResponseId, now: Instant) -> Option<&'static str> {
        let discarded = self.responses.is_discarded(response);
        let Work::Job(job) = &tool.work else {
            return if self.ending.is_some() {
                Some("The call is already ending.")
            } else if self.leaving.is_some() || self.parked.is_some() {
                Some("The caller is being passed on already.")
            } else if self.speaking.is_some() || discarded {
                Some("The caller is speaking: listen first.")
            } else if tool.work == Work::EndCall && self.has_just_begun(now) {
                Some("The call has only just begun: hear what the caller wants before you end it.")
            } else if tool.work == Work::EndCall && self.jobs.takes_message(&self.plan) {
                Some(FIRST_THE_MESSAGE)
            } else {
                None
            };
        };
        let ends = self.ending.as_ref().is_some_and(|ending| ending.reason != EndReason::AssistantEnded);
        if ends && !is_message(job) {
            Some("The call is ending, so this was not done.")
        } else if discarded && self.parked.is_some() {
            Some("The caller is with somebody else, so this was not done.")
        } else if discarded && (tool.rule.stop_on_interruption || tool.rule.ask_first) {
            Some("The caller spoke, so this was not done.")
        } else if self.jobs.running.len() >= MAX_RUNNING {
            Some("Too many tools run at once, so this was not done: wait for the others, then call it again.")
        } else {
            None
        }
    }

    fn has_just_begun(&self, now: Instant) -> bool {
        !self.caller_acted && self.started.is_none_or(|started| now < started + JUST_BEGUN)
    }

    /// Answers a tool. A response follows when the whole batch is answered.
    pub(super) fn answer(&mut self, id: ToolCallId, output: impl Into<String>, out: &mut Vec<Action>) {
        self.jobs.owed = true;
        out.push(Action::AnswerTool { id, output: Private::from(output.into()) });
    }

    pub(super) fn tool_working(&mut self, id: &ToolCallId, now: Instant) {
        if let Some(running) = self.jobs.running.iter_mut().find(|running| running.id == *id) {
            let timeout = self.plan.tools[running.tool].rule.timeout;
            running.deadline = (now + timeout).min(running.began + timeout * MOST_TIMEOUTS);
        }
    }

    pub(super) fn tool_finished(&mut self, id: ToolCallId, output: Private, out: &mut Vec<Action>) {
        let Some(at) = self.jobs.running.iter().position(|running| running.id == id) else {
            return odd(Anomaly::ToolLate, out);
        };
        self.jobs.running.remove(at);
        self.jobs.owed = true;
        out.push(Action::AnswerTool { id, output });
    }

    /// Gives up the tools that are to be given up when the caller speaks.
    pub(super) fn stop_interrupted_tools(&mut self, out: &mut Vec<Action>) {
        let why = "The caller spoke, so this was stopped. Whether it was done is not known.";
        self.stop_tools(Stop::Cancelled, |_, tool| tool.rule.stop_on_interruption, why, out);
    }

    /// Gives up what the end of the call cuts off. Messages for the owner are still delivered.
    pub(super) fn stop_tools_for_goodbye(&mut self, out: &mut Vec<Action>) {
        let why = "The call is ending, so this was stopped.";
        self.stop_tools(Stop::Cancelled, |_, tool| !is_message_tool(tool), why, out);
        self.jobs.hosted.clear();
    }

    /// Nothing is answered any more.
    pub(super) fn stop_tools_at_end(&mut self, out: &mut Vec<Action>) {
        for running in self.jobs.running.drain(..) {
            if !is_message_tool(&self.plan.tools[running.tool]) {
                out.push(Action::StopTool(running.id, Stop::Cancelled));
            }
        }
    }

    fn stop_tools(
        &mut self,
        stop: Stop,
        which: impl Fn(&Running, &Tool) -> bool,
        why: &'static str,
        out: &mut Vec<Action>,
    ) {
        let plan = self.plan.clone();
        let stopped = self.jobs.running.extract_if(.., |running| which(running, &plan.tools[running.tool]));
        for Running { id, .. } in stopped.collect::<Vec<_>>() {
            out.push(Action::StopTool(id.clone(), stop));
            self.answer(id, why, out);
        }
    }

    // ── the model's host ──

    pub(super) fn hosted_started(&mut self, item: ItemId, response: Option<ResponseId>, now: Instant) {
        self.last_from_model = Some(now);
        if self.jobs.hosted_seen.contains(&item) {
            // Told of in the conversation first, it is its response's all the same.
            let known = |hosted: &&mut Hosted| hosted.item.as_ref() == Some(&item);
            if let Some(hosted) = self.jobs.hosted.iter_mut().find(known)
                && hosted.response.is_none()
            {
                hosted.response = response;
            }
            return;
        }
        remember(&mut self.jobs.hosted_seen, item.clone(), MAX_HOSTED);
        match self.jobs.hosted.iter_mut().find(|hosted| hosted.item.is_none()) {
            Some(allowed) => (allowed.item, allowed.response) = (Some(item), response),
            None => self.jobs.host(Some(item), response, now),
        }
    }

    pub(super) fn hosted_ended(&mut self, item: &ItemId, now: Instant) {
        self.last_from_model = Some(now);
        let known = |hosted: &Hosted| hosted.item.as_ref() == Some(item);
        let Some(at) = self.jobs.hosted.iter().position(known) else { return };
        let response = self.jobs.hosted[at].response.as_ref();
        if response.is_some() && self.responses.active() == response {
            self.jobs.hosted[at].ended = true;
        } else {
            self.jobs.hosted.remove(at);
            self.jobs.owed = true;
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
        if self.jobs.approvals_seen.contains(&id) {
            return;
        }
        remember(&mut self.jobs.approvals_seen, id.clone(), MAX_HOSTED);
        let refusal = if self.ending.is_some() {
            Some("The call is ending, so this was not done.")
        } else if self.responses.is_discarded(response) {
            Some("The caller spoke, so this was not done.")
        } else if asks_first(&self.plan, tool)
            && !self.consent.allows(tool, arguments.expose(), response, now)
        {
            Some(ASK_FIRST)
        } else {
            None
        };
        let approve = refusal.is_none();
        if approve {
            self.jobs.host(None, Some(response.clone()), now);
        } else {
            self.jobs.owed = true;
        }
        let reason = refusal.unwrap_or("The caller has agreed, or need not be asked.");
        out.push(Action::AnswerApproval { id, approve, reason });
    }

    // ── time ──

    /// Gives up what took too long.
    pub(super) fn tools_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        let late = |running: &Running| running.deadline <= now;
        for _ in self.jobs.running.iter().filter(|running| late(running)) {
            odd(Anomaly::ToolTimeout, out);
        }
        let why = "It took too long, and nobody waits for it any more. Whether it was done is not known: tell the caller \
                   so, and do not do it again unless they ask for that.";
        self.stop_tools(Stop::Timeout, |running, _| late(running), why, out);
        let active = self.responses.active().cloned();
        let late = |hosted: &mut Hosted| hosted.since + HOSTED_PATIENCE <= now;
        let mut waited_for = false;
        for hosted in self.jobs.hosted.extract_if(.., late).collect::<Vec<_>>() {
            self.last_from_model = Some(now);
            self.jobs.owed |= !hosted.spoken_of;
            if !hosted.ended {
                odd(Anomaly::ToolTimeout, out);
                self.jobs.given_up = true;
                waited_for |= hosted.response.is_some() && hosted.response == active;
            }
        }
        if waited_for && active.as_ref().is_some_and(|response| !self.jobs.is_hosting(response)) {
            // It would wait for as long as its host does.
            out.extend(self.responses.discard_active().map(Action::CancelResponse));
        }
        let waits = |hosted: &Hosted| hosted.item.is_none() && hosted.look <= now;
        for hosted in self.jobs.hosted.iter_mut().filter(|hosted| waits(hosted)) {
            hosted.look = now + BEGINS_BY_ITSELF;
        }
        let known = self.jobs.hosted.len();
        self.jobs.hosted.retain(|hosted| {
            let begun = hosted.item.is_some() || hosted.since + BEGINS_BY_ITSELF > now;
            begun || (active.is_some() && active == hosted.response)
        });
        // The host runs it in the response that is asked for next.
        self.jobs.owed |= self.jobs.hosted.len() < known;
        if matches!(self.jobs.filler, Filler::Due(due) if due <= now) {
            self.jobs.filler = Filler::Ripe;
        }
    }

    /// What is to be asked for, as things stand after every event.
    pub(super) fn settle_tools(&mut self, out: &mut Vec<Action>) {
        let busy = self.jobs.is_busy();
        if !busy {
            self.jobs.filler = Filler::None;
            self.responses.forget_filler();
            self.asides.forget_asked();
        }
        if self.ending.is_some() {
            self.jobs.owed = false; // Nothing is said after a goodbye.
            return;
        }
        if self.leaving.is_some() || self.parked.is_some() {
            return;
        }
        let silence = self.speaking.is_none() && self.playback.is_quiet();
        let ripe = self.jobs.filler == Filler::Ripe && silence && self.may_ask();
        if let Some(active) = self.responses.active() {
            // Only one that waits for its host is silent so long and goes on.
            if ripe && !self.responses.is_active_discarded() && self.jobs.is_hosting(active) {
                self.jobs.filler = Filler::Asked;
                self.say_aside(Request::Filler, out);
            }
            return;
        }
        if self.jobs.owed && !busy {
            self.jobs.owed = false;
            self.jobs.rounds += 1;
            let given_up = std::mem::take(&mut self.jobs.given_up);
            self.responses.want(if self.jobs.rounds > MOST_ROUNDS {
                Ask::Say(Request::StatusUpdate)
            } else if given_up {
                Ask::Say(Request::ToolTimedOut)
            } else {
                Ask::Next
            });
        }
        if ripe && self.responses.is_idle() {
            self.jobs.filler = Filler::Asked;
            self.responses.want(Ask::Say(Request::Filler));
        }
    }
}

/// The arguments as the model wrote them; nothing at all is none.
fn object(arguments: &str) -> Option<Map<String, Value>> {
    if arguments.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(arguments).ok()
}

fn is_message(job: &Job) -> bool {
    matches!(job, Job::TakeMessage(_))
}

fn is_message_tool(tool: &Tool) -> bool {
    matches!(&tool.work, Work::Job(job) if is_message(job))
}

/// Whether the caller has to agree to `LABEL/TOOL`, a tool of the model's host. One that nobody knows needs a yes.
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

/// Whether the text holds what looks like a call of a tool: something a model says that it ought to do.
pub(super) fn looks_like_a_call(text: &str, plan: &Plan) -> bool {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let called = |name: &str| {
        text.match_indices(name).any(|(at, _)| {
            let apart = !text[..at].ends_with(is_name);
            apart && text[at + name.len()..].trim_start().starts_with(['(', '{'])
        })
    };
    let hosted = plan.hosted.iter().filter_map(|server| server.allowed.as_ref()).flatten();
    let mut names = plan.tools.iter().map(|tool| &tool.name).chain(hosted);
    (text.contains("\"name\"") && text.contains("\"arguments\""))
        || text.contains("<tool_call>")
        || text.split("functions.").skip(1).any(|rest| rest.starts_with(is_name))
        || names.any(|name| !name.is_empty() && called(name))
}
