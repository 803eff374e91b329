//! Assistants: as written → as checked → a roster → a plan for one call.
//!
//! This module knows every key an owner may write, what it means and what may be wrong with it.
//! It reads no disk and no clock: files, environment and the time are handed in.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod check;
mod examine;
mod filters;
mod fit;
pub mod plan;
mod prompt;
mod request;
mod roster;
pub mod schema;
mod toolbox;
mod values;
mod written;

pub use check::Assistant;
pub use prompt::{Facts, PlanError};
pub use roster::{Changes, Checked, Folder, Roster, is_name};
pub use toolbox::lacks;

pub use crate::yaml::SourceFile;
pub use written::spell;
