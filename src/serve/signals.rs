//! The one place that listens for signals. The first asks for the end, the second forces it.

use std::io::{IsTerminal as _, stdin};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::tool;

/// How often to check whether the terminal still exists.
const TERMINAL_POLL: Duration = Duration::from_secs(1);

/// Waits for SIGTERM or SIGINT, and with `terminal` also for SIGHUP or the end of the terminal on standard input. A
/// second one of these ends the process at once.
pub fn signalled(terminal: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // A server that should outlive its terminal ignores it.
    let mut hangup = terminal.then(|| listen(SignalKind::hangup())).transpose()?;
    let terminal_gone = async move {
        match &mut hangup {
            Some(hangup) => tokio::select! {
                _ = hangup.recv() => {}
                () = hung_up() => {}
            },
            None => std::future::pending().await,
        }
    };
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

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    anyhow::Context::context(signal(kind), "signals cannot be listened for")
}

/// Waits until standard input stops being a terminal; forever if it is none. SIGHUP is not enough: the system sends it
/// to the leader of the terminal's session, and `make` does not pass it on. Nothing is read, because reading would stop
/// a job in the background.
async fn hung_up() {
    if !stdin().is_terminal() {
        return std::future::pending().await;
    }
    while stdin().is_terminal() {
        sleep(TERMINAL_POLL).await;
    }
}
