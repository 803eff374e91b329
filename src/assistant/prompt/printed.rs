//! What a rendered text must not be: a list or a map in program's notation, or a sentence that Twilio's voice skips.

use minijinja::Value;
use minijinja::value::ValueKind;

use super::Place;
use crate::assistant::filters;
use crate::problem;
use crate::problem::catalogue::Template;
use crate::wire::twilio::twiml::{LONGEST_SAY, LONGEST_SAY_POLLY, Unsayable, sayable};

/// The problem of a template that prints a list or a map.
pub(super) fn container(template: &str, failure: &minijinja::Error, place: &Place<'_>) -> Option<Template> {
    let container = filters::printed(failure)?;
    if place.hidden {
        return Some(Template::HiddenContainer);
    }
    let printed = failure.range().and_then(|at| template.get(at)).unwrap_or_default();
    let name = printed.trim_matches(['{', '}', '-', ' ']);
    Some(whole(name, container.key.as_deref()))
}

/// The same for a variable that stands in the rendered text in a program's notation.
pub(super) fn notation(text: &str, names: &Value, place: &Place<'_>) -> Option<Template> {
    let text = text.to_lowercase();
    let variables = names.get_attr("variables").ok()?;
    let mut parts = variables.try_iter().ok()?;
    let found = parts.find_map(|key| within(&text, &key.to_string(), &variables.get_item(&key).ok()?))?;
    Some(if place.hidden { Template::HiddenContainer } else { found })
}

/// The value, or the part of it, whose notation the text contains.
fn within(text: &str, name: &str, value: &Value) -> Option<Template> {
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && value.kind() != ValueKind::Seq {
        return None;
    }
    // Shorter ones are empty, or could be anything.
    let notation = value.to_string().to_lowercase();
    if notation.len() > 4 && text.contains(&notation) {
        let first = value.try_iter().ok().and_then(|mut keys| keys.next());
        return Some(whole(name, first.filter(|_| is_map).map(|key| key.to_string()).as_deref()));
    }
    value.try_iter().ok()?.enumerate().find_map(|(at, item)| match is_map {
        true => within(text, &part(name, &item.to_string()), &value.get_item(&item).ok()?),
        false => within(text, &format!("{name}[{at}]"), &item),
    })
}

/// A list, or a map with this first key.
fn whole(name: &str, key: Option<&str>) -> Template {
    let shown = problem::shown(name);
    match key {
        None => Template::PrintsList { name: shown },
        Some(key) => Template::PrintsMap { part: problem::shown(&part(name, key)), name: shown },
    }
}

/// A part of a map, as templates write it.
fn part(map: &str, key: &str) -> String {
    match key.chars().all(|c| c.is_alphanumeric() || c == '_') {
        true => format!("{map}.{key}"),
        false => format!("{map}[\"{key}\"]"),
    }
}

/// What Twilio's voice would not say, as rendered for each sample.
pub(super) fn unsayable(said: &[String], template: &str) -> Option<Template> {
    let length = said.iter().map(String::len).max()?;
    if length > LONGEST_SAY {
        return Some(Template::SayTooLong { length, most: LONGEST_SAY });
    }
    let whom = ["a known caller", "an unknown caller", "a caller whose number is withheld"];
    let silent = |text: &str| sayable(text) == Err(Unsayable::Empty);
    let empty = said.iter().zip(whom).find(|(text, _)| silent(text));
    match empty {
        // The called number of the samples is not one of the file's.
        Some(_) if !template.contains("called") && said.iter().all(|text| silent(text)) => {
            Some(Template::SayNothing)
        }
        Some((_, whom)) if !template.contains("called") => Some(Template::SayEmpty { whom }),
        _ if length > LONGEST_SAY_POLLY => Some(Template::SayLong { length, most: LONGEST_SAY_POLLY }),
        _ => None,
    }
}
