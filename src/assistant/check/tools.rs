//! What the keys about tools have in common: their names, rules, headers and addresses.

use std::ops::RangeInclusive;
use std::time::Duration;

use url::{Host, Url};

use super::{Check, Text};
use crate::assistant::prompt;
use crate::assistant::toolbox::{ToolRule, Toolbox};
use crate::assistant::values;
use crate::assistant::written::{Fields, spell};
use crate::problem;
use crate::provider::Provider;
use crate::secret::Secret;
use crate::yaml::{Key, Kind, Node, Scalar, secrets};

/// How long one use of a tool may take.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// After how long the caller is told to wait.
const FILLER: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(60);
/// What to do with a secret that stands in the file.
const OUT_OF_THE_FILE: &str = "put it into the environment, and write \"${NAME}\" with its name there";

impl<'a> Check<'a> {
    pub(super) fn toolbox(
        &self,
        top: &Fields<'a>,
        provider: &Provider,
        examiner: &prompt::Examiner,
        texts: &mut Vec<Text<'a>>,
    ) -> Toolbox {
        let control = self.call_control(top);
        let mut unused = Vec::new();
        let servers = self.mcp(top, provider, texts, &mut unused);
        let functions = self.functions(top, &servers, examiner);
        unused.iter().for_each(|unused| unused.warn(self.written, &functions));
        Toolbox { servers, functions, control }
    }

    /// `approval: never` or `always`, `timeout`, `filler_after` and `stop_on_interruption`.
    pub(super) fn rule(&self, map: &Fields<'a>) -> ToolRule {
        let ask_first = map.take("approval").and_then(|node| self.asked_first(node));
        ToolRule { ask_first, ..self.patience(map) }
    }

    /// The same without `approval`.
    pub(super) fn patience(&self, map: &Fields<'a>) -> ToolRule {
        let w = self.written;
        ToolRule {
            timeout: map.take("timeout").and_then(|node| w.duration(node, "timeout", TIMEOUT)),
            filler_after: map.take("filler_after").and_then(|node| w.duration(node, "filler_after", FILLER)),
            stop_on_interruption: map
                .take("stop_on_interruption")
                .and_then(|node| w.bool(node, "stop_on_interruption")),
            ..ToolRule::default()
        }
    }

    /// `never` or `always`, as a flag.
    pub(super) fn asked_first(&self, node: &Node) -> Option<bool> {
        let w = self.written;
        let words = [("never", false), ("always", true)];
        let help = match node.scalar().map(|scalar| scalar.text().trim()) {
            None => "write approval: always; a list of tools stands in a server's own `approval`",
            Some("true" | "True" | "yes" | "on") => "write approval: always",
            Some("false" | "False" | "no" | "off") => "write approval: never",
            Some(_) => return w.one_of(node, "approval", &words),
        };
        let found = match node.scalar() {
            Some(scalar) => format!("; `{}` is not", scalar.shown()),
            None => format!(", and this is {}", node.what()),
        };
        let message = format!("`approval` must be `never` or `always`{found}");
        w.error_help(node.span, "word", message, help);
        None
    }

    /// Warns of a `filler_after` that never comes, where a tool may take `timeout` at most.
    pub(super) fn filler(&self, map: &Fields<'a>, rule: &ToolRule, timeout: Duration) {
        if let (Some(filler), Some(node)) = (rule.filler_after, map.take("filler_after"))
            && filler >= timeout
        {
            let limit = spell(timeout);
            let message =
                format!("`filler_after` is not shorter than `timeout` ({limit}), so nothing is ever said");
            self.written.warning(node.span, "tool.filler", message, "make it shorter, or leave it out");
        }
    }

    /// A list of names, or one name; each with its place.
    pub(super) fn names(&self, node: &'a Node, name: &str, example: &str) -> Vec<(&'a Node, String)> {
        let w = self.written;
        let mut names = Vec::new();
        for item in w.list(node, name).into_iter().filter(|item| !item.is_null()) {
            let scalar = item.scalar().filter(|scalar| scalar.bool().is_none() && scalar.number().is_none());
            if scalar.is_none() {
                let message = format!("`{name}` is a list of names, and this is {}", item.what());
                let help = match item.scalar().and_then(Scalar::bool).filter(|_| name == "allow") {
                    Some(true) => format!("leave it out to allow all tools, or write allow: {example}"),
                    Some(false) => "write allow: [] to allow none".to_owned(),
                    None if item.scalar().is_some() => {
                        format!("write {name}: {example}; a name that looks like this needs quotes")
                    }
                    None => format!("write {name}: {example}"),
                };
                w.error_help(item.span, "type.names", message, help);
                continue;
            }
            let Some(text) = w.text(item, name) else { continue };
            let text = text.trim();
            // In place of a list, a name of a tool with a space is two.
            let several =
                text.contains(',') || (name == "allow" && std::ptr::eq(item, node) && text.contains(' '));
            let shown = scalar.map(Scalar::shown).unwrap_or_default();
            let (message, help) = match text {
                "" => (format!("a name in `{name}` is empty"), "take it out".to_owned()),
                "*" if name == "allow" => {
                    ("`*` is no name of a tool".to_owned(), "leave `allow` out to allow all tools".to_owned())
                }
                _ if several => (
                    format!("`{shown}` is no name"),
                    format!("write several names as a list: {name}: {example}"),
                ),
                _ => {
                    names.push((item, text.to_owned()));
                    continue;
                }
            };
            w.error_help(item.span, "type.names", message, help);
        }
        names
    }

    /// Arguments that the owner gives: those that hold something.
    pub(super) fn fixed(&self, map: &Fields<'a>) -> serde_json::Map<String, serde_json::Value> {
        let example = "fixed: { project: inbox }";
        let fixed = map.take("fixed").and_then(|node| self.written.map(node, "fixed", example));
        let entries = fixed.iter().flat_map(|fixed| fixed.all()).filter(|(_, node)| !node.is_null());
        entries.map(|(key, node)| (key.name.clone(), values::json(node))).collect()
    }

    /// An address that begins with `http://` or `https://` and holds no login; `None` where it is none.
    pub(super) fn address(&self, node: &Node, name: &str) -> Option<Url> {
        let w = self.written;
        let text = w.text(node, name)?;
        let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url.filter(Url::has_host) else {
            // The value is not quoted: it may hold a password.
            let message = format!("`{name}` is not the address of a server");
            w.error_help(node.span, "url.invalid", message, "it starts with https:// or http://");
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() {
            let message = "an address holds no user name and no password";
            w.error_help(
                node.span,
                "url.invalid",
                message,
                "write them into `user` and `password`, or `headers`",
            );
            return None;
        }
        Some(url)
    }

    /// Headers under the owner's own names. Those in `ours` are set by the program.
    pub(super) fn headers(
        &self,
        map: &Fields<'a>,
        ours: &[&str],
        example: &str,
    ) -> Vec<(&'a Key, &'a Node, String)> {
        let w = self.written;
        let headers = self.texts(map, "headers", example);
        for (key, node, value) in &headers {
            let name = key.name.to_ascii_lowercase();
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(token) {
                let message = format!("`{}` cannot be the name of a header", problem::shown(&key.name));
                w.error_help(
                    key.span,
                    "header.name",
                    message,
                    "use letters, digits and -, such as X-Api-Key",
                );
            } else if ours.contains(&name.as_str()) {
                let message = format!("the header `{}` is set by the program", problem::shown(&key.name));
                w.error_help(key.span, "header.name", message, "leave it out");
            }
            if value.trim().chars().any(char::is_control) {
                let message = format!("the header `{}` holds a line break", problem::shown(&key.name));
                w.error_help(node.span, "header.value", message, "write it in one line");
            }
            self.literal(&key.name, node);
        }
        headers
    }

    /// A map of texts under the owner's own keys, without the empty ones.
    pub(super) fn texts(
        &self,
        map: &Fields<'a>,
        name: &'static str,
        example: &str,
    ) -> Vec<(&'a Key, &'a Node, String)> {
        let texts = map.take(name).and_then(|node| self.written.map(node, name, example));
        let entries = texts.iter().flat_map(|texts| texts.all()).filter(|(_, node)| !node.is_null());
        entries.filter_map(|(key, node)| Some((key, node, self.written.text(node, name)?))).collect()
    }

    /// Warns where a value that is a secret by its name stands in the file.
    pub(super) fn literal(&self, name: &str, node: &Node) {
        if secrets::named(name) && node.scalar().is_some_and(secrets::literal) {
            let message = format!("`{}` is a secret, and stands in the file", problem::shown(name));
            self.written.warning(node.span, "secret.literal", message, OUT_OF_THE_FILE);
        }
    }

    /// Warns where a secret stands in the query of an address, or in an argument of a program.
    pub(super) fn literal_within(&self, name: &str, node: &Node) {
        if let Some(secret) = node.scalar().and_then(secrets::literal_within) {
            self.secret_within(name, &secret, node);
        }
    }

    pub(super) fn secret_within(&self, name: &str, secret: &str, node: &Node) {
        let message = format!("`{}` in `{name}` is a secret, and stands in the file", problem::shown(secret));
        self.written.warning(node.span, "secret.literal", message, OUT_OF_THE_FILE);
    }

    /// The entries of a map under names that the model will read.
    pub(super) fn entries(
        &self,
        map: &Fields<'a>,
        name: &'static str,
        example: &str,
    ) -> Vec<(&'a Key, &'a Node)> {
        let Some(node) =
            map.take(name).filter(|node| !matches!(&node.kind, Kind::Seq(items) if items.is_empty()))
        else {
            return Vec::new();
        };
        let Some(entries) = self.written.map(node, name, example) else { return Vec::new() };
        let mut named = Vec::new();
        for (key, node) in entries.all() {
            let fits = (1..=64).contains(&key.name.len())
                && key.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !fits {
                let message = format!("`{}` cannot be a name in `{name}`", problem::shown(&key.name));
                let help = "use letters, digits, - and _, at most 64 of them";
                self.written.error_help(key.span, "tool.name", message, help);
            }
            named.push((key, node));
        }
        named
    }
}

/// Values as they are kept.
pub(super) fn secret(texts: Vec<(&Key, &Node, String)>) -> Vec<(String, Secret)> {
    texts.into_iter().map(|(key, _, value)| (key.name.clone(), Secret::new(value.trim()))).collect()
}

/// Whether an address is one that only machines near this one reach.
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
