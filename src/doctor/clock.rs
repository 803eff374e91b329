//! This machine's clock beside those of the servers that were asked for other things.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap};

use super::report::Finding;

/// More than this is told, in seconds. A `Date` has whole seconds, and an answer takes a while.
const MOST: i64 = 30;

/// How far ahead of ours another clock is, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading(pub i64);

/// Reads the header `Date`, where it is one.
pub fn reading(headers: &HeaderMap) -> Option<Reading> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let theirs = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Reading(theirs.as_second() - Timestamp::now().as_second()))
}

/// Judges what was read, each with the name of whose it is.
pub fn judge(readings: &[(String, Reading)]) -> Vec<Finding> {
    const COMES: &str = "tickets live 60 s and are made and taken by this clock where several machines answer; \
                         signed messages (Standard Webhooks) are refused after 5 minutes; certificates seem expired";
    let off: Vec<_> = readings.iter().filter(|(_, reading)| reading.0.abs() > MOST).collect();
    let told = |(who, reading): &(String, Reading)| {
        let way = if reading.0 > 0 { "ahead of" } else { "behind" };
        format!("{who} is {} {way} this machine", spell(reading.0.unsigned_abs()))
    };
    let all_one_way = |off: &[&(String, Reading)]| {
        off.iter().all(|(_, reading)| reading.0 > 0) || off.iter().all(|(_, reading)| reading.0 < 0)
    };
    match (off.as_slice(), readings.len()) {
        ([], 0) => Vec::new(),
        ([], _) => {
            let names: Vec<&str> = readings.iter().map(|(who, _)| who.as_str()).collect();
            vec![Finding::ok("clock.skew", format!("this machine's clock agrees with {}", listed(&names)))]
        }
        (off, all) if off.len() == all && all > 1 && all_one_way(off) => {
            let lines: Vec<String> = off.iter().map(|one| told(one)).collect();
            let message = format!("this machine's clock is wrong:\n{}", lines.join("\n"));
            vec![
                Finding::warning("clock.skew", message)
                    .causes(COMES)
                    .fix("set the clock by the network: `sudo timedatectl set-ntp true`"),
            ]
        }
        (off, all) => off
            .iter()
            .map(|one| {
                let whose = match all {
                    1 => "one of the two clocks is wrong: `timedatectl` says whether this one follows the network",
                    _ => "the others agree with this machine, so that clock is wrong: set it by the network",
                };
                Finding::warning("clock.skew", told(one)).causes(COMES).fix(whose)
            })
            .collect(),
    }
}

fn spell(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn listed(names: &[&str]) -> String {
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(readings: &[(&str, i64)]) -> Vec<String> {
        let readings: Vec<_> = readings.iter().map(|(who, off)| ((*who).to_owned(), Reading(*off))).collect();
        judge(&readings).iter().map(|f| format!("{}: {}", f.severity.name(), f.message)).collect()
    }

    #[test]
    fn clocks_are_compared_with_all_that_were_seen() {
        let ours_behind = "warning: this machine's clock is wrong:\nTwilio is 40 s ahead of this machine\n\
                           openai is 41 s ahead of this machine";
        for (what, readings, told) in [
            ("none was seen", &[][..], &[][..]),
            (
                "they agree",
                &[("Twilio", 1), ("openai", -2)],
                &["ok: this machine's clock agrees with Twilio and openai"],
            ),
            ("30 s are allowed", &[("Twilio", 30)], &["ok: this machine's clock agrees with Twilio"]),
            ("one of one is off", &[("Twilio", -31)], &["warning: Twilio is 31 s behind this machine"]),
            ("ours is off", &[("Twilio", 40), ("openai", 41)], &[ours_behind]),
            (
                "one of two is off",
                &[("Twilio", 0), ("PUBLIC_URL", 7300)],
                &["warning: PUBLIC_URL is 2 hours ahead of this machine"],
            ),
        ] {
            assert_eq!(judged(readings), told, "{what}");
        }
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let header = |text: &str| HeaderMap::from_iter([(DATE, text.parse().unwrap())]);
        let past = reading(&header("Mon, 23 Nov 2020 04:43:43 GMT")).unwrap();
        assert!(past.0 < -100_000_000, "{past:?}");
        assert_eq!(reading(&header("yesterday")), None);
        assert_eq!(reading(&HeaderMap::new()), None);
    }
}
