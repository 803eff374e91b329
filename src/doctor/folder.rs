//! The folder of assistants: the local one, and that of ASSISTANTS_URL.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::assistant::{Checked, Roster};
use crate::problem::catalogue::Folder;
use crate::problem::{Problem, counted};
use crate::reload::fetch::Remote;
use crate::workspace::Workspace;

/// The most problems of a folder that are shown.
const SHOWN: usize = 3;

/// Whether ASSISTANTS_URL is set, even to a wrong value.
pub fn is_remote(workspace: &Workspace) -> bool {
    const NAME: &str = "ASSISTANTS_URL";
    workspace.settings.assistants_url.is_some()
        || workspace.problems.iter().any(|problem| problem.is_error() && problem.of_setting() == Some(NAME))
}

/// The local folder: its roster if it passes.
pub fn local(workspace: &Workspace) -> (Option<Roster>, Vec<Problem>) {
    let dir = format!("the folder `{}`", workspace.settings.assistants_dir.display());
    let is_fallback = is_remote(workspace);
    match workspace.check(&workspace.settings.assistants_dir) {
        Ok(checked) => judge(&dir, checked, is_fallback),
        Err(_) if is_fallback => {
            (None, vec![Problem::new(Folder::FallbackRejected { dir, errors: counted(1, "error") })])
        }
        Err(problems) => (None, problems),
    }
}

/// The folder of ASSISTANTS_URL, fetched as `serve` fetches it.
pub async fn remote(workspace: &Workspace, tls: &Arc<ClientConfig>) -> (Option<Roster>, Vec<Problem>) {
    let settings = &workspace.settings;
    let Some(url) = &settings.assistants_url else { return (None, Vec::new()) };
    let fetched = match Remote::new(url.expose(), settings.assistants_token.as_ref(), tls) {
        Ok(remote) => remote.fetch_once().await,
        Err(error) => Err(error),
    };
    match fetched {
        Ok(folder) => {
            let mut checked = workspace.check_folder(&folder, &settings.providers());
            checked.warnings.extend(workspace.check_env_file(&folder, true));
            let (roster, mut problems) = judge("the folder of ASSISTANTS_URL", checked, false);
            problems.insert(0, Problem::new(Folder::Fetched));
            (roster, problems)
        }
        Err(error) => (None, vec![Problem::new(Folder::NotFetched { error: error.to_string() })]),
    }
}

/// `is_fallback`: another folder is in force.
fn judge(dir: &str, checked: Checked, is_fallback: bool) -> (Option<Roster>, Vec<Problem>) {
    let dir = dir.to_owned();
    let mut warnings = checked.doubts();
    warnings.extend(checked.warnings);
    let roster = match checked.roster {
        Ok(roster) => roster,
        Err(errors) if is_fallback => {
            return (
                None,
                vec![Problem::new(Folder::FallbackRejected { dir, errors: counted(errors.len(), "error") })],
            );
        }
        Err(errors) => {
            let what = Folder::Rejected { dir, errors: counted(errors.len(), "error") };
            let shown = errors.into_iter().chain(warnings).take(SHOWN);
            return (None, std::iter::once(Problem::new(what)).chain(shown).collect());
        }
    };
    let mut problems = Vec::new();
    if is_fallback {
        return (Some(roster), problems);
    }
    problems.push(Problem::new(match warnings.len() {
        0 => Folder::Passes { dir, assistants: counted(roster.len(), "assistant") },
        count => Folder::Warnings { dir, warnings: counted(count, "warning") },
    }));
    problems.extend(warnings.into_iter().take(SHOWN));
    if !roster.answers() {
        problems.push(Problem::new(Folder::NoNumbers));
    }
    (Some(roster), problems)
}
