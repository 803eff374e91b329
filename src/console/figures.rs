//! The last 24 hours in figures and pictures.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::chart::{Bar, bars, share};
use super::shown::{dollars, wait};
use crate::problem::counted;
use crate::store::{Hour, Store, StoreError, Waits};

/// So many hours are shown.
const HOURS: i64 = 24;
/// The waits are those of the newest calls, at most so many.
pub const MOST_WAITS: u32 = 300;
const HOUR: i64 = 3_600;

/// A figure with its picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub label: &'static str,
    pub value: String,
    pub hint: String,
    /// SVG, escaped.
    pub chart: String,
}

/// Reads the last 24 hours.
///
/// # Errors
/// If the store cannot be asked.
pub async fn read(store: &Store, now: Timestamp) -> Result<Vec<Figure>, StoreError> {
    let since = since(now);
    let (hours, waits) = (store.hours(since).await?, store.waits(since, MOST_WAITS).await?);
    Ok(figures(since, &hours, &waits))
}

/// The full hour 23 hours before the one that runs.
fn since(now: Timestamp) -> Timestamp {
    let this = now.as_second().div_euclid(HOUR) * HOUR;
    Timestamp::from_second(this - (HOURS - 1) * HOUR).unwrap_or(Timestamp::MIN)
}

fn figures(since: Timestamp, hours: &[Hour], waits: &[Waits]) -> Vec<Figure> {
    let place = |at: Timestamp| usize::try_from((at.as_second() - since.as_second()) / HOUR).ok();
    let name = |at: i64| {
        let at = since.saturating_add(SignedDuration::from_hours(at)).unwrap_or(since);
        at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string()
    };
    let (from, to) = (name(0), format!("{} UTC", name(HOURS - 1)));
    let by_hour = |value: &dyn Fn(&Hour) -> (f64, f64, String)| {
        let mut list = vec![Bar::default(); HOURS as usize];
        for hour in hours {
            let Some((at, bar)) = place(hour.began).and_then(|at| Some((at, list.get_mut(at)?))) else {
                continue;
            };
            let (value, bad, text) = value(hour);
            *bar = Bar { value, bad, title: format!("{}: {text}", name(at as i64)) };
        }
        list
    };
    let medians = |of: &dyn Fn(&Waits) -> Vec<u64>| {
        let mut lists = vec![Vec::new(); HOURS as usize];
        for waits in waits {
            if let Some(list) = place(waits.began).and_then(|at| lists.get_mut(at)) {
                list.extend(of(waits));
            }
        }
        let all: Vec<u64> = lists.concat();
        let bar = |(at, mut list): (usize, Vec<u64>)| {
            list.sort_unstable();
            let median = share(&list, 0.5).unwrap_or_default();
            Bar { value: median as f64, bad: 0.0, title: format!("{}: {}", name(at as i64), wait(median)) }
        };
        (lists.into_iter().enumerate().map(bar).collect::<Vec<_>>(), all)
    };
    let chart = |id: &str, label: &str, value: &str, list: &[Bar]| {
        bars(id, label, &format!("{label}, hour by hour: {value} in the last 24 hours."), list, &from, &to)
    };
    let calls: u64 = hours.iter().map(|hour| hour.calls).sum();
    let failures: u64 = hours.iter().map(|hour| hour.failures).sum();
    let minutes = hours.iter().fold(0.0, |sum, hour| sum + hour.seconds) / 60.0;
    let cost = hours.iter().fold(0.0, |sum, hour| sum + hour.cost);
    let mut found = Vec::new();
    let mut add = |id, label, value: String, hint: String, list: &[Bar]| {
        let chart = chart(id, label, &value, list);
        found.push(Figure { label, value, hint, chart });
    };
    let bars = by_hour(&|hour| {
        let text = counted(hour.calls as usize, "call");
        (hour.calls as f64, hour.failures as f64, format!("{text}, {} failed", hour.failures))
    });
    add("calls", "Calls", calls.to_string(), String::new(), &bars);
    let bars = by_hour(&|hour| (hour.seconds, 0.0, format!("{:.1} minutes", hour.seconds / 60.0)));
    add("minutes", "Minutes", format!("{minutes:.0}"), String::new(), &bars);
    let bars = by_hour(&|hour| (hour.cost, 0.0, dollars(hour.cost)));
    add("cost", "Cost", dollars(cost), "as far as it is known".to_owned(), &bars);
    let bars =
        by_hour(&|hour| (hour.failures as f64, hour.failures as f64, format!("{} failed", hour.failures)));
    let of_all = if calls > 0 {
        format!("{:.1} % of all", failures as f64 * 100.0 / calls as f64)
    } else {
        String::new()
    };
    add("failures", "Failures", failures.to_string(), of_all, &bars);
    for (id, label, (bars, mut all)) in [
        ("first-word", "First word", medians(&|waits| waits.first_word.into_iter().collect())),
        ("answers", "Answers", medians(&|waits| waits.answers.clone())),
    ] {
        all.sort_unstable();
        let value = share(&all, 0.5).map_or_else(|| "–".to_owned(), wait);
        let slow =
            share(&all, 0.95).map_or_else(String::new, |ms| format!("1 in 20 takes {} or more", wait(ms)));
        add(id, label, value, slow, &bars);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_summed_hour_by_hour() {
        let now: Timestamp = "2026-11-30T14:35:00Z".parse().unwrap();
        let since = since(now);
        assert_eq!(since.to_string(), "2026-11-29T15:00:00Z");
        let hour = |at: &str, calls, failures| Hour {
            began: at.parse().unwrap(),
            calls,
            seconds: 90.0,
            cost: 0.5,
            failures,
        };
        let hours = [hour("2026-11-29T15:00:00Z", 3, 1), hour("2026-11-30T14:00:00Z", 2, 0)];
        let waits = [
            Waits { began: now, first_word: Some(300), answers: vec![500, 900] },
            Waits { began: since, first_word: Some(500), answers: vec![] },
        ];
        let figures = super::figures(since, &hours, &waits);
        let values: Vec<&str> = figures.iter().map(|figure| figure.value.as_str()).collect();
        assert_eq!(values, ["5", "3", "$1.00", "1", "300 ms", "500 ms"]);
        assert_eq!(figures[3].hint, "20.0 % of all");
        // The sum of nothing is not below zero.
        assert!(super::figures(since, &[], &[]).iter().all(|figure| !figure.value.contains('-')));
        for figure in &figures {
            let svg = roxmltree::Document::parse(&figure.chart).expect("it is well-formed");
            assert!(svg.descendants().any(|node| node.has_tag_name("rect")), "{}", figure.label);
        }
    }
}
