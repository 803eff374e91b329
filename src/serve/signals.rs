//! The one place that listens for signals. The first asks for the end, the second forces it.

use std::future::pending;
use std::io::{IsTerminal as _, stdin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::tool;

/// How often to check whether the terminal still exists.
const TERMINAL_POLL: Duration = Duration::from_secs(1);

/// What SIGHUP does.
#[derive(Debug, Clone)]
pub enum Hangup {
    /// The system ends the process.
    Kills,
    /// It asks for the end, as does the end of the terminal on standard input.
    Ends,
    /// It notifies, so that the folder is read again. If it comes because the terminal on standard input is gone, it
    /// asks for the end.
    Reloads(Arc<Notify>),
}

/// Waits for SIGTERM or SIGINT, and for a SIGHUP that asks for the end. A second one of these ends the process at once.
pub fn signalled(hangup: Hangup) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let terminal_gone = hangup.ends()?;
    let (first_tx, first) = tokio::sync::oneshot::channel();
    // This task lives as long as the process, for the second signal.
    tokio::spawn(async move {
        let mut first_tx = Some(first_tx);
        let mut terminal_gone = std::pin::pin!(terminal_gone.fuse());
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = &mut terminal_gone => {}
            }
            match first_tx.take() {
                Some(first) => drop(first.send(())),
                None => {
                    tracing::warn!("Second signal: ending at once");
                    tool::kill_programs();
                    std::process::exit(1);
                }
            }
        }
    });
    Ok(async move { drop(first.await) })
}

impl Hangup {
    /// Waits until it asks for the end.
    fn ends(self) -> anyhow::Result<impl Future<Output = ()>> {
        let mut hangup = match &self {
            Self::Kills => None,
            Self::Ends | Self::Reloads(_) => Some(listen(SignalKind::hangup())?),
        };
        let was_terminal = stdin().is_terminal();
        Ok(async move {
            match (self, &mut hangup) {
                (Self::Ends, Some(hangup)) => tokio::select! {
                    _ = hangup.recv() => {}
                    () = hung_up() => {}
                },
                (Self::Reloads(reload), Some(hangup)) => loop {
                    hangup.recv().await;
                    if was_terminal && !stdin().is_terminal() {
                        return;
                    }
                    tracing::info!("SIGHUP: reading the assistants again");
                    reload.notify_one();
                },
                _ => pending().await,
            }
        })
    }
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    anyhow::Context::context(signal(kind), "signals cannot be listened for")
}

/// Waits until standard input stops being a terminal; forever if it is none. SIGHUP is not enough: the system sends it
/// to the leader of the terminal's session, and `make` does not pass it on. Nothing is read, because reading would stop
/// a job in the background.
async fn hung_up() {
    if !stdin().is_terminal() {
        return pending().await;
    }
    while stdin().is_terminal() {
        sleep(TERMINAL_POLL).await;
    }
}
