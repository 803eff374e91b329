//! What the server and all its sessions share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::log::{ModelEvent, SessionLog};
use super::options::ModelOptions;

/// What all connections of a server share.
pub(super) struct Shared {
    pub options: ModelOptions,
    pub stop: CancellationToken,
    pub events: broadcast::Sender<ModelEvent>,
    pub sessions: Mutex<Vec<Arc<Mutex<SessionLog>>>>,
    /// [`super::Fault::RefuseOptional`] with `once` has struck.
    pub refused_optional: AtomicBool,
}

impl Shared {
    pub fn publish(&self, event: ModelEvent) {
        // It fails only when nobody subscribes.
        let _ = self.events.send(event);
    }
}
