//! What can be wrong with a store. No sentence contains a password.

use std::time::Duration;

use sqlx::migrate::MigrateError;

/// Why the store did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{0}; a database is `sqlite://PATH` or `postgres://USER:PASSWORD@HOST/NAME`")]
    WrongUrl(String),
    #[error("{place} cannot be opened: {why}")]
    CannotOpen { place: String, why: String },
    /// Its schema has more than one step that this program does not know.
    #[error(
        "the database was made by a newer version of switchboard: it has {unknown} steps that this one does not know, \
         and one is the most; use that version"
    )]
    Future { unknown: usize },
    /// The database is as it was.
    #[error("the database cannot be brought up to date, and was left as it was: {0}")]
    Migration(String),
    /// It is being opened for the first time.
    #[error("the database is not connected yet")]
    NotConnected,
    #[error("the disk is full")]
    DiskFull,
    #[error("another program has locked the database")]
    Locked,
    #[error("the database did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// The connection broke, or there is none.
    #[error("the database cannot be reached: {0}")]
    Gone(String),
    #[error("several calls have an id that begins so; give more of it")]
    Ambiguous,
    #[error("the database refused: {0}")]
    Refused(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Configuration(why) => Self::WrongUrl(why.to_string()),
            sqlx::Error::Database(database) => {
                // SQLite's code in the low byte, and PostgreSQL's SQLSTATE.
                let code = database.code().unwrap_or_default().into_owned();
                let primary = code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff);
                match (primary, code.as_str()) {
                    (Some(5 | 6), _) | (_, "55P03") => Self::Locked,
                    (Some(13), _) | (_, "53100") => Self::DiskFull,
                    // The statement's own time limit.
                    (_, "57014") => Self::Slow(super::db::LIMIT),
                    // It is shutting down, starting, or full of connections.
                    (_, "57P01" | "57P02" | "57P03" | "53300") => Self::Gone(database.message().to_owned()),
                    _ => Self::Refused(database.message().to_owned()),
                }
            }
            sqlx::Error::Io(why) => Self::Gone(why.to_string()),
            sqlx::Error::Tls(why) => Self::Gone(why.to_string()),
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Gone("no connection is free".to_owned())
            }
            sqlx::Error::Protocol(why) => Self::Gone(why),
            sqlx::Error::Migrate(why) => Self::from(*why),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => Self::from(error),
            MigrateError::ExecuteMigration(error, version) => match Self::from(error) {
                Self::Refused(why) => Self::Migration(format!("step {version}: {why}")),
                other => other,
            },
            other => Self::Migration(other.to_string()),
        }
    }
}

impl StoreError {
    /// Whether the same may succeed later: nothing is wrong with what was asked.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::CannotOpen { .. }
            | Self::NotConnected
            | Self::DiskFull
            | Self::Locked
            | Self::Slow(_)
            | Self::Gone(_) => true,
            Self::WrongUrl(_)
            | Self::Future { .. }
            | Self::Migration(_)
            | Self::Ambiguous
            | Self::Refused(_) => false,
        }
    }
}
