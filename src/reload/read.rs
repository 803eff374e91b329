//! Reads the folder of assistants whole, with limits. It does not know what is in the files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::assistant::{Folder, SourceFile};
use crate::problem::Problem;

/// The most files a folder may hold, of all kinds.
const MOST_FILES: usize = 10_000;
/// The largest recorded greeting, in bytes.
pub(super) const LARGEST_WAV: u64 = 20 * 1024 * 1024;
/// All recorded greetings together, in bytes: they stay in memory.
const LARGEST_WAVS: u64 = 512 * 1024 * 1024;
/// One byte more than a file may have, so that the check can report that it is too large.
pub(super) const LARGEST_TEXT: u64 = crate::yaml::LARGEST as u64 + 1;

/// Why the folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(
        "the folder `{}` does not exist; create it with one YAML file per assistant, or set ASSISTANTS_DIR",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("`{}` is not a folder; ASSISTANTS_DIR must name a folder of YAML files", .0.display())]
    NotAFolder(PathBuf),
    #[error(
        "there is no assistant in `{}`; write one file per assistant, or run `switchboard new clinic`{}",
        dir.display(), also(unread)
    )]
    Empty { dir: PathBuf, unread: Vec<String> },
    #[error("`{}` cannot be read: {error}; check its permissions", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("`{}` is {size} bytes; a recorded greeting may have at most 20 MB", path.display())]
    LargeGreeting { path: PathBuf, size: u64 },
    #[error("the recorded greetings have more than 512 MB together")]
    LargeGreetings,
    #[error("`{}` holds more than 10,000 files; is it the right folder?", .0.display())]
    TooMany(PathBuf),
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        Problem::about("folder", "folder.unreadable", error.to_string())
    }
}

fn also(unread: &[String]) -> String {
    match unread.first() {
        Some(path) => format!("; `{path}` is ignored, because its name does not end in .yaml in lower case"),
        None => String::new(),
    }
}

/// Reads every `*.yaml`, `fragments/*.md` and `greetings/*.wav`, in the order of their names.
pub fn read_folder(dir: &Path) -> Result<Folder, ReadError> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(ReadError::NotAFolder(dir.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReadError::Missing(dir.to_owned()));
        }
        Err(error) => return Err(ReadError::Unreadable { path: dir.to_owned(), error }),
    }
    // A folder that is a link may be swapped while we read, so its target is resolved once.
    let real =
        fs::canonicalize(dir).map_err(|error| ReadError::Unreadable { path: dir.to_owned(), error })?;
    let mut left = MOST_FILES;
    let mut unread = Vec::new();
    let mut read = |sub: &str, endings: &[&str], limit: u64| {
        let shown = if sub.is_empty() { dir.to_owned() } else { dir.join(sub) };
        let there = if sub.is_empty() { real.clone() } else { real.join(sub) };
        files(&there, &shown, endings, limit, &mut left, &mut unread)
    };
    let assistants = read("", &["yaml", "yml"], LARGEST_TEXT)?;
    let fragments = read("fragments", &["md"], LARGEST_TEXT)?;
    let greetings = read("greetings", &["wav"], LARGEST_WAV + 1)?;
    if assistants.is_empty() {
        return Err(ReadError::Empty { dir: dir.to_owned(), unread });
    }
    greetings_fit(&greetings)?;
    Ok(Folder { assistants, fragments, greetings, unread })
}

/// Checks that recorded greetings are small enough, each and together.
pub(super) fn greetings_fit(greetings: &[SourceFile]) -> Result<(), ReadError> {
    let mut total = 0;
    for file in greetings {
        let size = file.bytes.len() as u64;
        if size > LARGEST_WAV {
            return Err(ReadError::LargeGreeting { path: PathBuf::from(&file.path), size });
        }
        total += size;
    }
    if total > LARGEST_WAVS {
        return Err(ReadError::LargeGreetings);
    }
    Ok(())
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
    let folder = endings.contains(&"yaml") && matches!(bare, "fragment" | "greeting");
    folder || (!name.starts_with('.') && belongs(Path::new(bare), &[endings, sounds].concat()))
}

/// The files of one folder with one of these endings. A missing folder has none.
fn files(
    dir: &Path,
    shown: &Path,
    endings: &[&str],
    limit: u64,
    left: &mut usize,
    unread: &mut Vec<String>,
) -> Result<Vec<SourceFile>, ReadError> {
    let unreadable = |path: &Path, error| ReadError::Unreadable { path: path.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(shown, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| unreadable(shown, error))?.file_name();
        *left = left.checked_sub(1).ok_or_else(|| ReadError::TooMany(shown.to_owned()))?;
        if belongs(Path::new(&name), endings) {
            names.push(name);
        } else if nearly_belongs(Path::new(&name), endings) {
            unread.push(shown.join(&name).to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let shown = shown.join(&name);
        let path = dir.join(&name);
        // A pipe or a device would block forever, so only files are read, through links too.
        let meta = fs::metadata(&path).map_err(|error| unreadable(&shown, error))?;
        if !meta.is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| unreadable(&shown, error))?;
        files.push(SourceFile::new(shown.to_string_lossy(), bytes));
    }
    Ok(files)
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
        for name in ["b.yaml", "a.yml", "fragments/x.md", "greetings/hi.wav", "notes.txt", ".#b.yaml"] {
            write(dir.path(), name, name);
        }
        fs::create_dir(dir.path().join("folder.yaml")).unwrap();
        let folder = read_folder(dir.path()).unwrap();
        let names = |files: &[SourceFile]| {
            let name = |file: &SourceFile| String::from_utf8(file.bytes.clone()).unwrap();
            files.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&folder.assistants), ["a.yml", "b.yaml"]);
        assert_eq!(names(&folder.fragments), ["fragments/x.md"]);
        assert_eq!(names(&folder.greetings), ["greetings/hi.wav"]);
        assert_eq!(read_folder(dir.path()).unwrap(), folder);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_folder(&dir.path().join("none")), Err(ReadError::Missing(_))));
        assert!(matches!(read_folder(dir.path()), Err(ReadError::Empty { unread, .. }) if unread.is_empty()));
        write(dir.path(), "desk.yaml.txt", "");
        assert!(matches!(read_folder(dir.path()), Err(ReadError::Empty { unread, .. }) if unread.len() == 1));
        write(dir.path(), "file", "");
        assert!(matches!(read_folder(&dir.path().join("file")), Err(ReadError::NotAFolder(_))));
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

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_is_followed_and_a_broken_file_link_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "real/a.yaml", "a");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
        assert_eq!(read_folder(&link).unwrap().assistants[0].path, link.join("a.yaml").to_string_lossy());
        std::os::unix::fs::symlink("/nowhere", dir.path().join("real/b.yaml")).unwrap();
        assert!(matches!(read_folder(&link), Err(ReadError::Unreadable { .. })));
    }
}
