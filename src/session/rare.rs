//! A bounded channel that is almost always empty. A session looks into it whenever anything happens, so looking must
//! cost little: tokio's own receiver looks twice and registers, for each of the caller's frames.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::mpsc::{self, error::TrySendError};

/// A channel that holds at most `capacity` values.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let bell = Arc::new(AtomicWaker::new());
    (Sender { sender, bell: bell.clone() }, Receiver { receiver, bell })
}

/// See the module.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
    /// Wakes the receiver, after the value is there.
    bell: Arc<AtomicWaker>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> Sender<T> {
    /// # Errors
    /// If the channel is full, or the receiver gone.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(value)?;
        self.bell.wake();
        Ok(())
    }

    /// Waits for room. A receiver that is gone gets nothing.
    pub async fn send(&self, value: T) {
        if self.sender.send(value).await.is_ok() {
            self.bell.wake();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
    bell: Arc<AtomicWaker>,
}

impl<T> Receiver<T> {
    /// The next value. Never ready once all senders are gone.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.bell.register(cx.waker());
        if self.receiver.is_empty() {
            return Poll::Pending;
        }
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(value)) => Poll::Ready(value),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The next value. Cancel-safe.
    pub async fn recv(&mut self) -> T {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// A value that is here already.
    pub fn try_recv(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Nothing can be sent any more. What was sent before can be received.
    pub fn close(&mut self) {
        self.receiver.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_value_wakes_the_task_that_waits() {
        let (sender, mut receiver) = channel(2);
        let sending = tokio::spawn(async move {
            for number in 0..10_000 {
                sender.send(number).await;
            }
            sender
        });
        for number in 0..10_000 {
            assert_eq!(receiver.recv().await, number);
        }
        let sender = sending.await.unwrap();
        sender.try_send(1).unwrap();
        receiver.close();
        assert!(sender.try_send(2).is_err());
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Some(1), None));
        assert!(poll_fn(|cx| Poll::Ready(receiver.poll(cx))).await.is_pending());
    }
}
