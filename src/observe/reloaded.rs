//! The log lines and metrics of a reload. They show names and keys, never values.

use ::metrics::{counter, gauge};

use super::metrics;
use crate::assistant::{Changes, Roster};
use crate::problem::Problem;

pub fn applied(changes: &Changes, generation: u64, roster: &Roster) {
    metrics::roster_loaded(roster);
    let assistants = roster.len();
    tracing::info!(generation, assistants, %changes, "Assistants reloaded");
}

/// `new` are the problems that were not logged before.
pub fn rejected<'a>(new: impl Iterator<Item = &'a Problem>, errors: usize) {
    counter!("switchboard_reloads_total", "outcome" => "rejected").increment(1);
    gauge!("switchboard_roster_problems").set(errors as f64);
    for problem in new {
        match problem.is_error() {
            true => tracing::error!(%problem, "The folder of assistants has an error"),
            false => warned(problem),
        }
    }
    tracing::error!(errors, "Edit rejected; the assistants in force stay");
}

/// The folder passes after a rejected edit; `swapped` if it also changes the roster in force.
pub fn fixed(swapped: bool) {
    if !swapped {
        counter!("switchboard_reloads_total", "outcome" => "fixed").increment(1);
        gauge!("switchboard_roster_problems").set(0.0);
    }
    tracing::info!("The folder of assistants passes again");
}

/// A warning about a folder that passes.
pub fn warned(warning: &Problem) {
    tracing::warn!(problem = %warning, "The folder of assistants has a warning");
}
