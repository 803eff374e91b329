//! Times, lengths and amounts as the pages show them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

/// Anything for a template.
pub fn value(of: impl Serialize) -> Value {
    Serde(of).into()
}

impl From<Moment> for Value {
    fn from(moment: Moment) -> Self {
        value(moment)
    }
}

/// A moment: for people, and for the browser, which may show it in its own zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub text: String,
    pub machine: String,
}

pub fn moment(at: Timestamp) -> Moment {
    let utc = at.to_zoned(TimeZone::UTC);
    Moment { text: utc.strftime("%-d %b %Y, %H:%M:%S UTC").to_string(), machine: format!("{at:.0}") }
}

/// `1:05`, `1:02:03`
pub fn length(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// `0:05.1`
pub fn clock(ms: u64) -> String {
    format!("{}:{:02}.{}", ms / 60_000, ms / 1_000 % 60, ms / 100 % 10)
}

/// `412 ms`, `1.2 s`
pub fn wait(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ => format!("{:.1} s", ms as f64 / 1_000.0),
    }
}

/// `$0.056`
pub fn dollars(amount: f64) -> String {
    match amount {
        1.0.. => format!("${amount:.2}"),
        _ => format!("${amount:.3}"),
    }
}

/// A caller or a called number, as the record keeps it.
pub fn party(number: Option<&str>) -> &str {
    number.unwrap_or("withheld")
}

/// The first of a text's letters.
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_amounts_are_short() {
        assert_eq!([length(5.9), length(65.0), length(3_723.0)], ["0:05", "1:05", "1:02:03"]);
        assert_eq!([wait(999), wait(1_250)], ["999 ms", "1.2 s"]);
        assert_eq!([dollars(0.0561), dollars(12.345)], ["$0.056", "$12.35"]);
        assert_eq!([clock(5_120), clock(65_990)], ["0:05.1", "1:05.9"]);
        let at = "2026-11-30T14:05:09.120Z".parse().unwrap();
        assert_eq!(moment(at).text, "30 Nov 2026, 14:05:09 UTC");
        assert_eq!(moment(at).machine, "2026-11-30T14:05:09Z");
        assert_eq!(clipped("día más", 3), "día…");
    }
}
