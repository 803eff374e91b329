//! Admits a bounded number of calls at once, and those that the limits of their assistant let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::limits::{Limits, Ringing};
use crate::assistant::plan::Gate;
use crate::observe::metrics;
use crate::record::{RecordId, Refusal};

/// The most test calls at once.
const MAX_TESTS: usize = 8;

/// Counts this process's calls.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    taken: Arc<AtomicUsize>,
    /// Test calls.
    tests: Arc<AtomicUsize>,
    limits: Arc<Limits>,
}

/// The right to be one of the calls. Dropping it returns it.
#[derive(Debug)]
pub struct Place {
    /// Of the call's record.
    pub id: RecordId,
    taken: Arc<AtomicUsize>,
    /// `None` for a test call.
    limits: Option<Arc<Limits>>,
}

impl Admission {
    pub fn new(limit: usize, limits: Arc<Limits>) -> Self {
        Self { limit, taken: Arc::default(), tests: Arc::default(), limits }
    }

    /// Lets a call begin at `now`. A call that was let in before has no gate.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(
        &self,
        ringing: &Ringing<'_>,
        gate: Option<(&Gate, &TimeZone)>,
        now: Timestamp,
    ) -> Result<Place, Refusal> {
        // A rehearsal's time is not the record's.
        let id = RecordId::new(Timestamp::now(), rand::random());
        self.limits.admit(id.clone(), ringing, gate, now, || self.take())?;
        Ok(Place { id, taken: self.taken.clone(), limits: Some(self.limits.clone()) })
    }

    /// Lets a test call begin. It takes no place of a caller, and counts for no limit.
    ///
    /// # Errors
    /// If there are too many of them.
    pub fn admit_test(&self) -> Result<Place, Refusal> {
        let next = |tests| (tests < MAX_TESTS).then_some(tests + 1);
        let taken = self.tests.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        taken.map_err(|_| Refusal::Busy)?;
        let id = RecordId::new(Timestamp::now(), rand::random());
        Ok(Place { id, taken: self.tests.clone(), limits: None })
    }

    fn take(&self) -> Option<()> {
        let next = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()?;
        metrics::call_entered();
        Some(())
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// A place for a call of nobody.
    #[cfg(test)]
    pub fn place(&self) -> Option<Place> {
        let ringing = Ringing { call: "CA1", assistant: "clinic", caller: None };
        self.admit(&ringing, None, Timestamp::now()).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
        if let Some(limits) = &self.limits {
            limits.left(&self.id);
            metrics::call_left();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_place_is_free_again() {
        let admission = Admission::new(2, Arc::default());
        let first = admission.place().expect("the first");
        let _second = admission.place().expect("the second");
        assert!(admission.place().is_none());
        drop(first);
        assert!(admission.place().is_some());
    }
}
