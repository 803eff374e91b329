//! Recordings without a record. Another process, whose disk is another, erased the caller or removed the call after
//! `keep`; or the caller was erased while the call still ran here.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, complete};
use super::track::UNNAMED;
use super::{FOLDER, file};
use crate::record::RecordId;
use crate::store::StoreError;

/// The record of a recording that was written to more recently may not be written yet.
const SETTLED: Duration = Duration::from_secs(10 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often to look whether the database is there.
const LOOK: Duration = Duration::from_secs(1);

/// Recordings that have a record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub ids: Vec<RecordId>,
    /// Others may get one.
    pub more: bool,
}

#[derive(Debug)]
struct Found {
    id: RecordId,
    /// Whether its record must be written by now.
    is_settled: bool,
}

impl Archive {
    /// Removes recordings without a record, as soon as the database is there and every day, until `stop`.
    pub async fn tidy_daily(self, stop: CancellationToken) {
        loop {
            let tidied = tokio::select! {
                () = stop.cancelled() => return,
                tidied = self.tidy() => tidied,
            };
            let pause = if tidied.is_ok() { DAY } else { LOOK };
            if timeout(pause, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    /// Removes recordings without a record, and tells which are left that have one. Without a store, all have one.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn tidy(&self) -> Result<Kept, StoreError> {
        let Some(state_dir) = self.state_dir.clone() else { return Ok(Kept::default()) };
        let folder = state_dir.join(FOLDER);
        let found = spawn_blocking(move || recordings(&folder)).await.unwrap_or_default();
        let Some(store) = &self.store else {
            return Ok(Kept { ids: found.into_iter().map(|found| found.id).collect(), more: false });
        };
        // A file with another name is nobody's recording.
        let is_ours = |found: &&Found| ulid::Ulid::from_string(found.id.as_str()).is_ok();
        let asked: Vec<RecordId> = found.iter().filter(is_ours).map(|found| found.id.clone()).collect();
        if asked.is_empty() {
            return Ok(Kept::default());
        }
        let ids = store.known(&asked).await?;
        let (mut more, mut orphans) = (false, Vec::new());
        for Found { id, is_settled } in found.iter().filter(is_ours).filter(|found| !ids.contains(&found.id))
        {
            more |= !is_settled;
            orphans.extend(is_settled.then(|| id.clone()));
        }
        let removed = spawn_blocking(move || remove(&state_dir, &orphans)).await.unwrap_or_default();
        if removed > 0 {
            tracing::info!(recordings = removed, "Recordings whose records are gone were removed");
        }
        Ok(Kept { ids, more })
    }
}

/// The recordings in a folder.
fn recordings(folder: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let found = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let written = entry.metadata().and_then(|about| about.modified()).ok()?;
        let is_settled = SystemTime::now().duration_since(written).is_ok_and(|age| age >= SETTLED);
        // A killed process left it before it had its name.
        if is_settled && name.to_str()?.ends_with(UNNAMED) {
            let _ = fs::remove_file(entry.path());
        }
        let id = RecordId::from(name.to_str()?.strip_suffix(".wav")?);
        Some(Found { id, is_settled })
    });
    found.collect()
}

/// Removes those whose calls are over, and returns how many.
fn remove(state_dir: &Path, orphans: &[RecordId]) -> usize {
    let is_removed = |id: &&RecordId| {
        let path = file(state_dir, id);
        let Some(_lock) = complete(&path) else { return false };
        match fs::remove_file(&path) {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(record = %id, %error, "A recording without a record cannot be removed");
                }
                false
            }
        }
    };
    orphans.iter().filter(is_removed).count()
}
