//! A simulated OpenAI Realtime server, as strict as the real one, with faults on demand.
//!
//! It is written from OpenAI's reference and does not use the server's wire types, so that a mistake in those shows
//! here. It understands no words: it detects energy, counts turns and follows its script.

mod budget;
mod calls;
mod config;
mod connection;
mod conversation;
mod dialect;
mod faults;
mod fields;
mod format;
mod forms;
mod hosted;
mod hosting;
mod input;
mod log;
mod options;
mod parts;
mod plan;
mod refusal;
mod response;
mod rule;
mod script;
mod session;
mod shared;
mod speech;
mod state;
#[cfg(test)]
mod tests;
mod tools;
mod trouble;
mod turns;
mod update;
mod vad;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use faults::Troubles;
use shared::Shared;

pub use faults::{Aim, ConnectError, Fault, Moment, Point, Times, Trouble, When, Which};
pub use forms::fill;
pub use log::{
    ApprovalLog, CallLog, ClientEvent, Closed, Happened, HostedLog, ModelEvent, ResponseLog, SessionLog,
    SpokenItem, Truncation,
};
pub use options::{
    Dialect, HostedServer, HostedTool, Hosting, Listing, ModelOptions, RateLimits, Truncating,
};
pub use script::{HostedCall, HostedError, Reply, Script};
pub use speech::Speech;

/// Live events kept for a slow subscriber.
const EVENTS_KEPT: usize = 4_096;

/// A running server on its own port.
pub struct ModelServer {
    shared: Arc<Shared>,
    addr: SocketAddr,
    tasks: TaskTracker,
}

impl ModelServer {
    /// Listens on a free port of 127.0.0.1 and serves until [`Self::stop`].
    pub async fn start(options: ModelOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            troubles: Mutex::new(Troubles::new(&options)),
            reply: Mutex::new(None),
            strikes: broadcast::Sender::new(16),
            refusing: watch::Sender::new(false),
            spoken: AtomicU16::new(options.items_from),
            options,
            stop: CancellationToken::new(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            sessions: Mutex::new(Vec::new()),
            refused_optional: AtomicBool::new(false),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), tasks.clone()));
        Ok(Self { shared, addr, tasks })
    }

    /// The address to connect to; the client adds `?model=`.
    pub fn url(&self) -> String {
        format!("ws://{}{}", self.addr, self.shared.options.path)
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A copy of every session's log, in the order of the connections.
    pub fn sessions(&self) -> Vec<SessionLog> {
        self.logs().iter().map(|log| log.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// The live log of one session, without copying it.
    pub fn session(&self, number: usize) -> Option<Arc<Mutex<SessionLog>>> {
        self.logs().get(number).cloned()
    }

    /// From now on this answers every turn, in all sessions, instead of the script.
    pub fn reply_with(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }

    /// A trouble of the connection or of the ear strikes now, in all sessions.
    pub fn strike(&self, trouble: Trouble) {
        // It fails if no session is there.
        let _ = self.shared.strikes.send(trouble);
    }

    /// Whether connections are refused from now on, as at a port where nobody listens.
    pub fn refuse_connections(&self, refuse: bool) {
        self.shared.refusing.send_replace(refuse);
    }

    /// Refuses connections for this long.
    pub fn refuse_connections_for(&self, long: Duration) {
        self.refuse_connections(true);
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            // A stopped server accepts none anyway.
            let _ = timeout(long, shared.stop.cancelled()).await;
            shared.refusing.send_replace(false);
        });
    }

    /// Subscribes to all further events.
    pub fn subscribe(&self) -> broadcast::Receiver<ModelEvent> {
        self.shared.events.subscribe()
    }

    /// Waits until the logs satisfy `seen`; false if they do not within `limit`.
    pub async fn until(&self, limit: Duration, mut seen: impl FnMut(&[SessionLog]) -> bool) -> bool {
        let mut events = self.subscribe();
        let look = async {
            while !seen(&self.sessions()) {
                // Audio causes no event, so check at intervals too.
                let _ = timeout(Duration::from_millis(20), events.recv()).await;
            }
        };
        timeout(limit, look).await.is_ok()
    }

    /// Drops every connection, without a close frame, and waits for the last task.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn logs(&self) -> Vec<Arc<Mutex<SessionLog>>> {
        self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ModelServer {
    /// Dropping the server ends its sessions too.
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.tasks.close();
    }
}

async fn accept(mut listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    let mut refusing = shared.refusing.subscribe();
    let Ok(addr) = listener.local_addr() else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            true = is(&mut refusing, true) => {
                drop(listener);
                let listens = tokio::select! {
                    listens = is(&mut refusing, false) => listens,
                    () = shared.stop.cancelled() => return,
                };
                match TcpListener::bind(addr).await {
                    Ok(again) if listens => listener = again,
                    _ => return,
                }
                continue;
            }
            () = shared.stop.cancelled() => return,
        };
        let Ok((tcp, _)) = accepted else {
            // Most likely out of file descriptors, which other sessions will free.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (log, number) = {
            let mut sessions = shared.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            let number = sessions.len();
            let log = Arc::new(Mutex::new(SessionLog { number, ..SessionLog::default() }));
            sessions.push(Arc::clone(&log));
            (log, number)
        };
        tasks.spawn(connection::serve(Arc::clone(&shared), tcp, log, number));
    }
}

/// Waits until the switch is so; false if nobody can turn it any more.
async fn is(switch: &mut watch::Receiver<bool>, so: bool) -> bool {
    switch.wait_for(|is| *is == so).await.is_ok()
}
