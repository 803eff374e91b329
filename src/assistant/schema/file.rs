//! An assistant's file as it is written: every key with its meaning, default, range and example.
//!
//! `x-default` says a default that is no value, `x-range` the range of a duration, `x-key` what the
//! keys of a map stand for and an example of one.
#![expect(dead_code, reason = "these types are described, and never filled")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::value::*;
use crate::provider::{DEFAULT_MODEL, DEFAULT_TRANSCRIPTION, DEFAULT_VOICE};

/// One voice assistant: who it is, which numbers it answers, and how it behaves on the phone.
#[derive(JsonSchema)]
#[schemars(title = "An assistant of Switchboard", deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    { "required": ["instructions"], "properties": { "instructions": { "not": { "type": "null" } } } },
    { "required": ["fragments"] },
]))]
pub struct Assistant {
    /// What this assistant is for, in a few words. You see it in the program's output, and templates
    /// may use it as `{{ assistant.description }}`.
    #[schemars(example = &"Answers the clinic's main line")]
    #[schemars(extend("x-default" = "empty"))]
    description: Option<Text>,
    /// The phone numbers that ring this assistant, each with its plus and country code. `"*"` stands for
    /// every number that no other assistant lists; at most one file may have it, and the star needs its
    /// quotes. A number belongs to one assistant only. Without numbers an assistant can only be rehearsed.
    #[schemars(example = ["+15550100001", "+15550100002"], example = ["*"], example = ["${CLINIC_NUMBER}"])]
    #[schemars(extend("x-default" = "none"))]
    numbers: Option<Numbers>,
    /// Who serves the model: `openai`, or a provider that `switchboard.yaml` names.
    #[schemars(example = &"openai")]
    #[schemars(extend("x-default" = "`openai`"))]
    provider: Option<Text>,
    /// The kind of speech model. There is one so far.
    #[schemars(extend("default" = "realtime"))]
    #[schemars(example = &"realtime")]
    engine: Option<Engine>,
    /// The speech model. Those of OpenAI that are known are listed below; another provider has its own.
    #[schemars(extend("default" = DEFAULT_MODEL))]
    #[schemars(example = DEFAULT_MODEL)]
    model: Option<ModelName>,
    /// How the assistant sounds. OpenAI's voices are listed below; another provider has its own.
    #[schemars(extend("default" = DEFAULT_VOICE))]
    #[schemars(example = &"cedar")]
    voice: Option<Voice>,
    /// How freely the model chooses its words: 0 is sober, 2 is wild. It is sent only to providers that take
    /// it. OpenAI takes none, and `check` then warns that it has no effect.
    #[schemars(extend("x-default" = "the provider's own"))]
    #[schemars(example = 0.8)]
    temperature: Option<Temperature>,
    /// How fast the voice speaks: 1 is its own speed, 1.1 is a little faster.
    #[schemars(extend("x-default" = "the provider's own, which is 1"))]
    #[schemars(example = 1.1)]
    speed: Option<Speed>,
    /// How hard a reasoning model thinks before it speaks. More thinking means a longer wait for the caller.
    /// `check` warns where the model does not reason.
    #[schemars(extend("x-default" = "the model's own"))]
    #[schemars(example = &"low")]
    reasoning: Option<Effort>,
    /// The language callers speak: two or three small letters, and a region if it matters. It helps the
    /// transcription, and it is the language of the sentences that the phone company says, such as `busy`.
    #[schemars(extend("x-default" = "none: the model follows the caller, and `busy` and `on_failure` are said in `en-US`"))]
    #[schemars(example = &"en-US", example = &"de")]
    language: Option<Language>,
    /// The time zone of `{{ now }}`, by the name that the tz database gives it.
    #[schemars(extend("default" = "UTC"))]
    #[schemars(example = &"America/New_York")]
    timezone: Option<Text>,
    /// Callers that you know. Where one of these numbers calls, `{{ caller.name }}` is the name; for
    /// everybody else it is empty.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = json!({ "+15550109999": "Anna" }))]
    callers: Option<Callers>,
    /// Facts of your own, for use in templates: `{{ clinic.name }}`. A name has letters, digits and `_`, and
    /// may not be one of the names that are there already (see Names in texts).
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = json!({ "clinic": { "name": "Example Dental", "hours": "nine to five" }, "days": ["Monday", "Friday"] }))]
    variables: Option<Variables>,
    /// What the assistant is, knows and does: the text that the model gets. It is needed, unless `fragments`
    /// are given.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"You answer the phone for {{ clinic.name }}. It is {{ now }}.\nBe brief and friendly.\n")]
    instructions: Option<Template>,
    /// Shared pieces of instructions, by name: `server-rules` is the file `fragments/server-rules.md`. They
    /// follow the assistant's own instructions, in this order.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = ["house-rules"])]
    fragments: Option<Texts>,
    greeting: Option<Greeting>,
    turn_taking: Option<TurnTaking>,
    transcription: Option<Transcription>,
    call_control: Option<CallControl>,
    limits: Option<Limits>,
    busy: Option<Busy>,
    on_failure: Option<OnFailure>,
    /// Tool servers that speak MCP (Model Context Protocol), each under a name of your choice. The model gets the
    /// tools that a server had listed when the phone rang; one that cannot be reached then has none in that call.
    #[schemars(extend("x-key" = ["NAME", "todoist"], "x-default" = "none", "propertyNames" = tool_name()))]
    #[schemars(example = json!({ "todoist": {
        "url": "${TODOIST_MCP_URL:-}",
        "token": "${TODOIST_MCP_TOKEN:-}",
        "allow": ["add-tasks", "find-tasks"],
        "instructions": "When the caller wants to remember something, add a task.",
    } }))]
    mcp: Option<BTreeMap<String, Option<Mcp>>>,
    /// Functions that the model may call, each under a name of your choice: what it is told about them, and
    /// where a call of one goes (`mcp` or `http`).
    #[schemars(extend("x-key" = ["NAME", "book-table"], "x-default" = "none", "propertyNames" = tool_name()))]
    #[schemars(example = json!({ "book-table": {
        "description": "Books a table. Ask for the day, the time and the number of guests first.",
        "parameters": { "type": "object", "properties": { "guests": { "type": "integer" } } },
        "http": { "url": "https://api.example.com/tables" },
    } }))]
    functions: Option<BTreeMap<String, Option<Function>>>,
}

/// How a call opens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "say": "Hello, {{ clinic.name }}, how can I help?", "interruptible": false }))]
struct Greeting {
    /// Who speaks first.
    #[schemars(extend("default" = "assistant"))]
    #[schemars(example = &"caller")]
    first: Option<First>,
    /// The first line. The model is asked to say exactly this; with `play` it is what the recording says.
    #[schemars(extend("x-default" = "the model greets as it likes"))]
    #[schemars(example = &"Hello, {{ clinic.name }}, how can I help?")]
    say: Option<Template>,
    /// A recorded greeting from the folder `greetings/`: a WAV file, played at once. Write its words into
    /// `say`, so that the model knows what was said.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = &"clinic.wav")]
    play: Option<Text>,
    /// Whether the caller can talk over the greeting.
    #[schemars(extend("default" = true))]
    #[schemars(example = false)]
    interruptible: Option<Flag>,
}

/// How the assistant notices that the caller speaks, and when it answers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "silence": "700ms", "noise_reduction": "far_field" }))]
struct TurnTaking {
    /// How the end of a caller's sentence is noticed: `server` waits for silence, `semantic` listens to
    /// what is said.
    #[schemars(extend("default" = "server"))]
    #[schemars(example = &"semantic")]
    detection: Option<Detection>,
    /// How long the caller must be quiet before the assistant answers. Less is quicker, and cuts people off
    /// who think while they speak. Only with `detection: server`.
    #[schemars(extend("default" = "500ms", "x-range" = "100ms to 5s"))]
    #[schemars(example = &"700ms")]
    silence: Option<Duration>,
    /// How loud somebody must be to count as speaking: raise it for callers in noisy places. Only with
    /// `detection: server`.
    #[schemars(extend("default" = 0.5))]
    #[schemars(example = 0.6)]
    threshold: Option<Threshold>,
    /// How much of the sound before the first word is listened to as well. Only with `detection: server`.
    #[schemars(extend("default" = "300ms", "x-range" = "0s to 2s"))]
    #[schemars(example = &"200ms")]
    prefix: Option<Duration>,
    /// How soon it takes a sentence for finished: `low` waits longest. Only with `detection: semantic`.
    #[schemars(extend("default" = "auto"))]
    #[schemars(example = &"low")]
    eagerness: Option<Eagerness>,
    /// Whether the caller can talk over the assistant.
    #[schemars(extend("default" = true))]
    #[schemars(example = false)]
    interruptions: Option<Flag>,
    /// How the sound is cleaned: `near_field` for a phone at the ear, `far_field` for a loudspeaker in a room.
    #[schemars(extend("default" = "near_field"))]
    #[schemars(example = &"far_field")]
    noise_reduction: Option<NoiseReduction>,
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
            "description": "Who writes down what the caller says. `none` turns it off.",
            "anyOf": [TranscriptionMap::json_schema(generator), { "enum": ["none", false] }, expansion()],
            "x-type": "a map, or `none`",
            "examples": [{ "model": DEFAULT_TRANSCRIPTION, "language": "en" }, "none"],
        })
    }
}

/// Who writes down what the caller says.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TranscriptionMap {
    /// The model that writes it down.
    #[schemars(extend("default" = DEFAULT_TRANSCRIPTION))]
    #[schemars(example = DEFAULT_TRANSCRIPTION)]
    model: Option<Text>,
    /// The language that it expects.
    #[schemars(extend("x-default" = "the assistant's `language`"))]
    #[schemars(example = &"en")]
    language: Option<Language>,
}

/// What the assistant may do with the call itself.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "end_call": true }))]
struct CallControl {
    /// Whether the assistant may say goodbye and hang up.
    #[schemars(extend("default" = false))]
    #[schemars(example = true)]
    end_call: Option<Flag>,
    /// The people it may put the caller through to, each under a name of your choice: a phone number, or a map
    /// with more. The assistant says whom it calls, their phone rings, and if nobody answers it goes on with the
    /// conversation.
    #[schemars(extend("x-key" = ["NAME", "reception"], "x-default" = "nobody", "propertyNames" = tool_name()))]
    #[schemars(example = json!({ "reception": "+15550100011" }))]
    transfer_to: Option<BTreeMap<String, Option<Person>>>,
    /// Whether the assistant may press keys, for a machine at the other end that asks for them.
    #[schemars(extend("default" = false))]
    #[schemars(example = true)]
    send_digits: Option<Flag>,
    /// Whether the assistant may send a text message to the caller's own number. It can only where that number is
    /// known, and where `TWILIO_ACCOUNT_SID` is set.
    #[schemars(extend("default" = false))]
    #[schemars(example = true)]
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

/// Somebody the caller may be put through to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PersonMap {
    /// The phone number. Where it is empty, nobody is put through to it.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"+15550100011")]
    number: Option<Phone>,
    /// How long their phone rings.
    #[schemars(extend("default" = "25s", "x-range" = "5s to 2m"))]
    #[schemars(example = &"40s")]
    ring_for: Option<Duration>,
    /// Who it is and when to call them, for the model.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = &"The front desk, for everything about appointments")]
    description: Option<Text>,
}

/// Lets the assistant take a message for you: it asks for what you want to know, and sends it to an address of
/// yours as a signed webhook.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "url": "${MESSAGES_URL:-}", "secret": "${MESSAGES_SECRET:-}", "fields": ["name", "message"] }))]
struct TakeMessage {
    /// Where messages go, by POST. Where it is empty, the tool is off.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"https://hooks.example.com/messages")]
    url: Option<Text>,
    /// What signs each message, as Standard Webhooks has it, so that you know that it is yours: `whsec_` and the
    /// base64 of 24 random bytes or more. `echo "whsec_$(openssl rand -base64 32)"` makes one. Keep it out of the
    /// file.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"${MESSAGES_SECRET}")]
    secret: Option<Text>,
    /// What is in a message: a list of names, or names with a JSON Schema each. The model asks for all of them.
    #[schemars(extend("x-default" = "`[name, message]`"))]
    #[schemars(example = ["name", "number", "message"], example = json!({ "name": { "type": "string" }, "urgent": { "type": "boolean", "description": "Whether it cannot wait" } }))]
    fields: Option<MessageFields>,
    /// When to take a message and how, for the model.
    #[schemars(extend("x-default" = "our own words"))]
    #[schemars(example = &"Takes a message for the doctor. Ask whether it is urgent.")]
    description: Option<Text>,
}

/// How long a call may take.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "call": "15m", "silence": "60s" }))]
struct Limits {
    /// The longest call. Then the assistant says goodbye. The provider may end sessions earlier; `check`
    /// warns where it does.
    #[schemars(extend("default" = "30m", "x-range" = "10s to 4h"))]
    #[schemars(example = &"15m")]
    call: Option<Duration>,
    /// The longest that nobody says anything. At half of it the assistant asks whether the caller is still
    /// there, at the whole it says goodbye.
    #[schemars(extend("default" = "60s", "x-range" = "5s to 30m"))]
    #[schemars(example = &"45s")]
    silence: Option<Duration>,
}

/// What the phone company's voice says when a call cannot be taken, because too many are under way.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "say": "All our lines are busy. Please call again in a few minutes." }))]
struct Busy {
    /// The sentence.
    #[schemars(extend("default" = "All lines are busy. Please call again later."))]
    #[schemars(example = &"All our lines are busy. Please call again in a few minutes.")]
    say: Option<Template>,
    /// The language of the voice that says it.
    #[schemars(extend("x-default" = "the assistant's `language`, else `en-US`"))]
    #[schemars(example = &"en-GB")]
    language: Option<Language>,
}

/// What happens when the conversation breaks, for example because the model cannot be reached.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "say": "Sorry. One moment, I will put you through.", "dial": "+15550100011" }))]
struct OnFailure {
    /// The sentence that the phone company's voice says.
    #[schemars(extend("default" = "Sorry, something went wrong. Please call again."))]
    #[schemars(example = &"Sorry, something broke. One moment, I will put you through.")]
    say: Option<Template>,
    /// The language of the voice that says it.
    #[schemars(extend("x-default" = "the assistant's `language`, else `en-US`"))]
    #[schemars(example = &"en-GB")]
    language: Option<Language>,
    /// Who is called then, so that the caller reaches a person.
    #[schemars(extend("x-default" = "nobody: the call ends after the sentence"))]
    #[schemars(example = &"+15550100011")]
    dial: Option<Phone>,
}

/// A tool server: where it is, how to log in, and what the model may do with it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("not" = url_and_command()))]
struct Mcp {
    /// The server's address. Where it is empty, the server is off: `"${TODOIST_MCP_URL:-}"` turns it on for
    /// whoever sets the variable.
    #[schemars(extend("x-default" = "none: `url` or `command` is needed"))]
    #[schemars(example = &"https://mcp.example.com/")]
    url: Option<Text>,
    /// A program to start instead, which speaks MCP on its standard input and output.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = ["npx", "-y", "@example/todoist-mcp"])]
    command: Option<Texts>,
    /// Environment variables for the program of `command`. With a `url` they have no effect.
    #[schemars(extend("x-type" = "a map from names to texts", "x-default" = "none"))]
    #[schemars(example = json!({ "TODOIST_API_KEY": "${TODOIST_API_KEY:-}" }))]
    env: Option<BTreeMap<String, Option<Text>>>,
    /// The key to log in with; it is sent as `Authorization: Bearer …`. Keep it out of the file. A server takes
    /// either this or `user` and `password`; what is empty is not there.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = &"${TODOIST_MCP_TOKEN:-}")]
    token: Option<Text>,
    /// The user to log in as, together with `password` (Basic). A server made by `fly mcp launch` with a user and
    /// a password wants these.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = &"${TODOIST_MCP_USER:-}")]
    user: Option<Text>,
    /// The password that belongs to `user`.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = &"${TODOIST_MCP_PASSWORD:-}")]
    password: Option<Text>,
    /// Further headers for every request to the server.
    #[schemars(extend("x-type" = "a map from names to texts", "x-default" = "none"))]
    #[schemars(example = json!({ "X-Team": "front-desk" }))]
    headers: Option<BTreeMap<String, Option<Text>>>,
    /// Who talks to the server: `runtime` is this program, which reaches private servers as well;
    /// `provider` is the model's own host, which needs a public address.
    #[schemars(extend("default" = "runtime"))]
    #[schemars(example = &"provider")]
    via: Option<Via>,
    /// The only tools of the server that the model sees by themselves. `[]` means none of them: then only your
    /// `functions` use the server. A function needs no entry here.
    #[schemars(extend("x-default" = "all tools of the server"))]
    #[schemars(example = ["add-tasks", "find-tasks"])]
    allow: Option<Names>,
    /// Whether the caller is asked aloud and must agree before a tool runs: never, always, or for the tools that
    /// are listed.
    #[schemars(extend("default" = "never"))]
    #[schemars(example = &"always", example = ["add-tasks"])]
    approval: Option<Approvals>,
    /// How long a tool may take.
    #[schemars(extend("default" = "10s", "x-range" = "1s to 5m"))]
    #[schemars(example = &"8s")]
    timeout: Option<Duration>,
    /// After how long the assistant says something to bridge the wait.
    #[schemars(extend("default" = "1500ms", "x-range" = "200ms to 1m"))]
    #[schemars(example = &"2s")]
    filler_after: Option<Duration>,
    /// Whether a tool is given up when the caller talks over the assistant.
    #[schemars(extend("default" = false))]
    #[schemars(example = true)]
    stop_on_interruption: Option<Flag>,
    /// Rules for single tools of the server, by the tool's name.
    #[schemars(extend("x-key" = ["TOOL", "add-tasks"], "x-default" = "none"))]
    #[schemars(example = json!({ "add-tasks": { "approval": "always", "fixed": { "project": "inbox" } } }))]
    tools: Option<BTreeMap<String, Option<Tool>>>,
    /// What the model should know about these tools. It is joined to the instructions in calls that have a tool of
    /// this server, and in no other.
    #[schemars(extend("x-default" = "none"))]
    #[schemars(example = &"When the caller wants to remember something, add a task.")]
    instructions: Option<Template>,
}

/// Rules for one tool.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Tool {
    /// Whether the caller must agree before it runs.
    #[schemars(extend("x-default" = "as the server's `approval` says"))]
    #[schemars(example = &"always")]
    approval: Option<Approval>,
    /// How long it may take.
    #[schemars(extend("x-default" = "the server's `timeout`", "x-range" = "1s to 5m"))]
    #[schemars(example = &"8s")]
    timeout: Option<Duration>,
    /// After how long the assistant says something to bridge the wait.
    #[schemars(extend("x-default" = "the server's `filler_after`", "x-range" = "200ms to 1m"))]
    #[schemars(example = &"2s")]
    filler_after: Option<Duration>,
    /// Arguments that always have this value; the model does not see them. Only with `via: runtime`.
    #[schemars(extend("x-type" = "a map from names of arguments to any values", "x-default" = "none"))]
    #[schemars(example = json!({ "project": "inbox" }))]
    fixed: Option<BTreeMap<String, Anything>>,
    /// Whether it is given up when the caller talks over the assistant.
    #[schemars(extend("x-default" = "the server's `stop_on_interruption`"))]
    #[schemars(example = true)]
    stop_on_interruption: Option<Flag>,
}

/// One function: what the model is told, and where a call of it goes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Function {
    /// When to use it and what it does, for the model. It is needed.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"Books a table. Ask for the day, the time and the number of guests first.")]
    description: Text,
    /// The arguments that it takes, as a JSON Schema of type `object`.
    #[schemars(extend("x-default" = "with `mcp` those of the tool, with `http` none"))]
    #[schemars(example = json!({ "type": "object", "properties": { "guests": { "type": "integer" } }, "required": ["guests"] }))]
    parameters: Option<Parameters>,
    mcp: Option<FunctionMcp>,
    http: Option<Http>,
    /// Whether the caller is asked aloud and must agree before it runs.
    #[schemars(extend("x-default" = "with `mcp` as the server says of the tool, else `never`"))]
    #[schemars(example = &"always")]
    approval: Option<Approval>,
    /// How long it may take.
    #[schemars(extend("x-default" = "with `mcp` as the server says of the tool, else `10s`", "x-range" = "1s to 5m"))]
    #[schemars(example = &"8s")]
    timeout: Option<Duration>,
    /// After how long the assistant says something to bridge the wait.
    #[schemars(extend("x-default" = "with `mcp` as the server says of the tool, else `1500ms`", "x-range" = "200ms to 1m"))]
    #[schemars(example = &"2s")]
    filler_after: Option<Duration>,
    /// Whether it is given up when the caller talks over the assistant.
    #[schemars(extend("x-default" = "with `mcp` as the server says of the tool, else `false`"))]
    #[schemars(example = true)]
    stop_on_interruption: Option<Flag>,
}

/// Sends the call to a tool of an MCP server that is `via: runtime`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "server": "todoist", "tool": "add-tasks", "fixed": { "project": "inbox" } }))]
struct FunctionMcp {
    /// The server, by its name under `mcp`.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"todoist")]
    server: Text,
    /// The tool's own name at the server.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"add-tasks")]
    tool: Text,
    /// Arguments of the tool that always have this value, beside those that the model gives. They come before the
    /// `fixed` of the server's tool.
    #[schemars(extend("x-type" = "a map from names of arguments to any values", "x-default" = "none"))]
    #[schemars(example = json!({ "project": "inbox" }))]
    fixed: Option<BTreeMap<String, Anything>>,
}

/// Sends the call as an HTTP request.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(example = json!({ "url": "https://api.example.com/tables", "success": [200, 201], "answer": "message" }))]
struct Http {
    /// The request's method.
    #[schemars(extend("default" = "POST"))]
    #[schemars(example = &"GET")]
    method: Option<Method>,
    /// The address. `{{ arguments.NAME }}` puts in what the model gives, and all other names are there as well;
    /// each value is percent-encoded, so it stays in its place in the path or behind the `?`. The host must be
    /// written out or come from `${…}`. Where it is empty, the function is off.
    #[schemars(extend("x-default" = "none: write it"))]
    #[schemars(example = &"https://api.example.com/tables", example = &"https://api.example.com/tables?from={{ caller.number }}")]
    url: Template,
    /// Headers of the request. They may speak of `{{ arguments.NAME }}` and of all other names.
    #[schemars(extend("x-type" = "a map from names to texts", "x-default" = "none"))]
    #[schemars(example = json!({ "Authorization": "Bearer ${TABLES_TOKEN:-}" }))]
    headers: Option<BTreeMap<String, Option<Template>>>,
    /// What is sent, as JSON. Its texts may speak of `{{ arguments.NAME }}` and of all other names. A text that is
    /// one `{{ … }}` and nothing else keeps its type, so a number stays a number, and is left out where the
    /// argument is not given.
    #[schemars(extend("x-default" = "the arguments as a JSON object; nothing with `GET` and `DELETE`"))]
    #[schemars(example = json!({ "source": "phone", "from": "{{ caller.number }}" }))]
    body: Option<Anything>,
    /// The status codes that mean success.
    #[schemars(extend("x-default" = "200 to 299"))]
    #[schemars(example = [200, 201])]
    success: Option<Codes>,
    /// Which part of a JSON response is the answer for the model: names and places, parted by points.
    #[schemars(extend("x-default" = "the whole response"))]
    #[schemars(example = &"data.message", example = &"tasks.0.title")]
    answer: Option<Text>,
}
