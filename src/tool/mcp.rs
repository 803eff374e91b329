//! MCP servers whose client we are: the process has one connection to each, whatever the number of calls.
//!
//! A task for each server connects, lists its tools, watches it and reconnects. Questions are answered at once from what
//! is known; only a tool call waits for its server.

mod answer;
mod child;
mod fly;
mod http;
mod lines;
mod listing;
mod live;
mod server;
mod trouble;

use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::child::kill_all;
use self::live::Live;
use self::server::{Connection, Named, Standing};
pub use self::trouble::Trouble;
use super::Done;
use super::http::UNKNOWN;
use crate::assistant::plan::{Listed, Reach, Server, ServerUse};

/// How long a rejected request waits for a new session, to be sent again.
const RECONNECT: Duration = Duration::from_secs(3);
/// The time limit for closing all sessions.
const CLOSING: Duration = Duration::from_secs(10);
/// How often unused servers are stopped.
const SWEEP: Duration = Duration::from_secs(5);

/// All servers of the roster in force, and those that active calls may use.
pub struct Servers {
    client: reqwest::Client,
    connections: Arc<Connections>,
    sweeping: Once,
    tasks: TaskTracker,
    end: CancellationToken,
    /// Ends everything when dropped, programs included.
    _guard: DropGuard,
}

/// The servers that are connected. The lock is held briefly, never across `await`.
#[derive(Default)]
struct Connections(Mutex<Vec<Entry>>);

/// A server in use.
struct Entry {
    connection: Arc<Connection>,
    /// The roster in force names it.
    offered: bool,
    /// The servers of rosters and plans that share this connection. A plan holds its own, so that a call keeps its
    /// servers through an edit.
    servers: Vec<Weak<Server>>,
}

impl Servers {
    /// Without servers.
    pub fn new(tls: &ClientConfig) -> Result<Servers, reqwest::Error> {
        let end = CancellationToken::new();
        Ok(Servers {
            client: http::client(tls)?,
            connections: Arc::default(),
            sweeping: Once::new(),
            tasks: TaskTracker::new(),
            _guard: end.clone().drop_guard(),
            end,
        })
    }

    /// Sets the servers of the roster in force. Connections that exist stay open. A server that is not in the roster is
    /// stopped once no plan holds it.
    ///
    /// It needs a runtime, and does not wait.
    pub fn keep(&self, uses: impl IntoIterator<Item = ServerUse>) {
        // A group shares one reach, and is never empty.
        let mut wanted: Vec<Vec<ServerUse>> = Vec::new();
        for used in uses {
            match wanted.iter_mut().find(|group| group[0].server.reach == used.server.reach) {
                Some(group) => group.push(used),
                None => wanted.push(vec![used]),
            }
        }
        let mut connections = self.connections.lock();
        connections.iter_mut().for_each(|entry| entry.offered = false);
        let mut known = Vec::new();
        for group in wanted {
            let reach = &group[0].server.reach;
            let servers = group.iter().map(|used| Arc::downgrade(&used.server));
            let named = group.iter().map(Named::from).collect();
            match connections.iter_mut().find(|entry| entry.connection.reach == *reach) {
                Some(entry) => {
                    entry.offered = true;
                    entry.servers.extend(servers);
                    known.push((entry.connection.clone(), named));
                }
                None => {
                    let (client, end) = (self.client.clone(), self.end.clone());
                    let connection = Arc::new(Connection::new(reach.clone(), named, client, end));
                    self.tasks.spawn(connection.clone().run());
                    connections.push(Entry { connection, offered: true, servers: servers.collect() });
                }
            }
        }
        sweep(&mut connections);
        drop(connections);
        // This may log a list, so the lock is released first.
        known.into_iter().for_each(|(connection, named)| connection.rename(named));
        self.sweeping.call_once(|| {
            let (connections, end) = (self.connections.clone(), self.end.clone());
            self.tasks.spawn(async move {
                while timeout(SWEEP, end.cancelled()).await.is_err() {
                    sweep(&mut connections.lock());
                }
            });
        });
    }

    /// The tools of the server. `None`: it is not connected.
    pub fn listed(&self, server: &Server) -> Option<Arc<[Listed]>> {
        match self.offered(server)?.standing() {
            Standing::Up(_, tools) => Some(tools),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    /// Why the server cannot be used. `None`: it can, or that is not known yet.
    pub fn trouble(&self, server: &Server) -> Option<Trouble> {
        match self.offered(server)?.standing() {
            Standing::Down(trouble) => Some(trouble),
            Standing::Starting | Standing::Up(..) => None,
        }
    }

    /// The same as a sentence for the owner.
    pub fn why_not(&self, server: &Server) -> Option<String> {
        let connection = self.offered(server)?;
        match connection.standing() {
            Standing::Down(trouble) => Some(connection.explained(trouble)),
            Standing::Starting | Standing::Up(..) => None,
        }
    }

    /// Whether the server is connected, and was made by `fly mcp launch`.
    pub fn is_wrapped(&self, server: &Server) -> bool {
        self.live(server).is_some_and(|(_, live)| live.transport == server::WRAPPED)
    }

    /// Waits until each server is listed or has failed, at most for `limit`.
    pub async fn settled(&self, limit: Duration) {
        let offered: Vec<Arc<Connection>> = {
            let connections = self.connections.lock();
            connections.iter().filter(|entry| entry.offered).map(|entry| entry.connection.clone()).collect()
        };
        let all = async {
            for connection in offered {
                connection.until(|standing| !matches!(standing, Standing::Starting)).await;
            }
        };
        let _ = timeout(limit, all).await;
    }

    /// Calls a tool of a server. `fixed` are the owner's arguments, which override the model's.
    pub async fn call(
        &self,
        server: &Server,
        tool: &str,
        fixed: &Map<String, Value>,
        mut arguments: Map<String, Value>,
        mut working: impl FnMut() + Send,
    ) -> Done {
        arguments.extend(fixed.iter().map(|(name, value)| (name.clone(), value.clone())));
        let Some((connection, live)) = self.live(server) else { return unreachable(server) };
        let trouble = match live.call(tool, arguments.clone(), &mut working).await {
            Ok(done) => return done,
            Err(trouble) => trouble,
        };
        let sound = live.sound.notified();
        doubt(&live, trouble);
        if trouble.spares_session() || !trouble.is_undone() {
            return given_up(server, trouble);
        }
        // The server may have restarted, so a new session may come soon. If this one still works, none will.
        let again = |standing: &Standing| match standing {
            Standing::Up(other, _) => !Arc::ptr_eq(other, &live),
            Standing::Starting | Standing::Down(_) => false,
        };
        let reconnected = tokio::select! {
            reconnected = timeout(RECONNECT, connection.until(again)) => reconnected.is_ok(),
            () = sound => false,
        };
        if !reconnected {
            return given_up(server, trouble);
        }
        let Some((_, live)) = self.live(server) else { return unreachable(server) };
        match live.call(tool, arguments, &mut working).await {
            Ok(done) => done,
            Err(trouble) => {
                doubt(&live, trouble);
                given_up(server, trouble)
            }
        }
    }

    /// Closes all sessions and ends all programs.
    pub async fn close(&self) {
        self.end.cancel();
        self.tasks.close();
        let _ = timeout(CLOSING, self.tasks.wait()).await;
    }

    fn live(&self, server: &Server) -> Option<(Arc<Connection>, Arc<Live>)> {
        let connection = self.connections.find(&server.reach, false)?;
        match connection.standing() {
            Standing::Up(live, _) => Some((connection, live)),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    /// A server of the roster in force.
    fn offered(&self, server: &Server) -> Option<Arc<Connection>> {
        self.connections.find(&server.reach, true)
    }
}

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server by its reach. `offered`: only if it is in the roster in force.
    fn find(&self, reach: &Reach, offered: bool) -> Option<Arc<Connection>> {
        let connections = self.lock();
        let found = connections.iter().find(|entry| entry.connection.reach == *reach)?;
        (found.offered || !offered).then(|| found.connection.clone())
    }
}

/// Stops unused servers.
fn sweep(connections: &mut Vec<Entry>) {
    connections.retain_mut(|entry| {
        entry.servers.retain(|server| server.strong_count() > 0);
        let stays = entry.offered || !entry.servers.is_empty();
        if !stays {
            entry.connection.stop.cancel();
        }
        stays
    });
}

/// Has the session checked after a request without an answer.
fn doubt(live: &Live, trouble: Trouble) {
    if !trouble.spares_session() {
        live.doubted.notify_one();
    }
}

/// The result of a request without an answer.
fn given_up(server: &Server, trouble: Trouble) -> Done {
    let (why, what) = match trouble {
        Trouble::Forbidden => ("forbidden", "does not allow this"),
        Trouble::Rejected(413) => ("too_long", "does not accept so long a request"),
        Trouble::Rejected(429) => ("too_often", "gets too many requests at the moment"),
        trouble if trouble.is_undone() => return unreachable(server),
        _ => return lost(server),
    };
    Done::failed(why, format!("`{}` {what}, and nothing was done. Tell the caller so.", server.name))
}

fn unreachable(server: &Server) -> Done {
    let sentence = format!(
        "`{}` cannot be reached at the moment, and nothing was done. Tell the caller so.",
        server.name
    );
    Done::failed("unreachable", sentence)
}

fn lost(server: &Server) -> Done {
    Done::failed("lost", format!("The connection to `{}` was lost. {UNKNOWN}", server.name))
}
