//! The keys about tools: MCP servers, functions, and whom a call can be passed on to.
//!
//! They are checked whole. Of what they say this version uses the instructions; it runs no tool yet, and says so.

use std::ops::RangeInclusive;
use std::time::Duration;

use url::{Host, Url};

use super::{Check, Text, empty};
use crate::assistant::plan::{END_CALL, Rule, Tool, Work};
use crate::assistant::written::Fields;
use crate::problem;
use crate::yaml::{Key, Kind, Node};

/// How long one use of a tool may take.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// After how long the caller is told to wait.
const FILLER: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(60);

/// Tools from one place, as far as the prompt and `show` need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolbox {
    /// The key in `mcp`, or of the function.
    pub name: String,
    pub kind: ToolKind,
    /// Whether it says where its tools are: an empty `url` switches it off.
    pub on: bool,
    /// A template: its part of the prompt.
    pub(in crate::assistant) instructions: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolKind {
    /// An MCP server; we are its client.
    Runtime,
    /// An MCP server; the model's host is its client.
    Provider,
    Function,
    /// Somebody the call can be passed on to.
    Transfer,
}

/// The tool that ends the call.
pub(super) fn end_call() -> Tool {
    let schema = serde_json::json!({"type": "object", "properties": {}, "required": []});
    Tool {
        name: END_CALL.to_owned(),
        description:
            "Ends the phone call. Say goodbye first, in the same answer; then call this. The line stays \
                      open until the goodbye has been heard."
                .to_owned(),
        parameters: schema.as_object().cloned().unwrap_or_default(),
        rule: Rule::default(),
        work: Work::EndCall,
    }
}

impl<'a> Check<'a> {
    pub(super) fn toolboxes(&self, top: &Fields<'a>, texts: &mut Vec<Text<'a>>) -> Vec<Toolbox> {
        let mut boxes = self.mcp(top, texts);
        let functions = self.functions(top, &boxes);
        boxes.extend(functions);
        boxes
    }

    fn mcp(&self, top: &Fields<'a>, texts: &mut Vec<Text<'a>>) -> Vec<Toolbox> {
        let mut boxes = Vec::new();
        let example = "mcp: { todoist: { url: \"${TODOIST_MCP_URL:-}\" } }";
        for (key, node) in self.entries(top, "mcp", example) {
            let Some(map) = self.written.map(node, &key.name, "url: … or command: …") else { continue };
            let toolbox = self.server(key, &map, texts);
            map.finish();
            boxes.push((key, toolbox));
        }
        self.not_run(boxes, "run tools")
    }

    fn server(&self, key: &'a Key, map: &Fields<'a>, texts: &mut Vec<Text<'a>>) -> Toolbox {
        let w = self.written;
        let words = [("runtime", ToolKind::Runtime), ("provider", ToolKind::Provider)];
        let kind =
            map.take("via").and_then(|node| w.one_of(node, "via", &words)).unwrap_or(ToolKind::Runtime);
        let named = map.has("url") || map.has("command");
        let (url, command) = (map.take("url"), map.take("command").filter(|node| !empty(node)));
        if !named {
            let message = format!("`{}` does not say where its tools are", problem::shown(&key.name));
            w.error_help(
                key.span,
                "mcp.where",
                message,
                "write `url:` with the server's address, or `command:` to start one",
            );
        }
        if let (Some(_), Some(command)) = (url, command) {
            let message = "a server has a `url` or a `command`, not both";
            w.error_help(command.span, "mcp.where", message, "take one of the two out");
        }
        if let Some(node) = url {
            self.server_url(node, kind);
        }
        if let Some(node) = command {
            for part in w.list(node, "command") {
                w.text(part, "command");
            }
            if kind == ToolKind::Provider {
                let message = "`via: provider` takes a `url`: the model's host cannot start a command here";
                w.error_help(node.span, "mcp.via", message, "write `via: runtime`, or a `url`");
            }
        }
        self.texts(map, "env", "env: { API_KEY: \"${API_KEY}\" }");
        self.credentials(map);
        let allow: Option<Vec<String>> = map.take("allow").map(|node| {
            let items = w.list(node, "allow").into_iter().filter(|item| !item.is_null());
            items.filter_map(|item| w.text(item, "allow")).collect()
        });
        self.approval(map, true);
        self.patience(map);
        for (tool, node) in self.entries(map, "tools", "tools: { add-task: { approval: always } }") {
            if allow.as_ref().is_some_and(|allow| !allow.contains(&tool.name)) {
                let message =
                    format!("`{}` is not in `allow`, so it is never used", problem::shown(&tool.name));
                w.warning(tool.span, "mcp.not_allowed", message, "add it to `allow`, or take it out here");
            }
            let example = "{ approval: always, timeout: 8s }";
            let Some(options) = w.map(node, &tool.name, example) else { continue };
            self.approval(&options, false);
            self.patience(&options);
            if let Some(node) = options.take("fixed") {
                w.map(node, "fixed", "fixed: { project: inbox }")
                    .iter()
                    .for_each(|map| map.all().for_each(drop));
            }
            options.take("stop_on_interruption").map(|node| w.bool(node, "stop_on_interruption"));
            options.finish();
        }
        let instructions =
            map.take("instructions").and_then(|node| self.template(node, "instructions", texts));
        Toolbox { name: key.name.clone(), kind, on: url.is_some() || command.is_some(), instructions }
    }

    fn server_url(&self, node: &Node, kind: ToolKind) {
        let w = self.written;
        let Some(text) = w.text(node, "url") else { return };
        let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url.filter(Url::has_host) else {
            // The value is not quoted: it may hold a password.
            let message = "`url` is not the address of a server";
            return w.error_help(node.span, "url.invalid", message, "it starts with https:// or http://");
        };
        if !url.username().is_empty() || url.password().is_some() {
            let message = "an address holds no user name and no password";
            w.error_help(node.span, "url.invalid", message, "write them into `user` and `password`");
        }
        let near = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".internal"),
            Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if kind == ToolKind::Provider && (url.scheme() != "https" || near) {
            let message = "`via: provider` takes a public https:// address: the model's host connects to it";
            w.error_help(node.span, "mcp.via", message, "write `via: runtime` for a private server");
        }
    }

    /// `token`, `user` and `password`, or `headers`.
    fn credentials(&self, map: &Fields<'a>) {
        let w = self.written;
        let mut given = Vec::new();
        for name in ["token", "user", "password"] {
            let Some(node) = map.take(name) else { continue };
            let Some(scalar) = node.scalar() else {
                w.text(node, name);
                continue;
            };
            if name != "user" && !scalar.expanded() {
                let message = format!("`{name}` is a secret, and stands in the file");
                let help = "put it into the environment, and write \"${NAME}\" with its name there";
                w.warning(node.span, "secret.literal", message, help);
            }
            given.push((name, node));
        }
        let find = |wanted: &str| given.iter().find(|(name, _)| *name == wanted).map(|(_, node)| *node);
        if let (Some(token), Some(_)) = (find("token"), find("user").or(find("password"))) {
            let message = "a server takes a `token`, or a `user` and a `password`";
            w.error_help(token.span, "mcp.credentials", message, "take one of the two out");
        }
        match (find("user"), find("password")) {
            (Some(node), None) => {
                w.error(node.span, "mcp.credentials", "there is a `user` and no `password`")
            }
            (None, Some(node)) if map.has("user") => {
                w.error(node.span, "mcp.credentials", "there is a `password`, and `user` is empty");
            }
            (None, Some(node)) => {
                w.error(node.span, "mcp.credentials", "there is a `password` and no `user`")
            }
            _ => {}
        }
        self.texts(map, "headers", "headers: { X-Api-Key: \"${API_KEY}\" }");
    }

    fn functions(&self, top: &Fields<'a>, servers: &[Toolbox]) -> Vec<Toolbox> {
        let w = self.written;
        let mut boxes = Vec::new();
        let example =
            "functions: { create_task: { description: …, mcp: { server: todoist, tool: add-tasks } } }";
        for (key, node) in self.entries(top, "functions", example) {
            if key.name == END_CALL {
                let message = format!("`{END_CALL}` is built in: `call_control` switches it on");
                w.error_help(key.span, "tool.name", message, "give the function another name");
            }
            let Some(map) = w.map(node, &key.name, "{ description: …, mcp: … }") else { continue };
            match map.take("description") {
                Some(node) => drop(w.text(node, "description")),
                None => {
                    let message =
                        format!("the function `{}` has no `description`", problem::shown(&key.name));
                    let help = "say in a sentence what it does, and when to use it: the model reads it";
                    w.error_help(key.span, "function.description", message, help);
                }
            }
            self.parameters(&map);
            let (mcp, http) = (map.take("mcp"), map.take("http"));
            let mut on = true;
            match (mcp, http) {
                (Some(node), None) => on = self.function_of_server(node, servers),
                (None, Some(node)) => self.function_over_http(node),
                _ => {
                    let message = format!(
                        "the function `{}` must say where a call of it goes, once",
                        problem::shown(&key.name)
                    );
                    let help = "write `mcp: { server: …, tool: … }` or `http: { url: … }`";
                    w.error_help(key.span, "function.where", message, help);
                }
            }
            self.approval(&map, false);
            self.patience(&map);
            map.take("stop_on_interruption").map(|node| w.bool(node, "stop_on_interruption"));
            map.finish();
            boxes.push((
                key,
                Toolbox { name: key.name.clone(), kind: ToolKind::Function, on, instructions: None },
            ));
        }
        self.not_run(boxes, "call functions")
    }

    /// A JSON Schema of an object; what is in it is for the model.
    fn parameters(&self, map: &Fields<'a>) {
        let w = self.written;
        let Some(node) = map.take("parameters") else { return };
        let example = "parameters: { type: object, properties: { title: { type: string } } }";
        let Some(schema) = w.map(node, "parameters", example) else { return };
        let kind = schema.all().find(|(key, _)| key.name == "type").map(|(_, node)| node);
        if kind.and_then(Node::scalar).map(|kind| kind.text()) != Some("object") {
            let span = kind.map_or(node.span, |kind| kind.span);
            let message = "`parameters` is a JSON Schema whose `type` is `object`";
            w.error_help(span, "function.parameters", message, format!("write {example}"));
        }
    }

    /// Whether the server is on.
    fn function_of_server(&self, node: &'a Node, servers: &[Toolbox]) -> bool {
        let w = self.written;
        let Some(map) = w.map(node, "mcp", "mcp: { server: todoist, tool: add-tasks }") else { return true };
        let mut on = true;
        for name in ["server", "tool"] {
            let Some(node) = map.take(name) else {
                w.error(node.span, "function.where", format!("`mcp` does not name the `{name}`"));
                continue;
            };
            let Some(text) = w.text(node, name).filter(|_| name == "server") else { continue };
            match servers.iter().find(|server| server.name == text.trim()) {
                Some(server) => on = server.on,
                None => {
                    let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
                    let there = servers.iter().map(|server| server.name.as_str());
                    let help = problem::suggestion(&text, there);
                    w.error_help(
                        node.span,
                        "function.server",
                        format!("there is no `{shown}` in `mcp`"),
                        help,
                    );
                }
            }
        }
        map.finish();
        on
    }

    fn function_over_http(&self, node: &'a Node) {
        let w = self.written;
        let example = "http: { method: POST, url: https://api.example.com/tasks }";
        let Some(map) = w.map(node, "http", example) else { return };
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"].map(|method| (method, ()));
        map.take("method").map(|node| w.one_of(node, "method", &methods));
        match map.take("url") {
            Some(node) => {
                let text = w.text(node, "url").unwrap_or_default();
                if !text.is_empty()
                    && !["https://", "http://", "{{"].iter().any(|start| text.starts_with(start))
                {
                    let message = "`url` is not the address of a server";
                    w.error_help(node.span, "url.invalid", message, "it starts with https:// or http://");
                }
            }
            None => w.error(node.span, "function.where", "`http` does not name the `url`"),
        }
        self.texts(&map, "headers", "headers: { Authorization: \"Bearer ${API_TOKEN}\" }");
        map.take("body");
        if let Some(node) = map.take("success") {
            for item in w.list(node, "success") {
                w.number(item, "success", 100.0..=599.0);
            }
        }
        map.take("answer").map(|node| w.text(node, "answer"));
        map.finish();
    }

    /// Whom the call can be passed on to: names and numbers.
    pub(super) fn transfer_to(&self, map: &Fields<'a>) -> Vec<Toolbox> {
        let mut boxes = Vec::new();
        for (key, node) in self.entries(map, "transfer_to", "transfer_to: { reception: \"+1555…\" }") {
            if node.is_null() {
                continue;
            }
            let on = self.number(node, &key.name).is_some();
            boxes.push((
                key,
                Toolbox { name: key.name.clone(), kind: ToolKind::Transfer, on, instructions: None },
            ));
        }
        self.not_run(boxes, "pass calls on")
    }

    /// `never` or `always`; for a whole server also a list of tools that need a yes.
    fn approval(&self, map: &Fields<'a>, of_server: bool) {
        let w = self.written;
        let Some(node) = map.take("approval") else { return };
        match &node.kind {
            Kind::Seq(items) if of_server => items.iter().for_each(|item| drop(w.text(item, "approval"))),
            _ => drop(w.one_of(node, "approval", &[("never", ()), ("always", ())])),
        }
    }

    fn patience(&self, map: &Fields<'a>) {
        let w = self.written;
        map.take("timeout").map(|node| w.duration(node, "timeout", TIMEOUT));
        map.take("filler_after").map(|node| w.duration(node, "filler_after", FILLER));
    }

    /// A map of texts under the owner's own keys.
    fn texts(&self, map: &Fields<'a>, name: &'static str, example: &str) {
        let Some(node) = map.take(name) else { return };
        let Some(texts) = self.written.map(node, name, example) else { return };
        for (_, node) in texts.all().filter(|(_, node)| !node.is_null()) {
            self.written.text(node, name);
        }
    }

    /// The entries of a map under names that the model will read.
    fn entries(&self, map: &Fields<'a>, name: &'static str, example: &str) -> Vec<(&'a Key, &'a Node)> {
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

    /// Says so once where something is on that no call can use yet.
    fn not_run(&self, boxes: Vec<(&'a Key, Toolbox)>, what: &str) -> Vec<Toolbox> {
        let on: Vec<&(&Key, Toolbox)> = boxes.iter().filter(|(_, toolbox)| toolbox.on).collect();
        if let Some((key, _)) = on.first() {
            let names: Vec<String> = on.iter().map(|(key, _)| problem::shown(&key.name)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let message = format!("this version cannot yet {what}: no call has {}", problem::list(&names));
            let help = "it may stay here for a later version, but no instruction should promise it";
            self.written.warning(key.span, "not_yet", message, help);
        }
        boxes.into_iter().map(|(_, toolbox)| toolbox).collect()
    }
}
