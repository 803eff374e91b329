//! What a response will hold: its items, chosen from the script before the first of them is sent.

use bytes::Bytes;
use serde_json::{Value, json};

use super::config::Format;
use super::hosted::{self, Shown};
use super::options::Fault;
use super::response::Cause;
use super::script::{self, FollowUps, HostedCall, Reply};
use super::session::Session;
use super::speech;

/// The items of a response to be.
pub(super) struct Planned {
    pub parts: Vec<Part>,
    /// The results that it answers, and the reply that was taken for them.
    pub answers: Option<(Vec<String>, Reply)>,
}

/// One output item to be.
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
    /// A hosted tool is run; `approval` is the request that was approved before.
    Hosted {
        call: HostedCall,
        approval: Option<String>,
    },
    /// A hosted tool waits for an approval.
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
    /// Bytes of audio and of the line that are out.
    pub sent: usize,
    pub said: usize,
}

impl Part {
    /// The item when it is opened, and its content part where it has one.
    pub fn shown_first(&self) -> (Value, Option<Value>) {
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
                (hosted::call_item(id, call, approval.as_deref(), Shown::Asked), None)
            }
            Kind::Request { call } => (hosted::request_item(id, call), None),
        }
    }
}

impl Session {
    pub fn plan_parts(&mut self, options: &Value, cause: Cause, format: Format) -> Planned {
        let requested = script::requested_line(&options["metadata"]);
        let out_of_band = options["conversation"] == "none";
        let session = self.config.session();
        let pick = |key: &str| options.get(key).unwrap_or(&session[key]).clone();
        let (tools, may_call) = (pick("tools"), pick("tool_choice") != "none");
        let in_parallel = pick("parallel_tool_calls") != false;
        let text_only = pick("output_modalities").as_array().is_some_and(|all| all.contains(&json!("text")));

        let mut answers = None;
        let mut approved = Vec::new();
        let mut reply = match requested {
            Some(line) => Reply::say(line),
            None if out_of_band => Reply::say(speech::DONE),
            None if cause == Cause::Idle => Reply::say(speech::STILL_THERE),
            None if may_call && !self.hosting.approved.is_empty() => {
                approved = std::mem::take(&mut self.hosting.approved);
                Reply::default()
            }
            None if !self.results.is_empty() => {
                let results = std::mem::take(&mut self.results);
                let reply = self.follow_ups.next(&results, may_call);
                answers = Some((results, reply.clone()));
                reply
            }
            // Without the result there is nothing to say yet.
            None if cause == Cause::Asked && !self.hosting.running.is_empty() => Reply::say(speech::MOMENT),
            None if self.turns == 0 => Reply::say(speech::HELLO),
            // Something is to be said, and no metadata names the purpose.
            None if cause == Cause::Asked && options["instructions"].is_string() => Reply::say(speech::DONE),
            None => {
                let reply = self.options().script.reply(self.turns).clone();
                if reply.calls_something() {
                    self.follow_ups = FollowUps::of(&reply);
                }
                reply
            }
        };
        let wished = reply.calls_something();
        if self.faults.contains(&Fault::WritesCalls) {
            let written = reply.calls.drain(..).map(|(name, arguments)| format!("{name}({arguments})"));
            reply.items.extend(written);
        }
        let has_function = |name: &str| {
            let named = |tool: &Value| tool["type"] == "function" && tool["name"] == name;
            may_call && tools.as_array().is_some_and(|tools| tools.iter().any(named))
        };
        reply.calls.retain(|(name, _)| has_function(name));
        reply.hosted.retain(|call| may_call && self.has_hosted(&tools, call));
        if !in_parallel && reply.calls.len() > 1 {
            let calls = reply.calls.split_off(1);
            self.follow_ups.put_first(Reply { calls, ..Reply::default() });
        }
        let mut lines = reply.items;
        if wished && lines.is_empty() && reply.calls.is_empty() && reply.hosted.is_empty() {
            lines.push(speech::REST.to_owned());
        }
        if self.faults.contains(&Fault::TwoItems) && lines.len() == 1 && !text_only {
            lines.insert(0, speech::MOMENT.to_owned());
        }

        let count = lines.len();
        let mut kinds = Vec::new();
        for (i, line) in lines.into_iter().enumerate() {
            let phase = (count > 1).then_some(if i + 1 < count { "commentary" } else { "final_answer" });
            kinds.push(if text_only {
                Kind::Text(line)
            } else {
                Kind::Speech(self.utterance(line, phase, format))
            });
        }
        for (name, arguments) in reply.calls {
            kinds.push(Kind::Call { name, arguments, call_id: self.new_id("call_") });
        }
        for call in reply.hosted {
            kinds.push(if self.needs_approval(&tools, &call) {
                Kind::Request { call }
            } else {
                Kind::Hosted { call, approval: None }
            });
        }
        let approved = approved.into_iter().map(|(id, call)| Kind::Hosted { call, approval: Some(id) });
        kinds.extend(approved);
        let mut parts = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let prefix = match kind {
                Kind::Hosted { .. } => "mcp_",
                Kind::Request { .. } => "mcpr_",
                Kind::Speech(_) | Kind::Text(_) | Kind::Call { .. } => "item_",
            };
            parts.push(Part { item: self.new_id(prefix), opened: false, kind });
        }
        Planned { parts, answers }
    }

    fn utterance(&mut self, line: String, phase: Option<&'static str>, format: Format) -> Utterance {
        self.spoken_items = self.spoken_items.wrapping_add(1);
        let number = self.spoken_items;
        let audio =
            speech::ready(self.options().speech, &line, number).map(|audio| speech::convert(audio, format));
        if audio.is_none() {
            self.wanted_lines.push(line.clone());
        }
        Utterance { line, number, audio, phase, sent: 0, said: 0 }
    }
}

pub(super) fn assistant_message(id: &str, status: &str, content: Value) -> Value {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

pub(super) fn call_item(id: &str, status: &str, name: &str, arguments: &str, call_id: &str) -> Value {
    json!({"id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name,
        "arguments": arguments})
}
