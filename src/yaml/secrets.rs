//! Secrets that stand in a file, where they should not: found by the names of their keys, so that problems can
//! show stars in their place.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use super::{Kind, Node, Scalar, Style};
use crate::problem::Span;

/// What the names of secrets hold, also where they are misspelt, in lower case.
const MARKS: [&str; 9] = ["tok", "passw", "pasw", "pwd", "secret", "key", "auth", "cred", "bearer"];

/// The last words of names that are secrets for sure, without `-`, `_` and `.`: `api-key`, and not `keyword`.
const NOUNS: [&str; 9] =
    ["token", "key", "secret", "password", "passwd", "pwd", "authorization", "bearer", "credentials"];

/// Names of secrets in one text that are looked at.
const MOST: usize = 64;

/// Whether what stands under this key may be a secret. Rather one too many: it is only not shown.
pub fn named(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    MARKS.iter().any(|mark| key.contains(mark))
}

/// Whether what a value holds stands in the file: all of it, or the default in a `${NAME:-default}`.
pub fn literal(scalar: &Scalar) -> bool {
    match &scalar.written {
        Some(written) => is_literal(written),
        None => is_literal(&scalar.text),
    }
}

/// The name of a secret that stands within a text: in the query of an address (`?token=…`), or in the argument of a
/// program (`--token=…`, `Authorization: …`).
pub fn literal_within(scalar: &Scalar) -> Option<String> {
    let text = scalar.written.as_deref().unwrap_or(&scalar.text);
    let parts = text.split(['?', '&', '#']);
    let named = parts.flat_map(|part| {
        part.match_indices(['=', ':']).map(move |(at, _)| (last_name(&part[..at]), &part[at + 1..]))
    });
    let mut secrets = named.filter(|(name, _)| is_noun(name)).take(MOST);
    secrets.find(|(_, value)| is_literal(value) && !is_path(value)).map(|(name, _)| name.to_owned())
}

fn last_name(text: &str) -> &str {
    let text = text.trim_end_matches(['"', '\'', ' ']);
    text.rsplit(|c| !of_name(c)).next().unwrap_or_default().trim_start_matches('-')
}

/// The name of the secret that an argument is, by the option before it: `--token`.
pub fn literal_after(option: &str, argument: &Scalar) -> Option<String> {
    let name = option.trim_start_matches('-');
    let value = argument.written.as_deref().unwrap_or(&argument.text);
    let is = option.starts_with('-') && name.chars().all(of_name) && is_noun(name);
    (is && !value.starts_with('-') && is_literal(value) && !is_path(value)).then(|| name.to_owned())
}

fn is_noun(name: &str) -> bool {
    let name: String = name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    NOUNS.iter().any(|noun| name.ends_with(noun))
}

/// Whether it names a file: one that holds a key may be told.
fn is_path(value: &str) -> bool {
    value.starts_with(['/', '.', '~'])
}

/// Whether a text that may hold `${…}` says something by itself. What a template puts in comes from elsewhere.
fn is_literal(written: &str) -> bool {
    let stands = match written.contains("${") {
        true => written.match_indices(":-").any(|(at, mark)| {
            let default = &written[at + mark.len()..];
            !default.starts_with('}') && !default.starts_with("${")
        }),
        false => !written.trim().is_empty(),
    };
    stands && !written.contains("{{")
}

fn of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where secrets stand by the looks of the lines: what follows a secret's key, and user names in URLs. In a text that
/// is no valid YAML, which has no `root`, also the lines that belong to such a key.
///
/// What follows goes to the end of the line, unless the tree says for sure where the value ends.
pub fn lines(text: &str, root: Option<&Node>, is_secret: &dyn Fn(&str) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut hide = |start: usize, len: usize| spans.push(Span { start, len, ..Span::default() });
    let values = OnceCell::new();
    let mut start = 0;
    // How far the key is indented whose lines these may be.
    let mut above = None;
    for line in text.split_inclusive('\n') {
        let words = line.trim();
        let indent = line.len() - line.trim_start().len();
        let belongs = |key: usize| {
            words.is_empty()
                || indent > key
                || (indent == key && words.starts_with('-'))
                || !words.contains([':', '='])
        };
        if above.is_some_and(belongs) {
            hide(start, line.len());
        } else {
            above = None;
            // What stands in a comment belongs to nothing, and may be the rest of anything.
            let comment = line.rfind('#');
            let defaults = OnceCell::new();
            // What comes from the environment is shown as it is written.
            let from_outside = |from: usize, to: usize| {
                let defaults: &Vec<usize> = defaults.get_or_init(|| defaults_in(line).collect());
                let next = defaults.get(defaults.partition_point(|at| *at < from));
                line[from..].trim_start_matches(['"', '\'']).starts_with("${")
                    && next.is_none_or(|at| *at >= to)
            };
            let mut at = 0;
            while let Some(value) = value(line, at, is_secret) {
                let known = root.and_then(|root| {
                    let values = values.get_or_init(|| Values::of(root));
                    values.around(text, start + value, start..start + line.len())
                });
                let known = known.filter(|known| comment.is_none_or(|comment| start + comment < known.end));
                if let Some(known) = known {
                    if from_outside(value, known.end - start) {
                        at = value;
                        continue;
                    }
                    // The quote that closes it may stay.
                    let end = known.end - usize::from(known.quoted && known.start < start + value);
                    hide(start + value, end - start - value);
                    at = known.end - start;
                    continue;
                }
                if from_outside(value, line.len()) {
                    at = value;
                    continue;
                }
                above = root.is_none().then_some(indent);
                // The sign that opens a block is no secret.
                if !matches!(line[value..].trim_end(), "|" | ">" | "|-" | ">-" | "|+" | ">+") {
                    hide(start + value, line.len() - value);
                }
                break;
            }
            // `https://user:password@host`.
            for (at, _) in line.match_indices("://") {
                let authority = line[at + 3..].split(['/', '"', '\'', ' ', ',', '}']).next();
                if let Some(end) = authority.and_then(|authority| authority.rfind('@')) {
                    hide(start + at + 3, end);
                }
            }
        }
        start += line.len();
    }
    spans
}

/// Where the first value in a line begins, from `at` on, that stands behind the name of a secret.
fn value(line: &str, mut at: usize, is_secret: &dyn Fn(&str) -> bool) -> Option<usize> {
    while let Some(next) = line[at..].find(of_name) {
        let inside = line[..at + next].ends_with("${");
        let name = &line[at + next..];
        let name = &name[..name.find(|c| !of_name(c)).unwrap_or(name.len())];
        at += next + name.len();
        let behind = line[at..].trim_start_matches(['"', '\'', ' ', '\t']);
        let Some(value) = behind.strip_prefix([':', '=']).map(str::trim_start) else { continue };
        if !inside && is_secret(name) {
            return Some(line.len() - value.len());
        }
    }
    None
}

/// The single values of a file.
struct Values<'a> {
    /// By their place.
    all: Vec<(usize, &'a Node)>,
    /// What was found of the one that was asked for last: a long text may be asked for often.
    last: Cell<Option<(usize, Option<Known>)>>,
}

/// A value that lies in one line, from its first byte to the one after its last.
#[derive(Clone, Copy)]
struct Known {
    start: usize,
    end: usize,
    quoted: bool,
}

impl<'a> Values<'a> {
    fn of(root: &'a Node) -> Values<'a> {
        fn collect<'a>(node: &'a Node, found: &mut Vec<(usize, &'a Node)>) {
            match &node.kind {
                Kind::Scalar(_) => found.push((node.span.start, node)),
                Kind::Seq(items) => items.iter().for_each(|item| collect(item, found)),
                Kind::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, found)),
            }
        }
        let mut all = Vec::new();
        collect(root, &mut all);
        all.sort_by_key(|(start, _)| *start);
        Values { all, last: Cell::new(None) }
    }

    /// The value in whose bytes this place is, if it is sure where that ends.
    fn around(&self, text: &str, place: usize, line: Range<usize>) -> Option<Known> {
        let before = self.all.partition_point(|(start, _)| *start <= place);
        let (start, node) = *self.all.get(before.checked_sub(1)?)?;
        if place >= start + node.span.len {
            return None;
        }
        let known = match self.last.get() {
            Some((last, known)) if last == start => known,
            _ => known(node, text, line),
        };
        self.last.set(Some((start, known)));
        known
    }
}

/// Where a value is. `None` where there is the least doubt that it ends where the tree says: where it is not what is
/// written there, or where what follows may still belong to it.
fn known(node: &Node, text: &str, line: Range<usize>) -> Option<Known> {
    let scalar = node.scalar()?;
    let (start, end) = (node.span.start, node.span.start + node.span.len);
    let written = text.get(start..end)?;
    let quoted = scalar.style == Style::Quoted;
    let whole = match (scalar.style, written.as_bytes().first()) {
        (Style::Quoted, Some(b'\'')) => is_closed(&written[1..], "''", '\''),
        (Style::Quoted, Some(b'"')) => is_closed(&written[1..], "\\\"", '"') && !written.contains("\\\\"),
        (Style::Plain, Some(_)) => written == scalar.written.as_deref().unwrap_or(&scalar.text),
        _ => false,
    };
    if !whole || start < line.start || line.end < end {
        return None;
    }
    let behind = text[end..line.end].trim_start();
    let ends = match behind.strip_prefix(',') {
        None => behind.is_empty() || behind.starts_with(['}', ']']),
        // Without quotes a secret may have been meant to hold the comma, unless another key follows.
        Some(behind) => {
            let next = behind.split([',', '}', ']']).next().unwrap_or_default();
            quoted || next.trim().is_empty() || (next.starts_with(' ') && next.contains(": "))
        }
    };
    ends.then_some(Known { start, end, quoted })
}

/// Whether a text ends with this quote, and has no other but such as are escaped.
fn is_closed(rest: &str, escaped: &str, quote: char) -> bool {
    rest.strip_suffix(quote).is_some_and(|inner| !inner.replace(escaped, "").contains(quote))
}

/// Whether a `${NAME:-default}` in the text has a default: what is written there is no value of the environment.
pub fn has_default(text: &str) -> bool {
    defaults_in(text).next().is_some()
}

fn defaults_in(text: &str) -> impl Iterator<Item = usize> {
    let marks = text.match_indices(":-").filter(|(at, mark)| !text[at + mark.len()..].starts_with('}'));
    marks.map(|(at, _)| at)
}

/// Every value under the name of a secret, however deep, but those of the environment. `secret`: all of `node` is.
pub fn values(node: &Node, secret: bool, is_secret: &dyn Fn(&str) -> bool, spans: &mut Vec<Span>) {
    match &node.kind {
        Kind::Scalar(scalar) if secret && scalar.written.as_deref().is_none_or(has_default) => {
            spans.push(node.span);
        }
        Kind::Scalar(_) => {}
        Kind::Seq(items) => items.iter().for_each(|item| values(item, secret, is_secret, spans)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                values(value, secret || is_secret(&key.name), is_secret, spans);
            }
        }
    }
}
