//! The id of a record.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A ULID: 26 characters that sort by the time of the ring.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(Arc<str>);

impl RecordId {
    /// The id of a call that rings now. Of `chance`, 80 bits count.
    pub fn new(now: Timestamp, chance: u128) -> Self {
        let ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(Ulid::from_parts(ms, chance).to_string().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RecordId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
