//! What the simulated model says, turn by turn, and how it understands an instruction to say a line.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

/// What the model answers to the caller's turns, in order.
#[derive(Debug, Clone)]
pub struct Script {
    /// The n-th turn of the caller gets the n-th reply.
    pub replies: Vec<Reply>,
    /// Every later turn.
    pub rest: Reply,
}

/// One answer: what the caller is reported to have said, what is spoken, what is called.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The transcript reported for the caller's turn.
    pub caller_says: Option<String>,
    /// Spoken message items of one response, in order; several carry phases, as 2.x models do.
    pub items: Vec<String>,
    /// Functions called after the speech, as far as the session has them: each its name and its arguments, as the
    /// model writes them. Where the session forbids parallel calls, one response holds only the first of them.
    pub calls: Vec<(String, String)>,
    /// Tools of hosted servers, called after that, as far as they are listed.
    pub hosted: Vec<HostedCall>,
    /// What is answered to the results, a response each, in order; these may call again.
    pub then: Vec<Reply>,
    /// As one of `then`, it is passed over until a result contains this text.
    pub if_result_has: Option<String>,
    /// Spoken to the results when nothing is left of `then`.
    pub after_call: Option<String>,
}

/// A call of a hosted server's tool, and how it will end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedCall {
    /// The server's label.
    pub server: String,
    pub tool: String,
    /// In JSON.
    pub arguments: String,
    /// The tool's output, or what went wrong.
    pub result: Result<String, HostedError>,
    /// How long the server is at work.
    pub takes: Duration,
}

/// How a hosted call fails (reference §6.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostedError {
    /// The server answered with a JSON-RPC error.
    Protocol { code: i64, message: String },
    /// The server answered with this HTTP status.
    Http { code: u16, message: String },
    /// The tool said that it failed.
    Tool(String),
}

impl HostedCall {
    /// A call that is answered with `output` after 50 ms.
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

    /// The same call, which fails.
    pub fn failing(self, error: HostedError) -> Self {
        Self { result: Err(error), ..self }
    }

    /// The same call, which takes so long.
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }
}

impl HostedError {
    /// As it stands in `mcp_call.error`.
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
    /// A reply of one spoken item.
    pub fn say(line: impl Into<String>) -> Self {
        Self { items: vec![line.into()], ..Self::default() }
    }

    /// A reply that only calls a function.
    pub fn call(name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self::default().and_call(name, arguments)
    }

    /// The same reply, with the transcript of what the caller said before it.
    pub fn to(mut self, caller: impl Into<String>) -> Self {
        self.caller_says = Some(caller.into());
        self
    }

    /// The same reply, followed by a function call.
    pub fn and_call(mut self, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.calls.push((name.into(), arguments.into()));
        self
    }

    /// The same reply, followed by a call of a hosted tool.
    pub fn and_hosted(mut self, call: HostedCall) -> Self {
        self.hosted.push(call);
        self
    }

    /// The same reply; its results are answered with `reply`, after those that were added before.
    pub fn then(mut self, reply: Reply) -> Self {
        self.then.push(reply);
        self
    }

    /// As [`Self::then`], but only for results of which one contains `text`.
    pub fn then_if(self, text: impl Into<String>, reply: Reply) -> Self {
        self.then(Reply { if_result_has: Some(text.into()), ..reply })
    }

    pub(super) fn calls_something(&self) -> bool {
        !self.calls.is_empty() || !self.hosted.is_empty()
    }
}

/// What is still to be answered to the results of the last reply that called something.
#[derive(Debug, Clone, Default)]
pub(super) struct FollowUps {
    then: VecDeque<Reply>,
    rest: Option<String>,
}

impl FollowUps {
    /// Those of a reply to the caller.
    pub fn of(reply: &Reply) -> Self {
        Self { then: reply.then.iter().cloned().collect(), rest: reply.after_call.clone() }
    }

    /// The answer to these results. One that calls something waits while nothing may be called.
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

    /// This is what is answered next.
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
    /// A question with a long answer to talk over, a short answer, and a goodbye that ends the call.
    /// `caller` holds what the caller says in those three turns.
    pub fn rehearsal(caller: [&str; 3]) -> Self {
        let [first, second, third] = caller;
        Self {
            replies: vec![
                Reply::say(super::speech::HOURS).to(first),
                Reply::say(super::speech::NOTED).to(second),
                Reply::say(super::speech::THANKS).and_call("end_call", r#"{"reason":"done"}"#).to(third),
            ],
            ..Self::default()
        }
    }

    /// What can be said to a recording that nobody understands. `caller` stands for its words.
    pub fn for_recording(caller: &str) -> Self {
        let rest = Reply::say(super::speech::HEARD).to(caller);
        Self { replies: Vec::new(), rest }
    }

    /// The reply to the caller's n-th turn, counted from 1.
    pub(super) fn reply(&self, turn: usize) -> &Reply {
        turn.checked_sub(1).and_then(|i| self.replies.get(i)).unwrap_or(&self.rest)
    }
}

/// The line that `instructions` ask for, if they ask for one.
///
/// The last line counts first: a prompt above it may well speak of goodbyes and quote other lines.
pub(super) fn requested_line(instructions: &str) -> Option<String> {
    let lines: Vec<&str> = instructions.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.last()?;
    if let Some(quoted) = quoted_after_exactly(last) {
        return Some(quoted);
    }
    if let [.., before, _] = lines[..]
        && before.to_ascii_lowercase().contains("exactly")
        && before.ends_with(':')
    {
        return Some(last.trim_matches(['"', '“', '”']).to_owned());
    }
    let lower = last.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("exactly")
        && let Some((_, line)) = last[last.len() - rest.len()..].split_once(':')
        && !line.trim().is_empty()
    {
        return Some(line.trim().to_owned());
    }
    if lower.contains("still there") {
        return Some(super::speech::STILL_THERE.to_owned());
    }
    if lower.contains("goodbye") || lower.contains("good-bye") {
        return Some(super::speech::GOODBYE.to_owned());
    }
    if lower.contains("takes a moment") {
        return Some(super::speech::MOMENT.to_owned());
    }
    quoted_after_exactly(instructions)
}

/// The text in the last pair of double quotes after the last `exactly`.
fn quoted_after_exactly(text: &str) -> Option<String> {
    // ASCII lowering keeps every byte where it is.
    let at = text.to_ascii_lowercase().rfind("exactly")?;
    let rest = &text[at..];
    let (close, mark) = rest.char_indices().rfind(|(_, c)| matches!(c, '"' | '”'))?;
    let open = rest[..close].rfind(if mark == '"' { &['"'][..] } else { &['“', '"'][..] })?;
    let line = rest[open..close].trim_start_matches(['"', '“']).trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_to_say_a_line_is_understood() {
        for (what, instructions, line) in [
            ("plain", "You are Ann.\n\nSay exactly: \"Hello there.\"", Some("Hello there.")),
            ("curly", "Now say exactly this and nothing else: “Hello – there”", Some("Hello – there")),
            ("own line", "Greet. Say EXACTLY this:\nHello there.", Some("Hello there.")),
            ("unquoted", "Say exactly: Hello there.", Some("Hello there.")),
            (
                "prompt quotes",
                "Follow exactly the \"rules\".\nAsk whether they are still there.",
                Some("Are you still there?"),
            ),
            ("goodbye", "Never lie.\nSay goodbye briefly.", Some("Goodbye, and thank you for calling.")),
            (
                "filler",
                "You are Ann.\n\nSay in a few words that it takes a moment.",
                Some("One moment, let me check that."),
            ),
            ("multi-line", "Say exactly: \"One.\nTwo.\"", Some("One.\nTwo.")),
            ("none", "You are Ann.", None),
        ] {
            assert_eq!(requested_line(instructions).as_deref(), line, "{what}");
        }
    }

    #[test]
    fn results_are_answered_in_order_and_by_what_they_say() {
        let reply = Reply::call("f", "{}")
            .then_if("ask", Reply::say("May I?"))
            .then(Reply::call("f", "{}").then(Reply::say("Once more.")))
            .then(Reply::say("Good."));
        let mut follow = FollowUps::of(&Reply { after_call: Some("That is all.".into()), ..reply });
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
