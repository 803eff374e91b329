//! Formats of dates that are written for other programs, such as `DD.MM.YYYY`, and what they are in the codes of strftime.

use jiff::Zoned;
use jiff::fmt::strtime;

/// How other programs write a part of a date, and its code. The longest first. JavaScript's and Java's letters, and
/// those of German, French and Polish spreadsheets.
const PARTS: [(&str, &str); 31] = [
    ("YYYY", "%Y"),
    ("yyyy", "%Y"),
    ("JJJJ", "%Y"),
    ("AAAA", "%Y"),
    ("RRRR", "%Y"),
    ("MMMM", "%B"),
    ("dddd", "%A"),
    ("EEEE", "%A"),
    ("mmmm", "%B"),
    ("MMM", "%b"),
    ("mmm", "%b"),
    ("ddd", "%a"),
    ("EEE", "%a"),
    ("YY", "%y"),
    ("yy", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("dd", "%d"),
    ("TT", "%d"),
    ("JJ", "%d"),
    ("HH", "%H"),
    ("hh", "%I"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("M", "%-m"),
    ("D", "%-d"),
    ("d", "%-d"),
    ("H", "%-H"),
    ("h", "%-I"),
    ("A", "%p"),
    ("a", "%p"),
];

/// PHP's letters, each of which is a whole part.
const PHP: [(char, &str); 18] = [
    ('d', "%d"),
    ('j', "%-d"),
    ('m', "%m"),
    ('n', "%-m"),
    ('Y', "%Y"),
    ('y', "%y"),
    ('F', "%B"),
    ('M', "%b"),
    ('l', "%A"),
    ('D', "%a"),
    ('H', "%H"),
    ('G', "%-H"),
    ('h', "%I"),
    ('g', "%-I"),
    ('i', "%M"),
    ('s', "%S"),
    ('A', "%p"),
    ('a', "%p"),
];

/// The codes that strftime prints as the computer's country writes, so that they are American or in a program's notation,
/// and what to write instead.
const LOCAL: [(char, &str); 5] =
    [('c', "%-d %B %Y, %H:%M"), ('x', "%-d %B %Y"), ('D', "%-d %B %Y"), ('X', "%H:%M"), ('r', "%-I:%M %p")];

/// What is wrong with a format.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    Empty,
    /// It is written for another program.
    Foreign,
    /// A code that prints American text, or a program's notation, in every language.
    Local(String),
    /// A code that does not exist.
    Unknown(String),
}

/// What is wrong with a format, and what to write in its place. `None`: the format is fine.
pub fn wrong(filter: &str, format: &str) -> Option<(Wrong, String)> {
    let usual = || if filter == "time" { "%H:%M" } else { "%d.%m.%Y" }.to_owned();
    if format.trim().is_empty() {
        return Some((Wrong::Empty, usual()));
    }
    let without = !format.contains('%');
    let (translated, found) = translate(filter, format, without);
    if found || without {
        return Some((Wrong::Foreign, if found { translated } else { usual() }));
    }
    codes(format).find_map(|(code, letter)| {
        if let Some((_, instead)) = LOCAL.iter().find(|(local, _)| letter == Some(*local)) {
            return Some((Wrong::Local(code.to_owned()), (*instead).to_owned()));
        }
        let unknown = strtime::format(code, &Zoned::default()).is_err();
        unknown.then(|| (Wrong::Unknown(code.to_owned()), usual()))
    })
}

/// The code that a text begins with, such as `%-d`, and its letter.
pub fn code(text: &str) -> (&str, Option<char>) {
    let flag = |c: char| c.is_ascii_digit() || matches!(c, '^' | '_' | '-' | '#' | ':' | '.');
    let rest = text[1..].trim_start_matches(flag);
    let letter = rest.chars().next();
    (&text[..text.len() - rest.len() + letter.map_or(0, char::len_utf8)], letter)
}

/// Every code of a format, and its letter.
pub fn codes(format: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    let mut rest = format;
    std::iter::from_fn(move || {
        let (code, letter) = code(&rest[rest.find('%')?..]);
        rest = &rest[rest.find('%')? + code.len()..];
        Some((code, letter))
    })
}

/// The format with the parts of others in codes, and whether there was one. With `all` single letters count, too.
fn translate(filter: &str, format: &str, all: bool) -> (String, bool) {
    let php = all && is_php(format);
    let mut out = String::with_capacity(format.len() + 8);
    let (mut rest, mut found) = (format, false);
    while let Some(first) = rest.chars().next() {
        if first == '%' {
            let (code, _) = code(rest);
            out.push_str(code);
            rest = &rest[code.len()..];
            continue;
        }
        // A run of letters is a part, or a word.
        let length = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len()).max(first.len_utf8());
        let run = &rest[..length];
        let parts = match php {
            true => PHP.iter().find(|(letter, _)| *letter == first).map(|(_, code)| vec![*code]),
            false => split(run, all),
        };
        match parts {
            Some(parts) => {
                found = true;
                for part in parts {
                    let part = month_or_minute(filter, &out, part);
                    out.push_str(part);
                }
            }
            None => out.push_str(run),
        }
        rest = &rest[length..];
    }
    (out, found)
}

/// People write the month and the minute with the same letters, large or small. After an hour it is the minute.
fn month_or_minute<'a>(filter: &str, before: &str, part: &'a str) -> &'a str {
    let last = codes(before).last().and_then(|(_, letter)| letter);
    let minute = match last {
        Some('H' | 'I') => true,
        last => filter == "time" && last.is_none(),
    };
    match part {
        "%m" | "%-m" if minute => "%M",
        "%M" if !minute => "%m",
        part => part,
    }
}

/// Single letters, of which one has no other meaning.
fn is_php(format: &str) -> bool {
    let mut runs = format.split(|c: char| !c.is_alphabetic()).filter(|run| !run.is_empty());
    let single = |run: &str| PHP.iter().any(|(letter, _)| run.chars().eq([*letter]));
    format.contains(['Y', 'i', 'j', 'n', 'F', 'l', 'G', 'g', 'm']) && runs.all(single)
}

/// A run of letters that is a part, or several, such as `YYYYMMDD` or `HHmm`. `single`: it may be a single letter.
fn split(run: &str, single: bool) -> Option<Vec<&'static str>> {
    let mut rest = run;
    let mut codes = Vec::new();
    while !rest.is_empty() {
        let whole = |part: &str| part.len() > 1 || single && run.len() == 1;
        let (part, code) = PARTS.iter().find(|(part, _)| whole(part) && rest.starts_with(part))?;
        codes.push(*code);
        rest = &rest[part.len()..];
    }
    (!codes.is_empty()).then_some(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_of_another_program_is_translated() {
        for (filter, format, codes) in [
            ("date", "DD.MM.YYYY", "%d.%m.%Y"),
            ("date", "D.M.YYYY", "%-d.%-m.%Y"),
            ("date", "YYYY-MM-DD", "%Y-%m-%d"),
            ("date", "yyyy-mm-dd", "%Y-%m-%d"),
            ("date", "dd.mm.yyyy HH:mm:ss", "%d.%m.%Y %H:%M:%S"),
            ("date", "YYYYMMDD", "%Y%m%d"),
            ("date", "yyyymmddHHmm", "%Y%m%d%H%M"),
            ("date", "dd/MM/yyyy", "%d/%m/%Y"),
            ("date", "d mmmm yyyy", "%-d %B %Y"),
            ("date", "TT.MM.JJJJ", "%d.%m.%Y"),
            ("date", "JJ/MM/AAAA", "%d/%m/%Y"),
            ("date", "dddd, D MMMM YYYY", "%A, %-d %B %Y"),
            ("date", "d.m.Y", "%d.%m.%Y"),
            ("date", "l, j F Y, G:i", "%A, %-d %B %Y, %-H:%M"),
            ("time", "H:i", "%H:%M"),
            ("time", "HH:mm", "%H:%M"),
            ("time", "HH:MM", "%H:%M"),
            ("time", "h:mm A", "%-I:%M %p"),
            ("date", "DD.MM.%Y", "%d.%m.%Y"),
            ("date", "long", "%d.%m.%Y"),
            ("time", "short", "%H:%M"),
        ] {
            assert_eq!(wrong(filter, format), Some((Wrong::Foreign, codes.to_owned())), "{format}");
        }
    }

    #[test]
    fn a_code_that_does_not_exist_or_is_american_is_named() {
        let local = |code: &str| Wrong::Local(code.to_owned());
        let unknown = |code: &str| Wrong::Unknown(code.to_owned());
        for (filter, format, what, instead) in [
            ("date", "", Wrong::Empty, "%d.%m.%Y"),
            ("time", " ", Wrong::Empty, "%H:%M"),
            ("date", "%c", local("%c"), "%-d %B %Y, %H:%M"),
            ("date", "%A, %x", local("%x"), "%-d %B %Y"),
            ("date", "%D", local("%D"), "%-d %B %Y"),
            ("time", "%X", local("%X"), "%H:%M"),
            ("time", "%r", local("%r"), "%-I:%M %p"),
            ("date", "%d.%v", unknown("%v"), "%d.%m.%Y"),
            ("date", "%d %", unknown("%"), "%d.%m.%Y"),
            ("time", "%H:%-é", unknown("%-é"), "%H:%M"),
        ] {
            assert_eq!(wrong(filter, format), Some((what, instead.to_owned())), "{format}");
        }
    }

    #[test]
    fn a_format_in_the_codes_of_strftime_is_fine() {
        for format in [
            "%d.%m.%Y",
            "%H Uhr, a la mañana",
            "%-d. %B",
            "%0d %_d %02d %^A",
            "%F %T %:z",
            "%H:%M:%S%.3f",
            "100 %%",
        ] {
            assert_eq!(wrong("date", format), None, "{format}");
        }
    }
}
