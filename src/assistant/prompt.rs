//! Texts for the model: templates that are checked against the names they may use, and rendered.
//!
//! It knows which names exist and what they contain. Undefined names are errors. The work and the length of a text are
//! bounded, because a template is a program.

mod printed;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};
use serde_json::Map;
use url::Url;

use super::examine::{Tokens, UseKind};
use super::filters::{self, Moment};
use super::formats::{self, Wrong};
use super::language::{Language, Words};
use crate::phone::{Party, PhoneNumber};
use crate::problem::catalogue::Template;
use crate::problem::{self, Problem, Source, Span, Suggestion, What};
use crate::yaml::{Node, Scalar, Style};

/// The longest text a template may make, in bytes.
const LONGEST: usize = 64 * 1024;
/// Instructions that a template may run: a prompt takes some hundreds.
const FUEL: u64 = 100_000;
/// The same for a part of a request: there may be hundreds of them.
const REQUEST_FUEL: u64 = 5_000;
/// Problems of one kind that are reported for one template.
const MOST_PROBLEMS: usize = 100;
/// The built-in names, which a variable cannot have.
pub const NAMES: [&str; 7] = ["caller", "called", "call", "now", "assistant", "variables", "arguments"];
const UNDEFINED: &str = "it uses a value that does not exist";

/// What is known about one call when it rings.
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

/// What the texts of one assistant may use.
#[derive(Clone, PartialEq)]
pub struct Subject {
    pub name: String,
    pub description: String,
    pub zone: TimeZone,
    /// Of its language.
    pub words: &'static Words,
    pub callers: BTreeMap<PhoneNumber, String>,
    pub variables: BTreeMap<String, Value>,
}

/// Where a template is written.
pub struct Place<'a> {
    pub source: &'a Source,
    pub span: Span,
    /// The line of the template's first line, if its lines are the file's lines.
    pub first_line: Option<usize>,
    pub text: &'a str,
    /// Whether it comes from a variable, so that nothing in it may be shown.
    pub hidden: bool,
}

impl<'a> Place<'a> {
    pub fn of(source: &'a Source, text: &'a str, node: &Node, scalar: &Scalar) -> Place<'a> {
        let lines_match = !scalar.expanded() && scalar.style() != Style::Folded;
        Place {
            source,
            span: node.span,
            first_line: lines_match.then_some(node.span.line),
            text,
            hidden: scalar.expanded(),
        }
    }

    /// A file that is one template.
    pub fn whole(source: &'a Source, text: &'a str) -> Place<'a> {
        let span = Span { line: 1, column: 1, ..Span::default() };
        Place { source, span, first_line: Some(1), text, hidden: false }
    }

    /// `at` are the bytes of the template; `None` for all of it.
    fn problem(&self, template: &str, at: Option<Range<usize>>, what: impl Into<What>) -> Problem {
        self.source.problem(at.and_then(|at| self.part(template, at)).unwrap_or(self.span), what)
    }

    /// What went wrong. Of a hidden template only the kind of error.
    fn reason(&self, error: &minijinja::Error) -> String {
        if self.hidden { error.kind().to_string() } else { reason(error) }
    }

    /// A part of the template as a place in the file. `None` if the line is written differently there, with escapes or
    /// folded.
    fn part(&self, template: &str, at: Range<usize>) -> Option<Span> {
        let before = template.get(..at.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = template[line_start..].lines().next().unwrap_or_default();
        let number = self.first_line? + before.matches('\n').count();
        let start: usize = self.text.split_inclusive('\n').take(number - 1).map(str::len).sum();
        let whole = self.text.get(start..)?.lines().next()?;
        // On its first line, a value follows its key.
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

    /// Every name that texts may use, with its value for one call. The caller's country is looked up only on demand: the
    /// world's numbering plans take a moment to load.
    pub fn known(&self, facts: &Facts, country: bool) -> Value {
        let caller = facts.caller.number().filter(|_| country);
        let country = caller.and_then(PhoneNumber::country).unwrap_or_default();
        let name = facts.caller.number().and_then(|number| self.callers.get(number));
        let mut names = self.names(facts);
        names.insert("caller".to_owned(), who(&facts.caller, &country, name.map_or("", String::as_str)));
        Value::from(names)
    }

    /// Checks this assistant's texts.
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
            leaves_out: false,
            samples: samples
                .map(|(caller, country, name)| {
                    let mut names = shared.clone();
                    names.insert("caller".to_owned(), who(&caller, country, name));
                    Value::from(names)
                })
                .into(),
        }
    }

    /// Every name that texts may use, except the caller.
    fn names(&self, facts: &Facts) -> BTreeMap<String, Value> {
        let now = facts.now.to_zoned(self.zone.clone());
        let called = facts.called.number();
        let number = called.map_or("", PhoneNumber::expose);
        let spoken = called.map_or(String::new(), PhoneNumber::spoken);
        let mut names: BTreeMap<String, Value> = self.variables.clone();
        let ours = [
            ("called", context! { number, spoken }),
            ("call", context! { id => facts.call.as_str() }),
            ("now", Value::from_object(Moment { at: now, words: self.words })),
            ("assistant", context! { name => self.name.as_str(), description => self.description.as_str() }),
            ("variables", Value::from(self.variables.clone())),
        ];
        names.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        names
    }
}

/// The names of a call, with the arguments of a tool as `arguments`.
pub fn with_arguments(names: &Value, arguments: &Map<String, serde_json::Value>) -> Value {
    context! { arguments => Value::from(Serde(arguments)), ..names.clone() }
}

/// Renders a template with these names.
pub fn fill(template: &str, names: &Value) -> Result<String, String> {
    ENVIRONMENT.with(|environment| run(environment, template, names))
}

/// The same for a part of a request.
pub fn fill_request(template: &str, names: &Value) -> Result<String, String> {
    REQUESTS.with(|environment| run(environment, template, names))
}

/// Renders the address of a request. Every value is percent-encoded, and cannot change the path around it.
pub fn fill_address(template: &str, names: &Value) -> Result<String, String> {
    let filled = ADDRESSES.with(|environment| run(environment, template, names))?;
    let plain = |text: &str| text.replace(['\u{1}', '\u{2}'], "");
    // A filter got a value with its marks, and would encode it twice.
    if filled.contains("%01") || filled.contains("%02") {
        return Err("a value in the address is encoded twice".to_owned());
    }
    let path = filled.split(['?', '#']).next().unwrap_or_default();
    for segment in path.split('/').skip(3) {
        let dots = plain(segment).to_ascii_lowercase().replace("%2e", ".");
        if segment.contains('\u{1}') && matches!(dots.as_str(), "" | "." | "..") {
            return Err("a value in the address is empty, or is only dots".to_owned());
        }
    }
    let url = Url::parse(&plain(&filled)).map_err(|_| "it is not an address".to_owned())?;
    Ok(url.into())
}

/// The value of a template that is one `{{ … }}` and nothing else: a number stays a number.
pub fn evaluate(template: &str, names: &Value) -> Option<Result<serde_json::Value, String>> {
    let expression = Tokens::new(template.trim()).expression()?.to_owned();
    Some(REQUESTS.with(|environment| {
        let value = environment.compile_expression(&expression).and_then(|expression| expression.eval(names));
        let value = value.map_err(|error| reason(&error))?;
        match value.is_undefined() {
            true => Err(UNDEFINED.to_owned()),
            false => serde_json::to_value(&value).map_err(|_| "this value does not fit in JSON".to_owned()),
        }
    }))
}

/// A caller, as texts see it.
fn who(caller: &Party, country: &str, name: &str) -> Value {
    let number = caller.number().map_or("", PhoneNumber::expose);
    let spoken = caller.number().map_or(String::new(), PhoneNumber::spoken);
    context! { number, spoken, country, name }
}

/// Checks the texts of one assistant against sample calls.
pub struct Examiner {
    /// A known, an unknown and a withheld caller; with arguments, then one call that leaves out the optional ones. Never
    /// empty.
    samples: Vec<Value>,
    /// Whether the last sample leaves out optional arguments.
    leaves_out: bool,
}

impl Examiner {
    /// The same for texts that may use a tool's arguments: all of them, and only the required ones.
    pub fn with_arguments(
        &self,
        all: &Map<String, serde_json::Value>,
        required: &Map<String, serde_json::Value>,
    ) -> Examiner {
        let mut samples: Vec<Value> = self.samples.iter().map(|sample| with_arguments(sample, all)).collect();
        samples.extend(self.samples.first().map(|sample| with_arguments(sample, required)));
        Examiner { samples, leaves_out: true }
    }

    /// The values of a sample call.
    pub fn sample(&self) -> &Value {
        &self.samples[0]
    }

    /// Every problem of a template: its syntax, each name in it, also in branches that no sample takes, and rendering it
    /// for the samples.
    pub fn check(&self, template: &str, place: &Place<'_>) -> Vec<Problem> {
        let mut problems =
            EXAMINED.with(|environment: &Environment<'_>| self.check_in(environment, template, place));
        // A filter or an operator makes a text of a list or a map before it is printed.
        if problems.is_empty() && template.contains(['|', '~']) {
            let text = fill(template, self.sample()).unwrap_or_default();
            let what = printed::notation(&text, self.sample(), place);
            problems.extend(what.map(|what| place.problem(template, None, what)));
        }
        problems
    }

    /// The same for a sentence of Twilio's voice, which must contain something to say for every caller, and not too much.
    pub fn check_spoken(&self, template: &str, place: &Place<'_>) -> Vec<Problem> {
        let mut problems = self.check(template, place);
        if !problems.iter().any(Problem::is_error) {
            let said = self.samples.iter().map(|sample| fill(template, sample).unwrap_or_default());
            let what = printed::unsayable(&said.collect::<Vec<_>>(), template);
            problems.extend(what.map(|what| place.problem(template, None, what)));
        }
        problems
    }

    /// The same for a part of a request.
    pub fn check_request(&self, template: &str, place: &Place<'_>) -> Vec<Problem> {
        // What is one value stays one: a list in a body is a list in JSON.
        let environment = match Tokens::new(template.trim()).expression() {
            Some(_) => &REQUESTS,
            None => &EXAMINED_REQUESTS,
        };
        environment.with(|environment| self.check_in(environment, template, place))
    }

    fn check_in(&self, environment: &Environment<'_>, template: &str, place: &Place<'_>) -> Vec<Problem> {
        let tokens = Tokens::new(template);
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
        // Names that the template sets itself are not among them.
        let given: BTreeSet<&str> = paths.iter().map(|(path, _)| path[0]).collect();
        let brackets = tokens.paths_in_brackets().into_iter().filter(|(path, _)| given.contains(path[0]));
        paths.extend(brackets.map(|(path, at)| (path, Some(at))));
        let unknown = paths.into_iter().filter_map(|(path, at)| {
            let (what, depth) = unknown(&path, self.sample(), place)?;
            let at = at.or_else(|| tokens.find_name(&path[..depth]));
            Some(place.problem(template, at, what))
        });
        problems.extend(unknown.take(MOST_PROBLEMS));
        if !problems.is_empty() {
            return problems;
        }
        // The samples differ only in their caller and their arguments.
        let differ = template.contains("caller") || template.contains("arguments");
        let samples = if differ { &self.samples[..] } else { &self.samples[..1] };
        let fails = |sample: &Value| parsed.render_captured_to(sample.clone(), &mut Capped(Vec::new())).err();
        let failure = samples.iter().enumerate().find_map(|(at, sample)| Some((at, fails(sample)?)));
        if let Some((at, failure)) = failure {
            let error = place.reason(&failure);
            let left_out = self.leaves_out && at > 0 && at + 1 == samples.len();
            let what = match (printed::container(template, &failure, place), left_out) {
                (Some(what), _) => what,
                (None, true) => Template::RenderFailsWithoutOptional { error },
                (None, false) => Template::RenderFails { error },
            };
            return vec![place.problem(template, failure.range(), what)];
        }
        self.check_branches(environment, template, &tokens, place).into_iter().collect()
    }

    /// What fails in branches that the samples do not take. A certain mistake is an error. The condition may prevent
    /// others, such as the missing part of a list, so they are warnings.
    fn check_branches(
        &self,
        environment: &Environment<'_>,
        template: &str,
        tokens: &Tokens<'_>,
        place: &Place<'_>,
    ) -> Option<Problem> {
        let every = tokens.every_branch()?;
        let parsed = environment.template_from_str(&every).ok()?;
        let failure = parsed.render_captured_to(self.sample().clone(), &mut Capped(Vec::new())).err()?;
        let line = failure.line().and_then(|line| line.checked_sub(1));
        let at = line.and_then(|line| {
            let mut lines = template.split_inclusive('\n');
            let start: usize = lines.by_ref().take(line).map(str::len).sum();
            let text = lines.next()?;
            let inset = text.len() - text.trim_start().len();
            Some(start + inset..start + text.trim_end().len().max(inset))
        });
        let error = place.reason(&failure);
        let certain = filters::misused(&failure).is_some() || failure.kind() == ErrorKind::OutOfFuel;
        let what = match (printed::container(&every, &failure, place), certain) {
            (Some(what), _) => what,
            (None, true) => Template::BranchFails { error },
            (None, false) => Template::BranchMayFail { error },
        };
        Some(place.problem(template, at, what))
    }
}

/// In which language the model speaks. Without it, a model that has heard nobody speaks English.
pub fn language(own: Option<&Language>, allowed: &[Language]) -> Option<String> {
    let own = own?;
    let others: Vec<String> = allowed.iter().filter(|other| *other != own).map(Language::name).collect();
    let name = own.name();
    Some(match others.split_last() {
        None => format!(
            "# Language\n\nSpeak only {name}, even if the caller speaks another language or what you hear is unclear."
        ),
        Some((last, rest)) => {
            let others =
                if rest.is_empty() { last.clone() } else { format!("{} or {last}", rest.join(", ")) };
            format!(
                "# Language\n\nBegin in {name}. If the caller speaks {others}, go on in that language. Speak no other \
                 language."
            )
        }
    })
}

/// Which names and words the model should expect.
pub fn vocabulary(words: &[String]) -> Option<String> {
    let words = (!words.is_empty()).then(|| words.join("; "))?;
    Some(format!(
        "# Names and words\n\nThese may be said in the call. If what you hear sounds like one of them, take it for that, and \
         write and pronounce it so: {words}"
    ))
}

/// The first name in a template whose value is another one in each call. `None` also for one that cannot be read.
pub fn varies(template: &str) -> Option<&'static str> {
    const VARYING: [&str; 4] = ["caller", "called", "call", "now"];
    EXAMINED.with(|environment| {
        let names = environment.template_from_str(template).ok()?.undeclared_variables(false);
        VARYING.into_iter().find(|name| names.contains(*name))
    })
}

/// Every problem of a template that shows without an assistant. True if it uses no variables of an assistant, so that
/// nothing more can be found.
pub fn check_shared(template: &str, place: &Place<'_>) -> (bool, Vec<Problem>) {
    EXAMINED.with(|environment| {
        let (parsed, problems) = match parse(environment, template, &Tokens::new(template), place) {
            Ok(parsed) => parsed,
            Err(problem) => return (false, vec![*problem]),
        };
        let shared = |name: &String| name != "variables" && NAMES.contains(&name.as_str());
        if !problems.is_empty() || !parsed.undeclared_variables(false).iter().all(shared) {
            return (false, problems);
        }
        let anybody = Subject {
            name: "anybody".to_owned(),
            description: String::new(),
            zone: TimeZone::UTC,
            words: Words::ENGLISH,
            callers: BTreeMap::new(),
            variables: BTreeMap::new(),
        };
        (true, anybody.examiner().check_in(environment, template, place))
    })
}

/// A template that can be parsed, with its unknown filters and tests; or why it cannot be parsed.
fn parse<'a>(
    environment: &'a Environment<'_>,
    template: &'a str,
    tokens: &Tokens<'_>,
    place: &Place<'_>,
) -> Result<(minijinja::Template<'a, 'a>, Vec<Problem>), Box<Problem>> {
    if let Some(at) = tokens.too_long() {
        return Err(Box::new(place.problem(template, Some(at), Template::TooLong)));
    }
    let parsed = environment.template_from_str(template).map_err(|error| {
        let what = Template::Syntax { error: place.reason(&error) };
        Box::new(place.problem(template, error.range(), what))
    })?;
    let unknown = tokens.unknown_uses(environment).into_iter().take(MOST_PROBLEMS).map(|used| {
        let (kind, known) = match used.kind {
            UseKind::Filter => ("filter", &filters::FILTERS[..]),
            UseKind::Test => ("test", &filters::TESTS[..]),
        };
        let known = known.iter().copied();
        let what = match place.hidden {
            true => Template::HiddenFilter { kind, known: Suggestion::new("", known) },
            false => {
                let (name, suggestion) = (used.name.to_owned(), Suggestion::new(used.name, known));
                Template::FilterUnknown { kind, name, suggestion }
            }
        };
        place.problem(template, Some(used.at), what)
    });
    let mut problems: Vec<Problem> = unknown.collect();
    for (filter, format, at) in tokens.formats() {
        let Some((wrong, instead)) = formats::wrong(filter, &format) else { continue };
        let what = match wrong {
            Wrong::Empty => Template::DateFormatEmpty { instead },
            _ if place.hidden => Template::HiddenDateFormat { instead },
            Wrong::Foreign => Template::DateFormat { format: problem::shown(&format), instead },
            Wrong::Local(code) => Template::DateCodeLocal { code, instead },
            Wrong::Unknown(code) => Template::DateCodeUnknown { code: problem::shown(&code), instead },
        };
        problems.push(place.problem(template, Some(at), what));
    }
    problems.truncate(MOST_PROBLEMS);
    Ok((parsed, problems))
}

fn run(environment: &Environment<'_>, template: &str, names: &Value) -> Result<String, String> {
    let mut out = Capped(Vec::new());
    let template = environment.template_from_str(template);
    let done = template.and_then(|template| template.render_captured_to(names.clone(), &mut out));
    done.map_err(|error| reason(&error))?;
    // Only whole strings are written, so this is UTF-8.
    Ok(String::from_utf8_lossy(&out.0).trim().to_owned())
}

thread_local! {
    /// Filters and tests are the same for all templates, and take a while to set up.
    static ENVIRONMENT: Environment<'static> = environment();
    static REQUESTS: Environment<'static> = requests();
    static ADDRESSES: Environment<'static> = addresses();
    /// For the check.
    static EXAMINED: Environment<'static> = examined(environment());
    static EXAMINED_REQUESTS: Environment<'static> = examined(requests());
}

fn examined(mut environment: Environment<'static>) -> Environment<'static> {
    filters::refuse_containers(&mut environment);
    environment
}

/// The problem of a name that does not exist, or has no such part; and how many parts of the path it concerns.
fn unknown(path: &[&str], context: &Value, place: &Place<'_>) -> Option<(Template, usize)> {
    let mut value = context.clone();
    for (depth, part) in path.iter().enumerate() {
        if value.kind() != ValueKind::Map {
            // Attributes of other values show when the text is rendered.
            return None;
        }
        if let Some(next) = value.get_attr(part).ok().filter(|next| !next.is_undefined()) {
            value = next;
            continue;
        }
        let keys: Vec<Value> = value.try_iter().ok()?.collect();
        let known = keys.iter().filter_map(|key| key.as_str());
        let what = match place.hidden {
            true => Template::HiddenName { known: Suggestion::new("", known) },
            false => {
                let name = problem::shown(&path[..=depth].join("."));
                Template::NameUnknown { name, suggestion: Suggestion::new(part, known) }
            }
        };
        return Some((what, depth + 1));
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
    environment.set_fuel(Some(REQUEST_FUEL));
    environment
}

/// For addresses: values are percent-encoded, each between two marks that no address contains.
fn addresses() -> Environment<'static> {
    let mut environment = requests();
    environment.set_formatter(|out, _, value| {
        let text = if value.is_none() { String::new() } else { value.to_string() };
        // In a form a space is a plus, but not in a path.
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        Ok(out.write_str(&format!("\u{1}{}\u{2}", encoded.replace('+', "%20")))?)
    });
    environment
}

/// What went wrong, without the values of the call.
fn reason(error: &minijinja::Error) -> String {
    if let Some(misused) = filters::misused(error) {
        return misused;
    }
    match error.kind() {
        ErrorKind::OutOfFuel => "it does not finish".to_owned(),
        ErrorKind::WriteFailure => "it makes more than 64 KiB of text".to_owned(),
        ErrorKind::UndefinedError => UNDEFINED.to_owned(),
        ErrorKind::SyntaxError
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod
        | ErrorKind::TemplateNotFound => {
            error.detail().map_or_else(|| error.kind().to_string(), problem::masked)
        }
        ErrorKind::InvalidOperation
            if error.detail().is_some_and(|detail| detail.contains("not callable")) =>
        {
            "it calls a name like a function; write names without ( )".to_owned()
        }
        kind => kind.to_string(),
    }
}

/// Takes at most [`LONGEST`] bytes.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
