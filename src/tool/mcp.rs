//! MCP servers whose client we are: one connection each for the process, whatever the number of calls.
//!
//! Servers are reached, listed, watched and reached again beside the calls. What is asked here is answered at once
//! from what is known; only the use of a tool waits for its server.

mod answer;
mod child;
mod fly;
mod http;
mod lines;
mod live;
mod server;
mod trouble;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::answer::failed;
use self::live::Live;
use self::server::{Kept, Named, Standing};
use super::Done;
use crate::assistant::plan::{Listed, Reach, Server};

/// How long a request that the server turned away at the door waits for a new session, to be made once more.
const COME_BACK: Duration = Duration::from_secs(3);
/// How long the end of all sessions may take.
const CLOSING: Duration = Duration::from_secs(10);

/// All servers of the roster in force.
pub struct Servers {
    client: reqwest::Client,
    kept: Mutex<Vec<Arc<Kept>>>,
    tasks: TaskTracker,
    end: CancellationToken,
    /// Dropped, everything ends, programs included.
    _guard: DropGuard,
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
            kept: Mutex::new(Vec::new()),
            tasks: TaskTracker::new(),
            _guard: end.clone().drop_guard(),
            end,
        })
    }

    /// From now on these are kept in reach, and no others. What is kept already stays as it is. With each server
    /// come the tools that an assistant may use (`None`: all); where several name it, that of any may be used.
    ///
    /// It needs a runtime, and waits for nobody.
    pub fn keep(&self, servers: impl IntoIterator<Item = (Arc<Server>, Option<Vec<String>>)>) {
        let mut wanted: Vec<(Arc<Server>, Named)> = Vec::new();
        for (server, allow) in servers {
            match wanted.iter_mut().find(|(known, _)| known.reach == server.reach) {
                Some((_, named)) => {
                    named.allow = named.allow.take().zip(allow).map(|(mut all, more)| {
                        all.extend(more);
                        all
                    });
                }
                None => {
                    let name = server.name.clone();
                    wanted.push((server, Named { name, allow }));
                }
            }
        }
        let mut kept = self.kept();
        kept.retain(|kept| {
            let named = wanted.iter().any(|(server, _)| server.reach == kept.reach);
            if !named {
                kept.stop.cancel();
            }
            named
        });
        for (server, named) in wanted {
            match kept.iter().find(|kept| kept.reach == server.reach) {
                Some(kept) => kept.rename(named),
                None => {
                    let (reach, client) = (server.reach.clone(), self.client.clone());
                    let new = Arc::new(Kept::new(reach, named, client, self.end.clone()));
                    kept.push(new.clone());
                    self.tasks.spawn(new.run());
                }
            }
        }
    }

    /// What the server has listed; `None` while it cannot be reached.
    pub fn listed(&self, server: &Server) -> Option<Arc<[Listed]>> {
        match self.find(&server.reach)?.standing() {
            Standing::Up(_, tools) => Some(tools),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    /// Why the server cannot be reached, as a sentence for its owner. `None`: it can, or nobody knows yet.
    pub fn trouble(&self, server: &Server) -> Option<String> {
        match self.find(&server.reach)?.standing() {
            Standing::Down(trouble) => Some(trouble.to_string()),
            Standing::Starting | Standing::Up(..) => None,
        }
    }

    /// Waits until each server is listed or known to be out of reach, at most so long.
    pub async fn settled(&self, limit: Duration) {
        let kept = self.kept().clone();
        let all = async {
            for kept in kept {
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
        live.doubted.notify_one();
        if !trouble.before_the_door() {
            return lost(server);
        }
        // Its server was restarted, say: it did nothing, and the next session is here soon.
        let again = |standing: &Standing| match standing {
            Standing::Up(other, _) => !Arc::ptr_eq(other, &live),
            Standing::Starting | Standing::Down(_) => false,
        };
        if timeout(COME_BACK, kept.until(again)).await.is_err() {
            return unreachable(server);
        }
        let Some((_, live)) = self.live(server) else { return unreachable(server) };
        match live.call(tool, arguments, &mut working).await {
            Ok(done) => done,
            Err(trouble) => {
                live.doubted.notify_one();
                if trouble.before_the_door() { unreachable(server) } else { lost(server) }
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
        let kept = self.find(&server.reach)?;
        match kept.standing() {
            Standing::Up(live, _) => Some((kept, live)),
            Standing::Starting | Standing::Down(_) => None,
        }
    }

    fn find(&self, reach: &Reach) -> Option<Arc<Kept>> {
        self.kept().iter().find(|kept| kept.reach == *reach).cloned()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
