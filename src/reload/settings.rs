//! `switchboard.yaml` while the program runs: its settings do not reload, and a change to them is said.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::problem::Problem;
use crate::settings::{Settings, Sources};
use crate::yaml::SourceFile;

/// The file, and the settings that are in force whatever it says by now.
pub struct SettingsFile {
    path: PathBuf,
    environment: Arc<BTreeMap<String, String>>,
    in_force: Settings,
    /// What was said of it last, so that it is said once.
    said: Vec<String>,
}

impl SettingsFile {
    /// `in_force` are the settings that were read at start, from this file, there or not, and this environment.
    pub fn new(
        path: impl Into<PathBuf>,
        environment: impl Into<Arc<BTreeMap<String, String>>>,
        in_force: Settings,
    ) -> SettingsFile {
        SettingsFile { path: path.into(), environment: environment.into(), in_force, said: Vec::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Says by name what a restart would change, or what would keep it from starting.
    pub(super) fn look(&mut self, read: io::Result<Vec<u8>>) {
        let shown = self.path.to_string_lossy().into_owned();
        let read = match read {
            Ok(bytes) => Ok(Some(SourceFile::new(shown, bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let message = format!("the file cannot be read: {error}; check who may read it");
                Err(vec![Problem::about(&shown, "setting.unreadable", message)])
            }
        };
        let environment = BTreeMap::clone(&self.environment);
        let read = read.and_then(|file| Settings::checked(&Sources { file, environment }));
        let (names, problems) = match read {
            Ok(settings) => (self.in_force.changed(&settings), Vec::new()),
            Err(problems) => (Vec::new(), problems),
        };
        let now: Vec<String> = match problems.is_empty() {
            true => names.iter().map(|name| (*name).to_owned()).collect(),
            false => problems.iter().map(Problem::line).collect(),
        };
        if now == self.said {
            return;
        }
        match (names.is_empty(), problems.is_empty()) {
            (_, false) => {
                for line in &now {
                    tracing::warn!(problem = %line, "Problem in the settings' file: a restart would fail");
                }
            }
            (false, _) => {
                tracing::warn!(settings = names.join(", "), "Server settings changed: restart to apply them");
            }
            (true, true) => tracing::info!("The server settings in the file are those in force again"),
        }
        self.said = now;
    }
}
