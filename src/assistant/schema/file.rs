//! An assistant's file as it is written: every key with its meaning, default, range and example.
//!
//! `x-default` describes a default that is not a value, `x-range` the range of a duration, `x-key` what the keys of a map
//! stand for and an example of one.
#![expect(dead_code, reason = "these types are described, and never filled")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::owner::{AfterCall, Notify, TakeMessage};
use super::value::*;
use crate::assistant::language::{ENGLISH, Words};
use crate::assistant::plan::RecordPolicy;
use crate::assistant::vocabulary::{
    CALL, CALL_SILENCE, DTMF_LENGTH, DTMF_WAIT, FILLER, KEEP, MAX_PER_CALL, MESSAGES, MOST_FALLBACKS,
    NO_TRANSCRIPTION, RING, SMS, THRESHOLD, TIMEOUT, TRANSFERS, TURN_PREFIX, TURN_SILENCE, Timing,
};
use crate::provider::{DEFAULT_MODEL, DEFAULT_TRANSCRIPTION, DEFAULT_VOICE};

/// One voice assistant: who it is, which numbers it answers, and how it behaves on the phone.
#[derive(JsonSchema)]
#[schemars(title = "An assistant of Switchboard", deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    { "required": ["instructions"], "properties": { "instructions": { "not": { "type": "null" } } } },
    { "required": ["fragments"] },
]))]
pub struct Assistant {
    /// What this assistant is for, in a few words. It appears in the program's output and in templates as
    /// `{{ assistant.description }}`.
    #[schemars(example = &"Answers the clinic's main line", extend("x-default" = "empty"))]
    description: Option<Text>,
    /// The phone numbers that this assistant answers, each with a plus and the country code. A number belongs to one
    /// assistant. `"*"`, in quotes, means every number that no other assistant lists; only one file may have it. An
    /// assistant without numbers can only be rehearsed.
    #[schemars(example = ["+15550100001", "+15550100002"], example = ["*"], example = ["${CLINIC_NUMBER}"])]
    numbers: Option<Numbers>,
    /// Who serves the model: `openai`, or a provider in `switchboard.yaml`.
    #[schemars(example = &"openai", extend("x-default" = "`openai`"))]
    provider: Option<Text>,
    /// The kind of speech model. There is only one so far.
    #[schemars(extend("default" = "realtime"), example = &"realtime")]
    engine: Option<Engine>,
    /// The speech model. OpenAI's models are listed below; other providers have their own.
    #[schemars(extend("default" = DEFAULT_MODEL), example = DEFAULT_MODEL)]
    model: Option<ModelName>,
    /// How the assistant sounds. OpenAI's voices are listed below; other providers have their own.
    #[schemars(extend("default" = DEFAULT_VOICE), example = &"cedar")]
    voice: Option<Voice>,
    fallback: Option<Fallback>,
    /// How freely the model chooses its words: 0 is sober, 2 is wild. OpenAI does not take it, so `check` warns that it
    /// has no effect there.
    #[schemars(extend("x-default" = "the provider's default"), example = 0.8)]
    temperature: Option<Temperature>,
    /// How fast the voice speaks: 1 is its normal speed, 1.1 is a little faster.
    #[schemars(extend("x-default" = "the provider's default, which is 1"), example = 1.1)]
    speed: Option<Speed>,
    /// How hard a reasoning model thinks before it speaks. More thinking means a longer wait for the caller. `check`
    /// warns if the model does not reason.
    #[schemars(extend("x-default" = "the model's default"), example = &"low")]
    reasoning: Option<Effort>,
    /// The language that callers speak: two or three lowercase letters, and a country if it matters. The model speaks only
    /// this one, unless `languages` names others, it helps the transcription, dates and lists in texts are
    /// written in it, and Twilio's voice uses it for `busy`, `on_failure` and
    /// `recording_notice` (see [Languages](#languages)).
    #[schemars(extend("x-default" = format!("none: the model follows the caller; `busy` and `on_failure` use `{ENGLISH}`")))]
    #[schemars(example = &"en-US", example = &"de")]
    language: Option<Language>,
    /// The languages that may be spoken. The call begins in `language`, or in the first of these, and goes on in the one
    /// that the caller speaks. Without it, only `language` is spoken.
    #[schemars(extend("x-default" = "only `language`"), example = ["de", "en"])]
    languages: Option<LanguageList>,
    /// Names and words that callers may say and that are hard to understand: the model and the transcription expect them.
    #[schemars(extend("x-default" = "none"), example = ["Grünwald", "Dr. Özdemir"])]
    vocabulary: Option<Vocabulary>,
    /// The time zone of `{{ now }}`, by its name in the tz database.
    #[schemars(extend("default" = "UTC"), example = &"America/New_York")]
    timezone: Option<Text>,
    /// Callers that you know. If one of these numbers calls, `{{ caller.name }}` is the name; for all others it is empty.
    #[schemars(example = json!({ "+15550109999": "Anna" }))]
    callers: Option<Callers>,
    /// Your own values for templates, such as `{{ clinic.name }}`. A name has letters, digits and `_`, and cannot be one of
    /// the built-in names (see Templates).
    #[schemars(example = json!({ "clinic": { "name": "Example Dental", "hours": "nine to five" }, "days": ["Monday", "Friday"] }))]
    variables: Option<Variables>,
    /// What the assistant is, knows and does: the prompt of the model. Required unless there are `fragments`.
    #[schemars(extend("x-default" = "required"))]
    #[schemars(example = &"You answer the phone for {{ clinic.name }}. It is {{ now }}.\nBe brief and friendly.\n")]
    instructions: Option<Template>,
    /// Shared pieces of instructions, by name: `house-rules` is the file `fragments/house-rules.md`. They follow the
    /// assistant's own instructions, in this order.
    #[schemars(example = ["house-rules"])]
    fragments: Option<Texts>,
    greeting: Option<Greeting>,
    turn_taking: Option<TurnTaking>,
    dtmf: Option<DtmfKeys>,
    transcription: Option<Transcription>,
    call_control: Option<CallControl>,
    notify: Option<Notify>,
    after_call: Option<AfterCall>,
    limits: Option<Limits>,
    /// Callers whom nobody answers: numbers, the beginnings of numbers with a `*`, and `withheld` for callers without a number.
    /// Nobody answers them: they hear that the number is not in service.
    #[schemars(extend("x-default" = "nobody"), example = ["+15550100666", "+1900*", "withheld"])]
    block: Option<BlockList>,
    record: Option<Record>,
    recording_notice: Option<RecordingNotice>,
    busy: Option<Busy>,
    on_failure: Option<OnFailure>,
    sounds: Option<Sounds>,
    /// What callers hear while a tool takes long: `tone`, a soft one; `none`; or a WAV file in the folder `sounds/`, which is
    /// repeated. It begins after 2.5 s of silence, and ends with the first word. A tool can have its own.
    #[schemars(extend("default" = "tone"), example = &"waiting.wav")]
    hold: Option<HoldSound>,
    /// Tool servers that speak MCP (Model Context Protocol), each under a name of your choice. The model gets the tools
    /// that a server has listed by the time the phone rings. A server that cannot be reached has no tools in that call.
    #[schemars(extend("x-key" = ["NAME", "todoist"], "propertyNames" = tool_name()))]
    #[schemars(example = json!({ "todoist": {
        "url": "${TODOIST_MCP_URL:-}",
        "token": "${TODOIST_MCP_TOKEN:-}",
        "allow": ["add-tasks", "find-tasks"],
        "instructions": "When the caller wants to remember something, add a task.",
    } }))]
    mcp: Option<BTreeMap<String, Option<Mcp>>>,
    /// Functions that the model may call, each under a name of your choice: what the model knows about them, and where a
    /// call goes (`mcp` or `http`).
    #[schemars(extend("x-key" = ["NAME", "book-table"], "propertyNames" = tool_name()))]
    #[schemars(example = json!({ "book-table": {
        "description": "Books a table. Ask for the day, the time and the number of guests first.",
        "parameters": { "type": "object", "properties": { "guests": { "type": "integer" } } },
        "http": { "url": "https://api.example.com/tables" },
    } }))]
    functions: Option<BTreeMap<String, Option<Function>>>,
}

/// A list of providers, as names or maps.
struct Fallback;

impl JsonSchema for Fallback {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fallback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = FallbackMap::json_schema(generator).to_value();
        let name = json!({ "type": "string", "minLength": 1 });
        let item = json_schema!({ "anyOf": [map, name] });
        let mut schema = list("a list of providers, or one: a name, `PROVIDER/MODEL`, or a map", item);
        if let Some(many) = schema.get_mut("anyOf").and_then(|choices| choices.get_mut(0)) {
            many["maxItems"] = json!(MOST_FALLBACKS);
        }
        let description = format!(
            "Who serves the model if the provider fails, in this order and at most {MOST_FALLBACKS}: when the phone rings, \
             and in the middle of a call, which goes on with its conversation. `azure` is a provider, `azure/reception` \
             one of its models. What a provider cannot do is left out there: `check` says which keys have no effect. Without \
             a model of its own, an entry uses the assistant's `model` if the provider has it, otherwise the provider's first."
        );
        schema.insert("description".to_owned(), description.into());
        let own = json!({ "provider": "openai", "model": "gpt-realtime-2.1-mini", "voice": "cedar" });
        schema.insert("examples".to_owned(), json!([["openai/gpt-realtime-2.1-mini"], [own]]));
        schema.insert("x-default".to_owned(), "nobody".into());
        schema
    }
}

/// One fallback.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FallbackMap {
    /// `openai`, or a provider in `switchboard.yaml`.
    #[schemars(extend("x-default" = "required"), example = &"openai")]
    provider: Text,
    /// The speech model there.
    #[schemars(extend("x-default" = "the assistant's `model` if the provider has it, otherwise the provider's first"))]
    #[schemars(example = &"gpt-realtime-2.1-mini")]
    model: Option<ModelName>,
    /// How the assistant sounds there.
    #[schemars(extend("x-default" = "the assistant's `voice` if the provider has it, otherwise the provider's first"))]
    #[schemars(example = &"cedar")]
    voice: Option<Voice>,
}

/// How a call opens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "say": "Hello, {{ clinic.name }}, how can I help?", "interruptible": false }))]
struct Greeting {
    /// Who speaks first.
    #[schemars(extend("default" = "assistant"), example = &"caller")]
    first: Option<FirstSpeaker>,
    /// The first line. The model says exactly this; with `play` it is the text of the recording.
    #[schemars(extend("x-default" = "the model chooses its own words"))]
    #[schemars(example = &"Hello, {{ clinic.name }}, how can I help?")]
    say: Option<Template>,
    /// A recorded greeting: a WAV file in the folder `greetings/`, played at once. Write its words in `say`, so that the
    /// model knows what was said.
    #[schemars(example = &"clinic.wav")]
    play: Option<Text>,
    /// Whether the model says the greeting once, and calls play it at once. Its text must be the same in every call. Until
    /// it is there, and if the model says something else, each call says it live.
    #[schemars(extend("default" = false), example = true)]
    prepared: Option<Flag>,
    /// Whether the caller can interrupt the greeting.
    #[schemars(extend("default" = true), example = false)]
    interruptible: Option<Flag>,
}

/// The short lines that callers hear while the model cannot speak: see [Prepared lines](#prepared-lines).
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "moment": "Just a second.", "cut_off": "Sorry, I lost you for a moment." }))]
struct Sounds {
    /// Said when an answer takes too long. The same in every call, so no template.
    #[schemars(extend("x-default" = format!("{} in the assistant's `language`", Words::ENGLISH.moment)))]
    #[schemars(example = &"Just a second.")]
    moment: Option<Text>,
    /// Said when the model is back after its connection was lost. The same in every call, so no template.
    #[schemars(extend("x-default" = format!("{} in the assistant's `language`", Words::ENGLISH.cut_off)))]
    #[schemars(example = &"Sorry, I lost you for a moment.")]
    cut_off: Option<Text>,
}

/// How the assistant notices that the caller speaks, and when it answers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "silence": "700ms", "noise_reduction": "far_field" }))]
struct TurnTaking {
    /// How the end of a caller's sentence is noticed: `server` waits for silence, `semantic` listens to the meaning.
    #[schemars(extend("default" = "server"), example = &"semantic")]
    detection: Option<Detection>,
    /// How long the caller must be quiet before the assistant answers. Less is quicker, but cuts off people who pause to
    /// think. Only with `detection: server`.
    #[schemars(extend("default" = TURN_SILENCE.spelled_default(), "x-range" = TURN_SILENCE.spelled()))]
    #[schemars(example = &"700ms")]
    silence: Option<Duration>,
    /// How loud somebody must be to count as speaking: raise it for callers in noisy places. Only with
    /// `detection: server`.
    #[schemars(extend("default" = THRESHOLD), example = 0.6)]
    threshold: Option<Threshold>,
    /// How much sound before the first word the model hears. Only with `detection: server`.
    #[schemars(extend("default" = TURN_PREFIX.spelled_default(), "x-range" = TURN_PREFIX.spelled()))]
    #[schemars(example = &"200ms")]
    prefix: Option<Duration>,
    /// How soon a sentence counts as finished: `low` waits longest. Only with `detection: semantic`.
    #[schemars(extend("default" = "auto"), example = &"low")]
    eagerness: Option<Eagerness>,
    /// What happens when the caller talks over the assistant. `immediate`: the assistant stops. `confirmed`: it stops, and
    /// goes on where it stopped if that was a cough, a "mhm" or noise; each answer then begins a little later. `none`: it
    /// goes on, and answers afterwards.
    #[schemars(extend("default" = "immediate"), example = &"confirmed")]
    interruptions: Option<Interrupting>,
    /// What happens when the caller presses a key while the assistant speaks. `interrupt`: the assistant stops, as for
    /// speech. `wait`: it goes on, and answers afterwards.
    #[schemars(extend("default" = "interrupt"), example = &"wait")]
    keys: Option<KeyPress>,
    /// How noise is removed: `near_field` for a phone at the ear, `far_field` for a loudspeaker in a room.
    #[schemars(extend("default" = "near_field"), example = &"far_field")]
    noise_reduction: Option<NoiseReduction>,
}

/// The keys that the caller presses. The assistant gets those of one code together.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "length": 5, "wait": "3s" }))]
struct DtmfKeys {
    /// How many keys are complete without any other sign.
    #[schemars(extend("default" = DTMF_LENGTH.default), example = 5)]
    length: Option<DtmfLength>,
    /// The key that ends a code, which is not a part of it: `#`, `*` or `none`. `#` needs quotes.
    #[schemars(extend("default" = "#"), example = &"*")]
    end: Option<EndKey>,
    /// How long no other key must follow.
    #[schemars(extend("default" = DTMF_WAIT.spelled_default(), "x-range" = DTMF_WAIT.spelled()), example = &"3s")]
    wait: Option<Duration>,
}

/// A map, or one of the words that turn it off.
struct Transcription;

impl JsonSchema for Transcription {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Transcription".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The model that transcribes the caller. `none` turns it off.",
            "anyOf": [TranscriptionMap::json_schema(generator), { "enum": [NO_TRANSCRIPTION, false] }, expansion()],
            "x-type": "a map, or `none`",
            "examples": [{ "model": DEFAULT_TRANSCRIPTION, "language": "en" }, "none"],
        })
    }
}

/// The model that transcribes the caller.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TranscriptionMap {
    /// The name of the transcription model.
    #[schemars(extend("default" = DEFAULT_TRANSCRIPTION), example = DEFAULT_TRANSCRIPTION)]
    model: Option<Text>,
    /// The language to expect.
    #[schemars(extend("x-default" = "the assistant's `language`"), example = &"en")]
    language: Option<Language>,
}

/// What the assistant may do with the call itself.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "end_call": true }))]
struct CallControl {
    /// Whether the assistant may say goodbye and hang up.
    #[schemars(extend("default" = false), example = true)]
    end_call: Option<Flag>,
    /// The people whom it may transfer the caller to, each under a name of your choice: a phone number, or a map. The
    /// assistant says whom it calls, and their phone rings. If nobody answers, the conversation continues.
    #[schemars(extend("x-key" = ["NAME", "reception"], "x-default" = "nobody", "propertyNames" = tool_name()))]
    #[schemars(example = json!({ "reception": "+15550100011" }))]
    transfer_to: Option<BTreeMap<String, Option<Person>>>,
    /// Whether the assistant may press keys, for a phone menu at the other end.
    #[schemars(extend("default" = false), example = true)]
    send_digits: Option<Flag>,
    /// Whether the assistant may send a text message to the caller's own number. This needs `TWILIO_ACCOUNT_SID`, and a
    /// caller whose number is known.
    #[schemars(extend("default" = false), example = true)]
    send_sms: Option<Flag>,
    take_message: Option<TakeMessage>,
}

/// A phone number, or a map with one.
struct Person;

impl JsonSchema for Person {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Person".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = phone();
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.insert(0, PersonMap::json_schema(generator).to_value());
        }
        schema
    }
}

/// A person whom the caller may be transferred to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PersonMap {
    /// The phone number. If it is empty, this person is left out.
    #[schemars(extend("x-default" = "required"), example = &"+15550100011")]
    number: Option<Phone>,
    /// How long their phone rings.
    #[schemars(extend("default" = RING.spelled_default(), "x-range" = RING.spelled()), example = &"40s")]
    ring_for: Option<Duration>,
    /// Tells the model who it is and when to call them.
    #[schemars(example = &"The front desk, for everything about appointments")]
    description: Option<Text>,
}

/// How long a call may last, and how often the assistant may reach people in it. At a limit it tells the caller so.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "call": "15m", "silence": "60s", "sms": 1 }))]
struct Limits {
    /// The longest call. The assistant then says goodbye. `check` warns if the provider ends its sessions earlier.
    #[schemars(extend("default" = CALL.spelled_default(), "x-range" = CALL.spelled()), example = &"15m")]
    call: Option<Duration>,
    /// The longest silence. Halfway the assistant asks whether the caller is still there, at the end it says goodbye.
    #[schemars(extend("default" = CALL_SILENCE.spelled_default(), "x-range" = CALL_SILENCE.spelled()))]
    #[schemars(example = &"45s")]
    silence: Option<Duration>,
    /// The most text messages to the caller (`send_sms`).
    #[schemars(extend("default" = SMS.default), example = 1)]
    sms: Option<Sms>,
    /// The most messages for you (`take_message`).
    #[schemars(extend("default" = MESSAGES.default), example = 2)]
    messages: Option<Messages>,
    /// The most transfers for which a phone rings (`transfer_to`).
    #[schemars(extend("default" = TRANSFERS.default), example = 5)]
    transfers: Option<Transfers>,
    /// What a call may cost, in dollars. At four fifths of it the assistant is asked to come to an end, and then it says
    /// goodbye.
    #[schemars(extend("x-default" = "any"), example = 0.5)]
    cost_per_call: Option<CostPerCall>,
    /// What the calls of a day may cost, in dollars. The day begins at midnight in the assistant's `timezone`. When it is used up,
    /// callers hear `busy`.
    #[schemars(extend("x-default" = "any"), example = 5)]
    cost_per_day: Option<CostPerDay>,
    /// The most calls at once. More callers hear `busy`.
    #[schemars(extend("x-default" = "as many as `MAX_CALLS`"), example = 3)]
    calls: Option<Calls>,
    calls_per_caller: Option<CallsPerCaller>,
}

/// How often one caller gets through. After that, the caller hears `busy`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "per_hour": 5, "per_day": 20 }))]
struct CallsPerCaller {
    /// Calls within an hour.
    #[schemars(extend("x-default" = "any"), example = 5)]
    per_hour: Option<CallsPerHour>,
    /// Calls within 24 hours.
    #[schemars(extend("x-default" = "any"), example = 20)]
    per_day: Option<CallsPerDay>,
    /// Whether all callers without a number count as one caller. Otherwise they are not counted.
    #[schemars(extend("default" = false), example = true)]
    withheld: Option<Flag>,
}

/// What is kept of each call, and for how long (see [privacy.md](privacy.md)). `switchboard.yaml` may contain the same key,
/// for all assistants; what an assistant's file says comes first, key by key.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "audio": true, "keep": "90d", "numbers": "masked" }))]
struct Record {
    /// Whether what both sides said is kept, and which keys the caller pressed. The caller is transcribed all the same:
    /// only `transcription: none` stops that.
    #[schemars(extend("default" = KEPT.transcript), example = false)]
    transcript: Option<Flag>,
    /// Whether the call is recorded: the caller on the left, what the caller heard on the right. Tell callers with a
    /// `recording_notice`.
    #[schemars(extend("default" = KEPT.audio), example = true)]
    audio: Option<Flag>,
    /// Whether the arguments and results of tools are kept. Their names, durations and outcomes always are.
    #[schemars(extend("default" = KEPT.tools), example = true)]
    tools: Option<Flag>,
    /// For how long. Older records are deleted once a day, with their recordings.
    #[schemars(extend("default" = KEEP.spelled_default(), "x-range" = KEEP.spelled()), example = &"90d")]
    keep: Option<Duration>,
    /// How the caller's number is kept: `full`, `masked` as its last digits and a keyed hash, by which `switchboard calls`
    /// still finds it, or `none`.
    #[schemars(extend("default" = "full"), example = &"masked")]
    numbers: Option<KeptNumber>,
}

const KEPT: RecordPolicy = RecordPolicy::DEFAULT;

/// A sentence, or a map with one.
struct RecordingNotice;

impl JsonSchema for RecordingNotice {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RecordingNotice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What Twilio's voice says before anything else, word for word, if `record.audio` is true. The \
                assistant greets the caller after it.",
            "anyOf": [NoticeMap::json_schema(generator), Template::json_schema(generator)],
            "x-type": "a text, with names in `{{ … }}`, or a map",
            "x-default": "nothing",
            "examples": ["This call is recorded.", { "say": "This call is recorded.", "language": "en-GB" }],
        })
    }
}

/// What callers are told of the recording.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct NoticeMap {
    /// What it says, in at most 4,096 bytes.
    #[schemars(extend("x-default" = "nothing"), example = &"This call is recorded.")]
    say: Option<Template>,
    /// The locale of that voice: one of those that Twilio speaks (see [Languages](#languages)).
    #[schemars(extend("x-default" = format!("the assistant's `language`, or `{ENGLISH}`")))]
    #[schemars(example = &"en-GB")]
    language: Option<Language>,
}

/// What Twilio's voice says if a limit is reached, and who is dialed then.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "say": "All our lines are busy. Please call again in a few minutes." }))]
struct Busy {
    /// What it says, in at most 4,096 bytes.
    #[schemars(extend("x-default" = sentence(|words| words.busy)), example = &"All our lines are busy. Please call again in a few minutes.")]
    say: Option<Template>,
    /// The locale of that voice: one of those that Twilio speaks (see [Languages](#languages)).
    #[schemars(extend("x-default" = format!("the assistant's `language`, or `{ENGLISH}`")))]
    #[schemars(example = &"en-GB")]
    language: Option<Language>,
    /// The number that is dialed then, so that the caller reaches a person.
    #[schemars(extend("x-default" = "nobody: the call ends after the sentence"), example = &"+15550100011")]
    dial: Option<Phone>,
}

/// The default of a sentence.
fn sentence(ours: fn(&Words) -> &'static str) -> String {
    format!("\"{}\", or the same in the assistant's language", ours(Words::ENGLISH))
}

/// What happens if the conversation fails, for example because the model cannot be reached.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "say": "Sorry. One moment, I will put you through.", "dial": "+15550100011" }))]
struct OnFailure {
    /// What Twilio's voice says, in at most 4,096 bytes.
    #[schemars(extend("x-default" = sentence(|words| words.sorry) + "; with `dial`, that the caller is being connected"), example = &"Sorry, something broke. One moment, I will put you through.")]
    say: Option<Template>,
    /// The locale of that voice: one of those that Twilio speaks (see [Languages](#languages)).
    #[schemars(extend("x-default" = format!("the assistant's `language`, or `{ENGLISH}`")))]
    #[schemars(example = &"en-GB")]
    language: Option<Language>,
    /// The number that is dialed then, so that the caller reaches a person.
    #[schemars(extend("x-default" = "nobody: the call ends after the sentence"), example = &"+15550100011")]
    dial: Option<Phone>,
}

/// A tool server: where it is, how to log in, and what the model may do with it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("not" = url_and_command()))]
struct Mcp {
    /// The server's address. If it is empty, the server is off, so `"${TODOIST_MCP_URL:-}"` turns the server on when the
    /// variable is set.
    #[schemars(extend("x-default" = "none; `url` or `command` is required"), example = &"https://mcp.example.com/")]
    url: Option<Text>,
    /// A program to start in place of a `url`. It speaks MCP on its standard input and output.
    #[schemars(example = ["npx", "-y", "@example/todoist-mcp"])]
    command: Option<Texts>,
    /// Environment variables for the `command`.
    #[schemars(extend("x-type" = "a map from names to texts"))]
    #[schemars(example = json!({ "TODOIST_API_KEY": "${TODOIST_API_KEY:-}" }))]
    env: Option<BTreeMap<String, Option<Text>>>,
    /// The token to log in with. It is sent as `Authorization: Bearer …`. Keep it out of the file. Use either this, or
    /// `user` and `password`.
    #[schemars(example = &"${TODOIST_MCP_TOKEN:-}")]
    token: Option<Text>,
    /// The user to log in as, with a `password` (HTTP Basic), such as for a server made by `fly mcp launch` with a user
    /// and a password.
    #[schemars(example = &"${TODOIST_MCP_USER:-}")]
    user: Option<Text>,
    /// The password that belongs to `user`.
    #[schemars(example = &"${TODOIST_MCP_PASSWORD:-}")]
    password: Option<Text>,
    /// More headers for every request to the server.
    #[schemars(extend("x-type" = "a map from names to texts"), example = json!({ "X-Team": "front-desk" }))]
    headers: Option<BTreeMap<String, Option<Text>>>,
    /// Who connects to the server: `runtime` is this program, which also reaches private servers; `provider` is the
    /// model's host, which needs a public address.
    #[schemars(extend("default" = "runtime"), example = &"provider")]
    via: Option<ViaWord>,
    /// The tools that the model may use directly. `[]` means none: then only your `functions` use the server. A function
    /// needs no entry here.
    #[schemars(extend("x-default" = "all tools of the server"), example = ["add-tasks", "find-tasks"])]
    allow: Option<Names>,
    /// Whether the assistant asks the caller before it runs a tool: never, always, or for the tools in a list.
    #[schemars(extend("default" = "never"), example = &"always", example = ["add-tasks"])]
    approval: Option<Approvals>,
    /// How long a tool may take.
    #[schemars(extend("default" = TIMEOUT.spelled_default(), "x-range" = TIMEOUT.spelled()), example = &"8s")]
    timeout: Option<Duration>,
    /// When the assistant asks the caller for a moment of patience.
    #[schemars(extend("default" = FILLER.spelled_default(), "x-range" = FILLER.spelled()), example = &"2s")]
    filler_after: Option<Duration>,
    /// What the caller hears while a tool takes longer than that: `tone`, `none`, or a WAV file in the folder `sounds/`,
    /// which is repeated.
    #[schemars(extend("x-default" = "the assistant's `hold`"), example = &"none")]
    hold: Option<HoldSound>,
    /// Whether a tool is cancelled when the caller interrupts.
    #[schemars(extend("default" = false), example = true)]
    stop_on_interruption: Option<Flag>,
    /// Rules for single tools of the server, by the tool's name.
    #[schemars(extend("x-key" = ["TOOL", "add-tasks"]))]
    #[schemars(example = json!({ "add-tasks": { "approval": "always", "fixed": { "project": "inbox" } } }))]
    tools: Option<BTreeMap<String, Option<Tool>>>,
    /// What the model should know about these tools. It becomes a part of the instructions in calls that have a tool of
    /// this server.
    #[schemars(example = &"When the caller wants to remember something, add a task.")]
    instructions: Option<Template>,
}

/// Rules for one tool.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Tool {
    /// Whether the assistant asks the caller before it runs the tool.
    #[schemars(extend("x-default" = "the server's `approval`"), example = &"always")]
    approval: Option<Approval>,
    /// How long it may take.
    #[schemars(extend("x-default" = "the server's `timeout`", "x-range" = TIMEOUT.spelled()), example = &"8s")]
    timeout: Option<Duration>,
    /// When the assistant asks the caller for a moment of patience.
    #[schemars(extend("x-default" = "the server's `filler_after`", "x-range" = FILLER.spelled()), example = &"2s")]
    filler_after: Option<Duration>,
    /// What the caller hears while it takes longer than that.
    #[schemars(extend("x-default" = "the server's `hold`"), example = &"none")]
    hold: Option<HoldSound>,
    /// How often it runs in one call. Only with `via: runtime`.
    #[schemars(extend("x-default" = MAX_PER_CALL.default.to_string()), example = 2)]
    max_per_call: Option<MaxPerCall>,
    /// Arguments with a fixed value, which the model does not see. Only with `via: runtime`.
    #[schemars(extend("x-type" = "a map from arguments to any values"), example = json!({ "project": "inbox" }))]
    fixed: Option<BTreeMap<String, Anything>>,
    /// Whether it is cancelled when the caller interrupts.
    #[schemars(extend("x-default" = "the server's `stop_on_interruption`"), example = true)]
    stop_on_interruption: Option<Flag>,
}

/// One function: what the model knows about it, and where a call goes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Function {
    /// Tells the model what it does and when to use it.
    #[schemars(extend("x-default" = "required"))]
    #[schemars(example = &"Books a table. Ask for the day, the time and the number of guests first.")]
    description: Text,
    /// Its arguments, as a JSON Schema of type `object`.
    #[schemars(extend("x-default" = "with `mcp` the tool's arguments, with `http` none"))]
    #[schemars(example = json!({ "type": "object", "properties": { "guests": { "type": "integer" } }, "required": ["guests"] }))]
    parameters: Option<Parameters>,
    mcp: Option<FunctionMcp>,
    http: Option<Http>,
    /// Whether the assistant asks the caller before it runs the function.
    #[schemars(extend("x-default" = "with `mcp` the tool's `approval`, otherwise `never`"), example = &"always")]
    approval: Option<Approval>,
    /// How often it runs in one call. After that, the assistant tells the caller that it cannot do it again.
    #[schemars(extend("x-default" = format!("with `mcp` the tool's `max_per_call`, otherwise {}", MAX_PER_CALL.default)))]
    #[schemars(example = 2)]
    max_per_call: Option<MaxPerCall>,
    /// How long it may take.
    #[schemars(extend("x-default" = tool_or("timeout", &TIMEOUT), "x-range" = TIMEOUT.spelled()), example = &"8s")]
    timeout: Option<Duration>,
    /// When the assistant asks the caller for a moment of patience.
    #[schemars(extend("x-default" = tool_or("filler_after", &FILLER), "x-range" = FILLER.spelled()), example = &"2s")]
    filler_after: Option<Duration>,
    /// What the caller hears while it takes longer than that.
    #[schemars(extend("x-default" = "with `mcp` the tool's `hold`, otherwise the assistant's"), example = &"none")]
    hold: Option<HoldSound>,
    /// Whether it is cancelled when the caller interrupts.
    #[schemars(extend("x-default" = "with `mcp` the tool's `stop_on_interruption`, otherwise `false`"))]
    #[schemars(example = true)]
    stop_on_interruption: Option<Flag>,
}

/// Sends the call to a tool of an MCP server with `via: runtime`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "server": "todoist", "tool": "add-tasks", "fixed": { "project": "inbox" } }))]
struct FunctionMcp {
    /// The server's name in `mcp`.
    #[schemars(extend("x-default" = "required"), example = &"todoist")]
    server: Text,
    /// The tool's name on the server.
    #[schemars(extend("x-default" = "required"), example = &"add-tasks")]
    tool: Text,
    /// Arguments of the tool with a fixed value, in addition to those from the model. They take precedence over the `fixed`
    /// of the server's tool.
    #[schemars(extend("x-type" = "a map from arguments to any values"), example = json!({ "project": "inbox" }))]
    fixed: Option<BTreeMap<String, Anything>>,
}

/// Sends the call as an HTTP request.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "url": "https://api.example.com/tables", "success": [200, 201], "answer": "message" }))]
struct Http {
    /// The request's method.
    #[schemars(extend("default" = "POST"), example = &"GET")]
    method: Option<Method>,
    /// The address, a template: `{{ arguments.NAME }}` is an argument from the model. Each value is percent-encoded, so it
    /// cannot change the rest of the address. The host must be written out or come from `${…}`. If the address is empty,
    /// the function is off.
    #[schemars(extend("x-default" = "required"))]
    #[schemars(example = &"https://api.example.com/tables", example = &"https://api.example.com/tables?from={{ caller.number }}")]
    url: Template,
    /// Headers of the request. They are templates and may use `{{ arguments.NAME }}`.
    #[schemars(extend("x-type" = "a map from names to texts"))]
    #[schemars(example = json!({ "Authorization": "Bearer ${TABLES_TOKEN:-}" }))]
    headers: Option<BTreeMap<String, Option<Template>>>,
    /// What is sent as JSON. Its texts are templates and may use `{{ arguments.NAME }}`. A text that is only one `{{ … }}`
    /// keeps its type, so a number stays a number. It is left out if the argument is missing.
    #[schemars(extend("x-default" = "the arguments as a JSON object; nothing with `GET` and `DELETE`"))]
    #[schemars(example = json!({ "source": "phone", "from": "{{ caller.number }}" }))]
    body: Option<Anything>,
    /// The status codes that mean success.
    #[schemars(extend("x-default" = "200 to 299"), example = [200, 201])]
    success: Option<Codes>,
    /// The part of a JSON response that the model gets: names and indices, separated by dots.
    #[schemars(extend("x-default" = "the whole response"), example = &"data.message", example = &"tasks.0.title")]
    answer: Option<Text>,
}

fn tool_or(key: &str, timing: &Timing) -> String {
    format!("with `mcp` the tool's `{key}`, otherwise `{}`", timing.spelled_default())
}
