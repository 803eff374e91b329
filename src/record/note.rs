//! What is kept of a call's notes. What a file does not keep never leaves this module.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::entry::{Rang, Reconnect, Said, Spoke, ToolCall, Transfer, What};
use super::masked;
use crate::assistant::Assistant;
use crate::assistant::plan::{KeptNumbers, Notify, Plan, Reader, RecordPolicy};
use crate::call::{Cause, Note, Recording, Spoken};
use crate::id::ItemId;
use crate::phone::Party;

/// Who answers a ring: the assistant's name and version, and what is kept.
#[derive(Clone, Copy)]
pub struct Answering<'a> {
    pub assistant: Option<&'a str>,
    pub version: Option<&'a str>,
    pub policy: RecordPolicy,
    /// The call is a test.
    pub test: bool,
    /// What the owner wants to hear of it, and how the owner reads.
    pub tells: Option<(&'a Notify, &'a Reader)>,
}

impl Answering<'_> {
    /// No assistant: what is kept is what `switchboard.yaml` says for all.
    pub fn nobody(policy: RecordPolicy) -> Self {
        Self { assistant: None, version: None, policy, test: false, tells: None }
    }
}

impl<'a> From<&'a Plan> for Answering<'a> {
    fn from(plan: &'a Plan) -> Self {
        Self {
            assistant: Some(&plan.assistant),
            version: Some(plan.version.as_str()),
            policy: plan.record,
            test: plan.test,
            tells: plan.notify.as_ref().map(|notify| (notify, &plan.reader)),
        }
    }
}

impl<'a> From<&'a Assistant> for Answering<'a> {
    fn from(assistant: &'a Assistant) -> Self {
        let (name, version) = (Some(assistant.name()), Some(assistant.version()));
        let tells = assistant.notify().map(|notify| (notify, assistant.reader()));
        Self { assistant: name, version, policy: assistant.kept(), test: false, tells }
    }
}

impl Rang {
    /// A ring, as far as it is kept.
    pub fn new(call: &str, caller: &Party, called: &Party, by: Answering<'_>, at: Timestamp) -> Self {
        // Records tell milliseconds.
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        let Answering { assistant, version, policy, test, .. } = by;
        let keep = SignedDuration::try_from(policy.keep).unwrap_or(SignedDuration::MAX);
        Self {
            call: call.to_owned(),
            at,
            assistant: assistant.map(str::to_owned),
            assistant_version: version.map(str::to_owned),
            from: kept(caller, policy.numbers),
            to: kept(called, KeptNumbers::Full),
            caller: caller.number().filter(|_| policy.numbers != KeptNumbers::None).cloned(),
            numberless: policy.numbers == KeptNumbers::None,
            test,
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
        let spoke = |spoken: Spoken, so_far: Option<String>| {
            let Spoken { item: id, recording, began, sent_ms, heard_ms, interrupted } = spoken;
            let text =
                recording.and_then(|recording| words(recording, plan)).or(so_far).filter(|_| transcript);
            Spoke { item: id.as_ref().map(item), text, start_ms: ms(began), sent_ms, heard_ms, interrupted }
        };
        Some(match note {
            Note::Anomaly(anomaly) => Self::Anomaly { code: anomaly.code().to_owned() },
            Note::FirstWord(time) => Self::FirstWord { ms: time.as_millis() as u64 },
            Note::Answered(time) => Self::Answered { ms: time.as_millis() as u64 },
            Note::CallerSpoke { item: id, began, ended } => {
                Self::CallerSpoke { item: item(&id), start_ms: ms(began), end_ms: ms(ended) }
            }
            Note::AssistantSpoke(spoken) => Self::AssistantSpoke(spoke(spoken, None)),
            Note::CallerSpeaks { item: id, began, now } => {
                Self::CallerSpeaks { item: item(&id), start_ms: ms(began), end_ms: ms(now) }
            }
            Note::AssistantSpeaks { spoken, words } => {
                Self::AssistantSpeaks(spoke(spoken, words.map(|words| words.expose().to_owned())))
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
                let side = if cause == Cause::Stream { "caller" } else { "model" };
                let (cause, silence_ms) = (format!("{side}.{}", cause.code()), silence.as_millis() as u64);
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

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

    use std::time::Duration;

    use super::*;
    use crate::call::Who;
    use crate::call::tests::plan as call_plan;
    use crate::phone::PhoneNumber;
    use crate::secret::Private;

    const SPOKEN: &str = "I live at Example Street.";

    fn private(text: &str) -> Private {
        text.to_owned().into()
    }

    /// What is kept of every note that holds something personal.
    fn kept(policy: RecordPolicy) -> Vec<What> {
        let zero = Instant::now();
        let ms = |at: Instant| at.saturating_duration_since(zero).as_millis() as u64;
        let mut plan = call_plan();
        plan.record = policy;
        plan.greeting.say = Some("Hello to Example Street.".to_owned());
        let plan = Arc::new(plan);
        let (began, ended) = (zero + Duration::from_millis(100), zero + Duration::from_millis(350));
        let greeting = Spoken {
            item: None,
            recording: Some(Recording::Greeting),
            began,
            sent_ms: 900,
            heard_ms: 900,
            interrupted: false,
        };
        let notes = [
            Note::Said { who: Who::Caller, item: "u".into(), text: private(SPOKEN) },
            Note::Pressed(private("1234#")),
            Note::ToolEnded {
                name: "add_tasks".to_owned(),
                began,
                ended,
                outcome: "ok",
                arguments: private("Example Street"),
                result: Some(private("Example Street")),
            },
            Note::AssistantSpoke(greeting),
            Note::Reconnected { cause: Cause::Lost, worked: true, silence: Duration::from_millis(420) },
        ];
        notes.into_iter().filter_map(|note| What::of_note(note, &plan, ms)).collect()
    }

    #[test]
    fn what_a_file_does_not_keep_never_becomes_an_entry() {
        let nothing = RecordPolicy { transcript: false, tools: false, ..RecordPolicy::default() };
        let entries = kept(nothing);
        let text = serde_json::to_string(&entries).unwrap();
        assert!(!text.contains("Example Street") && !text.contains("1234"), "{text}");
        assert!(entries.contains(&What::Keys { keys: None, count: 5 }), "{text}");
        assert!(!entries.iter().any(|what| matches!(what, What::Said(_))));
    }

    #[test]
    fn what_a_file_keeps_is_in_the_entries_with_exact_times() {
        let all = kept(RecordPolicy { tools: true, ..RecordPolicy::default() });
        let (item, text) = ("u".to_owned(), SPOKEN.to_owned());
        let kept = Some("Example Street".to_owned());
        let tool = ToolCall {
            name: "add_tasks".to_owned(),
            start_ms: 100,
            ms: 250,
            outcome: "ok".to_owned(),
            arguments: kept.clone(),
            result: kept,
        };
        let greeting = Spoke {
            item: None,
            text: Some("Hello to Example Street.".to_owned()),
            start_ms: 100,
            sent_ms: 900,
            heard_ms: 900,
            interrupted: false,
        };
        let reconnect = Reconnect { cause: "model.lost".to_owned(), worked: true, silence_ms: 420 };
        let expected = [
            What::Said(Said { item, text }),
            What::Keys { keys: Some("1234#".to_owned()), count: 5 },
            What::Tool(tool),
            What::AssistantSpoke(greeting),
            What::Reconnected(reconnect),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_number_is_kept_as_its_file_says() {
        let number = PhoneNumber::parse("+15550100100").unwrap();
        let at = "2026-11-30T14:05:09.120456Z".parse().unwrap();
        for (numbers, from, is_known) in [
            (KeptNumbers::Full, Some("+15550100100"), true),
            (KeptNumbers::Masked, Some("+1••••••••00"), true),
            (KeptNumbers::None, None, false),
        ] {
            let policy = RecordPolicy { numbers, ..RecordPolicy::default() };
            let by = Answering {
                assistant: Some("clinic"),
                version: Some("sha256:00"),
                policy,
                test: false,
                tells: None,
            };
            let (caller, called) = (Party::Number(number.clone()), Party::Number(number.clone()));
            let rang = Rang::new("CA1", &caller, &called, by, at);
            assert_eq!(rang.from.as_deref(), from);
            assert_eq!(rang.to.as_deref(), Some("+15550100100"), "the owner's own");
            assert_eq!((rang.caller.is_some(), rang.numberless), (is_known, !is_known));
            assert_eq!(rang.at.to_string(), "2026-11-30T14:05:09.12Z");
            assert_eq!(rang.keep_until.unwrap().to_string(), "2026-12-30T14:05:09.12Z");
        }
        let nobody = Answering::nobody(RecordPolicy::default());
        let withheld = Rang::new("CA1", &Party::Withheld, &Party::Withheld, nobody, at);
        assert_eq!((withheld.from, withheld.caller, withheld.numberless), (None, None, false));
    }
}
