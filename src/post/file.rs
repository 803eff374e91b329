//! Lines of JSON in a file of the owner.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use crate::disk;

/// The path of a file below `state`. `None`: it leads out.
pub(super) fn path(state: &Path, file: &str) -> Option<PathBuf> {
    let file = Path::new(file);
    let is_below = file.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && file.file_name().is_some()).then(|| state.join(file))
}

/// Appends a line, unless one with its id is there. It is on the disk when this returns. A line that a crash cut off stays
/// one of its own.
pub(super) fn append(path: &Path, line: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    disk::create_private(folder)?;
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Another process may append, too. It is released with the file.
    file.lock()?;
    let missing = match find(&file, line)? {
        There::Whole => return Ok(()),
        There::WithoutEnd => "\n".to_owned(),
        There::Not if is_torn(&mut file)? => format!("\n{line}\n"),
        There::Not => format!("{line}\n"),
    };
    file.write_all(missing.as_bytes())?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// How much of a line is in a file.
enum There {
    Whole,
    WithoutEnd,
    Not,
}

fn find(file: &File, line: &str) -> io::Result<There> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let (own, mut read) = (id(line.as_bytes()), Vec::new());
    while reader.read_until(b'\n', &mut read)? > 0 {
        // Two processes may know more or less of the same call, and so have other words for it.
        let is_it = |text: &[u8]| text == line.as_bytes() || own.is_some() && id(text) == own;
        match read.strip_suffix(b"\n") {
            Some(whole) if is_it(whole) => return Ok(There::Whole),
            None if is_it(&read) => return Ok(There::WithoutEnd),
            _ => read.clear(),
        }
    }
    Ok(There::Not)
}

/// The id of what a line says. `None`: it is no whole line of ours.
fn id(line: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Event {
        id: String,
    }
    serde_json::from_slice::<Event>(line).ok().map(|event| event.id)
}

/// Whether the last line has no end.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_line_is_written_once_and_a_torn_one_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "orders/messages.jsonl").unwrap();
        append(&path, r#"{"id":"msg_1"}"#).unwrap();
        append(&path, r#"{"id":"msg_1"}"#).unwrap();
        append(&path, r#"{"id":"msg_1","data":"in other words"}"#).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A crash in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(br#"{"id":"ms"#).unwrap();
        append(&path, r#"{"id":"msg_2"}"#).unwrap();
        append(&path, r#"{"id":"msg_2"}"#).unwrap();
        let lines = "{\"id\":\"msg_1\"}\n{\"id\":\"ms\n{\"id\":\"msg_2\"}\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), lines);
        // All of its own line but the end.
        file.write_all(br#"{"id":"msg_3"}"#).unwrap();
        append(&path, r#"{"id":"msg_3"}"#).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{lines}{{\"id\":\"msg_3\"}}\n"));
    }

    #[test]
    fn a_file_is_below_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["", "..", "../x", "/etc/x", "a/../../x", "."] {
            assert_eq!(path(dir.path(), file), None, "{file}");
        }
        assert!(append(&dir.path().join("none"), "x").is_ok());
        fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(append(&dir.path().join("folder"), "x").is_err());
        symlink("/dev/null", dir.path().join("null")).unwrap();
        assert!(append(&dir.path().join("null"), "x").is_err(), "nothing would be kept");
    }
}
