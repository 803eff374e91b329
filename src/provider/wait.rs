//! How long a provider asks us to wait, from its free words and its headers.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

/// What stands before the time: "Please try again in 1.5s", "Retry after 10 seconds".
const BEFORE: [&str; 4] = ["again in ", "again after ", "retry in ", "retry after "];

/// No longer wait is believed: the longest limits are for a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest spelling, in words: "1 minute 2 seconds".
const WORDS: usize = 4;

/// The wait that an error's message asks for, such as 1.5 s in "Please try again in 1.5s. Visit …".
pub fn in_message(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    let after = BEFORE.iter().find_map(|before| message.split_once(before))?.1;
    let words: Vec<&str> = after.split_whitespace().take(WORDS).collect();
    (1..=words.len())
        .rev()
        .find_map(|count| span(words[..count].join(" ").trim_end_matches(['.', ',', ')', ';', '!'])))
}

/// The wait that an HTTP answer asks for. A date counts from the answer's own `Date`, because clocks differ.
pub fn in_headers<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST));
    if let Some(ms) = header("retry-after-ms").and_then(number) {
        return seconds(ms / 1000.0);
    }
    let after = header("retry-after")?;
    if let Some(number) = number(after) {
        return seconds(number);
    }
    let date = |text: &str| -> Option<Timestamp> { DateTimeParser::new().parse_timestamp(text).ok() };
    wait(date(after)?.duration_since(date(header("date")?)?))
}

fn span(text: &str) -> Option<Duration> {
    wait(text.parse().ok()?)
}

fn wait(span: SignedDuration) -> Option<Duration> {
    Duration::try_from(span).ok().map(|wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_read_in_every_spelling() {
        for (message, ms) in [
            (
                "Rate limit reached for m on tokens per min (TPM): Limit 1. Please try again in 1.5s. Visit https://example.com",
                Some(1_500),
            ),
            ("Please try again in 20ms.", Some(20)),
            ("Please try again in 1m2s.", Some(62_000)),
            ("Please try again in 1h2m3.5s", Some(3_723_500)),
            ("try again in 6 s", Some(6_000)),
            ("Please try again in 8m38.4s. Contact us.", Some(518_400)),
            ("Please retry after 10 seconds.", Some(10_000)),
            ("Try again in 26 seconds!", Some(26_000)),
            ("Try again in 1 minute 2 seconds, please", Some(62_000)),
            ("Please retry in 58.217843437s.", Some(58_217)),
            ("Please try again in 99999999999s", Some(86_400_000)),
            ("Please try again in a moment.", None),
            ("Please try again in -5s.", None),
            ("Please try again later.", None),
            ("The engine is overloaded, wait 5s", None),
            ("", None),
        ] {
            assert_eq!(in_message(message).map(|wait| wait.as_millis()), ms, "{message}");
        }
    }

    #[test]
    fn the_wait_is_read_from_headers() {
        let date = ("date", "Mon, 23 Nov 2026 10:00:00 GMT");
        for (headers, ms) in [
            (&[("retry-after", "2")][..], Some(2_000)),
            (&[("retry-after", "0.5")], Some(500)),
            (&[("retry-after", "9"), ("retry-after-ms", "250")], Some(250)),
            (&[("retry-after", "Mon, 23 Nov 2026 10:00:07 GMT"), date], Some(7_000)),
            (&[("retry-after", "Mon, 23 Nov 2026 10:00:07 GMT")], None),
            (&[("retry-after", "Mon, 23 Nov 2026 09:00:00 GMT"), date], None),
            (&[("retry-after", "1e15")], Some(86_400_000)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "soon"), date], None),
            (&[date], None),
        ] {
            let header = |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            assert_eq!(in_headers(header).map(|wait| wait.as_millis()), ms, "{headers:?}");
        }
    }
}
