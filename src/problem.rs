//! Something wrong in a file or a setting, with its place, for the person who can mend it.
//!
//! A problem keeps the text around its place so that it can be shown with a pointer. Long runs of
//! digits are starred out of that text before it is shown: a snippet may end up in a log.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod origin;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use origin::Origin;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong, or odd.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The path as the owner knows it, or `environment`.
    pub file: String,
    /// `None`: the file as a whole, or no file at all.
    pub span: Option<Span>,
    pub severity: Severity,
    /// Stable, such as `voice.unknown`.
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
    /// A second place that belongs to it, such as the other claim to a number.
    pub also: Option<Also>,
    /// Those that the message names as the cause.
    variables: Vec<String>,
    source: Option<Source>,
}

/// The second place of a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Also {
    pub file: String,
    pub span: Span,
    pub message: String,
    source: Source,
}

/// A file's path and its text, fit to be shown.
#[derive(Clone)]
pub struct Source {
    path: Arc<str>,
    text: Arc<Text>,
    origins: Arc<[Origin]>,
}

/// A text that is made fit to be shown when that is asked for: most files have no problem.
struct Text {
    written: Box<str>,
    hidden: Vec<Span>,
    /// Same length in bytes as what was written.
    shown: OnceLock<String>,
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
        Source { path: fenced(path).into(), text: Arc::new(text), origins: Arc::default() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Stars out whole spans as well: values that are secrets. They may lie within each other.
    pub fn hide(&mut self, spans: Vec<Span>) {
        let written = self.text.written.clone();
        let hidden = self.text.hidden.iter().copied().chain(spans).collect();
        self.text = Arc::new(Text { written, hidden, shown: OnceLock::new() });
    }

    fn shown(&self) -> &str {
        self.text.shown.get_or_init(|| {
            let shown = visible(&star_digits(&self.text.written));
            starred(shown, self.text.hidden.clone())
        })
    }

    pub fn error(&self, span: Span, code: &'static str, message: impl Into<String>) -> Problem {
        let (mut message, mut variables) = (message.into(), Vec::new());
        if let Some(origin) = self.origin(span) {
            message = origin.tell(message);
            variables.clone_from(&origin.variables);
        }
        let source = Some(self.clone());
        Problem { source, span: Some(span), variables, ..Problem::about(&self.path, code, message) }
    }

    pub fn warning(&self, span: Span, code: &'static str, message: impl Into<String>) -> Problem {
        self.error(span, code, message).into_warning()
    }
}

impl Problem {
    /// A problem of a file as a whole, or of a setting.
    pub fn about(file: &str, code: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            file: fenced(file),
            span: None,
            severity: Severity::Error,
            code,
            message: fenced(&message.into()),
            help: None,
            also: None,
            variables: Vec::new(),
            source: None,
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(fenced(&help.into()));
        self
    }

    /// The same problem, shown in this text: one in which a secret is hidden.
    pub fn within(mut self, source: &Source) -> Problem {
        self.source = self.source.map(|_| source.clone());
        self
    }

    pub fn also(mut self, source: &Source, span: Span, message: impl Into<String>) -> Problem {
        self.also = Some(Also {
            file: source.path().to_owned(),
            span,
            message: fenced(&message.into()),
            source: source.clone(),
        });
        self
    }

    pub fn into_warning(mut self) -> Problem {
        self.severity = Severity::Warning;
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The message, with the second place in words.
    fn told(&self) -> String {
        match &self.also {
            Some(Also { file, span, message, .. }) => {
                format!("{} ({message} at {file}:{}:{})", self.message, span.line, span.column)
            }
            None => self.message.clone(),
        }
    }

    /// In one line: place, severity, message, help. For logs.
    pub fn line(&self) -> String {
        let mut line = format!("{}: {}: {}", self.place(), self.severity.name(), self.told());
        if let Some(help) = &self.help {
            line.push_str(&format!("; {help}"));
        }
        line
    }

    fn place(&self) -> String {
        match self.span {
            Some(at) => format!("{}:{}:{}", self.file, at.line, at.column),
            None => self.file.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl std::error::Error for Problem {}

/// Orders problems as a person reads them: by file, then by place.
pub fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| {
        (&a.file, a.span.map(|s| s.start), a.severity).cmp(&(&b.file, b.span.map(|s| s.start), b.severity))
    });
}

/// All problems for a pipe or a log file: each with its line and a pointer under the place.
pub fn plain(problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        let (place, severity) = (problem.place(), problem.severity.name());
        out.push_str(&format!("{place}: {severity}: {}\n", problem.message));
        if let (Some(source), Some(span)) = (&problem.source, problem.span) {
            pointer(&mut out, source, span);
        }
        if let Some(also) = &problem.also {
            let (file, at) = (&also.file, also.span);
            out.push_str(&format!("  {file}:{}:{}: {}\n", at.line, at.column, also.message));
            pointer(&mut out, &also.source, at);
        }
        if let Some(help) = &problem.help {
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
            let at = problem.span.unwrap_or(Span { line: 1, column: 1, ..Span::default() });
            serde_json::json!({
                "file": problem.file, "line": at.line, "column": at.column, "severity": problem.severity.name(),
                "code": problem.code, "message": problem.told(), "help": problem.help,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(rows))
}

/// All problems as annotations of GitHub Actions, one line each.
pub fn github(problems: &[Problem]) -> String {
    // Theirs is the escaping: https://github.com/actions/toolkit, core, command.ts.
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for problem in problems {
        let at = problem.span.unwrap_or(Span { line: 1, column: 1, ..Span::default() });
        let help = problem.help.as_ref().map(|help| format!("\n{help}")).unwrap_or_default();
        out.push_str(&format!(
            "::{} file={},line={},col={},title={}::{}\n",
            problem.severity.name(),
            property(&problem.file),
            at.line,
            at.column,
            property(problem.code),
            data(&format!("{}{help}", problem.told())),
        ));
    }
    out
}

/// All problems for a terminal, with colours and drawn pointers.
pub fn pretty(problems: &[Problem]) -> String {
    let handler = miette::GraphicalReportHandler::new();
    let mut out = String::new();
    for problem in problems {
        // A place in a text that is not shown, as in `.env`, has nothing to draw.
        let unseen = problem.span.is_some() && problem.source.is_none();
        if unseen || too_wide(problem) || handler.render_report(&mut out, &Report(problem)).is_err() {
            out.push_str(&plain(std::slice::from_ref(problem)));
        }
        if let Some(also) = &problem.also {
            let (file, at) = (&also.file, also.span);
            out.push_str(&format!("  {file}:{}:{}: {}\n", at.line, at.column, also.message));
            pointer(&mut out, &also.source, at);
        }
        out.push('\n');
    }
    out
}

/// The longest line that is shown whole, in characters: one of a minified file can be as long as the file.
const WIDEST: usize = 160;

/// Whether a line to draw is longer than a terminal: the drawing would be torn, and beyond 65,535 columns it panics.
fn too_wide(problem: &Problem) -> bool {
    let (Some(source), Some(span)) = (&problem.source, problem.span) else { return false };
    let within = source.shown().get(span.start..span.start + span.len).unwrap_or_default();
    let around = within.matches('\n').count() + 3;
    let mut lines = source.shown().lines().skip(span.line.saturating_sub(2)).take(around);
    lines.any(|line| line.chars().nth(WIDEST).is_some())
}

/// The line of a place, with a pointer under it. Of a long line only what is around the place.
fn pointer(out: &mut String, source: &Source, span: Span) {
    /// How much of a long line is shown, and how much of that before the place.
    const CUT: usize = 120;
    const BEFORE: usize = 50;
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

/// Stars out the middle of what may be a phone number, keeping each byte's place: seven digits or more in a row, as
/// many after a plus however they are parted, or ten that are parted as people part numbers. Digits of every script
/// are digits, and after a plus the letter O is one.
fn star_digits(text: &str) -> String {
    /// How many signs part two digits at most.
    const GAP: usize = 5;
    let parts = |c: char| {
        matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '_')
            || (!c.is_ascii() && (c.is_whitespace() || matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}')))
    };
    let mut out = text.to_owned().into_bytes();
    let mut star = |digits: &[(usize, usize)]| {
        let shown = 4.min(digits.len() - 5);
        digits[shown..digits.len() - 2].iter().for_each(|&(place, len)| out[place..place + len].fill(b'*'));
    };
    let mut letters = text.char_indices().peekable();
    let mut digits: Vec<(usize, usize)> = Vec::new();
    let mut before = ' ';
    while let Some(&(_, first)) = letters.peek() {
        if !first.is_numeric() {
            before = first;
            letters.next();
            continue;
        }
        let plus = matches!(before, '+' | '＋');
        digits.clear();
        let mut gap = 0;
        while let Some(&(at, c)) = letters.peek() {
            match c {
                c if c.is_numeric() || (plus && matches!(c, 'o' | 'O')) => {
                    digits.push((at, c.len_utf8()));
                    gap = 0;
                }
                '\n' | '\r' | '+' | '*' | '•' => break,
                c if gap < GAP && (parts(c) || (plus && !c.is_ascii_alphabetic())) => gap += 1,
                _ => break,
            }
            before = c;
            letters.next();
        }
        if digits.len() >= if plus { 7 } else { 10 } {
            star(&digits);
            continue;
        }
        let runs = digits.chunk_by(|one, next| one.0 + one.1 == next.0);
        runs.filter(|run| run.len() >= 7).for_each(&mut star);
    }
    // Only whole characters were replaced, by stars.
    String::from_utf8(out).unwrap_or_default()
}

/// Stars out every span that lies on whole characters.
fn starred(text: String, mut spans: Vec<Span>) -> String {
    spans.sort_by_key(|span| span.start);
    let mut out = text.as_bytes().to_vec();
    let mut done = 0;
    for span in spans {
        let end = (span.start + span.len).min(out.len());
        if !text.is_char_boundary(span.start) || !text.is_char_boundary(end) {
            continue;
        }
        let from = span.start.max(done);
        done = end.max(done);
        let hidden = out.get_mut(from..end).unwrap_or_default();
        for byte in hidden.iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r' | b' ')) {
            *byte = b'*';
        }
    }
    // Only whole characters were replaced, by stars.
    String::from_utf8(out).unwrap_or_default()
}

/// Puts a sign in place of every character that commands a terminal, keeping each byte's place: a
/// file must not be able to write something else than what is there.
fn visible(text: &str) -> String {
    let sign = |c: char| match c {
        '\n' | '\r' | '\t' => c,
        // The marks that turn the direction of writing take three bytes, and so does this sign.
        '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => '␣',
        c if c.is_control() && c.len_utf8() == 1 => '?',
        c if c.is_control() => '·',
        c => c,
    };
    // Most texts are as they should be.
    let ordinary = |byte: u8| (b' '..=b'~').contains(&byte) || matches!(byte, b'\n' | b'\r' | b'\t');
    if text.bytes().all(ordinary) {
        return text.to_owned();
    }
    text.chars().map(sign).collect()
}

/// A text of others with its phone numbers starred out.
pub fn masked(text: &str) -> String {
    visible(&star_digits(text))
}

/// A sentence as it may go to a terminal or a log, in one line: what is quoted in it writes no lines of its own.
fn fenced(text: &str) -> String {
    masked(text).replace(['\n', '\r', '\t'], " ")
}

/// A value as a message may show it: short, and with no phone number in it.
pub fn shown(value: &str) -> String {
    const LONGEST: usize = 48;
    let line = visible(&star_digits(value.lines().next().unwrap_or_default()));
    match line.chars().count() > LONGEST || value.lines().count() > 1 {
        true => format!("{}…", line.chars().take(LONGEST).collect::<String>()),
        false => line,
    }
}

/// The names nearest to a misspelt one, best first, at most three.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wrong = wrong.to_lowercase();
    let mut found: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wrong, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `did you mean `x`?`, or the list of what there is.
pub fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(wrong, known.iter().copied()).first() {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "nothing is there yet: write it first, or take it out".to_owned(),
        None => format!("there is {}", list(&known)),
    }
}

/// `a, b and c`, each in backticks.
pub fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A problem in miette's words.
#[derive(Debug)]
struct Report<'a>(&'a Problem);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.span {
            Some(_) => f.write_str(&self.0.message),
            None => write!(f, "{}: {}", self.0.file, self.0.message),
        }
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.0.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.0.source.as_ref().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let span = self.0.span?;
        let text = self.0.source.as_ref().and_then(|s| s.shown().get(span.start..));
        // A long block would be drawn whole: its first line is enough.
        let len = text.and_then(|t| t.lines().next()).map_or(0, |line| line.len().min(span.len));
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
            self.path.to_string(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests;
