//! The form after the call, by the session that has the conversation.

use super::{Model, State};
use crate::call::{Event, Note};
use crate::link::model::{Filled, NotFilled};
use crate::observe::metrics;
use crate::record::Form;

/// How many notes are kept until the form is filled in. More come only from a model that does not behave.
const MAX_NOTES: usize = 64;

impl Model {
    /// Has the model fill in the form of the plan, once the call is over. Within 15 s; less if the server stops before. What
    /// was said and charged meanwhile is in [`Model::notes`].
    pub async fn fill_form(&mut self) -> Form {
        let filled = self.filled().await;
        let outcome = filled.as_ref().map_or_else(|why| why.code(), |_| "ok");
        match filled {
            Ok(_) => tracing::info!("Filled in the form"),
            Err(NotFilled::Skipped) => tracing::debug!("There is no form to fill in"),
            Err(why) => tracing::warn!(outcome, %why, "The form is not filled in"),
        }
        metrics::form(outcome);
        let Filled { summary, fields } = filled.unwrap_or(Filled { summary: None, fields: None });
        Form { outcome: outcome.to_owned(), summary, fields }
    }

    async fn filled(&mut self) -> Result<Filled, NotFilled> {
        let is_gone = self.link().is_none_or(|link| link.is_gone());
        if is_gone && self.has_filled_standby() {
            self.use_standby();
        } else {
            self.drop_standby();
        }
        let endpoint = self.endpoint();
        let has_form = self.plan.after_call.is_some() && self.plan.at(endpoint).provider.abilities.forms;
        let had_words = self.had_words;
        let Some(link) = self.link().filter(|link| !link.is_gone()) else {
            let had_words = had_words || self.link().is_some_and(|link| link.has_words());
            return Err(if has_form && had_words { NotFilled::Lost } else { NotFilled::Skipped });
        };
        if !has_form || !link.has_words() {
            return Err(NotFilled::Skipped);
        }
        let mut notes = Vec::new();
        let ended = self.switchboard.forms_ended();
        let State::Ready(link) = &mut self.state else { return Err(NotFilled::Lost) };
        let see = |event: &Event| {
            if notes.len() < MAX_NOTES {
                notes.extend(noted(event, endpoint));
            }
        };
        let filled = tokio::select! {
            biased;
            () = ended.cancelled() => Err(NotFilled::Late),
            filled = link.fill_form(see) => filled,
        };
        self.notes.extend(notes);
        filled
    }
}

/// What the call would note of an event.
fn noted(event: &Event, endpoint: usize) -> Option<Note> {
    match event {
        Event::Usage { tokens, .. } => Some(Note::Used { endpoint, tokens: *tokens, replayed: false }),
        Event::TranscriptUsage { used, .. } => Some(Note::Transcribed { endpoint, used: *used }),
        Event::Transcript { who, item, text } => {
            Some(Note::Said { who: *who, item: item.clone(), text: text.clone() })
        }
        _ => None,
    }
}
