//! The limits that are judged when a phone rings: what is counted, and the decision.
//!
//! A ring waits for no database. What this machine does is counted as it happens; what others do is read from the store
//! every few seconds ([`Others`](super::Others)). Both know a call by the id of its record, so that it counts once. The
//! clock comes from outside.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::assistant::plan::{Blocked, Gate};
use crate::phone::Party;
use crate::record::{RecordId, Refusal, caller_key};
use crate::secret::Secret;
use crate::store::{Counted, Owner};

/// The hour and the day of `calls_per_caller` end with the ring.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// The longest day of a calendar, when the clocks go back.
pub(super) const LONGEST_DAY: SignedDuration = SignedDuration::from_hours(25);
/// From this share of a limit on, it is near.
pub(super) const NEAR: f64 = 0.8;

/// A phone that rings.
#[derive(Debug, Clone, Copy)]
pub struct Ringing<'a> {
    pub call: &'a str,
    pub assistant: &'a str,
    /// `None`: another machine knows who calls.
    pub caller: Option<&'a Party>,
}

/// The days whose calls have cost 80 % or more of what they may: the names of assistants, and [`Self::ALL`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaysNear(pub BTreeSet<String>);

impl DaysNear {
    /// Stands for all assistants together: no assistant has this name.
    pub const ALL: &'static str = "";
}

/// See the module.
#[derive(Debug)]
pub struct Limits {
    /// What the calls of all assistants may cost in a day of UTC, in dollars.
    cost_per_day: Option<f64>,
    ledger: Mutex<Ledger>,
    /// Numbers and SIDs are known by their hashes with these keys.
    hasher: RandomState,
    near: watch::Sender<DaysNear>,
}

#[derive(Debug, Default)]
struct Ledger {
    calls: HashMap<RecordId, Known>,
    /// The secret of the store's hashes of numbers, once the store is there.
    secret: Option<Secret>,
}

/// A call that counts.
#[derive(Debug)]
struct Known {
    assistant: String,
    /// The hash of its SID: a call may have several records.
    call: u64,
    caller: Caller,
    began: Timestamp,
    runs: bool,
    /// So far, in billionths of a dollar.
    cost: u64,
    /// It is or was one of this machine.
    is_ours: bool,
}

/// Who calls, without the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// The hash of a number, with this process's key.
    Here(u64),
    /// The beginning of the hash that the store keeps.
    Stored(u64),
    /// The network gave no number.
    Withheld,
    /// The store keeps none.
    Unknown,
}

/// What counts when a phone rings.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    /// Calls of the assistant that run.
    running: usize,
    /// Its calls of this caller in the last hour and in the last 24 hours.
    hour: usize,
    day: usize,
    /// What its calls of today have cost, and those of all assistants.
    cost: u64,
    all: u64,
}

/// Whether the file blocks this caller.
pub fn is_blocked(gate: &Gate, caller: &Party) -> bool {
    let number = caller.number();
    gate.block.iter().any(|blocked| match blocked {
        Blocked::Number(blocked) => number == Some(blocked),
        Blocked::Prefix(prefix) => number.is_some_and(|number| number.expose().starts_with(prefix.as_str())),
        Blocked::Withheld => *caller == Party::Withheld,
    })
}

/// Whether calls have to be counted for it.
pub(super) fn counts(gate: &Gate) -> bool {
    let Gate { calls, cost_per_day, per_hour, per_day, count_withheld: _, block: _ } = gate;
    cost_per_day.is_some() || [calls, per_hour, per_day].into_iter().any(Option::is_some)
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Limits {
    /// `cost_per_day`: what the calls of all assistants may cost together in a day of UTC, in dollars.
    pub fn new(cost_per_day: Option<f64>) -> Self {
        Self {
            cost_per_day,
            ledger: Mutex::default(),
            hasher: RandomState::new(),
            near: watch::channel(DaysNear::default()).0,
        }
    }

    /// Counts a call from now on, if its assistant's limits let it begin. `gate` comes with the assistant's time zone; it
    /// is `None` for a call that was let in before. `place` is asked last.
    ///
    /// # Errors
    /// Why it is refused. It does not count then.
    pub fn admit<P>(
        &self,
        id: RecordId,
        ringing: &Ringing<'_>,
        gate: Option<(&Gate, &TimeZone)>,
        now: Timestamp,
        place: impl FnOnce() -> Option<P>,
    ) -> Result<P, Refusal> {
        let mut ledger = self.ledger();
        if let Some((gate, zone)) = gate
            && (counts(gate) || self.cost_per_day.is_some())
        {
            let figures = self.figures(&ledger, ringing, gate, zone, now);
            if let Some(why) = self.decide(gate, &figures) {
                return Err(why);
            }
        }
        let place = place().ok_or(Refusal::Busy)?;
        let known = Known {
            assistant: ringing.assistant.to_owned(),
            call: self.hash(ringing.call),
            caller: self.caller(ringing.caller),
            began: now,
            runs: true,
            cost: 0,
            is_ours: true,
        };
        ledger.calls.insert(id, known);
        Ok(place)
    }

    fn decide(&self, gate: &Gate, figures: &Figures) -> Option<Refusal> {
        let full = |limit: Option<u32>, count: usize| limit.is_some_and(|limit| count >= limit as usize);
        let spent = |limit: Option<f64>, cost: u64| limit.is_some_and(|limit| cost >= nano(limit));
        if full(gate.per_hour, figures.hour) || full(gate.per_day, figures.day) {
            Some(Refusal::Caller)
        } else if full(gate.calls, figures.running) {
            Some(Refusal::Calls)
        } else if spent(gate.cost_per_day, figures.cost) || spent(self.cost_per_day, figures.all) {
            Some(Refusal::Cost)
        } else {
            None
        }
    }

    fn figures(
        &self,
        ledger: &Ledger,
        ringing: &Ringing<'_>,
        gate: &Gate,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Figures {
        let (today, all_today) = (day_began(zone, now), day_began(&TimeZone::UTC, now));
        let this = self.hash(ringing.call);
        let caller = self.caller(ringing.caller);
        let stored = ringing.caller.and_then(|caller| stored(ledger.secret.as_ref()?, caller));
        let is_caller = |other: Caller| match caller {
            Caller::Withheld => gate.count_withheld && other == caller,
            Caller::Here(_) => other == caller || Some(other) == stored,
            Caller::Stored(_) | Caller::Unknown => false,
        };
        let mut figures = Figures::default();
        let (mut running, mut hour, mut day) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for known in ledger.calls.values() {
            if known.began >= all_today {
                figures.all = figures.all.saturating_add(known.cost);
            }
            if known.assistant != ringing.assistant {
                continue;
            }
            if known.began >= today {
                figures.cost = figures.cost.saturating_add(known.cost);
            }
            // A call that comes back is not a second one.
            if known.call == this {
                continue;
            }
            if known.runs {
                running.insert(known.call);
            }
            let ago = now.duration_since(known.began);
            if ago < DAY && is_caller(known.caller) {
                day.insert(known.call);
                if ago < HOUR {
                    hour.insert(known.call);
                }
            }
        }
        Figures { running: running.len(), hour: hour.len(), day: day.len(), ..figures }
    }

    /// What a call has cost so far, in dollars; after its end, too.
    pub fn spent(&self, id: &RecordId, cost: f64) {
        if let Some(known) = self.ledger().calls.get_mut(id) {
            known.cost = nano(cost);
        }
    }

    /// The call is over. It counts on for the day.
    pub fn left(&self, id: &RecordId) {
        if let Some(known) = self.ledger().calls.get_mut(id) {
            known.runs = false;
        }
    }

    /// Takes in calls as the store has them. `whole`: these are all of the day; otherwise those that run, and those that
    /// ended lately.
    pub fn read(&self, calls: Vec<Counted>, secret: Secret, whole: bool) {
        let mut ledger = self.ledger();
        ledger.secret = Some(secret);
        if whole {
            ledger.calls.retain(|_, known| known.is_ours);
        }
        for known in ledger.calls.values_mut().filter(|known| !known.is_ours) {
            known.runs = false;
        }
        for Counted { id, call, assistant, owner, began, runs, cost_nano } in calls {
            // Of its own calls, this machine knows more.
            if ledger.calls.get(&id).is_some_and(|known| known.is_ours) {
                continue;
            }
            let caller = match &owner {
                Owner::Key(key) => key_of(key).map_or(Caller::Unknown, Caller::Stored),
                Owner::Nobody => Caller::Withheld,
                Owner::Number(_) | Owner::Unknown => Caller::Unknown,
            };
            let call = self.hash(call.as_str());
            let known = Known { assistant, call, caller, began, runs, cost: cost_nano, is_ours: false };
            ledger.calls.insert(id, known);
        }
    }

    /// Forgets what no longer counts: all that is over, if nothing is limited.
    pub fn forget(&self, is_limited: bool, now: Timestamp) {
        let counts = |began: Timestamp| is_limited && now.duration_since(began) < LONGEST_DAY;
        self.ledger().calls.retain(|_, known| known.runs || counts(known.began));
    }

    /// Whether all assistants have a limit together.
    pub fn limits_all(&self) -> bool {
        self.cost_per_day.is_some()
    }

    /// The days whose cost is near its limit. They change in [`Self::look`].
    pub fn days_near(&self) -> watch::Receiver<DaysNear> {
        self.near.subscribe()
    }

    /// Finds the days whose cost is near its limit, of these assistants and of all.
    pub fn look<'a>(
        &self,
        assistants: impl Iterator<Item = (&'a str, &'a Gate, &'a TimeZone)>,
        now: Timestamp,
    ) {
        /// Since when the cost counts, the limit, and the sum.
        type Day = (Timestamp, f64, u64);
        let mut all: Option<Day> = self.cost_per_day.map(|limit| (day_began(&TimeZone::UTC, now), limit, 0));
        let mut days: BTreeMap<&str, Day> = assistants
            .filter_map(|(name, gate, zone)| Some((name, (day_began(zone, now), gate.cost_per_day?, 0))))
            .collect();
        for known in self.ledger().calls.values() {
            for (began, _, sum) in days.get_mut(known.assistant.as_str()).into_iter().chain(&mut all) {
                if known.began >= *began {
                    *sum = sum.saturating_add(known.cost);
                }
            }
        }
        let days = days.into_iter().chain(all.map(|day| (DaysNear::ALL, day)));
        let near = days.filter(|(_, (_, limit, sum))| *sum >= nano(limit * NEAR));
        let near = DaysNear(near.map(|(name, _)| name.to_owned()).collect());
        self.near.send_if_modified(|before| std::mem::replace(before, near.clone()) != near);
    }

    fn caller(&self, caller: Option<&Party>) -> Caller {
        match caller {
            Some(Party::Number(number)) => Caller::Here(self.hash(number)),
            // Whoever has an address in place of a number can have any number of them.
            Some(Party::Withheld | Party::Other(_)) => Caller::Withheld,
            None => Caller::Unknown,
        }
    }

    fn hash(&self, value: impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the store knows this caller.
fn stored(secret: &Secret, caller: &Party) -> Option<Caller> {
    key_of(&caller_key(secret, caller.number()?)).map(Caller::Stored)
}

/// The first 64 bits of a hash in hex digits.
fn key_of(hash: &str) -> Option<u64> {
    u64::from_str_radix(hash.get(..16)?, 16).ok()
}

/// When the day of `now` began.
fn day_began(zone: &TimeZone, now: Timestamp) -> Timestamp {
    let midnight = now.to_zoned(zone.clone()).start_of_day();
    midnight.map_or(now.saturating_sub(DAY).unwrap_or(Timestamp::MIN), |midnight| midnight.timestamp())
}

/// Dollars in billionths.
fn nano(dollars: f64) -> u64 {
    (dollars * 1e9).round() as u64
}

#[cfg(test)]
mod tests;
