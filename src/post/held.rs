//! Messages outside of the store: in a file, or in memory only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};

use super::ways::{Address, Delivery, Undelivered};
use super::{Office, PAUSES, Put, RETRY, STORE_PATIENCE, Taken, lock};
use crate::notice::Purpose;
use crate::observe::metrics;
use crate::store::{Fate, Found, Message};

/// The longest pause during shutdown for a message that is not on disk.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// A message that this process holds until it is delivered or in the store.
pub(super) struct Held {
    pub message: Arc<Message>,
    pub on_disk: bool,
    /// The store has just rejected it.
    pub rejected: bool,
    /// The store did not answer, and may have it.
    pub unclear: bool,
    pub _room: OwnedSemaphorePermit,
}

/// What the assistant may say, sent at most once.
type Promise = Option<mpsc::Sender<Taken>>;

impl Office {
    /// Starts to deliver a message.
    pub(super) fn hold(self: &Arc<Self>, held: Held, promise: Promise) {
        let office = self.clone();
        lock(&office.claimed).insert(held.message.id.clone());
        self.deliveries.spawn(async move {
            let message = held.message.clone();
            office.deliver_held(held, promise).await;
            lock(&office.claimed).remove(&message.id);
            office.look.notify_one();
        });
    }

    /// Delivers the messages in files, or moves them into the store.
    pub(super) async fn resume_files(self: &Arc<Self>) {
        let Found { waiting, unclear, broken, .. } = self.read_files().await;
        if broken > 0 {
            tracing::warn!(broken, "Ignoring files in STATE_DIR/messages that are not messages");
        }
        for message in unclear {
            self.given_up(&message.id, &message.to, Undelivered::Unclear, true);
            self.put_aside(&Arc::new(message), Undelivered::Unclear.code()).await;
        }
        let (found, mut resumed) = (waiting.len(), 0);
        for message in waiting {
            let Ok(room) = self.room.clone().try_acquire_owned() else { break };
            resumed += 1;
            let held = Held {
                message: message.into(),
                on_disk: true,
                rejected: false,
                // The process before this one may have died as soon as it was there.
                unclear: self.store.get().is_some(),
                _room: room,
            };
            self.hold(held, None);
        }
        if resumed > 0 {
            tracing::info!(messages = resumed, "Resuming the delivery of messages in files");
        }
        if resumed < found {
            let left = found - resumed;
            tracing::warn!(messages = left, "Leaving messages in STATE_DIR/messages until the next start");
        }
    }

    /// Moves messages that nobody accepted from files into the store.
    pub(super) async fn import_given_up(&self) {
        for (message, error) in self.read_files().await.given_up {
            if !matches!(self.put_one(&message, &Fate::GivenUp { error }).await, Put::Taken) {
                return;
            }
            self.remove(&Arc::new(message)).await;
        }
    }

    /// Tries until the message is delivered, given up, or in the store.
    async fn deliver_held(&self, mut held: Held, mut promise: Promise) {
        let message = held.message.clone();
        let id = &message.id;
        let mut fulfil = |taken| promise.take().map(|promise| promise.try_send(taken));
        let mut store_answers = self.store_answers.subscribe();
        let mut pauses = PAUSES.iter();
        let mut pause = PAUSES[0];
        let mut reported = None;
        let mut woken = held.on_disk;
        loop {
            if self.was_erased(&held).await {
                tracing::info!(message = id, "A message was erased");
                return self.forget(&held).await;
            }
            store_answers.mark_unchanged();
            if !std::mem::take(&mut held.rejected) {
                match self.put_one(&message, &Fate::Waiting).await {
                    Put::Taken => {
                        fulfil(Taken::Kept);
                        return self.forget(&held).await;
                    }
                    Put::Unclear => held.unclear = true,
                    Put::Full | Put::No => {}
                }
            }
            let address = self.address(&message.to);
            let limit = self.limit(address.as_ref());
            let permit = limit.acquire().await;
            let result = self.attempt_held(&held, address.as_ref()).await;
            drop(permit);
            let Err(why) = result else {
                self.delivered(id, &message.to);
                fulfil(Taken::Delivered);
                // Whoever closes the call of a dead process puts its notification into the store. Until the store knows of
                // this one, the mark in the file stays, so that no text message is sent again.
                let stays_marked = held.on_disk
                    && message.to.purpose == Purpose::Notification
                    && self.sends_once(address.as_ref())
                    && self.store.get().is_some_and(|store| store.status().is_err());
                if stays_marked {
                    held.unclear = true;
                    self.tell_store(&held).await;
                    return self.forget(&held).await;
                }
                self.forget(&held).await;
                return self.tell_store(&held).await;
            };
            if why.is_final(message.taken) {
                self.given_up(id, &message.to, why, held.on_disk);
                return self.give_up(&held, why.code()).await;
            }
            metrics::delivery(message.to.via, "failed");
            if reported != Some(why) {
                let via = message.to.via.code();
                tracing::warn!(message = id, via, %why, "Cannot deliver a message; trying again later");
                reported = Some(why);
            }
            pause = pauses.next().copied().unwrap_or(pause);
            tokio::select! {
                () = sleep(pause) => {}
                Ok(()) = store_answers.changed() => {}
                () = self.waking.cancelled(), if !woken => {
                    woken = true;
                    pauses = PAUSES.iter();
                }
                () = self.closing.cancelled() => {
                    if held.on_disk {
                        return;
                    }
                    sleep(pause.min(LAST_PAUSE)).await;
                }
            }
        }
    }

    async fn attempt_held(&self, held: &Held, address: Option<&Address>) -> Result<(), Undelivered> {
        let message = &held.message;
        let delivery = Delivery { id: &message.id, taken: message.taken, body: &message.body };
        if !self.sends_once(address) {
            return match held.on_disk {
                true => self.attempt_or_leave(&delivery, address).await,
                false => self.attempt(&delivery, address).await,
            };
        }
        // Another process may send it from the store.
        if held.unclear {
            return Err(Undelivered::Store);
        }
        if held.on_disk && !self.mark(message, true).await {
            return Err(Undelivered::Disk(std::io::ErrorKind::Other));
        }
        let result = self.attempt(&delivery, address).await;
        if held.on_disk && result.is_err_and(|why| why != Undelivered::Unclear) {
            self.mark(message, false).await;
        }
        result
    }

    /// Marks the file of a message as one that is being sent, unless the caller was erased meanwhile.
    async fn mark(&self, message: &Arc<Message>, sending: bool) -> bool {
        let Some(files) = self.files.clone() else { return false };
        let message = message.clone();
        let marked = tokio::task::spawn_blocking(move || match (files.has(&message), sending) {
            (false, _) => false,
            (true, true) => files.mark_sending(&message).is_ok(),
            (true, false) => files.put(&message).is_ok(),
        });
        marked.await.unwrap_or(false)
    }

    /// Tells the store that a message was delivered which it may have, or it would be delivered again.
    async fn tell_store(&self, held: &Held) {
        while held.unclear && !matches!(self.put_one(&held.message, &Fate::Delivered).await, Put::Taken) {
            tokio::select! {
                () = sleep(RETRY) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    async fn forget(&self, held: &Held) {
        if held.on_disk {
            self.remove(&held.message).await;
        }
    }

    /// Keeps the message for the owner, if it is or can be on a disk.
    async fn give_up(&self, held: &Held, error: String) {
        if matches!(self.put_one(&held.message, &Fate::GivenUp { error: error.clone() }).await, Put::Taken) {
            return self.forget(held).await;
        }
        if held.on_disk {
            self.put_aside(&held.message, error).await;
        }
    }

    async fn put_aside(&self, message: &Arc<Message>, error: String) {
        let Some(files) = self.files.clone() else { return };
        let given_up = message.clone();
        let moved = tokio::task::spawn_blocking(move || files.give_up(&given_up, &error)).await;
        if let Ok(Err(error)) = moved {
            tracing::error!(message = message.id, why = %error.kind(), "Cannot put a message aside");
        }
    }

    async fn read_files(&self) -> Found {
        let Some(files) = self.files.clone() else { return Found::default() };
        tokio::task::spawn_blocking(move || files.read()).await.unwrap_or_default()
    }

    /// Whether somebody has removed the message's file, or its caller from the store.
    async fn was_erased(&self, held: &Held) -> bool {
        if held.on_disk
            && let Some(files) = self.files.clone()
        {
            let message = held.message.clone();
            if !tokio::task::spawn_blocking(move || files.has(&message)).await.unwrap_or(true) {
                return true;
            }
        }
        let Some(store) = self.store.get().filter(|_| !held.rejected) else { return false };
        timeout(STORE_PATIENCE, store.was_erased(&held.message)).await.is_ok_and(|erased| erased == Ok(true))
    }

    /// Writes a message to a file. False: there is no folder, or the disk reported an error.
    pub(super) async fn write(&self, message: &Arc<Message>) -> bool {
        let Some(files) = self.files.clone() else { return false };
        let message = message.clone();
        let why = match tokio::task::spawn_blocking(move || files.put(&message)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.kind().to_string(),
            // The runtime is shutting down.
            Err(_) => "shutting down".to_owned(),
        };
        tracing::error!(why, "Cannot write to STATE_DIR; keeping a message in memory");
        false
    }

    async fn remove(&self, message: &Arc<Message>) {
        let Some(files) = self.files.clone() else { return };
        let gone = message.clone();
        let removed = tokio::task::spawn_blocking(move || files.remove(&gone)).await;
        if let Ok(Err(error)) = removed {
            tracing::error!(message = message.id, why = %error.kind(), "Cannot remove a message from disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::{ClientConfig, RootCertStore};

    use super::super::{Post, seconds};
    use super::*;
    use crate::notice::Via;
    use crate::phone::PhoneNumber;
    use crate::store::{MessageFiles, Recipient};

    fn post(state: &Path) -> Post {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Post::new(&tls, Some(state), None, None).unwrap()
    }

    fn message() -> Arc<Message> {
        Arc::new(Message {
            id: "msg_1".to_owned(),
            call: None,
            to: Recipient { assistant: "clinic".to_owned(), purpose: Purpose::Message, via: Via::Webhook },
            caller: PhoneNumber::parse("+15550100007").ok(),
            taken: seconds(),
            body: "{}".to_owned(),
            keep: Duration::ZERO,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_was_erased_is_not_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let post = post(dir.path());
        assert!(post.0.write(&message()).await);
        post.resume(None).await;
        post.0.deliveries.close();
        // Nobody has an address for it.
        assert!(timeout(Duration::from_secs(600), post.0.deliveries.wait()).await.is_err(), "it is retried");
        assert_eq!(MessageFiles::new(dir.path()).erase(message().caller.as_ref().unwrap()).unwrap(), 1);
        timeout(Duration::from_secs(3_600), post.0.deliveries.wait()).await.expect("an end");
    }

    #[test]
    fn a_message_stays_in_memory_during_shutdown() {
        let dir = tempfile::tempdir().unwrap();
        let finished = tokio::runtime::Runtime::new().unwrap();
        let within = finished.handle().clone();
        finished.shutdown_background();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let post = post(dir.path());
        let on_disk = runtime.block_on(async {
            // Blocking work goes to the runtime that has shut down.
            let _within = within.enter();
            post.0.write(&message()).await
        });
        assert!(!on_disk);
    }
}
