//! Text from files and from other machines, made fit to be shown: phone numbers and keys are masked, and control
//! characters do not reach the terminal.

use std::ops::Range;

use super::Span;
use crate::secret;

/// Masks what looks like a key, and what may be a phone number, and keeps the offset of every byte.
pub(super) fn mask(text: &str) -> String {
    let mut bytes = text.to_owned().into_bytes();
    for (at, _) in secret::in_text(text) {
        // The beginning says which key it is.
        bytes[at.start + 4..at.end].fill(b'*');
    }
    // Only ASCII was replaced, by ASCII.
    mask_digits(&String::from_utf8(bytes).unwrap_or_default())
}

/// Masks the middle of what may be a phone number, and keeps the offset of every byte. A phone number is seven or more
/// digits in a row, seven or more after a plus with any separators, or ten with the separators people write. Digits of
/// every script count, and so does the letter O after a plus.
pub(super) fn mask_digits(text: &str) -> String {
    /// The most separators between two digits.
    const GAP: usize = 5;
    let separates = |c: char| {
        matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '_')
            || (!c.is_ascii() && (c.is_whitespace() || matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}')))
    };
    let mut out = text.to_owned().into_bytes();
    let mut mask = |digits: &[(usize, usize)]| {
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
                c if gap < GAP && (separates(c) || (plus && !c.is_ascii_alphabetic())) => gap += 1,
                _ => break,
            }
            before = c;
            letters.next();
        }
        if digits.len() >= if plus { 7 } else { 10 } {
            mask(&digits);
            continue;
        }
        let runs = digits.chunk_by(|one, next| one.0 + one.1 == next.0);
        runs.filter(|run| run.len() >= 7).for_each(&mut mask);
    }
    // Only whole characters were replaced, by asterisks.
    String::from_utf8(out).unwrap_or_default()
}

/// Masks every span that lies on whole characters.
pub(super) fn mask_spans(text: String, mut spans: Vec<Span>) -> String {
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
    // Only whole characters were replaced, by asterisks.
    String::from_utf8(out).unwrap_or_default()
}

/// Replaces every control character with a visible one of the same length: a file must not be able to change what the
/// terminal shows.
pub(super) fn visible(text: &str) -> String {
    let replacement = |c: char| match c {
        '\n' | '\r' | '\t' => c,
        // The marks that change the writing direction take three bytes, and so does this replacement.
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
    // Most texts have none.
    let ordinary = |byte: u8| (b' '..=b'~').contains(&byte) || matches!(byte, b'\n' | b'\r' | b'\t');
    if text.bytes().all(ordinary) {
        return text.to_owned();
    }
    text.chars().map(replacement).collect()
}

/// A text from elsewhere with its phone numbers, keys and passwords masked and its control characters replaced.
pub fn masked(text: &str) -> String {
    let spans = credentials(text)
        .map(|range| Span { start: range.start, len: range.len(), line: 1, column: 1 })
        .collect();
    visible(&mask(&mask_spans(text.to_owned(), spans)))
}

/// Where a text that somebody else wrote seems to hold a password: after `password=` and the like, after the scheme of an
/// `Authorization` header, and in an address.
fn credentials(text: &str) -> impl Iterator<Item = Range<usize>> {
    const NAMES: [&str; 7] = ["password", "passwd", "secret", "token", "api_key", "api-key", "apikey"];
    const ENDS: [char; 9] = ['"', '\'', ',', ';', '&', ')', '}', ']', '<'];
    let lower = text.to_ascii_lowercase();
    let value = move |from: usize| {
        let start = from + text[from..].find(|c: char| !matches!(c, ' ' | '"' | '\'')).unwrap_or(0);
        let ends = |c: char| c.is_whitespace() || ENDS.contains(&c);
        start..start + text[start..].find(ends).unwrap_or(text.len() - start)
    };
    let after = |word: &str| -> Vec<usize> {
        lower.match_indices(word).map(|(at, found)| at + found.len()).collect()
    };
    let mut found: Vec<Range<usize>> = ["bearer ", "basic "]
        .into_iter()
        .flat_map(after)
        .map(value)
        .filter(|value| value.len() >= 6)
        .collect();
    for from in NAMES.into_iter().flat_map(after) {
        let rest = text[from..].trim_start_matches(['"', '\'', ' ']);
        let at = text.len() - rest.len() + 1;
        match rest.chars().next() {
            Some('=') => found.push(value(at)),
            // After a colon, prose is as likely: `invalid token: expired`.
            Some(':') => found.extend(
                Some(value(at))
                    .filter(|v| v.len() >= 8 && text[v.clone()].contains(|c: char| c.is_numeric())),
            ),
            _ => {}
        }
    }
    for from in after("://") {
        let host = text[from..].find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\''));
        let authority = &text[from..from + host.unwrap_or(text.len() - from)];
        if let (Some(colon), Some(at)) = (authority.find(':'), authority.rfind('@'))
            && colon < at
        {
            found.push(from + colon + 1..from + at);
        }
    }
    // `API_KEY=sk-…` and `token=${TOKEN}` show how to write it.
    found.into_iter().filter(|value| !text[value.clone()].contains(['…', '$', '<']))
}

/// A file's path on one line, unmasked: programs look for the file.
pub(super) fn path(path: &str) -> String {
    visible(path).replace(['\n', '\r', '\t'], " ")
}

/// A sentence for a terminal or a log, on one line, whatever it quotes.
pub(super) fn one_line(text: &str) -> String {
    masked(text).replace(['\n', '\r', '\t'], " ")
}

/// A value as a message may show it: short, and with phone numbers and keys masked.
pub fn shown(value: &str) -> String {
    const LONGEST: usize = 48;
    let line = visible(&mask(value.lines().next().unwrap_or_default()));
    match line.chars().count() > LONGEST || value.lines().count() > 1 {
        true => format!("{}…", line.chars().take(LONGEST).collect::<String>()),
        false => line,
    }
}

/// A name that has to be copied from what is shown, such as that of a tool: whole, and on one line.
pub fn whole(name: &str) -> String {
    /// No server needs a longer one.
    const LONGEST: usize = 128;
    let line = visible(name).replace(['\n', '\r', '\t'], " ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
