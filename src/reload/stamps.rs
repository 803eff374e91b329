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

/// The stamps of every file that the reader would read, of the folders, and of the settings file.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Stamp>);

#[derive(Debug, PartialEq, Eq)]
enum Stamp {
    File {
        identity: Identity,
        size: u64,
        /// Seconds and nanoseconds.
        modified: (i64, i64),
        /// When content, permissions or name changed; it cannot be set.
        changed: (i64, i64),
    },
    /// Without times, which also change with files that are not ours.
    Folder(Identity),
    Unreadable(io::ErrorKind),
}

/// Device, inode and permissions.
#[derive(Debug, PartialEq, Eq)]
struct Identity(u64, u64, u32);

impl Stamps {
    /// Takes two system calls per file.
    pub fn take(dir: &Path, settings: Option<&Path>) -> Stamps {
        let mut stamps = BTreeMap::new();
        for folder in [dir.to_owned(), dir.join("fragments"), dir.join("greetings")] {
            match fs::read_dir(&folder) {
                Ok(entries) => {
                    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
                    stamps
                        .extend(paths.filter(|path| ours(path)).map(|path| (path.clone(), Stamp::of(&path))));
                    stamps.insert(folder.clone(), Stamp::of(&folder));
                }
                Err(error) => {
                    stamps.insert(folder, Stamp::Unreadable(error.kind()));
                }
            }
        }
        if let Some(settings) = settings {
            stamps.insert(settings.to_owned(), Stamp::of(settings));
        }
        Stamps(stamps)
    }
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        match fs::metadata(path) {
            Ok(meta) => {
                let identity = Identity(meta.dev(), meta.ino(), meta.mode());
                match meta.is_dir() {
                    true => Stamp::Folder(identity),
                    false => Stamp::File {
                        identity,
                        size: meta.size(),
                        modified: (meta.mtime(), meta.mtime_nsec()),
                        changed: (meta.ctime(), meta.ctime_nsec()),
                    },
                }
            }
            Err(error) => Stamp::Unreadable(error.kind()),
        }
    }
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
