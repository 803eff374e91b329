//! The folder of assistants, as `check` reads it; and the one from the remote folder, where `serve` would fetch it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ClientConfig;

use super::report::{Finding, Severity};
use super::settings::of_problem;
use crate::assistant::{Checked, Roster};
use crate::command;
use crate::problem::{self, Problem};
use crate::provider::Provider;
use crate::reload::fetch::Remote;
use crate::reload::{self, read::read_folder};
use crate::settings::Settings;

/// How many problems are shown.
const SHOWN: usize = 3;
/// What comes of it where the folder that is here has errors, and ASSISTANTS_URL is set.
const NO_STAND_IN: &str = "nothing answers calls while the host of ASSISTANTS_URL is down at a start";
/// What comes of a folder with errors.
const NOT_IN_FORCE: &str = "`switchboard serve` does not start with it, and where it runs the edit is held back: \
                            callers meet the assistants of before";

/// The folder on the disk: its roster, where it passes, and what is to be said of it. `is_remote`: it only stands in for
/// that of ASSISTANTS_URL.
pub fn check(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
    is_remote: bool,
) -> (Option<Roster>, Vec<Finding>) {
    let dir = &settings.assistants_dir;
    let place = dir.display().to_string();
    let folder = match read_folder(dir) {
        Ok(folder) => folder,
        Err(error) => {
            let problem = Problem::from(error);
            let finding = if is_remote { Finding::warning } else { Finding::error };
            // The sentence goes on with what is to be done.
            let message = problem.message();
            let (what, help) = message.split_once("; ").unwrap_or((&message, "make it smaller"));
            let finding = finding("folder.check", what).causes(match is_remote {
                true => NO_STAND_IN,
                false => "`switchboard serve` does not start",
            });
            let fix = match dir.exists() {
                true => help,
                false if is_remote => {
                    "have the folder here too, or set ASSISTANTS_DIR to the one that you have"
                }
                false => {
                    "run `switchboard new NAME`: it makes the folder, with an assistant to begin with; or set \
                     ASSISTANTS_DIR to the folder that you have"
                }
            };
            return (None, vec![finding.fix(fix)]);
        }
    };
    let (roster, mut findings) =
        judge(&place, reload::check_whole(&folder, environment, &settings.providers()));
    if !is_remote {
        findings.splice(0..0, command::odd_lines(&folder, Some(dir), settings).iter().map(of_problem));
        return (roster, findings);
    }
    // What nothing reads and rings is told of the folder that is fetched.
    findings.retain(|finding| finding.check == "folder.check");
    for finding in findings.iter_mut().filter(|finding| finding.severity == Severity::Error) {
        finding.severity = Severity::Warning;
        finding.cause = Some(NO_STAND_IN.to_owned());
    }
    (roster, findings)
}

/// What is said where the folder of ASSISTANTS_URL is not known, and the one that is here is looked at in its place.
pub fn stand_in(settings: &Settings) -> Finding {
    let place = settings.assistants_dir.display();
    let message = format!(
        "the models and the tools are looked at as `{place}` has them, which answers at a start meanwhile"
    );
    Finding::warning("folder.fetch", message)
        .causes("a server that runs keeps what it fetched last, and may use others")
        .fix("mend the folder of ASSISTANTS_URL, and run `switchboard doctor` again")
}

/// The folder that `serve` would fetch.
pub async fn fetch(
    settings: &Settings,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
    tls: &Arc<ClientConfig>,
) -> (Option<Roster>, Vec<Finding>) {
    let Some(url) = &settings.assistants_url else { return (None, Vec::new()) };
    let fetched = match Remote::new(url.expose(), settings.assistants_token.as_ref(), tls) {
        Ok(remote) => remote.fetch_once().await,
        Err(error) => Err(error),
    };
    match fetched {
        Ok(folder) => {
            let (roster, mut findings) =
                judge("the folder of ASSISTANTS_URL", reload::check_whole(&folder, environment, providers));
            findings.insert(0, Finding::ok("folder.fetch", "the folder of ASSISTANTS_URL can be fetched"));
            findings.extend(command::odd_lines(&folder, None, settings).iter().map(of_problem));
            (roster, findings)
        }
        Err(error) => {
            let finding = Finding::error("folder.fetch", error.to_string()).causes(
                "edits do not reach the server; at a start the folder in the image answers, if there is one",
            );
            (
                None,
                vec![finding.fix("mend what the sentence above names: ASSISTANTS_URL, or ASSISTANTS_TOKEN")],
            )
        }
    }
}

fn judge(place: &str, checked: Checked) -> (Option<Roster>, Vec<Finding>) {
    let mut warnings = checked.warnings.clone();
    warnings.extend(checked.doubts());
    problem::sort(&mut warnings);
    let mut findings = Vec::new();
    let run = "run `switchboard check`: it shows each place, and says what to write";
    if let Err(errors) = &checked.roster {
        let message = format!("{place} has {}:\n{}", counted(errors.len(), "error"), first(errors));
        findings.push(Finding::error("folder.check", message).causes(NOT_IN_FORCE).fix(run));
    }
    if !warnings.is_empty() {
        let message = format!("{place} has {}:\n{}", counted(warnings.len(), "warning"), first(&warnings));
        findings.push(Finding::warning("folder.check", message).fix(run));
    }
    let Ok(roster) = checked.roster else { return (None, findings) };
    if findings.is_empty() {
        let count = counted(roster.len(), "assistant");
        findings.push(Finding::ok("folder.check", format!("{place} is fine: {count}")));
    }
    if !roster.answers() {
        findings.push(
            Finding::warning("folder.numbers", "no number rings any assistant")
                .causes("every caller hears that the number is not in use")
                .fix("write a number into `numbers` of a file, or set the variable that stands there in `.env`"),
        );
    }
    (Some(roster), findings)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn first(problems: &[Problem]) -> String {
    let placed = command::placed(problems);
    let lines = placed.iter().take(SHOWN).map(|problem| match problem.span() {
        Some(at) => format!("{}:{}:{}: {}", problem.path(), at.line, at.column, problem.message()),
        None => format!("{}: {}", problem.path(), problem.message()),
    });
    let mut lines: Vec<String> = lines.collect();
    match problems.len().saturating_sub(SHOWN) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    lines.join("\n")
}
