//! One assistant, as checked: every key of its file, with its meaning, default and range.
//!
//! Nothing else makes an [`Assistant`]. Which number rings which assistant is the roster's to know.

mod changes;
mod control;
mod functions;
mod mcp;
mod model;
mod secrets;
mod talk;
mod tools;
mod types;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::plan::{
    Effort, First, Greeting, Limits, Line, OnFailure, Plan, ServerUse, Supply, Transcription, TurnTaking,
};
use super::prompt::{self, Examiner, Facts, Place, PlanError, Subject};
use super::toolbox::Toolbox;
use super::values;
use super::written::{Fields, Written};
use crate::phone::PhoneNumber;
use crate::problem::{self, Problem, Span};
use crate::provider::Provider;
use crate::yaml::{self, Kind, MISSING, Node, SourceFile};
use switchboard_audio::Clip;

/// An assistant that passed every check. Prints as its name only.
#[derive(Clone, PartialEq)]
pub struct Assistant {
    subject: Subject,
    claims: Vec<PhoneNumber>,
    /// It answers every number that no other assistant claims.
    rest: bool,
    provider: Arc<Provider>,
    model: String,
    voice: String,
    speed: Option<f64>,
    temperature: Option<f64>,
    reasoning: Option<Effort>,
    /// Its own part of the prompt.
    instructions: Option<Part>,
    fragments: Vec<Part>,
    toolbox: Toolbox,
    first: First,
    say: Option<String>,
    clip: Option<Arc<Clip>>,
    interruptible: bool,
    turn_taking: TurnTaking,
    transcription: Option<Transcription>,
    limits: Limits,
    /// `say` is a template here.
    busy: Line,
    on_failure: OnFailure,
}

/// A part of the prompt.
#[derive(Clone, PartialEq)]
struct Part {
    heading: String,
    template: String,
}

/// What an assistant's file may refer to.
pub struct Around<'a> {
    pub environment: &'a BTreeMap<String, String>,
    /// The first is the default.
    pub providers: &'a [Arc<Provider>],
    /// By name, without the extension.
    pub fragments: &'a BTreeMap<String, Fragment<'a>>,
    /// By file name; `None` for one that could not be read, which is a problem of its own.
    pub greetings: &'a BTreeMap<String, Option<Arc<Clip>>>,
}

/// A shared piece of instructions.
pub struct Fragment<'a> {
    pub source: problem::Source,
    pub text: &'a str,
    /// It speaks of nothing that an assistant's own variables could change, and was checked for all of them.
    pub checked: bool,
}

/// A number that a file lays claim to; `None` for `*`.
pub struct Claim {
    pub number: Option<PhoneNumber>,
    pub span: Span,
    pub shown: String,
}

/// A phone number and where it is written.
#[derive(Debug, Clone)]
pub struct Dialable {
    pub number: PhoneNumber,
    pub span: Span,
    pub shown: String,
}

/// What the check of one file gave.
pub struct Outcome {
    pub source: problem::Source,
    /// Every phone number in it.
    pub numbers: Vec<Dialable>,
    /// The paths of the fragments that it names.
    pub fragments: Vec<String>,
    /// `None` when there is an error.
    pub assistant: Option<Assistant>,
    pub claims: Vec<Claim>,
    pub problems: Vec<Problem>,
}

impl Assistant {
    /// The file's name without the extension.
    pub fn name(&self) -> &str {
        &self.subject.name
    }

    pub fn description(&self) -> &str {
        &self.subject.description
    }

    /// Whose model answers.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// The numbers it answers by name.
    pub fn numbers(&self) -> &[PhoneNumber] {
        &self.claims
    }

    /// Whether it answers every number that no other assistant claims.
    pub fn answers_the_rest(&self) -> bool {
        self.rest
    }

    /// The MCP servers whose client we are to be, as this assistant uses them.
    pub fn servers(&self) -> impl Iterator<Item = ServerUse> {
        self.toolbox.uses(self.name())
    }

    /// The tools of its file that a call with these facts does not get, each with the reason in plain words. A tool of
    /// a server is `SERVER.TOOL`.
    pub fn tools_off(&self, facts: &Facts, supply: &dyn Supply) -> Vec<(String, String)> {
        self.toolbox.pack(&self.subject, facts, supply).off
    }

    /// What is said and done when a call with these facts cannot go on, or cannot begin.
    pub fn on_failure(&self, facts: &Facts) -> OnFailure {
        let OnFailure { line, dial } = &self.on_failure;
        let say = self.subject.render(&line.say, facts).unwrap_or_else(|_| talk::SORRY.to_owned());
        OnFailure { line: Line { say, language: line.language.clone() }, dial: dial.clone() }
    }

    /// The assistant rendered and frozen for one call, with the tools that can be used now.
    ///
    /// # Errors
    /// A text that cannot be rendered for these facts.
    pub fn plan(&self, facts: &Facts, supply: &dyn Supply) -> Result<Plan, PlanError> {
        let render = |template: &str| {
            self.subject
                .render(template, facts)
                .map_err(|reason| PlanError { assistant: self.subject.name.clone(), reason })
        };
        let packed = self.toolbox.pack(&self.subject, facts, supply);
        let tools: Vec<Part> =
            packed.texts.iter().map(|(name, template)| Part::of_tool(name, template)).collect();
        let parts = self.instructions.iter().chain(&self.fragments).chain(&tools);
        let parts = parts.map(|part| Ok(part.under_heading(&render(&part.template)?)));
        let parts: Vec<String> = parts.collect::<Result<_, PlanError>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let line = |line: &Line| Ok(Line { say: render(&line.say)?, language: line.language.clone() });
        Ok(Plan {
            assistant: self.subject.name.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
            voice: self.voice.clone(),
            speed: self.speed,
            temperature: self.temperature,
            reasoning: self.reasoning,
            instructions: parts.join("\n\n"),
            greeting: Greeting {
                first: self.first,
                say: self.say.as_deref().map(render).transpose()?,
                clip: self.clip.clone(),
                interruptible: self.interruptible,
            },
            turn_taking: self.turn_taking.clone(),
            transcription: self.transcription.clone(),
            tools: packed.tools,
            hosted: packed.hosted,
            limits: self.limits,
            busy: line(&self.busy)?,
            on_failure: OnFailure { line: line(&self.on_failure.line)?, dial: self.on_failure.dial.clone() },
        })
    }
}

impl fmt::Debug for Assistant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assistant({})", self.subject.name)
    }
}

/// Checks one file.
pub fn file(name: &str, file: &SourceFile, around: &Around<'_>) -> Outcome {
    let mut document = yaml::read(file, around.environment);
    let text = yaml::text(&file.path, &file.bytes).unwrap_or_default();
    secrets::hide(&mut document.source, text, document.root.as_ref());
    let problems = document.problems.into_iter().map(|problem| problem.within(&document.source)).collect();
    let written = Written::new(document.source.clone(), problems);
    let mut claims = Vec::new();
    let (mut numbers, mut fragments) = (Vec::new(), Vec::new());
    let assistant = match &document.root {
        Some(root) if root.is_null() => {
            let message = "the file is empty";
            let problem = Problem::about(&file.path, "file.empty", message);
            written.note(problem.help("write at least `numbers:` and `instructions:`, or delete it"));
            None
        }
        Some(root) => {
            let check = Check {
                name,
                text,
                around,
                written: &written,
                numbers: RefCell::default(),
                used: RefCell::default(),
            };
            let assistant = check.top(root, &mut claims);
            (numbers, fragments) = (check.numbers.into_inner(), check.used.into_inner());
            assistant
        }
        None => None,
    };
    let source = written.source.clone();
    let problems = written.into_problems();
    let sound = !problems.iter().any(Problem::is_error);
    Outcome { source, numbers, fragments, assistant: assistant.filter(|_| sound), claims, problems }
}

struct Check<'a> {
    name: &'a str,
    text: &'a str,
    around: &'a Around<'a>,
    written: &'a Written,
    numbers: RefCell<Vec<Dialable>>,
    /// The paths of fragments.
    used: RefCell<Vec<String>>,
}

/// A template and its place; checked once all variables are known.
struct Text<'a> {
    template: String,
    node: &'a Node,
}

impl<'a> Check<'a> {
    /// Reads every key. With problems the result is a guess, and is thrown away by the caller.
    fn top(&self, root: &'a Node, claims: &mut Vec<Claim>) -> Option<Assistant> {
        let w = self.written;
        let top = w.map(root, "", "`instructions: …` and the like")?;
        let description = top.take("description").and_then(|node| w.text(node, "description"));
        if let Some(node) = top.take("numbers") {
            self.numbers(node, claims);
        }
        let provider = self.provider(&top);
        let model = self.model(&top, &provider);
        let voice = self.voice(&top, &provider);
        let temperature = self.temperature(&top, &provider);
        let speed = self.speed(&top, &provider);
        let reasoning = self.reasoning(&top, &provider, &model);
        let language = top.take("language").and_then(|node| self.language(node, "language"));
        let subject = Subject {
            name: self.name.to_owned(),
            description: description.unwrap_or_default(),
            zone: self.zone(&top).unwrap_or(TimeZone::UTC),
            callers: self.callers(&top),
            variables: self.variables(&top),
        };

        let mut texts: Vec<Text<'a>> = Vec::new();
        let instructions = top.take("instructions").filter(|node| !blank(node));
        let template = instructions.and_then(|node| self.template(node, "instructions", &mut texts));
        let own = template.map(|template| Part { heading: "Your role".to_owned(), template });
        let examiner = subject.examiner();
        let fragments = self.fragments(&top, &examiner);
        if instructions.is_none() && !self.asked(root, "fragments") && !misspelt(root, "instructions") {
            let span =
                Span { len: 0, line: root.span.line.max(1), column: root.span.column.max(1), ..root.span };
            let help = "write what the assistant is for: `instructions: |` and a text";
            w.error_help(span, "instructions.missing", "there are no `instructions`", help);
        }
        let greeting = self.greeting(&top, &mut texts);
        let turn_taking = self.turn_taking(&top, &provider);
        let transcription = self.transcription(&top, &provider, language.as_deref());
        let toolbox = self.toolbox(&top, &provider, &examiner, &mut texts);
        let limits = self.limits(&top, &provider);
        let spoken = match language.as_deref() {
            Some(tag) if tag.contains('-') => tag.to_owned(),
            None | Some("en") => "en-US".to_owned(),
            Some(tag) => tag.to_owned(),
        };
        let busy =
            self.line(&top, "busy", "All lines are busy. Please call again later.", &spoken, &mut texts);
        let (failed, dial) = self.on_failure(&top, &spoken, &mut texts);
        self.later(&top);
        top.finish();

        for text in &texts {
            let Some(scalar) = text.node.scalar() else { continue };
            let place = Place::of(&w.source, self.text, text.node, scalar);
            examiner.check(&text.template, &place).into_iter().for_each(|problem| w.note(problem));
        }
        let (first, say, clip, interruptible) = greeting;
        Some(Assistant {
            subject,
            claims: claims.iter().filter_map(|claim| claim.number.clone()).collect(),
            rest: claims.iter().any(|claim| claim.number.is_none()),
            provider,
            model,
            voice,
            speed,
            temperature,
            reasoning,
            instructions: own,
            fragments,
            toolbox,
            first,
            say,
            clip,
            interruptible,
            turn_taking,
            transcription,
            limits,
            busy,
            on_failure: OnFailure { line: failed, dial },
        })
    }

    fn asked(&self, root: &Node, name: &str) -> bool {
        matches!(&root.kind, Kind::Map(entries) if entries.iter().any(|(key, node)| key.name == name && !empty(node)))
    }

    fn template(&self, node: &'a Node, name: &str, texts: &mut Vec<Text<'a>>) -> Option<String> {
        let template = self.written.text(node, name)?;
        texts.push(Text { template: template.clone(), node });
        Some(template)
    }

    fn number(&self, node: &Node, name: &str) -> Option<PhoneNumber> {
        if node.scalar().is_none() {
            let message = format!("`{name}` must be a phone number, and this is {}", node.what());
            self.written.error_help(node.span, "type", message, "write one number, such as \"+1555…\"");
            return None;
        }
        let text = self.written.text(node, name)?;
        let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
        match PhoneNumber::parse(text.trim()) {
            Ok(number) => {
                self.numbers.borrow_mut().push(Dialable { number: number.clone(), span: node.span, shown });
                Some(number)
            }
            Err(why) => {
                let help = match (self.written.source.variable(node.span), text.as_str()) {
                    (Some(_), _) if text.contains('…') => {
                        "put the digits of your number in the place of `…`".to_owned()
                    }
                    (Some(variable), _) => format!("write {variable}=+1555…; one variable holds one number"),
                    (None, _) if text.contains([',', ';']) => {
                        "write several numbers as a list: [\"+1555…\", \"+1555…\"]".to_owned()
                    }
                    (None, _) if text.contains(['“', '”', '„', '‘', '’']) => {
                        "use straight quotes: \"+1555…\"".to_owned()
                    }
                    (None, _) => {
                        "write a plus, the country code and the number, such as \"+1555…\"".to_owned()
                    }
                };
                let message = format!("`{shown}` is not a phone number: {why}");
                self.written.error_help(node.span, "number.invalid", message, help);
                None
            }
        }
    }

    fn numbers(&self, node: &Node, claims: &mut Vec<Claim>) {
        let mut first: BTreeMap<Option<PhoneNumber>, Span> = BTreeMap::new();
        for item in self.written.list(node, "numbers") {
            if item.is_null() {
                continue;
            }
            let shown = item.scalar().map(|s| s.shown()).unwrap_or_default();
            let number = match item.scalar().map(|s| s.text().trim()) {
                Some("*") => None,
                _ => match self.number(item, "numbers") {
                    Some(number) => Some(number),
                    None => continue,
                },
            };
            match first.entry(number.clone()) {
                Entry::Occupied(earlier) => {
                    let message = format!("`{shown}` is listed twice");
                    let problem = self.written.source.error(item.span, "number.double", message);
                    self.written
                        .note(problem.also(self.written.source.place(*earlier.get()), "first listed here"));
                }
                Entry::Vacant(place) => {
                    place.insert(item.span);
                    claims.push(Claim { number, span: item.span, shown });
                }
            }
        }
    }

    fn language(&self, node: &Node, name: &str) -> Option<String> {
        let text = self.written.text(node, name)?.trim().to_owned();
        let mut parts = text.split('-');
        let first = parts.next().unwrap_or_default();
        let fits = (2..=3).contains(&first.len())
            && first.bytes().all(|b| b.is_ascii_lowercase())
            && parts.all(|p| (2..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !fits {
            let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
            let message = match text.is_empty() {
                true => format!("`{name}` is empty"),
                false => format!("`{shown}` is not a language"),
            };
            self.written.error_help(node.span, "language.invalid", message, "write it like `en` or `en-US`");
            return None;
        }
        Some(text)
    }

    fn zone(&self, top: &Fields<'a>) -> Option<TimeZone> {
        let node = top.take("timezone")?;
        let name = self.written.text(node, "timezone")?;
        match TimeZone::get(name.trim()) {
            Ok(zone) => Some(zone),
            Err(_) => {
                let shown = node.scalar().map(|s| s.shown()).unwrap_or_default();
                let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
                // Who writes `Berlin` means the one whose last part that is.
                let city = name.trim().replace(' ', "_").to_lowercase();
                let of_city = all.iter().find(|zone| {
                    zone.to_lowercase().rsplit('/').next() == Some(city.as_str()) && zone.contains('/')
                });
                let near = problem::nearest(&name, all.iter().map(String::as_str));
                let help = match of_city.map(String::as_str).or(near.first().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write it like `America/New_York` or `UTC`".to_owned(),
                };
                let message = format!("there is no time zone `{shown}`");
                self.written.error_help(node.span, "timezone.unknown", message, help);
                None
            }
        }
    }

    fn callers(&self, top: &Fields<'a>) -> BTreeMap<PhoneNumber, String> {
        let mut callers = BTreeMap::new();
        let Some(node) = top.take("callers") else { return callers };
        let example = "callers: { \"+1555…\": Anna }";
        let Some(map) = self.written.map(node, "callers", example) else { return callers };
        for (key, value) in map.all() {
            if value.scalar().is_none() {
                let message = format!("the name of a caller must be a text, and this is {}", value.what());
                self.written.error_help(value.span, "type", message, format!("write {example}"));
            }
            let name = value.scalar().and_then(|_| self.written.text(value, "callers"));
            match (PhoneNumber::parse(key.name.trim()), name) {
                (Ok(number), Some(name)) => {
                    callers.insert(number, name);
                }
                (Err(why), _) => {
                    let message = format!("`{}` is not a phone number: {why}", problem::shown(&key.name));
                    self.written.error_help(key.span, "number.invalid", message, format!("write {example}"));
                }
                (Ok(_), None) => {}
            }
        }
        callers
    }

    fn variables(&self, top: &Fields<'a>) -> BTreeMap<String, minijinja::Value> {
        let w = self.written;
        let mut variables = BTreeMap::new();
        let Some(node) = top.take("variables") else { return variables };
        let Some(map) = w.map(node, "variables", "variables: { name: value }") else { return variables };
        for (key, value) in map.all() {
            let name = key.name.as_str();
            let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if prompt::NAMES.contains(&name) {
                let message = format!("the name `{name}` is taken: it stands for what is known of the call");
                w.error_help(key.span, "variable.taken", message, "give the variable another name");
            } else if !fits {
                let message = format!("`{}` cannot be the name of a variable", problem::shown(name));
                w.error_help(
                    key.span,
                    "variable.name",
                    message,
                    "use letters, digits and _, such as `opening_hours`",
                );
            } else {
                variables.insert(name.to_owned(), values::value(value));
            }
        }
        variables
    }

    fn fragments(&self, top: &Fields<'a>, examiner: &Examiner) -> Vec<Part> {
        let w = self.written;
        let Some(node) = top.take("fragments") else { return Vec::new() };
        let mut templates = Vec::new();
        for item in w.list(node, "fragments").into_iter().filter(|item| !item.is_null()) {
            let Some(name) = w.text(item, "fragments") else { continue };
            let Some(fragment) = self.around.fragments.get(name.trim()) else {
                let shown = item.scalar().map(|s| s.shown()).unwrap_or_default();
                let there: Vec<&str> = self.around.fragments.keys().map(String::as_str).collect();
                let bare = name.trim().trim_end_matches(".md").rsplit('/').next().unwrap_or_default();
                let help = match there.is_empty() {
                    _ if there.contains(&bare) => {
                        format!("write the name without folder and ending: `{bare}`")
                    }
                    true => "put it into assistants/fragments/, as a file with the ending .md".to_owned(),
                    false => problem::suggestion(&name, there),
                };
                w.error_help(item.span, "fragment.unknown", format!("there is no fragment `{shown}`"), help);
                continue;
            };
            self.used.borrow_mut().push(fragment.source.path().to_owned());
            if !fragment.checked {
                let place = Place::whole(&fragment.source, fragment.text);
                examiner.check(fragment.text, &place).into_iter().for_each(|problem| w.note(problem));
            }
            templates.push(Part { heading: heading(name.trim()), template: fragment.text.to_owned() });
        }
        templates
    }

    /// A key of a later version: a file that counts on it must not seem to work.
    fn later(&self, top: &Fields<'a>) {
        if let Some(node) = top.take("fallback").filter(|node| !empty(node)) {
            let message = "`fallback` is kept for a later version";
            self.written.error_help(node.span, "not_yet", message, "leave it out");
        }
    }
}

impl Part {
    /// The instructions of a server's tools.
    fn of_tool(name: &str, template: &str) -> Part {
        Part { heading: format!("Tools: {name}"), template: template.to_owned() }
    }

    /// The rendered text, under its heading unless it begins with one of its own.
    fn under_heading(&self, text: &str) -> String {
        match text.is_empty() || text.starts_with('#') {
            true => text.to_owned(),
            false => format!("# {}\n\n{text}", self.heading),
        }
    }
}

/// A fragment's name as a heading: `server-rules` is `Switchboard rules`.
fn heading(name: &str) -> String {
    let words = name.replace(['-', '_'], " ");
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Whether a key is there that was probably meant as this one: it has a problem of its own.
fn misspelt(root: &Node, name: &str) -> bool {
    matches!(&root.kind, Kind::Map(entries) if entries.iter().any(|(key, _)| key.name != name && !problem::nearest(&key.name, [name]).is_empty()))
}

/// Whether it is a text in which nothing can be seen.
fn blank(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| scalar.text().trim().is_empty())
}

/// Whether there is nothing in it, however deep.
fn empty(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.is_null() || scalar.text().contains(MISSING),
        Kind::Seq(items) => items.iter().all(empty),
        Kind::Map(entries) => entries.iter().all(|(_, node)| empty(node)),
    }
}
