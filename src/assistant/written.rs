//! Reading values out of the tree: each reader returns a value or reports a problem at its place.
//!
//! It knows types, ranges and spellings, but not which keys exist.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::unknown;
use super::vocabulary::{Count, Timing, Words, names};
use crate::duration::{self, spell};
use crate::invisible;
use crate::problem::catalogue::{Assistant, File};
use crate::problem::{self, Problem, Source, Span, Suggestion, What};
use crate::yaml::{Key, Kind, MISSING, Node, Scalar, Style};

/// Reported problems of one file. The rest is only counted.
const MOST_PROBLEMS: usize = 100;

/// One file while it is read.
pub struct Written {
    pub source: Source,
    problems: RefCell<Vec<Problem>>,
    /// Problems beyond [`MOST_PROBLEMS`].
    more: Cell<usize>,
    /// Whether problems are ignored, see [`Written::quietly`].
    quiet: Cell<bool>,
}

/// The keys of one map. Keys that nothing reads are unknown.
pub struct Fields<'a> {
    written: &'a Written,
    /// The map's own key; empty for the file.
    name: String,
    entries: Vec<(&'a Key, &'a Node, Cell<bool>)>,
    known: RefCell<Vec<&'static str>>,
}

impl Written {
    pub fn new(source: Source, problems: Vec<Problem>) -> Written {
        let written =
            Written { source, problems: RefCell::default(), more: Cell::new(0), quiet: Cell::new(false) };
        problems.into_iter().for_each(|problem| written.note(problem));
        written
    }

    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        if self.more.get() > 0 {
            problems.push(Problem::file(self.source.path(), File::TooMany { more: self.more.get() }));
        }
        problems
    }

    /// Reads something again whose problems are reported already.
    pub fn quietly<T>(&self, read: impl FnOnce() -> T) -> T {
        self.quiet.set(true);
        let value = read();
        self.quiet.set(false);
        value
    }

    pub fn note(&self, problem: Problem) {
        if self.quiet.get() {
            return;
        }
        match self.full() {
            true => self.more.set(self.more.get() + 1),
            false => self.problems.borrow_mut().push(problem),
        }
    }

    pub fn problem(&self, at: Span, what: impl Into<What>) {
        self.note(self.source.problem(at, what));
    }

    /// Reports something that is written twice.
    pub fn duplicate(&self, at: Span, first: Span, what: impl Into<What>) {
        self.note(self.source.problem(at, what).also(self.source.place(first), "first written here"));
    }

    /// How many problems are reported so far.
    pub fn reported(&self) -> usize {
        self.problems.borrow().len() + self.more.get()
    }

    /// Whether further problems are only counted.
    pub fn full(&self) -> bool {
        self.problems.borrow().len() >= MOST_PROBLEMS
    }

    /// The keys of a map; `name` is the map's own key, empty for the file. Reports duplicate keys.
    pub fn map<'a>(&'a self, node: &'a Node, name: &str) -> Option<Fields<'a>> {
        let Kind::Map(entries) = &node.kind else {
            let found = node.what();
            match name {
                "" => self.problem(node.span, Assistant::FileNotMap { found }),
                _ => self.problem(node.span, Assistant::NotMap { key: problem::shown(name), found }),
            }
            return None;
        };
        let mut first: HashMap<&str, &Key> = HashMap::with_capacity(entries.len());
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match first.get(key.name.as_str()) {
                Some(earlier) => {
                    let what = Assistant::KeyDuplicate { key: problem::shown(&key.name) };
                    self.duplicate(key.span, earlier.span, what);
                }
                None => {
                    first.insert(&key.name, key);
                    kept.push((key, value, Cell::new(false)));
                }
            }
        }
        Some(Fields { written: self, name: problem::shown(name), entries: kept, known: RefCell::default() })
    }

    /// A single value; `expected` is what it should be.
    fn scalar<'a>(&self, node: &'a Node, key: &str, expected: &'static str) -> Option<&'a Scalar> {
        let scalar = node.scalar();
        if scalar.is_none() {
            self.problem(
                node.span,
                Assistant::Type { key: problem::shown(key), expected, found: node.what() },
            );
        }
        // The missing variable is already a problem.
        scalar.filter(|scalar| !scalar.text().contains(MISSING))
    }

    pub fn text(&self, node: &Node, key: &str) -> Option<String> {
        self.scalar(node, key, "a text").map(|scalar| scalar.text().to_owned())
    }

    pub fn bool(&self, node: &Node, key: &str) -> Option<bool> {
        let scalar = self.scalar(node, key, "true or false")?;
        if scalar.bool().is_none() {
            self.problem(node.span, Assistant::NotBool { key: key.to_owned(), value: shown(node) });
        }
        scalar.bool()
    }

    pub fn number(&self, node: &Node, key: &str, range: &RangeInclusive<f64>) -> Option<f64> {
        let number = self.scalar(node, key, "a number")?.number();
        let (key, value) = (key.to_owned(), shown(node));
        let (least, most) = (range.start().to_string(), range.end().to_string());
        match number {
            None => self.problem(node.span, Assistant::NotNumber { key, value, least, most }),
            Some(number) if range.contains(&number) => return Some(number),
            Some(_) => self.problem(node.span, Assistant::Range { key, value, least, most }),
        }
        None
    }

    pub fn duration(&self, node: &Node, key: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let duration = duration::parse(self.scalar(node, key, "a duration such as `30s`")?.text());
        let (key, value) = (key.to_owned(), shown(node));
        match duration {
            None => self.problem(node.span, Assistant::NotDuration { key, value }),
            Some(duration) if range.contains(&duration) => return Some(duration),
            Some(_) => {
                let (least, most) = (spell(*range.start()), spell(*range.end()));
                self.problem(node.span, Assistant::Range { key, value, least, most });
            }
        }
        None
    }

    pub fn count(&self, node: &Node, key: &str, range: &RangeInclusive<u32>) -> Option<u32> {
        let range = f64::from(*range.start())..=f64::from(*range.end());
        let count = self.number(node, key, &range)?;
        if count.fract() != 0.0 {
            self.problem(node.span, Assistant::NotWhole { key: key.to_owned(), value: shown(node) });
            return None;
        }
        Some(count as u32)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, node: &Node, key: &str, words: &Words<T>) -> Option<T> {
        let text = self.scalar(node, key, "a word")?.text().trim();
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let suggestion = Suggestion::new(text, names(words));
            self.problem(node.span, Assistant::Word { key: key.to_owned(), value: shown(node), suggestion });
        }
        found.map(|(_, value)| *value)
    }

    /// A list, or a single value in its place.
    pub fn list<'a>(&self, node: &'a Node, key: &str) -> Vec<&'a Node> {
        let dash = |scalar: &Scalar| {
            scalar.style() == Style::Plain
                && ["-\"", "-'", "-+"].iter().any(|dash| scalar.text().starts_with(dash))
        };
        let key = key.to_owned();
        match &node.kind {
            Kind::Seq(items) => return items.iter().collect(),
            // YAML takes a dash without a space as a part of the text.
            Kind::Scalar(scalar) if dash(scalar) => {
                self.problem(node.span, Assistant::DashWithoutSpace { key });
            }
            Kind::Scalar(_) => return vec![node],
            Kind::Map(_) => self.problem(node.span, Assistant::NotList { key, found: node.what() }),
        }
        Vec::new()
    }
}

impl<'a> Fields<'a> {
    /// The value of a key; `None` if it is empty, or comes from an empty variable.
    pub fn take(&self, key: &'static str) -> Option<&'a Node> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let (_, node, used) = self.entries.iter().find(|(there, _, _)| there.name == key)?;
        used.set(true);
        Some(*node).filter(|node| !node.is_null())
    }

    /// Whether the key is written, even without a value.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(there, _, _)| there.name == key)
    }

    /// Every entry, for a map whose keys are the owner's.
    pub fn all(&self) -> impl Iterator<Item = (&'a Key, &'a Node)> + '_ {
        self.entries.iter().map(|(key, node, used)| {
            used.set(true);
            (*key, *node)
        })
    }

    pub fn map(&self, key: &'static str) -> Option<Fields<'a>> {
        self.written.map(self.take(key)?, key)
    }

    pub fn text(&self, key: &'static str) -> Option<String> {
        self.written.text(self.take(key)?, key)
    }

    pub fn bool(&self, key: &'static str) -> Option<bool> {
        self.written.bool(self.take(key)?, key)
    }

    pub fn duration(&self, key: &'static str, timing: &Timing) -> Option<Duration> {
        self.written.duration(self.take(key)?, key, &timing.range)
    }

    pub fn count(&self, key: &'static str, count: &Count) -> Option<u32> {
        self.written.count(self.take(key)?, key, &count.range)
    }

    pub fn word<T: Copy>(&self, key: &'static str, words: &Words<T>) -> Option<T> {
        self.written.word(self.take(key)?, key, words)
    }

    /// A list, without its empty entries.
    pub fn list(&self, key: &'static str) -> Vec<&'a Node> {
        let items = self.take(key).map(|node| self.written.list(node, key)).unwrap_or_default();
        items.into_iter().filter(|item| !item.is_null()).collect()
    }

    /// Reports every key that nothing has read.
    pub fn finish(self) {
        if self.written.quiet.get() {
            return;
        }
        let known = self.known.borrow();
        for (key, _, _) in self.entries.iter().filter(|(_, _, used)| !used.get()) {
            // A suggestion takes time, and a file may have ten thousand unknown keys.
            if self.written.full() {
                self.written.more.set(self.written.more.get() + 1);
                continue;
            }
            if let Some(found) = invisible::find(&key.name) {
                let (name, found) = (problem::shown(&invisible::without(&key.name)), found.to_string());
                self.written.problem(key.span, Assistant::KeyInvisible { key: name, found });
                continue;
            }
            self.written.problem(key.span, unknown::key(&self.name, &key.name, &known));
        }
    }
}

/// A value as a message may show it: as it is written, with `${…}`.
pub fn shown(node: &Node) -> String {
    let shown = node.scalar().map_or_else(|| node.what().to_owned(), Scalar::shown);
    if shown.is_empty() { "\"\"".to_owned() } else { shown }
}
