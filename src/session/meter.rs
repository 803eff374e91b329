//! What one call may cost.

use std::time::{Duration, Instant};

use super::limits::NEAR;
use crate::call::Event;

/// How often the cost of a call is looked at: its minutes cost, too.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Meter {
    /// In dollars.
    limit: Option<f64>,
    was_near: bool,
    next: Option<Instant>,
}

impl Meter {
    pub fn new(limit: Option<f64>) -> Self {
        Self { limit, was_near: false, next: None }
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// The same. It is time again a second later.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_due(now);
        if is_due {
            self.next = Some(now + EVERY);
        }
        is_due
    }

    /// What the call learns about its cost, in dollars.
    pub fn read(&mut self, cost: f64) -> Option<Event> {
        let limit = self.limit?;
        if cost >= limit {
            return Some(Event::CostReached);
        }
        let is_near = cost >= limit * NEAR && !self.was_near;
        self.was_near |= is_near;
        is_near.then_some(Event::CostNear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_learns_once_that_it_comes_near_and_then_until_it_ends() {
        let mut meter = Meter::new(Some(0.5));
        let learned = [0.0, 0.39, 0.4, 0.45, 0.5, 0.6].map(|cost| meter.read(cost));
        let (near, reached) = (Some(Event::CostNear), Some(Event::CostReached));
        assert_eq!(learned, [None, None, near, None, reached.clone(), reached]);
        assert_eq!(Meter::new(None).read(1_000.0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_read_once_a_second() {
        let now = crate::link::now();
        let mut meter = Meter::new(None);
        let read = (0..3_000).filter(|ms| meter.take_due(now + Duration::from_millis(*ms))).count();
        assert_eq!(read, 3);
    }
}
