//! Messages for the owner: an assistant takes them, and we deliver them to the owner's webhook.
//!
//! A delivery is signed by the rules of Standard Webhooks and retried for three days with the same id, so that the
//! owner can recognize a duplicate. With a state folder, a message is on disk before the caller is promised anything,
//! and delivery goes on after a restart. Without one, it lives as long as the process.
//!
//! The log has the id of a message, never its content.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client as HttpClient;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Client, Done};
use crate::assistant::plan::Mailbox;
use crate::disk;
use crate::link;
use crate::link::network::Fault;
use crate::observe::metrics;
use crate::secret::Secret;

/// How many messages may wait for delivery.
const MAX_WAITING: usize = 1_000;
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
/// The longest pause during shutdown for a message that is not on disk.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// How long delivery is retried.
const MAX_AGE: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long an assistant waits for the delivery of a message that is not on disk: less than a tool's usual limit.
const FIRST_DELIVERY: Duration = Duration::from_secs(8);
/// The folder of messages that could not be delivered.
const GIVEN_UP: &str = "given-up";
/// The extension of a file that is still being written.
const UNFINISHED: &str = "unfinished";

const KEPT: &str = "The message is saved and will be delivered.";
const DELIVERED: &str = "The message was delivered.";
const UNDELIVERED: &str = "The message has not been delivered yet. Tell the caller that it may not arrive, and that \
                           they should call again or try another way.";
const NO_ROOM: &str = "No message can be taken at the moment. Tell the caller to call again later.";

/// Finds an assistant's mailbox by the assistant's name.
pub type Mailboxes = dyn Fn(&str) -> Option<Mailbox> + Send + Sync;

/// Takes messages and delivers them. See the module.
pub struct Post(Arc<Office>);

struct Office {
    http: HttpClient,
    /// Holds undelivered messages; created for the first one.
    folder: Option<PathBuf>,
    room: Arc<Semaphore>,
    /// The limit of [`AT_ONCE`] by address, so that one that hangs does not delay the others.
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    deliveries: TaskTracker,
    /// Draining has begun: messages that are not on disk restart their pauses.
    waking: CancellationToken,
    closing: CancellationToken,
    /// From the roster in force.
    mailboxes: Mutex<Option<Arc<Mailboxes>>>,
}

/// A message to be delivered.
struct Message {
    id: String,
    letter: Arc<Letter>,
    /// From the plan of its call; the roster in force takes precedence.
    mailbox: Option<Mailbox>,
    on_disk: bool,
    _room: OwnedSemaphorePermit,
}

/// What is stored of a message, without the address and its secret.
#[derive(Serialize, Deserialize)]
struct Letter {
    assistant: String,
    /// Seconds since 1970.
    taken: u64,
    /// The exact request body: the signature covers it.
    body: String,
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

impl Post {
    /// Stores messages in the folder `messages` of `state`, if there is one.
    pub fn new(tls: &ClientConfig, state: Option<&Path>) -> Result<Self, reqwest::Error> {
        let http = link::http_client(tls).timeout(TIMEOUT).build()?;
        Ok(Self(Arc::new(Office {
            http,
            folder: state.map(|state| state.join("messages")),
            room: Arc::new(Semaphore::new(MAX_WAITING)),
            limits: Mutex::default(),
            deliveries: TaskTracker::new(),
            waking: CancellationToken::new(),
            closing: CancellationToken::new(),
            mailboxes: Mutex::new(None),
        })))
    }

    /// Takes a message, and returns what the assistant may promise the caller.
    pub async fn take(&self, mailbox: &Mailbox, fields: Map<String, Value>, client: &Client) -> Done {
        let office = &self.0;
        let Ok(room) = office.room.clone().try_acquire_owned() else {
            tracing::error!(
                waiting = MAX_WAITING,
                "Too many messages wait for delivery; rejecting a message"
            );
            return Done::failed("no_room", NO_ROOM);
        };
        let id = format!("msg_{:032x}", rand::random::<u128>());
        let letter = Arc::new(Letter {
            assistant: client.assistant.clone(),
            taken: seconds(),
            body: event(&id, fields, client),
        });
        let on_disk = office.keep(&id, letter.clone()).await;
        tracing::info!(message = id, on_disk, "Took a message");
        metrics::message("taken");
        let (delivered_tx, delivered) = oneshot::channel();
        let message = Message { id, letter, mailbox: Some(mailbox.clone()), on_disk, _room: room };
        office.deliveries.spawn(office.clone().deliver(message, Some(delivered_tx)));
        if on_disk {
            return Done::ok(KEPT);
        }
        match timeout(FIRST_DELIVERY, delivered).await {
            Ok(Ok(())) => Done::ok(DELIVERED),
            Ok(Err(_)) | Err(_) => Done::failed("undelivered", UNDELIVERED),
        }
    }

    /// Sets where mailboxes are looked up.
    pub fn address_by(&self, mailboxes: Arc<Mailboxes>) {
        *self.0.mailboxes.lock().unwrap_or_else(PoisonError::into_inner) = Some(mailboxes);
    }

    /// Delivers the messages that an earlier process left on disk.
    pub async fn resume(&self) {
        let Some(folder) = self.0.folder.clone() else { return };
        let found = tokio::task::spawn_blocking(move || leftovers(&folder)).await;
        let (mut letters, broken) = found.unwrap_or_default();
        if broken > 0 {
            tracing::warn!(broken, "Ignoring files in STATE_DIR/messages that are not messages");
        }
        letters.sort_by_key(|(_, letter)| letter.taken);
        let mut resumed = 0;
        for (id, letter) in letters {
            let Ok(room) = self.0.room.clone().try_acquire_owned() else { break };
            resumed += 1;
            let message = Message { id, letter: letter.into(), mailbox: None, on_disk: true, _room: room };
            self.0.deliveries.spawn(self.0.clone().deliver(message, None));
        }
        if resumed > 0 {
            tracing::info!(messages = resumed, "Resuming the delivery of messages");
        }
    }

    /// Draining has begun: messages that are not on disk are tried again at once.
    pub fn wake(&self) {
        self.0.waking.cancel();
    }

    /// The process is about to exit: messages that are not on disk are tried every [`LAST_PAUSE`], and the others are
    /// left to the next process.
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
    /// Writes a letter to disk. False: there is no folder, or the disk reported an error.
    async fn keep(&self, id: &str, letter: Arc<Letter>) -> bool {
        let Some(folder) = self.folder.clone() else { return false };
        let id = id.to_owned();
        let why = match tokio::task::spawn_blocking(move || write(&folder, &id, &letter)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.kind().to_string(),
            // The runtime is shutting down.
            Err(_) => "shutting down".to_owned(),
        };
        tracing::error!(why, "Cannot write to STATE_DIR; keeping a message in memory");
        false
    }

    /// Tries until the message is delivered or given up.
    async fn deliver(self: Arc<Self>, message: Message, delivered: Option<oneshot::Sender<()>>) {
        let id = &message.id;
        let mut pauses = PAUSES.iter();
        let mut pause = PAUSES[0];
        let mut reported = None;
        let mut woken = message.on_disk;
        loop {
            let why = match self.attempt(&message).await {
                Ok(()) => {
                    tracing::info!(message = id, "Delivered a message");
                    metrics::message("delivered");
                    if let Some(delivered) = delivered {
                        let _ = delivered.send(());
                    }
                    return self.remove(&message, false).await;
                }
                Err(why) => why,
            };
            let age = seconds().saturating_sub(message.letter.taken);
            if why == Undelivered::Gone || age >= MAX_AGE.as_secs() {
                tracing::error!(message = id, %why, on_disk = message.on_disk, "Gave up on a message");
                metrics::message("given_up");
                return self.remove(&message, true).await;
            }
            if reported != Some(why) {
                tracing::warn!(message = id, %why, "Cannot deliver a message; trying again later");
                reported = Some(why);
            }
            pause = pauses.next().copied().unwrap_or(pause);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.waking.cancelled(), if !woken => {
                    woken = true;
                    pauses = PAUSES.iter();
                }
                () = self.closing.cancelled() => {
                    if message.on_disk {
                        return;
                    }
                    sleep(pause.min(LAST_PAUSE)).await;
                }
            }
        }
    }

    async fn attempt(&self, message: &Message) -> Result<(), Undelivered> {
        let in_force = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let in_force = in_force.and_then(|find| find(&message.letter.assistant));
        let mailbox = in_force.as_ref().or(message.mailbox.as_ref()).ok_or(Undelivered::NoMailbox)?;
        let limit = self.limit(&mailbox.url);
        let _permit = limit.acquire().await;
        let timestamp = seconds();
        let request = self
            .http
            .post(&mailbox.url)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header(
                "webhook-signature",
                signature(&mailbox.secret, &message.id, timestamp, &message.letter.body),
            )
            .body(message.letter.body.clone());
        let response = request.send().await.map_err(Fault::from)?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            410 => Err(Undelivered::Gone),
            status => Err(Undelivered::Status(status)),
        }
    }

    fn limit(&self, url: &str) -> Arc<Semaphore> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        limits.entry(url.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }

    /// Removes the message from disk, or moves it to [`GIVEN_UP`] for the owner.
    async fn remove(&self, message: &Message, given_up: bool) {
        let Some(folder) = self.folder.clone().filter(|_| message.on_disk) else { return };
        let id = message.id.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let path = file(&folder, &id);
            if given_up {
                let given_up = folder.join(GIVEN_UP);
                make_folder(&given_up)?;
                return fs::rename(&path, file(&given_up, &id));
            }
            fs::remove_file(&path)
        });
        if let Ok(Err(error)) = removed.await {
            tracing::error!(message = message.id, why = %error.kind(), "Cannot remove a message from disk");
        }
    }
}

/// The event that the owner's webhook receives.
fn event(id: &str, fields: Map<String, Value>, client: &Client) -> String {
    json!({
        "id": id,
        "type": "message.taken",
        "timestamp": jiff::Timestamp::now().to_string(),
        "data": {
            "assistant": client.assistant,
            "call": client.call.as_str(),
            "caller": client.caller.number().map(|number| number.expose()),
            "called": client.called.number().map(|number| number.expose()),
            "fields": fields,
        },
    })
    .to_string()
}

/// `v1,` and the HMAC of id, timestamp and body: <https://www.standardwebhooks.com>. A secret that starts with
/// `whsec_` is base64; any other is used as it is.
pub(super) fn signature(secret: &Secret, id: &str, timestamp: u64, body: &str) -> String {
    let encoded = secret.expose().strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    let key = encoded.unwrap_or_else(|| secret.expose().as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    disk::create_private(folder)
}

fn write(folder: &Path, id: &str, letter: &Letter) -> io::Result<()> {
    make_folder(folder)?;
    disk::replace(&file(folder, id), &serde_json::to_vec(letter)?)
}

/// The messages in the folder, and the number of files that are not readable. Removes unfinished files: no caller was
/// promised anything about them.
fn leftovers(folder: &Path) -> (Vec<(String, Letter)>, usize) {
    let (mut letters, mut broken) = (Vec::new(), 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if id.starts_with(".msg_") && path.extension().is_some_and(|extension| extension == UNFINISHED) {
            let _ = fs::remove_file(&path);
        }
        if path.extension().is_none_or(|extension| extension != "json") || !id.starts_with("msg_") {
            continue;
        }
        match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(letter) => letters.push((id, letter)),
            None => broken += 1,
        }
    }
    (letters, broken)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;

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

    #[test]
    fn a_letter_on_disk_is_complete_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state/messages");
        let letter = Letter { assistant: "clinic".to_owned(), taken: 7, body: "{}".to_owned() };
        write(&folder, "msg_1", &letter).unwrap();
        fs::write(folder.join("msg_2.json"), "{").unwrap();
        fs::write(folder.join(".msg_3.unfinished"), "{").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file(&folder, "msg_1")), 0o600);
        assert_eq!(mode(&folder), 0o700);
        let (letters, broken) = leftovers(&folder);
        assert_eq!(
            letters.iter().map(|(id, letter)| (id.as_str(), letter.taken)).collect::<Vec<_>>(),
            [("msg_1", 7)]
        );
        assert_eq!(broken, 1);
        assert!(!folder.join(".msg_3.unfinished").exists(), "it may hold what a caller said");
        assert!(write(&folder.join("msg_1.json"), "msg_4", &letter).is_err(), "a file is no folder");
    }

    #[test]
    fn a_message_stays_in_memory_during_shutdown() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let dir = tempfile::tempdir().unwrap();
        let finished = tokio::runtime::Runtime::new().unwrap();
        let within = finished.handle().clone();
        finished.shutdown_background();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let post = Post::new(&tls, Some(dir.path())).unwrap();
        let letter = Letter { assistant: "clinic".to_owned(), taken: 0, body: "{}".to_owned() };
        let on_disk = runtime.block_on(async {
            // Blocking work goes to the runtime that has shut down.
            let _within = within.enter();
            post.0.keep("msg_1", Arc::new(letter)).await
        });
        assert!(!on_disk);
    }
}
