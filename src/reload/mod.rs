//! The folder of assistants: read from the disk.

pub mod read;
