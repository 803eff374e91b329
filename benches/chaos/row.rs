//! One row of the table, as data: what goes wrong, when, and what must come of it.

use std::time::Duration;

use switchboard_simulator::model::{Fault, ModelOptions};

/// What goes wrong in one call.
#[derive(Debug, Clone)]
pub struct Row {
    pub what: &'static str,
    pub when: &'static str,
    /// Whether the assistant has a second provider, which works.
    pub fallback: bool,
    /// The first provider's faults.
    pub faults: Vec<Fault>,
    /// What else is different about the first provider.
    pub model: fn(&mut ModelOptions),
    /// Something that the harness does in the call.
    pub act: Option<(Scene, Does)>,
    /// How long the function takes.
    pub function: Duration,
    pub goal: Goal,
}

/// The point of the call at which the harness acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// The phone rings.
    Ring,
    /// The greeting is heard.
    Greeting,
    /// The caller speaks for the first time.
    Speech,
    /// The answer has been heard for a second.
    Answer,
    /// The function runs.
    Tool,
    /// The caller has nothing to say and waits.
    Pause,
    /// The caller's last question is over, and the goodbye is heard.
    Goodbye,
}

/// What the harness does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Does {
    /// Twilio sends no media for this long.
    NoMedia(Duration),
    /// Twilio's stream breaks, after it was half-open for this long.
    BreakStream(Duration),
    /// The caller plays music for this long.
    Music(Duration),
    /// The first provider is gone for this long: all its sessions are reset, and its port is closed.
    Down(Duration),
    /// The first provider's port is closed for this long.
    Refuse(Duration),
    /// The process gets this signal, and `CONT` after this long.
    Signal(&'static str, Duration),
}

impl Does {
    /// How long a caller with nothing to say waits for it to be over.
    pub fn lasts(self) -> Duration {
        match self {
            Self::NoMedia(long) | Self::BreakStream(long) | Self::Music(long) | Self::Refuse(long) => long,
            Self::Down(long) | Self::Signal(_, long) => long,
        }
    }
}

/// What must come of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// No silence over three seconds, and the conversation goes on: a provider answers.
    Survives,
    /// No silence over three seconds. The conversation ends: no provider answers, or it was over.
    Ends,
    /// No silence over three seconds, and this end.
    EndsAs(&'static str),
    /// It is only printed.
    Shown,
}

impl Row {
    pub fn new(what: &'static str, when: &'static str) -> Self {
        Self {
            what,
            when,
            fallback: false,
            faults: Vec::new(),
            model: |_| {},
            act: None,
            function: Duration::from_millis(1_200),
            goal: Goal::Survives,
        }
    }

    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    pub fn act(self, scene: Scene, does: Does) -> Self {
        Self { act: Some((scene, does)), ..self }
    }

    pub fn model(self, model: fn(&mut ModelOptions)) -> Self {
        Self { model, ..self }
    }

    pub fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }

    /// The same with a second provider, with which the conversation must survive.
    pub fn with_fallback(&self) -> Self {
        Self { fallback: true, goal: Goal::Survives, ..self.clone() }
    }

    /// The name by which a row is chosen.
    pub fn name(&self) -> String {
        let fallback = if self.fallback { ", fallback" } else { "" };
        format!("{}, {}{fallback}", self.what, self.when)
    }
}
