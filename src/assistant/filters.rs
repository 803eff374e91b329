//! Filters for values that are spoken on the phone: digits, dates, times, lists.
//!
//! Times are in the assistant's time zone, which `now` carries.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// The tests worth suggesting.
pub const TESTS: [&str; 8] = ["defined", "undefined", "none", "odd", "even", "in", "string", "number"];
/// The filters worth suggesting, ours first: `minijinja` brings the others.
pub const FILTERS: [&str; 24] = [
    "spoken", "date", "time", "listed", "default", "join", "upper", "lower", "title", "trim", "replace",
    "first", "last", "length", "sort", "reverse", "unique", "round", "abs", "int", "float", "sum", "map",
    "select",
];

/// How `now` reads, and a `date` and a `time` without a format of their own.
const NOW: &str = "%A, %-d %B %Y, %H:%M";
const DATE: &str = "%A, %-d %B %Y";
const TIME: &str = "%H:%M";

/// The moment of a call, in the assistant's time zone. Reads like `Monday, 3 March 2026, 14:05`.
#[derive(Debug)]
pub struct Moment(pub Zoned);

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&strtime::format(NOW, &self.0).unwrap_or_default())
    }
}

/// A mistake in the use of a filter, in words that contain no value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(&'static str);

pub fn add(environment: &mut Environment<'_>) {
    environment.add_filter("spoken", spoken);
    environment.add_filter("date", |state: &State<'_, '_>, value: &Value, format: Option<&str>| {
        let when = moment(state, value).ok_or_else(|| {
            misuse("`date` takes `now`, or a text such as \"2026-12-24\" or \"2026-12-24T18:30\"")
        })?;
        print(format.unwrap_or(DATE), &when)
    });
    environment.add_filter("time", |state: &State<'_, '_>, value: &Value, format: Option<&str>| {
        let when = moment(state, value).or_else(|| {
            let time: Time = value.as_str()?.trim().parse().ok()?;
            Date::default().to_datetime(time).to_zoned(TimeZone::UTC).ok()
        });
        let when = when.ok_or_else(|| {
            misuse("`time` takes `now`, or a text such as \"18:30\" or \"2026-12-24T18:30\"")
        })?;
        print(format.unwrap_or(TIME), &when)
    });
    environment.add_filter("listed", listed);
}

/// The mistake, if the error comes from one of our filters.
pub fn misused(error: &Error) -> Option<String> {
    std::error::Error::source(error)?.downcast_ref::<Misuse>().map(ToString::to_string)
}

fn misuse(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what).with_source(Misuse(what))
}

/// Characters one by one, as a voice should read a number or a code.
fn spoken(value: &Value) -> Result<String, Error> {
    if !matches!(value.kind(), ValueKind::String | ValueKind::Number) {
        return Err(misuse("`spoken` takes a number or a text, such as a phone number"));
    }
    let text = value.to_string();
    let parts: Vec<String> =
        text.chars().filter(|c| !matches!(c, '+' | ' ' | '-' | '(' | ')')).map(|c| c.to_string()).collect();
    Ok(parts.join(" "))
}

/// `Monday, Tuesday and Friday`; the word before the last may be another, such as `or`.
fn listed(value: &Value, word: Option<&str>) -> Result<String, Error> {
    let takes = || misuse("`listed` takes a list");
    if matches!(value.kind(), ValueKind::String | ValueKind::Map) {
        return Err(takes());
    }
    let items: Vec<String> = value.try_iter().map_err(|_| takes())?.map(|item| item.to_string()).collect();
    Ok(match items.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} {} {last}", rest.join(", "), word.unwrap_or("and")),
    })
}

/// `now`, or a text that is a moment, in the assistant's time zone.
fn moment(state: &State<'_, '_>, value: &Value) -> Option<Zoned> {
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        return Some(moment.0.clone());
    }
    let text = value.as_str()?.trim();
    let now = state.lookup("now");
    let zone = now.as_ref().and_then(|now| now.downcast_object_ref::<Moment>());
    let zone = zone.map_or(TimeZone::UTC, |now| now.0.time_zone().clone());
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.to_zoned(zone));
    }
    let local = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from)).ok()?;
    local.to_zoned(zone).ok()
}

fn print(format: &str, when: &Zoned) -> Result<String, Error> {
    strtime::format(format, when)
        .map_err(|_| misuse("a format contains codes such as %A, %-d, %B, %Y, %H and %M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let mut environment = Environment::new();
        add(&mut environment);
        let now: Timestamp = "2026-03-03T14:05:00Z".parse().unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        let context = minijinja::context! {
            now => Value::from_object(Moment(now.to_zoned(zone))),
            days => ["Monday", "Tuesday", "Friday"],
            none => Vec::<String>::new(),
        };
        environment
            .render_str(template, context)
            .map_err(|error| misused(&error).unwrap_or_else(|| error.to_string()))
    }

    #[test]
    fn filters_make_values_speakable() {
        for (template, text) in [
            ("{{ now }}", "Tuesday, 3 March 2026, 09:05"),
            ("{{ now | date }}, {{ now | time }}", "Tuesday, 3 March 2026, 09:05"),
            ("{{ now | time('%-I:%M %p') }}", "9:05 AM"),
            ("{{ '2026-12-24' | date }}", "Thursday, 24 December 2026"),
            ("{{ '2026-12-24T18:30' | time }}", "18:30"),
            ("{{ '2026-12-24T23:30:00Z' | time }}", "18:30"),
            ("{{ '18:30' | time('%-I:%M %p') }}", "6:30 PM"),
            ("{{ '+1 555-010 0001' | spoken }}", "1 5 5 5 0 1 0 0 0 0 1"),
            ("{{ 12 | spoken }}", "1 2"),
            ("{{ days | listed }}", "Monday, Tuesday and Friday"),
            ("{{ days[:2] | listed('or') }}", "Monday or Tuesday"),
            ("{{ days[:1] | listed }}{{ none | listed }}", "Monday"),
        ] {
            assert_eq!(render(template), Ok(text.to_owned()), "{template}");
        }
    }

    #[test]
    fn misuse_is_explained() {
        for (template, word) in [
            ("{{ 'soon' | date }}", "`date` takes `now`"),
            ("{{ days | time }}", "`time` takes `now`"),
            ("{{ now | date('%!') }}", "%A"),
            ("{{ days | spoken }}", "`spoken` takes a number"),
            ("{{ 'Monday' | listed }}", "`listed` takes a list"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(word), "{template}: {error}");
        }
    }

    #[test]
    fn every_suggested_filter_and_test_exists() {
        for name in FILTERS {
            let mut environment = Environment::new();
            add(&mut environment);
            let kind = environment.render_str(&format!("{{{{ 0 | {name} }}}}"), ()).err().map(|e| e.kind());
            assert_ne!(kind, Some(ErrorKind::UnknownFilter), "{name}");
        }
        for name in TESTS {
            let template = format!("{{{{ 0 is {name}(0) }}}}");
            let kind = Environment::new().render_str(&template, ()).err().map(|error| error.kind());
            assert_ne!(kind, Some(ErrorKind::UnknownTest), "{name}");
        }
    }
}
