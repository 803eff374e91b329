//! What the writer does to the database. Doing it twice, or late, does no harm: what waited in a file may have been
//! written already.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::call::{self, Call, Owner};
use super::db::{Tx, values};
use super::error::StoreError;
use super::open::Ready;
use crate::record::CallRecord;

/// Rows in one statement.
const ROWS: usize = 50;

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// A call rang.
    Began { call: Box<Call>, process: String },
    /// Something was noted of a call that runs.
    Noted { id: String, seq: i64, body: String },
    /// A call ended.
    Ended { call: Box<Call>, record: Box<CallRecord> },
    /// A recording went elsewhere, after the call.
    Recording { id: String, path: String },
}

impl Op {
    pub fn id(&self) -> &str {
        match self {
            Self::Began { call, .. } | Self::Ended { call, .. } => &call.id,
            Self::Noted { id, .. } | Self::Recording { id, .. } => id,
        }
    }

    pub fn caller(&self) -> Option<&Owner> {
        match self {
            Self::Began { call, .. } | Self::Ended { call, .. } => Some(&call.owner),
            Self::Noted { .. } | Self::Recording { .. } => None,
        }
    }
}

/// Writes a batch in one transaction, and says that the process lives.
pub async fn write(ready: &Ready, ops: &[&Op], process: &str) -> Result<(), StoreError> {
    let mut tx = ready.db.begin().await?;
    // The order of a call is kept: it begins, is noted, and ends.
    for op in ops {
        if let Op::Began { call, process } = op {
            call::begin(&mut tx, keyed(call, ready), process).await?;
        }
    }
    let notes: Vec<(&str, i64, &str)> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Noted { id, seq, body } => Some((id.as_str(), *seq, body.as_str())),
            _ => None,
        })
        .collect();
    for notes in notes.chunks(ROWS) {
        note(&mut tx, notes).await?;
    }
    for op in ops {
        if let Op::Ended { call, record } = op {
            call::finish(&mut tx, keyed(call, ready), record).await?;
        }
    }
    for op in ops {
        if let Op::Recording { id, path } = op {
            call::recorded(&mut tx, id, path).await?;
        }
    }
    beat(&mut tx, ready, process).await?;
    tx.commit().await
}

fn keyed(call: &Call, ready: &Ready) -> Call {
    Call { owner: call.owner.clone().keyed(&ready.secret), ..call.clone() }
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
