//! Frames of a bidirectional media stream, both ways.
//!
//! Source: `<Stream>` WebSocket messages, Twilio docs. All are JSON text. Counters are not read: the socket keeps the
//! order, and audio is counted in bytes. Only a timestamp shows that audio is missing.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::{Text, chunk_of};
use switchboard_audio::{Chunk, InvalidChunk};

/// The largest message accepted from Twilio, in bytes. Most have 400.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A frame from Twilio.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming<'a> {
    Connected,
    Start(Start<'a>),
    /// The caller's audio; usually 20 ms, but the length is not guaranteed.
    Media {
        stream: Cow<'a, str>,
        chunk: Result<Chunk, InvalidChunk>,
        /// When the audio begins, in milliseconds from the start of the stream.
        timestamp: Option<u64>,
    },
    /// One key of the phone: `0` to `9`, `*`, `#`, or `A` to `D`.
    Dtmf {
        stream: Cow<'a, str>,
        digit: char,
    },
    /// Everything before the mark has been played or cleared. The frame does not say which.
    Mark {
        stream: Cow<'a, str>,
        name: Cow<'a, str>,
    },
    Stop,
    /// An event that this version does not know.
    Unknown,
}

/// The content of `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start<'a> {
    pub stream: Cow<'a, str>,
    pub call: Cow<'a, str>,
    /// Whether the audio is μ-law, 8 kHz, mono.
    pub is_ulaw_8k_mono: bool,
}

/// Why a frame cannot be read. It never quotes the frame, which may contain personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("it is not JSON of the expected shape")]
    NotJson,
    #[error("its event lacks the field that carries it")]
    Incomplete,
}

/// Reads one frame.
///
/// # Errors
/// [`BadFrame`] if it is not JSON, or a known event lacks a required field.
pub fn parse(frame: &Bytes) -> Result<Incoming<'_>, BadFrame> {
    let raw: Raw<'_> = serde_json::from_slice(frame).map_err(|_| BadFrame::NotJson)?;
    let stream = raw.stream_sid.map(|text| text.0);
    Ok(match &*raw.event.0 {
        "media" => {
            let media = raw.media.ok_or(BadFrame::Incomplete)?;
            Incoming::Media {
                stream: stream.ok_or(BadFrame::Incomplete)?,
                chunk: chunk_of(frame, media.payload.0),
                timestamp: media.timestamp.and_then(number),
            }
        }
        "mark" => Incoming::Mark {
            stream: stream.ok_or(BadFrame::Incomplete)?,
            name: raw.mark.ok_or(BadFrame::Incomplete)?.name.0,
        },
        "dtmf" => {
            let digit = raw.dtmf.ok_or(BadFrame::Incomplete)?.digit.0;
            let mut chars = digit.chars();
            match (chars.next(), chars.next()) {
                (Some(digit @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => {
                    Incoming::Dtmf { stream: stream.ok_or(BadFrame::Incomplete)?, digit }
                }
                _ => return Err(BadFrame::Incomplete),
            }
        }
        "start" => {
            let start = raw.start.ok_or(BadFrame::Incomplete)?;
            Incoming::Start(Start {
                stream: start.stream_sid.map(|text| text.0).or(stream).ok_or(BadFrame::Incomplete)?,
                call: start.call_sid.0,
                is_ulaw_8k_mono: start.media_format.is_none_or(|format| {
                    format.encoding.0 == "audio/x-mulaw"
                        && number(format.sample_rate) == Some(8000)
                        && number(format.channels) == Some(1)
                }),
            })
        }
        "connected" => Incoming::Connected,
        "stop" => Incoming::Stop,
        _ => Incoming::Unknown,
    })
}

/// A number, or a number in quotes.
fn number(raw: &RawValue) -> Option<u64> {
    raw.get().trim_matches('"').parse().ok()
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow, default, rename = "streamSid")]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow, default)]
    media: Option<RawMedia<'a>>,
    #[serde(borrow, default)]
    mark: Option<RawMark<'a>>,
    #[serde(borrow, default)]
    dtmf: Option<RawDtmf<'a>>,
    #[serde(borrow, default)]
    start: Option<RawStart<'a>>,
}

#[derive(Deserialize)]
struct RawMedia<'a> {
    #[serde(borrow)]
    payload: Text<'a>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawMark<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct RawDtmf<'a> {
    #[serde(borrow)]
    digit: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStart<'a> {
    #[serde(borrow, default)]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    call_sid: Text<'a>,
    #[serde(borrow, default)]
    media_format: Option<RawFormat<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFormat<'a> {
    #[serde(borrow)]
    encoding: Text<'a>,
    #[serde(borrow)]
    sample_rate: &'a RawValue,
    #[serde(borrow)]
    channels: &'a RawValue,
}

/// Writes frames for one stream.
#[derive(Debug)]
pub struct Writer {
    media: String,
    mark: String,
    clear: String,
}

impl Writer {
    /// A writer for the stream that `start` named.
    pub fn new(stream: &str) -> Self {
        let sid = serde_json::Value::from(stream).to_string();
        Self {
            media: format!(r#"{{"event":"media","streamSid":{sid},"media":{{"payload":""#),
            mark: format!(r#"{{"event":"mark","streamSid":{sid},"mark":{{"name":""#),
            clear: format!(r#"{{"event":"clear","streamSid":{sid}}}"#),
        }
    }

    /// Audio for the phone, copied once.
    pub fn media(&self, chunk: &Chunk) -> String {
        concat(&self.media, chunk.as_str())
    }

    /// A mark after the audio. `name` is ours: letters and digits.
    pub fn mark(&self, name: &str) -> String {
        concat(&self.mark, name)
    }

    /// Empties the phone's buffer at once.
    pub fn clear(&self) -> String {
        self.clear.clone()
    }
}

fn concat(prefix: &str, text: &str) -> String {
    const END: &str = r#""}}"#;
    let mut frame = String::with_capacity(prefix.len() + text.len() + END.len());
    frame.push_str(prefix);
    frame.push_str(text);
    frame.push_str(END);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Incoming<'static>, BadFrame> {
        parse(Box::leak(Box::new(Bytes::copy_from_slice(text.as_bytes()))))
    }

    #[test]
    fn every_frame_of_the_reference_is_read() {
        let frames = include_str!("../../../tests/frames/twilio-incoming.jsonl");
        let read: Vec<_> = frames.lines().map(|line| read(line).expect(line)).collect();
        insta::assert_debug_snapshot!(read, @r#"
        [
            Connected,
            Start(
                Start {
                    stream: "MZ01",
                    call: "CA00000000000000000000000000000001",
                    is_ulaw_8k_mono: true,
                },
            ),
            Media {
                stream: "MZ01",
                chunk: Ok(
                    3B,
                ),
                timestamp: Some(
                    5,
                ),
            },
            Dtmf {
                stream: "MZ01",
                digit: '1',
            },
            Mark {
                stream: "MZ01",
                name: "r1:0003",
            },
            Stop,
        ]
        "#);
    }

    #[test]
    fn our_frames_match_the_reference() {
        let writer = Writer::new("MZ01");
        let ours = [
            writer.media(&Chunk::from_base64("////".into()).unwrap()),
            writer.mark("r1:0003"),
            writer.clear(),
        ];
        let reference = include_str!("../../../tests/frames/twilio-outgoing.jsonl");
        assert_eq!(ours.to_vec(), reference.lines().collect::<Vec<_>>());
    }

    #[test]
    fn unusual_but_valid_frames_are_read() {
        let media_at = |payload: &str, timestamp| Incoming::Media {
            stream: "MZ01".into(),
            chunk: Ok(Chunk::from_base64(Bytes::copy_from_slice(payload.as_bytes())).unwrap()),
            timestamp,
        };
        let media = |payload| media_at(payload, None);
        for (what, text, expected) in [
            (
                "an escaped slash",
                r#"{"event":"media","streamSid":"MZ01","media":{"payload":"\/\/8="}}"#,
                media("//8="),
            ),
            (
                "counters as numbers, unknown fields",
                r#"{"x":[1],"event":"media","sequenceNumber":2,"streamSid":"MZ01","media":{"chunk":1,"timestamp":5,"payload":"////","y":{}}}"#,
                media_at("////", Some(5)),
            ),
            (
                "a timestamp that is no number",
                r#"{"event":"media","streamSid":"MZ01","media":{"timestamp":{"s":-1},"payload":"////"}}"#,
                media("////"),
            ),
            ("an unknown event", r#"{"event":"vibrate","vibrate":{"ms":5}}"#, Incoming::Unknown),
            (
                "no payload at all",
                r#"{"event":"media","streamSid":"MZ01","media":{"payload":""}}"#,
                media(""),
            ),
        ] {
            assert_eq!(read(text), Ok(expected), "{what}");
        }
    }

    #[test]
    fn other_audio_formats_are_recognised() {
        for (format, ulaw) in [
            (r#"{"encoding":"audio/x-mulaw","sampleRate":"8000","channels":"1"}"#, true),
            (r#"{"encoding":"audio/x-mulaw","sampleRate":16000,"channels":1}"#, false),
            (r#"{"encoding":"audio/l16","sampleRate":8000,"channels":1}"#, false),
        ] {
            let start = format!(
                r#"{{"event":"start","start":{{"streamSid":"M","callSid":"C","mediaFormat":{format}}}}}"#
            );
            let Ok(Incoming::Start(start)) = read(&start) else { panic!("{format}") };
            assert_eq!(start.is_ulaw_8k_mono, ulaw, "{format}");
        }
    }

    #[test]
    fn bad_frames_are_rejected_without_quoting_them() {
        for (what, text, expected) in [
            ("not JSON", "hello", BadFrame::NotJson),
            ("no event", r#"{"streamSid":"MZ01"}"#, BadFrame::NotJson),
            ("media without media", r#"{"event":"media","streamSid":"MZ01"}"#, BadFrame::Incomplete),
            (
                "media without a stream",
                r#"{"event":"media","media":{"payload":"////"}}"#,
                BadFrame::Incomplete,
            ),
            ("a mark without a name", r#"{"event":"mark","streamSid":"MZ01","mark":{}}"#, BadFrame::NotJson),
            (
                "two digits",
                r#"{"event":"dtmf","streamSid":"MZ01","dtmf":{"digit":"12"}}"#,
                BadFrame::Incomplete,
            ),
            (
                "a start without a call",
                r#"{"event":"start","start":{"streamSid":"MZ01"}}"#,
                BadFrame::NotJson,
            ),
        ] {
            assert_eq!(read(text), Err(expected), "{what}");
        }
    }

    #[test]
    fn audio_is_borrowed_from_its_frame() {
        let frame = Bytes::from_static(br#"{"event":"media","streamSid":"MZ01","media":{"payload":"////"}}"#);
        let Ok(Incoming::Media { chunk: Ok(chunk), .. }) = parse(&frame) else { panic!("media") };
        assert!(frame.as_ptr_range().contains(&chunk.as_str().as_ptr()));
    }
}
