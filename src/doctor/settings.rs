//! The settings, and what `serve` needs on this machine: certificates, a log filter, a folder for its state.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::{mail, mounts};
use crate::disk;
use crate::link::tls;
use crate::numbers::{self, Unreachable};
use crate::observe;
use crate::problem::catalogue::{Doctor, Setting, Twilio};
use crate::problem::{Problem, Severity};
use crate::settings::{Database, Need, Settings};
use crate::tunnel::pointing::{Hold, Pointed, state_dir};
use crate::workspace::{ENV_FILE, Workspace};

/// What was found, and what the other probes need.
pub struct Checked {
    pub problems: Vec<Problem>,
    pub tls: Arc<ClientConfig>,
    pub open_env_file: bool,
}

/// What is wrong with the settings and this machine, as far as it shows at once and without another machine. `serve`
/// reports the same at its start.
pub fn local(workspace: &Workspace) -> Vec<Problem> {
    let settings = &workspace.settings;
    let mut problems = workspace.problems.clone();
    problems.extend(settings.missing(Need::Serve));
    problems.extend(settings.check_secrets());
    if let Some(url) = &settings.public_url {
        // That it should be https is a warning of its own.
        let why = numbers::unreachable(url).filter(|why| *why != Unreachable::NotHttps);
        let name = "PUBLIC_URL";
        problems.extend(why.map(|why| {
            let what = Setting::PublicUrlUnreachable { name: name.to_owned(), why: why.to_string() };
            Problem::setting(name, what)
        }));
    }
    problems.extend(observe::filter(&settings.log).err().map(|what| Problem::setting("RUST_LOG", what)));
    problems.extend(state(settings).map(|what| Problem::setting("STATE_DIR", what)));
    problems.extend(database(settings).map(|what| Problem::setting("DATABASE_URL", what)));
    problems.extend(mail::wrong(settings));
    if is_open(Path::new(ENV_FILE)) {
        problems.push(Problem::file(ENV_FILE, Setting::OpenEnvFile));
    }
    problems.extend(mounts::check(&settings.assistants_dir));
    problems.extend(tunnel(settings).map(Problem::new));
    problems
}

/// Checks everything that needs no other machine.
///
/// # Errors
/// TLS cannot be set up at all.
pub fn check(workspace: &Workspace) -> anyhow::Result<Checked> {
    let settings = &workspace.settings;
    let mut problems = local(workspace);
    let bundle = settings.ssl_cert_file.as_deref();
    let tls = match tls::client_config(true, bundle) {
        Ok(tls) => tls,
        Err(error) => {
            let what = Setting::Certificates { error: error.to_string() };
            problems.push(Problem::setting("SSL_CERT_FILE", what));
            tls::client_config(false, bundle)?
        }
    };
    if problems.iter().all(|problem| problem.severity() < Severity::Warning) {
        problems.push(Problem::new(Doctor::SettingsOk));
    }
    Ok(Checked { problems, tls, open_env_file: is_open(Path::new(ENV_FILE)) })
}

/// Whether a tunnel of this folder is open.
pub fn has_tunnel(settings: &Settings) -> bool {
    Pointed::is_left(state_dir(settings)) && Hold::is_taken(state_dir(settings))
}

fn tunnel(settings: &Settings) -> Option<Twilio> {
    match Pointed::is_left(state_dir(settings)) {
        true if has_tunnel(settings) => Some(Twilio::TunnelOpen),
        true => Some(Twilio::TunnelLeft),
        false => None,
    }
}

fn state(settings: &Settings) -> Option<Setting> {
    let error = disk::try_to_write(settings.state_dir.as_deref()?).err()?;
    Some(Setting::StateDir { error: error.kind().to_string() })
}

/// What shows without opening the database.
fn database(settings: &Settings) -> Option<Setting> {
    let Some(Database::Sqlite(file)) = settings.database() else { return None };
    // The state folder has a problem of its own.
    let problem = settings.database_url.as_ref().and_then(|_| database_file(&file));
    let is_lost = settings.on_fly() && !mounts::is_on_volume(&file);
    problem.or(is_lost.then_some(Setting::RecordsEndWithMachine))
}

/// Whether the records have no file that can be created, which is reported by [`local`].
pub fn has_no_file(settings: &Settings) -> bool {
    match settings.database() {
        Some(Database::Sqlite(file)) if settings.database_url.is_some() => database_file(&file).is_some(),
        Some(Database::Sqlite(_)) => state(settings).is_some(),
        Some(Database::Postgres(_)) | None => false,
    }
}

fn database_file(file: &Path) -> Option<Setting> {
    if file.is_dir() {
        return Some(Setting::DatabaseIsFolder);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = folder.display().to_string();
    if !folder.is_dir() {
        return Some(Setting::DatabaseFolder { folder: shown });
    }
    let error = disk::try_to_write(folder).err()?;
    Some(Setting::DatabaseNotWritable { folder: shown, error: error.kind().to_string() })
}

/// Whether every user of this machine may read a file. A group that may is the owner's choice.
fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o007 != 0)
}

/// Closes `.env` to everybody but its owner and its group.
///
/// # Errors
/// Those of the file system.
pub fn close_env_file() -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(ENV_FILE)?.permissions().mode();
    fs::set_permissions(ENV_FILE, fs::Permissions::from_mode(mode & 0o770))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::Sources;

    #[test]
    fn a_database_file_that_cannot_be_written_and_one_that_ends_with_its_machine_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("sqlite://{}/{path}", folder.path().display());
        let (file, postgres) = (at("calls.db"), "postgres://db.example.com/calls".to_owned());
        for (url, machine, code) in [
            (file.clone(), "", None),
            (at(""), "", Some("setting.database")),
            (at("none/calls.db"), "", Some("setting.database")),
            ("sqlite:///proc/calls.db".to_owned(), "", Some("setting.database")),
            (file, "m1", Some("setting.records_end")),
            (String::new(), "m1", Some("setting.records_end")),
            (postgres, "m1", None),
        ] {
            let environment = [("DATABASE_URL", url.as_str()), ("FLY_MACHINE_ID", machine)];
            let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let sources = Sources { file: None, environment: BTreeMap::from(environment) };
            let settings = Settings::checked(&sources).unwrap();
            let found = database(&settings).map(|what| Problem::setting("DATABASE_URL", what));
            assert_eq!(found.map(|problem| problem.code()), code, "{url} {machine}");
        }
    }
}
