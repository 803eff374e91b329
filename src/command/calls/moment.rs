//! A time as a person types it to say from when or until when.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::duration;

/// A moment, a day, or how long ago something was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Ago(Duration),
    /// The whole day.
    Day(Date),
    Local(DateTime),
    /// With an offset.
    Exact(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write how long ago, such as 7d or 90m, a day such as 2026-11-30, or a time such as 2026-11-30T18:30 or \
     2026-11-30T18:30:00Z"
)]
pub(super) struct InvalidMoment;

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let text = text.trim();
        let ago = || duration::parse(text).map(Self::Ago);
        let exact = || text.parse().ok().map(Self::Exact);
        let local = || text.parse().ok().map(Self::Local).filter(|_| text.contains(':'));
        // A day with a time is none.
        let day = || text.parse().ok().map(Self::Day).filter(|_| !text.contains(':'));
        ago().or_else(exact).or_else(local).or_else(day).ok_or(InvalidMoment)
    }
}

impl Moment {
    /// Where a range begins that starts with it. `None` beyond the calendar.
    pub fn start(self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Ago(time) => now.checked_sub(time).ok(),
            Self::Day(day) => zone.to_timestamp(day.to_datetime(jiff::civil::Time::midnight())).ok(),
            Self::Local(local) => zone.to_timestamp(local).ok(),
            Self::Exact(moment) => Some(moment),
        }
    }

    /// Where a range ends that goes up to it. A day is a part of the range.
    pub fn end(self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Day(day) => Self::Day(day.checked_add(1.day()).ok()?).start(zone, now),
            Self::Ago(_) | Self::Local(_) | Self::Exact(_) => self.start(zone, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_the_zone_of_the_reader() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let now: Timestamp = "2026-12-01T12:00:00Z".parse().unwrap();
        for (text, start, end) in [
            ("7d", "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"),
            ("90m", "2026-12-01T10:30:00Z", "2026-12-01T10:30:00Z"),
            ("1d 6h", "2026-11-30T06:00:00Z", "2026-11-30T06:00:00Z"),
            ("2026-11-30", "2026-11-29T23:00:00Z", "2026-11-30T23:00:00Z"),
            ("2026-11-30T18:30", "2026-11-30T17:30:00Z", "2026-11-30T17:30:00Z"),
            (" 2026-11-30T18:30:00Z ", "2026-11-30T18:30:00Z", "2026-11-30T18:30:00Z"),
            ("2026-11-30T18:30:00-05:00", "2026-11-30T23:30:00Z", "2026-11-30T23:30:00Z"),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.start(&berlin, now), Some(start.parse().unwrap()), "{text}");
            assert_eq!(moment.end(&berlin, now), Some(end.parse().unwrap()), "{text}");
        }
        for text in ["", "yesterday", "7", "2026-13-01", "18:30", "-1d", "2026-11-30T25:00"] {
            assert_eq!(text.parse::<Moment>(), Err(InvalidMoment), "{text}");
        }
    }
}
