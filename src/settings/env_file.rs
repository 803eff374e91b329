//! `.env`: lines of `NAME=value`, read as Docker Compose reads them, with two differences.
//!
//! A value is the rest of its line, with or without quotes. Nothing in it is replaced; Compose replaces `$NAME`. Quoted
//! values may span several lines, and double quotes know `\n`, `\r`, `\t`, `\"`, `\\` and `\$`.
//!
//! If a name is set twice, the last line with a value wins: people fill in a key above the empty line of the example.
//! With Compose the last line wins, even if it is empty.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::catalogue::File;
use crate::problem::{self, Place, Problem};

/// A line that sets a variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// It may be a secret.
    pub value: String,
    /// Its first line, from 1.
    pub line: usize,
    /// Whether the line goes on with what is probably not meant as a comment.
    lost: bool,
}

/// The lines of a `.env` file that set a variable, in order.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EnvFile {
    path: String,
    entries: Vec<Entry>,
}

/// Reads a file: what it sets, and a problem for each line that is not valid. No problem shows a line's text: it may be
/// a secret.
pub fn read(path: &str, bytes: &[u8]) -> (EnvFile, Vec<Problem>) {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    let wrong = |line: usize, what: File| Problem::new(what).at(Place::line(path, line));
    // A line that is not UTF-8 is left out, and leaves an empty one.
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().map(|(at, line)| {
        std::str::from_utf8(line).unwrap_or_else(|_| {
            problems.push(wrong(at + 1, File::EnvLineNotUtf8));
            ""
        })
    });
    let text = lines.collect::<Vec<&str>>().join("\n");
    let mut rest = text.as_str();
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let written = line.trim();
        let written = written.strip_prefix("export ").unwrap_or(written).trim_start();
        if written.is_empty() || written.starts_with('#') {
            rest = after;
            continue;
        }
        let Some((name, value)) = written.split_once('=') else {
            problems.push(wrong(number, File::EnvLineWithoutEquals));
            rest = after;
            continue;
        };
        if !is_name(name.trim_end()) {
            problems.push(wrong(number, File::EnvLineWithoutName));
            rest = after;
            continue;
        }
        // From the value to the end of the file: quotes may end on a later line.
        let begin = line.find('=').map_or(line.len(), |at| at + 1);
        let quotes = quoted(&rest[begin..]);
        let (text, end) = match quotes.clone() {
            Some((value, len)) => (value, begin + len),
            None => (plain(value).to_owned(), line.len()),
        };
        let lost = quotes.is_none() && loses_its_end(value);
        entries.push(Entry { name: name.trim_end().to_owned(), value: text, line: number, lost });
        number += rest[..end].matches('\n').count();
        rest = rest[end..].split_once('\n').map_or("", |(_, after)| after);
    }
    (EnvFile { path: path.to_owned(), entries }, problems)
}

impl EnvFile {
    /// The entry in force for each name, in the order of the file.
    pub fn in_force(&self) -> Vec<&Entry> {
        let mut found: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| !entry.value.is_empty()) {
            found.insert(&entry.name, entry);
        }
        for entry in &self.entries {
            found.entry(&entry.name).or_insert(entry);
        }
        let mut found: Vec<&Entry> = found.into_values().collect();
        found.sort_by_key(|entry| entry.line);
        found
    }

    /// The names and values in force.
    pub fn values(&self) -> impl Iterator<Item = (String, String)> {
        self.in_force().into_iter().map(|entry| (entry.name.clone(), entry.value.clone()))
    }

    /// Where a name is set.
    pub fn place(&self, name: &str) -> Option<Place> {
        let entry = self.in_force().into_iter().find(|entry| entry.name == name)?;
        Some(Place::line(&self.path, entry.line))
    }

    /// A warning for each line that sets a name again, and for each value that loses its end to a comment; and if `unused` is asked for, one for each name with a value that
    /// nothing uses. `used`: the names that something uses.
    pub fn check(&self, used: &BTreeSet<String>, unused: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        for entry in self.in_force() {
            let same = |other: &&Entry| other.name == entry.name && other.line != entry.line;
            for other in self.entries.iter().filter(same) {
                let (first, second) = (entry.line.min(other.line), entry.line.max(other.line));
                let name = shown(&entry.name, used).to_owned();
                let what = File::EnvDuplicate { name, first, used: entry.line };
                problems.push(Problem::new(what).at(Place::line(&self.path, second)));
            }
            if entry.lost {
                let what = File::EnvComment { name: shown(&entry.name, used).to_owned() };
                problems.push(Problem::new(what).at(Place::line(&self.path, entry.line)));
            }
            if unused && !entry.value.is_empty() && !used.contains(&entry.name) {
                problems.push(self.unused(entry, used));
            }
        }
        problems.sort_by_key(|problem| problem.span().map(|at| at.line));
        problems
    }

    fn unused(&self, entry: &Entry, used: &BTreeSet<String>) -> Problem {
        let is_set =
            |name: &str| self.entries.iter().any(|entry| entry.name == name && !entry.value.is_empty());
        // A name that is set already was not meant, and names that merely begin alike are many.
        let free = used.iter().map(String::as_str).filter(|name| !is_set(name));
        let is_close = |near: &&str| strsim::normalized_levenshtein(near, &entry.name.to_uppercase()) > 0.6;
        let near = problem::nearest(&entry.name, free).into_iter().find(is_close).map(str::to_owned);
        let name = shown(&entry.name, used).to_owned();
        let what = match near {
            Some(near) => File::EnvMisspelt { name, near },
            None => File::EnvUnused { name },
        };
        Problem::new(what).at(Place::line(&self.path, entry.line))
    }
}

/// A name as a message may show it: a pasted key may end with `=` and so look like a name.
fn shown<'a>(name: &'a str, used: &BTreeSet<String>) -> &'a str {
    let usual = |c: char| c.is_ascii_uppercase() || c == '_';
    let word = name.contains('_') || name.chars().all(usual);
    let is_name = word && name.len() <= 64 && name.chars().all(|c| usual(c) || c.is_ascii_digit());
    if is_name || used.iter().any(|used| used.eq_ignore_ascii_case(name)) {
        name
    } else {
        "the variable on this line"
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// A whole value in quotes, and its length in bytes.
fn quoted(text: &str) -> Option<(String, usize)> {
    let space = text.len() - text.trim_start_matches([' ', '\t']).len();
    let quote = text[space..].chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut value = String::new();
    let mut letters = text[space + 1..].char_indices();
    while let Some((at, c)) = letters.next() {
        match c {
            c if c == quote => {
                let end = space + 1 + at + 1;
                let line = text[end..].lines().next().unwrap_or_default();
                let nothing = line.trim().is_empty() || plain(line).is_empty();
                return nothing.then_some((value, end));
            }
            '\\' if quote == '"' => match letters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            '\r' if text[space + 1 + at..].starts_with("\r\n") => {}
            c => value.push(c),
        }
    }
    None
}

/// The rest of a line, without a comment at its end.
fn plain(value: &str) -> &str {
    value[..comment(value)].trim()
}

/// Where the comment at the end of a line begins.
fn comment(value: &str) -> usize {
    let comment = value.char_indices().find(|(at, c)| *c == '#' && value[..*at].ends_with([' ', '\t']));
    comment.map_or(value.len(), |(at, _)| at)
}

/// Whether a value without quotes ends at a comment that is not written like one, with two spaces before it and one after
/// its sign.
fn loses_its_end(value: &str) -> bool {
    let (before, comment) = value.split_at(comment(value));
    let apart = before.ends_with("  ") || before.ends_with('\t') || before.trim().is_empty();
    !(comment.is_empty() || apart && (comment.trim_end() == "#" || comment.starts_with("# ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem;

    fn values(text: &[u8]) -> Vec<(String, String)> {
        let (file, problems) = read(".env", text);
        assert_eq!(problems, []);
        file.values().collect()
    }

    #[test]
    fn a_value_is_the_rest_of_its_line() {
        for (line, value) in [
            ("A=You are a friendly assistant.", "You are a friendly assistant."),
            ("A=It's me\nB='x'", "It's me"),
            ("A='tis me\nB='x'", "'tis me"),
            ("A=(555) 010-0001", "(555) 010-0001"),
            ("export A = x # mine", "x"),
            ("\u{feff}A=x#y\r\n", "x#y"),
            ("# B=1\n\n  A=", ""),
            ("A=a=b$c${D}", "a=b$c${D}"),
            ("A=\"x # y\" # z", "x # y"),
            ("A=\"one\\n\\\"two\\\" \\d\"", "one\n\"two\" \\d"),
            ("A='one\ntwo\\n'\nB=1", "one\ntwo\\n"),
            ("A=\"x\" and more", "\"x\" and more"),
            ("A=\"never closed", "\"never closed"),
        ] {
            let found = values(line.as_bytes());
            assert_eq!(found[0], ("A".to_owned(), value.to_owned()), "{line}");
            assert_eq!(found.len(), 1 + line.matches("\nB=").count(), "{line}");
        }
    }

    #[test]
    fn the_last_value_of_a_name_wins() {
        let found = values(b"KEY=sk-1\nA=1\n\nKEY=\nA=2\nB=\nB=\n");
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, [("KEY", "sk-1"), ("A", "2"), ("B", "")]);
    }

    #[test]
    fn a_value_that_loses_its_end_is_a_warning() {
        for (line, lost) in [
            ("A=Press # to end", true),
            ("A=Press #1", true),
            ("A=Press  #1", true),
            ("A= #1 in town", true),
            ("A=5050  # the port", false),
            ("A=5050\t# the port", false),
            ("A= # a comment", false),
            ("A=#1 in town", false),
            ("A=x#y", false),
            ("A='Press # to end' # a comment", false),
        ] {
            let found = read(".env", line.as_bytes()).0.check(&BTreeSet::new(), false);
            let codes: Vec<_> = found.iter().map(|problem| problem.code()).collect();
            assert_eq!(codes, if lost { vec!["env.comment"] } else { vec![] }, "{line}");
            assert!(!problem::plain(&found).contains("Press"));
        }
    }

    #[test]
    fn duplicates_and_unused_names_are_warnings_that_show_no_value() {
        let used = ["A", "API_KEY", "PERSONAL_NUMBER", "OPENAI_API_KEY", "TWILIO_AUTH_TOKEN"]
            .map(str::to_owned)
            .into();
        let misspelled =
            |name: &str, near: &str| File::EnvMisspelt { name: name.to_owned(), near: near.to_owned() };
        for (text, expected) in [
            ("API_KEY=hunter2", None),
            (
                "API_KEY=hunter2\n\nAPI_KEY=",
                Some((3, File::EnvDuplicate { name: "API_KEY".to_owned(), first: 1, used: 1 })),
            ),
            (
                "API_KEY=hunter2\nAPI_KEY=hunter2",
                Some((2, File::EnvDuplicate { name: "API_KEY".to_owned(), first: 1, used: 2 })),
            ),
            ("A='\n'\nPERSONAL_NUMBR=hunter2", Some((3, misspelled("PERSONAL_NUMBR", "PERSONAL_NUMBER")))),
            ("OPEN_AI_KEY=hunter2", Some((1, misspelled("OPEN_AI_KEY", "OPENAI_API_KEY")))),
            ("personal_number=hunter2", Some((1, misspelled("personal_number", "PERSONAL_NUMBER")))),
            // OPENAI_API_KEY is set, so this is something else.
            (
                "OPENAI_API_KEY=hunter2\nOPENAI_KEY=hunter2",
                Some((2, File::EnvUnused { name: "OPENAI_KEY".to_owned() })),
            ),
            ("PERSONAL_NUMBR=", None),
            // A key that was pasted as it is.
            ("hunter2value==", Some((1, File::EnvUnused { name: "the variable on this line".to_owned() }))),
        ] {
            let found = read(".env", text.as_bytes()).0.check(&used, true);
            let got = found.first().map(|problem| (problem.span().unwrap().line, problem.what().clone()));
            assert_eq!(got, expected.map(|(line, what)| (line, what.into())), "{text}");
            assert!(found.len() < 2 && !problem::plain(&found).contains("hunter2"), "{found:?}");
        }
    }

    #[test]
    fn an_invalid_line_is_located_but_not_shown_and_the_others_are_read() {
        let text = b"A='x\ny'\nhunter2\nB=1\nmy key=hunter2\n=hunter2\nC=caf\xe9 hunter2\nD=4\n";
        let (file, problems) = read(".env", text);
        let lines: Vec<usize> = problems.iter().map(|problem| problem.span().unwrap().line).collect();
        assert_eq!(lines, [7, 3, 5, 6]);
        assert!(problems.iter().all(|problem| problem.code() == "env.line"));
        let names: Vec<String> = file.values().map(|(name, _)| name).collect();
        assert_eq!(names, ["A", "B", "D"]);
        for shown in [problem::plain(&problems), problem::pretty(&problems), problem::json(&problems)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
