//! Bounds the requests for responses, whatever the provider answers: some at once, then one in each period. One beyond
//! that waits, and the next of its kind replaces it.

use std::time::{Duration, Instant};

/// How many requests may go out at once.
const AT_ONCE: u32 = 5;
/// How long it takes until one more may.
const PERIOD: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Requests {
    /// When as many may go out at once as ever.
    rested: Instant,
    /// The frames that wait, at most one of each kind.
    held: Vec<(Kind, String)>,
}

/// What a request is for. A later one of the same kind is wanted in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    InConversation,
    OutOfBand,
}

impl Requests {
    pub fn new(now: Instant) -> Self {
        Self { rested: now, held: Vec::new() }
    }

    /// The request may go out at once. Otherwise hold it.
    pub fn may_send(&mut self, now: Instant) -> bool {
        let may = self.rested <= now + PERIOD * (AT_ONCE - 1);
        if may {
            self.rested = self.rested.max(now) + PERIOD;
        }
        may
    }

    pub fn hold(&mut self, kind: Kind, frame: String) {
        self.held.retain(|(other, _)| *other != kind);
        self.held.push((kind, frame));
    }

    /// When [`Self::release`] has something.
    pub fn due(&self) -> Option<Instant> {
        (!self.held.is_empty()).then(|| self.next())
    }

    /// When the next request may go out.
    pub fn next(&self) -> Instant {
        self.rested.checked_sub(PERIOD * (AT_ONCE - 1)).unwrap_or(self.rested)
    }

    /// The next request whose time has come.
    pub fn release(&mut self, now: Instant) -> Option<String> {
        (!self.held.is_empty() && self.may_send(now)).then(|| self.held.remove(0).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_go_out_at_once_and_then_one_each_period() {
        let began = Instant::now();
        let mut requests = Requests::new(began);
        let sent = (0..10_000).filter(|ms| requests.may_send(began + Duration::from_millis(*ms))).count();
        assert_eq!(sent, 5 + 19);
        let later = began + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| requests.may_send(later)).count(), 5, "it has rested");
    }

    #[test]
    fn the_last_request_of_its_kind_waits() {
        let began = Instant::now();
        let mut requests = Requests::new(began);
        while requests.may_send(began) {}
        assert_eq!(requests.due(), None, "nothing waits");
        requests.hold(Kind::InConversation, "first".to_owned());
        requests.hold(Kind::OutOfBand, "filler".to_owned());
        requests.hold(Kind::InConversation, "second".to_owned());
        let due = requests.due().unwrap();
        assert_eq!(due, began + PERIOD);
        assert_eq!(requests.release(due - Duration::from_millis(1)), None);
        assert_eq!(requests.release(due).as_deref(), Some("filler"));
        assert_eq!((requests.release(due), requests.due()), (None, Some(due + PERIOD)));
        assert_eq!(requests.release(due + PERIOD).as_deref(), Some("second"));
        assert_eq!(requests.due(), None);
    }
}
