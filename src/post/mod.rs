//! Everything for owners: what callers left, news of calls, forms and alerts, delivered by every way that the owner asked
//! for.
//!
//! A letter becomes one message for each way, with an id of its own. A message is retried for three days with the same id,
//! so that the owner can recognize a duplicate; only a text message is never sent again once it may have been. A message
//! is on a disk before a caller is promised anything: in the store, or in a file in the state folder until the store can
//! take it. Without either, it lives as long as the process, and the caller is promised what a first attempt allows.
//!
//! The log has the id of a message, never its content or its address.

mod file;
mod held;
mod stored;
mod ways;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Client as HttpClient;
use rustls::ClientConfig;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::held::Held;
use self::ways::{Address, TIMEOUT, Undelivered};
use crate::assistant::plan::Mailbox;
use crate::id::CallSid;
use crate::link;
use crate::link::mail::Mailer;
use crate::link::twilio_rest::Account;
use crate::notice::{Content, Purpose, Via};
use crate::observe::metrics;
use crate::phone::PhoneNumber;
use crate::store::{Fate, Message, MessageFiles, Recipient, Store};

#[cfg(test)]
pub(crate) use ways::signature;

/// How many messages outside of the store may wait for delivery.
const MAX_HELD: usize = 1_000;
/// The pauses after each failure; the last one repeats.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
];
/// How long delivery is retried.
const MAX_AGE: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long a message waits for the store before it goes to a file.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// The pause after the store did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How long an assistant waits for the delivery of a message that is not on disk: with [`STORE_PATIENCE`], less than a
/// tool's usual limit.
const FIRST_DELIVERY: Duration = Duration::from_secs(8);

/// Something for the owner.
#[derive(Clone)]
pub struct Letter {
    /// Stays the same in every delivery, so that a duplicate can be recognized. It names files, and is a part of e-mail.
    pub id: String,
    pub purpose: Purpose,
    /// Empty: it is from the server.
    pub assistant: String,
    pub call: Option<CallSid>,
    pub caller: Option<PhoneNumber>,
    /// The number that sends text messages: the one that was called. Without it, none is sent.
    pub called: Option<PhoneNumber>,
    /// Where it goes unless the roster in force says otherwise.
    pub to: Mailbox,
    pub content: Content,
    /// For how long it is kept once nothing more is tried.
    pub keep: Duration,
}

/// What can be promised of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is on a disk, and will be delivered.
    Kept,
    /// By one way at least.
    Delivered,
    /// It is not on a disk, and could not be delivered yet.
    Undelivered,
    /// Too many wait.
    NoRoom,
}

impl Letter {
    /// An id for a new message.
    pub fn message_id() -> String {
        format!("msg_{:032x}", rand::random::<u128>())
    }

    /// One message for each way.
    pub fn messages(&self) -> Vec<Message> {
        let taken = seconds();
        let message = |via| Message {
            id: match via {
                Via::Webhook => self.id.clone(),
                via => format!("{}.{}", self.id, via.code()),
            },
            call: self.call.as_ref().map(CallSid::to_string),
            to: Recipient { assistant: self.assistant.clone(), purpose: self.purpose, via },
            caller: self.caller.clone(),
            taken,
            body: ways::body(self, via),
            keep: self.keep,
        };
        ways::ways(&self.to).map(message).collect()
    }
}

/// Finds a mailbox by its assistant's name and what it is for.
pub type Mailboxes = dyn Fn(&str, Purpose) -> Option<Mailbox> + Send + Sync;

/// A message that will not be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    pub to: Recipient,
    /// The code of why.
    pub error: String,
}

/// Is called for each message that is given up, except alerts.
pub type OnGivenUp = dyn Fn(&GivenUp) + Send + Sync;

/// Takes messages and delivers them. See the module.
#[derive(Clone)]
pub struct Post(Arc<Office>);

struct Office {
    http: HttpClient,
    account: Option<Arc<Account>>,
    mailer: Option<Mailer>,
    /// The folder for the owner's files.
    state: Option<PathBuf>,
    files: Option<MessageFiles>,
    /// Set by [`Post::resume`].
    store: OnceLock<Store>,
    /// Whether the store answered lately.
    store_answers: watch::Sender<bool>,
    /// Wakes the task that delivers from the store.
    look: Notify,
    /// What this process delivers or holds: it does not claim that from the store.
    claimed: Mutex<HashSet<String>>,
    /// For messages outside of the store.
    room: Arc<Semaphore>,
    /// How many at once, by address, so that one that hangs does not delay the others.
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    deliveries: TaskTracker,
    /// Draining has begun: messages that are not on disk restart their pauses.
    waking: CancellationToken,
    closing: CancellationToken,
    /// From the roster in force.
    mailboxes: Mutex<Option<Arc<Mailboxes>>>,
    /// From the plans of calls; the roster in force takes precedence.
    planned: Mutex<HashMap<(String, Purpose), Mailbox>>,
    on_given_up: Mutex<Option<Arc<OnGivenUp>>>,
}

/// Where the messages of a letter are.
enum Kept {
    InStore,
    Outside(Vec<Held>),
}

/// What came of putting a message into the store.
enum Put {
    Taken,
    /// Too many wait.
    Full,
    /// There is no store that could take it and outlast the process.
    No,
    /// The store did not answer, and may take it yet.
    Unclear,
}

impl Post {
    /// Keeps messages that the store cannot take in the folder `messages` of `state`, if there is one. `account` sends text
    /// messages, and `mailer` e-mail.
    pub fn new(
        tls: &ClientConfig,
        state: Option<&Path>,
        account: Option<Arc<Account>>,
        mailer: Option<Mailer>,
    ) -> Result<Self, reqwest::Error> {
        let http = link::http_client(tls).timeout(TIMEOUT).build()?;
        Ok(Self(Arc::new(Office {
            http,
            account,
            mailer,
            state: state.map(Path::to_owned),
            files: state.map(MessageFiles::new),
            store: OnceLock::new(),
            store_answers: watch::Sender::new(false),
            look: Notify::new(),
            claimed: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_HELD)),
            limits: Mutex::default(),
            deliveries: TaskTracker::new(),
            waking: CancellationToken::new(),
            closing: CancellationToken::new(),
            mailboxes: Mutex::new(None),
            planned: Mutex::default(),
            on_given_up: Mutex::new(None),
        })))
    }

    /// Takes something for the owner. When this returns, it is on a disk if it can be. What has been taken before, by its
    /// id, is not taken again.
    pub async fn take(&self, letter: Letter) -> Taken {
        let office = &self.0;
        let messages = letter.messages();
        let Letter { id, purpose, assistant, to, .. } = letter;
        lock(&office.planned).insert((assistant, purpose), to);
        let Some(kept) = office.keep(messages).await else {
            tracing::error!("Too many messages wait for delivery; rejecting a message");
            return Taken::NoRoom;
        };
        let on_disk = match &kept {
            Kept::InStore => true,
            Kept::Outside(held) => held.iter().all(|held| held.on_disk),
        };
        tracing::info!(message = id, purpose = purpose.code(), on_disk, "Took a message");
        if purpose == Purpose::Message {
            metrics::message("taken");
        }
        let Kept::Outside(held) = kept else {
            office.look.notify_one();
            return Taken::Kept;
        };
        let (promise_tx, mut promise) = mpsc::channel(1);
        for held in held {
            office.hold(held, Some(promise_tx.clone()));
        }
        drop(promise_tx);
        if on_disk {
            return Taken::Kept;
        }
        match timeout(FIRST_DELIVERY, promise.recv()).await {
            Ok(Some(taken)) => taken,
            Ok(None) | Err(_) => Taken::Undelivered,
        }
    }

    /// Calls `hook` for each message that is given up, except alerts.
    pub fn on_given_up(&self, hook: Arc<OnGivenUp>) {
        *lock(&self.0.on_given_up) = Some(hook);
    }

    /// Sets where mailboxes are looked up.
    pub fn address_by(&self, mailboxes: Arc<Mailboxes>) {
        *lock(&self.0.mailboxes) = Some(mailboxes);
    }

    /// Delivers the messages in `store`, which need not be open yet, and those that an earlier process left in files.
    pub async fn resume(&self, store: Option<Store>) {
        let office = &self.0;
        let store = store.filter(|store| office.store.set(store.clone()).is_ok());
        // First, because the store learns from the files what must not be sent again.
        office.resume_files().await;
        if let Some(store) = store {
            office.deliveries.spawn(office.clone().deliver_stored(store));
        }
    }

    /// Draining has begun: messages that are not on disk are tried again at once.
    pub fn wake(&self) {
        self.0.waking.cancel();
    }

    /// The process is about to exit: messages that are not on disk are tried every two seconds, and the others are left
    /// to the next process.
    pub fn hurry(&self) {
        self.0.closing.cancel();
    }

    /// Waits up to `grace` for the delivery of messages that are not on disk.
    pub async fn close(&self, grace: Duration) {
        self.hurry();
        self.0.deliveries.close();
        if timeout(grace, self.0.deliveries.wait()).await.is_err() {
            let messages = self.0.deliveries.len();
            tracing::error!(messages, "Messages were not delivered in time; those not on disk are lost");
        }
    }
}

impl Office {
    /// Finds a place for new messages. `None`: there is no room.
    async fn keep(&self, mut messages: Vec<Message>) -> Option<Kept> {
        let unclear = match self.put(&messages, &Fate::Waiting).await {
            Put::Taken => return Some(Kept::InStore),
            Put::Full => return None,
            Put::No => false,
            Put::Unclear => true,
        };
        // Taken before, and on their way.
        messages.retain(|message| !lock(&self.claimed).contains(&message.id));
        let mut room = self.room.clone().try_acquire_many_owned(messages.len().try_into().ok()?).ok()?;
        let mut held = Vec::new();
        for message in messages {
            let message = Arc::new(message);
            let on_disk = self.write(&message).await;
            let _room = room.split(1)?;
            held.push(Held { message, on_disk, rejected: true, unclear, _room });
        }
        Some(Kept::Outside(held))
    }

    async fn put(&self, messages: &[Message], fate: &Fate) -> Put {
        let Some(store) = self.store.get().filter(|store| store.is_durable()) else { return Put::No };
        let why = match timeout(STORE_PATIENCE, store.put_messages(messages, fate)).await {
            Ok(Ok(true)) => return Put::Taken,
            Ok(Ok(false)) => return Put::Full,
            Ok(Err(why)) => why.to_string(),
            Err(_) => "too slow".to_owned(),
        };
        let id = messages.first().map(|message| &message.id);
        tracing::warn!(message = id, why, "The store cannot take a message; it waits outside");
        Put::Unclear
    }

    async fn put_one(&self, message: &Message, fate: &Fate) -> Put {
        self.put(slice::from_ref(message), fate).await
    }

    /// Where a message goes. The roster in force says so if it has a mailbox for it.
    fn address(&self, to: &Recipient) -> Option<Address> {
        let in_force = lock(&self.mailboxes).clone();
        let mailbox = in_force.and_then(|find| find(&to.assistant, to.purpose));
        let key = || (to.assistant.clone(), to.purpose);
        let mailbox = mailbox.or_else(|| lock(&self.planned).get(&key()).cloned())?;
        Address::of(&mailbox, to.via)
    }

    /// The limit of an address. Messages without one share another.
    fn limit(&self, address: Option<&Address>) -> Arc<Semaphore> {
        let (key, at_once) = address.map_or((String::new(), 8), Address::limit);
        let mut limits = lock(&self.limits);
        limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        limits.entry(key).or_insert_with(|| Arc::new(Semaphore::new(at_once))).clone()
    }

    /// Logs and counts a message that was delivered.
    fn delivered(&self, id: &str, to: &Recipient) {
        tracing::info!(message = id, via = to.via.code(), "Delivered a message");
        metrics::delivery(to.via, "delivered");
        if to.purpose == Purpose::Message {
            metrics::message("delivered");
        }
    }

    /// Logs and counts a message that is given up, and passes it on.
    fn given_up(&self, id: &str, to: &Recipient, why: Undelivered, on_disk: bool) {
        let via = to.via.code();
        tracing::error!(message = id, via, %why, on_disk, "Gave up on a message");
        metrics::delivery(to.via, if why == Undelivered::Unclear { "unclear" } else { "given_up" });
        if to.purpose == Purpose::Message {
            metrics::message("given_up");
        }
        let hook = lock(&self.on_given_up).clone().filter(|_| to.purpose != Purpose::Alert);
        if let Some(hook) = hook {
            hook(&GivenUp { to: to.clone(), error: why.code() });
        }
    }
}

/// Seconds since 1970.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
