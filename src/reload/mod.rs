//! The folder of assistants: read from the disk, or fetched from afar.

mod archive;
pub mod fetch;
pub mod read;

pub use archive::ArchiveError;
