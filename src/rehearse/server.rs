//! The real server that a rehearsal calls.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::choose::Choice;
use super::news::News;
use crate::post::Letter;
use crate::record::{Entry, RecordId, What};
use crate::secret::Secret;
use crate::serve::{self, Serve};
use crate::settings::{ServeSettings, Settings};

/// How long the server may take to stop.
const CLOSING: Duration = Duration::from_secs(5);

/// The real server, on a port of its own.
pub(super) struct Server {
    pub url: String,
    pub token: String,
    /// The entries of the call's record, each with when it came.
    pub entries: mpsc::UnboundedReceiver<(Entry, Instant)>,
    /// What is for the owner.
    pub letters: mpsc::UnboundedReceiver<(News, Instant)>,
    close: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub async fn start(
        mut settings: Settings,
        choice: &Choice,
        now: Option<Timestamp>,
        state: Option<PathBuf>,
        live: bool,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("the server cannot listen on 127.0.0.1")?;
        let port = listener.local_addr().context("the server's port is unknown")?.port();
        let (url, token) = (format!("http://127.0.0.1:{port}"), token());
        let tokens = vec![Secret::new(token.clone())];
        settings.twilio_auth_tokens = tokens.clone();
        settings.twilio_shared_keys = Vec::new();
        settings.public_url = Some(url.clone());
        settings.host = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        settings.port = port;
        settings.drain = Duration::ZERO;
        settings.metrics_port = None;
        settings.metrics_token = None;
        settings.state_dir = state;
        // A rehearsal sends no text messages.
        settings.twilio_account_sid = None;
        // A rehearsal is not the server.
        settings.alerts = None;
        settings.cost_per_day = None;
        settings.machine = None;
        settings.fly_url = None;
        // Only this assistant's provider: the certificates of the others do not matter here.
        let providers = vec![choice.assistant.provider().clone()];
        let ready = ServeSettings { providers, twilio_auth_tokens: tokens, public_url: url.clone() };
        let (entries_tx, entries) = mpsc::unbounded_channel();
        let records = move |_: &RecordId, mut entry: Entry| {
            if let What::Rang(rang) = &mut entry.what {
                rang.test = true;
            }
            let _ = entries_tx.send((entry, Instant::now()));
        };
        let (letters_tx, letters) = mpsc::unbounded_channel();
        let observer =
            move |letter: &Letter, taken| drop(letters_tx.send((News::of(letter, taken), Instant::now())));
        let (close, closed) = oneshot::channel();
        let serve = Serve {
            settings,
            ready,
            // Other assistants' MCP servers and warnings do not matter here.
            roster: choice.roster.alone(choice.assistant.name()),
            reload: None,
            listener,
            metrics_listener: None,
            metrics: None,
            records: Some(Arc::new(records)),
            letters: Some(Arc::new(observer)),
            tools_first: true,
            now,
            captures: false,
            simulated: !live,
            console: None,
            doctor: None,
        };
        let task = tokio::spawn(serve::run(serve, async move { drop(closed.await) }));
        Ok(Self { url, token, entries, letters, close, task })
    }

    /// Stops the server. Returns its error, if it had one, and what came last for the owner.
    pub async fn close(mut self) -> (Option<String>, Vec<News>) {
        drop(self.close);
        let mut task = AbortOnDropHandle::new(self.task);
        let error = match timeout(CLOSING, &mut task).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(format!("the server failed: {error:#}")),
            Ok(Err(_)) => Some("the server panicked".to_owned()),
            Err(_) => Some(format!("the server did not stop within {} seconds", CLOSING.as_secs())),
        };
        let late = std::iter::from_fn(|| self.letters.try_recv().ok()).map(|(news, _)| news).collect();
        (error, late)
    }
}

/// 32 hexadecimal digits, as Twilio's tokens are.
pub fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}
