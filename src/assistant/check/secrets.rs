//! Hides the secrets in an assistant's file from everything that shows the file.

use crate::problem::{Source, Span};
use crate::yaml::{Kind, Node, secrets};

/// The keys of a server in `mcp`, of a function and its `http`, and of what reaches the owner whose values are shown unless
/// they look like a secret. Any other key may be a misspelled secret.
const KNOWN: [&str; 33] = [
    "via",
    "url",
    "user",
    "allow",
    "approval",
    "max_per_call",
    "timeout",
    "filler_after",
    "tools",
    "instructions",
    "description",
    "parameters",
    "mcp",
    "http",
    "stop_on_interruption",
    "server",
    "tool",
    "method",
    "body",
    "success",
    "answer",
    "command",
    "env",
    "headers",
    "fixed",
    "fields",
    "to",
    "email",
    "sms",
    "webhook",
    "file",
    "when",
    "summary",
];

/// Masks every secret in the text that problems show, also in a file that is not valid YAML.
pub fn hide(source: &mut Source, text: &str, root: Option<&Node>) {
    let owners = |name: &str| matches!(name, "headers" | "env");
    let mut hidden = match root {
        Some(_) => secrets::lines(text, false, &secrets::named),
        None => secrets::lines(text, true, &|name| secrets::named(name) || owners(name)),
    };
    if let Some(root) = root {
        secrets::values(root, false, &|name| secrets::named(name) || owners(name), &mut hidden);
        for (key, node) in entries(root) {
            if key == "mcp" || key == "functions" {
                entries(node).for_each(|(_, tools)| tool(tools, &mut hidden));
            }
            if key == "call_control" {
                let messages = entries(node).filter(|(key, _)| *key == "take_message");
                messages.for_each(|(_, messages)| tool(messages, &mut hidden));
            }
            if matches!(key, "notify" | "after_call") {
                tool(node, &mut hidden);
            }
        }
    }
    source.hide(hidden);
}

/// Hides the arguments of a command and the values of unknown keys.
fn tool(node: &Node, hidden: &mut Vec<Span>) {
    for (key, value) in entries(node) {
        if let ("command", Kind::Seq(parts)) = (key, &value.kind) {
            parts.iter().skip(1).for_each(|part| secrets::values(part, true, &secrets::named, hidden));
        }
        let secret = !KNOWN.contains(&key) && secrets::possible(key, value);
        secrets::values(value, secret, &secrets::named, hidden);
        if matches!(key, "http" | "to" | "webhook") {
            tool(value, hidden);
        }
    }
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match &node.kind {
        Kind::Map(entries) => entries.as_slice(),
        Kind::Seq(_) | Kind::Scalar(_) => &[],
    };
    entries.iter().map(|(key, value)| (key.name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::problem;
    use crate::problem::catalogue::Assistant;
    use crate::yaml::{self, SourceFile};

    fn assert_shown(source: &Source, line: &str, shown: &str) {
        let span = Span { start: 0, len: 1, line: 1, column: 1 };
        let plain = problem::plain(&[source.problem(span, Assistant::FileEmpty)]);
        assert!(plain.contains(&format!("1 | {shown}\n")), "{line}: {plain}");
    }

    #[test]
    fn secrets_are_masked_and_variables_are_shown() {
        for (line, shown) in [
            ("token: hunter2", "token: *******"),
            ("mcp: { a: { \"token\": 'hunter2', url: x } }", "mcp: { a: { \"token\": ********** **** * * *"),
            ("token: \"${TOKEN}\"", "token: \"${TOKEN}\""),
            ("token: \"${TOKEN:-hunter2}\"", "token: *******************"),
            ("token: \"${TOKEN:-}\"", "token: \"${TOKEN:-}\""),
            ("password : hunter2 # mine", "password : ******* * ****"),
            ("url: https://me:hunter2@example.com/x", "url: https://**********@example.com/x"),
            ("say: a token for you", "say: a token for you"),
            ("a: { token: \"${TOKEN}\", url: x }", "a: { token: \"${TOKEN}\", url: x }"),
            ("a: { token: \"${TOKEN}\", key: hunter2 }", "a: { token: \"${TOKEN}\", key: ******* *"),
            ("# token: hunter2, b: c", "# token: ******** ** *"),
        ] {
            let mut source = Source::new("a.yaml", line);
            hide(&mut source, line, None);
            assert_shown(&source, line, shown);
        }
    }

    /// A number says what is wrong with it, and a key's own name says whether it is a secret.
    #[test]
    fn numbers_and_switches_are_shown_in_tools() {
        for (line, shown) in [
            ("mcp: { a: { max_per_call: 5000, apprval: true } }", None),
            ("functions: { a: { max_per_cal: 5000, timout: -1.5 } }", None),
            ("call_control: { take_message: { max_fields: 5 } }", None),
            ("notify: { to: { email: a@example.com, file: b.jsonl }, when: always }", None),
            ("notify: { to: { webhok: hunter2 } }", Some("notify: { to: { webhok: ******* } }")),
            (
                "after_call: { webhook: { url: x, sign: hunter2 } }",
                Some("after_call: { webhook: { url: x, sign: ******* } }"),
            ),
            ("mcp: { a: { tokn: 1234 } }", Some("mcp: { a: { tokn: **** * *")),
            ("mcp: { a: { env: { A: 1234 } } }", Some("mcp: { a: { env: { A: **** } } }")),
            ("mcp: { a: { bear: hunter2 } }", Some("mcp: { a: { bear: ******* } }")),
            ("mcp: { a: { number: +15550100001 } }", Some("mcp: { a: { number: +1555*****01 } }")),
        ] {
            let document = yaml::read(&SourceFile::new("a.yaml", line), &BTreeMap::new());
            let mut source = document.source;
            hide(&mut source, line, document.root.as_ref());
            assert_shown(&source, line, shown.unwrap_or(line));
        }
    }
}
