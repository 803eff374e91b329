//! What `.env` sets, for the tools of a deployment: none of them reads such a file as the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use anyhow::{Context as _, anyhow};

use crate::problem::{Problem, What};
use crate::settings::Need;
use crate::settings::table::SETTINGS;
use crate::terminal::{Failure, print};
use crate::workspace::{ENV_FILE, Workspace};

/// Not deployed either: the key of the MCP server, which is an app of its own.
const OTHERS: &str = "TODOIST_API_KEY";

/// The command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print only this value, from the environment or .env; exit with 1 if it is not set
    name: Option<String>,
    /// Print only the names
    #[arg(long, conflicts_with = "name")]
    names: bool,
    /// Read the output of `fly secrets list` and print what is missing there or set only there
    #[arg(long, conflicts_with_all = ["name", "names"])]
    compare: bool,
}

/// `switchboard secrets`.
pub fn run(options: &Options) -> Result<(), Failure> {
    let workspace = Workspace::read();
    let in_env_file = |problem: &&Problem| {
        problem.is_error() && problem.path() == ENV_FILE && matches!(problem.what(), What::File(_))
    };
    let problems: Vec<Problem> = workspace.problems.iter().filter(in_env_file).cloned().collect();
    if !problems.is_empty() {
        return Err(problems.into());
    }
    if let Some(name) = &options.name {
        let value = workspace.environment.get(name).filter(|value| !value.is_empty());
        return print(value.ok_or(Failure::Reported)?);
    }
    let values = values(&workspace)?;
    if options.compare {
        let mut list = String::new();
        std::io::stdin().read_to_string(&mut list).context("cannot read standard input")?;
        return print(&compare(&list, &values.keys().map(String::as_str).collect()));
    }
    let line = |(name, value): (&String, &String)| {
        if options.names {
            return Ok(format!("{name}\n"));
        }
        let written = for_fly(value).ok_or_else(|| {
            anyhow!(
                "{name} in {ENV_FILE} has quotes or line breaks that `fly secrets import` would not keep; set it with \
                 `fly secrets set`, and remove it from {ENV_FILE}"
            )
        })?;
        Ok::<_, anyhow::Error>(format!("{name}={written}\n"))
    };
    print(&values.iter().map(line).collect::<Result<String, _>>()?)
}

/// What `.env` sets, without what belongs to one machine.
fn values(workspace: &Workspace) -> Result<BTreeMap<String, String>, Failure> {
    let is_local =
        |name: &str| name == OTHERS || SETTINGS.iter().any(|setting| setting.local && setting.name == name);
    let values = workspace.env_file().values().filter(|(name, value)| !value.is_empty() && !is_local(name));
    let values: BTreeMap<String, String> = values.collect();
    match values.is_empty() {
        true => {
            Err(anyhow!("{ENV_FILE} sets nothing to deploy; copy .env.example to {ENV_FILE} and fill it in")
                .into())
        }
        false => Ok(values),
    }
}

/// What needs attention, given the output of `fly secrets list`: its first words are names, whatever lines it draws.
fn compare(list: &str, ours: &BTreeSet<&str>) -> String {
    let is_name =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_uppercase()) && *word == word.to_uppercase();
    let word = |line: &str| {
        let mut words =
            line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        words.next().filter(is_name).filter(|word| *word != "NAME").map(str::to_owned)
    };
    let there: BTreeSet<String> = list.lines().filter_map(word).collect();
    let mut text = String::new();
    // Without a list, nothing is known.
    if list.trim().is_empty() {
        return text;
    }
    let needed = SETTINGS.iter().filter(|setting| setting.secret && setting.missing(Need::Serve).is_some());
    for name in needed.map(|setting| setting.name) {
        if !ours.contains(name) && !there.contains(name) {
            text.push_str(&format!("{name} is set neither in {ENV_FILE} nor on Fly.\n"));
        }
    }
    let left: Vec<&str> = there.iter().map(String::as_str).filter(|name| !ours.contains(name)).collect();
    if !left.is_empty() {
        let left = left.join(" ");
        text.push_str(&format!(
            "Set on Fly, but not in {ENV_FILE}: {left}\nTo remove them: fly secrets unset --stage {left}\n"
        ));
    }
    text
}

/// A value as flyctl reads it back; `None` if it cannot.
///
/// flyctl (`internal/command/secrets/parser.go`) removes spaces before a value, one pair of quotes around it, and
/// everything from a `#` that has an even number of `"` before it. `"""` begins and ends several lines. It knows no
/// escapes.
fn for_fly(value: &str) -> Option<String> {
    let (first, more) = value.split_once('\n').map_or((value, false), |(first, _)| (first, true));
    let is_quoted = first.split_once('#').map(|(before, _)| before.matches('"').count() % 2 == 1);
    if more {
        let (lines, _) = value.rsplit_once('\n')?;
        let ends = lines.split('\n').any(|line| line.ends_with("\"\"\"") || line.ends_with('\r'));
        return (!ends && is_quoted != Some(true)).then(|| format!("\"\"\"{value}\"\"\""));
    }
    if !value.starts_with([' ', '"', '\'']) && !value.ends_with('\r') && is_quoted != Some(false) {
        return Some(value.to_owned());
    }
    let opens_lines = value == "\"" || value.starts_with("\"\"");
    (!opens_lines && is_quoted != Some(true)).then(|| format!("\"{value}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_fly_is_compared_by_its_names() {
        let ours = ["OPENAI_API_KEY"].into();
        let list =
            "NAME          │ DIGEST\n──────────────┼───────\nOPENAI_API_KEY│ 0a1b\n OLD_KEY      │ 2c3d\n";
        let text = compare(list, &ours);
        assert!(
            text.contains("TWILIO_AUTH_TOKEN is set neither") && text.contains("unset --stage OLD_KEY"),
            "{text}"
        );
        assert!(!text.contains("OPENAI_API_KEY is set neither") && !text.contains("DIGEST"), "{text}");
        assert_eq!(compare("", &ours), "");
    }
}
