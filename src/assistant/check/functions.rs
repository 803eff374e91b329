//! The owner's own `functions`: what the model is told of each, and where a call of it goes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

use super::Check;
use super::tools::secret;
use crate::assistant::plan::HttpCall;
use crate::assistant::prompt::{Examiner, Place};
use crate::assistant::request::samples;
use crate::assistant::toolbox::{BUILT_IN, Function, GoesTo, Home, McpServer, ToolRule};
use crate::assistant::values;
use crate::assistant::written::Fields;
use crate::problem;
use crate::yaml::{Kind, Node};

/// Functions in one file: no model takes more tools.
const MOST: usize = 128;
/// Templates in all requests of a file.
const MOST_TEMPLATES: usize = 500;
/// Headers that belong to the connection.
const OURS: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];

impl<'a> Check<'a> {
    pub(super) fn functions(
        &self,
        top: &Fields<'a>,
        servers: &[McpServer],
        examiner: &Examiner,
    ) -> Vec<Function> {
        let w = self.written;
        let mut functions = Vec::new();
        let example =
            "functions: { create_task: { description: …, mcp: { server: todoist, tool: add-tasks } } }";
        let mut room = MOST_TEMPLATES;
        let entries = self.entries(top, "functions", example);
        if let Some((key, _)) = entries.get(MOST) {
            let message = format!("there are more than {MOST} functions");
            w.error_help(key.span, "function.many", message, "no model takes more tools: take some out");
        }
        for (key, node) in entries.into_iter().take(MOST) {
            if BUILT_IN.contains(&key.name.as_str()) {
                let message = format!("`{}` is built in: `call_control` switches it on", key.name);
                w.error_help(key.span, "tool.name", message, "give the function another name");
            }
            let Some(map) = w.map(node, &key.name, "{ description: …, mcp: … }") else { continue };
            let description = map.take("description").and_then(|node| w.text(node, "description"));
            if map.take("description").is_none() {
                let message = format!("the function `{}` has no `description`", problem::shown(&key.name));
                let help = "say in a sentence what it does, and when to use it: the model reads it";
                w.error_help(key.span, "function.description", message, help);
            }
            let (parameters, sound) = self.parameters(&map);
            let goes_to = match (map.take("mcp"), map.take("http")) {
                (Some(node), None) => self.function_of_server(node, servers),
                (None, Some(node)) => {
                    self.function_over_http(node, parameters.as_ref(), sound, examiner, &mut room)
                }
                _ => {
                    let name = problem::shown(&key.name);
                    let message = format!("the function `{name}` must say where a call of it goes, once");
                    let help = "write `mcp: { server: …, tool: … }` or `http: { url: … }`";
                    w.error_help(key.span, "function.where", message, help);
                    GoesTo::Off("it goes nowhere")
                }
            };
            let rule: ToolRule = self.rule(&map);
            let base = match &goes_to {
                GoesTo::Mcp { server, tool, .. } => {
                    servers.iter().find(|there| there.name == *server).map(|server| server.rule_of(tool))
                }
                GoesTo::Http(_) | GoesTo::Off(_) => None,
            };
            self.filler(&map, &rule, rule.over(base.unwrap_or_default()).timeout);
            map.finish();
            functions.push(Function {
                name: key.name.clone(),
                description: description.unwrap_or_default(),
                parameters,
                goes_to,
                rule,
            });
        }
        functions
    }

    /// A JSON Schema of an object, and whether all arguments that it requires are in it.
    fn parameters(&self, map: &Fields<'a>) -> (Option<Map<String, Value>>, bool) {
        let w = self.written;
        let Some(node) = map.take("parameters") else { return (None, true) };
        let example = "parameters: { type: object, properties: { title: { type: string } } }";
        let Some(schema) = w.map(node, "parameters", example) else { return (None, true) };
        let entries: BTreeMap<&str, &Node> =
            schema.all().map(|(key, node)| (key.name.as_str(), node)).collect();
        let kind = entries.get("type");
        if kind.and_then(|kind| kind.scalar()).map(|kind| kind.text()) != Some("object") {
            let span = kind.map_or(node.span, |kind| kind.span);
            let message = "`parameters` is a JSON Schema whose `type` is `object`";
            w.error_help(span, "function.parameters", message, format!("write {example}"));
        }
        let (mut names, mut sound) = (Vec::new(), true);
        if let Some(node) = entries.get("properties") {
            let arguments = w.map(node, "properties", "properties: { title: { type: string } }");
            sound = arguments.is_some();
            for (name, node) in arguments.iter().flat_map(|arguments| arguments.all()) {
                names.push(name.name.as_str());
                if !matches!(node.kind, Kind::Map(_)) {
                    let name = problem::shown(&name.name);
                    let message =
                        format!("`{name}` in `properties` is a JSON Schema, and this is {}", node.what());
                    w.error_help(
                        node.span,
                        "function.parameters",
                        message,
                        "write { type: string } or the like",
                    );
                }
            }
        }
        // They may stand in a schema within, or in one that is referred to.
        let elsewhere = entries.keys().any(|key| matches!(*key, "allOf" | "anyOf" | "oneOf" | "$ref"));
        let required = entries.get("required").filter(|_| sound);
        if let Some(node) = required.filter(|node| !matches!(node.kind, Kind::Seq(_) | Kind::Map(_))) {
            let message = format!("`required` must be a list, and this is {}", node.what());
            w.error_help(node.span, "type.list", message, "write required: [title]");
        }
        for node in required.into_iter().flat_map(|node| w.list(node, "required")) {
            let Some(name) = w.text(node, "required") else { continue };
            if names.contains(&name.as_str()) {
                continue;
            }
            sound = false;
            if elsewhere {
                continue;
            }
            let shown = problem::shown(&name);
            let message = format!("`required` names `{shown}`, which is not in `properties`");
            let help = match names.is_empty() {
                true => format!("write properties: {{ {shown}: {{ type: string }} }}"),
                false => problem::suggestion(&name, names.iter().copied()),
            };
            w.error_help(node.span, "function.parameters", message, help);
        }
        self.types_within(node);
        match values::json(node) {
            Value::Object(schema) => (Some(schema), sound),
            _ => (None, sound),
        }
    }

    fn function_of_server(&self, node: &'a Node, servers: &[McpServer]) -> GoesTo {
        let w = self.written;
        let nowhere = GoesTo::Off("it goes nowhere");
        let Some(map) = w.map(node, "mcp", "mcp: { server: todoist, tool: add-tasks }") else {
            return nowhere;
        };
        let named = |name: &'static str| {
            let value = map.take(name);
            if value.is_none() {
                let message = format!("`mcp` does not name the `{name}`");
                let known = servers.first().map_or("todoist", |server| server.name.as_str());
                let help = format!("write mcp: {{ server: {known}, tool: add-tasks }} or the like");
                w.error_help(node.span, "function.where", message, help);
            }
            Some((value?, w.text(value?, name)?.trim().to_owned()))
        };
        let (server, tool) = (named("server"), named("tool"));
        let fixed = self.fixed(&map);
        map.finish();
        let (Some((node, server)), Some((_, tool))) = (server, tool) else { return nowhere };
        let found = servers.iter().find(|there| there.name == server);
        match found.map(|server| &server.home) {
            Some(Home::Runtime(_) | Home::Off(_)) => {}
            Some(Home::Provider(_)) => {
                let message = "a function is called from here, and this server is `via: provider`";
                let help = "write `via: runtime` for the server, or leave the function out";
                w.error_help(node.span, "function.server", message, help);
            }
            None => {
                let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
                let help = match servers {
                    [] => format!("write mcp: {{ {shown}: {{ url: … }} }} at the top of the file as well"),
                    _ => problem::suggestion(&server, servers.iter().map(|server| server.name.as_str())),
                };
                w.error_help(node.span, "function.server", format!("there is no `{shown}` in `mcp`"), help);
            }
        }
        GoesTo::Mcp { server, tool, fixed }
    }

    fn function_over_http(
        &self,
        node: &'a Node,
        parameters: Option<&Map<String, Value>>,
        arguments_known: bool,
        examiner: &Examiner,
        room: &mut usize,
    ) -> GoesTo {
        let w = self.written;
        let nowhere = GoesTo::Off("it goes nowhere");
        let example = "http: { method: POST, url: https://api.example.com/tasks }";
        let Some(map) = w.map(node, "http", example) else { return nowhere };
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"].map(|method| (method, method));
        let method = map.take("method").and_then(|node| w.one_of(node, "method", &methods)).unwrap_or("POST");
        let url = map.take("url");
        if !map.has("url") {
            let message = "`http` does not name the `url`";
            w.error_help(node.span, "function.where", message, format!("write {example}"));
        }
        if let Some(node) = url {
            self.literal_within("url", node);
        }
        let text = url.and_then(|node| Some((node, w.text(node, "url")?)));
        let fixed_host = text.as_ref().is_none_or(|(node, text)| self.host_is_written(node, text));
        let headers = self.headers(&map, &OURS, "headers: { Authorization: \"Bearer ${API_TOKEN}\" }");
        let body = map.take("body");
        if let (Some(node), "GET") = (body, method) {
            let message = "a `GET` has no `body`";
            w.error_help(
                node.span,
                "function.body",
                message,
                "write `method: POST`, or put it into the `url`",
            );
        }
        let success = map.take("success").map(|node| w.list(node, "success")).unwrap_or_default();
        let success = success.into_iter().filter(|node| !node.is_null());
        let success =
            success.filter_map(|node| w.number(node, "success", 100.0..=599.0)).map(|code| code as u16);
        let success = success.collect();
        let answer = map.take("answer").and_then(|node| Some((node, w.text(node, "answer")?)));
        if let Some((node, path)) = &answer
            && path.split('.').any(|step| step.is_empty() || step.contains('/'))
        {
            let message = "`answer` is a path of names and places, parted by points";
            w.error_help(node.span, "function.answer", message, "write it like tasks.0.title");
        }
        map.finish();

        let call = HttpCall {
            method: method.to_owned(),
            url: text.as_ref().map(|(_, text)| text.trim().to_owned()).unwrap_or_default(),
            headers: secret(headers.clone()),
            body: body.map(values::json),
            success,
            answer: answer.map(|(_, path)| path.trim().to_owned()),
            parameters: parameters.cloned().unwrap_or_default(),
            known: examiner.sample().clone(),
        };
        let (all, few) = samples(&call.parameters);
        let examiner = examiner.with_arguments(&call.complete(&all), &call.complete(&few));
        let mut templates: Vec<(&Node, String)> = Vec::new();
        templates.extend(text.clone());
        templates.extend(headers.into_iter().map(|(_, node, text)| (node, text)));
        body.into_iter().for_each(|body| collect(body, &mut templates));
        templates.retain(|(_, template)| template.contains('{'));
        if templates.len() > *room {
            let message = "there are too many templates in the requests of this file";
            let help = format!("they may have {MOST_TEMPLATES} together: take some out");
            w.error_help(node.span, "function.many", message, help);
            templates.truncate(*room);
        }
        *room -= templates.len();
        let mut sound = fixed_host && arguments_known;
        for (node, template) in &templates {
            let Some(scalar) = node.scalar() else { continue };
            for problem in examiner.check_request(template, &Place::of(&w.source, self.text, node, scalar)) {
                sound &= !problem.is_error();
                // It may have been rendered well with all arguments.
                w.note(match problem.code() == "template.render" && few.len() < all.len() {
                    true => {
                        problem.help("an argument that is not in `required` may be missing: it is empty then")
                    }
                    false => problem,
                });
            }
        }
        let Some((node, _)) = text else { return GoesTo::Off("its `url` is empty") };
        // What the model gets told in a call, the owner is told before it.
        if sound && let Err(why) = call.request(&all) {
            w.error_help(node.span, "function.request", why, "look at what it is made of");
        }
        // A call knows its own.
        GoesTo::Http(Box::new(HttpCall { known: minijinja::Value::default(), ..call }))
    }

    /// Whether the host stands in the address as it is: whoever talks to the model must not choose it.
    fn host_is_written(&self, node: &Node, text: &str) -> bool {
        let w = self.written;
        let before = text.find("{{").into_iter().chain(text.find("{%")).chain(text.find("{#")).min();
        let literal = text[..before.unwrap_or(text.len())].trim();
        let url = Url::parse(literal).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url.filter(Url::has_host) else {
            let message = "`url` is not the address of a server";
            let help = "it starts with https:// or http:// and a host that is written out";
            w.error_help(node.span, "url.invalid", message, help);
            return false;
        };
        if !url.username().is_empty() || url.password().is_some() {
            let message = "an address holds no user name and no password";
            w.error_help(node.span, "url.invalid", message, "write them into `headers`");
            return false;
        }
        let behind = literal.split_once("://").map_or("", |(_, rest)| rest);
        if before.is_some() && !behind.contains(['/', '?', '#']) {
            let message = "a value cannot be a part of the host in `url`";
            w.error_help(node.span, "url.invalid", message, "write the host out, then a / before the value");
            return false;
        }
        true
    }
}

/// Every text in a body.
fn collect<'a>(node: &'a Node, templates: &mut Vec<(&'a Node, String)>) {
    match &node.kind {
        Kind::Seq(items) => items.iter().for_each(|item| collect(item, templates)),
        Kind::Map(entries) => entries.iter().for_each(|(_, node)| collect(node, templates)),
        Kind::Scalar(scalar) => templates.push((node, scalar.text().to_owned())),
    }
}
