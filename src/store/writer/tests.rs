use std::future::pending;

use super::*;
use crate::record::{Ended, Rang, What as Noted};
use crate::store::ask;
use crate::store::db::values;

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
    writer.intake.take_in(&id.into(), Entry { at_ms: 0, what }, Arc::default);
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
