//! What is kept of a call's notes. What a file does not keep never leaves this module.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::entry::{Rang, Reconnect, Said, Spoke, ToolCall, Transfer, What};
use super::masked;
use crate::assistant::Assistant;
use crate::assistant::plan::{KeptNumbers, Plan, RecordPolicy};
use crate::call::{Note, Recording, Spoken};
use crate::id::ItemId;
use crate::phone::Party;

/// The assistant of a ring: its name, its version, and what its file keeps.
#[derive(Debug, Clone, Copy)]
pub struct Answering<'a> {
    pub assistant: &'a str,
    pub version: &'a str,
    pub policy: RecordPolicy,
}

impl<'a> From<&'a Plan> for Answering<'a> {
    fn from(plan: &'a Plan) -> Self {
        Self { assistant: &plan.assistant, version: &plan.version, policy: plan.record }
    }
}

impl<'a> From<&'a Assistant> for Answering<'a> {
    fn from(assistant: &'a Assistant) -> Self {
        Self { assistant: assistant.name(), version: assistant.version(), policy: assistant.kept() }
    }
}

impl Rang {
    /// A ring as far as the assistant's file keeps it. Of a ring that nobody was to answer, everything is kept by the
    /// default policy.
    pub fn new(call: &str, caller: &Party, called: &Party, by: Option<Answering<'_>>, at: Timestamp) -> Self {
        let policy = by.map_or_else(RecordPolicy::default, |by| by.policy);
        let keep = SignedDuration::try_from(policy.keep).unwrap_or(SignedDuration::MAX);
        Self {
            call: call.to_owned(),
            at,
            assistant: by.map(|by| by.assistant.to_owned()),
            assistant_version: by.map(|by| by.version.to_owned()),
            from: kept(caller, policy.numbers),
            to: kept(called, KeptNumbers::Full),
            caller: caller.number().filter(|_| policy.numbers != KeptNumbers::None).cloned(),
            numberless: policy.numbers == KeptNumbers::None,
            test: false,
            simulated: false,
            keep_until: at.checked_add(keep).ok(),
        }
    }
}

fn kept(party: &Party, numbers: KeptNumbers) -> Option<String> {
    match (party, numbers) {
        (Party::Withheld, _) | (_, KeptNumbers::None) => None,
        (Party::Number(number), KeptNumbers::Full) => Some(number.expose().to_owned()),
        (Party::Number(number), KeptNumbers::Masked) => Some(masked(number)),
        (Party::Other(text), KeptNumbers::Full) => Some(text.clone()),
        (Party::Other(_), KeptNumbers::Masked) => Some(party.to_string()),
    }
}

impl What {
    /// What is kept of a note; `None` for nothing. `ms` gives a time of the call in milliseconds since the stream's start.
    pub fn of_note(note: Note, plan: &Arc<Plan>, ms: impl Fn(Instant) -> u64) -> Option<Self> {
        let RecordPolicy { transcript, tools, .. } = plan.record;
        let item = |item: &ItemId| item.as_str().to_owned();
        Some(match note {
            Note::Anomaly(anomaly) => Self::Anomaly { code: anomaly.code().to_owned() },
            Note::FirstWord(time) => Self::FirstWord { ms: time.as_millis() as u64 },
            Note::Answered(time) => Self::Answered { ms: time.as_millis() as u64 },
            Note::CallerSpoke { item: id, began, ended } => {
                Self::CallerSpoke { item: item(&id), start_ms: ms(began), end_ms: ms(ended) }
            }
            Note::AssistantSpoke(Spoken { item: id, recording, began, sent_ms, heard_ms, interrupted }) => {
                let text = recording.and_then(|recording| words(recording, plan)).filter(|_| transcript);
                let (item, start_ms) = (id.as_ref().map(item), ms(began));
                Self::AssistantSpoke(Spoke { item, text, start_ms, sent_ms, heard_ms, interrupted })
            }
            Note::Said { item: id, text, .. } => {
                let text = Some(text.expose().trim()).filter(|text| transcript && !text.is_empty())?;
                Self::Said(Said { item: item(&id), text: text.to_owned() })
            }
            Note::Pressed(keys) => {
                let count = keys.expose().chars().count() as u64;
                Self::Keys { keys: transcript.then(|| keys.expose().to_owned()), count }
            }
            Note::ToolEnded { name, began, ended, outcome, arguments, result } => {
                let start_ms = ms(began);
                Self::Tool(ToolCall {
                    name,
                    start_ms,
                    ms: ms(ended).saturating_sub(start_ms),
                    outcome: outcome.to_owned(),
                    arguments: tools.then(|| arguments.expose().to_owned()),
                    result: result.filter(|_| tools).map(|result| result.expose().to_owned()),
                })
            }
            Note::Reconnected { cause, worked, silence } => {
                let (cause, silence_ms) = (cause.code().to_owned(), silence.as_millis() as u64);
                Self::Reconnected(Reconnect { cause, worked, silence_ms })
            }
            Note::Transferred { target, outcome } => {
                Self::Transferred(Transfer { target, outcome: outcome.to_owned() })
            }
            Note::Used { endpoint, tokens, replayed } => {
                let (provider, model) =
                    (plan.at(endpoint).provider.name.clone(), plan.at(endpoint).model.clone());
                Self::Used { provider, model, tokens, replayed }
            }
            Note::Transcribed { endpoint, used } => {
                let plan = plan.at(endpoint);
                // A provider that transcribes by itself does not say with what.
                let model = plan.transcription.as_ref().map_or("transcription", |it| it.model.as_str());
                Self::Transcribed { provider: plan.provider.name.clone(), model: model.to_owned(), used }
            }
        })
    }
}

/// What a recording says.
fn words(recording: Recording, plan: &Plan) -> Option<String> {
    match recording {
        Recording::Greeting => plan.greeting.say.clone(),
        Recording::Moment => Some(plan.sounds.moment.text.clone()),
        Recording::CutOff => Some(plan.sounds.cut_off.text.clone()),
    }
}
