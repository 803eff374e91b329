//! Accepting connections, each with limits on time and size (hyper's builder; bare `axum::serve` has none).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a request's head may take, the pause between two requests on one connection included.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// The most that a request's head may hold.
const MAX_HEAD: usize = 16 * 1024;
/// How long to wait when the system has no socket for us.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `routes` until `stop`; connections that are upgraded live on. At most `limit` connections at once: more
/// wait to be accepted.
pub async fn listen(listener: TcpListener, routes: Router, limit: usize, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limit));
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let place = room.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
            () = stop.cancelled() => break,
        };
        let (Ok(place), Ok((socket, _))) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(routes.clone());
        let stop = stop.clone();
        connections.spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            tokio::pin!(connection);
            // A stranger's broken request is no concern of ours; hyper has answered it as far as it could.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}
