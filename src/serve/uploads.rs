//! The uploads of recordings, while the server runs and once its last call is over.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::problem::catalogue::Recording;
use crate::record::Sink;
use crate::recording::Archive;

/// See the module.
pub(super) struct Uploads {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Uploads {
    /// Looks first whether the bucket takes anything, and says so if not.
    pub fn start(archive: Archive, records: Sink) -> Self {
        let stop = CancellationToken::new();
        let last = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = last.cancelled() => {}
                looked = archive.probe() => if let Err(why) = looked {
                    let problem = Recording::from(why);
                    tracing::warn!(code = problem.code(), "{problem}");
                }
            }
            archive.upload(&records, last).await;
        });
        Self { stop, task }
    }

    /// Uploads what is left, for at most `time`. The rest follows at the next start.
    pub async fn finish(self, time: Duration) {
        self.stop.cancel();
        let _ = timeout(time, self.task).await;
    }
}
