//! Reload on the real file system: every way in which editors and tools write.

mod logged;
mod server;
mod writes;
