//! Reading values out of the tree: each reader gives a value or notes a problem at its place.
//!
//! It knows types, ranges and spellings, and not which keys there are.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::problem::{self, Problem, Source, Span};
use crate::yaml::{Key, Kind, MISSING, Node, Scalar, Style};

/// The most problems of one file that are told one by one: a file with more is not read to its end.
const MOST_PROBLEMS: usize = 100;

/// One file while it is read.
pub struct Written {
    pub source: Source,
    problems: RefCell<Vec<Problem>>,
    /// Problems beyond [`MOST_PROBLEMS`].
    more: Cell<usize>,
}

/// The keys of one map. Keys that nobody asked for are unknown.
pub struct Fields<'a> {
    written: &'a Written,
    /// `` in `limits` ``, or nothing at the top.
    place: String,
    entries: Vec<(&'a Key, &'a Node, Cell<bool>)>,
    known: RefCell<Vec<&'static str>>,
}

impl Written {
    pub fn new(source: Source, problems: Vec<Problem>) -> Written {
        let written = Written { source, problems: RefCell::default(), more: Cell::new(0) };
        problems.into_iter().for_each(|problem| written.note(problem));
        written
    }

    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        if self.more.get() > 0 {
            let message = format!("there are {} problems more in this file", self.more.get());
            problems.push(Problem::about(self.source.path(), "file.problems", message));
        }
        problems
    }

    pub fn note(&self, problem: Problem) {
        match self.full() {
            true => self.more.set(self.more.get() + 1),
            false => self.problems.borrow_mut().push(problem),
        }
    }

    /// Whether further problems are only counted.
    fn full(&self) -> bool {
        self.problems.borrow().len() >= MOST_PROBLEMS
    }

    pub fn error(&self, at: Span, code: &'static str, message: impl Into<String>) {
        self.note(self.source.error(at, code, message));
    }

    pub fn error_help(
        &self,
        at: Span,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(self.source.error(at, code, message).help(help));
    }

    pub fn warning(&self, at: Span, code: &'static str, message: impl Into<String>, help: impl Into<String>) {
        self.note(self.source.warning(at, code, message).help(help));
    }

    /// The keys of a map; `name` is the map's own key, empty at the top. Double keys are noted.
    pub fn map<'a>(&'a self, node: &'a Node, name: &str, example: &str) -> Option<Fields<'a>> {
        let name = &*problem::shown(name);
        let Kind::Map(entries) = &node.kind else {
            let message = match name {
                "" => format!("an assistant is a map of keys, and this file is {}", node.what()),
                _ => format!("`{name}` must be a map, and this is {}", node.what()),
            };
            self.error_help(node.span, "type.map", message, format!("write {example}"));
            return None;
        };
        let place = match name {
            "" => String::new(),
            _ => format!(" in `{name}`"),
        };
        let mut first: HashMap<&str, &Key> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match first.get(key.name.as_str()) {
                Some(earlier) => {
                    let message = format!("`{}` is written twice{place}", problem::shown(&key.name));
                    let problem = self.source.error(key.span, "key.double", message);
                    self.note(problem.also(self.source.place(earlier.span), "first written here"));
                }
                None => {
                    first.insert(&key.name, key);
                    kept.push((key, value, Cell::new(false)));
                }
            }
        }
        Some(Fields { written: self, place, entries: kept, known: RefCell::default() })
    }

    /// A scalar, or a problem that names what was expected.
    fn scalar<'a>(&self, node: &'a Node, name: &str, what: &str) -> Option<&'a Scalar> {
        let scalar = node.scalar();
        if scalar.is_none() {
            let message = format!("`{name}` must be {what}, and this is {}", node.what());
            self.error_help(node.span, "type", message, format!("write {what} in its place"));
        }
        // The reader has already said that the variable is missing.
        scalar.filter(|scalar| !scalar.text().contains(MISSING))
    }

    pub fn text(&self, node: &Node, name: &str) -> Option<String> {
        self.scalar(node, name, "a text").map(|scalar| scalar.text().to_owned())
    }

    pub fn bool(&self, node: &Node, name: &str) -> Option<bool> {
        let scalar = self.scalar(node, name, "true or false")?;
        if scalar.bool().is_none() {
            let message = format!("`{name}` must be true or false; `{}` is not", scalar.shown());
            let help = match scalar.text() {
                "yes" | "on" | "Yes" | "On" => "write true",
                "no" | "off" | "No" | "Off" => "write false",
                "true" | "false" => "write it without quotes",
                _ => "write true or false, without quotes",
            };
            self.error_help(node.span, "type.bool", message, help);
        }
        scalar.bool()
    }

    pub fn number(&self, node: &Node, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let scalar = self.scalar(node, name, "a number")?;
        let (least, most) = (range.start(), range.end());
        let Some(number) = scalar.number() else {
            let message = format!("`{name}` must be a number; `{}` is not", scalar.shown());
            let help = match scalar.text().parse::<f64>() {
                Ok(_) if scalar.style() == Style::Quoted => "write it without quotes".to_owned(),
                _ if scalar.text().replacen(',', ".", 1).parse::<f64>().is_ok() => {
                    "write it with a point, such as 0.8".to_owned()
                }
                _ => format!("write a number from {least} to {most}"),
            };
            self.error_help(node.span, "type.number", message, help);
            return None;
        };
        if !range.contains(&number) {
            let message = format!("`{name}` must be from {least} to {most}; `{}` is not", scalar.shown());
            let help = match number < *least {
                true => format!("write at least {least}"),
                false => format!("write at most {most}"),
            };
            self.error_help(node.span, "range", message, help);
            return None;
        }
        Some(number)
    }

    pub fn duration(&self, node: &Node, name: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let scalar = self.scalar(node, name, "a duration such as `30s`")?;
        let Some(duration) = duration(scalar.text().trim()) else {
            let message = format!("`{name}` must be a duration; `{}` is not", scalar.shown());
            let help = match scalar.text().trim().parse::<f64>() {
                Ok(_) => "add a unit: `500ms`, `60s`, `30m` or `1h30m`",
                Err(_) => "write it like `500ms`, `60s`, `30m` or `1h30m`",
            };
            self.error_help(node.span, "type.duration", message, help);
            return None;
        };
        if !range.contains(&duration) {
            let (least, most) = (spell(*range.start()), spell(*range.end()));
            let message = format!("`{name}` must be from {least} to {most}; `{}` is not", scalar.shown());
            let help = match duration < *range.start() {
                true => format!("write at least {least}"),
                false => format!("write at most {most}"),
            };
            self.error_help(node.span, "range", message, help);
            return None;
        }
        Some(duration)
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&self, node: &Node, name: &str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let scalar = self.scalar(node, name, "a word")?;
        let found = words.iter().find(|(word, _)| *word == scalar.text().trim());
        if found.is_none() {
            let message = format!("`{name}` must be {}; `{}` is not", either(&names), scalar.shown());
            let near = problem::nearest(scalar.text(), names.iter().copied());
            let problem = self.source.error(node.span, "word", message);
            self.note(match near.first() {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        found.map(|(_, value)| *value)
    }

    /// A list, or a single value in its place.
    pub fn list<'a>(&self, node: &'a Node, name: &str) -> Vec<&'a Node> {
        match &node.kind {
            Kind::Seq(items) => items.iter().collect(),
            // Without the space a dash is a letter like others.
            Kind::Scalar(scalar)
                if scalar.style() == Style::Plain
                    && ["-\"", "-'", "-+"].iter().any(|start| scalar.text().starts_with(start)) =>
            {
                let message = format!("`{name}` must be a list, and this is a text that starts with a dash");
                self.error_help(node.span, "type.list", message, "put a space after the dash");
                Vec::new()
            }
            Kind::Scalar(_) => vec![node],
            Kind::Map(_) => {
                let message = format!("`{name}` must be a list, and this is a map");
                self.error_help(node.span, "type.list", message, format!("write {name}: [a, b]"));
                Vec::new()
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// The value of a key. An empty value, also one from the environment, is no value.
    pub fn take(&self, name: &'static str) -> Option<&'a Node> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&name) {
            known.push(name);
        }
        let (_, node, used) = self.entries.iter().find(|(key, _, _)| key.name == name)?;
        used.set(true);
        Some(*node).filter(|node| !node.is_null())
    }

    /// Whether the key is written, also with nothing behind it.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _, _)| key.name == name)
    }

    /// Every entry, for a map whose keys are the owner's.
    pub fn all(&self) -> impl Iterator<Item = (&'a Key, &'a Node)> + '_ {
        self.entries.iter().map(|(key, node, used)| {
            used.set(true);
            (*key, *node)
        })
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (key, _, _) in self.entries.iter().filter(|(_, _, used)| !used.get()) {
            if self.written.full() {
                self.written.more.set(self.written.more.get() + 1);
                continue;
            }
            if let Some(c) = key.name.chars().find(|c| invisible(*c)) {
                let seen: String = key.name.chars().filter(|c| !invisible(*c)).collect();
                let message = format!(
                    "an invisible character (U+{:04X}) belongs to the key `{}` here",
                    u32::from(c),
                    problem::shown(&seen)
                );
                let help = "delete it: an editor shows it when it shows invisible characters";
                self.written.error_help(key.span, "key.invisible", message, help);
                continue;
            }
            let message = format!("there is no key `{}`{}", problem::shown(&key.name), self.place);
            let help = problem::suggestion(&key.name, known.iter().copied());
            self.written.error_help(key.span, "key.unknown", message, help);
        }
    }
}

/// What looks like a space or like nothing, and is neither to YAML: text copied from a web page has it.
fn invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `500ms`, `1.5s`, `30m`, `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (whole, part) = rest[..digits].split_once('.').unwrap_or((&rest[..digits], "0"));
        let count: u64 = whole.parse().ok()?;
        // Thousandths, which of every unit are whole microseconds.
        let thousandths: u64 = Some(part).filter(|part| part.len() <= 3)?.parse().ok()?;
        let thousandths = thousandths * 10_u64.pow(3 - part.len() as u32);
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let ms: u64 = match rest[..unit].trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(count.checked_mul(ms)?))?;
        total = total.checked_add(Duration::from_micros(thousandths * ms))?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// A duration as files write it, such as `30m`.
pub fn spell(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

fn either(names: &[&str]) -> String {
    problem::list(names).replace(" and ", " or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("500ms", Some(500)),
            ("60s", Some(60_000)),
            ("30m", Some(1_800_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("90", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("99999999999999999999h", None),
            ("1.5s", Some(1_500)),
            ("0.25h", Some(900_000)),
            ("1.5m 30s", Some(120_000)),
            ("1.2345s", None),
            (".5s", None),
            ("1.s", None),
            ("1.5.5s", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text}");
        }
        assert_eq!(spell(Duration::from_secs(90)), "90s");
    }
}
