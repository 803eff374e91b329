//! What `${NAME}` stands for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, MISSING, Node};
use crate::problem::catalogue::File;
use crate::problem::{self, Origin, Problem, Source, Span};
use crate::secret;

/// The longest text that a value may have after `${…}` is replaced, in bytes.
const LONGEST_VALUE: usize = 256 * 1024;

/// Replaces `${NAME}`, `${NAME:-default}` and `$${`.
pub(super) struct Expansion<'a> {
    pub environment: &'a BTreeMap<String, String>,
    pub source: &'a Source,
    pub text: &'a str,
    pub problems: &'a mut Vec<Problem>,
    /// The variables whose values stand in the scalar that is at hand.
    pub used: Vec<String>,
    pub origins: Vec<Origin>,
}

impl Expansion<'_> {
    pub fn node(&mut self, node: &mut Node) {
        let span = node.span;
        match &mut node.kind {
            Kind::Seq(items) => items.iter_mut().for_each(|item| self.node(item)),
            Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| self.node(value)),
            Kind::Scalar(scalar) if scalar.text.contains("${") => {
                let written = scalar.text.clone();
                let (text, replaced) = self.expand(&written, span, 0);
                scalar.text = text;
                let variables = std::mem::take(&mut self.used);
                if !variables.is_empty() {
                    self.origins.push(Origin { span, variables });
                }
                if replaced {
                    scalar.written = Some(written);
                }
            }
            Kind::Scalar(scalar) => {
                if let Some(name) = scalar.text.strip_prefix('$').filter(|name| is_shell_name(name)) {
                    let name = name.to_owned();
                    self.report(span, &format!("${name}"), File::VariableWithoutBraces { name });
                    scalar.text = MISSING.to_owned();
                }
            }
        }
    }

    /// The text with its names replaced, and whether there was one.
    fn expand(&mut self, text: &str, span: Span, depth: usize) -> (String, bool) {
        let mut out = String::with_capacity(text.len());
        let mut replaced = false;
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                // `$${` is how `${` is written.
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let Some(end) = closing(inner) else {
                let open = format!("${{{}", inner.lines().next().unwrap_or_default());
                self.report(span, &open, File::VariableOpen);
                // Looking for the brace of each later `${` would take quadratic time.
                out.push_str(&rest[at..]);
                return (out, replaced);
            };
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            rest = &inner[end + 1..];
            replaced = true;
            if !is_name(name) {
                let shown = problem::shown(name);
                self.report(span, &format!("${{{}}}", &inner[..end]), File::VariableSyntax { shown });
                continue;
            }
            let value = self.environment.get(name).filter(|value| !value.is_empty());
            match (value, default) {
                (Some(value), _) => {
                    if secret::is_quoted(value) {
                        let what = File::VariableQuoted { name: name.to_owned() };
                        self.report(span, &format!("${{{name}"), what);
                    }
                    out.push_str(value);
                    if !self.used.iter().any(|used| used == name) {
                        self.used.push(name.to_owned());
                    }
                }
                (None, Some(default)) if depth < 4 => {
                    out.push_str(&self.expand(default, span, depth + 1).0);
                }
                (None, Some(default)) => out.push_str(default),
                (None, None) => {
                    let name = name.to_owned();
                    self.report(span, &format!("${{{name}}}"), File::VariableMissing { name });
                    // Something that is not empty, so that no second problem follows from this one.
                    out.push_str(MISSING);
                }
            }
            if out.len() > LONGEST_VALUE {
                self.report(span, "${", File::VariableTooLong);
                out.clear();
                return (out, replaced);
            }
        }
        out.push_str(rest);
        (out, replaced)
    }

    /// Points at the `${…}` itself if it can be found in the file.
    fn report(&mut self, span: Span, find: &str, what: File) {
        // A text may have a hundred thousand.
        if self.problems.len() >= 200 {
            return;
        }
        let within = self.text.get(span.start..span.start + span.len).unwrap_or_default();
        let span = match within.find(find) {
            Some(at) => {
                let before = &within[..at];
                let breaks = before.matches('\n').count();
                let column = match before.rfind('\n') {
                    Some(newline) => before[newline + 1..].chars().count() + 1,
                    None => span.column + before.chars().count(),
                };
                Span { start: span.start + at, len: find.len(), line: span.line + breaks, column }
            }
            None => span,
        };
        self.problems.push(self.source.problem(span, what));
    }
}

/// Where the brace that closes `${` is: braces within a default come in pairs.
fn closing(inner: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The names of every `${NAME}` in a text, also in comments, in defaults, and where it is no valid YAML.
pub fn variables(text: &str) -> BTreeSet<String> {
    let behind = text.match_indices("${").map(|(at, sign)| &text[at + sign.len()..]);
    let names = behind.filter_map(|behind| behind.split([':', '}']).next());
    names.filter(|name| is_name(name)).map(str::to_owned).collect()
}

/// Whether this is surely meant as the name of a variable: in capitals, and longer than a price.
fn is_shell_name(name: &str) -> bool {
    name.len() > 2 && is_name(name) && !name.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
