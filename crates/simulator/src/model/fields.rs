//! The values of single fields that the GA API and its dialects share.

use serde_json::Value;

use super::refusal::Refusal;
use super::rule::Rule;

const VOICES: &[&str] =
    &["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];
pub(super) const EFFORTS: &[&str] = &["minimal", "low", "medium", "high", "xhigh"];
const TRANSCRIBERS: &[&str] = &[
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-realtime-whisper",
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
];

pub(super) fn format(value: &Value, path: &str) -> Result<(), Refusal> {
    const KINDS: Rule = Rule::OneOf(&["audio/pcm", "audio/pcmu", "audio/pcma"]);
    match value["type"].as_str() {
        Some("audio/pcm") => {
            Rule::Keys(&[("!type", KINDS), ("rate", Rule::Whole(24_000, 24_000))]).check(value, path)
        }
        _ => Rule::Keys(&[("!type", KINDS)]).check(value, path),
    }
}

pub(super) fn turn_detection(value: &Value, path: &str) -> Result<(), Refusal> {
    const KINDS: Rule = Rule::OneOf(&["server_vad", "semantic_vad"]);
    match value["type"].as_str() {
        Some("semantic_vad") => Rule::Keys(&[
            ("!type", KINDS),
            ("eagerness", Rule::OneOf(&["low", "medium", "high", "auto"])),
            ("create_response", Rule::Flag),
            ("interrupt_response", Rule::Flag),
        ])
        .check(value, path),
        _ => Rule::Keys(&[
            ("!type", KINDS),
            ("threshold", Rule::Decimal(0.0, 1.0)),
            ("prefix_padding_ms", Rule::Whole(0, 60_000)),
            ("silence_duration_ms", Rule::Whole(0, 60_000)),
            ("idle_timeout_ms", Rule::OrNull(&Rule::Whole(5_000, 30_000))),
            ("create_response", Rule::Flag),
            ("interrupt_response", Rule::Flag),
        ])
        .check(value, path),
    }
}

pub(super) fn transcription(value: &Value, path: &str) -> Result<(), Refusal> {
    Rule::Keys(&[
        ("!model", Rule::OneOf(TRANSCRIBERS)),
        ("language", Rule::OrNull(&Rule::Text)),
        ("languages", Rule::OrNull(&Rule::List(&Rule::Text))),
        ("keywords", Rule::OrNull(&Rule::List(&Rule::Text))),
        ("prompt", Rule::OrNull(&Rule::Text)),
        ("delay", Rule::OrNull(&Rule::OneOf(EFFORTS))),
    ])
    .check(value, path)?;
    let model = value["model"].as_str().unwrap_or_default();
    let given = |key: &str| !value[key].is_null();
    let foreign = match model {
        "gpt-transcribe" | "gpt-live-transcribe" => given("delay").then_some("delay"),
        "gpt-realtime-whisper" => ["languages", "keywords", "prompt"].into_iter().find(|key| given(key)),
        "gpt-4o-transcribe-diarize" => {
            ["languages", "keywords", "delay", "prompt"].into_iter().find(|key| given(key))
        }
        _ => ["languages", "keywords", "delay"].into_iter().find(|key| given(key)),
    };
    match foreign {
        Some(key) => Err(Refusal::invalid(
            &format!("{path}.{key}"),
            format!("'{key}' is not supported by model '{model}'."),
        )),
        None => Ok(()),
    }
}

pub(super) fn voice(value: &Value, path: &str) -> Result<(), Refusal> {
    match value {
        Value::Object(_) => Rule::Keys(&[("!id", Rule::Text)]).check(value, path),
        _ => Rule::OneOf(VOICES).check(value, path),
    }
}

pub(super) fn modalities(value: &Value, path: &str) -> Result<(), Refusal> {
    Rule::List(&Rule::OneOf(&["audio", "text"])).check(value, path)?;
    if value.as_array().is_some_and(|list| list.len() == 1) {
        return Ok(());
    }
    let message = format!("Invalid modalities: {value}. Supported combinations are: ['text'] and ['audio'].");
    Err(Refusal::invalid(path, message))
}

pub(super) fn max_output_tokens(value: &Value, path: &str) -> Result<(), Refusal> {
    if value == "inf" { Ok(()) } else { Rule::Whole(1, 4_096).check(value, path) }
}

pub(super) fn tracing(value: &Value, path: &str) -> Result<(), Refusal> {
    match value {
        Value::String(_) => Rule::OneOf(&["auto"]).check(value, path),
        _ => Rule::Keys(&[("workflow_name", Rule::Text), ("group_id", Rule::Text), ("metadata", Rule::Open)])
            .check(value, path),
    }
}

pub(super) fn truncation(value: &Value, path: &str) -> Result<(), Refusal> {
    match value {
        Value::String(_) => Rule::OneOf(&["auto", "disabled"]).check(value, path),
        _ => Rule::Keys(&[
            ("!type", Rule::OneOf(&["retention_ratio"])),
            ("!retention_ratio", Rule::Decimal(0.0, 1.0)),
            ("token_limits", Rule::OrNull(&Rule::Keys(&[("post_instructions", Rule::Whole(0, i64::MAX))]))),
        ])
        .check(value, path),
    }
}

pub(super) fn metadata(value: &Value, path: &str) -> Result<(), Refusal> {
    let pairs = value.as_object().ok_or_else(|| Refusal::wrong_type(path, "an object", value))?;
    if pairs.len() > 16 {
        return Err(Refusal::invalid(path, "Too many metadata pairs: at most 16 are allowed."));
    }
    for (key, value) in pairs {
        let text =
            value.as_str().ok_or_else(|| Refusal::wrong_type(&format!("{path}.{key}"), "a string", value))?;
        if key.chars().count() > 64 || text.chars().count() > 512 {
            return Err(Refusal::invalid(&format!("{path}.{key}"), "Metadata key or value too long."));
        }
    }
    Ok(())
}
