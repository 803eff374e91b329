//! JSON-RPC in lines: what comes in pieces is cut into messages, with a limit on each.

use std::collections::VecDeque;

use rmcp::model::{ErrorCode, ErrorData, NumberOrString, ServerJsonRpcMessage};
use serde::Deserialize as _;
use serde_json::Value;

/// The longest message that is taken, in bytes.
pub const LONGEST: usize = 4 * 1024 * 1024;
/// How much of the end of a longer one is kept, in bytes: its id may stand there.
const TAIL: usize = 128;
/// What is said in place of a message that is too long. JSON-RPC leaves the codes to -32019 to implementations.
pub const TOO_LONG: ErrorCode = ErrorCode(-32019);
/// What is said in place of an answer that is no JSON-RPC.
pub const GARBLED: ErrorCode = ErrorCode(-32018);

/// What is put in place of an answer that cannot be taken: whoever waits for it waits no longer.
pub fn instead(code: ErrorCode, id: NumberOrString) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(code, "the answer cannot be taken", None), Some(id))
}

/// A message as it is to be taken. `None`: it is no JSON-RPC, and answers nothing.
pub fn read(message: &Value) -> Option<ServerJsonRpcMessage> {
    if let Ok(message) = ServerJsonRpcMessage::deserialize(message) {
        return Some(message);
    }
    tracing::debug!("A message of an MCP server is no JSON-RPC");
    let has = |key| message.get(key).is_some();
    let answers = !has("method") && (has("jsonrpc") || has("result") || has("error"));
    let id = NumberOrString::deserialize(message.get("id").filter(|_| answers)?).ok()?;
    Some(instead(GARBLED, id))
}

/// What has come of a stream of lines.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// The line is too long: only its start (in `line`) and this end of it are known.
    tail: Option<VecDeque<u8>>,
    whole: VecDeque<Vec<u8>>,
    /// A line that was no message.
    stray: Option<Vec<u8>>,
}

impl Lines {
    /// Takes in the next piece.
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

    /// The next message that is there, in order. Lines that are no message are left out: programs write much.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.whole.pop_front()?;
            // Where a letter is not UTF-8, it is lost, and the message is not.
            if let Ok(message @ Value::Object(_)) = serde_json::from_str(&String::from_utf8_lossy(&line)) {
                return Some(message);
            }
            tracing::debug!(bytes = line.len(), "A line of an MCP server is no message");
            let (head, tail) = (&line[..line.len().min(TAIL)], &line[line.len().saturating_sub(TAIL)..]);
            if let Some(id) = id_of(head, tail).filter(|_| head.starts_with(b"{")) {
                return serde_json::to_value(instead(GARBLED, id)).ok();
            }
            self.stray.get_or_insert(line);
        }
    }

    /// The first line that was no message, since this was asked last.
    pub fn stray(&mut self) -> Option<Vec<u8>> {
        self.stray.take()
    }

    fn push(&mut self, piece: &[u8]) {
        if self.tail.is_none() && self.line.len() + piece.len() > LONGEST {
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
            None => self.whole.push_back(line),
            Some(tail) => {
                tracing::debug!("A message of an MCP server is too long and is dropped");
                let tail = tail.into_iter().collect::<Vec<u8>>();
                if let Some(id) = id_of(&line, &tail) {
                    self.whole.extend(serde_json::to_vec(&instead(TOO_LONG, id)).ok());
                }
            }
        }
    }
}

/// The id of an answer of which only the start and the end can be read.
fn id_of(head: &[u8], tail: &[u8]) -> Option<NumberOrString> {
    let head = String::from_utf8_lossy(head);
    let id = id_at_end(tail).or_else(|| id_at_start(&head));
    // What the server asks of us has an id of its own.
    id.filter(|_| !head.contains("\"method\""))
}

/// The id of a message that ends with it.
fn id_at_end(tail: &[u8]) -> Option<NumberOrString> {
    let text = String::from_utf8_lossy(tail);
    let text = text.trim_end().strip_suffix('}')?;
    let (_, id) = text.rsplit_once("\"id\":")?;
    serde_json::from_str(id.trim()).ok()
}

/// The id of a message that begins with it.
fn id_at_start(head: &str) -> Option<NumberOrString> {
    let (before, after) = head.split_once("\"id\":")?;
    // Nothing of the result may stand before it: it could quote such a key.
    let alone = !before.contains("\"result\"") && !before.contains("\"error\"");
    let id = after.split(',').next()?;
    alone.then(|| serde_json::from_str(id.trim()).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_come_out_however_the_pieces_are_cut() {
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
    fn an_answer_that_cannot_be_read_becomes_an_error_with_its_id() {
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
        assert_eq!(code(read(json!({"id": 5, "result": {}}))), garbled(5), "a version is missing");
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
        let long = "x".repeat(LONGEST);
        for (message, id) in [
            (format!("{{\"result\":\"{long}\",\"jsonrpc\":\"2.0\",\"id\":7}}\n"), json!(7)),
            (format!("{{\"jsonrpc\":\"2.0\",\"id\":\"a-8\",\"result\":\"{long}\"}}\n"), json!("a-8")),
        ] {
            let mut lines = Lines::default();
            for piece in message.as_bytes().chunks(8192) {
                lines.feed(piece);
                assert!(lines.line.len() <= LONGEST);
            }
            let answer = lines.next().expect("an answer");
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(TOO_LONG.0)));
            lines.feed(b"{\"a\":1}\n");
            assert_eq!(lines.next(), Some(json!({"a": 1})), "the next one is whole");
        }
        let mut lines = Lines::default();
        lines.feed(format!("{{\"result\":\"\\\"id\\\":9,{long}\"}}\n").as_bytes());
        assert_eq!(lines.next(), None, "an id within a result is none");
    }
}
