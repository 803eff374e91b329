//! OpenAI's formats.

pub mod realtime;
