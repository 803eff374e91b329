//! `session.update`: what is applied, what a fault refuses, and when the client gets its answer.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::config::Limits;
use super::faults::Fault;
use super::refusal::Refusal;
use super::state::{Due, Session};

impl Session {
    /// Applies the update, or none of it.
    pub fn update(&mut self, update: &Value) -> Result<(), Refusal> {
        self.check_update_faults(update)?;
        let limits = Limits {
            temperature: self.options().temperature.clone(),
            own_names: self.options().own_names,
            pcm_only: self.options().pcm_only,
            has_audio: self.has_audio,
            responding: !self.responses.is_empty(),
        };
        let known = self.config.session()["tools"].clone();
        self.config.update(update, &limits)?;
        self.detection = self.config.detection();
        self.format = self.config.input_format();
        if self.faults.contains(&Fault::NoUpdated) {
            return Ok(());
        }
        let delay = self.fault(|fault| match fault {
            Fault::LateUpdated(delay) => Some(*delay),
            _ => None,
        });
        match delay {
            Some(delay) => self.later(delay, Due::Updated),
            None => self.updated(),
        }
        self.list_hosted(&known);
        Ok(())
    }

    /// Reports the configuration in force.
    pub fn updated(&mut self) {
        let now = self.now;
        self.note(|log| log.updated = log.updated.or(Some(now)));
        let shown = self.config.session().clone();
        self.emit(json!({"type": "session.updated", "session": shown}));
        if self.options().anomalies {
            self.emit(json!({"type": "session.weather", "outlook": {"wind": 3}}));
        }
    }

    /// Whether a fault refuses this `session.update`.
    fn check_update_faults(&mut self, update: &Value) -> Result<(), Refusal> {
        if self.faults.contains(&Fault::RefuseUpdates) {
            let message = "The simulated model refuses every update.";
            return Err(Refusal::new("invalid_value", message, "session".to_owned()));
        }
        let once = self.fault(|fault| match fault {
            Fault::RefuseOptional { once } => Some(*once),
            _ => None,
        });
        let Some(once) = once else { return Ok(()) };
        let optional = [
            ("/audio/input/transcription", "session.audio.input.transcription"),
            ("/audio/input/noise_reduction", "session.audio.input.noise_reduction"),
            ("/audio/output/speed", "session.audio.output.speed"),
            ("/reasoning", "session.reasoning"),
            ("/truncation", "session.truncation"),
        ];
        let present = |at: &str| update.pointer(at).is_some_and(|value| !value.is_null());
        let Some((_, param)) = optional.into_iter().find(|(at, _)| present(at)) else { return Ok(()) };
        if once && self.shared.refused_optional.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        Err(Refusal::invalid(param, format!("Invalid value for '{param}': not supported by this model.")))
    }
}
