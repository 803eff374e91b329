//! What every database must do.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::Connection as _;
use switchboard::record::{CallRecord, RecordId, What};
use switchboard::store::{Fate, Filter, Message, Options, Place, Row, Store, StoreError};

use super::calls::{Call, number, start, time};
use super::messages::{given_up, message};

/// Lists, finds and folds calls.
pub async fn answers(place: &Place) {
    let (records, _, closer) = start(place);
    Call::at(1).run(&records, "Is SATURDAY free? 100%", "caller.hung_up");
    Call::at(2).from(2).run(&records, "Größe ÄNDERN, 100 percent", "model.lost");
    Call::at(3).to("garage").run(&records, "Saturday\0 is fine", "model.stalled");
    let running = Call::at(4).to("garage");
    running.ring(&records);
    running.say(&records, 2_000, "Hello?");
    closer.close(Duration::from_secs(20)).await;

    let store = Store::open(place).await.unwrap();
    let of = |row: &Row| row.started.duration_since(time(0)).as_mins();
    let list = async |filter: Filter| -> Vec<i64> {
        store.list(&filter, 10).await.unwrap().iter().map(of).collect()
    };
    let any = Filter::default;
    assert_eq!(list(any()).await, [4, 3, 2, 1]);
    assert_eq!(list(Filter { assistant: Some("garage".into()), ..any() }).await, [4, 3]);
    assert_eq!(list(Filter { caller: Some(number(2)), ..any() }).await, [2]);
    assert_eq!(list(Filter { caller: Some(number(3)), ..any() }).await, [0; 0]);
    assert_eq!(list(Filter { since: Some(time(3)), ..any() }).await, [4, 3]);
    assert_eq!(list(Filter { until: Some(time(3)), ..any() }).await, [2, 1]);
    assert_eq!(list(Filter { reason: Some("model".into()), ..any() }).await, [3, 2]);
    assert_eq!(list(Filter { reason: Some("model.lost".into()), ..any() }).await, [2]);
    assert_eq!(list(Filter { text: Some("saturDAY".into()), ..any() }).await, [3, 1]);
    assert_eq!(list(Filter { text: Some("ändern".into()), ..any() }).await, [2]);
    assert_eq!(list(Filter { text: Some("100%".into()), ..any() }).await, [1]);
    assert_eq!(list(Filter { text: Some("_".into()), ..any() }).await, [0; 0]);
    let both = Filter { text: Some("saturday".into()), assistant: Some("salon".into()), ..any() };
    assert_eq!(list(both).await, [1]);
    assert_eq!(list(Filter { before: Some(Call::at(3).id), ..any() }).await, [2, 1]);
    // One that is not there counts by its time.
    assert_eq!(list(Filter { before: Some(Call::at(9).id), ..any() }).await, [4, 3, 2, 1]);

    let row = &store.list(&any(), 1).await.unwrap()[0];
    assert_eq!((row.reason.as_deref(), row.from.as_deref()), (None, Some(number(1).expose())));
    assert!(row.seconds > 0.0);
    found(&store).await;

    let mut export = store.export(Filter { assistant: Some("salon".into()), ..any() });
    let mut seen = Vec::new();
    while let Some(record) = export.next().await.unwrap() {
        seen.push(record.call);
    }
    assert_eq!(seen, [Call::at(2).rang.call, Call::at(1).rang.call]);

    let closed = store.closed_calls(time(2), 10).await.unwrap();
    let sids: Vec<&str> = closed.iter().map(|(sid, _)| sid.as_str()).collect();
    assert_eq!(sids, [Call::at(3).rang.call, Call::at(2).rang.call]);
    assert_eq!(closed[0].1.duration_since(time(3)).as_millis(), 42_500);

    // The database is younger than these, and knows only what it has of those that are not.
    let unknown = RecordId::new(Timestamp::now() + SignedDuration::from_mins(1), 1);
    let asked = [Call::at(1).id, unknown, running.id, Call::at(9).id];
    assert_eq!(store.known(&asked).await.unwrap(), [&asked[..1], &asked[2..]].concat());
}

/// A record by its id, the beginning of it, and its call SID; of a call that runs, too.
async fn found(store: &Store) {
    let (ended, running) = (Call::at(3), Call::at(4));
    for id in [ended.id.as_str(), &ended.id.as_str().to_lowercase(), &ended.rang.call] {
        let record = store.get(id).await.unwrap().unwrap();
        assert_eq!((record.id, record.reason.as_deref()), (ended.id.clone(), Some("model.stalled")), "{id}");
    }
    let record = store.get(running.id.as_str()).await.unwrap().unwrap();
    assert_eq!((record.reason, record.turns.len()), (None, 1));
    // All of these tests have the same first characters: the time comes first.
    let start = &ended.id.as_str()[..6];
    assert_eq!(store.get(start).await, Err(StoreError::Ambiguous));
    for none in ["7ZZZZZ", "01", "", "%%%%%%", "CA00000000000000000000000000000000"] {
        assert_eq!(store.get(none).await, Ok(None), "{none}");
    }
}

/// Waits for something that another task does.
pub async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within 20 s");
}

/// The record of a call, once it is there.
pub async fn record(store: &Store, call: &Call) -> CallRecord {
    until(async || store.get(call.id.as_str()).await.ok().flatten()).await
}

/// Calls are kept for as long as their file says, and messages that nobody accepted, too; those that run or wait stay.
pub async fn purges(place: &Place) {
    let store = Store::open(place).await.unwrap();
    let caller = number(1);
    for (id, fate, keep) in [
        ("msg_1", given_up("gone"), Duration::ZERO),
        ("msg_2", given_up("gone"), Duration::from_secs(60)),
        ("msg_3", Fate::Waiting, Duration::ZERO),
    ] {
        let message = Message { keep, ..message(id, "salon", caller.expose()) };
        store.put_message(&message, &fate).await.unwrap();
    }
    let (sender, mut purged) = tokio::sync::mpsc::unbounded_channel();
    let options = Options {
        purged: Some(Arc::new(move |recordings| drop(sender.send(recordings)))),
        ..Options::new(place.clone())
    };
    let (records, _, closer) = switchboard::store::start(options.clone());
    let hours = |hours| Some(Timestamp::now() + SignedDuration::from_hours(hours));
    for (minute, keep_until) in (0..).zip([None, hours(-1), hours(1), hours(-1)]) {
        let mut call = Call::at(minute);
        call.rang.keep_until = keep_until;
        call.ring(&records);
        call.note(&records, 10, What::Recording { path: format!("{minute}.wav") });
        if minute < 3 {
            call.end(&records, "caller.hung_up");
        }
    }
    record(&store, &Call::at(3)).await;
    // A process looks when it starts, and the first may have looked before.
    let (_, _, next) = switchboard::store::start(options);
    let recordings = tokio::time::timeout(Duration::from_secs(20), purged.recv()).await.unwrap();
    assert_eq!(recordings, Some(vec!["1.wav".to_owned()]));
    let left = store.list(&Filter::default(), 10).await.unwrap();
    let left: Vec<&str> = left.iter().map(|row| row.call.as_str()).collect();
    assert_eq!(left, [Call::at(3).rang.call, Call::at(2).rang.call, Call::at(0).rang.call]);
    assert_eq!(store.get(&Call::at(1).rang.call).await, Ok(None));
    assert_eq!(store.erase(&caller).await.unwrap().messages, 2);
    next.close(Duration::from_secs(20)).await;
    closer.close(Duration::from_secs(20)).await;
}

/// A call that rings at one machine and goes on at another has one record, with the numbers that only the first knows.
pub async fn has_one_record_of_a_call_at_two_machines(place: &Place) {
    let (first, store, first_closer) = start(place);
    let (second, _, second_closer) = start(place);
    let rings = Call::at(1);
    let goes_on = Call { id: Call::at(2).id, ..Call::unknown(1) };
    rings.ring(&first);
    record(&store, &rings).await;
    rings.note(&first, 0, What::GivenUp);
    goes_on.ring(&second);
    goes_on.note(&second, 0, What::Adopted);
    until(async || {
        let rows = store.list(&Filter::default(), 10).await.unwrap();
        let one = rows.len() == 1 && rows[0].id == goes_on.id;
        (one && rows[0].from.as_deref() == Some(number(1).expose())).then_some(())
    })
    .await;
    // A ring that reaches the database later than the call that took it over.
    let late = Call { id: Call::at(4).id, ..Call::unknown(3) };
    late.ring(&second);
    late.note(&second, 0, What::Adopted);
    record(&store, &late).await;
    Call::at(3).from(2).ring(&first);
    record(&store, &Call::at(3)).await;
    // One that was taken over in the middle keeps what was said before.
    let (before, after) = (Call::at(5), Call { id: Call::at(6).id, ..Call::unknown(5) });
    before.ring(&first);
    before.note(&first, 0, What::Started { ring_ms: 200 });
    before.say(&first, 1_000, "Before");
    until(async || (record(&store, &before).await.turns.len() == 1).then_some(())).await;
    after.ring(&second);
    after.note(&second, 0, What::Adopted);
    for call in [&goes_on, &late, &after] {
        call.say(&second, 1_000, "Hello");
        call.end(&second, "caller.hung_up");
    }
    for (call, last) in [(&goes_on, 1), (&late, 2), (&after, 1)] {
        until(async || record(&store, call).await.reason).await;
        let record = record(&store, call).await;
        assert_eq!((record.from.as_deref(), record.turns.len()), (Some(number(last).expose()), 1));
        assert_eq!(record.to, call.rang.to.clone().or(Call::at(1).rang.to));
    }
    let rows = store.list(&Filter::default(), 10).await.unwrap();
    let ids: Vec<&RecordId> = rows.iter().map(|row| &row.id).collect();
    assert_eq!(rows.len(), 4, "{ids:?}");
    assert_eq!(record(&store, &before).await.turns.len(), 1);
    // The call that rang is erased with its caller.
    assert_eq!(store.erase(&number(2)).await.unwrap().calls, 1);
    second_closer.close(Duration::from_secs(20)).await;
    first_closer.close(Duration::from_secs(20)).await;
}

/// A word that is nowhere else.
const MARKER: &str = "Rumpelstilzchen";
/// A caller of no other test.
const CALLER: u32 = 701;

/// Nothing of a caller is left in any file of this folder.
pub async fn erases(place: &Place, files: &Path) {
    let (records, live, closer) = start(place);
    let long = format!("My name is {MARKER}. ").repeat(300);
    for minute in 0..60 {
        let call = Call::at(minute).from(CALLER - 1 + minute % 3);
        let text = match minute {
            1 | 4 | 58 => &long,
            // PostgreSQL compresses what is long.
            _ if minute % 3 == 1 => MARKER,
            _ => "Hello, it is me.",
        };
        call.ring(&records);
        call.say(&records, 1_000, text);
        if minute == 1 {
            call.note(&records, 1, What::Recording { path: "1.wav".to_owned() });
        }
        call.note(&records, 9_000, What::Anomaly { code: "model.odd".to_owned() });
        if minute < 50 {
            call.end(&records, "caller.hung_up");
        }
    }
    let mut numberless = Call::at(70);
    (numberless.rang.from, numberless.rang.caller, numberless.rang.numberless) = (None, None, true);
    numberless.run(&records, "Nobody knows me", "caller.hung_up");
    let mut withheld = Call::at(71);
    (withheld.rang.from, withheld.rang.caller) = (None, None);
    withheld.run(&records, "Neither me", "caller.hung_up");
    record(&live, &withheld).await;
    to_disk(place).await;
    assert!(contains(files, MARKER) && contains(files, number(CALLER).expose()), "they are somewhere before");

    let erased = live.erase(&number(CALLER)).await.unwrap();
    assert_eq!((erased.calls, erased.recordings, erased.unknown), (20, 1, 1));
    assert_eq!((erased.paths, erased.left), (vec!["1.wav".to_owned()], vec![]));
    to_disk(place).await;
    assert!(!contains(files, MARKER) && !contains(files, number(CALLER).expose()), "something is left");
    // A call that ran meanwhile ends, and is not written either.
    Call::at(58).from(CALLER).end(&records, "caller.hung_up");
    // But the caller may call again.
    let mut again = Call::at(80).from(CALLER);
    again.rang.at = Timestamp::now();
    again.run(&records, "Hello again", "caller.hung_up");
    record(&live, &again).await;
    let rows = live.list(&Filter { caller: Some(number(CALLER)), ..Filter::default() }, 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.call.as_str()).collect::<Vec<_>>(), [again.rang.call.as_str()]);
    assert_eq!(live.list(&Filter::default(), 100).await.unwrap().len(), 43);
    closer.close(Duration::from_secs(20)).await;
    to_disk(place).await;
    assert!(!contains(files, MARKER));
}

/// PostgreSQL writes its files now and then.
async fn to_disk(place: &Place) {
    if let Place::Postgres(_) = place {
        run(place, "CHECKPOINT").await;
    }
}

/// Whether the bytes stand in any file below a folder. PostgreSQL's write-ahead log is left out: it is overwritten as
/// the database works, and nobody can hurry that.
pub fn contains(folder: &Path, text: &str) -> bool {
    let grep = ["-rqaF", "--exclude-dir=pg_wal", "--", text];
    let found = Command::new("grep").args(grep).arg(folder).status().unwrap();
    // 2: a file was removed meanwhile.
    matches!(found.code(), Some(0))
}

/// A schema that is one step newer works, and two do not.
pub async fn knows_its_schema(place: &Place) {
    drop(Store::open(place).await.unwrap());
    let newer = async |version: i64| {
        let sql = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT {version}, 'newer', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1"
        );
        run(place, &sql).await;
    };
    newer(9_001).await;
    Store::open(place).await.unwrap();
    newer(9_002).await;
    assert_eq!(Store::open(place).await.unwrap_err(), StoreError::Future { unknown: 2 });
}

/// A migration that fails leaves nothing behind.
pub async fn migrates_all_or_nothing(place: &Place) {
    if let Place::Sqlite(path) = place {
        std::fs::write(path, "").unwrap();
    }
    // Somebody else's table is in the way, after others were made.
    run(place, "CREATE TABLE entries (other BIGINT)").await;
    assert!(matches!(Store::open(place).await, Err(StoreError::Migration(_))));
    assert!(tables(place).await.iter().all(|table| table == "entries"), "{:?}", tables(place).await);
    run(place, "DROP TABLE entries").await;
    Store::open(place).await.unwrap();
    assert!(tables(place).await.len() > 5);
}

/// Runs a statement beside the store.
pub async fn run(place: &Place, sql: &str) {
    let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
    match place {
        Place::Postgres(url) => {
            let mut connection = sqlx::PgConnection::connect(url.expose()).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
        }
        Place::Sqlite(path) => {
            let mut connection = sqlite(path).await;
            sql.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Memory => unreachable!(),
    }
}

async fn tables(place: &Place) -> Vec<String> {
    match place {
        Place::Postgres(url) => {
            let mut connection = sqlx::PgConnection::connect(url.expose()).await.unwrap();
            let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
        }
        Place::Sqlite(path) => {
            let sql = "SELECT name FROM sqlite_master WHERE type = 'table'";
            sqlx::query_scalar(sql).fetch_all(&mut sqlite(path).await).await.unwrap()
        }
        Place::Memory => unreachable!(),
    }
}

async fn sqlite(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    sqlx::SqliteConnection::connect_with(&options).await.unwrap()
}
