//! How the findings are printed.

use serde_json::{Value, json};

use super::redact::Redactor;
use crate::problem::catalogue::What;
use crate::problem::{Problem, Severity, counted};
use crate::settings;
use crate::workspace::ENV_FILE;

/// The width of the text, in characters.
const WIDTH: usize = 100;

/// The groups, in the order of the report.
const GROUPS: [&str; 13] = [
    "Settings",
    "Assistants",
    "Speech model",
    "Twilio account",
    "Numbers",
    "Twilio Functions",
    "Public address",
    "Tools",
    "Records",
    "Deliveries",
    "Clock",
    "Fly",
    "Doctor",
];

/// The group of a problem, as an index of [`GROUPS`].
fn group(problem: &Problem) -> usize {
    match (problem.what(), problem.path()) {
        (_, super::fly::FILE) => 11,
        (What::Setting(_), _) | (_, ENV_FILE | settings::FILE) => 0,
        (
            What::File(_)
            | What::Assistant(_)
            | What::Template(_)
            | What::Tool(_)
            | What::Folder(_)
            | What::ReadFolder(_),
            _,
        ) => 1,
        (What::Provider(_), _) => 2,
        (What::Twilio(_), _) if problem.code().starts_with("twilio.") => 3,
        (What::Twilio(_) | What::Number(_), _) => 4,
        (What::Function(_), _) => 5,
        (What::Public(_), _) => 6,
        (What::Mcp(_), _) => 7,
        (What::Store(_) | What::Recording(_), _) => 8,
        (What::Delivery(_), _) => 9,
        (What::Clock(_), _) => 10,
        (What::Fly(_), _) => 11,
        (What::Doctor(_), _) => {
            if problem.code() == "settings.ok" {
                0
            } else {
                12
            }
        }
    }
}

fn grouped(problems: &[Problem]) -> Vec<(&'static str, Vec<&Problem>)> {
    let of = |index| problems.iter().filter(|problem| group(problem) == index).collect::<Vec<_>>();
    let groups = GROUPS.iter().enumerate().map(|(index, name)| (*name, of(index)));
    groups.filter(|(_, problems)| !problems.is_empty()).collect()
}

/// The message with its place and subject.
fn message(problem: &Problem) -> String {
    // A problem of the folder names it.
    let place = problem.place.as_ref().filter(|_| !matches!(problem.what(), What::ReadFolder(_)));
    let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
    let number = problem.of_number().map(|number| format!("{number}: ")).unwrap_or_default();
    format!("{place}{number}{}", problem.message())
}

/// An array of `{"code","severity","subject","message","effect","help"}`, in the order of the groups.
pub fn json(problems: &[Problem], redactor: &Redactor) -> String {
    let hide = |text: Option<String>| text.map(|text| redactor.hide(&text));
    let row = |problem: &Problem| {
        json!({
            "code": problem.code(),
            "severity": problem.severity().name(),
            "subject": hide(problem.about().map(str::to_owned)),
            "message": redactor.hide(&message(problem)),
            "effect": hide(problem.effect()),
            "help": hide(problem.fix()),
        })
    };
    let rows = grouped(problems).into_iter().flat_map(|(_, problems)| problems).map(row);
    format!("{:#}\n", rows.collect::<Value>())
}

/// For people: grouped, aligned, with a summary at the end.
pub fn text(problems: &[Problem], redactor: &Redactor) -> String {
    let mut text = String::new();
    for (name, problems) in grouped(problems) {
        text.push_str(&format!("{name}\n"));
        for problem in problems {
            let severity = problem.severity().name();
            paragraph(&mut text, &format!("  {severity:<9}"), &redactor.hide(&message(problem)));
            if problem.severity() == Severity::Ok {
                continue;
            }
            for (label, words) in [("effect", problem.effect()), ("fix", problem.fix())] {
                if let Some(words) = words {
                    paragraph(&mut text, &format!("           {label:<8}"), &redactor.hide(&words));
                }
            }
        }
        text.push('\n');
    }
    let count = |severity: Severity| problems.iter().filter(|problem| problem.severity() == severity).count();
    text.push_str(&match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => "Everything is fine.\n".to_owned(),
        (errors, warnings) => format!("{}, {}.\n", counted(errors, "error"), counted(warnings, "warning")),
    });
    text
}

fn paragraph(text: &mut String, label: &str, words: &str) {
    let indent = " ".repeat(label.chars().count());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(label)
        .subsequent_indent(&indent)
        .break_words(false)
        // Only at spaces: not inside URLs.
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    text.push_str(&textwrap::fill(words, options));
    text.push('\n');
}
