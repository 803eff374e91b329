//! Opening a store, and bringing its schema up to date.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};

use super::Place;
use super::db::{Db, in_time, values};
use super::error::{LIMIT, StoreError};

pub(super) static SQLITE: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
pub(super) static POSTGRES: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// How long SQLite waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// How long a connection to PostgreSQL may take.
const CONNECT: Duration = Duration::from_secs(3);
/// So many connections, of which one writes.
const CONNECTIONS: u32 = 4;
/// Held by the process that migrates. Any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x0073_7769_7463_6862;

/// An open database whose schema is known.
#[derive(Debug, Clone)]
pub struct Ready {
    pub db: Db,
    /// The secret of the hashes of numbers.
    pub secret: String,
    /// Whether it outlasts the process.
    pub durable: bool,
}

/// Opens the database, creates it if it is a file that does not exist, and brings its schema up to date.
pub async fn open(place: &Place) -> Result<Ready, StoreError> {
    open_with(place, true).await
}

/// Opens a database that exists, and leaves its schema as it is.
pub async fn open_as_it_is(place: &Place) -> Result<Ready, StoreError> {
    open_with(place, false).await
}

async fn open_with(place: &Place, migrates: bool) -> Result<Ready, StoreError> {
    let cannot = |error: StoreError| match error {
        StoreError::Gone(why) => StoreError::CannotOpen { place: place.to_string(), why },
        StoreError::Slow(_) => StoreError::CannotOpen {
            place: place.to_string(),
            why: format!("no answer within {} s", LIMIT.as_secs()),
        },
        StoreError::Refused(why) => StoreError::CannotOpen { place: place.to_string(), why },
        other => other,
    };
    let db = match place {
        Place::Memory => sqlite(memory(), 1, migrates).await,
        Place::Sqlite(path) => {
            if migrates {
                create(path).map_err(|why| StoreError::CannotOpen {
                    place: place.to_string(),
                    why: why.to_string(),
                })?;
            }
            sqlite(file(path), CONNECTIONS, migrates).await
        }
        Place::Postgres(url) => postgres(url.expose(), migrates).await,
    }
    .map_err(cannot)?;
    let secret = secret(&db).await.map_err(cannot)?;
    Ok(Ready { db, secret, durable: !matches!(place, Place::Memory) })
}

/// An empty file is an empty database. Only this user may read it, or what SQLite puts beside it.
fn create(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

fn memory() -> SqliteConnectOptions {
    SqliteConnectOptions::new().in_memory(true).foreign_keys(true)
}

fn file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .journal_mode(SqliteJournalMode::Wal)
        // A power cut may take the last batch; it never breaks the file.
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        // What is erased is overwritten.
        .pragma("secure_delete", "ON")
}

async fn sqlite(options: SqliteConnectOptions, most: u32, migrates: bool) -> Result<Db, StoreError> {
    let options = options.disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(most)
        .acquire_timeout(LIMIT)
        // One in memory ends with its connection.
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options);
    let pool = in_time(pool).await?;
    let mut connection = in_time(pool.acquire()).await?;
    if migrates {
        migrate_sqlite(&mut connection, &SQLITE).await?;
    } else if !is_current(&SQLITE, in_time(applied_in_sqlite(&mut connection)).await?)? {
        return Err(StoreError::Past);
    }
    drop(connection);
    Ok(Db::Sqlite(pool))
}

/// Reads the URL.
pub fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)?)
}

async fn postgres(url: &str, migrates: bool) -> Result<Db, StoreError> {
    let options = postgres_options(url)?
        .application_name("switchboard")
        // PgBouncer refuses a connection that sets it.
        .extra_float_digits(None)
        .disable_statement_logging();
    // A connection of its own: what it holds goes with it, whatever happens.
    let mut connection = in_time(PgConnection::connect_with(&options)).await?;
    if migrates {
        migrate_postgres(&mut connection, &POSTGRES).await?;
    } else if !is_current(&POSTGRES, in_time(applied_in_postgres(&mut connection)).await?)? {
        return Err(StoreError::Past);
    }
    let _ = in_time(connection.close()).await;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        // A server that is down is tried for as long.
        .acquire_timeout(CONNECT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let limit = LIMIT.as_millis();
                let set = format!("SET statement_timeout = {limit}; SET lock_timeout = {limit}");
                sqlx::raw_sql(AssertSqlSafe(set)).execute(connection).await.map(drop)
            })
        })
        .connect_with(options);
    Ok(Db::Postgres(in_time(pool).await?))
}

/// All steps, or none.
async fn migrate_sqlite(connection: &mut SqliteConnection, steps: &Migrator) -> Result<(), StoreError> {
    if is_current(steps, in_time(applied_in_sqlite(connection)).await?)? {
        return Ok(());
    }
    // Whoever comes second waits here, and finds it done.
    let mut tx = in_time(connection.begin_with("BEGIN IMMEDIATE")).await?;
    if !is_current(steps, in_time(applied_in_sqlite(&mut tx)).await?)? {
        tolerant(steps).run_direct(None, &mut *tx, false).await?;
    }
    in_time(tx.commit()).await
}

pub(super) async fn applied_in_sqlite(connection: &mut SqliteConnection) -> Result<Vec<i64>, sqlx::Error> {
    let table = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(table).fetch_one(&mut *connection).await? == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(APPLIED).fetch_all(connection).await
}

const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success";

async fn migrate_postgres(connection: &mut PgConnection, steps: &Migrator) -> Result<(), StoreError> {
    if is_current(steps, in_time(applied_in_postgres(connection)).await?)? {
        return Ok(());
    }
    let mut tx = in_time(connection.begin()).await?;
    in_time(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx)).await?;
    if !is_current(steps, in_time(applied_in_postgres(&mut tx)).await?)? {
        tolerant(steps).run_direct(None, &mut *tx, false).await?;
    }
    in_time(tx.commit()).await
}

pub(super) async fn applied_in_postgres(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let table = "SELECT count(*) FROM pg_tables \
                 WHERE schemaname = current_schema() AND tablename = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(table).fetch_one(&mut *connection).await? == 0 {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(APPLIED).fetch_all(connection).await
}

/// Whether no step is missing.
///
/// # Errors
/// If more than one step is unknown. A program works with a schema that is one step newer, so that it can be rolled back.
pub(super) fn is_current(steps: &Migrator, applied: Vec<i64>) -> Result<bool, StoreError> {
    let unknown = applied.iter().filter(|version| !steps.version_exists(**version)).count();
    if unknown > 1 {
        return Err(StoreError::Future { unknown });
    }
    Ok(steps.iter().all(|step| applied.contains(&step.version)))
}

/// The same steps, not minding one that is newer. The transaction around them is the lock.
fn tolerant(steps: &Migrator) -> Migrator {
    Migrator {
        migrations: steps.migrations.clone(),
        ignore_missing: true,
        locking: false,
        ..Migrator::DEFAULT
    }
}

/// The secret of this database, which the first process makes.
async fn secret(db: &Db) -> Result<String, StoreError> {
    const READ: &str = "SELECT value FROM meta WHERE name = 'secret'";
    if let Some((secret,)) = db.fetch::<(String,)>(READ, values![]).await?.pop() {
        return Ok(secret);
    }
    let bytes: [u8; 32] = rand::random();
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    const WRITE: &str = "INSERT INTO meta (name, value) VALUES ('secret', $1) ON CONFLICT (name) DO NOTHING";
    db.execute(WRITE, values![secret]).await?;
    let rows = db.fetch::<(String,)>(READ, values![]).await?;
    rows.into_iter().next().map(|(secret,)| secret).ok_or(StoreError::NotConnected)
}
