//! A reload: what the log and the metrics tell of it. Names and keys, never values.

use ::metrics::{counter, gauge};

use super::metrics;
use crate::assistant::Changes;
use crate::problem::Problem;

/// A new roster is in force.
pub fn applied(changes: &Changes, generation: u64, assistants: usize) {
    metrics::roster_loaded();
    tracing::info!(generation, assistants, %changes, "Assistants reloaded");
}

/// An edit has errors and is held back. `new` are the problems that were not said before.
pub fn held_back<'a>(new: impl Iterator<Item = &'a Problem>, errors: usize) {
    counter!("switchboard_reloads_total", "outcome" => "held_back").increment(1);
    gauge!("switchboard_roster_problems").set(errors as f64);
    for problem in new {
        tracing::warn!(%problem, "Problem in the folder of assistants");
    }
    tracing::warn!(errors, "The edit is held back: the assistants in force stay");
}

/// The edit that was held back is mended; `swapped` when the folder also changed what is in force.
pub fn mended(swapped: bool) {
    if !swapped {
        counter!("switchboard_reloads_total", "outcome" => "mended").increment(1);
        gauge!("switchboard_roster_problems").set(0.0);
    }
    tracing::info!("The folder of assistants is mended");
}

/// Something is odd in a folder that is sound.
pub fn warned(warning: &Problem) {
    tracing::warn!(problem = %warning, "Anomaly in the folder of assistants");
}
