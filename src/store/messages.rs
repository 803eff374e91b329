//! Messages for owners, one for each way to them: those that wait for their delivery, and what became of the others.
//!
//! Any number of processes deliver from one store. One claims a message for a while before it delivers it; if it dies,
//! another claims it after that. So each message is delivered at least once, and rarely twice. A text message is marked
//! before it is sent, and never sent again once that is unclear. All times are by the database's clock.

use std::slice;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::FromRow;

use super::Store;
use super::call::key;
use super::db::{Tx, Value, values};
use super::error::StoreError;
use super::open::Ready;
use crate::notice::{Purpose, Via};
use crate::phone::PhoneNumber;

/// How many messages may wait for their delivery.
pub const MAX_WAITING: u32 = 10_000;
/// The error of a text message that may have been sent.
pub const UNCLEAR: &str = "unclear";
/// The longest that anything is kept: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Of a message that can be claimed. See the migration for why there are two.
const OPEN: &str = "state IN ('waiting', 'queued')";
/// Of a message about which not everything is known.
const UNSETTLED: &str = "state IN ('waiting', 'queued', 'sending')";
/// The state of one that waits again.
const REOPENED: &str = "CASE WHEN purpose = 'message' AND via = 'webhook' THEN 'waiting' ELSE 'queued' END";

/// Whose address a message goes to, and which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Empty: of the server.
    pub assistant: String,
    pub purpose: Purpose,
    pub via: Via,
}

/// A message for one way to its owner. It has no address and no secret.
#[derive(Clone)]
pub struct Message {
    pub id: String,
    /// The call's SID. `None` if it is not known.
    pub call: Option<String>,
    pub to: Recipient,
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

/// Messages to one address that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub to: Recipient,
    /// When the first of them can be claimed.
    pub due_in: Duration,
    /// They are being sent. Once they are due, it is unclear what became of them.
    pub sending: bool,
}

/// A message that this process delivers.
#[derive(Clone, FromRow)]
pub struct Claimed {
    pub id: String,
    /// Milliseconds since 1970.
    pub taken_ms: i64,
    /// Since when it is tried, in milliseconds since 1970.
    pub since_ms: i64,
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

/// A message in a list, without what it says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    pub id: String,
    pub purpose: String,
    pub via: String,
    /// Empty: it is from the server.
    pub assistant: String,
    /// The call's SID.
    pub call: Option<String>,
    pub taken: Timestamp,
    /// `waiting`, `delivered` or `given_up`.
    pub state: String,
    pub attempts: i64,
    /// The next attempt, of one that waits.
    pub next: Option<Timestamp>,
    /// The code of why the last attempt failed.
    pub error: Option<String>,
}

#[derive(FromRow)]
struct Line {
    id: String,
    purpose: String,
    via: String,
    assistant: String,
    call_sid: Option<String>,
    taken_ms: i64,
    state: String,
    attempts: i64,
    due_ms: i64,
    error: Option<String>,
}

impl Store {
    /// Whether what is written outlasts the process.
    pub fn is_durable(&self) -> bool {
        self.ready().is_ok_and(|ready| ready.durable)
    }

    /// [`Self::put_messages`] with one.
    pub async fn put_message(&self, message: &Message, fate: &Fate) -> Result<bool, StoreError> {
        self.put_messages(slice::from_ref(message), fate).await
    }

    /// Takes messages: all or none. They are on the disk when this returns. One that is there already stays as it is,
    /// unless it waits and this says what became of it. False: too many wait.
    pub async fn put_messages(&self, messages: &[Message], fate: &Fate) -> Result<bool, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let mut values = Vec::new();
        let mut rows = Vec::new();
        for message in messages {
            let first = values.len();
            let caller = message.caller.as_ref().map(|caller| key(&ready.secret, caller));
            values.extend(row(message, fate, caller));
            rows.push((first + 1..=values.len()).map(|at| format!("${at}")).collect::<Vec<_>>().join(", "));
        }
        let Some((first, rest)) = rows.split_first() else { return Ok(true) };
        let rest: String = rest.iter().map(|row| format!(" UNION ALL SELECT {row}")).collect();
        let sql = format!(
            "WITH given ({COLUMNS}) AS (SELECT {first}{rest}) \
             INSERT INTO messages ({COLUMNS}, attempts, next_ms, claimed_until_ms, keep_until_ms) \
             SELECT {COLUMNS}, 0, {now}, 0, CASE WHEN {OPEN} THEN NULL ELSE {now} + keep_ms END FROM given \
             WHERE NOT {OPEN} OR (SELECT count(*) FROM messages WHERE {UNSETTLED}) < {MAX_WAITING} \
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, caller_key = excluded.caller_key, \
                 body = excluded.body, error = excluded.error, keep_until_ms = excluded.keep_until_ms \
             WHERE messages.{UNSETTLED} AND NOT excluded.{OPEN}"
        );
        if ready.db.execute_on_disk(sql, values).await? > 0 {
            return Ok(true);
        }
        let there = "SELECT state FROM messages WHERE id = $1";
        let first = messages.first().map_or("", |message| message.id.as_str());
        Ok(!ready.db.fetch::<(String,)>(there, values![first]).await?.is_empty())
    }

    /// Whether the caller was erased after this message was taken.
    pub async fn was_erased(&self, message: &Message) -> Result<bool, StoreError> {
        let ready = self.ready()?;
        let Some(caller) = &message.caller else { return Ok(false) };
        let sql = "SELECT erased_ms FROM erasures WHERE caller_key = $1 AND erased_ms >= $2";
        let values = values![key(&ready.secret, caller), taken_ms(message)];
        Ok(!ready.db.fetch::<(i64,)>(sql, values).await?.is_empty())
    }

    /// To whom messages wait, and for how long.
    pub async fn waiting_messages(&self) -> Result<Vec<Waiting>, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let sql = format!(
            "SELECT assistant, purpose, via, CAST(CASE WHEN state = 'sending' THEN 1 ELSE 0 END AS BIGINT) AS sending, \
                 min({DUE}) - {now} \
             FROM messages WHERE {UNSETTLED} GROUP BY assistant, purpose, via, sending"
        );
        let rows = ready.db.fetch::<(String, String, String, i64, i64)>(sql, values![]).await?;
        let waiting = |(assistant, purpose, via, sending, due): (String, String, String, i64, i64)| {
            // A newer version may know more of them.
            let (purpose, via) = (Purpose::from_code(&purpose)?, Via::from_code(&via)?);
            Some(Waiting {
                to: Recipient { assistant, purpose, via },
                due_in: Duration::from_millis(due.try_into().unwrap_or(0)),
                sending: sending != 0,
            })
        };
        Ok(rows.into_iter().filter_map(waiting).collect())
    }

    /// Makes every message that waits due, unless a process delivers it. Returns how many wait.
    pub async fn hurry_messages(&self) -> Result<u64, StoreError> {
        let ready = self.ready()?;
        let sql = format!("UPDATE messages SET next_ms = {} WHERE {OPEN}", ready.db.now());
        ready.db.execute(sql, values![]).await
    }

    /// Claims at most `most` messages to an address that are due. Nobody else gets them before `lease` is over.
    pub async fn claim_messages(
        &self,
        to: &Recipient,
        most: usize,
        lease: Duration,
    ) -> Result<Vec<Claimed>, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        // The conditions outside are for another process that has just claimed the same.
        let sql = format!(
            "UPDATE messages SET claimed_until_ms = {now} + $2, attempts = attempts + 1 \
             WHERE id IN (SELECT id FROM messages WHERE {OPEN} AND assistant = $1 AND purpose = $3 AND via = $4 \
                 AND next_ms <= {now} AND claimed_until_ms <= {now} ORDER BY next_ms LIMIT {most}) \
             AND {OPEN} AND claimed_until_ms <= {now} \
             RETURNING id, taken_ms, coalesce(retried_ms, taken_ms) AS since_ms, body, attempts, error"
        );
        let values = values![to.assistant.as_str(), ms(lease), to.purpose.code(), to.via.code()];
        ready.db.fetch(sql, values).await
    }

    /// Marks a message as one that is being sent, and may have been from now on. False: it is not ours any more.
    pub async fn mark_sending(&self, claimed: &Claimed) -> Result<bool, StoreError> {
        let ready = self.ready()?;
        let sql = format!("UPDATE messages SET state = 'sending' WHERE id = $1 AND attempts = $2 AND {OPEN}");
        let values = values![claimed.id.as_str(), claimed.attempts];
        Ok(ready.db.execute_on_disk(sql, values).await? > 0)
    }

    /// Gives up on messages whose process died while it sent them. Returns their ids, and to whom they were.
    pub async fn give_up_unclear(&self) -> Result<Vec<(String, Recipient)>, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let sql = format!(
            "UPDATE messages SET state = 'given_up', error = '{UNCLEAR}', keep_until_ms = {now} + keep_ms \
             WHERE state = 'sending' AND claimed_until_ms <= {now} RETURNING id, assistant, purpose, via"
        );
        let rows = ready.db.fetch::<(String, String, String, String)>(sql, values![]).await?;
        let given_up = |(id, assistant, purpose, via): (String, String, String, String)| {
            let (purpose, via) = (Purpose::from_code(&purpose)?, Via::from_code(&via)?);
            Some((id, Recipient { assistant, purpose, via }))
        };
        Ok(rows.into_iter().filter_map(given_up).collect())
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
                format!(
                    "state = {REOPENED}, next_ms = {now} + $4, claimed_until_ms = 0, error = $3 \
                     WHERE {STILL_OURS} AND {UNSETTLED}"
                )
            }
            Attempt::GivenUp { error } => {
                values.extend(values![claimed.attempts, error.as_str()]);
                format!(
                    "state = 'given_up', error = $3, keep_until_ms = {now} + keep_ms \
                     WHERE {STILL_OURS} AND {UNSETTLED}"
                )
            }
        };
        ready.db.execute(format!("UPDATE messages SET {set}"), values).await.map(drop)
    }

    /// The newest messages first, at most `limit`. `state` is one of those of [`Listed`]; `None`: any.
    pub async fn messages(&self, state: Option<&str>, limit: u32) -> Result<Vec<Listed>, StoreError> {
        let ready = self.ready()?;
        let (condition, values) = match state {
            None => ("1 = 1", values![]),
            Some("waiting") => (UNSETTLED, values![]),
            Some(state) => ("state = $1", values![state]),
        };
        let sql = format!(
            "SELECT id, purpose, via, assistant, call_sid, taken_ms, state, attempts, {DUE} AS due_ms, error \
             FROM messages WHERE {condition} ORDER BY taken_ms DESC, id LIMIT {limit}"
        );
        let lines = ready.db.fetch::<Line>(sql, values).await?;
        Ok(lines.into_iter().map(Listed::from).collect())
    }

    /// What is delivered of a message; empty once it was. `None`: there is no such message.
    pub async fn message_body(&self, id: &str) -> Result<Option<String>, StoreError> {
        let ready = self.ready()?;
        let found =
            ready.db.fetch::<(String,)>("SELECT body FROM messages WHERE id = $1", values![id]).await?;
        Ok(found.into_iter().next().map(|(body,)| body))
    }

    /// Tries messages again that were given up, and those by their ids that wait, for another three days. Without ids:
    /// all that were given up, except text messages that may have been sent. Returns how many.
    pub async fn retry_messages(&self, ids: &[String]) -> Result<u64, StoreError> {
        let ready = self.ready()?;
        let now = ready.db.now();
        let values: Vec<Value> = ids.iter().map(|id| Value::from(id.as_str())).collect();
        let meant = if ids.is_empty() {
            format!("state = 'given_up' AND NOT (via = 'sms' AND coalesce(error, '') = '{UNCLEAR}')")
        } else {
            let ids: Vec<String> = (1..=ids.len()).map(|at| format!("${at}")).collect();
            format!("id IN ({}) AND (state = 'given_up' OR {OPEN})", ids.join(", "))
        };
        let sql = format!(
            "UPDATE messages SET state = {REOPENED}, next_ms = {now}, retried_ms = {now}, keep_until_ms = NULL, \
                 claimed_until_ms = CASE WHEN state = 'given_up' THEN 0 ELSE claimed_until_ms END \
             WHERE {meant}"
        );
        ready.db.execute(sql, values).await
    }
}

/// What a row is put in with, in the order of [`row`].
const COLUMNS: &str =
    "id, call_sid, assistant, purpose, via, caller_key, taken_ms, body, state, error, keep_ms";
const STILL_OURS: &str = "id = $1 AND attempts = $2";
/// When a message can be claimed.
const DUE: &str = "CASE WHEN next_ms > claimed_until_ms THEN next_ms ELSE claimed_until_ms END";

fn row(message: &Message, fate: &Fate, caller: Option<String>) -> Vec<Value> {
    let Recipient { assistant, purpose, via } = &message.to;
    let waiting = match (purpose, via) {
        (Purpose::Message, Via::Webhook) => "waiting",
        _ => "queued",
    };
    let (state, caller, body, error) = match fate {
        Fate::Waiting => (waiting, caller, message.body.as_str(), None),
        Fate::GivenUp { error } => ("given_up", caller, message.body.as_str(), Some(error.clone())),
        Fate::Delivered => ("delivered", None, "", None),
    };
    values![
        message.id.as_str(),
        message.call.clone(),
        assistant.as_str(),
        purpose.code(),
        via.code(),
        caller,
        taken_ms(message),
        body,
        state,
        error,
        ms(message.keep.min(LONGEST)),
    ]
}

impl From<Line> for Listed {
    fn from(line: Line) -> Self {
        let time = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        let waits = matches!(line.state.as_str(), "waiting" | "queued" | "sending");
        Self {
            id: line.id,
            purpose: line.purpose,
            via: line.via,
            assistant: line.assistant,
            call: line.call_sid,
            taken: time(line.taken_ms),
            state: if waits { "waiting".to_owned() } else { line.state },
            attempts: line.attempts,
            next: waits.then(|| time(line.due_ms)),
            error: line.error,
        }
    }
}

/// Takes a message in a transaction. One that is there already stays as it is. The caller is known by the hash only.
pub async fn put(
    tx: &mut Tx,
    ready: &Ready,
    message: &Message,
    caller_key: Option<String>,
) -> Result<(), StoreError> {
    let now = ready.db.now();
    let values = row(message, &Fate::Waiting, caller_key);
    let places = (1..=values.len()).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "INSERT INTO messages ({COLUMNS}, attempts, next_ms, claimed_until_ms) VALUES ({places}, 0, {now}, 0) \
         ON CONFLICT (id) DO NOTHING"
    );
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
