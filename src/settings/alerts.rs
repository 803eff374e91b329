//! `alerts:` and `limits:` in `switchboard.yaml`: what the owner hears of the server, and what all calls may cost.

use super::providers::{Reading, shown};
use crate::assistant::mailbox;
use crate::assistant::plan::Mailbox;
use crate::problem::catalogue::Setting;
use crate::problem::{Problem, Source, Suggestion};
use crate::yaml::{Node, Scalar};

/// The keys of `alerts`.
const KEYS: [&str; 2] = ["to", "when"];
/// The key of `limits`.
const COST_PER_DAY: &str = "cost_per_day";
/// In dollars.
const LEAST: f64 = 0.01;
const MOST: f64 = 100_000.0;

/// Where news of the server goes, and which.
#[derive(Clone, PartialEq)]
pub struct Alerts {
    /// At least one way.
    pub to: Mailbox,
    /// At least one.
    pub when: Vec<AlertKind>,
}

/// Addresses and secrets are not shown.
impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerts").field("when", &self.when).finish_non_exhaustive()
    }
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertKind {
    /// A provider of models cannot be reached.
    ProviderDown,
    /// An account at a provider has no credit left.
    Quota,
    /// The folder of assistants has problems, so that an edit is not in force.
    EditRejected,
    /// Something for an owner could not be delivered.
    MessageFailed,
    /// 80 % of what the calls of a day may cost.
    CostDay80,
    /// The database cannot be reached.
    StoreDown,
    /// The server was stopped before everything was done.
    DrainFailed,
}

impl AlertKind {
    pub const ALL: [Self; 7] = [
        Self::ProviderDown,
        Self::Quota,
        Self::EditRejected,
        Self::MessageFailed,
        Self::CostDay80,
        Self::StoreDown,
        Self::DrainFailed,
    ];

    /// As in `when`.
    pub fn code(self) -> &'static str {
        match self {
            Self::ProviderDown => "provider_down",
            Self::Quota => "quota",
            Self::EditRejected => "edit_rejected",
            Self::MessageFailed => "message_failed",
            Self::CostDay80 => "cost_day_80",
            Self::StoreDown => "store_down",
            Self::DrainFailed => "drain_failed",
        }
    }

    /// Whether the owner hears that it is well again.
    pub fn recovers(self) -> bool {
        match self {
            Self::ProviderDown | Self::StoreDown | Self::EditRejected => true,
            Self::Quota | Self::MessageFailed | Self::CostDay80 | Self::DrainFailed => false,
        }
    }
}

/// `None`: there are none, because every way is turned off or something is wrong.
pub(super) fn read(source: &Source, node: &Node) -> (Option<Alerts>, Vec<Problem>) {
    let mut reading = Reading { source, problems: Vec::new() };
    if node.is_null() {
        return (None, reading.problems);
    }
    let fields = reading.fields(node, super::ALERTS, &KEYS);
    let when = match fields.get("when") {
        Some(node) => when(&mut reading, node),
        None => AlertKind::ALL.to_vec(),
    };
    let Some(to) = fields.get("to") else {
        if reading.problems.is_empty() {
            reading.report(node.span, Setting::AlertsWithoutTo);
        }
        return (None, reading.problems);
    };
    let (to, problems) = mailbox(source, to);
    reading.problems.extend(problems);
    let alerts = (!to.is_empty() && !when.is_empty()).then_some(Alerts { to, when });
    (alerts.filter(|_| !reading.problems.iter().any(Problem::is_error)), reading.problems)
}

fn when<'a>(reading: &mut Reading<'a>, node: &'a Node) -> Vec<AlertKind> {
    let mut kinds = Vec::new();
    for item in reading.list(node, "when") {
        let Some(text) = reading.text(item, "when") else { continue };
        match AlertKind::ALL.into_iter().find(|kind| kind.code() == text) {
            Some(kind) if kinds.contains(&kind) => {}
            Some(kind) => kinds.push(kind),
            None => {
                let suggestion = Suggestion::new(&text, AlertKind::ALL.map(AlertKind::code));
                reading.report(item.span, Setting::AlertsWhen { shown: shown(item), suggestion });
            }
        }
    }
    kinds
}

/// What the calls of all assistants may cost in a day, in dollars.
pub(super) fn limits(source: &Source, node: &Node) -> (Option<f64>, Vec<Problem>) {
    let mut reading = Reading { source, problems: Vec::new() };
    if node.is_null() {
        return (None, reading.problems);
    }
    let fields = reading.fields(node, super::LIMITS, &[COST_PER_DAY]);
    let cost = fields.get(COST_PER_DAY).and_then(|node| {
        let cost = node.scalar().and_then(Scalar::number).filter(|cost| (LEAST..=MOST).contains(cost));
        if cost.is_none() {
            reading.report(node.span, Setting::Dollars { name: COST_PER_DAY, least: LEAST, most: MOST });
        }
        cost
    });
    (cost, reading.problems)
}
