//! Accepting connections, each with limits on time and size (hyper's builder; bare `axum::serve` has none).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long things may take on a connection.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// The head of the first request.
    first_head: Duration,
    /// The head of the next one, the pause before it included.
    next_head: Duration,
    /// A request, from its head to when its answer is read.
    answer: Duration,
}

const PATIENCE: Patience = Patience {
    first_head: Duration::from_secs(15),
    // Longer than proxies keep an idle connection (Fly 60 s, cloudflared 90 s): where we closed it first, their next
    // request could be on its way.
    next_head: Duration::from_secs(120),
    // No handler takes half of it.
    answer: Duration::from_secs(30),
};
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
        let (routes, stop) = (routes.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            converse(socket, routes, PATIENCE, stop).await;
        });
    }
    // Refused, a proxy takes the next one elsewhere; waiting here, it would be cut off when the process ends.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection, until it ends, is upgraded, or is left idle; after `stop` only the one
/// under way.
async fn converse<S>(socket: S, routes: Router, patience: Patience, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(Notify::new());
    let routes = TowerToHyperService::new(routes);
    let heard = asked.clone();
    let service = service_fn(move |request| {
        heard.notify_one();
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.next_head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut quiet = patience.first_head;
    // A stranger's broken request is no concern of ours; hyper has answered it as far as it could.
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => break,
            heard = timeout(quiet, asked.notified()) => match heard {
                Ok(()) => quiet = patience.answer + patience.next_head,
                // Nothing is under way: who does not read the answers gets no further request in.
                Err(_) => return,
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

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

    /// A connection to `/`, which answers with this many bytes, and what ends with the connection.
    fn connected(answer: usize, patience: Patience) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(1024);
        let routes = Router::new().route("/", get(move || async move { "x".repeat(answer) }));
        (client, tokio::spawn(converse(server, routes, patience, CancellationToken::new())))
    }

    async fn ended(connection: JoinHandle<()>) {
        timeout(Duration::from_secs(5), connection).await.expect("it is closed").unwrap();
    }

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_that_says_nothing_is_closed_sooner_than_one_that_asked() {
        let patience = Patience { first_head: SHORT, next_head: LONG, answer: LONG };
        let (mut proxy, _asked) = connected(1, patience);
        let (_stranger, silent) = connected(1, patience);
        let mut answer = [0; 512];
        proxy.write_all(ASK).await.unwrap();
        assert!(proxy.read(&mut answer).await.unwrap() > 0);
        ended(silent).await;
        proxy.write_all(ASK).await.unwrap();
        assert!(proxy.read(&mut answer).await.unwrap() > 0, "the pause was as long, and it is answered");

        let (mut proxy, asked) = connected(1, Patience { first_head: LONG, next_head: SHORT, answer: LONG });
        proxy.write_all(ASK).await.unwrap();
        ended(asked).await;
        assert!(PATIENCE.next_head > Duration::from_secs(90), "cloudflared forgets an idle connection first");
    }

    #[tokio::test]
    async fn who_does_not_read_the_answers_is_left() {
        let patience = Patience { first_head: LONG, next_head: SHORT, answer: SHORT };
        let (mut client, stalled) = connected(100_000, patience);
        client.write_all(&ASK.repeat(20)).await.unwrap();
        ended(stalled).await;
    }
}
