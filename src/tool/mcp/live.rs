//! An open session with a server: the calls in it, and the notifications that it sends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
    PingRequest, ProgressNotificationParam, ProgressToken, ProtocolVersion, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, Peer, PeerRequestOptions, RequestHandle, Subscription};
use rmcp::{ClientHandler, RoleClient, ServiceError};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::answer;
use super::trouble::{Trouble, is_unknown_session};
use crate::tool::Done;

/// How long the notice that a request is cancelled may take.
const CANCEL: Duration = Duration::from_secs(5);
/// How long an answer to a ping may take.
const PING: Duration = Duration::from_secs(5);
/// How long an answer to a subscription may take.
const SUBSCRIBE: Duration = Duration::from_secs(15);

/// An open session.
pub struct Live {
    pub peer: Peer<RoleClient>,
    /// For the log.
    pub transport: &'static str,
    progress: Arc<Progress>,
    /// The output of the server's program may contain what people said.
    private: Arc<AtomicBool>,
    /// Active tool calls.
    pub users: TaskTracker,
    /// A tool call was answered.
    answered: AtomicBool,
    /// A call got no answer, so the session must be checked.
    pub doubted: Notify,
    /// The session works: the server has just listed its tools.
    pub sound: Notify,
}

/// The notifications that a server sends.
#[derive(Clone, Default)]
pub struct Notifications {
    /// The list of tools changed.
    pub changed: Arc<Notify>,
    pub progress: Arc<Progress>,
}

/// The requests that wait for progress.
#[derive(Default)]
pub struct Progress(Mutex<HashMap<ProgressToken, Arc<Notify>>>);

impl ClientHandler for Notifications {
    fn get_info(&self) -> ClientConfig {
        // No capabilities: a server cannot ask us anything.
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

    /// Whether a tool call was answered since the last time this was asked.
    pub fn has_answered(&self) -> bool {
        self.answered.swap(false, Ordering::Relaxed)
    }

    /// Calls a tool, without a time limit. If dropped, it cancels the request at the server.
    ///
    /// # Errors
    /// There was no answer; the session may be broken.
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
        // It fails if the session has ended.
        let handle = sent.map_err(|_| Trouble::Gone)?;
        let progress = Arc::new(Notify::new());
        self.progress.waiting().insert(handle.progress_token.clone(), progress.clone());
        let mut asked = Asked { handle: Some(handle), live: self };
        let answer = loop {
            let Some(handle) = &mut asked.handle else { return Err(Trouble::LOST) };
            tokio::select! {
                biased;
                answer = &mut handle.rx => break answer,
                () = progress.notified() => working(),
            }
        };
        asked.finish();
        let answered = matches!(answer, Ok(Ok(_) | Err(ServiceError::McpError(_))));
        self.answered.fetch_or(answered, Ordering::Relaxed);
        match answer {
            Ok(Ok(result)) => Ok(answer::done(result)),
            Ok(Err(ServiceError::McpError(error))) => {
                if is_unknown_session(error.code) {
                    self.doubted.notify_one();
                }
                Ok(answer::from_error(&error))
            }
            Ok(Err(error)) => Err(Trouble::from_service(&error)),
            Err(_) => Err(Trouble::LOST),
        }
    }
}

/// Whether the server answers at all.
pub async fn works(peer: &Peer<RoleClient>) -> bool {
    let ping = peer.send_request(ClientRequest::PingRequest(PingRequest::default()));
    matches!(timeout(PING, ping).await, Ok(Ok(_) | Err(ServiceError::McpError(_))))
}

/// Subscribes to changes at a server without sessions. `None`: it sends no notifications.
pub async fn subscribe(peer: &Peer<RoleClient>) -> Option<Subscription> {
    let info = peer.peer_info()?;
    let notifies = info.capabilities.tools.as_ref()?.list_changed == Some(true);
    if info.protocol_version.has_initialize() || !notifies {
        return None;
    }
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    timeout(SUBSCRIBE, peer.listen(filter)).await.ok()?.ok()
}

/// Waits for a change of the list, or for the end of the subscription: a change may have been missed.
pub async fn next_change(notifications: &Notifications, subscription: &mut Option<Subscription>) {
    let notified = async {
        match subscription {
            Some(subscription) => matches!(subscription.next().await, Ok(Some(_))),
            None => std::future::pending().await,
        }
    };
    let is_open = tokio::select! {
        is_open = notified => is_open,
        () = notifications.changed.notified() => return,
    };
    if !is_open {
        *subscription = None;
    }
}

/// A request that waits for its answer.
struct Asked<'a> {
    handle: Option<RequestHandle<RoleClient>>,
    live: &'a Live,
}

impl Asked<'_> {
    fn finish(&mut self) -> Option<RequestHandle<RoleClient>> {
        let handle = self.handle.take()?;
        self.live.progress.waiting().remove(&handle.progress_token);
        Some(handle)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(handle) = self.finish() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let reason = Some("the caller no longer waits".to_owned());
            self.live.users.spawn_on(async { drop(timeout(CANCEL, handle.cancel(reason)).await) }, &runtime);
        }
    }
}
