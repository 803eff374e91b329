//! What is for owners, delivered by every way: with a real mail server, with kill -9 between any two steps, and by two
//! processes at once.

mod kills;
mod process;
#[path = "../smtp/server.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::assistant::plan::{Mailbox, Webhook};
use switchboard::link::mail::Mailer;
use switchboard::link::tls;
use switchboard::link::twilio_rest::Account;
use switchboard::notice::{Content, Purpose, Via};
use switchboard::observe::metrics;
use switchboard::phone::PhoneNumber;
use switchboard::post::{GivenUp, Letter, Post, Taken};
use switchboard::secret::Secret;
use switchboard::store::{self, Fate, Message, MessageFiles, Options, Place, Recipient, Store};
use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestFault, RestServer, number};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use process::{Received, Webhooks};
use server::MailServer;

const PATIENCE: Duration = Duration::from_secs(20);
const OURS: &str = "+15550100001";
const OWNER: &str = "+15550100099";
const CALLER: &str = "+15550100007";

/// Where everything of one test is.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct Places {
    state: String,
    /// Whether there is a database.
    store: bool,
    /// It cannot be opened.
    is_away: bool,
    smtp: Option<u16>,
    twilio: Option<String>,
    webhook: Option<String>,
    file: Option<String>,
}

impl Places {
    fn new(state: &Path) -> Self {
        Self { state: state.to_str().unwrap().to_owned(), store: true, ..Self::default() }
    }

    fn mailbox(&self) -> Mailbox {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        Mailbox {
            email: self.smtp.map(|_| "owner@example.com".to_owned()),
            sms: self.twilio.as_ref().map(|_| PhoneNumber::parse(OWNER).unwrap()),
            webhook: self.webhook.clone().map(|url| Webhook { url, secret }),
            file: self.file.clone(),
        }
    }

    fn place(&self) -> Place {
        Place::Sqlite(Path::new(&self.state).join("switchboard.db"))
    }

    async fn open(&self) -> Option<Store> {
        match (self.store, self.is_away) {
            (true, false) => Some(Store::open(&self.place()).await.unwrap()),
            (true, true) => {
                let (_, store, writer) = store::start(Options::new(Place::Sqlite("/dev/null/none".into())));
                std::mem::forget(writer);
                Some(store)
            }
            (false, _) => None,
        }
    }

    /// Delivers what is there, by addresses in force.
    async fn post(&self, store: Option<Store>) -> Post {
        let tls = tls::client_config(false, None).unwrap();
        let account = self
            .twilio
            .as_ref()
            .map(|url| Arc::new(Account::new(url, ACCOUNT, "SK1", Secret::new("shh"), &tls).unwrap()));
        let mailer = self.smtp.map(|port| {
            let url = Secret::new(format!("smtp://localhost:{port}"));
            Mailer::new(&url, Some("phone@example.com"), None).unwrap()
        });
        let post = Post::new(&tls, Some(Path::new(&self.state)), account, mailer).unwrap();
        let mailbox = self.mailbox();
        post.address_by(Arc::new(move |assistant, purpose| {
            (assistant == "clinic" && [Purpose::Message, Purpose::Notification].contains(&purpose))
                .then(|| mailbox.clone())
        }));
        post.resume(store).await;
        post
    }
}

/// A message, or a notification if its id is one's.
fn letter(id: &str, to: Mailbox) -> Letter {
    Letter {
        id: id.to_owned(),
        purpose: if id.starts_with("ntf_") { Purpose::Notification } else { Purpose::Message },
        assistant: "clinic".to_owned(),
        call: None,
        caller: PhoneNumber::parse(CALLER).ok(),
        called: PhoneNumber::parse(OURS).ok(),
        to,
        content: Content {
            subject: "Clinic: message from Zoë".to_owned(),
            text: "Wish: Tuesday".to_owned(),
            short: "Zoë wishes Tuesday".to_owned(),
            event: json!({"id": id, "type": "message.taken", "data": {"fields": {"wish": "Tuesday"}}}),
        },
        keep: Duration::from_secs(3_600),
    }
}

async fn twilio() -> RestServer {
    let credentials = vec![("SK1".to_owned(), "shh".to_owned())];
    let numbers = vec![number(1, OURS)];
    RestServer::start(AccountOptions { numbers, credentials, ..AccountOptions::default() }).await.unwrap()
}

async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let look = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{what}"));
}

/// The states of all messages, and the errors, by id.
async fn states(store: &Store) -> Vec<(String, String, Option<String>)> {
    let mut all: Vec<_> = store.messages(None, 100).await.unwrap();
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all.into_iter().map(|listed| (listed.id, listed.state, listed.error)).collect()
}

async fn until_state(store: &Store, id: &str, state: &str) {
    until(&format!("{id} is {state}"), async || {
        states(store).await.iter().any(|(known, now, _)| known == id && now == state)
    })
    .await;
}

fn lines(places: &Places) -> Vec<String> {
    let path = Path::new(&places.state).join(places.file.as_ref().unwrap());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_letter_goes_every_way_once() {
    let state = tempfile::tempdir().unwrap();
    let (mut mail, twilio, mut hooks) =
        (MailServer::start(&[]).await, twilio().await, Webhooks::start(&[204]).await);
    let places = Places {
        smtp: Some(mail.port),
        twilio: Some(twilio.url().to_owned()),
        webhook: Some(hooks.url.clone()),
        file: Some("left/messages.jsonl".to_owned()),
        ..Places::new(state.path())
    };
    let counted = metrics::install().unwrap();
    let store = places.open().await.unwrap();
    let post = places.post(Some(store.clone())).await;
    assert_eq!(post.take(letter("msg_1", places.mailbox())).await, Taken::Kept);
    let message = mail.next().await;
    assert_eq!(message["to"], json!(["owner@example.com"]));
    let content = message["content"].as_str().unwrap();
    assert!(content.contains("Message-ID: <msg_1@example.com>") && content.contains("Wish: Tuesday"));
    let Received { id, body, .. } = hooks.next().await;
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((id.as_str(), &event["id"]), ("msg_1", &json!("msg_1")));
    for id in ["msg_1", "msg_1.email", "msg_1.file", "msg_1.sms"] {
        until_state(&store, id, "delivered").await;
    }
    let sent = &twilio.messages()[0];
    let fields = [&sent["from"], &sent["to"], &sent["body"]];
    assert_eq!(fields, [&json!(OURS), &json!(OWNER), &json!("Zoë wishes Tuesday")]);
    assert_eq!(serde_json::from_str::<Value>(&lines(&places)[0]).unwrap(), event);

    // Again: it is known.
    assert_eq!(post.take(letter("msg_1", places.mailbox())).await, Taken::Kept);
    assert_eq!(
        post.take(letter("msg_2", Mailbox { file: places.file.clone(), ..Mailbox::default() })).await,
        Taken::Kept
    );
    until_state(&store, "msg_2.file", "delivered").await;
    assert_eq!((states(&store).await.len(), lines(&places).len(), twilio.messages().len()), (5, 2, 1));
    assert!(mail.is_idle().await && hooks.is_idle());
    let page = counted.render();
    for via in Via::ALL {
        let series = format!("switchboard_deliveries_total{{via=\"{}\",outcome=\"delivered\"}} ", via.code());
        let line = page.lines().find(|line| line.starts_with(&series)).unwrap();
        assert_ne!(line.strip_prefix(&series), Some("0"), "{line}");
    }
    post.close(PATIENCE).await;
}

#[tokio::test]
async fn a_way_that_fails_delays_no_other_and_is_reported_in_the_end() {
    let state = tempfile::tempdir().unwrap();
    let (twilio, mut hooks) = (twilio().await, Webhooks::start(&[410]).await);
    let places = Places {
        // Nobody listens.
        smtp: Some(1),
        twilio: Some(twilio.url().to_owned()),
        webhook: Some(hooks.url.clone()),
        file: Some("messages.jsonl".to_owned()),
        ..Places::new(state.path())
    };
    twilio.plan("POST", 1, RestFault::Refuse { status: 400, code: 21610 });
    let store = places.open().await.unwrap();
    let post = places.post(Some(store.clone())).await;
    let (given_up_tx, mut given_up) = mpsc::unbounded_channel();
    post.on_given_up(Arc::new(move |given_up: &GivenUp| drop(given_up_tx.send(given_up.clone()))));
    post.take(letter("msg_1", places.mailbox())).await;
    hooks.next().await;
    until_state(&store, "msg_1.file", "delivered").await;
    let mut errors = Vec::new();
    for _ in 0..2 {
        let given_up = timeout(PATIENCE, given_up.recv()).await.unwrap().unwrap();
        errors.push((given_up.to.via, given_up.error));
    }
    errors.sort_by_key(|(via, _)| via.code());
    let expected = [(Via::Sms, "sms.opted_out".to_owned()), (Via::Webhook, "gone".to_owned())];
    assert_eq!(errors, expected);
    until("the mail server is tried again", async || {
        let waiting = store.messages(Some("waiting"), 10).await.unwrap();
        waiting
            .iter()
            .any(|listed| listed.id == "msg_1.email" && listed.attempts >= 2 && listed.next.is_some())
    })
    .await;
    let waiting = store.messages(Some("waiting"), 10).await.unwrap();
    assert_eq!(waiting[0].error.as_deref(), Some("connection_refused"));
    // The owner opens both again.
    assert_eq!(store.messages(Some("given_up"), 10).await.unwrap().len(), 2);
    hooks.answer(204);
    assert_eq!(store.retry_messages(&[]).await.unwrap(), 2);
    for id in ["msg_1", "msg_1.sms"] {
        until_state(&store, id, "delivered").await;
    }
    assert_eq!(twilio.messages().len(), 1);
    post.close(PATIENCE).await;
}

#[tokio::test]
async fn a_text_message_whose_outcome_is_unclear_is_sent_once_more_only_by_its_id() {
    let state = tempfile::tempdir().unwrap();
    let twilio = twilio().await;
    let places = Places { twilio: Some(twilio.url().to_owned()), ..Places::new(state.path()) };
    let store = places.open().await.unwrap();
    let post = places.post(Some(store.clone())).await;
    // It is busy, then has an error after it sent the text.
    twilio.plan("POST", 1, RestFault::Refuse { status: 429, code: 20429 });
    twilio.plan("POST", 1, RestFault::BreakAfter { status: 503 });
    post.take(letter("msg_1", places.mailbox())).await;
    until_state(&store, "msg_1.sms", "given_up").await;
    assert_eq!(states(&store).await[0].2.as_deref(), Some("unclear"));
    assert_eq!(twilio.messages().len(), 1);
    assert_eq!(store.retry_messages(&[]).await.unwrap(), 0);
    assert_eq!(store.retry_messages(&["msg_1.sms".to_owned()]).await.unwrap(), 1);
    until_state(&store, "msg_1.sms", "delivered").await;
    assert_eq!(twilio.messages().len(), 2);
    post.close(PATIENCE).await;
}

#[tokio::test]
async fn a_mail_server_that_hangs_delays_no_shutdown() {
    let state = tempfile::tempdir().unwrap();
    let mut mail = MailServer::start(&["--answers", "0"]).await;
    let places = Places { smtp: Some(mail.port), ..Places::new(state.path()) };
    let store = places.open().await.unwrap();
    let post = places.post(Some(store.clone())).await;
    post.take(letter("msg_1", places.mailbox())).await;
    mail.next().await;
    let began = Instant::now();
    post.close(PATIENCE).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // The next process need not wait for a lease.
    let stopped = ("msg_1.email".to_owned(), "waiting".to_owned(), Some("stopped".to_owned()));
    assert_eq!(states(&store).await, [stopped]);
}

#[tokio::test]
async fn what_is_on_its_way_without_a_store_is_not_taken_again() {
    let state = tempfile::tempdir().unwrap();
    let mut hooks = Webhooks::start(&[0]).await;
    let places = Places { store: false, webhook: Some(hooks.url.clone()), ..Places::new(state.path()) };
    let post = places.post(None).await;
    for _ in 0..2 {
        assert_eq!(post.take(letter("msg_1", places.mailbox())).await, Taken::Kept);
    }
    post.take(letter("msg_2", places.mailbox())).await;
    let mut ids = [hooks.next().await.id, hooks.next().await.id];
    ids.sort();
    assert_eq!(ids, ["msg_1", "msg_2"]);
    assert!(hooks.is_idle());
}

#[tokio::test]
async fn a_text_message_in_a_file_waits_for_the_store_that_may_have_it() {
    let state = tempfile::tempdir().unwrap();
    let (twilio, mut hooks) = (twilio().await, Webhooks::start(&[204]).await);
    let places = Places {
        twilio: Some(twilio.url().to_owned()),
        webhook: Some(hooks.url.clone()),
        ..Places::new(state.path())
    };
    // A process put it into the store, and died before it removed the file.
    let of = |via, id: &str, body: String| Message {
        id: id.to_owned(),
        call: None,
        to: Recipient { assistant: "clinic".to_owned(), purpose: Purpose::Message, via },
        caller: None,
        taken: u64::try_from(jiff::Timestamp::now().as_second()).unwrap(),
        body,
        keep: Duration::from_secs(60),
    };
    let text = of(Via::Sms, "msg_1.sms", json!({"from": OURS, "text": "Hello"}).to_string());
    let folders = ["database", "elsewhere"].map(|name| state.path().join(name));
    std::fs::create_dir(&folders[0]).unwrap();
    let place = Place::Sqlite(folders[0].join("switchboard.db"));
    let store = Store::open(&place).await.unwrap();
    store.put_message(&text, &Fate::Waiting).await.unwrap();
    let files = MessageFiles::new(state.path());
    files.put(&text).unwrap();
    files.put(&of(Via::Webhook, "msg_2", "{}".to_owned())).unwrap();
    // The next one cannot reach the store at first.
    std::fs::rename(&folders[0], &folders[1]).unwrap();
    let (_records, late, closer) = switchboard::store::start(Options::new(place));
    let post = places.post(Some(late.clone())).await;
    assert_eq!(hooks.next().await.id, "msg_2");
    until("the file of the webhook is gone", async || files.read().waiting.len() == 1).await;
    std::fs::rename(&folders[1], &folders[0]).unwrap();
    until_state(&store, "msg_1.sms", "delivered").await;
    until("its file is gone", async || files.read().waiting.is_empty()).await;
    assert_eq!(twilio.messages().len(), 1);
    post.close(PATIENCE).await;
    closer.close(PATIENCE).await;
}
