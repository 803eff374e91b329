//! Admits a bounded number of calls at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::observe::metrics;

/// Counts this process's calls.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    taken: Arc<AtomicUsize>,
}

/// The right to be one of the calls. Dropping it returns it.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Admission {
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: Arc::default() }
    }

    pub fn admit(&self) -> Option<Place> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.limit).then_some(taken + 1)
            })
            .ok()?;
        metrics::call_entered();
        Some(Place(self.taken.clone()))
    }

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
    fn a_dropped_place_is_free_again() {
        let admission = Admission::new(2);
        let first = admission.admit().expect("the first");
        let _second = admission.admit().expect("the second");
        assert!(admission.admit().is_none());
        drop(first);
        assert!(admission.admit().is_some());
    }
}
