//! Which folders to watch so that no edit is missed, and which file events are about us.
//!
//! A folder, or a file in it, may be reached through links, such as `current -> release-7` or `clinic.yaml ->
//! ..data/…`. The folder that holds each link is watched too, because a link is swapped there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind};

use super::read::{FOLDERS, belongs};

/// The longest chain of links; the system's own limit.
const MOST_HOPS: usize = 40;
/// The most files that may be links themselves; the poll finds changes of the others.
const MOST_LINKS: usize = 2_000;

/// See the module. In all paths, only the last part may be a link.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Events of our files in these folders count.
    folders: BTreeSet<PathBuf>,
    /// Events of these paths count: the folder itself, links, the settings file.
    names: BTreeSet<PathBuf>,
    /// The folders to watch, each with its identity, since another may take its place.
    pub watched: BTreeMap<PathBuf, Identity>,
}

/// Device, inode and permissions.
type Identity = (u64, u64, u32);

impl Places {
    /// The places as they are on the disk now.
    pub fn around(dir: &Path, settings: Option<&Path>) -> Places {
        let mut places = Places::default();
        let real = places.follow(dir);
        let within = FOLDERS.map(|name| places.follow(&real.join(name)));
        for folder in [real].into_iter().chain(within) {
            let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
            let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
            for link in links.filter(|link| ours(&link.path())).take(MOST_LINKS) {
                places.follow(&link.path());
            }
            places.folders.insert(folder);
        }
        if let Some(settings) = settings {
            places.follow(settings);
        }
        let parents = places.names.iter().filter_map(|name| name.parent());
        let watched: BTreeSet<&Path> = parents.chain(places.folders.iter().map(PathBuf::as_path)).collect();
        let identity = |path: &Path| {
            let meta = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
            Some((path.to_owned(), (meta.dev(), meta.ino(), meta.mode())))
        };
        places.watched = watched.into_iter().filter_map(identity).collect();
        places
    }

    /// Whether this may be an edit. Our own reading is not, and neither is an editor's swap file.
    pub fn may_be_edit(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return false,
            _ => {}
        }
        event.need_rescan()
            || event.paths.iter().any(|path| {
                let inside = path.parent().is_some_and(|parent| self.folders.contains(parent));
                (inside && ours(path)) || self.names.contains(path) || self.watched.contains_key(path)
            })
    }

    /// Resolves a path, and adds each link on the way, and the target, to the names.
    fn follow(&mut self, path: &Path) -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut real = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(&path).collect();
        let mut hops = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            match fs::read_link(&next) {
                Ok(target) if hops < MOST_HOPS => {
                    hops += 1;
                    self.names.insert(next);
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(part);
                    }
                }
                _ => real = next,
            }
        }
        self.names.insert(real.clone());
        real
    }
}

/// The names in a path, and `..`.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Whether the folder's reader may want a file of this name.
pub fn ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| belongs(Path::new(name), &["yaml", "yml", "md", "wav"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};
    use std::os::unix::fs::symlink;

    fn event(kind: EventKind, path: &Path) -> Event {
        Event::new(kind).add_path(path.to_owned())
    }

    #[test]
    fn the_folder_of_every_link_is_watched() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        // As Kubernetes mounts a ConfigMap: all links lead through `..data`.
        fs::create_dir_all(root.join("releases/7/assistants/..v1")).unwrap();
        fs::write(root.join("releases/7/assistants/..v1/a.yaml"), "a").unwrap();
        symlink("..v1", root.join("releases/7/assistants/..data")).unwrap();
        symlink("..data/a.yaml", root.join("releases/7/assistants/a.yaml")).unwrap();
        symlink("releases/7", root.join("current")).unwrap();
        let settings = root.join("switchboard.yaml");
        let places = Places::around(&root.join("current/assistants"), Some(&settings));
        let real = root.join("releases/7/assistants");
        let watched: Vec<&PathBuf> = places.watched.keys().collect();
        assert_eq!(watched, [&root, &root.join("releases/7"), &real, &real.join("..v1")]);

        let create = EventKind::Create(CreateKind::Any);
        for (path, may_be_edit) in [
            (root.join("current"), true),
            (root.join("releases/7/assistants"), true),
            (real.join("..data"), true),
            (real.join("..v1/a.yaml"), true),
            (real.join("b.yaml"), true),
            (real.join("fragments"), true),
            (real.join("fragments/x.md"), true),
            (settings, true),
            (real.join(".#b.yaml"), false),
            (real.join("b.yaml~"), false),
            (root.join("other.yaml"), false),
            (real.join("..v1/b.yaml"), false),
        ] {
            assert_eq!(places.may_be_edit(&event(create, &path)), may_be_edit, "{}", path.display());
        }
    }

    #[test]
    fn reading_is_not_an_edit() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().canonicalize().unwrap().join("a.yaml");
        let places = Places::around(temp.path(), None);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(!places.may_be_edit(&event(opened, &file)));
        assert!(places.may_be_edit(&event(written, &file)));
        assert!(places.may_be_edit(&event(EventKind::Modify(ModifyKind::Any), &file)));
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert!(places.may_be_edit(&lost), "the system dropped some events");
    }
}
