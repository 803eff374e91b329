//! Characters that look like a space or like nothing, but are no space to a program. Text from web pages contains them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

/// The names of those that people paste most often.
const NAMES: [(char, &str); 15] = [
    ('\t', "tab"),
    ('\n', "line break"),
    ('\r', "carriage return"),
    ('\u{a0}', "no-break space"),
    ('\u{ad}', "soft hyphen"),
    ('\u{2009}', "thin space"),
    ('\u{200b}', "zero width space"),
    ('\u{200c}', "zero width non-joiner"),
    ('\u{200d}', "zero width joiner"),
    ('\u{200e}', "left-to-right mark"),
    ('\u{200f}', "right-to-left mark"),
    ('\u{202f}', "narrow no-break space"),
    ('\u{2060}', "word joiner"),
    ('\u{3000}', "ideographic space"),
    ('\u{feff}', "byte order mark"),
];

/// One of them in a text. Prints as `U+200B zero width space at character 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invisible {
    character: char,
    /// From 1.
    at: usize,
}

/// The first such character in a text.
pub fn find(text: &str) -> Option<Invisible> {
    let (at, character) = text.chars().enumerate().find(|(_, c)| is(*c))?;
    Some(Invisible { character, at: at + 1 })
}

/// The text without them.
pub fn without(text: &str) -> String {
    text.chars().filter(|c| !is(*c)).collect()
}

fn is(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Display for Invisible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "U+{:04X}", u32::from(self.character))?;
        if let Some((_, name)) = NAMES.iter().find(|(named, _)| *named == self.character) {
            write!(f, " {name}")?;
        }
        write!(f, " at character {}", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_named_with_its_place() {
        let shown = |text| find(text).map(|found| found.to_string());
        assert_eq!(shown("+1\u{200b}555\u{a0}").as_deref(), Some("U+200B zero width space at character 3"));
        assert_eq!(shown("é\u{2066}").as_deref(), Some("U+2066 at character 2"));
        assert_eq!(shown("+1 555 é —"), None);
        assert_eq!(without("\u{feff}voice\u{a0}"), "voice");
    }
}
