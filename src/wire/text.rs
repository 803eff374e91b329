//! JSON strings, borrowed from the frame where possible.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use switchboard_audio::{Chunk, InvalidChunk};

/// A JSON string, borrowed unless it contains an escape. A writer may escape even a slash.
///
/// serde always copies into `Option<Cow<str>>`; with this newtype it borrows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The audio in `text`, which shares the memory of its `frame`.
pub fn chunk_of(frame: &Bytes, text: Cow<'_, str>) -> Result<Chunk, InvalidChunk> {
    Chunk::from_base64(match text {
        Cow::Borrowed(text) => frame.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    })
}
