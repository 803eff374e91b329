//! A session with an MCP server that is open: what runs in it, and what it tells us.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
    ProgressNotificationParam, ProgressToken, ProtocolVersion,
};
use rmcp::service::{NotificationContext, Peer, PeerRequestOptions, RequestHandle};
use rmcp::{ClientHandler, RoleClient, ServiceError};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::answer;
use super::trouble::{Trouble, is_unknown_session};
use crate::tool::Done;

/// How long the word that nobody waits any more may take.
const CANCEL: Duration = Duration::from_secs(5);

/// A session that is open.
pub struct Live {
    pub peer: Peer<RoleClient>,
    /// How it is reached, for the log.
    pub transport: &'static str,
    progress: Arc<Progress>,
    /// What the server's program says may hold what people said.
    private: Arc<AtomicBool>,
    /// Calls of tools under way.
    pub users: TaskTracker,
    /// A call of a tool was answered.
    answered: AtomicBool,
    /// A call got no answer: it is to be found out whether the session still works.
    pub doubted: Notify,
    /// Tells whoever waits that the session works: the server has just listed its tools in it.
    pub sound: Notify,
}

/// What the server tells us by itself.
#[derive(Clone, Default)]
pub struct Ears {
    /// The list of tools changed.
    pub changed: Arc<Notify>,
    pub progress: Arc<Progress>,
}

/// Who waits for news of a request.
#[derive(Default)]
pub struct Progress(Mutex<HashMap<ProgressToken, Arc<Notify>>>);

impl ClientHandler for Ears {
    fn get_info(&self) -> ClientConfig {
        // No capabilities: there is nobody whom a server could ask.
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("switchboard", env!("CARGO_PKG_VERSION")),
        )
        .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        if let Some(waiting) = self.progress.waiting().get(&progress.progress_token) {
            waiting.notify_one();
        }
    }
}

impl Progress {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<ProgressToken, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    pub fn new(
        peer: Peer<RoleClient>,
        progress: Arc<Progress>,
        private: Arc<AtomicBool>,
        transport: &'static str,
    ) -> Live {
        let (doubted, sound) = (Notify::new(), Notify::new());
        let (users, answered) = (TaskTracker::new(), AtomicBool::new(false));
        Live { peer, transport, progress, private, users, answered, doubted, sound }
    }

    /// Whether a call of a tool was answered since this was asked last.
    pub fn has_answered(&self) -> bool {
        self.answered.swap(false, Ordering::Relaxed)
    }

    /// Calls a tool, for as long as it takes. Dropped, it tells the server that nobody waits any more.
    ///
    /// # Errors
    /// When no answer came; the session may be broken then.
    pub async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        working: &mut (impl FnMut() + Send),
    ) -> Result<Done, Trouble> {
        let _user = self.users.token();
        self.private.store(true, Ordering::Relaxed);
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sent = self.peer.send_request_with_option(request, PeerRequestOptions::no_options()).await;
        // It fails where the session has ended already.
        let handle = sent.map_err(|_| Trouble::Gone)?;
        let news = Arc::new(Notify::new());
        self.progress.waiting().insert(handle.progress_token.clone(), news.clone());
        let mut asked = Asked { handle: Some(handle), live: self };
        let answer = loop {
            let Some(handle) = &mut asked.handle else { return Err(Trouble::LOST) };
            tokio::select! {
                biased;
                answer = &mut handle.rx => break answer,
                () = news.notified() => working(),
            }
        };
        asked.over();
        let answered = matches!(answer, Ok(Ok(_) | Err(ServiceError::McpError(_))));
        self.answered.fetch_or(answered, Ordering::Relaxed);
        match answer {
            Ok(Ok(result)) => Ok(answer::done(result)),
            Ok(Err(ServiceError::McpError(error))) => {
                if is_unknown_session(error.code) {
                    self.doubted.notify_one();
                }
                Ok(answer::refused(&error))
            }
            Ok(Err(error)) => Err(Trouble::from_service(&error)),
            Err(_) => Err(Trouble::LOST),
        }
    }
}

/// A request whose answer is awaited.
struct Asked<'a> {
    handle: Option<RequestHandle<RoleClient>>,
    live: &'a Live,
}

impl Asked<'_> {
    /// There is nothing to wait for any more.
    fn over(&mut self) -> Option<RequestHandle<RoleClient>> {
        let handle = self.handle.take()?;
        self.live.progress.waiting().remove(&handle.progress_token);
        Some(handle)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(handle) = self.over() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let reason = Some("the caller waits no longer".to_owned());
            self.live.users.spawn_on(async { drop(timeout(CANCEL, handle.cancel(reason)).await) }, &runtime);
        }
    }
}
