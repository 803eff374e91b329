//! The fold of a call's entries.

pub use crate::record::Recorder;
