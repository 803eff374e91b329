//! Frames that wait to be sent. The task that owns the socket holds them, so that a barge-in can take them back.
//!
//! What waits for a peer that does not read is limited twice: the library keeps at most [`MAX_BUFFERED`] bytes of
//! frames that it accepted, pongs included, and a peer that accepts nothing for [`STUCK`] is cut off.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{Sink, SinkExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The most bytes that wait for a peer, in the outbox and again in the library's own buffer.
const MAX_BUFFERED: usize = 256 * 1024;
/// How many bytes the library collects before it writes: a few of the caller's frames that came together. More would only
/// keep a larger buffer for each call. The outbox flushes when it is empty.
const WRITE_BUFFER: usize = 1024;
/// How many frames a link reads before others get their turn: those that are no event, such as pings, end no step.
pub const MAX_FRAMES: usize = 32;
/// How long a peer may accept nothing of what waits for it.
const STUCK: Duration = Duration::from_secs(10);

/// The limits of a socket whose peer's messages have at most `largest` bytes, and ours at most `ours`.
pub fn limits(read_buffer: usize, largest: usize, ours: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_BUFFERED + ours)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}

/// Frames in order, each with a tag `T`.
#[derive(Debug)]
pub struct Outbox<T> {
    queue: VecDeque<(T, Message)>,
    /// The length of the queued frames.
    bytes: usize,
    /// Since when the socket accepts nothing.
    blocked_since: Option<Instant>,
    unflushed: bool,
    /// Sending failed, so nothing is sent any more. What the peer sent before it closed can still be read.
    broken: bool,
}

impl<T> Outbox<T> {
    pub fn new() -> Self {
        Self { queue: VecDeque::new(), bytes: 0, blocked_since: None, unflushed: false, broken: false }
    }

    pub fn push(&mut self, tag: T, message: Message) {
        if self.broken {
            return;
        }
        self.bytes += message.len();
        self.queue.push_back((tag, message));
    }

    /// Takes back the frames that `keep` rejects.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.queue.retain(|(tag, _)| keep(tag));
        self.bytes = self.queue.iter().map(|(_, message)| message.len()).sum();
    }

    /// The library answers a frame of the peer's by itself, such as a ping: its answer must be flushed.
    pub fn must_flush(&mut self) {
        self.unflushed = true;
    }

    /// The socket accepts nothing, and so much waits that nothing more may be queued.
    pub fn is_full(&self) -> bool {
        self.bytes > MAX_BUFFERED && self.blocked_since.is_some()
    }

    /// Since when the socket accepts nothing, although something waits.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    /// When the peer is to be cut off if the socket accepts nothing until then.
    pub fn stuck_deadline(&self) -> Option<Instant> {
        Some(self.blocked_since? + STUCK)
    }

    /// The process stood still: the peer may not have had a chance.
    pub fn stood_still(&mut self, time: Duration) {
        self.blocked_since = self.blocked_since.map(|since| since + time);
    }

    /// Sends one frame if the socket accepts it, and returns its tag. Flushes when the queue is empty.
    /// A frame leaves the queue only in the step in which the socket accepts it.
    pub fn poll_send<S: Sink<Message> + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<T> {
        if self.broken || (self.queue.is_empty() && !self.unflushed) {
            return Poll::Pending;
        }
        match self.try_send(socket, cx) {
            Poll::Ready(Ok(tag)) => Poll::Ready(tag),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => {
                self.broken = true;
                self.queue.clear();
                self.bytes = 0;
                self.blocked_since.get_or_insert_with(super::now);
                Poll::Pending
            }
        }
    }

    fn try_send<S: Sink<Message> + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, S::Error>> {
        // A socket that did not accept everything must do so first: the library would take a frame into its buffer.
        let accepts = match self.queue.is_empty() || self.blocked_since.is_some() {
            true => socket.poll_flush_unpin(cx)?,
            false => socket.poll_ready_unpin(cx)?,
        };
        if accepts.is_pending() {
            self.blocked_since.get_or_insert_with(super::now);
            return Poll::Pending;
        }
        self.blocked_since = None;
        let Some((tag, message)) = self.queue.pop_front() else {
            self.unflushed = false;
            return Poll::Pending;
        };
        self.bytes -= message.len();
        self.unflushed = true;
        socket.start_send_unpin(message)?;
        Poll::Ready(Ok(tag))
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::Write as _;

    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    /// How much memory this process uses, in bytes.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// A peer that sends 30 MB of pings and reads nothing. `step` is our end, which never has a step to report.
    pub async fn a_peer_that_pings_and_never_reads(
        peer: TcpStream,
        masked: bool,
        step: impl Future<Output = ()>,
    ) {
        let mut ping = vec![0x89, 125 | if masked { 0x80 } else { 0 }];
        ping.resize(2 + 125 + if masked { 4 } else { 0 }, 0);
        let pings = ping.repeat(8_000);
        let mut peer = peer.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        let before = resident();
        let (done, sent) = oneshot::channel();
        std::thread::spawn(move || {
            (0..30).for_each(|_| peer.write_all(&pings).unwrap());
            done.send(peer)
        });
        tokio::select! {
            peer = sent => drop(peer.unwrap()),
            () = step => panic!("there is nothing to report"),
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 * 1024 * 1024, "{grown} bytes wait");
    }
}
