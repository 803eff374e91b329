//! The one task that writes. No call waits for it, and it waits for no database.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::call::{Call, Owner};
use super::error::StoreError;
use super::op::{self, Op};
use super::open::{self, Ready};
use super::{Place, Store};
use crate::record::{Entry, RecordId, Recorder, What};

/// Entries that wait for the writer. It takes them at once.
const CHANNEL: usize = 10_000;
/// The longest that something waits for a batch.
const BATCH: Duration = Duration::from_millis(500);
/// Changes in one batch.
const MOST: usize = 500;

/// How to start.
pub struct Options {
    pub place: Place,
    /// The folder for what waits while the database is gone. Without one it waits in memory only.
    pub spill: Option<PathBuf>,
    /// Is told where the recordings of purged calls are.
    pub purged: Option<Arc<dyn Fn(Vec<String>) + Send + Sync>>,
}

/// Takes the entries of calls.
#[derive(Clone)]
pub struct Records(mpsc::Sender<(RecordId, Entry)>);

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

impl Records {
    /// Takes an entry. It never waits: what has no room is dropped and counted.
    pub fn file(&self, id: &RecordId, entry: Entry) {
        let _ = self.0.try_send((id.clone(), entry));
    }
}

/// Ends the writer.
#[derive(Debug)]
pub struct Closer {
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Closer {
    /// Writes what waits, for at most so long; then the rest stays in the spill folder, or is lost.
    pub async fn close(self, within: Duration) {
        let Self { stop, mut task } = self;
        let _ = stop.send(());
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Starts the writer. It never fails: the database is opened beside the calls, and again when it is gone.
pub fn start(options: Options) -> (Records, Store, Closer) {
    let (sender, entries) = mpsc::channel(CHANNEL);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let store = Store::unconnected();
    let writer = Writer {
        place: options.place,
        store: store.clone(),
        process: ulid::Ulid::generate().to_string(),
        live: HashMap::new(),
        queue: VecDeque::new(),
    };
    let task = tokio::spawn(writer.run(entries, stopped));
    (Records(sender), store, Closer { stop, task })
}

struct Writer {
    place: Place,
    store: Store,
    process: String,
    live: HashMap<RecordId, Live>,
    queue: VecDeque<Op>,
}

/// A call that runs.
struct Live {
    recorder: Recorder,
    owner: Owner,
    keep_until_ms: Option<i64>,
    seq: i64,
}

impl Writer {
    async fn run(
        mut self,
        mut entries: mpsc::Receiver<(RecordId, Entry)>,
        mut stopped: tokio::sync::oneshot::Receiver<()>,
    ) {
        let mut tick = tokio::time::interval(BATCH);
        let mut next_try = Instant::now();
        loop {
            let mut is_over = false;
            tokio::select! {
                entry = entries.recv() => match entry {
                    Some((id, entry)) => { self.take_in(&id, entry); continue }
                    None => is_over = true,
                },
                _ = &mut stopped => is_over = true,
                _ = tick.tick() => {}
            }
            while let Ok((id, entry)) = entries.try_recv() {
                self.take_in(&id, entry);
            }
            if self.store.status().is_err() && Instant::now() >= next_try {
                let opened = open::open(&self.place).await;
                if let Err(why) = &opened {
                    tracing::warn!(%why, "The store cannot be opened");
                    next_try = Instant::now() + Duration::from_secs(2);
                }
                self.store.set(opened);
            }
            if let Ok(ready) = self.store.ready() {
                while !self.queue.is_empty() {
                    if let Err(why) = self.write(&ready).await {
                        tracing::warn!(%why, "Records cannot be written");
                        break;
                    }
                }
            }
            if is_over {
                return;
            }
        }
    }

    async fn write(&mut self, ready: &Ready) -> Result<(), StoreError> {
        let count = self.queue.len().min(MOST);
        let ops: Vec<&Op> = self.queue.iter().take(count).collect();
        op::write(ready, &ops, &self.process).await?;
        self.queue.drain(..count);
        Ok(())
    }

    fn take_in(&mut self, id: &RecordId, entry: Entry) {
        let Ok(body) = serde_json::to_string(&entry) else { return };
        let is_end = matches!(entry.what, What::Ended(_));
        if let What::Rang(rang) = &entry.what {
            let live = Live {
                recorder: Recorder::new(id.clone()),
                owner: Owner::of(rang),
                keep_until_ms: rang.keep_until.map(|until| until.as_millisecond()),
                seq: 0,
            };
            self.live.insert(id.clone(), live);
        }
        let Some(live) = self.live.get_mut(id) else {
            if let What::Recording { path } = entry.what {
                self.queue.push_back(Op::Recording { id: id.to_string(), path });
            }
            return;
        };
        let is_first = live.seq == 0;
        live.recorder.add(entry);
        if is_first {
            let call = Call::of(&live.recorder.record(), live.owner.clone(), live.keep_until_ms);
            self.queue.push_back(Op::Began { call: Box::new(call), process: self.process.clone() });
        }
        if is_end {
            let Some(live) = self.live.remove(id) else { return };
            let record = live.recorder.record();
            let call = Call::of(&record, live.owner, live.keep_until_ms);
            self.queue.push_back(Op::Ended { call: Box::new(call), record: Box::new(record) });
        } else {
            self.queue.push_back(Op::Noted { id: id.to_string(), seq: live.seq, body });
            live.seq += 1;
        }
    }
}
