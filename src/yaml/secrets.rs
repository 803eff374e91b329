//! Secrets that stand in a file, where they should not: found by the names of their keys, so that problems can
//! show stars in their place.

use super::{Kind, Node};
use crate::problem::Span;

/// What the names of secrets hold, also where they are misspelt, in lower case.
const MARKS: [&str; 9] = ["tok", "passw", "pasw", "pwd", "secret", "key", "auth", "cred", "bearer"];

/// Whether what stands under this key may be a secret. Rather one too many: it is only not shown.
pub fn named(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    MARKS.iter().any(|mark| key.contains(mark))
}

/// Where secrets stand by the looks of the lines: what follows a secret's key, and user names in URLs. With
/// `broken`, for a text that is no valid YAML, also the lines that belong to such a key.
pub fn lines(text: &str, broken: bool, is_secret: &dyn Fn(&str) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut hide = |start: usize, len: usize| spans.push(Span { start, len, ..Span::default() });
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
            if let Some(value) = value(line, is_secret) {
                above = broken.then_some(indent);
                // The sign that opens a block is no secret.
                if !matches!(line[value..].trim_end(), "|" | ">" | "|-" | ">-" | "|+" | ">+") {
                    hide(start + value, line.len() - value);
                }
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

/// Where the first value in a line begins that stands behind the name of a secret.
fn value(line: &str, is_secret: &dyn Fn(&str) -> bool) -> Option<usize> {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut at = 0;
    while let Some(next) = line[at..].find(of_name) {
        let inside = line[..at + next].ends_with("${");
        let name = &line[at + next..];
        let name = &name[..name.find(|c| !of_name(c)).unwrap_or(name.len())];
        at += next + name.len();
        let behind = line[at..].trim_start_matches(['"', '\'', ' ', '\t']);
        let Some(value) = behind.strip_prefix([':', '=']).map(str::trim_start) else { continue };
        // What comes from the environment is shown as it is written.
        let written = value.trim_start_matches(['"', '\'']);
        let outside = written.starts_with("${") && !has_default(written);
        if !inside && !outside && is_secret(name) {
            return Some(line.len() - value.len());
        }
    }
    None
}

/// Whether a `${NAME:-default}` in the text has a default: what is written there is no value of the environment.
pub fn has_default(text: &str) -> bool {
    text.match_indices(":-").any(|(at, mark)| !text[at + mark.len()..].starts_with('}'))
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
