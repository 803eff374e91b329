//! Bytes to messages and back. What the vendors' formats are is known here and nowhere above.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod openai;
mod text;
pub mod ticket;
pub mod twilio;

pub use text::{Text, chunk_of};
