//! Databases that are gone, frozen, locked or killed, and processes that are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::Connection as _;
use switchboard::record::What;
use switchboard::secret::Secret;
use switchboard::store::{Closer, Files, Filter, Options, Place, Records, Store, StoreError};

use super::calls::{Call, number, start};
use super::cases::{contains, record, until};
use super::postgres::Server;

/// Enough for everything that a test waits for.
const LONG: Duration = Duration::from_secs(20);

fn start_with(place: &Place, spill: &Path) -> (Records, Store, Closer) {
    switchboard::store::start(Options { spill: Some(spill.to_owned()), ..Options::new(place.clone()) })
}

/// The bytes that wait in files.
fn waiting(spill: &Path) -> u64 {
    let Ok(files) = fs::read_dir(spill) else { return 0 };
    let lines = files.flatten().filter(|file| file.path().extension().is_some_and(|end| end == "jsonl"));
    lines.map(|file| file.metadata().map_or(0, |data| data.len())).sum()
}

/// SQLite in a folder that does not exist yet.
struct Missing {
    folder: tempfile::TempDir,
}

impl Missing {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn place(&self) -> Place {
        Place::Sqlite(self.folder.path().join("disk/switchboard.db"))
    }

    fn spill(&self) -> PathBuf {
        self.folder.path().join("spill")
    }

    /// The database can be opened from now on.
    fn comes_back(&self) {
        fs::create_dir(self.folder.path().join("disk")).unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_gone_at_the_start_gets_everything_later() {
    for has_spill in [false, true] {
        let missing = Missing::new();
        let (records, store, closer) = match has_spill {
            true => start_with(&missing.place(), &missing.spill()),
            false => start(&missing.place()),
        };
        let (ended, running) = (Call::at(1), Call::at(2).from(2));
        ended.run(&records, "Before it was there", "caller.hung_up");
        running.ring(&records);
        running.say(&records, 1_000, "One");
        until(async || matches!(store.status(), Err(StoreError::CannotOpen { .. })).then_some(())).await;
        if has_spill {
            until(async || (waiting(&missing.spill()) > 0).then_some(())).await;
        }
        running.say(&records, 2_000, "Two");
        missing.comes_back();
        assert_eq!(record(&store, &ended).await.reason.as_deref(), Some("caller.hung_up"));
        running.say(&records, 3_000, "Three");
        until(async || (record(&store, &running).await.turns.len() == 3).then_some(())).await;
        assert_eq!(waiting(&missing.spill()), 0);
        // The first time, nobody knew the secret of the numbers' hashes.
        for last in [1, 2] {
            let of = Filter { caller: Some(number(last)), ..Filter::default() };
            assert_eq!(store.list(&of, 10).await.unwrap().len(), 1, "{last}");
        }
        running.end(&records, "caller.hung_up");
        closer.close(LONG).await;
        let store = Store::open(&missing.place()).await.unwrap();
        assert_eq!(record(&store, &running).await.reason.as_deref(), Some("caller.hung_up"));
    }
}

#[tokio::test]
async fn what_waits_in_files_is_bounded() {
    let missing = Missing::new();
    let options =
        Options { spill: Some(missing.spill()), spill_bytes: Some(100_000), ..Options::new(missing.place()) };
    let (records, _, closer) = switchboard::store::start(options);
    let text = "x".repeat(5_000);
    for minute in 0..60 {
        Call::at(minute).run(&records, &text, "caller.hung_up");
        if minute % 10 == 0 {
            let before = waiting(&missing.spill());
            until(async || (waiting(&missing.spill()) > before.min(50_000)).then_some(())).await;
        }
    }
    closer.close(Duration::ZERO).await;
    let bytes = waiting(&missing.spill());
    assert!((50_000..=100_000).contains(&bytes), "{bytes}");

    missing.comes_back();
    let (_, store, closer) = start_with(&missing.place(), &missing.spill());
    until(async || store.get(&Call::at(0).rang.call).await.ok().flatten()).await;
    until(async || (waiting(&missing.spill()) == 0).then_some(())).await;
    closer.close(LONG).await;
}

#[tokio::test]
async fn a_locked_database_gets_everything_when_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let (place, spill) = (super::sqlite(&folder), folder.path().join("spill"));
    let (records, store, closer) = start_with(&place, &spill);
    until(async || store.status().ok()).await;
    let Place::Sqlite(path) = &place else { unreachable!() };
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(LONG);
    let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    Call::at(1).run(&records, "Hello", "caller.hung_up");
    until(async || (waiting(&spill) > 0).then_some(())).await;
    // Questions are answered meanwhile.
    assert_eq!(store.list(&Filter::default(), 10).await.unwrap(), []);
    lock.rollback().await.unwrap();
    record(&store, &Call::at(1)).await;
    until(async || (waiting(&spill) == 0).then_some(())).await;
    closer.close(LONG).await;
}

#[tokio::test]
async fn two_processes_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let place = super::sqlite(&folder);
    let (first, first_store, first_closer) = start(&place);
    let running = Call::at(500);
    running.ring(&first);
    record(&first_store, &running).await;
    let (second, second_store, second_closer) = start(&place);
    until(async || second_store.status().ok()).await;
    for minute in 0..200 {
        let records = if minute % 2 == 0 { &first } else { &second };
        Call::at(minute).run(records, "Hello", "caller.hung_up");
        tokio::task::yield_now().await;
    }
    second_closer.close(LONG).await;
    assert_eq!(record(&first_store, &running).await.reason, None, "its process lives");
    running.end(&first, "caller.hung_up");
    first_closer.close(LONG).await;
    let store = Store::open(&place).await.unwrap();
    let rows = store.list(&Filter::default(), 1_000).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("caller.hung_up")).count(), 201);
}

#[tokio::test]
async fn postgres_may_freeze_crash_and_come_back() {
    let mut server = Server::start().await;
    let spill = tempfile::tempdir().unwrap();
    let place = server.database("calls").await;
    let (records, store, closer) = start_with(&place, spill.path());
    let running = Call::at(1);
    running.ring(&records);
    record(&store, &running).await;

    server.freeze(true);
    let mut ended = Vec::new();
    for minute in 10..20 {
        let call = Call::at(minute);
        call.run(&records, "While it was frozen", "caller.hung_up");
        ended.push(call);
    }
    until(async || (waiting(spill.path()) > 0).then_some(())).await;
    server.freeze(false);
    for call in &ended {
        record(&store, call).await;
    }

    // It dies while batches go to it.
    for minute in 20..120 {
        let call = Call::at(minute);
        call.run(&records, "While it crashed", "caller.hung_up");
        ended.push(call);
        if minute == 60 {
            server.crash();
        }
        tokio::task::yield_now().await;
    }
    running.say(&records, 5_000, "Are you still there?");
    until(async || (waiting(spill.path()) > 0).then_some(())).await;
    server.run().await;
    for call in &ended {
        assert_eq!(record(&store, call).await.turns.len(), 1);
    }
    until(async || (record(&store, &running).await.turns.len() == 1).then_some(())).await;
    until(async || (waiting(spill.path()) == 0).then_some(())).await;

    // Another machine, from which nothing was heard for long, had a call.
    let dead = "UPDATE calls SET owner = 'dead' WHERE reason IS NULL";
    super::cases::run(&place, dead).await;
    let (_, other, other_closer) = start(&place);
    until(async || record(&other, &running).await.broken_off.then_some(())).await;
    // It lives after all.
    running.end(&records, "caller.hung_up");
    until(async || (!record(&other, &running).await.broken_off).then_some(())).await;
    other_closer.close(LONG).await;
    closer.close(LONG).await;
}

#[tokio::test]
async fn a_call_of_a_killed_process_is_broken_off() {
    let folder = tempfile::tempdir().unwrap();
    let place = super::sqlite(&folder);
    let spill = folder.path().join("spill");
    let mut child = child(folder.path(), Path::new("switchboard.db"));
    let store = until(async || Store::open(&place).await.ok()).await;
    until(async || (record(&store, &Call::at(1)).await.turns.len() == 2).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, store, closer) = start_with(&place, &spill);
    let record =
        until(async || Some(record(&store, &Call::at(1)).await).filter(|record| record.broken_off)).await;
    assert_eq!((record.reason.as_deref(), record.turns.len()), (Some("server.fault"), 2));
    assert!(record.seconds >= 2.0, "up to the last entry: {}", record.seconds);
    let of = Filter { caller: Some(number(1)), reason: Some("server".to_owned()), ..Filter::default() };
    assert_eq!(store.list(&of, 10).await.unwrap().len(), 1);
    closer.close(LONG).await;
}

#[tokio::test]
async fn what_a_killed_process_left_in_files_is_written_or_erased() {
    let missing = Missing::new();
    let mut child = child(missing.folder.path(), Path::new("disk/switchboard.db"));
    until(async || contains_if_there(&missing.spill(), "The second").then_some(())).await;
    // A living process keeps its files.
    let (_, _, closer) = start_with(&missing.place(), &missing.spill());
    closer.close(Duration::ZERO).await;
    assert!(contains_if_there(&missing.spill(), "The second"));
    child.kill().unwrap();
    child.wait().unwrap();

    missing.comes_back();
    let files = Files { waiting: Some(missing.spill()), messages: None };
    let store = Store::open(&missing.place()).await.unwrap().with_files(files);
    store.erase(&number(2)).await.unwrap();
    assert!(!contains(&missing.spill(), "Another caller") && contains(&missing.spill(), "The second"));
    let (_, store, closer) = start_with(&missing.place(), &missing.spill());
    let record =
        until(async || Some(record(&store, &Call::at(1)).await).filter(|record| record.broken_off)).await;
    assert_eq!(record.turns.len(), 2);
    assert_eq!(store.list(&Filter::default(), 10).await.unwrap().len(), 1);
    assert!(!contains(&missing.spill(), "The second"));
    closer.close(LONG).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_stays_for_the_next_process() {
    let missing = Missing::new();
    let mut child = child(missing.folder.path(), Path::new("disk/switchboard.db"));
    until(async || contains_if_there(&missing.spill(), "The second").then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    missing.comes_back();
    // The words of the child are elsewhere, and a folder cannot be read as a file.
    let elsewhere = missing.folder.path().join("elsewhere");
    let file = fs::read_dir(missing.spill()).unwrap().flatten().map(|file| file.path());
    let file = file.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).min().unwrap();
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(missing.folder.path(), &file).unwrap();
    let (records, store, closer) = start_with(&missing.place(), &missing.spill());
    Call::at(5).run(&records, "Later", "caller.hung_up");
    record(&store, &Call::at(5)).await;
    closer.close(LONG).await;
    let aside = PathBuf::from(format!("{}.unreadable", file.display()));
    assert!(aside.is_symlink() && !file.is_symlink());

    // Now it can be read.
    fs::rename(&elsewhere, &aside).unwrap();
    let (_, store, closer) = start_with(&missing.place(), &missing.spill());
    record(&store, &Call::at(1)).await;
    until(async || (!aside.exists()).then_some(())).await;
    closer.close(LONG).await;
}

fn contains_if_there(folder: &Path, text: &str) -> bool {
    folder.exists() && contains(folder, text)
}

/// A process with two calls.
fn child(folder: &Path, database: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trouble::child_process", "--ignored", "--nocapture"])
        .env("STORE_TEST_FOLDER", folder)
        .env("STORE_TEST_DATABASE", folder.join(database))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "the process that other tests kill"]
async fn child_process() {
    let Some(folder) = std::env::var_os("STORE_TEST_FOLDER").map(PathBuf::from) else { return };
    let place = Place::Sqlite(std::env::var_os("STORE_TEST_DATABASE").unwrap().into());
    let (records, _, _closer) = start_with(&place, &folder.join("spill"));
    let (one, two) = (Call::at(1), Call::at(2).from(2));
    one.ring(&records);
    two.ring(&records);
    two.say(&records, 500, "Another caller");
    one.say(&records, 1_000, "The first");
    one.note(&records, 1_500, What::Anomaly { code: "model.odd".to_owned() });
    one.say(&records, 2_000, "The second");
    // Longer than any test, if it is not killed.
    tokio::time::sleep(LONG * 3).await;
}

#[tokio::test]
async fn errors_say_what_is_wrong_without_the_password() {
    let place = |url: &str| Place::Postgres(Secret::new(url));
    for (url, shown) in [
        (
            "postgres://user:hunter2@db.example.com/calls?sslmode=require",
            "PostgreSQL at db.example.com:5432/calls",
        ),
        ("postgres://user:hunter2@db.example.com:port/calls", "PostgreSQL"),
        ("postgres://user:hunter2@db.example.com/calls?sslmode=hunter2", "PostgreSQL"),
    ] {
        assert_eq!(place(url).to_string(), shown);
        assert!(!format!("{:?}", place(url)).contains("hunter2"));
        if shown == "PostgreSQL" {
            let why = Store::open(&place(url)).await.unwrap_err();
            assert!(matches!(why, StoreError::WrongUrl(_)) && !why.to_string().contains("hunter2"), "{why}");
        }
    }
    let nobody = place("postgres://user:hunter2@localhost/calls?host=/nowhere");
    let why = Store::open(&nobody).await.unwrap_err();
    assert!(matches!(why, StoreError::CannotOpen { .. }) && !why.to_string().contains("hunter2"), "{why}");
    let folder = Place::Sqlite(std::env::temp_dir());
    assert!(matches!(Store::open(&folder).await, Err(StoreError::CannotOpen { .. })));
}

#[tokio::test]
async fn a_memory_keeps_the_newest_calls() {
    let (records, store, closer) = start(&Place::Memory);
    for minute in 0..1_100 {
        Call::at(minute).run(&records, "Hello", "caller.hung_up");
        if minute % 300 == 0 {
            record(&store, &Call::at(minute)).await;
        }
    }
    until(async || {
        let rows = store.list(&Filter::default(), 2_000).await.unwrap();
        (rows.len() == 1_000 && rows[0].call == Call::at(1_099).rang.call).then_some(())
    })
    .await;
    closer.close(LONG).await;
}
