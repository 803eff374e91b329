//! Tool calls: what the model may run, what answers it gets, and what the caller hears in the meantime.
//!
//! All tool calls that overlap are one batch, hosted tools (which the model's host runs) included. One response is
//! requested when the whole batch is answered and the response that made the calls has ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::action::{Action, Anomaly, Note, Request, Stop};
use super::consent::ASK_FIRST;
use super::end::Ending;
use super::end_reason::EndReason;
use super::event::{Origin, Outcome};
use super::hosted::HostedTools;
use super::speech::{What, remember};
use super::transfer::Leaving;
use super::{Call, count};
use crate::assistant::plan::{Hold, Job, Plan, Rule, Tool, Work};
use crate::id::{ResponseId, ToolCallId};
use crate::secret::Private;

/// Our tools that may run at once.
const MAX_RUNNING: usize = 16;
/// Requests that are remembered, to recognise a repetition.
const MAX_SEEN: usize = 256;
/// How many times its timeout a tool gets in all if it reports progress.
const MAX_TIMEOUTS: u32 = 4;
/// How many rounds of tools in a row the model may make without a word to the caller.
const MAX_ROUNDS: u32 = 6;
/// How long the model cannot end a call in which the caller has done nothing.
const JUST_BEGUN: Duration = Duration::from_secs(5);

const USED_UP: &str = "This was done as often as one call allows, so it was not done again. Tell the caller so, and do not \
                       call it again.";
const MESSAGE_FIRST: &str = "The message is still being delivered: wait for its result, then end the call.";

#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    /// Each request comes twice. A server may reuse ids in each response.
    seen: VecDeque<(ResponseId, ToolCallId)>,
    /// How often each tool of the plan ran.
    uses: Vec<u32>,
    running: Vec<Running>,
    pub hosted: HostedTools,
    /// Something was answered, so a response must follow.
    owed: bool,
    /// A hosted tool timed out, and the model does not know.
    timed_out: bool,
    /// How many rounds of tools in a row passed without a word.
    rounds: u32,
    filler: Filler,
}

/// A tool of ours that runs.
#[derive(Debug)]
struct Running {
    id: ToolCallId,
    /// The index in the plan.
    tool: usize,
    arguments: Map<String, Value>,
    began: Instant,
    deadline: Instant,
}

impl Running {
    /// The note that it has ended.
    fn note(&self, plan: &Plan, outcome: &'static str, result: Option<Private>, now: Instant) -> Action {
        let arguments = serde_json::to_string(&self.arguments).unwrap_or_default();
        Action::Note(Note::ToolEnded {
            name: plan.tools[self.tool].name.clone(),
            began: self.began,
            ended: now,
            outcome,
            arguments: arguments.into(),
            result,
        })
    }
}

/// Notes that a tool call was answered without a run.
fn not_run(name: &str, arguments: &Private, outcome: &'static str, now: Instant, out: &mut Vec<Action>) {
    let (name, arguments) = (name.to_owned(), arguments.clone());
    let note = Note::ToolEnded { name, began: now, ended: now, outcome, arguments, result: None };
    out.push(Action::Note(note));
}

/// Whether the caller was told to wait for this batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Filler {
    #[default]
    None,
    Due(Instant),
    /// Due as soon as nobody speaks and nothing plays.
    Ready,
    /// Requested; once for each batch is enough.
    Asked,
}

impl ToolCalls {
    /// A tool of the plan starts to run.
    pub fn count_use(&mut self, tool: usize) {
        if self.uses.len() <= tool {
            self.uses.resize(tool + 1, 0);
        }
        self.uses[tool] += 1;
    }

    /// Whether a tool runs that the model waits for.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty() || !self.hosted.is_empty()
    }

    /// Whether a tool of ours runs.
    pub fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether a response will follow, because a tool was answered or still runs.
    pub fn is_pending(&self) -> bool {
        self.owed || self.is_busy()
    }

    /// A response must follow when no tool runs.
    pub fn owe_response(&mut self) {
        self.owed = true;
    }

    /// Tell the caller to wait, even if they were told before.
    pub fn say_filler(&mut self) {
        self.filler = Filler::Ready;
    }

    /// What the caller hears while what runs takes long, if it has a sound of its own: of the one that began last.
    pub fn hold<'a>(&self, plan: &'a Plan) -> Option<&'a Hold> {
        self.running.iter().rev().find_map(|running| plan.tools[running.tool].rule.hold.as_ref())
    }

    /// Whether the caller was told to wait for this batch.
    pub fn filler_was_said(&self) -> bool {
        self.filler == Filler::Asked
    }

    /// Whether a message for the owner is being delivered.
    fn delivers_message(&self, plan: &Plan) -> bool {
        self.running.iter().any(|running| is_message_tool(&plan.tools[running.tool]))
    }

    /// The next response comes without a request, and covers everything that was answered.
    pub fn answered_by_itself(&mut self) {
        if !self.is_busy() {
            (self.owed, self.timed_out) = (false, false);
        }
    }

    pub fn response_spoke(&mut self, response: &ResponseId) {
        self.rounds = 0;
        self.hosted.spoken(response);
    }

    pub fn response_ended(&mut self, response: &ResponseId, outcome: &Outcome, now: Instant) {
        self.owed |= self.hosted.response_ended(response, outcome, now);
    }

    /// When [`Call::tools_due`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let running = self.running.iter().map(|running| running.deadline);
        let filler = match self.filler {
            Filler::Due(due) => Some(due),
            Filler::None | Filler::Ready | Filler::Asked => None,
        };
        running.chain(self.hosted.deadline()).chain(filler).min()
    }

    /// A tool starts: the caller may have to be told to wait.
    pub fn schedule_filler(&mut self, rule: &Rule, now: Instant) {
        let due = now + rule.filler_after;
        self.filler = match self.filler {
            Filler::None => Filler::Due(due),
            Filler::Due(earlier) => Filler::Due(due.min(earlier)),
            later @ (Filler::Ready | Filler::Asked) => later,
        };
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
        if self.tools.seen.contains(&request) || self.is_unanswered(&id) {
            return; // A request comes twice: when it is complete, and when its response is.
        }
        remember(&mut self.tools.seen, request, MAX_SEEN);
        self.conversation.tool_called(&id, name, arguments);
        if self.speech.is_unannounced(response) && !self.out_of_band.knows(response) {
            self.response_started(response.clone(), Origin::Unknown, now, out);
        }
        let plan = self.plan.clone();
        let Some((index, tool)) = plan.tools.iter().enumerate().find(|(_, tool)| tool.name == name) else {
            count(Anomaly::ModelUnknownTool, out);
            not_run(name, arguments, "unknown", now, out);
            return self.answer(id, "There is no such tool.", out);
        };
        let ended_by_the_model =
            |ending: &Ending| ending.reason == EndReason::AssistantEnded && !ending.is_final;
        if is_message_tool(tool)
            && let Some(id) = self.withdraw_ending(ended_by_the_model)
        {
            self.answer(id, MESSAGE_FIRST, out);
        }
        let Some(object) = object(arguments.expose()) else {
            count(Anomaly::ModelBadArguments, out);
            not_run(name, arguments, "bad_arguments", now, out);
            return self.answer(id, "The arguments are not a JSON object: call it again with one.", out);
        };
        if let Some(sentence) = tool.arguments.as_ref().and_then(|arguments| arguments.unfit(&object)) {
            count(Anomaly::ModelBadArguments, out);
            not_run(name, arguments, "bad_arguments", now, out);
            return self.answer(id, sentence, out);
        }
        if let Some(most) = most_uses(tool, &plan)
            && self.tools.uses.get(index).is_some_and(|uses| *uses >= most)
        {
            count(Anomaly::ToolLimit, out);
            not_run(name, arguments, "limit", now, out);
            return self.answer(id, USED_UP, out);
        }
        if let Some(refusal) = self.refusal(tool, response, now) {
            not_run(name, arguments, "refused", now, out);
            return self.answer(id, refusal, out);
        }
        if tool.rule.ask_first && !self.consent.allows(name, arguments.expose(), response, now) {
            not_run(name, arguments, "refused", now, out);
            return self.answer(id, ASK_FIRST, out);
        }
        match &tool.work {
            Work::EndCall => self.end_call(id, now, out),
            Work::Transfer(targets) => self.transfer(id, index, targets, &object, out),
            Work::SendDigits => self.press(id, &object, out),
            Work::Job(_) => {
                let same = |running: &Running| running.tool == index && running.arguments == object;
                if self.tools.running.iter().any(same) {
                    return self.answer(id, "This is being done already: its result will come.", out);
                }
                self.tools.running.push(Running {
                    id: id.clone(),
                    tool: index,
                    arguments: object.clone(),
                    began: now,
                    deadline: now + tool.rule.timeout,
                });
                self.tools.count_use(index);
                self.tools.schedule_filler(&tool.rule, now);
                out.push(Action::RunTool { id, tool: index, arguments: object });
            }
        }
    }

    /// Whether a tool call with this id is open.
    fn is_unanswered(&self, id: &ToolCallId) -> bool {
        let leaving = self.leaving.as_ref().and_then(Leaving::tool);
        let parked = self.parked.as_ref().and_then(|parked| parked.tool.as_ref());
        let ending = self.ending.as_ref().and_then(|ending| ending.tool.as_ref());
        self.tools.running.iter().any(|running| running.id == *id)
            || [leaving, parked, ending].contains(&Some(id))
    }

    /// Why a tool cannot run at this moment.
    fn refusal(&self, tool: &Tool, response: &ResponseId, now: Instant) -> Option<&'static str> {
        let discarded = self.speech.is_cut(response);
        let Work::Job(job) = &tool.work else {
            return if self.ending.is_some() {
                Some("The call is already ending.")
            } else if self.leaving.is_some() || self.parked.is_some() {
                Some("The caller is being transferred already.")
            } else if self.floor.speaking.is_some() || discarded {
                Some("The caller is speaking: listen first.")
            } else if tool.work == Work::EndCall && self.has_just_begun(now) {
                Some("The call has only just begun: hear what the caller wants before you end it.")
            } else if tool.work == Work::EndCall && self.tools.delivers_message(&self.plan) {
                Some(MESSAGE_FIRST)
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
        } else if self.tools.running.len() >= MAX_RUNNING {
            Some("Too many tools run at once, so this was not done: wait for the others, then call it again.")
        } else {
            None
        }
    }

    fn has_just_begun(&self, now: Instant) -> bool {
        !self.caller_acted && self.started.is_none_or(|started| now < started + JUST_BEGUN)
    }

    /// Answers a tool call. A response follows when the whole batch is answered.
    pub(super) fn answer(&mut self, id: ToolCallId, output: impl Into<String>, out: &mut Vec<Action>) {
        self.tools.owed = true;
        self.tell_result(id, Private::from(output.into()), out);
    }

    /// Sends the model the result of a tool call.
    pub(super) fn tell_result(&mut self, id: ToolCallId, output: Private, out: &mut Vec<Action>) {
        self.conversation.tool_answered(&id, &output);
        out.push(Action::AnswerTool { id, output });
    }

    pub(super) fn tool_working(&mut self, id: &ToolCallId, now: Instant) {
        if let Some(running) = self.tools.running.iter_mut().find(|running| running.id == *id) {
            let timeout = self.plan.tools[running.tool].rule.timeout;
            running.deadline = (now + timeout).min(running.began + timeout * MAX_TIMEOUTS);
        }
    }

    pub(super) fn tool_finished(
        &mut self,
        id: &ToolCallId,
        outcome: &'static str,
        output: Private,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(at) = self.tools.running.iter().position(|running| running.id == *id) else {
            return count(Anomaly::ToolLate, out);
        };
        let running = self.tools.running.remove(at);
        out.push(running.note(&self.plan, outcome, Some(output.clone()), now));
        self.tools.owed = true;
        self.tell_result(running.id, output, out);
    }

    /// Stops the tools that the plan stops when the caller speaks.
    pub(super) fn stop_interrupted_tools(&mut self, now: Instant, out: &mut Vec<Action>) {
        let why = "The caller spoke, so this was stopped. It may or may not have been done.";
        self.stop_tools(Stop::Cancelled, |_, tool| tool.rule.stop_on_interruption, why, now, out);
    }

    /// Stops every tool except the delivery of messages for the owner.
    pub(super) fn stop_tools_for_goodbye(&mut self, now: Instant, out: &mut Vec<Action>) {
        let why = "The call is ending, so this was stopped.";
        self.stop_tools(Stop::Cancelled, |_, tool| !is_message_tool(tool), why, now, out);
        self.tools.hosted.clear(now);
    }

    /// The same at the end of the call, when nothing is answered.
    pub(super) fn stop_tools_at_end(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.tools.hosted.clear(now);
        out.extend(self.tools.hosted.take_notes());
        for running in self.tools.running.drain(..) {
            let goes_on = is_message_tool(&self.plan.tools[running.tool]);
            let outcome = if goes_on { "unfinished" } else { Stop::Cancelled.outcome() };
            out.push(running.note(&self.plan, outcome, None, now));
            if !goes_on {
                out.push(Action::StopTool(running.id, Stop::Cancelled));
            }
        }
    }

    fn stop_tools(
        &mut self,
        stop: Stop,
        which: impl Fn(&Running, &Tool) -> bool,
        why: &'static str,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let plan = self.plan.clone();
        let stopped = self.tools.running.extract_if(.., |running| which(running, &plan.tools[running.tool]));
        for running in stopped.collect::<Vec<_>>() {
            out.push(running.note(&plan, stop.outcome(), None, now));
            out.push(Action::StopTool(running.id.clone(), stop));
            self.answer(running.id, why, out);
        }
    }

    // ── time ──

    /// Stops what took too long.
    pub(super) fn tools_due(&mut self, now: Instant, out: &mut Vec<Action>) {
        let late = |running: &Running| running.deadline <= now;
        for _ in self.tools.running.iter().filter(|running| late(running)) {
            count(Anomaly::ToolTimeout, out);
        }
        let why = "It took too long and was stopped. It may or may not have been done: tell the caller so, and do not \
                   repeat it unless they ask for that.";
        self.stop_tools(Stop::Timeout, |running, _| late(running), why, now, out);
        let overdue = self.tools.hosted.overdue(self.speech.active(), now);
        if overdue.expired {
            self.last_from_model = Some(now); // The response gets time to go on without them.
        }
        self.tools.owed |= overdue.owed;
        for _ in 0..overdue.timed_out {
            count(Anomaly::ToolTimeout, out);
            self.tools.timed_out = true;
        }
        if overdue.blocks_response {
            self.cancel_active(out); // It would wait for as long as its host does.
        }
        if matches!(self.tools.filler, Filler::Due(due) if due <= now) {
            self.tools.filler = Filler::Ready;
        }
    }

    /// Requests what the state calls for after every event.
    pub(super) fn settle_tools(&mut self, now: Instant, out: &mut Vec<Action>) {
        out.extend(self.tools.hosted.take_notes());
        let busy = self.tools.is_busy();
        if !busy {
            self.tools.filler = Filler::None;
            self.speech.forget_wanted(|what| *what == What::Say(Request::Filler));
            self.out_of_band.forget_asked();
        }
        if self.ending.is_some() {
            self.tools.owed = false; // Nothing is said after a goodbye.
            return;
        }
        if self.leaving.is_some() || self.parked.is_some() {
            return;
        }
        let silence = self.floor.speaking.is_none() && self.playback.is_voice_over();
        let filler_due =
            self.tools.filler == Filler::Ready && silence && self.may_ask() && !self.is_limited(now);
        if let Some(active) = self.speech.active() {
            // A response that waits for a hosted tool stays silent, and then goes on.
            if filler_due && !self.speech.is_active_cut() && self.tools.hosted.is_running_in(active) {
                self.tools.filler = Filler::Asked;
                self.say_out_of_band(Request::Filler, out);
            }
            return;
        }
        if self.tools.owed && !busy {
            self.tools.owed = false;
            self.tools.rounds += 1;
            let timed_out = std::mem::take(&mut self.tools.timed_out);
            self.speech.want(if self.tools.rounds > MAX_ROUNDS {
                What::Say(Request::StatusUpdate)
            } else if timed_out {
                What::Say(Request::ToolTimedOut)
            } else {
                What::Answer
            });
        }
        if filler_due && self.speech.is_idle() {
            self.tools.filler = Filler::Asked;
            self.speech.want(What::Say(Request::Filler));
        }
    }
}

/// Parses the arguments that the model wrote. An empty text means no arguments.
fn object(arguments: &str) -> Option<Map<String, Value>> {
    if arguments.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(arguments).ok()
}

/// How often a tool may run in one call. `None`: it has no limit.
fn most_uses(tool: &Tool, plan: &Plan) -> Option<u32> {
    match &tool.work {
        Work::EndCall | Work::SendDigits => None,
        Work::Transfer(_) => Some(plan.limits.transfers),
        Work::Job(job) => Some(match **job {
            Job::SendSms => plan.limits.sms,
            Job::TakeMessage(_) => plan.limits.messages,
            Job::Mcp { .. } | Job::Http(_) => tool.rule.max_per_call,
        }),
    }
}

fn is_message(job: &Job) -> bool {
    matches!(job, Job::TakeMessage(_))
}

fn is_message_tool(tool: &Tool) -> bool {
    matches!(&tool.work, Work::Job(job) if is_message(job))
}

/// Whether the text contains what looks like a tool call: the model said aloud what it should have done.
pub(super) fn looks_like_a_call(text: &str, plan: &Plan) -> bool {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let called = |name: &str| {
        text.match_indices(name).any(|(at, _)| {
            let is_whole_word = !text[..at].ends_with(is_name);
            is_whole_word && text[at + name.len()..].trim_start().starts_with(['(', '{'])
        })
    };
    let hosted = plan.hosted.iter().filter_map(|server| server.allowed.as_ref()).flatten();
    let mut names = plan.tools.iter().map(|tool| &tool.name).chain(hosted);
    (text.contains("\"name\"") && text.contains("\"arguments\""))
        || text.contains("<tool_call>")
        || text.split("functions.").skip(1).any(|rest| rest.starts_with(is_name))
        || names.any(|name| !name.is_empty() && called(name))
}
