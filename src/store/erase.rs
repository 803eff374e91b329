//! What is removed: all of one caller, or what is too old.

use jiff::Timestamp;

use super::Erased;
use super::ask;
use super::call::key;
use super::db::{Db, Tx, values};
use super::error::StoreError;
use super::open::Ready;
use crate::phone::PhoneNumber;
use crate::record::What;

/// So many calls are purged in one transaction, so that nobody waits long for it.
const AT_ONCE: u32 = 500;

/// Removes a caller's calls. Nothing of them is left in the database's files.
pub async fn erase(ready: &Ready, caller: &PhoneNumber) -> Result<Erased, StoreError> {
    let key = key(&ready.secret, caller);
    let running = "SELECT id FROM calls WHERE caller_key = $1 AND reason IS NULL";
    let mut paths = Vec::new();
    for (id,) in ready.db.fetch::<(String,)>(running, values![key.clone()]).await? {
        paths.extend(recordings(ready, &id).await?);
    }
    let mut tx = ready.db.begin().await?;
    let kept = "SELECT recording FROM calls WHERE caller_key = $1 AND recording IS NOT NULL";
    let rows = tx.fetch::<(String,)>(kept, values![key.clone()]).await?;
    paths.extend(rows.into_iter().map(|(path,)| path));
    let ids: Vec<(String,)> =
        tx.fetch("SELECT id FROM calls WHERE caller_key = $1", values![key.clone()]).await?;
    let calls = tx.execute("DELETE FROM calls WHERE caller_key = $1", values![key]).await?;
    let unknown = tx.fetch::<(i64,)>("SELECT count(*) FROM calls WHERE numberless <> 0", values![]).await?;
    tx.commit().await?;
    scrub(&ready.db).await?;
    paths.sort();
    paths.dedup();
    Ok(Erased {
        calls,
        recordings: paths.len() as u64,
        messages: 0,
        unknown: unknown.first().map_or(0, |(count,)| *count as u64),
        paths,
        ids: ids.into_iter().map(|(id,)| id.as_str().into()).collect(),
    })
}

/// The recordings that a call began which runs.
async fn recordings(ready: &Ready, id: &str) -> Result<Vec<String>, StoreError> {
    let entries = ask::entries(ready, id).await?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| match entry.what {
            What::Recording { path } => Some(path),
            _ => None,
        })
        .collect())
}

/// Removes from the files what was deleted in the database.
async fn scrub(db: &Db) -> Result<(), StoreError> {
    match db {
        // `secure_delete` overwrote it in the database; the log still has it.
        Db::Sqlite(_) => {
            db.fetch::<(i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)", values![]).await.map(drop)
        }
        Db::Postgres(_) => db.vacuum().await,
    }
}

/// Removes calls that were kept for long enough. Returns how many, and where their recordings are.
pub async fn purge(ready: &Ready, now: Timestamp) -> Result<(u64, Vec<String>), StoreError> {
    let (mut calls, mut paths) = (0, Vec::new());
    loop {
        let mut tx = ready.db.begin().await?;
        let (count, more) = purge_some(&mut tx, now.as_millisecond()).await?;
        tx.commit().await?;
        calls += count;
        paths.extend(more);
        if count < u64::from(AT_ONCE) {
            return Ok((calls, paths));
        }
    }
}

async fn purge_some(tx: &mut Tx, now_ms: i64) -> Result<(u64, Vec<String>), StoreError> {
    let old = format!(
        "SELECT id FROM calls WHERE keep_until_ms < $1 AND owner IS NULL ORDER BY keep_until_ms LIMIT {AT_ONCE}"
    );
    let sql = format!("SELECT recording FROM calls WHERE recording IS NOT NULL AND id IN ({old})");
    let paths = tx.fetch::<(String,)>(sql, values![now_ms]).await?;
    let count = tx.execute(format!("DELETE FROM calls WHERE id IN ({old})"), values![now_ms]).await?;
    Ok((count, paths.into_iter().map(|(path,)| path).collect()))
}
