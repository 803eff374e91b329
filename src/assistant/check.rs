//! One assistant, as checked: every key of its file, with its meaning, default and range.
//!
//! Nothing else makes an [`Assistant`]. Which number rings which assistant is up to the roster.

mod changes;
mod control;
mod fallback;
mod functions;
mod limits;
mod mailbox;
mod mcp;
mod model;
mod numbers;
mod owner;
mod record;
mod secrets;
mod spoken;
mod talk;
mod texts;
mod tools;
mod types;

pub use mailbox::mailbox;
pub use record::record_defaults;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::call_time::CallTime;
use super::language::Words;
use super::plan::{Gate, Line, OnFailure, Plan, Reader, RecordPolicy, ServerUse, Supply, Version};
use super::prompt::{self, Examiner, Facts, Place, PlanError, Subject};
use super::toolbox::{Off, Toolbox};
use super::values;
use super::written::{Fields, Written, shown};
use crate::phone::PhoneNumber;
use crate::problem::catalogue::Assistant as Wrong;
use crate::problem::{self, Problem, Span, Suggestion};
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
    /// Its own part of the prompt.
    instructions: Option<Part>,
    fragments: Vec<Part>,
    toolbox: Toolbox,
    gate: Gate,
    /// Everything that is the same for all calls. The greeting and the sentences for failures are templates.
    plan: Plan,
}

/// A part of the prompt.
#[derive(Clone, PartialEq)]
struct Part {
    heading: String,
    template: String,
}

/// What an assistant's file may refer to.
pub struct Around<'a> {
    /// What is kept of a call, where a file says nothing else.
    pub record: RecordPolicy,
    pub environment: &'a BTreeMap<String, String>,
    /// The first is the default.
    pub providers: &'a [Arc<Provider>],
    /// By name, without the extension.
    pub fragments: &'a BTreeMap<String, Fragment<'a>>,
    /// By file name.
    pub greetings: &'a Recordings,
    /// By file name, without those of unknown lines.
    pub sounds: &'a Recordings,
}

/// Recordings by file name; `None` if one could not be read, which is a problem of its own.
pub type Recordings = BTreeMap<String, Option<Arc<Clip>>>;

/// A shared piece of instructions.
pub struct Fragment<'a> {
    pub source: problem::Source,
    pub text: &'a str,
    /// Whether it uses no variables of an assistant, and was checked once for all of them.
    pub checked: bool,
}

/// A number that a file claims; `None` for `*`.
pub struct Claim {
    pub number: Option<PhoneNumber>,
    pub span: Span,
    pub shown: String,
}

/// A phone number, what it is for, and where it is written.
#[derive(Debug, Clone)]
pub struct Dialable {
    pub number: PhoneNumber,
    pub role: Role,
    pub span: Span,
    pub shown: String,
}

/// What a phone number in a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The assistant answers it.
    Answered,
    /// It is dialed after a failure.
    Fallback,
    /// Calls are transferred to it.
    Transfer,
    /// It gets text messages for the owner.
    Texts,
}

/// The result of checking one file.
pub struct Outcome {
    pub source: problem::Source,
    /// Every phone number in it.
    pub numbers: Vec<Dialable>,
    /// The paths of the fragments that it uses.
    pub fragments: Vec<String>,
    /// The names of the recordings in `sounds` that it names.
    pub recordings: Vec<String>,
    /// `None` if there is an error.
    pub assistant: Option<Assistant>,
    pub claims: Vec<Claim>,
    pub problems: Vec<Problem>,
}

impl Assistant {
    /// Whether its calls are recorded as audio.
    pub fn records_audio(&self) -> bool {
        self.plan.record.audio
    }

    /// The file's name without the extension.
    pub fn name(&self) -> &str {
        &self.subject.name
    }

    pub fn description(&self) -> &str {
        &self.subject.description
    }

    /// The same with another gate, and another limit of a call's cost.
    #[cfg(test)]
    pub fn limited(&self, gate: Gate, cost: Option<f64>) -> Assistant {
        let mut assistant = Self { gate, ..self.clone() };
        assistant.plan.limits.cost = cost;
        assistant
    }

    /// Who gets through to it.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    pub fn zone(&self) -> &TimeZone {
        &self.subject.zone
    }

    /// The words of its language, or English ones.
    pub fn words(&self) -> &'static Words {
        self.subject.words
    }

    pub fn provider(&self) -> &Arc<Provider> {
        &self.plan.provider
    }

    /// The same assistant for a rehearsal: at its own provider only, and with the words and tools in the record, which is
    /// the owner's own. The rehearsal writes the audio itself.
    pub fn rehearsed(&self) -> Assistant {
        let mut assistant = self.clone();
        assistant.plan.fallback.clear();
        let kept = assistant.plan.record;
        assistant.plan.record = RecordPolicy { transcript: true, tools: true, audio: false, ..kept };
        assistant
    }

    /// Its own provider, then its fallbacks. A provider may come twice.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        iter::once(&self.plan.provider).chain(self.plan.fallback.iter().map(|plan| &plan.provider))
    }

    /// The numbers it answers by name.
    pub fn numbers(&self) -> &[PhoneNumber] {
        &self.claims
    }

    /// A time that a person typed, in this assistant's zone; `None` if the calendar has none.
    pub fn time(&self, typed: CallTime, now: Timestamp) -> Option<Timestamp> {
        typed.within(&self.subject.zone, now)
    }

    /// The version of its file.
    pub fn version(&self) -> &str {
        self.plan.version.as_str()
    }

    /// What is kept of its calls.
    pub fn kept(&self) -> RecordPolicy {
        self.plan.record
    }

    /// Whether it answers every number that no other assistant claims.
    pub fn answers_the_rest(&self) -> bool {
        self.rest
    }

    /// The MCP servers with `via: runtime`, as this assistant uses them.
    pub fn servers(&self) -> impl Iterator<Item = ServerUse> {
        self.toolbox.uses(self.name())
    }

    /// The tools that a call with these facts does not get, each with the reason. A tool of a server is
    /// `SERVER.TOOL`.
    pub fn tools_off(&self, facts: &Facts, supply: &dyn Supply) -> Vec<(String, Off)> {
        self.toolbox.pack(&self.subject, facts, supply, &self.plan.provider).off
    }

    /// What is said and done if a call with these facts fails or cannot begin.
    pub fn on_failure(&self, facts: &Facts) -> OnFailure {
        let OnFailure { line, dial } = &self.plan.on_failure;
        let line = match self.subject.render(&line.say, facts) {
            Ok(say) => Line { say, ..*line },
            Err(_) => Line::ours(line.language, OnFailure::prepared(dial.is_some())),
        };
        OnFailure { line, dial: dial.clone() }
    }

    /// The assistant rendered and frozen for one call, with the tools that are available.
    ///
    /// # Errors
    /// A text that cannot be rendered for these facts.
    pub fn plan(&self, facts: &Facts, supply: &dyn Supply) -> Result<Plan, PlanError> {
        let mut plan = self.rendered(&self.plan, facts, supply)?;
        for fallback in &mut plan.fallback {
            *fallback = Arc::new(self.rendered(fallback, facts, supply)?);
        }
        Ok(plan)
    }

    /// The plan for one provider.
    fn rendered(&self, plan: &Plan, facts: &Facts, supply: &dyn Supply) -> Result<Plan, PlanError> {
        let render = |template: &str| {
            let rendered = self.subject.render(template, facts);
            rendered.map_err(|reason| PlanError { assistant: self.subject.name.clone(), reason })
        };
        let packed = self.toolbox.pack(&self.subject, facts, supply, &plan.provider);
        let tools: Vec<Part> =
            packed.texts.iter().map(|(name, template)| Part::of_tool(name, template)).collect();
        let parts = self.instructions.iter().chain(&self.fragments).chain(&tools);
        let parts = parts.map(|part| Ok(part.under_heading(&render(&part.template)?)));
        let mut parts: Vec<String> = parts.collect::<Result<_, PlanError>>()?;
        parts.retain(|part| !part.is_empty());
        parts.extend(prompt::language(self.plan.language.as_ref(), &self.plan.languages));
        parts.extend(prompt::vocabulary(&self.plan.vocabulary));
        let mut plan = plan.clone();
        plan.instructions = parts.join("\n\n");
        plan.tools = packed.tools;
        plan.hosted = packed.hosted;
        let (busy, failure) = (&mut plan.busy.say, &mut plan.on_failure.line.say);
        let notice = plan.recording_notice.as_mut().map(|notice| &mut notice.say);
        for text in plan.greeting.say.iter_mut().chain([busy, failure]).chain(notice) {
            *text = render(text)?;
        }
        let mut sounds = plan.sounds.as_ref().clone();
        if let (Some(greeting), Some(say)) = (&mut sounds.greeting, &plan.greeting.say) {
            greeting.text.clone_from(say);
        }
        let sounds = sounds.with(|text| supply.captured(&plan.sound_key(text)));
        if let Some(greeting) = &sounds.greeting {
            plan.greeting.clip = greeting.clip().cloned();
        }
        plan.sounds = Arc::new(sounds);
        Ok(plan)
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
    let text = yaml::text(file).unwrap_or_default();
    secrets::hide(&mut document.source, text, document.root.as_ref());
    let problems = document.problems.into_iter().map(|problem| problem.within(&document.source)).collect();
    let written = Written::new(document.source.clone(), problems);
    let check = Check {
        name,
        bytes: &file.bytes,
        text,
        around,
        written: &written,
        numbers: RefCell::default(),
        fragments: RefCell::default(),
        recordings: RefCell::default(),
        claims: RefCell::default(),
        texts: RefCell::default(),
        secrets: RefCell::default(),
    };
    let assistant = match &document.root {
        Some(root) if root.is_null() => {
            written.note(Problem::file(&file.path, Wrong::FileEmpty));
            None
        }
        Some(root) => check.top(root),
        None => None,
    };
    let Check { numbers, fragments, recordings, claims, .. } = check;
    let (numbers, fragments) = (numbers.into_inner(), fragments.into_inner());
    let (recordings, claims) = (recordings.into_inner(), claims.into_inner());
    let source = written.source.clone();
    let problems = written.into_problems();
    let sound = !problems.iter().any(Problem::is_error);
    let assistant = assistant.filter(|_| sound);
    Outcome { source, numbers, fragments, recordings, assistant, claims, problems }
}

struct Check<'a> {
    name: &'a str,
    bytes: &'a [u8],
    text: &'a str,
    around: &'a Around<'a>,
    written: &'a Written,
    numbers: RefCell<Vec<Dialable>>,
    /// The paths of the fragments in use.
    fragments: RefCell<Vec<String>>,
    /// The names of the recordings in `sounds` that the file names.
    recordings: RefCell<Vec<String>>,
    claims: RefCell<Vec<Claim>>,
    /// Templates with their places. They are checked when all variables are known.
    texts: RefCell<Vec<Text<'a>>>,
    /// Secrets that are reported already.
    secrets: RefCell<Vec<Span>>,
}

/// A template with its place.
struct Text<'a> {
    template: String,
    node: &'a Node,
    /// Twilio's voice speaks it.
    spoken: bool,
}

impl<'a> Check<'a> {
    /// Reads every key. If there are errors, the caller discards the result.
    fn top(&self, root: &'a Node) -> Option<Assistant> {
        let w = self.written;
        let top = w.map(root, "")?;
        let description = top.text("description").unwrap_or_default();
        self.numbers(&top);
        let provider = self.provider(&top);
        let model = self.model(&top, &provider).unwrap_or_else(|| provider.default_model().to_owned());
        let voice = self.voice(&top, &provider).unwrap_or_else(|| provider.default_voice().to_owned());
        let temperature = self.temperature(&top, &provider);
        let speed = self.speed(&top, &provider);
        let reasoning = self.reasoning(&top, &provider, &model);
        let mut tongue = self.tongue(&top);
        let subject = Subject {
            name: self.name.to_owned(),
            description,
            zone: self.zone(&top).unwrap_or(TimeZone::UTC),
            words: tongue
                .language
                .as_ref()
                .and_then(|language| Words::of(language.tag()))
                .unwrap_or(Words::ENGLISH),
            callers: self.callers(&top),
            variables: self.variables(&top),
        };

        let written = top.take("instructions").filter(|node| !blank(node));
        let instructions = written.and_then(|_| self.template(&top, "instructions"));
        let instructions = instructions.map(|template| Part { heading: "Your role".to_owned(), template });
        let examiner = subject.examiner();
        let fragments = self.fragments(&top, &examiner);
        if written.is_none() && top.take("fragments").is_none_or(empty) && !misspelled(root, "instructions") {
            let (line, column) = (root.span.line.max(1), root.span.column.max(1));
            w.problem(Span { len: 0, line, column, ..root.span }, Wrong::InstructionsMissing);
        }
        let (greeting, prepared) = self.greeting(&top);
        let turn_taking = self.turn_taking(&top, &provider);
        let languages = self.languages(&top, &mut tongue);
        let pinned = tongue.language.as_ref().filter(|_| languages.is_empty());
        let transcription = self.transcription(&top, &provider, pinned);
        let toolbox = self.toolbox(&top, &provider, &examiner);
        let (limits, gate) = self.limits(&top, &provider);
        let notify = self.notify(&top, &toolbox.control);
        let after_call = self.after_call(&top, &provider);
        let (busy, busy_dial) = self.busy(&top, &mut tongue);
        let on_failure = self.on_failure(&top, &mut tongue);
        let (record, recording_notice) = self.record(&top, &provider, transcription.as_ref(), &mut tongue);
        self.unheard(&tongue);
        let mut sounds = self.sounds(&top, tongue.language.as_ref());
        sounds.greeting = prepared;
        let sounds = Arc::new(sounds);
        let mut plan = Plan {
            assistant: self.name.to_owned(),
            version: Version::of(self.bytes),
            test: false,
            language: tongue.language,
            languages,
            vocabulary: self.vocabulary(&top),
            reader: Reader { words: subject.words, zone: subject.zone.clone() },
            provider,
            model,
            voice,
            speed,
            temperature,
            reasoning,
            instructions: String::new(),
            greeting,
            turn_taking,
            dtmf: self.dtmf(&top),
            transcription,
            tools: Vec::new(),
            hosted: Vec::new(),
            limits,
            busy,
            busy_dial,
            on_failure,
            record,
            recording_notice,
            notify,
            after_call,
            sounds,
            hold: self.hold(&top).unwrap_or_default(),
            fallback: Vec::new(),
        };
        plan.fallback = self.fallback(&top, &plan, &toolbox);
        top.finish();
        self.every_text(root);

        for Text { template, node, spoken } in &*self.texts.borrow() {
            let Some(scalar) = node.scalar() else { continue };
            let place = Place::of(&w.source, self.text, node, scalar);
            let problems = match spoken {
                true => examiner.check_spoken(template, &place),
                false => examiner.check(template, &place),
            };
            problems.into_iter().for_each(|problem| w.note(problem));
        }
        let claims = self.claims.borrow();
        Some(Assistant {
            subject,
            claims: claims.iter().filter_map(|claim| claim.number.clone()).collect(),
            rest: claims.iter().any(|claim| claim.number.is_none()),
            instructions,
            fragments,
            toolbox,
            gate,
            plan,
        })
    }

    fn template(&self, map: &Fields<'a>, key: &'static str) -> Option<String> {
        let node = map.take(key)?;
        let template = self.written.text(node, key)?;
        self.texts.borrow_mut().push(Text { template: template.clone(), node, spoken: false });
        Some(template)
    }

    fn zone(&self, top: &Fields<'a>) -> Option<TimeZone> {
        let node = top.take("timezone")?;
        let name = self.written.text(node, "timezone")?;
        let zone = TimeZone::get(name.trim()).ok();
        if zone.is_none() {
            let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            // `Berlin` means `Europe/Berlin`.
            let city = format!("/{}", name.trim().replace(' ', "_").to_lowercase());
            let of_city = all.iter().find(|zone| zone.to_lowercase().ends_with(&city)).map(String::as_str);
            let nearest = || problem::nearest(&name, all.iter().map(String::as_str)).first().copied();
            let example = of_city.or_else(nearest).unwrap_or("America/New_York").to_owned();
            self.written.problem(node.span, Wrong::TimezoneUnknown { name: shown(node), example });
        }
        zone
    }

    fn variables(&self, top: &Fields<'a>) -> BTreeMap<String, minijinja::Value> {
        let mut variables = BTreeMap::new();
        let Some(map) = top.map("variables") else { return variables };
        for (key, value) in map.all() {
            let name = key.name.as_str();
            let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if prompt::NAMES.contains(&name) {
                self.written.problem(key.span, Wrong::VariableTaken { name: name.to_owned() });
            } else if !fits {
                self.written.problem(key.span, Wrong::VariableName { name: problem::shown(name) });
            } else {
                variables.insert(name.to_owned(), values::value(value));
            }
        }
        variables
    }

    fn fragments(&self, top: &Fields<'a>, examiner: &Examiner) -> Vec<Part> {
        let w = self.written;
        let mut parts = Vec::new();
        for item in top.list("fragments") {
            let Some(name) = w.text(item, "fragments") else { continue };
            let Some(fragment) = self.around.fragments.get(name.trim()) else {
                let bare = name.trim().trim_end_matches(".md").rsplit('/').next().unwrap_or_default();
                let suggestion = Suggestion::new(bare, self.around.fragments.keys().map(String::as_str));
                w.problem(item.span, Wrong::FragmentUnknown { name: shown(item), suggestion });
                continue;
            };
            self.fragments.borrow_mut().push(fragment.source.path().to_owned());
            if !fragment.checked {
                let place = Place::whole(&fragment.source, fragment.text);
                examiner.check(fragment.text, &place).into_iter().for_each(|problem| w.note(problem));
            }
            parts.push(Part { heading: heading(name.trim()), template: fragment.text.to_owned() });
        }
        parts
    }
}

impl Part {
    /// The instructions of a server's tools.
    fn of_tool(name: &str, template: &str) -> Part {
        Part { heading: format!("Tools: {name}"), template: template.to_owned() }
    }

    /// The rendered text, under its heading unless it begins with its own.
    fn under_heading(&self, text: &str) -> String {
        match text.is_empty() || text.starts_with('#') {
            true => text.to_owned(),
            false => format!("# {}\n\n{text}", self.heading),
        }
    }
}

/// A fragment's name as a heading: `house-rules` is `House rules`.
fn heading(name: &str) -> String {
    let words = name.replace(['-', '_'], " ");
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Whether there is a key that is probably a misspelling of this one. It is a problem of its own.
fn misspelled(root: &Node, name: &str) -> bool {
    let near = |key: &str| key != name && !problem::nearest(key, [name]).is_empty();
    matches!(&root.kind, Kind::Map(entries) if entries.iter().any(|(key, _)| near(&key.name)))
}

/// Whether it is a text without visible characters.
fn blank(node: &Node) -> bool {
    node.scalar().is_some_and(|scalar| scalar.text().trim().is_empty())
}

/// Whether it contains no values, however deep.
fn empty(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.is_null() || scalar.text().contains(MISSING),
        Kind::Seq(items) => items.iter().all(empty),
        Kind::Map(entries) => entries.iter().all(|(_, node)| empty(node)),
    }
}
