//! The places of recordings: the folder, and the bucket.

use super::{Findings, Net};
use crate::assistant::{Facts, Roster};
use crate::disk;
use crate::phone::Party;
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
