//! When to look at the folder on the disk: the system's news say that something happened, and quiet says that it is
//! done. A poll that only takes stamps finds what the news left out.

use std::collections::BTreeSet;
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
use super::read::read_folder;
use super::settings::SettingsFile;
use super::stamps::Stamps;
use crate::assistant::Folder;
use crate::problem::Problem;

/// What takes something away, or has problems, is looked at again after so long.
const AGAIN: Duration = Duration::from_millis(50);
/// On a disk that does not rest: the pause before the first glimpse. Each is longer than the one before, so that they
/// do not keep step with somebody who writes at intervals.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// A disk that does not rest is believed what it takes away when that many glimpses in a row agree, ...
const GLIMPSES: u32 = 20;
/// ... over so many times of quiet: a single file that rests so long would be at rest.
const QUIETS: u32 = 4;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The disk is at rest when nothing happened for so long.
    pub quiet: Duration,
    /// A disk that does not come to rest is read after so long.
    pub at_most: Duration,
    /// Between two polls.
    pub poll: Duration,
    /// Whether the system is asked for news; without them the poll is all there is.
    pub news: bool,
}

impl Default for Pace {
    /// An edit is in force within a second: 400 ms of quiet, and the check.
    fn default() -> Pace {
        Pace {
            quiet: Duration::from_millis(400),
            at_most: Duration::from_secs(2),
            poll: Duration::from_secs(30),
            news: true,
        }
    }
}

/// Brings the keeper every edit of one folder.
pub struct Watcher {
    keeper: Keeper,
    dir: PathBuf,
    settings: Option<SettingsFile>,
    pace: Pace,
    /// Something happened at a place of ours.
    news: Arc<Notify>,
    /// `None` when the system gives no news: the poll is all there is.
    watch: Option<Watch>,
    /// Whether it was said that there are no news.
    deaf: bool,
    /// As of the last look.
    stamps: Option<Stamps>,
    /// What glimpses agree on, since when, and how many.
    doubt: Option<(BTreeSet<String>, Instant, u32)>,
    /// Two looks found these stamps: no write hid in the same tick of the disk's clock as the first look.
    sure: bool,
}

/// All that was on the disk at one moment.
struct Read {
    stamps: Stamps,
    folder: Result<Folder, Vec<Problem>>,
    settings: Option<io::Result<Vec<u8>>>,
}

/// The system's news from these places, for as long as it lives.
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
            news: Arc::default(),
            watch: None,
            deaf: false,
            stamps: None,
            doubt: None,
            sure: false,
        }
    }

    /// Watches until `stop`. The first look is at once: for what was written since the start read the folder.
    ///
    /// A panic would end reloading, and nobody would know until the end of the program. So it is said, once, and
    /// after as long as a poll it is watched again.
    pub async fn run(mut self, stop: CancellationToken) {
        let watching = async {
            let mut said = false;
            loop {
                let Err(_) = AssertUnwindSafe(self.watch()).catch_unwind().await;
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(
                        again_secs = self.pace.poll.as_secs(),
                        "Watching the folder of assistants broke down, which is a mistake in Switchboard; \
                         please report it. It is tried again and again"
                    );
                }
                // What they knew may be half of it.
                (self.watch, self.stamps, self.doubt, self.sure) = (None, None, None, false);
                sleep(self.pace.poll).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    async fn watch(&mut self) -> Infallible {
        self.arm().await;
        let mut rested = true;
        loop {
            while !(rested && self.look().await) {
                rested = self.rest().await;
            }
            loop {
                tokio::select! {
                    () = self.news.notified() => {
                        rested = false;
                        break;
                    }
                    () = sleep(self.pace.poll) => {
                        self.arm().await;
                        if self.stamps.as_ref() != Some(&self.stamps().await) {
                            rested = false;
                            break;
                        }
                        if !self.sure {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Waits until the disk is at rest. `false` when it does not come to rest: then a glimpse of it is in force.
    async fn rest(&mut self) -> bool {
        let mut limit = self.pace.at_most;
        while !self.quiet(limit).await {
            if self.glimpses().await {
                return false;
            }
            limit = self.pace.quiet * 2;
        }
        true
    }

    /// Waits until the disk is at rest, following the places as they move. `false` when it does not come to rest.
    async fn quiet(&mut self, at_most: Duration) -> bool {
        self.arm().await;
        let limit = Instant::now() + at_most;
        loop {
            // Without news, two equal stamps are what can be known of quiet.
            let before = match self.watch {
                Some(_) => None,
                None => Some(self.stamps().await),
            };
            let mut until = limit.min(Instant::now() + self.pace.quiet);
            loop {
                tokio::select! {
                    () = self.news.notified() => until = limit.min(Instant::now() + self.pace.quiet),
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

    /// Reads all and hands it over. `false` when somebody wrote meanwhile, so that what was read may be torn.
    async fn look(&mut self) -> bool {
        let Some(Read { stamps, folder, settings }) = self.read().await else { return false };
        let verdict = self.keeper.check(folder).await;
        let lost = self.keeper.loses(&verdict);
        if !lost.is_empty() && !self.stays(&stamps).await && !self.agree(lost) {
            return false;
        }
        self.sure = self.stamps.as_ref() == Some(&stamps);
        self.stamps = Some(stamps);
        self.doubt = None;
        self.keeper.settle(verdict);
        if let (Some(file), Some(read)) = (&mut self.settings, settings) {
            file.look(read);
        }
        true
    }

    /// Whether nobody writes for a moment. A file that is deleted to be created is gone for a moment only, and the
    /// look may fall into that.
    async fn stays(&self, stamps: &Stamps) -> bool {
        tokio::select! {
            () = self.news.notified() => false,
            () = sleep(AGAIN) => self.stamps().await == *stamps,
        }
    }

    /// Reads a disk that does not rest between two writes, for as long as it would take to come to rest. Whether
    /// something was handed over.
    ///
    /// Files may be half written, or gone until they are created again. So a glimpse that takes something away, or
    /// that has problems, counts only when all glimpses agree for a while. Of the settings' file nothing is said.
    async fn glimpses(&mut self) -> bool {
        let end = Instant::now() + self.pace.quiet;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < end {
            sleep(pause).await;
            let began = Instant::now();
            if let Some(read) = self.read().await {
                let verdict = self.keeper.check(read.folder).await;
                let lost = self.keeper.loses(&verdict);
                if lost.is_empty() || self.agree(lost) {
                    self.doubt = None;
                    self.keeper.settle(verdict);
                    return true;
                }
            }
            // A large folder takes long to read and to check: not more than half of the time.
            pause = (pause + Duration::from_millis(1)).max(began.elapsed());
        }
        false
    }

    /// Takes down what a glimpse lost. Whether enough of them agree.
    fn agree(&mut self, lost: BTreeSet<String>) -> bool {
        let (since, before) = match self.doubt.take() {
            Some((same, since, count)) if same == lost => (since, count),
            _ => (Instant::now(), 0),
        };
        self.doubt = Some((lost, since, before + 1));
        before + 1 >= GLIMPSES && since.elapsed() >= self.pace.quiet * QUIETS
    }

    /// Everything as it is now. `None` when somebody wrote meanwhile.
    async fn read(&self) -> Option<Read> {
        let (dir, settings) = (self.dir.clone(), self.settings_path());
        blocking(move || {
            let stamps = Stamps::take(&dir, settings.as_deref());
            let folder = read_folder(&dir).map_err(|error| vec![error.into()]);
            let read = settings.as_deref().map(std::fs::read);
            let whole = stamps == Stamps::take(&dir, settings.as_deref());
            whole.then_some(Read { stamps, folder, settings: read })
        })
        .await
    }

    /// Watches where the folder is by now. Whether that is elsewhere than before.
    async fn arm(&mut self) -> bool {
        if !self.pace.news {
            return false;
        }
        let (dir, settings, news) = (self.dir.clone(), self.settings_path(), self.news.clone());
        let known = self.watch.as_ref().map(|watch| watch.places.clone());
        let armed = blocking(move || {
            let places = Places::around(&dir, settings.as_deref());
            match known.is_some_and(|known| *known == places) {
                true => Ok(None),
                false => Watch::new(places, news).map(Some),
            }
        });
        match armed.await {
            Ok(None) => false,
            Ok(Some(watch)) => {
                self.watch = Some(watch);
                if std::mem::take(&mut self.deaf) {
                    tracing::info!("The folder of assistants is watched again");
                }
                true
            }
            Err(error) => {
                self.watch = None;
                if !std::mem::replace(&mut self.deaf, true) {
                    let poll_secs = self.pace.poll.as_secs();
                    tracing::warn!(
                        %error,
                        poll_secs,
                        "The folder of assistants cannot be watched: edits are found by looking now and then; \
                         raise the limits of inotify to have them at once"
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
    /// When the system has no watch left, and the like. A place that is gone, or that we may not see, is no error:
    /// what is above it tells when it is back.
    fn new(places: Places, news: Arc<Notify>) -> notify::Result<Watch> {
        let places = Arc::new(places);
        let ours = places.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error says that news may be missing.
            if event.map_or(true, |event| ours.concerned(&event)) {
                news.notify_one();
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
