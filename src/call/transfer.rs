//! Transfers and key presses. The phone dials somebody or presses keys for a machine; meanwhile the call is parked: its
//! phone is not connected, and its model waits.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::Call;
use super::action::{Action, Detour, Line, Note};
use super::end::GOODBYE;
use super::end_reason::EndReason;
use super::event::{Return, TransferFailure};
use super::speech::What;
use crate::assistant::plan::{MAX_KEYS, Target, Work};
use crate::id::ToolCallId;
use crate::secret::Private;

/// How long a call stays parked after its target has stopped ringing. Later, the two are talking.
const AFTER_RINGING: Duration = Duration::from_secs(10);
/// How long the new stream of a returning phone may take: longer than its ticket lives, which fails first.
const RETURN_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a call stays parked after its keys were pressed.
const AFTER_KEYS: Duration = Duration::from_secs(15);
/// The longest that one key takes. The wait `w` counts as a key.
const KEY: Duration = Duration::from_millis(500);

/// A call that parks as soon as everything that is being said is heard.
#[derive(Debug)]
pub(super) struct Leaving {
    id: ToolCallId,
    detour: Detour,
    /// How long it stays parked.
    limit: Duration,
    /// The tool call was answered with a request to announce the transfer.
    answered: bool,
}

/// A call whose phone is on a detour.
#[derive(Debug)]
pub(super) struct Parked {
    detour: Detour,
    /// The tool call, until it is answered.
    pub tool: Option<ToolCallId>,
    pub until: Instant,
    /// The transfer failed, and a new stream will follow.
    is_returning: bool,
    /// The server shuts down; the goodbye waits for the phone.
    is_draining: bool,
}

impl Leaving {
    /// The tool call, until it is answered.
    pub fn tool(&self) -> Option<&ToolCallId> {
        Some(&self.id).filter(|_| !self.answered)
    }

    /// Whether the model was asked to announce it.
    pub fn is_announced(&self) -> bool {
        self.answered
    }
}

impl Parked {
    /// Why a call ended that did not come back.
    pub fn end_reason(&self) -> EndReason {
        match self.detour {
            _ if self.is_draining => EndReason::ServerDraining,
            Detour::Dial { .. } if !self.is_returning => EndReason::AssistantTransferred,
            Detour::Dial { .. } | Detour::Press(_) => EndReason::CallerLost,
        }
    }

    /// From this point on the call waits for the new stream, not for the target to answer.
    pub fn returning(&mut self, now: Instant) {
        self.is_returning = true;
        if !self.is_draining {
            self.until = now + RETURN_TIMEOUT;
        }
    }

    /// The server shuts down. It waits for the phone no longer than for a goodbye.
    pub fn draining(&mut self, now: Instant) {
        self.is_draining = true;
        self.until = self.until.min(now + GOODBYE);
    }
}

impl Call {
    /// The model transfers the call. The caller hears an announcement first.
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
        let said = self.speech.has_spoken() || !self.playback.is_voice_over();
        self.leaving = Some(Leaving {
            id,
            detour: Detour::Dial { tool, target },
            limit: targets[target].ring + AFTER_RINGING,
            answered: false,
        });
        if said {
            self.speech.count_as(What::Announcement);
        } else if self.speech.is_free() {
            self.announce_if_unsaid(out);
        }
    }

    /// The model presses keys after what it said is heard.
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
            detour: Detour::Press(Private::from(keys.to_owned())),
            limit: KEY * count as u32 + AFTER_KEYS,
            answered: false,
        });
        self.speech.count_as(What::Announcement);
    }

    /// Asks for an announcement: a caller is not transferred without a word.
    pub(super) fn announce_if_unsaid(&mut self, out: &mut Vec<Action>) {
        let Some(leaving) = &mut self.leaving else { return };
        let Detour::Dial { tool, target } = leaving.detour else { return };
        if self.speech.has(|what| *what == What::Announcement)
            || std::mem::replace(&mut leaving.answered, true)
        {
            return;
        }
        let id = leaving.id.clone();
        let output = format!(
            "Say in one short sentence, in the language of the conversation, that you connect the caller to {}. If they \
             speak before that is said, the call stays with you.",
            self.target(tool, target)
        );
        self.tell_result(id, output.into(), out);
        self.speech.want(What::Announcement);
    }

    pub(super) fn cancel_transfer(&mut self, why: &str, out: &mut Vec<Action>) {
        let Some(leaving) = self.leaving.take() else { return };
        self.speech.forget_announcement();
        if !leaving.answered {
            self.answer(leaving.id, why, out);
        }
    }

    pub(super) fn park_if_heard(&mut self, now: Instant, out: &mut Vec<Action>) {
        let may = self.started.is_some() && self.model_ready && self.lost.is_none() && self.ending.is_none();
        let announced = self.speech.is_made(|what| *what == What::Announcement);
        if !(may && announced && self.playback.is_quiet() && self.floor.speaking.is_none()) {
            return;
        }
        let Some(leaving) = self.leaving.take() else { return };
        self.speech.forget_announcement();
        self.stop_out_of_band(out);
        self.playback.disconnected();
        self.last_from_caller = None;
        self.keypad.take();
        // Only now somebody's phone rings: an announced transfer may still be cancelled.
        if let Detour::Dial { tool, target } = leaving.detour {
            self.tools.count_use(tool);
            let target = self.target(tool, target);
            out.push(Action::Note(Note::Transferred { target, outcome: "sent" }));
        }
        out.push(Action::Park(leaving.detour.clone()));
        self.parked = Some(Parked {
            detour: leaving.detour,
            tool: Some(leaving.id).filter(|_| !leaving.answered),
            until: now + leaving.limit,
            is_returning: false,
            is_draining: false,
        });
    }

    /// The phone is connected again: the conversation goes on.
    pub(super) fn returned(&mut self, back: Return, now: Instant, out: &mut Vec<Action>) {
        let Some(parked) = self.parked.take() else { return };
        self.last_from_caller = Some(now);
        out.push(Action::MarkForCaller(self.playback.mark(now)));
        let output = match (&parked.detour, back) {
            (Detour::Dial { .. }, Return::TransferFailed(TransferFailure::NoAnswer)) => {
                "Nobody answered. The caller is with you again."
            }
            (Detour::Dial { .. }, Return::TransferFailed(TransferFailure::Busy)) => {
                "The line was busy. The caller is with you again."
            }
            (Detour::Dial { .. }, Return::TransferFailed(TransferFailure::Unreachable)) => {
                "The number could not be reached. The caller is with you again."
            }
            (Detour::Press(_), Return::KeysPressed | Return::StreamAgain) => "The keys were pressed.",
            (Detour::Press(_), Return::TransferFailed(_)) => "The keys could not be pressed.",
            (Detour::Dial { .. }, Return::KeysPressed | Return::StreamAgain) => {
                "The caller is with you again."
            }
        };
        if let Some(id) = parked.tool {
            self.answer(id, output, out);
        }
        if let (Detour::Dial { tool, target }, Return::TransferFailed(why)) = (parked.detour, back) {
            let target = self.target(tool, target);
            out.push(Action::Note(Note::Transferred { target: target.clone(), outcome: why.code() }));
            self.tell_model(Line::TransferFailed { target, why }, out);
        }
        if parked.is_draining {
            return self.say_goodbye(EndReason::ServerDraining, now, out);
        }
        self.ask_to_go_on();
    }

    /// The phone is connected again: the model speaks next.
    pub(super) fn ask_to_go_on(&mut self) {
        if self.tools.is_busy() {
            self.tools.owe_response(); // Asked at once, the model would call what still runs again.
            self.tools.say_filler();
        } else {
            if !self.speech.is_due() {
                self.speech.want(What::Answer);
            }
            self.tools.answered_by_itself();
        }
    }

    fn target(&self, tool: usize, target: usize) -> String {
        let Some(Work::Transfer(targets)) = self.plan.tools.get(tool).map(|tool| &tool.work) else {
            return String::new();
        };
        targets.get(target).map(|target| target.name.clone()).unwrap_or_default()
    }
}
