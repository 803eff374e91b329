//! Where something for the owner goes: the map `to` of `take_message`, of `notify`, and of `alerts` in `switchboard.yaml`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Around, Check, Role};
use crate::assistant::plan::{Mailbox, RecordPolicy, Webhook};
use crate::assistant::written::{Written, shown};
use crate::problem::catalogue::Tool;
use crate::problem::{self, Problem};
use crate::secret::Secret;
use crate::yaml::Node;

/// The shortest key that Standard Webhooks allows, in bytes.
const SHORTEST_KEY: usize = 24;
/// The longest name of a file, in bytes.
const LONGEST_NAME: usize = 100;
/// How the name of a file ends. None of our own files in `STATE_DIR` ends so.
const LINES: &str = ".jsonl";
/// The longest address, as in RFC 5321.
const LONGEST_ADDRESS: usize = 254;
/// The longest part of an address in front of its `@`.
const LONGEST_USER: usize = 64;

/// Reads a `to` of `switchboard.yaml`. What is wrong there is left out.
pub fn mailbox(source: &problem::Source, node: &Node) -> (Mailbox, Vec<Problem>) {
    let written = Written::new(source.clone(), Vec::new());
    let nothing = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let around = Around {
        record: RecordPolicy::DEFAULT,
        environment: &nothing.0,
        providers: &[],
        fragments: &nothing.1,
        greetings: &nothing.2,
        sounds: &nothing.2,
    };
    let check = Check {
        name: "",
        bytes: &[],
        text: "",
        around: &around,
        written: &written,
        numbers: RefCell::default(),
        fragments: RefCell::default(),
        recordings: RefCell::default(),
        claims: RefCell::default(),
        texts: RefCell::default(),
        secrets: RefCell::default(),
    };
    let mailbox = if node.is_null() { None } else { check.mailbox(node) };
    drop(check);
    (mailbox.unwrap_or_default(), written.into_problems())
}

impl Check<'_> {
    /// Every way that is written and not empty.
    pub(super) fn mailbox(&self, node: &Node) -> Option<Mailbox> {
        let map = self.written.map(node, "to")?;
        let mailbox = Mailbox {
            email: map.take("email").and_then(|node| self.email(node)),
            sms: map.take("sms").and_then(|node| self.number(node, "sms", Role::Texts)),
            webhook: map.take("webhook").and_then(|node| self.webhook(node)),
            file: map.take("file").and_then(|node| self.lines(node)),
        };
        map.finish();
        Some(mailbox)
    }

    fn email(&self, node: &Node) -> Option<String> {
        let address = self.written.text(node, "email")?.trim().to_owned();
        if is_address(&address) {
            return Some(address);
        }
        self.written.problem(node.span, Tool::EmailInvalid { value: shown(node) });
        None
    }

    /// The name of a file below `STATE_DIR`.
    fn lines(&self, node: &Node) -> Option<String> {
        let name = self.written.text(node, "file")?.trim().to_owned();
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let stem = name.strip_suffix(LINES).unwrap_or_default();
        let is_plain = name.bytes().all(fits) && stem.starts_with(|c: char| c.is_ascii_alphanumeric());
        if is_plain && name.len() <= LONGEST_NAME {
            return Some(name);
        }
        self.written.problem(node.span, Tool::FileName { value: shown(node) });
        None
    }

    /// An address that gets signed requests.
    pub(super) fn webhook(&self, node: &Node) -> Option<Webhook> {
        let w = self.written;
        let map = w.map(node, "webhook")?;
        if !map.has("url") {
            w.problem(node.span, Tool::WebhookWithoutUrl);
        }
        let url = map.take("url").and_then(|node| {
            self.literal_within(node);
            self.address(node, "url")
        });
        let secret = map.take("secret");
        if let Some(node) = secret {
            self.literal("secret", node);
        } else if url.is_some() {
            w.problem(node.span, Tool::WebhookWithoutSecret);
        }
        let secret = secret.and_then(|node| {
            let secret = w.text(node, "secret")?.trim().to_owned();
            self.signing_secret(node, &secret);
            Some(Secret::new(secret))
        });
        map.finish();
        url.zip(secret).map(|(url, secret)| Webhook { url: url.into(), secret })
    }

    /// Requests are signed as in Standard Webhooks; the receiver verifies them with the same secret.
    fn signing_secret(&self, node: &Node, secret: &str) {
        let what = match secret.strip_prefix("whsec_").map(|key| BASE64_STANDARD.decode(key)) {
            None if !secret.is_empty() => Tool::WebhookSecretUnmarked,
            Some(Ok(key)) if key.len() >= SHORTEST_KEY => return,
            Some(Ok(key)) if !key.is_empty() => Tool::WebhookSecretShort { least: SHORTEST_KEY },
            _ => Tool::WebhookSecretInvalid,
        };
        self.written.problem(node.span, what);
    }
}

/// Whether it is one address of the usual kind: `USER@DOMAIN` in ASCII, without quotes.
fn is_address(text: &str) -> bool {
    let Some((user, domain)) = text.split_once('@') else { return false };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    let atoms = |text: &str, atom: &dyn Fn(u8) -> bool| {
        text.split('.').all(|part| !part.is_empty() && part.bytes().all(atom))
    };
    let label = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let ends = |part: &str| !part.starts_with('-') && !part.ends_with('-') && part.len() < 64;
    text.len() <= LONGEST_ADDRESS
        && user.len() <= LONGEST_USER
        && atoms(user, &atom)
        && atoms(domain, &label)
        && domain.split('.').all(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{self, SourceFile};

    fn read(text: &str) -> (Mailbox, Vec<&'static str>) {
        let document = yaml::read(&SourceFile::new("switchboard.yaml", text), &BTreeMap::new());
        let (mailbox, problems) = mailbox(&document.source, &document.root.unwrap());
        (mailbox, problems.iter().map(Problem::code).collect())
    }

    #[test]
    fn every_way_is_read_and_what_is_wrong_is_left_out() {
        let text = "email: owner@example.com\nsms: \"+15550100099\"\nfile: messages.jsonl\n\
                    webhook: { url: \"https://hooks.example.com/\", secret: hunter2 }\nemial: x\n";
        let (mailbox, codes) = read(text);
        assert_eq!(mailbox.email.as_deref(), Some("owner@example.com"));
        assert_eq!(mailbox.sms.map(|number| number.expose().to_owned()).as_deref(), Some("+15550100099"));
        assert_eq!(mailbox.file.as_deref(), Some("messages.jsonl"));
        assert_eq!(mailbox.webhook.unwrap().url, "https://hooks.example.com/");
        assert_eq!(codes, ["secret.literal", "message.secret", "key.unknown"]);
        let (mailbox, codes) = read("email: owner\nsms: owner\nfile: /etc/passwd\n");
        assert!(mailbox.is_empty());
        assert_eq!(codes, ["message.email", "number.invalid", "message.file"]);
        assert!(read("~").0.is_empty() && read("[a]").1 == ["type.map"]);
    }

    #[test]
    fn an_address_has_one_user_at_one_domain() {
        for (address, is) in [
            ("owner@example.com", true),
            ("o.w-n+er@sub.example.com", true),
            ("owner@localhost", true),
            ("owner", false),
            ("@example.com", false),
            ("owner@", false),
            ("owner@example..com", false),
            ("owner@example.com.", false),
            ("owner@-example.com", false),
            ("a@b@example.com", false),
            ("a b@example.com", false),
            ("a@example.com, b@example.com", false),
            ("Owner <owner@example.com>", false),
            ("owner@example.com\r\nBcc: other@example.com", false),
            ("ownér@example.com", false),
            (&format!("{}@example.com", "a".repeat(65)), false),
        ] {
            assert_eq!(is_address(address), is, "{address:?}");
        }
    }

    #[test]
    fn a_file_is_one_of_lines_and_lies_nowhere_else() {
        for (name, is) in [
            ("messages.jsonl", true),
            ("clinic-2.orders.jsonl", true),
            ("../messages.jsonl", false),
            ("/tmp/messages.jsonl", false),
            ("a/messages.jsonl", false),
            (".hidden.jsonl", false),
            ("..jsonl", false),
            (".jsonl", false),
            ("switchboard.db", false),
            ("messages", false),
            ("messages.json", false),
            ("\"messages\\\\a.jsonl\"", false),
        ] {
            let (mailbox, codes) = read(&format!("file: {name}\n"));
            assert_eq!((mailbox.file.is_some(), codes.is_empty()), (is, is), "{name}");
        }
    }
}
