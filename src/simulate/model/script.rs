//! What the simulated model says, turn by turn, and how it understands an instruction to say a line.

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
    /// A function called after the speech, if the session has it: its name and its arguments in JSON.
    pub call: Option<(String, String)>,
    /// Spoken once the function's result is in and a response is asked for.
    pub after_call: Option<String>,
}

impl Reply {
    /// A reply of one spoken item.
    pub fn say(line: impl Into<String>) -> Self {
        Self { items: vec![line.into()], ..Self::default() }
    }

    /// The same reply, with the transcript of what the caller said before it.
    pub fn to(mut self, caller: impl Into<String>) -> Self {
        self.caller_says = Some(caller.into());
        self
    }

    /// The same reply, followed by a function call.
    pub fn and_call(mut self, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.call = Some((name.into(), arguments.into()));
        self
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
            ("multi-line", "Say exactly: \"One.\nTwo.\"", Some("One.\nTwo.")),
            ("none", "You are Ann.", None),
        ] {
            assert_eq!(requested_line(instructions).as_deref(), line, "{what}");
        }
    }
}
