//! Reads the folder of assistants whole, with limits. It does not know what is in the files.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::assistant::{Folder, SourceFile};
use crate::problem::Problem;
use crate::problem::catalogue::ReadFolder;
use crate::yaml::{self, Unread};

/// The most files a folder may hold, of all kinds.
const MOST_FILES: usize = 10_000;
/// The folders within the folder of assistants.
pub const FOLDERS: [&str; 3] = ["fragments", "greetings", "sounds"];
/// The largest recording, in bytes.
pub(super) const LARGEST_WAV: u64 = 20 * 1024 * 1024;
/// All files of a folder together, in bytes. They are in memory while the folder is checked, and recordings stay there.
pub(super) const LARGEST_FOLDER: u64 = 64 * 1024 * 1024;
/// The largest assistant or fragment, in bytes.
pub(super) const LARGEST_TEXT: u64 = yaml::LARGEST as u64;

/// Reads every `*.yaml`, `fragments/*.md`, `greetings/*.wav` and `sounds/*.wav`, in the order of their names.
///
/// Sizes are known before anything is read, and no link is followed out of the folder.
pub fn read_folder(dir: &Path) -> Result<Folder, ReadFolder> {
    // A folder that is a link may be swapped while we read, so its target is resolved once.
    let real = match fs::canonicalize(dir) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(match fs::read_link(dir) {
                Ok(target) => dangling(dir, &target),
                Err(_) => ReadFolder::Missing { dir: shown(dir) },
            });
        }
        Err(error) => return Err(unreadable(dir, &error)),
    };
    if !real.is_dir() {
        return Err(ReadFolder::NotAFolder { dir: shown(dir) });
    }
    let mut reading =
        Reading { dir, real: &real, files: MOST_FILES, bytes: LARGEST_FOLDER, unread: Vec::new() };
    let assistants = reading.files("", &["yaml", "yml"])?;
    let fragments = reading.files("fragments", &["md"])?;
    let greetings = reading.files("greetings", &["wav"])?;
    let sounds = reading.files("sounds", &["wav"])?;
    let unread = reading.unread;
    if assistants.is_empty() {
        let dir = shown(dir);
        return Err(match unread.into_iter().next() {
            Some(path) => ReadFolder::WrongEnding { dir, path },
            None => ReadFolder::Empty { dir },
        });
    }
    Ok(Folder { assistants, fragments, greetings, sounds, unread })
}

/// The same with the reason as a problem, at the file that it is about.
pub fn read(dir: &Path) -> Result<Folder, Vec<Problem>> {
    read_folder(dir).map_err(|what| {
        let file = match &what {
            ReadFolder::LinkOut { path, .. }
            | ReadFolder::Dangling { path, .. }
            | ReadFolder::LinkLoop { path }
            | ReadFolder::Unreadable { path, .. }
            | ReadFolder::Denied { path }
            | ReadFolder::LargeRecording { path, .. } => path.clone(),
            _ => shown(dir),
        };
        vec![Problem::file(&file, what)]
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn unreadable(path: &Path, error: &io::Error) -> ReadFolder {
    let path = shown(path);
    match error.kind() {
        io::ErrorKind::PermissionDenied => ReadFolder::Denied { path },
        _ if error.raw_os_error() == Some(Errno::ELOOP as i32) => ReadFolder::LinkLoop { path },
        _ => ReadFolder::Unreadable { path, error: error.to_string() },
    }
}

fn dangling(path: &Path, target: &Path) -> ReadFolder {
    ReadFolder::Dangling { path: shown(path), target: shown(target) }
}

/// One folder while it is read.
struct Reading<'a> {
    /// The folder as the owner knows it.
    dir: &'a Path,
    /// The same without links.
    real: &'a Path,
    /// How many more files there may be, and how many more bytes in them.
    files: usize,
    bytes: u64,
    unread: Vec<String>,
}

impl Reading<'_> {
    /// The files with one of these endings, in the folder itself or in a folder of it. A missing folder has none.
    fn files(&mut self, sub: &str, endings: &[&str]) -> Result<Vec<SourceFile>, ReadFolder> {
        let (place, there) = match sub {
            "" => (self.dir.to_owned(), self.real.to_owned()),
            sub => (self.dir.join(sub), self.real.join(sub)),
        };
        let Some(there) = self.resolve(&place, &there)? else { return Ok(Vec::new()) };
        let entries = fs::read_dir(&there).map_err(|error| unreadable(&place, &error))?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreadable(&place, &error))?.file_name();
            let left = self.files.checked_sub(1);
            self.files = left.ok_or_else(|| ReadFolder::TooManyFiles { dir: shown(&place) })?;
            if belongs(Path::new(&name), endings) {
                names.push(name);
            } else if nearly_belongs(Path::new(&name), endings) {
                self.unread.push(place.join(&name).to_string_lossy().into_owned());
            }
        }
        names.sort();
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            files.extend(self.file(&place.join(&name), &there.join(&name))?);
        }
        Ok(files)
    }

    /// One file; `None` if it was just removed.
    fn file(&mut self, place: &Path, there: &Path) -> Result<Option<SourceFile>, ReadFolder> {
        let Some(there) = self.resolve(place, there)? else { return Ok(None) };
        // A pipe or a device would block forever, so only files are opened.
        let meta = fs::metadata(&there).map_err(|error| unreadable(place, &error))?;
        let (path, size) = (place.to_string_lossy(), meta.len());
        if !meta.is_file() {
            let why = if meta.is_dir() { Unread::Folder } else { Unread::NotAFile };
            return Ok(Some(SourceFile::unread(path, why)));
        }
        if is_wav(place) && size > LARGEST_WAV {
            return Err(ReadFolder::LargeRecording { path: shown(place), mb: size.div_ceil(1024 * 1024) });
        }
        if !is_wav(place) && size > LARGEST_TEXT {
            return Ok(Some(SourceFile::unread(path, Unread::TooLarge(size))));
        }
        let full = || ReadFolder::TooLarge { dir: shown(self.dir), mb: LARGEST_FOLDER / (1024 * 1024) };
        let left = self.bytes.checked_sub(size).ok_or_else(full)?;
        // A file that grows meanwhile is read again soon.
        let mut bytes = Vec::with_capacity(size as usize);
        fs::File::open(&there)
            .and_then(|file| file.take(size).read_to_end(&mut bytes))
            .map_err(|error| unreadable(place, &error))?;
        self.bytes = left;
        Ok(Some(SourceFile::new(path, bytes)))
    }

    /// The path without links; `None` if there is nothing. Only a link can lead out of the folder.
    fn resolve(&self, place: &Path, there: &Path) -> Result<Option<PathBuf>, ReadFolder> {
        match fs::canonicalize(there) {
            Ok(real) if real.starts_with(self.real) => Ok(Some(real)),
            Ok(real) => Err(ReadFolder::LinkOut { path: shown(place), target: shown(&real) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(there) {
                Ok(target) => Err(dangling(place, &target)),
                Err(_) => Ok(None),
            },
            Err(error) => Err(unreadable(place, &error)),
        }
    }
}

fn is_wav(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "wav")
}

/// Whether a file name has one of these endings and is not hidden.
pub(super) fn belongs(name: &Path, endings: &[&str]) -> bool {
    // Editors keep their own files next to ours, such as `.#clinic.yaml`.
    let hidden = name.to_string_lossy().starts_with('.');
    let ending = name.extension().and_then(|ending| ending.to_str());
    !hidden && ending.is_some_and(|ending| endings.contains(&ending))
}

/// Whether a name was probably meant to belong: upper case, a second ending, a folder in the singular, or another sound
/// format.
fn nearly_belongs(name: &Path, endings: &[&str]) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let bare = name.strip_suffix(".txt").unwrap_or(&name);
    let sounds: &[&str] = if endings.contains(&"wav") { &["mp3", "m4a", "ogg", "flac"] } else { &[] };
    let folder = endings.contains(&"yaml") && matches!(bare, "fragment" | "greeting" | "sound");
    folder || (!name.starts_with('.') && belongs(Path::new(bare), &[endings, sounds].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        let others = ["greetings/hi.wav", "sounds/moment.wav", "notes.txt", ".#b.yaml"];
        for name in ["b.yaml", "a.yml", "fragments/x.md"].into_iter().chain(others) {
            write(dir.path(), name, name);
        }
        let folder = read_folder(dir.path()).unwrap();
        let names = |files: &[SourceFile]| {
            let name = |file: &SourceFile| String::from_utf8(file.bytes.clone()).unwrap();
            files.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&folder.assistants), ["a.yml", "b.yaml"]);
        assert_eq!(names(&folder.fragments), ["fragments/x.md"]);
        assert_eq!(names(&folder.greetings), ["greetings/hi.wav"]);
        assert_eq!(names(&folder.sounds), ["sounds/moment.wav"]);
        assert_eq!(read_folder(dir.path()).unwrap(), folder);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_folder(&dir.path().join("none")), Err(ReadFolder::Missing { .. })));
        assert!(matches!(read_folder(dir.path()), Err(ReadFolder::Empty { .. })));
        write(dir.path(), "desk.yaml.txt", "");
        assert!(matches!(read_folder(dir.path()), Err(ReadFolder::WrongEnding { .. })));
        write(dir.path(), "file", "");
        assert!(matches!(read_folder(&dir.path().join("file")), Err(ReadFolder::NotAFolder { .. })));
    }

    #[test]
    fn files_with_nearly_the_right_name_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let near = ["b.YAML", "c.yaml.txt", "fragment/x.md", "fragments/y.MD", "greetings/hi.mp3"];
        for name in
            ["a.yaml", "notes.txt", "README.md", ".b.YAML.swp", "a.yaml~", "a.yaml.bak"].iter().chain(&near)
        {
            write(dir.path(), name, name);
        }
        let mut unread = read_folder(dir.path()).unwrap().unread;
        unread.sort();
        let expected = ["b.YAML", "c.yaml.txt", "fragment", "fragments/y.MD", "greetings/hi.mp3"];
        assert_eq!(unread, expected.map(|name| dir.path().join(name).display().to_string()));
    }

    #[test]
    fn a_link_is_followed_only_within_the_folder() {
        use std::os::unix::fs::symlink;
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().join("real");
        write(temp.path(), "secret.md", "hunter2");
        write(temp.path(), "out/x.md", "hunter2");
        // As Kubernetes mounts a ConfigMap, behind a link to the folder itself.
        write(&real, "..v1/a.yaml", "a");
        write(&real, "..v1/x.md", "x");
        symlink("..v1", real.join("..data")).unwrap();
        symlink("..data/a.yaml", real.join("a.yaml")).unwrap();
        fs::create_dir(real.join("fragments")).unwrap();
        symlink("../..data/x.md", real.join("fragments/x.md")).unwrap();
        let link = temp.path().join("link");
        symlink(&real, &link).unwrap();
        let folder = read_folder(&link).unwrap();
        assert_eq!(folder.assistants[0].path, link.join("a.yaml").to_string_lossy());
        assert_eq!(folder.fragments[0].bytes, b"x");

        let refused = |name: &str, target: &Path| {
            let at = real.join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(target, &at).unwrap();
            let found = read_folder(&link).unwrap_err();
            fs::remove_file(&at).unwrap();
            found
        };
        for name in ["b.yaml", "fragments/secret.md", "greetings/hi.wav", "sounds/hi.wav"] {
            for target in [temp.path().join("secret.md"), "/dev/zero".into()] {
                let found = refused(name, &target);
                assert!(
                    matches!(&found, ReadFolder::LinkOut { path, .. } if path.ends_with(name)),
                    "{found}"
                );
            }
            let at = real.join(name);
            symlink("/nowhere", &at).unwrap();
            assert_eq!(read(&link).unwrap_err()[0].path(), link.join(name).to_string_lossy());
            fs::remove_file(&at).unwrap();
            for target in ["/nowhere", "gone.yaml"] {
                let found = refused(name, Path::new(target));
                assert!(
                    matches!(&found, ReadFolder::Dangling { path, .. } if path.ends_with(name)),
                    "{found}"
                );
            }
        }
        fs::remove_dir_all(real.join("fragments")).unwrap();
        assert!(matches!(refused("fragments", &temp.path().join("out")), ReadFolder::LinkOut { .. }));
        assert!(matches!(refused("fragments", Path::new("/nowhere")), ReadFolder::Dangling { .. }));
        // A link to itself leads nowhere, and is not dangling.
        for name in ["b.yaml", "fragments/f.md"] {
            let at = real.join(name);
            let target = at.file_name().unwrap();
            let found = refused(name, Path::new(target));
            assert!(matches!(&found, ReadFolder::LinkLoop { path } if path.ends_with(name)), "{found}");
            symlink(target, &at).unwrap();
            assert_eq!(read(&link).unwrap_err()[0].path(), link.join(name).to_string_lossy());
            fs::remove_file(&at).unwrap();
        }
        fs::remove_file(&link).unwrap();
        symlink("/nowhere", &link).unwrap();
        assert!(matches!(read_folder(&link), Err(ReadFolder::Dangling { .. })));
    }

    /// Sparse files take no place on the disk, but would take memory if they were read.
    #[test]
    fn sizes_count_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let sized = |name: &str, size: u64| {
            write(dir.path(), name, "");
            fs::File::options().write(true).open(dir.path().join(name)).unwrap().set_len(size).unwrap();
        };
        sized("a.yaml", 293 * 1024);
        sized("fragments/x.md", 1 << 40);
        let folder = read_folder(dir.path()).unwrap();
        for (file, size) in [(&folder.assistants[0], 293 * 1024), (&folder.fragments[0], 1 << 40)] {
            assert_eq!((file.size(), file.bytes.len()), (size, 0));
        }
        sized("greetings/big.wav", 1 << 40);
        assert!(matches!(read_folder(dir.path()), Err(ReadFolder::LargeRecording { mb: 0x10_0000, .. })));
        fs::remove_file(dir.path().join("greetings/big.wav")).unwrap();
        for at in 0..40 {
            sized(&format!("greetings/{at}.wav"), 19 * 1024 * 1024);
        }
        assert!(matches!(read_folder(dir.path()), Err(ReadFolder::TooLarge { mb: 64, .. })));
    }
}
