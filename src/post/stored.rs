//! Messages in the store, which this process and others deliver.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::ways::{Address, Delivery, Undelivered, lease};
use super::{Office, PAUSES, RETRY, lock};
use crate::observe::metrics;
use crate::store::{Attempt, Claimed, Recipient, Store, StoreError};

/// How often to look for messages of other processes, which may have ended.
const LOOK: Duration = Duration::from_secs(5);

impl Office {
    /// Delivers what is in the store, until shutdown.
    pub(super) async fn deliver_stored(self: Arc<Self>, store: Store) {
        let mut resumed = false;
        loop {
            let round = tokio::select! {
                round = self.round(&store, &mut resumed) => round,
                // What was claimed just then is claimed again when its lease is over.
                () = self.closing.cancelled() => return,
            };
            let answers = round.is_ok();
            self.store_answers.send_if_modified(|before| std::mem::replace(before, answers) != answers);
            let pause = round.unwrap_or(RETRY);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.look.notified() => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// Starts to deliver what is due. Returns when to look again.
    async fn round(self: &Arc<Self>, store: &Store, resumed: &mut bool) -> Result<Duration, StoreError> {
        if !*resumed {
            let messages = store.hurry_messages().await?;
            self.import_given_up().await;
            *resumed = true;
            if messages > 0 {
                tracing::info!(messages, "Resuming the delivery of messages");
            }
        }
        let mut pause = LOOK;
        for waiting in store.waiting_messages().await? {
            if !waiting.due_in.is_zero() {
                pause = pause.min(waiting.due_in);
                continue;
            }
            if waiting.sending {
                for (id, to) in store.give_up_unclear().await? {
                    self.given_up(&id, &to, Undelivered::Unclear, true);
                }
                continue;
            }
            let address = self.address(&waiting.to);
            let limit = self.limit(address.as_ref());
            let permits: Vec<_> = std::iter::from_fn(|| limit.clone().try_acquire_owned().ok()).collect();
            // Without one: the end of an attempt at this address wakes this task.
            if permits.is_empty() {
                continue;
            }
            let claimed = store.claim_messages(&waiting.to, permits.len(), lease(waiting.to.via)).await?;
            for (claimed, permit) in claimed.into_iter().zip(permits) {
                // This process holds it outside, and the store has had it all along.
                if !lock(&self.claimed).insert(claimed.id.clone()) {
                    let later = Attempt::Failed { error: Undelivered::Store.code(), pause: LOOK };
                    store.settle_message(&claimed, &later).await?;
                    continue;
                }
                let office = self.clone();
                let work = Work { store: store.clone(), claimed, to: waiting.to.clone() };
                self.deliveries.spawn(office.deliver_claimed(work, address.clone(), permit));
            }
        }
        Ok(pause)
    }

    async fn deliver_claimed(
        self: Arc<Self>,
        work: Work,
        address: Option<Address>,
        permit: OwnedSemaphorePermit,
    ) {
        let attempt = self.attempt_claimed(&work, address.as_ref()).await;
        drop(permit);
        if let Some(attempt) = attempt {
            self.settle(&work.store, &work.claimed, &attempt).await;
        }
        lock(&self.claimed).remove(&work.claimed.id);
        self.look.notify_one();
    }

    /// `None`: it is somebody else's.
    async fn attempt_claimed(&self, work: &Work, address: Option<&Address>) -> Option<Attempt> {
        let Work { store, claimed, to } = work;
        let id = &claimed.id;
        let delivery =
            Delivery { id, taken: u64::try_from(claimed.taken_ms / 1000).unwrap_or(0), body: &claimed.body };
        let result = match self.sends_once(address) {
            false => self.attempt_or_leave(&delivery, address).await,
            // Whoever finds the mark does not send it again.
            true => match store.mark_sending(claimed).await {
                Ok(true) => self.attempt(&delivery, address).await,
                Ok(false) => return None,
                Err(_) => Err(Undelivered::Store),
            },
        };
        let Err(why) = result else {
            self.delivered(id, to);
            return Some(Attempt::Delivered);
        };
        let error = why.code();
        if why.is_final(u64::try_from(claimed.since_ms / 1000).unwrap_or(0)) {
            self.given_up(id, to, why, true);
            return Some(Attempt::GivenUp { error });
        }
        metrics::delivery(to.via, "failed");
        if claimed.error.as_ref() != Some(&error) {
            let via = to.via.code();
            tracing::warn!(message = id, via, %why, "Cannot deliver a message; trying again later");
        }
        let before = usize::try_from(claimed.attempts - 1).unwrap_or(0);
        Some(Attempt::Failed { error, pause: PAUSES[before.min(PAUSES.len() - 1)] })
    }

    /// Writes down what became of an attempt, however long that takes: otherwise, the message would be delivered again.
    async fn settle(&self, store: &Store, claimed: &Claimed, attempt: &Attempt) {
        let mut is_reported = false;
        while let Err(why) = store.settle_message(claimed, attempt).await {
            if !std::mem::replace(&mut is_reported, true) {
                tracing::warn!(message = claimed.id, %why, "The store cannot be told about a message");
            }
            // A failed attempt needs no more: somebody claims the message again.
            if self.closing.is_cancelled() || matches!(attempt, Attempt::Failed { .. }) {
                return;
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = self.closing.cancelled() => {}
            }
        }
    }
}

/// A message of the store that this process delivers.
struct Work {
    store: Store,
    claimed: Claimed,
    to: Recipient,
}
