//! Filters for values that are spoken on the phone: digits, dates, times, lists.
//!
//! Times are in the assistant's time zone and language, which `now` carries.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter};

use super::language::{Words, letters};

/// The tests worth suggesting.
pub const TESTS: [&str; 8] = ["defined", "undefined", "none", "odd", "even", "in", "string", "number"];
/// The filters worth suggesting, ours first: `minijinja` brings the others.
pub const FILTERS: [&str; 24] = [
    "spoken", "date", "time", "listed", "default", "join", "upper", "lower", "title", "trim", "replace",
    "first", "last", "length", "sort", "reverse", "unique", "round", "abs", "int", "float", "sum", "map",
    "select",
];

/// The moment of a call, in the assistant's time zone. Reads like `Monday, 3 March 2026, 14:05`.
#[derive(Debug)]
pub struct Moment {
    pub at: Zoned,
    /// Of the assistant's language.
    pub words: &'static Words,
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.words.date(&self.at), self.words.time(&self.at))
    }
}

/// A mistake in the use of a filter, in words that contain no value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(&'static str);

/// A list or a map that a template prints as a whole.
#[derive(Debug, thiserror::Error)]
#[error("it prints a whole list or map")]
pub struct Container {
    /// The first key of a map; `None` for a list.
    pub key: Option<String>,
}

/// Makes printing a list or a map an error. Calls print them, because a call should not fail for it.
pub fn refuse_containers(environment: &mut Environment<'_>) {
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            let map = value.kind() == ValueKind::Map;
            let key = value.try_iter().ok().and_then(|mut keys| keys.next());
            let key = map.then(|| key.map_or(String::new(), |key| key.to_string()));
            let error = Error::new(ErrorKind::InvalidOperation, "a list or map is printed");
            Err(error.with_source(Container { key }))
        }
        _ => escape_formatter(out, state, value),
    });
}

/// The list or map that the template prints, if that is the error.
pub fn printed(error: &Error) -> Option<&Container> {
    std::error::Error::source(error)?.downcast_ref()
}

pub fn add(environment: &mut Environment<'_>) {
    environment.add_filter("spoken", spoken);
    environment.add_filter("date", date);
    environment.add_filter("time", |state: &State<'_, '_>, value: &Value, format: Option<&str>| {
        let (words, when) = (words(state), when_of(state, value)?);
        format.map_or_else(|| Ok(words.time(&when)), |format| print(words, format, &when))
    });
    environment.add_filter("listed", listed);
}

fn date(state: &State<'_, '_>, value: &Value, format: Option<&str>) -> Result<String, Error> {
    let when = moment(state, value).ok_or_else(|| {
        misuse("`date` takes `now`, or a text such as \"2026-12-24\" or \"2026-12-24T18:30\"")
    })?;
    let words = words(state);
    format.map_or_else(|| Ok(words.date(&when)), |format| print(words, format, &when))
}

/// A moment, or a time of the day.
fn when_of(state: &State<'_, '_>, value: &Value) -> Result<Zoned, Error> {
    let when = moment(state, value).or_else(|| {
        let time: Time = value.as_str()?.trim().parse().ok()?;
        Date::default().to_datetime(time).to_zoned(TimeZone::UTC).ok()
    });
    when.ok_or_else(|| misuse("`time` takes `now`, or a text such as \"18:30\" or \"2026-12-24T18:30\""))
}

/// The mistake, if the error comes from one of our filters.
pub fn misused(error: &Error) -> Option<String> {
    std::error::Error::source(error)?.downcast_ref::<Misuse>().map(ToString::to_string)
}

fn misuse(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what).with_source(Misuse(what))
}

/// As a voice should read it: by default the characters one by one, as of a number or a code.
fn spoken(
    state: &State<'_, '_>,
    value: &Value,
    kind: Option<&str>,
    currency: Option<&str>,
) -> Result<String, Error> {
    let words = words(state);
    match kind {
        None => characters(value),
        Some("money") => {
            let amount = match value.kind() {
                ValueKind::Number => f64::try_from(value.clone()).ok(),
                _ => value.as_str().and_then(|text| text.trim().parse().ok()),
            };
            let amount = amount.filter(|amount: &f64| amount.abs() < 1e12);
            let said = amount.and_then(|amount| words.money(amount, currency?));
            said.ok_or_else(|| {
                misuse("`spoken(\"money\", \"EUR\")` takes a number, and EUR, USD, GBP, CHF or PLN")
            })
        }
        Some("date") => date(state, value, None),
        Some("time") => when_of(state, value).map(|when| words.clock(&when)),
        Some("letters") => match value.as_str() {
            Some(text) => Ok(letters(text)),
            None => Err(misuse("`spoken(\"letters\")` takes a text, such as a name")),
        },
        Some(_) => Err(misuse("`spoken` takes \"money\", \"date\", \"time\" or \"letters\", or nothing")),
    }
}

fn characters(value: &Value) -> Result<String, Error> {
    if !matches!(value.kind(), ValueKind::String | ValueKind::Number) {
        return Err(misuse("`spoken` takes a number or a text, such as a phone number"));
    }
    let text = value.to_string();
    let parts: Vec<String> =
        text.chars().filter(|c| !matches!(c, '+' | ' ' | '-' | '(' | ')')).map(|c| c.to_string()).collect();
    Ok(parts.join(" "))
}

/// `Monday, Tuesday and Friday`; the word before the last may be another, such as `or`.
fn listed(state: &State<'_, '_>, value: &Value, word: Option<&str>) -> Result<String, Error> {
    let takes = || misuse("`listed` takes a list");
    if matches!(value.kind(), ValueKind::String | ValueKind::Map) {
        return Err(takes());
    }
    let items: Vec<Value> = value.try_iter().map_err(|_| takes())?.collect();
    if items.iter().any(|item| matches!(item.kind(), ValueKind::Map | ValueKind::Seq)) {
        return Err(misuse("`listed` takes a list of texts or numbers, not of lists or maps"));
    }
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    Ok(match items.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => {
            format!("{} {} {last}", rest.join(", "), word.unwrap_or_else(|| words(state).and(last)))
        }
    })
}

/// `now`, or a text that is a moment, in the assistant's time zone.
fn moment(state: &State<'_, '_>, value: &Value) -> Option<Zoned> {
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        return Some(moment.at.clone());
    }
    let text = value.as_str()?.trim();
    let zone = now(state).map_or(TimeZone::UTC, |now| now.at.time_zone().clone());
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.to_zoned(zone));
    }
    let local = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from)).ok()?;
    local.to_zoned(zone).ok()
}

fn now(state: &State<'_, '_>) -> Option<Arc<Moment>> {
    state.lookup("now")?.downcast_object::<Moment>()
}

/// The words of the assistant's language.
fn words(state: &State<'_, '_>) -> &'static Words {
    now(state).map_or(Words::ENGLISH, |now| now.words)
}

fn print(words: &Words, format: &str, when: &Zoned) -> Result<String, Error> {
    let printed = words.format(format, when).ok().filter(|_| format.contains('%'));
    printed.ok_or_else(|| misuse("a format contains codes such as %A, %-d, %B, %Y, %H and %M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, String> {
        render_in("en", template)
    }

    fn render_in(language: &str, template: &str) -> Result<String, String> {
        let mut environment = Environment::new();
        add(&mut environment);
        let now: Timestamp = "2026-03-03T14:05:00Z".parse().unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        let context = minijinja::context! {
            now => Value::from_object(Moment { at: now.to_zoned(zone), words: Words::of(language).unwrap() }),
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
            (
                "{{ 12.5 | spoken('money', 'EUR') }}, {{ '3' | spoken('money', 'USD') }}",
                "12.50 euros, 3 dollars",
            ),
            ("{{ now | spoken('time') }}, {{ '18:00' | spoken('time') }}", "9:05 am, 6 pm"),
            ("{{ '2026-12-24' | spoken('date') }}", "Thursday, 24 December 2026"),
            ("{{ 'Özdemir' | spoken('letters') }}", "Ö, Z, D, E, M, I, R"),
            ("{{ days | listed }}", "Monday, Tuesday and Friday"),
            ("{{ days[:2] | listed('or') }}", "Monday or Tuesday"),
            ("{{ days[:1] | listed }}{{ none | listed }}", "Monday"),
        ] {
            assert_eq!(render(template), Ok(text.to_owned()), "{template}");
        }
    }

    #[test]
    fn filters_speak_the_language_of_the_assistant() {
        for (language, template, text) in [
            ("de", "{{ now }}", "Dienstag, 3. März 2026, 09:05"),
            ("de", "{{ now | date('%A, %-d. %B') }}", "Dienstag, 3. März"),
            ("de", "{{ days | listed }}", "Monday, Tuesday und Friday"),
            ("es", "{{ ['Ana', 'Inés'] | listed }}", "Ana e Inés"),
            ("fr", "{{ '2026-05-01' | date }}", "vendredi 1er mai 2026"),
            ("pl", "{{ now | date }}, {{ now | time }}", "wtorek, 3 marca 2026, 09:05"),
            ("pl", "{{ 12 | spoken }}", "1 2"),
        ] {
            assert_eq!(render_in(language, template), Ok(text.to_owned()), "{template}");
        }
    }

    #[test]
    fn misuse_is_explained() {
        for (template, word) in [
            ("{{ 'soon' | date }}", "`date` takes `now`"),
            ("{{ days | time }}", "`time` takes `now`"),
            ("{{ now | date('%!') }}", "%A"),
            ("{{ now | date('DD.MM.YYYY') }}", "%A"),
            ("{{ days | spoken }}", "`spoken` takes a number"),
            ("{{ 'much' | spoken('money', 'EUR') }}", "takes a number"),
            ("{{ 3 | spoken('money') }}", "EUR, USD"),
            ("{{ 3 | spoken('money', 'Euro') }}", "EUR, USD"),
            ("{{ 3 | spoken('letters') }}", "takes a text"),
            ("{{ 3 | spoken('slowly') }}", "\"money\""),
            ("{{ [days] | listed }}", "not of lists"),
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
