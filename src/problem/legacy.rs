//! Problems that are still made of sentences. It goes when every area has its catalogue.

use super::{Problem, Severity, Source, Span, Suggestion, What};

fn text(severity: Severity, code: &'static str, message: impl Into<String>) -> What {
    What::Text { severity, code, message: message.into(), fix: None }
}

impl Source {
    pub fn error(&self, span: Span, code: &'static str, message: impl Into<String>) -> Problem {
        self.problem(span, text(Severity::Error, code, message))
    }

    pub fn warning(&self, span: Span, code: &'static str, message: impl Into<String>) -> Problem {
        self.problem(span, text(Severity::Warning, code, message))
    }
}

impl Problem {
    pub fn about(file: &str, code: &'static str, message: impl Into<String>) -> Problem {
        let problem = Problem::new(text(Severity::Error, code, message));
        if file == "environment" { problem } else { problem.at(super::Place::file(file)) }
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        if let What::Text { fix, .. } = &mut self.what {
            *fix = Some(help.into());
        }
        self
    }

    pub fn into_warning(mut self) -> Problem {
        if let What::Text { severity, .. } = &mut self.what {
            *severity = Severity::Warning;
        }
        self
    }
}

pub fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    Suggestion::new(wrong, known).to_string()
}
