//! Hides the secrets in an assistant's file from everything that shows the file.

use crate::problem::{Source, Span};
use crate::yaml::{Kind, Node, secrets};

/// The keys of a server in `mcp`, of a function and its `http`, and of `take_message` whose values are shown unless they
/// look like a secret. Any other key may be a misspelled secret.
const KNOWN: [&str; 25] = [
    "via",
    "url",
    "user",
    "allow",
    "approval",
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
        secrets::values(value, !KNOWN.contains(&key), &secrets::named, hidden);
        if key == "http" {
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
    use super::*;
    use crate::problem;
    use crate::problem::catalogue::Assistant;

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
}
