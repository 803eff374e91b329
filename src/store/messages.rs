//! Messages for owners: those that wait for their delivery, and what became of the others.
//!
//! Any number of processes deliver from one store. One claims a message for a while before it delivers it; if it dies,
//! another claims it after that. So each message is delivered at least once, and rarely twice. All times are by the
//! database's clock.

use std::time::Duration;

use sqlx::FromRow;

use super::Store;
use super::call::key;
use super::db::{Tx, values};
use super::error::StoreError;
use super::open::Ready;
use crate::phone::PhoneNumber;

/// How many messages may wait for their delivery.
pub const MAX_WAITING: u32 = 10_000;
/// The longest that anything is kept: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A message, as an assistant took it. It has no address and no secret.
#[derive(Clone)]
pub struct Message {
    pub id: String,
    /// The call's SID. `None` if it is not known.
    pub call: Option<String>,
    pub assistant: String,
    /// The store keeps a keyed hash of it.
    pub caller: Option<PhoneNumber>,
    /// Seconds since 1970.
    pub taken: u64,
    /// What is delivered, byte for byte: a signature covers it.
    pub body: String,
    /// For how long it is kept once nothing more is tried.
    pub keep: Duration,
}

/// What is to become of a message, or became of it. An error is a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Waiting,
    GivenUp { error: String },
    Delivered,
}

/// Messages of one assistant that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub assistant: String,
    /// When the first of them can be claimed.
    pub due_in: Duration,
}

/// A message that this process delivers.
#[derive(Clone, FromRow)]
pub struct Claimed {
    pub id: String,
    /// Milliseconds since 1970.
    pub taken_ms: i64,
    pub body: String,
    /// This one included.
    pub attempts: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// What became of an attempt. An error is a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    Failed { error: String, pause: Duration },
    GivenUp { error: String },
}

impl Store {
    /// Whether what is written outlasts the process.
    pub fn is_durable(&self) -> bool {
        self.ready().is_ok_and(|ready| ready.durable)
    }

    /// Takes a message. It is on the disk when this returns. One that is there already stays as it is, unless it waits and
    /// this says what became of it. False: too many wait.
    pub async fn put_message(&self, message: &Message, fate: &Fate) -> Result<bool, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let key = message.caller.as_ref().map(|caller| key(&ready.secret, caller));
        let (state, key, body, error) = match fate {
            Fate::Waiting => ("waiting", key, message.body.as_str(), None),
            Fate::GivenUp { error } => ("given_up", key, message.body.as_str(), Some(error.clone())),
            Fate::Delivered => ("delivered", None, "", None),
        };
        let sql = format!(
            "INSERT INTO messages (id, call_sid, assistant, caller_key, taken_ms, body, state, attempts, next_ms, \
                 claimed_until_ms, error, keep_ms, keep_until_ms) \
             SELECT $1, $2, $3, $4, $5, $6, $7, 0, {now}, 0, $8, $9, CASE WHEN $7 = 'waiting' THEN NULL ELSE {now} + $9 END \
             WHERE $7 <> 'waiting' OR (SELECT count(*) FROM messages WHERE state = 'waiting') < {MAX_WAITING} \
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, caller_key = excluded.caller_key, \
                 body = excluded.body, error = excluded.error, keep_until_ms = excluded.keep_until_ms \
             WHERE messages.state = 'waiting' AND excluded.state <> 'waiting'"
        );
        let values = values![
            message.id.as_str(),
            message.call.clone(),
            message.assistant.as_str(),
            key,
            taken_ms(message),
            body,
            state,
            error,
            ms(message.keep.min(LONGEST)),
        ];
        if ready.db.execute_on_disk(sql, values).await? > 0 {
            return Ok(true);
        }
        let there = "SELECT state FROM messages WHERE id = $1";
        Ok(!ready.db.fetch::<(String,)>(there, values![message.id.as_str()]).await?.is_empty())
    }

    /// Whether the caller was erased after this message was taken.
    pub async fn was_erased(&self, message: &Message) -> Result<bool, StoreError> {
        let ready = self.ready()?;
        let Some(caller) = &message.caller else { return Ok(false) };
        let sql = "SELECT erased_ms FROM erasures WHERE caller_key = $1 AND erased_ms >= $2";
        let values = values![key(&ready.secret, caller), taken_ms(message)];
        Ok(!ready.db.fetch::<(i64,)>(sql, values).await?.is_empty())
    }

    /// Whose messages wait, and for how long.
    pub async fn waiting_messages(&self) -> Result<Vec<Waiting>, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let sql = format!(
            "SELECT assistant, min(CASE WHEN next_ms > claimed_until_ms THEN next_ms ELSE claimed_until_ms END) - {now} \
             FROM messages WHERE state = 'waiting' GROUP BY assistant"
        );
        let rows = ready.db.fetch::<(String, i64)>(sql, values![]).await?;
        let waiting = |(assistant, due): (String, i64)| Waiting {
            assistant,
            due_in: Duration::from_millis(due.try_into().unwrap_or(0)),
        };
        Ok(rows.into_iter().map(waiting).collect())
    }

    /// Makes every message that waits due, unless a process delivers it. Returns how many wait.
    pub async fn hurry_messages(&self) -> Result<u64, StoreError> {
        let ready = self.ready()?;
        let sql = format!("UPDATE messages SET next_ms = {} WHERE state = 'waiting'", ready.db.now());
        ready.db.execute(sql, values![]).await
    }

    /// Claims at most `most` messages of an assistant that are due. Nobody else gets them before `lease` is over.
    pub async fn claim_messages(
        &self,
        assistant: &str,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        // The conditions outside are for another process that has just claimed the same.
        let sql = format!(
            "UPDATE messages SET claimed_until_ms = {now} + $2, attempts = attempts + 1 \
             WHERE id IN (SELECT id FROM messages WHERE state = 'waiting' AND assistant = $1 AND next_ms <= {now} \
                 AND claimed_until_ms <= {now} ORDER BY next_ms LIMIT {most}) \
             AND state = 'waiting' AND claimed_until_ms <= {now} \
             RETURNING id, taken_ms, body, attempts, error"
        );
        ready.db.fetch(sql, values![assistant, ms(lease)]).await
    }

    /// Writes down what became of an attempt. A failure counts only if nobody else has claimed the message since.
    /// Nothing that the caller said is left of one that was delivered.
    pub async fn settle_message(&self, claimed: &Claimed, attempt: &Attempt) -> Result<(), StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let mut values = values![claimed.id.as_str()];
        let set = match attempt {
            Attempt::Delivered => format!(
                "state = 'delivered', body = '', caller_key = NULL, error = NULL, keep_until_ms = {now} + keep_ms \
                 WHERE id = $1"
            ),
            Attempt::Failed { error, pause } => {
                values.extend(values![claimed.attempts, error.as_str(), ms(*pause)]);
                format!("next_ms = {now} + $4, claimed_until_ms = 0, error = $3 {STILL_OURS}")
            }
            Attempt::GivenUp { error } => {
                values.extend(values![claimed.attempts, error.as_str()]);
                format!("state = 'given_up', error = $3, keep_until_ms = {now} + keep_ms {STILL_OURS}")
            }
        };
        ready.db.execute(format!("UPDATE messages SET {set}"), values).await.map(drop)
    }
}

const STILL_OURS: &str = "WHERE id = $1 AND attempts = $2 AND state = 'waiting'";

/// Takes a message in a transaction. One that is there already stays as it is. The caller is known by the hash only.
pub async fn put(
    tx: &mut Tx,
    ready: &Ready,
    message: &Message,
    caller_key: Option<String>,
) -> Result<(), StoreError> {
    let now = ready.db.now();
    let sql = format!(
        "INSERT INTO messages (id, call_sid, assistant, caller_key, taken_ms, body, state, attempts, next_ms, \
             claimed_until_ms, keep_ms) VALUES ($1, $2, $3, $4, $5, $6, 'waiting', 0, {now}, 0, $7) \
         ON CONFLICT (id) DO NOTHING"
    );
    let values = values![
        message.id.as_str(),
        message.call.clone(),
        message.assistant.as_str(),
        caller_key,
        taken_ms(message),
        message.body.as_str(),
        ms(message.keep.min(LONGEST)),
    ];
    tx.execute(sql, values).await.map(drop)
}

/// Removes a caller's messages that were not delivered, and returns how many.
pub async fn erase(tx: &mut Tx, caller_key: &str) -> Result<u64, StoreError> {
    tx.execute("DELETE FROM messages WHERE caller_key = $1", values![caller_key]).await
}

/// Removes messages that were kept for long enough after the last attempt.
pub async fn purge(tx: &mut Tx, now_ms: i64) -> Result<u64, StoreError> {
    tx.execute("DELETE FROM messages WHERE keep_until_ms < $1", values![now_ms]).await
}

fn taken_ms(message: &Message) -> i64 {
    i64::try_from(message.taken.saturating_mul(1000)).unwrap_or(i64::MAX)
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
