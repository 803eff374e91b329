//! MCP servers whose client we are: one connection each for the process, whatever the number of calls.
//!
//! Servers are reached, listed, watched and reached again beside the calls. What is asked here is answered at once
//! from what is known; only the use of a tool waits for its server.

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

use self::answer::failed;
pub use self::child::kill_all;
use self::live::Live;
use self::server::{Kept, Named, Standing};
use self::trouble::Trouble;
use super::Done;
use crate::assistant::plan::{Listed, Reach, Server, ServerUse};

/// How long a request that the server turned away at the door waits for a new session, to be made once more.
const COME_BACK: Duration = Duration::from_secs(3);
/// How long the end of all sessions may take.
const CLOSING: Duration = Duration::from_secs(10);
/// How often servers are looked for that nobody needs any more, the last call that could use one being over.
const SWEEP: Duration = Duration::from_secs(5);

/// All servers of the roster in force, and those that calls under way may still use.
pub struct Servers {
    client: reqwest::Client,
    held: Arc<Held>,
    sweeping: Once,
    tasks: TaskTracker,
    end: CancellationToken,
    /// Dropped, everything ends, programs included.
    _guard: DropGuard,
}

/// The servers that are kept in reach. It is a lock that is held for a moment only.
#[derive(Default)]
struct Held(Mutex<Vec<Needed>>);

/// A server that somebody needs.
struct Needed {
    kept: Arc<Kept>,
    /// The roster in force names it.
    offered: bool,
    /// As rosters named it. A plan holds what its roster named, so that a call goes on with the servers that it has,
    /// whatever becomes of the files.
    servers: Vec<Weak<Server>>,
}

impl Servers {
    /// No server yet. Trusted are the certificates of `tls`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(tls: &ClientConfig) -> Result<Servers, reqwest::Error> {
        let end = CancellationToken::new();
        Ok(Servers {
            client: http::client(tls)?,
            held: Arc::default(),
            sweeping: Once::new(),
            tasks: TaskTracker::new(),
            _guard: end.clone().drop_guard(),
            end,
        })
    }

    /// From now on these are offered, and no others. What is in reach already stays as it is; what is not offered any
    /// more is stopped once no plan holds it.
    ///
    /// It needs a runtime, and waits for nobody.
    pub fn keep(&self, uses: impl IntoIterator<Item = ServerUse>) {
        // Each group has one reach, and a first.
        let mut wanted: Vec<Vec<ServerUse>> = Vec::new();
        for used in uses {
            match wanted.iter_mut().find(|group| group[0].server.reach == used.server.reach) {
                Some(group) => group.push(used),
                None => wanted.push(vec![used]),
            }
        }
        let mut held = self.held.lock();
        held.iter_mut().for_each(|needed| needed.offered = false);
        let mut known = Vec::new();
        for group in wanted {
            let reach = &group[0].server.reach;
            let servers = group.iter().map(|used| Arc::downgrade(&used.server));
            let named = group.iter().map(Named::from).collect();
            match held.iter_mut().find(|needed| needed.kept.reach == *reach) {
                Some(needed) => {
                    needed.offered = true;
                    needed.servers.extend(servers);
                    known.push((needed.kept.clone(), named));
                }
                None => {
                    let (client, end) = (self.client.clone(), self.end.clone());
                    let kept = Arc::new(Kept::new(reach.clone(), named, client, end));
                    self.tasks.spawn(kept.clone().run());
                    held.push(Needed { kept, offered: true, servers: servers.collect() });
                }
            }
        }
        sweep(&mut held);
        drop(held);
        // A list may be logged here: no ring waits for that.
        known.into_iter().for_each(|(kept, named)| kept.rename(named));
        self.sweeping.call_once(|| {
            let (held, end) = (self.held.clone(), self.end.clone());
            self.tasks.spawn(async move {
                while timeout(SWEEP, end.cancelled()).await.is_err() {
                    sweep(&mut held.lock());
                }
            });
        });
    }

    /// What the server has listed; `None` while it cannot be reached.
    pub fn listed(&self, server: &Server) -> Option<Arc<[Listed]>> {
        match self.offered(server)?.standing() {
            Standing::Up(_, tools) => Some(tools),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    /// Why the server cannot be reached, as a sentence for its owner. `None`: it can, or nobody knows yet.
    pub fn trouble(&self, server: &Server) -> Option<String> {
        match self.offered(server)?.standing() {
            Standing::Down(trouble) => Some(trouble.to_string()),
            Standing::Starting | Standing::Up(..) => None,
        }
    }

    /// Whether somebody else has the only listener's place at the server.
    pub fn is_taken(&self, server: &Server) -> bool {
        let kept = self.offered(server);
        kept.is_some_and(|kept| matches!(kept.standing(), Standing::Down(Trouble::Taken)))
    }

    /// Whether the server, which is reached, was made by `fly mcp launch`.
    pub fn is_wrapped(&self, server: &Server) -> bool {
        self.live(server).is_some_and(|(_, live)| live.transport == server::WRAPPED)
    }

    /// Waits until each server is listed or known to be out of reach, at most so long.
    pub async fn settled(&self, limit: Duration) {
        let offered: Vec<Arc<Kept>> = self
            .held
            .lock()
            .iter()
            .filter(|needed| needed.offered)
            .map(|needed| needed.kept.clone())
            .collect();
        let all = async {
            for kept in offered {
                kept.until(|standing| !matches!(standing, Standing::Starting)).await;
            }
        };
        let _ = timeout(limit, all).await;
    }

    /// Calls a tool of a server. `fixed` are the owner's arguments: they win over the model's.
    pub async fn call(
        &self,
        server: &Server,
        tool: &str,
        fixed: &Map<String, Value>,
        mut arguments: Map<String, Value>,
        mut working: impl FnMut() + Send,
    ) -> Done {
        arguments.extend(fixed.iter().map(|(name, value)| (name.clone(), value.clone())));
        let Some((kept, live)) = self.live(server) else { return unreachable(server) };
        let trouble = match live.call(tool, arguments.clone(), &mut working).await {
            Ok(done) => return done,
            Err(trouble) => trouble,
        };
        let sound = live.sound.notified();
        doubt(&live, trouble);
        if trouble.spares_session() || !trouble.is_undone() {
            return given_up(server, trouble);
        }
        // Its server was restarted, say: it did nothing, and the next session is here soon. Where this one works all the
        // same, there will be no other.
        let again = |standing: &Standing| match standing {
            Standing::Up(other, _) => !Arc::ptr_eq(other, &live),
            Standing::Starting | Standing::Down(_) => false,
        };
        let back = tokio::select! {
            back = timeout(COME_BACK, kept.until(again)) => back.is_ok(),
            () = sound => false,
        };
        if !back {
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

    /// Ends all sessions, and the programs that were started. Nothing can be called any more.
    pub async fn close(&self) {
        self.end.cancel();
        self.tasks.close();
        let _ = timeout(CLOSING, self.tasks.wait()).await;
    }

    fn live(&self, server: &Server) -> Option<(Arc<Kept>, Arc<Live>)> {
        let kept = self.held.find(&server.reach, false)?;
        match kept.standing() {
            Standing::Up(live, _) => Some((kept, live)),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    /// A server that the roster in force names.
    fn offered(&self, server: &Server) -> Option<Arc<Kept>> {
        self.held.find(&server.reach, true)
    }
}

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Needed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server by its reach, or only if it is `offered`.
    fn find(&self, reach: &Reach, offered: bool) -> Option<Arc<Kept>> {
        let held = self.lock();
        let found = held.iter().find(|needed| needed.kept.reach == *reach)?;
        (found.offered || !offered).then(|| found.kept.clone())
    }
}

/// Stops the servers that nobody needs any more.
fn sweep(held: &mut Vec<Needed>) {
    held.retain_mut(|needed| {
        needed.servers.retain(|server| server.strong_count() > 0);
        let stays = needed.offered || !needed.servers.is_empty();
        if !stays {
            needed.kept.stop.cancel();
        }
        stays
    });
}

/// Has it found out whether a session works in which a request was not answered.
fn doubt(live: &Live, trouble: Trouble) {
    if !trouble.spares_session() {
        live.doubted.notify_one();
    }
}

/// What is told of a request that was not answered.
fn given_up(server: &Server, trouble: Trouble) -> Done {
    let (why, what) = match trouble {
        Trouble::Forbidden => ("forbidden", "does not allow us this"),
        Trouble::Rejected(413) => ("too_long", "does not take so long a request"),
        Trouble::Rejected(429) => ("too_often", "is asked too often at the moment"),
        trouble if trouble.is_undone() => return unreachable(server),
        _ => return lost(server),
    };
    failed(why, &format!("`{}` {what}, and nothing was done. Tell the caller so.", server.name))
}

fn unreachable(server: &Server) -> Done {
    let told = format!(
        "`{}` cannot be reached right now, and nothing was done. Tell the caller that this is not possible at the \
         moment.",
        server.name
    );
    failed("unreachable", &told)
}

fn lost(server: &Server) -> Done {
    let told = format!(
        "The connection to `{}` broke off. It is not known whether it was done: tell the caller so, and do not try \
         it again by yourself.",
        server.name
    );
    failed("lost", &told)
}
