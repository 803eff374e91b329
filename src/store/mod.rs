//! The store: the records of all calls, in SQLite or PostgreSQL.
//!
//! [`Records`] takes entries while calls run, and never makes a call wait: one task writes them in batches. [`Store`]
//! answers questions.

mod adopted;
mod ask;
mod call;
mod counted;
mod db;
mod erase;
mod error;
mod intake;
mod known;
mod message_files;
mod messages;
mod op;
mod open;
mod overview;
pub mod probe;
mod spill;
mod sweep;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;

pub use self::call::Owner;
pub use self::counted::Counted;
pub use self::erase::Files;
pub use self::error::StoreError;
pub use self::message_files::{Found, MessageFiles};
pub use self::messages::{Attempt, Claimed, Fate, Listed, MAX_WAITING, Message, Recipient, UNCLEAR, Waiting};
use self::open::Ready;
pub use self::overview::{Hour, Waits};
pub use self::writer::{Closer, Options, Records, start};
use crate::phone::PhoneNumber;
use crate::record::{CallRecord, RecordId};
use crate::secret::Secret;
use crate::settings::{Database, Settings};

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// The newest 1,000 calls, until the process ends.
    Memory,
    /// The folder must exist.
    Sqlite(PathBuf),
    /// The URL, with the password.
    Postgres(Secret),
}

impl Place {
    /// Where the settings say. The folder of a SQLite file may not exist.
    pub fn of(settings: &Settings) -> Self {
        match settings.database() {
            Some(Database::Sqlite(path)) => Self::Sqlite(path),
            Some(Database::Postgres(url)) => Self::Postgres(url),
            None => Self::Memory,
        }
    }
}

/// Without the password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("the memory"),
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => match open::postgres_options(url.expose()) {
                Ok(options) => {
                    let name = options.get_database().unwrap_or(options.get_username());
                    write!(f, "PostgreSQL at {}:{}/{name}", options.get_host(), options.get_port())
                }
                Err(_) => f.write_str("PostgreSQL"),
            },
        }
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
    /// Words that somebody said. They are searched in the newest 10,000 calls that match the rest.
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
    /// Where the recordings are. The store knows the paths; whoever asked deletes the files.
    #[serde(skip)]
    pub paths: Vec<String>,
    /// What is not erased. To erase again is the way to get rid of it, but for recordings.
    pub left: Vec<Left>,
}

/// What is left of a caller who was to be erased.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    pub what: Remains,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remains {
    /// Deleted rows are still readable in the database's files.
    DatabaseFiles,
    /// Records that wait for the database.
    WaitingFiles,
    MessageFiles,
    Recording,
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DatabaseFiles => "deleted records may be readable in the files of the database",
            Self::WaitingFiles => "records that wait for the database may be left",
            Self::MessageFiles => "undelivered messages may be left in files",
            Self::Recording => "a recording is left",
        })
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Store {
    ready: Arc<RwLock<Result<Ready, StoreError>>>,
    files: Files,
}

impl Store {
    /// Opens the store, and brings its schema up to date.
    ///
    /// # Errors
    /// If it cannot be reached or written to, or its schema is of a newer version.
    pub async fn open(place: &Place) -> Result<Self, StoreError> {
        let ready = open::open(place).await?;
        Ok(Self { ready: Arc::new(RwLock::new(Ok(ready))), files: Files::default() })
    }

    /// Opens a store that exists, perhaps beside a server of another version: its schema stays as it is.
    ///
    /// # Errors
    /// If it cannot be reached, or its schema is of an older or a newer version.
    pub async fn open_as_it_is(place: &Place) -> Result<Self, StoreError> {
        let ready = open::open_as_it_is(place).await?;
        Ok(Self { ready: Arc::new(RwLock::new(Ok(ready))), files: Files::default() })
    }

    /// The files from which [`Self::erase`] removes a caller, too.
    pub fn with_files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// One that is opened later.
    fn unconnected() -> Self {
        Self { ready: Arc::new(RwLock::new(Err(StoreError::NotConnected))), files: Files::default() }
    }

    fn set(&self, ready: Result<Ready, StoreError>) {
        *self.ready.write().unwrap_or_else(std::sync::PoisonError::into_inner) = ready;
    }

    /// The open database.
    ///
    /// # Errors
    /// Why it is not open.
    pub(super) fn ready(&self) -> Result<Ready, StoreError> {
        self.ready.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Whether it can be asked, or why not.
    ///
    /// # Errors
    /// Why it is not open.
    pub fn status(&self) -> Result<(), StoreError> {
        self.ready().map(drop)
    }

    /// The newest calls first, at most `limit`.
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Row>, StoreError> {
        ask::list(&self.ready()?, filter, limit).await
    }

    /// A record by its id, the beginning of its id (at least six characters), or its call SID.
    ///
    /// # Errors
    /// `Ambiguous` if several ids begin so.
    pub async fn get(&self, id: &str) -> Result<Option<CallRecord>, StoreError> {
        ask::get(&self.ready()?, id).await
    }

    /// The records of all calls that match, the newest first, a few at a time.
    pub fn export(&self, filter: Filter) -> Export {
        Export { store: self.clone(), filter, page: Vec::new(), is_last: false }
    }

    /// Call SIDs with the ends of their calls, of calls that ended since then, the newest first.
    pub async fn closed_calls(
        &self,
        since: Timestamp,
        most: u32,
    ) -> Result<Vec<(String, Timestamp)>, StoreError> {
        ask::closed(&self.ready()?, since, most).await
    }

    /// The calls that count for limits, of those that began since then, and the secret of the callers' hashes. With
    /// `ended` only those that run, or that ended since then.
    pub async fn counted(
        &self,
        began: Timestamp,
        ended: Option<Timestamp>,
    ) -> Result<(Vec<Counted>, Secret), StoreError> {
        let ready = self.ready()?;
        let calls = counted::counted(&ready, began, ended).await?;
        Ok((calls, Secret::new(&ready.secret)))
    }

    /// Removes all that belongs to a caller, but for the files of recordings.
    ///
    /// # Errors
    /// If nothing was erased. What went wrong after that is in [`Erased::left`].
    pub async fn erase(&self, caller: &PhoneNumber) -> Result<Erased, StoreError> {
        let ready = self.ready()?;
        let mut erased = erase::erase(&ready, caller).await?;
        // A living process writes what it has to the database, which knows that the caller is erased.
        self.files.erase_too(caller, Some(&ready.secret), &mut erased).await;
        Ok(erased)
    }
}

/// Records, one after the other. It holds a page of them in memory, whatever their number.
#[derive(Debug)]
pub struct Export {
    store: Store,
    filter: Filter,
    /// The newest last.
    page: Vec<RecordId>,
    is_last: bool,
}

impl Export {
    const PAGE: u32 = 200;

    /// The next record, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<CallRecord>, StoreError> {
        let ready = self.store.ready()?;
        loop {
            // One may have been erased since the page was read.
            while let Some(id) = self.page.pop() {
                if let Some(record) = ask::record(&ready, id.as_str()).await? {
                    return Ok(Some(record));
                }
            }
            if self.is_last {
                return Ok(None);
            }
            let rows = ask::list(&ready, &self.filter, Self::PAGE).await?;
            self.is_last = rows.len() < Self::PAGE as usize;
            self.filter.before = rows.last().map(|row| row.id.clone()).or(self.filter.before.take());
            self.page = rows.into_iter().rev().map(|row| row.id).collect();
        }
    }
}
