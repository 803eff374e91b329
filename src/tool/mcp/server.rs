//! One MCP server: reached, listed, watched, and reached again when it is lost.
//!
//! A task of its own does all that, so that nobody who asks what there is ever waits.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    ClientRequest, CustomResult, ErrorCode, ListToolsRequest, PaginatedRequestParams, ProtocolVersion,
    ServerResult, SubscriptionFilter,
};
use rmcp::service::{
    ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, Peer,
    RunningService, Subscription,
};
use rmcp::transport::Transport;
use rmcp::{RoleClient, ServiceError};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::http::Seen;
use super::live::{Ears, Live};
use super::trouble::Trouble;
use super::{child, fly, http};
use crate::assistant::plan::{Listed, Reach};
use crate::problem;

/// How long a server at an address may take from the first byte to its list of tools.
const START: Duration = Duration::from_secs(15);
/// The same for a program: the first start of one may fetch it from afar (`npx -y`).
const PROGRAM_START: Duration = Duration::from_secs(60);
/// How long a list of tools may take, later.
const LISTING: Duration = Duration::from_secs(15);
/// From one list to the next where nothing was said of a change: it also shows that the server is there.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// News of changes come in bursts.
const BURST: Duration = Duration::from_millis(250);
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
const MOST_PAGES: usize = 50;
const MOST_TOOLS: usize = 500;

/// A server that is kept in reach.
pub struct Kept {
    pub reach: Reach,
    client: reqwest::Client,
    named: Mutex<Named>,
    standing: watch::Sender<Standing>,
    /// No assistant names it any more.
    pub stop: CancellationToken,
    /// The process ends.
    end: CancellationToken,
}

/// What the owner's files say of a server.
#[derive(Clone, PartialEq)]
pub struct Named {
    /// For the log.
    pub name: String,
    /// The tools that some assistant may use. `None`: all.
    pub allow: Option<Vec<String>>,
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

/// What a server offers.
struct Listing {
    tools: Vec<Listed>,
    /// The names of tools that are not described as they should be.
    spoilt: Vec<String>,
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
    pub fn new(reach: Reach, named: Named, client: reqwest::Client, end: CancellationToken) -> Kept {
        Kept {
            reach,
            client,
            named: Mutex::new(named),
            standing: watch::Sender::new(Standing::Starting),
            stop: CancellationToken::new(),
            end,
        }
    }

    /// Takes in what the files say now.
    pub fn rename(&self, named: Named) {
        let changed = {
            let mut known = self.named.lock().unwrap_or_else(PoisonError::into_inner);
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
        let started = tokio::select! {
            started = timeout(limit, self.start(habits)) => started,
            () = self.stop.cancelled() => return (Trouble::Lost, Duration::ZERO),
            () = self.end.cancelled() => return (Trouble::Lost, Duration::ZERO),
        };
        let (mut session, tools) = match started {
            Ok(Ok(started)) => started,
            Ok(Err(trouble)) => return (trouble, Duration::ZERO),
            Err(_) => {
                // A server that is silent at the question for its era may know the old start only.
                habits.era = if habits.era.is_none() { Some(Era::Legacy) } else { None };
                return (Trouble::Slow, Duration::ZERO);
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
        self.standing.send_replace(Standing::Down(trouble.unwrap_or(Trouble::Lost)));
        if trouble.is_none() {
            session.live.users.close();
            tokio::select! {
                _ = timeout(LAST_CALLS, session.live.users.wait()) => {}
                () = self.end.cancelled() => {}
            }
        }
        session.end.cancel();
        let _ = timeout(CLOSING, session.running.join_next()).await;
        (trouble.unwrap_or(Trouble::Lost), since.elapsed())
    }

    /// Reaches the server and lists its tools.
    async fn start(&self, habits: &mut Habits) -> Result<(Session, Listing), Trouble> {
        let unknown = habits.era.is_none();
        let session = match self.open(habits).await {
            // Some end at the question for their era, or fail at it: it is tried once without.
            Err(_) if unknown && habits.era == Some(Era::Legacy) => self.open(habits).await?,
            opened => opened?,
        };
        let tools =
            list(&session.live.peer, &self.name()).await.map_err(|error| Trouble::of_service(&error))?;
        Ok((session, tools))
    }

    async fn open(&self, habits: &mut Habits) -> Result<Session, Trouble> {
        let private = Arc::new(AtomicBool::new(false));
        let unknown = habits.era.is_none();
        let (url, headers) = match &self.reach {
            Reach::Command { command, env } => {
                let program = child::start(&self.name(), command, env, private.clone())?;
                let begun = begin(program, habits, private, "stdio").await;
                return begun.map_err(|error| {
                    if unknown && matches!(error, ClientInitializeError::ConnectionClosed(_)) {
                        habits.era = Some(Era::Legacy);
                    }
                    Trouble::of_start(&error).unwrap_or(Trouble::Ended)
                });
            }
            Reach::Url { url, headers } => (url, http::headers(headers)?),
        };
        if url::Url::parse(url).is_err() {
            // The transport would try for ever.
            return Err(Trouble::NoAddress);
        }
        if !habits.wrapped {
            let (transport, witness) = http::transport(self.client.clone(), url, headers.clone());
            let error = match begin(transport, habits, private.clone(), "http").await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            match witness.seen() {
                Some(Seen::NoAnswer) => habits.wrapped = true,
                Some(Seen::Trouble(trouble)) => {
                    if unknown && matches!(trouble, Trouble::Fault(_)) {
                        habits.era = Some(Era::Legacy);
                    }
                    return Err(trouble);
                }
                None => return Err(Trouble::of_start(&error).unwrap_or(Trouble::Lost)),
            }
        }
        let opened = async {
            let transport = fly::Wrapped::connect(self.client.clone(), url, headers).await?;
            let begun = begin(transport, habits, private, "fly mcp launch").await;
            begun.map_err(|error| Trouble::of_start(&error).unwrap_or(Trouble::Lost))
        };
        let opened = opened.await;
        // It may be another kind of server by the next time.
        habits.wrapped = matches!(opened, Ok(_) | Err(Trouble::Taken));
        opened
    }

    /// Looks after a session until it is broken.
    async fn watch(&self, session: &mut Session) -> Trouble {
        let peer = session.live.peer.clone();
        let mut subscription = None;
        loop {
            if subscription.is_none() {
                subscription = subscribe(&peer).await;
            }
            tokio::select! {
                _ = session.running.join_next() => return match self.reach {
                    Reach::Command { .. } => Trouble::Ended,
                    Reach::Url { .. } => Trouble::Lost,
                },
                () = session.live.doubted.notified() => {}
                () = sleep_until(Instant::now() + LOOK_AGAIN) => {}
                () = session.ears.changed.notified() => sleep(BURST).await,
                () = next_change(&mut subscription) => sleep(BURST).await,
            }
            match timeout(LISTING, list(&peer, &self.name())).await {
                Ok(Ok(tools)) => self.publish(session, tools),
                // It is there, and its last list holds.
                Ok(Err(ServiceError::McpError(_))) => {}
                Ok(Err(error)) => return Trouble::of_service(&error),
                Err(_) => return Trouble::Slow,
            }
        }
    }

    /// Makes a list known, unless it is the one that is known.
    fn publish(&self, session: &Session, Listing { tools, spoilt }: Listing) {
        if matches!(&*self.standing.borrow(), Standing::Up(_, known) if **known == *tools) {
            return;
        }
        for tool in spoilt {
            let tool = problem::shown(&tool);
            tracing::warn!(server = self.name(), tool, "A tool is left out: its description is malformed");
        }
        self.tell(session.live.transport, &tools);
        self.standing.send_replace(Standing::Up(session.live.clone(), tools.into()));
    }

    /// Writes a list into the log, a line for each tool.
    fn tell(&self, transport: &str, tools: &[Listed]) {
        let Named { name, allow } = self.named.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tracing::info!(server = name, transport, "Registered tools count: {}", tools.len());
        for tool in tools {
            let allowed = allow.as_ref().is_none_or(|allow| allow.contains(&tool.name));
            tracing::info!(server = name, tool = problem::shown(&tool.name), allowed, "Registered a tool");
        }
    }

    pub fn name(&self) -> String {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).name.clone()
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
    let unknown = habits.era.is_none();
    let begun: Result<RunningService<RoleClient, Ears>, _> =
        ears.clone().serve_with_lifecycle(transport, lifecycle).await;
    let running = begun.inspect_err(|error| {
        use ClientInitializeError as Error;
        // It answered the question for its era too late, so it knows the old start only.
        let late =
            matches!(error, Error::ConflictInitResponseId(..) | Error::UncorrelatedErrorResponse { .. });
        habits.era = (unknown && late).then_some(Era::Legacy);
    })?;
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

/// What of a tool is of use here. Whatever else a server says of it may be wrong.
#[derive(Deserialize)]
struct Offered {
    name: String,
    title: Option<String>,
    description: Option<String>,
    #[serde(rename = "inputSchema")]
    schema: Map<String, Value>,
}

/// A page of the list, read tool by tool: one that is not as it should be takes no other away.
async fn page(
    peer: &Peer<RoleClient>,
    params: Option<PaginatedRequestParams>,
    spoilt: &mut Vec<String>,
) -> Result<(Vec<Offered>, Option<String>), ServiceError> {
    let request = ListToolsRequest { method: Default::default(), params, extensions: Default::default() };
    let result = match peer.send_request(ClientRequest::ListToolsRequest(request)).await? {
        ServerResult::ListToolsResult(page) => {
            let offered = page.tools.into_iter().map(|tool| Offered {
                name: tool.name.into_owned(),
                title: tool.title,
                description: tool.description.map(String::from),
                schema: Arc::unwrap_or_clone(tool.input_schema),
            });
            return Ok((offered.collect(), page.next_cursor));
        }
        ServerResult::CustomResult(CustomResult(result)) => result,
        _ => return Err(ServiceError::UnexpectedResponse),
    };
    let raw = result.get("tools").and_then(Value::as_array).ok_or(ServiceError::UnexpectedResponse)?;
    let mut offered = Vec::new();
    for tool in raw {
        match Offered::deserialize(tool) {
            Ok(tool) => offered.push(tool),
            Err(_) => {
                let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
                spoilt.push(name.to_owned());
            }
        }
    }
    Ok((offered, result.get("nextCursor").and_then(Value::as_str).map(str::to_owned)))
}

/// All tools of a server, each name once; and the names of those that cannot be read.
async fn list(peer: &Peer<RoleClient>, server: &str) -> Result<Listing, ServiceError> {
    let mut tools: Vec<Listed> = Vec::new();
    let mut spoilt = Vec::new();
    let mut params = None;
    for _ in 0..MOST_PAGES {
        let (offered, cursor) = match page(peer, params, &mut spoilt).await {
            // It has resources or prompts, and no tools.
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => break,
            page => page?,
        };
        for tool in offered {
            if tools.iter().any(|known| known.name == tool.name) {
                tracing::info!(server, tool = problem::shown(&tool.name), "A tool is listed twice");
                continue;
            }
            if tools.len() == MOST_TOOLS {
                tracing::warn!(server, "Only the first {MOST_TOOLS} tools of an MCP server are taken");
                return Ok(Listing { tools, spoilt });
            }
            let description = tool.description.or(tool.title).unwrap_or_default();
            tools.push(Listed { name: tool.name, description, schema: tool.schema });
        }
        // An empty text is a cursor like any other.
        let Some(cursor) = cursor else { break };
        params = Some(PaginatedRequestParams::default().with_cursor(Some(cursor)));
    }
    Ok(Listing { tools, spoilt })
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

/// Waits for a change of the list, or for the end of the news: then it is better to look.
async fn next_change(subscription: &mut Option<Subscription>) {
    let Some(news) = subscription else { return std::future::pending().await };
    if !matches!(news.next().await, Ok(Some(_))) {
        // Without news the list is looked at from time to time, and they are asked for again then.
        *subscription = None;
    }
}
