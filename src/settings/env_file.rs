//! `.env`: lines of `NAME=value`, read as the tools around containers read them.
//!
//! A value is the rest of its line, with or without quotes; nothing in it is replaced. Quoted values may go on
//! over several lines, and double quotes know `\n`, `\r`, `\t`, `\"`, `\\` and `\$`.

use crate::problem::{Problem, Span};

/// The names and values in the order of the file, or a problem for each line that is none. No problem tells a
/// line's text: it may be a secret.
pub fn read(path: &str, bytes: &[u8]) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let wrong = |line: usize, message: &str| {
        let mut problem = Problem::about(path, "env.line", message);
        problem.span = Some(Span { line, column: 1, ..Span::default() });
        problem.help("write it like NAME=value, or remove it; a comment starts with #")
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        vec![wrong(line, "this line holds bytes that are not UTF-8")]
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
        found.push((name.trim_end().to_owned(), value));
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
    fn a_line_that_is_none_is_named_and_not_told() {
        let text = "A='x\ny'\nhunter2\nB=1\nmy key=hunter2\n=hunter2\n";
        let problems = read(".env", text.as_bytes()).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.span.unwrap().line).collect();
        assert_eq!(lines, [3, 5, 6]);
        for shown in [problem::plain(&problems), problem::pretty(&problems), problem::json(&problems)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(problem::pretty(&problems).contains(".env:3:1: error: this line has no `=`"));
        assert_eq!(read(".env", b"A=1\nB=\xff\n").unwrap_err()[0].span.unwrap().line, 2);
    }
}
