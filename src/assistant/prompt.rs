//! Texts for the model: templates that are checked against the names they may use, and rendered.
//!
//! It knows which names there are and what they hold. Undefined names are errors, and the work and
//! the length of a text are bounded, because a template is the owner's program.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde_json::Map;
use url::Url;

use super::examine::{Tokens, UseKind};
use super::filters::{self, Moment};
use crate::phone::{Party, PhoneNumber};
use crate::problem::{self, Problem, Source, Span};
use crate::yaml::{Node, Scalar, Style};

/// The longest text a template may make, in bytes.
const LONGEST: usize = 64 * 1024;
/// Instructions a template may run: a prompt takes some hundreds.
const FUEL: u64 = 100_000;
/// The same of a part of a request: there may be hundreds of them.
const FUEL_OF_REQUEST: u64 = 5_000;
/// Problems of one kind that are told of one template: who has a hundred mends those first.
const MOST_PROBLEMS: usize = 100;
/// The names that are ours; an owner's variable may not have one.
pub const NAMES: [&str; 7] = ["caller", "called", "call", "now", "assistant", "variables", "arguments"];

/// What is known of one call when it rings.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub caller: Party,
    pub called: Party,
    /// Twilio's call SID.
    pub call: String,
    pub now: Timestamp,
}

impl Facts {
    /// A call that does not exist, to see what a plan contains.
    pub fn nobody(now: Timestamp) -> Facts {
        let call = "CA00000000000000000000000000000000".to_owned();
        Facts { caller: Party::Withheld, called: Party::Withheld, call, now }
    }
}

/// Why an assistant could not be made into a plan.
#[derive(Debug, thiserror::Error)]
#[error("the text of {assistant} cannot be rendered: {reason}")]
pub struct PlanError {
    pub assistant: String,
    pub reason: String,
}

/// What the texts of one assistant may speak of.
#[derive(Clone, PartialEq)]
pub struct Subject {
    pub name: String,
    pub description: String,
    pub zone: TimeZone,
    pub callers: BTreeMap<PhoneNumber, String>,
    pub variables: BTreeMap<String, Value>,
}

/// Where a template stands, for problems.
pub struct Place<'a> {
    pub source: &'a Source,
    pub span: Span,
    /// The line of the template's first line, where its lines are the file's lines.
    pub first_line: Option<usize>,
    /// The file's text, to point at a line.
    pub text: &'a str,
    /// Where it came from the environment: how it was written.
    pub written: Option<String>,
}

impl<'a> Place<'a> {
    pub fn of(source: &'a Source, text: &'a str, node: &Node, scalar: &Scalar) -> Place<'a> {
        let lines_match = !scalar.expanded() && scalar.style() != Style::Folded;
        Place {
            source,
            span: node.span,
            first_line: lines_match.then_some(node.span.line),
            text,
            written: scalar.expanded().then(|| scalar.shown()),
        }
    }

    /// A file that is a template from its first byte to its last.
    pub fn whole(source: &'a Source, text: &'a str) -> Place<'a> {
        let span = Span { line: 1, column: 1, ..Span::default() };
        Place { source, span, first_line: Some(1), text, written: None }
    }

    /// `at` are the bytes of the template that are meant; `None` for all of it.
    fn problem(
        &self,
        template: &str,
        at: Option<Range<usize>>,
        code: &'static str,
        message: String,
    ) -> Problem {
        let span = at.and_then(|at| self.part(template, at)).unwrap_or(self.span);
        let message = match &self.written {
            Some(written) => format!("{message}; the text comes from `{written}`"),
            None => message,
        };
        self.source.error(span, code, message)
    }

    /// A part of the template as a place in the file. Where the template's line does not stand there as it is
    /// (escapes, folded lines), there is none.
    fn part(&self, template: &str, at: Range<usize>) -> Option<Span> {
        let before = template.get(..at.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = template[line_start..].lines().next().unwrap_or_default();
        let number = self.first_line? + before.matches('\n').count();
        let start: usize = self.text.split_inclusive('\n').take(number - 1).map(str::len).sum();
        let whole = self.text.get(start..)?.lines().next()?;
        // On its first line a value stands behind its key.
        let from = if number == self.span.line { self.span.column.saturating_sub(1) } else { 0 };
        let from = whole.char_indices().nth(from).map_or(0, |(offset, _)| offset);
        let inset = from + whole[from..].find(line)? + (at.start - line_start);
        let len = at.len().min(line.len() - (at.start - line_start));
        let column = whole.get(..inset)?.chars().count() + 1;
        Some(Span { start: start + inset, len, line: number, column })
    }
}

impl Subject {
    /// Renders a template for one call.
    pub fn render(&self, template: &str, facts: &Facts) -> Result<String, String> {
        let context = self.known(facts, template.contains("country"));
        fill(template, &context)
    }

    /// Every name that texts may speak of, as it is for one call. The caller's country is looked up only where it is
    /// wanted: the numbering plans of the world take a moment to load.
    pub fn known(&self, facts: &Facts, country: bool) -> Value {
        let caller = facts.caller.number().filter(|_| country);
        let country = caller.and_then(PhoneNumber::country).unwrap_or_default();
        let name = facts.caller.number().and_then(|number| self.callers.get(number));
        let mut names = self.names(facts);
        names.insert("caller".to_owned(), who(&facts.caller, &country, name.map_or("", String::as_str)));
        Value::from(names)
    }

    /// What checks this assistant's texts.
    pub fn examiner(&self) -> Examiner {
        let caller = || Party::from_twilio("+15550109999");
        let facts = Facts {
            caller: Party::Withheld,
            called: Party::from_twilio("+15550100000"),
            call: "CA00000000000000000000000000000000".to_owned(),
            now: Timestamp::UNIX_EPOCH,
        };
        let shared = self.names(&facts);
        let samples = [(caller(), "US", "Anna"), (caller(), "US", ""), (Party::Withheld, "", "")];
        Examiner {
            samples: samples
                .map(|(caller, country, name)| {
                    let mut names = shared.clone();
                    names.insert("caller".to_owned(), who(&caller, country, name));
                    Value::from(names)
                })
                .into(),
        }
    }

    /// Every name that texts may speak of, but the caller.
    fn names(&self, facts: &Facts) -> BTreeMap<String, Value> {
        let now = facts.now.to_zoned(self.zone.clone());
        let called = facts.called.number();
        let number = called.map_or("", PhoneNumber::expose);
        let spoken = called.map_or(String::new(), PhoneNumber::spoken);
        let mut names: BTreeMap<String, Value> = self.variables.clone();
        let ours = [
            ("called", context! { number, spoken }),
            ("call", context! { id => facts.call.as_str() }),
            ("now", Value::from_object(Moment(now))),
            ("assistant", context! { name => self.name.as_str(), description => self.description.as_str() }),
            ("variables", Value::from(self.variables.clone())),
        ];
        names.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        names
    }
}

/// The names of a call, and the arguments of a tool under `arguments`.
pub fn with_arguments(names: &Value, arguments: &Map<String, serde_json::Value>) -> Value {
    context! { arguments => Value::from(Serde(arguments)), ..names.clone() }
}

/// Renders a template with these names.
pub fn fill(template: &str, names: &Value) -> Result<String, String> {
    let filled = ENVIRONMENT.with(|environment| run(&environment.template_from_str(template)?, names));
    filled.map_err(|error| reason(&error))
}

/// The same for a part of a request.
pub fn fill_request(template: &str, names: &Value) -> Result<String, String> {
    let filled = REQUESTS.with(|environment| run(&environment.template_from_str(template)?, names));
    filled.map_err(|error| reason(&error))
}

/// Renders the address of a request: every value is percent-encoded, and no value makes a path another one.
pub fn fill_address(template: &str, names: &Value) -> Result<String, String> {
    let filled = ADDRESSES.with(|environment| run(&environment.template_from_str(template)?, names));
    let filled = filled.map_err(|error| reason(&error))?;
    let plain = |text: &str| text.replace(['\u{1}', '\u{2}'], "");
    // The marks went through a filter, and with them the value: it would be encoded twice.
    if filled.contains("%01") || filled.contains("%02") {
        return Err("a value in the address is used in a way that is not possible".to_owned());
    }
    let path = filled.split(['?', '#']).next().unwrap_or_default();
    for segment in path.split('/').skip(3) {
        let dots = plain(segment).to_ascii_lowercase().replace("%2e", ".");
        if segment.contains('\u{1}') && matches!(dots.as_str(), "" | "." | "..") {
            return Err("a value in the address is empty, and its place needs one".to_owned());
        }
    }
    let url = Url::parse(&plain(&filled)).map_err(|_| "the address is none".to_owned())?;
    Ok(url.into())
}

/// The value of a template that is one `{{ … }}` and nothing else: a number stays a number. `None` for others.
pub fn evaluate(template: &str, names: &Value) -> Option<Result<serde_json::Value, String>> {
    let expression = Tokens::of(template.trim()).expression()?.to_owned();
    Some(REQUESTS.with(|environment| {
        let value = environment.compile_expression(&expression).and_then(|expression| expression.eval(names));
        let value = value.map_err(|error| reason(&error))?;
        match value.is_undefined() {
            true => Err("it uses something that is not there".to_owned()),
            false => serde_json::to_value(&value).map_err(|_| "this value is none for JSON".to_owned()),
        }
    }))
}

/// A caller, as texts speak of one.
fn who(caller: &Party, country: &str, name: &str) -> Value {
    let number = caller.number().map_or("", PhoneNumber::expose);
    let spoken = caller.number().map_or(String::new(), PhoneNumber::spoken);
    context! { number, spoken, country, name }
}

/// Checks the texts of one assistant against sample calls.
pub struct Examiner {
    /// A known, an unknown and a withheld caller; with arguments, also one who gives few. Never empty.
    samples: Vec<Value>,
}

impl Examiner {
    /// The same for texts that speak of a tool's arguments as well: once all of them are given, once as few as may be.
    pub fn with_arguments(
        &self,
        all: &Map<String, serde_json::Value>,
        few: &Map<String, serde_json::Value>,
    ) -> Examiner {
        let mut samples: Vec<Value> = self.samples.iter().map(|sample| with_arguments(sample, all)).collect();
        samples.extend(self.samples.first().map(|sample| with_arguments(sample, few)));
        Examiner { samples }
    }

    /// What texts would be given for a sample call.
    pub fn sample(&self) -> &Value {
        &self.samples[0]
    }

    /// Every problem of a template: its syntax, each name in it, also in branches that no sample
    /// takes, and what shows when it is rendered for the samples.
    pub fn check(&self, template: &str, place: &Place<'_>) -> Vec<Problem> {
        ENVIRONMENT.with(|environment: &Environment<'_>| self.check_in(environment, template, place))
    }

    /// The same for a part of a request.
    pub fn check_request(&self, template: &str, place: &Place<'_>) -> Vec<Problem> {
        REQUESTS.with(|environment| self.check_in(environment, template, place))
    }

    fn check_in(&self, environment: &Environment<'_>, template: &str, place: &Place<'_>) -> Vec<Problem> {
        let tokens = Tokens::of(template);
        let (parsed, mut problems) = match parse(environment, template, &tokens, place) {
            Ok(parsed) => parsed,
            Err(problem) => return vec![*problem],
        };
        let mut names: Vec<String> = parsed.undeclared_variables(true).into_iter().collect();
        names.sort();
        let global = |name: &str| environment.globals().any(|(global, _)| global == name);
        let named = names.iter().map(|name| name.split('.').collect::<Vec<_>>());
        let mut paths: Vec<(Vec<&str>, Option<Range<usize>>)> =
            named.filter(|path| !global(path[0])).map(|path| (path, None)).collect();
        // A name that the template sets itself is not among those that it is given.
        let given: BTreeSet<&str> = paths.iter().map(|(path, _)| path[0]).collect();
        let brackets = tokens.paths_in_brackets().into_iter().filter(|(path, _)| given.contains(path[0]));
        paths.extend(brackets.map(|(path, at)| (path, Some(at))));
        let sample = &self.samples[0];
        let unknown = paths.into_iter().filter_map(|(path, at)| {
            let (message, help, depth) = unknown(&path, sample, place)?;
            let at = at.or_else(|| tokens.find_name(&path[..depth]));
            Some(place.problem(template, at, "template.name", message).help(help))
        });
        problems.extend(unknown.take(MOST_PROBLEMS));
        if !problems.is_empty() {
            return problems;
        }
        // The samples differ in their caller and their arguments alone.
        let differ = template.contains("caller") || template.contains("arguments");
        let samples = if differ { &self.samples[..] } else { &self.samples[..1] };
        let fails = |sample: &Value| parsed.render_captured_to(sample.clone(), &mut Counted(0)).err();
        if let Some(error) = samples.iter().find_map(fails) {
            let message = match place.written {
                Some(_) => "this template cannot be rendered".to_owned(),
                None => format!("this template cannot be rendered: {}", reason(&error)),
            };
            problems.push(place.problem(template, error.range(), "template.render", message));
            return problems;
        }
        problems.extend(self.check_branches(environment, template, &tokens, place));
        problems
    }

    /// What fails in branches that the samples do not take. What can only be a mistake is an error; what may be
    /// guarded by its condition, such as the part of a list that is not always there, is a warning.
    fn check_branches(
        &self,
        environment: &Environment<'_>,
        template: &str,
        tokens: &Tokens<'_>,
        place: &Place<'_>,
    ) -> Option<Problem> {
        let every = tokens.every_branch()?;
        let parsed = environment.template_from_str(&every).ok()?;
        let error = parsed.render_captured_to(self.samples[0].clone(), &mut Counted(0)).err()?;
        let line = error.line().and_then(|line| line.checked_sub(1));
        let line = line.and_then(|line| template.split_inclusive('\n').nth(line).map(|text| (line, text)));
        let at = line.map(|(line, text)| {
            let start: usize = template.split_inclusive('\n').take(line).map(str::len).sum();
            let inset = text.len() - text.trim_start().len();
            start + inset..start + text.trim_end().len().max(inset)
        });
        let sure = filters::misused(&error).is_some() || error.kind() == minijinja::ErrorKind::OutOfFuel;
        let message = match place.written {
            Some(_) => "a branch of this template cannot be rendered".to_owned(),
            None => format!("a branch of this template cannot be rendered: {}", reason(&error)),
        };
        let problem = place.problem(template, at, "template.branch", message);
        Some(if sure {
            problem
        } else {
            problem.help("where its condition sees to it that this cannot happen, all is well").into_warning()
        })
    }
}

/// Every problem of a template that shows without any assistant. True where nothing in it depends on an assistant's
/// own variables, so that no more is to be found.
pub fn check_shared(template: &str, place: &Place<'_>) -> (bool, Vec<Problem>) {
    ENVIRONMENT.with(|environment| {
        let tokens = Tokens::of(template);
        match parse(environment, template, &tokens, place) {
            Err(problem) => (false, vec![*problem]),
            Ok((parsed, problems)) => {
                let shared = |name: &String| name != "variables" && NAMES.contains(&name.as_str());
                if !problems.is_empty() || !parsed.undeclared_variables(false).iter().all(shared) {
                    return (false, problems);
                }
                let anybody = Subject {
                    name: "anybody".to_owned(),
                    description: String::new(),
                    zone: TimeZone::UTC,
                    callers: BTreeMap::new(),
                    variables: BTreeMap::new(),
                };
                (true, anybody.examiner().check_in(environment, template, place))
            }
        }
    })
}

/// A template that can be read, with the filters and tests in it that do not exist; or why it cannot be read.
fn parse<'a>(
    environment: &'a Environment<'_>,
    template: &'a str,
    tokens: &Tokens<'_>,
    place: &Place<'_>,
) -> Result<(minijinja::Template<'a, 'a>, Vec<Problem>), Box<Problem>> {
    if let Some(at) = tokens.too_long() {
        let problem =
            place.problem(template, Some(at), "template.long", "this template is too long".to_owned());
        return Err(Box::new(problem.help("part it with {% set … %}, or put a long list into `variables`")));
    }
    let parsed = environment.template_from_str(template).map_err(|error| {
        let message = match place.written {
            Some(_) => "this template has a mistake".to_owned(),
            None => format!("this template has a mistake: {}", reason(&error)),
        };
        let problem = place.problem(template, error.range(), "template.syntax", message);
        Box::new(problem.help("a name is written {{ name }}, a choice {% if name %} … {% endif %}"))
    })?;
    let problems = tokens
        .unknown_uses(environment)
        .into_iter()
        .take(MOST_PROBLEMS)
        .map(|used| {
            let what = match used.kind {
                UseKind::Filter => "filter",
                UseKind::Test => "test",
            };
            let message = match place.written {
                Some(_) => format!("this text uses a {what} that does not exist"),
                None => format!("there is no {what} `{}`", used.name),
            };
            let problem = place.problem(template, Some(used.at), "template.filter", message);
            match used.kind {
                UseKind::Filter if place.written.is_none() => {
                    problem.help(problem::suggestion(used.name, filters::FILTERS))
                }
                UseKind::Filter => problem.help(format!("there is {}", problem::list(&filters::FILTERS))),
                UseKind::Test => {
                    problem.help("tests are `defined`, `none`, `odd`, `even`, `in` and the like")
                }
            }
        })
        .collect();
    Ok((parsed, problems))
}

fn run(template: &minijinja::Template<'_, '_>, context: &Value) -> Result<String, minijinja::Error> {
    let mut out = Capped(Vec::new());
    template.render_captured_to(context.clone(), &mut out)?;
    // Only whole texts are written, so this is UTF-8.
    Ok(String::from_utf8_lossy(&out.0).trim().to_owned())
}

thread_local! {
    /// Filters and tests are the same for all templates, and take a while to set up.
    static ENVIRONMENT: Environment<'static> = environment();
    static REQUESTS: Environment<'static> = requests();
    static ADDRESSES: Environment<'static> = addresses();
}

/// A name that the texts may not use, or a part of one that does not exist: what to say, and how deep it is.
fn unknown(path: &[&str], context: &Value, place: &Place<'_>) -> Option<(String, String, usize)> {
    let mut value = context.clone();
    for (depth, part) in path.iter().enumerate() {
        if value.kind() != minijinja::value::ValueKind::Map {
            // Attributes of other values show when the text is rendered.
            return None;
        }
        if let Some(next) = value.get_attr(part).ok().filter(|next| !next.is_undefined()) {
            value = next;
            continue;
        }
        let there: Vec<String> =
            value.try_iter().ok()?.filter_map(|key| key.as_str().map(str::to_owned)).collect();
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let part = problem::shown(part);
        let (message, help) = match (&place.written, depth) {
            (Some(_), _) => {
                let message = "this text uses a name that does not exist".to_owned();
                (message, format!("there is {}", problem::list(&there)))
            }
            (None, 0) => (format!("there is no name `{part}`"), problem::suggestion(&part, there)),
            (None, _) => {
                let message = format!("there is no `{part}` in `{}`", path[..depth].join("."));
                (message, problem::suggestion(&part, there))
            }
        };
        return Some((message, help, depth + 1));
    }
    None
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(50);
    // Debug output prints the values of all variables: numbers, names.
    environment.set_debug(false);
    environment.remove_global("debug");
    filters::add(&mut environment);
    environment
}

/// For the parts of a request.
fn requests() -> Environment<'static> {
    let mut environment = environment();
    environment.set_fuel(Some(FUEL_OF_REQUEST));
    environment
}

/// For addresses: values are percent-encoded, each between two marks that no address holds.
fn addresses() -> Environment<'static> {
    let mut environment = requests();
    environment.set_formatter(|out, _, value| {
        let text = if value.is_none() { String::new() } else { value.to_string() };
        // For a form a space is a plus, which in a path it is not.
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        Ok(out.write_str(&format!("\u{1}{}\u{2}", encoded.replace('+', "%20")))?)
    });
    environment
}

/// What went wrong, without the values that were in it.
fn reason(error: &minijinja::Error) -> String {
    use minijinja::ErrorKind;
    if let Some(misused) = filters::misused(error) {
        return misused;
    }
    match error.kind() {
        ErrorKind::OutOfFuel => "it does not come to an end".to_owned(),
        ErrorKind::WriteFailure => "it makes more than 64 KiB of text".to_owned(),
        ErrorKind::UndefinedError => "it uses something that is not there".to_owned(),
        ErrorKind::SyntaxError
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod
        | ErrorKind::TemplateNotFound => {
            let detail = error.detail().map(problem::masked);
            detail.unwrap_or_else(|| error.kind().to_string())
        }
        ErrorKind::InvalidOperation
            if error.detail().is_some_and(|detail| detail.contains("not callable")) =>
        {
            "it calls a name as if it were a function; write names without ( )".to_owned()
        }
        kind => kind.to_string(),
    }
}

/// Takes at most [`LONGEST`] bytes.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Counted(self.0.len()).write(bytes)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes as much, and keeps none of it.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > LONGEST {
            return Err(io::Error::other("too long"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
