//! A YAML parser's complaint in the words of whoever wrote the file, with the cause that people
//! most often meet.

use super::{DEEPEST, Lines};
use crate::problem::{self, Problem, Source, Span};

/// What the parser said, as a problem at its place.
pub(super) fn broken(text: &str, source: &Source, error: &serde_yaml::Error) -> Problem {
    let mark = |(_, line): &(usize, &str)| line.starts_with("<<<<<<<");
    if let Some((at, line)) = text.split_inclusive('\n').enumerate().find(mark) {
        let start = text.split_inclusive('\n').take(at).map(str::len).sum();
        let span = Span { start, len: line.trim_end().len(), line: at + 1, column: 1 };
        let problem = source.error(span, "yaml.conflict", "this file holds an unresolved git conflict");
        return problem.help("decide between the two sides, and remove the marks");
    }
    let said = error.without_snippet().to_string();
    let said = said.lines().next().unwrap_or_default();
    // The parser puts the place into its sentence; ours has it already.
    let said = said.split(" at line ").next().unwrap_or(said);
    let place = error.location().filter(|at| at.line() > 0);
    let mut span = place.map(|at| Lines::new(text).at(at));
    let is_tab = said.contains("tab") || span.is_some_and(|span| begins_with_tab(text, span, said));
    if is_tab {
        span = span.map(|span| tab(text, span));
    }
    let said = if is_tab { "tab" } else { said };
    let number = span.map_or(1, |span| span.line);
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let above: Vec<(usize, &str)> = text.lines().enumerate().take(number - 1).collect();
    let above = above.into_iter().rev().find(|(_, line)| !blank(line));
    let (message, help) = explain(said, line, above);
    let problem = match span {
        Some(span) => source.error(span, "yaml.syntax", message),
        None => Problem::about(source.path(), "yaml.syntax", message),
    };
    match help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// Nothing, or a comment.
pub(super) fn blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Whether the line where the parser gave up is indented with a tab: to the parser such a line ends the text above it,
/// and is a key without a colon. Within braces, brackets and quotes a tab may stand.
fn begins_with_tab(text: &str, span: Span, said: &str) -> bool {
    let line = text.lines().nth(span.line - 1).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    indent.contains('\t') && !["flow", "quote"].iter().any(|within| said.contains(within))
}

/// The first tab that indents a line, from the line on where the parser gave up.
fn tab(text: &str, span: Span) -> Span {
    let mut start = 0;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let (true, Some(tab)) = (at + 1 >= span.line, indent.find('\t')) {
            return Span { start: start + tab, len: 1, line: at + 1, column: tab + 1 };
        }
        start += line.len();
    }
    span
}

/// What is wrong, and what to do. `above` is the line before, with its number from 0.
fn explain(said: &str, line: &str, above: Option<(usize, &str)>) -> (String, Option<String>) {
    let has = |words: &str| said.contains(words);
    let wrong = |message: &str, help: &str| {
        (format!("this is not valid YAML: {message}"), Some(help.to_owned()).filter(|help| !help.is_empty()))
    };
    if substitutes_in_braces(line) {
        return wrong("`${…}` cannot stand within [ ] or { } without quotes", "put ${…} in quotes here");
    }
    if has("unknown anchor") || has("anchor or alias") {
        let message = "a `*` without quotes stands for a value that is named above, and there is none";
        return wrong(message, "put a text that starts with `*` in quotes, such as \"*\"");
    }
    if has("Depth") {
        return (format!("values are nested more than {DEEPEST} deep here"), None);
    }
    if has("alias") || has("Alias") || has("Anchor") || has("Merge") {
        return ("the aliases (`*name`) in this file repeat too much".to_owned(), None);
    }
    if has("budget") {
        return ("this file holds too many values".to_owned(), Some("it may have 20,000".to_owned()));
    }
    if has("multiple YAML documents") {
        return ("a second document starts here, and a file may hold one".to_owned(), None);
    }
    if has("tab") {
        return wrong("a tab stands where spaces are meant", "indent this line with spaces");
    }
    if has("BOM") {
        let message = "an invisible character stands here, a byte order mark";
        return wrong(message, "delete the line and type it again");
    }
    if let Some(found) = said.split("unexpected character: `").nth(1) {
        return match found.chars().next() {
            Some(c) if !c.is_control() && c != '\\' => {
                let message = format!("a text cannot start with `{c}`");
                wrong(&message, "put the text in quotes")
            }
            _ => wrong("an invisible control character stands here", "delete it"),
        };
    }
    if has("unclosed quote") {
        return wrong("this quote is never closed", "end the text with the same quote");
    }
    if has("after single-quoted") {
        let help = "put a text that holds an apostrophe in double quotes";
        return wrong("the quote ends here, and something follows it", help);
    }
    if has("after double-quoted") {
        return wrong(
            "the quote ends here, and something follows it",
            "write a double quote within a text as \\\"",
        );
    }
    let item = line.trim_start().strip_prefix('-');
    if item.is_some_and(|item| item.starts_with(|c: char| !c.is_whitespace() && c != '-')) {
        return wrong("an item of a list begins with a dash and a space", "put a space after the dash");
    }
    if has("simple key expected ':'") {
        // The lines of a secret are not told again.
        let secret = above.is_some_and(|(_, above)| super::secrets::named(above));
        let word = line.split_whitespace().next().filter(|_| !secret).unwrap_or("key");
        let help = format!("write `{}: …`, and a longer text indented below `|`", problem::shown(word));
        return wrong("there is no colon after the key", &help);
    }
    if has("illegal placement of ':'") {
        let help = "is a `]` missing above? A text that holds a colon needs quotes";
        return wrong("a colon does not fit here", help);
    }
    let message = match said {
        _ if has("flow mapping") => "a comma or a `}` is missing before this place",
        _ if has("flow sequence") => "a comma or a `]` is missing before this place",
        _ if has("mapping values are not allowed") => "a colon does not fit here",
        _ if has("did not find expected key") => "this does not fit the lines above it",
        _ => &problem::masked(said),
    };
    wrong(message, &cause(said, line, above))
}

/// Whether a `${` stands without quotes behind a bracket or a brace.
fn substitutes_in_braces(line: &str) -> bool {
    let (mut quote, mut open, mut before) = (None, false, ' ');
    for c in line.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(opened), _) if c == opened => quote = None,
            (None, '{') if before == '$' && open => return true,
            (None, '[' | '{') if before != '$' => open = true,
            _ => {}
        }
        before = c;
    }
    false
}

/// Why a line does not fit, by the looks of it.
fn cause(said: &str, line: &str, above: Option<(usize, &str)>) -> String {
    let quoted = line.contains('"') || line.contains('\'');
    let indent = |line: &str| line.len() - line.trim_start().len();
    if line.contains("{{") && !quoted {
        return "put a text with {{ … }} in quotes".to_owned();
    }
    if said.contains("flow") {
        return String::new();
    }
    if line.matches(": ").count() > 1 && !line.contains('{') {
        return "put a text that holds a colon in quotes".to_owned();
    }
    let Some((number, above)) = above else { return String::new() };
    let key = above.trim().split_once(':');
    if key.is_some_and(|(_, rest)| rest.starts_with(|c: char| !c.is_whitespace())) {
        return format!("put a space after the colon in line {}", number + 1);
    }
    if key.is_none() && indent(line) == indent(above) {
        return "a text of several lines starts with `|` after its key".to_owned();
    }
    if indent(line) != indent(above) {
        return "keys of one map begin in the same column: check how far this line is indented".to_owned();
    }
    String::new()
}
