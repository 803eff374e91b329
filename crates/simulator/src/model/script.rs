//! What the simulated model says, turn by turn.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

/// The model's replies to the caller's turns.
#[derive(Debug, Clone)]
pub struct Script {
    /// The n-th reply answers the caller's n-th turn.
    pub replies: Vec<Reply>,
    /// The reply to every later turn.
    pub rest: Reply,
}

/// One reply: the transcript of the caller's turn, what is spoken, what is called.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The transcript reported for the caller's turn.
    pub caller_says: Option<String>,
    /// Spoken message items of one response, in order; several carry phases, as 2.x models do.
    pub items: Vec<String>,
    /// Functions called after the speech, if the session has them: name and arguments, as the model writes them. If the
    /// session forbids parallel calls, one response holds only the first.
    pub calls: Vec<(String, String)>,
    /// Hosted tools called after that, if they are listed.
    pub hosted: Vec<HostedCall>,
    /// The replies to the results, one response each, in order. They may call again.
    pub then: Vec<Reply>,
    /// As one of `then`: it is skipped until a result contains this text.
    pub if_result_has: Option<String>,
    /// The reply to results when `then` is used up.
    pub after_call: Option<String>,
}

/// A call of a hosted tool, and how it will end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedCall {
    /// The server's label.
    pub server: String,
    pub tool: String,
    /// In JSON.
    pub arguments: String,
    /// The tool's output, or what went wrong.
    pub result: Result<String, HostedError>,
    /// How long the call takes.
    pub takes: Duration,
}

/// See reference §6.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostedError {
    /// The server answered with a JSON-RPC error.
    Protocol { code: i64, message: String },
    /// The server answered with this HTTP status.
    Http { code: u16, message: String },
    /// The tool reported an error.
    Tool(String),
}

impl HostedCall {
    /// A call that succeeds with `output` after 50 ms.
    pub fn new(
        server: impl Into<String>,
        tool: impl Into<String>,
        arguments: impl Into<String>,
        output: impl Into<String>,
    ) -> Self {
        Self {
            server: server.into(),
            tool: tool.into(),
            arguments: arguments.into(),
            result: Ok(output.into()),
            takes: Duration::from_millis(50),
        }
    }

    /// Makes the call fail.
    pub fn failing(self, error: HostedError) -> Self {
        Self { result: Err(error), ..self }
    }

    /// Sets how long the call takes.
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }
}

impl HostedError {
    /// The `error` of the `mcp_call` item.
    pub(super) fn shown(&self) -> Value {
        match self {
            Self::Protocol { code, message } => {
                json!({"type": "protocol_error", "code": code, "message": message})
            }
            Self::Http { code, message } => json!({"type": "http_error", "code": code, "message": message}),
            Self::Tool(message) => json!({"type": "tool_execution_error", "message": message}),
        }
    }
}

impl Reply {
    /// A reply with one spoken item.
    pub fn say(line: impl Into<String>) -> Self {
        Self { items: vec![line.into()], ..Self::default() }
    }

    /// A reply that only calls a function.
    pub fn call(name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self::default().and_call(name, arguments)
    }

    /// Sets the transcript of the caller's turn.
    pub fn to(mut self, caller: impl Into<String>) -> Self {
        self.caller_says = Some(caller.into());
        self
    }

    pub fn and_call(mut self, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.calls.push((name.into(), arguments.into()));
        self
    }

    pub fn and_hosted(mut self, call: HostedCall) -> Self {
        self.hosted.push(call);
        self
    }

    /// Adds the reply to the results, after those that were added before.
    pub fn then(mut self, reply: Reply) -> Self {
        self.then.push(reply);
        self
    }

    /// Like [`Self::then`], but only if a result contains `text`.
    pub fn then_if(self, text: impl Into<String>, reply: Reply) -> Self {
        self.then(Reply { if_result_has: Some(text.into()), ..reply })
    }

    pub(super) fn calls_something(&self) -> bool {
        !self.calls.is_empty() || !self.hosted.is_empty()
    }
}

/// The remaining replies to results of the last reply that called something.
#[derive(Debug, Clone, Default)]
pub(super) struct FollowUps {
    then: VecDeque<Reply>,
    rest: Option<String>,
}

impl FollowUps {
    /// The follow-ups of a reply to the caller.
    pub fn new(reply: &Reply) -> Self {
        Self { then: reply.then.iter().cloned().collect(), rest: reply.after_call.clone() }
    }

    /// The reply to these results. A reply that calls something is skipped while calls are not allowed.
    pub fn next(&mut self, results: &[String], may_call: bool) -> Reply {
        let fits = |reply: &Reply| {
            (may_call || !reply.calls_something())
                && reply
                    .if_result_has
                    .as_ref()
                    .is_none_or(|text| results.iter().any(|result| result.contains(text.as_str())))
        };
        let found = self.then.iter().position(fits).and_then(|at| self.then.remove(at));
        let Some(reply) = found else {
            return Reply::say(self.rest.clone().unwrap_or_else(|| super::speech::DONE.to_owned()));
        };
        for later in reply.then.iter().rev() {
            self.then.push_front(later.clone());
        }
        if reply.after_call.is_some() {
            self.rest.clone_from(&reply.after_call);
        }
        reply
    }

    /// Makes `reply` the next one.
    pub fn put_first(&mut self, reply: Reply) {
        self.then.push_front(reply);
    }
}

impl Default for Script {
    fn default() -> Self {
        Self { replies: Vec::new(), rest: Reply::say(super::speech::REST) }
    }
}

impl Script {
    /// A long answer to interrupt, a short answer, and a goodbye that ends the call if the assistant may. They fit any
    /// assistant: they state nothing that its file could contradict. `caller` holds what the caller
    /// says in those three turns. Before the last, the caller may leave a `message`: what they say, and the function with the
    /// arguments that it becomes.
    pub fn rehearsal(caller: [&str; 3], message: Option<(&str, &str, String)>) -> Self {
        let [first, second, last] = caller;
        let mut replies =
            vec![Reply::say(super::speech::LONG).to(first), Reply::say(super::speech::SHORT).to(second)];
        replies
            .extend(message.map(|(words, function, arguments)| Reply::call(function, arguments).to(words)));
        replies.push(Reply::say(super::speech::THANKS).and_call("end_call", r#"{"reason":"done"}"#).to(last));
        Self { replies, ..Self::default() }
    }

    /// Replies to a recording whose words are unknown. `caller` is the transcript.
    pub fn for_recording(caller: &str) -> Self {
        let rest = Reply::say(super::speech::HEARD).to(caller);
        Self { replies: Vec::new(), rest }
    }

    /// The reply to the caller's n-th turn, counted from 1.
    pub(super) fn reply(&self, turn: usize) -> &Reply {
        turn.checked_sub(1).and_then(|i| self.replies.get(i)).unwrap_or(&self.rest)
    }
}

/// The line for the `purpose` that the metadata of a response states. `None`: the script decides.
pub(super) fn requested_line(metadata: &Value) -> Option<&str> {
    match metadata["purpose"].as_str()? {
        "greeting" => Some(metadata["line"].as_str().unwrap_or(super::speech::HELLO)),
        "check_caller" => Some(super::speech::STILL_THERE),
        "filler" | "out_of_band" => Some(metadata["line"].as_str().unwrap_or(super::speech::MOMENT)),
        "goodbye" => Some(super::speech::GOODBYE),
        // Whatever it is for, the client says what is to be said.
        _ => metadata["line"].as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::speech::{HELLO, MOMENT, STILL_THERE};
    use super::*;

    #[test]
    fn the_metadata_of_a_response_selects_its_line() {
        for (metadata, line) in [
            (json!({"purpose": "greeting", "line": "Example Dental."}), Some("Example Dental.")),
            (json!({"purpose": "greeting"}), Some(HELLO)),
            (json!({"purpose": "check_caller"}), Some(STILL_THERE)),
            (json!({"purpose": "out_of_band"}), Some(MOMENT)),
            (json!({"purpose": "out_of_band", "line": "One moment."}), Some("One moment.")),
            (json!({"purpose": "status_update"}), None),
            (json!({"purpose": "sound", "line": "One moment, please."}), Some("One moment, please.")),
            (json!({"line": "Hello."}), None),
            (Value::Null, None),
        ] {
            assert_eq!(requested_line(&metadata), line, "{metadata}");
        }
    }

    #[test]
    fn results_are_answered_in_order_and_by_content() {
        let reply = Reply::call("f", "{}")
            .then_if("ask", Reply::say("May I?"))
            .then(Reply::call("f", "{}").then(Reply::say("Once more.")))
            .then(Reply::say("Good."));
        let mut follow = FollowUps::new(&Reply { after_call: Some("That is all.".into()), ..reply });
        let mut next = |result: &str, may_call| {
            let reply = follow.next(&[result.to_owned()], may_call);
            reply.items.first().cloned().unwrap_or_else(|| reply.calls[0].0.clone())
        };
        assert_eq!(next("{}", false), "Good.");
        assert_eq!(next("{}", true), "f");
        assert_eq!(next("{}", true), "Once more.");
        assert_eq!(next("please ask the caller", true), "May I?");
        assert_eq!(next("{}", true), "That is all.");
        assert_eq!(FollowUps::default().next(&[], true).items, [super::super::speech::DONE]);
    }
}
