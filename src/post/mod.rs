//! Messages for the owner: an assistant takes them, and we deliver them to the owner's webhook.
//!
//! A delivery is signed by the rules of Standard Webhooks and retried for three days with the same id, so that the
//! owner can recognize a duplicate. A message is on a disk before the caller is promised anything: in the store, or in a
//! file in the state folder until the store can take it. Without either, it lives as long as the process, and the caller
//! is promised what a first attempt allows.
//!
//! The log has the id of a message, never its content.

mod held;
mod stored;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client as HttpClient;
use rustls::ClientConfig;
use sha2::Sha256;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::held::Held;
use crate::assistant::plan::Mailbox;
use crate::id::CallSid;
use crate::link;
use crate::link::network::Fault;
use crate::notice::{Content, Purpose};
use crate::observe::metrics;
use crate::phone::PhoneNumber;
use crate::secret::Secret;
use crate::store::{Fate, Message, MessageFiles, Store};

/// How many messages outside of the store may wait for delivery.
const MAX_HELD: usize = 1_000;
/// Deliveries to one address at once.
const AT_ONCE: usize = 8;
/// The time limit of one delivery.
const TIMEOUT: Duration = Duration::from_secs(15);
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
    /// Stays the same in every delivery, so that a duplicate can be recognized.
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
}

/// Finds an assistant's mailbox by the assistant's name.
pub type Mailboxes = dyn Fn(&str) -> Option<Mailbox> + Send + Sync;

/// Takes messages and delivers them. See the module.
pub struct Post(Arc<Office>);

struct Office {
    http: HttpClient,
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
    /// The limit of [`AT_ONCE`] by address, so that one that hangs does not delay the others.
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    deliveries: TaskTracker,
    /// Draining has begun: messages that are not on disk restart their pauses.
    waking: CancellationToken,
    closing: CancellationToken,
    /// From the roster in force.
    mailboxes: Mutex<Option<Arc<Mailboxes>>>,
    /// From the plans of calls, by assistant; the roster in force takes precedence.
    planned: Mutex<HashMap<String, Mailbox>>,
}

/// Where a message is.
enum Kept {
    InStore,
    Outside(Held),
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

/// Why a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Undelivered {
    #[error("the assistant has no mailbox")]
    NoMailbox,
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("{0}")]
    Network(#[from] Fault),
    #[error("HTTP status 410: the webhook accepts no more messages")]
    Gone,
}

impl Undelivered {
    fn code(self) -> String {
        match self {
            Self::NoMailbox => "no_mailbox".to_owned(),
            Self::Status(status) => format!("status.{status}"),
            Self::Network(fault) => fault.code().to_owned(),
            Self::Gone => "gone".to_owned(),
        }
    }

    /// Whether to give up on a message that was taken at this time, in seconds since 1970.
    fn is_final(self, taken: u64) -> bool {
        self == Self::Gone || seconds().saturating_sub(taken) >= MAX_AGE.as_secs()
    }
}

impl Post {
    /// Keeps messages that the store cannot take in the folder `messages` of `state`, if there is one.
    pub fn new(tls: &ClientConfig, state: Option<&Path>) -> Result<Self, reqwest::Error> {
        let http = link::http_client(tls).timeout(TIMEOUT).build()?;
        Ok(Self(Arc::new(Office {
            http,
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
        })))
    }

    /// Takes something for the owner. When this returns, it is on a disk if it can be.
    pub async fn take(&self, letter: Letter) -> Taken {
        let office = &self.0;
        lock(&office.planned).insert(letter.assistant.clone(), letter.to);
        let id = letter.id;
        let message = Arc::new(Message {
            call: letter.call.map(|call| call.to_string()),
            assistant: letter.assistant,
            caller: letter.caller,
            taken: seconds(),
            body: letter.content.event.to_string(),
            keep: letter.keep,
            id: id.clone(),
        });
        let Some(kept) = office.keep(&message).await else {
            tracing::error!("Too many messages wait for delivery; rejecting a message");
            return Taken::NoRoom;
        };
        let on_disk = match &kept {
            Kept::InStore => true,
            Kept::Outside(held) => held.on_disk,
        };
        tracing::info!(message = id, on_disk, "Took a message");
        metrics::message("taken");
        match kept {
            Kept::InStore => {
                office.look.notify_one();
                Taken::Kept
            }
            Kept::Outside(held) if on_disk => {
                office.hold(held, None);
                Taken::Kept
            }
            Kept::Outside(held) => {
                let (promise_tx, promise) = oneshot::channel();
                office.hold(held, Some(promise_tx));
                match timeout(FIRST_DELIVERY, promise).await {
                    Ok(Ok(taken)) => taken,
                    Ok(Err(_)) | Err(_) => Taken::Undelivered,
                }
            }
        }
    }

    /// Sets where mailboxes are looked up.
    pub fn address_by(&self, mailboxes: Arc<Mailboxes>) {
        *lock(&self.0.mailboxes) = Some(mailboxes);
    }

    /// Delivers the messages in `store`, which need not be open yet, and those that an earlier process left in files.
    pub async fn resume(&self, store: Option<Store>) {
        let office = &self.0;
        if let Some(store) = store
            && office.store.set(store.clone()).is_ok()
        {
            office.deliveries.spawn(office.clone().deliver_stored(store));
        }
        office.resume_files().await;
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
    /// Finds a place for a new message. `None`: there is no room.
    async fn keep(&self, message: &Arc<Message>) -> Option<Kept> {
        let unclear = match self.put(message, &Fate::Waiting).await {
            Put::Taken => return Some(Kept::InStore),
            Put::Full => return None,
            Put::No => false,
            Put::Unclear => true,
        };
        let room = self.room.clone().try_acquire_owned().ok()?;
        let on_disk = self.write(message).await;
        Some(Kept::Outside(Held { message: message.clone(), on_disk, rejected: true, unclear, _room: room }))
    }

    async fn put(&self, message: &Message, fate: &Fate) -> Put {
        let Some(store) = self.store.get().filter(|store| store.is_durable()) else { return Put::No };
        let why = match timeout(STORE_PATIENCE, store.put_message(message, fate)).await {
            Ok(Ok(true)) => return Put::Taken,
            Ok(Ok(false)) => return Put::Full,
            Ok(Err(why)) => why.to_string(),
            Err(_) => "too slow".to_owned(),
        };
        tracing::warn!(message = message.id, why, "The store cannot take a message; it waits outside");
        Put::Unclear
    }

    async fn attempt(&self, id: &str, body: &str, mailbox: Option<&Mailbox>) -> Result<(), Undelivered> {
        let webhook = mailbox.and_then(|mailbox| mailbox.webhook.as_ref()).ok_or(Undelivered::NoMailbox)?;
        let timestamp = seconds();
        let request = self
            .http
            .post(&webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature(&webhook.secret, id, timestamp, body))
            .body(body.to_owned());
        let response = request.send().await.map_err(Fault::from)?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            410 => Err(Undelivered::Gone),
            status => Err(Undelivered::Status(status)),
        }
    }

    /// Where an assistant's messages go.
    fn mailbox(&self, assistant: &str) -> Option<Mailbox> {
        let in_force = lock(&self.mailboxes).clone();
        let in_force = in_force.and_then(|find| find(assistant));
        in_force.or_else(|| lock(&self.planned).get(assistant).cloned())
    }

    /// The limit of an address. Messages without a mailbox share one.
    fn limit(&self, mailbox: Option<&Mailbox>) -> Arc<Semaphore> {
        let webhook = mailbox.and_then(|mailbox| mailbox.webhook.as_ref());
        let url = webhook.map(|webhook| webhook.url.clone()).unwrap_or_default();
        let mut limits = lock(&self.limits);
        limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        limits.entry(url).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }
}

/// `v1,` and the HMAC of id, timestamp and body: <https://www.standardwebhooks.com>. A secret that starts with
/// `whsec_` is base64; any other is used as it is.
pub(crate) fn signature(secret: &Secret, id: &str, timestamp: u64, body: &str) -> String {
    let encoded = secret.expose().strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    let key = encoded.unwrap_or_else(|| secret.expose().as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Seconds since 1970.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_signed_like_standard_webhooks() {
        // The vector of the standard's own libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let code =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(code, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        // Without the prefix the secret is used as it is.
        let plain = signature(&Secret::new("hunter2"), "msg_1", 1, "{}");
        assert_eq!(plain, signature(&Secret::new("whsec_aHVudGVyMg=="), "msg_1", 1, "{}"));
    }
}
