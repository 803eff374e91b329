//! The dialects of the API: client events of the beta and of xAI are converted into the GA shape that the session uses,
//! and GA events into theirs.
//!
//! Each dialect refuses the fields of the others. Voices and transcription models may have any name, because compatible
//! servers have their own.

use serde_json::{Map, Value, json};

use super::fields::{max_output_tokens, metadata, turn_detection};
use super::options::Dialect;
use super::refusal::Refusal;
use super::rule::{Rule, check_keys};
use super::tools::{tool_choice, tools};

const BETA_FORMATS: &[&str] = &["pcm16", "g711_ulaw", "g711_alaw"];

const BETA_SESSION: &[(&str, Rule)] = &[
    ("model", Rule::Text),
    ("modalities", Rule::By(modalities)),
    ("instructions", Rule::Text),
    ("voice", Rule::Text),
    ("input_audio_format", Rule::OneOf(BETA_FORMATS)),
    ("output_audio_format", Rule::OneOf(BETA_FORMATS)),
    (
        "input_audio_transcription",
        Rule::OrNull(&Rule::Keys(&[
            ("!model", Rule::Text),
            ("language", Rule::OrNull(&Rule::Text)),
            ("prompt", Rule::OrNull(&Rule::Text)),
        ])),
    ),
    (
        "input_audio_noise_reduction",
        Rule::OrNull(&Rule::Keys(&[("!type", Rule::OneOf(&["near_field", "far_field"]))])),
    ),
    ("turn_detection", Rule::OrNull(&Rule::By(turn_detection))),
    ("tools", Rule::By(tools)),
    ("tool_choice", Rule::By(tool_choice)),
    ("speed", Rule::Decimal(0.25, 1.5)),
    ("max_response_output_tokens", Rule::By(max_output_tokens)),
];

const BETA_RESPONSE: &[(&str, Rule)] = &[
    ("modalities", Rule::By(modalities)),
    ("instructions", Rule::Text),
    ("tools", Rule::By(tools)),
    ("tool_choice", Rule::By(tool_choice)),
    ("max_response_output_tokens", Rule::By(max_output_tokens)),
    ("conversation", Rule::OneOf(&["auto", "none"])),
    ("input", Rule::List(&Rule::Open)),
    ("metadata", Rule::OrNull(&Rule::By(metadata))),
];

const XAI_SESSION: &[(&str, Rule)] = &[
    ("instructions", Rule::Text),
    ("voice", Rule::Text),
    (
        "turn_detection",
        Rule::OrNull(&Rule::Keys(&[
            ("!type", Rule::OneOf(&["server_vad"])),
            ("threshold", Rule::Decimal(0.1, 0.9)),
            ("prefix_padding_ms", Rule::Whole(0, 10_000)),
            ("silence_duration_ms", Rule::Whole(0, 10_000)),
            ("create_response", Rule::Flag),
            ("interrupt_response", Rule::Flag),
        ])),
    ),
    (
        "audio",
        Rule::Keys(&[
            ("input", Rule::Keys(&[("format", XAI_FORMAT)])),
            ("output", Rule::Keys(&[("format", XAI_FORMAT), ("speed", Rule::Decimal(0.7, 1.5))])),
        ]),
    ),
    ("tools", Rule::By(tools)),
    ("reasoning", Rule::Keys(&[("!effort", Rule::OneOf(&["high", "none"]))])),
];
const XAI_FORMAT: Rule = Rule::Keys(&[
    ("!type", Rule::OneOf(&["audio/pcm", "audio/pcmu", "audio/pcma"])),
    ("rate", Rule::Whole(8_000, 48_000)),
]);

/// xAI has no `tool_choice` here.
const XAI_RESPONSE: &[(&str, Rule)] = &[
    ("instructions", Rule::Text),
    ("conversation", Rule::OneOf(&["auto", "none"])),
    ("input", Rule::List(&Rule::Open)),
    ("metadata", Rule::OrNull(&Rule::By(metadata))),
];

/// Checks the `session` of an update by the dialect's rules and converts it into the GA shape.
pub(super) fn session(dialect: Dialect, given: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut ga = Map::new();
    let mut audio = json!({"input": {}, "output": {}});
    match dialect {
        Dialect::Ga => return Ok(given.clone()),
        Dialect::Beta => check_keys(BETA_SESSION, given, "session")?,
        Dialect::Xai => check_keys(XAI_SESSION, given, "session")?,
    }
    for (key, value) in given {
        let value = value.clone();
        match key.as_str() {
            "modalities" => drop(ga.insert("output_modalities".to_owned(), spoken(&value))),
            "max_response_output_tokens" => drop(ga.insert("max_output_tokens".to_owned(), value)),
            "voice" => audio["output"]["voice"] = value,
            "speed" => audio["output"]["speed"] = value,
            "turn_detection" => audio["input"]["turn_detection"] = value,
            "input_audio_format" => audio["input"]["format"] = format(&value),
            "output_audio_format" => audio["output"]["format"] = format(&value),
            "input_audio_transcription" => audio["input"]["transcription"] = value,
            "input_audio_noise_reduction" => audio["input"]["noise_reduction"] = value,
            "audio" => {
                for side in ["input", "output"] {
                    for (key, value) in value[side].as_object().into_iter().flatten() {
                        audio[side][key] = value.clone();
                    }
                }
            }
            _ => drop(ga.insert(key.clone(), value)),
        }
    }
    ga.insert("audio".to_owned(), audio);
    Ok(ga)
}

/// Checks the `response` of a request by the dialect's rules and converts it into the GA shape.
pub(super) fn response(dialect: Dialect, given: &Value) -> Result<Value, Refusal> {
    let rules = match dialect {
        Dialect::Ga => return Ok(given.clone()),
        Dialect::Beta => BETA_RESPONSE,
        Dialect::Xai => XAI_RESPONSE,
    };
    let object = given.as_object().ok_or_else(|| Refusal::wrong_type("response", "an object", given))?;
    check_keys(rules, object, "response")?;
    let mut ga = object.clone();
    if let Some(asked) = ga.remove("modalities") {
        ga.insert("output_modalities".to_owned(), spoken(&asked));
    }
    if let Some(most) = ga.remove("max_response_output_tokens") {
        ga.insert("max_output_tokens".to_owned(), most);
    }
    Ok(Value::Object(ga))
}

/// Converts a client's item into the GA shape. In the beta, an assistant's content part is a `text`.
pub(super) fn item(dialect: Dialect, given: &Value) -> Result<Value, Refusal> {
    let mut item = given.clone();
    if dialect != Dialect::Beta || item["role"] != "assistant" {
        return Ok(item);
    }
    let content = item.get_mut("content").and_then(Value::as_array_mut);
    for (i, part) in content.into_iter().flatten().enumerate() {
        match part["type"].as_str() {
            Some("text") => part["type"] = json!("output_text"),
            other => {
                let path = format!("item.content[{i}].type");
                return Err(Refusal::not_one_of(&path, other.unwrap_or_default(), &["text"]));
            }
        }
    }
    Ok(item)
}

/// The type of the event that carries assistant audio.
pub(super) fn audio_delta(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Ga | Dialect::Xai => "response.output_audio.delta",
        Dialect::Beta => "response.audio.delta",
    }
}

/// Converts a GA event into the dialect's; `None` if the dialect has no such event.
pub(super) fn outward(dialect: Dialect, mut event: Value) -> Option<Value> {
    let kind = event["type"].as_str().unwrap_or_default().to_owned();
    match dialect {
        Dialect::Ga => {}
        Dialect::Beta => {
            if kind == "conversation.item.done" {
                return None;
            }
            let kind = match kind.as_str() {
                "conversation.item.added" => "conversation.item.created".to_owned(),
                kind => kind
                    .replace("response.output_audio", "response.audio")
                    .replace("response.output_text", "response.text"),
            };
            event["type"] = json!(kind);
            if let Some(session) = event.get_mut("session") {
                *session = beta_session(session);
            }
            event.get_mut("item").into_iter().for_each(old_parts);
            if let Some(response) = event.get_mut("response").and_then(Value::as_object_mut) {
                let output = response.get_mut("output").and_then(Value::as_array_mut);
                output.into_iter().flatten().for_each(old_parts);
                response.remove("output_modalities");
                response.remove("audio");
                response.insert("modalities".to_owned(), json!(["text", "audio"]));
                response.insert("output_audio_format".to_owned(), json!("g711_ulaw"));
            }
        }
        Dialect::Xai => match kind.as_str() {
            "conversation.item.done" | "rate_limits.updated" => return None,
            "session.created" => {
                let id = event["session"]["id"].as_str().unwrap_or_default().replace("sess_", "conv_");
                return Some(json!({"type": "conversation.created",
                    "conversation": {"id": id, "object": "realtime.conversation"}}));
            }
            "session.updated" => event["session"] = xai_session(&event["session"]),
            _ => {}
        },
    }
    Some(event)
}

fn old_parts(item: &mut Value) {
    let content = item.get_mut("content").and_then(Value::as_array_mut);
    for part in content.into_iter().flatten() {
        match part["type"].as_str() {
            Some("output_text") => part["type"] = json!("text"),
            Some("output_audio") => part["type"] = json!("audio"),
            _ => {}
        }
    }
}

fn beta_session(ga: &Value) -> Value {
    let format = |format: &Value| match format["type"].as_str() {
        Some("audio/pcmu") => "g711_ulaw",
        Some("audio/pcma") => "g711_alaw",
        _ => "pcm16",
    };
    let (input, output) = (&ga["audio"]["input"], &ga["audio"]["output"]);
    let temperature = if ga["temperature"].is_null() { json!(0.8) } else { ga["temperature"].clone() };
    json!({
        "object": "realtime.session", "id": ga["id"], "model": ga["model"], "expires_at": ga["expires_at"],
        "modalities": ["text", "audio"], "instructions": ga["instructions"], "voice": output["voice"],
        "input_audio_format": format(&input["format"]), "output_audio_format": format(&output["format"]),
        "input_audio_transcription": input["transcription"], "turn_detection": input["turn_detection"],
        "input_audio_noise_reduction": input["noise_reduction"], "tools": ga["tools"],
        "tool_choice": ga["tool_choice"], "temperature": temperature,
        "max_response_output_tokens": ga["max_output_tokens"],
    })
}

fn xai_session(ga: &Value) -> Value {
    let (input, output) = (&ga["audio"]["input"], &ga["audio"]["output"]);
    json!({
        "id": ga["id"], "instructions": ga["instructions"], "voice": output["voice"],
        "turn_detection": input["turn_detection"], "tools": ga["tools"],
        "audio": {"input": {"format": input["format"]}, "output": {"format": output["format"]}},
    })
}

fn format(name: &Value) -> Value {
    match name.as_str() {
        Some("g711_ulaw") => json!({"type": "audio/pcmu"}),
        Some("g711_alaw") => json!({"type": "audio/pcma"}),
        _ => json!({"type": "audio/pcm", "rate": 24_000}),
    }
}

/// With audio, the transcript always comes too.
fn spoken(modalities: &Value) -> Value {
    let has_audio = modalities.as_array().is_some_and(|all| all.contains(&json!("audio")));
    if has_audio { json!(["audio"]) } else { json!(["text"]) }
}

/// The beta has no audio without text.
fn modalities(value: &Value, path: &str) -> Result<(), Refusal> {
    Rule::List(&Rule::OneOf(&["text", "audio"])).check(value, path)?;
    if value.as_array().is_some_and(|all| !all.contains(&json!("text"))) {
        let message =
            "Invalid modalities: ['audio']. Supported combinations are: ['text'] and ['audio', 'text'].";
        return Err(Refusal::invalid(path, message));
    }
    Ok(())
}
