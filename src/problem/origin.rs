//! Values that are made of variables: a problem with one names the variable, which is what is to be mended.

use super::{Problem, Source, Span};

/// Where a variable may be set, for whom it is not known which of them it is.
const SOMEWHERE: &str = ".env or the environment";

/// A value of a file that is made of variables. It knows their names, and none of their values.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    pub span: Span,
    /// How it is written, as a message shows it: `${NAME:-default}`.
    pub shown: String,
    /// Whether one `${…}` is all of it.
    pub whole: bool,
    /// Those whose values stand in it. At least one.
    pub variables: Vec<String>,
}

impl Source {
    /// The values that are made of variables: problems with them say so from now on.
    pub fn made_of(&mut self, origins: Vec<Origin>) {
        self.origins = origins.into();
    }

    /// The variable that is the whole value at this place.
    pub fn variable(&self, span: Span) -> Option<&str> {
        let origin = self.origin(span).filter(|origin| origin.whole)?;
        origin.variables.first().map(String::as_str)
    }

    pub(super) fn origin(&self, span: Span) -> Option<&Origin> {
        self.origins.iter().find(|origin| (origin.span.start, origin.span.len) == (span.start, span.len))
    }
}

impl Origin {
    /// A message of this value, with the variables as the cause.
    pub(super) fn tell(&self, message: String) -> String {
        let written = format!("`{}`", self.shown);
        let named: Vec<String> = self.variables.iter().map(|name| format!("{name} ({SOMEWHERE})")).collect();
        let (what, named) = match named.split_last() {
            Some((last, [])) => ("the value of", last.clone()),
            Some((last, rest)) => ("the values of", format!("{} and {last}", rest.join(", "))),
            None => return message,
        };
        match self.whole {
            true if message.contains(&written) => {
                let named = format!("{what} {named}");
                message.replace(&format!("the value of {written}"), &named).replace(&written, &named)
            }
            true => format!("{message}; the value comes from {named}"),
            false => message.replacen(&written, &format!("{written} with {what} {named}"), 1),
        }
    }
}

impl Problem {
    /// Says of each variable in the message where it is set, such as `.env, line 9`.
    pub fn place_variables(&mut self, place: &dyn Fn(&str) -> String) {
        for name in &self.variables {
            let told = format!("{name} ({})", place(name));
            self.message = self.message.replace(&format!("{name} ({SOMEWHERE})"), &told);
        }
    }
}
