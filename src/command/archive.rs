//! The store of the settings, as commands open and list it: what exists, beside a server that may run.

use anyhow::anyhow;
use clap::Args;

use crate::problem::Problem;
use crate::settings::Settings;
use crate::store::{Place, Store};
use crate::terminal::{Failure, Format};
use crate::workspace::Workspace;

/// The options of a command that lists what is in the store.
#[derive(Debug, Args)]
pub(super) struct Listing {
    /// The most to list
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// The store of the settings, if there is one.
pub(super) struct Archive {
    pub settings: Settings,
    pub place: Place,
    /// `None`: no call was recorded yet.
    pub store: Option<Store>,
}

impl Archive {
    /// Opens what exists, and creates nothing.
    pub async fn open() -> Result<Self, Failure> {
        let workspace = Workspace::read();
        // An error elsewhere, such as in a key of the model, takes away no call.
        let of_store = |problem: &&Problem| {
            problem
                .of_setting()
                .is_some_and(|name| ["STATE_DIR", "DATABASE_URL", "RECORDINGS_URL"].contains(&name))
        };
        let problems: Vec<Problem> = workspace.problems.iter().filter(of_store).cloned().collect();
        if problems.iter().any(Problem::is_error) {
            return Err(problems.into());
        }
        let settings = workspace.settings;
        let place = Place::of(&settings);
        let store = match &place {
            Place::Memory => {
                return Err(anyhow!(
                    "the records are only in the server's memory, where no other program can read them: set STATE_DIR or \
                     DATABASE_URL"
                )
                .into());
            }
            Place::Sqlite(path) if !path.exists() => None,
            Place::Sqlite(_) | Place::Postgres(_) => {
                Some(Store::open_as_it_is(&place).await.map_err(anyhow::Error::from)?)
            }
        };
        Ok(Self { settings, place, store })
    }

    /// That there are no records, and where they would be.
    pub fn nothing(&self) -> String {
        format!("There are no records yet: {} does not exist. `switchboard serve` creates it.", self.place)
    }
}
