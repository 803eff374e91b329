//! The greeting, and the moment from which the model takes turns by itself.

use super::Call;
use super::action::{Action, Line, Recording, TurnControl};
use super::conversation::heard_words;
use super::speech::What;
use crate::assistant::plan::{First, Interruptions, Plan};
use crate::secret::Private;

impl Call {
    pub(super) fn follow_greeting(&mut self, out: &mut Vec<Action>) {
        if self.speech.is_made(|what| *what == What::Greeting) && self.playback.is_voice_over() {
            self.speech.forget_made(|what| *what == What::Greeting);
        }
        // Control passes to the model only between turns: a turn under way is ours to answer.
        if self.turn_control == TurnControl::Server
            && self.model_ready
            && self.floor.speaking.is_none()
            && !self.floor.greet_again
            && !self.speech.has(|what| *what == What::Greeting)
        {
            match self.plan.turn_taking.interruptions {
                Interruptions::Immediate => {
                    self.turn_control = TurnControl::Model;
                    out.push(Action::Configure(TurnControl::Model));
                }
                Interruptions::Confirmed => self.floor.confirms = true,
                Interruptions::None => {}
            }
        }
    }

    /// The caller began to speak before anything of the greeting was heard: it is said after their turn, which is ours to
    /// answer.
    pub(super) fn greet_again(&mut self, out: &mut Vec<Action>) {
        self.floor.greet_again = true;
        if self.turn_control == TurnControl::Model {
            self.turn_control = TurnControl::Server;
            out.push(Action::Configure(TurnControl::Server));
        }
    }

    /// Adds the words of a recording that were heard to the conversation, as the model's own.
    pub(super) fn tell_model_recording(&mut self, recording: Recording, share: f64, out: &mut Vec<Action>) {
        let text = match recording {
            Recording::Greeting => self.plan.greeting.say.as_deref().unwrap_or_default(),
            Recording::Moment => &self.plan.at(self.endpoint).sounds.moment.text,
            Recording::CutOff => &self.plan.at(self.endpoint).sounds.cut_off.text,
        };
        let heard = heard_words(text, (share * 1e6) as u64, 1_000_000).to_owned();
        if !heard.is_empty() {
            self.tell_model(Line::AssistantSaid(Private::from(heard)), out);
        }
    }
}

/// Who controls turns when the call begins. The model is configured with it before the phone is answered.
pub fn initial_turn_control(plan: &Plan) -> TurnControl {
    match plan.turn_taking.interruptions {
        Interruptions::Immediate if is_interruptible(plan) => TurnControl::Model,
        Interruptions::Immediate | Interruptions::Confirmed | Interruptions::None => TurnControl::Server,
    }
}

/// Whether interruptions are to be confirmed when the call begins.
pub(super) fn confirms_from_the_start(plan: &Plan) -> bool {
    plan.turn_taking.interruptions == Interruptions::Confirmed && is_interruptible(plan)
}

fn is_interruptible(plan: &Plan) -> bool {
    plan.greeting.interruptible || plan.greeting.first == First::Caller
}
