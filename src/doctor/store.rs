//! The database of the records. Nothing in it is changed.

use super::{Findings, settings as here};
use crate::problem::catalogue::Store as Found;
use crate::problem::{Problem, counted};
use crate::settings::Settings;
use crate::store::probe::{self, Wrong};
use crate::store::{Place, StoreError};

/// Opens the database and looks at what it holds.
pub async fn probe(settings: &Settings) -> Findings {
    let place = Place::of(settings);
    if here::has_no_file(settings) {
        return Vec::new().into();
    }
    let kind = match place {
        Place::Memory => return Vec::new().into(),
        Place::Sqlite(_) => "a SQLite file",
        Place::Postgres(_) => "PostgreSQL",
    };
    let found = match probe::look(&place).await {
        Ok(None) => Found::New { kind },
        Ok(Some(contents)) => match contents.oldest {
            Some(oldest) => Found::Good {
                kind,
                calls: counted(contents.calls.try_into().unwrap_or(usize::MAX), "call"),
                oldest: oldest.strftime("%Y-%m-%d").to_string(),
            },
            None => Found::Empty { kind },
        },
        Err(Wrong::Login) => Found::Login,
        Err(Wrong::NoDatabase) => Found::NoDatabase,
        Err(Wrong::ReadOnly) => Found::ReadOnly { kind },
        Err(Wrong::Future(unknown)) => Found::Future { unknown },
        Err(Wrong::Other(StoreError::Slow(limit))) => Found::Slow { seconds: limit.as_secs() },
        Err(Wrong::Other(error)) => Found::Broken { error: error.to_string() },
    };
    vec![Problem::setting("DATABASE_URL", found)].into()
}
