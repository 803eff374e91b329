//! Which calls have a record.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use tokio::task::spawn_blocking;

use super::Store;
use super::db::{Db, Value, values};
use super::error::StoreError;
use super::open::Ready;
use crate::record::RecordId;

/// So many ids are asked for at once.
const AT_ONCE: usize = 500;

impl Store {
    /// Those of these calls that have a record, or may have one: the database cannot tell of a call that is older than
    /// itself, nor a store in memory of any; and what waits in [`super::Files::waiting`] is on its way.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn known(&self, ids: &[RecordId]) -> Result<Vec<RecordId>, StoreError> {
        let ready = self.ready()?;
        if !ready.durable {
            return Ok(ids.to_vec());
        }
        // First what waits: it goes to the database, and never back.
        let wanted: HashSet<String> = ids.iter().map(RecordId::to_string).collect();
        let waiting = match self.files.waiting.clone() {
            Some(folder) => {
                spawn_blocking(move || named(&folder, &wanted)).await.map_err(io::Error::other).flatten()
            }
            None => Ok(HashSet::new()),
        };
        // Any of them may be in a file that cannot be read.
        let Ok(mut known) = waiting else { return Ok(ids.to_vec()) };
        let born = born(&ready).await?;
        for some in ids.chunks(AT_ONCE) {
            let places: Vec<String> = (1..=some.len()).map(|place| format!("${place}")).collect();
            let sql = format!("SELECT id FROM calls WHERE id IN ({})", places.join(", "));
            let values = some.iter().map(|id| Value::from(id.as_str())).collect();
            known.extend(ready.db.fetch::<(String,)>(sql, values).await?.into_iter().map(|(id,)| id));
        }
        let is_older = |id: &RecordId| {
            let ulid = ulid::Ulid::from_string(id.as_str());
            ulid.is_ok_and(|ulid| i64::try_from(ulid.timestamp_ms()).is_ok_and(|ms| ms < born))
        };
        Ok(ids.iter().filter(|id| known.contains(id.as_str()) || is_older(id)).cloned().collect())
    }
}

/// When the database was made, by its own clock, in milliseconds.
async fn born(ready: &Ready) -> Result<i64, StoreError> {
    let first = match ready.db {
        Db::Sqlite(_) => "CAST(unixepoch(min(installed_on)) * 1000 AS INTEGER)",
        Db::Postgres(_) => "CAST(extract(epoch FROM min(installed_on)) * 1000 AS BIGINT)",
    };
    let rows = ready.db.fetch::<(i64,)>(format!("SELECT {first} FROM _sqlx_migrations"), values![]).await?;
    Ok(rows.first().map_or(i64::MAX, |(born,)| *born))
}

/// Those of these ids that are in the files of a folder.
fn named(folder: &Path, wanted: &HashSet<String>) -> io::Result<HashSet<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(why) => return Err(why),
    };
    let mut found = HashSet::new();
    for entry in entries {
        let text = match fs::read(entry?.path()) {
            Ok(text) => text,
            // It is in the database meanwhile.
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            Err(why) => return Err(why),
        };
        let words = text.split(|byte| *byte == b'"').filter_map(|word| std::str::from_utf8(word).ok());
        found.extend(words.filter(|word| wanted.contains(*word)).map(str::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::Files;
    use super::*;
    use crate::store::Place;

    #[tokio::test]
    async fn only_what_has_no_record_and_cannot_get_one_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let waiting = folder.path().join("waiting");
        let now = Timestamp::now() + SignedDuration::from_mins(1);
        let ids: Vec<RecordId> = (0..1_200).map(|n| RecordId::new(now, n)).collect();
        let older = RecordId::new(now - SignedDuration::from_hours(1), 0);
        let asked: Vec<RecordId> = ids.iter().chain([&older]).cloned().collect();

        let memory = Store::open(&Place::Memory).await.unwrap();
        assert_eq!(memory.known(&asked).await.unwrap(), asked, "it forgets");
        let unconnected = Store::unconnected();
        assert_eq!(unconnected.known(&asked).await, Err(StoreError::NotConnected));

        let place = Place::Sqlite(folder.path().join("calls.db"));
        let store = Store::open(&place)
            .await
            .unwrap()
            .with_files(Files { waiting: Some(waiting.clone()), messages: None });
        assert_eq!(store.known(&asked).await.unwrap(), std::slice::from_ref(&older));
        let row = "INSERT INTO calls (id, call_sid, numberless, started_ms, seconds, broken_off, test, anomalies, words) \
                   VALUES ($1, 'CA', 0, 0, 0, 0, 0, 0, '')";
        store.ready().unwrap().db.execute(row, values![ids[700].as_str()]).await.unwrap();
        fs::create_dir(&waiting).unwrap();
        fs::write(waiting.join("A-00000000.jsonl"), format!("{{\"Ended\":{{\"id\":\"{}\"}}}}\n", ids[3]))
            .unwrap();
        assert_eq!(store.known(&asked).await.unwrap(), [ids[3].clone(), ids[700].clone(), older]);
        // It cannot be read, whoever runs the test.
        fs::create_dir(waiting.join("B-00000000.jsonl")).unwrap();
        assert_eq!(store.known(&asked).await.unwrap(), asked);
    }
}
