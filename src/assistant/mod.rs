//! Assistants: as written → as checked → a roster → a plan for one call.
//!
//! This module knows every key that an owner may write, what it means and what can be wrong with it.
//! It reads no disk and no clock: files, environment and the time are arguments.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod arguments;
mod call_time;
mod check;
mod examine;
mod filters;
mod fit;
mod formats;
pub mod language;
pub mod plan;
mod prompt;
mod request;
mod roster;
pub mod schema;
mod sounds;
mod toolbox;
mod unknown;
mod values;
mod vocabulary;
mod written;

pub use call_time::{CallTime, InvalidTime};
pub use check::{Assistant, mailbox, record_defaults};
pub use prompt::{Facts, PlanError};
pub use roster::{Changes, Checked, Folder, Roster, is_name};
pub use toolbox::{Off, lacks};

pub use crate::duration::spell;
pub use crate::yaml::SourceFile;
