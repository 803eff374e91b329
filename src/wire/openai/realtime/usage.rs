//! What the provider charges for, by kind.
//!
//! The totals always come; some servers leave out the details. What they do not assign to audio or images counts as text,
//! and so does what is cached.

use serde_json::Value;

use crate::provider::usage::{Tokens, Transcribed};

/// Reads a `usage` by tokens.
pub fn tokens(usage: &Value) -> Tokens {
    let (taken, made) = (&usage["input_token_details"], &usage["output_token_details"]);
    let cached = &taken["cached_tokens_details"];
    let [audio_in, image_in, audio_out] =
        [&taken["audio_tokens"], &taken["image_tokens"], &made["audio_tokens"]].map(number);
    let text_in = rest(&taken["text_tokens"], &usage["input_tokens"], audio_in + image_in);
    let [audio_cached, image_cached] = [&cached["audio_tokens"], &cached["image_tokens"]].map(number);
    let text_cached = rest(&cached["text_tokens"], &taken["cached_tokens"], audio_cached + image_cached);
    Tokens {
        text_in,
        text_in_cached: text_cached.min(text_in),
        audio_in,
        audio_in_cached: audio_cached.min(audio_in),
        image_in,
        image_in_cached: image_cached.min(image_in),
        text_out: rest(&made["text_tokens"], &usage["output_tokens"], audio_out),
        audio_out,
    }
}

/// Reads the `usage` of a transcript: by tokens, or by the duration of the audio.
pub fn transcribed(usage: &Value) -> Option<Transcribed> {
    match usage["type"].as_str() {
        Some("duration") => {
            let seconds =
                usage["seconds"].as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
            Some(Transcribed::Seconds { seconds })
        }
        _ => Some(tokens(usage))
            .filter(|tokens| *tokens != Tokens::default())
            .map(|tokens| Transcribed::Tokens { tokens }),
    }
}

fn number(value: &Value) -> u64 {
    // Larger ones are nonsense, and must not overflow a sum.
    value.as_u64().filter(|number| *number <= u64::from(u32::MAX)).unwrap_or_default()
}

/// The tokens of one kind; what the others leave of the total, if they are not given.
fn rest(given: &Value, total: &Value, others: u64) -> u64 {
    if given.is_null() { number(total).saturating_sub(others) } else { number(given) }
}
