//! Turns a YAML parser's error into a problem that names the mistake people most often make.

use super::{DEEPEST, Lines};
use crate::problem::catalogue::File;
use crate::problem::{self, Problem, Source, Span};

/// The parser's error as a problem at its place.
pub(super) fn broken(text: &str, source: &Source, error: &serde_yaml::Error) -> Problem {
    let marker = |(_, line): &(usize, &str)| line.starts_with("<<<<<<<");
    if let Some((at, line)) = text.split_inclusive('\n').enumerate().find(marker) {
        let start = text.split_inclusive('\n').take(at).map(str::len).sum();
        let span = Span { start, len: line.trim_end().len(), line: at + 1, column: 1 };
        return source.problem(span, File::Conflict);
    }
    let said = error.without_snippet().to_string();
    let said = said.lines().next().unwrap_or_default();
    // The parser puts the place into its sentence; the problem has it already.
    let said = said.split(" at line ").next().unwrap_or(said);
    let place = error.location().filter(|at| at.line() > 0);
    let mut span = place.map(|at| Lines::new(text).at(at));
    let is_tab = said.contains("tab") || span.is_some_and(|span| begins_with_tab(text, span, said));
    if is_tab {
        span = span.map(|span| tab(text, span));
    }
    let said = if is_tab { "tab" } else { said };
    let number = span.map_or(1, |span| span.line);
    if said.contains("mapping values are not allowed")
        && let Some(at) = without_colon(text, number - 1)
    {
        return source.problem(first_word(text, at), no_colon(text, at));
    }
    let above: Vec<(usize, &str)> = text.lines().enumerate().take(number - 1).collect();
    let above = above.into_iter().rev().find(|(_, line)| !blank(line));
    let what = explain(said, text, number - 1, above);
    match span {
        Some(span) => source.problem(span, what),
        None => Problem::file(source.path(), what),
    }
}

/// The line, from 0, that lacks the colon at which the parser gave up in a later one: it took both for one text. Above it
/// is nothing, or the key of its map and then it looks like a key with a value: it could be a text as well.
fn without_colon(text: &str, gave_up: usize) -> Option<usize> {
    let lines: Vec<&str> = text.lines().take(gave_up).collect();
    let has_colon = |at: usize| lines[at].contains(": ") || lines[at].trim_end().ends_with(':');
    let written = |before: usize| (0..before).rev().find(|at| !blank(lines[*at]));
    let mut first = written(gave_up).filter(|at| !has_colon(*at))?;
    while let Some(above) = written(first) {
        if has_colon(above) {
            let (word, value) = lines[first].trim().split_once(' ').unwrap_or((lines[first].trim(), ""));
            let is_key = word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && (value.is_empty() || value.starts_with(['"', '\'', '[', '{', '|', '>', '+', '$']));
            return (is_key && lines[above].trim_end().ends_with(':')).then_some(first);
        }
        first = above;
    }
    Some(first)
}

/// The first word of a line.
fn first_word(text: &str, at: usize) -> Span {
    let start: usize = text.split_inclusive('\n').take(at).map(str::len).sum();
    let line = text[start..].lines().next().unwrap_or_default();
    let start = start + (line.len() - line.trim_start().len());
    Span::of(text, start..start + line.split_whitespace().next().map_or(0, str::len))
}

/// The problem of a line that starts with a key without a colon.
fn no_colon(text: &str, at: usize) -> File {
    let above = text.lines().take(at).filter(|line| !blank(line)).last();
    // The lines of a secret are not shown.
    let secret = above.is_some_and(super::secrets::named);
    let line = text.lines().nth(at).unwrap_or_default();
    let word = line.split_whitespace().next().unwrap_or("key");
    if word.contains(':') {
        return File::Syntax {
            why: "there is no space after the colon".to_owned(),
            fix: "put a space after the colon".to_owned(),
        };
    }
    let word = if secret { "key" } else { word };
    let fix = format!("write `{}: …`; indent a longer text below `|`", problem::shown(word));
    File::Syntax { why: "there is no colon after the key".to_owned(), fix }
}

/// Nothing, or a comment.
pub(super) fn blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Whether the line where the parser gave up is indented with a tab. To the parser, such a line ends the text above it
/// and is a key without a colon. Tabs are allowed inside braces, brackets and quotes.
fn begins_with_tab(text: &str, span: Span, said: &str) -> bool {
    let line = text.lines().nth(span.line - 1).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    indent.contains('\t') && !["flow", "quote"].iter().any(|within| said.contains(within))
}

/// The first tab that indents a line, starting at the line where the parser gave up.
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

/// What is wrong in a line, and what to do. `above` is the line before. Both numbers count from 0. The parser's errors have no codes,
/// only sentences.
fn explain(said: &str, text: &str, number: usize, above: Option<(usize, &str)>) -> File {
    let line = text.lines().nth(number).unwrap_or_default();
    let has = |words: &str| said.contains(words);
    let wrong = |why: &str, fix: &str| File::Syntax { why: why.to_owned(), fix: fix.to_owned() };
    if substitutes_in_braces(line) {
        return wrong("`${…}` inside [ ] or { } needs quotes", "put ${…} in quotes");
    }
    if has("unknown anchor") || has("anchor or alias") {
        let why = "an unquoted `*` refers to an anchor, and there is none of this name";
        return wrong(why, "put a text that starts with `*` in quotes, such as \"*\"");
    }
    if has("Depth") {
        return File::Depth { most: DEEPEST };
    }
    if has("alias") || has("Alias") || has("Anchor") || has("Merge") {
        return File::Aliases;
    }
    if has("budget") {
        return File::TooManyValues;
    }
    if has("multiple YAML documents") {
        return File::SecondDocument;
    }
    if has("tab") {
        return wrong("this line is indented with a tab", "indent it with spaces");
    }
    if has("BOM") {
        return wrong("there is a byte order mark, which is invisible", "delete the line and type it again");
    }
    if let Some(found) = said.split("unexpected character: `").nth(1) {
        return match found.chars().next() {
            Some(c) if !c.is_control() && c != '\\' => {
                wrong(&format!("a text cannot start with `{c}`"), "put the text in quotes")
            }
            _ => wrong("there is an invisible control character", "delete it"),
        };
    }
    if has("unclosed quote") {
        return wrong("this quote is never closed", "end the text with the same quote");
    }
    if has("after single-quoted") {
        return wrong("text follows the closing quote", "put a text with an apostrophe in double quotes");
    }
    if has("after double-quoted") {
        return wrong("text follows the closing quote", "write a double quote inside a text as \\\"");
    }
    let item = line.trim_start().strip_prefix('-');
    if item.is_some_and(|item| item.starts_with(|c: char| !c.is_whitespace() && c != '-')) {
        return wrong("a list item starts with a dash and a space", "put a space after the dash");
    }
    if has("simple key expected ':'") {
        return no_colon(text, number);
    }
    if has("illegal placement of ':'") {
        return wrong(
            "there is an unexpected colon",
            "check for a missing `]` above, or put the text in quotes",
        );
    }
    let why = match said {
        _ if has("flow mapping") => "a comma or a `}` is missing before this place",
        _ if has("flow sequence") => "a comma or a `]` is missing before this place",
        _ if has("mapping values are not allowed") => "there is an unexpected colon",
        _ if has("did not find expected key") => "this line does not fit the lines above it",
        _ => &problem::masked(said),
    };
    wrong(why, &likely_fix(said, line, above))
}

/// Whether an unquoted `${` follows a bracket or a brace.
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

/// What probably needs to change, judged by the line.
fn likely_fix(said: &str, line: &str, above: Option<(usize, &str)>) -> String {
    let quoted = line.contains('"') || line.contains('\'');
    let indent = |line: &str| line.len() - line.trim_start().len();
    if line.contains("{{") && !quoted {
        return "put a text with {{ … }} in quotes".to_owned();
    }
    if said.contains("flow") {
        return String::new();
    }
    if line.matches(": ").count() > 1 && !line.contains('{') {
        return "put a text with a colon in quotes".to_owned();
    }
    let Some((number, above)) = above else { return String::new() };
    let key = above.trim().split_once(':');
    if key.is_some_and(|(_, rest)| rest.starts_with(|c: char| !c.is_whitespace())) {
        return format!("put a space after the colon on line {}", number + 1);
    }
    if key.is_none() && indent(line) == indent(above) {
        return "start a text of several lines with `|` after its key".to_owned();
    }
    if indent(line) != indent(above) {
        return "keys of one map start in the same column: check the indentation of this line".to_owned();
    }
    String::new()
}
