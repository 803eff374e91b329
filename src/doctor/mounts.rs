//! What is mounted: whether the state is on a volume, and files of the folder that are mounted one by one, as `docker run -v ./clinic.yaml:/app/assistants/clinic.yaml` does.
//!
//! Such a mount of a file shows the same file for ever. Most editors, and git, save by putting a new file in its place, which the
//! mount does not show. A change of the file itself arrives by the poll, because its file events name another folder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::problem::Problem;
use crate::problem::catalogue::File;
use crate::reload::read::FOLDERS;

/// File systems that are in memory, or end with their container.
const PASSING: [&str; 3] = ["tmpfs", "ramfs", "overlay"];

/// A warning for each file of the folder that is a mount.
pub fn check(dir: &Path) -> Vec<Problem> {
    let mounted = mounted_in(dir, &mountinfo());
    mounted.iter().map(|path| Problem::file(&path.to_string_lossy(), File::Mounted)).collect()
}

/// Whether a file or folder is, or will be, on a disk of its own: not on that of the system, which ends with a Fly
/// machine.
pub fn is_on_volume(path: &Path) -> bool {
    is_on_volume_of(path, &mountinfo())
}

fn is_on_volume_of(path: &Path, mountinfo: &str) -> bool {
    let Ok(real) = fs::canonicalize(disk::existing(path)) else { return false };
    let points = mountinfo.lines().filter_map(|line| Some((point(line)?, kind(line)?)));
    // Of two mounts at one point, the later hides the earlier.
    let nearest = points
        .filter(|(point, _)| real.starts_with(point))
        .max_by_key(|(point, _)| point.components().count());
    nearest.is_some_and(|(point, kind)| point != Path::new("/") && !PASSING.contains(&kind))
}

/// Only Linux has it, and containers are Linux.
fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// The kind of file system of one line: the word after the dash.
fn kind(line: &str) -> Option<&str> {
    line.split_once(" - ")?.1.split(' ').next()
}

/// The files in `dir` and its folders that are mount points in `mountinfo`.
fn mounted_in(dir: &Path, mountinfo: &str) -> Vec<PathBuf> {
    let points: BTreeSet<PathBuf> = mountinfo.lines().filter_map(point).collect();
    let mut found = Vec::new();
    for folder in [dir.to_owned()].into_iter().chain(FOLDERS.map(|name| dir.join(name))) {
        let Ok(real) = fs::canonicalize(&folder) else { continue };
        let files = points.iter().filter(|point| point.parent() == Some(&real) && point.is_file());
        found.extend(files.filter_map(|point| Some(folder.join(point.file_name()?))));
    }
    found
}

/// The mount point of one line: its fifth word, with spaces and the like in octal (`proc_pid_mountinfo(5)`).
fn point(line: &str) -> Option<PathBuf> {
    let word = line.split(' ').nth(4)?;
    let mut parts = word.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (octal, rest) = part.split_at_checked(3)?;
        bytes.push(u8::from_str_radix(octal, 8).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_mounted_one_by_one_are_found() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let dir = root.join("as it is");
        fs::create_dir_all(dir.join("fragments")).unwrap();
        for file in ["as it is/a.yaml", "as it is/fragments/rules.md", "other.yaml"] {
            fs::write(root.join(file), "").unwrap();
        }
        let line = |path: &str| {
            let path = root.join(path).display().to_string().replace(' ', "\\040");
            format!("41 28 254:1 /srv {path} ro,relatime master:1 - ext4 /dev/root rw\n")
        };
        let mounts = |paths: &[&str]| paths.iter().map(|path| line(path)).collect::<String>();
        assert!(mounted_in(&dir, "").is_empty());
        let folders = mounts(&["", "as it is", "as it is/fragments", "other.yaml"]);
        assert!(mounted_in(&dir, &folders).is_empty());
        let found = mounted_in(&dir, &mounts(&["as it is/fragments/rules.md", "as it is/a.yaml"]));
        assert_eq!(found, [dir.join("a.yaml"), dir.join("fragments/rules.md")]);
        assert_eq!(point("x"), None);
        assert_eq!(point("1 2 3 / /a\\04"), None);
        assert!(check(&dir).is_empty());
    }

    #[test]
    fn a_volume_is_a_disk_of_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let line =
            |path: &Path, kind: &str| format!("4 2 254:1 / {} rw - {kind} /dev/vdb rw\n", path.display());
        let system = line(Path::new("/"), "ext4");
        let state = root.join("state");
        fs::create_dir(&state).unwrap();
        for (mounts, expected) in [
            (String::new(), false),
            (line(&state, "ext4"), true),
            (line(&root, "ext4"), true),
            (line(&root.join("sta"), "ext4"), false),
            (line(&root, "tmpfs"), false),
            (line(&root, "ext4") + &line(&state, "overlay"), false),
            (line(&state, "tmpfs") + &line(&state, "ext4"), true),
        ] {
            for path in [state.clone(), state.join("calls.db"), state.join("not/yet/calls.db")] {
                assert_eq!(is_on_volume_of(&path, &(system.clone() + &mounts)), expected, "{mounts}");
            }
        }
    }
}
