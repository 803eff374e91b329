//! The settings, and what `serve` needs on this machine: certificates, a log filter, a folder for its state.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::mounts;
use crate::link::tls;
use crate::numbers::{self, Unreachable};
use crate::observe;
use crate::problem::catalogue::{Doctor, Setting, Twilio};
use crate::problem::{Problem, Severity};
use crate::settings::{Need, Settings};
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
    let error = try_to_write(settings.state_dir.as_deref()?).err()?;
    Some(Setting::StateDir { error: error.kind().to_string() })
}

/// Creates a file in a folder and removes it. If the folder does not exist, in the one where it would be created.
fn try_to_write(dir: &Path) -> io::Result<()> {
    let exists = |dir: &&Path| dir.exists();
    let above = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let dir = above.into_iter().find(exists).unwrap_or(Path::new("/"));
    let file = dir.join(format!(".switchboard-probe-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
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
    use super::*;

    #[test]
    fn the_state_folder_must_be_writable_and_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for (path, works) in [("", true), ("a/b", true), ("file", false), ("file/a", false)] {
            assert_eq!(try_to_write(&folder.path().join(path)).is_ok(), works, "{path}");
        }
        assert!(try_to_write(Path::new("/proc/switchboard")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
