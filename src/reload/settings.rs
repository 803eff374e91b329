//! `switchboard.yaml` while the server runs: its settings do not reload, so a change is logged.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::problem::Problem;
use crate::problem::catalogue::File;
use crate::settings::{Settings, Sources};
use crate::yaml::SourceFile;

/// The file, and the settings in force, which may differ from it.
pub struct SettingsFile {
    path: PathBuf,
    environment: Arc<BTreeMap<String, String>>,
    in_force: Settings,
    /// What was logged last, so that it is logged once.
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    /// The names of settings that a restart would change.
    changed: Vec<String>,
    problems: Vec<Problem>,
}

impl SettingsFile {
    /// `in_force` are the settings that were read at start from this file, if it existed, and this environment.
    pub fn new(
        path: impl Into<PathBuf>,
        environment: impl Into<Arc<BTreeMap<String, String>>>,
        in_force: Settings,
    ) -> SettingsFile {
        SettingsFile { path: path.into(), environment: environment.into(), in_force, seen: Seen::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Logs the names of the settings that a restart would change, or the problems that would prevent it.
    pub(super) fn look(&mut self, read: io::Result<Vec<u8>>) {
        let shown = self.path.to_string_lossy().into_owned();
        let read = match read {
            Ok(bytes) => Ok(Some(SourceFile::new(shown, bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(vec![Problem::file(&shown, File::unreadable(&error))]),
        };
        let environment = BTreeMap::clone(&self.environment);
        let read = read.and_then(|file| Settings::checked(&Sources { file, environment }));
        let (changed, problems) = match read {
            Ok(settings) => (self.in_force.changed(&settings), Vec::new()),
            Err(problems) => (Vec::new(), problems),
        };
        let now = Seen { changed, problems };
        let same = |one: &[Problem], other: &[Problem]| {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.same_as(other))
        };
        if now.changed == self.seen.changed && same(&now.problems, &self.seen.problems) {
            return;
        }
        for problem in &now.problems {
            tracing::warn!(problem = problem.line(), "The settings file has a problem: a restart would fail");
        }
        if !now.changed.is_empty() {
            tracing::warn!(
                settings = now.changed.join(", "),
                "Server settings changed; restart to apply them"
            );
        }
        if now.changed.is_empty() && now.problems.is_empty() {
            tracing::info!("The settings file matches the settings in force again");
        }
        self.seen = now;
    }
}
