//! What can be wrong with a store. No sentence contains a password.

use std::time::Duration;

use sqlx::migrate::MigrateError;

/// How long one statement may take.
pub const LIMIT: Duration = Duration::from_secs(10);

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
    /// Its schema lacks a step, and may not be changed now.
    #[error(
        "the database was made by an older version of switchboard: use that version, or start `switchboard serve` of \
         this one, which brings the database up to date"
    )]
    Past,
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
    /// It will never take this.
    #[error("the database does not take this: {0}")]
    Unfit(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // The reason may name a part of the address, and so a secret.
            sqlx::Error::Configuration(_) => Self::WrongUrl("the address cannot be read".to_owned()),
            sqlx::Error::Database(database) => {
                // SQLite's code in the low byte, and PostgreSQL's SQLSTATE.
                let code = database.code().unwrap_or_default().into_owned();
                let primary = code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff);
                match (primary, code.as_str()) {
                    (Some(5 | 6), _) | (_, "55P03") => Self::Locked,
                    (Some(13), _) | (_, "53100") => Self::DiskFull,
                    // The statement's own time limit.
                    (_, "57014") => Self::Slow(LIMIT),
                    // It is shutting down, starting, or full of connections.
                    (_, "57P01" | "57P02" | "57P03" | "53300") => Self::Gone(database.message().to_owned()),
                    // Too big, against a constraint, of the wrong type.
                    (Some(18..=20), _) => Self::Unfit(database.message().to_owned()),
                    (_, code)
                        if ["22", "23", "54"]
                            .iter()
                            .any(|class| code.len() == 5 && code.starts_with(class)) =>
                    {
                        Self::Unfit(database.message().to_owned())
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_told_from_a_statement_that_is_wrong() {
        let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
        let run = async |sql: &'static str| sqlx::raw_sql(sql).execute(&pool).await.map_err(StoreError::from);
        run("CREATE TABLE t (a INTEGER CHECK (a < 5), b BLOB); PRAGMA max_page_count = 10").await.unwrap();
        assert_eq!(
            run("INSERT INTO t VALUES (1, zeroblob(100000))").await.unwrap_err(),
            StoreError::DiskFull
        );
        assert!(matches!(run("INSERT INTO t VALUES (6, NULL)").await, Err(StoreError::Unfit(_))));
        assert!(matches!(run("INSERT INTO nothing VALUES (6)").await, Err(StoreError::Refused(_))));
    }
}
