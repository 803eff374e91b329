//! What waits in files while the database is gone: a queue of JSON lines that survives the process.
//!
//! Every process has files of its own, and a lock. The next process takes over those of one that is dead.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::call::Owner;
use super::op::Op;
use crate::disk;

/// A file is read into memory at once, so it is small.
const SEGMENT: u64 = 1024 * 1024;
/// All files together.
const MOST: u64 = 256 * 1024 * 1024;
/// The database's secret, so that a number can be hashed while it is gone.
const SECRET: &str = "secret";
/// How the line of a record begins.
const ENDED: &[u8] = br#"{"op":"ended""#;
/// The end of the name of a file that could not be read.
const ASIDE: &str = ".unreadable";

/// See the module. Every function may block.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    process: String,
    /// The oldest first. The last one may be open.
    segments: VecDeque<(PathBuf, u64)>,
    open: Option<File>,
    next: u32,
    /// Released when this process ends, however it does.
    locks: Vec<File>,
    most: u64,
}

impl Spill {
    /// Takes the folder, and what dead processes left in it.
    pub fn open(folder: &Path, process: &str, most: Option<u64>) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut spill = Self {
            folder: folder.to_owned(),
            process: process.to_owned(),
            segments: VecDeque::new(),
            open: None,
            next: 0,
            locks: Vec::new(),
            most: most.unwrap_or(MOST),
        };
        spill.locks.extend(lock(folder, process)?);
        // The dead, whose files and locks are taken over, and the others.
        let mut owners: HashMap<String, bool> = HashMap::new();
        for (path, owner) in segments(folder)? {
            let is_dead = *owners.entry(owner).or_insert_with_key(|owner| match lock(folder, owner) {
                Ok(lock) => {
                    let is_dead = lock.is_some();
                    spill.locks.extend(lock);
                    is_dead
                }
                Err(why) => {
                    tracing::warn!(%why, process = owner, "Files of records are left where they are");
                    false
                }
            });
            match fs::metadata(&path) {
                Ok(data) if is_dead => spill.segments.push_back((path, data.len())),
                Ok(_) => {}
                Err(why) => tracing::warn!(%why, "A file of records is left where it is"),
            }
        }
        remove_locks(folder, process);
        Ok(spill)
    }

    /// The secret that the database had when it was last seen.
    pub fn secret(&self) -> Option<String> {
        secret(&self.folder)
    }

    pub fn keep_secret(&self, secret: &str) -> io::Result<()> {
        if self.secret().as_deref() == Some(secret) {
            return Ok(());
        }
        disk::replace(&self.folder.join(SECRET), secret.as_bytes())
    }

    /// Appends changes, as many as there is room for. Returns how many.
    pub fn append(&mut self, ops: impl Iterator<Item = Op>) -> io::Result<usize> {
        let (mut lines, mut count) = (Vec::new(), 0);
        let waiting: u64 = self.segments.iter().map(|(_, bytes)| bytes).sum();
        for op in ops {
            let fits = lines.len();
            serde_json::to_writer(&mut lines, &op)?;
            lines.push(b'\n');
            if waiting + lines.len() as u64 > self.most {
                lines.truncate(fits);
                break;
            }
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        if self.open.is_none() || self.segments.back().is_none_or(|(_, bytes)| *bytes >= SEGMENT) {
            let path = self.folder.join(format!("{}-{:08}.jsonl", self.process, self.next));
            self.open = Some(OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?);
            self.next += 1;
            self.segments.push_back((path, 0));
        }
        let (Some(file), Some((_, bytes))) = (&mut self.open, self.segments.back_mut()) else {
            return Ok(0);
        };
        match file.write_all(&lines) {
            Ok(()) => *bytes += lines.len() as u64,
            Err(why) => {
                // Half a line must not spoil the next one.
                let _ = file.set_len(*bytes);
                return Err(why);
            }
        }
        Ok(count)
    }

    /// The file to write to the database next. Nothing is appended to it any more.
    pub fn oldest(&mut self) -> Option<PathBuf> {
        if self.segments.len() <= 1 {
            self.open = None;
        }
        self.segments.front().map(|(path, _)| path.clone())
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Removes the oldest file, which is in the database.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.forget(path);
        fs::remove_file(path)
    }

    /// Leaves out the oldest file, which cannot be read. The next process tries it again.
    pub fn put_aside(&mut self, path: &Path) -> io::Result<()> {
        self.forget(path);
        if is_aside(path) {
            return Ok(());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(ASIDE);
        fs::rename(path, name)
    }

    fn forget(&mut self, path: &Path) {
        if self.segments.front().is_some_and(|(oldest, _)| oldest == path) {
            self.segments.pop_front();
        }
    }
}

/// The changes in a file, and how many records of calls in it could not be read: a process that was killed leaves half of
/// a line.
pub fn read(path: &Path) -> io::Result<(Vec<Op>, u64)> {
    let (mut ops, mut unread) = (Vec::new(), 0);
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        match serde_json::from_slice(&line) {
            Ok(op) => ops.push(op),
            Err(_) => unread += u64::from(line.starts_with(ENDED)),
        }
    }
    Ok((ops, unread))
}

/// What was found of a caller in files.
#[derive(Debug, Default)]
pub struct Found {
    /// The ids of calls.
    pub calls: HashSet<String>,
    /// The paths of recordings.
    pub recordings: Vec<String>,
    /// A living process has some of it in its files, which only that process may change.
    pub is_held: bool,
}

/// Removes the changes of a caller from the files of processes that are dead. A living process writes its files to the
/// database, which knows that the caller is erased.
pub fn erase(folder: &Path, is_of_caller: impl Fn(&Owner, Option<&str>) -> bool) -> io::Result<Found> {
    let mut found = Found::default();
    if !folder.exists() {
        return Ok(found);
    }
    let files: Vec<PathBuf> = segments(folder)?.into_iter().map(|(path, _)| path).collect();
    for path in &files {
        for op in read_if_there(path)? {
            if let Op::Began { call, .. } | Op::Ended { call, .. } = &op
                && is_of_caller(&call.owner, call.from.as_deref())
            {
                found.calls.insert(op.id().to_owned());
            }
        }
    }
    for path in &files {
        let ops = read_if_there(path)?;
        let (theirs, others): (Vec<_>, Vec<_>) =
            ops.into_iter().partition(|op| found.calls.contains(op.id()));
        if theirs.is_empty() {
            continue;
        }
        found.recordings.extend(theirs.into_iter().filter_map(Op::recording));
        let lock = owner_of(path).map(|owner| lock(folder, &owner)).transpose()?.flatten();
        // Nobody uses a file that was put aside.
        if lock.is_none() && !is_aside(path) {
            found.is_held = true;
            continue;
        }
        let mut lines = Vec::new();
        for op in others {
            serde_json::to_writer(&mut lines, &op)?;
            lines.push(b'\n');
        }
        disk::replace(path, &lines)?;
    }
    Ok(found)
}

/// The secret that the database had when a process with this folder last saw it.
pub fn secret(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join(SECRET)).ok()
}

/// A file that has just been written to the database holds nothing.
fn read_if_there(path: &Path) -> io::Result<Vec<Op>> {
    match read(path) {
        Ok((ops, _)) => Ok(ops),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(why),
    }
}

/// All files with the processes that made them, the oldest first.
fn segments(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(owner) = owner_of(&path) {
            found.push((path, owner));
        }
    }
    found.sort();
    Ok(found)
}

fn is_aside(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(ASIDE))
}

fn owner_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(ASIDE).unwrap_or(name);
    let (owner, _) = name.strip_suffix(".jsonl")?.split_once('-')?;
    Some(owner.to_owned())
}

/// The lock of a process, unless that process lives.
fn lock(folder: &Path, process: &str) -> io::Result<Option<File>> {
    let path = folder.join(format!("{process}.lock"));
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(why)) => Err(why),
    }
}

/// Removes the locks of dead processes that left nothing.
fn remove_locks(folder: &Path, process: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let left: HashSet<String> =
        segments(folder).unwrap_or_default().into_iter().map(|(_, owner)| owner).collect();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(owner) = name.strip_suffix(".lock").filter(|owner| *owner != process) else { continue };
        if !left.contains(owner) && matches!(lock(folder, owner), Ok(Some(_))) {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(spill: &Spill) -> Vec<&str> {
        spill.segments.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect()
    }

    #[test]
    fn one_bad_file_keeps_no_other_from_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["A-00000000.jsonl", "FOREIGN-00000000.jsonl", "Z-00000001.jsonl.unreadable"] {
            fs::write(path(name), "").unwrap();
        }
        // A lock that cannot be opened, and a file that cannot be found.
        fs::create_dir(path("FOREIGN.lock")).unwrap();
        symlink(path("B-00000000.jsonl"), path("B-00000000.jsonl")).unwrap();
        let spill = Spill::open(folder.path(), "P", None).unwrap();
        assert_eq!(names(&spill), ["A-00000000.jsonl", "Z-00000001.jsonl.unreadable"]);
        assert!(path("FOREIGN-00000000.jsonl").exists());
        // Those of the living are theirs.
        assert_eq!(names(&Spill::open(folder.path(), "Q", None).unwrap()), [""; 0]);
    }

    #[test]
    fn only_records_that_are_damaged_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("A-00000000.jsonl");
        let lines = "{\"op\":\"noted\",\"id\":\n{\"op\":\"ended\",\"call\":\n\
                     {\"op\":\"recording\",\"id\":\"A\",\"path\":\"a.wav\"}";
        fs::write(&path, lines).unwrap();
        let (ops, damaged) = read(&path).unwrap();
        assert_eq!((ops.len(), damaged), (1, 1));
    }
}
