//! What every database must do.

use std::time::Duration;

use switchboard::store::{Filter, Place, Row, Store, StoreError};

use super::calls::{Call, number, start, time};

/// Lists, finds and folds calls.
pub async fn answers(place: &Place) {
    let (records, live, closer) = start(place);
    Call::at(1).run(&records, "Is SATURDAY free? 100%", "caller.hung_up");
    Call::at(2).from(2).run(&records, "Größe ÄNDERN, 100 percent", "model.lost");
    Call::at(3).to("garage").run(&records, "Saturday\0 is fine", "model.stalled");
    let running = Call::at(4).to("garage");
    running.ring(&records);
    running.say(&records, 2_000, "Hello?");
    closer.close(Duration::from_secs(20)).await;
    live.status().unwrap();

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
