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

use super::messages::{Message, Recipient};
use crate::disk;
use crate::notice::{Purpose, Via};
use crate::phone::PhoneNumber;

/// The folder of messages that nobody accepted.
const GIVEN_UP: &str = "given-up";
/// What the names of files begin with that an older version must leave alone: it sends every other to a webhook.
const NEWER: &str = "delivery-";
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
    /// With the codes of why.
    pub given_up: Vec<(Message, String)>,
    /// The process died while it sent them.
    pub unclear: Vec<Message>,
    /// Files that hold no message.
    pub broken: usize,
}

/// The format. The first version wrote only the first three; the second lacked the last four.
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
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    via: Option<String>,
    /// It may have been sent.
    #[serde(default)]
    sending: bool,
    /// The code of why it was given up.
    #[serde(default)]
    error: Option<String>,
}

impl MessageFiles {
    pub fn new(state: &Path) -> Self {
        Self(state.join("messages"))
    }

    /// Writes a message.
    pub fn put(&self, message: &Message) -> io::Result<()> {
        write(&self.0, message, false, None)
    }

    /// Marks a message as one that is being sent, and may have been from now on. [`Self::put`] takes that back.
    pub fn mark_sending(&self, message: &Message) -> io::Result<()> {
        write(&self.0, message, true, None)
    }

    /// Whether the message that waits is still there: it may have been erased.
    pub fn has(&self, message: &Message) -> bool {
        file(&self.0, message).exists()
    }

    /// Removes a message, whether it waits or was given up. False: it was gone already.
    pub fn remove(&self, message: &Message) -> io::Result<bool> {
        let mut removed = false;
        for folder in [&self.0, &self.0.join(GIVEN_UP)] {
            match fs::remove_file(file(folder, message)) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Puts a message aside that nobody accepted. `error` is a code.
    pub fn give_up(&self, message: &Message, error: &str) -> io::Result<()> {
        write(&self.0.join(GIVEN_UP), message, false, Some(error))?;
        fs::remove_file(file(&self.0, message))
    }

    /// All messages, the oldest first. Removes files that a crash left unfinished: no caller was promised anything about
    /// them.
    pub fn read(&self) -> Found {
        let mut found = Found::default();
        for (message, content) in messages(&self.0, &mut found.broken) {
            match content.sending {
                true => found.unclear.push(message),
                false => found.waiting.push(message),
            }
        }
        let given_up = messages(&self.0.join(GIVEN_UP), &mut found.broken).into_iter();
        // An older version did not write why.
        let why = |content: Content| content.error.unwrap_or_else(|| "unknown".to_owned());
        found.given_up = given_up.map(|(message, content)| (message, why(content))).collect();
        found
    }

    /// Removes a caller's messages, and returns how many.
    pub fn erase(&self, caller: &PhoneNumber) -> io::Result<u64> {
        let found = self.read();
        let given_up = found.given_up.iter().map(|(message, _)| message);
        let all = found.waiting.iter().chain(&found.unclear).chain(given_up);
        let mut erased = 0;
        for message in all.filter(|message| message.caller.as_ref() == Some(caller)) {
            // One that is gone has been delivered meanwhile.
            erased += u64::from(self.remove(message)?);
        }
        Ok(erased)
    }
}

fn write(folder: &Path, message: &Message, sending: bool, error: Option<&str>) -> io::Result<()> {
    disk::create_private(folder)?;
    let content = Content {
        assistant: message.to.assistant.clone(),
        taken: message.taken,
        body: message.body.clone(),
        call: message.call.clone(),
        caller: message.caller.as_ref().map(|caller| caller.expose().to_owned()),
        keep_seconds: Some(message.keep.as_secs()),
        purpose: Some(message.to.purpose.code().to_owned()),
        via: Some(message.to.via.code().to_owned()),
        sending,
        error: error.map(str::to_owned),
    };
    disk::replace(&file(folder, message), &serde_json::to_vec(&content)?)
}

fn file(folder: &Path, message: &Message) -> PathBuf {
    let prefix = match (message.to.purpose, message.to.via) {
        (Purpose::Message, Via::Webhook) => "",
        _ => NEWER,
    };
    folder.join(format!("{prefix}{}.json", message.id))
}

fn is_old(file: &DirEntry) -> bool {
    let written = file.metadata().and_then(|file| file.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > LONG))
}

fn messages(folder: &Path, broken: &mut usize) -> Vec<(Message, Content)> {
    let mut messages = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension {
            UNFINISHED if name.starts_with('.') && is_old(&entry) => drop(fs::remove_file(&path)),
            "json" if !name.starts_with('.') => {
                let id = name.strip_prefix(NEWER).unwrap_or(name);
                match fs::read(&path).ok().and_then(|json| message(id, &json)) {
                    Some(message) => messages.push(message),
                    None => *broken += 1,
                }
            }
            _ => {}
        }
    }
    messages.sort_by_key(|(message, _)| message.taken);
    messages
}

fn message(id: &str, json: &[u8]) -> Option<(Message, Content)> {
    let content: Content = serde_json::from_slice(json).ok()?;
    // The event that an earlier version delivered says whose it was.
    let event: Value = serde_json::from_str(&content.body).unwrap_or_default();
    let says = |key: &str| event["data"][key].as_str().map(str::to_owned);
    let caller = content.caller.clone().or_else(|| says("caller"));
    let message = Message {
        id: id.to_owned(),
        call: content.call.clone().or_else(|| says("call")),
        to: Recipient {
            assistant: content.assistant.clone(),
            purpose: content.purpose.as_deref().map_or(Some(Purpose::Message), Purpose::from_code)?,
            via: content.via.as_deref().map_or(Some(Via::Webhook), Via::from_code)?,
        },
        caller: caller.and_then(|number| PhoneNumber::parse(&number).ok()),
        taken: content.taken,
        body: content.body.clone(),
        keep: content.keep_seconds.map_or(KEEP, Duration::from_secs),
    };
    Some((message, content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    use super::*;

    fn message(id: &str, caller: &str) -> Message {
        via(Via::Webhook, id, caller)
    }

    fn via(via: Via, id: &str, caller: &str) -> Message {
        Message {
            id: id.to_owned(),
            call: Some("CA1".to_owned()),
            to: Recipient { assistant: "clinic".to_owned(), purpose: Purpose::Message, via },
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
        assert_eq!(mode(&folder.join("msg_1.json")), 0o600);
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
        let (read, why) = &found.given_up[0];
        assert_eq!((why.as_str(), read.to.via), ("unknown", Via::Webhook));
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
        files.give_up(&message("msg_3", "+15550100007"), "gone").unwrap();
        files.mark_sending(&via(Via::Sms, "msg_5.sms", "+15550100007")).unwrap();
        assert_eq!(files.erase(&PhoneNumber::parse("+15550100007").unwrap()).unwrap(), 3);
        let found = files.read();
        let mut left: Vec<_> = found.waiting.into_iter().map(|message| message.id).collect();
        left.sort();
        assert_eq!((left, found.given_up.len()), (vec!["msg_2".to_owned(), "msg_4".to_owned()], 0));
    }

    #[test]
    fn a_file_says_what_an_older_version_must_not_deliver_and_what_may_have_been_sent() {
        let dir = tempfile::tempdir().unwrap();
        let files = MessageFiles::new(dir.path());
        let text = via(Via::Sms, "msg_1.sms", "+15550100007");
        files.put(&text).unwrap();
        assert!(files.has(&text));
        let names = fs::read_dir(dir.path().join("messages")).unwrap().flatten();
        // An older version reads what begins with `msg_`.
        assert!(names.map(|entry| entry.file_name()).all(|name| !name.to_str().unwrap().starts_with("msg_")));
        let counts = || {
            let found = files.read();
            (found.waiting.len(), found.unclear.len(), found.given_up.len())
        };
        assert_eq!(counts(), (1, 0, 0));
        files.mark_sending(&text).unwrap();
        assert_eq!(counts(), (0, 1, 0));
        files.put(&text).unwrap();
        assert_eq!(counts(), (1, 0, 0));
        files.give_up(&text, "opted_out").unwrap();
        let found = files.read();
        let (given_up, why) = &found.given_up[0];
        assert_eq!(
            (given_up.id.as_str(), given_up.to.via, why.as_str()),
            ("msg_1.sms", Via::Sms, "opted_out")
        );
        assert!(files.remove(&text).unwrap());
        assert_eq!(counts(), (0, 0, 0));
    }
}
