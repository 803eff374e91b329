//! The store, in SQLite and in a real PostgreSQL.

mod calls;
mod cases;
mod far;
mod limits;
mod messages;
mod overview;
mod postgres;
mod trouble;

use switchboard::store::Place;

use postgres::Server;

/// A database in a file of its own.
fn sqlite(folder: &tempfile::TempDir) -> Place {
    Place::Sqlite(folder.path().join("switchboard.db"))
}

#[tokio::test]
async fn sqlite_answers() {
    let folder = tempfile::tempdir().unwrap();
    cases::answers(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_has_one_record_of_a_call_at_two_machines() {
    let folder = tempfile::tempdir().unwrap();
    cases::has_one_record_of_a_call_at_two_machines(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_keeps_messages() {
    let folder = tempfile::tempdir().unwrap();
    messages::all(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_counts_for_limits() {
    let folder = tempfile::tempdir().unwrap();
    limits::two_machines(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_sums_and_erases_one() {
    let folder = tempfile::tempdir().unwrap();
    overview::sums_and_erases_one(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_purges() {
    let folder = tempfile::tempdir().unwrap();
    cases::purges(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_erases_from_the_files() {
    let folder = tempfile::tempdir().unwrap();
    cases::erases(&sqlite(&folder), folder.path()).await;
}

#[tokio::test]
async fn sqlite_knows_its_schema() {
    let folder = tempfile::tempdir().unwrap();
    cases::knows_its_schema(&sqlite(&folder)).await;
}

#[tokio::test]
async fn sqlite_migrates_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    cases::migrates_all_or_nothing(&sqlite(&folder)).await;
}

/// The same with one server, which takes longer to make than all of it.
#[tokio::test]
async fn postgres_does_the_same() {
    let server = Server::start().await;
    cases::answers(&server.database("answers").await).await;
    cases::purges(&server.database("purges").await).await;
    cases::has_one_record_of_a_call_at_two_machines(&server.database("machines").await).await;
    cases::erases(&server.database("erases").await, &server.data()).await;
    cases::knows_its_schema(&server.database("schema").await).await;
    cases::migrates_all_or_nothing(&server.database("migrates").await).await;
    messages::all(&server.database("messages").await).await;
    far::keeps_up(&server.database("far").await, &server.socket(), "far").await;
    limits::two_machines(&server.database("limits").await).await;
    overview::sums_and_erases_one(&server.database("overview").await).await;
}
