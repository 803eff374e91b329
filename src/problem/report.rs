//! How problems are shown: for people at a terminal, for a pipe, for programs, and for GitHub Actions.

use std::fmt;

use super::redact::one_line;
use super::source::{Place, Source, Span};
use super::{Problem, Severity};

/// All problems for a pipe or a log file: each with its line and a pointer under the place.
pub fn plain(problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        let place = problem.place.as_ref().map_or_else(|| "environment".to_owned(), Place::to_string);
        out.push_str(&format!("{place}: {}: {}\n", problem.severity().name(), problem.message()));
        if let Some(place) = &problem.place {
            pointer(&mut out, place);
        }
        also(&mut out, problem);
        if let Some(help) = problem.fix() {
            out.push_str(&format!("  help: {help}\n"));
        }
    }
    out
}

/// All problems for a program: an array of
/// `{"file","line","column","severity","code","message","help"}`. A problem of a whole file has line 1.
pub fn json(problems: &[Problem]) -> String {
    let rows: Vec<serde_json::Value> = problems
        .iter()
        .map(|problem| {
            let at = problem.span().unwrap_or(Span { line: 1, column: 1, ..Span::default() });
            serde_json::json!({
                "file": problem.path(), "line": at.line, "column": at.column, "severity": problem.severity().name(),
                "code": problem.code(), "message": problem.message_and_also(), "help": problem.fix(),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(rows))
}

/// All problems as annotations of GitHub Actions, one line each.
pub fn github(problems: &[Problem]) -> String {
    // Escaped as in https://github.com/actions/toolkit, core, command.ts.
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for problem in problems {
        let at = problem.span().unwrap_or(Span { line: 1, column: 1, ..Span::default() });
        let help = problem.fix().map(|help| format!("\n{help}")).unwrap_or_default();
        let level = match problem.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note | Severity::Ok => "notice",
        };
        out.push_str(&format!(
            "::{} file={},line={},col={},title={}::{}\n",
            level,
            property(problem.path()),
            at.line,
            at.column,
            property(problem.code()),
            data(&format!("{}{help}", problem.message_and_also())),
        ));
    }
    out
}

/// All problems for a terminal, with colors and drawn pointers.
pub fn pretty(problems: &[Problem]) -> String {
    let handler = miette::GraphicalReportHandler::new();
    let mut out = String::new();
    for problem in problems {
        // A place in a text that is not shown, such as `.env`, cannot be drawn.
        let hidden = problem.span().is_some() && problem.source().is_none();
        if hidden || too_wide(problem) || handler.render_report(&mut out, &Report::new(problem)).is_err() {
            out.push_str(&plain(std::slice::from_ref(problem)));
        } else {
            also(&mut out, problem);
        }
        out.push('\n');
    }
    out
}

/// The longest line that is shown whole, in characters: one of a minified file can be as long as the file.
const WIDEST: usize = 160;

/// Whether a line to draw is longer than a terminal: the drawing would be torn, and beyond 65,535 columns it panics.
fn too_wide(problem: &Problem) -> bool {
    let (Some(source), Some(span)) = (problem.source(), problem.span()) else { return false };
    let within = source.shown().get(span.start..span.start + span.len).unwrap_or_default();
    let around = within.matches('\n').count() + 3;
    let mut lines = source.shown().lines().skip(span.line.saturating_sub(2)).take(around);
    lines.any(|line| line.chars().nth(WIDEST).is_some())
}

/// The line of a problem with a pointer under it; empty if there is none to show.
pub fn excerpt(problem: &Problem) -> String {
    let mut out = String::new();
    if let Some(place) = &problem.place {
        pointer(&mut out, place);
    }
    out
}

fn also(out: &mut String, problem: &Problem) {
    if let Some((place, what)) = &problem.also {
        out.push_str(&format!("  {place}: {what}\n"));
        pointer(out, place);
    }
}

/// The line of a place, with a pointer under it. Of a long line only the part around the place.
fn pointer(out: &mut String, place: &Place) {
    /// How much of a long line is shown, and how much of that before the place.
    const CUT: usize = 120;
    const BEFORE: usize = 50;
    let (Some(source), Some(span)) = (&place.source, place.span) else { return };
    let text = source.shown();
    let Some(above) = text.get(..span.start) else { return };
    let start = above.rfind('\n').map_or(0, |at| at + 1);
    let Some(line) = text[start..].lines().next() else { return };
    let at = (span.start - start).min(line.len());
    // A long line is not walked through: a file may have a hundred problems in one.
    let (from, to) = match line.char_indices().nth(WIDEST) {
        Some(_) => {
            let back = |place: usize, letters: usize| {
                line[..place].char_indices().rev().nth(letters - 1).map_or(0, |(at, _)| at)
            };
            let from = back(at, BEFORE).min(back(line.len(), CUT));
            (from, line[from..].char_indices().nth(CUT).map_or(line.len(), |(at, _)| from + at))
        }
        None => (0, line.len()),
    };
    let at = at.min(to);
    let column = line[from..at].chars().count();
    let room = line[at..to].chars().count().max(1);
    let under = text.get(span.start..span.start + span.len).and_then(|text| text.lines().next());
    let under = under.map_or(1, |under| under.trim_end().chars().take(room).count());
    let number = span.line.to_string();
    let margin = " ".repeat(number.len());
    // A tab takes one column in both lines, so that the pointer stays under its place.
    let shown = line[from..to].replace('\t', " ");
    let (before, after) = (if from > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });
    out.push_str(&format!("  {number} | {before}{shown}{after}\n"));
    let space = " ".repeat(column + before.chars().count());
    out.push_str(&format!("  {margin} | {space}{}\n", "^".repeat(under.max(1))));
}

/// A problem as miette reads it.
#[derive(Debug)]
struct Report<'a> {
    problem: &'a Problem,
    message: String,
    help: Option<String>,
}

impl Report<'_> {
    fn new(problem: &Problem) -> Report<'_> {
        let message = match problem.span() {
            Some(_) => problem.message(),
            None => format!("{}: {}", one_line(problem.path()), problem.message()),
        };
        Report { problem, message, help: problem.fix() }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code()))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity() {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note | Severity::Ok => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.problem.source().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.problem.span()?;
        let text = self.problem.source().and_then(|source| source.shown().get(span.start..));
        // Of a long block, its first line is enough.
        let len = text.and_then(|text| text.lines().next()).map_or(0, |line| line.len().min(span.len));
        let label = miette::LabeledSpan::new(None, span.start, len);
        Some(Box::new(std::iter::once(label)))
    }
}

impl miette::SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let inner = self.shown().as_bytes().read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            one_line(self.path()),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}
