//! The store with a long history: pages of a list, searches, and a thousand new records a minute.
//!
//! `cargo bench --bench store -- [--calls 1000000] [--only sqlite|postgres]`. PostgreSQL is the one of `DATABASE_URL`,
//! whose database must be empty, or a server of its own, if one is installed.

#[path = "../tests/store/calls.rs"]
mod calls;
#[path = "../tests/store/postgres.rs"]
mod postgres;

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use switchboard::record::RecordId;
use switchboard::secret::Secret;
use switchboard::store::{Filter, Place, Store, StoreError};

use calls::{Call, number, time};

const GOAL: Duration = Duration::from_millis(50);
const PAGE: u32 = 50;
/// Rows in one statement.
const CHUNK: u64 = 50_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let calls: u64 =
        option("--calls").map_or(1_000_000, |calls| calls.parse().expect("--calls takes a number"));
    let only = option("--only");
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if is_wanted("sqlite") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switchboard.db");
        measure("SQLite", &Place::Sqlite(path.clone()), calls).await;
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!("the file: {} MB", bytes / 1_000_000);
    }
    if !is_wanted("postgres") {
        return;
    }
    if let Ok(url) = std::env::var("DATABASE_URL") {
        let place = Place::Postgres(Secret::new(url));
        let rows = Store::open(&place).await.unwrap().list(&Filter::default(), 1).await.unwrap();
        assert!(rows.is_empty(), "the database of DATABASE_URL has calls: it must be an empty one");
        measure("PostgreSQL", &place, calls).await;
    } else if postgres::is_installed() {
        let server = postgres::Server::start().await;
        measure("PostgreSQL", &server.database("bench").await, calls).await;
    } else {
        println!("PostgreSQL is not installed, and DATABASE_URL is not set");
    }
}

async fn measure(name: &str, place: &Place, calls: u64) {
    println!("\n{name}, {calls} calls");
    let began = Instant::now();
    fill(place, calls).await;
    println!("filled in {:.0} s", began.elapsed().as_secs_f64());
    let store = Store::open(place).await.unwrap();
    questions(&store, calls, "").await;
    writing(place, &store, calls).await;
}

/// Every question at the newest calls and at older ones.
async fn questions(store: &Store, calls: u64, when: &str) {
    let any = Filter::default;
    let pages: [(&str, Filter); 5] = [
        ("a page", any()),
        ("a page of an assistant", Filter { assistant: Some("assistant 7".into()), ..any() }),
        ("a page of a caller", Filter { caller: Some(number(1)), ..any() }),
        ("a page by a reason", Filter { reason: Some("model.lost".into()), ..any() }),
        ("a page by a kind of reason", Filter { reason: Some("model".into()), ..any() }),
    ];
    for (what, filter) in pages {
        let filter = &filter;
        p95(&format!("{what}{when}"), 200, async |round| {
            let before = (round % 2 == 1).then(|| RecordId::from(id(calls * (round / 2) / 100).as_str()));
            let rows = store.list(&Filter { before, ..filter.clone() }, PAGE).await?;
            assert!(round > 0 || !rows.is_empty(), "{what} is empty");
            Ok(())
        })
        .await;
    }
    for (what, text) in
        [("a search that finds", "ticket 77"), ("a search that finds nothing", "no such words")]
    {
        p95(&format!("{what}{when}"), 20, async |_| {
            store.list(&Filter { text: Some(text.to_owned()), ..any() }, PAGE).await.map(drop)
        })
        .await;
    }
    p95(&format!("one record{when}"), 200, async |round| {
        store.get(&id(calls * round / 200)).await.map(|record| assert!(record.is_some()))
    })
    .await;
}

/// A thousand records a minute for half a minute; meanwhile the questions.
async fn writing(place: &Place, store: &Store, calls: u64) {
    let (records, live, closer) = calls::start(place);
    let writes = async {
        let mut tick = tokio::time::interval(Duration::from_millis(60));
        let first = u32::try_from(calls / 1_000 * 2).unwrap_or(u32::MAX / 2);
        let mut late = Vec::new();
        for at in 0..500 {
            tick.tick().await;
            let call = Call::at(first + at);
            call.ring(&records);
            for turn in 0..10 {
                call.say(&records, turn * 2_000, "Is there anything free on Saturday afternoon?");
            }
            call.end(&records, "caller.hung_up");
            if at % 50 == 0 {
                let began = Instant::now();
                while live.get(call.id.as_str()).await.ok().flatten().is_none_or(|call| call.reason.is_none())
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                late.push(began.elapsed());
            }
        }
        late.sort();
        late
    };
    let (late, ()) = tokio::join!(writes, questions(store, calls, ", while records are written"));
    println!("{:<60} {:>8.1} ms", "a record is written after, at most", millis(late[late.len() - 1]));
    closer.close(Duration::from_secs(10)).await;
}

/// Asks so often, and prints what 95 of 100 take at most.
async fn p95(what: &str, rounds: u64, mut ask: impl AsyncFnMut(u64) -> Result<(), StoreError>) {
    let mut times = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        ask(round).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    let of = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let verdict = if of(95) <= GOAL { "" } else { "  missed" };
    println!("{what:<60} {:>8.1} ms, p50 {:>7.1} ms{verdict}", millis(of(95)), millis(of(50)));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The id of a call of the history: the last 23 digits count it.
fn id(call: u64) -> String {
    format!("01A{call:023}")
}

/// A history: a real record, copied with other ids, times, callers and words.
async fn fill(place: &Place, calls: u64) {
    let (records, live, closer) = calls::start(place);
    let template = Call::at(0);
    template.ring(&records);
    for turn in 0..12 {
        let text =
            format!("{turn}: I would like to come in on Saturday afternoon, if there is anything free. ")
                .repeat(2);
        template.say(&records, turn * 3_000, &text);
    }
    template.end(&records, "caller.hung_up");
    let caller_of = |number: &str| format!("CASE WHEN i % 1000 = 0 THEN caller_key ELSE {number} END");
    while live.get(template.id.as_str()).await.ok().flatten().is_none_or(|call| call.reason.is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    closer.close(Duration::from_secs(10)).await;
    let (new_id, number) = match place {
        Place::Postgres(_) => ("'01A' || lpad(CAST(i AS TEXT), 23, '0')", "CAST(i % 5000 AS TEXT)"),
        _ => ("'01A' || substr('00000000000000000000000' || i, -23)", "CAST(i % 5000 AS TEXT)"),
    };
    let (start, key) = (time(0).as_millisecond(), caller_of(number));
    let mut first = 0;
    while first < calls {
        let last = (first + CHUNK).min(calls) - 1;
        let numbers =
            format!("WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})");
        let of = format!("FROM n, calls AS t WHERE t.id = '{}'", template.id);
        let reason =
            "CASE i % 20 WHEN 0 THEN 'model.lost' WHEN 1 THEN 'model.stalled' ELSE 'caller.hung_up' END";
        let kind = "CASE WHEN i % 20 < 2 THEN 'model' ELSE 'caller' END";
        run(
            place,
            &format!(
                "{numbers} INSERT INTO calls (id, call_sid, assistant, caller, callee, caller_key, numberless, started_ms, \
                 seconds, ended_ms, reason, reason_kind, broken_off, test, cost_nano, anomalies, keep_until_ms, owner, \
                 recording, words) SELECT {new_id}, 'CA' || i, 'assistant ' || (i % 20), caller, callee, {key}, 0, \
                 {start} - ({calls} - i) * 1000, seconds, {start} - ({calls} - i) * 1000 + 42000, {reason}, {kind}, 0, 0, \
                 50000000, 0, {start} + 100000000000, NULL, NULL, words || ' ticket ' || (i % 1000) {of}"
            ),
        )
        .await;
        run(
            place,
            &format!(
                "{numbers} INSERT INTO records (call_id, record) SELECT {new_id}, t.record FROM n, records AS t \
                 WHERE t.call_id = '{}'",
                template.id
            ),
        )
        .await;
        first = last + 1;
    }
    if let Place::Postgres(_) = place {
        // As a server does by itself.
        run(place, "VACUUM ANALYZE").await;
    }
}

async fn run(place: &Place, sql: &str) {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    match place {
        Place::Postgres(url) => {
            let mut connection = PgConnection::connect(url.expose()).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
        }
        Place::Sqlite(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(path)
                .synchronous(sqlx::sqlite::SqliteSynchronous::Off);
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Place::Memory => unreachable!(),
    }
}
