//! What the server and all its sessions share.

use std::sync::atomic::{AtomicBool, AtomicU16};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::faults::{Trouble, Troubles};
use super::log::{ModelEvent, SessionLog};
use super::options::ModelOptions;
use super::script::Reply;

/// What all connections of a server share.
pub(super) struct Shared {
    pub options: ModelOptions,
    pub stop: CancellationToken,
    pub events: broadcast::Sender<ModelEvent>,
    pub sessions: Mutex<Vec<Arc<Mutex<SessionLog>>>>,
    pub troubles: Mutex<Troubles>,
    /// The reply to every turn, instead of the script's.
    pub reply: Mutex<Option<Reply>>,
    /// Troubles that strike all sessions at once.
    pub strikes: broadcast::Sender<Trouble>,
    /// Nobody listens.
    pub refusing: watch::Sender<bool>,
    /// The number of the last spoken item, in all sessions.
    pub spoken: AtomicU16,
    /// [`super::Fault::RefuseOptional`] with `once` has struck.
    pub refused_optional: AtomicBool,
}

impl Shared {
    pub fn reply(&self) -> Option<Reply> {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn publish(&self, event: ModelEvent) {
        // It fails only when nobody subscribes.
        let _ = self.events.send(event);
    }
}
