//! Text for people from words of strangers: nothing that a caller or a model says can look like anything else.
//!
//! What a stranger says stands after a label or is indented, has no control or invisible characters, and is never
//! interpreted. A text begins with no line of theirs.

use serde_json::{Map, Value};

use crate::assistant::language::Labels;
use crate::invisible;

/// The most characters of one value. No caller says more in a call.
const MAX_VALUE: usize = 20_000;
/// The most characters of an e-mail.
const MAX_TEXT: usize = 100_000;
/// The most UTF-16 units of a text message: Twilio's limit.
const MAX_SHORT: usize = 1_600;
/// The most characters of a name or an address.
const MAX_NAME: usize = 100;
/// Up to this many characters an object stands on one line.
const MAX_INLINE: usize = 120;
/// Values that lie deeper are shown as JSON.
const MAX_DEPTH: usize = 6;
const INDENT: &str = "  ";

/// The lines of a text.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    lines: Vec<String>,
}

impl Page {
    /// `label: value`. A value of several lines stands below its label.
    pub fn row(&mut self, label: &str, value: &str) {
        self.block(label, lines(value));
    }

    /// A row, unless there is no value.
    pub fn row_if(&mut self, label: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            self.row(label, value);
        }
    }

    /// The label with its lines: one beside it, or several below.
    pub fn block(&mut self, label: &str, lines: Vec<String>) {
        match lines.as_slice() {
            [] => self.lines.push(format!("{label}: –")),
            [line] if !is_item(line) => self.lines.push(format!("{label}: {line}")),
            lines => {
                self.lines.push(format!("{label}:"));
                self.lines.extend(lines.iter().map(|line| format!("{INDENT}{line}")));
            }
        }
    }

    /// One row for each field, under the name that the owner gave it.
    pub fn fields(&mut self, fields: &Map<String, Value>, labels: &Labels) {
        for (name, value) in fields {
            self.block(&one_line(name), shown(value, labels, 0));
        }
    }

    /// The same rows below a label.
    pub fn fields_below(&mut self, label: &str, fields: &Map<String, Value>, labels: &Labels) {
        let mut below = Page::default();
        below.fields(fields, labels);
        self.lines.push(format!("{label}:"));
        self.lines.extend(below.lines.into_iter().map(|line| format!("{INDENT}{line}")));
    }

    /// Ends a section.
    pub fn gap(&mut self) {
        if self.lines.last().is_some_and(|line| !line.is_empty()) {
            self.lines.push(String::new());
        }
    }

    pub fn into_text(self) -> String {
        let mut text = self.lines.join("\n");
        text.truncate(text.trim_end().len());
        cut(&text, MAX_TEXT)
    }

    /// The same as a text message below a heading.
    pub fn into_short(self, heading: &str) -> String {
        let lines = self.lines.into_iter().filter(|line| !line.is_empty());
        let text = std::iter::once(heading.to_owned()).chain(lines).collect::<Vec<_>>().join("\n");
        if text.encode_utf16().count() <= MAX_SHORT {
            return text;
        }
        let (mut end, mut units) = (0, 1);
        for (at, letter) in text.char_indices() {
            units += letter.len_utf16();
            if units > MAX_SHORT {
                break;
            }
            end = at + letter.len_utf8();
        }
        format!("{}…", &text[..end])
    }
}

/// A name or an address on one line.
pub(super) fn one_line(text: &str) -> String {
    cut(&plain(text), MAX_NAME)
}

/// What somebody said, line by line, without empty ones.
fn lines(text: &str) -> Vec<String> {
    let text = cut(text, MAX_VALUE);
    let breaks = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    text.split(breaks).map(plain).filter(|line| !line.is_empty()).collect()
}

/// Without control and invisible characters. Every space is one space.
fn plain(text: &str) -> String {
    let spaced =
        text.chars().map(|letter| if letter.is_whitespace() || letter.is_control() { ' ' } else { letter });
    let visible = invisible::without(&spaced.collect::<String>());
    visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A value in lines.
fn shown(value: &Value, labels: &Labels, depth: usize) -> Vec<String> {
    if depth > MAX_DEPTH {
        return lines(&value.to_string());
    }
    match value {
        Value::Null => Vec::new(),
        Value::Bool(true) => vec![labels.yes.to_owned()],
        Value::Bool(false) => vec![labels.no.to_owned()],
        Value::Number(number) => vec![number.to_string()],
        Value::String(text) => lines(text),
        Value::Array(items) => {
            items.iter().flat_map(|item| itemized(shown(item, labels, depth + 1))).collect()
        }
        Value::Object(fields) => {
            let mut page = Page::default();
            for (name, value) in fields {
                page.block(&one_line(name), shown(value, labels, depth + 1));
            }
            let lines = page.lines;
            let is_short = lines.iter().map(|line| line.chars().count() + 2).sum::<usize>() <= MAX_INLINE;
            match is_short && lines.len() == fields.len() {
                true => vec![lines.join(", ")],
                false => lines,
            }
        }
    }
}

/// The lines of one item of a list.
fn itemized(lines: Vec<String>) -> Vec<String> {
    let lines = if lines.is_empty() { vec!["–".to_owned()] } else { lines };
    let marked = lines.into_iter().enumerate();
    marked.map(|(at, line)| if at == 0 { format!("- {line}") } else { format!("{INDENT}{line}") }).collect()
}

fn is_item(line: &str) -> bool {
    line.starts_with("- ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::assistant::language::Words;

    fn page(fields: Value) -> Page {
        let Value::Object(fields) = fields else { panic!("{fields}") };
        let mut page = Page::default();
        page.fields(&fields, Words::ENGLISH.labels);
        page
    }

    #[test]
    fn values_read_as_people_write_them() {
        let order = json!({
            "address": {"street": "1 Example Street", "town": "Exampleton"},
            "count": 3,
            "items": [{"count": 2, "name": "Margherita"}, {"count": 1, "name": "Funghi"}],
            "note": "Ring twice.\r\nThe bell is broken.",
            "nothing": null,
            "only": ["noon"],
            "urgent": true,
        });
        insta::assert_snapshot!(page(order).into_text(), @r"
        address: street: 1 Example Street, town: Exampleton
        count: 3
        items:
          - count: 2, name: Margherita
          - count: 1, name: Funghi
        note:
          Ring twice.
          The bell is broken.
        nothing: –
        only:
          - noon
        urgent: yes
        ");
    }

    #[test]
    fn a_text_message_is_cut_to_what_twilio_takes() {
        for (text, kept) in [("x", 1), ("é", 1), ("😀", 2)] {
            let short = page(json!({"note": text.repeat(3_000)})).into_short("Clinic");
            let units = short.encode_utf16().count();
            assert!(units <= MAX_SHORT && units > MAX_SHORT - kept - 1, "{units}");
            assert!(short.starts_with("Clinic\nnote: ") && short.ends_with('…'));
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let text = page(json!({"a": "x".repeat(100_000), "b": "last"})).into_text();
        assert!(text.chars().count() < MAX_VALUE + 100 && text.ends_with("b: last"));
        let many: Map<String, Value> =
            (0..1_000).map(|at| (format!("{at:04}"), Value::String("y".repeat(1_000)))).collect();
        assert!(page(Value::Object(many)).into_text().chars().count() <= MAX_TEXT + 1);
        let mut deep = json!("bottom");
        for _ in 0..100 {
            deep = json!({ "deeper and deeper and deeper": [deep, "and something that is long enough for a line"] });
        }
        let text = page(json!({ "deep": deep })).into_text();
        assert!(text.contains("bottom"), "{text}");
    }

    /// Letters that are dangerous, and some that are not.
    fn hostile() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            prop::sample::select(
                "\r\n\t\0\u{b}\u{c}\u{1b}\u{7f}\u{85}\u{a0}\u{2028}\u{2029}".chars().collect::<Vec<_>>()
            ),
            prop::sample::select(
                "\u{202e}\u{2066}\u{200b}\u{feff}\u{61c}\u{e0041}:-, Caller".chars().collect::<Vec<_>>()
            ),
            any::<char>(),
        ];
        prop::collection::vec(letter, 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn no_words_forge_a_row_or_hide(words in hostile(), name in hostile()) {
            let text = page(json!({"a": words, "b": [words, {"c": words}], name.clone(): words})).into_text();
            for line in text.split('\n') {
                prop_assert_eq!(invisible::find(line), None, "{:?}", line);
                let ours = line.starts_with("a:") || line.starts_with("b:") || line.starts_with(&format!("{}:", one_line(&name)));
                prop_assert!(ours || line.starts_with(INDENT), "{:?}", line);
            }
            prop_assert_eq!(invisible::find(&one_line(&words)), None);
        }
    }
}
