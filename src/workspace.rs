//! What a command finds in the folder where it is started: `.env`, `switchboard.yaml` and the assistants. Read once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::assistant::{Checked, Folder, Roster};
use crate::link::tls;
use crate::problem::catalogue::File;
use crate::problem::{self, Problem};
use crate::provider::Provider;
use crate::reload::fetch::{FetchError, Remote};
use crate::reload::{self, read::read};
use crate::settings::env_file::{self, EnvFile};
use crate::settings::{self, FILE, Settings, Sources};
use crate::yaml::{self, SourceFile};

/// Adds to the environment, and never overrides it.
pub const ENV_FILE: &str = ".env";

/// What else reads the environment: Fly's machines and the Makefile. Docker Compose's own variables start with
/// [`OF_COMPOSE`].
const ELSEWHERE: [&str; 6] = [
    "FLY_APP_NAME",
    "FLY_MACHINE_ID",
    "TODOIST_API_KEY",
    "TODOIST_MCP_PASSWORD",
    "TODOIST_MCP_URL",
    "TODOIST_MCP_USER",
];
const OF_COMPOSE: &str = "COMPOSE_";

/// The settings, and where they come from.
pub struct Workspace {
    pub settings: Settings,
    /// The process's environment, and what `.env` adds.
    pub environment: BTreeMap<String, String>,
    /// `switchboard.yaml`, if there is one.
    pub settings_file: Option<SourceFile>,
    /// Everything that is wrong with `.env` and the settings.
    pub problems: Vec<Problem>,
    env_file: EnvFile,
    /// The names that the process's environment sets.
    own: BTreeSet<String>,
}

impl Workspace {
    /// Reads everything that can be read. What is wrong is in [`Self::problems`]; its settings have their defaults.
    pub fn read() -> Workspace {
        let mut problems = Vec::new();
        let mut bytes = |path: &str| {
            read_or_none(path).unwrap_or_else(|problem| {
                problems.push(*problem);
                None
            })
        };
        let (env_bytes, file_bytes) = (bytes(ENV_FILE).unwrap_or_default(), bytes(FILE));
        let (env_file, wrong) = env_file::read(ENV_FILE, &env_bytes);
        problems.extend(wrong);
        let own = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let own: BTreeMap<String, String> = own.collect();
        let names = own.keys().cloned().collect();
        let mut environment: BTreeMap<String, String> = env_file.values().collect();
        environment.extend(own);
        let settings_file = file_bytes.map(|bytes| SourceFile::new(FILE, bytes));
        let sources = Sources { file: settings_file.clone(), environment: environment.clone() };
        let (settings, wrong) = Settings::read(&sources);
        problems.extend(wrong);
        let mut workspace =
            Workspace { settings, environment, settings_file, problems: Vec::new(), env_file, own: names };
        workspace.problems = workspace.located(problems);
        workspace
    }

    /// Settings from elsewhere, without a `.env`.
    pub fn with(sources: Sources) -> Workspace {
        let (settings, problems) = Settings::read(&sources);
        let Sources { file: settings_file, environment } = sources;
        let own = environment.keys().cloned().collect();
        Workspace { settings, environment, settings_file, problems, env_file: EnvFile::default(), own }
    }

    /// Like [`Self::read`], for a command that does not work with wrong settings.
    ///
    /// # Errors
    /// All problems, if one is an error.
    pub fn open() -> Result<Workspace, Vec<Problem>> {
        let workspace = Workspace::read();
        match workspace.problems.iter().any(Problem::is_error) {
            true => Err(workspace.problems),
            false => Ok(workspace),
        }
    }

    /// Sets a variable, and reads the settings again.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
        let sources = Sources { file: self.settings_file.clone(), environment: self.environment.clone() };
        self.settings = Settings::read(&sources).0;
    }

    /// Reads the folder in `dir` and checks it as a whole. The warnings include the lines of `.env` that have no effect.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn check(&self, dir: &Path) -> Result<Checked, Vec<Problem>> {
        self.check_with(dir, &self.settings.providers())
    }

    /// The same, with other providers.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn check_with(&self, dir: &Path, providers: &[Arc<Provider>]) -> Result<Checked, Vec<Problem>> {
        let folder = read(dir)?;
        let mut checked = self.check_folder(&folder, providers);
        // `.env` is for the folder in force, and not for another one.
        let in_force = self.settings.assistants_url.is_none() && dir == self.settings.assistants_dir;
        checked.warnings.extend(self.check_env_file(&folder, in_force));
        problem::sort(&mut checked.warnings);
        Ok(checked)
    }

    /// Checks a folder as a whole, with this environment.
    pub fn check_folder(&self, folder: &Folder, providers: &[Arc<Provider>]) -> Checked {
        let mut checked = reload::check_whole(folder, &self.environment, providers, self.settings.record);
        checked.roster = checked.roster.map_err(|problems| self.located(problems));
        checked.warnings = self.located(checked.warnings);
        checked
    }

    /// Warnings about lines of `.env` that do not do what they seem to: names that are set twice, and, if `unused` is asked
    /// for, names that neither the program nor a file of this folder uses.
    pub fn check_env_file(&self, folder: &Folder, unused: bool) -> Vec<Problem> {
        let ours = settings::names().chain(ELSEWHERE).map(str::to_owned);
        let of_compose =
            self.env_file.values().map(|(name, _)| name).filter(|name| name.starts_with(OF_COMPOSE));
        let mut used: BTreeSet<String> = ours.chain(of_compose).chain(folder.variables()).collect();
        if let Some(file) = &self.settings_file {
            used.extend(yaml::variables(&String::from_utf8_lossy(&file.bytes)));
        }
        self.env_file.check(&used, unused)
    }

    /// The local folder, if it passes: the roster and its warnings.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn roster(&self) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
        passed(self.check(&self.settings.assistants_dir)?)
    }

    /// Where the folder of ASSISTANTS_URL is fetched; `None` without one.
    ///
    /// # Errors
    /// The address or the token cannot be used, or no certificate can be trusted.
    pub fn remote(&self) -> anyhow::Result<Option<Remote>> {
        let Some(url) = &self.settings.assistants_url else { return Ok(None) };
        let url = url.expose();
        let tls = tls::client_config(url.starts_with("https:"), self.settings.ssl_cert_file.as_deref())?;
        Ok(Some(Remote::new(url, self.settings.assistants_token.as_ref(), &tls)?))
    }

    /// The folder in force, fetched or local.
    ///
    /// # Errors
    /// It cannot be fetched or read, or it does not pass.
    pub async fn roster_in_force(&self) -> Result<Roster, NoRoster> {
        let Some(remote) = self.remote().map_err(NoRoster::Setup)? else { return Ok(self.roster()?.0) };
        let folder = remote.fetch_once().await?;
        Ok(passed(self.check_folder(&folder, &self.settings.providers()))?.0)
    }

    /// Records in each problem where its variables are set.
    fn located(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        let place = |name: &str| self.env_file.place(name).filter(|_| !self.own.contains(name));
        problems.iter_mut().for_each(|problem| problem.locate_variables(&place));
        problems
    }

    /// What `.env` itself sets.
    pub fn env_file(&self) -> &EnvFile {
        &self.env_file
    }
}

/// Why there is no roster to work with.
#[derive(Debug, thiserror::Error)]
pub enum NoRoster {
    #[error("the folder of assistants does not pass")]
    Wrong(Vec<Problem>),
    #[error("the remote folder was not fetched: {0}")]
    Fetch(#[from] FetchError),
    #[error("the folder of ASSISTANTS_URL cannot be fetched")]
    Setup(#[source] anyhow::Error),
}

impl From<Vec<Problem>> for NoRoster {
    fn from(problems: Vec<Problem>) -> NoRoster {
        NoRoster::Wrong(problems)
    }
}

fn passed(checked: Checked) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    let problems = checked.problems();
    match checked.roster {
        Ok(roster) => Ok((roster, checked.warnings)),
        Err(_) => Err(problems),
    }
}

/// A file's bytes, if it exists.
///
/// # Errors
/// It cannot be read.
pub fn read_or_none(path: &str) -> Result<Option<Vec<u8>>, Box<Problem>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Box::new(Problem::file(path, File::unreadable(&error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_the_makefile_are_known() {
        let makefile = include_str!("../Makefile");
        let asked: BTreeSet<&str> =
            makefile.split("$(call env,").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        let asked: Vec<&str> = asked.into_iter().filter(|name| *name != "NAME").collect();
        assert!(asked.len() >= 3, "{asked:?}");
        assert!(asked.iter().all(|name| ELSEWHERE.contains(name)), "{asked:?}");
    }
}
