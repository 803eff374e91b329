//! What is wrong, as data: a code with its arguments, what it is about, and where it is written.
//!
//! [`catalogue`] alone turns a problem into sentences. Nothing compares or rewrites those sentences: whoever decides
//! something by a problem looks at its code, its severity or its subject. Phone numbers are masked in everything
//! shown here, because a problem may end up in a log.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod catalogue;
mod redact;
mod report;
mod source;
mod suggest;

use std::fmt;

pub use catalogue::What;
pub use redact::{masked, shown, whole};
pub use report::{excerpt, github, json, plain, pretty};
pub use source::{Origin, Place, Source, Span};
pub use suggest::{Suggestion, list, nearest};

use redact::one_line;

/// How bad a problem is. It follows from the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A check that passed.
    Ok,
    /// Good to know; nothing needs to be done.
    Note,
    /// Calls work, but something is missing or unlikely to be meant.
    Warning,
    /// Calls fail, or the program does not start.
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The file at its place, or the program as a whole.
    File,
    /// A setting, by its name in the environment.
    Setting(String),
    /// A phone number, masked.
    Number(String),
    /// A server that was asked something: its address or its name in the files.
    Server(String),
}

/// A variable whose value stands at a problem's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub name: String,
    /// The line of `.env` that sets it, or `None` for the environment. Unknown until [`Problem::locate_variables`].
    pub place: Option<Place>,
}

/// One thing that is wrong, or that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    what: What,
    pub subject: Subject,
    /// `None`: nothing in a file, such as a variable of the environment.
    pub place: Option<Place>,
    /// A second place that belongs to it, such as the other file that lists the same number.
    pub also: Option<(Place, &'static str)>,
    /// Those that set the value at its place.
    pub variables: Vec<Variable>,
}

impl Problem {
    pub fn new(what: impl Into<What>) -> Problem {
        Problem { what: what.into(), subject: Subject::File, place: None, also: None, variables: Vec::new() }
    }

    /// A problem of a file as a whole.
    pub fn file(path: &str, what: impl Into<What>) -> Problem {
        Problem::new(what).at(Place::file(path))
    }

    /// A problem of a setting, by its name in the environment.
    pub fn setting(name: &str, what: impl Into<What>) -> Problem {
        Problem::new(what).with_subject(Subject::Setting(name.to_owned()))
    }

    pub fn with_subject(mut self, subject: Subject) -> Problem {
        self.subject = subject;
        self
    }

    pub fn at(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// With a second place and what is there, such as "first defined here".
    pub fn also(mut self, place: Place, what: &'static str) -> Problem {
        self.also = Some((place, what));
        self
    }

    fn with_variables(mut self, names: &[String]) -> Problem {
        self.variables = names.iter().map(|name| Variable { name: name.clone(), place: None }).collect();
        self
    }

    /// Records where each of its variables is set, and its setting.
    pub fn locate_variables(&mut self, place: &dyn Fn(&str) -> Option<Place>) {
        for variable in &mut self.variables {
            variable.place = place(&variable.name);
        }
        if let (None, Subject::Setting(name)) = (&self.place, &self.subject) {
            self.place = place(name);
        }
    }

    /// Whether it is the same problem at the same line and column, whatever else the file holds now.
    pub fn same_as(&self, other: &Problem) -> bool {
        let at = |problem: &Problem| problem.span().map(|span| (span.line, span.column));
        self.what == other.what
            && self.subject == other.subject
            && self.path() == other.path()
            && at(self) == at(other)
    }

    /// The same problem, shown in this text: one in which secrets are hidden.
    pub fn within(mut self, source: &Source) -> Problem {
        if let Some(place) = self.place.as_mut().filter(|place| place.source.is_some()) {
            place.source = Some(source.clone());
        }
        self
    }

    pub fn what(&self) -> &What {
        &self.what
    }

    /// Stable, such as `voice.unknown`.
    pub fn code(&self) -> &'static str {
        self.what.code()
    }

    pub fn severity(&self) -> Severity {
        self.what.severity()
    }

    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }

    /// The name of the setting that it is about.
    pub fn of_setting(&self) -> Option<&str> {
        match &self.subject {
            Subject::Setting(name) => Some(name),
            Subject::File | Subject::Number(_) | Subject::Server(_) => None,
        }
    }

    /// The setting, phone number or server that it is about.
    pub fn about(&self) -> Option<&str> {
        match &self.subject {
            Subject::Setting(name) | Subject::Number(name) | Subject::Server(name) => Some(name),
            Subject::File => None,
        }
    }

    /// The phone number that it is about, masked.
    pub fn of_number(&self) -> Option<&str> {
        match &self.subject {
            Subject::Number(number) => Some(number),
            Subject::File | Subject::Setting(_) | Subject::Server(_) => None,
        }
    }

    /// The file's path, unmasked, or `environment`.
    pub fn path(&self) -> &str {
        self.place.as_ref().map_or("environment", |place| &place.file)
    }

    pub fn span(&self) -> Option<Span> {
        self.place.as_ref().and_then(|place| place.span)
    }

    fn source(&self) -> Option<&Source> {
        self.place.as_ref().and_then(|place| place.source.as_ref())
    }

    /// What is wrong, and which variables set the value.
    pub fn message(&self) -> String {
        let mut message = one_line(&self.what.message());
        let set = |variable: &Variable| match &variable.place {
            Some(Place { file, span: Some(at), .. }) => {
                format!("{} ({}, line {})", variable.name, one_line(file), at.line)
            }
            Some(_) | None => variable.name.clone(),
        };
        let variables: Vec<String> = self.variables.iter().map(set).collect();
        if !variables.is_empty() {
            message.push_str(&format!("; the value comes from {}", variables.join(", ")));
        }
        message
    }

    /// What callers or the owner notice, if that is not obvious.
    pub fn effect(&self) -> Option<String> {
        self.what.effect().map(|effect| one_line(&effect)).filter(|effect| !effect.is_empty())
    }

    /// What to do.
    pub fn fix(&self) -> Option<String> {
        self.what.fix().map(|fix| one_line(&fix)).filter(|fix| !fix.is_empty())
    }

    /// The message, with the second place in words.
    fn message_and_also(&self) -> String {
        match &self.also {
            Some((place, what)) => format!("{} ({what} at {place})", self.message()),
            None => self.message(),
        }
    }

    /// On one line: place, severity, message, help. For logs.
    pub fn line(&self) -> String {
        let place = self.place.as_ref().map_or_else(|| "environment".to_owned(), Place::to_string);
        let mut line = format!("{place}: {}: {}", self.severity().name(), self.message_and_also());
        if let Some(help) = self.fix() {
            line.push_str(&format!("; {help}"));
        }
        line
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl std::error::Error for Problem {}

/// `1 error`, `2 errors`
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Orders problems as a person reads them: by file, then by place.
pub fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| {
        let key = |problem: &Problem| {
            (problem.span().map(|span| span.start), std::cmp::Reverse(problem.severity()))
        };
        a.path().cmp(b.path()).then_with(|| key(a).cmp(&key(b)))
    });
}

#[cfg(test)]
mod tests;
