//! Brings the keeper a folder from the remote folder, again and again.

use std::time::Duration;

use tokio::time::sleep;
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
    /// A folder that the keeper has not seen.
    fresh: Option<Folder>,
}

impl RemoteFolder {
    /// Fetches once. What goes wrong is logged, and tried again by [`Self::run`].
    pub async fn begin(mut remote: Remote, mut rounds: Rounds) -> RemoteFolder {
        let outcome = remote.fetch().await;
        let wait = rounds.after(&outcome);
        let fresh = match outcome {
            Ok(Fetched::Folder(folder)) => Some(folder),
            Ok(Fetched::Unchanged) | Err(_) => None,
        };
        RemoteFolder { remote, rounds, wait, fresh }
    }

    /// The folder that was fetched and that no keeper has seen.
    pub fn fresh(&self) -> Option<&Folder> {
        self.fresh.as_ref()
    }

    /// Fetches until `stop`. What [`Self::begin`] fetched is handed over first: where it is in force already, nothing
    /// comes of it; where it has problems, they are held against it as against any edit.
    pub async fn run(mut self, mut keeper: Keeper, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                if let Some(folder) = self.fresh.take() {
                    keeper.apply(Ok(folder)).await;
                }
                sleep(self.wait).await;
                let outcome = self.remote.fetch().await;
                self.wait = self.rounds.after(&outcome);
                if let Ok(Fetched::Folder(folder)) = outcome {
                    self.fresh = Some(folder);
                }
            }
        })
        .await;
    }
}
