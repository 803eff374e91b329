use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::*;
use crate::notice::{Purpose, Via};
use crate::record::{CallRecord, Ended, Rang, Recorder, What as Noted};
use crate::store::db::values;
use crate::store::{Fate, Message, Recipient, ask};

/// A writer whose work is done step by step.
async fn writer(place: Place) -> Writer {
    let mut writer = Writer::new(Options::new(place), Store::unconnected(), Arc::default());
    step(&mut writer).await;
    assert!(writer.store.status().is_ok());
    writer
}

/// Begins the next piece of work, and ends it.
async fn step(writer: &mut Writer) {
    writer.start(false);
    let done = landed(&mut writer.flight).await;
    writer.land(done).await;
}

fn note(writer: &mut Writer, id: &str, what: Noted) {
    writer.intake.take_in(&id.into(), Entry { at_ms: 0, what });
    writer.waits = Some(Instant::now() - BATCH);
}

fn rang() -> Noted {
    Noted::Rang(Rang {
        call: "CA1".to_owned(),
        at: jiff::Timestamp::now(),
        assistant: None,
        assistant_version: None,
        from: None,
        to: None,
        caller: None,
        numberless: false,
        test: false,
        simulated: false,
        keep_until: None,
    })
}

fn ended() -> Noted {
    Noted::Ended(Ended { reason: "caller.hung_up".to_owned(), seconds: 1.0, longest_silence_ms: 0 })
}

async fn reason(writer: &Writer, id: &str) -> Option<String> {
    ask::record(&writer.store.ready().unwrap(), id).await.unwrap().unwrap().reason
}

#[tokio::test]
async fn calls_of_a_process_that_came_later_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(folder.path().join("switchboard.db"));
    let mut first = writer(place.clone()).await;
    assert!(matches!(first.dead, Dead::Before(_)), "it is alone");
    let mut second = writer(place).await;
    assert_eq!(second.dead, Dead::Unheard);
    second.sweep += SWEEP;
    note(&mut second, "RUNS", rang());
    step(&mut second).await;
    // The first sweep was late, and the second comes while the other lives.
    for _ in 0..2 {
        first.sweep = Instant::now();
        step(&mut first).await;
        assert!(first.sweep > Instant::now(), "it swept");
        assert_eq!(first.dead, Dead::Silent, "it was alone only once");
        assert_eq!(reason(&first, "RUNS").await, None);
    }
    // As if nothing had been heard of it for long.
    let ready = first.store.ready().unwrap();
    ready.db.execute("UPDATE processes SET beat_ms = beat_ms - 60000", values![]).await.unwrap();
    first.sweep = Instant::now();
    step(&mut first).await;
    assert_eq!(reason(&first, "RUNS").await.as_deref(), Some("server.fault"));
}

#[tokio::test]
async fn after_an_outage_others_have_time_to_say_that_they_live() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(folder.path().join("switchboard.db"));
    let mut old = writer(place.clone()).await;
    step(&mut old).await;
    for id in ["SILENT", "UNHEARD"] {
        note(&mut old, id, rang());
    }
    step(&mut old).await;
    let ready = old.store.ready().unwrap();
    ready.db.execute("UPDATE processes SET beat_ms = beat_ms - 60000", values![]).await.unwrap();
    ready.db.execute("UPDATE calls SET owner = 'gone' WHERE id = 'UNHEARD'", values![]).await.unwrap();

    let mut new = writer(place).await;
    step(&mut new).await;
    assert_eq!(reason(&new, "UNHEARD").await.as_deref(), Some("server.fault"));
    assert_eq!(reason(&new, "SILENT").await, None);
    assert!(new.sweep > Instant::now() + Duration::from_millis(DEAD_MS as u64));
}

/// A statement beside the writer.
async fn run(writer: &Writer, sql: &'static str) {
    writer.store.ready().unwrap().db.execute(sql, values![]).await.unwrap();
}

#[tokio::test]
async fn one_bad_record_keeps_nothing_from_the_database() {
    let mut writer = writer(Place::Memory).await;
    step(&mut writer).await;
    for id in ["NEWER", "BROKEN"] {
        note(&mut writer, id, rang());
        note(&mut writer, id, ended());
    }
    step(&mut writer).await;
    // As a newer version wrote it, and as nobody did.
    run(
        &writer,
        "UPDATE records SET record = '{\"version\": 9, \"turns\": \"many\"}' WHERE call_id = 'NEWER'",
    )
    .await;
    run(&writer, "UPDATE records SET record = 'half' WHERE call_id = 'BROKEN'").await;
    for id in ["BROKEN", "NEWER"] {
        note(&mut writer, id, Noted::Recording { path: "s3://bucket/1.wav".to_owned() });
    }
    note(&mut writer, "NEXT", rang());
    step(&mut writer).await;
    assert_eq!(reason(&writer, "NEXT").await, None, "it is there");
    let db = writer.store.ready().unwrap().db;
    let rows = db.fetch::<(String,)>("SELECT record FROM records WHERE call_id = 'NEWER'", values![]).await;
    let record: serde_json::Value = serde_json::from_str(&rows.unwrap()[0].0).unwrap();
    let expected = serde_json::json!({ "version": 9, "turns": "many", "recording": "s3://bucket/1.wav" });
    assert_eq!(record, expected);
}

#[tokio::test]
async fn a_call_that_cannot_be_closed_keeps_no_other_open() {
    let mut writer = writer(Place::Memory).await;
    step(&mut writer).await;
    for id in ["A", "B", "C"] {
        note(&mut writer, id, rang());
    }
    step(&mut writer).await;
    run(&writer, "UPDATE calls SET owner = 'gone'").await;
    run(
        &writer,
        "CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.call_id = 'A' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    writer.sweep = Instant::now();
    step(&mut writer).await;
    assert_eq!(reason(&writer, "A").await, None);
    for id in ["B", "C"] {
        assert_eq!(reason(&writer, id).await.as_deref(), Some("server.fault"), "{id}");
    }
}

#[tokio::test]
async fn a_recording_that_moves_before_its_call_is_closed_is_found() {
    let mut writer = writer(Place::Memory).await;
    step(&mut writer).await;
    note(&mut writer, "DEAD", rang());
    note(&mut writer, "DEAD", Noted::Recording { path: "recordings/DEAD.wav".to_owned() });
    step(&mut writer).await;
    run(&writer, "UPDATE calls SET owner = 'gone'").await;
    // The next process uploads what is left before the call is closed, perhaps twice.
    writer.intake = Intake::new(writer.process.clone(), Arc::default());
    for _ in 0..2 {
        note(&mut writer, "DEAD", Noted::Recording { path: "s3://bucket/DEAD.wav".to_owned() });
    }
    step(&mut writer).await;
    writer.sweep = Instant::now();
    step(&mut writer).await;
    let ready = writer.store.ready().unwrap();
    let record = ask::record(&ready, "DEAD").await.unwrap().unwrap();
    assert_eq!(record.reason.as_deref(), Some("server.fault"));
    assert_eq!(record.recording.as_deref(), Some("s3://bucket/DEAD.wav"));
}

/// Counts what this thread counts from now on.
fn counting() -> &'static PrometheusRecorder {
    Box::leak(Box::new(PrometheusBuilder::new().build_recorder()))
}

fn count(recorder: &PrometheusRecorder, outcome: &str) -> u64 {
    let start = format!("switchboard_records_total{{outcome=\"{outcome}\"}} ");
    let page = recorder.handle().render();
    page.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
}

fn anomaly() -> Noted {
    Noted::Anomaly { code: "model.odd".to_owned() }
}

#[test]
fn rings_and_ends_have_room_when_nothing_else_has() {
    let recorder = counting();
    let _guard = ::metrics::set_default_local_recorder(recorder);
    let (entries, mut taken) = mpsc::channel(CHANNEL + RESERVE);
    let records = Records { entries, dropped: Arc::default() };
    let file = |what: Noted| records.file(&"A".into(), Entry { at_ms: 0, what });
    for _ in 0..CHANNEL * 2 {
        file(anomaly());
    }
    assert_eq!((count(recorder, "dropped"), records.dropped.load(Ordering::Relaxed)), (0, CHANNEL as u64));
    for _ in 0..RESERVE / 2 {
        file(rang());
        file(ended());
    }
    assert_eq!(count(recorder, "dropped"), 0);
    file(rang());
    file(ended());
    assert_eq!(count(recorder, "dropped"), 1, "one record");
    let ends = std::iter::from_fn(|| taken.try_recv().ok());
    assert_eq!(ends.filter(|(_, entry)| matches!(entry.what, Noted::Ended(_))).count(), RESERVE / 2);
}

#[tokio::test]
async fn what_is_lost_at_the_end_is_counted() {
    for has_spill in [false, true] {
        let recorder = counting();
        let _guard = ::metrics::set_default_local_recorder(recorder);
        let place = Place::Sqlite("/nowhere/switchboard.db".into());
        let mut writer = Writer::new(Options::new(place), Store::unconnected(), Arc::default());
        let folder = tempfile::tempdir().unwrap();
        if has_spill {
            writer.spill = Some(Spill::open(folder.path(), &writer.process, None).unwrap());
            drop(folder);
        }
        for id in ["A", "B", "C"] {
            note(&mut writer, id, rang());
            note(&mut writer, id, ended());
        }
        note(&mut writer, "RUNS", rang());
        let what = What::Batch(writer.intake.take(2));
        let task = tokio::spawn(std::future::pending());
        writer.flight = Some(Flight { what, began: Instant::now(), task });
        writer.end().await;
        assert_eq!(count(recorder, "dropped"), 3, "{has_spill}");
    }
}

#[tokio::test]
async fn only_records_are_counted_and_each_once() {
    let recorder = counting();
    let _guard = ::metrics::set_default_local_recorder(recorder);
    let mut writer = writer(Place::Memory).await;
    step(&mut writer).await;
    let refuse = "CREATE TRIGGER notes BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'no'); END; \
                  CREATE TRIGGER ends BEFORE INSERT ON records WHEN NEW.call_id = 'A' \
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    let Db::Sqlite(pool) = writer.store.ready().unwrap().db else { unreachable!() };
    sqlx::raw_sql(refuse).execute(&pool).await.unwrap();
    for id in ["A", "B"] {
        note(&mut writer, id, rang());
        note(&mut writer, id, ended());
    }
    note(&mut writer, "RUNS", rang());
    note(&mut writer, "RUNS", anomaly());
    step(&mut writer).await;
    assert_eq!((count(recorder, "written"), count(recorder, "dropped")), (1, 1));

    // What goes to a file while it is written counts when the file is.
    note(&mut writer, "C", rang());
    note(&mut writer, "C", ended());
    writer.start(false);
    let Some(Flight { what: What::Batch(ops), .. }) = &mut writer.flight else { unreachable!() };
    ops.clear();
    let done = landed(&mut writer.flight).await;
    writer.land(done).await;
    assert_eq!(count(recorder, "written"), 1);
}

#[tokio::test]
async fn what_follows_a_call_of_a_dead_process_is_told_once() {
    let message = |record: &CallRecord| Message {
        id: format!("ntf_{}", record.id),
        call: Some(record.call.clone()),
        to: Recipient { assistant: "salon".to_owned(), purpose: Purpose::Notification, via: Via::Webhook },
        caller: None,
        taken: 1,
        body: record.reason.clone().unwrap_or_default(),
        keep: Duration::ZERO,
    };
    let mut options = Options::new(Place::Memory);
    options.closed = Some(Arc::new(move |record: &CallRecord| vec![message(record)]));
    let mut writer = Writer::new(options, Store::unconnected(), Arc::default());
    step(&mut writer).await;
    step(&mut writer).await;
    for id in ["RUNS", "UNSETTLED", "OTHERS"] {
        note(&mut writer, id, rang());
    }
    note(&mut writer, "UNSETTLED", Noted::Unsettled);
    note(&mut writer, "UNSETTLED", ended());
    step(&mut writer).await;
    run(&writer, "UPDATE calls SET owner = 'gone', caller_key = 'key' WHERE id <> 'OTHERS'").await;
    // As if the process had told it just before it died.
    let store = writer.store.clone();
    let told = Message { body: "told".to_owned(), ..message(&Recorder::new("RUNS".into()).record()) };
    store.put_message(&told, &Fate::Waiting).await.unwrap();
    writer.sweep = Instant::now();
    step(&mut writer).await;
    for (id, reason, broken_off) in [("RUNS", "server.fault", true), ("UNSETTLED", "caller.hung_up", false)] {
        let record = ask::record(&store.ready().unwrap(), id).await.unwrap().unwrap();
        assert_eq!((record.reason.as_deref(), record.broken_off), (Some(reason), broken_off));
    }
    let sql = "SELECT id, body, caller_key FROM messages ORDER BY id";
    let told =
        store.ready().unwrap().db.fetch::<(String, String, Option<String>)>(sql, values![]).await.unwrap();
    let told: Vec<_> =
        told.iter().map(|(id, body, key)| (id.as_str(), body.as_str(), key.as_deref())).collect();
    assert_eq!(told, [("ntf_RUNS", "told", None), ("ntf_UNSETTLED", "caller.hung_up", Some("key"))]);
}

#[tokio::test]
async fn a_ring_that_was_given_up_waits_a_moment_for_the_other_machine() {
    let mut writer = writer(Place::Memory).await;
    step(&mut writer).await;
    note(&mut writer, "RANG", rang());
    step(&mut writer).await;
    note(&mut writer, "RANG", Noted::GivenUp);
    step(&mut writer).await;
    writer.sweep = Instant::now();
    step(&mut writer).await;
    assert_eq!(reason(&writer, "RANG").await, None);
    // The other machine says nothing for long.
    run(&writer, "UPDATE processes SET beat_ms = beat_ms - 60000").await;
    writer.sweep = Instant::now();
    step(&mut writer).await;
    assert_eq!(reason(&writer, "RANG").await.as_deref(), Some("server.fault"));
    // It goes on with the call after all, or this machine does after a restart.
    note(&mut writer, "GOES_ON", rang());
    note(&mut writer, "GOES_ON", Noted::Adopted);
    step(&mut writer).await;
    let ready = writer.store.ready().unwrap();
    assert_eq!(ask::record(&ready, "RANG").await.unwrap(), None, "it is the same call");
    assert_eq!(reason(&writer, "GOES_ON").await, None);
}
