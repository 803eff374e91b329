//! Where a problem is written: a place in a file, and the text around it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::redact::{self, mask, mask_spans, one_line, visible};
use super::{Problem, What};

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
    pub line: usize,
    pub column: usize,
}

impl Span {
    /// These bytes of a text.
    pub fn of(text: &str, at: Range<usize>) -> Span {
        let before = text.get(..at.start).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        Span {
            start: at.start,
            len: at.len(),
            line: before.matches('\n').count() + 1,
            column: before[line..].chars().count() + 1,
        }
    }
}

/// Where a problem is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The path as the owner knows it. It prints with phone numbers masked.
    pub file: String,
    /// `None`: the file as a whole.
    pub span: Option<Span>,
    /// The text to show; `None` for `.env`, whose lines are never shown.
    pub(super) source: Option<Source>,
}

impl Place {
    /// A file as a whole.
    pub fn file(path: &str) -> Place {
        Place { file: redact::path(path), span: None, source: None }
    }

    /// A line of a file whose text is not shown.
    pub fn line(path: &str, line: usize) -> Place {
        Place { span: Some(Span { line, column: 1, ..Span::default() }), ..Place::file(path) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.span {
            Some(at) => write!(f, "{}:{}:{}", one_line(&self.file), at.line, at.column),
            None => f.write_str(&one_line(&self.file)),
        }
    }
}

/// A file's path and its text, fit to be shown.
#[derive(Clone)]
pub struct Source {
    path: Arc<str>,
    text: Arc<Text>,
    origins: Arc<[Origin]>,
}

/// A text that is masked when it is first shown: most files have no problem.
struct Text {
    written: Box<str>,
    hidden: Vec<Span>,
    /// Same length in bytes as `written`.
    shown: OnceLock<String>,
}

/// A value of a file that contains variables. It knows their names, and none of their values.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    pub span: Span,
    /// The variables whose values it contains. At least one.
    pub variables: Vec<String>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        self.path == other.path && (Arc::ptr_eq(&self.text, &other.text) || self.shown() == other.shown())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let text = Text { written: text.into(), hidden: Vec::new(), shown: OnceLock::new() };
        Source { path: redact::path(path).into(), text: Arc::new(text), origins: Arc::default() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Masks whole spans as well: values that are secrets. They may overlap.
    pub fn hide(&mut self, spans: Vec<Span>) {
        let written = self.text.written.clone();
        let hidden = self.text.hidden.iter().copied().chain(spans).collect();
        self.text = Arc::new(Text { written, hidden, shown: OnceLock::new() });
    }

    /// Records the values that contain variables: problems with them name the variables.
    pub fn set_origins(&mut self, origins: Vec<Origin>) {
        self.origins = origins.into();
    }

    /// A problem at a place in this file.
    pub fn problem(&self, span: Span, what: impl Into<What>) -> Problem {
        let names = self.origin(span).map_or(&[][..], |origin| &origin.variables);
        Problem::new(what).at(self.place(span)).with_variables(names)
    }

    /// A second place for a problem.
    pub fn place(&self, span: Span) -> Place {
        Place { file: self.path.to_string(), span: Some(span), source: Some(self.clone()) }
    }

    pub(super) fn shown(&self) -> &str {
        self.text.shown.get_or_init(|| {
            let shown = visible(&mask(&self.text.written));
            mask_spans(shown, self.text.hidden.clone())
        })
    }

    fn origin(&self, span: Span) -> Option<&Origin> {
        self.origins.iter().find(|origin| (origin.span.start, origin.span.len) == (span.start, span.len))
    }
}
