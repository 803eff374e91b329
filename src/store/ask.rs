//! Questions about calls.

use std::fmt::Write as _;

use jiff::Timestamp;
use sqlx::FromRow;

use super::call::key;
use super::db::{Value, values};
use super::error::StoreError;
use super::open::Ready;
use super::{Filter, Row};
use crate::record::{CallRecord, Entry, Rang, RecordId, Recorder, What};

/// A text is searched in so many calls, the newest that match the rest of a filter.
const SEARCHED: u32 = 10_000;
/// The shortest beginning of an id.
const SHORTEST: usize = 6;

const COLUMNS: &str = "id, call_sid, assistant, caller, callee, started_ms, seconds, reason, broken_off, test, \
     cost_nano, anomalies";

#[derive(FromRow)]
struct Line {
    id: String,
    call_sid: String,
    assistant: Option<String>,
    caller: Option<String>,
    callee: Option<String>,
    started_ms: i64,
    seconds: f64,
    reason: Option<String>,
    broken_off: i64,
    test: i64,
    cost_nano: Option<i64>,
    anomalies: i64,
}

/// A `WHERE` with its values.
struct Where {
    sql: String,
    values: Vec<Value>,
}

impl Where {
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let joint = if self.sql.is_empty() { "WHERE" } else { "AND" };
        let _ = write!(self.sql, " {joint} {}", condition.replace('?', &format!("${}", self.values.len())));
    }
}

pub async fn list(ready: &Ready, filter: &Filter, limit: u32) -> Result<Vec<Row>, StoreError> {
    let (sql, values) = page(ready, filter, COLUMNS, limit).await?;
    let now = Timestamp::now();
    let lines = ready.db.fetch::<Line>(sql, values).await?;
    Ok(lines.into_iter().map(|line| row(line, now)).collect())
}

/// The calls that run, the newest first.
pub async fn under_way(ready: &Ready, most: u32) -> Result<Vec<Row>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM calls WHERE owner IS NOT NULL ORDER BY started_ms DESC, id DESC LIMIT {most}"
    );
    let now = Timestamp::now();
    let lines = ready.db.fetch::<Line>(sql, values![]).await?;
    Ok(lines.into_iter().map(|line| row(line, now)).collect())
}

/// The statement for the newest calls that match.
async fn page(
    ready: &Ready,
    filter: &Filter,
    columns: &str,
    limit: u32,
) -> Result<(String, Vec<Value>), StoreError> {
    let mut those = Where { sql: String::new(), values: Vec::new() };
    if let Some(assistant) = &filter.assistant {
        those.and("assistant = ?", assistant.as_str());
    }
    if let Some(caller) = &filter.caller {
        those.and("caller_key = ?", key(&ready.secret, caller));
    }
    if let Some(since) = filter.since {
        those.and("started_ms >= ?", since.as_millisecond());
    }
    if let Some(until) = filter.until {
        those.and("started_ms < ?", until.as_millisecond());
    }
    if let Some(reason) = &filter.reason {
        those.and(if reason.contains('.') { "reason = ?" } else { "reason_kind = ?" }, reason.as_str());
    }
    if let Some(before) = &filter.before {
        let started = started(ready, before).await?;
        those.and("started_ms <= ?", started);
        those.and("(started_ms, id) < (?, ", started);
        those.values.push(before.as_str().into());
        let _ = write!(those.sql, "${})", those.values.len());
    }
    let Where { sql, mut values } = those;
    let order = "ORDER BY started_ms DESC, id DESC LIMIT";
    let Some(text) = &filter.text else {
        return Ok((format!("SELECT {columns} FROM calls{sql} {order} {limit}"), values));
    };
    values.push(text.to_lowercase().into());
    let at = values.len();
    let newest = format!("SELECT {columns}, words FROM calls{sql} {order} {SEARCHED}");
    let find = ready.db.find();
    let sql =
        format!("SELECT {columns} FROM ({newest}) AS newest WHERE {find}(words, ${at}) > 0 {order} {limit}");
    Ok((sql, values))
}

/// When a call began. One that is gone began when its id was made.
async fn started(ready: &Ready, id: &RecordId) -> Result<i64, StoreError> {
    let sql = "SELECT started_ms FROM calls WHERE id = $1";
    if let Some((started,)) = ready.db.fetch::<(i64,)>(sql, values![id.as_str()]).await?.pop() {
        return Ok(started);
    }
    let of_id = ulid::Ulid::from_string(id.as_str()).map(|ulid| ulid.timestamp_ms());
    Ok(of_id.ok().and_then(|ms| i64::try_from(ms).ok()).unwrap_or(i64::MAX))
}

fn row(line: Line, now: Timestamp) -> Row {
    let runs = line.reason.is_none();
    let so_far = (now.as_millisecond() - line.started_ms).max(0) as f64 / 1000.0;
    Row {
        id: line.id.as_str().into(),
        call: line.call_sid,
        assistant: line.assistant,
        from: line.caller,
        to: line.callee,
        started: time(line.started_ms),
        seconds: if runs { so_far } else { line.seconds },
        reason: line.reason,
        broken_off: line.broken_off != 0,
        test: line.test != 0,
        cost: line.cost_nano.map(|nano| nano as f64 / 1e9),
        anomalies: u64::try_from(line.anomalies).unwrap_or(0),
    }
}

pub fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub async fn get(ready: &Ready, id: &str) -> Result<Option<CallRecord>, StoreError> {
    match find(ready, id).await? {
        Some(id) => record(ready, &id).await,
        None => Ok(None),
    }
}

/// The id of the call that is meant.
async fn find(ready: &Ready, id: &str) -> Result<Option<String>, StoreError> {
    let by_sid = "SELECT id FROM calls WHERE call_sid = $1 ORDER BY started_ms DESC, id DESC LIMIT 1";
    if let Some((id,)) = ready.db.fetch::<(String,)>(by_sid, values![id]).await?.pop() {
        return Ok(Some(id));
    }
    let start = id.to_ascii_uppercase();
    if start.len() < SHORTEST || !start.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    // Nothing that an id holds sorts after a tilde.
    let by_start = "SELECT id FROM calls WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 2";
    let end = format!("{start}~");
    let mut found = ready.db.fetch::<(String,)>(by_start, values![start, end]).await?;
    match found.len() {
        0 | 1 => Ok(found.pop().map(|(id,)| id)),
        _ => Err(StoreError::Ambiguous),
    }
}

/// The record of a call that ended, or of one that runs, as far as it came.
pub async fn record(ready: &Ready, id: &str) -> Result<Option<CallRecord>, StoreError> {
    let sql = "SELECT record FROM records WHERE call_id = $1";
    if let Some((text,)) = ready.db.fetch::<(String,)>(sql, values![id]).await?.pop() {
        let read = serde_json::from_str(&text);
        return read.map(Some).map_err(|why| StoreError::Refused(format!("the record of {id}: {why}")));
    }
    Ok(fold(ready, Recorder::new(id.into())).await?.map(|recorder| recorder.record()))
}

/// What was noted of a call that runs. What a newer version noted is left out.
pub async fn entries(ready: &Ready, id: &str) -> Result<Vec<Entry>, StoreError> {
    let sql = "SELECT body FROM entries WHERE call_id = $1 ORDER BY seq";
    let bodies = ready.db.fetch::<(String,)>(sql, values![id]).await?;
    Ok(bodies.iter().filter_map(|(body,)| serde_json::from_str(body).ok()).collect())
}

/// Folds what was noted of a call that runs. `None` if there is no such call.
pub async fn fold(ready: &Ready, mut recorder: Recorder) -> Result<Option<Recorder>, StoreError> {
    let id = recorder.record().id;
    let sql = format!("SELECT {COLUMNS} FROM calls WHERE id = $1 AND reason IS NULL");
    let Some(line) = ready.db.fetch::<Line>(sql, values![id.as_str()]).await?.pop() else { return Ok(None) };
    let entries = entries(ready, id.as_str()).await?;
    if !entries.iter().any(|entry| matches!(entry.what, What::Rang(_))) {
        recorder.add(Entry { at_ms: 0, what: What::Rang(rang(line)) });
    }
    entries.into_iter().for_each(|entry| recorder.add(entry));
    Ok(Some(recorder))
}

/// What the row of a call has of its ring.
fn rang(line: Line) -> Rang {
    Rang {
        call: line.call_sid,
        at: time(line.started_ms),
        assistant: line.assistant,
        assistant_version: None,
        from: line.caller,
        to: line.callee,
        caller: None,
        numberless: false,
        test: line.test != 0,
        simulated: false,
        keep_until: None,
    }
}

/// Call SIDs with the ends of their calls since then, the newest first.
pub async fn closed(
    ready: &Ready,
    since: Timestamp,
    most: u32,
) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let sql = format!(
        "SELECT call_sid, ended_ms FROM calls WHERE ended_ms >= $1 ORDER BY ended_ms DESC LIMIT {most}"
    );
    let rows = ready.db.fetch::<(String, i64)>(sql, values![since.as_millisecond()]).await?;
    Ok(rows.into_iter().map(|(sid, ms)| (sid, time(ms))).collect())
}
