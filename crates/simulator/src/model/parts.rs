//! Responses as data: their parts, how far they have come, and how events show them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::config::Config;
use super::faults::Aim;
use super::format::{self, Format};
use super::hosting::{self, Stage};
use super::script::{HostedCall, Reply};
use super::trouble::Twist;

/// A response in progress.
pub(super) struct Response {
    pub id: String,
    /// Outside the conversation: it may run in parallel with others and is never interrupted.
    pub out_of_band: bool,
    /// Its number in the session, from 1.
    pub nth: usize,
    pub aim: Aim,
    /// The caller's last turn is answered when it completes.
    pub answers_turn: bool,
    /// The numbers of the troubles that have struck it.
    pub spent: Vec<usize>,
    pub twist: Option<Twist>,
    pub options: Value,
    pub format: Format,
    pub format_shown: Value,
    pub parts: Vec<Part>,
    pub current: usize,
    /// The results that it answers and the reply chosen for them, to be restored if it fails.
    pub answers: Option<(Vec<String>, Reply)>,
    pub output: Vec<Value>,
    pub audio_ms: u64,
    pub text_chars: usize,
}

/// Why a response is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Asked,
    Turn,
    Idle,
}

impl Response {
    /// Sets the audio of `line`.
    pub fn supply(&mut self, line: &str, audio: &Bytes) {
        for part in &mut self.parts {
            if let Kind::Speech(utterance) = &mut part.kind
                && utterance.audio.is_none()
                && utterance.line == line
            {
                utterance.audio = Some(format::convert(audio.clone(), self.format));
            }
        }
    }

    /// The response as events show it.
    pub fn shown(
        &self,
        config: &Config,
        conversation_id: &str,
        status: &str,
        details: &Value,
        usage: &Value,
    ) -> Value {
        let pick = |key: &str| self.options.get(key).unwrap_or(&config.session()[key]).clone();
        let voice = match &self.options["audio"]["output"]["voice"] {
            Value::Null => config.voice(),
            voice => voice,
        };
        let conversation = (!self.out_of_band).then_some(conversation_id);
        json!({
            "object": "realtime.response", "id": self.id, "status": status, "status_details": details,
            "output": self.output, "conversation_id": conversation, "output_modalities": pick("output_modalities"),
            "max_output_tokens": pick("max_output_tokens"),
            "audio": {"output": {"format": self.format_shown, "voice": voice}},
            "usage": usage, "metadata": self.options["metadata"],
        })
    }
}

/// One output item.
pub(super) struct Part {
    pub item: String,
    pub opened: bool,
    pub kind: Kind,
}

pub(super) enum Kind {
    Speech(Utterance),
    Text(String),
    Call {
        name: String,
        arguments: String,
        call_id: String,
    },
    /// A hosted tool runs; `approval` is the id of the request that was approved.
    Hosted {
        call: HostedCall,
        approval: Option<String>,
    },
    /// A hosted tool waits for approval.
    Request {
        call: HostedCall,
    },
}

pub(super) struct Utterance {
    pub line: String,
    pub number: u16,
    /// `None` while it is being synthesised.
    pub audio: Option<Bytes>,
    pub phase: Option<&'static str>,
    /// Bytes of the audio and of the line that have been sent.
    pub sent: usize,
    pub said: usize,
}

impl Part {
    /// The item when it is opened, and its content part if it has one.
    pub fn opening(&self) -> (Value, Option<Value>) {
        let id = &self.item;
        match &self.kind {
            Kind::Speech(utterance) => {
                let mut item = assistant_message(id, "in_progress", json!([]));
                if let Some(phase) = utterance.phase {
                    item["phase"] = json!(phase);
                }
                (item, Some(json!({"type": "audio", "transcript": ""})))
            }
            Kind::Text(_) => {
                (assistant_message(id, "in_progress", json!([])), Some(json!({"type": "text", "text": ""})))
            }
            Kind::Call { name, call_id, .. } => (call_item(id, "in_progress", name, "", call_id), None),
            Kind::Hosted { call, approval } => {
                (hosting::call_item(id, call, approval.as_deref(), Stage::Requested), None)
            }
            Kind::Request { call } => (hosting::request_item(id, call), None),
        }
    }
}

pub(super) fn assistant_message(id: &str, status: &str, content: Value) -> Value {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

pub(super) fn call_item(id: &str, status: &str, name: &str, arguments: &str, call_id: &str) -> Value {
    json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name,
        "arguments": arguments})
}
