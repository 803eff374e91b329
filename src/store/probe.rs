//! A look at a database that changes nothing in it, for `doctor`.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};
use tokio::time::timeout;

use super::open::{self, applied_in_postgres, applied_in_sqlite};
use super::{Place, StoreError};

/// How long the whole look may take.
pub const LIMIT: Duration = Duration::from_secs(5);
/// The calls and the beginning of the oldest.
const CALLS: &str = "SELECT count(*), min(started_ms) FROM calls";

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub calls: u64,
    /// When the oldest call began.
    pub oldest: Option<Timestamp>,
}

/// Why a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("the user or the password is wrong")]
    Login,
    #[error("there is no such database")]
    NoDatabase,
    #[error("it cannot be written to")]
    ReadOnly,
    #[error("it has {0} steps that this program does not know")]
    Future(usize),
    #[error(transparent)]
    Other(StoreError),
}

/// Looks at the database. `None`: it has no tables yet, and `serve` will make them.
///
/// # Errors
/// `serve` could not use it as it is.
pub async fn look(place: &Place) -> Result<Option<Contents>, Wrong> {
    let look = async {
        match place {
            Place::Memory => Ok(None),
            Place::Sqlite(path) if !path.exists() => Ok(None),
            Place::Sqlite(path) => sqlite(path).await,
            Place::Postgres(url) => postgres(url.expose()).await,
        }
    };
    timeout(LIMIT, look).await.unwrap_or(Err(Wrong::Other(StoreError::Slow(LIMIT))))
}

async fn sqlite(path: &Path) -> Result<Option<Contents>, Wrong> {
    let options =
        SqliteConnectOptions::new().filename(path).busy_timeout(LIMIT / 2).disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // Takes the right to write, and gives it back.
    connection.begin_with("BEGIN IMMEDIATE").await?.rollback().await?;
    let applied = applied_in_sqlite(&mut connection).await?;
    if !is_known(&open::SQLITE, &applied)? {
        return Ok(None);
    }
    let contents = sqlx::query_as(CALLS).fetch_one(&mut connection).await?;
    let _ = connection.close().await;
    Ok(Some(read(contents)))
}

async fn postgres(url: &str) -> Result<Option<Contents>, Wrong> {
    let options = open::postgres_options(url)?.disable_statement_logging();
    let mut connection = PgConnection::connect_with(&options).await?;
    let read_only: String =
        sqlx::query_scalar("SHOW transaction_read_only").fetch_one(&mut connection).await?;
    if read_only == "on" {
        return Err(Wrong::ReadOnly);
    }
    let applied = applied_in_postgres(&mut connection).await?;
    if !is_known(&open::POSTGRES, &applied)? {
        return Ok(None);
    }
    let contents = sqlx::query_as(CALLS).fetch_one(&mut connection).await?;
    let _ = connection.close().await;
    Ok(Some(read(contents)))
}

/// Whether the database has the tables.
fn is_known(steps: &sqlx::migrate::Migrator, applied: &[i64]) -> Result<bool, Wrong> {
    open::is_current(steps, applied.to_vec()).map_err(Wrong::from)?;
    Ok(!applied.is_empty())
}

fn read((calls, oldest): (i64, Option<i64>)) -> Contents {
    let oldest = oldest.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Contents { calls: calls.try_into().unwrap_or_default(), oldest }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Future { unknown } => Self::Future(unknown),
            other => Self::Other(other),
        }
    }
}

impl From<sqlx::Error> for Wrong {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        match code.as_str() {
            "28P01" | "28000" => Self::Login,
            "3D000" => Self::NoDatabase,
            // SQLite: READONLY, and its kinds.
            _ if code.len() < 5 && code.parse::<u32>().is_ok_and(|code| code & 0xff == 8) => Self::ReadOnly,
            _ => Self::from(StoreError::from(error)),
        }
    }
}
