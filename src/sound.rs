//! The store of prepared lines: what models said, by key. It is in memory, and on disk if there is a folder for it.
//!
//! It also knows which lines are being captured and which were given up, so that no line is asked for twice.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::assistant::plan::{Listed, Server, SoundKey, Supply};
use crate::disk;
use switchboard_audio::Clip;

/// The folder in STATE_DIR.
const FOLDER: &str = "sounds";
/// The most lines, which take about 10 MB of memory. Assistants with the same voice, texts and language share theirs.
const MOST: usize = 512;
/// The largest file that is read: a greeting of 15 s has almost half of it.
const LARGEST: u64 = 512 * 1024;

/// See the module.
pub struct Store {
    folder: Option<PathBuf>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    clips: HashMap<SoundKey, Arc<Clip>>,
    /// The oldest first.
    order: VecDeque<SoundKey>,
    /// Lines that are being captured.
    claimed: BTreeSet<SoundKey>,
    /// Lines that could not be captured, and when they may be tried again; `None`: never. A key changes with anything that
    /// could help.
    given_up: HashMap<SoundKey, Option<Instant>>,
}

/// The right to capture a line. Nobody else captures it until this is dropped.
pub struct Claim {
    key: SoundKey,
    store: Arc<Store>,
}

impl Store {
    /// Reads the lines below `state`.
    pub fn open(state: Option<&Path>) -> Store {
        let folder = state.map(|state| state.join(FOLDER));
        let mut lines = Lines::default();
        for (key, clip) in folder.iter().flat_map(|folder| stored(folder)) {
            lines.insert(key, clip);
        }
        Store { folder, lines: Mutex::new(lines) }
    }

    pub fn find(&self, key: &SoundKey) -> Option<Arc<Clip>> {
        self.lines().clips.get(key).cloned()
    }

    /// Claims a line in order to capture it. `None`: it is there, in work or given up. Another process may have captured
    /// it meanwhile, so it is looked for on the disk, too.
    pub fn claim(self: &Arc<Self>, key: SoundKey) -> Option<Claim> {
        let on_disk = self.folder.as_ref().and_then(|folder| read(&path(folder, &key)));
        let mut lines = self.lines();
        if let Some(clip) = on_disk {
            lines.insert(key.clone(), clip);
        }
        let given_up = match lines.given_up.get(&key) {
            Some(again) => again.is_none_or(|again| again > Instant::now()),
            None => false,
        };
        let free = !lines.clips.contains_key(&key) && !given_up;
        (free && lines.claimed.insert(key.clone())).then(|| Claim { key, store: self.clone() })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a plan of which only the prepared lines matter.
impl Supply for Store {
    fn listed(&self, _: &Server) -> Option<Arc<[Listed]>> {
        None
    }

    fn sends_texts(&self) -> bool {
        false
    }

    fn captured(&self, line: &SoundKey) -> Option<Arc<Clip>> {
        self.find(line)
    }
}

impl Claim {
    /// Keeps the line, and removes the oldest if there are too many. It is in memory even if the disk fails.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(self, clip: Clip) -> io::Result<()> {
        let wav = self.store.folder.as_ref().map(|folder| (folder, clip.to_wav()));
        let removed = self.store.lines().insert(self.key.clone(), Arc::new(clip));
        let Some((folder, wav)) = wav else { return Ok(()) };
        disk::create_private(folder)?;
        for key in removed {
            let _ = fs::remove_file(path(folder, &key));
        }
        disk::replace(&path(folder, &self.key), &wav)
    }

    /// The line could not be captured, and is not tried again before that time; `None`: never.
    pub fn give_up(self, again: Option<Instant>) {
        self.store.lines().given_up.insert(self.key.clone(), again);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.lines().claimed.remove(&self.key);
    }
}

impl Lines {
    /// Returns the lines that went to make room.
    fn insert(&mut self, key: SoundKey, clip: Arc<Clip>) -> Vec<SoundKey> {
        if self.clips.insert(key.clone(), clip).is_none() {
            self.order.push_back(key);
        }
        let surplus = self.order.len().saturating_sub(MOST);
        let removed: Vec<SoundKey> = self.order.drain(..surplus).collect();
        for key in &removed {
            self.clips.remove(key);
        }
        removed
    }
}

fn path(folder: &Path, key: &SoundKey) -> PathBuf {
    folder.join(format!("{key}.wav"))
}

/// The lines in the folder, the newest at the end. Older ones than fit are removed, and so is what cannot be read.
fn stored(folder: &Path) -> Vec<(SoundKey, Arc<Clip>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, SoundKey, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let is_wav = path.extension().is_some_and(|ending| ending == "wav");
            let key = SoundKey::read(path.file_stem()?.to_str()?).filter(|_| is_wav)?;
            let written = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            Some((written, key, path))
        })
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(MOST);
    for (_, _, path) in files.drain(..surplus) {
        let _ = fs::remove_file(path);
    }
    let read = |(_, key, path): (_, SoundKey, PathBuf)| match read(&path) {
        Some(clip) => Some((key, clip)),
        None => {
            let _ = fs::remove_file(path);
            None
        }
    };
    files.into_iter().filter_map(read).collect()
}

fn read(path: &Path) -> Option<Arc<Clip>> {
    let is_small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
    let bytes = is_small.then(|| fs::read(path).ok())??;
    Some(Arc::new(Clip::from_wav(&bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(number: usize) -> SoundKey {
        SoundKey::read(&format!("{number:032x}")).unwrap()
    }

    fn clip(byte: u8) -> Clip {
        Clip { ulaw: vec![byte; 4_000].into() }
    }

    fn open(state: Option<&Path>) -> Arc<Store> {
        Arc::new(Store::open(state))
    }

    #[test]
    fn a_line_outlives_the_process_on_disk_and_is_gone_from_memory() {
        let state = tempfile::tempdir().unwrap();
        for (folder, outlives) in [(Some(state.path()), true), (None, false)] {
            let store = open(folder);
            assert_eq!(store.find(&key(1)), None);
            store.claim(key(1)).unwrap().keep(clip(0x55)).unwrap();
            assert_eq!(store.find(&key(1)).as_deref(), Some(&clip(0x55)));
            assert_eq!(open(folder).find(&key(1)).is_some(), outlives);
        }
    }

    #[test]
    fn a_line_is_captured_by_one_at_a_time_until_it_is_there_or_given_up() {
        let store = open(None);
        let claim = store.claim(key(1)).unwrap();
        assert!(store.claim(key(1)).is_none() && store.claim(key(2)).is_some());
        drop(claim);
        store.claim(key(1)).unwrap().give_up(Some(Instant::now()));
        store.claim(key(1)).unwrap().give_up(Some(Instant::now() + Duration::from_secs(600)));
        assert!(store.claim(key(1)).is_none());
        store.claim(key(3)).unwrap().give_up(None);
        assert!(store.claim(key(3)).is_none());
        store.claim(key(2)).unwrap().keep(clip(1)).unwrap();
        assert!(store.claim(key(2)).is_none());
    }

    #[test]
    fn what_another_process_captured_is_found() {
        let state = tempfile::tempdir().unwrap();
        let (one, other) = (open(Some(state.path())), open(Some(state.path())));
        one.claim(key(1)).unwrap().keep(clip(1)).unwrap();
        assert!(other.claim(key(1)).is_none() && other.find(&key(1)).is_some());
    }

    #[test]
    fn the_oldest_lines_go_first() {
        let state = tempfile::tempdir().unwrap();
        let store = open(Some(state.path()));
        for number in 0..=MOST {
            store.lines().insert(key(number), Arc::new(clip(1)));
        }
        assert!(store.find(&key(0)).is_none() && store.find(&key(1)).is_some());
        let folder = state.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(path(&folder, &key(1)), clip(1).to_wav()).unwrap();
        store.claim(key(9_999)).unwrap().keep(clip(1)).unwrap();
        assert!(!path(&folder, &key(1)).exists());
        assert_eq!(store.lines().clips.len(), MOST);
    }

    #[test]
    fn files_that_are_no_lines_are_no_trouble() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        let (good, broken) = (path(&folder, &key(1)), path(&folder, &key(2)));
        fs::write(&good, clip(1).to_wav()).unwrap();
        fs::write(&broken, "no sound").unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        fs::create_dir(path(&folder, &key(3))).unwrap();
        let store = open(Some(state.path()));
        assert_eq!(store.lines().clips.len(), 1);
        assert!(!broken.exists() && folder.join("notes.txt").exists());
        // The disk may also refuse.
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        assert!(store.claim(key(4)).unwrap().keep(clip(1)).is_err());
        assert!(store.find(&key(4)).is_some());
    }
}
