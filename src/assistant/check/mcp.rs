//! The servers in `mcp`: where each is, how to log in, and what the model may do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::tools::{near, secret};
use super::{Check, empty};
use crate::assistant::plan::{AskFirst, Hosted, Reach, Rule, Server};
use crate::assistant::toolbox::{Function, GoesTo, Home, McpServer, Off, ToolRule};
use crate::assistant::vocabulary::{APPROVALS, VIAS, Via};
use crate::assistant::written::Fields;
use crate::problem::catalogue::Tool;
use crate::problem::{self, Span};
use crate::provider::Provider;
use crate::secret::{self, Secret};
use crate::yaml::{Key, Kind, Node, secrets};

/// Servers in one file.
const MOST: usize = 64;
/// Headers that belong to the protocol.
const RESERVED: [&str; 11] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
];

/// A tool of a server that has rules, but is not in the server's `allow`.
pub(super) struct Unused {
    span: Span,
    server: String,
    tool: String,
}

/// How to log in.
struct Login {
    /// An access token, without `Bearer`.
    token: Option<Secret>,
    /// The value of the header `authorization`, made of `user` and `password`.
    basic: Option<Secret>,
    headers: Vec<(String, Secret)>,
}

impl<'a> Check<'a> {
    pub(super) fn mcp(&self, top: &Fields<'a>, provider: &Provider) -> (Vec<McpServer>, Vec<Unused>) {
        let (mut servers, mut unused) = (Vec::new(), Vec::new());
        let entries = self.entries(top, "mcp");
        if let Some((key, _)) = entries.get(MOST) {
            self.written.problem(key.span, Tool::TooManyServers { most: MOST });
        }
        for (key, node) in entries.into_iter().take(MOST) {
            let Some(map) = self.written.map(node, &key.name) else { continue };
            servers.push(self.server(key, &map, provider, &mut unused));
            map.finish();
        }
        (servers, unused)
    }

    fn server(
        &self,
        key: &'a Key,
        map: &Fields<'a>,
        provider: &Provider,
        unused: &mut Vec<Unused>,
    ) -> McpServer {
        let w = self.written;
        let via = map.word("via", VIAS).unwrap_or(Via::Runtime);
        let url = map.take("url");
        let command = map.take("command").filter(|node| !empty(node));
        if !map.has("url") && !map.has("command") {
            w.problem(key.span, Tool::ServerWithoutPlace { name: problem::shown(&key.name) });
        }
        if let (Some(_), Some(command)) = (url, command) {
            w.problem(command.span, Tool::UrlAndCommand);
        }
        let address = url.and_then(|node| {
            self.literal_within(node);
            self.address(node, "url")
        });
        if via == Via::Provider {
            if let (Some(node), Some(address)) = (url, &address)
                && (address.scheme() != "https" || near(address))
            {
                w.problem(node.span, Tool::ProviderNeedsPublicUrl);
            }
            if let Some(node) = command {
                w.problem(node.span, Tool::ProviderNeedsUrl);
            }
            if let Some(node) = map.take("via")
                && !provider.hosts_mcp()
            {
                w.problem(node.span, Tool::ProviderUnsupported { provider: provider.name.clone() });
            }
        }
        let program = command.and_then(|node| self.command(node));
        let env = self.texts(map, "env");
        env.iter().for_each(|(name, node, _)| self.literal(&name.name, node));
        let login = self.login(map, url.is_some());
        match (map.has("url"), map.has("command")) {
            (true, false) => self.no_effect(map, &["env"], "url"),
            (false, true) => self.no_effect(map, &["token", "user", "password", "headers"], "command"),
            // With both, one is empty and may be set later.
            _ => {}
        }
        let approval = self.approval(map);
        let timing = self.timing(map);
        let rule = Rule { ask_first: false, ..timing.over(Rule::default()) };
        match via {
            Via::Runtime => self.filler(map, &timing, rule.timeout),
            Via::Provider => self.no_timing(map),
        }
        let allow = map.take("allow").map(|node| self.tool_names(node, "allow"));
        let tools = self.tools(map, via, rule.timeout);
        if let Some(allow) = &allow {
            unused.extend(self.not_allowed(key, map, allow, &approval));
        }
        let instructions = self.template(map, "instructions");
        let name = key.name.clone();
        let home = match (via, address, program) {
            (Via::Runtime, Some(url), _) => {
                let reach = Reach::Url { url: url.into(), headers: login.headers() };
                Home::Runtime(Arc::new(Server { name: name.clone(), reach }))
            }
            (Via::Runtime, None, Some((command, secrets))) => {
                let reach = Reach::Command { command, env: secret(env), secrets };
                Home::Runtime(Arc::new(Server { name: name.clone(), reach }))
            }
            (Via::Provider, Some(url), _) => {
                let ask_first = self.asked_by_host(key, &approval, &tools, allow.as_deref());
                let (authorization, headers) = login.for_host();
                let (label, url, allowed) = (name.clone(), url.into(), allow.clone());
                Home::Provider(Box::new(Hosted { label, url, authorization, headers, allowed, ask_first }))
            }
            _ if map.has("url") => Home::Off(Off::Empty("`url`")),
            _ => Home::Off(Off::Empty("`command`")),
        };
        McpServer { name, home, allow, approval, rule, tools, instructions }
    }

    /// The program with its arguments, and the values in them that come from the environment. `None` if the program is
    /// empty.
    fn command(&self, node: &'a Node) -> Option<(Vec<String>, Vec<Secret>)> {
        let w = self.written;
        if node.scalar().is_some_and(|scalar| scalar.text().trim().contains(char::is_whitespace)) {
            w.problem(node.span, Tool::CommandNotList);
        }
        let parts = w.list(node, "command");
        if parts.first().is_some_and(|first| first.is_null()) {
            return None;
        }
        let arguments = parts.iter().skip(1).filter_map(|part| Some((*part, part.scalar()?)));
        let mut before = None;
        for (node, scalar) in arguments {
            match before.and_then(|option| secrets::literal_after(option, scalar)) {
                Some(name) => self.secret(&name, node),
                None => self.literal_within(node),
            }
            before = Some(scalar.text());
        }
        let parts = parts.into_iter().filter(|part| !part.is_null());
        let scalars = parts.clone().filter_map(|part: &Node| part.scalar());
        let secrets = scalars.flat_map(|scalar| scalar.inserted()).map(Secret::new).collect();
        Some((parts.filter_map(|part| w.text(part, "command")).collect(), secrets))
    }

    fn tool_names(&self, node: &'a Node, key: &str) -> Vec<String> {
        self.names(node, key).into_iter().map(|(_, name)| name).collect()
    }

    /// Rules for single tools.
    fn tools(&self, map: &Fields<'a>, via: Via, timeout: Duration) -> BTreeMap<String, ToolRule> {
        let mut tools = BTreeMap::new();
        let own = map.map("tools");
        for (tool, node) in own.iter().flat_map(|own| own.all()) {
            let Some(options) = self.written.map(node, &tool.name) else { continue };
            let rule = ToolRule { fixed: self.fixed(&options), ..self.rule(&options) };
            if via == Via::Provider {
                if let Some(node) = options.take("fixed").filter(|_| !rule.fixed.is_empty()) {
                    self.written.problem(node.span, Tool::FixedNeedsRuntime);
                }
                self.no_timing(&options);
                self.no_effect(&options, &["max_per_call"], "via: provider");
            } else {
                self.filler(&options, &rule, rule.timeout.unwrap_or(timeout));
            }
            options.finish();
            tools.insert(tool.name.clone(), rule);
        }
        tools
    }

    /// Tools that have rules and are not allowed.
    fn not_allowed(
        &self,
        key: &Key,
        map: &Fields<'a>,
        allow: &[String],
        approval: &AskFirst,
    ) -> impl Iterator<Item = Unused> {
        let mut named: Vec<(Span, String)> = Vec::new();
        if let Some(Kind::Map(entries)) = map.take("tools").map(|node| &node.kind) {
            named.extend(entries.iter().map(|(tool, _)| (tool.span, tool.name.clone())));
        }
        if let (AskFirst::Of(names), Some(node)) = (approval, map.take("approval")) {
            named.extend(names.iter().map(|name| (node.span, name.clone())));
        }
        named.retain(|(_, tool)| !allow.contains(tool));
        let server = key.name.clone();
        named.into_iter().map(move |(span, tool)| Unused { span, server: server.clone(), tool })
    }

    /// Warns about tools that have rules, but that neither the model nor a function can use.
    pub(super) fn unused(&self, unused: Vec<Unused>, functions: &[Function]) {
        for Unused { span, server, tool } in unused {
            let used = functions.iter().any(|function| {
                matches!(&function.goes_to, GoesTo::Mcp { server: s, tool: t, .. } if *s == server && *t == tool)
            });
            if !used {
                self.written.problem(span, Tool::NotAllowed { tool: problem::shown(&tool) });
            }
        }
    }

    /// `never`, `always`, or a list of the tools that need a yes.
    fn approval(&self, map: &Fields<'a>) -> AskFirst {
        let Some(node) = map.take("approval") else { return AskFirst::Never };
        if let Kind::Seq(_) = &node.kind {
            return AskFirst::Of(self.tool_names(node, "approval"));
        }
        match self.written.word(node, "approval", APPROVALS) {
            Some(false) => AskFirst::Never,
            Some(true) | None => AskFirst::Always,
        }
    }

    /// Warns about keys that have no effect with another.
    fn no_effect(&self, map: &Fields<'a>, keys: &[&'static str], with: &'static str) {
        let nothing = |node: &&Node| matches!(&node.kind, Kind::Map(entries) if entries.is_empty());
        for key in keys {
            if let Some(node) = map.take(key).filter(|node| !nothing(node)) {
                self.written.problem(node.span, Tool::Unused { key, with });
            }
        }
    }

    fn no_timing(&self, map: &Fields<'a>) {
        self.no_effect(map, &["timeout", "filler_after", "hold", "stop_on_interruption"], "via: provider");
    }

    /// Which tools need a yes, as a model's host takes it.
    fn asked_by_host(
        &self,
        key: &Key,
        approval: &AskFirst,
        tools: &BTreeMap<String, ToolRule>,
        allow: Option<&[String]>,
    ) -> AskFirst {
        let with = |wanted: bool| -> BTreeSet<String> {
            let tools = tools.iter().filter(|(_, rule)| rule.ask_first == Some(wanted));
            tools.map(|(name, _)| name.clone()).collect()
        };
        let (asked, not_asked) = (with(true), with(false));
        let mut names: BTreeSet<String> = match (approval, allow) {
            (AskFirst::Always, _) if not_asked.is_empty() => return AskFirst::Always,
            (AskFirst::Always, Some(allow)) => allow.iter().cloned().collect(),
            (AskFirst::Always, None) => {
                self.written.problem(key.span, Tool::ApprovalNeedsAllow);
                return AskFirst::Always;
            }
            (AskFirst::Never, _) => BTreeSet::new(),
            (AskFirst::Of(names), _) => names.iter().cloned().collect(),
        };
        names.extend(asked);
        names.retain(|name| !not_asked.contains(name));
        match names.is_empty() {
            true => AskFirst::Never,
            false => AskFirst::Of(names.into_iter().collect()),
        }
    }

    /// `token`, `user` and `password`, or `headers`. What belongs together is judged only if there is a `url`.
    fn login(&self, map: &Fields<'a>, judged: bool) -> Login {
        let w = self.written;
        let credential = |key: &'static str| {
            let node = map.take(key)?;
            let text = w.text(node, key)?.trim().to_owned();
            if key != "user" {
                self.literal(key, node);
            }
            if text.is_empty() {
                w.problem(node.span, Tool::CredentialEmpty { key });
                return None;
            }
            if text.chars().any(char::is_control) {
                w.problem(node.span, Tool::CredentialLineBreak { key });
            }
            if let ("token", Some(scheme)) = (key, secret::scheme(&text)) {
                w.problem(node.span, Tool::TokenWithScheme { scheme });
            }
            Some((node, text))
        };
        let (token, user, password) = (credential("token"), credential("user"), credential("password"));
        // A user may have a default: without a value for the password, nobody logs in.
        let user = user.filter(|_| password.is_some() || !map.has("password"));
        let headers = self.headers(map, &RESERVED);
        let header = headers.iter().find(|(key, _, _)| key.name.eq_ignore_ascii_case("authorization"));
        let nodes = [header.map(|(_, node, _)| *node), token.as_ref().map(|(node, _)| *node)];
        let nodes =
            nodes.into_iter().flatten().chain(user.as_ref().or(password.as_ref()).map(|(node, _)| *node));
        let nodes: Vec<&Node> = nodes.collect();
        if judged && nodes.len() > 1 {
            w.problem(nodes[0].span, Tool::CredentialsTwice);
        }
        let (given, missing) = ("user", "password");
        match (&user, &password) {
            _ if !judged => {}
            (Some((node, user)), Some(_)) if user.contains(':') => w.problem(node.span, Tool::UserWithColon),
            (Some((node, _)), None) => w.problem(node.span, Tool::CredentialMissing { given, missing }),
            (None, Some((node, _))) => {
                w.problem(node.span, Tool::CredentialMissing { given: missing, missing: given });
            }
            _ => {}
        }
        let basic = user.zip(password).map(|((_, user), (_, password))| {
            Secret::new(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
        });
        Login { token: token.map(|(_, token)| Secret::new(token)), basic, headers: secret(headers) }
    }
}

impl Login {
    /// The headers of every request, in lower case.
    fn headers(self) -> Vec<(String, Secret)> {
        let bearer = self.token.map(|token| Secret::new(format!("Bearer {}", token.expose())));
        let login = bearer.or(self.basic).map(|value| ("authorization".to_owned(), value));
        let own = self.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        login.into_iter().chain(own).collect()
    }

    /// The same as a model's host takes it: with the bare token apart.
    fn for_host(self) -> (Option<Secret>, Vec<(String, Secret)>) {
        match self.token {
            Some(token) => (Some(token), self.headers),
            None => (None, self.headers()),
        }
    }
}
