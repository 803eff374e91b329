//! Frames that wait to be sent. The task that owns the socket holds them, so that a barge-in can take them back.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::{Sink, SinkExt};

/// Messages `M` in order, each with a tag `T`.
#[derive(Debug)]
pub struct Outbox<T, M> {
    queue: VecDeque<(T, M)>,
    /// When the first frame began to wait.
    waiting_since: Option<Instant>,
    unflushed: bool,
}

impl<T, M> Outbox<T, M> {
    pub fn new() -> Self {
        Self { queue: VecDeque::new(), waiting_since: None, unflushed: false }
    }

    pub fn push(&mut self, tag: T, message: M) {
        self.waiting_since.get_or_insert_with(super::now);
        self.queue.push_back((tag, message));
    }

    /// Takes back the frames that `keep` rejects.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.queue.retain(|(tag, _)| keep(tag));
        if self.queue.is_empty() {
            self.waiting_since = None;
        }
    }

    /// When the first frame began to wait.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Sends one frame if the socket accepts it, and returns its tag. Flushes when the queue is empty.
    /// A frame leaves the queue only in the step in which the socket accepts it.
    pub fn poll_send<S: Sink<M> + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, S::Error>> {
        if !self.queue.is_empty() {
            ready!(socket.poll_ready_unpin(cx))?;
            if let Some((tag, message)) = self.queue.pop_front() {
                socket.start_send_unpin(message)?;
                self.unflushed = true;
                self.waiting_since = (!self.queue.is_empty()).then(super::now);
                return Poll::Ready(Ok(tag));
            }
        }
        if self.unflushed {
            ready!(socket.poll_flush_unpin(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}
