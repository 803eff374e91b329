//! One MCP server: reached, listed, watched, and reached again when it is lost.
//!
//! A task of its own does all that, so that nobody who asks what there is ever waits.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{ProtocolVersion, SubscriptionFilter};
use rmcp::service::{
    ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, Peer,
    RunningService, Subscription,
};
use rmcp::transport::Transport;
use rmcp::{RoleClient, ServiceError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::child::{Chatter, Hearers};
use super::http::Seen;
use super::listing::{Listing, list};
use super::live::{Ears, Live};
use super::trouble::{Trouble, is_unknown_session};
use super::{child, fly, http};
use crate::assistant::lacks;
use crate::assistant::plan::{Listed, Reach, ServerUse};
use crate::link::network::Fault;
use crate::problem;

/// How long a server at an address may take from the first byte to its list of tools.
const START: Duration = Duration::from_secs(15);
/// The same for a program: the first start of one may fetch it from the remote folder (`npx -y`).
const PROGRAM_START: Duration = Duration::from_secs(60);
/// How long a program that printed what is no message may take to come about after all, before it is said to be none
/// that we can use. It goes on being waited for.
const SECOND_THOUGHTS: Duration = Duration::from_secs(5);
/// How long a list of tools may take, later.
const LISTING: Duration = Duration::from_secs(15);
/// From one list to the next where nothing was said of a change: it also shows that the server is there.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same where the answers come in one stream that proxies cut when it is silent for a minute.
const LOOK_AGAIN_WRAPPED: Duration = Duration::from_secs(25);
/// News of changes come in bursts.
const BURST: Duration = Duration::from_millis(250);
/// From one list to the next, however often the server tells of changes.
const NEWS: Duration = Duration::from_secs(5);
/// How many lists in a row may be late while calls are under way: a server may do one thing at a time.
const MOST_LATE: u32 = 3;
/// The pauses between tries: each failure doubles them.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause where another listener is in our place.
const PLACE_PAUSE: Duration = Duration::from_secs(10);
/// A server that was there so long is tried again at once.
const STEADY: Duration = Duration::from_secs(60);
/// How long calls that use a server go on after it is named no more.
const LAST_CALLS: Duration = Duration::from_secs(30);
/// How long the end of a session may take. A program has three times 2 s.
const CLOSING: Duration = Duration::from_secs(8);
/// How a server made by `fly mcp launch` is reached, for the log.
pub const WRAPPED: &str = "fly mcp launch";

/// A server that is kept in reach.
pub struct Kept {
    pub reach: Reach,
    client: reqwest::Client,
    named: Mutex<Vec<Named>>,
    standing: watch::Sender<Standing>,
    chatter: Arc<Chatter>,
    /// A tool was called: what its program says may hold what people said, also after it was started again.
    private: Arc<AtomicBool>,
    /// Nobody needs it any more.
    pub stop: CancellationToken,
    /// The process ends.
    end: CancellationToken,
}

/// What one assistant's file says of a server.
#[derive(Clone, PartialEq)]
pub struct Named {
    assistant: String,
    /// The key in `mcp`.
    name: String,
    /// The tools that it may use. `None`: all.
    allow: Option<Vec<String>>,
    /// The tools that are spoken of.
    tools: Vec<String>,
}

impl From<&ServerUse> for Named {
    /// Without the server itself: whoever holds that keeps it in reach.
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

/// How it stands with a server.
#[derive(Clone)]
pub enum Standing {
    /// It is tried for the first time.
    Starting,
    Up(Arc<Live>, Arc<[Listed]>),
    Down(Trouble),
}

/// What was learnt of a server, so that the next session begins sooner.
#[derive(Debug, Default)]
struct Habits {
    /// `None`: it is found out.
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
    /// Ends with the session; dropped, it ends it.
    running: JoinSet<()>,
    end: CancellationToken,
    ears: Ears,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({})", self.name())
    }
}

impl Kept {
    /// A server that nobody has tried yet.
    pub fn new(reach: Reach, named: Vec<Named>, client: reqwest::Client, end: CancellationToken) -> Kept {
        Kept {
            reach,
            client,
            named: Mutex::new(named),
            standing: watch::Sender::new(Standing::Starting),
            chatter: Arc::default(),
            private: Arc::default(),
            stop: CancellationToken::new(),
            end,
        }
    }

    /// Takes in what the files say now.
    pub fn rename(&self, named: Vec<Named>) {
        let changed = {
            let mut known = self.named();
            let before = std::mem::replace(&mut *known, named);
            *known != before
        };
        match self.standing() {
            Standing::Up(live, tools) if changed => self.tell(live.transport, &tools),
            Standing::Up(..) | Standing::Starting | Standing::Down(_) => {}
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until `wanted` holds.
    pub async fn until(&self, wanted: impl Fn(&Standing) -> bool) {
        // The sender is ours: this never fails.
        let _ = self.standing.subscribe().wait_for(|standing| wanted(standing)).await;
    }

    /// Keeps the server in reach until it is stopped.
    pub async fn run(self: Arc<Self>) {
        let mut habits = Habits::default();
        let mut told = None;
        let mut pause = Duration::ZERO;
        loop {
            let (trouble, up) = self.session(&mut habits, &mut told).await;
            if self.over() {
                return;
            }
            if told != Some(trouble) {
                let at = self.place();
                tracing::warn!(server = self.name(), at, why = %trouble, "An MCP server cannot be reached");
                told = Some(trouble);
            }
            self.standing.send_replace(Standing::Down(trouble));
            pause = match up >= STEADY {
                true => Duration::ZERO,
                false => (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            };
            if trouble == Trouble::Taken {
                pause = pause.min(PLACE_PAUSE);
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => return,
                () = self.end.cancelled() => return,
            }
        }
    }

    /// One session, from its start to its end: why it ended, and how long the server was there.
    async fn session(&self, habits: &mut Habits, told: &mut Option<Trouble>) -> (Trouble, Duration) {
        let limit = match self.reach {
            Reach::Url { .. } => START,
            Reach::Command { .. } => PROGRAM_START,
        };
        self.chatter.begin();
        let unknown = habits.era.is_none();
        let started = tokio::select! {
            started = timeout(limit, self.start(habits)) => started,
            never = self.second_thoughts() => match never {},
            () = self.stop.cancelled() => return (Trouble::LOST, Duration::ZERO),
            () = self.end.cancelled() => return (Trouble::LOST, Duration::ZERO),
        };
        let (mut session, tools) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(trouble)) => return (trouble, Duration::ZERO),
            Err(_) => {
                // A server that is silent at the question for its era may know the old start only.
                let silent = unknown && habits.era != Some(Era::Modern);
                *habits = Habits { era: silent.then_some(Era::Legacy), wrapped: false };
                let trouble = if self.chatter.is_heard() { Trouble::Chatter } else { Trouble::LATE };
                return (trouble, Duration::ZERO);
            }
        };
        let since = Instant::now();
        if told.take().is_some() {
            tracing::info!(server = self.name(), "An MCP server is back");
        }
        self.publish(&session, tools);
        let trouble = tokio::select! {
            trouble = self.watch(&mut session) => Some(trouble),
            () = self.stop.cancelled() => None,
            () = self.end.cancelled() => None,
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

    /// Has it known of a program at its first start that it prints what is no message, and nothing better for a while.
    async fn second_thoughts(&self) -> Infallible {
        self.chatter.heard().await;
        sleep(SECOND_THOUGHTS).await;
        self.standing.send_if_modified(|standing| {
            let starting = matches!(standing, Standing::Starting);
            if starting {
                *standing = Standing::Down(Trouble::Chatter);
            }
            starting
        });
        std::future::pending().await
    }

    /// Reaches the server and lists its tools.
    async fn start(&self, habits: &mut Habits) -> Result<(Session, Listing), Trouble> {
        let opened = match (self.open(habits).await, habits.era) {
            // Some fail at the question for their era in one way or another: it is tried once without.
            (Err(trouble), None) if trouble.may_be_legacy() => {
                habits.era = Some(Era::Legacy);
                self.open(habits).await
            }
            (opened, _) => opened,
        };
        let session = opened.inspect_err(|trouble| {
            // It may be another kind of server by the next time.
            if *trouble != Trouble::Taken {
                *habits = Habits::default();
            }
        })?;
        let tools =
            list(&session.live.peer, &self.name()).await.map_err(|error| Trouble::from_service(&error))?;
        Ok((session, tools))
    }

    async fn open(&self, habits: &mut Habits) -> Result<Session, Trouble> {
        let private = self.private.clone();
        let (url, headers) = match &self.reach {
            Reach::Command { command, env, secrets } => {
                let secrets = env.iter().map(|(_, value)| value).chain(secrets).cloned().collect();
                let hearers = Hearers { secrets, private: private.clone(), chatter: self.chatter.clone() };
                let program = child::start(&self.name(), command, env, hearers)?;
                let begun = begin(program, habits, private, "stdio").await;
                return begun.map_err(|error| Trouble::from_start(&error).unwrap_or(Trouble::Exited));
            }
            Reach::Url { url, headers } => (url, http::headers(headers)?),
        };
        if url::Url::parse(url).is_err() {
            // The transport would try for ever.
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
                // It took the question for its era in silence, and is none of those.
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

    /// Looks after a session until it is broken.
    async fn watch(&self, session: &mut Session) -> Trouble {
        let live = session.live.clone();
        let often = if live.transport == WRAPPED { LOOK_AGAIN_WRAPPED } else { LOOK_AGAIN };
        let mut subscription = subscribe(&live.peer).await;
        let mut due = Instant::now() + often;
        // When news may bring a look about, and when they are asked for again where they have ended.
        let (mut due_by_news, mut subscribe_at) = (Instant::now(), due);
        let (mut late, mut refused) = (0, false);
        loop {
            tokio::select! {
                _ = session.running.join_next() => return match self.reach {
                    Reach::Command { .. } => Trouble::Exited,
                    Reach::Url { .. } => Trouble::LOST,
                },
                () = live.doubted.notified() => {}
                () = sleep_until(due) => {}
                () = next_change(&session.ears, &mut subscription) => {
                    due = due.min(due_by_news.max(Instant::now() + BURST));
                    continue;
                }
            }
            if subscription.is_none() && Instant::now() >= subscribe_at {
                subscription = subscribe(&live.peer).await;
                subscribe_at = Instant::now() + often;
            }
            let busy = !live.users.is_empty();
            let listed = timeout(LISTING, list(&live.peer, &self.name())).await;
            let answered = live.has_answered();
            if listed.is_ok() || answered {
                late = 0;
            }
            match listed {
                Ok(Ok(listing)) => {
                    refused = false;
                    self.publish(session, listing);
                    live.sound.notify_waiters();
                }
                // It is there, and its last list holds: once. Some servers say of a fault what others say of a session that
                // they do not know: while calls are under way, it is taken for a fault.
                Ok(Err(ServiceError::McpError(error)))
                    if !refused && (!is_unknown_session(error.code) || !live.users.is_empty()) =>
                {
                    refused = true;
                }
                Ok(Err(error)) => return Trouble::from_service(&error),
                Err(_) if (busy || !live.users.is_empty()) && late < MOST_LATE => {
                    late += 1;
                    // Soon again: where it is gone, every call hangs until that is known.
                    due = Instant::now() + NEWS;
                    due_by_news = due;
                    continue;
                }
                Err(_) => return Trouble::LATE,
            }
            due = Instant::now() + often;
            due_by_news = Instant::now() + NEWS;
        }
    }

    /// Makes a list known, unless it is the one that is known.
    fn publish(&self, session: &Session, Listing { tools, spoilt, whole }: Listing) {
        if matches!(&*self.standing.borrow(), Standing::Up(_, known) if **known == *tools) {
            return;
        }
        for tool in spoilt {
            let tool = problem::shown(&tool);
            tracing::warn!(server = self.name(), tool, "A tool is left out: its description is malformed");
        }
        if !whole {
            tracing::warn!(
                server = self.name(),
                "Only the first {} tools of an MCP server are taken",
                tools.len()
            );
        }
        self.tell(session.live.transport, &tools);
        self.standing.send_replace(Standing::Up(session.live.clone(), tools.into()));
    }

    /// Writes a list into the log: under each name that the server has, a line for each tool with the assistants that
    /// may use it, and one with those that may not; then what files speak of and the server does not have.
    fn tell(&self, transport: &str, tools: &[Listed]) {
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
                        tracing::info!(server = name, tool, allowed, assistants, "Registered a tool");
                    }
                }
            }
        }
        let there: BTreeSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        for Named { assistant, name, tools: spoken_of, .. } in &named {
            for tool in spoken_of.iter().filter(|tool| !there.contains(tool.as_str())) {
                let (why, tool) = (lacks(tool, tools), problem::shown(tool));
                tracing::warn!(
                    assistant,
                    server = name,
                    tool,
                    why,
                    "A file speaks of a tool that is not there"
                );
            }
        }
    }

    /// The names that the server has in the files, for the log.
    pub fn name(&self) -> String {
        names(&self.named()).into_iter().collect::<Vec<_>>().join(", ")
    }

    fn named(&self) -> std::sync::MutexGuard<'_, Vec<Named>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the server is, for people: a path and a query may hold secrets.
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

    fn over(&self) -> bool {
        self.stop.is_cancelled() || self.end.is_cancelled()
    }
}

fn names(named: &[Named]) -> BTreeSet<&str> {
    named.iter().map(|one| one.name.as_str()).collect()
}

/// Begins a session, in the server's era.
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
    let ears = Ears::default();
    let running: RunningService<RoleClient, Ears> =
        ears.clone().serve_with_lifecycle(transport, lifecycle).await?;
    let peer = running.peer().clone();
    let modern = peer.peer_info().is_some_and(|info| !info.protocol_version.has_initialize());
    habits.era = Some(if modern { Era::Modern } else { Era::Legacy });
    // What is listed is asked for when it may have changed; an older answer is no use then.
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
    let live = Arc::new(Live::new(peer, ears.progress.clone(), private, name));
    Ok(Session { live, running: session, end, ears })
}

/// Asks a server without sessions to tell of changes. `None`: it does not.
async fn subscribe(peer: &Peer<RoleClient>) -> Option<Subscription> {
    let info = peer.peer_info()?;
    let tells = info.capabilities.tools.as_ref()?.list_changed == Some(true);
    if info.protocol_version.has_initialize() || !tells {
        return None;
    }
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    timeout(LISTING, peer.listen(filter)).await.ok()?.ok()
}

/// Waits for a change of the list, or for the end of the news: then it is better to look, for one may have been missed.
async fn next_change(ears: &Ears, subscription: &mut Option<Subscription>) {
    let news = async {
        match subscription {
            Some(subscription) => matches!(subscription.next().await, Ok(Some(_))),
            None => std::future::pending().await,
        }
    };
    let goes_on = tokio::select! {
        goes_on = news => goes_on,
        () = ears.changed.notified() => return,
    };
    if !goes_on {
        *subscription = None;
    }
}
