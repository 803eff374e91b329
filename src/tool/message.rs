//! Messages for the owner: taken down by an assistant, delivered to a webhook of the owner's.
//!
//! A delivery is signed as Standard Webhooks has it, and tried again for three days; its id stays the same, so that
//! a message that came twice can be told. With a folder for state a message is on the disk before the caller is
//! promised anything, and a restart goes on with it; without one it lives as long as the process.
//!
//! What a message says is in no line of the log; its id is.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
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
use crate::observe::metrics;
use crate::secret::Secret;

/// Messages that wait for their delivery. More are not taken.
const MAX_WAITING: usize = 1_000;
/// Deliveries to one address at once.
const AT_ONCE: usize = 8;
/// How long one delivery may take as a whole.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pauses after the first failures; the last one holds for all that follow.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
];
/// The longest pause while the process is about to end and the message is nowhere else.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// How long a message is tried.
const LONGEST: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long an assistant waits for a delivery that it can promise nothing without: less than a tool's usual limit.
const FIRST_DELIVERY: Duration = Duration::from_secs(8);
/// Where messages go that nobody took, beside those that wait.
const GIVEN_UP: &str = "given-up";
/// How the name of a file ends that is not yet a message.
const UNFINISHED: &str = "unfinished";

const KEPT: &str = "The message is taken down and will be delivered.";
const DELIVERED: &str = "The message is taken down and was delivered.";
const UNDELIVERED: &str = "The message could not be delivered so far. Tell the caller that it may not arrive, and \
                           that they should call again or try another way.";
const NO_ROOM: &str = "No message can be taken down at the moment. Tell the caller to call again later.";

/// Finds where an assistant's messages go, by its name.
pub type Mailboxes = dyn Fn(&str) -> Option<Mailbox> + Send + Sync;

/// Takes messages, and delivers them. See the module.
pub struct Post(Arc<Office>);

struct Office {
    http: HttpClient,
    /// Where undelivered messages are kept; made when the first one comes.
    folder: Option<PathBuf>,
    room: Arc<Semaphore>,
    /// Room for deliveries by address: one that hangs keeps none from the others.
    counters: Mutex<HashMap<String, Arc<Semaphore>>>,
    deliveries: TaskTracker,
    /// No new calls come: what is nowhere else begins anew to be tried.
    waking: CancellationToken,
    closing: CancellationToken,
    /// Of the roster in force.
    mailboxes: Mutex<Option<Arc<Mailboxes>>>,
}

/// A message on its way.
struct Message {
    id: String,
    letter: Arc<Letter>,
    /// Of the plan that it was taken under; the roster in force goes before it.
    mailbox: Option<Mailbox>,
    on_disk: bool,
    _room: OwnedSemaphorePermit,
}

/// What is kept of a message on the disk. Neither the address nor its secret is.
#[derive(Serialize, Deserialize)]
struct Letter {
    assistant: String,
    /// Seconds since 1970.
    taken: u64,
    /// What is posted, to the byte: it is signed.
    body: String,
}

/// Why a delivery failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Undelivered {
    #[error("the assistant has no address for messages any more")]
    NoMailbox,
    #[error("the address answers {0}")]
    Status(u16),
    #[error("the address cannot be reached")]
    Unreachable,
    #[error("the address does not answer")]
    Silent,
    #[error("the address answers 410: it wants no more messages")]
    Gone,
}

impl Post {
    /// Messages are kept in `STATE_DIR/messages`, where there is a `state`. Trusted are the certificates of `tls`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tls: &ClientConfig, state: Option<&Path>) -> Result<Self, reqwest::Error> {
        let http = link::http_client(tls).timeout(PATIENCE).build()?;
        Ok(Self(Arc::new(Office {
            http,
            folder: state.map(|state| state.join("messages")),
            room: Arc::new(Semaphore::new(MAX_WAITING)),
            counters: Mutex::default(),
            deliveries: TaskTracker::new(),
            waking: CancellationToken::new(),
            closing: CancellationToken::new(),
            mailboxes: Mutex::new(None),
        })))
    }

    /// Takes a message down, and says what the caller may be promised.
    pub async fn take(&self, mailbox: &Mailbox, fields: Map<String, Value>, client: &Client) -> Done {
        let office = &self.0;
        let Ok(room) = office.room.clone().try_acquire_owned() else {
            tracing::error!("{MAX_WAITING} messages wait to be delivered; no more is taken");
            return Done::failed("no_room", NO_ROOM);
        };
        let id = format!("msg_{:032x}", rand::random::<u128>());
        let letter = Arc::new(Letter {
            assistant: client.assistant.clone(),
            taken: seconds(),
            body: written(&id, fields, client),
        });
        let on_disk = office.keep(&id, letter.clone()).await;
        tracing::info!(message = id, on_disk, "A message is taken down");
        metrics::message("taken");
        let (delivered_tx, delivered) = oneshot::channel();
        let message = Message { id, letter, mailbox: Some(mailbox.clone()), on_disk, _room: room };
        office.deliveries.spawn(office.clone().deliver(message, Some(delivered_tx)));
        if on_disk {
            return Done::well(KEPT);
        }
        match timeout(FIRST_DELIVERY, delivered).await {
            Ok(Ok(())) => Done::well(DELIVERED),
            Ok(Err(_)) | Err(_) => Done::failed("undelivered", UNDELIVERED),
        }
    }

    /// From here on, addresses are those that `mailboxes` finds.
    pub fn address_by(&self, mailboxes: Arc<Mailboxes>) {
        *self.0.mailboxes.lock().unwrap_or_else(PoisonError::into_inner) = Some(mailboxes);
    }

    /// Goes on with the messages that an earlier process left on the disk.
    pub async fn resume(&self) {
        let Some(folder) = self.0.folder.clone() else { return };
        let found = tokio::task::spawn_blocking(move || left_behind(&folder)).await;
        let (mut letters, broken) = found.unwrap_or_default();
        if broken > 0 {
            tracing::warn!(
                broken,
                "Files in STATE_DIR/messages cannot be read as messages; they are left there"
            );
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
            tracing::info!(messages = resumed, "Messages from before are being delivered");
        }
    }

    /// The process will end before long: messages that are nowhere else are tried now, however long their pause was.
    pub fn wake(&self) {
        self.0.waking.cancel();
    }

    /// The process is about to end: messages that are nowhere else are tried again soon, the others by the next one.
    pub fn hurry(&self) {
        self.0.closing.cancel();
    }

    /// No more messages come. Waits until all is delivered that is nowhere else, for so long at most. What is on the
    /// disk stays there for the next start.
    pub async fn close(&self, grace: Duration) {
        self.hurry();
        self.0.deliveries.close();
        if timeout(grace, self.0.deliveries.wait()).await.is_err() {
            let messages = self.0.deliveries.len();
            tracing::error!(messages, "Messages were not delivered in time; those not on the disk are lost");
        }
    }
}

impl Office {
    /// Writes a letter to the disk, and says whether it is there: without a folder it is not, nor where the disk does
    /// not take it.
    async fn keep(&self, id: &str, letter: Arc<Letter>) -> bool {
        let Some(folder) = self.folder.clone() else { return false };
        let id = id.to_owned();
        let why = match tokio::task::spawn_blocking(move || write(&folder, &id, &letter)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.kind().to_string(),
            // The runtime ends, and writes nothing any more.
            Err(_) => "the process ends".to_owned(),
        };
        tracing::error!(why, "STATE_DIR cannot be written; a message is kept in memory");
        false
    }

    /// Until it is delivered, or nothing more can be done for it.
    async fn deliver(self: Arc<Self>, message: Message, delivered: Option<oneshot::Sender<()>>) {
        let id = &message.id;
        let mut pauses = PAUSES.iter();
        let mut pause = PAUSES[0];
        let mut said = None;
        let mut woken = message.on_disk;
        loop {
            let why = match self.attempt(&message).await {
                Ok(()) => {
                    tracing::info!(message = id, "A message is delivered");
                    metrics::message("delivered");
                    if let Some(delivered) = delivered {
                        let _ = delivered.send(());
                    }
                    return self.done_with(&message, false).await;
                }
                Err(why) => why,
            };
            let age = seconds().saturating_sub(message.letter.taken);
            if why == Undelivered::Gone || age >= LONGEST.as_secs() {
                tracing::error!(message = id, %why, on_disk = message.on_disk, "A message is given up");
                metrics::message("given_up");
                return self.done_with(&message, true).await;
            }
            if said != Some(why) {
                tracing::warn!(message = id, %why, "A message is not delivered yet; it is tried again");
                said = Some(why);
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
        let counter = self.counter(&mailbox.url);
        let _place = counter.acquire().await;
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
        let response =
            request.send().await.map_err(|error| match error.is_connect() || error.is_builder() {
                true => Undelivered::Unreachable,
                false => Undelivered::Silent,
            })?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            410 => Err(Undelivered::Gone),
            status => Err(Undelivered::Status(status)),
        }
    }

    /// Where deliveries to this address wait for each other.
    fn counter(&self, url: &str) -> Arc<Semaphore> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody stands at leave here.
        counters.retain(|_, counter| Arc::strong_count(counter) > 1);
        counters.entry(url.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }

    /// Takes the message off the disk; one that was given up is kept aside, for the owner.
    async fn done_with(&self, message: &Message, given_up: bool) {
        let Some(folder) = self.folder.clone().filter(|_| message.on_disk) else { return };
        let id = message.id.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            let path = file(&folder, &id);
            if given_up {
                let aside = folder.join(GIVEN_UP);
                make_folder(&aside)?;
                return fs::rename(&path, file(&aside, &id));
            }
            fs::remove_file(&path)
        });
        if let Ok(Err(error)) = cleared.await {
            tracing::error!(message = message.id, why = %error.kind(), "A message cannot be taken off the disk");
        }
    }
}

/// The event, as the owner's webhook gets it.
fn written(id: &str, fields: Map<String, Value>, client: &Client) -> String {
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
/// `whsec_` is base64; any other is its bytes.
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
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn write(folder: &Path, id: &str, letter: &Letter) -> io::Result<()> {
    make_folder(folder)?;
    disk::replace(&file(folder, id), &serde_json::to_vec(letter)?)
}

/// The messages in the folder, and how many files there are none. What a crash left unfinished is removed: nobody was
/// promised it.
fn left_behind(folder: &Path) -> (Vec<(String, Letter)>, usize) {
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
    fn a_delivery_is_signed_as_the_standard_has_it() {
        // The vector of the standard's own libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let code =
            signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(code, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        // Without the prefix, or where it is no base64, the secret is its bytes.
        let plain = signature(&Secret::new("hunter2"), "msg_1", 1, "{}");
        assert_eq!(plain, signature(&Secret::new("whsec_aHVudGVyMg=="), "msg_1", 1, "{}"));
    }

    #[test]
    fn a_letter_on_the_disk_is_whole_and_nobody_elses() {
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
        let (letters, broken) = left_behind(&folder);
        assert_eq!(
            letters.iter().map(|(id, letter)| (id.as_str(), letter.taken)).collect::<Vec<_>>(),
            [("msg_1", 7)]
        );
        assert_eq!(broken, 1);
        assert!(!folder.join(".msg_3.unfinished").exists(), "it may hold what a caller said");
        assert!(write(&folder.join("msg_1.json"), "msg_4", &letter).is_err(), "a file is no folder");
    }

    #[test]
    fn a_runtime_that_ends_keeps_a_message_in_memory() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let dir = tempfile::tempdir().unwrap();
        let ended = tokio::runtime::Runtime::new().unwrap();
        let within = ended.handle().clone();
        ended.shutdown_background();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let post = Post::new(&tls, Some(dir.path())).unwrap();
        let letter = Letter { assistant: "clinic".to_owned(), taken: 0, body: "{}".to_owned() };
        let on_disk = runtime.block_on(async {
            // What blocks is asked of the runtime that has ended.
            let _within = within.enter();
            post.0.keep("msg_1", Arc::new(letter)).await
        });
        assert!(!on_disk);
    }
}
