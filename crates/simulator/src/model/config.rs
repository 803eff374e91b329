//! The session's configuration: its defaults, what may be written into it, and how an update merges.
//!
//! An update is judged as a whole before any of it is applied.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::dialect;
use super::fields::{
    EFFORTS, format, max_output_tokens, metadata, modalities, tracing, transcription, truncation,
    turn_detection, voice,
};
use super::format::Format;
use super::options::Dialect;
use super::refusal::Refusal;
use super::rule::{Rule, check_keys};
use super::tools::{kept, tool_choice, tools};

const DEFAULT_INSTRUCTIONS: &str = "Your knowledge cutoff is 2023-10. You are a helpful, witty, and friendly AI. \
    Act like a human, but remember that you aren't a human and that you can't do human things in the real world.";

const SESSION: &[(&str, Rule)] = &[
    ("!type", Rule::OneOf(&["realtime"])),
    ("model", Rule::Text),
    ("instructions", Rule::Text),
    ("tools", Rule::By(tools)),
    ("tool_choice", Rule::By(tool_choice)),
    ("max_output_tokens", Rule::By(max_output_tokens)),
    ("output_modalities", Rule::By(modalities)),
    ("audio", Rule::Keys(&[("input", INPUT), ("output", OUTPUT)])),
    ("tracing", Rule::OrNull(&Rule::By(tracing))),
    ("include", Rule::OrNull(&Rule::List(&Rule::OneOf(&["item.input_audio_transcription.logprobs"])))),
    ("prompt", Rule::OrNull(&PROMPT)),
    ("truncation", Rule::By(truncation)),
    ("reasoning", Rule::OrNull(&REASONING)),
    ("parallel_tool_calls", Rule::Flag),
];
const INPUT: Rule = Rule::Keys(&[
    ("format", Rule::By(format)),
    (
        "noise_reduction",
        Rule::OrNull(&Rule::Keys(&[
            ("!type", Rule::OneOf(&["near_field", "far_field"])),
            ("strength", Rule::Decimal(0.0, 1.0)),
        ])),
    ),
    ("transcription", Rule::OrNull(&Rule::By(transcription))),
    ("turn_detection", Rule::OrNull(&Rule::By(turn_detection))),
]);
const OUTPUT: Rule = Rule::Keys(&[
    ("format", Rule::By(format)),
    ("speed", Rule::Decimal(0.25, 1.5)),
    ("voice", Rule::By(voice)),
]);
const REASONING: Rule = Rule::Keys(&[("!effort", Rule::OneOf(EFFORTS))]);
const PROMPT: Rule = Rule::Keys(&[
    ("!id", Rule::Text),
    ("version", Rule::OrNull(&Rule::Text)),
    ("variables", Rule::OrNull(&Rule::Open)),
]);

/// The fields of `response` in `response.create`.
const RESPONSE: &[(&str, Rule)] = &[
    ("instructions", Rule::Text),
    ("output_modalities", Rule::By(modalities)),
    (
        "audio",
        Rule::Keys(&[("output", Rule::Keys(&[("format", Rule::By(format)), ("voice", Rule::By(voice))]))]),
    ),
    ("tools", Rule::By(tools)),
    ("tool_choice", Rule::By(tool_choice)),
    ("parallel_tool_calls", Rule::Flag),
    ("reasoning", Rule::OrNull(&REASONING)),
    ("max_output_tokens", Rule::By(max_output_tokens)),
    ("prompt", Rule::OrNull(&PROMPT)),
    ("conversation", Rule::OneOf(&["auto", "none"])),
    ("input", Rule::List(&Rule::Open)),
    ("metadata", Rule::OrNull(&Rule::By(metadata))),
];

/// How the server detects turns and what it does when one begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detection {
    /// The RMS, in 16-bit sample units, above which a window of 20 ms counts as speech.
    pub level: f64,
    pub prefix_ms: u64,
    pub silence_ms: u64,
    pub idle_ms: Option<u64>,
    pub creates: bool,
    pub interrupts: bool,
}

/// What the server's options and the state of the session allow.
pub(super) struct Limits {
    pub temperature: Option<RangeInclusive<f64>>,
    /// Models, voices and transcription models may have any name, and models may have any ability.
    pub own_names: bool,
    /// Formats are checked, but have no effect.
    pub pcm_only: bool,
    /// Assistant audio exists, so the voice is fixed.
    pub has_audio: bool,
    pub responding: bool,
}

/// The effective configuration of one session.
pub(super) struct Config {
    session: Value,
    dialect: Dialect,
}

impl Config {
    pub fn new(id: &str, model: &str, expires_at: u64, dialect: Dialect) -> Self {
        let mut session = json!({
            "type": "realtime", "object": "realtime.session", "id": id, "model": model,
            "output_modalities": ["audio"], "instructions": DEFAULT_INSTRUCTIONS,
            "tools": [], "tool_choice": "auto", "max_output_tokens": "inf", "tracing": null,
            "truncation": "auto", "prompt": null, "expires_at": expires_at, "include": null,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000}, "transcription": null, "noise_reduction": null,
                    "turn_detection": server_vad_defaults(),
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0},
            },
        });
        if model.starts_with("gpt-realtime-2") {
            session["reasoning"] = json!({"effort": "low"});
            session["parallel_tool_calls"] = json!(true);
        }
        Self { session, dialect }
    }

    /// Applies the `session` of a `session.update`, or none of it.
    pub fn update(&mut self, update: &Value, limits: &Limits) -> Result<(), Refusal> {
        let given = update.as_object().ok_or_else(|| Refusal::wrong_type("session", "an object", update))?;
        let mut given = given.clone();
        let temperature = limits.temperature.as_ref().and_then(|_| given.remove("temperature"));
        if let (Some(temperature), Some(range)) = (&temperature, &limits.temperature) {
            Rule::Decimal(*range.start(), *range.end()).check(temperature, "session.temperature")?;
        }
        if self.dialect == Dialect::Ga {
            let judged = if limits.own_names { with_known_names(&given) } else { given.clone() };
            check_keys(SESSION, &judged, "session")?;
            if !limits.own_names {
                self.check_model_abilities(&given, "session")?;
            }
        } else {
            given = dialect::session(self.dialect, &given)?;
        }
        if limits.pcm_only {
            for side in ["input", "output"] {
                let side = given.get_mut("audio").and_then(|audio| audio.get_mut(side)?.as_object_mut());
                side.map(|side| side.remove("format"));
            }
        }
        self.check_fixed(&Value::Object(given.clone()), limits)?;
        self.check_mcp(given.get("tools"))?;

        let Some(session) = self.session.as_object_mut() else { return Ok(()) };
        session.extend(temperature.map(|value| ("temperature".to_owned(), value)));
        for (key, value) in given {
            match key.as_str() {
                "audio" => merge_audio(&mut session["audio"], &value),
                "tools" => {
                    let tools = kept(value, &session["tools"]);
                    session.insert(key, tools);
                }
                _ => drop(session.insert(key, value)),
            }
        }
        Ok(())
    }

    /// Checks the `response` of a `response.create`.
    pub fn check_response(&self, response: &Value, has_audio: bool) -> Result<(), Refusal> {
        let given =
            response.as_object().ok_or_else(|| Refusal::wrong_type("response", "an object", response))?;
        check_keys(RESPONSE, given, "response")?;
        if self.dialect == Dialect::Ga {
            self.check_model_abilities(given, "response")?;
        }
        let voice = &response["audio"]["output"]["voice"];
        if has_audio && !voice.is_null() && voice != self.voice() {
            return Err(voice_is_fixed());
        }
        Ok(())
    }

    pub fn session(&self) -> &Value {
        &self.session
    }

    pub fn input_format(&self) -> Format {
        Format::from_value(&self.session["audio"]["input"]["format"])
    }

    /// The audio format of a response: its own, or else the session's.
    pub fn output_format(&self, response: &Value) -> (Format, Value) {
        let wish = &response["audio"]["output"]["format"];
        let format = if wish.is_null() { &self.session["audio"]["output"]["format"] } else { wish };
        (Format::from_value(format), format.clone())
    }

    pub fn voice(&self) -> &Value {
        &self.session["audio"]["output"]["voice"]
    }

    /// The transcription model, if callers are transcribed.
    pub fn transcriber(&self) -> Option<&str> {
        self.session["audio"]["input"]["transcription"]["model"].as_str()
    }

    /// `None`: the client commits the turns.
    pub fn detection(&self) -> Option<Detection> {
        let detection = &self.session["audio"]["input"]["turn_detection"];
        let kind = detection["type"].as_str()?;
        let flag = |name: &str| detection[name].as_bool().unwrap_or(true);
        let semantic = kind == "semantic_vad";
        // The real service judges the meaning of the words; this one waits for a pause of a matching length.
        let pause = match detection["eagerness"].as_str() {
            Some("low") => 1_500,
            Some("high") => 400,
            _ => 800,
        };
        Some(Detection {
            level: level(detection["threshold"].as_f64().unwrap_or(0.5)),
            prefix_ms: detection["prefix_padding_ms"].as_u64().unwrap_or(300),
            silence_ms: if semantic {
                pause
            } else {
                detection["silence_duration_ms"].as_u64().unwrap_or(200)
            },
            idle_ms: detection["idle_timeout_ms"].as_u64(),
            creates: flag("create_response"),
            interrupts: flag("interrupt_response"),
        })
    }

    fn check_model_abilities(&self, given: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
        let model = self.session["model"].as_str().unwrap_or_default();
        if model.starts_with("gpt-realtime-2") {
            return Ok(());
        }
        if given.get("reasoning").is_some_and(|value| !value.is_null()) {
            // The service sends neither `param` nor `event_id`.
            let message =
                format!("Unsupported option for this model: reasoning is not supported by '{model}'.");
            return Err(Refusal { echoes_event_id: false, ..Refusal::new("invalid_value", message, None) });
        }
        if given.contains_key("parallel_tool_calls") {
            return Err(Refusal::unknown_key(&format!("{path}.parallel_tool_calls")));
        }
        Ok(())
    }

    /// Rejects changes of what is fixed in this session.
    fn check_fixed(&self, update: &Value, limits: &Limits) -> Result<(), Refusal> {
        let output = &update["audio"]["output"];
        if limits.has_audio && !output["voice"].is_null() && output["voice"] != *self.voice() {
            return Err(voice_is_fixed());
        }
        let speed = &self.session["audio"]["output"]["speed"];
        if limits.responding && !output["speed"].is_null() && output["speed"].as_f64() != speed.as_f64() {
            let message = "Cannot update speed while a response is in progress.";
            return Err(Refusal::invalid("session.audio.output.speed", message));
        }
        if let Some(tracing) = update.get("tracing")
            && !self.session["tracing"].is_null()
            && *tracing != self.session["tracing"]
        {
            return Err(Refusal::invalid("session.tracing", "Tracing cannot be modified once enabled."));
        }
        if let Some(model) = update.get("model")
            && *model != self.session["model"]
        {
            return Err(Refusal::invalid("session.model", "The model of a session cannot be changed."));
        }
        Ok(())
    }

    /// A hosted server has exactly one address. Later updates may refer to it by its label.
    fn check_mcp(&self, tools: Option<&Value>) -> Result<(), Refusal> {
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let known = list(self.session.get("tools"));
        for (i, tool) in list(tools).iter().enumerate().filter(|(_, tool)| tool["type"] == "mcp") {
            let ways = ["server_url", "connector_id", "tunnel_id"]
                .iter()
                .filter(|key| !tool[**key].is_null())
                .count();
            let repeated =
                known.iter().any(|old| old["type"] == "mcp" && old["server_label"] == tool["server_label"]);
            if ways > 1 || (ways == 0 && !repeated) {
                let message = "Exactly one of 'server_url', 'connector_id' or 'tunnel_id' must be given.";
                return Err(Refusal::invalid(&format!("session.tools[{i}]"), message));
            }
        }
        Ok(())
    }
}

/// The same update with unknown names replaced by OpenAI's.
fn with_known_names(given: &Map<String, Value>) -> Map<String, Value> {
    let mut given = given.clone();
    let names = [("/output/voice", "alloy"), ("/input/transcription/model", "whisper-1")];
    for (at, known) in names {
        let name = given.get_mut("audio").and_then(|audio| audio.pointer_mut(at));
        if let Some(name) = name.filter(|name| name.is_string()) {
            *name = json!(known);
        }
    }
    given
}

/// 0.5 is -40 dBFS: telephone speech is about 15 dB louder, line noise quieter.
fn level(threshold: f64) -> f64 {
    32_768.0 * 10f64.powf((-60.0 + 40.0 * threshold) / 20.0)
}

fn voice_is_fixed() -> Refusal {
    Refusal::new(
        "cannot_update_voice",
        "Cannot update a conversation's voice if assistant audio is present.",
        "session.audio.output.voice".to_owned(),
    )
}

fn server_vad_defaults() -> Value {
    json!({"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200,
        "idle_timeout_ms": null, "create_response": true, "interrupt_response": true})
}

fn merge_audio(current: &mut Value, update: &Value) {
    for side in ["input", "output"] {
        for (key, value) in update[side].as_object().into_iter().flatten() {
            let slot = &mut current[side][key.as_str()];
            let base = match key.as_str() {
                _ if value.is_null() => Value::Null,
                "turn_detection" if slot["type"] == value["type"] => slot.take(),
                "turn_detection" if value["type"] == "server_vad" => server_vad_defaults(),
                "turn_detection" => {
                    json!({"eagerness": "auto", "create_response": true, "interrupt_response": true})
                }
                "transcription" if !slot.is_null() => slot.take(),
                "transcription" => json!({"language": null, "prompt": null}),
                "noise_reduction" if !slot.is_null() => slot.take(),
                _ => Value::Null,
            };
            *slot = overlay(base, value);
            if let Some(transcription) = slot.as_object_mut() {
                transcription.remove("keywords"); // Accepted, but not echoed.
            }
        }
    }
}

fn overlay(base: Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            base.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::Object(base)
        }
        _ => over.clone(),
    }
}
