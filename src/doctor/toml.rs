//! As much TOML as a `fly.toml` has: tables, arrays of tables, and plain values. No crate among ours reads TOML, and
//! one file with a dozen keys of interest is no reason for four more.
//!
//! What it does not understand it leaves out, and counts.

use std::collections::BTreeMap;

/// A value, as far as it is of use here.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    /// A list, a date, a fraction.
    Other,
}

/// The values of a file by their paths, such as `http_service.checks.0.path`: the table of an array has its index.
#[derive(Debug, Default)]
pub struct Table {
    values: BTreeMap<String, Value>,
    tables: Vec<String>,
    /// Lines that were not understood, from 1.
    pub odd: Vec<usize>,
}

impl Table {
    /// Reads a file.
    pub fn read(text: &str) -> Table {
        let mut table = Table::default();
        let mut at = String::new();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(head) = line.strip_prefix("[[").and_then(|rest| rest.split("]]").next()) {
                let path = keys(head).join(".");
                let count =
                    (0..).find(|index| !table.tables.contains(&format!("{path}.{index}"))).unwrap_or(0);
                at = format!("{path}.{count}");
                table.tables.push(at.clone());
                continue;
            }
            if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                at = table.resolved(&keys(head));
                table.tables.push(at.clone());
                continue;
            }
            let Some((key, value)) = parted(line) else {
                table.odd.push(number + 1);
                continue;
            };
            let mut value = value.trim().to_owned();
            // A list may go on over many lines.
            while value.starts_with('[') && !closed(&value) {
                let Some((_, more)) = lines.next() else { break };
                value.push_str(uncommented(more).trim());
            }
            let mut path = if at.is_empty() { Vec::new() } else { vec![at.clone()] };
            path.extend(keys(key));
            table.insert(&path.join("."), uncommented(&value).trim(), number + 1);
        }
        table
    }

    /// A table below an array's is below its last.
    fn resolved(&self, keys: &[String]) -> String {
        let mut path = String::new();
        for key in keys {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
            if let Some(last) =
                (0..).take_while(|index| self.tables.contains(&format!("{path}.{index}"))).last()
            {
                path.push_str(&format!(".{last}"));
            }
        }
        path
    }

    fn insert(&mut self, path: &str, value: &str, line: usize) {
        if let Some(inner) = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            self.tables.push(path.to_owned());
            for pair in split(inner) {
                match parted(pair.trim()) {
                    Some((key, value)) => {
                        self.insert(&format!("{path}.{}", keys(key).join(".")), value.trim(), line)
                    }
                    None if pair.trim().is_empty() => {}
                    None => self.odd.push(line),
                }
            }
            return;
        }
        // An array of tables may be written in one line.
        if let Some(inner) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            for (index, item) in
                split(inner).iter().map(|item| item.trim()).filter(|i| i.starts_with('{')).enumerate()
            {
                self.insert(&format!("{path}.{index}"), item, line);
            }
        }
        match scalar(value) {
            Some(value) => drop(self.values.insert(path.to_owned(), value)),
            None => self.odd.push(line),
        }
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        self.values.get(path)
    }

    /// A value as text, whatever it was written as.
    pub fn text(&self, path: &str) -> Option<String> {
        Some(match self.get(path)? {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Other => return None,
        })
    }

    /// Whether there is a table at this path, or a value below it.
    pub fn has(&self, path: &str) -> bool {
        let below = format!("{path}.");
        let is_there = |known: &String| known == path || known.starts_with(&below);
        self.tables.iter().any(is_there) || self.values.keys().any(is_there)
    }

    /// How many tables an array has.
    pub fn count(&self, path: &str) -> usize {
        (0..).take_while(|index| self.has(&format!("{path}.{index}"))).count()
    }

    /// The plain values right below a path, with their keys.
    pub fn below(&self, path: &str) -> Vec<(String, String)> {
        let begin = format!("{path}.");
        let found = self.values.keys().filter_map(|key| Some((key, key.strip_prefix(&begin)?)));
        found.filter_map(|(key, name)| Some((name.to_owned(), self.text(key)?))).collect()
    }
}

/// The parts of a dotted key, without quotes.
fn keys(text: &str) -> Vec<String> {
    let part = |part: &str| part.trim().trim_matches(['"', '\'']).to_owned();
    text.split('.').map(part).collect()
}

/// A key and what stands behind its `=`.
fn parted(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let plain = |c: char| c.is_alphanumeric() || "_-.\"' ".contains(c);
    (!key.trim().is_empty() && key.chars().all(plain)).then_some((key, value))
}

/// A line without its comment: a `#` in quotes is none.
fn uncommented(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = false;
    }
    line
}

/// Whether a list that was opened is closed.
fn closed(value: &str) -> bool {
    let value = uncommented(value);
    value.matches(['[', '{']).count() <= value.matches([']', '}']).count()
}

/// What stands between commas that are in no brackets and no quotes.
fn split(inner: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut quote, mut from) = (Vec::new(), 0i32, None, 0);
    for (at, c) in inner.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(&inner[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[from..]);
    parts
}

fn scalar(value: &str) -> Option<Value> {
    match value {
        "true" => return Some(Value::Flag(true)),
        "false" => return Some(Value::Flag(false)),
        _ => {}
    }
    for quote in ["\"\"\"", "'''", "\"", "'"] {
        if let Some(rest) = value.strip_prefix(quote) {
            let text = rest.strip_suffix(quote)?;
            return Some(Value::Text(match quote {
                "\"" => text.replace("\\\"", "\"").replace("\\\\", "\\"),
                _ => text.to_owned(),
            }));
        }
    }
    match value.replace('_', "").parse() {
        Ok(number) => Some(Value::Number(number)),
        Err(_) if value.starts_with(|c: char| c.is_ascii_digit() || "[+-".contains(c)) => Some(Value::Other),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fly_toml_has_is_read() {
        let table = Table::read(
            r#"
app = "voice" # "a comment"
kill_timeout = 300
'quoted' = 'C:\path # no comment'
when = 2026-11-23
env.DOTTED = "yes"

[env]
  PORT = "5050"
  URL = "https://phone.example.com/#x"

[http_service]
  internal_port = 5_050
  auto_stop_machines = false
  concurrency = { type = "connections", hard_limit = 50 }
  [[http_service.checks]]
    path = "/readyz"
    [http_service.checks.headers]
      X-Forwarded-Proto = "https"
  [[http_service.checks]]
    path = "/healthz"

[[vm]]
  size = "shared-cpu-1x"
list = [
  "a", # one
  "b",
]
ports = [{ port = 80, handlers = ["http"] }, { port = 443 }]
what is this
"#,
        );
        let text = |path: &str| table.text(path).unwrap_or_default();
        for (path, value) in [
            ("app", "voice"),
            ("kill_timeout", "300"),
            ("quoted", "C:\\path # no comment"),
            ("env.DOTTED", "yes"),
            ("env.PORT", "5050"),
            ("env.URL", "https://phone.example.com/#x"),
            ("http_service.internal_port", "5050"),
            ("http_service.auto_stop_machines", "false"),
            ("http_service.concurrency.hard_limit", "50"),
            ("http_service.checks.0.path", "/readyz"),
            ("http_service.checks.0.headers.X-Forwarded-Proto", "https"),
            ("http_service.checks.1.path", "/healthz"),
            ("vm.0.size", "shared-cpu-1x"),
            ("vm.0.ports.1.port", "443"),
            ("nothing", ""),
        ] {
            assert_eq!(text(path), value, "{path}");
        }
        assert_eq!((table.count("http_service.checks"), table.count("vm"), table.count("mounts")), (2, 1, 0));
        assert_eq!(table.get("when"), Some(&Value::Other));
        assert!(table.has("http_service") && !table.has("mounts"));
        assert_eq!(table.below("env").len(), 3);
        assert_eq!(table.odd, [30]);
    }

    #[test]
    fn whatever_stands_there_nothing_breaks() {
        for text in [
            "",
            "[",
            "[[",
            "]]",
            "=",
            "a =",
            "a = [",
            "a = {",
            "\u{feff}a = 1",
            "a = \"",
            "[a\nb = '",
            "a = {b = [}",
        ] {
            let _ = Table::read(text);
        }
    }
}
