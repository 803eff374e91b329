//! Messages for owners.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use switchboard::notice::{Purpose, Via};
use switchboard::phone::PhoneNumber;
use switchboard::store::{Attempt, Claimed, Fate, MAX_WAITING, Message, Place, Recipient, Store};

const HOUR: Duration = Duration::from_secs(3_600);
const KEEP: Duration = Duration::from_secs(60);

/// What every database must do.
pub async fn all(place: &Place) {
    claims(place).await;
    takeover(place).await;
    delivered_elsewhere(place).await;
    what_is_kept(place).await;
    nobody_gets_what_another_has(place).await;
    ways(place).await;
    unclear(place).await;
    retries(place).await;
    room(place).await;
}

pub fn message(id: &str, assistant: &str, caller: &str) -> Message {
    Message {
        id: id.to_owned(),
        call: Some("CA1".to_owned()),
        to: to(assistant),
        caller: PhoneNumber::parse(caller).ok(),
        taken: Timestamp::now().as_second().unsigned_abs(),
        body: format!("the body of {id}"),
        keep: KEEP,
    }
}

fn to(assistant: &str) -> Recipient {
    Recipient { assistant: assistant.to_owned(), purpose: Purpose::Message, via: Via::Webhook }
}

/// The same by another way.
fn by(via: Via, message: Message) -> Message {
    Message { to: Recipient { via, ..message.to.clone() }, ..message }
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
    waiting.into_iter().find(|waiting| waiting.to.assistant == assistant).map(|waiting| waiting.due_in)
}

async fn claim(store: &Store, assistant: &str, lease: Duration) -> Option<Claimed> {
    store.claim_messages(&to(assistant), 1, lease).await.unwrap().pop()
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
    for via in [Via::Email, Via::Sms, Via::File] {
        let message = by(via, message(&format!("msg_5.{}", via.code()), "salon", ann));
        store.put_message(&message, &Fate::Waiting).await.unwrap();
    }
    assert_eq!(erased(ann).await, 6);
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
            let claimed = store.claim_messages(&to("garage"), 3, HOUR).await.unwrap();
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

/// A letter is taken whole, each way is claimed by itself, and an older version leaves the new ones alone.
async fn ways(place: &Place) {
    let store = Store::open(place).await.unwrap();
    let webhook = message("msg_20", "bakery", "");
    let email = by(Via::Email, message("msg_20.email", "bakery", ""));
    let text = by(Via::Sms, message("msg_20.sms", "bakery", ""));
    let notification = Recipient { purpose: Purpose::Notification, ..webhook.to.clone() };
    let news = Message { to: notification.clone(), ..message("ntf_20", "bakery", "") };
    let letter = [webhook, email, text, news];
    for _ in 0..2 {
        assert!(store.put_messages(&letter, &Fate::Waiting).await.unwrap());
    }
    let all: Vec<_> = store.messages(None, 100).await.unwrap();
    let mut listed: Vec<_> = all.iter().filter(|listed| listed.assistant == "bakery").collect();
    listed.sort_by(|one, other| one.id.cmp(&other.id));
    let found = listed.iter().map(|one| (one.id.as_str(), one.purpose.as_str(), one.via.as_str()));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("msg_20", "message", "webhook"),
            ("msg_20.email", "message", "email"),
            ("msg_20.sms", "message", "sms"),
            ("ntf_20", "notification", "webhook"),
        ]
    );
    let one = listed[0];
    assert_eq!((one.state.as_str(), one.attempts, one.call.as_deref()), ("waiting", 0, Some("CA1")));
    assert!(one.next.is_some() && one.error.is_none());
    for (to, id) in [
        (letter[1].to.clone(), Some("msg_20.email")),
        (letter[1].to.clone(), None),
        (notification, Some("ntf_20")),
        (letter[2].to.clone(), Some("msg_20.sms")),
    ] {
        let claimed = store.claim_messages(&to, 5, HOUR).await.unwrap();
        assert_eq!(claimed.iter().map(|claimed| claimed.id.as_str()).next(), id);
    }
    assert_eq!(seen_by_an_older_version(place, "bakery").await, ["msg_20"]);
}

/// What the version before this one takes for a message to the webhook of `take_message`.
async fn seen_by_an_older_version(place: &Place, assistant: &str) -> Vec<String> {
    ask(place, &format!("SELECT id FROM messages WHERE state = 'waiting' AND assistant = '{assistant}'"))
        .await
}

/// Asks the database itself.
async fn ask(place: &Place, sql: &str) -> Vec<String> {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    match place {
        Place::Sqlite(path) => {
            let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
        }
        Place::Postgres(url) => {
            let pool = sqlx::PgPool::connect(url.expose()).await.unwrap();
            sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
        }
        Place::Memory => unreachable!("nobody else can look into it"),
    }
}

/// A text message that may have been sent is not sent again.
async fn unclear(place: &Place) {
    let (one, two) = (Store::open(place).await.unwrap(), Store::open(place).await.unwrap());
    let text = by(Via::Sms, message("msg_30.sms", "florist", ""));
    one.put_message(&text, &Fate::Waiting).await.unwrap();
    let state = async |store: &Store| {
        let all = store.messages(None, 100).await.unwrap();
        let found = all.into_iter().find(|listed| listed.id == text.id).unwrap();
        (found.state, found.error)
    };
    let of = |state: &str, error: Option<&str>| (state.to_owned(), error.map(str::to_owned));
    let claim = async |lease| one.claim_messages(&text.to, 1, lease).await.unwrap().pop();
    let claimed = claim(HOUR).await.unwrap();
    assert!(one.mark_sending(&claimed).await.unwrap());
    assert!(!two.mark_sending(&claimed).await.unwrap(), "it is marked");
    assert_eq!(state(&two).await, of("waiting", None));
    assert!(two.give_up_unclear().await.unwrap().is_empty(), "the lease");
    // It was certainly not sent.
    one.settle_message(&claimed, &failed(Duration::ZERO)).await.unwrap();
    let claimed = claim(Duration::ZERO).await.expect("it waits again");
    assert!(one.mark_sending(&claimed).await.unwrap());
    assert!(claim(HOUR).await.is_none(), "nobody sends it again");
    let waiting = two.waiting_messages().await.unwrap();
    let sending = waiting.iter().find(|waiting| waiting.to == text.to).unwrap();
    assert_eq!((sending.sending, sending.due_in), (true, Duration::ZERO));
    assert_eq!(two.give_up_unclear().await.unwrap(), [(text.id.clone(), text.to.clone())]);
    assert_eq!(state(&one).await, of("given_up", Some("unclear")));
    one.settle_message(&claimed, &failed(Duration::ZERO)).await.unwrap();
    assert_eq!(state(&one).await, of("given_up", Some("unclear")), "it is too late to wait");
    one.settle_message(&claimed, &Attempt::Delivered).await.unwrap();
    assert_eq!(state(&two).await, of("delivered", None), "but not for good news");
}

/// What was given up is tried for another three days, and a text message that may have been sent only by its id.
async fn retries(place: &Place) {
    let store = Store::open(place).await.unwrap();
    let old = |message: Message| Message { taken: message.taken - 1_000_000, ..message };
    let webhook = old(message("msg_40", "kiosk", ""));
    let text = old(by(Via::Sms, message("msg_40.sms", "kiosk", "")));
    let waits = old(by(Via::File, message("msg_40.file", "kiosk", "")));
    store.retry_messages(&[]).await.unwrap();
    store.put_message(&webhook, &given_up("status.500")).await.unwrap();
    store.put_message(&text, &given_up("unclear")).await.unwrap();
    store.put_message(&waits, &Fate::Waiting).await.unwrap();
    let claim = async |message: &Message| store.claim_messages(&message.to, 1, HOUR).await.unwrap().pop();
    let claimed = claim(&waits).await.unwrap();
    assert_eq!(claimed.since_ms, claimed.taken_ms);
    store.settle_message(&claimed, &failed(HOUR)).await.unwrap();
    assert_eq!(store.retry_messages(&[]).await.unwrap(), 1);
    let claimed = claim(&webhook).await.expect("it is tried again");
    assert!(claimed.since_ms - claimed.taken_ms >= 999_000_000, "from now on");
    assert!(claim(&text).await.is_none() && claim(&waits).await.is_none());
    let ids = [text.id.clone(), waits.id.clone(), "nobody".to_owned(), webhook.id.clone()];
    assert_eq!(store.retry_messages(&ids).await.unwrap(), 3);
    assert!(claim(&text).await.is_some() && claim(&waits).await.is_some());
    assert!(claim(&webhook).await.is_none(), "somebody has it");
    let gone = store.messages(Some("given_up"), 100).await.unwrap();
    assert!(gone.iter().all(|listed| listed.assistant != "kiosk"));
}

/// A letter that does not fit is not taken in part.
async fn room(place: &Place) {
    let store = Store::open(place).await.unwrap();
    let fill = format!(
        "WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {MAX_WAITING}) \
         INSERT INTO messages (id, assistant, taken_ms, body, state, attempts, next_ms, claimed_until_ms, keep_ms, via) \
         SELECT 'full_' || i, 'office', 0, '{{}}', 'queued', 0, 0, 0, 0, 'file' FROM numbers RETURNING id"
    );
    assert_eq!(ask(place, &fill).await.len(), MAX_WAITING as usize);
    let letter = ["more.file", "more.email"].map(|id| by(Via::File, message(id, "office", "")));
    assert!(!store.put_messages(&letter, &Fate::Waiting).await.unwrap());
    assert!(ask(place, "SELECT id FROM messages WHERE id LIKE 'more%'").await.is_empty());
    assert!(store.put_messages(&letter, &Fate::Delivered).await.unwrap(), "it needs no room");
}
