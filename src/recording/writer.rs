//! The thread that writes the recordings of all calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::tap::{Shared, Tap, frames};
use super::{Part, Track, file, path};
use crate::observe::metrics;
use crate::record::{Entry, RecordId, Sink, What};

/// How often each recording is written.
const INTERVAL: Duration = Duration::from_millis(250);
/// Audio that comes so late after its time is still written in one go.
const LATENESS: u64 = frames(Duration::from_millis(250));
/// How many parts of a call may wait for the disk: those of ten seconds, when both sides talk.
const MOST_PARTS: usize = 1_024;

/// Records calls into the files of a folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Recordings {
    state_dir: Arc<PathBuf>,
    opened: Sender<Opened>,
}

#[derive(Debug)]
struct Opened {
    id: RecordId,
    parts: Receiver<Part>,
    shared: Arc<Shared>,
}

impl Recordings {
    /// Starts the thread. It ends when no clone and no tap is left. `records` learns of each file once it is there;
    /// `closed` is called on the thread when one is complete.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        state_dir: PathBuf,
        records: Sink,
        closed: impl Fn(&RecordId) + Send + 'static,
    ) -> io::Result<Self> {
        let (opened, openings) = mpsc::channel();
        let state_dir = Arc::new(state_dir);
        let folder = state_dir.clone();
        thread::Builder::new().name("recordings".to_owned()).spawn(move || {
            let closed = Box::new(closed);
            Writer { state_dir: folder, running: Vec::new(), records, closed }.run(&openings);
        })?;
        Ok(Self { state_dir, opened })
    }

    /// Begins to record a call whose stream began at this time.
    pub fn record(&self, id: &RecordId, began: Instant) -> Tap {
        let (sender, parts) = mpsc::sync_channel(MOST_PARTS);
        let shared = Arc::new(Shared::default());
        let _ = self.opened.send(Opened { id: id.clone(), parts, shared: shared.clone() });
        Tap::new(sender, shared, began)
    }

    /// The folder that holds the folder of the recordings.
    pub fn state_dir(&self) -> &std::path::Path {
        &self.state_dir
    }
}

struct Writer {
    state_dir: Arc<PathBuf>,
    running: Vec<Running>,
    records: Sink,
    closed: Box<dyn Fn(&RecordId) + Send>,
}

struct Running {
    opened: Opened,
    /// `None` if the file cannot be created.
    track: Option<Track>,
    /// A failure was logged.
    failed: bool,
}

impl Writer {
    fn run(mut self, openings: &Receiver<Opened>) {
        loop {
            // Without calls there is nothing to do.
            let next = match self.running.is_empty() {
                true => openings.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => openings.recv_timeout(INTERVAL),
            };
            match next {
                Ok(opened) => {
                    let running = Running::open(opened, &self.state_dir);
                    if running.track.is_some() {
                        let what = What::Recording { path: path(&running.opened.id) };
                        (self.records)(&running.opened.id, Entry { at_ms: 0, what });
                    }
                    self.running.push(running);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.running.is_empty() => return,
                Err(RecvTimeoutError::Disconnected) => thread::sleep(INTERVAL),
            }
            let closed = &self.closed;
            self.running.retain_mut(|running| {
                let goes_on = running.write();
                if !goes_on && running.close() {
                    closed(&running.opened.id);
                }
                goes_on
            });
        }
    }
}

impl Running {
    fn open(opened: Opened, state_dir: &std::path::Path) -> Self {
        let mut running = Self { opened, track: None, failed: false };
        match Track::create(&file(state_dir, &running.opened.id)) {
            Ok(track) => running.track = Some(track),
            Err(error) => running.failed(&error),
        }
        running
    }

    /// Writes what is due. False: the call is over.
    fn write(&mut self) -> bool {
        let goes_on = loop {
            match self.opened.parts.try_recv() {
                Ok(part) => {
                    let taken = self.track.as_mut().map_or(Ok(()), |track| track.take(part));
                    taken.unwrap_or_else(|error| self.failed(&error));
                }
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        if goes_on {
            let horizon = self.opened.shared.now.load(Ordering::Acquire).saturating_sub(LATENESS);
            let written = self.track.as_mut().map_or(Ok(()), |track| track.advance(horizon));
            written.unwrap_or_else(|error| self.failed(&error));
        }
        goes_on
    }

    /// Returns whether there is a file.
    fn close(&mut self) -> bool {
        let Some(track) = self.track.take() else { return false };
        let end = self.opened.shared.now.load(Ordering::Acquire);
        track.close(end).unwrap_or_else(|error| self.failed(&error));
        let lost = self.opened.shared.lost.load(Ordering::Relaxed);
        if lost {
            tracing::warn!(record = %self.opened.id, "The disk was too slow: parts of the recording are silent");
        }
        metrics::recording(if lost || self.failed { "incomplete" } else { "complete" });
        true
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::error!(record = %self.opened.id, %error, "The call cannot be recorded, or not all of it");
            if self.track.is_none() {
                metrics::recording("failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_learns_of_a_recording_that_has_a_file() {
        for is_full in [false, true] {
            let state = tempfile::tempdir().unwrap();
            if is_full {
                // Nothing can be created below a file.
                std::fs::write(state.path().join("recordings"), "").unwrap();
            }
            let (sent, entries) = mpsc::channel();
            let sink: Sink = Arc::new(move |id: &RecordId, entry| {
                let _ = sent.send((id.clone(), entry.what));
            });
            let recordings = Recordings::start(state.path().to_owned(), sink, |_| {}).unwrap();
            let id = RecordId::from("01CALL");
            drop(recordings.record(&id, Instant::now()));
            drop(recordings);
            // Until the thread ends.
            let told: Vec<_> = entries.iter().collect();
            let recording = What::Recording { path: "recordings/01CALL.wav".to_owned() };
            assert_eq!(told, if is_full { vec![] } else { vec![(id, recording)] });
        }
    }
}
