//! A TOML file, asked for its values by their paths, such as `http_service.checks.0.path`.

use toml::Value;

/// A file's values.
#[derive(Debug)]
pub struct Table(Value);

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// The line, from 1, that is no TOML.
    pub fn read(text: &str) -> Result<Table, usize> {
        match text.parse::<toml::Table>() {
            Ok(table) => Ok(Table(Value::Table(table))),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start.min(text.len()));
                Err(text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1)
            }
        }
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |value, key| match value {
            Value::Array(list) => list.get(key.parse::<usize>().ok()?),
            value => value.get(key),
        })
    }

    /// A plain value as text, whatever it was written as.
    pub fn text(&self, path: &str) -> Option<String> {
        plain(self.get(path)?)
    }

    /// Whether there is anything at this path.
    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// How many tables an array has.
    pub fn count(&self, path: &str) -> usize {
        self.get(path).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// The plain values right below a path, with their keys.
    pub fn below(&self, path: &str) -> Vec<(String, String)> {
        let table = self.get(path).and_then(Value::as_table);
        table.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), plain(value)?))).collect()
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_paths() {
        let text = "app = \"voice\"\n[env]\nPORT = \"5050\"\nDRAIN_SECONDS = 200\nOdd = 1.5\n[http_service]\nforce_https = true\n\
                    [[http_service.checks]]\npath = \"/readyz\"\n[[http_service.checks]]\npath = \"/healthz\"\n";
        let table = Table::read(text).unwrap();
        for (path, value) in [
            ("app", Some("voice")),
            ("env.DRAIN_SECONDS", Some("200")),
            ("http_service.force_https", Some("true")),
            ("http_service.checks.1.path", Some("/healthz")),
            ("http_service.checks.2.path", None),
            ("http_service.checks", None),
            ("env.Odd", None),
            ("app.name", None),
        ] {
            assert_eq!(table.text(path).as_deref(), value, "{path}");
        }
        assert_eq!((table.count("http_service.checks"), table.count("env")), (2, 0));
        assert!(table.has("http_service") && !table.has("services"));
        let below = [("DRAIN_SECONDS", "200"), ("PORT", "5050")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(table.below("env"), below);
        assert_eq!(Table::read("app = \"a\"\nwhat is this\n").unwrap_err(), 2);
    }
}
