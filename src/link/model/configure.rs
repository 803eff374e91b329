//! What we send to the model, built from the plan in the provider's dialect: the session's configuration, requests for
//! responses, and lines of the assistant.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::assistant::language::Language;
use crate::assistant::plan::{AskFirst, Detection, Eagerness, Hosted, Job, NoiseReduction, Plan, Tool, Work};
use crate::call::TurnControl;
use crate::provider::{Dialect, Hints};
use crate::wire::openai::realtime;

/// What a configuration leaves out because the provider rejected it: better than no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Transcription, noise reduction, speed and reasoning.
    pub options: bool,
    /// The tools of MCP servers, ours and hosted ones.
    pub servers: bool,
}

impl LeftOut {
    /// What to leave out next. `tools`: the provider blames a tool, so the options stay for now.
    pub(super) fn more(self, tools: bool) -> Option<Self> {
        match self {
            Self { options: true, servers: true } => None,
            Self { options: false, servers: false } => Some(Self { options: !tools, servers: tools }),
            Self { .. } => Some(Self { options: true, servers: true }),
        }
    }

    /// For the log.
    pub(super) fn described(self, plan: &Plan) -> String {
        let options = "transcription, noise reduction, speed and reasoning".to_owned();
        let ours = plan.tools.iter().filter_map(server);
        let names: BTreeSet<&str> = ours.chain(plan.hosted.iter().map(|hosted| &*hosted.label)).collect();
        let names: Vec<&str> = names.into_iter().filter(|_| self.servers).collect();
        let servers = (!names.is_empty()).then(|| format!("the tools of {}", names.join(", ")));
        let parts = [self.options.then_some(options), servers];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// The MCP server of a tool.
fn server(tool: &Tool) -> Option<&str> {
    let Work::Job(job) = &tool.work else { return None };
    match &**job {
        Job::Mcp { server, .. } => Some(&server.name),
        _ => None,
    }
}

/// The exact `session` of the first `session.update`.
pub fn session(plan: &Plan, turns: TurnControl, left_out: LeftOut) -> Value {
    match plan.provider.dialect {
        Dialect::Ga => ga(plan, turns, left_out),
        Dialect::Beta => beta(plan, turns, left_out),
        Dialect::Xai => xai(plan, turns, left_out),
    }
}

/// The `session` of an update that changes only who takes turns.
pub(super) fn turns_alone(plan: &Plan, turns: TurnControl) -> Value {
    let detection = turn_detection(plan, turns);
    match plan.provider.dialect {
        Dialect::Ga => json!({"type": "realtime", "audio": {"input": {"turn_detection": detection}}}),
        Dialect::Beta | Dialect::Xai => json!({"turn_detection": detection}),
    }
}

/// A request for a response. With `said` it is to say something and calls no tool: the whole prompt, and the metadata
/// that states the purpose. The server echoes the metadata, so `event` is there, too.
pub(super) fn response_create(plan: &Plan, event: &str, said: Option<(String, Value)>) -> String {
    let modalities = match plan.provider.dialect {
        Dialect::Ga | Dialect::Xai => None,
        Dialect::Beta => Some(BETA_MODALITIES),
    };
    // xAI accepts no `tool_choice` for a single response and documents no metadata.
    let extras = plan.provider.dialect != Dialect::Xai;
    let without_tools = extras && said.is_some();
    let (instructions, metadata) = said.unzip();
    let mut metadata = metadata.unwrap_or_else(|| json!({}));
    metadata["request"] = json!(event);
    let metadata = extras.then_some(&metadata);
    realtime::response_create(event, instructions.as_deref(), modalities, without_tools, metadata)
}

/// A line that the assistant said.
pub(super) fn assistant_text(plan: &Plan, text: &str) -> String {
    match plan.provider.dialect {
        Dialect::Ga | Dialect::Xai => realtime::assistant_text(text),
        Dialect::Beta => realtime::assistant_text_beta(text),
    }
}

/// The beta offers no audio without text.
const BETA_MODALITIES: &[&str] = &["text", "audio"];

fn ga(plan: &Plan, turns: TurnControl, left_out: LeftOut) -> Value {
    let mut input = json!({
        "format": {"type": "audio/pcmu"},
        "turn_detection": turn_detection(plan, turns),
    });
    let mut output = json!({"format": {"type": "audio/pcmu"}, "voice": plan.voice});
    let mut session = json!({
        "type": "realtime",
        "instructions": plan.instructions,
        "output_modalities": ["audio"],
        "tools": tools(plan, left_out),
        "tool_choice": "auto",
    });
    set(&mut session, "temperature", temperature(plan));
    if !left_out.options {
        set(&mut input, "transcription", transcription(plan));
        set(&mut input, "noise_reduction", noise_reduction(plan));
        set(&mut output, "speed", plan.speed.map(Value::from));
        set(&mut session, "reasoning", reasoning(plan));
    }
    session["audio"] = json!({"input": input, "output": output});
    session
}

fn beta(plan: &Plan, turns: TurnControl, left_out: LeftOut) -> Value {
    let mut session = json!({
        "modalities": BETA_MODALITIES,
        "instructions": plan.instructions,
        "voice": plan.voice,
        "input_audio_format": "g711_ulaw",
        "output_audio_format": "g711_ulaw",
        "turn_detection": turn_detection(plan, turns),
        "tools": tools(plan, left_out),
        "tool_choice": "auto",
    });
    set(&mut session, "temperature", temperature(plan));
    if !left_out.options {
        set(&mut session, "input_audio_transcription", transcription(plan));
        set(&mut session, "input_audio_noise_reduction", noise_reduction(plan));
        set(&mut session, "speed", plan.speed.map(Value::from));
    }
    session
}

fn xai(plan: &Plan, turns: TurnControl, left_out: LeftOut) -> Value {
    let mut output = json!({"format": {"type": "audio/pcmu"}});
    let mut session = json!({
        "instructions": plan.instructions,
        "voice": plan.voice,
        "turn_detection": turn_detection(plan, turns),
        "tools": tools(plan, left_out),
    });
    set(&mut session, "temperature", temperature(plan));
    if !left_out.options {
        set(&mut output, "speed", plan.speed.map(Value::from));
        set(&mut session, "reasoning", reasoning(plan));
    }
    session["audio"] = json!({"input": {"format": {"type": "audio/pcmu"}}, "output": output});
    session
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[key] = value;
    }
}

/// Other providers would reject the whole configuration.
fn temperature(plan: &Plan) -> Option<Value> {
    let taken = plan.provider.abilities.temperature.is_some();
    plan.temperature.filter(|_| taken).map(Value::from)
}

fn transcription(plan: &Plan) -> Option<Value> {
    let transcription = plan.transcription.as_ref()?;
    let mut value = json!({"model": transcription.model});
    set(&mut value, "language", transcription.language.clone().map(Value::from));
    let vocabulary = Some(&plan.vocabulary).filter(|words| !words.is_empty());
    match plan.provider.hints(&transcription.model) {
        Hints::Keywords => {
            let several = transcription.language.is_none() && !plan.languages.is_empty();
            let codes: Vec<&str> = plan.languages.iter().map(Language::code).collect();
            set(&mut value, "languages", several.then(|| codes.into()));
            set(&mut value, "keywords", vocabulary.map(|words| words.clone().into()));
        }
        Hints::Prompt => set(&mut value, "prompt", vocabulary.map(|words| words.join(", ").into())),
        Hints::None => {}
    }
    Some(value)
}

fn noise_reduction(plan: &Plan) -> Option<Value> {
    let kind = match plan.turn_taking.noise_reduction? {
        NoiseReduction::NearField => "near_field",
        NoiseReduction::FarField => "far_field",
    };
    Some(json!({"type": kind}))
}

fn reasoning(plan: &Plan) -> Option<Value> {
    Some(json!({"effort": plan.reasoning?.name()}))
}

/// Complete, because an update keeps the values that it leaves out.
fn turn_detection(plan: &Plan, turns: TurnControl) -> Value {
    let by_model = turns == TurnControl::Model;
    match plan.turn_taking.detection {
        Detection::Server { threshold, silence, prefix } => json!({
            "type": "server_vad",
            "threshold": threshold,
            "prefix_padding_ms": prefix.as_millis() as u64,
            "silence_duration_ms": silence.as_millis() as u64,
            "create_response": by_model,
            "interrupt_response": by_model,
        }),
        Detection::Semantic { eagerness } => json!({
            "type": "semantic_vad",
            "eagerness": match eagerness {
                Eagerness::Low => "low",
                Eagerness::Medium => "medium",
                Eagerness::High => "high",
                Eagerness::Auto => "auto",
            },
            "create_response": by_model,
            "interrupt_response": by_model,
        }),
    }
}

fn tools(plan: &Plan, left_out: LeftOut) -> Vec<Value> {
    let ours = plan.tools.iter().filter(|tool| !left_out.servers || server(tool).is_none());
    let functions = ours.map(|tool| {
        json!({
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        })
    });
    let takes_hosted = plan.provider.abilities.hosted_mcp && !left_out.servers;
    functions.chain(plan.hosted.iter().filter(|_| takes_hosted).map(hosted)).collect()
}

/// An MCP server whose client is the provider's host.
fn hosted(server: &Hosted) -> Value {
    let mut value = json!({
        "type": "mcp",
        "server_label": server.label,
        "server_url": server.url,
        "require_approval": approval(server),
    });
    let authorization = server.authorization.as_ref().map(|token| json!(token.expose()));
    set(&mut value, "authorization", authorization);
    if !server.headers.is_empty() {
        let headers = server.headers.iter().map(|(name, value)| (name.clone(), json!(value.expose())));
        value["headers"] = Value::Object(headers.collect());
    }
    set(&mut value, "allowed_tools", server.allowed.as_ref().map(|names| json!(names)));
    value
}

/// Which tools need our approval. The call approves the others by itself if the host asks.
fn approval(server: &Hosted) -> Value {
    match &server.ask_first {
        AskFirst::Never => json!("never"),
        AskFirst::Always => json!("always"),
        AskFirst::Of(names) => {
            let mut value = json!({"always": {"tool_names": names}});
            let others = server.allowed.iter().flatten().filter(|name| !names.contains(name));
            let others: Vec<&String> = others.collect();
            if !others.is_empty() {
                value["never"] = json!({"tool_names": others});
            }
            value
        }
    }
}
