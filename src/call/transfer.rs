//! Leaving the call for a while: the phone rings somebody else, or presses keys for a machine. Meanwhile the call is
//! parked: its phone is not connected, and its model waits.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::Call;
use super::action::{Action, Detour, Line};
use super::end::{EndReason, GOODBYE, Stage};
use super::event::{Loss, Return, TransferFailure};
use super::responses::Ask;
use crate::assistant::plan::{MAX_KEYS, Target, Work};
use crate::id::ToolCallId;
use crate::secret::Private;

/// How much longer than it rings a call is parked: later, somebody talks.
const AFTER_RINGING: Duration = Duration::from_secs(10);
/// How long the new stream of a phone that comes back may take: longer than its ticket lives, which ends it first.
const WAY_BACK: Duration = Duration::from_secs(75);
/// How much longer than its keys take a call is parked.
const AFTER_KEYS: Duration = Duration::from_secs(15);
/// The most that one key takes, the wait `w` among them.
const KEY: Duration = Duration::from_millis(500);

/// A call that is about to be parked, as soon as what is being said is heard.
#[derive(Debug)]
pub(super) struct Leaving {
    id: ToolCallId,
    away: Detour,
    /// How long it stays parked.
    limit: Duration,
    stage: Stage,
    /// The tool was answered: with what is to be said first.
    answered: bool,
}

/// A call whose phone is elsewhere.
#[derive(Debug)]
pub(super) struct Parked {
    away: Detour,
    /// The tool, while it is unanswered.
    pub tool: Option<ToolCallId>,
    pub until: Instant,
    /// Whoever was rung did not take it.
    returning: bool,
    /// The server closes: what is to be said about it waits.
    draining: bool,
    /// The model is gone; whoever takes the call does not need it.
    pub lost: Option<Loss>,
}

impl Leaving {
    /// The tool, while it is unanswered.
    pub fn tool(&self) -> Option<&ToolCallId> {
        Some(&self.id).filter(|_| !self.answered)
    }
}

impl Parked {
    /// What has become of a call that does not come back.
    pub fn ends_as(&self) -> EndReason {
        match self.away {
            _ if self.draining => EndReason::ServerDraining,
            Detour::Dial { .. } if !self.returning => EndReason::AssistantTransferred,
            Detour::Dial { .. } | Detour::Press(_) => EndReason::CallerLost,
        }
    }

    /// From here on it waits for the new stream, not for the end of the ringing.
    pub fn comes_back(&mut self, now: Instant) {
        self.returning = true;
        if !self.draining {
            self.until = now + WAY_BACK;
        }
    }

    /// The server closes: it waits for a phone that is away no longer than for a goodbye.
    pub fn house_closes(&mut self, now: Instant) {
        self.draining = true;
        self.until = self.until.min(now + GOODBYE);
    }
}

impl Call {
    /// The model passes the call on; what it says about that is heard first.
    pub(super) fn transfer(
        &mut self,
        id: ToolCallId,
        tool: usize,
        targets: &[Target],
        arguments: &Map<String, Value>,
        out: &mut Vec<Action>,
    ) {
        let to = arguments.get("to").and_then(Value::as_str).unwrap_or_default().trim();
        let Some(target) = targets.iter().position(|target| target.name == to) else {
            let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            return self.answer(id, format!("`to` has to be one of: {}.", names.join(", ")), out);
        };
        let said = self.response_spoke || !self.playback.is_quiet();
        self.leaving = Some(Leaving {
            id,
            away: Detour::Dial { tool, target },
            limit: targets[target].ring + AFTER_RINGING,
            stage: if said { Stage::Said } else { Stage::Asked },
            answered: false,
        });
        if self.responses.is_free() {
            self.announce_if_unsaid(out);
        }
    }

    /// The model presses keys, once what it said is heard.
    pub(super) fn press(&mut self, id: ToolCallId, arguments: &Map<String, Value>, out: &mut Vec<Action>) {
        let keys = arguments.get("digits").and_then(Value::as_str).unwrap_or_default();
        let count = keys.chars().count();
        if !(1..=MAX_KEYS).contains(&count) || !keys.chars().all(|key| "0123456789*#w".contains(key)) {
            let output = format!(
                "`digits` has to be 1 to {MAX_KEYS} of 0 to 9, *, # and w (a wait of half a second)."
            );
            return self.answer(id, output, out);
        }
        self.leaving = Some(Leaving {
            id,
            away: Detour::Press(Private::from(keys.to_owned())),
            limit: KEY * count as u32 + AFTER_KEYS,
            stage: Stage::Said,
            answered: false,
        });
    }

    /// The caller is not passed on without a word.
    pub(super) fn announce_if_unsaid(&mut self, out: &mut Vec<Action>) {
        let Some(leaving) = &mut self.leaving else { return };
        let Detour::Dial { tool, target } = leaving.away else { return };
        if leaving.stage != Stage::Asked || std::mem::replace(&mut leaving.answered, true) {
            return;
        }
        let id = leaving.id.clone();
        let output = format!(
            "Say in one short sentence that you connect the caller to {}. If they speak before that is said, the \
             call stays with you.",
            self.target(tool, target)
        );
        out.push(Action::AnswerTool { id, output: output.into() });
        self.responses.want(Ask::Next);
    }

    /// A response has begun: it is what the model was told to say.
    pub(super) fn announcement_begins(&mut self) {
        if let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.answered) {
            leaving.stage = Stage::Said;
        }
    }

    /// Whether the response that runs is that.
    pub(super) fn is_announcing(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.answered && leaving.stage == Stage::Said)
    }

    /// It ended, or broke, before its first word.
    pub(super) fn announcement_is_unsaid(&mut self) {
        if let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.answered) {
            leaving.stage = Stage::Asked;
        }
    }

    /// The call stays where it is.
    pub(super) fn stay(&mut self, why: &str, out: &mut Vec<Action>) {
        if let Some(leaving) = self.leaving.take()
            && !leaving.answered
        {
            self.answer(leaving.id, why, out);
        }
    }

    pub(super) fn leave_if_heard(&mut self, now: Instant, out: &mut Vec<Action>) {
        let may = self.started.is_some() && self.model_ready && self.lost.is_none() && self.ending.is_none();
        let heard = self.responses.is_free() && self.playback.is_quiet() && self.speaking.is_none();
        if !(may && heard) {
            return;
        }
        let Some(leaving) = self.leaving.take_if(|leaving| leaving.stage == Stage::Said) else { return };
        self.stop_aside(out);
        self.playback.disconnected();
        self.last_from_caller = None;
        self.digits.clear();
        self.digits_due = None;
        out.push(Action::Park(leaving.away.clone()));
        self.parked = Some(Parked {
            away: leaving.away,
            tool: Some(leaving.id).filter(|_| !leaving.answered),
            until: now + leaving.limit,
            returning: false,
            draining: false,
            lost: None,
        });
    }

    /// The phone is connected again: the conversation goes on.
    pub(super) fn returned(&mut self, back: Return, now: Instant, out: &mut Vec<Action>) {
        let Some(parked) = self.parked.take() else { return };
        self.last_from_caller = Some(now);
        out.push(Action::MarkForCaller(self.playback.mark(now)));
        if let Some(loss) = parked.lost {
            return self.end(loss.into(), now, out);
        }
        let told = match (&parked.away, back) {
            (Detour::Dial { .. }, Return::TransferFailed(TransferFailure::NoAnswer)) => {
                "Nobody answered. The caller is with you again."
            }
            (Detour::Dial { .. }, Return::TransferFailed(TransferFailure::Busy)) => {
                "The line was busy. The caller is with you again."
            }
            (Detour::Dial { .. }, Return::TransferFailed(TransferFailure::Unreachable)) => {
                "The number could not be reached. The caller is with you again."
            }
            (Detour::Press(_), Return::KeysPressed) => "The keys were pressed.",
            (Detour::Press(_), Return::TransferFailed(_)) => "The keys could not be pressed.",
            (Detour::Dial { .. }, Return::KeysPressed) => "The caller is with you again.",
        };
        if let Some(id) = parked.tool {
            self.answer(id, told, out);
        }
        if let (Detour::Dial { tool, target }, Return::TransferFailed(why)) = (parked.away, back) {
            self.tell(Line::TransferFailed { target: self.target(tool, target), why }, out);
        }
        if parked.draining {
            return self.say_goodbye(EndReason::ServerDraining, now, out);
        }
        if self.jobs.is_busy() {
            self.jobs.owe(); // Asked now, the model would call again what still runs.
            self.jobs.tell_to_wait();
        } else {
            self.responses.want(Ask::Next);
            self.jobs.is_answered();
        }
    }

    fn target(&self, tool: usize, target: usize) -> String {
        let Some(Work::Transfer(targets)) = self.plan.tools.get(tool).map(|tool| &tool.work) else {
            return String::new();
        };
        targets.get(target).map(|target| target.name.clone()).unwrap_or_default()
    }
}
