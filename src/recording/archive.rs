//! Where recordings are kept once their calls are over: in their folder, or in a bucket.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, BackoffConfig, Error, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{FOLDER, Kept, file};
use crate::observe::metrics;
use crate::problem::catalogue::Recording;
use crate::record::{Entry, Sink, What};
use crate::settings::Bucket;
use crate::store::Store;

/// So much of a file is in memory while it is uploaded, a few times.
const PART: usize = 8 * 1024 * 1024;
const READ: usize = 256 * 1024;
/// How long to wait after a round in which an upload failed: at first, and at most.
const SOON: Duration = Duration::from_secs(5);
const LATEST: Duration = Duration::from_secs(5 * 60);
/// The writer needs a moment to complete the last files.
const COMPLETED: Duration = Duration::from_millis(600);
/// How long one request may take, and all its tries.
const REQUEST: Duration = Duration::from_secs(120);
const TRIES: Duration = Duration::from_secs(20);

/// See the module. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Archive {
    pub(super) state_dir: Option<PathBuf>,
    /// Knows which recordings have a record.
    pub(super) store: Option<Store>,
    bucket: Option<Bucket>,
    client: reqwest::Client,
    /// A recording is complete.
    complete: Arc<Notify>,
}

/// A recording that can be read in parts.
#[derive(Debug, Clone)]
pub struct Readable {
    /// In bytes.
    pub size: u64,
    place: Stored,
}

#[derive(Debug, Clone)]
enum Stored {
    File(PathBuf),
    Object(Arc<AmazonS3>, Key),
}

impl Readable {
    /// The most that is read at once.
    pub const PART: u64 = 256 * 1024;

    fn object(store: AmazonS3, key: Key) -> Stored {
        Stored::Object(Arc::new(store), key)
    }

    /// Some of its bytes.
    ///
    /// # Errors
    /// If it is gone, or cannot be read.
    pub async fn read(&self, range: Range<u64>) -> io::Result<bytes::Bytes> {
        match &self.place {
            Stored::File(path) => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(io::SeekFrom::Start(range.start)).await?;
                let mut part = vec![0; (range.end - range.start) as usize];
                file.read_exact(&mut part).await?;
                Ok(part.into())
            }
            Stored::Object(store, key) => store.get_range(key, range).await.map_err(io::Error::other),
        }
    }
}

/// Why a bucket cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the keys are unknown, or do not allow it")]
    Rights,
    #[error("the keys are not valid")]
    Keys,
    #[error("there is no such bucket")]
    NoBucket,
    #[error("{0}")]
    Other(String),
}

impl From<Refused> for Recording {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rights => Self::Rights,
            Refused::Keys => Self::Keys,
            Refused::NoBucket => Self::NoBucket,
            Refused::Other(error) => Self::Unreachable { error },
        }
    }
}

/// Why a recording was not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    #[error("the file cannot be removed")]
    File(#[from] io::Error),
    #[error("the object cannot be removed: {0}")]
    Object(Refused),
}

impl Archive {
    /// The recordings below `state_dir`, and in `bucket`. `client` sends the requests.
    pub fn new(state_dir: Option<PathBuf>, bucket: Option<Bucket>, client: reqwest::Client) -> Self {
        Self { state_dir, store: None, bucket, client, complete: Arc::default() }
    }

    /// Only recordings that have a record in this store are uploaded; others are removed.
    pub fn with_store(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    /// A recording is complete and may be uploaded.
    pub fn completed(&self) {
        self.complete.notify_one();
    }

    /// Whether recordings are uploaded.
    pub fn has_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    /// Puts a small object into the bucket and deletes it.
    ///
    /// # Errors
    /// Why recordings could not be uploaded.
    pub async fn probe(&self) -> Result<(), Refused> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let (store, prefix) = self.open(&bucket.url).map_err(|error| refused(&error))?;
        let key = key(&prefix, &format!("probe-{:016x}", rand::random::<u64>()));
        let tried = async {
            store.put(&key, PutPayload::from_static(b"May recordings be put here?")).await?;
            store.delete(&key).await
        };
        match timeout(TRIES + TRIES, tried).await {
            Ok(result) => result.map_err(|error| refused(&error)),
            Err(_) => Err(Refused::Other("no answer in time".to_owned())),
        }
    }

    /// Removes a recording, by its path below `STATE_DIR` or its `s3://` address. Returns whether there was one. It may
    /// be uploaded meanwhile, so both places are searched.
    ///
    /// # Errors
    /// If something of it may be left.
    pub async fn remove(&self, recording: &str) -> Result<bool, NotRemoved> {
        let Some(name) = Path::new(recording).file_name().and_then(|name| name.to_str()) else {
            return Ok(false);
        };
        let mut was_there = false;
        if let Some(state_dir) = &self.state_dir {
            match tokio::fs::remove_file(state_dir.join(FOLDER).join(name)).await {
                Ok(()) => was_there = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let address = recording.starts_with("s3://").then(|| recording.to_owned());
        let here = self.bucket.as_ref().map(|bucket| format!("{}/{name}", bucket.url));
        for address in address.iter().chain(here.as_ref().filter(|here| address.as_ref() != Some(here))) {
            was_there |= self.delete(address).await.map_err(NotRemoved::Object)?;
        }
        Ok(was_there)
    }

    /// A recording that can be read; `None` if it is not there.
    ///
    /// # Errors
    /// Why it cannot be.
    pub async fn find(&self, recording: &str) -> Result<Option<Readable>, Refused> {
        let other = |error: io::Error| Refused::Other(error.to_string());
        if recording.starts_with("s3://") {
            let (store, path) = self.open(recording).map_err(|error| refused(&error))?;
            let key = Key::from(path);
            return match timeout(TRIES, store.head(&key)).await {
                Ok(Ok(meta)) => Ok(Some(Readable { size: meta.size, place: Readable::object(store, key) })),
                Ok(Err(Error::NotFound { .. })) => Ok(None),
                Ok(Err(error)) => Err(refused(&error)),
                Err(_) => Err(Refused::Other("no answer in time".to_owned())),
            };
        }
        let (Some(state_dir), Some(name)) = (&self.state_dir, Path::new(recording).file_name()) else {
            return Ok(None);
        };
        let path = state_dir.join(FOLDER).join(name);
        match tokio::fs::metadata(&path).await {
            Ok(meta) => Ok(Some(Readable { size: meta.len(), place: Stored::File(path) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(other(error)),
        }
    }

    /// Removes recordings that were kept for long enough. What cannot be removed is tried again while the process lives.
    pub async fn remove_all(self, mut recordings: Vec<String>) {
        let mut pause = SOON;
        loop {
            let mut left = Vec::new();
            for recording in recordings {
                if let Err(error) = self.remove(&recording).await {
                    tracing::warn!(recording, %error, "The recording was not removed; it is tried again");
                    left.push(recording);
                }
            }
            if left.is_empty() {
                return;
            }
            recordings = left;
            sleep(pause).await;
            pause = (pause * 2).min(LATEST);
        }
    }

    /// Deletes an object that exists.
    async fn delete(&self, address: &str) -> Result<bool, Refused> {
        let (store, path) = self.open(address).map_err(|error| refused(&error))?;
        let key = Key::from(path);
        match store.head(&key).await {
            Ok(_) => store.delete(&key).await.map(|()| true).map_err(|error| refused(&error)),
            Err(Error::NotFound { .. }) => Ok(false),
            // Without the right to list, S3 does not say that there is none.
            Err(_) => store.delete(&key).await.map(|()| false).map_err(|error| refused(&error)),
        }
    }

    /// Uploads recordings until `stop`, and what is complete then: those that are there, and each that is completed.
    /// `records` learns where each is afterwards.
    pub async fn upload(self, records: &Sink, stop: CancellationToken) {
        let mut pause = None;
        while !stop.is_cancelled() {
            let all = self.upload_all(records).await;
            pause = (!all).then(|| pause.map_or(SOON, |pause: Duration| (pause * 2).min(LATEST)));
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.complete.notified(), if pause.is_none() => {}
                () = sleep(pause.unwrap_or(LATEST)) => {}
            }
        }
        sleep(COMPLETED).await;
        self.upload_all(records).await;
    }

    /// Uploads every recording whose call is over and has a record. Returns whether all could be.
    pub async fn upload_all(&self, records: &Sink) -> bool {
        let (Some(bucket), Some(state_dir)) = (&self.bucket, &self.state_dir) else { return true };
        // What an erased caller said must not get there.
        let Ok(Kept { ids, more }) = self.tidy().await else { return false };
        let mut all = !more;
        for id in ids {
            let path = file(state_dir, &id);
            // Nobody else uploads it meanwhile, also no other process.
            let there = path.clone();
            let Ok(Some(lock)) = spawn_blocking(move || complete(&there)).await else { continue };
            let uploaded = self.upload_one(bucket, &path).await;
            drop(lock);
            match uploaded {
                Ok(true) => {
                    metrics::recording("uploaded");
                    let path = format!("{}/{id}.wav", bucket.url);
                    records(&id, Entry { at_ms: 0, what: What::Recording { path } });
                }
                Ok(false) => {}
                Err(error) => {
                    all = false;
                    metrics::recording("not_uploaded");
                    let why = refused(&error);
                    tracing::warn!(record = %id, %why, "The recording was not uploaded; it is tried again");
                }
            }
        }
        all
    }

    /// Uploads one file and removes it. False: it was erased meanwhile.
    async fn upload_one(&self, bucket: &Bucket, path: &Path) -> object_store::Result<bool> {
        let (store, prefix) = self.open(&bucket.url)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let key = key(&prefix, name);
        let attributes = Attributes::from_iter([(Attribute::ContentType, "audio/wav")]);
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let mut object = BufWriter::with_capacity(store.clone(), key.clone(), PART)
            .with_max_concurrency(1)
            .with_attributes(attributes);
        let mut all_read = false;
        let sent = async {
            let mut file = tokio::fs::File::open(path).await.map_err(generic)?;
            loop {
                let mut block = bytes::BytesMut::with_capacity(READ);
                if file.read_buf(&mut block).await.map_err(generic)? == 0 {
                    break;
                }
                object.put(block.freeze()).await?;
            }
            all_read = true;
            object.shutdown().await.map_err(unwrapped)
        };
        if let Err(error) = sent.await {
            // A shutdown that fails aborts by itself.
            if !all_read {
                let _ = object.abort().await;
            }
            return Err(error);
        }
        if tokio::fs::remove_file(path).await.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            store.delete(&key).await?;
            return Ok(false);
        }
        Ok(true)
    }

    /// The bucket of an `s3://` address, and what follows it there.
    fn open(&self, address: &str) -> object_store::Result<(AmazonS3, String)> {
        let rest = address.strip_prefix("s3://").unwrap_or(address);
        let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut builder = AmazonS3Builder::new();
        for (variable, value) in self.bucket.iter().flat_map(|bucket| &bucket.access) {
            // The SDK's variables for other things are none of ours.
            if let Ok(known) = variable.to_ascii_lowercase().parse() {
                builder = builder.with_config(known, value.expose());
            }
        }
        let backoff = BackoffConfig::default();
        let store = builder
            .with_bucket_name(name)
            .with_allow_http(true)
            .with_http_connector(Connector(self.client.clone()))
            .with_retry(RetryConfig { backoff, max_retries: 3, retry_timeout: TRIES })
            .build()?;
        Ok((store, path.to_owned()))
    }
}

/// The client for [`Archive::new`], from one that has our certificates and proxies.
///
/// # Errors
/// If TLS cannot be set up.
pub fn client(builder: reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    builder.timeout(REQUEST).build()
}

/// The lock of a recording whose call is over, and which is there: while a call lives, its writer has the lock.
pub(super) fn complete(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    file.try_lock().ok()?;
    (file.metadata().ok()?.nlink() > 0).then_some(file)
}

fn key(prefix: &str, name: &str) -> Key {
    match prefix.is_empty() {
        true => Key::from(name),
        false => Key::from(format!("{prefix}/{name}")),
    }
}

fn generic(error: io::Error) -> Error {
    Error::Generic { store: "S3", source: Box::new(error) }
}

/// The store's own error, if that is what an IO error holds.
fn unwrapped(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => generic(error),
    }
}

fn refused(error: &Error) -> Refused {
    match error {
        Error::PermissionDenied { .. } => Refused::Rights,
        Error::Unauthenticated { .. } => Refused::Keys,
        Error::NotFound { .. } => Refused::NoBucket,
        other => Refused::Other(other.to_string()),
    }
}

/// Requests go through our own client.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
