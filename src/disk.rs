//! Files that survive a crash, and folders for this user alone.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Writes a file so that a crash leaves the old content or the new one. It is on the disk when this returns, and only
/// this user can read it. A file named `.NAME.unfinished` holds the content until then; a crash may leave it behind.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(".unfinished");
    let unfinished = folder.join(name);
    let _ = fs::remove_file(&unfinished);
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(folder)?.sync_all()
    };
    written().inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

/// Creates a folder and those above it, as far as they do not exist. Only this user can look into what it creates.
pub fn create_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Creates a file in a folder and removes it. If the folder does not exist, in the one where it would be created.
pub fn try_to_write(dir: &Path) -> io::Result<()> {
    let file = existing(dir).join(format!(".switchboard-probe-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}

/// The folder itself, or the nearest above it that exists.
pub fn existing(dir: &Path) -> PathBuf {
    let mut above = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    above.find(|dir| dir.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// The folder for what shall outlast the process, created if it does not exist. `None` if it cannot be written to.
pub fn state(dir: Option<PathBuf>) -> Option<PathBuf> {
    dir.filter(|dir| create_private(dir).and_then(|()| try_to_write(dir)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(folder.path().join(".state.json.unfinished"), "from a crash").unwrap();
        for content in ["old", "new"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("none/state.json"), b"x").is_err());
    }

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

    #[test]
    fn the_state_folder_is_created_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for (path, works) in [("state", true), ("deep/state", true), ("file", false), ("file/state", false)] {
            let path = folder.path().join(path);
            assert_eq!(state(Some(path.clone())), works.then(|| path.clone()));
            if works {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
                assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
            }
        }
    }
}
