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

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, more: Self) {
        for (sum, more) in [
            (&mut self.text_in, more.text_in),
            (&mut self.text_in_cached, more.text_in_cached),
            (&mut self.audio_in, more.audio_in),
            (&mut self.audio_in_cached, more.audio_in_cached),
            (&mut self.image_in, more.image_in),
            (&mut self.image_in_cached, more.image_in_cached),
            (&mut self.text_out, more.text_out),
            (&mut self.audio_out, more.audio_out),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Tokens {
    /// All tokens that the model read.
    pub fn taken(&self) -> u64 {
        self.text_in.saturating_add(self.audio_in).saturating_add(self.image_in)
    }

    /// All tokens that the model made.
    pub fn made(&self) -> u64 {
        self.text_out.saturating_add(self.audio_out)
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
