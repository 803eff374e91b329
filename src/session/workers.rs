//! The threads on which sessions run.
//!
//! Each thread has its own runtime: a call's task, sockets and timer stay on one thread, so that a frame wakes no other
//! thread. Webhooks, tools and reloads run elsewhere and do not delay audio. A thread is filled before the next is used:
//! a thread that sleeps between two frames costs more than one that finds the next frame waiting.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A thread with so many sessions is full: it has used a seventh of a core of 2025. Once all are full, each new session
/// goes to the one that has the fewest.
const FULL: usize = 128;

/// See the module.
pub(super) struct Workers {
    threads: Vec<Worker>,
    /// The runtime that this was made in.
    home: Handle,
}

struct Worker {
    runtime: Handle,
    sessions: Arc<AtomicUsize>,
    stop: CancellationToken,
    /// Closed once the thread has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// A session's place on a thread.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// As many threads as the current runtime has. A runtime of one thread runs the sessions itself.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start() -> io::Result<Self> {
        let home = Handle::current();
        let threads = match home.runtime_flavor() {
            RuntimeFlavor::CurrentThread => Vec::new(),
            _ => (0..home.metrics().num_workers()).map(Worker::start).collect::<io::Result<_>>()?,
        };
        Ok(Self { threads, home })
    }

    /// Where work beside the calls runs.
    pub fn home(&self) -> &Handle {
        &self.home
    }

    /// Ends the threads, and the sessions that still run there.
    pub async fn stop(&self) {
        for worker in &self.threads {
            worker.stop.cancel();
        }
        for worker in &self.threads {
            let ended = worker.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(ended) = ended {
                let _ = ended.await;
            }
        }
    }

    /// Runs a session on one of the threads.
    pub fn spawn(&self, tracker: &TaskTracker, session: impl Future<Output = ()> + Send + 'static) {
        let sessions = |worker: &&Worker| worker.sessions.load(Ordering::Relaxed);
        let with_room = self.threads.iter().filter(|worker| sessions(worker) < FULL).max_by_key(sessions);
        let Some(worker) = with_room.or_else(|| self.threads.iter().min_by_key(sessions)) else {
            return drop(tracker.spawn(session));
        };
        worker.sessions.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(worker.sessions.clone());
        // Boxed, because a future that a block captures and awaits takes its room twice.
        let session = Box::pin(session);
        let seated = async move {
            let _seat = seat;
            session.await;
        };
        tracker.spawn_on(seated, &worker.runtime);
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("calls-{number}")).spawn(move || {
            runtime.block_on(stopped.cancelled());
            runtime.shutdown_background();
            drop(running);
        })?;
        let ended = Mutex::new(Some(ended));
        Ok(Self { runtime: handle, sessions: Arc::default(), stop, ended })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn threads_are_filled_one_after_another_and_sessions_stay_on_theirs() {
        let (workers, tracker) = (Workers::start().unwrap(), TaskTracker::new());
        let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let mut by_thread = BTreeMap::<String, usize>::new();
        for (sessions, expected) in [(FULL, vec![FULL]), (2, vec![2, FULL]), (FULL, vec![FULL + 1, FULL + 1])]
        {
            for _ in 0..sessions {
                let report = report.clone();
                workers.spawn(&tracker, async move {
                    let before = thread::current().id();
                    tokio::task::yield_now().await;
                    assert_eq!(thread::current().id(), before);
                    report.send(format!("{before:?}")).unwrap();
                    std::future::pending().await
                });
            }
            for _ in 0..sessions {
                *by_thread.entry(reports.recv().await.unwrap()).or_default() += 1;
            }
            let mut counts: Vec<usize> = by_thread.values().copied().collect();
            counts.sort();
            assert_eq!(counts, expected);
        }
        workers.stop().await;
        tracker.close();
        tracker.wait().await;
    }
}
