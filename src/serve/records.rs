//! The records of the calls of a running server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::assistant::Roster;
use crate::id::CallSid;
use crate::post::Letter;
use crate::record::Sink;
use crate::recording::Archive;
use crate::session::{Switchboard, letters_of};
use crate::settings::Settings;
use crate::store::{self, Closer, Files, Options, Place, Store};

/// A call that ended longer ago than this may ring again.
const CLOSED: Duration = Duration::from_secs(24 * 60 * 60);
/// The most calls that are read at start.
const MOST_CLOSED: u32 = 100_000;
/// The folder in STATE_DIR for what waits while the database is gone.
const WAITING: &str = "waiting";
/// How often to look whether the database is there.
const LOOK: Duration = Duration::from_millis(100);

/// The folder of what waits while the database is gone; `None` if it waits in memory.
pub fn waiting(settings: &Settings) -> Option<PathBuf> {
    settings.state_dir.as_ref().map(|state| state.join(WAITING))
}

/// The store that knows what waits, too.
pub(super) fn with_waiting(store: &Store, settings: &Settings) -> Store {
    store.clone().with_files(Files { waiting: waiting(settings), messages: None })
}

/// Starts the writer, which waits for no database. The recordings of calls that are too old are removed from `archive`,
/// and the owners in `roster` are told of calls whose process died before it could.
pub(super) fn start(
    settings: &Settings,
    archive: Archive,
    roster: watch::Receiver<Arc<Roster>>,
) -> (Sink, Store, Closer) {
    let options = Options {
        spill: waiting(settings),
        prices: Arc::new(settings.prices.clone()),
        purged: Some(Arc::new(move |recordings| drop(tokio::spawn(archive.clone().remove_all(recordings))))),
        closed: Some(Arc::new(move |record| {
            letters_of(record, &roster.borrow()).iter().flat_map(Letter::messages).collect()
        })),
        ..Options::new(Place::of(settings))
    };
    let (records, store, closer) = store::start(options);
    (Arc::new(move |id, entry| records.file(id, entry)), store, closer)
}

/// Closes the calls that ended in the last day, as soon as the database is there: their rings, sent again, open nothing.
pub(super) async fn close_earlier(store: Store, switchboard: Arc<Switchboard>, stop: CancellationToken) {
    let read = async {
        loop {
            let now = Timestamp::now();
            let since = now.checked_sub(CLOSED).unwrap_or(Timestamp::MIN);
            match store.closed_calls(since, MOST_CLOSED).await {
                Ok(calls) => break (calls, now),
                Err(_) => sleep(LOOK).await,
            }
        }
    };
    let (calls, now) = tokio::select! {
        () = stop.cancelled() => return,
        read = read => read,
    };
    let ago = |ended: Timestamp| Duration::try_from(now.duration_since(ended)).unwrap_or_default();
    let calls = calls.iter().filter_map(|(sid, ended)| Some((CallSid::parse(sid)?, ago(*ended))));
    let closed = calls.clone().count();
    switchboard.close_earlier(calls);
    if closed > 0 {
        tracing::info!(calls = closed, "Calls that ended in the last day open nothing");
    }
}
