//! What `.env` and the environment have to do with what is wrong.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ENV_FILE, own_environment, read_or_none, settings_file};
use crate::assistant::Folder;
use crate::problem::{Place, Problem};
use crate::settings::env_file::{self, Entry};
use crate::settings::{self, Settings};
use crate::yaml;

/// What is read beside the settings and the variables of files: what Fly sets on its machines, and what the Makefile asks
/// for. Docker Compose reads its own, which all begin alike.
const ELSEWHERE: [&str; 6] = [
    "FLY_APP_NAME",
    "FLY_MACHINE_ID",
    "TODOIST_API_KEY",
    "TODOIST_MCP_PASSWORD",
    "TODOIST_MCP_URL",
    "TODOIST_MCP_USER",
];
const OF_COMPOSE: &str = "COMPOSE_";

/// Warnings of the lines of `.env` that do not do what they seem to: names that stand twice, and those that nothing
/// reads, neither the program nor a file of this folder. Where lines are wrong, reading the environment has said so.
///
/// `dir`: where the folder was read; `None`: it was fetched. Only the folder in force tells what nothing reads: `.env` is
/// for that one, and not for another that is looked at, nor for the one that answers until the first can be fetched.
pub(crate) fn odd_lines(folder: &Folder, dir: Option<&Path>, settings: &Settings) -> Vec<Problem> {
    let entries = entries();
    let ours = settings::names().chain(ELSEWHERE).map(str::to_owned);
    let of_compose =
        entries.iter().map(|entry| entry.name.clone()).filter(|name| name.starts_with(OF_COMPOSE));
    let mut read: BTreeSet<String> = ours.chain(of_compose).chain(folder.variables()).collect();
    if let Ok(Some(file)) = settings_file() {
        read.extend(yaml::variables(&String::from_utf8_lossy(&file.bytes)));
    }
    let in_force = dir.is_none_or(|dir| settings.assistants_url.is_none() && dir == settings.assistants_dir);
    let mut odd = env_file::doubles(ENV_FILE, &entries, &read);
    if in_force {
        odd.extend(env_file::unread(ENV_FILE, &entries, &read));
    }
    odd.sort_by_key(|problem| problem.span().map(|at| at.line));
    odd
}

/// The problems, each with the line of `.env` that set the variables it names, or that the environment did.
pub(crate) fn placed(problems: &[Problem]) -> Vec<Problem> {
    let entries = entries();
    let lines = env_file::in_force(&entries);
    let own: BTreeSet<String> = own_environment().map(|(name, _)| name).collect();
    let place = |name: &str| match lines.iter().find(|entry| entry.name == name) {
        Some(entry) if !own.contains(name) => Some(Place::line(ENV_FILE, entry.line)),
        _ => None,
    };
    let mut placed = problems.to_vec();
    placed.iter_mut().for_each(|problem| problem.locate_variables(&place));
    placed
}

fn entries() -> Vec<Entry> {
    let bytes = read_or_none(ENV_FILE).ok().flatten().unwrap_or_default();
    env_file::entries(ENV_FILE, &bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_makefile_asks_for_is_read() {
        let makefile = include_str!("../../Makefile");
        let asked: BTreeSet<&str> =
            makefile.split("$(call env,").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        let asked: Vec<&str> = asked.into_iter().filter(|name| *name != "NAME").collect();
        assert!(asked.len() >= 3, "{asked:?}");
        assert!(asked.iter().all(|name| ELSEWHERE.contains(name)), "{asked:?}");
    }
}
