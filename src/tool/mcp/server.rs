//! One MCP server: its task connects, lists its tools, watches it, and reconnects.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::ProtocolVersion;
use rmcp::service::{
    ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, RunningService,
};
use rmcp::transport::Transport;
use rmcp::{RoleClient, ServiceError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::child::{Chatter, Output};
use super::http::Seen;
use super::listing::{Listing, list};
use super::live::{Live, Notifications, next_change, subscribe, works};
use super::trouble::{Trouble, is_unknown_session};
use super::{child, fly, http};
use crate::assistant::lacks;
use crate::assistant::plan::{Listed, Reach, ServerUse};
use crate::link::network::Fault;
use crate::problem;

/// How long a server at an address may take from connecting to its list of tools.
const START: Duration = Duration::from_secs(15);
/// The same for a program: its first start may download it (`npx -y`).
const PROGRAM_START: Duration = Duration::from_secs(60);
/// How long a starting program that prints other things than MCP may take before it is reported as failed. It may still
/// start after that.
const CHATTER_LIMIT: Duration = Duration::from_secs(5);
/// How long a later list of tools may take.
const LISTING: Duration = Duration::from_secs(15);
/// The interval between lists without a notification. A list also shows that the server works.
const RELIST: Duration = Duration::from_secs(60);
/// The same for servers made by `fly mcp launch`: proxies cut their one stream after a minute of silence.
const RELIST_WRAPPED: Duration = Duration::from_secs(25);
/// The same for a server whose list has no end.
const RELIST_ENDLESS: Duration = Duration::from_secs(600);
/// Notifications come in bursts.
const BURST: Duration = Duration::from_millis(250);
/// The shortest interval between lists, however many notifications come.
const MIN_RELIST: Duration = Duration::from_secs(5);
/// How many lists in a row may be late while calls are active: a server may do one thing at a time.
const MAX_LATE: u32 = 3;
/// The pauses between attempts: each failure doubles them.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause while another client is connected.
const TAKEN_PAUSE: Duration = Duration::from_secs(10);
/// A server that was connected this long is tried again at once.
const STEADY: Duration = Duration::from_secs(60);
/// How long calls may go on after their server is no longer used.
const LAST_CALLS: Duration = Duration::from_secs(30);
/// The time limit for closing a session. A program has three times 2 s.
const CLOSING: Duration = Duration::from_secs(8);
/// The transport of servers made by `fly mcp launch`, for the log.
pub const WRAPPED: &str = "fly mcp launch";

/// A server that is kept connected.
pub struct Connection {
    pub reach: Reach,
    client: reqwest::Client,
    named: Mutex<Vec<Named>>,
    standing: watch::Sender<Standing>,
    chatter: Arc<Chatter>,
    /// A tool was called: from then on, output of the program may contain what people said, even after a restart.
    private: Arc<AtomicBool>,
    /// The server is no longer used, or the process is shutting down.
    pub stop: CancellationToken,
    /// The process is shutting down.
    end: CancellationToken,
}

/// How one assistant's file uses a server.
#[derive(Clone, PartialEq)]
pub struct Named {
    assistant: String,
    /// The key in `mcp`.
    name: String,
    /// The tools that it may use. `None`: all.
    allow: Option<Vec<String>>,
    /// The tools that it names.
    tools: Vec<String>,
}

impl From<&ServerUse> for Named {
    /// Without the server itself: holding it would keep it connected.
    fn from(used: &ServerUse) -> Named {
        Named {
            assistant: used.assistant.clone(),
            name: used.server.name.clone(),
            allow: used.allow.clone(),
            tools: used.named.clone(),
        }
    }
}

impl Named {
    fn allows(&self, tool: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.iter().any(|name| name == tool))
    }
}

/// The state of a server.
#[derive(Clone)]
pub enum Standing {
    /// The first attempt is not over.
    Starting,
    Up(Arc<Live>, Arc<[Listed]>),
    Down(Trouble),
}

/// What is known of a server, so that the next session begins sooner.
#[derive(Debug, Default)]
struct Habits {
    /// `None`: not known yet.
    era: Option<Era>,
    /// It was made by `fly mcp launch`.
    wrapped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    /// Sessions begin with `initialize`.
    Legacy,
    /// There are no sessions: 2026-07-28 and later.
    Modern,
}

/// A session that has begun.
struct Session {
    live: Arc<Live>,
    /// Ends with the session, and ends it when dropped.
    running: JoinSet<()>,
    end: CancellationToken,
    notifications: Notifications,
}

impl Connection {
    pub fn new(
        reach: Reach,
        named: Vec<Named>,
        client: reqwest::Client,
        end: CancellationToken,
    ) -> Connection {
        Connection {
            reach,
            client,
            named: Mutex::new(named),
            standing: watch::Sender::new(Standing::Starting),
            chatter: Arc::default(),
            private: Arc::default(),
            stop: end.child_token(),
            end,
        }
    }

    /// Sets how the files use the server, and logs its tools if that has changed.
    pub fn rename(&self, named: Vec<Named>) {
        let changed = {
            let mut known = self.named();
            let before = std::mem::replace(&mut *known, named);
            *known != before
        };
        match self.standing() {
            Standing::Up(live, tools) if changed => self.log(live.transport, &tools),
            Standing::Up(..) | Standing::Starting | Standing::Down(_) => {}
        }
    }

    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until `wanted` holds.
    pub async fn until(&self, wanted: impl Fn(&Standing) -> bool) {
        // The sender is ours, so this cannot fail.
        let _ = self.standing.subscribe().wait_for(|standing| wanted(standing)).await;
    }

    /// Keeps the server connected until it is stopped.
    pub async fn run(self: Arc<Self>) {
        let mut habits = Habits::default();
        let mut reported = None;
        let mut pause = Duration::ZERO;
        loop {
            let (trouble, up) = self.session(&mut habits, &mut reported).await;
            if self.stop.is_cancelled() {
                return;
            }
            if reported != Some(trouble) {
                let (at, why) = (self.place(), self.explained(trouble));
                tracing::warn!(server = self.name(), at, why, "An MCP server cannot be used");
                reported = Some(trouble);
            }
            self.standing.send_replace(Standing::Down(trouble));
            pause = match up >= STEADY {
                true => Duration::ZERO,
                false => (pause * 2).clamp(MIN_PAUSE, MAX_PAUSE),
            };
            if trouble == Trouble::Taken {
                pause = pause.min(TAKEN_PAUSE);
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// One session, from its start to its end. Returns why it ended, and how long the server was connected.
    async fn session(&self, habits: &mut Habits, reported: &mut Option<Trouble>) -> (Trouble, Duration) {
        let limit = match self.reach {
            Reach::Url { .. } => START,
            Reach::Command { .. } => PROGRAM_START,
        };
        self.chatter.begin();
        let unknown = habits.era.is_none();
        let started = tokio::select! {
            started = timeout(limit, self.start(habits)) => started,
            never = self.report_chatter() => match never {},
            () = self.stop.cancelled() => return (Trouble::LOST, Duration::ZERO),
        };
        let (mut session, tools) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(trouble)) => return (trouble, Duration::ZERO),
            Err(_) => {
                // A server that does not answer the question for its era may be an old one.
                let silent = unknown && habits.era != Some(Era::Modern);
                *habits = Habits { era: silent.then_some(Era::Legacy), wrapped: false };
                let trouble = if self.chatter.is_heard() { Trouble::Chatter } else { Trouble::LATE };
                return (trouble, Duration::ZERO);
            }
        };
        let since = Instant::now();
        if reported.take().is_some() {
            tracing::info!(server = self.name(), "An MCP server works again");
        }
        let complete = tools.complete;
        self.publish(&session, tools);
        let trouble = tokio::select! {
            trouble = self.watch(&mut session, complete) => Some(trouble),
            () = self.stop.cancelled() => None,
        };
        self.standing.send_replace(Standing::Down(trouble.unwrap_or(Trouble::LOST)));
        if trouble.is_none() {
            session.live.users.close();
            tokio::select! {
                _ = timeout(LAST_CALLS, session.live.users.wait()) => {}
                () = self.end.cancelled() => {}
            }
        }
        session.end.cancel();
        let _ = timeout(CLOSING, session.running.join_next()).await;
        (trouble.unwrap_or(Trouble::LOST), since.elapsed())
    }

    /// Reports a starting program that prints other things than MCP for [`CHATTER_LIMIT`].
    async fn report_chatter(&self) -> Infallible {
        self.chatter.heard().await;
        sleep(CHATTER_LIMIT).await;
        self.standing.send_if_modified(|standing| {
            let starting = matches!(standing, Standing::Starting);
            if starting {
                *standing = Standing::Down(Trouble::Chatter);
            }
            starting
        });
        std::future::pending().await
    }

    /// Connects and lists the tools.
    async fn start(&self, habits: &mut Habits) -> Result<(Session, Listing), Trouble> {
        let opened = match (self.open(habits).await, habits.era) {
            // Some servers fail at the question for their era, so it is tried once without.
            (Err(trouble), None) if trouble.may_be_legacy() => {
                habits.era = Some(Era::Legacy);
                self.open(habits).await
            }
            (opened, _) => opened,
        };
        let opened = match opened {
            Err(Trouble::NotFound(_) | Trouble::Rejected(400 | 405)) if self.is_old_sse().await => {
                Err(Trouble::OldSse)
            }
            opened => opened,
        };
        let session = opened.inspect_err(|trouble| {
            // The next attempt may meet another kind of server.
            if *trouble != Trouble::Taken {
                *habits = Habits::default();
            }
        })?;
        let tools = list(&session.live.peer).await.map_err(|error| Trouble::from_service(&error))?;
        Ok((session, tools))
    }

    async fn is_old_sse(&self) -> bool {
        match &self.reach {
            Reach::Url { url, headers } => match http::headers(headers) {
                Ok(headers) => http::is_old_sse(&self.client, url, headers).await,
                Err(_) => false,
            },
            Reach::Command { .. } => false,
        }
    }

    async fn open(&self, habits: &mut Habits) -> Result<Session, Trouble> {
        let private = self.private.clone();
        let (url, headers) = match &self.reach {
            Reach::Command { command, env, secrets } => {
                let secrets = env.iter().map(|(_, value)| value).chain(secrets).cloned().collect();
                let output = Output { secrets, private: private.clone(), chatter: self.chatter.clone() };
                let program = child::start(&self.name(), command, env, output)?;
                let begun = begin(program, habits, private, "stdio").await;
                return begun.map_err(|error| Trouble::from_start(&error).unwrap_or(Trouble::Exited));
            }
            Reach::Url { url, headers } => (url, http::headers(headers)?),
        };
        if url::Url::parse(url).is_err() {
            // The transport would retry forever.
            return Err(Fault::BadUrl.into());
        }
        if !habits.wrapped {
            let (transport, witness) = http::transport(self.client.clone(), url, headers.clone());
            let error = match begin(transport, habits, private.clone(), "http").await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            match witness.seen() {
                Some(Seen::NoAnswer) => habits.wrapped = true,
                Some(Seen::Trouble(trouble)) => return Err(trouble),
                None => return Err(Trouble::from_start(&error).unwrap_or(Trouble::LOST)),
            }
        }
        let opened = async {
            let transport = fly::Wrapped::connect(self.client.clone(), url, headers).await;
            let transport = transport.map_err(|trouble| match habits.era {
                // It accepted the question for its era without an answer, and was not made by `fly mcp launch`.
                None if trouble != Trouble::Taken => Trouble::NotMcp,
                _ => trouble,
            })?;
            let begun = begin(transport, habits, private, WRAPPED).await;
            begun.map_err(|error| Trouble::from_start(&error).unwrap_or(Trouble::LOST))
        };
        let opened = opened.await;
        habits.wrapped = matches!(opened, Ok(_) | Err(Trouble::Taken));
        opened
    }

    /// Watches a session until it breaks.
    async fn watch(&self, session: &mut Session, mut complete: bool) -> Trouble {
        let live = session.live.clone();
        let often = if live.transport == WRAPPED { RELIST_WRAPPED } else { RELIST };
        let mut subscription = subscribe(&live.peer).await;
        let mut due = Instant::now() + if complete { often } else { RELIST_ENDLESS };
        // The earliest time for a list after a notification, and when to subscribe again.
        let (mut earliest, mut subscribe_at) = (Instant::now(), due);
        let (mut late, mut refused, mut slow) = (0, false, false);
        loop {
            tokio::select! {
                _ = session.running.join_next() => return match self.reach {
                    Reach::Command { .. } => Trouble::Exited,
                    Reach::Url { .. } => Trouble::LOST,
                },
                () = live.doubted.notified() => {}
                () = sleep_until(due) => {}
                () = next_change(&session.notifications, &mut subscription) => {
                    due = due.min(earliest.max(Instant::now() + BURST));
                    continue;
                }
            }
            if subscription.is_none() && Instant::now() >= subscribe_at {
                subscription = subscribe(&live.peer).await;
                subscribe_at = Instant::now() + often;
            }
            let busy = !live.users.is_empty();
            let listed = timeout(LISTING, list(&live.peer)).await;
            let answered = live.has_answered();
            if listed.is_ok() || answered {
                late = 0;
            }
            match listed {
                Ok(Ok(listing)) => {
                    (refused, slow, complete) = (false, false, listing.complete);
                    self.publish(session, listing);
                    live.sound.notify_waiters();
                }
                // The server works, and its last list stays valid, once. Some servers use the code of an unknown session
                // for other errors, so while calls are active it counts as another error.
                Ok(Err(ServiceError::McpError(error)))
                    if !refused && (!is_unknown_session(error.code) || !live.users.is_empty()) =>
                {
                    refused = true;
                }
                Ok(Err(error)) => return Trouble::from_service(&error),
                Err(_) if (busy || !live.users.is_empty()) && late < MAX_LATE => {
                    late += 1;
                    // Soon, because calls hang until a lost session is noticed.
                    due = Instant::now() + MIN_RELIST;
                    earliest = due;
                    continue;
                }
                // It may be slow at this alone.
                Err(_) if works(&live.peer).await => {
                    if !std::mem::replace(&mut slow, true) {
                        tracing::warn!(server = self.name(), "An MCP server does not list its tools in time");
                    }
                }
                Err(_) => return Trouble::LATE,
            }
            due = Instant::now() + if complete { often } else { RELIST_ENDLESS };
            earliest = Instant::now() + MIN_RELIST;
        }
    }

    /// Publishes a list if it is new.
    fn publish(&self, session: &Session, Listing { tools, malformed, twice, complete }: Listing) {
        if matches!(&*self.standing.borrow(), Standing::Up(_, known) if **known == *tools) {
            return;
        }
        for tool in malformed {
            let tool = problem::shown(&tool);
            tracing::warn!(server = self.name(), tool, "Ignoring a tool with a malformed description");
        }
        if let Some(tool) = twice {
            tracing::warn!(
                server = self.name(),
                tool = problem::shown(&tool),
                "An MCP server lists a tool twice"
            );
        }
        if !complete {
            tracing::warn!(
                server = self.name(),
                used = tools.len(),
                "An MCP server lists too many tools, or a list without an end"
            );
        }
        self.log(session.live.transport, &tools);
        self.standing.send_replace(Standing::Up(session.live.clone(), tools.into()));
    }

    /// Logs a list: under each name of the server, a line for each tool with the assistants that may use it, and one with
    /// those that may not; then the tools that files name and the server does not have.
    fn log(&self, transport: &str, tools: &[Listed]) {
        let named = self.named().clone();
        for name in names(&named) {
            tracing::info!(server = name, transport, "Registered tools count: {}", tools.len());
            for tool in tools {
                for allowed in [true, false] {
                    let those =
                        named.iter().filter(|one| one.name == name && one.allows(&tool.name) == allowed);
                    let assistants: Vec<&str> = those.map(|one| one.assistant.as_str()).collect();
                    if !assistants.is_empty() {
                        let (tool, assistants) = (problem::shown(&tool.name), assistants.join(", "));
                        tracing::info!(server = name, tool, allowed, assistants, "Registered tool");
                    }
                }
            }
        }
        let there: BTreeSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        for Named { assistant, name, tools: wanted, .. } in &named {
            for tool in wanted.iter().filter(|tool| !there.contains(tool.as_str())) {
                let (why, tool) = (lacks(tool, tools), problem::shown(tool));
                tracing::warn!(
                    assistant,
                    server = name,
                    tool,
                    why,
                    "A file names a tool that does not exist"
                );
            }
        }
    }

    /// Why it cannot be used, with the last words of a program.
    pub fn explained(&self, trouble: Trouble) -> String {
        match (trouble, self.chatter.last_words()) {
            (Trouble::Exited | Trouble::Chatter, Some(words)) => format!("{trouble}; it printed: {words}"),
            (Trouble::Exited, None) if self.private.load(Ordering::Relaxed) => {
                format!("{trouble}; what it printed may contain what people said, and is not shown")
            }
            (Trouble::Exited, None) => format!("{trouble}, and printed nothing"),
            _ => trouble.to_string(),
        }
    }

    /// Its names in the files, for the log.
    pub fn name(&self) -> String {
        names(&self.named()).into_iter().collect::<Vec<_>>().join(", ")
    }

    fn named(&self) -> std::sync::MutexGuard<'_, Vec<Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the server is, for the log. Its path and its query may hold secrets.
    fn place(&self) -> String {
        match &self.reach {
            Reach::Url { url, .. } => {
                let url = url::Url::parse(url).ok();
                let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
                match host {
                    Some((host, Some(port))) => format!("{}:{port}", problem::shown(host)),
                    Some((host, None)) => problem::shown(host),
                    None => String::new(),
                }
            }
            Reach::Command { command, .. } => problem::shown(command.first().map_or("", String::as_str)),
        }
    }
}

fn names(named: &[Named]) -> BTreeSet<&str> {
    named.iter().map(|one| one.name.as_str()).collect()
}

/// Begins a session in the server's era.
async fn begin<T>(
    transport: T,
    habits: &mut Habits,
    private: Arc<AtomicBool>,
    name: &'static str,
) -> Result<Session, ClientInitializeError>
where
    T: Transport<RoleClient> + 'static,
{
    let modern = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = match habits.era {
        Some(Era::Legacy) => ClientLifecycleMode::Initialize,
        Some(Era::Modern) => ClientLifecycleMode::Discover { preferred_versions: modern },
        None => ClientLifecycleMode::Auto {
            preferred_versions: modern,
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        },
    };
    let notifications = Notifications::default();
    let running: RunningService<RoleClient, Notifications> =
        notifications.clone().serve_with_lifecycle(transport, lifecycle).await?;
    let peer = running.peer().clone();
    let modern = peer.peer_info().is_some_and(|info| !info.protocol_version.has_initialize());
    habits.era = Some(if modern { Era::Modern } else { Era::Legacy });
    // A list is requested when it may have changed, so a cached one is useless.
    peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
    let end = CancellationToken::new();
    let ending = end.clone();
    let mut session = JoinSet::new();
    session.spawn(async move {
        let ended = running.cancellation_token();
        let waiting = running.waiting();
        tokio::pin!(waiting);
        tokio::select! {
            _ = &mut waiting => return,
            () = ending.cancelled() => ended.cancel(),
        }
        let _ = waiting.await;
    });
    let live = Arc::new(Live::new(peer, notifications.progress.clone(), private, name));
    Ok(Session { live, running: session, end, notifications })
}
