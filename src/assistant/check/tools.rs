//! What the keys about tools have in common: their names, rules, headers and addresses.

use std::time::Duration;

use url::{Host, Url};

use super::Check;
use crate::assistant::prompt;
use crate::assistant::toolbox::{ToolRule, Toolbox};
use crate::assistant::values;
use crate::assistant::vocabulary::{APPROVALS, FILLER, MAX_PER_CALL, TIMEOUT};
use crate::assistant::written::{Fields, shown};
use crate::duration::spell;
use crate::problem;
use crate::problem::catalogue::{Assistant, File, Tool};
use crate::provider::Provider;
use crate::secret::{self, Secret};
use crate::yaml::{Key, Kind, MISSING, Node, Scalar, secrets};

/// A text under a key of the owner's choice.
pub(super) type Text<'a> = (&'a Key, &'a Node, String);

impl<'a> Check<'a> {
    pub(super) fn toolbox(
        &self,
        top: &Fields<'a>,
        provider: &Provider,
        examiner: &prompt::Examiner,
    ) -> Toolbox {
        let control = self.call_control(top);
        let (servers, unused) = self.mcp(top, provider);
        let functions = self.functions(top, &servers, examiner);
        self.unused(unused, &functions);
        Toolbox { servers, functions, control }
    }

    /// `approval: never` or `always`, `max_per_call`, `timeout`, `filler_after`, `hold` and `stop_on_interruption`.
    pub(super) fn rule(&self, map: &Fields<'a>) -> ToolRule {
        let ask_first = map.word("approval", APPROVALS);
        let max_per_call = map.count("max_per_call", &MAX_PER_CALL);
        ToolRule { ask_first, max_per_call, ..self.timing(map) }
    }

    /// The same without `approval` and `max_per_call`.
    pub(super) fn timing(&self, map: &Fields<'a>) -> ToolRule {
        ToolRule {
            timeout: map.duration("timeout", &TIMEOUT),
            filler_after: map.duration("filler_after", &FILLER),
            stop_on_interruption: map.bool("stop_on_interruption"),
            hold: self.hold(map),
            ..ToolRule::default()
        }
    }

    /// Warns about a `filler_after` that the `timeout` always precedes.
    pub(super) fn filler(&self, map: &Fields<'a>, rule: &ToolRule, timeout: Duration) {
        if let Some(node) =
            map.take("filler_after").filter(|_| rule.filler_after.is_some_and(|filler| filler >= timeout))
        {
            self.written.problem(node.span, Tool::FillerTooLate { timeout: spell(timeout) });
        }
    }

    /// A list of names, or one name; each with its place.
    pub(super) fn names(&self, node: &'a Node, key: &str) -> Vec<(&'a Node, String)> {
        let w = self.written;
        let mut names = Vec::new();
        for item in w.list(node, key).into_iter().filter(|item| !item.is_null()) {
            let scalar = item.scalar();
            let text = scalar.map(|scalar| scalar.text().trim()).unwrap_or_default();
            let flag = scalar.and_then(|scalar| scalar.bool());
            let number = scalar.and_then(|scalar| scalar.number());
            // In place of a list, `add-tasks find-tasks` is two names.
            let several =
                text.contains(',') || (key == "allow" && std::ptr::eq(item, node) && text.contains(' '));
            if text.contains(MISSING) {
                continue;
            } else if key == "allow" && (flag.is_some() || text == "*") {
                w.problem(item.span, Assistant::AllowEvery { value: shown(item) });
            } else if text.is_empty() || several || flag.is_some() || number.is_some() {
                w.problem(item.span, Assistant::Name { key: key.to_owned(), value: shown(item) });
            } else {
                names.push((item, text.to_owned()));
            }
        }
        names
    }

    /// Arguments that the owner gives, without the empty ones.
    pub(super) fn fixed(&self, map: &Fields<'a>) -> serde_json::Map<String, serde_json::Value> {
        let fixed = map.map("fixed");
        let entries = fixed.iter().flat_map(|fixed| fixed.all()).filter(|(_, node)| !node.is_null());
        entries.map(|(key, node)| (key.name.clone(), values::json(node))).collect()
    }

    /// An address that starts with `http://` or `https://` and contains no login.
    pub(super) fn address(&self, node: &Node, key: &str) -> Option<Url> {
        self.parsed_address(node, key, &self.written.text(node, key)?)
    }

    pub(super) fn parsed_address(&self, node: &Node, key: &str, text: &str) -> Option<Url> {
        let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.filter(Url::has_host);
        match &url {
            // The value is not quoted: it may contain a password.
            None => self.written.problem(node.span, Tool::Url { key: key.to_owned() }),
            Some(url) if !url.username().is_empty() || url.password().is_some() => {
                self.written.problem(node.span, Tool::UrlLogin);
                return None;
            }
            Some(_) => {}
        }
        url
    }

    /// Headers under the owner's own names. The program sets those in `reserved` itself.
    pub(super) fn headers(&self, map: &Fields<'a>, reserved: &[&str]) -> Vec<Text<'a>> {
        let w = self.written;
        let headers = self.texts(map, "headers");
        for (key, node, value) in &headers {
            let name = key.name.to_ascii_lowercase();
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                w.problem(key.span, Tool::HeaderName { name: problem::shown(&key.name) });
            } else if reserved.contains(&name.as_str()) {
                w.problem(key.span, Tool::HeaderReserved { name: problem::shown(&key.name) });
            }
            if value.trim().chars().any(char::is_control) {
                w.problem(node.span, Tool::HeaderLineBreak { name: problem::shown(&key.name) });
            }
            let behind = secret::scheme(value).and_then(|_| value.trim().split_once(char::is_whitespace));
            if let Some(scheme) = behind.and_then(|(_, rest)| secret::scheme(rest)) {
                w.problem(node.span, Tool::TokenWithScheme { scheme });
            }
            self.literal(&key.name, node);
        }
        headers
    }

    /// A map of texts under the owner's own keys, without the empty ones.
    pub(super) fn texts(&self, map: &Fields<'a>, key: &'static str) -> Vec<Text<'a>> {
        let texts = map.map(key);
        let entries = texts.iter().flat_map(|texts| texts.all()).filter(|(_, node)| !node.is_null());
        entries.filter_map(|(name, node)| Some((name, node, self.written.text(node, &name.name)?))).collect()
    }

    /// Warns about a secret, judged by its name, that is written in the file, and about quotes around it.
    pub(super) fn literal(&self, name: &str, node: &Node) {
        // Other values, such as an ETag, may have quotes.
        if secrets::named(name) && node.scalar().is_some_and(Scalar::quoted_within) {
            self.written.problem(node.span, File::ValueQuoted { key: problem::shown(name) });
        }
        if secrets::named(name) && node.scalar().is_some_and(secrets::literal) {
            self.secret(name, node);
        }
    }

    /// Warns about a secret in the query of an address, or in an argument of a program.
    pub(super) fn literal_within(&self, node: &Node) {
        if let Some(name) = node.scalar().and_then(secrets::literal_within) {
            self.secret(&name, node);
        }
    }

    pub(super) fn secret(&self, name: &str, node: &Node) {
        self.secrets.borrow_mut().push(node.span);
        self.written.problem(node.span, Tool::SecretLiteral { name: problem::shown(name) });
    }

    /// The entries of a map under names that the model reads.
    pub(super) fn entries(&self, map: &Fields<'a>, key: &'static str) -> Vec<(&'a Key, &'a Node)> {
        let none = |node: &&Node| matches!(&node.kind, Kind::Seq(items) if items.is_empty());
        let Some(node) = map.take(key).filter(|node| !none(node)) else { return Vec::new() };
        let Some(entries) = self.written.map(node, key) else { return Vec::new() };
        let entries: Vec<_> = entries.all().collect();
        for (name, _) in &entries {
            let fits = (1..=64).contains(&name.name.len())
                && name.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !fits {
                self.written.problem(name.span, Tool::Name { name: problem::shown(&name.name), key });
            }
        }
        entries
    }
}

/// Values as they are kept.
pub(super) fn secret(texts: Vec<Text<'_>>) -> Vec<(String, Secret)> {
    texts.into_iter().map(|(key, _, value)| (key.name.clone(), Secret::new(value.trim()))).collect()
}

/// Whether only machines nearby can reach an address.
pub(super) fn near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let ends = [".internal", ".local", ".localhost", ".flycast", ".lan"];
            name == "localhost" || ends.iter().any(|end| name.ends_with(end))
        }
        Some(Host::Ipv4(address)) => {
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Some(Host::Ipv6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
        None => false,
    }
}
