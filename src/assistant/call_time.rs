//! A time as a person types it, to see a prompt as it is then.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

/// A moment, or a time on the clock of an assistant's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallTime {
    /// RFC 3339, with an offset.
    Exact(Timestamp),
    Local(DateTime),
    /// Today.
    Today(Time),
}

/// It is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a local time such as 18:30 or 2026-12-24T18:30, or one with an offset such as 2026-12-24T18:30:00Z"
)]
pub struct InvalidTime;

impl FromStr for CallTime {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<CallTime, InvalidTime> {
        let text = text.trim();
        let exact = || text.parse().map(CallTime::Exact);
        // `2026-12-24` alone would be midnight, which hardly anybody means.
        let local = || text.parse().map(CallTime::Local).ok().filter(|_| text.contains(':'));
        let today =
            || text.parse().map(CallTime::Today).ok().filter(|_| text.contains(':') && text.len() <= 8);
        exact().ok().or_else(today).or_else(local).ok_or(InvalidTime)
    }
}

impl CallTime {
    /// The moment in this zone. A local time that a change of the clock skips is as much later; one that comes twice is
    /// the first.
    pub(super) fn within(self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        let local = match self {
            CallTime::Exact(moment) => return Some(moment),
            CallTime::Local(local) => local,
            CallTime::Today(time) => zone.to_datetime(now).date().to_datetime(time),
        };
        zone.to_timestamp(local).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_time_is_that_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // It is the next day in Berlin.
        let now = "2026-03-03T23:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-12-24T18:30:00Z", Some("2026-12-24T18:30:00Z")),
            ("2026-12-24T18:30:00+01:00", Some("2026-12-24T17:30:00Z")),
            ("2026-12-24T18:30", Some("2026-12-24T17:30:00Z")),
            ("2026-12-24 18:30:15", Some("2026-12-24T17:30:15Z")),
            ("2026-07-01 18:30", Some("2026-07-01T16:30:00Z")),
            ("18:30", Some("2026-03-04T17:30:00Z")),
            ("02:30", Some("2026-03-04T01:30:00Z")),
            // The clock skips it.
            ("2026-03-29T02:30", Some("2026-03-29T01:30:00Z")),
            ("2026-12-24", None),
            ("tomorrow", None),
            ("25:00", None),
            ("2026-13-01T10:00", None),
            ("", None),
        ] {
            let moment = text.parse::<CallTime>().ok().and_then(|moment| moment.within(&berlin, now));
            assert_eq!(moment, expected.map(|moment| moment.parse().unwrap()), "{text}");
        }
    }
}
