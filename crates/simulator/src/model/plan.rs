//! Plans a response: chooses its parts from the script before the first one is sent.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::faults::{Aim, Fault};
use super::format::{self, Format};
use super::forms;
use super::parts::{Cause, Kind, Part, Utterance};
use super::script::{self, FollowUps, Reply};
use super::speech;
use super::state::Session;

/// The parts of a response.
pub(super) struct Planned {
    pub parts: Vec<Part>,
    /// The results that it answers and the reply chosen for them.
    pub answers: Option<(Vec<String>, Reply)>,
    pub aim: Aim,
    /// It answers the caller's last turn.
    pub answers_turn: bool,
}

impl Session {
    pub fn plan_parts(&mut self, options: &Value, cause: Cause, format: Format) -> Planned {
        let requested = script::requested_line(&options["metadata"]);
        let out_of_band = options["conversation"] == "none";
        let session = self.config.session();
        let pick = |key: &str| options.get(key).unwrap_or(&session[key]).clone();
        let (tools, may_call) = (pick("tools"), pick("tool_choice") != "none");
        let in_parallel = pick("parallel_tool_calls") != false;
        let has_text = pick("output_modalities").as_array().is_some_and(|all| all.contains(&json!("text")));
        let text_only = has_text || (!out_of_band && self.options().text_after_seed && self.seeded_words);
        let is_first = self.turns == 0 && self.shared.reply().is_none();

        let forced = forms::forced(&pick("tool_choice")).map(str::to_owned);
        let mut answers = None;
        let mut approved = Vec::new();
        let mut reply = match requested {
            _ if forced.is_some() => self.forced_reply(forced.as_deref().unwrap_or_default(), &tools),
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
            // The results are not there yet.
            None if cause == Cause::Asked && !self.hosting.running.is_empty() => Reply::say(speech::MOMENT),
            None if is_first => Reply::say(speech::HELLO),
            // The client wants something said, but no metadata states the purpose.
            None if cause == Cause::Asked && options["instructions"].is_string() && !self.unanswered => {
                Reply::say(speech::DONE)
            }
            None => {
                let reply = self.reply();
                if reply.calls_something() {
                    self.follow_ups = FollowUps::new(&reply);
                }
                reply
            }
        };
        let aim = match self.aim_of(options) {
            Aim::Answer if reply.calls.iter().any(|(name, _)| name == "end_call") => Aim::Goodbye,
            aim => aim,
        };
        let answers_turn = matches!(aim, Aim::Answer | Aim::Goodbye);
        let wished = reply.calls_something();
        if self.faults.contains(&Fault::WritesCalls) {
            let written = reply.calls.drain(..).map(|(name, arguments)| format!("{name}({arguments})"));
            reply.items.extend(written);
        }
        let has_function = |name: &str| {
            let named = |tool: &Value| tool["type"] == "function" && tool["name"] == name;
            may_call && tools.as_array().is_some_and(|tools| tools.iter().any(named))
        };
        // A model that does not behave calls whatever it likes.
        reply.calls.retain(|(name, _)| forced.is_some() || has_function(name));
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
        Planned { parts, answers, aim, answers_turn }
    }

    /// What a response is for, as far as its options say.
    pub fn aim_of(&self, options: &Value) -> Aim {
        match options["metadata"]["purpose"].as_str() {
            _ if options["conversation"] == "none" => match forms::forced(&options["tool_choice"]) {
                Some(_) => Aim::Form,
                None => Aim::Aside,
            },
            Some("greeting") => Aim::Greeting,
            Some("goodbye") => Aim::Goodbye,
            _ if script::requested_line(&options["metadata"]).is_some() => Aim::Aside,
            _ if self.turns == 0 && self.shared.reply().is_none() => Aim::Greeting,
            _ => Aim::Answer,
        }
    }

    /// The reply to the caller's last turn.
    pub fn reply(&self) -> Reply {
        self.shared.reply().unwrap_or_else(|| self.options().script.reply(self.turns).clone())
    }

    fn utterance(&mut self, line: String, phase: Option<&'static str>, format: Format) -> Utterance {
        let number = self.shared.spoken.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let audio =
            speech::ready(self.options().speech, &line, number).map(|audio| format::convert(audio, format));
        if audio.is_none() {
            self.wanted_lines.push(line.clone());
        }
        Utterance { line, number, audio, phase, sent: 0, said: 0 }
    }
}
