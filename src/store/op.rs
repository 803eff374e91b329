//! What the writer does to the database. Doing it twice, or late, does no harm: what waited in a file may have been
//! written already.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::adopted;
use super::call::{self, Call, Owner};
use super::db::{Tx, values};
use super::error::StoreError;
use super::open::Ready;
use crate::record::{Entry, What};

/// Rows in one statement.
const ROWS: usize = 50;
/// In memory only the newest calls are kept.
const FORGET: &str = "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE reason IS NOT NULL \
     ORDER BY started_ms DESC, id DESC LIMIT -1 OFFSET 1000)";

const COST: &str = "UPDATE calls SET cost_nano = $1 WHERE id = $2 AND reason IS NULL";

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// A call rang.
    Began { call: Box<Call>, process: String },
    /// Something was noted of a call that runs.
    Noted {
        id: String,
        seq: i64,
        body: String,
        /// What the call has cost so far, if the note changes that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_nano: Option<i64>,
    },
    /// A call ended. The record is JSON.
    Ended { call: Box<Call>, record: String },
    /// A recording went elsewhere, after the call.
    Recording { id: String, path: String },
    /// A call rang at another machine, which knows the numbers.
    Adopted { id: String },
    /// Another machine goes on with a call.
    GivenUp { id: String, process: String },
    /// A call rings again, with another record.
    Withdrawn { id: String },
}

impl Op {
    pub fn id(&self) -> &str {
        match self {
            Self::Began { call, .. } | Self::Ended { call, .. } => &call.id,
            Self::Noted { id, .. }
            | Self::Recording { id, .. }
            | Self::Adopted { id }
            | Self::GivenUp { id, .. }
            | Self::Withdrawn { id } => id,
        }
    }

    /// Where a recording is, if it says so.
    pub fn recording(self) -> Option<String> {
        match self {
            Self::Began { .. } | Self::Adopted { .. } | Self::GivenUp { .. } | Self::Withdrawn { .. } => None,
            Self::Noted { body, .. } => match serde_json::from_str(&body) {
                Ok(Entry { what: What::Recording { path }, .. }) => Some(path),
                _ => None,
            },
            Self::Ended { call, .. } => call.recording,
            Self::Recording { path, .. } => Some(path),
        }
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        const ROW: usize = 512;
        match self {
            Self::Began { .. } => ROW,
            Self::Noted { id, body, .. } => 64 + id.len() + body.len(),
            Self::Ended { call, record } => ROW + call.words.len() + record.len(),
            Self::Recording { id, path } => 64 + id.len() + path.len(),
            Self::Adopted { id } | Self::GivenUp { id, .. } | Self::Withdrawn { id } => 64 + id.len(),
        }
    }

    /// With the caller's number hashed.
    pub fn keyed(mut self, secret: &str) -> Self {
        if let Self::Began { call, .. } | Self::Ended { call, .. } = &mut self {
            call.key(secret);
        }
        self
    }
}

/// Writes a batch in one transaction, and says that the process lives.
pub async fn write(ready: &Ready, ops: &[Arc<Op>], process: &str) -> Result<(), StoreError> {
    let mut tx = ready.db.begin().await?;
    let erased = tx.fetch::<(String, i64)>("SELECT caller_key, erased_ms FROM erasures", values![]).await?;
    let is_erased = |call: &Call| {
        let Owner::Key(key) = &call.owner else { return false };
        erased.iter().any(|(erased, at)| erased == key && call.started_ms <= *at)
    };
    // The order of a call is kept: it begins, is noted, and ends.
    let began = ops.iter().filter_map(|op| match &**op {
        Op::Began { call, process } => Some((keyed(call, ready), process.as_str())),
        _ => None,
    });
    let began: Vec<_> = began.filter(|(call, _)| !is_erased(call)).collect();
    for some in began.chunks(ROWS) {
        call::begin(&mut tx, some).await?;
    }
    let notes: Vec<(&str, i64, &str)> = ops
        .iter()
        .filter_map(|op| match &**op {
            Op::Noted { id, seq, body, .. } => Some((id.as_str(), *seq, body.as_str())),
            _ => None,
        })
        .collect();
    for notes in notes.chunks(ROWS) {
        note(&mut tx, notes).await?;
    }
    // The newest of each call.
    let costs: BTreeMap<&str, i64> = ops
        .iter()
        .filter_map(|op| match &**op {
            Op::Noted { id, cost_nano: Some(cost), .. } => Some((id.as_str(), *cost)),
            _ => None,
        })
        .collect();
    for (id, cost) in costs {
        tx.execute(COST, values![cost, id]).await?;
    }
    let ended = ops.iter().filter_map(|op| match &**op {
        Op::Ended { call, record } => Some((keyed(call, ready), record.as_str())),
        _ => None,
    });
    let ended = ended.filter(|(call, _)| !is_erased(call)).map(|ended| (ended.0.id.clone(), ended));
    // One that comes twice counts once: PostgreSQL changes no row twice in one statement.
    let ended: Vec<_> = ended.collect::<BTreeMap<_, _>>().into_values().collect();
    for some in ended.chunks(ROWS) {
        call::finish(&mut tx, some).await?;
    }
    for op in ops {
        match &**op {
            Op::Recording { id, path } => call::recorded(&mut tx, id, path).await?,
            Op::Adopted { id } => adopted::inherit(&mut tx, id).await?,
            Op::GivenUp { id, process } => {
                if adopted::give_up(&mut tx, id, process).await? {
                    beat(&mut tx, ready, adopted::NOBODY).await?;
                }
            }
            Op::Withdrawn { id } => adopted::withdraw(&mut tx, id).await?,
            Op::Began { .. } | Op::Noted { .. } | Op::Ended { .. } => {}
        }
    }
    if !ready.durable {
        tx.execute(FORGET, values![]).await?;
    }
    beat(&mut tx, ready, process).await?;
    tx.commit().await
}

fn keyed(call: &Call, ready: &Ready) -> Call {
    let mut call = call.clone();
    call.key(&ready.secret);
    call
}

/// Notes of a call that has ended are late, and are dropped: its record has them.
async fn note(tx: &mut Tx, notes: &[(&str, i64, &str)]) -> Result<(), StoreError> {
    let mut rows = String::new();
    let mut all = Vec::with_capacity(notes.len() * 3);
    for (at, (id, seq, body)) in notes.iter().enumerate() {
        let joint = if at == 0 { "" } else { ", " };
        let first = at * 3 + 1;
        let _ = write!(
            rows,
            "{joint}(CAST(${first} AS TEXT), CAST(${} AS BIGINT), CAST(${} AS TEXT))",
            first + 1,
            first + 2
        );
        all.extend(values![*id, *seq, *body]);
    }
    let sql = format!(
        "INSERT INTO entries (call_id, seq, body) SELECT column1, column2, column3 FROM (VALUES {rows}) AS noted \
         WHERE EXISTS (SELECT 1 FROM calls WHERE id = column1 AND reason IS NULL) \
         ON CONFLICT (call_id, seq) DO NOTHING"
    );
    tx.execute(sql, all).await.map(drop)
}

/// Says that this process lives.
async fn beat(tx: &mut Tx, ready: &Ready, process: &str) -> Result<(), StoreError> {
    let now = ready.db.now();
    let sql = format!(
        "INSERT INTO processes (id, beat_ms) VALUES ($1, {now}) ON CONFLICT (id) DO UPDATE SET beat_ms = {now}"
    );
    tx.execute(sql, values![process]).await.map(drop)
}

/// Says that this process ends.
pub async fn bury(ready: &Ready, process: &str) -> Result<(), StoreError> {
    ready.db.execute("DELETE FROM processes WHERE id = $1", values![process]).await.map(drop)
}
