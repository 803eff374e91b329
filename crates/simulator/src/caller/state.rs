//! The state of one call, and what all its parts share: time, events, violations, the caller's speech.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::control::{Act, Playing};
use super::options::PhoneOptions;
use super::record::{CallEnd, CallRecord, Happened, PhoneEvent, Violation};
use crate::clock::now;
use switchboard_audio::SILENCE;

const MAX_VIOLATIONS: usize = 1_000;

/// One call, owned by one task.
pub(super) struct Call {
    pub options: PhoneOptions,
    pub acts: mpsc::Receiver<Act>,
    pub playing: watch::Sender<Playing>,
    pub speech: Speech,
    pub hung_up: bool,
    /// Until when no media is sent.
    pub paused: Option<Instant>,
    /// When the stream's connection breaks; nothing is sent or read until then.
    pub broken: Option<Instant>,
    pub record: CallRecord,
    happened: mpsc::Sender<Happened>,
    rng: StdRng,
    /// Status callbacks in flight; each returns what was wrong with its answer.
    pub callbacks: JoinSet<Option<Violation>>,
}

/// What the caller is still going to say.
#[derive(Default)]
pub(super) struct Speech {
    clips: VecDeque<Bytes>,
    pub digits: VecDeque<char>,
}

/// What went into a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Silence,
    Speech,
    /// Speech that ends in this frame.
    End,
}

impl Call {
    pub fn new(
        options: PhoneOptions,
        acts: mpsc::Receiver<Act>,
        happened: mpsc::Sender<Happened>,
        playing: watch::Sender<Playing>,
    ) -> Self {
        let started = now();
        let record = CallRecord {
            call_sid: options.call_sid.clone(),
            started,
            ended: started,
            end: CallEnd::HungUp,
            documents: Vec::new(),
            streams: Vec::new(),
            said: Vec::new(),
            dialed: Vec::new(),
            pressed: Vec::new(),
            keys: Vec::new(),
            violations: Vec::new(),
            heard: Vec::new(),
            spoken: Vec::new(),
        };
        let rng = StdRng::seed_from_u64(options.network.seed);
        Self {
            options,
            acts,
            playing,
            speech: Speech::default(),
            hung_up: false,
            paused: None,
            broken: None,
            record,
            happened,
            rng,
            callbacks: JoinSet::new(),
        }
    }

    /// Waits; returns whether the caller hung up in the meantime.
    pub async fn wait(&mut self, time: Duration) -> bool {
        let until = now() + time;
        while !self.hung_up {
            tokio::select! {
                Some(act) = self.acts.recv() => self.perform_act(act),
                () = sleep_until(until.into()) => break,
            }
        }
        self.hung_up
    }

    pub fn perform_act(&mut self, act: Act) {
        match act {
            Act::Say(clip) if !clip.is_empty() => self.speech.clips.push_back(clip),
            Act::Say(_) | Act::Nothing => {}
            Act::Press(digit) => {
                self.record.keys.push(now());
                self.speech.digits.push_back(digit);
            }
            Act::Pause(long) => self.paused = Some(now() + long),
            Act::Break(after) => self.broken = Some(now() + after),
            Act::HangUp if self.hung_up => {}
            Act::HangUp => {
                self.hung_up = true;
                self.emit(PhoneEvent::HungUp);
            }
        }
    }

    pub fn emit(&self, event: PhoneEvent) {
        self.emit_at(event, now());
    }

    pub fn emit_at(&self, event: PhoneEvent, at: Instant) {
        // It fails when nothing reads the events; the record has them all.
        let _ = self.happened.try_send(Happened { at, event });
    }

    pub fn violation(&mut self, code: u32, what: impl Into<String>) {
        let violation = Violation { at: now(), code, what: what.into() };
        self.emit(PhoneEvent::Violation(violation.clone()));
        if self.record.violations.len() < MAX_VIOLATIONS {
            self.record.violations.push(violation);
        }
    }

    /// The additional delay of the next message.
    pub fn jitter(&mut self) -> Duration {
        let most = self.options.network.jitter;
        self.up_to(most)
    }

    pub fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return most;
        }
        Duration::from_nanos(self.rng.random_range(0..=most.as_nanos() as u64))
    }
}

impl Speech {
    /// Fills a frame with the next speech, or with silence.
    pub fn fill(&mut self, frame: &mut [u8]) -> Filled {
        frame.fill(SILENCE);
        let Some(clip) = self.clips.front_mut() else { return Filled::Silence };
        let length = clip.len().min(frame.len());
        frame[..length].copy_from_slice(&clip.split_to(length));
        if clip.is_empty() {
            self.clips.pop_front();
            return Filled::End;
        }
        Filled::Speech
    }
}
