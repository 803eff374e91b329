//! Recordings of calls: stereo G.711 files in `STATE_DIR/recordings`, left the caller, right what the caller heard.
//!
//! A session gives its audio to a [`Tap`], which says where on the phone's clock it belongs. One thread writes the files
//! of all calls, so that a slow disk costs no call anything: what finds no room becomes silence.

mod archive;
mod orphans;
mod tap;
mod track;
mod writer;

use std::path::{Path, PathBuf};

pub use archive::{Archive, NotRemoved, Readable, Refused, client};
pub use orphans::Kept;
pub use tap::Tap;
pub use track::Track;
pub use writer::Recordings;

use crate::record::RecordId;

/// The folder, below `STATE_DIR`.
pub const FOLDER: &str = "recordings";

/// What a recording's side holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Caller,
    /// What the caller heard.
    Heard,
}

/// Audio for a recording, and where it belongs: in frames of 1/8 ms from the stream's start.
#[derive(Debug, Clone)]
pub enum Part {
    Audio {
        side: Side,
        at: u64,
        chunk: switchboard_audio::Chunk,
    },
    /// From here on, the caller heard nothing of what was sent before.
    Cut {
        at: u64,
    },
}

/// The path of a recording as its record has it: below `STATE_DIR`.
pub fn path(id: &RecordId) -> String {
    format!("{FOLDER}/{id}.wav")
}

/// The file of a recording.
pub fn file(state_dir: &Path, id: &RecordId) -> PathBuf {
    state_dir.join(path(id))
}
