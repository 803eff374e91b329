//! What a request comes to: an answer, or an error in Twilio's form.

use serde_json::Value;

/// A status and a body, or an error.
pub(super) type Outcome = Result<(u16, Value), Refusal>;

/// An error in Twilio's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: u32,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub fn not_found(path: &str) -> Self {
        Self::new(404, 20404, format!("The requested resource {path} was not found"))
    }
}
