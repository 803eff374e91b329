//! The greeting: who opens the call, and from when on the model takes turns by itself.

use super::Call;
use super::action::{Action, Line, Request, TurnControl};
use super::responses::Ask;
use crate::assistant::plan::{First, Plan};
use crate::secret::Private;

/// How far the greeting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// To be asked of the model as soon as phone and model are there.
    Due,
    /// Asked of the model, which has not begun it; where it refuses, the greeting is due again.
    Asked,
    /// Said by the model, or played from memory.
    Playing,
    Over,
}

impl Call {
    pub(super) fn open_if_due(&mut self) {
        let nobody_leaves = self.ending.is_none();
        if self.greeting == Greeting::Due && nobody_leaves && self.started.is_some() && self.model_ready {
            self.responses.want(self.opening());
        }
    }

    pub(super) fn opening(&self) -> Ask {
        self.plan.greeting.say.clone().map_or(Ask::Next, |line| Ask::Say(Request::Greeting(line)))
    }

    /// The model refused our request: where that was the greeting, it is yet to be said.
    pub(super) fn greeting_is_unsaid(&mut self) {
        if self.greeting == Greeting::Asked {
            self.greeting = Greeting::Due;
        }
    }

    pub(super) fn close_greeting_if_over(&mut self, out: &mut Vec<Action>) {
        if self.greeting == Greeting::Playing && self.responses.is_free() && self.playback.is_quiet() {
            self.greeting = Greeting::Over;
        }
        // Handed over between two turns only: one that is under way is ours to answer.
        if self.greeting == Greeting::Over
            && self.turns_by == TurnControl::Server
            && self.plan.turn_taking.interruptions
            && self.model_ready
            && self.speaking.is_none()
        {
            self.turns_by = TurnControl::Model;
            out.push(Action::Configure(TurnControl::Model));
        }
    }

    /// Tells the model which of the recorded greeting's words were heard: to it they are its own.
    pub(super) fn tell_greeting(&mut self, share: f64, out: &mut Vec<Action>) {
        let text = self.plan.greeting.say.as_deref().unwrap_or_default();
        let heard = words_heard(text, share).to_owned();
        if !heard.is_empty() {
            self.tell(Line::AssistantSaid(Private::from(heard)), out);
        }
    }
}

/// Who takes turns when the call begins; the model is configured so before the phone is answered.
pub fn initial_turn_control(plan: &Plan) -> TurnControl {
    let greeting_is_safe = plan.greeting.interruptible || plan.greeting.first == First::Caller;
    if plan.turn_taking.interruptions && greeting_is_safe { TurnControl::Model } else { TurnControl::Server }
}

/// The whole words among the first `share` (0.0 to 1.0) of the text.
pub(super) fn words_heard(text: &str, share: f64) -> &str {
    if share >= 1.0 {
        return text;
    }
    let characters = (text.chars().count() as f64 * share) as usize;
    let cut = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    text[..cut].rfind(char::is_whitespace).map_or("", |at| text[..at].trim_end())
}
