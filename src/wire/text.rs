//! Strings in JSON, borrowed from the frame wherever JSON allows it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use switchboard_audio::{Chunk, InvalidChunk};

/// A JSON string. Borrowed unless it holds an escape (a JSON writer may escape even a slash).
///
/// `Option<Cow<str>>` would always copy; the newtype is what makes serde borrow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The audio in `text`, sharing the memory of the `frame` that it was borrowed from.
pub fn chunk_of(frame: &Bytes, text: Cow<'_, str>) -> Result<Chunk, InvalidChunk> {
    Chunk::from_base64(match text {
        Cow::Borrowed(text) => frame.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    })
}
