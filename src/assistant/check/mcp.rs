//! The servers in `mcp`: where each is, how to log in, and what the model may do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::tools::{near, secret};
use super::{Check, Text, empty};
use crate::assistant::plan::{AskFirst, Hosted, Reach, Rule, Server};
use crate::assistant::toolbox::{Function, GoesTo, Home, McpServer, ToolRule};
use crate::assistant::written::{Fields, Written};
use crate::problem::{self, Span};
use crate::provider::{Dialect, Provider};
use crate::secret::Secret;
use crate::yaml::{Key, Kind, Node, secrets};

/// Servers in one file.
const MOST: usize = 64;
/// Headers that belong to the protocol.
const OURS: [&str; 11] = [
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

/// A tool of a server that has rules, and that the server's `allow` does not name.
pub(super) struct Unused {
    span: Span,
    server: String,
    tool: String,
}

impl Unused {
    /// Warns of it, unless a function is sent to it.
    pub(super) fn warn(&self, w: &Written, functions: &[Function]) {
        let sent = functions.iter().any(|function| {
            matches!(&function.goes_to, GoesTo::Mcp { server, tool, .. } if *server == self.server && *tool == self.tool)
        });
        if !sent {
            let message = format!("`{}` is not in `allow`, so it is never used", problem::shown(&self.tool));
            w.warning(self.span, "mcp.not_allowed", message, "add it to `allow`, or take it out here");
        }
    }
}

/// Who talks to the server, as written.
#[derive(Clone, Copy, PartialEq)]
enum Via {
    Runtime,
    Provider,
}

/// How to log in.
#[derive(Default)]
struct Login {
    /// An access token, without `Bearer`.
    token: Option<Secret>,
    /// The whole of a header `authorization`, made of `user` and `password`.
    basic: Option<Secret>,
    headers: Vec<(String, Secret)>,
}

impl<'a> Check<'a> {
    pub(super) fn mcp(
        &self,
        top: &Fields<'a>,
        provider: &Provider,
        texts: &mut Vec<Text<'a>>,
        unused: &mut Vec<Unused>,
    ) -> Vec<McpServer> {
        let example = "mcp: { todoist: { url: \"${TODOIST_MCP_URL:-}\" } }";
        let mut servers = Vec::new();
        let entries = self.entries(top, "mcp", example);
        if let Some((key, _)) = entries.get(MOST) {
            let message = format!("there are more than {MOST} servers");
            self.written.error_help(
                key.span,
                "mcp.many",
                message,
                "take some out: no model takes so many tools",
            );
        }
        for (key, node) in entries.into_iter().take(MOST) {
            let Some(map) = self.written.map(node, &key.name, "url: … or command: …") else { continue };
            servers.push(self.server(key, &map, provider, texts, unused));
            map.finish();
        }
        servers
    }

    fn server(
        &self,
        key: &'a Key,
        map: &Fields<'a>,
        provider: &Provider,
        texts: &mut Vec<Text<'a>>,
        unused: &mut Vec<Unused>,
    ) -> McpServer {
        let w = self.written;
        let words = [("runtime", Via::Runtime), ("provider", Via::Provider)];
        let via_node = map.take("via");
        let via = via_node.and_then(|node| w.one_of(node, "via", &words)).unwrap_or(Via::Runtime);
        let url = map.take("url");
        let command = map.take("command").filter(|node| !empty(node));
        if !map.has("url") && !map.has("command") {
            let message = format!("`{}` does not say where its tools are", problem::shown(&key.name));
            let help = "write `url:` with the server's address, or `command:` to start one";
            w.error_help(key.span, "mcp.where", message, help);
        }
        if let (Some(_), Some(command)) = (url, command) {
            let message = "a server has a `url` or a `command`, not both";
            w.error_help(command.span, "mcp.where", message, "take one of the two out");
        }
        if let Some(node) = url {
            self.literal_within("url", node);
        }
        let address = url.and_then(|node| self.address(node, "url").map(|url| (node, url)));
        if let (Some((node, url)), Via::Provider) = (&address, via)
            && (url.scheme() != "https" || near(url))
        {
            let message = "`via: provider` takes a public https:// address: the model's host connects to it";
            w.error_help(node.span, "mcp.via", message, "write `via: runtime` for a private server");
        }
        if let (Some(node), Via::Provider) = (command, via) {
            let message = "`via: provider` takes a `url`: the model's host cannot start a command here";
            w.error_help(node.span, "mcp.via", message, "write `via: runtime`, or a `url`");
        }
        if let (Some(node), Via::Provider) = (via_node, via)
            && !(provider.dialect == Dialect::Ga && provider.abilities.hosted_mcp)
        {
            let message = format!("`{}` does not talk to MCP servers by itself", provider.name);
            let help = match provider.dialect {
                Dialect::Ga => {
                    "write `via: runtime`; where it does all the same, `abilities: { hosted_mcp: true }` for that provider"
                }
                _ => "write `via: runtime`",
            };
            w.error_help(node.span, "mcp.via", message, help);
        }
        let program = command.and_then(|node| self.command(node));
        let env = self.texts(map, "env", "env: { API_KEY: \"${API_KEY}\" }");
        for (name, node, _) in &env {
            self.literal(&name.name, node);
        }
        let login = self.login(map, url.is_some());
        self.elsewhere(map);
        let approval = self.approval(map);
        let general = self.patience(map);
        let allow = map.take("allow").map(|node| self.tool_names(node, "allow"));
        let plain = Rule::default();
        let rule = Rule {
            ask_first: false,
            timeout: general.timeout.unwrap_or(plain.timeout),
            filler_after: general.filler_after.unwrap_or(plain.filler_after),
            stop_on_interruption: general.stop_on_interruption.unwrap_or(plain.stop_on_interruption),
        };
        match via {
            Via::Runtime => self.filler(map, &general, rule.timeout),
            Via::Provider => self.patience_of_host(map),
        }
        let tools = self.tools(map, via, rule.timeout);
        if let Some(allow) = &allow {
            self.unused(key, map, allow, &approval, unused);
        }
        let instructions =
            map.take("instructions").and_then(|node| self.template(node, "instructions", texts));
        let home = match (via, address, program) {
            (Via::Runtime, Some((_, url)), _) => {
                let reach = Reach::Url { url: url.into(), headers: login.headers() };
                Home::Runtime(Arc::new(Server { name: key.name.clone(), reach }))
            }
            (Via::Runtime, None, Some((command, secrets))) => {
                let reach = Reach::Command { command, env: secret(env), secrets };
                Home::Runtime(Arc::new(Server { name: key.name.clone(), reach }))
            }
            (Via::Provider, Some((_, url)), _) => {
                let ask_first = self.asked_of_host(key, &approval, &tools, allow.as_deref());
                let (authorization, headers) = login.of_host();
                let (label, url, allowed) = (key.name.clone(), url.into(), allow.clone());
                Home::Provider(Box::new(Hosted { label, url, authorization, headers, allowed, ask_first }))
            }
            _ if map.has("url") => Home::Off("its `url` is empty"),
            _ => Home::Off("its `command` is empty"),
        };
        McpServer { name: key.name.clone(), home, allow, approval, rule, tools, instructions }
    }

    /// The program and its arguments, and what came into them from the environment; `None` where no program is named.
    fn command(&self, node: &'a Node) -> Option<(Vec<String>, Vec<Secret>)> {
        let w = self.written;
        if let Some(text) = node.scalar().map(|scalar| scalar.text().trim())
            && text.contains(char::is_whitespace)
        {
            let message = "`command` is a list: the program, then each of its arguments";
            w.error_help(node.span, "mcp.command", message, "write command: [npx, -y, \"@example/server\"]");
        }
        let parts = w.list(node, "command");
        if parts.first().is_some_and(|first| first.is_null()) {
            return None;
        }
        let arguments = parts.iter().skip(1).filter_map(|part| Some((*part, part.scalar()?)));
        let mut before = None;
        for (node, scalar) in arguments {
            match before.and_then(|option| secrets::literal_after(option, scalar)) {
                Some(name) => self.secret_within("command", &name, node),
                None => self.literal_within("command", node),
            }
            before = Some(scalar.text());
        }
        let parts = parts.into_iter().filter(|part| !part.is_null());
        let words = parts.clone().filter_map(|part: &Node| part.scalar());
        let secrets = words.flat_map(|word| word.inserted()).map(Secret::new).collect();
        Some((parts.filter_map(|part| w.text(part, "command")).collect(), secrets))
    }

    /// Names of tools.
    fn tool_names(&self, node: &'a Node, name: &str) -> Vec<String> {
        let names = self.names(node, name, "[add-tasks, find-tasks]");
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// Rules for single tools.
    fn tools(&self, map: &Fields<'a>, via: Via, timeout: Duration) -> BTreeMap<String, ToolRule> {
        let w = self.written;
        let mut tools = BTreeMap::new();
        let example = "tools: { add-task: { approval: always } }";
        let own = map.take("tools").and_then(|node| w.map(node, "tools", example));
        for (tool, node) in own.iter().flat_map(|own| own.all()) {
            let example = "{ approval: always, timeout: 8s }";
            let Some(options) = w.map(node, &tool.name, example) else { continue };
            let rule = ToolRule { fixed: self.fixed(&options), ..self.rule(&options) };
            if via == Via::Provider {
                if let Some(node) = options.take("fixed").filter(|_| !rule.fixed.is_empty()) {
                    let message = "`fixed` cannot hold with `via: provider`: the model's host calls the tool";
                    w.error_help(node.span, "mcp.via", message, "write `via: runtime`, or leave it out");
                }
                self.patience_of_host(&options);
            } else {
                self.filler(&options, &rule, rule.timeout.unwrap_or(timeout));
            }
            options.finish();
            tools.insert(tool.name.clone(), rule);
        }
        tools
    }

    /// Tools that have rules and are not allowed. A function may use them all the same, so this is judged later.
    fn unused(
        &self,
        key: &Key,
        map: &Fields<'a>,
        allow: &[String],
        approval: &AskFirst,
        unused: &mut Vec<Unused>,
    ) {
        let mut named: Vec<(Span, String)> = Vec::new();
        if let Some(Kind::Map(entries)) = map.take("tools").map(|node| &node.kind) {
            named.extend(entries.iter().map(|(tool, _)| (tool.span, tool.name.clone())));
        }
        if let (AskFirst::Of(names), Some(node)) = (approval, map.take("approval")) {
            named.extend(names.iter().map(|name| (node.span, name.clone())));
        }
        let named = named.into_iter().filter(|(_, tool)| !allow.contains(tool));
        unused.extend(named.map(|(span, tool)| Unused { span, server: key.name.clone(), tool }));
    }

    /// `never`, `always`, or a list of the tools that need a yes.
    fn approval(&self, map: &Fields<'a>) -> AskFirst {
        let Some(node) = map.take("approval") else { return AskFirst::Never };
        if let Kind::Seq(_) = &node.kind {
            return AskFirst::Of(self.tool_names(node, "approval"));
        }
        if let Kind::Map(_) = &node.kind {
            let message = "`approval` must be `never`, `always` or a list of tools, and this is a map";
            let help = "write approval: [add-tasks, find-tasks]";
            self.written.error_help(node.span, "word", message, help);
            return AskFirst::Always;
        }
        match self.asked_first(node) {
            Some(false) => AskFirst::Never,
            Some(true) | None => AskFirst::Always,
        }
    }

    /// Warns of what belongs to a `command` beside a `url`, and the other way round. A server that has both, one of
    /// them empty, may need either.
    fn elsewhere(&self, map: &Fields<'a>) {
        let (names, message, help): (&[&'static str], _, _) = match (map.has("url"), map.has("command")) {
            (true, false) => (
                &["env"],
                "has no effect with a `url`: no program is started",
                "leave it out; what a server wants to know goes into `headers`",
            ),
            (false, true) => (
                &["token", "user", "password", "headers"],
                "has no effect with a `command`: there is nothing to log in to",
                "leave it out; what the program wants to know goes into `env`",
            ),
            _ => return,
        };
        for name in names {
            let nothing = |node: &&Node| matches!(&node.kind, Kind::Map(entries) if entries.is_empty());
            if let Some(node) = map.take(name).filter(|node| !nothing(node)) {
                self.written.warning(node.span, "mcp.no_effect", format!("`{name}` {message}"), help);
            }
        }
    }

    /// Warns of what has no effect where the model's host runs a tool.
    fn patience_of_host(&self, map: &Fields<'a>) {
        for name in ["timeout", "filler_after", "stop_on_interruption"] {
            if let Some(node) = map.take(name) {
                let message =
                    format!("`{name}` has no effect with `via: provider`: the model's host runs the tool");
                self.written.warning(
                    node.span,
                    "mcp.no_effect",
                    message,
                    "leave it out, or write `via: runtime`",
                );
            }
        }
    }

    /// Which tools need a yes, in the way that a model's host takes it.
    fn asked_of_host(
        &self,
        key: &Key,
        approval: &AskFirst,
        tools: &BTreeMap<String, ToolRule>,
        allow: Option<&[String]>,
    ) -> AskFirst {
        let said = |wanted: bool| {
            let tools = tools.iter().filter(move |(_, rule)| rule.ask_first == Some(wanted));
            tools.map(|(name, _)| name.clone()).collect::<BTreeSet<String>>()
        };
        let (asked, not_asked) = (said(true), said(false));
        let mut of: BTreeSet<String> = match (approval, allow) {
            (AskFirst::Always, _) if not_asked.is_empty() => return AskFirst::Always,
            (AskFirst::Always, Some(allow)) => allow.iter().cloned().collect(),
            (AskFirst::Always, None) => {
                let message =
                    "`approval: never` for one tool of a server with `approval: always` needs `allow`";
                let help = "the model's host wants all names: list the tools in `allow`";
                self.written.error_help(key.span, "mcp.approval", message, help);
                return AskFirst::Always;
            }
            (AskFirst::Never, _) => BTreeSet::new(),
            (AskFirst::Of(names), _) => names.iter().cloned().collect(),
        };
        of.extend(asked);
        of.retain(|name| !not_asked.contains(name));
        match of.is_empty() {
            true => AskFirst::Never,
            false => AskFirst::Of(of.into_iter().collect()),
        }
    }

    /// `token`, `user` and `password`, or `headers`. They are judged only where there is an address to log in to.
    fn login(&self, map: &Fields<'a>, on: bool) -> Login {
        let w = self.written;
        let mut given = Vec::new();
        for name in ["token", "user", "password"] {
            let Some(node) = map.take(name) else { continue };
            let Some(scalar) = node.scalar() else {
                w.text(node, name);
                continue;
            };
            if name != "user" {
                self.literal(name, node);
            }
            if scalar.text().trim().is_empty() {
                let message = format!("`{name}` is a text with nothing in it");
                w.error_help(node.span, "mcp.credentials", message, "leave it out");
                continue;
            }
            if scalar.text().trim().chars().any(char::is_control) {
                let message = format!("`{name}` holds a line break");
                w.error_help(node.span, "mcp.credentials", message, "write it in one line");
            }
            given.extend(w.text(node, name).map(|text| (name, node, text.trim().to_owned())));
        }
        let find = |wanted: &str| given.iter().find(|(name, _, _)| *name == wanted);
        let (token, password) = (find("token"), find("password"));
        // A user without a password is nobody where the password's variable is empty: a user may have a default.
        let user = find("user").filter(|_| password.is_some() || !map.has("password"));
        let example = "headers: { X-Api-Key: \"${API_KEY}\" }";
        let headers = self.headers(map, &OURS, example);
        let own = headers.iter().find(|(key, _, _)| key.name.eq_ignore_ascii_case("authorization"));
        let error = |node: &Node, message: &str, help: &str| {
            if on {
                w.error_help(node.span, "mcp.credentials", message, help);
            }
        };
        if let (Some((_, node, _)), Some(_)) = (token, user.or(password)) {
            let message = "a server takes a `token`, or a `user` and a `password`";
            error(node, message, "take one of the two out");
        }
        if let (Some((_, node, _)), Some(_)) = (own, token.or(user).or(password)) {
            let message = "there is a header `authorization`, and another way to log in as well";
            error(node, message, "take one of the two out");
        }
        match (user, password) {
            (Some((_, node, user)), Some(_)) if user.contains(':') => {
                error(node, "a `user` holds no colon", "write the password into `password`");
            }
            (Some((_, node, _)), None) => {
                error(node, "there is a `user` and no `password`", "write both, or a `token`");
            }
            (None, Some((_, node, _))) if map.has("user") => {
                error(node, "there is a `password`, and `user` is empty", "give both, or a `token`");
            }
            (None, Some((_, node, _))) => {
                error(node, "there is a `password` and no `user`", "write both, or a `token`");
            }
            _ => {}
        }
        let basic = user.zip(password).map(|((_, _, user), (_, _, password))| {
            Secret::new(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
        });
        Login {
            token: token.map(|(_, _, token)| Secret::new(token.as_str())),
            basic,
            headers: secret(headers),
        }
    }
}

impl Login {
    /// The headers of every request, in small letters.
    fn headers(self) -> Vec<(String, Secret)> {
        let bearer = self.token.map(|token| Secret::new(format!("Bearer {}", token.expose())));
        let login = bearer.or(self.basic).map(|value| ("authorization".to_owned(), value));
        let own = self.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        login.into_iter().chain(own).collect()
    }

    /// The same in the way that a model's host takes it: the bare token apart.
    fn of_host(self) -> (Option<Secret>, Vec<(String, Secret)>) {
        match self.token {
            Some(token) => (Some(token), self.headers),
            None => (None, self.headers()),
        }
    }
}
