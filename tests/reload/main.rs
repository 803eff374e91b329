//! Reload on the real file system: every way in which editors and tools write, through the real watcher and keeper.

mod house;
mod said;
mod writes;
