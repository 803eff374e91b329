//! What the console shows of many calls at once, and the end of one record.

use jiff::Timestamp;
use serde::Deserialize;
use sqlx::FromRow;

use super::ask::time;
use super::db::values;
use super::error::StoreError;
use super::{Erased, Row, Store, ask, erase};
use crate::call::EndReason;

/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// What happened in an hour, without tests and rings that were refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    pub began: Timestamp,
    pub calls: u64,
    /// Of all its calls together.
    pub seconds: f64,
    /// In dollars, as far as it is known.
    pub cost: f64,
    /// Calls that broke.
    pub failures: u64,
}

#[derive(FromRow)]
struct Line {
    hour: i64,
    calls: i64,
    seconds: f64,
    cost_nano: i64,
    failures: i64,
}

/// How long callers waited, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    pub began: Timestamp,
    pub first_word: Option<u64>,
    pub answers: Vec<u64>,
}

/// What is read of a record.
#[derive(Deserialize)]
struct Waited {
    started: Timestamp,
    first_word_ms: Option<u64>,
    #[serde(default)]
    turns: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    latency_ms: Option<u64>,
}

impl Store {
    /// The hours since then in which calls began, the earliest first.
    pub async fn hours(&self, since: Timestamp) -> Result<Vec<Hour>, StoreError> {
        let failures: Vec<String> = EndReason::ALL
            .iter()
            .filter(|reason| reason.is_failure())
            .map(|reason| format!("'{}'", reason.code()))
            .collect();
        let sql = format!(
            "SELECT (started_ms - $1) / {HOUR_MS} AS hour, COUNT(*) AS calls, \
             CAST(SUM(seconds) AS DOUBLE PRECISION) AS seconds, \
             CAST(SUM(COALESCE(cost_nano, 0)) AS BIGINT) AS cost_nano, \
             CAST(SUM(CASE WHEN reason IN ({}) THEN 1 ELSE 0 END) AS BIGINT) AS failures FROM calls \
             WHERE started_ms >= $1 AND test = 0 AND assistant IS NOT NULL \
             AND (reason_kind IS NULL OR reason_kind <> 'refused') GROUP BY 1 ORDER BY 1",
            failures.join(", ")
        );
        let since = since.as_millisecond();
        let lines = self.ready()?.db.fetch::<Line>(sql, values![since]).await?;
        let count = |count| u64::try_from(count).unwrap_or_default();
        let hour = |line: Line| Hour {
            began: time(since + line.hour * HOUR_MS),
            calls: count(line.calls),
            seconds: line.seconds,
            cost: line.cost_nano as f64 / 1e9,
            failures: count(line.failures),
        };
        Ok(lines.into_iter().map(hour).collect())
    }

    /// How long the callers of the newest `most` calls waited that began since then and are over.
    pub async fn waits(&self, since: Timestamp, most: u32) -> Result<Vec<Waits>, StoreError> {
        let sql = format!(
            "SELECT record FROM records WHERE call_id IN (SELECT id FROM calls WHERE started_ms >= $1 AND test = 0 \
             AND reason IS NOT NULL ORDER BY started_ms DESC, id DESC LIMIT {most})"
        );
        let records = self.ready()?.db.fetch::<(String,)>(sql, values![since.as_millisecond()]).await?;
        let waited = records.iter().filter_map(|(record,)| serde_json::from_str::<Waited>(record).ok());
        let waits = |waited: Waited| Waits {
            began: waited.started,
            first_word: waited.first_word_ms,
            answers: waited.turns.iter().filter_map(|turn| turn.latency_ms).collect(),
        };
        Ok(waited.map(waits).collect())
    }

    /// The calls that run, of every process, the newest first.
    pub async fn under_way(&self, most: u32) -> Result<Vec<Row>, StoreError> {
        ask::under_way(&self.ready()?, most).await
    }

    /// Removes the record of a call that is over, and the messages that were taken in it. The file of the recording is in
    /// [`Erased::paths`].
    pub async fn erase_call(&self, id: &str) -> Result<Erased, StoreError> {
        erase::call(&self.ready()?, id).await
    }
}
