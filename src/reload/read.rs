//! Reads the folder of assistants whole, with limits. It does not know what is in the files.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::assistant::{Folder, SourceFile};
use crate::problem::catalogue::ReadFolder;

/// The most files a folder may hold, of all kinds.
const MOST_FILES: usize = 10_000;
/// The largest recorded greeting, in bytes.
pub(super) const LARGEST_WAV: u64 = 20 * 1024 * 1024;
/// All recorded greetings together, in bytes: they stay in memory.
const LARGEST_WAVS: u64 = 512 * 1024 * 1024;
/// One byte more than a file may have, so that the check can report that it is too large.
pub(super) const LARGEST_TEXT: u64 = crate::yaml::LARGEST as u64 + 1;

/// Reads every `*.yaml`, `fragments/*.md` and `greetings/*.wav`, in the order of their names.
pub fn read_folder(dir: &Path) -> Result<Folder, ReadFolder> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(ReadFolder::NotAFolder { dir: shown(dir) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ReadFolder::Missing { dir: shown(dir) });
        }
        Err(error) => return Err(unreadable(dir, &error)),
    }
    // A folder that is a link may be swapped while we read, so its target is resolved once.
    let real = fs::canonicalize(dir).map_err(|error| unreadable(dir, &error))?;
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
        let dir = shown(dir);
        return Err(match unread.into_iter().next() {
            Some(path) => ReadFolder::WrongEnding { dir, path },
            None => ReadFolder::Empty { dir },
        });
    }
    greetings_fit(&greetings)?;
    Ok(Folder { assistants, fragments, greetings, unread })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn unreadable(path: &Path, error: &io::Error) -> ReadFolder {
    ReadFolder::Unreadable { path: shown(path), error: error.to_string() }
}

/// Checks that recorded greetings are small enough, each and together.
pub(super) fn greetings_fit(greetings: &[SourceFile]) -> Result<(), ReadFolder> {
    let mut total = 0;
    for file in greetings {
        let size = file.bytes.len() as u64;
        if size > LARGEST_WAV {
            return Err(ReadFolder::LargeGreeting { path: file.path.clone(), size });
        }
        total += size;
    }
    if total > LARGEST_WAVS {
        return Err(ReadFolder::LargeGreetings);
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
    place: &Path,
    endings: &[&str],
    limit: u64,
    left: &mut usize,
    unread: &mut Vec<String>,
) -> Result<Vec<SourceFile>, ReadFolder> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(place, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| unreadable(place, &error))?.file_name();
        *left = left.checked_sub(1).ok_or_else(|| ReadFolder::TooManyFiles { dir: shown(place) })?;
        if belongs(Path::new(&name), endings) {
            names.push(name);
        } else if nearly_belongs(Path::new(&name), endings) {
            unread.push(place.join(&name).to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let shown = place.join(&name);
        let path = dir.join(&name);
        // A pipe or a device would block forever, so only files are read, through links too.
        let meta = fs::metadata(&path).map_err(|error| unreadable(&shown, &error))?;
        if !meta.is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| unreadable(&shown, &error))?;
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

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_is_followed_and_a_broken_file_link_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "real/a.yaml", "a");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
        assert_eq!(read_folder(&link).unwrap().assistants[0].path, link.join("a.yaml").to_string_lossy());
        std::os::unix::fs::symlink("/nowhere", dir.path().join("real/b.yaml")).unwrap();
        assert!(matches!(read_folder(&link), Err(ReadFolder::Unreadable { .. })));
    }
}
