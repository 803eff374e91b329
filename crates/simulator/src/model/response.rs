//! Runs a response step by step: the order of its events, its pace, how it ends.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rand::RngExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::conversation::{self, Spoken};
use super::faults::Fault;
use super::format::Format;
use super::hosting::{self, Place, Stage};
use super::log::{Happened, ResponseLog, SpokenItem};
use super::parts::{Cause, Kind, Part, Response, assistant_message};
use super::plan::Planned;
use super::speech::Speech;
use super::state::{Due, Session};
use super::trouble::{Twist, conflict};
use super::{dialect, refusal::Refusal};
use crate::tag;

pub(super) enum Next {
    In(Duration),
    /// Something else will wake it, or nothing will.
    Waits,
    Ended,
}

impl Session {
    /// Handles `response.create`.
    pub fn create_response(&mut self, options: Value) -> Result<(), Refusal> {
        self.config.check_response(&options, self.has_audio)?;
        self.check_choice(&options)?;
        self.request_count += 1;
        let nth = self.request_count;
        let in_conversation = options["conversation"] != "none";
        self.trouble_request(nth, self.aim_of(&options))?;
        for (i, item) in options["input"].as_array().into_iter().flatten().enumerate() {
            let path = format!("response.input[{i}]");
            match item["type"].as_str() {
                Some("item_reference") => {
                    let id = item["id"].as_str().ok_or_else(|| Refusal::missing(&format!("{path}.id")))?;
                    if self.conversation.find(id).is_none() {
                        return Err(Refusal::invalid(&path, format!("Item with id '{id}' not found.")));
                    }
                }
                _ => conversation::check_item(item, &path)?,
            }
        }
        if in_conversation && let Some(active) = self.active() {
            return Err(conflict(active));
        }
        self.start_response(options, Cause::Asked);
        Ok(())
    }

    /// Begins a response. The caller of this function has checked that it may.
    pub fn start_response(&mut self, options: Value, cause: Cause) {
        self.response_count += 1;
        self.idle_armed += 1;
        let (format, format_shown) = self.config.output_format(&options);
        let Planned { parts, answers, aim, answers_turn } = self.plan_parts(&options, cause, format);
        let response = Response {
            id: self.new_id("resp_"),
            out_of_band: options["conversation"] == "none",
            nth: self.response_count,
            aim,
            answers_turn,
            spent: Vec::new(),
            twist: None,
            options,
            format,
            format_shown,
            parts,
            current: 0,
            answers,
            output: Vec::new(),
            audio_ms: 0,
            text_chars: 0,
        };
        let shown =
            response.shown(&self.config, &self.conversation_id, "in_progress", &Value::Null, &Value::Null);
        self.emit(json!({"type": "response.created", "response": shown}));
        let is_call = |part: &Part| !matches!(part.kind, Kind::Speech(_) | Kind::Text(_));
        let entry = ResponseLog {
            id: response.id.clone(),
            aim,
            out_of_band: response.out_of_band,
            created: self.now,
            ended: None,
            calls: response.parts.iter().any(is_call),
            status: "in_progress".to_owned(),
            reason: None,
        };
        self.note(|log| log.responses.push(entry));
        let step = Due::Step(response.id.clone());
        self.responses.push(response);
        self.later(self.options().think, step);
    }

    /// Takes a response one step further.
    pub fn step_response(&mut self, id: &str) {
        let Some(at) = self.responses.iter().position(|response| response.id == id) else { return };
        let mut response = self.responses.remove(at);
        match self.step(&mut response) {
            Next::Ended => {}
            Next::Waits => self.responses.push(response),
            Next::In(delay) => {
                self.responses.push(response);
                self.later(delay, Due::Step(id.to_owned()));
            }
        }
    }

    /// Ends a running response; `reason` is `turn_detected` or `client_cancelled`.
    pub fn cancel_response(&mut self, id: &str, reason: &str) {
        let Some(at) = self.responses.iter().position(|response| response.id == id) else { return };
        let mut response = self.responses.remove(at);
        let late = self.late_deltas(&mut response);
        self.close_part(&mut response, "incomplete");
        self.finish(&response, "cancelled", json!({"type": "cancelled", "reason": reason}));
        for (i, delta) in late.into_iter().enumerate() {
            self.later(Duration::from_millis(15 * (i as u64 + 1)), Due::Send(delta));
        }
    }

    /// The audio of `line` is ready: responses that waited for it continue.
    pub fn supply(&mut self, line: &str, audio: &Bytes) {
        let mut waiting = Vec::new();
        for response in &mut self.responses {
            let current = response.parts.get(response.current);
            let waits = matches!(current, Some(Part { kind: Kind::Speech(u), .. }) if u.audio.is_none());
            response.supply(line, audio);
            let current = response.parts.get(response.current);
            let still = matches!(current, Some(Part { kind: Kind::Speech(u), .. }) if u.audio.is_none());
            if waits && !still {
                waiting.push(response.id.clone());
            }
        }
        for id in waiting {
            // The step of a response that is still thinking is already scheduled.
            if self.starved.remove(&id) {
                self.later(Duration::ZERO, Due::Step(id));
            }
        }
    }

    fn step(&mut self, response: &mut Response) -> Next {
        if let Some(next) = self.trouble_response(response, false) {
            return next;
        }
        let Some(part) = response.parts.get(response.current) else {
            self.finish(response, "completed", Value::Null);
            return Next::Ended;
        };
        match &part.kind {
            Kind::Speech(utterance) => {
                let Some(audio) = &utterance.audio else {
                    self.starved.insert(response.id.clone());
                    return Next::Waits;
                };
                let (sent, total) = (utterance.sent, audio.len());
                if let Some(next) = self.trouble_response(response, sent * 2 >= total) {
                    return next;
                }
                self.open_part(response);
                if response.twist == Some(Twist::Words) {
                    return self.twist(response, Twist::Words);
                }
                if sent < total {
                    let next = self.speak(response);
                    if self.exceeds(response, 0) {
                        return self.run_out(response);
                    }
                    return self.trouble_response(response, false).unwrap_or(next);
                }
            }
            Kind::Request { .. } => self.open_part(response),
            Kind::Text(text) => {
                let length = text.len();
                self.open_part(response);
                if self.exceeds(response, length) {
                    return self.run_out(response);
                }
            }
            Kind::Call { arguments, .. } => {
                let (is_open, takes, length) = (part.opened, self.options().call_takes, arguments.len());
                self.open_part(response);
                if response.twist == Some(Twist::WhiteSpace) {
                    return self.twist(response, Twist::WhiteSpace);
                }
                if !is_open && !takes.is_zero() {
                    return Next::In(takes);
                }
                if let Some(next) = self.trouble_response(response, true) {
                    return next;
                }
                if self.exceeds(response, length) {
                    return self.run_out(response);
                }
            }
            Kind::Hosted { .. } if part.opened => return Next::Waits,
            Kind::Hosted { call, .. } => {
                let takes = call.takes;
                self.open_part(response);
                self.begin_hosted(response);
                if self.options().hosting.within_response {
                    let item = response.parts[response.current].item.clone();
                    self.hosted_due(&item, takes);
                    return Next::Waits;
                }
            }
        }
        self.close_part(response, "completed");
        response.current += 1;
        Next::In(Duration::ZERO)
    }

    /// Starts the hosted call that is the current part.
    fn begin_hosted(&mut self, response: &mut Response) {
        let part = &response.parts[response.current];
        let Kind::Hosted { call, approval } = &part.kind else { return };
        response.text_chars += call.arguments.len();
        let place = Place { response: response.id.clone(), index: response.current };
        self.run_hosted(&part.item, call.clone(), approval.clone(), place, true);
    }

    /// Sends the next words and the next delta of audio.
    fn speak(&mut self, response: &mut Response) -> Next {
        let index = response.current;
        let part = &mut response.parts[index];
        let Kind::Speech(utterance) = &mut part.kind else { return Next::Waits };
        let total = utterance.audio.as_ref().map_or(1, Bytes::len).max(1);

        // The transcript runs ahead of the voice.
        let goal = utterance.line.len() * (utterance.sent + total / 5) / total;
        let words = next_words(&utterance.line, utterance.said, goal);
        utterance.said += words.len();
        if !words.is_empty() {
            let obfuscation = self.obfuscation();
            self.emit(json!({"type": "response.output_audio_transcript.delta", "response_id": response.id,
                "item_id": part.item, "output_index": index, "content_index": 0, "delta": words,
                "obfuscation": obfuscation}));
        }
        let is_silent = response.twist == Some(Twist::Silent);
        let (delta, bytes) = self.audio_delta(&response.id, index, part, response.format, is_silent);
        self.outbox.push_back(delta);
        let ms = bytes / response.format.bytes_per_ms();
        response.audio_ms += ms;
        self.has_audio = true;
        Next::In(Duration::from_secs_f64(ms as f64 / 1_000.0 / self.options().burst.max(0.1)))
    }

    /// The next delta of a part, which counts as sent, and its length in bytes.
    fn audio_delta(
        &mut self,
        response: &str,
        index: usize,
        part: &mut Part,
        format: Format,
        is_silent: bool,
    ) -> (Message, u64) {
        let Kind::Speech(utterance) = &mut part.kind else { return (Message::Text("{}".into()), 0) };
        let audio = utterance.audio.clone().unwrap_or_default();
        let ms = self.rng.random_range(100..400u64);
        // An odd length, so that no delta ends at a frame boundary; PCM keeps whole samples.
        let wish = match format {
            Format::Pcm => ms * 48,
            Format::Mulaw | Format::Alaw => ms * 8 + 1 + 2 * self.rng.random_range(0..4u64),
        };
        let end = audio.len().min(utterance.sent + wish as usize);
        let chunk = audio.slice(utterance.sent..end);
        let base64 = if is_silent {
            STANDARD.encode(vec![format.silence(); chunk.len()])
        } else if self.options().speech == Speech::Stamped && chunk.len() >= tag::STAMP_LEN {
            let mut stamped = chunk.to_vec();
            self.stamps = self.stamps.wrapping_add(1);
            stamped[..tag::STAMP_LEN].copy_from_slice(&tag::stamp(tag::nanos(), self.stamps));
            STANDARD.encode(stamped)
        } else {
            STANDARD.encode(&chunk)
        };
        let is_first = utterance.sent == 0;
        utterance.sent = end;
        let bytes = chunk.len() as u64;
        if let Some(spoken) = self.conversation.find_mut(&part.item).and_then(|item| item.spoken.as_mut()) {
            spoken.sent_bytes += bytes;
        }
        let now = self.now;
        let per_ms = format.bytes_per_ms();
        self.note(|log| {
            if let Some(item) = log.items.iter_mut().rev().find(|item| item.id == part.item) {
                item.sent_bytes += bytes;
                item.sent_ms = item.sent_bytes / per_ms;
                item.silent |= is_silent;
                if is_first {
                    item.first_delta = Some(now);
                }
            }
        });
        let (event, obfuscation, item) = (self.new_id("event_"), self.obfuscation(), &part.item);
        let kind = dialect::audio_delta(self.options().dialect);
        let text = format!(
            r#"{{"type":"{kind}","event_id":"{event}","response_id":"{response}","item_id":"{item}","output_index":{index},"content_index":0,"delta":"{base64}","obfuscation":"{obfuscation}"}}"#
        );
        (Message::Text(text.into()), bytes)
    }

    /// Up to two deltas to be sent after their response has ended.
    fn late_deltas(&mut self, response: &mut Response) -> Vec<Message> {
        let count = if self.options().late_deltas { self.rng.random_range(0..=2) } else { 0 };
        let (id, format, index) = (response.id.clone(), response.format, response.current);
        let Some(part) = response.parts.get_mut(index).filter(|part| part.opened) else { return Vec::new() };
        let mut late = Vec::new();
        for _ in 0..count {
            let Kind::Speech(utterance) = &part.kind else { break };
            if utterance.sent >= utterance.audio.as_ref().map_or(0, Bytes::len) {
                break;
            }
            let (delta, bytes) = self.audio_delta(&id, index, part, format, false);
            response.audio_ms += bytes / format.bytes_per_ms();
            late.push(delta);
        }
        late
    }

    fn open_part(&mut self, response: &mut Response) {
        let index = response.current;
        let part = &mut response.parts[index];
        if part.opened {
            return;
        }
        part.opened = true;
        let (item, part_shown) = part.opening();
        if let Kind::Speech(utterance) = &part.kind {
            let spoken = SpokenItem {
                id: part.item.clone(),
                number: utterance.number,
                response: response.id.clone(),
                line: utterance.line.clone(),
                silent: false,
                sent_bytes: 0,
                sent_ms: 0,
                first_delta: None,
            };
            self.publish(Happened::Speaking { item: part.item.clone(), line: utterance.line.clone() });
            self.note(|log| log.items.push(spoken));
        }
        let id = &response.id;
        self.emit(json!({"type": "response.output_item.added", "response_id": id, "output_index": index, "item": item}));
        if !response.out_of_band {
            let is_spoken = matches!(part.kind, Kind::Speech(_));
            let bytes_per_ms = response.format.bytes_per_ms();
            let spoken = is_spoken.then_some(Spoken { sent_bytes: 0, bytes_per_ms, cut_ms: None });
            let previous = self.conversation.push(item.clone(), spoken, 0);
            self.emit(json!({"type": "conversation.item.added", "previous_item_id": previous, "item": item}));
        }
        if let Some(shown) = part_shown {
            self.emit(json!({"type": "response.content_part.added", "response_id": id, "item_id": part.item,
                "output_index": index, "content_index": 0, "part": shown}));
        }
        if self.options().anomalies && self.rng.random_bool(0.5) {
            self.emit(json!({"type": "response.output_audio.prosody", "response_id": id, "calm": 0.7}));
        }
    }

    /// Ends the current part if it was opened; `status` is its item's.
    pub fn close_part(&mut self, response: &mut Response, status: &str) {
        let index = response.current;
        let Some(part) = response.parts.get(index).filter(|part| part.opened) else { return };
        let id = &response.id;
        let event = |kind: &str, key: &str, value: Value| {
            json!({"type": kind, "response_id": id, "item_id": part.item, "output_index": index,
                "content_index": 0, key: value})
        };
        let item = match &part.kind {
            Kind::Speech(utterance) => {
                let text =
                    if status == "completed" { &utterance.line } else { &utterance.line[..utterance.said] };
                if let Some(rest) = text.get(utterance.said..).filter(|rest| !rest.is_empty()) {
                    self.emit(event("response.output_audio_transcript.delta", "delta", json!(rest)));
                }
                let mut done = event("response.output_audio.done", "delta", Value::Null);
                done.as_object_mut().map(|done| done.remove("delta"));
                self.emit(done);
                self.emit(event("response.output_audio_transcript.done", "transcript", json!(text)));
                let shown = json!({"type": "audio", "transcript": text});
                self.emit(event("response.content_part.done", "part", shown));
                response.text_chars += text.len();
                let content = json!([{"type": "output_audio", "transcript": text}]);
                let mut item = assistant_message(&part.item, status, content);
                if let Some(phase) = utterance.phase {
                    item["phase"] = json!(phase);
                }
                item
            }
            Kind::Text(text) => {
                let mut delta = event("response.output_text.delta", "delta", json!(text));
                delta["obfuscation"] = json!(self.obfuscation());
                self.emit(delta);
                self.emit(event("response.output_text.done", "text", json!(text)));
                self.emit(event("response.content_part.done", "part", json!({"type": "text", "text": text})));
                response.text_chars += text.len();
                assistant_message(&part.item, status, json!([{"type": "output_text", "text": text}]))
            }
            Kind::Call { .. } => {
                let item = self.write_call(id, index, part, status);
                response.text_chars += item["arguments"].as_str().map_or(0, str::len);
                item
            }
            Kind::Hosted { call, approval } => {
                // It is running; its end reports the rest.
                let item = hosting::call_item(&part.item, call, approval.as_deref(), Stage::Running);
                response.output.push(item);
                return;
            }
            Kind::Request { call } => {
                let place = Place { response: id.clone(), index };
                self.request_approval(&part.item, call, place);
                hosting::request_item(&part.item, call)
            }
        };
        if !response.out_of_band {
            if let Some(stored) = self.conversation.find_mut(&part.item) {
                stored.value = item.clone();
                // An earlier truncation has already removed the words.
                if stored.spoken.is_some_and(|spoken| spoken.cut_ms.is_some()) {
                    stored.value["content"][0]["transcript"] = json!("");
                }
            }
            let previous = self.conversation.before(&part.item);
            self.emit(json!({"type": "conversation.item.done", "previous_item_id": previous, "item": item}));
        }
        self.emit(json!({"type": "response.output_item.done", "response_id": id, "output_index": index, "item": item}));
        response.output.push(item);
    }

    /// Sends `response.done` and schedules what follows it.
    pub fn finish(&mut self, response: &Response, status: &str, details: Value) {
        let usage = if status == "failed" { Value::Null } else { self.usage(response) };
        let now = self.now;
        let reason =
            details["reason"].as_str().or_else(|| details["error"]["code"].as_str()).map(str::to_owned);
        let shown = response.shown(&self.config, &self.conversation_id, status, &details, &usage);
        self.emit(json!({"type": "response.done", "response": shown}));
        self.note(|log| {
            if let Some(entry) = log.responses.iter_mut().find(|entry| entry.id == response.id) {
                entry.status = status.to_owned();
                entry.reason = reason;
                entry.ended = Some(now);
            }
        });
        if !self.faults.contains(&Fault::NoRateLimits) {
            self.later(Duration::from_millis(43), Due::RateLimits);
        }
        if !response.out_of_band {
            self.arm_idle(response.audio_ms);
        }
        self.let_hosted_end(&response.id);
        if status == "completed" && !response.out_of_band {
            self.unanswered &= !response.answers_turn;
            let is_tool = |item: &Value| item["type"] == "function_call" && item["name"] != "end_call";
            self.trouble_made(response.nth, response.aim, response.output.iter().any(is_tool));
        }
    }

    fn usage(&mut self, response: &Response) -> Value {
        let config = self.config.session();
        let prompt = config["instructions"].as_str().map_or(0, str::len) + config["tools"].to_string().len();
        let (mut text, mut audio) = self.conversation.tokens();
        let (out_text, out_audio) = (response.text_chars as u64 / 4, response.audio_ms / 50);
        // What this response added to the conversation is output, not input.
        if !response.out_of_band {
            text = text.saturating_sub(out_text);
            audio = audio.saturating_sub(out_audio);
        }
        text += prompt as u64 / 4;
        if response.output.is_empty() {
            return conversation::usage((0, 0), (0, 0), 0);
        }
        let known = std::mem::replace(&mut self.last_input, text + audio);
        conversation::usage((text, audio), (out_text, out_audio), known)
    }
}

/// The whole words of `line` from `said` to at least `goal`.
fn next_words(line: &str, said: usize, goal: usize) -> &str {
    if goal < said || said >= line.len() {
        return "";
    }
    let rest = &line[said..];
    let end = rest
        .char_indices()
        .skip(1)
        .find(|(at, c)| c.is_whitespace() && said + at >= goal)
        .map_or(rest.len(), |(at, _)| at);
    &rest[..end]
}
