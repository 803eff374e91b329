//! The calls that count for limits: not tests, and not rings that were refused.

use jiff::Timestamp;
use sqlx::FromRow;

use super::ask::time;
use super::call::Owner;
use super::db::values;
use super::error::StoreError;
use super::open::Ready;
use crate::record::RecordId;

/// A call that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub id: RecordId,
    pub call: String,
    pub assistant: String,
    /// Never [`Owner::Number`].
    pub owner: Owner,
    pub began: Timestamp,
    pub runs: bool,
    /// So far, in billionths of a dollar, as far as it is known.
    pub cost_nano: u64,
}

#[derive(FromRow)]
struct Line {
    id: String,
    call_sid: String,
    assistant: String,
    caller_key: Option<String>,
    numberless: i64,
    started_ms: i64,
    is_over: i64,
    cost_nano: i64,
}

/// See [`Store::counted`](super::Store::counted).
pub async fn counted(
    ready: &Ready,
    began: Timestamp,
    ended: Option<Timestamp>,
) -> Result<Vec<Counted>, StoreError> {
    let mut values = values![began.as_millisecond()];
    let lately = ended.map(|ended| {
        values.push(ended.as_millisecond().into());
        " AND (owner IS NOT NULL OR ended_ms >= $2)"
    });
    let sql = format!(
        "SELECT id, call_sid, assistant, caller_key, numberless, started_ms, \
         CAST(CASE WHEN reason IS NULL THEN 0 ELSE 1 END AS BIGINT) AS is_over, \
         COALESCE(cost_nano, 0) AS cost_nano FROM calls \
         WHERE started_ms >= $1 AND test = 0 AND assistant IS NOT NULL \
         AND (reason_kind IS NULL OR reason_kind <> 'refused'){}",
        lately.unwrap_or_default()
    );
    let lines = ready.db.fetch::<Line>(sql, values).await?;
    Ok(lines.into_iter().map(Counted::from).collect())
}

impl From<Line> for Counted {
    fn from(line: Line) -> Self {
        Self {
            id: line.id.as_str().into(),
            call: line.call_sid,
            assistant: line.assistant,
            owner: Owner::read(line.caller_key, line.numberless != 0),
            began: time(line.started_ms),
            runs: line.is_over == 0,
            cost_nano: u64::try_from(line.cost_nano).unwrap_or_default(),
        }
    }
}
