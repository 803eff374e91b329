//! The store: the records of all calls, in SQLite or PostgreSQL.
//!
//! [`Records`] takes entries while calls run, and never makes a call wait: one task writes them in batches. [`Store`]
//! answers questions.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::phone::PhoneNumber;
use crate::record::{CallRecord, Entry, RecordId};
use crate::secret::Secret;

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// It ends with the process.
    Memory,
    Sqlite(PathBuf),
    Postgres(Secret),
}

impl Place {
    /// Where the settings say.
    pub fn of(_settings: &crate::settings::Settings) -> Self {
        todo!()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// Which calls are meant. Every `None` means any.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub assistant: Option<String>,
    pub caller: Option<PhoneNumber>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// A code, or the part of it before the dot.
    pub reason: Option<String>,
    /// Words that somebody said, or that a message contains.
    pub text: Option<String>,
    /// Only what is older than this record: where the last page ended.
    pub before: Option<RecordId>,
}

/// A call in a list.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Row {
    pub id: RecordId,
    pub call: String,
    pub assistant: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub started: Timestamp,
    pub seconds: f64,
    /// `None` while the call runs.
    pub reason: Option<String>,
    pub broken_off: bool,
    pub test: bool,
    /// In dollars.
    pub cost: Option<f64>,
    /// How many anomalies were counted.
    pub anomalies: u64,
}

/// What was erased.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Erased {
    pub calls: u64,
    pub recordings: u64,
    pub messages: u64,
    /// Calls of assistants whose files keep no numbers, so that nobody can tell whose they are.
    pub unknown: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Store;

#[derive(Debug, thiserror::Error)]
#[error("the store cannot be reached")]
pub struct StoreError;

impl Store {
    /// Opens the store, and brings its schema up to date.
    ///
    /// # Errors
    /// If it cannot be reached or written to, or its schema is of a newer version.
    pub async fn open(_place: &Place) -> Result<Self, StoreError> {
        todo!()
    }

    /// The newest calls first, at most `limit`.
    pub async fn list(&self, _filter: &Filter, _limit: u32) -> Result<Vec<Row>, StoreError> {
        todo!()
    }

    /// A record by its id, the beginning of its id (at least six characters), or its call SID.
    pub async fn get(&self, _id: &str) -> Result<Option<CallRecord>, StoreError> {
        todo!()
    }

    /// Removes all that belongs to a caller.
    pub async fn erase(&self, _caller: &PhoneNumber) -> Result<Erased, StoreError> {
        todo!()
    }
}

/// Takes the entries of calls.
#[derive(Debug, Clone)]
pub struct Records;

impl Records {
    /// Takes an entry. It never waits: what has no room is dropped and counted.
    pub fn file(&self, _id: &RecordId, _entry: Entry) {
        todo!()
    }
}
