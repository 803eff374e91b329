//! The body of an `error` event.

use serde_json::{Value, json};

/// Why the server refuses an event, in the API's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub kind: &'static str,
    pub code: Option<String>,
    pub message: String,
    pub param: Option<String>,
    /// Some errors leave `error.event_id` null although the client sent one.
    pub echoes_event_id: bool,
}

impl Refusal {
    pub fn new(code: &str, message: impl Into<String>, param: impl Into<Option<String>>) -> Self {
        Self {
            kind: "invalid_request_error",
            code: Some(code.to_owned()),
            message: message.into(),
            param: param.into(),
            echoes_event_id: true,
        }
    }

    /// An `item_*` error, which has neither `param` nor `event_id`.
    pub fn item(code: &str, message: String) -> Self {
        Self { echoes_event_id: false, ..Self::new(code, message, None) }
    }

    pub fn unknown_key(path: &str) -> Self {
        Self::new("unknown_parameter", format!("Unknown parameter: '{path}'."), path.to_owned())
    }

    pub fn missing(path: &str) -> Self {
        Self::new(
            "missing_required_parameter",
            format!("Missing required parameter: '{path}'."),
            path.to_owned(),
        )
    }

    pub fn wrong_type(path: &str, expected: &str, got: &Value) -> Self {
        let got = match got {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        let message = format!("Invalid type for '{path}': expected {expected}, but got {got} instead.");
        Self::new("invalid_type", message, path.to_owned())
    }

    pub fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self::new("invalid_value", message, path.to_owned())
    }

    pub fn not_one_of(path: &str, got: &str, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|one| format!("'{one}'")).collect();
        Self::invalid(path, format!("Invalid value: '{got}'. Supported values are: {}.", allowed.join(", ")))
    }

    /// The close reason: the type, and the code if there is one.
    pub fn close_reason(&self) -> String {
        match &self.code {
            Some(code) => format!("{}.{code}", self.kind),
            None => self.kind.to_owned(),
        }
    }

    /// The `error` event without its own `event_id`.
    pub fn event(&self, client_event_id: Option<&str>) -> Value {
        let event_id = client_event_id.filter(|_| self.echoes_event_id);
        json!({"type": "error", "error": {
            "type": self.kind, "code": self.code, "message": self.message,
            "param": self.param, "event_id": event_id,
        }})
    }
}
