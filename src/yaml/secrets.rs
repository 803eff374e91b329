//! Secrets written in a file, found by the names of their keys, so that problems can hide them.

use super::{Kind, Node, Scalar};
use crate::problem::Span;

/// Parts of the names of secrets, also of misspelled ones, in lower case.
const MARKS: [&str; 9] = ["tok", "passw", "pasw", "pwd", "secret", "key", "auth", "cred", "bearer"];

/// How the names of secrets end, without `-`, `_` and `.`: `api-key`, and not `keyword`.
const NOUNS: [&str; 9] =
    ["token", "key", "secret", "password", "passwd", "pwd", "authorization", "bearer", "credentials"];

/// The most names of secrets to examine in one text.
const MOST: usize = 64;

/// Whether the value of this key may be a secret. If in doubt it is: the only effect is that it is hidden.
pub fn named(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    MARKS.iter().any(|mark| key.contains(mark))
}

/// Whether the value of an unknown key may be a secret: a misspelled name may be that of one. A number, or `true`, is one
/// only under its name.
pub fn possible(key: &str, value: &Node) -> bool {
    let figure = |scalar: &Scalar| scalar.bool().is_some() || scalar.number().is_some();
    named(key) || !value.scalar().is_some_and(figure)
}

/// Whether a value is written in the file itself: all of it, or the default in a `${NAME:-default}`.
pub fn literal(scalar: &Scalar) -> bool {
    match &scalar.written {
        Some(written) => is_literal(written),
        None => is_literal(&scalar.text),
    }
}

/// The name of a secret written within a text: in the query of a URL (`?token=…`) or in an argument of a program
/// (`--token=…`, `Authorization: …`).
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

/// The name of the secret in an argument that follows an option such as `--token`.
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

/// Whether it is a path. The path of a file with a key is no secret.
fn is_path(value: &str) -> bool {
    value.starts_with(['/', '.', '~'])
}

/// Whether a text with or without `${…}` has a value of its own. A template's value comes from elsewhere.
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

/// Secrets by the looks of the lines: what follows a secret's key, to the end of its line, and user names in URLs.
///
/// `nested`: also the lines that belong to such a key, for a text that is not valid YAML. In a valid one, [`values`]
/// finds them.
pub fn lines(text: &str, nested: bool, is_secret: &dyn Fn(&str) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut hide = |start: usize, len: usize| spans.push(Span { start, len, ..Span::default() });
    let mut start = 0;
    // The indentation of the key whose lines these may be.
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
            let last_default = defaults(line).last();
            let mut at = 0;
            while let Some(value) = value(line, at, is_secret) {
                let written = &line[value..];
                // A value from the environment is shown as it is written.
                let from_environment = written.trim_start_matches(['"', '\'']).starts_with("${");
                if from_environment && last_default.is_none_or(|default| default < value) {
                    at = value;
                    continue;
                }
                above = nested.then_some(indent);
                // A block begins on the next line.
                if !matches!(written.trim_end(), "|" | ">" | "|-" | ">-" | "|+" | ">+") {
                    hide(start + value, written.len());
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

/// The first place from `at` on in a line where the value of a secret begins.
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

/// Whether a `${NAME:-default}` in the text has a default, which is a value written in the file.
pub fn has_default(text: &str) -> bool {
    defaults(text).next().is_some()
}

/// Where the defaults are.
fn defaults(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices(":-").map(|(at, _)| at).filter(|at| !text[at + 2..].starts_with('}'))
}

/// Every value under the name of a secret, at any depth, except those from the environment. `secret`: all of `node` is
/// secret.
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
