//! What a provider charges for, as it reports it.
//!
//! Source: `usage` of `response.done` and of `conversation.item.input_audio_transcription.completed` in the Realtime
//! API.

use serde::{Deserialize, Serialize};

/// The tokens of one response, by kind. What is cached is a part of the field before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    pub text_in: u64,
    pub text_in_cached: u64,
    pub audio_in: u64,
    pub audio_in_cached: u64,
    pub image_in: u64,
    pub image_in_cached: u64,
    pub text_out: u64,
    pub audio_out: u64,
}

impl Tokens {
    /// All tokens that the model read.
    pub fn taken(&self) -> u64 {
        self.text_in + self.audio_in + self.image_in
    }

    /// All tokens that the model made.
    pub fn made(&self) -> u64 {
        self.text_out + self.audio_out
    }
}

/// What the transcription of one turn used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Transcribed {
    /// Billed by the duration of the audio.
    Seconds { seconds: f64 },
    /// Billed by tokens.
    Tokens { tokens: Tokens },
}
