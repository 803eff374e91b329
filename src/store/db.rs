//! One way to run the same statements on SQLite and on PostgreSQL.
//!
//! Placeholders are `$1`, integers and truth values are `BIGINT`, and text is `TEXT`, on both.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres, Sqlite, SqlitePool, Transaction};

use super::error::StoreError;

/// How long one statement may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A pool of connections.
#[derive(Debug, Clone)]
pub enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A transaction. It is rolled back unless it is committed.
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// What stands for a placeholder.
#[derive(Debug, Clone)]
pub enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Real(f64),
}

/// A row that both databases can fill.
pub trait Line: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> Line for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// The values of a statement, in the order of its placeholders.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::db::Value::from($value)),*] };
}
pub(super) use values;

/// The same expression for both variants; `$it` is the pool or the connection.
macro_rules! both {
    ($of:expr, $kind:ident, $it:ident => $do:expr) => {
        match $of {
            $kind::Sqlite($it) => $do,
            $kind::Postgres($it) => $do,
        }
    };
}

macro_rules! bound {
    ($query:expr, $values:expr) => {{
        let mut query = $query;
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::Real(number) => query.bind(number),
            };
        }
        query
    }};
}

impl Db {
    /// Returns how many rows changed.
    pub async fn execute(
        &self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let sql = AssertSqlSafe(sql.into());
        both!(self, Db, pool => in_time(async {
            Ok(bound!(sqlx::query(sql), values).execute(pool).await?.rows_affected())
        }).await)
    }

    pub async fn fetch<T: Line>(
        &self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = AssertSqlSafe(sql.into());
        both!(self, Db, pool => in_time(bound!(sqlx::query_as(sql), values).fetch_all(pool)).await)
    }

    /// Begins a transaction that writes.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        match self {
            // At once the writer: one that reads first cannot become it once another has written.
            Db::Sqlite(pool) => in_time(pool.begin_with("BEGIN IMMEDIATE")).await.map(Tx::Sqlite),
            Db::Postgres(pool) => in_time(pool.begin()).await.map(Tx::Postgres),
        }
    }

    /// Returns the space of deleted rows of PostgreSQL, and overwrites them. It may take longer than a statement.
    pub async fn vacuum(&self) -> Result<(), StoreError> {
        let Self::Postgres(pool) = self else { return Ok(()) };
        let mut connection = in_time(pool.acquire()).await?;
        // The time limit goes with the connection.
        let all = "SET statement_timeout = 0; VACUUM FULL calls; VACUUM FULL records; VACUUM FULL entries";
        for statement in all.split("; ") {
            sqlx::raw_sql(statement).execute(&mut *connection).await?;
        }
        let _ = in_time(connection.close()).await;
        Ok(())
    }

    /// The expression for the time by the database's clock, in milliseconds: processes may disagree about theirs.
    pub fn now(&self) -> &'static str {
        match self {
            Db::Sqlite(_) => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Db::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

impl Tx {
    /// Returns how many rows changed.
    pub async fn execute(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let sql = AssertSqlSafe(sql.into());
        both!(self, Tx, tx => in_time(async {
            Ok(bound!(sqlx::query(sql), values).execute(&mut **tx).await?.rows_affected())
        }).await)
    }

    pub async fn fetch<T: Line>(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        values: Vec<Value>,
    ) -> Result<Vec<T>, StoreError> {
        let sql = AssertSqlSafe(sql.into());
        both!(self, Tx, tx => in_time(bound!(sqlx::query_as(sql), values).fetch_all(&mut **tx)).await)
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        both!(self, Tx, tx => in_time(tx.commit()).await)
    }
}

/// Gives up after [`LIMIT`].
pub async fn in_time<T>(does: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(LIMIT, does).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::Slow(LIMIT)),
    }
}

/// PostgreSQL's text cannot hold the character 0.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(clean(text)))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(clean))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Int(Some(is.into()))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}
