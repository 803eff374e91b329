//! Who may still come in: a bounded number of calls at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::observe::metrics;

/// Counts the places of this process.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    taken: Arc<AtomicUsize>,
}

/// The right to be one of the calls; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Admission {
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: Arc::default() }
    }

    /// A place, unless all are taken.
    pub fn admit(&self) -> Option<Place> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.limit).then_some(taken + 1)
            })
            .ok()?;
        metrics::call_entered();
        Some(Place(self.taken.clone()))
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        metrics::call_left();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back() {
        let admission = Admission::new(2);
        let first = admission.admit().expect("the first");
        let _second = admission.admit().expect("the second");
        assert!(admission.admit().is_none());
        drop(first);
        assert!(admission.admit().is_some());
    }
}
