//! Reload on the real file system: every way in which editors and tools write, through the real watcher and keeper.

mod said;
mod server;
mod writes;
