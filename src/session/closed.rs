//! The calls that are over: a ring of one of them, sent again, opens nothing.
//!
//! Twilio's signature has no date, so a signed ring stays valid. This process remembers the last of its calls for a day,
//! in 24 bytes or so each, and those that the store knows from the processes before it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a closed call is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// A call SID in few bytes: `CallSid::bytes`.
pub type Key = [u8; 16];

/// See the module.
#[derive(Debug)]
pub struct Closed {
    began: Instant,
    /// From when on it is closed, in seconds since a day before `began`.
    calls: HashMap<Key, u32>,
    /// In the order in which they were closed.
    order: VecDeque<Key>,
    /// The most calls that are remembered. The oldest go first.
    most: usize,
}

impl Closed {
    pub fn new(now: Instant, most: usize) -> Self {
        Self { began: now, calls: HashMap::new(), order: VecDeque::new(), most }
    }

    /// Closes a call from `from` on, which may be a little later than now. A call that is closed stays so.
    pub fn close(&mut self, key: Key, from: Instant) {
        let from = self.seconds(from);
        let memory = memory();
        match self.calls.get_mut(&key) {
            Some(known) if known.saturating_add(memory) > from => return *known = from.min(*known),
            // It was over for a day, and is again.
            Some(_) => self.order.retain(|other| *other != key),
            None => {}
        }
        self.calls.insert(key, from);
        self.order.push_back(key);
        while let Some(oldest) = self.order.front()
            && (self.order.len() > self.most
                || self.calls.get(oldest).is_none_or(|closed| closed.saturating_add(memory) < from))
        {
            self.calls.remove(oldest);
            self.order.pop_front();
        }
    }

    /// Closes a call that ended long ago, in a process before this one. It makes room for none: the older of the calls that
    /// are remembered are to come last.
    pub fn close_earlier(&mut self, key: Key, ago: Duration, now: Instant) {
        let ago = u32::try_from(ago.as_secs()).unwrap_or(u32::MAX);
        if ago < memory() && self.order.len() < self.most && !self.calls.contains_key(&key) {
            self.calls.insert(key, self.seconds(now).saturating_sub(ago));
            self.order.push_front(key);
        }
    }

    pub fn contains(&self, key: &Key, now: Instant) -> bool {
        let age = |from: u32| Some(Duration::from_secs(self.seconds(now).checked_sub(from)?.into()));
        let from = self.calls.get(key);
        from.and_then(|from| age(*from)).is_some_and(|age| age < MEMORY)
    }

    fn seconds(&self, at: Instant) -> u32 {
        u32::try_from((at.saturating_duration_since(self.began) + MEMORY).as_secs()).unwrap_or(u32::MAX)
    }
}

fn memory() -> u32 {
    u32::try_from(MEMORY.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u128) -> Key {
        number.to_be_bytes()
    }

    #[test]
    fn a_call_is_closed_for_a_day() {
        let now = Instant::now();
        let mut closed = Closed::new(now, 10);
        let at = |secs| now + Duration::from_secs(secs);
        closed.close(call(1), at(5));
        closed.close(call(2), at(65));
        closed.close(call(2), at(90));
        for (number, secs, expected) in [
            (1, 5, true),
            (1, 86_404, true),
            (1, 86_405, false),
            (2, 64, false),
            (2, 65, true),
            (2, 86_464, true),
            (2, 86_465, false),
            (3, 5, false),
        ] {
            assert_eq!(closed.contains(&call(number), at(secs)), expected, "{number} after {secs} s");
        }
        closed.close(call(2), at(30));
        assert!(closed.contains(&call(2), at(30)), "the earlier time counts");
        closed.close(call(1), at(90_000));
        assert!(closed.contains(&call(1), at(90_000)), "a day later it is closed again");
    }

    #[test]
    fn a_call_of_an_earlier_process_is_closed_for_the_rest_of_its_day() {
        let now = Instant::now();
        let mut closed = Closed::new(now, 3);
        let at = |secs| now + Duration::from_secs(secs);
        closed.close(call(1), at(10));
        for (number, ago) in [(1, 5), (2, 3_600), (3, 86_400), (4, 86_390), (5, 86_399)] {
            closed.close_earlier(call(number), Duration::from_secs(ago), at(10));
        }
        for (number, secs, expected) in [
            (1, 86_409, true),
            (2, 10, true),
            (2, 82_809, true),
            (2, 82_810, false),
            (3, 10, false),
            (4, 19, true),
            (4, 20, false),
            (5, 10, false),
        ] {
            assert_eq!(closed.contains(&call(number), at(secs)), expected, "{number} after {secs} s");
        }
        closed.close(call(6), at(11));
        assert!(!closed.contains(&call(4), at(11)), "the oldest goes first");
        assert!(closed.contains(&call(1), at(11)) && closed.contains(&call(2), at(11)));
    }

    #[test]
    fn the_oldest_calls_go_first() {
        let now = Instant::now();
        let mut closed = Closed::new(now, 10);
        for number in 0..=10 {
            closed.close(call(number), now);
        }
        assert!(!closed.contains(&call(0), now) && closed.contains(&call(1), now));
        assert_eq!((closed.calls.len(), closed.order.len()), (10, 10));
        // Those of the day before make room.
        closed.close(call(0), now + MEMORY + Duration::from_secs(1));
        assert_eq!((closed.calls.len(), closed.order.len()), (1, 1));
    }
}
