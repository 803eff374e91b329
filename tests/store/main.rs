//! The store, in SQLite and in a real PostgreSQL.

mod calls;
mod cases;

use switchboard::store::Place;

/// A database in a file of its own.
fn sqlite(folder: &tempfile::TempDir) -> Place {
    Place::Sqlite(folder.path().join("switchboard.db"))
}

#[tokio::test]
async fn sqlite_answers() {
    let folder = tempfile::tempdir().unwrap();
    cases::answers(&sqlite(&folder)).await;
}
