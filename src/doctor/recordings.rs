//! The places of recordings: the folder, and the bucket.

use super::{Findings, Net};
use crate::assistant::Roster;
use crate::disk;
use crate::problem::Problem;
use crate::problem::catalogue::Recording;
use crate::recording::Archive;
use crate::settings::Settings;

/// Puts a small object into the bucket and deletes it.
pub async fn probe(settings: &Settings, net: &Net) -> Findings {
    if settings.recordings.is_none() {
        return Vec::new().into();
    }
    let archive = Archive::new(None, settings.recordings.clone(), net.http.clone());
    let found = archive.probe().await.map_or_else(Recording::from, |()| Recording::Good);
    vec![Problem::setting("RECORDINGS_URL", found)].into()
}

/// The problem of each assistant that records calls while there is no folder for it.
pub fn without_folder(settings: &Settings, roster: &Roster) -> Vec<Problem> {
    let has_folder = settings.state_dir.as_deref().is_some_and(|dir| disk::try_to_write(dir).is_ok());
    if has_folder {
        return Vec::new();
    }
    let recorded = roster.iter().filter(|assistant| assistant.records_audio());
    recorded
        .map(|assistant| {
            let found = Recording::NoFolder { assistant: assistant.name().to_owned() };
            Problem::setting("STATE_DIR", found)
        })
        .collect()
}
