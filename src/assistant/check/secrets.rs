//! Secrets that stand in a file, where they should not, are kept out of what is shown of it.

use crate::problem::{Source, Span};
use crate::yaml::{Kind, Node};

/// The keys whose values are secrets, in lower case.
const KEYS: [&str; 4] = ["token", "password", "authorization", "api_key"];

/// Stars out every secret in the text that problems show: also in a file that is no valid YAML.
pub fn hide(source: &mut Source, text: &str, root: Option<&Node>) {
    let mut start = 0;
    let lower = text.to_ascii_lowercase();
    let keys: Vec<&str> = KEYS.into_iter().filter(|key| lower.contains(key)).collect();
    let urls = text.contains("://");
    for line in text.split_inclusive('\n').take_while(|_| urls || !keys.is_empty()) {
        for key in &keys {
            for (at, _) in lower[start..start + line.len()].match_indices(key) {
                let rest = &line[at + key.len()..];
                let value = rest.trim_start_matches(['"', '\'', ' ']).strip_prefix(':').map(str::trim_start);
                // What comes from the environment is shown as it is written.
                let Some(value) =
                    value.filter(|value| !value.trim_start_matches(['"', '\'']).starts_with("${"))
                else {
                    continue;
                };
                let from = line.len() - value.len();
                source.hide(Span { start: start + from, len: value.trim_end().len(), ..Span::default() });
            }
        }
        // `https://user:password@host`.
        for (at, _) in line.match_indices("://") {
            let authority = line[at + 3..].split(['/', '"', '\'', ' ', ',', '}']).next().unwrap_or_default();
            if let Some(end) = authority.rfind('@') {
                source.hide(Span { start: start + at + 3, len: end, ..Span::default() });
            }
        }
        start += line.len();
    }
    if let Some(root) = root {
        owners(root, false, source);
    }
}

/// Values under `headers` and `env`, whatever the owner called them.
fn owners(node: &Node, secret: bool, source: &mut Source) {
    match &node.kind {
        Kind::Scalar(scalar) if secret && !scalar.expanded() => source.hide(node.span),
        Kind::Scalar(_) => {}
        Kind::Seq(items) => items.iter().for_each(|item| owners(item, secret, source)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                owners(value, secret || matches!(key.name.as_str(), "headers" | "env"), source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem;

    #[test]
    fn secrets_are_starred_and_what_the_environment_gives_is_shown() {
        for (line, shown) in [
            ("token: hunter2", "token: *******"),
            ("mcp: { a: { \"token\": 'hunter2', url: x } }", "mcp: { a: { \"token\": ********** **** * * *"),
            ("token: \"${TOKEN}\"", "token: \"${TOKEN}\""),
            ("password : hunter2 # mine", "password : ******* * ****"),
            ("url: https://me:hunter2@example.com/x", "url: https://**********@example.com/x"),
            ("say: a token for you", "say: a token for you"),
        ] {
            let mut source = Source::new("a.yaml", line);
            hide(&mut source, line, None);
            let span = Span { start: 0, len: 1, line: 1, column: 1 };
            let plain = problem::plain(&[source.error(span, "x", "y")]);
            assert!(plain.contains(&format!("1 | {shown}\n")), "{line}: {plain}");
        }
    }
}
