//! What the person at the phone does and hears.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout_at};

use crate::clock::now;

/// What the phone is playing. A run is playback without a gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Playing {
    /// When the current run began; `None` during silence.
    pub since: Option<Instant>,
    /// When the last run ended.
    pub quiet_since: Option<Instant>,
    /// Runs so far, including the current one.
    pub runs: u64,
    /// Streams started so far.
    pub streams: u64,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub when: When,
    pub act: Act,
}

/// What a line waits for after the previous line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This long after the previous line. For the first: after the phone began to ring.
    After(Duration),
    /// Something has been played since the previous line, followed by this much silence.
    Quiet(Duration),
    /// A run has played for this long.
    PlayingFor(Duration),
    /// The call's n-th stream, from 1, has started.
    Stream(u64),
    /// This much silence since the previous line, with or without a stream.
    Silent(Duration),
}

/// What the caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Say(Bytes),
    Press(char),
    HangUp,
    /// For this long no media is sent: Twilio's side pauses. What the caller says is lost.
    Pause(Duration),
    /// The stream's connection breaks, without `stop` and without a close frame, and the call lives: after this long in which nothing is sent or read.
    Break(Duration),
    Nothing,
}

/// Controls the caller from another task.
#[derive(Debug, Clone)]
pub struct Control {
    acts: mpsc::Sender<Act>,
    playing: watch::Receiver<Playing>,
}

impl Control {
    pub(super) fn new(acts: mpsc::Sender<Act>, playing: watch::Receiver<Playing>) -> Self {
        Self { acts, playing }
    }

    /// The caller says this (μ-law), after everything queued before it.
    pub fn say(&self, clip: Bytes) {
        self.send(Act::Say(clip));
    }

    pub fn press(&self, digit: char) {
        self.send(Act::Press(digit));
    }

    pub fn hang_up(&self) {
        self.send(Act::HangUp);
    }

    /// See [`Act::Pause`].
    pub fn pause(&self, long: Duration) {
        self.send(Act::Pause(long));
    }

    /// See [`Act::Break`].
    pub fn break_stream(&self, after: Duration) {
        self.send(Act::Break(after));
    }

    /// What the phone is playing.
    pub fn playing(&self) -> watch::Receiver<Playing> {
        self.playing.clone()
    }

    /// Waits for playback followed by this much silence; `false` if the call ended first.
    pub async fn wait_until_quiet(&self, pause: Duration) -> bool {
        self.wait(|playing| playing.quiet_since.filter(|_| playing.since.is_none()), pause).await
    }

    /// Like `wait_until_quiet`, but only after a run that begins after this call.
    pub async fn wait_for_reply(&self, pause: Duration) -> bool {
        let before = self.playing.borrow().runs;
        let quiet = |playing: &Playing| {
            playing.quiet_since.filter(|_| playing.since.is_none() && playing.runs > before)
        };
        self.wait(quiet, pause).await
    }

    /// Waits until a run has played for this long; `false` if the call ended first.
    pub async fn wait_until_playing_for(&self, long: Duration) -> bool {
        self.wait(|playing| playing.since, long).await
    }

    /// Waits until the call's n-th stream, from 1, has started; `false` if the call ended first.
    pub async fn wait_for_stream(&self, n: u64) -> bool {
        self.playing.clone().wait_for(|playing| playing.streams >= n).await.is_ok()
    }

    /// Waits for this much silence, starting now; `false` if the call ended first.
    pub async fn wait_for_silence(&self, long: Duration) -> bool {
        let from = now();
        let quiet = |playing: &Playing| {
            let since = playing.quiet_since.map_or(from, |since| since.max(from));
            playing.since.is_none().then_some(since)
        };
        self.wait(quiet, long).await
    }

    /// Waits until a state has lasted this long.
    async fn wait(&self, since: impl Fn(&Playing) -> Option<Instant>, long: Duration) -> bool {
        let mut playing = self.playing.clone();
        loop {
            let state = *playing.borrow_and_update();
            let changed = match since(&state) {
                Some(since) => match timeout_at((since + long).into(), playing.changed()).await {
                    Ok(changed) => changed,
                    Err(_) => return true,
                },
                None => playing.changed().await,
            };
            if changed.is_err() {
                return false;
            }
        }
    }

    /// Performs a script, until it or the call ends.
    pub(super) async fn act(self, script: Vec<Line>) {
        let mut at = now();
        for line in script {
            let alive = match line.when {
                When::After(long) => {
                    at += long;
                    sleep_until(at.into()).await;
                    true
                }
                When::Quiet(pause) => self.wait_for_reply(pause).await,
                When::PlayingFor(long) => self.wait_until_playing_for(long).await,
                When::Stream(n) => self.wait_for_stream(n).await,
                When::Silent(long) => self.wait_for_silence(long).await,
            };
            if !alive {
                return;
            }
            at = now();
            self.send(line.act);
        }
    }

    fn send(&self, act: Act) {
        // The queue is full only if a script runs wild, and closed only if the call is over.
        let _ = self.acts.try_send(act);
    }
}
