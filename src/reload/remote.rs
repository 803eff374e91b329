//! Fetches the remote folder again and again, and passes it to the keeper.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Keeper;
use super::fetch::{Fetched, Remote, Rounds};
use crate::assistant::Folder;

/// See the module.
#[derive(Debug)]
pub struct RemoteFolder {
    remote: Remote,
    rounds: Rounds,
    /// Until the next fetch.
    wait: Duration,
    /// Fetched, and not yet passed to the keeper.
    fresh: Option<Folder>,
    /// Ends the wait.
    again: Arc<Notify>,
}

impl RemoteFolder {
    /// Fetches once. A failure is logged, and [`Self::run`] tries again.
    pub async fn begin(remote: Remote, rounds: Rounds) -> RemoteFolder {
        let mut folder =
            RemoteFolder { remote, rounds, wait: Duration::ZERO, fresh: None, again: Arc::default() };
        folder.fetch().await;
        folder
    }

    /// The folder that was fetched and not yet passed to a keeper.
    pub fn fresh(&self) -> Option<&Folder> {
        self.fresh.as_ref()
    }

    /// It fetches again when `again` is notified.
    pub fn woken_by(self, again: Arc<Notify>) -> RemoteFolder {
        RemoteFolder { again, ..self }
    }

    /// Fetches until `stop`. The keeper first gets what [`Self::begin`] fetched: if it is in force already, nothing
    /// changes; if it has problems, it is rejected like any edit.
    pub async fn run(mut self, mut keeper: Keeper, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                if let Some(folder) = self.fresh.take() {
                    keeper.apply(Ok(folder)).await;
                }
                let _ = timeout(self.wait, self.again.notified()).await;
                self.fetch().await;
            }
        })
        .await;
    }

    async fn fetch(&mut self) {
        let outcome = self.remote.fetch().await;
        self.wait = self.rounds.after(&outcome);
        if let Ok(Fetched::Folder(folder)) = outcome {
            self.fresh = Some(folder);
        }
    }
}
