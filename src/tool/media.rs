//! Pictures, sounds and files in what a tool returns: the model gets a note instead of their base64.

use std::ops::Range;

use serde_json::Value;

/// Base64 of this many characters is a file, not a word.
const SHORTEST: usize = 512;
/// Lines of base64 that is broken into lines have at least this many characters, except for the last.
const SHORTEST_LINE: usize = 60;

/// A note for content of this kind (`image`, `audio` or another word) and type.
pub fn note(kind: &str, mime: Option<&str>) -> String {
    let kind = match (kind, mime.unwrap_or_default().split('/').next()) {
        ("image", _) | (_, Some("image")) => "an image",
        ("audio", _) | (_, Some("audio")) => "a sound",
        _ => "a file",
    };
    match mime {
        Some(mime) => format!("({kind}, {mime})"),
        None => format!("({kind})"),
    }
}

/// A value with a note in place of each file in it.
pub fn noted(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(noted_text(text)),
        Value::Array(items) => items.into_iter().map(noted).collect(),
        Value::Object(entries) => {
            let text = |key: &str| entries.get(key).and_then(Value::as_str);
            let kind = text("type").unwrap_or_default();
            let mime = text("mimeType").or(text("mime_type")).or(text("media_type"));
            let is_file = mime.is_some() || matches!(kind, "image" | "audio");
            let content = ["data", "blob"].into_iter().find(|key| text(key).is_some());
            match content.filter(|_| is_file) {
                Some(_) => Value::String(note(kind, mime)),
                None => entries.into_iter().map(|(key, value)| (key, noted(value))).collect(),
            }
        }
        other => other,
    }
}

/// A text with a note in place of each file in it.
pub fn noted_text(text: String) -> String {
    if text.len() < SHORTEST {
        return text;
    }
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(&text) {
        let kept = noted(value.clone());
        return if kept == value { text } else { kept.to_string() };
    }
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(found) = base64(rest) {
        let before = &rest[..found.start];
        // `data:image/png;base64,`
        let scheme = before.rfind("data:").filter(|_| before.ends_with(";base64,"));
        let mime = scheme.and_then(|at| before[at..].strip_prefix("data:")?.split(';').next());
        out.push_str(&before[..scheme.unwrap_or(before.len())]);
        out.push_str(&note("", mime.filter(|mime| !mime.is_empty())));
        rest = &rest[found.end..];
    }
    out.push_str(rest);
    out
}

/// The first base64 of a file, which may be broken into lines.
fn base64(text: &str) -> Option<Range<usize>> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    let bytes = text.as_bytes();
    let (mut start, mut line) = (0, 0);
    for at in 0..=bytes.len() {
        match bytes.get(at) {
            Some(&byte) if is_base64(byte) => line += 1,
            Some(b'\r' | b'\n') if line >= SHORTEST_LINE || (line == 0 && at > start) => line = 0,
            _ => {
                let found = &bytes[start..at];
                let has = |class: fn(&u8) -> bool| found.iter().any(class);
                // A long word is not base64, which has letters of both cases and digits.
                let mixed =
                    has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
                if found.len() >= SHORTEST && mixed {
                    return Some(start..at);
                }
                (start, line) = (at + 1, 0);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_becomes_a_note_and_other_text_stays() {
        let base64 = "iVBORw0KGgoAAAANSUhEUgAAAAE+/".repeat(30);
        let lines = base64.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap());
        let lines = lines.collect::<Vec<_>>().join("\r\n");
        for (text, expected) in [
            (
                format!("Here: data:image/png;base64,{base64} (end)"),
                "Here: (an image, image/png) (end)".to_owned(),
            ),
            (format!("a {base64}. b"), "a (a file). b".to_owned()),
            (format!("{base64} {base64}"), "(a file) (a file)".to_owned()),
            (format!("sound:\n{lines}"), "sound:\n(a file)".to_owned()),
            (
                json!({"title": "x", "file": base64}).to_string(),
                json!({"title": "x", "file": "(a file)"}).to_string(),
            ),
            ("x".repeat(5_000), "x".repeat(5_000)),
            ("0123456789".repeat(500), "0123456789".repeat(500)),
            ("Some Words 12 of prose. ".repeat(200), "Some Words 12 of prose. ".repeat(200)),
            (
                format!("{}\n", "ein-Langes_Wort1\n".repeat(200)),
                format!("{}\n", "ein-Langes_Wort1\n".repeat(200)),
            ),
        ] {
            assert_eq!(noted_text(text), expected);
        }
    }

    #[test]
    fn a_file_in_a_structure_becomes_a_note_however_small() {
        let given = json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}], "rest": [
            {"type": "audio", "data": "AAAA"}, {"uri": "file:///a", "blob": "AAAA", "mimeType": "application/pdf"},
            {"data": "22 degrees"}, {"mimeType": "text/plain", "text": "open at nine"}, 7]});
        assert_eq!(
            noted(given),
            json!({"content": ["(an image, image/png)"], "rest": ["(a sound)", "(a file, application/pdf)",
                {"data": "22 degrees"}, {"mimeType": "text/plain", "text": "open at nine"}, 7]})
        );
    }
}
