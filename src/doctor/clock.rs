//! This machine's clock, compared with the `Date` headers of the servers that were asked something.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AGE, DATE, HeaderMap};

use crate::problem::Problem;
use crate::problem::catalogue::Clock;

/// The largest difference that is ignored, in seconds. A `Date` has whole seconds, and an answer takes a while.
const TOLERANCE: i64 = 30;

/// How far another clock is ahead of ours, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading(pub i64);

/// Reads the header `Date`. The header `Age` is the age of a cached answer.
pub fn reading(headers: &HeaderMap) -> Option<Reading> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let theirs = DateTimeParser::new().parse_timestamp(text(DATE)?).ok()?.as_second();
    let age = text(AGE).and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or_default();
    Some(Reading(theirs + i64::from(age) - Timestamp::now().as_second()))
}

/// If at least two servers agree with each other and not with us, our clock is wrong. A single one proves nothing.
pub fn check(clocks: &[(String, Reading)]) -> Vec<Problem> {
    let differs = |(_, Reading(ahead)): &&(String, Reading)| ahead.abs() > TOLERANCE;
    let wrong: Vec<_> = clocks.iter().filter(differs).collect();
    let names: Vec<&str> = clocks.iter().map(|(server, _)| server.as_str()).collect();
    match wrong[..] {
        _ if clocks.is_empty() => Vec::new(),
        [] => vec![Problem::new(Clock::Agrees { others: names.join(", ") })],
        [(_, Reading(first)), ..]
            if wrong.len() > 1
                && wrong.len() == clocks.len()
                && wrong.iter().all(|(_, Reading(ahead))| (ahead - first).abs() <= TOLERANCE) =>
        {
            vec![Problem::new(Clock::Ours { by: spell(*first) })]
        }
        _ => wrong
            .iter()
            .map(|(server, Reading(ahead))| {
                Problem::new(Clock::Differs { server: server.clone(), by: spell(*ahead) })
            })
            .collect(),
    }
}

/// By how much our clock is wrong if another is so many seconds ahead.
fn spell(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs();
    let amount = match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    format!("{amount} {}", if ahead > 0 { "slow" } else { "fast" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_clock_is_wrong_if_two_servers_agree_on_another_time() {
        for (what, offsets, expected) in [
            ("none", &[][..], None),
            ("all agree", &[0, 20, -5], Some(("Agrees", 1))),
            ("two of two differ alike", &[-90, -100], Some(("Ours", 1))),
            ("one of one differs", &[90], Some(("Differs", 1))),
            ("one of three differs", &[0, 90, 1], Some(("Differs", 1))),
            ("two differ, but not alike", &[90, -90], Some(("Differs", 2))),
        ] {
            let clocks: Vec<_> = offsets.iter().map(|ahead| ("x".to_owned(), Reading(*ahead))).collect();
            let found = check(&clocks);
            let kind = found.first().map(|problem| (format!("{:?}", problem.what()), found.len()));
            match (kind, expected) {
                (Some((kind, count)), Some((name, number))) => {
                    assert!(kind.contains(name) && count == number, "{what}: {found:?}");
                }
                (kind, expected) => assert!(kind.is_none() && expected.is_none(), "{what}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_cached_answer_is_as_old_as_its_age() {
        let mut headers = HeaderMap::new();
        assert_eq!(reading(&headers), None);
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        headers.insert(DATE, date.parse().unwrap());
        assert!(reading(&headers).unwrap().0.abs() <= 1);
        headers.insert(AGE, "600".parse().unwrap());
        assert!((reading(&headers).unwrap().0 - 600).abs() <= 1);
    }
}
