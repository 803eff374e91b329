//! JSON-RPC in lines: splits a stream of bytes into messages of limited length.

use std::collections::VecDeque;

use rmcp::model::{ErrorCode, ErrorData, NumberOrString, ServerJsonRpcMessage};
use serde::Deserialize as _;
use serde_json::Value;

use crate::tool::MAX_ANSWER;

/// The longest message, in bytes.
pub const MAX_LINE: usize = MAX_ANSWER;
/// How much of the start and the end of a longer message is kept, in bytes: its id may be there.
const TAIL: usize = 128;
/// Our code for a message that is too long. JSON-RPC leaves the codes up to -32019 to implementations.
pub const TOO_LONG: ErrorCode = ErrorCode(-32019);
/// Our code for an answer that is not JSON-RPC.
pub const GARBLED: ErrorCode = ErrorCode(-32018);

/// An error in place of an unreadable answer, so that its request stops waiting.
pub fn instead(code: ErrorCode, id: NumberOrString) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(code, "unreadable answer", None), Some(id))
}

/// Reads a message. `None`: it is not JSON-RPC, and not an answer.
pub fn read(message: &Value) -> Option<ServerJsonRpcMessage> {
    if let Ok(message) = ServerJsonRpcMessage::deserialize(message) {
        return Some(message);
    }
    tracing::debug!("A message from an MCP server is not JSON-RPC");
    let has = |key| message.get(key).is_some();
    let answers = !has("method") && (has("jsonrpc") || has("result") || has("error"));
    let id = NumberOrString::deserialize(message.get("id").filter(|_| answers)?).ok()?;
    Some(instead(GARBLED, id))
}

/// The state of a stream of lines.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// The line is too long: `line` holds its start, and this its end.
    tail: Option<VecDeque<u8>>,
    complete: VecDeque<Vec<u8>>,
    /// The first line that was not a message.
    stray: Option<Vec<u8>>,
}

impl Lines {
    /// Adds bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => (bytes, &[][..]),
            };
            self.push(piece);
            if end.is_some() {
                self.end_line();
            }
            bytes = rest;
        }
    }

    /// The next message. Skips lines that are not messages.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.complete.pop_front()?;
            // A character that is not UTF-8 must not cost the message.
            if let Ok(message @ Value::Object(_)) = serde_json::from_str(&String::from_utf8_lossy(&line)) {
                return Some(message);
            }
            tracing::debug!(bytes = line.len(), "A line from an MCP server is not a message");
            let (head, tail) = (&line[..line.len().min(TAIL)], &line[line.len().saturating_sub(TAIL)..]);
            if let Some(id) = id_of(head, tail).filter(|_| head.starts_with(b"{")) {
                return serde_json::to_value(instead(GARBLED, id)).ok();
            }
            self.stray.get_or_insert(line);
        }
    }

    /// The first line that was not a message since the last time this was asked.
    pub fn stray(&mut self) -> Option<Vec<u8>> {
        self.stray.take()
    }

    fn push(&mut self, piece: &[u8]) {
        if self.tail.is_none() && self.line.len() + piece.len() > MAX_LINE {
            let room = TAIL.saturating_sub(self.line.len()).min(piece.len());
            self.line.extend_from_slice(&piece[..room]);
            self.line.truncate(TAIL);
            self.tail = Some(VecDeque::new());
        }
        match &mut self.tail {
            None => self.line.extend_from_slice(piece),
            Some(tail) => {
                tail.extend(&piece[piece.len().saturating_sub(TAIL)..]);
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        match self.tail.take() {
            None if line.is_empty() => {}
            None => self.complete.push_back(line),
            Some(tail) => {
                tracing::debug!("Dropping a message from an MCP server that is too long");
                let tail = tail.into_iter().collect::<Vec<u8>>();
                if let Some(id) = id_of(&line, &tail) {
                    self.complete.extend(serde_json::to_vec(&instead(TOO_LONG, id)).ok());
                }
            }
        }
    }
}

/// The id of an answer of which only the start and the end are readable.
fn id_of(head: &[u8], tail: &[u8]) -> Option<NumberOrString> {
    let head = String::from_utf8_lossy(head);
    let id = id_at_end(tail).or_else(|| id_at_start(&head));
    // A request of the server has an id of its own.
    id.filter(|_| !head.contains("\"method\""))
}

/// The id of a message if it comes last.
fn id_at_end(tail: &[u8]) -> Option<NumberOrString> {
    let text = String::from_utf8_lossy(tail);
    let text = text.trim_end().strip_suffix('}')?;
    let (_, id) = text.rsplit_once("\"id\":")?;
    serde_json::from_str(id.trim()).ok()
}

/// The id of a message if it comes first.
fn id_at_start(head: &str) -> Option<NumberOrString> {
    let (before, after) = head.split_once("\"id\":")?;
    // After the start of the result, such a key may be a quote.
    let alone = !before.contains("\"result\"") && !before.contains("\"error\"");
    let id = after.split(',').next()?;
    alone.then(|| serde_json::from_str(id.trim()).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_read_however_the_bytes_are_split() {
        let text = b"{\"a\":1}\n\nnot a message\n[1]\n{\"b\":2}\r\n{\"c\":";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            text.chunks(size).for_each(|piece| lines.feed(piece));
            assert_eq!(lines.next(), Some(json!({"a": 1})), "{size}");
            assert_eq!(lines.next(), Some(json!({"b": 2})), "{size}");
            assert_eq!(lines.next(), None, "{size}");
            lines.feed(b"3}\n");
            assert_eq!(lines.next(), Some(json!({"c": 3})), "{size}");
        }
    }

    #[test]
    fn an_unreadable_answer_becomes_an_error_with_its_id() {
        let mut lines = Lines::default();
        let mut next = |line: &[u8]| {
            lines.feed(&[line, b"\n"].concat());
            lines.next()
        };
        assert_eq!(next(b"{\"a\":\"caf\xe9\"}"), Some(json!({"a": "caf\u{fffd}"})));
        let code = |answer: Option<Value>| {
            answer.map(|answer| (answer["id"].clone(), answer["error"]["code"].clone()))
        };
        let garbled = |id: u32| Some((json!(id), json!(GARBLED.0)));
        assert_eq!(code(next(br#"{"jsonrpc": "2.0", "id": 3, "result": {"x": NaN}}"#)), garbled(3));
        assert_eq!(code(next(br#"{"jsonrpc":"2.0","method":"ping","params":{"x":NaN},"id":4}"#)), None);
        assert_eq!(code(next(br#"{"level":30,"x":NaN}"#)), None);

        let read = |message: Value| read(&message).map(|message| serde_json::to_value(message).unwrap());
        assert_eq!(code(read(json!({"id": 5, "result": {}}))), garbled(5), "without a version");
        assert_eq!(code(read(json!({"jsonrpc": "2.0", "id": 6, "error": "no"}))), garbled(6));
        assert_eq!(read(json!({"jsonrpc": "2.0", "id": 7, "result": {}})).unwrap()["result"], json!({}));
        for other in [
            json!({"id": 8, "level": 30}),
            json!({"jsonrpc": "2.0", "id": 9, "method": 1}),
            json!({"result": {}}),
        ] {
            assert_eq!(read(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_becomes_an_error_with_its_id() {
        let long = "x".repeat(MAX_LINE);
        for (message, id) in [
            (format!("{{\"result\":\"{long}\",\"jsonrpc\":\"2.0\",\"id\":7}}\n"), json!(7)),
            (format!("{{\"jsonrpc\":\"2.0\",\"id\":\"a-8\",\"result\":\"{long}\"}}\n"), json!("a-8")),
        ] {
            let mut lines = Lines::default();
            for piece in message.as_bytes().chunks(8192) {
                lines.feed(piece);
                assert!(lines.line.len() <= MAX_LINE);
            }
            let answer = lines.next().expect("an answer");
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(TOO_LONG.0)));
            lines.feed(b"{\"a\":1}\n");
            assert_eq!(lines.next(), Some(json!({"a": 1})), "the next message is complete");
        }
        let mut lines = Lines::default();
        lines.feed(format!("{{\"result\":\"\\\"id\\\":9,{long}\"}}\n").as_bytes());
        assert_eq!(lines.next(), None, "an id within a result does not count");
    }
}
