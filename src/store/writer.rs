//! The one task that writes. No call waits for it, and it waits for no database.
//!
//! Entries go through the intake to a queue in memory, and from there to the database in batches. While the database is
//! gone or slow, the queue is emptied into files, and those go to the database first when it is back.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::db::Db;
use super::error::StoreError;
use super::intake::Intake;
use super::op::{self, Op};
use super::open::{self, Ready};
use super::spill::{self, Spill};
use super::sweep::{Closed, DEAD_MS, Dead, Sweeper};
use super::{Place, Store, erase, sweep};
use crate::observe::metrics;
use crate::provider::prices::Prices;
use crate::record::{Entry, RecordId, What as Noted};

/// Entries that wait for the writer, which takes them at once.
const CHANNEL: usize = 10_000;
/// Room that only rings and ends may take: without them a call has no record.
const RESERVE: usize = 2_000;
const TICK: Duration = Duration::from_millis(100);
/// What is noted waits for so long, so that one transaction writes much.
const BATCH: Duration = Duration::from_millis(400);
/// Changes in one batch.
const MOST: usize = 500;
/// A database that takes longer is slow: what waits behind it goes to a file.
const SLOW: Duration = Duration::from_millis(400);
/// The longest that a piece of work may take. Every statement has a shorter limit.
const LONGEST: Duration = Duration::from_secs(60);
/// Between attempts; doubled from the first to the last.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
const BEAT: Duration = Duration::from_secs(10);
/// Time enough for others that live to say so: [`DEAD_MS`] and the longest pause between their attempts.
const SWEEP: Duration = Duration::from_millis(DEAD_MS as u64).saturating_add(RETRY[1]);
const PURGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a trouble that lasts is logged.
const LOG: Duration = Duration::from_secs(60);

/// How to start.
#[derive(Clone)]
pub struct Options {
    pub place: Place,
    /// The folder for what waits while the database is gone. Without one it waits in memory only.
    pub spill: Option<PathBuf>,
    /// The most bytes of that folder; `None` is 256 MB.
    pub spill_bytes: Option<u64>,
    pub prices: Arc<Prices>,
    /// Gets the places of the recordings of purged calls.
    pub purged: Option<Arc<dyn Fn(Vec<String>) + Send + Sync>>,
    /// Gives the messages that follow a call which was closed for a process that died.
    pub closed: Option<Closed>,
}

impl Options {
    /// The built-in prices, and no folder.
    pub fn new(place: Place) -> Self {
        Self { place, spill: None, spill_bytes: None, prices: Arc::default(), purged: None, closed: None }
    }
}

/// Takes the entries of calls.
#[derive(Clone)]
pub struct Records {
    entries: mpsc::Sender<(RecordId, Entry)>,
    /// Not logged yet.
    dropped: Arc<AtomicU64>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

impl Records {
    /// Takes an entry. It never waits: what has no room is dropped.
    pub fn file(&self, id: &RecordId, entry: Entry) {
        let is_end = matches!(entry.what, Noted::Ended(_));
        let may_take_all = is_end
            || matches!(entry.what, Noted::Rang(_) | Noted::Settled | Noted::GivenUp | Noted::Withdrawn);
        let has_room = may_take_all || self.entries.capacity() > RESERVE;
        if !has_room || self.entries.try_send((id.clone(), entry)).is_err() {
            // A record counts once: at its end.
            metrics::records("dropped", is_end.into());
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Ends the writer. If it is dropped, the writer ends at once.
#[derive(Debug)]
pub struct Closer {
    stop: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

impl Closer {
    /// Writes what waits, for at most so long. The rest goes to the spill folder; without one it is lost.
    pub async fn close(self, within: Duration) {
        let Self { stop, mut task } = self;
        let _ = stop.send(Instant::now() + within);
        // The files take a moment, too.
        if timeout(within + Duration::from_secs(1), &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Starts the writer in the current runtime. It never fails: the database is opened beside the calls, and again when it
/// is gone.
pub fn start(options: Options) -> (Records, Store, Closer) {
    let (sender, entries) = mpsc::channel(CHANNEL + RESERVE);
    let (stop, stopped) = oneshot::channel();
    let store = Store::unconnected();
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = Writer::new(options, store.clone(), dropped.clone());
    let task = tokio::spawn(writer.run(entries, stopped));
    (Records { entries: sender, dropped }, store, Closer { stop, task })
}

struct Writer {
    options: Options,
    store: Store,
    process: String,
    intake: Intake,
    /// `None` while a function that may block has it, too.
    spill: Option<Spill>,
    /// On the SQLite file, as long as this process lives.
    claim: Option<File>,
    /// What the next sweep goes by.
    dead: Dead,
    flight: Option<Flight>,
    /// Since when something waits in memory.
    waits: Option<Instant>,
    /// Not before: the last attempt failed.
    retry: Instant,
    pause: Duration,
    beat: Instant,
    /// The database was not open before.
    is_new: bool,
    sweep: Instant,
    purge: Instant,
    /// Not logged yet.
    dropped: Arc<AtomicU64>,
    log: Instant,
}

/// Work at the database. There is one at a time, so that changes keep their order.
struct Flight {
    what: What,
    began: Instant,
    task: JoinHandle<Result<Done, StoreError>>,
}

enum What {
    Open,
    /// What is written. Empty if it only says that the process lives, or if it is in a file meanwhile.
    Batch(Vec<Arc<Op>>),
    /// The file goes to the database.
    Drain(PathBuf),
    Sweep,
    Purge,
}

enum Done {
    Opened(Ready, Option<(File, Dead)>),
    Written {
        written: u64,
        dropped: u64,
    },
    /// The file cannot be read.
    Unread(io::Error),
    Swept(u64),
    Purged {
        calls: u64,
        recordings: Vec<String>,
    },
}

impl Writer {
    fn new(options: Options, store: Store, dropped: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        let process = ulid::Ulid::generate().to_string();
        let intake = Intake::new(process.clone(), options.prices.clone());
        Self {
            options,
            store,
            intake,
            process,
            spill: None,
            claim: None,
            dead: Dead::Silent,
            flight: None,
            waits: None,
            retry: now,
            pause: RETRY[0],
            beat: now,
            is_new: true,
            sweep: now,
            purge: now,
            dropped,
            log: now,
        }
    }

    async fn run(
        mut self,
        mut entries: mpsc::Receiver<(RecordId, Entry)>,
        mut stopped: oneshot::Receiver<Instant>,
    ) {
        self.open_spill().await;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end: Option<Instant> = None;
        let mut is_open = true;
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                // None: nobody is left who could file anything.
                count = entries.recv_many(&mut taken, MOST), if is_open => is_open = count > 0,
                done = landed(&mut self.flight) => self.land(done).await,
                _ = tick.tick() => {}
                stop = &mut stopped, if end.is_none() => {
                    end = Some(stop.unwrap_or_else(|_| Instant::now()));
                    is_open = false;
                    while let Ok(entry) = entries.try_recv() {
                        taken.push(entry);
                    }
                }
            }
            for (id, entry) in taken.drain(..) {
                if !self.intake.take_in(&id, entry) {
                    metrics::records("dropped", 1);
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            if self.waits.is_none() && !self.intake.is_empty() {
                self.waits = Some(Instant::now());
            }
            if let Some(end) = end {
                let has_all = self.flight.is_none() && self.has_written_all();
                let is_gone = self.store.status().is_err() && Instant::now() < self.retry;
                if has_all || (is_gone && self.flight.is_none()) || Instant::now() >= end {
                    return self.end().await;
                }
            }
            self.start(end.is_some());
            self.relieve().await;
        }
    }

    fn has_written_all(&self) -> bool {
        self.intake.is_empty() && self.spill.as_ref().is_none_or(Spill::is_empty)
    }

    /// Begins the next piece of work, if there is any and the database is not busy.
    fn start(&mut self, is_ending: bool) {
        let now = Instant::now();
        if self.flight.is_some() || now < self.retry {
            return;
        }
        let Ok(ready) = self.store.ready() else {
            let (place, is_claimed) = (self.options.place.clone(), self.claim.is_some());
            return self.fly(What::Open, async move { opened(&place, is_claimed).await });
        };
        let process = self.process.clone();
        let drain = self.spill.as_mut().and_then(Spill::oldest);
        let is_due = self.waits.is_some_and(|since| is_ending || now >= since + BATCH);
        if let Some(path) = drain {
            self.fly(What::Drain(path.clone()), async move { drained(&ready, path, &process).await });
        } else if now >= self.sweep && !is_ending {
            self.sweep = now + SWEEP;
            // Others may start at any time, so one is alone only once.
            let dead = std::mem::replace(&mut self.dead, Dead::Silent);
            let (prices, closed) = (self.options.prices.clone(), self.options.closed.clone());
            self.fly(What::Sweep, async move {
                let sweeper = Sweeper { ready: &ready, process: &process, prices, closed };
                sweep::sweep(sweeper, dead).await.map(Done::Swept)
            });
        } else if is_due || self.intake.len() >= MOST || now >= self.beat {
            let ops = self.intake.take(MOST);
            self.waits = (!self.intake.is_empty()).then_some(now);
            self.fly(What::Batch(ops.clone()), async move { write_all(&ready, &ops, &process).await });
        } else if now >= self.purge && !is_ending {
            self.fly(What::Purge, async move {
                let (calls, recordings) = erase::purge(&ready, jiff::Timestamp::now()).await?;
                Ok(Done::Purged { calls, recordings })
            });
        }
    }

    fn fly(&mut self, what: What, work: impl Future<Output = Result<Done, StoreError>> + Send + 'static) {
        let task =
            tokio::spawn(async { timeout(LONGEST, work).await.unwrap_or(Err(StoreError::Slow(LONGEST))) });
        self.flight = Some(Flight { what, began: Instant::now(), task });
    }

    /// What follows from work that is done.
    async fn land(&mut self, (what, done): (What, Result<Done, StoreError>)) {
        let now = Instant::now();
        match (what, done) {
            (_, Ok(Done::Opened(ready, claim))) => self.opened(ready, claim).await,
            (what, Ok(Done::Written { written, dropped })) => {
                // What went to a file meanwhile counts when the file is written.
                let most = if let What::Batch(ops) = &what { records(ops) } else { u64::MAX };
                metrics::records("written", written.min(most));
                self.drop(dropped.min(most));
                self.beat = now + BEAT;
                if let What::Drain(path) = what
                    && let Some(spill) = &mut self.spill
                    && let Err(why) = spill.remove(&path)
                {
                    tracing::warn!(%why, "A file of records that are written cannot be removed");
                }
            }
            (What::Drain(path), Ok(Done::Unread(why))) => {
                tracing::warn!(%why, "A file of records cannot be read; it is put aside");
                if let Some(Err(why)) = self.spill.as_mut().map(|spill| spill.put_aside(&path)) {
                    tracing::warn!(%why, "It keeps its name");
                }
            }
            (_, Ok(Done::Unread(_))) => {}
            (_, Ok(Done::Swept(calls))) if calls > 0 => {
                tracing::warn!(calls, "Calls whose process ended before them were closed");
            }
            (_, Ok(Done::Swept(_))) => {}
            (_, Ok(Done::Purged { calls, recordings })) => self.purged(calls, recordings),
            (what, Err(why)) => return self.failed(what, why),
        }
        self.pause = RETRY[0];
    }

    async fn opened(&mut self, ready: Ready, claim: Option<(File, Dead)>) {
        let mut first = Dead::Unheard;
        if let Some((file, dead)) = claim {
            (self.claim, first) = (Some(file), dead);
        }
        self.intake.secret = Some(ready.secret.clone());
        let secret = ready.secret.clone();
        self.store.set(Ok(ready));
        if std::mem::replace(&mut self.is_new, false) {
            (self.sweep, self.dead) = (Instant::now(), first);
        } else {
            self.sweep = Instant::now() + SWEEP;
        }
        if let Err(why) = self.blocking(move |spill| spill.keep_secret(&secret)).await {
            tracing::warn!(%why, "The spill folder cannot be written to");
        }
        tracing::info!(place = %self.options.place, "The store is open");
    }

    fn purged(&mut self, calls: u64, recordings: Vec<String>) {
        // More of them may be due.
        if calls == 0 {
            self.purge = Instant::now() + PURGE;
        } else {
            tracing::info!(calls, "Calls were removed that had been kept for long enough");
        }
        if let Some(purged) = self.options.purged.as_ref().filter(|_| !recordings.is_empty()) {
            purged(recordings);
        }
    }

    /// Tries again later. A connection that broke is made anew.
    fn failed(&mut self, what: What, why: StoreError) {
        let now = Instant::now();
        if now >= self.log {
            self.log = now + LOG;
            tracing::warn!(place = %self.options.place, %why, "The store does not work; calls go on");
        }
        if matches!(what, What::Sweep | What::Purge) {
            // They can wait. If the database is gone, the next batch finds out.
            self.purge = now + SWEEP;
            return;
        }
        if matches!(what, What::Open) {
            self.store.set(Err(why));
        } else if matches!(why, StoreError::Gone(_) | StoreError::Slow(_))
            && let Ok(Ready { db: Db::Postgres(pool), .. }) = self.store.ready()
        {
            self.store.set(Err(why));
            tokio::spawn(async move { timeout(RETRY[1], pool.close()).await });
        }
        if let What::Batch(ops) = what {
            self.intake.give_back(ops);
            self.waits = (!self.intake.is_empty()).then_some(now);
        }
        self.retry = now + self.pause;
        self.pause = (self.pause * 2).min(RETRY[1]);
    }

    /// Empties the memory into a file while the database is gone or slow; what has no room is dropped.
    async fn relieve(&mut self) {
        let now = Instant::now();
        let is_behind = match &self.flight {
            Some(flight) => now >= flight.began + SLOW,
            None => now < self.retry || self.store.status().is_err(),
        };
        let has_waited = self.waits.is_some_and(|since| now >= since + BATCH);
        let flying = match &mut self.flight {
            Some(Flight { what: What::Batch(ops), .. }) if is_behind => std::mem::take(ops),
            _ => Vec::new(),
        };
        if (is_behind && (has_waited || !flying.is_empty())) || self.intake.is_full() {
            self.write_to_file(flying).await;
        }
        let dropped = self.intake.shed();
        metrics::records("dropped", records(&dropped));
        self.dropped.fetch_add(dropped.len() as u64, Ordering::Relaxed);
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 && now >= self.log {
            self.log = now + LOG;
            self.dropped.fetch_sub(dropped, Ordering::Relaxed);
            tracing::warn!(dropped, "Records or parts of them were dropped: there is no room for them");
        }
    }

    /// Moves what waits to a file; if that fails, it waits on.
    async fn write_to_file(&mut self, mut ops: Vec<Arc<Op>>) {
        if self.spill.is_none() {
            return self.put_back(ops);
        }
        let flying = ops.len();
        ops.extend(self.intake.take(usize::MAX));
        self.waits = None;
        if ops.is_empty() {
            return;
        }
        let secret = self.intake.secret.clone();
        let copies = ops.clone();
        let append = move |spill: &mut Spill| {
            let secret = secret.or_else(|| spill.secret());
            let keyed = copies.iter().map(|op| match &secret {
                Some(secret) => Op::clone(op).keyed(secret),
                None => Op::clone(op),
            });
            spill.append(keyed)
        };
        let count = match self.blocking(append).await {
            Ok(count) => count,
            Err(why) => {
                if Instant::now() >= self.log {
                    self.log = Instant::now() + LOG;
                    tracing::warn!(%why, "What waits for the database cannot be written to a file");
                }
                0
            }
        };
        metrics::records("spilled", records(&ops[..count]));
        self.intake.give_back(ops.split_off(flying.max(count)));
        self.put_back(ops.split_off(count));
        self.waits = (!self.intake.is_empty()).then(Instant::now);
    }

    /// Puts back what was in the flight: only then it is tried again if the flight fails.
    fn put_back(&mut self, ops: Vec<Arc<Op>>) {
        match &mut self.flight {
            Some(Flight { what: What::Batch(flying), .. }) => flying.extend(ops),
            _ => self.intake.give_back(ops),
        }
    }

    fn drop(&self, count: u64) {
        if count > 0 {
            metrics::records("dropped", count);
            tracing::warn!(count, "Records were dropped: the database refused them, or a file was damaged");
        }
    }

    /// The end: what is not in the database goes to a file.
    async fn end(mut self) {
        let flying = match self.flight.take() {
            Some(Flight { what: What::Batch(ops), task, .. }) => {
                task.abort();
                ops
            }
            _ => Vec::new(),
        };
        self.write_to_file(flying).await;
        let dropped = records(&self.intake.take(usize::MAX));
        if dropped > 0 {
            metrics::records("dropped", dropped);
            tracing::warn!(dropped, "Records were dropped: the database was gone until the end");
        }
        if let Ok(ready) = self.store.ready() {
            let _ = timeout(TICK * 5, op::bury(&ready, &self.process)).await;
            self.store.set(Err(StoreError::NotConnected));
            ready.db.close().await;
        }
    }

    async fn open_spill(&mut self) {
        let Some(folder) = self.options.spill.clone() else { return };
        let (process, most) = (self.process.clone(), self.options.spill_bytes);
        let opened = spawn_blocking(move || Spill::open(&folder, &process, most)).await;
        match opened.map_err(io::Error::other).flatten() {
            Ok(spill) => {
                self.intake.secret = spill.secret();
                self.spill = Some(spill);
            }
            Err(why) => tracing::warn!(%why, "The spill folder cannot be used"),
        }
    }

    /// Runs what may block. Meanwhile entries wait in their channel.
    async fn blocking<T: Default + Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Spill) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Some(mut spill) = self.spill.take() else { return Ok(T::default()) };
        let done = spawn_blocking(move || {
            let done = work(&mut spill);
            (spill, done)
        });
        let (spill, done) = done.await.map_err(io::Error::other)?;
        self.spill = Some(spill);
        done
    }
}

/// Waits for the work. Cancel-safe: it stays in its place until it is done.
async fn landed(flight: &mut Option<Flight>) -> (What, Result<Done, StoreError>) {
    let Some(Flight { task, .. }) = flight else { return std::future::pending().await };
    let done = task.await.unwrap_or_else(|why| Err(StoreError::Refused(why.to_string())));
    let what = flight.take().map_or(What::Open, |flight| flight.what);
    (what, done)
}

async fn opened(place: &Place, is_claimed: bool) -> Result<Done, StoreError> {
    let ready = open::open(place).await?;
    let claim = match place {
        // Without it the others' silence decides.
        Place::Sqlite(path) if !is_claimed => sweep::claim(&ready, path).await.ok(),
        _ => None,
    };
    Ok(Done::Opened(ready, claim))
}

/// How many of them are records of calls that ended.
fn records(ops: &[Arc<Op>]) -> u64 {
    ops.iter().filter(|op| matches!(***op, Op::Ended { .. })).count() as u64
}

/// Writes a batch. If the database refuses it, one of the changes is bad: then each is written by itself.
async fn write_all(ready: &Ready, ops: &[Arc<Op>], process: &str) -> Result<Done, StoreError> {
    match op::write(ready, ops, process).await {
        Ok(()) => return Ok(Done::Written { written: records(ops), dropped: 0 }),
        Err(StoreError::Unfit(why)) => tracing::warn!(%why, "The database refused some records"),
        Err(why) => return Err(why),
    }
    let (mut written, mut dropped) = (0, 0);
    for op in ops.chunks(1) {
        match op::write(ready, op, process).await {
            Ok(()) => written += records(op),
            Err(StoreError::Unfit(_)) => dropped += records(op),
            Err(why) => return Err(why),
        }
    }
    Ok(Done::Written { written, dropped })
}

/// Writes all of a file. One that cannot be read must not keep the rest from the database.
async fn drained(ready: &Ready, path: PathBuf, process: &str) -> Result<Done, StoreError> {
    let read = spawn_blocking(move || spill::read(&path)).await.map_err(io::Error::other).flatten();
    let (ops, unread) = match read {
        Ok(read) => read,
        Err(why) => return Ok(Done::Unread(why)),
    };
    let ops: Vec<Arc<Op>> = ops.into_iter().map(Arc::new).collect();
    let (mut all_written, mut all_dropped) = (0, unread);
    for ops in ops.chunks(MOST) {
        if let Done::Written { written, dropped } = write_all(ready, ops, process).await? {
            all_written += written;
            all_dropped += dropped;
        }
    }
    Ok(Done::Written { written: all_written, dropped: all_dropped })
}
