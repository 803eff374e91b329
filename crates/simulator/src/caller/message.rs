//! The messages of a media stream, from Twilio's side (reference §1.2 and §1.3): exactly what it accepts, and what it
//! sends.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A message from the server. The audio of `Media` is in the scratch buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromServer {
    Media,
    Mark(String),
    Clear,
}

/// The message that arrives fifty times a second.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MediaMessage<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, rename = "streamSid")]
    stream_sid: Cow<'a, str>,
    #[serde(borrow)]
    media: MediaBody<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MediaBody<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

/// Reads a message as strictly as Twilio does; the error describes what is wrong, without content.
pub(super) fn read(text: &str, sid: &str, audio: &mut Vec<u8>) -> Result<FromServer, String> {
    if let Ok(message) = serde_json::from_str::<MediaMessage<'_>>(text)
        && message.event == "media"
        && message.stream_sid == sid
    {
        return payload(&message.media.payload, audio);
    }
    let message: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let event = message.get("event").and_then(Value::as_str).ok_or("`event` is missing")?;
    let body = match event {
        "media" => Some(("media", "payload")),
        "mark" => Some(("mark", "name")),
        "clear" => None,
        other => return Err(format!("`{}` is not an event", other.escape_debug())),
    };
    match message.get("streamSid") {
        Some(Value::String(theirs)) if theirs == sid => {}
        Some(_) => return Err(format!("`{event}` for another streamSid")),
        None => return Err(format!("`{event}` without streamSid")),
    }
    let Some((body, field)) = body else {
        exact(&message, &["event", "streamSid"], event)?;
        return Ok(FromServer::Clear);
    };
    exact(&message, &["event", "streamSid", body], event)?;
    let inner = message[body].as_object().ok_or_else(|| format!("`{body}` is not an object"))?;
    exact(inner, &[field], event)?;
    let value = inner[field].as_str().ok_or_else(|| format!("`{field}` is not a string"))?;
    match event {
        "media" => payload(value, audio),
        _ if value.is_empty() => Err("`mark` with an empty name".to_owned()),
        _ => Ok(FromServer::Mark(value.to_owned())),
    }
}

fn payload(base64: &str, audio: &mut Vec<u8>) -> Result<FromServer, String> {
    audio.clear();
    STANDARD.decode_vec(base64, audio).map_err(|_| "the payload is not base64".to_owned())?;
    if audio.starts_with(b"RIFF") {
        return Err("the payload is a WAV file, not bare audio".to_owned());
    }
    Ok(FromServer::Media)
}

fn exact(object: &Map<String, Value>, names: &[&str], event: &str) -> Result<(), String> {
    if let Some(missing) = names.iter().find(|name| !object.contains_key(**name)) {
        return Err(format!("`{event}` without `{missing}`"));
    }
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        Some(extra) => Err(format!("`{event}` with an extra `{}`", extra.escape_debug())),
        None => Ok(()),
    }
}

/// Legal but unusual ways to write messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habits {
    /// `\/` in base64.
    pub escape_slashes: bool,
    /// Counters as JSON numbers.
    pub numbers: bool,
    /// Undocumented fields.
    pub extra_fields: bool,
}

/// Writes Twilio's messages and numbers them.
pub(super) struct Writer {
    pub stream_sid: String,
    account_sid: String,
    call_sid: String,
    habits: Habits,
    sequence: u64,
    chunk: u64,
    base64: String,
    line: String,
}

impl Writer {
    pub fn new(stream_sid: String, account_sid: &str, call_sid: &str, habits: Habits) -> Self {
        Self {
            stream_sid,
            account_sid: account_sid.to_owned(),
            call_sid: call_sid.to_owned(),
            habits,
            sequence: 0,
            chunk: 0,
            base64: String::new(),
            line: String::new(),
        }
    }

    pub fn connected(&self) -> String {
        self.finish(json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" }))
    }

    pub fn start(&mut self, parameters: &[(String, String)]) -> String {
        let parameters: Map<String, Value> =
            parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let start = json!({
            "streamSid": self.stream_sid,
            "accountSid": self.account_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
            "customParameters": parameters,
        });
        self.numbered("start", start)
    }

    pub fn dtmf(&mut self, digit: char) -> String {
        self.numbered("dtmf", json!({ "track": "inbound_track", "digit": digit.to_string() }))
    }

    pub fn mark(&mut self, name: &str) -> String {
        self.numbered("mark", json!({ "name": name }))
    }

    pub fn stop(&mut self) -> String {
        let stop = json!({ "accountSid": self.account_sid, "callSid": self.call_sid });
        self.numbered("stop", stop)
    }

    /// The most frequent message: no `Value`, and one copy, into the message itself.
    pub fn media(&mut self, timestamp_ms: u64, audio: &[u8]) -> &str {
        self.sequence += 1;
        self.chunk += 1;
        self.base64.clear();
        STANDARD.encode_string(audio, &mut self.base64);
        if self.habits.escape_slashes {
            self.base64 = self.base64.replace('/', "\\/");
        }
        let quote = if self.habits.numbers { "" } else { "\"" };
        let extra = if self.habits.extra_fields { "\"new\":{\"a\":[1]}," } else { "" };
        self.line.clear();
        // Writing to a `String` cannot fail.
        let _ = write!(
            self.line,
            "{{\"event\":\"media\",{extra}\"sequenceNumber\":{quote}{}{quote},\"streamSid\":\"{}\",\
             \"media\":{{{extra}\"track\":\"inbound\",\"chunk\":{quote}{}{quote},\
             \"timestamp\":{quote}{timestamp_ms}{quote},\"payload\":\"{}\"}}}}",
            self.sequence, self.stream_sid, self.chunk, self.base64
        );
        &self.line
    }

    fn numbered(&mut self, event: &str, body: Value) -> String {
        self.sequence += 1;
        let sequence =
            if self.habits.numbers { json!(self.sequence) } else { json!(self.sequence.to_string()) };
        self.finish(json!({
            "event": event, "sequenceNumber": sequence, "streamSid": self.stream_sid, event: body,
        }))
    }

    fn finish(&self, mut message: Value) -> String {
        if self.habits.extra_fields {
            message["new"] = json!({ "a": [1] });
        }
        message.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "CA00000000000000000000000000000001";

    fn said(text: &str) -> Result<FromServer, String> {
        read(text, "MZ1", &mut Vec::new())
    }

    #[test]
    fn only_exact_messages_are_accepted() {
        let mut audio = Vec::new();
        let media = r#"{"event":"media","streamSid":"MZ1","media":{"payload":"\/\/8="}}"#;
        assert_eq!(read(media, "MZ1", &mut audio), Ok(FromServer::Media));
        assert_eq!(audio, [0xFF, 0xFF]);
        let mark = r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"a"}}"#;
        assert_eq!(said(mark), Ok(FromServer::Mark("a".into())));
        assert_eq!(said(r#"{"streamSid":"MZ1","event":"clear"}"#), Ok(FromServer::Clear));
        for (text, what) in [
            (r#"{"event":"media","streamSid":"MZ2","media":{"payload":""}}"#, "another streamSid"),
            (r#"{"event":"media","stream_sid":"MZ1","media":{"payload":""}}"#, "without streamSid"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"a"}}"#, "not base64"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/w"}}"#, "not base64"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"_w=="}}"#, "not base64"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"UklGRg=="}}"#, "WAV"),
            (r#"{"event":"media","streamSid":"MZ1","media":{}}"#, "without `payload`"),
            (r#"{"event":"media","streamSid":"MZ1"}"#, "without `media`"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"","track":"x"}}"#, "`track`"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":1}}"#, "not a string"),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":""},"a":1}"#, "extra `a`"),
            (r#"{"event":"mark","streamSid":"MZ1","mark":{"name":""}}"#, "empty name"),
            (r#"{"event":"clear","streamSid":"MZ1","clear":{}}"#, "extra `clear`"),
            (r#"{"event":"hello","streamSid":"MZ1"}"#, "not an event"),
            (r#"["clear"]"#, "not a JSON object"),
            (r#"{"event":"clear""#, "not a JSON object"),
        ] {
            let error = said(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn frames_are_numbered_as_twilio_does() {
        let mut writer = Writer::new("MZ1".into(), "AC1", CALL, Habits::default());
        let start: Value = serde_json::from_str(&writer.start(&[])).unwrap();
        assert_eq!((&start["sequenceNumber"], &start["start"]["callSid"]), (&json!("1"), &json!(CALL)));
        let media: Value = serde_json::from_str(writer.media(5, &[0xFF; 160])).unwrap();
        assert_eq!(
            media,
            json!({"event":"media","sequenceNumber":"2","streamSid":"MZ1","media":{"track":"inbound",
                "chunk":"1","timestamp":"5","payload":STANDARD.encode([0xFF; 160])}})
        );
        let odd = Habits { escape_slashes: true, numbers: true, extra_fields: true };
        let mut writer = Writer::new("MZ1".into(), "AC1", CALL, odd);
        let line = writer.media(5, &[0xFF; 3]).to_owned();
        assert!(line.contains(r#""payload":"\/\/\/\/""#), "{line}");
        let media: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(media["media"]["payload"], json!("////"));
        assert_eq!(media["sequenceNumber"], json!(1));
    }
}
