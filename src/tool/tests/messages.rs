//! Messages for the owner: in memory, in files, and in a store.

use std::time::Instant;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::*;
use crate::notice::Via;
use crate::phone::PhoneNumber;
use crate::store::{Fate, Files, Message, MessageFiles, Options, Place, Recipient, Store};

fn mailbox(url: &str) -> Mailbox {
    let webhook = Webhook { url: format!("{url}/messages"), secret: Secret::new(SECRET) };
    Mailbox { webhook: Some(webhook), ..Mailbox::default() }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    names.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Waits until the folder holds this many files.
async fn until_files(folder: &Path, count: usize) {
    timeout(LIMIT, async {
        while files(folder).len() != count {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{count} files in {:?}", files(folder)));
}

#[tokio::test]
async fn a_message_is_delivered_at_the_second_attempt() {
    let mut owner = Service::open().await;
    owner.answers(500, "");
    owner.answers(200, "");
    let tools = tools(None);
    let job = Job::TakeMessage(mailbox(&owner.url));
    let done = run(&tools, &job, json!({"name": "Ann", "about": "a tooth"}), CALLER).await;
    assert_eq!(done.failed, None);
    let (first, second) = (owner.next().await, owner.next().await);
    assert_eq!(first.body, second.body);
    assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"], "a duplicate can be recognized");
    let event: Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(event["id"], second.headers["webhook-id"].to_str().unwrap());
    assert_eq!(event["type"], "message.taken");
    assert_eq!(
        event["data"],
        json!({
            "assistant": "clinic",
            "call": "CA00000000000000000000000000000001",
            "caller": CALLER,
            "called": "+15550100001",
            "fields": {"name": "Ann", "about": "a tooth"},
        })
    );
    assert!(event["timestamp"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
    for received in [first, second] {
        let header = |name: &str| received.headers[name].to_str().unwrap().to_owned();
        let body = std::str::from_utf8(&received.body).unwrap();
        let at = header("webhook-timestamp").parse().unwrap();
        let code = post::signature(&Secret::new(SECRET), &header("webhook-id"), at, body);
        assert_eq!(header("webhook-signature"), code);
    }
    tools.last_messages(LIMIT).await;
}

#[tokio::test]
async fn a_message_in_a_file_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("messages");
    let mut owner = Service::open().await;
    owner.answers(503, "");
    let job = Job::TakeMessage(mailbox(&owner.url));
    let before = tools(Some(dir.path()));
    let done = run(&before, &job, json!({"name": "Ann"}), "anonymous").await;
    assert_eq!(done.failed, None);
    let first = owner.next().await;
    let kept = fs::read_to_string(folder.join(&files(&folder)[0])).unwrap();
    assert!(!kept.contains(SECRET) && !kept.contains(&owner.url), "{kept}");
    timeout(LIMIT, before.last_messages(LIMIT)).await.expect("no wait for what is on disk");
    drop(before);
    assert_eq!(files(&folder).len(), 1);

    let after = tools(Some(dir.path()));
    owner.answers.lock().unwrap().clear();
    owner.answers(204, "");
    let in_force = mailbox(&owner.url);
    after
        .resume_messages(None, Arc::new(move |name: &str, _| (name == "clinic").then(|| in_force.clone())))
        .await;
    let second = owner.next().await;
    assert_eq!((&first.body, &first.headers["webhook-id"]), (&second.body, &second.headers["webhook-id"]));
    until_files(&folder, 0).await;
    after.last_messages(LIMIT).await;
    assert!(owner.is_idle());
}

#[tokio::test]
async fn shutdown_waits_for_a_message_that_is_not_on_disk() {
    let mut owner = Service::open().await;
    owner.answers(500, "");
    owner.answers(500, "");
    owner.answers(200, "");
    let tools = Arc::new(tools(None));
    let job = Job::TakeMessage(mailbox(&owner.url));
    let taking = tokio::spawn({
        let tools = tools.clone();
        async move { run(&tools, &job, json!({}), CALLER).await }
    });
    owner.next().await;
    taking.abort(); // The caller has hung up.
    timeout(LIMIT, tools.last_messages(LIMIT)).await.expect("a shorter pause");
    owner.next().await;
    owner.next().await;
    assert!(owner.is_idle(), "the third attempt succeeded");
}

#[tokio::test]
async fn a_message_that_is_not_on_disk_is_tried_when_draining_begins() {
    let mut owner = Service::open().await;
    owner.answers(500, "");
    owner.answers(500, "");
    owner.answers(200, "");
    let tools = Arc::new(tools(None));
    let job = Job::TakeMessage(mailbox(&owner.url));
    let taking = tokio::spawn({
        let tools = tools.clone();
        async move { run(&tools, &job, json!({}), CALLER).await }
    });
    owner.next().await;
    owner.next().await;
    tools.wake_messages();
    timeout(Duration::from_secs(3), owner.next()).await.expect("less than the pause of 5 s");
    assert_eq!(timeout(LIMIT, taking).await.unwrap().unwrap().failed, None);
}

#[tokio::test]
async fn status_410_ends_the_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Service::open().await;
    owner.answers(410, "");
    let tools = tools(Some(dir.path()));
    let done = run(&tools, &Job::TakeMessage(mailbox(&owner.url)), json!({}), CALLER).await;
    assert_eq!(done.failed, None);
    owner.next().await;
    until_files(&dir.path().join("messages/given-up"), 1).await;
    until_files(&dir.path().join("messages"), 0).await;
    tools.last_messages(LIMIT).await;
    assert!(owner.is_idle());
}

#[tokio::test]
async fn an_undelivered_message_is_not_promised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let tools = tools(None);
    let done = run(&tools, &Job::TakeMessage(mailbox(&closed)), json!({}), CALLER).await;
    assert_eq!(done.failed, Some("undelivered"));
}

#[tokio::test]
async fn an_address_that_hangs_does_not_delay_another() {
    const AT_ONCE: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = Job::TakeMessage(mailbox(&format!("http://{}", listener.local_addr().unwrap())));
    let mut owner = Service::open().await;
    let tools = tools(Some(dir.path()));
    let mut held = Vec::new();
    for _ in 0..AT_ONCE {
        assert_eq!(run(&tools, &hangs, json!({}), CALLER).await.failed, None);
        held.push(timeout(LIMIT, listener.accept()).await.unwrap().unwrap());
    }
    let job = Job::TakeMessage(mailbox(&owner.url));
    assert_eq!(run(&tools, &job, json!({"name": "Ann"}), CALLER).await.failed, None);
    // Sooner than any of those times out.
    timeout(Duration::from_secs(10), owner.requests.recv()).await.expect("no wait for the others");
    // The address that hangs gets no more deliveries at once.
    assert_eq!(run(&tools, &hangs, json!({}), CALLER).await.failed, None);
    assert!(timeout(Duration::from_millis(100), listener.accept()).await.is_err());
}

// ── in a store ──

/// A database in a file, which outlives the processes that use it.
fn place(dir: &Path) -> Place {
    Place::Sqlite(dir.join("switchboard.db"))
}

/// A process that delivers what is in the store.
async fn serving(state: Option<&Path>, store: &Store, mailbox: &Mailbox) -> Tools {
    let tools = tools(state);
    let mailbox = mailbox.clone();
    let find = move |name: &str, _| (name == "clinic").then(|| mailbox.clone());
    tools.resume_messages(Some(store.clone()), Arc::new(find)).await;
    tools
}

/// Waits until no message waits in the store.
async fn until_settled(store: &Store) {
    timeout(LIMIT, async {
        while !store.waiting_messages().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("no message that waits");
}

fn left(id: &str, caller: &str) -> Message {
    Message {
        id: id.to_owned(),
        call: None,
        to: Recipient { assistant: "clinic".to_owned(), purpose: Purpose::Message, via: Via::Webhook },
        caller: PhoneNumber::parse(caller).ok(),
        taken: post::seconds(),
        body: format!("{{\"id\":\"{id}\"}}"),
        keep: Duration::from_secs(60),
    }
}

/// The ids of the next deliveries.
async fn ids(owner: &mut Service, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(owner.next().await.headers["webhook-id"].to_str().unwrap().to_owned());
    }
    ids.sort();
    ids
}

#[tokio::test]
async fn a_message_in_the_store_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Service::open().await;
    owner.answers(503, "");
    let mailbox = mailbox(&owner.url);
    let store = Store::open(&place(dir.path())).await.unwrap();
    let before = serving(Some(dir.path()), &store, &mailbox).await;
    let done = run(&before, &Job::TakeMessage(mailbox.clone()), json!({"name": "Ann"}), CALLER).await;
    assert_eq!(done.failed, None);
    let first = owner.next().await;
    let id = first.headers["webhook-id"].to_str().unwrap();
    assert_eq!(done.message.as_deref(), Some(id));
    assert!(!dir.path().join("messages").exists(), "it has no file");
    timeout(LIMIT, before.last_messages(LIMIT)).await.expect("no wait for what is in the store");
    drop((before, store));
    while !owner.is_idle() {}

    owner.answers.lock().unwrap().clear();
    owner.answers(204, "");
    let store = Store::open(&place(dir.path())).await.unwrap();
    let after = serving(Some(dir.path()), &store, &mailbox).await;
    let second = owner.next().await;
    assert_eq!((&first.body, &first.headers["webhook-id"]), (&second.body, &second.headers["webhook-id"]));
    until_settled(&store).await;
    after.last_messages(LIMIT).await;
    assert!(owner.is_idle());
}

#[tokio::test]
async fn two_processes_deliver_each_message_once() {
    const COUNT: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Service::open().await;
    owner.answers(204, "");
    let mailbox = mailbox(&owner.url);
    let stores =
        [Store::open(&place(dir.path())).await.unwrap(), Store::open(&place(dir.path())).await.unwrap()];
    for number in 0..COUNT {
        stores[0].put_message(&left(&format!("msg_{number:02}"), CALLER), &Fate::Waiting).await.unwrap();
    }
    let [one, two] = [serving(None, &stores[0], &mailbox).await, serving(None, &stores[1], &mailbox).await];
    let expected: Vec<_> = (0..COUNT).map(|number| format!("msg_{number:02}")).collect();
    assert_eq!(ids(&mut owner, COUNT).await, expected);
    until_settled(&stores[0]).await;
    tokio::join!(one.last_messages(LIMIT), two.last_messages(LIMIT));
    assert!(owner.is_idle(), "nothing was delivered twice");
}

#[tokio::test]
async fn a_message_waits_in_a_file_while_the_database_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("messages");
    let mut owner = Service::open().await;
    owner.answers(503, "");
    let mailbox = mailbox(&owner.url);
    // The folder of the database does not exist yet.
    let gone = dir.path().join("database");
    let (_records, store, closer) = crate::store::start(Options::new(place(&gone)));
    let tools = serving(Some(dir.path()), &store, &mailbox).await;
    let job = Job::TakeMessage(mailbox.clone());
    assert_eq!(run(&tools, &job, json!({"name": "Ann"}), CALLER).await.failed, None, "it is promised");
    assert_eq!(files(&folder).len(), 1);
    let first = owner.next().await;

    fs::create_dir(&gone).unwrap();
    until_files(&folder, 0).await;
    assert_eq!(store.waiting_messages().await.unwrap().len(), 1, "it is in the store");
    owner.answers.lock().unwrap().clear();
    owner.answers(204, "");
    until_settled(&store).await;
    while let Ok(more) = owner.requests.try_recv() {
        assert_eq!(first.headers["webhook-id"], more.headers["webhook-id"]);
    }
    tools.last_messages(LIMIT).await;
    closer.close(LIMIT).await;
}

#[tokio::test]
async fn a_message_does_not_wait_for_a_locked_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Service::open().await;
    owner.answers(204, "");
    let mailbox = mailbox(&owner.url);
    let store = Store::open(&place(dir.path())).await.unwrap();
    let tools = serving(Some(dir.path()), &store, &mailbox).await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("switchboard.db"));
    let mut other = options.connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    let began = Instant::now();
    let done = run(&tools, &Job::TakeMessage(mailbox.clone()), json!({}), CALLER).await;
    assert_eq!(done.failed, None);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    owner.next().await;
    until_files(&dir.path().join("messages"), 0).await;

    // The store takes it only now, and it is not delivered again.
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let delivered =
        "SELECT count(*) FROM messages WHERE state = 'delivered' AND body = '' AND caller_key IS NULL";
    timeout(LIMIT, async {
        while sqlx::query_scalar::<_, i64>(delivered).fetch_one(&mut other).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the store knows that it was delivered");
    tools.last_messages(LIMIT).await;
    assert!(owner.is_idle());
}

#[tokio::test]
async fn messages_of_an_earlier_version_move_into_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("messages");
    let messages = MessageFiles::new(dir.path());
    for id in ["msg_1", "msg_2"] {
        messages.put(&left(id, CALLER)).unwrap();
    }
    messages.give_up(&left("msg_2", CALLER), "gone").unwrap();
    fs::write(folder.join("msg_3.json"), "{").unwrap();
    let mut owner = Service::open().await;
    owner.answers(503, "");
    let store = Store::open(&place(dir.path())).await.unwrap();
    let tools = serving(Some(dir.path()), &store, &mailbox(&owner.url)).await;
    assert_eq!(owner.next().await.headers["webhook-id"], "msg_1");
    until_files(&folder, 1).await;
    assert_eq!(files(&folder), ["msg_3.json"], "what is broken stays");
    until_files(&folder.join("given-up"), 0).await;
    assert_eq!(store.waiting_messages().await.unwrap().len(), 1);
    // Both are the caller's, and a third in a file.
    messages.put(&left("msg_4", CALLER)).unwrap();
    let caller = PhoneNumber::parse(CALLER).unwrap();
    let files = Files { messages: Some(messages), waiting: None };
    let erased = store.clone().with_files(files).erase(&caller).await.unwrap();
    assert_eq!(erased.messages, 3);
    assert!(store.was_erased(&left("msg_5", CALLER)).await.unwrap());
    assert!(!store.was_erased(&left("msg_6", "+15550100008")).await.unwrap());
    tools.last_messages(LIMIT).await;
}

#[tokio::test]
async fn a_message_that_the_owner_refuses_is_kept_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Service::open().await;
    owner.answers(410, "");
    let mailbox = mailbox(&owner.url);
    let store = Store::open(&place(dir.path())).await.unwrap();
    let tools = serving(None, &store, &mailbox).await;
    let done = run(&tools, &Job::TakeMessage(mailbox.clone()), json!({}), CALLER).await;
    assert_eq!(done.failed, None, "no folder, but a store");
    owner.next().await;
    until_settled(&store).await;
    tools.last_messages(LIMIT).await;
    assert!(owner.is_idle());
    let caller = PhoneNumber::parse(CALLER).unwrap();
    assert_eq!(store.erase(&caller).await.unwrap().messages, 1);
}
