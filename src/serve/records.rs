//! The records of the calls of a running server.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::id::CallSid;
use crate::record::Sink;
use crate::recording::Archive;
use crate::session::Switchboard;
use crate::settings::Settings;
use crate::store::{self, Closer, Options, Place, Store};

/// A call that ended longer ago than this may ring again.
const CLOSED: Duration = Duration::from_secs(24 * 60 * 60);
/// The most calls that are read at start.
const MOST_CLOSED: u32 = 100_000;
/// How often to look whether the database is there.
const LOOK: Duration = Duration::from_millis(100);

/// Starts the writer, which waits for no database. The recordings of calls that are too old are removed from `archive`.
pub(super) fn start(settings: &Settings, archive: Archive) -> (Sink, Store, Closer) {
    let purged = Arc::new(move |recordings| drop(tokio::spawn(archive.clone().remove_all(recordings))));
    let place = Place::of(settings);
    let (records, store, closer) =
        store::start(Options { place, spill: settings.state_dir.clone(), purged: Some(purged) });
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
