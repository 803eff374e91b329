//! What is removed: all of one caller, or what is too old.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::ask;
use super::call::{Owner, key};
use super::db::{Db, values};
use super::error::StoreError;
use super::message_files::MessageFiles;
use super::messages;
use super::open::Ready;
use super::spill;
use super::{Erased, Left, Remains};
use crate::phone::PhoneNumber;
use crate::record::What;

/// So many calls are purged in one transaction.
const AT_ONCE: u32 = 500;

/// Removes a caller's calls. Nothing of them is left in the database's files.
pub async fn erase(ready: &Ready, caller: &PhoneNumber) -> Result<Erased, StoreError> {
    let key = key(&ready.secret, caller);
    let now = ready.db.now();
    // From now on nothing of the caller is written: calls that run, and what waits in memory or in files.
    let sql = format!(
        "INSERT INTO erasures (caller_key, erased_ms) VALUES ($1, {now}) \
         ON CONFLICT (caller_key) DO UPDATE SET erased_ms = {now}"
    );
    ready.db.execute(sql, values![key.clone()]).await?;
    let mut paths = Vec::new();
    let running = "SELECT id FROM calls WHERE caller_key = $1 AND reason IS NULL";
    for (id,) in ready.db.fetch::<(String,)>(running, values![key.clone()]).await? {
        paths.extend(recordings(ready, &id).await?);
    }
    let mut tx = ready.db.begin().await?;
    if let Db::Postgres(_) = ready.db {
        // Until those end that began to write before; SQLite has one writer anyway.
        tx.execute("LOCK TABLE calls IN SHARE ROW EXCLUSIVE MODE", values![]).await?;
    }
    let rows = tx
        .fetch::<(Option<String>,)>("SELECT recording FROM calls WHERE caller_key = $1", values![key.clone()])
        .await?;
    let calls = tx.execute("DELETE FROM calls WHERE caller_key = $1", values![key.clone()]).await?;
    let messages = messages::erase(&mut tx, &key).await?;
    let unknown = tx.fetch::<(i64,)>("SELECT count(*) FROM calls WHERE numberless <> 0", values![]).await?;
    tx.commit().await?;
    // From here on nothing may fail: nobody else knows the paths any more.
    let mut left = Vec::new();
    if let Err(why) = scrub(&ready.db).await {
        left.push(Left { what: Remains::DatabaseFiles, why: why.to_string() });
    }
    paths.extend(rows.into_iter().filter_map(|(path,)| path));
    paths.sort();
    paths.dedup();
    let unknown = unknown.first().map_or(0, |(count,)| u64::try_from(*count).unwrap_or(0));
    Ok(Erased { calls, recordings: paths.len() as u64, messages, unknown, paths, left })
}

/// Removes one call that is over, and the messages of it.
pub async fn call(ready: &Ready, id: &str) -> Result<Erased, StoreError> {
    let mut tx = ready.db.begin().await?;
    let select = "SELECT call_sid, recording FROM calls WHERE id = $1 AND reason IS NOT NULL";
    let found = tx.fetch::<(String, Option<String>)>(select, values![id]).await?.pop();
    let Some((sid, recording)) = found else { return Ok(Erased::default()) };
    let calls = tx.execute("DELETE FROM calls WHERE id = $1", values![id]).await?;
    let messages = tx.execute("DELETE FROM messages WHERE call_sid = $1", values![sid]).await?;
    tx.commit().await?;
    let mut left = Vec::new();
    if let Err(why) = scrub(&ready.db).await {
        left.push(Left { what: Remains::DatabaseFiles, why: why.to_string() });
    }
    let paths: Vec<String> = recording.into_iter().collect();
    Ok(Erased { calls, recordings: paths.len() as u64, messages, unknown: 0, paths, left })
}

/// The files beside the database that hold what belongs to callers.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The folder of [`super::Options::spill`].
    pub waiting: Option<PathBuf>,
    /// The folder `messages` of STATE_DIR.
    pub messages: Option<MessageFiles>,
}

impl Files {
    /// Removes all that belongs to a caller where there is no database, but for the files of recordings.
    pub async fn erase(&self, caller: &PhoneNumber) -> Erased {
        let mut erased = Erased::default();
        if self.erase_too(caller, None, &mut erased).await {
            let why = "a server that runs has them in its files: end it, and run this again";
            erased.left.push(Left { what: Remains::WaitingFiles, why: why.to_owned() });
        }
        erased
    }

    /// Adds to what was erased what is erased here. Returns whether a living process has more.
    pub(super) async fn erase_too(
        &self,
        caller: &PhoneNumber,
        secret: Option<&str>,
        erased: &mut Erased,
    ) -> bool {
        let mut is_held = false;
        if let Some(folder) = self.waiting.clone() {
            match erase_waiting(caller, secret, folder).await {
                Ok(found) => {
                    erased.calls += found.calls.len() as u64;
                    erased.paths.extend(found.recordings);
                    erased.paths.sort();
                    erased.paths.dedup();
                    erased.recordings = erased.paths.len() as u64;
                    is_held = found.is_held;
                }
                Err(why) => erased.left.push(Left { what: Remains::WaitingFiles, why: why.to_string() }),
            }
        }
        if let Some(files) = self.messages.clone() {
            let caller = caller.clone();
            let done = spawn_blocking(move || files.erase(&caller)).await;
            match done.map_err(io::Error::other).flatten() {
                Ok(messages) => erased.messages += messages,
                Err(why) => erased.left.push(Left { what: Remains::MessageFiles, why: why.to_string() }),
            }
        }
        is_held
    }
}

/// Removes a caller from the files of what waits, as far as no living process has them.
async fn erase_waiting(
    caller: &PhoneNumber,
    secret: Option<&str>,
    folder: PathBuf,
) -> io::Result<spill::Found> {
    let mut keys: Vec<String> = secret.map(|secret| key(secret, caller)).into_iter().collect();
    let caller = caller.clone();
    let erased = spawn_blocking(move || {
        keys.extend(spill::secret(&folder).map(|secret| key(&secret, &caller)));
        spill::erase(&folder, |owner: &Owner, from: Option<&str>| {
            matches!(owner, Owner::Key(of) if keys.contains(of)) || from == Some(caller.expose())
        })
    });
    erased.await.map_err(io::Error::other).flatten()
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
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            let done = db.fetch::<(i64, i64, i64)>(checkpoint, values![]).await?;
            // The first is whether others were in the way.
            if done.iter().any(|(busy, ..)| *busy != 0) { Err(StoreError::Locked) } else { Ok(()) }
        }
        Db::Postgres(_) => db.vacuum().await,
    }
}

/// Removes messages and some calls that were kept for long enough: few at a time, so that nobody waits long for it. Returns
/// how many calls, and where their recordings are. No calls: that was all.
pub async fn purge(ready: &Ready, now: Timestamp) -> Result<(u64, Vec<String>), StoreError> {
    let now_ms = now.as_millisecond();
    let mut tx = ready.db.begin().await?;
    messages::purge(&mut tx, now_ms).await?;
    let old = format!(
        "SELECT id FROM calls WHERE keep_until_ms < $1 AND reason IS NOT NULL ORDER BY keep_until_ms, id LIMIT {AT_ONCE}"
    );
    let sql = format!("SELECT recording FROM calls WHERE recording IS NOT NULL AND id IN ({old})");
    let paths = tx.fetch::<(String,)>(sql, values![now_ms]).await?;
    let count = tx.execute(format!("DELETE FROM calls WHERE id IN ({old})"), values![now_ms]).await?;
    // By then nothing of an erased caller is on its way any more.
    let week = 7 * 24 * 60 * 60 * 1000;
    tx.execute("DELETE FROM erasures WHERE erased_ms < $1", values![now_ms - week]).await?;
    tx.commit().await?;
    Ok((count, paths.into_iter().map(|(path,)| path).collect()))
}
