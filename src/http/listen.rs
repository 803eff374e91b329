//! Accepting connections, each with limits on time and size (hyper's builder; bare `axum::serve` has none).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody;
use axum::http::Request;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
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
    // Longer than proxies keep an idle connection (Fly 60 s, cloudflared 90 s, Caddy 120 s): where we closed it first,
    // their next request could be on its way.
    next_head: Duration::from_secs(150),
    // No handler takes half of it.
    answer: Duration::from_secs(30),
};
/// The most that a request's head may hold.
const MAX_HEAD: usize = 16 * 1024;
/// How long to wait when the system has no socket for us, or a connection that is to make room answers before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `routes` until `stop`; connections that are upgraded live on. At most `limit` connections at once: for one
/// more the longest idle one is closed, and where none is idle, it waits.
pub async fn listen(listener: TcpListener, routes: Router, limit: usize, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limit));
    let idle = Arc::new(Idle::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((socket, _)) = accepted else {
            // Mostly there are no descriptors left.
            idle.close_longest();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let place = tokio::select! {
            place = place(&room, &idle) => place.ok(),
            // The last one, which was let in, is answered beyond the limit.
            () = stop.cancelled() => None,
        };
        let _ = socket.set_nodelay(true);
        let (routes, idle, stop) = (routes.clone(), idle.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            converse(socket, routes, PATIENCE, idle, stop).await;
        });
    }
    // Refused, a proxy takes the next one elsewhere; waiting here, it would be cut off when the process ends.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// A place for one more connection. A webhook shall not wait for what strangers, or proxies, keep open and do not use.
async fn place(room: &Arc<Semaphore>, idle: &Idle) -> Result<OwnedSemaphorePermit, AcquireError> {
    loop {
        if room.available_permits() == 0 {
            idle.close_longest();
        }
        if let Ok(place) = timeout(ACCEPT_PAUSE, room.clone().acquire_owned()).await {
            return place;
        }
    }
}

/// The connections on which no request is under way, the longest idle first. A request is under way from when all of it
/// is here until its answer is given: a stranger who sends a part, or does not read, is as idle as one who is silent.
#[derive(Debug, Default)]
struct Idle(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    turns: u64,
    /// By turn, what tells a connection to close.
    close: BTreeMap<u64, Arc<Notify>>,
}

impl Idle {
    fn close_longest(&self) {
        if let Some((_, close)) = self.lock().close.pop_first() {
            close.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held; and were it so, the queue is whole between any two statements.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One connection's turn among the idle ones.
struct Turn {
    idle: Arc<Idle>,
    close: Arc<Notify>,
    /// [`Turn::ASKED`], or its key in the queue. Written under the queue's lock.
    turn: AtomicU64,
}

impl Turn {
    /// No key: they count from 1.
    const ASKED: u64 = 0;

    fn new(idle: Arc<Idle>) -> Arc<Self> {
        Arc::new(Self { idle, close: Arc::default(), turn: AtomicU64::new(Self::ASKED) })
    }

    /// It is idle from now on, if it was not before.
    fn begin(&self) {
        let mut queue = self.idle.lock();
        if self.turn.load(Ordering::Relaxed) == Self::ASKED {
            queue.turns += 1;
            let turn = queue.turns;
            queue.close.insert(turn, self.close.clone());
            self.turn.store(turn, Ordering::Relaxed);
        }
    }

    /// It is asked, or gone.
    fn end(&self) {
        self.idle.lock().close.remove(&self.turn.swap(Self::ASKED, Ordering::Relaxed));
    }

    /// Whether no request is under way.
    fn is_idle(&self) -> bool {
        let _queue = self.idle.lock();
        self.turn.load(Ordering::Relaxed) != Self::ASKED
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request's body: while more of it is waited for, its connection is idle.
struct Awaited<B> {
    body: B,
    turn: Arc<Turn>,
}

impl<B: HttpBody + Unpin> HttpBody for Awaited<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            self.turn.begin();
        } else {
            self.turn.end();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers the requests of one connection, until it ends, is upgraded or is left idle; after `stop`, or where it is to
/// make room, only the one under way.
async fn converse<S>(socket: S, routes: Router, patience: Patience, idle: Arc<Idle>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(Notify::new());
    let routes = TowerToHyperService::new(routes);
    let heard = asked.clone();
    let turn = Turn::new(idle);
    turn.begin();
    let served = turn.clone();
    let service = service_fn(move |request: Request<_>| {
        heard.notify_one();
        let turn = served.clone();
        turn.end();
        let answer = routes.call(request.map(|body| Awaited { body, turn: turn.clone() }));
        async move {
            let answer = answer.await;
            turn.begin();
            answer
        }
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
            biased;
            // First: a request that is here already is answered, though it is to stop, or to make room.
            _ = connection.as_mut() => return,
            () = stop.cancelled() => break,
            () = turn.close.notified() => match turn.is_idle() {
                true => return,
                // It was asked since it was told, and goes when that is answered: were it to stay, who asks on and on
                // would keep the place.
                false => connection.as_mut().graceful_shutdown(),
            },
            heard = timeout(quiet, asked.notified()) => match heard {
                Ok(()) => quiet = patience.answer + patience.next_head,
                // Nothing is under way: who does not read the answers gets no further request in.
                Err(_) => return,
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(quiet.min(patience.answer), connection).await;
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
        (client, tokio::spawn(converse(server, routes, patience, Arc::default(), CancellationToken::new())))
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
        assert!(PATIENCE.next_head > Duration::from_secs(120), "Caddy forgets an idle connection first");
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room_and_none_that_is_asked() {
        let asked = Arc::new(Notify::new());
        let told = asked.clone();
        let slow = move || async move {
            told.notify_one();
            std::future::pending::<()>().await;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "x")).route("/slow", get(slow));
        let _listening = tokio::spawn(listen(listener, routes, 3, CancellationToken::new()));
        let connect = async || TcpStream::connect(address).await.unwrap();
        let answers = async |client: &mut TcpStream| {
            client.write_all(ASK).await.unwrap();
            let read = timeout(Duration::from_secs(5), client.read(&mut [0; 512])).await;
            read.expect("it is answered, or closed").is_ok_and(|read| read > 0)
        };
        let mut under_way = connect().await;
        under_way.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        asked.notified().await;
        let mut silent = connect().await;
        let mut proxy = connect().await;
        assert!(answers(&mut proxy).await);
        let mut webhook = connect().await;
        assert!(answers(&mut webhook).await, "who said nothing makes room");
        assert!(!answers(&mut silent).await);
        assert!(answers(&mut proxy).await);
        let mut another = connect().await;
        assert!(answers(&mut another).await, "who asked long ago makes room");
        assert!(!answers(&mut webhook).await);
        assert!(answers(&mut proxy).await);
        let cut = timeout(SHORT, under_way.read(&mut [0; 512])).await;
        assert!(cut.is_err(), "its answer is waited for");
    }

    #[tokio::test]
    async fn a_part_of_a_request_or_an_unread_answer_keeps_no_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let read = async |body: axum::body::Bytes| format!("{} bytes", body.len());
        let large = async || "x".repeat(50_000_000);
        let routes = Router::new().route("/", get(async || "x").post(read)).route("/large", get(large));
        let _listening = tokio::spawn(listen(listener, routes, 1, CancellationToken::new()));
        for part in [
            "",
            "G",
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nCall",
            "GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut stranger = TcpStream::connect(address).await.unwrap();
            stranger.write_all(part.as_bytes()).await.unwrap();
            tokio::time::sleep(SHORT).await;
            let mut webhook = TcpStream::connect(address).await.unwrap();
            webhook.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n").await.unwrap();
            webhook.write_all(b"CallSid=CA").await.unwrap();
            let mut answer = [0; 512];
            let answered = timeout(Duration::from_secs(5), webhook.read(&mut answer)).await;
            let length = answered.unwrap_or_else(|_| panic!("{part:?} keeps the place")).unwrap();
            assert!(answer[..length].ends_with(b"10 bytes"), "{part:?}");
        }
    }

    #[tokio::test]
    async fn one_let_in_while_every_place_is_taken_is_answered_though_it_stops() {
        let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, wait) = (asked.clone(), answer.clone());
        let slow = move || async move {
            told.notify_one();
            wait.notified().await;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "x")).route("/slow", get(slow));
        let stop = CancellationToken::new();
        let listening = tokio::spawn(listen(listener, routes, 1, stop.clone()));
        let mut under_way = TcpStream::connect(address).await.unwrap();
        under_way.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        asked.notified().await;
        let mut waits = TcpStream::connect(address).await.unwrap();
        waits.write_all(ASK).await.unwrap();
        tokio::time::sleep(SHORT).await;
        stop.cancel();
        let mut read = String::new();
        timeout(Duration::from_secs(5), waits.read_to_string(&mut read)).await.unwrap().unwrap();
        assert!(read.starts_with("HTTP/1.1 200"), "{read}");
        answer.notify_one();
        listening.await.unwrap();
    }

    #[tokio::test]
    async fn one_whose_body_comes_late_is_answered_before_it_makes_room() {
        let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, wait) = (asked.clone(), answer.clone());
        let slow = move |body: axum::body::Bytes| async move {
            told.notify_one();
            wait.notified().await;
            format!("{} bytes", body.len())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", axum::routing::post(slow));
        let _listening = tokio::spawn(listen(listener, routes, 2, CancellationToken::new()));
        let mut webhook = TcpStream::connect(address).await.unwrap();
        webhook.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n").await.unwrap();
        tokio::time::sleep(SHORT).await;
        webhook.write_all(b"CallSid=CA").await.unwrap();
        asked.notified().await;
        let mut strangers = Vec::new();
        for _ in 0..3 {
            strangers.push(TcpStream::connect(address).await.unwrap());
            tokio::time::sleep(SHORT).await;
        }
        answer.notify_one();
        let mut read = [0; 512];
        let length = timeout(Duration::from_secs(5), webhook.read(&mut read)).await.unwrap().unwrap();
        assert!(read[..length].ends_with(b"10 bytes"));
    }

    #[tokio::test]
    async fn one_that_is_asked_when_it_is_told_to_make_room_or_to_stop_answers_first() {
        // Which is seen first must not be chance.
        for at in 0..32 {
            let (mut client, server) = tokio::io::duplex(1024);
            let slow = async || {
                tokio::task::yield_now().await;
                "done"
            };
            let routes = Router::new().route("/", get(slow));
            let (idle, stop) = (Arc::new(Idle::default()), CancellationToken::new());
            let connection = tokio::spawn(converse(server, routes, PATIENCE, idle.clone(), stop.clone()));
            tokio::task::yield_now().await;
            client.write_all(ASK).await.unwrap();
            match at % 2 {
                0 => idle.close_longest(),
                _ => stop.cancel(),
            }
            let mut read = String::new();
            let closed = timeout(Duration::from_secs(5), client.read_to_string(&mut read)).await;
            closed.expect("it is closed").unwrap();
            assert!(read.ends_with("done"), "{at}: {read}");
            ended(connection).await;
        }
    }

    /// The limit is the whole process's, so the test runs itself in another one.
    #[test]
    fn where_descriptors_are_used_up_an_idle_connection_makes_room() {
        const NAME: &str = "http::listen::tests::where_descriptors_are_used_up_an_idle_connection_makes_room";
        const ALONE: &str = "SWITCHBOARD_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            tokio::runtime::Runtime::new().unwrap().block_on(take_the_last_descriptor());
            return;
        }
        let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
        let output = itself.args([NAME, "--exact"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    async fn take_the_last_descriptor() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        use std::os::fd::AsRawFd as _;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(async || "x"));
        let _listening = tokio::spawn(listen(listener, routes, 100, CancellationToken::new()));
        let mut silent = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(SHORT).await;
        let webhook = tokio::net::TcpSocket::new_v4().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // All below are taken: a new one has the least number that is free.
        let all = u64::try_from(webhook.as_raw_fd()).unwrap() + 1;
        setrlimit(Resource::RLIMIT_NOFILE, all, hard).unwrap();
        let mut webhook = webhook.connect(address).await.unwrap();
        webhook.write_all(ASK).await.unwrap();
        let read = async |socket: &mut TcpStream| {
            let read = timeout(Duration::from_secs(5), socket.read(&mut [0; 512])).await;
            read.expect("it is answered, or closed").unwrap()
        };
        assert!(read(&mut webhook).await > 0);
        assert_eq!(read(&mut silent).await, 0, "it made room");
    }

    #[tokio::test]
    async fn who_does_not_read_the_answers_is_left() {
        let patience = Patience { first_head: LONG, next_head: SHORT, answer: SHORT };
        let (mut client, stalled) = connected(100_000, patience);
        client.write_all(&ASK.repeat(20)).await.unwrap();
        ended(stalled).await;
    }
}
