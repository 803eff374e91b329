//! Messages for owners.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use switchboard::phone::PhoneNumber;
use switchboard::store::{Attempt, Claimed, Fate, Message, Place, Store};

const HOUR: Duration = Duration::from_secs(3_600);
const KEEP: Duration = Duration::from_secs(60);

/// What every database must do.
pub async fn all(place: &Place) {
    claims(place).await;
    takeover(place).await;
    delivered_elsewhere(place).await;
    what_is_kept(place).await;
    nobody_gets_what_another_has(place).await;
}

pub fn message(id: &str, assistant: &str, caller: &str) -> Message {
    Message {
        id: id.to_owned(),
        call: Some("CA1".to_owned()),
        assistant: assistant.to_owned(),
        caller: PhoneNumber::parse(caller).ok(),
        taken: Timestamp::now().as_second().unsigned_abs(),
        body: format!("the body of {id}"),
        keep: KEEP,
    }
}

fn failed(pause: Duration) -> Attempt {
    Attempt::Failed { error: "status.503".to_owned(), pause }
}

pub fn given_up(error: &str) -> Fate {
    Fate::GivenUp { error: error.to_owned() }
}

/// Whether messages of the assistant wait, and for how long.
async fn due_in(store: &Store, assistant: &str) -> Option<Duration> {
    let waiting = store.waiting_messages().await.unwrap();
    waiting.into_iter().find(|waiting| waiting.assistant == assistant).map(|waiting| waiting.due_in)
}

async fn claim(store: &Store, assistant: &str, lease: Duration) -> Option<Claimed> {
    store.claim_messages(assistant, 1, lease).await.unwrap().pop()
}

/// A message that is claimed is nobody else's, and has a pause after it failed.
async fn claims(place: &Place) {
    let (one, two) = (Store::open(place).await.unwrap(), Store::open(place).await.unwrap());
    assert!(one.is_durable());
    let taken = message("msg_1", "clinic", "+15550100007");
    assert!(one.put_message(&taken, &Fate::Waiting).await.unwrap());
    assert!(two.put_message(&taken, &Fate::Waiting).await.unwrap(), "it is there already");
    assert_eq!(due_in(&two, "clinic").await, Some(Duration::ZERO));
    assert!(claim(&one, "garage", HOUR).await.is_none());

    let claimed = claim(&one, "clinic", HOUR).await.unwrap();
    assert_eq!((claimed.id.as_str(), claimed.body.as_str()), ("msg_1", "the body of msg_1"));
    assert_eq!((claimed.attempts, claimed.error.as_deref()), (1, None));
    assert!(claim(&two, "clinic", HOUR).await.is_none());
    assert!(due_in(&two, "clinic").await.unwrap() > HOUR / 2, "the lease");

    one.settle_message(&claimed, &failed(HOUR)).await.unwrap();
    assert!(claim(&two, "clinic", HOUR).await.is_none(), "the pause");
    assert!(two.hurry_messages().await.unwrap() > 0);
    let claimed = claim(&two, "clinic", HOUR).await.unwrap();
    assert_eq!((claimed.attempts, claimed.error.as_deref()), (2, Some("status.503")));
    assert_eq!(one.hurry_messages().await.unwrap(), 1);
    assert!(claim(&one, "clinic", HOUR).await.is_none(), "hurry leaves a lease alone");

    two.settle_message(&claimed, &Attempt::Delivered).await.unwrap();
    assert_eq!(due_in(&one, "clinic").await, None);
    assert!(one.put_message(&taken, &Fate::Waiting).await.unwrap());
    assert_eq!(due_in(&one, "clinic").await, None, "it is not delivered again");
}

/// A process that is late loses its message, but not what it delivered.
async fn takeover(place: &Place) {
    let (late, next) = (Store::open(place).await.unwrap(), Store::open(place).await.unwrap());
    late.put_message(&message("msg_2", "clinic", ""), &Fate::Waiting).await.unwrap();
    let first = claim(&late, "clinic", Duration::ZERO).await.unwrap();
    let second = claim(&next, "clinic", HOUR).await.expect("the lease is over");
    assert_eq!((&second.id, second.attempts), (&first.id, 2));
    late.settle_message(&first, &failed(Duration::ZERO)).await.unwrap();
    late.settle_message(&first, &Attempt::GivenUp { error: "gone".to_owned() }).await.unwrap();
    assert!(due_in(&late, "clinic").await.unwrap() > HOUR / 2, "it is still the other's");
    late.settle_message(&first, &Attempt::Delivered).await.unwrap();
    next.settle_message(&second, &failed(Duration::ZERO)).await.unwrap();
    assert_eq!(due_in(&next, "clinic").await, None);
}

/// A message that was delivered from a file meanwhile is not delivered again, whatever reaches the store first.
async fn delivered_elsewhere(place: &Place) {
    let store = Store::open(place).await.unwrap();
    for (id, fates) in [
        ("msg_8", [Fate::Waiting, Fate::Delivered]),
        ("msg_9", [Fate::Delivered, Fate::Waiting]),
        ("msg_10", [Fate::Waiting, given_up("gone")]),
    ] {
        for fate in &fates {
            assert!(store.put_message(&message(id, "clinic", "+15550100007"), fate).await.unwrap());
        }
        assert_eq!(due_in(&store, "clinic").await, None, "{id}");
    }
    let caller = PhoneNumber::parse("+15550100007").unwrap();
    assert_eq!(store.erase(&caller).await.unwrap().messages, 1, "the one that was given up");
}

/// Messages that nobody accepted are kept for a while, and are their caller's.
async fn what_is_kept(place: &Place) {
    let store = Store::open(place).await.unwrap();
    let (ann, bob) = ("+15550100011", "+15550100012");
    let erased = async |caller: &str| {
        let caller = PhoneNumber::parse(caller).unwrap();
        store.erase(&caller).await.unwrap().messages
    };
    store.put_message(&message("msg_3", "salon", ann), &Fate::Waiting).await.unwrap();
    let claimed = claim(&store, "salon", HOUR).await.unwrap();
    store.settle_message(&claimed, &Attempt::GivenUp { error: "gone".to_owned() }).await.unwrap();
    store.put_message(&message("msg_4", "salon", ann), &given_up("unknown")).await.unwrap();
    assert_eq!(due_in(&store, "salon").await, None);
    store.put_message(&message("msg_5", "salon", ann), &Fate::Waiting).await.unwrap();
    store.put_message(&message("msg_6", "salon", bob), &Fate::Waiting).await.unwrap();
    assert_eq!(erased(ann).await, 3);
    assert_eq!(claim(&store, "salon", HOUR).await.unwrap().id, "msg_6", "it is somebody else's");
    assert_eq!((erased(ann).await, erased(bob).await), (0, 1));
}

async fn nobody_gets_what_another_has(place: &Place) {
    const COUNT: usize = 60;
    let stores = [Store::open(place).await.unwrap(), Store::open(place).await.unwrap()];
    for number in 0..COUNT {
        let message = message(&format!("msg_{number}x"), "garage", "");
        stores[0].put_message(&message, &Fate::Waiting).await.unwrap();
    }
    let claim_all = async |store: &Store| {
        let mut ids = Vec::new();
        loop {
            let claimed = store.claim_messages("garage", 3, HOUR).await.unwrap();
            if claimed.is_empty() && due_in(store, "garage").await != Some(Duration::ZERO) {
                return ids;
            }
            ids.extend(claimed.into_iter().map(|claimed| claimed.id));
        }
    };
    let (one, two) = tokio::join!(claim_all(&stores[0]), claim_all(&stores[1]));
    let all: BTreeSet<_> = one.iter().chain(&two).collect();
    assert_eq!((one.len() + two.len(), all.len()), (COUNT, COUNT));
}
