//! Bytes to messages and back. Only this module knows the vendors' formats.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod openai;
mod text;
pub mod ticket;
pub mod twilio;

pub use text::{Text, chunk_of};
