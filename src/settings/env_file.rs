//! `.env`: lines of `NAME=value`, read like Docker Compose reads them, but for two things.
//!
//! A value is the rest of its line, with or without quotes; nothing in it is replaced, while Compose puts the value of
//! a variable in the place of its `$NAME`. Quoted values may go on over several lines, and double quotes know `\n`,
//! `\r`, `\t`, `\"`, `\\` and `\$`.
//!
//! Where a name stands twice the last line holds, but an empty one takes no value away: whoever writes a key above
//! the empty line of the example has set it. With Compose the last line holds, also an empty one.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::{self, Place, Problem};

/// A line that sets a variable.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// It may be a secret.
    pub value: String,
    /// Its first line, from 1.
    pub line: usize,
}

/// The names and values that hold, each name once, or a problem for each line that is none. No problem tells a
/// line's text: it may be a secret.
pub fn read(path: &str, bytes: &[u8]) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let entries = entries(path, bytes)?;
    Ok(in_force(&entries).into_iter().map(|entry| (entry.name.clone(), entry.value.clone())).collect())
}

/// The entry that holds of each name, in the order of the file.
pub fn in_force(entries: &[Entry]) -> Vec<&Entry> {
    let mut holds: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.value.is_empty()) {
        holds.insert(&entry.name, entry);
    }
    for entry in entries {
        holds.entry(&entry.name).or_insert(entry);
    }
    let mut found: Vec<&Entry> = holds.into_values().collect();
    found.sort_by_key(|entry| entry.line);
    found
}

/// A warning for each line that sets a name once more. `read` are the names that somebody reads.
pub fn doubles(path: &str, entries: &[Entry], read: &BTreeSet<String>) -> Vec<Problem> {
    let mut found = Vec::new();
    for entry in in_force(entries) {
        for other in entries.iter().filter(|other| other.name == entry.name && other.line != entry.line) {
            let (first, second) = (entry.line.min(other.line), entry.line.max(other.line));
            let name = told(&entry.name, read);
            let message = format!("{name} is set here and in line {first}; line {} is used", entry.line);
            let help = "keep one of the two lines: Docker Compose uses the last, even an empty one";
            found.push(warning(path, second, "env.double", message).help(help));
        }
    }
    found
}

/// A warning for each name that has a value and that nobody reads. `read` are the names that somebody does.
pub fn unread(path: &str, entries: &[Entry], read: &BTreeSet<String>) -> Vec<Problem> {
    let mut found = Vec::new();
    let in_force = in_force(entries);
    let set = |name: &str| in_force.iter().any(|entry| entry.name == name && !entry.value.is_empty());
    for entry in in_force.iter().filter(|entry| !entry.value.is_empty() && !read.contains(&entry.name)) {
        let message = format!("nothing reads {}", told(&entry.name, read));
        let problem = warning(path, entry.line, "env.unread", message);
        // What is set already was not meant.
        let mut near =
            problem::nearest(&entry.name, read.iter().map(String::as_str).filter(|name| !set(name)));
        // Names that begin alike are many.
        near.retain(|near| strsim::normalized_levenshtein(near, &entry.name.to_uppercase()) > 0.6);
        found.push(match near.first() {
            Some(near) => problem.help(format!("did you mean {near}?")),
            None => problem
                .help("remove the line, or write `${NAME}`, with that name, in the file that is to have it"),
        });
    }
    found
}

fn warning(path: &str, line: usize, code: &'static str, message: String) -> Problem {
    Problem::about(path, code, message).into_warning().at(Place::line(path, line))
}

/// A name as it may be told. A key that was pasted as it is may end with `=`, and look like a name.
fn told<'a>(name: &'a str, read: &BTreeSet<String>) -> &'a str {
    let usual = |c: char| c.is_ascii_uppercase() || c == '_';
    let word = name.contains('_') || name.chars().all(usual);
    let is_name = word && name.len() <= 64 && name.chars().all(|c| usual(c) || c.is_ascii_digit());
    if is_name || read.iter().any(|read| read.eq_ignore_ascii_case(name)) {
        name
    } else {
        "what this line sets"
    }
}

/// The lines that set a variable, in the order of the file, or a problem for each line that is none.
pub fn entries(path: &str, bytes: &[u8]) -> Result<Vec<Entry>, Vec<Problem>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let wrong = |line: usize, message: &str| {
        let problem = Problem::about(path, "env.line", message).at(Place::line(path, line));
        problem.help("write it like NAME=value, or remove it; a comment starts with #")
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        vec![wrong(line, "this line holds bytes that are not UTF-8").help("save the file as UTF-8")]
    })?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let mut rest = text;
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
            problems.push(wrong(number, "this line has no `=`"));
            rest = after;
            continue;
        };
        if !is_name(name.trim_end()) {
            problems.push(wrong(number, "what stands before the `=` is not the name of a variable"));
            rest = after;
            continue;
        }
        // From the value to the end of the file: quotes may end on a later line.
        let begin = line.find('=').map_or(line.len(), |at| at + 1);
        let (value, end) = match quoted(&rest[begin..]) {
            Some((value, len)) => (value, begin + len),
            None => (plain(value).to_owned(), line.len()),
        };
        found.push(Entry { name: name.trim_end().to_owned(), value, line: number });
        number += rest[..end].matches('\n').count();
        rest = rest[end..].split_once('\n').map_or("", |(_, after)| after);
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// The value and how many bytes it takes, where it is a whole value in quotes.
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
    let comment = value.char_indices().find(|(at, c)| *c == '#' && value[..*at].ends_with([' ', '\t']));
    value[..comment.map_or(value.len(), |(at, _)| at)].trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem;

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
            let found = read(".env", line.as_bytes()).unwrap();
            assert_eq!(found[0], ("A".to_owned(), value.to_owned()), "{line}");
            assert_eq!(found.len(), 1 + line.matches("\nB=").count(), "{line}");
        }
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_value_holds() {
        let text = b"KEY=sk-1\nA=1\n\nKEY=\nA=2\nB=\nB=\n";
        let found = read(".env", text).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(found, [("KEY", "sk-1"), ("A", "2"), ("B", "")]);
    }

    #[test]
    fn what_is_odd_is_told_with_its_lines_and_without_values() {
        let read =
            ["API_KEY", "PERSONAL_NUMBER", "OPENAI_API_KEY", "TWILIO_AUTH_TOKEN"].map(str::to_owned).into();
        let odd = |text: &str| {
            let entries = entries(".env", text.as_bytes()).unwrap();
            problem::plain(&[doubles(".env", &entries, &read), unread(".env", &entries, &read)].concat())
        };
        for (text, told) in [
            ("API_KEY=hunter2", ""),
            (
                "API_KEY=hunter2\n\nAPI_KEY=",
                ".env:3:1: warning: API_KEY is set here and in line 1; line 1 is used\n",
            ),
            (
                "API_KEY=hunter2\nAPI_KEY=hunter2",
                ".env:2:1: warning: API_KEY is set here and in line 1; line 2 is used\n",
            ),
            (
                "A='\n'\nPERSONAL_NUMBR=hunter2",
                ".env:3:1: warning: nothing reads PERSONAL_NUMBR\n  help: did you mean PERSONAL_NUMBER?\n",
            ),
            (
                "OPEN_AI_KEY=hunter2",
                ".env:1:1: warning: nothing reads OPEN_AI_KEY\n  help: did you mean OPENAI_API_KEY?\n",
            ),
            (
                "personal_number=hunter2",
                ".env:1:1: warning: nothing reads personal_number\n  help: did you mean PERSONAL_NUMBER?\n",
            ),
            // What was meant is set, so this is something else.
            (
                "OPENAI_API_KEY=hunter2\nOPENAI_KEY=hunter2",
                ".env:2:1: warning: nothing reads OPENAI_KEY\n  help: remove",
            ),
            ("PERSONAL_NUMBR=", ""),
            // A key that was pasted as it is.
            ("hunter2value==", ".env:1:1: warning: nothing reads what this line sets\n"),
        ] {
            let found = odd(text);
            assert!(found.contains(told) && found.is_empty() == told.is_empty(), "{text}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_named_and_not_told() {
        let text = "A='x\ny'\nhunter2\nB=1\nmy key=hunter2\n=hunter2\n";
        let problems = read(".env", text.as_bytes()).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.span().unwrap().line).collect();
        assert_eq!(lines, [3, 5, 6]);
        for shown in [problem::plain(&problems), problem::pretty(&problems), problem::json(&problems)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(problem::pretty(&problems).contains(".env:3:1: error: this line has no `=`"));
        assert_eq!(read(".env", b"A=1\nB=\xff\n").unwrap_err()[0].span().unwrap().line, 2);
    }
}
