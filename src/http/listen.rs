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
    // Refused, a proxy takes the next one elsewhere; waiting here, it would be cut off when the process ends.
    drop(listener);
    connections.close();
    connections.wait().await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_that_stops_answers_what_it_was_asked_and_refuses_the_next() {
        let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, wait) = (asked.clone(), answer.clone());
        let slow = move || async move {
            told.notify_one();
            wait.notified().await;
            "done"
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let listening = tokio::spawn(listen(listener, Router::new().route("/", get(slow)), 8, stop.clone()));
        let mut under_way = TcpStream::connect(address).await.unwrap();
        under_way.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        asked.notified().await;
        stop.cancel();
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), refused).await.expect("nobody listens any more");
        answer.notify_one();
        let mut read = String::new();
        under_way.read_to_string(&mut read).await.unwrap();
        assert!(read.ends_with("done"), "{read}");
        listening.await.unwrap();
    }
}
