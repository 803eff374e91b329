//! A call's row, and writing it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Map;

use super::db::{Tx, Value, values};
use super::error::StoreError;
use crate::phone::PhoneNumber;
use crate::record::{CallRecord, Entry, Rang, What, caller_key};
use crate::secret::Secret;

/// What is asked for: the row of `calls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: String,
    pub call: String,
    pub assistant: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    #[serde(serialize_with = "write_owner", deserialize_with = "read_owner")]
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
#[derive(Debug, Clone, PartialEq)]
pub enum Owner {
    /// A number that has not been hashed yet. It is never written.
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
    caller_key(&Secret::new(secret), number)
}

/// The hash and whether the number is unknown. A number that could not be hashed is.
fn write_owner<S: Serializer>(owner: &Owner, serializer: S) -> Result<S::Ok, S::Error> {
    match owner {
        Owner::Key(key) => (Some(key), false),
        Owner::Nobody => (None, false),
        Owner::Number(_) | Owner::Unknown => (None, true),
    }
    .serialize(serializer)
}

fn read_owner<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Owner, D::Error> {
    let (key, is_unknown) = Deserialize::deserialize(deserializer)?;
    Ok(Owner::read(key, is_unknown))
}

impl Owner {
    pub fn read(key: Option<String>, is_unknown: bool) -> Self {
        match key {
            Some(key) => Self::Key(key),
            None if is_unknown => Self::Unknown,
            None => Self::Nobody,
        }
    }

    pub fn of(rang: &Rang) -> Self {
        match &rang.caller {
            Some(number) => Self::Number(number.clone()),
            None if rang.numberless => Self::Unknown,
            None => Self::Nobody,
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

    /// Hashes the caller's number. A number that waited in a file without its hash is in `from`, if the file of the
    /// assistant keeps it.
    pub fn key(&mut self, secret: &str) {
        let number = match &self.owner {
            Owner::Number(number) => Some(number.clone()),
            Owner::Unknown => self.from.as_deref().and_then(|from| PhoneNumber::parse(from).ok()),
            Owner::Key(_) | Owner::Nobody => None,
        };
        if let Some(number) = number {
            self.owner = Owner::Key(key(secret, &number));
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
     words) VALUES";
/// So many columns.
const COLUMNS: usize = 20;

/// Placeholders for so many rows: `($1, $2), ($3, $4)`.
fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Calls that run, each with its process. Those that are there already stay as they are.
pub async fn begin(tx: &mut Tx, calls: &[(Call, &str)]) -> Result<(), StoreError> {
    let values = calls.iter().flat_map(|(call, process)| call.clone().values(Some(process))).collect();
    let sql = format!("{INSERT} {} ON CONFLICT (id) DO NOTHING", places(calls.len(), COLUMNS));
    tx.execute(sql, values).await.map(drop)
}

/// Calls that ended, with their records, in place of what was noted of them. Each comes once.
pub async fn finish(tx: &mut Tx, calls: &[(Call, &str)]) -> Result<(), StoreError> {
    const UPDATE: &str = "UPDATE SET seconds = excluded.seconds, ended_ms = excluded.ended_ms, \
         reason = excluded.reason, reason_kind = excluded.reason_kind, broken_off = excluded.broken_off, \
         cost_nano = excluded.cost_nano, anomalies = excluded.anomalies, owner = NULL, \
         recording = excluded.recording, words = excluded.words";
    let count = calls.len();
    let rows = calls.iter().flat_map(|(call, _)| call.clone().values(None)).collect();
    let sql = format!("{INSERT} {} ON CONFLICT (id) DO {UPDATE}", places(count, COLUMNS));
    tx.execute(sql, rows).await?;
    let records = calls.iter().flat_map(|(call, record)| values![call.id.as_str(), *record]).collect();
    let sql = format!(
        "INSERT INTO records (call_id, record) VALUES {} \
         ON CONFLICT (call_id) DO UPDATE SET record = excluded.record",
        places(count, 2)
    );
    tx.execute(sql, records).await?;
    let ids = calls.iter().map(|(call, _)| Value::from(call.id.as_str())).collect();
    let sql = format!("DELETE FROM entries WHERE call_id IN {}", places(1, count));
    tx.execute(sql, ids).await.map(drop)
}

/// A recording is somewhere else from now on. The record may be of a newer version, so the rest of it stays as it is. If
/// there is none yet, because the process of the call is dead, the place is noted for it.
pub async fn recorded(tx: &mut Tx, id: &str, path: &str) -> Result<(), StoreError> {
    const NOTE: &str = "INSERT INTO entries (call_id, seq, body) VALUES ($1, $2, $3) \
         ON CONFLICT (call_id, seq) DO UPDATE SET body = excluded.body";
    let unfit = |why: serde_json::Error| StoreError::Unfit(format!("the record of {id}: {why}"));
    if tx.execute("UPDATE calls SET recording = $1 WHERE id = $2", values![path, id]).await? == 0 {
        return Ok(());
    }
    let sql = "SELECT record FROM records WHERE call_id = $1";
    let Some((text,)) = tx.fetch::<(String,)>(sql, values![id]).await?.pop() else {
        let entry = Entry { at_ms: 0, what: What::Recording { path: path.to_owned() } };
        let body = serde_json::to_string(&entry).map_err(unfit)?;
        // After all that is noted, also what still waits in a file.
        return tx.execute(NOTE, values![id, i64::MAX, body]).await.map(drop);
    };
    let mut record: Map<String, serde_json::Value> = serde_json::from_str(&text).map_err(unfit)?;
    record.insert("recording".to_owned(), path.into());
    let text = serde_json::to_string(&record).map_err(unfit)?;
    tx.execute("UPDATE records SET record = $1 WHERE call_id = $2", values![text, id]).await.map(drop)
}

/// Dollars to billionths of a dollar.
pub fn nano(dollars: f64) -> i64 {
    (dollars * 1e9).round() as i64
}

/// What is searched, in lower case.
fn words(record: &CallRecord) -> String {
    let turns = record.turns.iter().filter_map(|turn| turn.text.as_deref());
    let texts: Vec<&str> = turns.chain(record.summary.as_deref()).collect();
    texts.join("\n").to_lowercase()
}
