//! Durations as people write them: `500ms`, `1.5s`, `30m`, `1h30m`, `30d`. Go writes them the same way, but
//! for the days, so `fly.toml` does too.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// What [`parse`] accepts, for JSON Schema.
pub const PATTERN: &str = r"^\s*([0-9]+(\.[0-9]{1,3})?\s*(ms|s|min|m|h|d)\s*)+$";

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads numbers, each with a unit: `ms`, `s`, `m` or `min`, `h`, and `d`. A number without a unit is not a duration.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, ms) = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        // A thousandth of any unit is a whole number of microseconds.
        let thousandths: u64 = Some(part).filter(|part| part.len() <= 3)?.parse().ok()?;
        let micros = thousandths * 10_u64.pow(3 - part.len() as u32) * ms;
        let whole = Duration::from_millis(whole.parse::<u64>().ok()?.checked_mul(ms)?);
        total = total.checked_add(whole)?.checked_add(Duration::from_micros(micros))?;
        rest = after;
    }
    Some(total)
}

/// Writes a duration with the largest unit that fits, such as `30m`.
pub fn spell(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".to_owned(),
        ms if ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("500ms", Some(500)),
            ("60s", Some(60_000)),
            (" 30m ", Some(1_800_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30min", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("0.25h", Some(900_000)),
            ("30d", Some(2_592_000_000)),
            ("1d 12h", Some(129_600_000)),
            ("1.5m 30s", Some(120_000)),
            ("90", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("99999999999999999999h", None),
            ("1.2345s", None),
            (".5s", None),
            ("1.s", None),
            ("1.5.5s", None),
        ] {
            assert_eq!(parse(text), ms.map(Duration::from_millis), "{text}");
        }
        assert_eq!(spell(Duration::from_secs(90)), "90s");
        assert_eq!(spell(Duration::from_secs(36 * 3600)), "36h");
        assert_eq!(spell(Duration::from_secs(48 * 3600)), "2d");
    }
}
