//! What the troubles of [`super::faults`] do to a session.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::faults::{Aim, Moment, Point, Trouble};
use super::parts::{Kind, Part, Response};
use super::refusal::Refusal;
use super::response::Next;
use super::script::Reply;
use super::state::{Due, Ending, Session};

/// A function's result takes longer than this in every test of a running tool.
const WITHIN_A_TOOL: Duration = Duration::from_millis(300);
/// The time between two deltas that bring nothing.
const EMPTY_DELTAS: Duration = Duration::from_millis(150);

/// What a response sends from now on, without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    Silent,
    Words,
    WhiteSpace,
}

impl Session {
    /// The troubles for which `reached` answers true, except the `spent`.
    fn struck(&self, spent: &[usize], reached: impl Fn(Moment) -> bool) -> Vec<(usize, Trouble)> {
        if !self.faulty {
            return Vec::new();
        }
        self.shared.troubles().strike(self.now, spent, reached)
    }

    /// The time since the session's creation is `delay`.
    pub fn trouble_after(&mut self, delay: Duration) {
        for (_, trouble) in self.struck(&[], |moment| moment == Moment::After(delay)) {
            self.strike(trouble);
        }
    }

    /// The caller has been speaking for this long.
    pub fn trouble_speech(&mut self, speaking: Duration) {
        let reached = |moment| matches!(moment, Moment::Speech(long) if long <= speaking);
        for (number, trouble) in self.struck(&self.spent_in_speech, reached) {
            self.spent_in_speech.push(number);
            self.strike(trouble);
        }
    }

    /// The client asks for its n-th response.
    pub fn trouble_request(&mut self, nth: usize, aim: Aim) -> Result<(), Refusal> {
        let reached = |moment| matches!(moment, Moment::Request(which) if which.means(nth, aim));
        for (_, trouble) in self.struck(&[], reached) {
            match trouble {
                Trouble::Refused("conversation_already_has_active_response") => {
                    let nobody = self.new_id("resp_");
                    return Err(conflict(&nobody));
                }
                Trouble::Conflict => {
                    let unknown = self.unknown_response.clone();
                    let unknown = unknown.unwrap_or_else(|| self.new_id("resp_"));
                    self.unknown_response = Some(unknown.clone());
                    return Err(conflict(&unknown));
                }
                Trouble::Refused(code) => return Err(self.error(code)),
                trouble => self.strike(trouble),
            }
        }
        Ok(())
    }

    /// The client cancels a response that does not run; whether it was the unknown one of [`Trouble::Conflict`].
    pub fn trouble_cancelled(&mut self, wanted: Option<&str>) -> bool {
        let Some(unknown) = self.unknown_response.take_if(|id| wanted.is_none_or(|wanted| wanted == id))
        else {
            return false;
        };
        self.shared.troubles().settle(Trouble::Conflict);
        let shown = json!({"object": "realtime.response", "id": unknown, "status": "cancelled",
            "status_details": {"type": "cancelled", "reason": "client_cancelled"}, "output": [], "usage": null});
        self.emit(json!({"type": "response.done", "response": shown}));
        true
    }

    /// All of the response has been sent.
    pub fn trouble_made(&mut self, nth: usize, aim: Aim, calls_a_tool: bool) {
        let made = |moment| matches!(moment, Moment::Response(which, Point::Made) if which.means(nth, aim));
        for (_, trouble) in self.struck(&[], made) {
            self.strike(trouble);
        }
        if calls_a_tool {
            for (_, trouble) in self.struck(&[], |moment| moment == Moment::Tool) {
                self.later(WITHIN_A_TOOL, Due::Strike(trouble));
            }
        }
    }

    /// Troubles at the point that the response has reached. `half`: of the current part.
    pub fn trouble_response(&mut self, response: &mut Response, half: bool) -> Option<Next> {
        let (nth, aim, sent_ms) = (response.nth, response.aim, u128::from(response.audio_ms));
        let reached = |moment| match moment {
            Moment::Response(which, point) if which.means(nth, aim) => match point {
                Point::Created => true,
                Point::Sound(long) => sent_ms >= long.as_millis().max(1),
                Point::Half => half,
                Point::Made => false,
            },
            _ => false,
        };
        for (number, trouble) in self.struck(&response.spent, reached) {
            response.spent.push(number);
            let next = self.bend(response, trouble);
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// Applies a trouble to a response; what comes next, if that is not the usual.
    fn bend(&mut self, response: &mut Response, trouble: Trouble) -> Option<Next> {
        match trouble {
            Trouble::Failed(code) => {
                let Refusal { kind, message, .. } = self.error(code);
                let error = json!({"type": kind, "code": code, "message": message});
                self.close_part(response, "incomplete");
                self.finish(response, "failed", json!({"type": "failed", "error": error}));
                self.take_back(response);
                return Some(Next::Ended);
            }
            Trouble::Cancelled => {
                self.close_part(response, "incomplete");
                let details = json!({"type": "cancelled", "reason": "turn_detected"});
                self.finish(response, "cancelled", details);
                self.take_back(response);
                return Some(Next::Ended);
            }
            Trouble::Incomplete(reason) => {
                self.close_part(response, "incomplete");
                self.finish(response, "incomplete", json!({"type": "incomplete", "reason": reason}));
                self.take_back(response);
                return Some(Next::Ended);
            }
            Trouble::Late(long) => return Some(Next::In(long)),
            Trouble::Mute => return Some(Next::Waits),
            Trouble::Empty => {
                self.drop_rest(response);
                self.take_back(response);
            }
            Trouble::TextOnly => {
                let mut rest = self.drop_rest(response);
                for part in &mut rest {
                    if let Kind::Speech(utterance) = &part.kind {
                        part.kind = Kind::Text(utterance.line.clone());
                    }
                }
                response.parts.extend(rest.into_iter().filter(|part| matches!(part.kind, Kind::Text(_))));
                self.take_back(response);
            }
            Trouble::Silent => {
                response.twist = Some(Twist::Silent);
                // What it calls is part of what it did not say.
                while response.parts.len() > response.current + 1
                    && !matches!(response.parts.last(), Some(Part { kind: Kind::Speech(_), .. }))
                {
                    response.parts.pop();
                }
                self.take_back(response);
            }
            Trouble::WordsOnly => {
                response.twist = Some(Twist::Words);
                self.take_back(response);
            }
            Trouble::EndlessArguments => {
                response.twist = Some(Twist::WhiteSpace);
                let tools =
                    response.options.get("tools").unwrap_or(&self.config.session()["tools"]).as_array();
                let first = tools.and_then(|tools| tools.iter().find(|tool| tool["type"] == "function"));
                let name = first.and_then(|tool| tool["name"].as_str()).unwrap_or("end_call").to_owned();
                let kind = Kind::Call { name, arguments: String::new(), call_id: self.new_id("call_") };
                self.drop_rest(response);
                response.parts.push(Part { item: self.new_id("item_"), opened: false, kind });
                self.take_back(response);
            }
            // It cancels this response, too.
            Trouble::EndlessSpeech(_) => self.later(Duration::ZERO, Due::Strike(trouble)),
            trouble => {
                self.strike(trouble);
                // Nothing may follow what ends the connection.
                return (self.ending.is_some() || self.stalled).then_some(Next::Waits);
            }
        }
        None
    }

    /// Ends the part that is being sent; returns the parts that were to come.
    fn drop_rest(&mut self, response: &mut Response) -> Vec<Part> {
        if response.parts.get(response.current).is_some_and(|part| part.opened) {
            self.close_part(response, "incomplete");
            response.current += 1;
        }
        response.parts.split_off(response.current)
    }

    /// The response answers nothing: what it was to answer waits for the next one.
    pub fn take_back(&mut self, response: &mut Response) {
        response.answers_turn = false;
        if let Some((results, reply)) = response.answers.take() {
            self.results = results;
            self.follow_ups.put_first(Reply { if_result_has: None, ..reply });
        }
    }

    /// The next delta of a response that says nothing more.
    pub fn twist(&mut self, response: &mut Response, twist: Twist) -> Next {
        let (index, id) = (response.current, &response.id);
        let part = &response.parts[index];
        let (kind, delta) = match twist {
            Twist::Words => ("response.output_audio_transcript.delta", " and so on,"),
            Twist::WhiteSpace | Twist::Silent => ("response.function_call_arguments.delta", "\n        "),
        };
        let mut event = json!({"type": kind, "response_id": id, "item_id": part.item, "output_index": index,
            "delta": delta, "obfuscation": ""});
        match &part.kind {
            Kind::Call { call_id, .. } => event["call_id"] = json!(call_id),
            _ => event["content_index"] = json!(0),
        }
        self.emit(event);
        response.text_chars += delta.len();
        if self.exceeds(response, 0) { self.run_out(response) } else { Next::In(EMPTY_DELTAS) }
    }

    /// Applies a trouble of the session.
    pub fn strike(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Close(code, reason) => self.ending = Some(Ending::Close(code, reason.to_owned())),
            Trouble::Drop => self.ending = Some(Ending::Drop),
            Trouble::Reset => self.ending = Some(Ending::Reset),
            Trouble::HalfOpen => self.ending = Some(Ending::HalfOpen),
            Trouble::Stalled => self.stalled = true,
            Trouble::Fatal(code) => self.end_with(code),
            Trouble::Error(code) => {
                let refusal = Refusal { echoes_event_id: false, ..self.error(code) };
                self.refuse(&refusal, None);
            }
            Trouble::Garbage => {
                self.outbox.push_back(Message::Text("{\"type\":\"response.output_audio.del".into()));
                self.outbox.push_back(Message::Text("{\"kind\":3}".into()));
                self.outbox.push_back(Message::Text("[]".into()));
                self.outbox.push_back(Message::Binary(Bytes::from_static(&[0, 159, 146, 150])));
            }
            Trouble::Huge(bytes) => {
                let filler = "x".repeat(bytes);
                let text = format!(r#"{{"type":"huge","filler":"{filler}"}}"#);
                self.outbox.push_back(Message::Text(text.into()));
            }
            Trouble::Deaf => self.deaf = true,
            Trouble::EndlessSpeech(until) => self.endless_speech(until),
            Trouble::Refused(_) | Trouble::Conflict => {}
            // These need a response.
            Trouble::Failed(_)
            | Trouble::Cancelled
            | Trouble::Incomplete(_)
            | Trouble::Late(_)
            | Trouble::Mute
            | Trouble::Empty
            | Trouble::TextOnly
            | Trouble::Silent
            | Trouble::WordsOnly
            | Trouble::EndlessArguments => {}
        }
    }

    /// The session has reached its maximum age.
    pub fn expire(&mut self) {
        self.end_with("session_expired");
    }

    fn end_with(&mut self, code: &str) {
        let refusal = Refusal { echoes_event_id: false, ..self.error(code) };
        self.refuse(&refusal, None);
        self.ending = Some(match code {
            "session_expired" => Ending::Close(1001, refusal.message),
            "invalid_api_key" => Ending::Close(3000, refusal.close_reason()),
            _ => Ending::Close(4000, refusal.close_reason()),
        });
    }

    /// An error with this code, in the service's words.
    fn error(&self, code: &str) -> Refusal {
        let limits = self.options().rate_limits;
        let (kind, message) = match code {
            "rate_limit_exceeded" => ("tokens", {
                let (limit, wait) = (limits.limit, limits.wait);
                let used = limit - limit / 40;
                let wait = match wait.as_millis() {
                    ms @ 0..1_000 => format!("{ms}ms"),
                    _ => format!("{}s", wait.as_secs_f64()),
                };
                format!(
                    "Rate limit reached for gpt-realtime in organization org-example on tokens per min (TPM): \
                     Limit {limit}, Used {used}, Requested {}. Please try again in {wait}. Visit \
                     https://platform.openai.com/account/rate-limits to learn more.",
                    limit / 20
                )
            }),
            "session_expired" => {
                ("invalid_request_error", "Your session hit the maximum duration of 60 minutes.".to_owned())
            }
            "server_error" | "internal_error" => (
                "server_error",
                "The server had an error while processing your request. Sorry about that!".to_owned(),
            ),
            "insufficient_quota" | "billing_hard_limit_reached" => (
                "insufficient_quota",
                "You exceeded your current quota, please check your plan and billing details.".to_owned(),
            ),
            "invalid_api_key" => ("invalid_request_error", "Incorrect API key provided: sk-****.".to_owned()),
            "tide_unfavourable" => ("weather_error", "The sea is rough today.".to_owned()),
            _ => ("invalid_request_error", "The simulated model is set to refuse this.".to_owned()),
        };
        Refusal { kind, ..Refusal::new(code, message, None) }
    }
}

/// The refusal of a second response.
pub(super) fn conflict(active: &str) -> Refusal {
    let message = format!(
        "Conversation already has an active response in progress: {active}. \
         Wait until the response is finished before creating a new one."
    );
    Refusal::new("conversation_already_has_active_response", message, None)
}
