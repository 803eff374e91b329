//! Suggestions for a misspelled name.

use std::fmt;

/// What to write in place of an unknown name: the nearest known name, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    nearest: Option<String>,
    known: Vec<String>,
}

impl Suggestion {
    pub fn new<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Suggestion {
        let known: Vec<&str> = known.into_iter().collect();
        let nearest = nearest(wrong, known.iter().copied()).first().map(|name| (*name).to_owned());
        Suggestion { nearest, known: known.into_iter().map(str::to_owned).collect() }
    }

    /// Every known name.
    pub fn known(&self) -> &[String] {
        &self.known
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nearest {
            Some(name) => write!(f, "did you mean `{name}`?"),
            None if self.known.is_empty() => f.write_str("create it first, or remove it here"),
            None => write!(f, "valid: {}", list(&self.known)),
        }
    }
}

/// The names nearest to a misspelled one, best first, at most three.
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

/// `` `a`, `b`, `c` ``
pub fn list(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    quoted.join(", ")
}
