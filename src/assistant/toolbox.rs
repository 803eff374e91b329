//! The tools of one assistant, as its file has them, and which of them one call gets.
//!
//! What a call gets depends on what is there while its plan is made: a server that is not reached has no tools, and a
//! caller without a number gets no text message. Whatever is left out is left out with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fit;
use super::plan::{
    AskFirst, END_CALL, Hosted, HttpCall, Job, Listed, MAX_KEYS, Mailbox, Rule, SEND_DIGITS, SEND_SMS,
    Server, ServerUse, Supply, TAKE_MESSAGE, TRANSFER_CALL, Target, Tool, Work,
};
use super::prompt::{Facts, Subject};
use crate::problem;

/// Tools in one plan: providers take no more.
const MOST_TOOLS: usize = 128;
/// What all tools of a plan may say together, in bytes of JSON.
const LARGEST: usize = 128 * 1024;
/// What the schemas of servers' tools may come to before they are made smaller, in bytes of JSON. It bounds the work
/// of one ring.
const MOST_WORK: usize = 8 * LARGEST;
const TOO_LARGE: &str = "what its arguments may be is too long for a model";
const TOO_LONG: &str = "all tools together are too long for a model: name those that it needs in `allow`";
/// The names that are ours: no function has one.
pub const BUILT_IN: [&str; 5] = [END_CALL, TRANSFER_CALL, SEND_DIGITS, SEND_SMS, TAKE_MESSAGE];

/// All tools that an assistant's file speaks of, on or off.
#[derive(Clone, PartialEq, Default)]
pub struct Toolbox {
    pub servers: Vec<McpServer>,
    pub functions: Vec<Function>,
    pub control: Control,
}

/// A server in `mcp`.
#[derive(Clone, PartialEq)]
pub struct McpServer {
    /// The key in `mcp`.
    pub name: String,
    pub home: Home,
    /// The tools that the model sees by themselves; `None`: all.
    pub allow: Option<Vec<String>>,
    pub approval: AskFirst,
    /// What holds for every tool that has no rules of its own; `approval` decides who is asked.
    pub rule: Rule,
    pub tools: BTreeMap<String, ToolRule>,
    /// A template: its part of the prompt.
    pub instructions: Option<String>,
}

/// Who talks to a server.
#[derive(Clone, PartialEq)]
pub enum Home {
    /// Nobody, and why.
    Off(&'static str),
    Runtime(Arc<Server>),
    Provider(Box<Hosted>),
}

/// What the file says of one tool or function; `None`: nothing.
#[derive(Clone, PartialEq, Default)]
pub struct ToolRule {
    pub ask_first: Option<bool>,
    pub timeout: Option<Duration>,
    pub filler_after: Option<Duration>,
    pub stop_on_interruption: Option<bool>,
    /// Arguments that always have this value.
    pub fixed: Map<String, Value>,
}

/// A function of the owner's.
#[derive(Clone, PartialEq)]
pub struct Function {
    pub name: String,
    pub description: String,
    /// As written; `None`: those of the tool that it is sent to, or no arguments.
    pub parameters: Option<Map<String, Value>>,
    pub goes_to: GoesTo,
    pub rule: ToolRule,
}

/// Where a call of a function goes.
#[derive(Clone, PartialEq)]
pub enum GoesTo {
    /// Nowhere, and why.
    Off(&'static str),
    Mcp {
        server: String,
        tool: String,
        fixed: Map<String, Value>,
    },
    Http(Box<HttpCall>),
}

/// What the assistant may do with the call itself.
#[derive(Clone, PartialEq, Default)]
pub struct Control {
    pub end_call: bool,
    pub targets: Vec<Person>,
    pub send_digits: bool,
    pub send_sms: bool,
    pub take_message: Option<Messages>,
}

/// Somebody in `transfer_to`.
#[derive(Clone, PartialEq)]
pub struct Person {
    pub name: String,
    /// `None` where the number is empty.
    pub target: Option<Target>,
    pub description: Option<String>,
}

/// `take_message`.
#[derive(Clone, PartialEq)]
pub struct Messages {
    /// `None` where the address is empty.
    pub mailbox: Option<Mailbox>,
    pub description: Option<String>,
    /// The schema of a message.
    pub parameters: Map<String, Value>,
}

/// What one call gets.
#[derive(Default)]
pub struct Packed<'a> {
    pub tools: Vec<Tool>,
    pub hosted: Vec<Hosted>,
    /// The servers of which there is a tool, with their templates.
    pub texts: Vec<(&'a str, &'a str)>,
    /// What it does not get, with the reason.
    pub off: Vec<(String, String)>,
}

impl Toolbox {
    /// The servers whose client we are to be, as the assistant of this name uses them.
    pub fn uses(&self, assistant: &str) -> impl Iterator<Item = ServerUse> {
        self.servers.iter().filter_map(move |server| {
            let called = self.functions.iter().filter_map(|function| match &function.goes_to {
                GoesTo::Mcp { server: name, tool, .. } => (*name == server.name).then_some(tool.as_str()),
                GoesTo::Http(_) | GoesTo::Off(_) => None,
            });
            let named: BTreeSet<&str> = server.named().into_iter().chain(called).collect();
            Some(ServerUse {
                assistant: assistant.to_owned(),
                server: server.runtime()?.clone(),
                allow: server.allow.clone(),
                named: named.into_iter().map(str::to_owned).collect(),
            })
        })
    }

    /// What a call with these facts gets, with what there is now.
    pub fn pack(&self, subject: &Subject, facts: &Facts, supply: &dyn Supply) -> Packed<'_> {
        let mut packed = Packed::default();
        self.control.pack(facts, supply, &mut packed);
        let listed: BTreeMap<&str, Arc<[Listed]>> = self
            .servers
            .iter()
            .filter_map(|server| Some((server.name.as_str(), supply.listed(server.runtime()?)?)))
            .collect();
        self.pack_functions(subject, facts, &listed, &mut packed);
        let ours = packed.tools.len();
        self.pack_servers(&listed, &mut packed);
        packed.bound(ours);
        // Of which servers there is a tool.
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for tool in &packed.tools {
            if let Work::Job(job) = &tool.work
                && let Job::Mcp { server, .. } = &**job
            {
                used.extend(
                    self.servers.iter().map(|server| server.name.as_str()).find(|name| *name == server.name),
                );
            }
        }
        used.extend(
            self.servers.iter().filter(|s| matches!(s.home, Home::Provider(_))).map(|s| s.name.as_str()),
        );
        let texts = self.servers.iter().filter(|server| used.contains(server.name.as_str()));
        packed.texts = texts.filter_map(|s| Some((s.name.as_str(), s.instructions.as_deref()?))).collect();
        packed
    }

    fn pack_functions(
        &self,
        subject: &Subject,
        facts: &Facts,
        listed: &BTreeMap<&str, Arc<[Listed]>>,
        packed: &mut Packed<'_>,
    ) {
        let speaks = |word: &str| {
            let mut calls = self.functions.iter().filter_map(|function| match &function.goes_to {
                GoesTo::Http(call) => Some(call),
                GoesTo::Mcp { .. } | GoesTo::Off(_) => None,
            });
            calls.any(|call| call.speaks_of(word))
        };
        let any = self.functions.iter().any(|function| matches!(function.goes_to, GoesTo::Http(_)));
        let known = any.then(|| subject.known(facts, speaks("country")));
        for function in &self.functions {
            let mut off = |why: String| packed.off.push((function.name.clone(), why));
            let (work, parameters, base) = match &function.goes_to {
                GoesTo::Off(why) => {
                    off((*why).to_owned());
                    continue;
                }
                GoesTo::Http(call) => {
                    let known = known.clone().unwrap_or_default();
                    let call = HttpCall { known, ..(**call).clone() };
                    let parameters = fit::schema(&call.parameters);
                    (Job::Http(call), parameters, Rule::default())
                }
                GoesTo::Mcp { server: name, tool, fixed } => {
                    let Some(server) = self.servers.iter().find(|server| server.name == *name) else {
                        continue;
                    };
                    let found = match (&server.home, server.runtime(), listed.get(name.as_str())) {
                        (Home::Off(why), _, _) => Err(format!("`{name}` is off: {why}")),
                        (_, Some(reach), Some(listed)) => {
                            match listed.iter().find(|there| there.name == *tool) {
                                Some(there) => Ok((reach, there)),
                                None => Err(lacks(tool, listed)),
                            }
                        }
                        _ => Err(format!("`{name}` has not been reached")),
                    };
                    let (reach, there) = match found {
                        Ok(found) => found,
                        Err(why) => {
                            off(why);
                            continue;
                        }
                    };
                    let mut all = server.tools.get(tool).map(|rule| rule.fixed.clone()).unwrap_or_default();
                    all.extend(fixed.clone());
                    let parameters = match &function.parameters {
                        Some(own) => fit::schema(own),
                        None => there.schema.clone(),
                    };
                    let parameters = fit::without(parameters, &all);
                    let job = Job::Mcp {
                        server: reach.clone(),
                        tool: tool.clone(),
                        fixed: all,
                        parameters: function.parameters.as_ref().map(|_| parameters.clone()),
                    };
                    (job, parameters, server.rule_of(tool))
                }
            };
            let Some(parameters) = fit::small(parameters) else {
                off(TOO_LARGE.to_owned());
                continue;
            };
            if packed.tools.len() >= MOST_TOOLS {
                off(format!("a model takes {MOST_TOOLS} tools at most"));
                continue;
            }
            packed.tools.push(Tool {
                name: function.name.clone(),
                description: fit::description(&function.description),
                parameters,
                rule: function.rule.over(base),
                work: Work::Job(Arc::new(work)),
            });
        }
    }

    /// The tools of the servers as they are.
    fn pack_servers(&self, listed: &BTreeMap<&str, Arc<[Listed]>>, packed: &mut Packed<'_>) {
        let mut found: Vec<(&McpServer, &Arc<Server>, &Listed)> = Vec::new();
        for server in &self.servers {
            let mut off = |why: String| packed.off.push((server.name.clone(), why));
            let reach = match &server.home {
                Home::Off(why) => {
                    off((*why).to_owned());
                    continue;
                }
                Home::Provider(hosted) => {
                    packed.hosted.push((**hosted).clone());
                    continue;
                }
                Home::Runtime(reach) => reach,
            };
            let Some(listed) = listed.get(server.name.as_str()) else {
                off("the server has not been reached".to_owned());
                continue;
            };
            if listed.is_empty() {
                off("the server has no tools".to_owned());
            }
            let there: BTreeSet<&str> = listed.iter().map(|there| there.name.as_str()).collect();
            for name in server.named().into_iter().filter(|name| !there.contains(name)) {
                packed.off.push((format!("{}.{}", server.name, problem::shown(name)), lacks(name, listed)));
            }
            let mut seen: BTreeSet<&str> = BTreeSet::new();
            let allowed = |name: &String| server.allow.as_ref().is_none_or(|allow| allow.contains(name));
            let tools = listed.iter().filter(|there| allowed(&there.name) && seen.insert(&there.name));
            found.extend(tools.map(|there| (server, reach, there)));
        }
        let functions = self.functions.iter().map(|function| function.name.as_str());
        let taken: BTreeSet<&str> = BUILT_IN.into_iter().chain(functions).collect();
        let pairs: Vec<(&str, &str)> =
            found.iter().map(|(server, _, there)| (server.name.as_str(), there.name.as_str())).collect();
        let names = fit::names(&pairs, &taken);
        let mut work = 0;
        for ((server, reach, there), name) in found.into_iter().zip(names) {
            let place = || format!("{}.{}", server.name, problem::shown(&there.name));
            if packed.tools.len() >= MOST_TOOLS {
                let why =
                    format!("a model takes {MOST_TOOLS} tools at most: name those that it needs in `allow`");
                packed.off.push((place(), why));
                continue;
            }
            let fixed = server.tools.get(&there.name).map(|rule| rule.fixed.clone()).unwrap_or_default();
            if work > MOST_WORK {
                packed.off.push((place(), TOO_LONG.to_owned()));
                continue;
            }
            let parameters = fit::without(there.schema.clone(), &fixed);
            work += fit::size(&parameters);
            let Some(parameters) = fit::small(parameters) else {
                packed.off.push((place(), TOO_LARGE.to_owned()));
                continue;
            };
            packed.tools.push(Tool {
                name,
                description: fit::description(&there.description),
                parameters,
                rule: server.rule_of(&there.name),
                work: Work::Job(Arc::new(Job::Mcp {
                    server: reach.clone(),
                    tool: there.name.clone(),
                    fixed,
                    parameters: None,
                })),
            });
        }
    }
}

impl McpServer {
    /// The server, where we are its client.
    pub fn runtime(&self) -> Option<&Arc<Server>> {
        match &self.home {
            Home::Runtime(server) => Some(server),
            Home::Off(_) | Home::Provider(_) => None,
        }
    }

    /// All tools that the file names for it.
    fn named(&self) -> BTreeSet<&str> {
        let asked: &[String] = match &self.approval {
            AskFirst::Of(names) => names,
            AskFirst::Never | AskFirst::Always => &[],
        };
        let listed = self.allow.iter().flatten().chain(asked).chain(self.tools.keys());
        listed.map(String::as_str).collect()
    }

    /// How one of its tools is used.
    pub fn rule_of(&self, tool: &str) -> Rule {
        let ask_first = match &self.approval {
            AskFirst::Never => false,
            AskFirst::Always => true,
            AskFirst::Of(names) => names.iter().any(|name| name == tool),
        };
        let rule = Rule { ask_first, ..self.rule };
        self.tools.get(tool).map_or(rule, |own| own.over(rule))
    }
}

impl ToolRule {
    /// The rule with what is said here.
    pub fn over(&self, base: Rule) -> Rule {
        Rule {
            ask_first: self.ask_first.unwrap_or(base.ask_first),
            timeout: self.timeout.unwrap_or(base.timeout),
            filler_after: self.filler_after.unwrap_or(base.filler_after),
            stop_on_interruption: self.stop_on_interruption.unwrap_or(base.stop_on_interruption),
        }
    }
}

impl Control {
    fn pack(&self, facts: &Facts, supply: &dyn Supply, packed: &mut Packed<'_>) {
        let mut tool = |name: &str, description: String, parameters: Value, work: Work| {
            packed.tools.push(Tool {
                name: name.to_owned(),
                description,
                parameters: parameters.as_object().cloned().unwrap_or_default(),
                rule: Rule::default(),
                work,
            });
        };
        if self.end_call {
            let description = "Ends the phone call. Say goodbye first, in the same answer; then call this. The line \
                               stays open until the goodbye has been heard.";
            let parameters = json!({"type": "object", "properties": {}, "required": []});
            tool(END_CALL, description.to_owned(), parameters, Work::EndCall);
        }
        let there: Vec<(&Person, &Target)> =
            self.targets.iter().filter_map(|person| Some((person, person.target.as_ref()?))).collect();
        if !there.is_empty() {
            let names: Vec<&str> = there.iter().map(|(person, _)| person.name.as_str()).collect();
            let about =
                |person: &Person| Some(format!("`{}`: {}", person.name, person.description.as_ref()?));
            let mut words = vec!["Whom to put the caller through to.".to_owned()];
            words.extend(there.iter().filter_map(|(person, _)| about(person)));
            let parameters = json!({
                "type": "object",
                "properties": { "to": { "type": "string", "enum": names, "description": words.join(" ") } },
                "required": ["to"],
            });
            let description = "Puts the caller through to a person. Say first, in the same answer, whom you are \
                               calling; then call this. If nobody answers, the caller comes back to you.";
            let targets = there.into_iter().map(|(_, target)| target.clone()).collect();
            tool(TRANSFER_CALL, description.to_owned(), parameters, Work::Transfer(targets));
        }
        if self.send_digits {
            let digits = "The keys: 0 to 9, * and #; w waits for half a second.";
            let pattern = format!("^[0-9*#w]{{1,{MAX_KEYS}}}$");
            let parameters = json!({
                "type": "object",
                "properties": {
                    "digits": { "type": "string", "pattern": pattern, "description": digits },
                },
                "required": ["digits"],
            });
            let description = "Presses keys on the phone, for a machine at the other end that asks for them.";
            tool(SEND_DIGITS, description.to_owned(), parameters, Work::SendDigits);
        }
        let texts = self.send_sms && supply.sends_texts() && facts.caller.number().is_some();
        if texts {
            let parameters = json!({
                "type": "object",
                "properties": { "text": { "type": "string", "description": "What it says, in plain words." } },
                "required": ["text"],
            });
            let description = "Sends a text message to the number that the caller calls from. Ask first whether they \
                               would like one.";
            tool(SEND_SMS, description.to_owned(), parameters, Work::Job(Arc::new(Job::SendSms)));
        }
        if let Some(Messages { mailbox: Some(mailbox), description, parameters }) = &self.take_message {
            let ours = "Takes down a message for the people this line belongs to. Ask for what it needs, one thing at \
                        a time, and read it back before you call this.";
            let description = fit::description(description.as_deref().unwrap_or(ours));
            let work = Work::Job(Arc::new(Job::TakeMessage(mailbox.clone())));
            match fit::small(fit::schema(parameters)) {
                Some(parameters) => tool(TAKE_MESSAGE, description, Value::Object(parameters), work),
                None => packed.off.push((TAKE_MESSAGE.to_owned(), TOO_LARGE.to_owned())),
            }
        }
        for person in self.targets.iter().filter(|person| person.target.is_none()) {
            packed.off.push((format!("{TRANSFER_CALL}.{}", person.name), "its number is empty".to_owned()));
        }
        if self.send_sms && !texts {
            let why = match supply.sends_texts() {
                false => "there are no credentials for Twilio's REST: set TWILIO_ACCOUNT_SID",
                true => "the caller's number is not known",
            };
            packed.off.push((SEND_SMS.to_owned(), why.to_owned()));
        }
        if self.take_message.as_ref().is_some_and(|messages| messages.mailbox.is_none()) {
            packed.off.push((TAKE_MESSAGE.to_owned(), "its `url` is empty".to_owned()));
        }
    }
}

impl Packed<'_> {
    /// Keeps all tools together within [`LARGEST`]: those after the first `ours` lose their words, then the last go.
    fn bound(&mut self, ours: usize) {
        let size = |tool: &Tool| tool.name.len() + tool.description.len() + fit::size(&tool.parameters);
        let mut all: usize = self.tools.iter().map(size).sum();
        if all > LARGEST {
            for tool in self.tools.iter_mut().skip(ours) {
                tool.parameters = fit::lean(std::mem::take(&mut tool.parameters));
            }
            all = self.tools.iter().map(size).sum();
        }
        while all > LARGEST
            && let Some(tool) = self.tools.pop()
        {
            all -= size(&tool);
            self.off.push((tool.name, TOO_LONG.to_owned()));
        }
    }
}

/// Why a tool is not to be had, where the server has others. What the file says of it holds for none of them.
pub fn lacks(tool: &str, listed: &[Listed]) -> String {
    const SHOWN: usize = 20;
    let near = problem::nearest(tool, listed.iter().map(|there| there.name.as_str()));
    let tool = problem::shown(tool);
    if listed.is_empty() {
        return format!("`{tool}` is not among the server's tools: it has none");
    }
    if let Some(near) = near.first() {
        let near = problem::shown(near);
        return format!("`{tool}` is not among the server's tools: did you mean `{near}`?");
    }
    let names: Vec<String> = listed.iter().take(SHOWN).map(|there| problem::shown(&there.name)).collect();
    let names = problem::list(&names.iter().map(String::as_str).collect::<Vec<_>>());
    match listed.len().saturating_sub(SHOWN) {
        0 => format!("`{tool}` is not among the server's tools: it has {names}"),
        more => format!("`{tool}` is not among the server's tools: it has {names} and {more} more"),
    }
}
