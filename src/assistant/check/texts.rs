//! What can be wrong with any text for people or for the model: an end that YAML takes for a comment, and a key that
//! every caller could hear.

use super::Check;
use crate::problem::catalogue::{Assistant, Tool};
use crate::problem::{self, Span};
use crate::secret;
use crate::yaml::{Key, Kind, Node, Style};

/// The keys whose values are such texts, wherever they stand.
const TEXTS: [&str; 3] = ["instructions", "say", "description"];
/// The keys below which every value is one.
const MAPS: [&str; 3] = ["variables", "callers", "sounds"];
/// Reported keys of one file.
const MOST: usize = 20;

impl Check<'_> {
    pub(super) fn every_text(&self, root: &Node) {
        self.keys_in_file();
        if let Kind::Map(entries) = &root.kind {
            entries.iter().for_each(|(key, value)| self.below(key, value, false));
        }
    }

    /// Warns about everything in the file that looks like a key, unless it stands where a secret is expected: that has a
    /// warning of its own.
    fn keys_in_file(&self) {
        let reported = self.secrets.borrow();
        let inside =
            |at: usize| reported.iter().any(|span| (span.start..span.start + span.len).contains(&at));
        for (at, what) in secret::in_text(self.text).filter(|(at, _)| !inside(at.start)).take(MOST) {
            self.written.problem(Span::of(self.text, at), Tool::SecretShape { what });
        }
    }

    fn below(&self, key: &Key, node: &Node, texts: bool) {
        let texts = texts || MAPS.contains(&key.name.as_str());
        match &node.kind {
            Kind::Map(entries) => entries.iter().for_each(|(key, value)| self.below(key, value, texts)),
            Kind::Seq(items) => items.iter().for_each(|item| self.below(key, item, texts)),
            Kind::Scalar(scalar) if texts || TEXTS.contains(&key.name.as_str()) => {
                if let (true, Some((_, what))) = (scalar.expanded(), secret::in_text(scalar.text()).next()) {
                    self.written.problem(node.span, Tool::SecretInserted { what });
                }
                let is_text = scalar.number().is_none() && scalar.bool().is_none();
                if is_text && scalar.style() == Style::Plain {
                    self.comment(key, node);
                }
            }
            Kind::Scalar(_) => {}
        }
    }

    /// Warns about a comment behind a value that was probably meant to be a part of it. People write two spaces before a
    /// real one and a space after its sign.
    fn comment(&self, key: &Key, node: &Node) {
        // What is empty stands nowhere.
        let empty = node.span.len == 0;
        let at = if empty { key.span } else { node.span };
        let end = at.start + at.len;
        let (Some(value), Some(rest)) = (self.text.get(at.start..end), self.text.get(end..)) else { return };
        let rest = rest.lines().next().unwrap_or_default();
        let comment = rest.trim_start_matches(|c| matches!(c, ' ' | '\t') || (empty && c == ':'));
        let gap = &rest[..rest.len() - comment.len()];
        let apart = empty || gap.len() > 1 || gap == "\t";
        let is_real = apart && (comment == "#" || comment.starts_with("# "));
        if !value.contains('\n') && comment.starts_with('#') && !is_real {
            let start = end + gap.len();
            let key = problem::shown(&key.name);
            // Counting lines takes time, and a file may have ten thousand of these.
            let span = match self.written.full() {
                true => node.span,
                false => Span::of(self.text, start..start + comment.len()),
            };
            self.written.problem(span, Assistant::TailLost { key });
        }
    }
}
