//! Formats of dates that are written for other programs, such as `DD.MM.YYYY`, and what they are in the codes of strftime.

/// How other programs write a part of a date, and its code. The longest first. JavaScript's and Java's letters, and
/// those of German, French and Polish spreadsheets.
const PARTS: [(&str, &str); 29] = [
    ("YYYY", "%Y"),
    ("yyyy", "%Y"),
    ("JJJJ", "%Y"),
    ("AAAA", "%Y"),
    ("RRRR", "%Y"),
    ("MMMM", "%B"),
    ("dddd", "%A"),
    ("EEEE", "%A"),
    ("MMM", "%b"),
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

/// What to write in place of a format that is not in the codes of strftime. `None`: the format is fine.
pub fn instead(filter: &str, format: &str) -> Option<String> {
    let without = !format.contains('%');
    let (translated, found) = translate(format, without);
    match (without, found) {
        (false, false) => None,
        (_, true) => Some(translated),
        (true, false) => Some(if filter == "time" { "%H:%M" } else { "%d.%m.%Y" }.to_owned()),
    }
}

/// The format with the parts of others in codes, and whether there was one. With `all` single letters count, too.
fn translate(format: &str, all: bool) -> (String, bool) {
    let mut out = String::with_capacity(format.len() + 8);
    let (mut rest, mut found) = (format, false);
    while let Some(first) = rest.chars().next() {
        if first == '%' {
            let code = rest[1..].trim_start_matches(['^', '_', '-', '#', '0']);
            let length = rest.len() - code.len() + code.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        // A run of letters is a part, or a word.
        let length = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len()).max(first.len_utf8());
        let run = &rest[..length];
        let part = PARTS.iter().find(|(part, _)| *part == run && (all || part.len() > 1));
        let several = || if all { split(run) } else { None };
        match part.map(|(_, code)| (*code).to_owned()).or_else(several) {
            Some(codes) => {
                found = true;
                out.push_str(&codes);
            }
            None => out.push_str(run),
        }
        rest = &rest[length..];
    }
    (out, found)
}

/// A run of letters that is several parts, such as `YYYYMMDD` or `HHmm`.
fn split(run: &str) -> Option<String> {
    let (mut out, mut rest) = (String::new(), run);
    while !rest.is_empty() {
        let (part, code) = PARTS.iter().find(|(part, _)| part.len() > 1 && rest.starts_with(part))?;
        out.push_str(code);
        rest = &rest[part.len()..];
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_of_another_program_is_translated() {
        for (filter, format, codes) in [
            ("date", "DD.MM.YYYY", Some("%d.%m.%Y")),
            ("date", "D.M.YYYY", Some("%-d.%-m.%Y")),
            ("date", "YYYY-MM-DD", Some("%Y-%m-%d")),
            ("date", "YYYYMMDD", Some("%Y%m%d")),
            ("date", "dd/MM/yyyy", Some("%d/%m/%Y")),
            ("date", "TT.MM.JJJJ", Some("%d.%m.%Y")),
            ("date", "JJ/MM/AAAA", Some("%d/%m/%Y")),
            ("date", "dddd, D MMMM YYYY", Some("%A, %-d %B %Y")),
            ("time", "HH:mm", Some("%H:%M")),
            ("time", "h:mm A", Some("%-I:%M %p")),
            ("date", "DD.MM.%Y", Some("%d.%m.%Y")),
            ("date", "long", Some("%d.%m.%Y")),
            ("time", "short", Some("%H:%M")),
            ("date", "", Some("%d.%m.%Y")),
            ("date", "%d.%m.%Y", None),
            ("time", "%H Uhr, a la mañana", None),
            ("date", "%-d. %B", None),
        ] {
            assert_eq!(instead(filter, format).as_deref(), codes, "{format}");
        }
    }
}
