//! Calls whose process is dead: they are closed, as broken off if they had not ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use sqlx::FromRow;
use tokio::task::spawn_blocking;

use super::ask;
use super::call::{self, Call, Owner};
use super::db::values;
use super::error::StoreError;
use super::messages::{self, Message};
use super::open::Ready;
use crate::provider::prices::Prices;
use crate::record::{CallRecord, Recorder};

/// A process is dead if it has not said for so long that it lives. It says so every ten seconds.
pub const DEAD_MS: i64 = 30_000;
/// Then nothing is left to close, and it is forgotten.
const FORGOTTEN_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(FromRow)]
struct Orphan {
    id: String,
    caller_key: Option<String>,
    numberless: i64,
    keep_until_ms: Option<i64>,
}

/// Which processes are dead. A process says that it lives whenever it writes, so one that never did is dead in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dead {
    /// No others. After an outage those that live need a moment to say so.
    Unheard,
    /// Those that said nothing since then, in milliseconds by the database's clock.
    Before(i64),
    /// Those that were silent for [`DEAD_MS`].
    Silent,
}

/// What the owner gets once a call was closed for a dead process: messages, each with an id that is always the same.
pub type Closed = Arc<dyn Fn(&CallRecord) -> Vec<Message> + Send + Sync>;

/// Who closes calls, and how.
pub struct Sweeper<'a> {
    pub ready: &'a Ready,
    pub process: &'a str,
    pub prices: Arc<Prices>,
    pub closed: Option<Closed>,
}

/// Closes the calls of dead processes. Returns how many.
pub async fn sweep(sweeper: Sweeper<'_>, dead: Dead) -> Result<u64, StoreError> {
    let Sweeper { ready, process, .. } = sweeper;
    let now = ready.db.now();
    let heard = match dead {
        Dead::Unheard => "0".to_owned(),
        Dead::Before(ms) => ms.to_string(),
        Dead::Silent => format!("{now} - {DEAD_MS}"),
    };
    let orphans = format!(
        "SELECT id, caller_key, numberless, keep_until_ms FROM calls WHERE owner IS NOT NULL AND owner <> $1 \
         AND owner NOT IN (SELECT id FROM processes WHERE beat_ms > {heard})"
    );
    let orphans = ready.db.fetch::<Orphan>(orphans, values![process]).await?;
    let mut closed = 0;
    for orphan in orphans {
        let id = orphan.id.clone();
        match close(&sweeper, orphan).await {
            Ok(is_closed) => closed += u64::from(is_closed),
            // It must not keep the others open.
            Err(why @ (StoreError::Unfit(_) | StoreError::Refused(_))) => {
                tracing::warn!(id, %why, "A call whose process ended before it cannot be closed");
            }
            Err(why) => return Err(why),
        }
    }
    let forget = format!("DELETE FROM processes WHERE beat_ms < {now} - {FORGOTTEN_MS}");
    ready.db.execute(forget, values![]).await?;
    Ok(closed)
}

/// Closes a call, unless another process has.
async fn close(sweeper: &Sweeper<'_>, orphan: Orphan) -> Result<bool, StoreError> {
    let Sweeper { ready, process, prices, closed } = sweeper;
    let recorder = Recorder::new(orphan.id.as_str().into()).priced(prices.clone());
    let Some(mut recorder) = ask::fold(ready, recorder).await? else { return Ok(false) };
    // One that had ended keeps its reason: only what was to follow is missing.
    recorder.break_off(recorder.record().seconds);
    let record = recorder.record();
    let caller_key = orphan.caller_key.clone();
    let owner = Owner::read(orphan.caller_key, orphan.numberless != 0);
    let call = Call::of(&record, owner, orphan.keep_until_ms);
    let text = serde_json::to_string(&record).map_err(|why| StoreError::Unfit(why.to_string()))?;
    let mut tx = ready.db.begin().await?;
    // The process may be alive after all, and have ended the call; what it writes later counts, too.
    let mine = "UPDATE calls SET owner = $1 WHERE id = $2 AND reason IS NULL";
    if tx.execute(mine, values![*process, orphan.id]).await? == 0 {
        return Ok(false);
    }
    call::finish(&mut tx, &[(call, &text)]).await?;
    // With it, so that a call is closed once, and what follows is told once.
    for message in closed.as_ref().map(|closed| closed(&record)).unwrap_or_default() {
        messages::put(&mut tx, ready, &message, caller_key.clone()).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Marks the file as in use by a process that serves, until the returned file is closed. If nobody else serves with it,
/// all processes are dead that were heard of before.
pub async fn claim(ready: &Ready, database: &Path) -> Result<(File, Dead), StoreError> {
    // Before the lock: whoever takes it later is heard of later, too.
    let now = format!("SELECT {}", ready.db.now());
    let now = ready.db.fetch::<(i64,)>(now, values![]).await?.pop();
    let mut name = database.as_os_str().to_owned();
    name.push("-serving");
    let locked = spawn_blocking(move || lock(Path::new(&name))).await.map_err(io::Error::other).flatten();
    let (file, alone) = locked.map_err(|why| StoreError::Refused(why.to_string()))?;
    let dead = now.filter(|_| alone).map_or(Dead::Unheard, |(ms,)| Dead::Before(ms));
    Ok((file, dead))
}

/// Locks the file for this process beside others. The truth value says whether there are none.
fn lock(path: &Path) -> io::Result<(File, bool)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.lock_shared()?;
    let alone = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(why)) => return Err(why),
    };
    // Even an attempt that failed gives up the shared lock. Others hold it alone for a moment only.
    file.lock_shared()?;
    Ok((file, alone))
}
