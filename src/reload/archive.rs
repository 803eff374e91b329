//! Unpacks a folder of assistants from a `.tar.gz`, in memory and with limits. Nothing touches the disk.
//!
//! The archive is not trusted: a name that leads out of the folder refuses it whole, and no link is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::read::{FOLDERS, LARGEST_FOLDER, LARGEST_TEXT, LARGEST_WAV, belongs};
use crate::assistant::{Folder, SourceFile};
use crate::problem;
use crate::problem::catalogue::ReadFolder;
use crate::yaml::Unread;

/// The most entries of all kinds.
const MOST_ENTRIES: usize = 2_000;
/// The longest name, in bytes: as on a disk.
const LONGEST_NAME: usize = 4096;
/// Precedes each file's name in problems, because the file is not on this machine's disk.
const ORIGIN: &str = "ASSISTANTS_URL";
/// The folder with the assistants, if it is not the whole archive.
const ASSISTANTS: &str = "assistants";

/// Why an archive has no folder for us.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the answer is not a .tar.gz; use the address of the archive itself, not of a page about it")]
    NotAnArchive,
    #[error("the archive is cut off")]
    Truncated,
    #[error("the archive is damaged; create it again")]
    Damaged,
    #[error("the archive is more than 64 MB unpacked; keep the assistants in a repository of their own")]
    TooLarge,
    #[error("the archive has more than 2,000 entries; keep the assistants in a repository of their own")]
    TooMany,
    #[error("the archive is refused whole: it has a name of more than 4,096 bytes")]
    LongName,
    /// A name that could lead out of the folder, or an entry that cannot be unpacked safely.
    #[error("the archive is refused whole: `{name}` is {why}")]
    Hostile { name: String, why: &'static str },
    #[error("`{0}` is a link, which is not followed in an archive; replace it with the file itself")]
    Link(String),
    #[error(
        "there is no assistant in the archive, neither at its top nor in a folder `assistants`; it has {0}"
    )]
    Empty(String),
    #[error(transparent)]
    Recording(#[from] ReadFolder),
}

/// The folder in an archive: `assistants/` or else the top, both also below the single top folder that Git hosts add.
///
/// The same files are read as from a disk. Of two entries with the same name, the last counts, as with `tar`.
pub fn unpack(bytes: &[u8]) -> Result<Folder, ArchiveError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(ArchiveError::NotAnArchive);
    }
    let mut archive = tar::Archive::new(Limited { inner: MultiGzDecoder::new(bytes), left: LARGEST_FOLDER });
    let mut contents = Contents::default();
    for entry in archive.entries().map_err(|error| contents.failure(&error))? {
        let mut entry = entry.map_err(|error| contents.failure(&error))?;
        contents.take(&mut entry)?;
    }
    // The checksum comes last.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| contents.failure(&error))?;
    contents.folder()
}

/// Limits the bytes in total: a few bytes of gzip can expand to any number.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// A name, part by part.
type Name = Vec<String>;

/// A file that could belong to the folder.
enum Found {
    Read(Vec<u8>),
    /// With its size.
    TooLarge(u64),
}

/// What an archive holds, as far as it matters.
#[derive(Default)]
struct Contents {
    entries: usize,
    /// Every name, and whether it is a folder.
    names: BTreeMap<Name, bool>,
    /// The files that could belong to the folder.
    files: BTreeMap<Name, Found>,
    links: BTreeSet<Name>,
}

impl Contents {
    /// What an error means after the entries so far. The tar reader's own errors have no kind, and it keeps the kind of
    /// those below it.
    fn failure(&self, error: &io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::FileTooLarge => ArchiveError::TooLarge,
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
            io::ErrorKind::Other if self.entries == 0 => ArchiveError::NotAnArchive,
            _ => ArchiveError::Damaged,
        }
    }

    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ArchiveError> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return Err(ArchiveError::TooMany);
        }
        let kind = entry.header().entry_type();
        // Git stores the commit's id in one of these.
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let raw = entry.path_bytes();
        // Each part of a name takes memory.
        if raw.len() > LONGEST_NAME {
            return Err(ArchiveError::LongName);
        }
        let raw = raw.into_owned();
        let name = parts(&raw)?;
        // A few bytes can stand for any number, and texts are never sparse.
        if kind == EntryType::GNUSparse {
            let name = problem::shown(&name.join("/"));
            let why = "a sparse file; create the archive without `--sparse`";
            return Err(ArchiveError::Hostile { name, why });
        }
        let size = entry.size();
        if size > LARGEST_FOLDER {
            return Err(ArchiveError::TooLarge);
        }
        if name.is_empty() {
            return Ok(());
        }
        let folder = kind == EntryType::Directory || raw.ends_with(b"/");
        self.files.remove(&name);
        self.links.remove(&name);
        match kind {
            EntryType::Symlink | EntryType::Link => {
                self.links.insert(name.clone());
            }
            EntryType::Regular | EntryType::Continuous if !folder => {
                if let Some(limit) = limit(&name) {
                    let found = match size > limit {
                        true => Found::TooLarge(size),
                        false => Found::Read(self.read(entry, size)?),
                    };
                    self.files.insert(name.clone(), found);
                }
            }
            _ => {}
        }
        self.names.insert(name, folder);
        Ok(())
    }

    fn read<R: Read>(&self, entry: &mut tar::Entry<'_, R>, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| self.failure(&error))?;
        // The tar reader treats the archive's end as the file's.
        match (bytes.len() as u64) < size {
            true => Err(ArchiveError::Truncated),
            false => Ok(bytes),
        }
    }

    fn folder(mut self) -> Result<Folder, ArchiveError> {
        let top = self.top();
        let inner: Name = top.iter().cloned().chain([ASSISTANTS.to_owned()]).collect();
        let base = match self.names.keys().any(|name| name.starts_with(&inner)) {
            true => inner,
            false => top.clone(),
        };
        // Messages show the name in the repository, without the folder that the host added.
        let added = if top.first().is_some_and(|top| top != ASSISTANTS) { top.len() } else { 0 };
        let shown = |name: &Name| format!("{ORIGIN}/{}", name[added..].join("/"));
        if let Some(link) = self.links.iter().find(|link| matters(link, &base)) {
            return Err(ArchiveError::Link(problem::masked(&shown(link))));
        }
        let mut folder = Folder::default();
        for (name, found) in std::mem::take(&mut self.files) {
            let Some(within) = name.strip_prefix(base.as_slice()) else { continue };
            let kind = kind(within);
            let file = match (found, &kind) {
                (Found::Read(bytes), _) => SourceFile::new(shown(&name), bytes),
                (Found::TooLarge(size), Some(Kind::Greeting | Kind::Sound)) => {
                    let (path, mb) = (problem::masked(&shown(&name)), size.div_ceil(1024 * 1024));
                    return Err(ReadFolder::LargeRecording { path, mb }.into());
                }
                (Found::TooLarge(size), _) => SourceFile::unread(shown(&name), Unread::TooLarge(size)),
            };
            let into = match kind {
                Some(Kind::Assistant) => &mut folder.assistants,
                Some(Kind::Fragment) => &mut folder.fragments,
                Some(Kind::Greeting) => &mut folder.greetings,
                Some(Kind::Sound) => &mut folder.sounds,
                None => continue,
            };
            into.push(file);
        }
        if folder.assistants.is_empty() {
            return Err(ArchiveError::Empty(self.list(&base)));
        }
        Ok(folder)
    }

    /// The single folder that holds everything, such as `repository-branch`; empty if there is none.
    fn top(&self) -> Name {
        let tops: BTreeSet<&String> = self.names.keys().filter_map(|name| name.first()).collect();
        let mut tops = tops.into_iter().filter(|top| !top.starts_with('.'));
        let (Some(top), None) = (tops.next(), tops.next()) else { return Name::new() };
        let within =
            |(name, folder): (&Name, &bool)| name.first() == Some(top) && (name.len() > 1 || *folder);
        match self.names.iter().any(within) {
            true => vec![top.clone()],
            false => Name::new(),
        }
    }

    /// Lists a folder of the archive for a person who looks for files.
    fn list(&self, base: &Name) -> String {
        const MOST: usize = 6;
        let mut found: Vec<String> = Vec::new();
        for (name, folder) in &self.names {
            let (first, deeper) = match name.strip_prefix(base.as_slice()) {
                Some([first]) => (first, *folder),
                Some([first, ..]) => (first, true),
                _ => continue,
            };
            let text = format!("{}{}", problem::shown(first), if deeper { "/" } else { "" });
            if !found.contains(&text) {
                found.push(text);
            }
        }
        let names: Vec<&str> = found.iter().take(MOST).map(String::as_str).collect();
        match (names.is_empty(), found.len() > MOST) {
            (true, _) => "no files".to_owned(),
            (_, false) => problem::list(&names),
            (_, true) => format!("{}, and more", problem::list(&names)),
        }
    }
}

/// A name's parts. Fails for a name that could lead out of the folder or break a log line.
fn parts(raw: &[u8]) -> Result<Name, ArchiveError> {
    let hostile = |why| {
        let text = String::from_utf8_lossy(raw).replace(char::is_control, "\u{fffd}");
        ArchiveError::Hostile { name: problem::shown(&text), why }
    };
    let text = std::str::from_utf8(raw).map_err(|_| hostile("a name that is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(hostile("an absolute path; create the archive from within its folder"));
    }
    if text.contains('\\') {
        return Err(hostile("a name with a backslash; separate folders with /"));
    }
    if text.contains(char::is_control) {
        return Err(hostile("a name with a control character"));
    }
    let mut parts = Name::new();
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(hostile("a path with `..`; create the archive from within its folder"));
        }
        parts.push(part.to_owned());
    }
    Ok(parts)
}

/// What a file in the folder is.
enum Kind {
    Assistant,
    Fragment,
    Greeting,
    Sound,
}

/// The kind of a file, by its name relative to the folder.
fn kind(within: &[String]) -> Option<Kind> {
    match within {
        [file] if belongs(Path::new(file), &["yaml", "yml"]) => Some(Kind::Assistant),
        [sub, file] if sub == "fragments" && belongs(Path::new(file), &["md"]) => Some(Kind::Fragment),
        [sub, file] if sub == "greetings" && belongs(Path::new(file), &["wav"]) => Some(Kind::Greeting),
        [sub, file] if sub == "sounds" && belongs(Path::new(file), &["wav"]) => Some(Kind::Sound),
        _ => None,
    }
}

/// How large a file may be, before it is known which folder counts. `None` if it cannot belong to one.
fn limit(name: &[String]) -> Option<u64> {
    let deepest = if name.get(1).is_some_and(|inner| inner == ASSISTANTS) { 2 } else { 1 };
    let mut kinds = (0..=deepest).filter_map(|base| kind(name.get(base..)?));
    kinds.next().map(|kind| match kind {
        Kind::Assistant | Kind::Fragment => LARGEST_TEXT,
        Kind::Greeting | Kind::Sound => LARGEST_WAV,
    })
}

/// Whether a link replaces the folder, a part of it or one of its files.
fn matters(link: &Name, base: &Name) -> bool {
    match link.strip_prefix(base.as_slice()) {
        Some([]) => true,
        Some([part]) if FOLDERS.contains(&part.as_str()) => true,
        Some(within) => kind(within).is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
