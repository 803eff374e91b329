//! All assistants, and which number rings which.
//!
//! It checks a folder as a whole: every file of a roster has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::check::{self, Around, Assistant, Dialable, Fragment, Outcome, Recordings, Role};
use super::language::Words;
use super::plan::{GREETING, RecordPolicy, SOUNDS, SoundName};
use super::prompt::{self, Place};
use crate::phone::{Implausible, Party, PhoneNumber};
use crate::problem::catalogue::{Assistant as Wrong, Tool};
use crate::problem::{self, Problem, Source, Span, Suggestion};
use crate::provider::Provider;
use crate::secret;
use crate::yaml::{self, SourceFile};
use switchboard_audio::Clip;

/// A folder of assistants as it was on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    /// `NAME.yaml`.
    pub assistants: Vec<SourceFile>,
    /// `fragments/NAME.md`.
    pub fragments: Vec<SourceFile>,
    /// `greetings/NAME.wav`.
    pub greetings: Vec<SourceFile>,
    /// `sounds/NAME.wav`.
    pub sounds: Vec<SourceFile>,
    /// Paths that are probably meant to be one of these, such as `clinic.YAML` or `clinic.yaml.txt`.
    pub unread: Vec<String>,
}

impl Folder {
    /// The variables that its assistants name.
    pub fn variables(&self) -> BTreeSet<String> {
        let texts = self.assistants.iter().map(|file| String::from_utf8_lossy(&file.bytes));
        texts.flat_map(|text| yaml::variables(&text)).collect()
    }
}

/// The assistants in force.
#[derive(Clone, PartialEq, Default)]
pub struct Roster {
    assistants: BTreeMap<String, Arc<Assistant>>,
    numbers: BTreeMap<PhoneNumber, Arc<Assistant>>,
    /// Answers every number that is not listed.
    rest: Option<Arc<Assistant>>,
}

/// What differs between two rosters. It contains names only, so it may be logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Each with the top-level keys whose meaning differs. A fragment's text counts as `fragments` of every assistant
    /// that uses it, and a recording's sound as `greeting`.
    pub changed: Vec<(String, Vec<&'static str>)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl fmt::Display for Changes {
    /// `added clinic; removed desk; changed pizzeria (voice, instructions)`. Long lists are cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names of each kind: an edit of a thousand files must still fit a log line.
        const MOST: usize = 40;
        let changed = self.changed.iter().map(|(name, keys)| format!("{name} ({})", keys.join(", ")));
        let kinds = [
            ("added", self.added.clone()),
            ("removed", self.removed.clone()),
            ("changed", changed.collect::<Vec<_>>()),
        ];
        let parts = kinds.into_iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| {
            let more = names.len().saturating_sub(MOST);
            let names = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
            match more {
                0 => format!("{kind} {names}"),
                more => format!("{kind} {names} and {more} more"),
            }
        });
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

/// The result of checking a folder.
#[derive(Debug)]
pub struct Checked {
    /// All errors, if there are any, sorted by place.
    pub roster: Result<Roster, Vec<Problem>>,
    /// Sorted by place.
    pub warnings: Vec<Problem>,
    numbers: Vec<(Source, Dialable)>,
    /// Each assistant's name with the paths of its own file and of its fragments.
    files: Vec<(String, BTreeSet<String>)>,
}

impl Checked {
    /// Warnings about phone numbers that probably do not exist, by the world's numbering plans. This is not a part of the
    /// check, because the plans take 140 ms to load and then 10 MB of memory.
    pub fn doubts(&self) -> Vec<Problem> {
        let mut doubts = Vec::new();
        for (source, Dialable { number, span, shown, .. }) in &self.numbers {
            let value = shown.clone();
            let what = match number.implausible() {
                None => continue,
                Some(Implausible::UnknownCountryCode) => Wrong::NumberWithoutCountry { value },
                Some(Implausible::NotInPlan(code)) => Wrong::NumberUnlikely { value, code },
            };
            doubts.push(source.problem(*span, what));
        }
        problem::sort(&mut doubts);
        doubts
    }

    /// Errors and warnings, sorted by place.
    pub fn problems(&self) -> Vec<Problem> {
        let mut all = self.warnings.clone();
        all.extend(self.roster.as_ref().err().into_iter().flatten().cloned());
        problem::sort(&mut all);
        all
    }

    /// All errors, and the warnings that concern this assistant: of its file, of its fragments and of the folder, but
    /// not of what only others use. Sorted by place.
    pub fn problems_for(&self, assistant: &str) -> Vec<Problem> {
        let (own, others): (Vec<_>, Vec<_>) = self.files.iter().partition(|(name, _)| name == assistant);
        let within = |all: &[&(String, BTreeSet<String>)], file: &str| {
            all.iter().any(|(_, files)| files.contains(file))
        };
        let mut all = self.problems();
        all.retain(|problem| {
            problem.is_error() || within(&own, problem.path()) || !within(&others, problem.path())
        });
        all
    }
}

/// Applies a check to every file, each with its name, and returns the outcomes in the order of the files.
pub type Apply<'a> =
    dyn Fn(&[(&str, &SourceFile)], &(dyn Fn(&(&str, &SourceFile)) -> Outcome + Sync)) -> Vec<Outcome> + 'a;

impl Roster {
    /// Checks a folder as a whole. The first provider is the default; records are as by [`RecordPolicy::default`].
    pub fn check(
        folder: &Folder,
        environment: &BTreeMap<String, String>,
        providers: &[Arc<Provider>],
    ) -> Checked {
        let one_by_one: &Apply<'_> = &|files, check| files.iter().map(check).collect();
        Roster::check_by(folder, environment, providers, RecordPolicy::default(), one_by_one)
    }

    /// The same with other defaults of what is kept, on the threads that `apply` chooses. The check of a file does not
    /// depend on other files.
    pub fn check_by(
        folder: &Folder,
        environment: &BTreeMap<String, String>,
        providers: &[Arc<Provider>],
        record: RecordPolicy,
        apply: &Apply<'_>,
    ) -> Checked {
        let mut problems = Vec::new();
        let fragments = fragments(folder, &mut problems);
        let greetings =
            recordings(&folder.greetings, &mut problems, |error| Wrong::GreetingInvalid { error });
        let sounds = recordings(&folder.sounds, &mut problems, |error| Wrong::SoundInvalid { error });
        let (fragments, greetings, sounds) = (&fragments, &greetings, &sounds);
        let around = Around { record, environment, providers, fragments, greetings, sounds };
        let mut roster = Roster::default();
        let (mut numbers, mut used) = (Vec::new(), Vec::new());
        let mut claims: Claims<'_> = BTreeMap::new();
        let mut files: BTreeMap<&str, &str> = BTreeMap::new();
        problems.extend(folder.unread.iter().map(|path| Problem::file(path, Wrong::FileIgnored)));
        if folder.assistants.is_empty() {
            problems.push(Problem::file("assistants", Wrong::FolderEmpty));
        }
        let mut named: Vec<(&str, &SourceFile)> = Vec::new();
        for file in &folder.assistants {
            let name = Path::new(&file.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !is_name(name) {
                problems.push(Problem::file(&file.path, Wrong::FileName));
            } else if let Some(other) = files.insert(name, &file.path) {
                let (name, other) = (name.to_owned(), other.to_owned());
                problems.push(Problem::file(&file.path, Wrong::FileDuplicate { name, other }));
            } else {
                named.push((name, file));
            }
        }
        let outcomes = apply(&named, &|(name, file)| check::file(name, file, &around));
        let mut held = BTreeSet::new();
        for ((name, _), outcome) in named.iter().zip(outcomes) {
            let own = std::iter::once(outcome.source.path().to_owned());
            used.push(((*name).to_owned(), own.chain(outcome.fragments).collect()));
            problems.extend(outcome.problems);
            held.extend(outcome.recordings);
            numbers.extend(outcome.numbers.into_iter().map(|number| (*name, outcome.source.clone(), number)));
            for claim in outcome.claims {
                match claims.get(&claim.number) {
                    Some((_, source, span)) => {
                        let what = Wrong::NumberTaken { value: claim.shown };
                        let problem = outcome.source.problem(claim.span, what);
                        problems.push(problem.also(source.place(*span), "first listed here"));
                    }
                    None => {
                        claims.insert(claim.number, (*name, outcome.source.clone(), claim.span));
                    }
                }
            }
            if let Some(assistant) = outcome.assistant {
                roster.add(assistant);
            }
        }
        problems.extend(unknown_sounds(&folder.sounds, &named, held));
        problems
            .extend(numbers.iter().filter_map(|(name, source, dialed)| loops(&claims, name, source, dialed)));
        let numbers = numbers.into_iter().map(|(_, source, number)| (source, number)).collect();
        // The problems of a fragment that two assistants use are reported once.
        let mut seen: Vec<Problem> = Vec::new();
        problem::sort(&mut problems);
        for problem in problems {
            if seen.last() != Some(&problem) {
                seen.push(problem);
            }
        }
        let (errors, warnings): (Vec<_>, Vec<_>) = seen.into_iter().partition(Problem::is_error);
        let roster = if errors.is_empty() { Ok(roster) } else { Err(errors) };
        Checked { roster, warnings, numbers, files: used }
    }

    fn add(&mut self, assistant: Assistant) {
        let assistant = Arc::new(assistant);
        for number in assistant.numbers() {
            self.numbers.insert(number.clone(), assistant.clone());
        }
        if assistant.answers_the_rest() {
            self.rest = Some(assistant.clone());
        }
        self.assistants.insert(assistant.name().to_owned(), assistant);
    }

    /// Who answers when this number is called.
    pub fn find(&self, called: &PhoneNumber) -> Option<&Arc<Assistant>> {
        self.numbers.get(called).or(self.rest.as_ref())
    }

    /// Who answers a call to this party: a SIP address or a client rings the assistant with `*`.
    pub fn find_party(&self, called: &Party) -> Option<&Arc<Assistant>> {
        match called.number() {
            Some(number) => self.find(number),
            None => self.rest.as_ref(),
        }
    }

    /// The words for somebody who called this party: of the assistant that answers, or else of all assistants, if they
    /// have one language.
    pub fn words(&self, called: &Party) -> &'static Words {
        if let Some(assistant) = self.find_party(called) {
            return assistant.words();
        }
        let mut all = self.assistants.values().map(|assistant| assistant.words());
        let first = all.next().unwrap_or(Words::ENGLISH);
        if all.all(|words| words == first) { first } else { Words::ENGLISH }
    }

    /// The same assistants, with `number` ringing the one of this name: to rehearse one that has no number.
    pub fn ringing(&self, number: PhoneNumber, name: &str) -> Option<Roster> {
        let assistant = self.by_name(name)?.clone();
        let mut roster = self.clone();
        roster.numbers.insert(number, assistant);
        Some(roster)
    }

    /// The same with another assistant in place of the one of its name.
    #[cfg(test)]
    pub fn with(mut self, assistant: Assistant) -> Roster {
        let assistant = Arc::new(assistant);
        let all = self.assistants.values_mut().chain(self.numbers.values_mut()).chain(&mut self.rest);
        all.filter(|other| other.name() == assistant.name()).for_each(|it| *it = assistant.clone());
        self
    }

    /// Only the assistant of this name, with its numbers, for a rehearsal.
    pub fn alone(&self, name: &str) -> Roster {
        let mut roster = self.clone();
        roster.assistants.retain(|other, _| other == name);
        roster.numbers.retain(|_, assistant| assistant.name() == name);
        roster.rest.take_if(|assistant| assistant.name() != name);
        let all = roster.assistants.values_mut().chain(roster.numbers.values_mut()).chain(&mut roster.rest);
        all.for_each(|assistant| *assistant = Arc::new(assistant.rehearsed()));
        roster
    }

    /// How `next` differs from this roster. Empty for equal rosters.
    pub fn changes(&self, next: &Roster) -> Changes {
        let missing = |from: &Roster, other: &Roster| {
            let names = from.assistants.keys().filter(|name| !other.assistants.contains_key(*name));
            names.cloned().collect()
        };
        let changed = self.assistants.iter().filter_map(|(name, before)| {
            let keys = before.changed_keys(next.assistants.get(name)?);
            (!keys.is_empty()).then(|| (name.clone(), keys))
        });
        Changes { added: missing(next, self), removed: missing(self, next), changed: changed.collect() }
    }

    /// Assistants whose provider needs a key and has none. `check` ignores them, so that it runs without keys; the server
    /// does not start with them.
    pub fn without_key(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for assistant in self.iter() {
            let without: BTreeSet<&str> = assistant
                .providers()
                .filter(|provider| provider.lacks_key())
                .map(|provider| provider.name.as_str())
                .collect();
            problems.extend(without.into_iter().map(|provider| {
                let (assistant, provider) = (assistant.name().to_owned(), provider.to_owned());
                Problem::new(Wrong::ProviderKeyMissing { assistant, provider })
            }));
        }
        problems
    }

    /// Whether any number rings any assistant.
    pub fn answers(&self) -> bool {
        !self.numbers.is_empty() || self.rest.is_some()
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Assistant>> {
        self.assistants.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Assistant>> {
        self.assistants.values()
    }

    pub fn len(&self) -> usize {
        self.assistants.len()
    }

    pub fn is_empty(&self) -> bool {
        self.assistants.is_empty()
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster")
            .field("assistants", &self.assistants.keys().collect::<Vec<_>>())
            .field("numbers", &self.numbers)
            .field("rest", &self.rest)
            .finish()
    }
}

/// Who answers each number, and where that is written; `None` stands for every other number.
type Claims<'a> = BTreeMap<Option<PhoneNumber>, (&'a str, Source, Span)>;

/// The problem of a number that is dialed for this assistant although the folder answers it.
fn loops(claims: &Claims<'_>, name: &str, source: &Source, dialed: &Dialable) -> Option<Problem> {
    let (assistant, other, span) = claims.get(&Some(dialed.number.clone()))?;
    let (value, assistant) = (dialed.shown.clone(), (*assistant).to_owned());
    let what = match dialed.role {
        Role::Answered => return None,
        Role::Fallback => Wrong::DialAnswered { value, assistant },
        Role::Texts => Wrong::TextToAssistant { value, assistant },
        Role::Transfer if assistant == name => Wrong::TransferToItself { value },
        Role::Transfer => Wrong::TransferToAssistant { value, assistant },
    };
    Some(source.problem(dialed.span, what).also(other.place(*span), "listed here"))
}

/// Whether this can be an assistant's name, and so the name of its file.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn fragments<'a>(folder: &'a Folder, problems: &mut Vec<Problem>) -> BTreeMap<String, Fragment<'a>> {
    let mut fragments = BTreeMap::new();
    for file in &folder.fragments {
        let stem = Path::new(&file.path).file_stem().and_then(|stem| stem.to_str());
        match yaml::text(file) {
            Ok(text) => {
                let source = Source::new(&file.path, text);
                // An unused one is checked too: the next edit may use it.
                let (checked, found) = prompt::check_shared(text, &Place::whole(&source, text));
                problems.extend(found);
                problems.extend(
                    secret::in_text(text)
                        .map(|(at, what)| source.problem(Span::of(text, at), Tool::SecretShape { what })),
                );
                fragments.insert(stem.unwrap_or_default().to_owned(), Fragment { source, text, checked });
            }
            // It is there, so an assistant that names it has no problem of its own.
            Err(problem) => {
                problems.push(*problem);
                let source = Source::new(&file.path, "");
                fragments.insert(
                    stem.unwrap_or_default().to_owned(),
                    Fragment { source, text: "", checked: true },
                );
            }
        }
    }
    fragments
}

fn recordings(files: &[SourceFile], problems: &mut Vec<Problem>, invalid: fn(String) -> Wrong) -> Recordings {
    let mut recordings = Recordings::new();
    for file in files {
        let clip = match (file.unusable(), Clip::from_wav(&file.bytes)) {
            (None, Ok(clip)) => Some(Arc::new(clip)),
            (Some(what), _) => {
                problems.push(Problem::file(&file.path, what));
                None
            }
            (None, Err(error)) => {
                problems.push(Problem::file(&file.path, invalid(error.to_string())));
                None
            }
        };
        recordings.insert(file_name(file).to_owned(), clip);
    }
    recordings
}

/// Warns about recordings of a line or an assistant that does not exist, which no assistant has as its `hold` either.
fn unknown_sounds<'a>(
    sounds: &'a [SourceFile],
    assistants: &[(&str, &SourceFile)],
    held: BTreeSet<String>,
) -> impl Iterator<Item = Problem> + 'a {
    let of_line = |line: &SoundName| {
        let own = assistants.iter().map(|(assistant, _)| format!("{assistant}-{}.wav", line.name));
        own.chain([format!("{}.wav", line.name)]).collect::<Vec<_>>()
    };
    let greetings = assistants.iter().map(|(assistant, _)| format!("{assistant}-{GREETING}.wav"));
    let known: BTreeSet<String> = SOUNDS.iter().flat_map(of_line).chain(greetings).chain(held).collect();
    sounds.iter().filter_map(move |file| {
        let name = file_name(file);
        let suggestion = || Suggestion::new(name, known.iter().map(String::as_str));
        (!known.contains(name))
            .then(|| Problem::file(&file.path, Wrong::SoundUnknown { suggestion: suggestion() }))
    })
}

fn file_name(file: &SourceFile) -> &str {
    Path::new(&file.path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::OPENAI_REALTIME_URL;

    fn roster(files: &[(&str, &str)]) -> Roster {
        let mut folder = Folder::default();
        for (name, text) in files {
            let kind = match name.ends_with(".md") {
                true => &mut folder.fragments,
                false => &mut folder.assistants,
            };
            kind.push(SourceFile::new(*name, *text));
        }
        let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, None));
        Roster::check(&folder, &BTreeMap::new(), &[provider]).roster.unwrap()
    }

    #[test]
    fn changes_are_shown_by_name_and_key() {
        const PLAIN: &str = "instructions: Hi.\n";
        const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let one = |more: &str| roster(&[("a.yaml", &format!("{PLAIN}{more}"))]);
        for (what, before, after, shown) in [
            ("nothing", one(""), one("# A comment\nvoice: marin\n"), ""),
            ("a new file", one(""), roster(&[("a.yaml", PLAIN), ("b.yaml", PLAIN)]), "added b"),
            ("a removed file", roster(&[("a.yaml", PLAIN), ("b.yaml", PLAIN)]), one(""), "removed b"),
            ("a file was renamed", one(""), roster(&[("b.yaml", PLAIN)]), "added b; removed a"),
            ("a text", one(""), roster(&[("a.yaml", "instructions: Ho.\n")]), "changed a (instructions)"),
            ("a number", one("numbers: [\"+15550100001\"]\n"), one(""), "changed a (numbers)"),
            ("a fallback", one("fallback: [openai/gpt-realtime-2]\n"), one(""), "changed a (fallback)"),
            ("every other number", one("numbers: [\"*\"]\n"), one(""), "changed a (numbers)"),
            (
                "a variable",
                one("variables: { x: 1 }\n"),
                one("variables: { x: 2 }\n"),
                "changed a (variables)",
            ),
            ("a caller", one("callers: { \"+15550100002\": Anna }\n"), one(""), "changed a (callers)"),
            ("what is kept", one(""), one("record: { keep: 7d }\n"), "changed a (record)"),
            (
                "what callers are told",
                one("record: { audio: true }\n"),
                one("record: { audio: true }\nrecording_notice: We record.\n"),
                "changed a (recording_notice)",
            ),
            ("a line", one(""), one("busy: { say: Later. }\n"), "changed a (busy)"),
            (
                "who is dialed",
                one(""),
                one("on_failure: { dial: \"+15550100003\" }\n"),
                "changed a (on_failure)",
            ),
            ("who is dialed then", one(""), one("busy: { dial: \"+15550100003\" }\n"), "changed a (busy)"),
            (
                "who gets notifications",
                one("notify: { to: { email: owner@example.com } }\n"),
                one("notify: { to: { email: boss@example.com } }\n"),
                "changed a (notify)",
            ),
            (
                "of which calls",
                one("notify: { to: { email: owner@example.com } }\n"),
                one("notify: { to: { email: owner@example.com }, when: failure }\n"),
                "changed a (notify)",
            ),
            ("no way is no notification", one(""), one("notify: { to: { email: \"${NOBODY:-}\" } }\n"), ""),
            (
                "a form",
                one("after_call: { summary: true }\n"),
                one("after_call: { summary: true, fields: [wish] }\n"),
                "changed a (after_call)",
            ),
            (
                "where a form goes",
                one("after_call: { summary: true }\n"),
                one(&format!(
                    "after_call: {{ summary: true, webhook: {{ url: \"https://example.com/\", secret: \"{KEY}\" }} }}\n"
                )),
                "changed a (after_call)",
            ),
            ("the cost of a call", one(""), one("limits: { cost_per_call: 0.5 }\n"), "changed a (limits)"),
            ("the cost of a day", one(""), one("limits: { cost_per_day: 5 }\n"), "changed a (limits)"),
            ("calls at once", one(""), one("limits: { calls: 3 }\n"), "changed a (limits)"),
            (
                "calls of a caller",
                one("limits: { calls_per_caller: { per_hour: 5 } }\n"),
                one("limits: { calls_per_caller: { per_hour: 5, withheld: true } }\n"),
                "changed a (limits)",
            ),
            ("who is blocked", one(""), one("block: [\"+15550100666\"]\n"), "changed a (block)"),
            (
                "the same callers in another order",
                one("block: [\"+15550100666\", withheld]\n"),
                one("block: [withheld, \"+15550100666\"]\n"),
                "",
            ),
            (
                "limits and blocked callers",
                one(""),
                one("limits: { calls: 3 }\nblock: [withheld]\n"),
                "changed a (limits, block)",
            ),
            ("turns", one(""), one("turn_taking: { silence: 700ms }\n"), "changed a (turn_taking)"),
            (
                "many keys",
                one(""),
                one(
                    "voice: cedar\nspeed: 1.2\ntimezone: America/New_York\ncall_control: { end_call: true }\n",
                ),
                "changed a (voice, speed, timezone, call_control)",
            ),
            (
                "a fragment counts for the assistants that use it",
                roster(&[
                    ("a.yaml", "instructions: Hi.\nfragments: [x]\n"),
                    ("b.yaml", PLAIN),
                    ("x.md", "One."),
                ]),
                roster(&[
                    ("a.yaml", "instructions: Hi.\nfragments: [x]\n"),
                    ("b.yaml", PLAIN),
                    ("x.md", "Two."),
                ]),
                "changed a (fragments)",
            ),
        ] {
            let changes = before.changes(&after);
            assert_eq!(changes.to_string(), shown, "{what}");
            assert_eq!(changes.is_empty(), before == after, "{what}: no change is an equal roster");
        }
    }

    #[test]
    fn a_long_list_of_changes_is_cut() {
        let added = (0..1_000).map(|number| format!("a{number:03}")).collect();
        let shown = Changes { added, ..Changes::default() }.to_string();
        assert!(shown.starts_with("added a000, a001") && shown.ends_with("a039 and 960 more"), "{shown}");
    }

    #[test]
    fn a_fallback_without_a_key_is_reported_once_for_its_provider() {
        let roster = roster(&[("a.yaml", "instructions: Hi.\nfallback: [openai/gpt-realtime-2]\n")]);
        let problems = roster.without_key();
        assert_eq!(problems.iter().map(Problem::code).collect::<Vec<_>>(), ["provider.key"]);
    }

    #[test]
    fn a_rehearsed_assistant_is_alone_with_its_own_provider() {
        let text =
            "instructions: Hi.\nnumbers: [\"+15550100001\", \"*\"]\nfallback: [openai/gpt-realtime-2]\n";
        let roster = roster(&[("a.yaml", text), ("b.yaml", "instructions: Hi.\n")]);
        assert_eq!(roster.by_name("a").unwrap().providers().count(), 2);
        let alone = roster.alone("a");
        let all = alone.iter().chain(alone.numbers.values()).chain(&alone.rest);
        assert_eq!(all.map(|assistant| assistant.providers().count()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
