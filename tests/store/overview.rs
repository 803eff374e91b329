//! What the console asks.

use std::time::Duration;

use switchboard::store::{Place, Store};

use super::calls::{Call, start, time};

/// Sums hours, finds the calls that run, and erases one call.
pub async fn sums_and_erases_one(place: &Place) {
    let (records, _, closer) = start(place);
    let ended = [(1, "caller.hung_up"), (2, "model.lost"), (61, "caller.hung_up")];
    for (at, reason) in ended {
        Call::at(at).run(&records, "Hello?", reason);
    }
    let running = Call::at(62);
    running.ring(&records);
    closer.close(Duration::from_secs(20)).await;

    let store = Store::open(place).await.unwrap();
    let hours = store.hours(time(0)).await.unwrap();
    let sums: Vec<_> = hours.iter().map(|hour| (hour.began, hour.calls, hour.failures)).collect();
    assert_eq!(sums, [(time(0), 2, 1), (time(60), 2, 0)]);
    assert_eq!(hours[0].seconds, 85.0);
    assert_eq!(store.hours(time(61)).await.unwrap()[0].calls, 2);
    let waits = store.waits(time(0), 2).await.unwrap();
    assert_eq!(waits.len(), 2, "those that are over, of the newest");

    let runs: Vec<_> = store.under_way(10).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(runs, std::slice::from_ref(&running.id));
    let kept = store.erase_call(running.id.as_str()).await.unwrap();
    assert_eq!(kept.calls, 0, "its process would write it again");
    let id = Call::at(2).id;
    assert_eq!(store.erase_call(id.as_str()).await.unwrap().calls, 1);
    assert_eq!(store.get(id.as_str()).await, Ok(None));
    assert_eq!(store.erase_call(id.as_str()).await.unwrap().calls, 0);
}
