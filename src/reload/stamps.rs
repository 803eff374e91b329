//! Whether files changed, without reading them.
//!
//! Stamps are only compared for equality: a clock that was set back makes them differ like any other change, and a file
//! whose time was set back still has its own change time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::places::ours;
use super::read::FOLDERS;

/// The stamps of every file that the reader would read, of the folders, and of the settings file.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Result<Stamp, io::ErrorKind>>);

/// Seconds and nanoseconds.
type Time = (i64, i64);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    /// Device, inode and permissions.
    identity: (u64, u64, u32),
    /// A file's size, the time of its content, and the time of its last change of any kind, which cannot be set. `None`
    /// for a folder, whose times also change with files that are not ours.
    content: Option<(u64, Time, Time)>,
}

impl Stamps {
    /// Takes two system calls per file.
    pub fn take(dir: &Path, settings: Option<&Path>) -> Stamps {
        let mut paths: Vec<PathBuf> = settings.map(Path::to_owned).into_iter().collect();
        for folder in [dir.to_owned()].into_iter().chain(FOLDERS.map(|name| dir.join(name))) {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            paths.extend(entries.map(|entry| entry.path()).filter(|path| ours(path)));
            paths.push(folder);
        }
        Stamps(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }
}

fn stamp(path: &Path) -> Result<Stamp, io::ErrorKind> {
    let meta = fs::metadata(path).map_err(|error| error.kind())?;
    let times = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    Ok(Stamp {
        identity: (meta.dev(), meta.ino(), meta.mode()),
        content: (!meta.is_dir()).then(|| (meta.size(), times.0, times.1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_write_shows_even_if_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let old = SystemTime::now() - Duration::from_secs(86_400);
        let write = |text: &str, time: SystemTime| {
            fs::write(&path, text).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            Stamps::take(dir.path(), None)
        };
        let first = write("one", SystemTime::now());
        assert_eq!(first, Stamps::take(dir.path(), None));
        let second = write("two", old);
        assert_ne!(first, second, "the clock was set back");
        // The disk's clock advances in steps of a few milliseconds.
        while write("six", old) == second {}
        fs::write(dir.path().join("notes.txt"), "no file of ours").unwrap();
        fs::write(dir.path().join(".a.yaml.swp"), "neither").unwrap();
        let third = Stamps::take(dir.path(), None);
        assert_eq!(third, Stamps::take(dir.path(), None));
        fs::create_dir(dir.path().join("fragments")).unwrap();
        assert_ne!(third, Stamps::take(dir.path(), None));
    }
}
