//! The owner's own `functions`: what the model knows about each, and where a call of it goes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Check;
use super::tools::secret;
use crate::assistant::fit;
use crate::assistant::plan::HttpCall;
use crate::assistant::prompt::{Examiner, Place};
use crate::assistant::request::samples;
use crate::assistant::toolbox::{BUILT_IN, Function, GoesTo, Home, McpServer, Off};
use crate::assistant::values;
use crate::assistant::vocabulary::{METHODS, STATUS_CODES};
use crate::assistant::written::{Fields, shown};
use crate::problem::catalogue::{Assistant, Tool};
use crate::problem::{self, Suggestion};
use crate::yaml::{Kind, Node};

/// Functions in one file: no model takes more tools.
const MOST: usize = 128;
/// Templates in all requests of a file.
const MOST_TEMPLATES: usize = 500;
/// Headers that belong to the connection.
const RESERVED: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];

const NOWHERE: GoesTo = GoesTo::Off(Off::Because(Cow::Borrowed("it goes nowhere")));

/// The arguments of a function.
#[derive(Default)]
struct Parameters<'a> {
    schema: Option<Map<String, Value>>,
    /// As written. `None`: there are none, or a problem in them is reported.
    sound: Option<&'a Node>,
    /// Not every required argument is described, so no sample call can be made.
    incomplete: bool,
}

impl<'a> Check<'a> {
    pub(super) fn functions(
        &self,
        top: &Fields<'a>,
        servers: &[McpServer],
        examiner: &Examiner,
    ) -> Vec<Function> {
        let w = self.written;
        let mut functions = Vec::new();
        let mut room = MOST_TEMPLATES;
        let entries = self.entries(top, "functions");
        if let Some((key, _)) = entries.get(MOST) {
            w.problem(key.span, Tool::TooManyFunctions { most: MOST });
        }
        for (key, node) in entries.into_iter().take(MOST) {
            let name = || problem::shown(&key.name);
            if BUILT_IN.contains(&key.name.as_str()) {
                w.problem(key.span, Tool::NameBuiltIn { name: name() });
            }
            let Some(map) = w.map(node, &key.name) else { continue };
            if map.take("description").is_none() {
                w.problem(key.span, Tool::DescriptionMissing { name: name() });
            }
            let description = map.text("description").unwrap_or_default();
            let parameters = self.parameters(&map);
            let goes_to = match (map.take("mcp"), map.take("http")) {
                (Some(node), None) => self.function_of_server(node, servers),
                (None, Some(node)) => self.function_over_http(node, &parameters, examiner, &mut room),
                _ => {
                    w.problem(key.span, Tool::DestinationMissing { name: name() });
                    NOWHERE
                }
            };
            let rule = self.rule(&map);
            let base = match &goes_to {
                GoesTo::Mcp { server, tool, .. } => {
                    servers.iter().find(|there| there.name == *server).map(|server| server.rule_of(tool))
                }
                GoesTo::Http(_) | GoesTo::Off(_) => None,
            };
            self.filler(&map, &rule, rule.over(base.unwrap_or_default()).timeout);
            map.finish();
            let parameters = parameters.sound.zip(parameters.schema).and_then(|(node, schema)| {
                let GoesTo::Mcp { server, tool, fixed } = &goes_to else {
                    return self.arguments(node, &[], schema);
                };
                let server = servers.iter().find(|there| there.name == *server);
                let of_tool = server.map(|server| server.fixed(tool)).unwrap_or_default();
                let fixed = of_tool.into_iter().chain(fixed.clone()).collect();
                self.arguments(node, &[], fit::without(schema, &fixed))
            });
            let name = key.name.clone();
            functions.push(Function { name, description, parameters, goes_to, rule });
        }
        functions
    }

    fn parameters(&self, map: &Fields<'a>) -> Parameters<'a> {
        let w = self.written;
        let before = w.reported();
        let Some(node) = map.take("parameters") else { return Parameters::default() };
        let Some(schema) = w.map(node, "parameters") else { return Parameters::default() };
        let entries: BTreeMap<&str, &Node> =
            schema.all().map(|(key, node)| (key.name.as_str(), node)).collect();
        let kind = entries.get("type");
        if kind.and_then(|kind| kind.scalar()).map(|kind| kind.text()) != Some("object") {
            w.problem(kind.map_or(node.span, |kind| kind.span), Tool::ParametersType);
        }
        let (mut names, mut incomplete) = (Vec::new(), false);
        if let Some(node) = entries.get("properties") {
            let arguments = w.map(node, "properties");
            incomplete = arguments.is_none();
            for (name, node) in arguments.iter().flat_map(|arguments| arguments.all()) {
                names.push(name.name.as_str());
                if !matches!(node.kind, Kind::Map(_)) {
                    let what = Tool::ParameterSchema { name: problem::shown(&name.name), found: node.what() };
                    w.problem(node.span, what);
                }
            }
        }
        // Required arguments may be described in a schema within this one, or in one that it refers to.
        let elsewhere = entries.keys().any(|key| matches!(*key, "allOf" | "anyOf" | "oneOf" | "$ref"));
        let required = entries.get("required").filter(|_| !incomplete);
        if let Some(node) = required.filter(|node| node.scalar().is_some()) {
            w.problem(node.span, Assistant::NotList { key: "required".to_owned(), found: node.what() });
        }
        for node in required.into_iter().flat_map(|node| w.list(node, "required")) {
            let Some(name) = w.text(node, "required").filter(|name| !names.contains(&name.as_str())) else {
                continue;
            };
            incomplete = true;
            if !elsewhere {
                let suggestion = Suggestion::new(&name, names.iter().copied());
                w.problem(node.span, Tool::RequiredUnknown { name: shown(node), suggestion });
            }
        }
        self.types_within(node);
        let sound = (w.reported() == before).then_some(node);
        Parameters { schema: values::json(node).as_object().cloned(), sound, incomplete }
    }

    fn function_of_server(&self, node: &'a Node, servers: &[McpServer]) -> GoesTo {
        let w = self.written;
        let Some(map) = w.map(node, "mcp") else { return NOWHERE };
        let named = |key: &'static str| {
            let value = map.take(key);
            if value.is_none() {
                w.problem(node.span, Tool::DestinationIncomplete { key: "mcp", missing: key });
            }
            Some((value?, w.text(value?, key)?.trim().to_owned()))
        };
        let (server, tool) = (named("server"), named("tool"));
        let fixed = self.fixed(&map);
        map.finish();
        let (Some((node, server)), Some((_, tool))) = (server, tool) else { return NOWHERE };
        match servers.iter().find(|there| there.name == server).map(|server| &server.home) {
            Some(Home::Runtime(_) | Home::Off(_)) => {}
            Some(Home::Provider(_)) => w.problem(node.span, Tool::FunctionNeedsRuntime),
            None => {
                let suggestion = Suggestion::new(&server, servers.iter().map(|server| server.name.as_str()));
                w.problem(node.span, Tool::ServerUnknown { name: shown(node), suggestion });
            }
        }
        GoesTo::Mcp { server, tool, fixed }
    }

    fn function_over_http(
        &self,
        node: &'a Node,
        parameters: &Parameters<'_>,
        examiner: &Examiner,
        room: &mut usize,
    ) -> GoesTo {
        let w = self.written;
        let Some(map) = w.map(node, "http") else { return NOWHERE };
        let method = map.word("method", METHODS).unwrap_or("POST");
        if !map.has("url") {
            w.problem(node.span, Tool::DestinationIncomplete { key: "http", missing: "url" });
        }
        let url = map.take("url").and_then(|node| {
            self.literal_within(node);
            Some((node, w.text(node, "url")?))
        });
        let fixed_host = url.as_ref().is_none_or(|(node, text)| self.host_is_fixed(node, text));
        let headers = self.headers(&map, &RESERVED);
        let body = map.take("body");
        if let Some(node) = body.filter(|_| method == "GET") {
            w.problem(node.span, Tool::GetWithBody);
        }
        let success = map.list("success").into_iter();
        let success =
            success.filter_map(|node| w.number(node, "success", &STATUS_CODES)).map(|code| code as u16);
        let success = success.collect();
        let answer = map.text("answer").map(|path| path.trim().to_owned());
        let broken = |path: &String| path.split('.').any(|step| step.is_empty() || step.contains('/'));
        if let Some(node) = map.take("answer").filter(|_| answer.as_ref().is_some_and(broken)) {
            w.problem(node.span, Tool::AnswerPath);
        }
        map.finish();

        let call = HttpCall {
            method: method.to_owned(),
            url: url.as_ref().map(|(_, text)| text.trim().to_owned()).unwrap_or_default(),
            headers: secret(headers.clone()),
            body: body.map(values::json),
            success,
            answer,
            parameters: parameters.schema.clone().unwrap_or_default(),
            known: examiner.sample().clone(),
        };
        let (all, few) = samples(&call.parameters);
        let examiner = examiner.with_arguments(&call.complete(&all), &call.complete(&few));
        let mut templates: Vec<(&Node, String)> = Vec::new();
        templates.extend(url.clone());
        templates.extend(headers.into_iter().map(|(_, node, text)| (node, text)));
        body.into_iter().for_each(|body| collect(body, &mut templates));
        templates.retain(|(_, template)| template.contains('{'));
        if templates.len() > *room {
            w.problem(node.span, Tool::TooManyTemplates { most: MOST_TEMPLATES });
            templates.truncate(*room);
        }
        *room -= templates.len();
        let mut sound = fixed_host && !parameters.incomplete;
        for (node, template) in &templates {
            let Some(scalar) = node.scalar() else { continue };
            for problem in examiner.check_request(template, &Place::of(&w.source, self.text, node, scalar)) {
                sound &= !problem.is_error();
                w.note(problem);
            }
        }
        let Some((node, _)) = url else { return GoesTo::Off(Off::Empty("`url`")) };
        if sound && let Err(error) = call.request(&all) {
            w.problem(node.span, Tool::RequestFails { error });
        }
        // Each call fills in what it knows.
        GoesTo::Http(Box::new(HttpCall { known: minijinja::Value::default(), ..call }))
    }

    /// Whether the host is written out: the caller must not be able to choose it.
    fn host_is_fixed(&self, node: &Node, text: &str) -> bool {
        let first = ["{{", "{%", "{#"].iter().filter_map(|open| text.find(open)).min();
        let literal = text[..first.unwrap_or(text.len())].trim();
        if self.parsed_address(node, "url", literal).is_none() {
            return false;
        }
        let rest = literal.split_once("://").map_or("", |(_, rest)| rest);
        let open = first.is_some() && !rest.contains(['/', '?', '#']);
        if open {
            self.written.problem(node.span, Tool::UrlHost);
        }
        !open
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
