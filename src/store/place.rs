//! Where the settings say that the store is.

use super::Place;
use crate::settings::{Database, Settings};

impl Place {
    /// Where the records of these settings are. The folder of a SQLite file may not exist.
    pub fn of(settings: &Settings) -> Self {
        match settings.database() {
            Some(Database::Sqlite(path)) => Self::Sqlite(path),
            Some(Database::Postgres(url)) => Self::Postgres(url),
            None => Self::Memory,
        }
    }
}
