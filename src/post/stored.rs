//! Messages in the store, which this process and others deliver.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::{AT_ONCE, Office, PAUSES, RETRY, TIMEOUT, lock};
use crate::assistant::plan::Mailbox;
use crate::observe::metrics;
use crate::store::{Attempt, Claimed, Store, StoreError};

/// How long a message is this process's own: an attempt, and time to write down what became of it.
const LEASE: Duration = TIMEOUT.saturating_add(Duration::from_secs(15));
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
            let mailbox = self.mailbox(&waiting.assistant);
            let limit = self.limit(mailbox.as_ref());
            let permits: Vec<_> =
                std::iter::from_fn(|| limit.clone().try_acquire_owned().ok()).take(AT_ONCE).collect();
            // Without one: the end of an attempt at this address wakes this task.
            if permits.is_empty() {
                continue;
            }
            let claimed = store.claim_messages(&waiting.assistant, permits.len(), LEASE).await?;
            for (claimed, permit) in claimed.into_iter().zip(permits) {
                // The store could not be told yet that it was delivered, or has just taken it late.
                if !lock(&self.claimed).insert(claimed.id.clone()) {
                    continue;
                }
                let office = self.clone();
                let (store, mailbox) = (store.clone(), mailbox.clone());
                self.deliveries.spawn(office.deliver_claimed(store, claimed, mailbox, permit));
            }
        }
        Ok(pause)
    }

    async fn deliver_claimed(
        self: Arc<Self>,
        store: Store,
        claimed: Claimed,
        mailbox: Option<Mailbox>,
        permit: OwnedSemaphorePermit,
    ) {
        let attempt = self.attempt_claimed(&claimed, mailbox.as_ref()).await;
        drop(permit);
        self.settle(&store, &claimed, &attempt).await;
        lock(&self.claimed).remove(&claimed.id);
        self.look.notify_one();
    }

    async fn attempt_claimed(&self, claimed: &Claimed, mailbox: Option<&Mailbox>) -> Attempt {
        let id = &claimed.id;
        let Err(why) = self.attempt(id, &claimed.body, mailbox).await else {
            tracing::info!(message = id, "Delivered a message");
            metrics::message("delivered");
            return Attempt::Delivered;
        };
        let error = why.code();
        if why.is_final(u64::try_from(claimed.taken_ms / 1000).unwrap_or(0)) {
            tracing::error!(message = id, %why, on_disk = true, "Gave up on a message");
            metrics::message("given_up");
            return Attempt::GivenUp { error };
        }
        if claimed.error.as_ref() != Some(&error) {
            tracing::warn!(message = id, %why, "Cannot deliver a message; trying again later");
        }
        let before = usize::try_from(claimed.attempts - 1).unwrap_or(0);
        Attempt::Failed { error, pause: PAUSES[before.min(PAUSES.len() - 1)] }
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
