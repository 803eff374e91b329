//! Messages in files, while there is no database that could take them.
//!
//! A file is on the disk before its message is promised to a caller, and goes when the message is in the database or
//! delivered. Earlier versions kept all messages so.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::messages::Message;
use crate::disk;
use crate::phone::PhoneNumber;

/// The folder of messages that nobody accepted.
const GIVEN_UP: &str = "given-up";
/// The extension of a file that is being written.
const UNFINISHED: &str = "unfinished";
/// A file that is being written for so long was left behind by a crash.
const LONG: Duration = Duration::from_secs(60);
/// For how long a message is kept if its file does not say so.
const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The folder `messages` in STATE_DIR. It is created for the first file.
#[derive(Debug, Clone)]
pub struct MessageFiles(PathBuf);

/// What a folder holds.
#[derive(Default)]
pub struct Found {
    pub waiting: Vec<Message>,
    pub given_up: Vec<Message>,
    /// Files that hold no message.
    pub broken: usize,
}

/// The format. An earlier version wrote only the first three.
#[derive(Serialize, Deserialize)]
struct Content {
    assistant: String,
    /// Seconds since 1970.
    taken: u64,
    body: String,
    #[serde(default)]
    call: Option<String>,
    #[serde(default)]
    caller: Option<String>,
    #[serde(default)]
    keep_seconds: Option<u64>,
}

impl MessageFiles {
    pub fn new(state: &Path) -> Self {
        Self(state.join("messages"))
    }

    /// Writes a message.
    pub fn put(&self, message: &Message) -> io::Result<()> {
        disk::create_private(&self.0)?;
        let content = Content {
            assistant: message.assistant.clone(),
            taken: message.taken,
            body: message.body.clone(),
            call: message.call.clone(),
            caller: message.caller.as_ref().map(|caller| caller.expose().to_owned()),
            keep_seconds: Some(message.keep.as_secs()),
        };
        disk::replace(&self.file(&message.id), &serde_json::to_vec(&content)?)
    }

    /// Whether the message that waits is still there: it may have been erased.
    pub fn has(&self, id: &str) -> bool {
        self.file(id).exists()
    }

    /// Removes a message, whether it waits or was given up. False: it was gone already.
    pub fn remove(&self, id: &str) -> io::Result<bool> {
        for path in [self.file(id), file(&self.0.join(GIVEN_UP), id)] {
            match fs::remove_file(path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Puts a message aside that nobody accepted.
    pub fn give_up(&self, id: &str) -> io::Result<()> {
        let given_up = self.0.join(GIVEN_UP);
        disk::create_private(&given_up)?;
        fs::rename(self.file(id), file(&given_up, id))
    }

    /// All messages, the oldest first. Removes files that a crash left unfinished: no caller was promised anything about
    /// them.
    pub fn read(&self) -> Found {
        let mut found = Found::default();
        let mut broken = 0;
        found.waiting = messages(&self.0, &mut broken);
        found.given_up = messages(&self.0.join(GIVEN_UP), &mut broken);
        found.broken = broken;
        found
    }

    /// Removes a caller's messages, and returns how many.
    pub fn erase(&self, caller: &PhoneNumber) -> io::Result<u64> {
        let found = self.read();
        let theirs = |message: &&Message| message.caller.as_ref() == Some(caller);
        let mut erased = 0;
        for message in found.waiting.iter().chain(&found.given_up).filter(theirs) {
            // One that is gone has been delivered meanwhile.
            erased += u64::from(self.remove(&message.id)?);
        }
        Ok(erased)
    }

    fn file(&self, id: &str) -> PathBuf {
        file(&self.0, id)
    }
}

fn file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

fn is_old(file: &DirEntry) -> bool {
    let written = file.metadata().and_then(|file| file.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > LONG))
}

fn messages(folder: &Path, broken: &mut usize) -> Vec<Message> {
    let mut messages = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension {
            UNFINISHED if id.starts_with(".msg_") && is_old(&entry) => drop(fs::remove_file(&path)),
            "json" if id.starts_with("msg_") => {
                match fs::read(&path).ok().and_then(|json| message(id, &json)) {
                    Some(message) => messages.push(message),
                    None => *broken += 1,
                }
            }
            _ => {}
        }
    }
    messages.sort_by_key(|message| message.taken);
    messages
}

fn message(id: &str, json: &[u8]) -> Option<Message> {
    let Content { assistant, taken, body, call, caller, keep_seconds } = serde_json::from_slice(json).ok()?;
    // The event that an earlier version delivered says whose it was.
    let event: Value = serde_json::from_str(&body).unwrap_or_default();
    let says = |key: &str| event["data"][key].as_str().map(str::to_owned);
    Some(Message {
        id: id.to_owned(),
        call: call.or_else(|| says("call")),
        assistant,
        caller: caller.or_else(|| says("caller")).and_then(|number| PhoneNumber::parse(&number).ok()),
        taken,
        body,
        keep: keep_seconds.map_or(KEEP, Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    use super::*;

    fn message(id: &str, caller: &str) -> Message {
        Message {
            id: id.to_owned(),
            call: Some("CA1".to_owned()),
            assistant: "clinic".to_owned(),
            caller: PhoneNumber::parse(caller).ok(),
            taken: 7,
            body: "{}".to_owned(),
            keep: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_message_on_disk_is_complete_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = MessageFiles::new(&dir.path().join("state"));
        let folder = dir.path().join("state/messages");
        files.put(&message("msg_1", "+15550100007")).unwrap();
        fs::write(folder.join("msg_2.json"), "{").unwrap();
        for (name, age) in [(".msg_3.unfinished", LONG * 2), (".msg_4.unfinished", Duration::ZERO)] {
            fs::write(folder.join(name), "{").unwrap();
            let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files.file("msg_1")), 0o600);
        assert_eq!(mode(&folder), 0o700);
        let found = files.read();
        assert_eq!((found.waiting.len(), found.given_up.len(), found.broken), (1, 0, 1));
        let read = &found.waiting[0];
        let caller = read.caller.as_ref().map(PhoneNumber::expose);
        assert_eq!((read.id.as_str(), caller), ("msg_1", Some("+15550100007")));
        assert_eq!((read.taken, read.keep, read.call.as_deref()), (7, Duration::from_secs(60), Some("CA1")));
        assert!(!folder.join(".msg_3.unfinished").exists(), "it may hold what a caller said");
        assert!(folder.join(".msg_4.unfinished").exists(), "it is being written");
        let nowhere = MessageFiles(folder.join("msg_1.json"));
        assert!(nowhere.put(&message("msg_4", "")).is_err(), "a file is no folder");
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = MessageFiles::new(dir.path());
        let given_up = dir.path().join("messages/given-up");
        disk::create_private(&given_up).unwrap();
        let body = r#"{"id":"msg_1","data":{"call":"CA1","caller":"+15550100007","fields":{}}}"#;
        let file = serde_json::json!({"assistant": "clinic", "taken": 7, "body": body});
        fs::write(given_up.join("msg_1.json"), file.to_string()).unwrap();
        let found = files.read();
        let read = &found.given_up[0];
        assert_eq!(read.caller.as_ref().map(PhoneNumber::expose), Some("+15550100007"));
        assert_eq!((read.call.as_deref(), read.body.as_str(), read.keep), (Some("CA1"), body, KEEP));
    }

    #[test]
    fn erasing_a_caller_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let files = MessageFiles::new(dir.path());
        for (id, caller) in
            [("msg_1", "+15550100007"), ("msg_2", "+15550100008"), ("msg_3", "+15550100007"), ("msg_4", "")]
        {
            files.put(&message(id, caller)).unwrap();
        }
        files.give_up("msg_3").unwrap();
        assert_eq!(files.erase(&PhoneNumber::parse("+15550100007").unwrap()).unwrap(), 2);
        let found = files.read();
        let mut left: Vec<_> = found.waiting.into_iter().map(|message| message.id).collect();
        left.sort();
        assert_eq!((left, found.given_up.len()), (vec!["msg_2".to_owned(), "msg_4".to_owned()], 0));
    }
}
