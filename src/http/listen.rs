//! Accepts connections with limits on time and size, which `axum::serve` does not have.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use axum::{Extension, Router};
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// The head of the first request.
    first_head: Duration,
    /// The head of the next request, including the pause before it.
    next_head: Duration,
    /// A request, from its head until its answer is read.
    answer: Duration,
}

const PATIENCE: Patience = Patience {
    first_head: Duration::from_secs(15),
    // Longer than proxies keep an idle connection (Fly 60 s, cloudflared 90 s, Caddy 120 s). If we closed it first, a
    // request could be on its way.
    next_head: Duration::from_secs(150),
    // No handler takes half as long.
    answer: Duration::from_secs(30),
};
/// How long a client may read nothing of an answer.
const UNREAD: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The pause if the system has no socket for us, or while a connection that must make room finishes its answer.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The other end of a request's connection, which may be a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves `routes` until `stop`; upgraded connections live on. If `limit` connections are open, the next one makes the
/// longest idle one close, or waits if none is idle.
pub async fn listen(listener: TcpListener, routes: Router, limit: usize, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limit));
    let idle = Arc::new(Idle::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((socket, peer)) = accepted else {
            // Usually no descriptors are left.
            idle.close_longest();
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let place = tokio::select! {
            place = place(&room, &idle) => place.ok(),
            // This connection was accepted, so it is answered beyond the limit.
            () = stop.cancelled() => None,
        };
        let _ = socket.set_nodelay(true);
        let (routes, idle, stop) = (routes.clone(), idle.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let routes = routes.layer(Extension(Peer(peer)));
            serve(socket, routes, PATIENCE, idle, stop).await;
        });
    }
    // A proxy takes a refused connection elsewhere; one that waits here would be cut off when the process ends.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// A place for one more connection. Idle connections of strangers and proxies must not delay a webhook.
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

/// The idle connections, the longest idle first. A connection is busy from when a whole request is here until it is
/// answered; a client that sends only a part, or does not read, is idle.
#[derive(Debug, Default)]
struct Idle(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    turns: u64,
    /// By turn, what makes a connection close.
    close: BTreeMap<u64, Arc<Notify>>,
}

impl Idle {
    fn close_longest(&self) {
        if let Some((_, close)) = self.lock().close.pop_first() {
            close.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Even after a panic, the queue is consistent between any two statements.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One connection's turn among the idle ones.
struct Turn {
    idle: Arc<Idle>,
    close: Arc<Notify>,
    /// Its key in the queue, or [`Turn::BUSY`]. Written under the queue's lock.
    turn: AtomicU64,
}

impl Turn {
    /// Not a key: keys count from 1.
    const BUSY: u64 = 0;

    fn new(idle: Arc<Idle>) -> Arc<Self> {
        Arc::new(Self { idle, close: Arc::default(), turn: AtomicU64::new(Self::BUSY) })
    }

    /// The connection is idle, if it was not before.
    fn begin(&self) {
        let mut queue = self.idle.lock();
        if self.turn.load(Ordering::Relaxed) == Self::BUSY {
            queue.turns += 1;
            let turn = queue.turns;
            queue.close.insert(turn, self.close.clone());
            self.turn.store(turn, Ordering::Relaxed);
        }
    }

    /// The connection is busy, or gone.
    fn end(&self) {
        self.idle.lock().close.remove(&self.turn.swap(Self::BUSY, Ordering::Relaxed));
    }

    fn is_idle(&self) -> bool {
        let _queue = self.idle.lock();
        self.turn.load(Ordering::Relaxed) != Self::BUSY
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request's body. While the rest of it has not come, its connection is idle.
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

/// An answer that goes on for as long as its client reads it. Its connection is not idle.
#[derive(Debug, Clone, Copy)]
pub struct Streaming;

/// The body of an answer.
struct Answer {
    body: Body,
    /// Held while a [`Streaming`] one goes on.
    _streams: Option<Streams>,
}

/// A connection's answer goes on and on.
struct Streams {
    turn: Arc<Turn>,
    flag: Arc<AtomicBool>,
    /// Makes the connection count its time again.
    ended: Arc<Notify>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.flag.store(false, Ordering::Release);
        self.turn.begin();
        self.ended.notify_one();
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose client must read: once it accepts nothing for [`UNREAD`], writing fails.
#[derive(Debug)]
pub struct Impatient<S> {
    socket: S,
    /// Runs while the socket accepts nothing.
    unread: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(socket: S) -> Self {
        Self { socket, unread: None }
    }

    pub fn into_inner(self) -> S {
        self.socket
    }

    /// The result of a write, or an error if the client has read nothing for too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        ready!(self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bytes);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.socket).poll_flush(cx);
        self.judge(written, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Answers the requests of one connection until it ends, is upgraded or stays idle. After `stop`, or to make room, it
/// only finishes the request under way.
async fn serve<S>(socket: S, routes: Router, patience: Patience, idle: Arc<Idle>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(Notify::new());
    let routes = TowerToHyperService::new(routes);
    let request_came = asked.clone();
    let turn = Turn::new(idle);
    turn.begin();
    let served = turn.clone();
    let streaming = Arc::<AtomicBool>::default();
    let (flag, ended) = (streaming.clone(), asked.clone());
    let service = service_fn(move |request: Request<_>| {
        request_came.notify_one();
        let turn = served.clone();
        turn.end();
        let answer = routes.call(request.map(|body| Awaited { body, turn: turn.clone() }));
        let (flag, ended) = (flag.clone(), ended.clone());
        async move {
            let answer = answer.await?;
            let streams = answer.extensions().get::<Streaming>().is_some().then(|| {
                flag.store(true, Ordering::Release);
                Streams { turn: turn.clone(), flag, ended }
            });
            if streams.is_none() {
                turn.begin();
            }
            Ok::<_, Infallible>(answer.map(|body| Answer { body, _streams: streams }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.next_head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Impatient::new(socket)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut quiet = patience.first_head;
    // hyper answers a broken request itself, as far as possible.
    loop {
        tokio::select! {
            biased;
            // First: a request that is here already is answered, even if the connection must close.
            _ = connection.as_mut() => return,
            () = stop.cancelled() => break,
            () = turn.close.notified() => match turn.is_idle() {
                true => return,
                // A new request came meanwhile. The connection closes after its answer, or endless requests would keep
                // the place.
                false => connection.as_mut().graceful_shutdown(),
            },
            came = timeout(quiet, asked.notified()) => match came {
                Ok(()) => quiet = patience.answer + patience.next_head,
                // Its client reads: what it does not accept in time ends the connection.
                Err(_) if streaming.load(Ordering::Acquire) => {}
                // Nothing is under way: a client that does not read its answers cannot send another request.
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
    use tokio::time::sleep;

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const ASK_SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
    const POST_HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    const POST_BODY: &[u8] = b"CallSid=CA";
    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);
    const LIMIT: Duration = Duration::from_secs(5);

    /// A listener whose slow routes report each request and answer when they may.
    struct Listening {
        address: SocketAddr,
        came: Arc<Notify>,
        answer: Arc<Notify>,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Listening {
        async fn start(limit: usize) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (came, answer, stop) =
                (Arc::<Notify>::default(), Arc::<Notify>::default(), CancellationToken::new());
            let (report, wait) = (came.clone(), answer.clone());
            let slow = async move |body: Bytes| {
                report.notify_one();
                wait.notified().await;
                format!("{} bytes", body.len())
            };
            let read = async |body: Bytes| format!("{} bytes", body.len());
            let routes = Router::new()
                .route("/", get(async || "x").post(read))
                .route("/large", get(async || "x".repeat(50_000_000)))
                .route("/slow", get(slow.clone()).post(slow));
            let task = tokio::spawn(listen(listener, routes, limit, stop.clone()));
            Self { address, came, answer, stop, task }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// A connection with a request to `/slow` under way.
        async fn busy(&self) -> TcpStream {
            let mut busy = self.connect().await;
            busy.write_all(ASK_SLOW).await.unwrap();
            self.came.notified().await;
            busy
        }
    }

    /// What comes next, until the answer or the end.
    async fn read(client: &mut TcpStream) -> String {
        let mut answer = [0; 512];
        let read = timeout(LIMIT, client.read(&mut answer)).await.expect("an answer, or the end");
        String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
    }

    #[tokio::test]
    async fn after_stop_a_request_under_way_is_answered_and_new_connections_are_refused() {
        let listening = Listening::start(8).await;
        let mut busy = listening.busy().await;
        listening.stop.cancel();
        let refused = async {
            while TcpStream::connect(listening.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, refused).await.expect("the listener is closed");
        listening.answer.notify_one();
        assert!(read(&mut busy).await.ends_with("0 bytes"));
        listening.task.await.unwrap();
    }

    /// A connection to `/`, which answers with this many bytes, and the connection's task.
    fn connected(answer: usize, patience: Patience) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(1024);
        let routes = Router::new().route("/", get(move || async move { "x".repeat(answer) }));
        (client, tokio::spawn(serve(server, routes, patience, Arc::default(), CancellationToken::new())))
    }

    async fn ended(connection: JoinHandle<()>) {
        timeout(LIMIT, connection).await.expect("the connection closes").unwrap();
    }

    #[tokio::test]
    async fn a_silent_connection_closes_sooner_than_a_used_one() {
        let patience = Patience { first_head: SHORT, next_head: LONG, answer: LONG };
        let (mut proxy, _asked) = connected(1, patience);
        let (_stranger, silent) = connected(1, patience);
        let mut answer = [0; 512];
        proxy.write_all(ASK).await.unwrap();
        assert!(proxy.read(&mut answer).await.unwrap() > 0);
        ended(silent).await;
        proxy.write_all(ASK).await.unwrap();
        assert!(proxy.read(&mut answer).await.unwrap() > 0, "an answer after the same pause");

        let (mut proxy, asked) = connected(1, Patience { first_head: LONG, next_head: SHORT, answer: LONG });
        proxy.write_all(ASK).await.unwrap();
        ended(asked).await;
        assert!(PATIENCE.next_head > Duration::from_secs(120), "Caddy closes an idle connection first");
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room_and_a_busy_one_does_not() {
        let listening = Listening::start(3).await;
        let answers = async |client: &mut TcpStream| {
            client.write_all(ASK).await.unwrap();
            !read(client).await.is_empty()
        };
        let mut busy = listening.busy().await;
        let mut silent = listening.connect().await;
        let mut proxy = listening.connect().await;
        assert!(answers(&mut proxy).await);
        let mut webhook = listening.connect().await;
        assert!(answers(&mut webhook).await, "the silent one makes room");
        assert!(!answers(&mut silent).await);
        assert!(answers(&mut proxy).await);
        let mut another = listening.connect().await;
        assert!(answers(&mut another).await, "the one that asked longest ago makes room");
        assert!(!answers(&mut webhook).await);
        assert!(answers(&mut proxy).await);
        let cut = timeout(SHORT, busy.read(&mut [0; 512])).await;
        assert!(cut.is_err(), "the busy one stays open");
    }

    #[tokio::test]
    async fn an_incomplete_request_or_an_unread_answer_does_not_keep_its_place() {
        let listening = Listening::start(1).await;
        let part_of_body = [POST_HEAD, b"Call"].concat();
        for part in [
            &b""[..],
            b"G",
            b"GET / HTTP/1.1\r\nHost: x\r\n",
            POST_HEAD,
            &part_of_body,
            b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut stranger = listening.connect().await;
            stranger.write_all(part).await.unwrap();
            sleep(SHORT).await;
            let mut webhook = listening.connect().await;
            webhook.write_all(POST_HEAD).await.unwrap();
            webhook.write_all(POST_BODY).await.unwrap();
            let part = String::from_utf8_lossy(part);
            assert!(read(&mut webhook).await.ends_with("10 bytes"), "{part:?} keeps the place");
        }
    }

    #[tokio::test]
    async fn an_accepted_connection_without_a_place_is_answered_after_stop() {
        let listening = Listening::start(1).await;
        let _busy = listening.busy().await;
        let mut waits = listening.connect().await;
        waits.write_all(ASK).await.unwrap();
        sleep(SHORT).await;
        listening.stop.cancel();
        assert!(read(&mut waits).await.starts_with("HTTP/1.1 200"));
        listening.answer.notify_one();
        listening.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_with_a_late_body_is_answered_before_it_makes_room() {
        let listening = Listening::start(2).await;
        let mut webhook = listening.connect().await;
        webhook.write_all(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n").await.unwrap();
        sleep(SHORT).await;
        webhook.write_all(POST_BODY).await.unwrap();
        listening.came.notified().await;
        let mut strangers = Vec::new();
        for _ in 0..3 {
            strangers.push(listening.connect().await);
            sleep(SHORT).await;
        }
        listening.answer.notify_one();
        assert!(read(&mut webhook).await.ends_with("10 bytes"));
    }

    #[tokio::test]
    async fn a_request_that_comes_with_stop_or_the_call_to_make_room_is_answered() {
        // The order must not be chance.
        for at in 0..32 {
            let (mut client, server) = tokio::io::duplex(1024);
            let slow = async || {
                tokio::task::yield_now().await;
                "done"
            };
            let routes = Router::new().route("/", get(slow));
            let (idle, stop) = (Arc::new(Idle::default()), CancellationToken::new());
            let connection = tokio::spawn(serve(server, routes, PATIENCE, idle.clone(), stop.clone()));
            tokio::task::yield_now().await;
            client.write_all(ASK).await.unwrap();
            match at % 2 {
                0 => idle.close_longest(),
                _ => stop.cancel(),
            }
            let mut answer = String::new();
            let closed = timeout(LIMIT, client.read_to_string(&mut answer)).await;
            closed.expect("the connection closes").unwrap();
            assert!(answer.ends_with("done"), "{at}: {answer}");
            ended(connection).await;
        }
    }

    /// The limit is the whole process's, so the test runs itself in a new process.
    #[test]
    fn without_descriptors_an_idle_connection_makes_room() {
        const NAME: &str = "http::listen::tests::without_descriptors_an_idle_connection_makes_room";
        if crate::process::is_alone(NAME) {
            tokio::runtime::Runtime::new().unwrap().block_on(take_the_last_descriptor());
        }
    }

    async fn take_the_last_descriptor() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        use std::os::fd::AsRawFd as _;
        let listening = Listening::start(100).await;
        let mut silent = listening.connect().await;
        sleep(SHORT).await;
        let webhook = tokio::net::TcpSocket::new_v4().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // A new descriptor gets the lowest free number, so all below are taken.
        let all = u64::try_from(webhook.as_raw_fd()).unwrap() + 1;
        setrlimit(Resource::RLIMIT_NOFILE, all, hard).unwrap();
        let mut webhook = webhook.connect(listening.address).await.unwrap();
        webhook.write_all(ASK).await.unwrap();
        assert!(!read(&mut webhook).await.is_empty());
        assert!(read(&mut silent).await.is_empty(), "the silent one made room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_of_an_answer_is_cut_off() {
        let patience = Patience { first_head: LONG, next_head: LONG, answer: LONG };
        let (mut client, connection) = connected(100_000, patience);
        let began = tokio::time::Instant::now();
        client.write_all(ASK).await.unwrap();
        timeout(LONG, connection).await.expect("it is cut off").unwrap();
        assert_eq!(began.elapsed(), UNREAD);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_disconnected() {
        let patience = Patience { first_head: LONG, next_head: SHORT, answer: SHORT };
        let (mut client, stalled) = connected(100_000, patience);
        client.write_all(&ASK.repeat(20)).await.unwrap();
        ended(stalled).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_goes_on_is_neither_cut_nor_evicted_until_it_ends() {
        let (mut client, server) = tokio::io::duplex(1024);
        let route = get(async || {
            let body = futures_util::stream::unfold(0, async |sent| {
                sleep(LONG).await;
                (sent < 3).then(|| (Ok::<_, Infallible>("event"), sent + 1))
            });
            (Extension(Streaming), Body::from_stream(body))
        });
        let idle = Arc::new(Idle::default());
        let patience = Patience { first_head: SHORT, next_head: SHORT, answer: SHORT };
        let routes = Router::new().route("/", route);
        let connection =
            tokio::spawn(serve(server, routes, patience, idle.clone(), CancellationToken::new()));
        client.write_all(ASK).await.unwrap();
        let (mut answer, mut part) = (String::new(), [0; 512]);
        while !answer.ends_with("0\r\n\r\n") {
            let read = client.read(&mut part).await.unwrap();
            assert!(read > 0, "it is cut off: {answer}");
            answer.push_str(&String::from_utf8_lossy(&part[..read]));
            // Somebody else needs a place.
            idle.close_longest();
        }
        assert_eq!(answer.matches("event").count(), 3, "{answer}");
        // From here on the connection is idle, as any other.
        ended(connection).await;
    }
}
