//! Points a number at the tunnel while it is open, and back afterwards.
//!
//! A file remembers the number's old settings. If the process is killed, the next tunnel points the number back.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::assistant::Roster;
use crate::disk;
use crate::link::quick_tunnel::is_tunnel;
use crate::link::twilio_rest::{Account, Change, NotSet, Number, RestError};
use crate::numbers::{self, Memory, Row, shown_url, whole_url};
use crate::phone::PhoneNumber;
use crate::settings::{NumberUrls, Settings};

/// The file in the state folder that remembers.
const FILE: &str = "tunnel.json";
/// Next to it, and never replaced: see [`Hold`].
const LOCK: &str = "tunnel.lock";

/// A number that points at the tunnel.
pub struct Pointed {
    /// Prints masked. Unknown if an earlier tunnel pointed it: no number is written to the disk.
    number: Option<PhoneNumber>,
    before: Before,
    file: PathBuf,
}

/// The right to point numbers, which one tunnel per state folder has at a time, until this is dropped.
pub struct Hold {
    folder: PathBuf,
    _lock: File,
}

impl Hold {
    /// Takes it.
    pub fn take(folder: &Path) -> Result<Self, PointError> {
        let open = || {
            disk::create_private(folder)?;
            OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(LOCK))
        };
        let lock = open().map_err(PointError::NotRemembered)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(PointError::Held),
            Err(TryLockError::Error(error)) => Err(PointError::NotRemembered(error)),
        }
    }

    /// Whether a tunnel has it. Creates nothing.
    pub fn is_taken(folder: &Path) -> bool {
        let lock = File::open(folder.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// A number's old settings, and ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    account: String,
    sid: String,
    voice_url: Option<String>,
    voice_method: String,
    status_callback: Option<String>,
    status_method: String,
    our_voice_url: String,
    our_status_callback: String,
}

/// Why a number was not pointed at the tunnel, or not back.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    #[error(
        "the number's settings cannot be saved in tunnel.json: {0}; set STATE_DIR to a folder that is writable"
    )]
    NotRemembered(io::Error),
    #[error("another tunnel of this folder is open; end it first, or set another STATE_DIR here")]
    Held,
    #[error(
        "tunnel.json has a number of another account, left behind by a killed tunnel; set TWILIO_ACCOUNT_SID and its \
         credentials to that account once more, so that the number is pointed back, or remove the file"
    )]
    OtherAccount,
    #[error("the number could not be pointed at the tunnel: {0}")]
    NotPointed(NotSet),
    #[error(
        "the number {number} still points at the closed tunnel: {error}. Run `switchboard serve --tunnel` once more, \
         which points it back, or set its voice URL back to {was} in Twilio's console"
    )]
    NotPointedBack { number: String, was: String, error: NotSet },
}

impl Pointed {
    /// Points the number at `public_url`, after saving its old settings.
    ///
    /// # Errors
    /// If it does not point there. It then has its old settings, as far as Twilio can be reached.
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
        let file = hold.folder.join(FILE);
        let saved = serde_json::to_vec(&before).map_err(io::Error::from);
        saved.and_then(|saved| disk::replace(&file, &saved)).map_err(PointError::NotRemembered)?;
        let mut pointed = Self { number: Some(owned.number.clone()), before, file };
        if let Err(error) = account.set_number(&owned.sid, &change).await {
            // If the answer was lost, the number may have been set.
            pointed.point_back(account).await?;
            return Err(PointError::NotPointed(error));
        }
        if owned.voice_url.as_deref().is_some_and(is_tunnel) {
            tracing::warn!(
                "The number pointed at another tunnel, which may be closed; that address is restored when the server ends"
            );
        }
        let was = pointed.was();
        tracing::info!(number = %owned.number, was, "Pointed the number at the tunnel until the server ends");
        Ok(pointed)
    }

    /// Whether a tunnel, open or killed, remembers a number here.
    pub fn is_left(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// The voice URL that a number had before the tunnel at which it points, if that is remembered here: without its
    /// password, or `None` for no URL.
    pub fn rang_before(folder: &Path, owned: &Number) -> Option<Option<String>> {
        let before: Before = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
        let is_it = before.sid == owned.sid && owned.voice_url.as_ref() == Some(&before.our_voice_url);
        is_it.then(|| before.voice_url.as_deref().map(whole_url))
    }

    /// The number that a killed tunnel left behind.
    pub fn left_behind(hold: &Hold, account: &Account) -> Result<Option<Self>, PointError> {
        let file = hold.folder.join(FILE);
        let Ok(text) = fs::read(&file) else { return Ok(None) };
        let Ok(before) = serde_json::from_slice::<Before>(&text) else {
            tracing::warn!("tunnel.json cannot be read and is ignored");
            return Ok(None);
        };
        if before.account != account.sid() {
            return Err(PointError::OtherAccount);
        }
        Ok(Some(Self { number: None, before, file }))
    }

    /// Gives the number its old settings again, except those that were changed meanwhile.
    pub async fn point_back(&mut self, account: &Account) -> Result<(), PointError> {
        if let Err(error) = self.try_point_back(account).await {
            let number = self.number.as_ref().map_or_else(|| self.before.sid.clone(), ToString::to_string);
            return Err(PointError::NotPointedBack { number, was: self.was(), error });
        }
        // If the file stays, the next tunnel finds nothing to do.
        let _ = fs::remove_file(&self.file);
        Ok(())
    }

    async fn try_point_back(&self, account: &Account) -> Result<(), NotSet> {
        let before = &self.before;
        let now = match account.number(&before.sid).await {
            Ok(now) => now,
            // Only this code is Twilio's own; any other 404 may come from a proxy.
            Err(RestError::Refused { status: 404, code: Some(20404) }) => {
                tracing::warn!("The number that pointed at the tunnel has left the account");
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
            tracing::info!(%number, "The number no longer points at the tunnel and is left as it is");
            return Ok(());
        }
        account.set_number(&before.sid, &change).await?;
        tracing::info!(%number, voice_url = self.was(), "Restored the number");
        Ok(())
    }

    fn was(&self) -> String {
        self.before.voice_url.as_deref().map_or_else(|| "nothing".to_owned(), shown_url)
    }
}
/// Where a tunnel remembers what its number called before.
pub fn state_dir(settings: &Settings) -> &Path {
    settings.state_dir.as_deref().unwrap_or(Path::new("."))
}

/// [`numbers::compare`], with what `tunnel.json` in `state` remembers.
pub fn compare(owned: Vec<Number>, roster: &Roster, urls: Option<&NumberUrls>, state: &Path) -> Vec<Row> {
    let remembered = |owned: &Number| {
        let before = Pointed::rang_before(state, owned)?;
        Some(Memory { open: Hold::is_taken(state), before })
    };
    numbers::compare(owned, roster, urls, &remembered)
}
