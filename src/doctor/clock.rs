//! This machine's clock beside those of the servers that were asked for other things.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AGE, DATE, HeaderMap};

use super::report::Finding;

/// More than this is told, in seconds. A `Date` has whole seconds, and an answer takes a while.
const MOST: i64 = 30;

/// How far ahead of ours another clock is, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading(pub i64);

/// A clock that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// Whose it is.
    pub who: String,
    pub reading: Reading,
    /// Who answers there may be this very machine, and then it agrees with itself.
    pub may_be_ours: bool,
}

impl Clock {
    /// How far it is ahead of ours, in seconds.
    fn off(&self) -> i64 {
        self.reading.0
    }

    fn agrees(&self) -> bool {
        self.off().abs() <= MOST
    }
}

/// Reads the header `Date`, where it is one. What a cache kept is as old as `Age` says.
pub fn reading(headers: &HeaderMap) -> Option<Reading> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let theirs = DateTimeParser::new().parse_timestamp(text(DATE)?).ok()?.as_second();
    let age = text(AGE).and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or_default();
    Some(Reading(theirs + i64::from(age) - Timestamp::now().as_second()))
}

/// Whose clock is wrong.
enum Verdict<'a> {
    /// Nobody's.
    None,
    /// This machine's: the others agree with each other.
    Ours,
    /// These: the others agree with this machine.
    Theirs(Vec<&'a Clock>),
    /// There are as many for one time as for another.
    Unknown,
}

/// The most who agree are right, if they are more than all who agree on another time.
fn verdict<'a>(witnesses: &[&'a Clock]) -> Verdict<'a> {
    let agree = |one: i64, other: i64| (one - other).abs() <= MOST;
    if witnesses.iter().all(|clock| clock.agrees()) {
        return Verdict::None;
    }
    let clocks = || witnesses.iter().map(|clock| clock.off()).chain([0]);
    let count = |time: i64| clocks().filter(|clock| agree(*clock, time)).count();
    let most = clocks().map(count).max().unwrap_or_default();
    let right: Vec<i64> = clocks().filter(|clock| count(*clock) == most).collect();
    let first = right.first().copied().unwrap_or_default();
    if most < 2 || right.iter().any(|time| !agree(*time, first)) {
        return Verdict::Unknown;
    }
    match agree(first, 0) {
        true => Verdict::Theirs(witnesses.iter().copied().filter(|clock| !clock.agrees()).collect()),
        false if witnesses.iter().all(|clock| agree(clock.off(), first)) => Verdict::Ours,
        // One of them may stand in the way of all the others.
        false => Verdict::Unknown,
    }
}

/// Judges what was read. A clock that agrees, and may be this machine's own, proves nothing and votes for nobody.
pub fn judge(clocks: &[Clock]) -> Vec<Finding> {
    const COMES: &str = "tickets live 60 s and are made and taken by this clock where several machines answer; \
                         signed messages (Standard Webhooks) are refused after 5 minutes; certificates seem expired";
    let told = |clock: &&Clock| match (&clock.who, clock.off()) {
        (who, _) if clock.agrees() => format!("{who} agrees with this machine"),
        (who, off @ 1..) => format!("{who} is {} ahead of this machine", spell(off.unsigned_abs())),
        (who, off) => format!("{who} is {} behind this machine", spell(off.unsigned_abs())),
    };
    let witnesses: Vec<&Clock> =
        clocks.iter().filter(|clock| !(clock.may_be_ours && clock.agrees())).collect();
    let lines = || witnesses.iter().map(told).collect::<Vec<_>>().join("\n");
    let agreeing = |clocks: &[&Clock]| {
        let agreeing = clocks.iter().filter(|clock| clock.agrees());
        listed(&agreeing.map(|clock| clock.who.as_str()).collect::<Vec<_>>())
    };
    let warning = |message: String| Finding::warning("clock.skew", message).causes(COMES);
    match verdict(&witnesses) {
        Verdict::None if witnesses.is_empty() => Vec::new(),
        Verdict::None => {
            let all: Vec<&Clock> = clocks.iter().collect();
            let message = format!("this machine's clock agrees with {}", agreeing(&all));
            vec![Finding::ok("clock.skew", message)]
        }
        Verdict::Ours => vec![
            warning(format!("this machine's clock is wrong, by all others:\n{}", lines()))
                .fix("set the clock by the network: `sudo timedatectl set-ntp true`"),
        ],
        Verdict::Theirs(apart) => {
            let rest = agreeing(&witnesses);
            let finding = |one: &&Clock| {
                let message = format!("{}, which agrees with {rest}", told(one));
                warning(message).fix(
                    "nothing is to be set here: set that server's clock by the network; where it is not yours, look at \
                     what answers in between",
                )
            };
            apart.iter().map(finding).collect()
        }
        Verdict::Unknown if witnesses.len() == 1 => vec![warning(lines()).fix(
            "`timedatectl` says whether this machine's clock follows the network; if it does, the other is wrong, or \
             what answers in between",
        )],
        Verdict::Unknown => vec![
            warning(format!("the clocks disagree among themselves:\n{}", lines())).fix(
                "`timedatectl` says whether this machine's clock follows the network; if it does, look at what answers \
                 in the place of those that disagree",
            ),
        ],
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
        let clocks = readings.iter().map(|(who, off)| Clock {
            who: (*who).to_owned(),
            reading: Reading(*off),
            may_be_ours: *who == "PUBLIC_URL",
        });
        judge(&clocks.collect::<Vec<_>>())
            .iter()
            .map(|f| format!("{}: {}", f.severity.name(), f.message))
            .collect()
    }

    #[test]
    fn clocks_are_compared_with_all_that_were_seen() {
        for (what, readings, told) in [
            ("none was seen", &[][..], &[][..]),
            (
                "they agree",
                &[("Twilio", 1), ("openai", -2)],
                &["ok: this machine's clock agrees with Twilio and openai"],
            ),
            ("30 s are allowed", &[("Twilio", 30)], &["ok: this machine's clock agrees with Twilio"]),
            ("one of one is off", &[("Twilio", -31)], &["warning: Twilio is 31 s behind this machine"]),
            (
                "ours is off",
                &[("Twilio", 40), ("openai", 41)],
                &[
                    "warning: this machine's clock is wrong, by all others:\nTwilio is 40 s ahead of this machine\n\
                   openai is 41 s ahead of this machine",
                ],
            ),
            (
                "one of two is off",
                &[("Twilio", 0), ("PUBLIC_URL", 7300)],
                &["warning: PUBLIC_URL is 2 hours ahead of this machine, which agrees with Twilio"],
            ),
            (
                "two of four are off, each by itself",
                &[("Twilio", 0), ("PUBLIC_URL", 7300), ("openai", 1), ("other", -40)],
                &[
                    "warning: PUBLIC_URL is 2 hours ahead of this machine, which agrees with Twilio and openai",
                    "warning: other is 40 s behind this machine, which agrees with Twilio and openai",
                ],
            ),
            (
                "all are off, one way, and not alike",
                &[("Twilio", 40), ("openai", 9_000)],
                &["warning: the clocks disagree among themselves:\nTwilio is 40 s ahead of this machine\n\
                   openai is 2 hours ahead of this machine"],
            ),
            (
                "a server at PUBLIC_URL may be this machine, and does not vote for it",
                &[("Twilio", 300), ("openai", 301), ("PUBLIC_URL", 0)],
                &[
                    "warning: this machine's clock is wrong, by all others:\nTwilio is 5 minutes ahead of this \
                   machine\nopenai is 5 minutes ahead of this machine",
                ],
            ),
            (
                "nor against Twilio alone",
                &[("Twilio", 300), ("PUBLIC_URL", 0)],
                &["warning: Twilio is 5 minutes ahead of this machine"],
            ),
            ("that it agrees proves nothing", &[("PUBLIC_URL", 0)], &[]),
            (
                "beside a witness it is named",
                &[("Twilio", 0), ("PUBLIC_URL", 0)],
                &["ok: this machine's clock agrees with Twilio and PUBLIC_URL"],
            ),
            (
                "where it does not agree it is another machine, and votes",
                &[("Twilio", 300), ("PUBLIC_URL", 299)],
                &[
                    "warning: this machine's clock is wrong, by all others:\nTwilio is 5 minutes ahead of this \
                   machine\nPUBLIC_URL is 4 minutes ahead of this machine",
                ],
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
        let mut kept = header("Mon, 23 Nov 2020 04:43:43 GMT");
        kept.insert(AGE, "90".parse().unwrap());
        assert!((89..=90).contains(&(reading(&kept).unwrap().0 - past.0)), "a cache kept it so long");
        assert_eq!(reading(&header("yesterday")), None);
        assert_eq!(reading(&HeaderMap::new()), None);
    }
}
