//! A number that rings the tunnel for as long as it stands, and rings afterwards what it rang before.
//!
//! What it rang before is remembered on the disk: a process that is killed puts nothing back, and the next tunnel
//! does it in its place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::link::twilio_rest::{Account, Change, NotSet, Number, RestError};
use crate::numbers::{Row, shown_url, whole_url};
use crate::phone::PhoneNumber;
use crate::tunnel::is_tunnel;

/// Where it is remembered, in the folder for state or, without one, where the program was started.
const FILE: &str = "tunnel.json";
/// Beside it, never replaced: see [`Hold`].
const LOCK: &str = "tunnel.lock";
/// How often a question is asked that is not answered.
const MOST_QUESTIONS: usize = 3;

/// A number that rings the tunnel.
pub struct Pointed {
    /// Prints masked. Not known of what a tunnel of before left behind: no number is written to the disk.
    number: Option<PhoneNumber>,
    before: Before,
    file: PathBuf,
}

/// The right to point numbers from a folder for state: one tunnel has it at a time, for as long as this lives.
pub struct Hold {
    folder: PathBuf,
    _lock: File,
}

impl Hold {
    /// Takes it.
    ///
    /// # Errors
    /// [`PointError::Held`]: another tunnel has it.
    pub fn take(folder: &Path) -> Result<Self, PointError> {
        let open = || {
            fs::create_dir_all(folder)?;
            OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(LOCK))
        };
        let lock = open().map_err(PointError::NotRemembered)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(PointError::Held),
            Err(TryLockError::Error(error)) => Err(PointError::NotRemembered(error)),
        }
    }

    /// Whether a tunnel has it at this moment. Nothing is made where there is none.
    pub fn is_taken(folder: &Path) -> bool {
        let lock = File::open(folder.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// What a number was set to, and to what we set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    /// Whose number it is.
    account: String,
    sid: String,
    voice_url: Option<String>,
    voice_method: String,
    status_callback: Option<String>,
    status_method: String,
    our_voice_url: String,
    our_status_callback: String,
}

/// Why a number does not ring the tunnel, or still does.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    #[error(
        "what the number rings now cannot be remembered in tunnel.json: {0}; set STATE_DIR to a folder that can be written to"
    )]
    NotRemembered(io::Error),
    #[error("another tunnel of this folder is open: end it first, or set another STATE_DIR here")]
    Held,
    #[error(
        "tunnel.json tells of a number of another account, which a tunnel that was killed left behind: set \
         TWILIO_ACCOUNT_SID and its credentials to those once more, so that it is put back; or remove that file"
    )]
    OtherAccount,
    #[error("the number could not be pointed at the tunnel: {0}")]
    NotPointed(NotSet),
    #[error(
        "the number {number} still rings the tunnel, which is gone: {error}. Start `switchboard serve --tunnel` once more, \
         which puts it back, or set its voice URL back to {was} in Twilio's console"
    )]
    NotPutBack { number: String, was: String, error: NotSet },
}

/// Why a number cannot ring the tunnel, without the number; `None`: it can.
pub fn obstacle(row: Option<&Row>) -> Option<&'static str> {
    let Some(Row { owned: Some(owned), answered, .. }) = row else {
        return Some("the account does not own it; `switchboard numbers list` shows what it owns");
    };
    if answered.assistant().is_none() {
        return Some("no assistant answers it: write it into `numbers` of its file");
    }
    if !owned.voice {
        return Some("it has no voice capability: it cannot be called");
    }
    let why = "a TwiML application or a SIP trunk answers it: take that off it in Twilio's console first";
    owned.is_taken().then_some(why)
}

/// Why none of these can ring the tunnel, as a log may have it: numbers are masked. `None`: one can.
pub fn no_choice(rows: &[Row]) -> Option<String> {
    /// More than so many say no more.
    const MOST: usize = 5;
    if rows.iter().any(|row| obstacle(Some(row)).is_none()) {
        return None;
    }
    let (mut owned, mut more) = (Vec::new(), Vec::new());
    let mut is_answered = false;
    for row in rows {
        let number = &row.number;
        match (row.answered.assistant(), obstacle(Some(row))) {
            (Some(name), Some(why)) if row.owned.is_some() => {
                is_answered = true;
                more.push(format!("{number} is `{name}`'s, and {why}"));
            }
            // Nobody waits for an example's number to ring.
            (Some(name), _) if !number.is_example() => {
                more.push(format!("`{name}` has {number}, which is not the account's"));
            }
            _ => {}
        }
        owned.extend(row.owned.is_some().then(|| number.to_string()));
    }
    let mut told = match is_answered {
        true => "No number of the account can ring the tunnel".to_owned(),
        false => "No number of the account is answered by an assistant".to_owned(),
    };
    let left = owned.len().saturating_sub(MOST);
    owned.truncate(MOST);
    let and_more = if left > 0 { format!(" and {left} more") } else { String::new() };
    told += &match owned.is_empty() {
        true => ": the account has no number".to_owned(),
        false => format!(": the account has {}{and_more}", owned.join(", ")),
    };
    more.iter().take(MOST).for_each(|more| told += &format!("; {more}"));
    Some(told + ". `switchboard numbers list` shows them in full")
}

/// Asks which of these numbers is to ring the tunnel. Numbers stand there in full: it is their owner who is asked.
///
/// # Errors
/// When nothing can be read or written.
pub fn ask<'a>(
    rows: &'a [Row],
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Option<&'a Row>> {
    let rows: Vec<&Row> = rows.iter().filter(|row| obstacle(Some(row)).is_none()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    writeln!(output, "Which number is to ring this machine, until this ends?")?;
    for (index, row) in rows.iter().enumerate() {
        let is = row.owned.as_ref().and_then(|owned| owned.voice_url.as_deref());
        let is = is.map_or_else(|| "nothing".to_owned(), whole_url);
        let name = row.answered.assistant().unwrap_or_default();
        writeln!(output, "  {}  {} ({name}), which rings {is}", index + 1, row.number.expose())?;
    }
    for _ in 0..MOST_QUESTIONS {
        let places = if rows.len() > 1 { format!("1 to {}", rows.len()) } else { "1".to_owned() };
        write!(output, "{places}, or Enter for none: ")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(None);
        }
        let answer = line.trim();
        let yes = rows.len() == 1 && matches!(answer.to_lowercase().as_str(), "y" | "yes");
        let chosen = if yes { Some(1) } else { answer.parse::<usize>().ok() };
        if let Some(row) = chosen.and_then(|chosen| rows.get(chosen.checked_sub(1)?)) {
            return Ok(Some(row));
        }
        writeln!(output, "That is none of them.")?;
    }
    Ok(None)
}

impl Pointed {
    /// Has the number ring `public_url`. What it rang before is remembered first.
    ///
    /// # Errors
    /// When it does not; it then rings what it rang, as far as Twilio can be asked.
    pub async fn point(
        account: &Account,
        owned: &Number,
        public_url: &str,
        hold: &Hold,
    ) -> Result<Self, PointError> {
        let before = Before {
            account: account.sid().to_owned(),
            sid: owned.sid.clone(),
            voice_url: owned.voice_url.clone(),
            voice_method: owned.voice_method.clone(),
            status_callback: owned.status_callback.clone(),
            status_method: owned.status_method.clone(),
            our_voice_url: format!("{public_url}/incoming-call"),
            our_status_callback: format!("{public_url}/call-status"),
        };
        let change = Change {
            voice_url: Some(before.our_voice_url.clone()),
            status_callback: Some(before.our_status_callback.clone()),
            ..Change::default()
        };
        let before_url = owned.voice_url.as_deref();
        let file = hold.folder.join(FILE);
        // Remembered first: whatever ends us from here on, it can be put back.
        remember(&file, &before).map_err(PointError::NotRemembered)?;
        let mut pointed = Self { number: Some(owned.number.clone()), before, file };
        if let Err(error) = account.set_number(&owned.sid, &change).await {
            // An answer that was lost may have been a yes.
            pointed.put_back(account).await?;
            return Err(PointError::NotPointed(error));
        }
        if before_url.is_some_and(is_tunnel) {
            tracing::warn!(
                "The number rang another tunnel: afterwards it rings that again, which may be gone"
            );
        }
        let was = pointed.was();
        tracing::info!(number = %owned.number, was, "A number rings the tunnel until this ends");
        Ok(pointed)
    }

    /// Whether a tunnel of before left something behind, or one that is open will.
    pub fn is_left(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// What the number rang before the tunnel that it rings, where that is remembered: an address without its password,
    /// or, within, `None` for nothing.
    pub fn rang_before(folder: &Path, owned: &Number) -> Option<Option<String>> {
        let before: Before = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
        let is_it = before.sid == owned.sid && owned.voice_url.as_ref() == Some(&before.our_voice_url);
        is_it.then(|| before.voice_url.as_deref().map(whole_url))
    }

    /// What a tunnel of before left behind, where it was killed.
    ///
    /// # Errors
    /// [`PointError::OtherAccount`].
    pub fn left_behind(hold: &Hold, account: &Account) -> Result<Option<Self>, PointError> {
        let file = hold.folder.join(FILE);
        let Ok(text) = fs::read(&file) else { return Ok(None) };
        let Ok(before) = serde_json::from_slice::<Before>(&text) else {
            tracing::warn!("tunnel.json cannot be read: what it says is not put back");
            return Ok(None);
        };
        if before.account != account.sid() {
            return Err(PointError::OtherAccount);
        }
        Ok(Some(Self { number: None, before, file }))
    }

    /// Has the number ring again what it rang, unless somebody has set it to something else meanwhile.
    ///
    /// # Errors
    /// When it still rings the tunnel, as far as is known.
    pub async fn put_back(&mut self, account: &Account) -> Result<(), PointError> {
        let done = self.try_put_back(account).await;
        match done {
            Ok(()) => {
                // One that stays is looked at by the next tunnel, which finds nothing to do.
                let _ = fs::remove_file(&self.file);
                Ok(())
            }
            Err(error) => {
                let number =
                    self.number.as_ref().map_or_else(|| self.before.sid.clone(), ToString::to_string);
                Err(PointError::NotPutBack { number, was: self.was(), error })
            }
        }
    }

    async fn try_put_back(&self, account: &Account) -> Result<(), NotSet> {
        let before = &self.before;
        let now = match account.number(&before.sid).await {
            Ok(now) => now,
            // Twilio's own word for it: any other 404 may be of something that answers in its place.
            Err(RestError::Refused { status: 404, code: Some(20404) }) => {
                tracing::warn!("The number that rang the tunnel is not in the account any more");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut change = Change::default();
        if now.voice_url.as_deref() == Some(before.our_voice_url.as_str()) {
            change.voice_url = Some(before.voice_url.clone().unwrap_or_default());
            change.voice_method = Some(before.voice_method.clone());
        }
        if now.status_callback.as_deref() == Some(before.our_status_callback.as_str()) {
            change.status_callback = Some(before.status_callback.clone().unwrap_or_default());
            change.status_method = Some(before.status_method.clone());
        }
        let number = &now.number;
        if change.is_empty() {
            tracing::info!(%number, "The number rings something else already: it is left as it is");
            return Ok(());
        }
        account.set_number(&before.sid, &change).await?;
        tracing::info!(%number, rings = self.was(), "The number rings again what it rang before the tunnel");
        Ok(())
    }

    fn was(&self) -> String {
        self.before.voice_url.as_deref().map_or_else(|| "nothing".to_owned(), shown_url)
    }
}

/// Written whole, or not at all: it is put in place by its name. For nobody else's eyes: addresses may hold keys.
fn remember(file: &Path, before: &Before) -> io::Result<()> {
    let unfinished = file.with_extension("unfinished");
    // What an earlier write left may be readable for others.
    let _ = fs::remove_file(&unfinished);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    new.write_all(&serde_json::to_vec(before)?)?;
    new.sync_all()?;
    fs::rename(&unfinished, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Answered;

    fn row(number: &str, assistant: Option<&str>, taken: bool) -> Row {
        let number = PhoneNumber::parse(number).unwrap();
        let owned = Number {
            sid: "PN1".to_owned(),
            number: number.clone(),
            friendly_name: String::new().into(),
            voice: true,
            voice_url: Some("https://old.example.com/voice".to_owned()),
            voice_method: "POST".to_owned(),
            fallback_url: None,
            fallback_method: "POST".to_owned(),
            status_callback: None,
            status_method: "POST".to_owned(),
            application: None,
            trunk: taken.then(|| "TK1".to_owned()),
        };
        let answered = assistant.map_or(Answered::ByNobody, |name| Answered::ByEntry(name.to_owned()));
        Row { number, owned: Some(owned), answered, findings: Vec::new(), change: Change::default() }
    }

    #[test]
    fn the_owner_is_asked_for_one_of_what_can_ring() {
        let rows = [
            row("+15550100001", Some("desk"), false),
            row("+15550100002", None, false),
            row("+15550100003", Some("desk"), true),
            row("+15550100004", Some("clinic"), false),
        ];
        for (typed, expected) in [
            ("2\n", Some("+15550100004")),
            (" 1 \n", Some("+15550100001")),
            ("\n", None),
            ("", None),
            ("0\n3\n2\n", Some("+15550100004")),
            ("x\nx\nx\n1\n", None),
        ] {
            let mut asked = Vec::new();
            let chosen = ask(&rows, &mut typed.as_bytes(), &mut asked).unwrap();
            assert_eq!(chosen.map(|row| row.number.expose()), expected, "{typed:?}");
            let asked = String::from_utf8(asked).unwrap();
            assert!(
                asked.contains("  2  +15550100004 (clinic), which rings https://old.example.com/voice"),
                "{asked}"
            );
            assert!(!asked.contains("+15550100002") && !asked.contains("+15550100003"), "{asked}");
        }
        for (typed, is_chosen) in [("y\n", true), ("Yes\n", true), ("n\n\n", false), ("2\n1\n", true)] {
            let chosen = ask(&rows[..1], &mut typed.as_bytes(), &mut Vec::new()).unwrap();
            assert_eq!(chosen.is_some(), is_chosen, "{typed:?}");
        }
        let mut asked = Vec::new();
        assert!(ask(&rows[1..3], &mut "1\n".as_bytes(), &mut asked).unwrap().is_none());
        assert!(asked.is_empty(), "nobody is asked for one of none");
    }

    #[test]
    fn why_none_can_ring_is_said_without_a_number() {
        let not_owned = |number: &str, name: &str| Row { owned: None, ..row(number, Some(name), false) };
        let mut no_voice = row("+15550100005", Some("desk"), false);
        no_voice.owned.as_mut().unwrap().voice = false;
        let bare = "No number of the account is answered by an assistant: the account has ";
        for (rows, expected) in [
            (vec![row("+15550100001", Some("desk"), false), row("+15550100002", None, false)], None),
            (vec![], Some(format!("{bare}no number"))),
            (vec![row("+15550100001", None, false)], Some(format!("{bare}+1555•••01"))),
            (
                vec![
                    row("+15550100001", None, false),
                    row("+15550100002", None, false),
                    not_owned("+15550100003", "clinic"),
                    not_owned("+12025550199", "personal"),
                ],
                Some(format!(
                    "{bare}+1555•••01, +1555•••02; `personal` has +1202•••99, which is not the account's"
                )),
            ),
            (
                vec![no_voice],
                Some(
                    "No number of the account can ring the tunnel: the account has +1555•••05; +1555•••05 is \
                     `desk`'s, and it has no voice capability: it cannot be called"
                        .to_owned(),
                ),
            ),
        ] {
            let expected = expected.map(|told| told + ". `switchboard numbers list` shows them in full");
            assert_eq!(no_choice(&rows), expected);
        }
        let many: Vec<Row> = (10..20).map(|end| row(&format!("+155501000{end}"), None, false)).collect();
        let told = no_choice(&many).unwrap();
        assert!(told.contains("+1555•••14 and 5 more.") && !told.contains("•••15"), "{told}");
    }
}
