//! When to read the folder on the disk: file events say that something happened, and quiet says that it is over. A
//! poll finds changes without events.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Keeper;
use super::places::Places;
use super::read;
use super::settings::SettingsFile;
use super::stamps::Stamps;
use crate::assistant::Folder;
use crate::problem::Problem;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The disk is at rest when nothing happened for this long.
    pub quiet: Duration,
    /// A disk that does not come to rest is read after this long.
    pub at_most: Duration,
    /// Between two polls.
    pub poll: Duration,
    /// Whether to ask the system for file events. Without them, only the poll finds changes.
    pub events: bool,
}

impl Default for Pace {
    /// An edit is in force within a second: 400 ms of quiet, and the check.
    fn default() -> Pace {
        Pace {
            quiet: Duration::from_millis(400),
            at_most: Duration::from_secs(2),
            poll: Duration::from_secs(30),
            events: true,
        }
    }
}

/// Passes every edit of one folder to the keeper.
pub struct Watcher {
    keeper: Keeper,
    dir: PathBuf,
    settings: Option<SettingsFile>,
    pace: Pace,
    /// Something happened at one of our places.
    event: Arc<Notify>,
    /// `None` if the system gives no events.
    watch: Option<Watch>,
    /// Whether the lack of events was logged.
    warned: bool,
    /// As of the last read.
    stamps: Option<Stamps>,
    /// Whether two reads found the same stamps, so that no write hides in the clock tick of the first.
    confirmed: bool,
}

/// All that was on the disk at one moment.
struct Read {
    stamps: Stamps,
    folder: Result<Folder, Vec<Problem>>,
    settings: Option<io::Result<Vec<u8>>>,
}

/// File events from these places, until it is dropped.
struct Watch {
    places: Arc<Places>,
    _watcher: RecommendedWatcher,
}

impl Watcher {
    pub fn new(
        keeper: Keeper,
        dir: impl Into<PathBuf>,
        settings: Option<SettingsFile>,
        pace: Pace,
    ) -> Watcher {
        Watcher {
            keeper,
            dir: dir.into(),
            settings,
            pace,
            event: Arc::default(),
            watch: None,
            warned: false,
            stamps: None,
            confirmed: false,
        }
    }

    /// It looks again when `again` is notified, as after a file event.
    pub fn woken_by(self, again: Arc<Notify>) -> Watcher {
        Watcher { event: again, ..self }
    }

    /// Watches until `stop`. It reads at once, for edits since the start.
    ///
    /// A panic must not end reloading unnoticed: it is logged once, and watching starts again.
    pub async fn run(mut self, stop: CancellationToken) {
        let watching = async {
            let mut logged = false;
            loop {
                let Err(_) = AssertUnwindSafe(self.watch()).catch_unwind().await;
                if !std::mem::replace(&mut logged, true) {
                    tracing::error!(
                        retry_secs = self.pace.poll.as_secs(),
                        "Watching the folder of assistants panicked, which is a bug in Switchboard; please report it"
                    );
                }
                // The panic may have left half of the state.
                (self.watch, self.stamps, self.confirmed) = (None, None, false);
                sleep(self.pace.poll).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    async fn watch(&mut self) -> Infallible {
        self.arm().await;
        // A file may be missing for a moment right now.
        let mut at_rest = false;
        loop {
            let mut limit = self.pace.at_most;
            while !self.read_and_apply(at_rest).await {
                at_rest = self.quiet(limit).await;
                limit = self.pace.quiet * 2;
            }
            self.change().await;
            at_rest = self.quiet(self.pace.at_most).await;
        }
    }

    /// Waits until the folder may have changed. The first poll after a new read counts as a change, to confirm it.
    async fn change(&mut self) {
        loop {
            tokio::select! {
                () = self.event.notified() => return,
                () = sleep(self.pace.poll) => {
                    self.arm().await;
                    if !self.confirmed || self.stamps.as_ref() != Some(&self.stamps().await) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until the disk is at rest, following the places as they move. `false` if it does not come to rest.
    async fn quiet(&mut self, at_most: Duration) -> bool {
        self.arm().await;
        let limit = Instant::now() + at_most;
        loop {
            // Without events, two equal stamps are the only sign of quiet.
            let before = match self.watch {
                Some(_) => None,
                None => Some(self.stamps().await),
            };
            let mut until = limit.min(Instant::now() + self.pace.quiet);
            loop {
                tokio::select! {
                    () = self.event.notified() => until = limit.min(Instant::now() + self.pace.quiet),
                    () = sleep_until(until) => break,
                }
            }
            if Instant::now() >= limit {
                return false;
            }
            let moved = self.arm().await;
            let written = match before {
                Some(before) => before != self.stamps().await,
                None => false,
            };
            if !moved && !written {
                return true;
            }
        }
    }

    /// Reads everything and puts it in force. `false` if it must be read again: it may be torn, because somebody wrote
    /// meanwhile, or the disk is not at rest and the folder lacks something, which may be about to be written.
    async fn read_and_apply(&mut self, at_rest: bool) -> bool {
        let Some(Read { stamps, folder, settings }) = self.read().await else { return false };
        let verdict = self.keeper.check(folder).await;
        let still_at_rest = || at_rest && self.event.notified().now_or_never().is_none();
        if self.keeper.takes_away(&verdict) && !still_at_rest() {
            return false;
        }
        self.confirmed = self.stamps.as_ref() == Some(&stamps);
        self.stamps = Some(stamps);
        self.keeper.settle(verdict);
        if let (Some(file), Some(read)) = (&mut self.settings, settings) {
            file.look(read);
        }
        true
    }

    /// Everything as it is now. `None` if somebody wrote meanwhile.
    async fn read(&self) -> Option<Read> {
        let (dir, settings) = (self.dir.clone(), self.settings_path());
        blocking(move || {
            let stamps = Stamps::take(&dir, settings.as_deref());
            let folder = read::read(&dir);
            let read = settings.as_deref().map(std::fs::read);
            let whole = stamps == Stamps::take(&dir, settings.as_deref());
            whole.then_some(Read { stamps, folder, settings: read })
        })
        .await
    }

    /// Watches the places where the folder is now. Returns whether they moved.
    async fn arm(&mut self) -> bool {
        if !self.pace.events {
            return false;
        }
        let (dir, settings, event) = (self.dir.clone(), self.settings_path(), self.event.clone());
        let known = self.watch.as_ref().map(|watch| watch.places.clone());
        let armed = blocking(move || {
            let places = Places::around(&dir, settings.as_deref());
            match known.is_some_and(|known| *known == places) {
                true => Ok(None),
                false => Watch::new(places, event).map(Some),
            }
        });
        match armed.await {
            Ok(None) => false,
            Ok(Some(watch)) => {
                self.watch = Some(watch);
                if std::mem::take(&mut self.warned) {
                    tracing::info!("The folder of assistants is watched again");
                }
                true
            }
            Err(error) => {
                self.watch = None;
                if !std::mem::replace(&mut self.warned, true) {
                    let poll_secs = self.pace.poll.as_secs();
                    tracing::warn!(
                        %error,
                        poll_secs,
                        "The folder of assistants cannot be watched, so it is polled; raise the inotify limits to see \
                         edits at once"
                    );
                }
                false
            }
        }
    }

    async fn stamps(&self) -> Stamps {
        let (dir, settings) = (self.dir.clone(), self.settings_path());
        blocking(move || Stamps::take(&dir, settings.as_deref())).await
    }

    fn settings_path(&self) -> Option<PathBuf> {
        self.settings.as_ref().map(|file| file.path().to_owned())
    }
}

impl Watch {
    /// # Errors
    /// If the system has no watch left, for instance. A place that is gone or forbidden is not an error: its parent
    /// folder shows when it is back.
    fn new(places: Places, event: Arc<Notify>) -> notify::Result<Watch> {
        let places = Arc::new(places);
        let ours = places.clone();
        let mut watcher = notify::recommended_watcher(move |happened: notify::Result<notify::Event>| {
            // An error means that events may be missing.
            if happened.map_or(true, |happened| ours.may_be_edit(&happened)) {
                event.notify_one();
            }
        })?;
        for place in places.watched.keys() {
            if let Err(error) = watcher.watch(place, RecursiveMode::NonRecursive) {
                use io::ErrorKind::{NotFound, PermissionDenied};
                match &error.kind {
                    notify::ErrorKind::PathNotFound => {}
                    notify::ErrorKind::Io(error) if matches!(error.kind(), NotFound | PermissionDenied) => {}
                    _ => return Err(error),
                }
            }
        }
        Ok(Watch { places, _watcher: watcher })
    }
}

/// The disk may be slow, and calls share this runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never aborted.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
