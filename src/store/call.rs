//! A call's row, and writing it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::db::{Tx, Value, values};
use super::error::StoreError;
use crate::phone::PhoneNumber;
use crate::record::{CallRecord, Rang};

/// What is asked for: the row of `calls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: String,
    pub call: String,
    pub assistant: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub owner: Owner,
    pub started_ms: i64,
    pub seconds: f64,
    /// `None` while the call runs.
    pub reason: Option<String>,
    pub broken_off: bool,
    pub test: bool,
    pub cost_nano: Option<i64>,
    pub anomalies: i64,
    pub keep_until_ms: Option<i64>,
    pub recording: Option<String>,
    pub words: String,
}

/// Whose call it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Owner {
    /// A number that has not been hashed yet. It is never written.
    #[serde(skip)]
    Number(PhoneNumber),
    /// The hash of the caller's number.
    Key(String),
    /// The number was withheld.
    Nobody,
    /// The assistant's file keeps no numbers.
    Unknown,
}

/// The keyed hash of a number.
pub fn key(secret: &str, number: &PhoneNumber) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(number.expose().as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Owner {
    pub fn of(rang: &Rang) -> Self {
        match &rang.caller {
            Some(number) => Self::Number(number.clone()),
            None if rang.numberless => Self::Unknown,
            None => Self::Nobody,
        }
    }

    /// With the number hashed.
    pub fn keyed(self, secret: &str) -> Self {
        match self {
            Self::Number(number) => Self::Key(key(secret, &number)),
            other => other,
        }
    }
}

impl Call {
    pub fn of(record: &CallRecord, owner: Owner, keep_until_ms: Option<i64>) -> Self {
        let cost = record.cost.as_ref().map(|cost| nano(cost.total));
        let anomalies: u64 = record.anomalies.values().sum();
        Self {
            id: record.id.to_string(),
            call: record.call.clone(),
            assistant: record.assistant.clone(),
            from: record.from.clone(),
            to: record.to.clone(),
            owner,
            started_ms: record.started.as_millisecond(),
            seconds: record.seconds,
            reason: record.reason.clone(),
            broken_off: record.broken_off,
            test: record.test,
            cost_nano: cost,
            anomalies: i64::try_from(anomalies).unwrap_or(i64::MAX),
            keep_until_ms,
            recording: record.recording.clone(),
            words: words(record),
        }
    }

    fn ended_ms(&self) -> Option<i64> {
        self.reason.as_ref()?;
        Some(self.started_ms.saturating_add((self.seconds * 1000.0) as i64))
    }

    /// In the order of the columns. `process` runs the call.
    fn values(self, process: Option<&str>) -> Vec<Value> {
        let (key, numberless) = match &self.owner {
            Owner::Key(key) => (Some(key.clone()), false),
            Owner::Nobody => (None, false),
            Owner::Number(_) | Owner::Unknown => (None, true),
        };
        let ended = self.ended_ms();
        let kind = self.reason.as_deref().map(|reason| reason.split('.').next().unwrap_or(reason).to_owned());
        values![
            self.id,
            self.call,
            self.assistant,
            self.from,
            self.to,
            key,
            numberless,
            self.started_ms,
            self.seconds,
            ended,
            self.reason,
            kind,
            self.broken_off,
            self.test,
            self.cost_nano,
            self.anomalies,
            self.keep_until_ms,
            process.map(str::to_owned),
            self.recording,
            self.words,
        ]
    }
}

const INSERT: &str = "INSERT INTO calls (id, call_sid, assistant, caller, callee, caller_key, numberless, started_ms, \
     seconds, ended_ms, reason, reason_kind, broken_off, test, cost_nano, anomalies, keep_until_ms, owner, recording, \
     words) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) \
     ON CONFLICT (id) DO ";

/// A call that runs. One that is there already stays as it is.
pub async fn begin(tx: &mut Tx, call: Call, process: &str) -> Result<(), StoreError> {
    tx.execute(format!("{INSERT} NOTHING"), call.values(Some(process))).await.map(drop)
}

/// A call that ended, in place of what was noted of it.
pub async fn finish(tx: &mut Tx, call: Call, record: &CallRecord) -> Result<(), StoreError> {
    const UPDATE: &str = "UPDATE SET seconds = excluded.seconds, ended_ms = excluded.ended_ms, \
         reason = excluded.reason, reason_kind = excluded.reason_kind, broken_off = excluded.broken_off, \
         cost_nano = excluded.cost_nano, anomalies = excluded.anomalies, owner = NULL, \
         recording = excluded.recording, words = excluded.words";
    const RECORD: &str = "INSERT INTO records (call_id, record) VALUES ($1, $2) \
         ON CONFLICT (call_id) DO UPDATE SET record = excluded.record";
    let id = call.id.clone();
    let text = serde_json::to_string(record).map_err(|why| StoreError::Refused(why.to_string()))?;
    tx.execute(format!("{INSERT} {UPDATE}"), call.values(None)).await?;
    tx.execute(RECORD, values![id.clone(), text]).await?;
    tx.execute("DELETE FROM entries WHERE call_id = $1", values![id]).await.map(drop)
}

/// A recording is somewhere else from now on.
pub async fn recorded(tx: &mut Tx, id: &str, path: &str) -> Result<(), StoreError> {
    let sql = "SELECT record FROM records WHERE call_id = $1";
    let Some((text,)) = tx.fetch::<(String,)>(sql, values![id]).await?.pop() else { return Ok(()) };
    let mut record: CallRecord =
        serde_json::from_str(&text).map_err(|why| StoreError::Refused(why.to_string()))?;
    record.recording = Some(path.to_owned());
    let text = serde_json::to_string(&record).map_err(|why| StoreError::Refused(why.to_string()))?;
    tx.execute("UPDATE records SET record = $1 WHERE call_id = $2", values![text, id]).await?;
    tx.execute("UPDATE calls SET recording = $1 WHERE id = $2", values![path, id]).await.map(drop)
}

/// Dollars to billionths of a dollar.
fn nano(dollars: f64) -> i64 {
    (dollars * 1e9).round() as i64
}

/// What is searched, in lower case.
fn words(record: &CallRecord) -> String {
    let turns = record.turns.iter().filter_map(|turn| turn.text.as_deref());
    let texts: Vec<&str> = turns.chain(record.summary.as_deref()).collect();
    texts.join("\n").to_lowercase()
}
