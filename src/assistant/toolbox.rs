//! The tools of one assistant, as its file has them, and which of them one call gets.
//!
//! What a call gets depends on what is available while its plan is made: a server that is not connected has no tools,
//! and a caller without a number gets no text message. Each tool that is left out has a reason.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::fit;
use super::plan::{
    AskFirst, END_CALL, Hold, Hosted, HttpCall, Job, Listed, MAX_KEYS, Mailbox, Rule, SEND_DIGITS, SEND_SMS,
    Server, ServerUse, Supply, TAKE_MESSAGE, TRANSFER_CALL, Target, Tool, Work,
};
use super::prompt::{Facts, Subject};
use crate::problem;
use crate::provider::Provider;

/// Tools in one plan. Providers take no more.
const MOST_TOOLS: usize = 128;
/// The size of all tools of a plan, in bytes of JSON.
const LARGEST: usize = 128 * 1024;
/// The size of the schemas of servers' tools before they are shortened, in bytes of JSON. It bounds the work for one
/// call.
const MOST_WORK: usize = 8 * LARGEST;
const TOO_LARGE: &str = "the schema of its arguments is too long for a model";
const TOO_LONG: &str = "all tools together are too long for a model: list the ones it needs in `allow`";
/// The names of the built-in tools. A function cannot have one.
pub const BUILT_IN: [&str; 5] = [END_CALL, TRANSFER_CALL, SEND_DIGITS, SEND_SMS, TAKE_MESSAGE];

/// All tools in an assistant's file, on or off.
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
    /// The tools that the model sees directly; `None`: all.
    pub allow: Option<Vec<String>>,
    pub approval: AskFirst,
    /// For every tool without its own rules; `approval` decides whether the caller is asked.
    pub rule: Rule,
    pub tools: BTreeMap<String, ToolRule>,
    /// A template: its part of the prompt.
    pub instructions: Option<String>,
}

/// Who connects to a server.
#[derive(Clone, PartialEq)]
pub enum Home {
    /// Nobody, with the reason.
    Off(Off),
    Runtime(Arc<Server>),
    Provider(Box<Hosted>),
}

/// What the file sets for one tool or function.
#[derive(Clone, PartialEq, Default)]
pub struct ToolRule {
    pub ask_first: Option<bool>,
    pub timeout: Option<Duration>,
    pub filler_after: Option<Duration>,
    pub stop_on_interruption: Option<bool>,
    pub max_per_call: Option<u32>,
    pub hold: Option<Hold>,
    /// Arguments that always have this value.
    pub fixed: Map<String, Value>,
}

/// One of the owner's functions.
#[derive(Clone, PartialEq)]
pub struct Function {
    pub name: String,
    pub description: String,
    /// As written, without fixed arguments; `None`: those of the MCP tool, or no arguments.
    pub parameters: Option<Arguments>,
    pub goes_to: GoesTo,
    pub rule: ToolRule,
}

/// Where a call of a function goes.
#[derive(Clone, PartialEq)]
pub enum GoesTo {
    /// Nowhere, with the reason.
    Off(Off),
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

/// A person in `transfer_to`.
#[derive(Clone, PartialEq)]
pub struct Person {
    pub name: String,
    /// `None` if the number is empty.
    pub target: Option<Target>,
    pub description: Option<String>,
}

/// `take_message`.
#[derive(Clone, PartialEq)]
pub struct Messages {
    /// `None` if every way is empty.
    pub mailbox: Option<Mailbox>,
    pub description: Option<String>,
    /// The schema of a message; `None`: it is not one.
    pub parameters: Option<Arguments>,
}

/// What one call gets.
#[derive(Default)]
pub struct Packed<'a> {
    pub tools: Vec<Tool>,
    pub hosted: Vec<Hosted>,
    /// The instructions of the servers with a tool in this call.
    pub texts: Vec<(&'a str, &'a str)>,
    /// What it does not get, with the reasons.
    pub off: Vec<(String, Off)>,
}

/// Why a tool is off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Off {
    /// The owner left this part empty, which switches the tool off.
    #[error("its {0} is empty")]
    Empty(&'static str),
    #[error("{0}")]
    Because(Cow<'static, str>),
}

impl From<&'static str> for Off {
    fn from(why: &'static str) -> Off {
        Off::Because(why.into())
    }
}

impl From<String> for Off {
    fn from(why: String) -> Off {
        Off::Because(why.into())
    }
}

impl Toolbox {
    /// The servers with `via: runtime`, as the assistant of this name uses them.
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

    /// What a call with these facts gets.
    pub fn pack(
        &self,
        subject: &Subject,
        facts: &Facts,
        supply: &dyn Supply,
        provider: &Provider,
    ) -> Packed<'_> {
        let mut packed = Packed::default();
        self.control.pack(facts, supply, &mut packed);
        let listed: BTreeMap<&str, Arc<[Listed]>> = self
            .servers
            .iter()
            .filter_map(|server| Some((server.name.as_str(), supply.listed(server.runtime()?)?)))
            .collect();
        self.pack_functions(subject, facts, &listed, &mut packed);
        let ours = packed.tools.len();
        self.pack_servers(&listed, provider, &mut packed);
        packed.bound(ours);
        let is_of = |tool: &Tool, server: &McpServer| match &tool.work {
            Work::Job(job) => matches!(&**job, Job::Mcp { server: its, .. } if its.name == server.name),
            Work::EndCall | Work::Transfer(_) | Work::SendDigits => false,
        };
        let has_tool = |server: &&McpServer| {
            packed.hosted.iter().any(|hosted| hosted.label == server.name)
                || packed.tools.iter().any(|tool| is_of(tool, server))
        };
        let texts = self.servers.iter().filter(has_tool);
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
        let calls = self.functions.iter().filter_map(|function| match &function.goes_to {
            GoesTo::Http(call) => Some(call),
            GoesTo::Mcp { .. } | GoesTo::Off(_) => None,
        });
        let calls: Vec<_> = calls.collect();
        let country = calls.iter().any(|call| call.contains("country"));
        let known = match calls.is_empty() {
            true => minijinja::Value::default(),
            false => subject.known(facts, country),
        };
        for function in &self.functions {
            let made = self.job(function, &known, listed).and_then(|(job, parameters, base)| {
                let parameters = fit::small(parameters).ok_or(TOO_LARGE)?;
                packed.has_room()?;
                Ok(Tool {
                    name: function.name.clone(),
                    description: fit::description(&function.description),
                    parameters,
                    arguments: function.parameters.clone(),
                    rule: function.rule.over(base),
                    work: Work::Job(Arc::new(job)),
                })
            });
            packed.add(function.name.clone(), made);
        }
    }

    /// What a function does, with the schema of its arguments and the rule that it starts from.
    fn job(
        &self,
        function: &Function,
        known: &minijinja::Value,
        listed: &BTreeMap<&str, Arc<[Listed]>>,
    ) -> Result<(Job, Map<String, Value>, Rule), Off> {
        let (name, tool, fixed) = match &function.goes_to {
            GoesTo::Off(why) => return Err(why.clone()),
            GoesTo::Http(call) => {
                let call = HttpCall { known: known.clone(), ..(**call).clone() };
                let parameters = fit::schema(&call.parameters);
                return Ok((Job::Http(call), parameters, Rule::default()));
            }
            GoesTo::Mcp { server, tool, fixed } => (server, tool, fixed),
        };
        let unreached = || Off::from(format!("`{name}` has not been reached"));
        let server = self.servers.iter().find(|server| server.name == *name).ok_or_else(unreached)?;
        if let Home::Off(why) = &server.home {
            return Err(Off::from(format!("`{name}` is off: {why}")));
        }
        let reach = server.runtime().ok_or_else(unreached)?;
        let listed = listed.get(name.as_str()).ok_or_else(unreached)?;
        let there =
            listed.iter().find(|there| there.name == *tool).ok_or_else(|| Off::from(lacks(tool, listed)))?;
        let fixed: Map<String, Value> = server.fixed(tool).into_iter().chain(fixed.clone()).collect();
        let parameters = match &function.parameters {
            Some(own) => fit::schema(own.schema()),
            None => fit::without(there.schema.clone(), &fixed),
        };
        let job = Job::Mcp { server: reach.clone(), tool: tool.clone(), fixed };
        Ok((job, parameters, server.rule_of(tool)))
    }

    /// The tools of the servers, unchanged.
    fn pack_servers(
        &self,
        listed: &BTreeMap<&str, Arc<[Listed]>>,
        provider: &Provider,
        packed: &mut Packed<'_>,
    ) {
        let mut found: Vec<(&McpServer, &Arc<Server>, &Listed)> = Vec::new();
        for server in &self.servers {
            let reach = match &server.home {
                Home::Off(why) => {
                    packed.off.push((server.name.clone(), why.clone()));
                    continue;
                }
                Home::Provider(_) if !provider.hosts_mcp() => {
                    let why = format!("`{}` cannot connect to MCP servers", provider.name);
                    packed.off.push((server.name.clone(), why.into()));
                    continue;
                }
                Home::Provider(hosted) => {
                    packed.hosted.push((**hosted).clone());
                    continue;
                }
                Home::Runtime(reach) => reach,
            };
            let Some(listed) = listed.get(server.name.as_str()) else {
                packed.off.push((server.name.clone(), "the server has not been reached".into()));
                continue;
            };
            if listed.is_empty() {
                packed.off.push((server.name.clone(), "the server has no tools".into()));
            }
            let there: BTreeSet<&str> = listed.iter().map(|there| there.name.as_str()).collect();
            for name in server.named().into_iter().filter(|name| !there.contains(name)) {
                packed.off.push((server.place(name), lacks(name, listed).into()));
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
            let make = || {
                packed.has_room()?;
                if work > MOST_WORK {
                    return Err(TOO_LONG.to_owned());
                }
                let fixed = server.fixed(&there.name);
                let parameters = fit::without(there.schema.clone(), &fixed);
                work += fit::size(&parameters);
                let (server_of, tool) = (reach.clone(), there.name.clone());
                Ok(Tool {
                    name,
                    description: fit::description(&there.description),
                    parameters: fit::small(parameters).ok_or(TOO_LARGE)?,
                    arguments: None,
                    rule: server.rule_of(&there.name),
                    work: Work::Job(Arc::new(Job::Mcp { server: server_of, tool, fixed })),
                })
            };
            let made = make();
            packed.add(server.place(&there.name), made);
        }
    }
}

impl McpServer {
    /// The server, if it has `via: runtime`.
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

    /// One of its tools in a message.
    fn place(&self, tool: &str) -> String {
        format!("{}.{}", self.name, problem::whole(tool))
    }

    /// The arguments that the owner fixes for one of its tools.
    pub fn fixed(&self, tool: &str) -> Map<String, Value> {
        self.tools.get(tool).map(|rule| rule.fixed.clone()).unwrap_or_default()
    }

    /// The rule for one of its tools.
    pub fn rule_of(&self, tool: &str) -> Rule {
        let ask_first = match &self.approval {
            AskFirst::Never => false,
            AskFirst::Always => true,
            AskFirst::Of(names) => names.iter().any(|name| name == tool),
        };
        let rule = Rule { ask_first, ..self.rule.clone() };
        match self.tools.get(tool) {
            Some(own) => own.over(rule),
            None => rule,
        }
    }
}

impl ToolRule {
    /// The rule with the values that are set here.
    pub fn over(&self, base: Rule) -> Rule {
        Rule {
            ask_first: self.ask_first.unwrap_or(base.ask_first),
            timeout: self.timeout.unwrap_or(base.timeout),
            filler_after: self.filler_after.unwrap_or(base.filler_after),
            stop_on_interruption: self.stop_on_interruption.unwrap_or(base.stop_on_interruption),
            max_per_call: self.max_per_call.unwrap_or(base.max_per_call),
            hold: self.hold.clone().or(base.hold),
        }
    }
}

impl Control {
    fn pack(&self, facts: &Facts, supply: &dyn Supply, packed: &mut Packed<'_>) {
        let one = |name: &str, schema: Value| Ok(object(&[name], json!({ name: schema })));
        let off = |why: &str| Err(why.to_owned());
        if self.end_call {
            let description = "Ends the phone call. Say goodbye first, in the same answer; then call this. The line \
                               stays open until the goodbye has been heard.";
            packed.built_in(END_CALL, description, Ok(object(&[], json!({}))), Work::EndCall);
        }
        let people = self.targets.iter().filter_map(|person| Some((person, person.target.clone()?)));
        let (people, targets): (Vec<&Person>, Vec<Target>) = people.unzip();
        if !targets.is_empty() {
            let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
            let about = people
                .iter()
                .filter_map(|person| Some(format!(" `{}`: {}", person.name, person.description.as_ref()?)));
            let who = format!("Whom to put the caller through to.{}", about.collect::<String>());
            let to = one("to", json!({ "type": "string", "enum": names, "description": who }));
            let description = "Puts the caller through to a person. Say first, in the same answer, whom you are \
                               calling; then call this. If nobody answers, the caller comes back to you.";
            packed.built_in(TRANSFER_CALL, description, to, Work::Transfer(targets));
        }
        for person in self.targets.iter().filter(|person| person.target.is_none()) {
            packed.off.push((format!("{TRANSFER_CALL}.{}", person.name), Off::Empty("number")));
        }
        if self.send_digits {
            let keys = "The keys: 0 to 9, * and #; w waits for half a second.";
            let pattern = format!("^[0-9*#w]{{1,{MAX_KEYS}}}$");
            let digits = one("digits", json!({ "type": "string", "pattern": pattern, "description": keys }));
            let description = "Presses keys on the phone, for a machine at the other end that asks for them.";
            packed.built_in(SEND_DIGITS, description, digits, Work::SendDigits);
        }
        if self.send_sms {
            let description = "Sends a text message to the number that the caller calls from. Ask first whether they \
                               would like one.";
            let text = match (supply.sends_texts(), facts.caller.number()) {
                (false, _) => off("there are no credentials for Twilio's REST: set TWILIO_ACCOUNT_SID"),
                (true, None) => off("the caller's number is not known"),
                _ => one("text", json!({ "type": "string", "description": "What it says, in plain words." })),
            };
            packed.built_in(SEND_SMS, description, text, Work::Job(Arc::new(Job::SendSms)));
        }
        match &self.take_message {
            Some(Messages { mailbox: Some(mailbox), description, parameters: Some(parameters) }) => {
                let default = "Takes down a message for the people this line belongs to. Ask for what it needs, one \
                               thing at a time, and read it back before you call this.";
                let description = fit::description(description.as_deref().unwrap_or(default));
                let work = Work::Job(Arc::new(Job::TakeMessage(mailbox.clone())));
                let schema = fit::small(fit::schema(parameters.schema())).ok_or_else(|| TOO_LARGE.to_owned());
                packed.built_in(TAKE_MESSAGE, &description, schema, work);
                if let Some(tool) = packed.tools.last_mut().filter(|tool| tool.name == TAKE_MESSAGE) {
                    tool.arguments = Some(parameters.clone());
                }
            }
            Some(_) => packed.off.push((TAKE_MESSAGE.to_owned(), Off::Empty("`to`"))),
            None => {}
        }
    }
}

/// A schema of these arguments, all of them required.
fn object(required: &[&str], properties: Value) -> Map<String, Value> {
    let schema = json!({ "type": "object", "properties": properties, "required": required });
    schema.as_object().cloned().unwrap_or_default()
}

impl Packed<'_> {
    fn has_room(&self) -> Result<(), String> {
        match self.tools.len() < MOST_TOOLS {
            true => Ok(()),
            false => {
                Err(format!("a model takes at most {MOST_TOOLS} tools: list the ones it needs in `allow`"))
            }
        }
    }

    fn add(&mut self, place: String, made: Result<Tool, impl Into<Off>>) {
        match made {
            Ok(tool) => self.tools.push(tool),
            Err(why) => self.off.push((place, why.into())),
        }
    }

    fn built_in(
        &mut self,
        name: &str,
        description: &str,
        parameters: Result<Map<String, Value>, String>,
        work: Work,
    ) {
        let (name, description) = (name.to_owned(), description.to_owned());
        let rule = Rule::default();
        let made = parameters.map(|parameters| Tool {
            name: name.clone(),
            description,
            parameters,
            arguments: None,
            rule,
            work,
        });
        self.add(name, made);
    }

    /// Keeps all tools together within [`LARGEST`]: all but the first `ours` lose their descriptions, then the last are
    /// dropped.
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
            self.off.push((tool.name, TOO_LONG.into()));
        }
    }
}

/// Why a tool of a server is missing: the server lists only others.
pub fn lacks(tool: &str, listed: &[Listed]) -> String {
    const SHOWN: usize = 20;
    let shown = problem::whole(tool);
    let names: Vec<String> = listed.iter().map(|there| problem::whole(&there.name)).collect();
    if let Some(near) = problem::nearest(tool, names.iter().map(String::as_str)).first() {
        return format!("the server has no tool `{shown}`: did you mean `{near}`?");
    }
    let (first, more) = names.split_at(names.len().min(SHOWN));
    match (first, more.len()) {
        ([], _) => format!("the server has no tool `{shown}`: it has none at all"),
        (_, 0) => format!("the server has no tool `{shown}`: it has {}", problem::list(first)),
        (_, more) => {
            format!("the server has no tool `{shown}`: it has {} and {more} more", problem::list(first))
        }
    }
}
