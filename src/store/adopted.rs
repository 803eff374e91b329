//! One record for a call that rings at one machine and goes on at another. Both write to the same database, and the call's
//! SID tells that they mean the same.

use serde_json::Map;
use sqlx::FromRow;

use super::db::{Tx, values};
use super::error::StoreError;
use crate::record::{CallRecord, Entry, What};

/// In place of a process: a call that one gave up is nobody's, until the other has it. If that never comes, the call is
/// closed as that of a process that died.
pub const NOBODY: &str = "given up";

/// What the machine knows at which the call rang.
#[derive(FromRow)]
struct Ring {
    id: String,
    caller: Option<String>,
    callee: Option<String>,
    caller_key: Option<String>,
    numberless: i64,
}

/// Gives a call the numbers of its ring, whose own record goes. Its record, if it ended, gets them, too.
pub async fn inherit(tx: &mut Tx, id: &str) -> Result<(), StoreError> {
    const RING: &str = "SELECT id, caller, callee, caller_key, numberless FROM calls WHERE id <> $1 AND call_sid = (SELECT call_sid FROM calls WHERE id = $1) \
         ORDER BY started_ms, id LIMIT 1";
    const GIVE: &str =
        "UPDATE calls SET caller = $1, callee = $2, caller_key = $3, numberless = $4 WHERE id = $5";
    if let Some(ring) = tx.fetch::<Ring>(RING, values![id]).await?.pop() {
        let values = values![ring.caller, ring.callee, ring.caller_key, ring.numberless, id];
        tx.execute(GIVE, values).await?;
        // What was said there before stays.
        if only_rang(tx, &ring.id).await? {
            tx.execute("DELETE FROM calls WHERE id = $1", values![ring.id]).await?;
        }
    }
    let known = "SELECT caller, callee, record FROM calls JOIN records ON call_id = id WHERE id = $1";
    let known = tx.fetch::<(Option<String>, Option<String>, String)>(known, values![id]).await?.pop();
    let Some((caller, callee, text)) = known else { return Ok(()) };
    let unfit = |why: serde_json::Error| StoreError::Unfit(format!("the record of {id}: {why}"));
    let mut record: Map<String, serde_json::Value> = serde_json::from_str(&text).map_err(unfit)?;
    record.insert("from".to_owned(), caller.into());
    record.insert("to".to_owned(), callee.into());
    let text = serde_json::to_string(&record).map_err(unfit)?;
    tx.execute("UPDATE records SET record = $1 WHERE call_id = $2", values![text, id]).await.map(drop)
}

/// Whether no stream of a call had begun when its machine gave it up or died.
async fn only_rang(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let ended = tx.fetch::<(String,)>("SELECT record FROM records WHERE call_id = $1", values![id]).await?;
    if let Some((text,)) = ended.first() {
        let record = serde_json::from_str::<CallRecord>(text);
        return Ok(record.is_ok_and(|it| it.broken_off && it.first_word_ms.is_none() && it.turns.is_empty()));
    }
    let bodies = tx.fetch::<(String,)>("SELECT body FROM entries WHERE call_id = $1", values![id]).await?;
    let is_start = |(body,): &(String,)| {
        matches!(serde_json::from_str(body), Ok(Entry { what: What::Started { .. }, .. }))
    };
    Ok(!bodies.iter().any(is_start))
}

/// A call is not this process's any more. Returns whether it was until now.
pub async fn give_up(tx: &mut Tx, id: &str, process: &str) -> Result<bool, StoreError> {
    let sql = "UPDATE calls SET owner = $1 WHERE id = $2 AND owner = $3 AND reason IS NULL";
    Ok(tx.execute(sql, values![NOBODY, id, process]).await? > 0)
}

/// Removes a call that runs.
pub async fn withdraw(tx: &mut Tx, id: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM calls WHERE id = $1 AND reason IS NULL", values![id]).await.map(drop)
}
