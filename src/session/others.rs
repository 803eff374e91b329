//! Reads what other machines have counted, and this one before a restart.

use jiff::{SignedDuration, Timestamp};

use super::limits::{LONGEST_DAY, Limits};
use crate::store::{Store, StoreError};

/// How often the whole day is read: what waited at another machine for the database comes late.
const WHOLE: SignedDuration = SignedDuration::from_mins(10);
/// Calls that ended so long before the last reading are read again: clocks differ, and what is written waits.
const OVERLAP: SignedDuration = SignedDuration::from_mins(2);

/// See the module.
#[derive(Debug, Default)]
pub struct Others {
    /// When the whole day was read.
    whole: Option<Timestamp>,
    /// When anything was.
    last: Option<Timestamp>,
}

impl Others {
    /// Reads what is new at `now` into the limits.
    ///
    /// # Errors
    /// If the store cannot be asked. What was known stays.
    pub async fn read(&mut self, store: &Store, limits: &Limits, now: Timestamp) -> Result<(), StoreError> {
        let is_whole = self.whole.is_none_or(|whole| now.duration_since(whole) >= WHOLE);
        let ended = self.last.filter(|_| !is_whole);
        let before = |time: Timestamp, by| time.saturating_sub(by).unwrap_or(Timestamp::MIN);
        let began = before(now, LONGEST_DAY);
        let (calls, secret) = store.counted(began, ended.map(|last| before(last, OVERLAP))).await?;
        limits.read(calls, secret, is_whole);
        self.last = Some(now);
        if is_whole {
            self.whole = Some(now);
        }
        Ok(())
    }
}
