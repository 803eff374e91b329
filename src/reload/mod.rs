//! The assistants in force, and what becomes of an edit.
//!
//! A folder comes whole, from the disk or from elsewhere; it is checked whole; then one `Arc` is swapped, or the
//! roster in force stays and every problem is said. Where folders come from and when to look is for the modules
//! below this one to know.

mod archive;
pub mod fetch;
mod places;
pub mod read;
mod remote;
mod settings;
mod stamps;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::Arc;
use std::{panic, thread};

use tokio::sync::watch as channel;

use crate::assistant::{Changes, Checked, Folder, Roster};
use crate::observe::reloaded;
use crate::problem::{self, Problem};
use crate::provider::Provider;

pub use archive::ArchiveError;
pub use remote::RemoteFolder;
pub use settings::SettingsFile;
pub use watch::{Pace, Watcher};

/// Owns the roster in force: it alone swaps it.
pub struct Keeper {
    roster: channel::Sender<Arc<Roster>>,
    standing: channel::Sender<Standing>,
    environment: Arc<BTreeMap<String, String>>,
    /// The first is the default.
    providers: Arc<[Arc<Provider>]>,
    /// What was said of the edit that is held back, line by line. Empty: none is.
    held_back: BTreeSet<String>,
    /// The warnings that were said; `None` before the first folder, whose warnings the start has said.
    warned: Option<BTreeSet<String>>,
}

/// What the check of a folder gave: its roster, how that differs from the one in force, and its warnings; or all that
/// is wrong.
type Verdict = Result<(Roster, Changes, Vec<Problem>), Vec<Problem>>;

/// How the roster in force stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// 1 at start, and one more with every swap.
    pub generation: u64,
    /// Errors of the edit that is held back; 0: none is.
    pub problems: usize,
}

/// What became of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied(Changes),
    /// It means what is in force already.
    Unchanged,
    /// It means what is in force already, and a bad edit was held back until now.
    Mended,
    /// It has errors, this many; the roster in force stays.
    HeldBack(usize),
}

impl Keeper {
    /// Keeps a roster that passed its check. Folders to come are checked with this environment and these providers,
    /// of which the first is the default.
    pub fn new(
        roster: Roster,
        environment: impl Into<Arc<BTreeMap<String, String>>>,
        providers: impl Into<Arc<[Arc<Provider>]>>,
    ) -> Keeper {
        Keeper {
            roster: channel::Sender::new(Arc::new(roster)),
            standing: channel::Sender::new(Standing { generation: 1, problems: 0 }),
            environment: environment.into(),
            providers: providers.into(),
            held_back: BTreeSet::new(),
            warned: None,
        }
    }

    /// The roster in force. A swap is complete when it shows here.
    pub fn roster(&self) -> channel::Receiver<Arc<Roster>> {
        self.roster.subscribe()
    }

    /// Generation and problems. A new generation shows here after its roster is in force.
    pub fn standing(&self) -> channel::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Checks a folder, or takes note of why there is none, and puts it in force if nothing is wrong with it. All of
    /// it is logged and counted here, once: the same folder again changes nothing and says nothing.
    pub async fn apply(&mut self, folder: Result<Folder, Vec<Problem>>) -> Outcome {
        let verdict = self.check(folder).await;
        self.settle(verdict)
    }

    /// The first half of [`Self::apply`]: nobody hears of it yet.
    async fn check(&self, folder: Result<Folder, Vec<Problem>>) -> Verdict {
        let (environment, providers) = (self.environment.clone(), self.providers.clone());
        let current = self.roster.borrow().clone();
        // The check takes a while, and calls share this runtime.
        let checked = tokio::task::spawn_blocking(move || {
            let (next, warnings) = check_to_serve(folder, &environment, &providers)?;
            let changes = current.changes(&next);
            Ok((next, changes, warnings))
        });
        let broke = |_| {
            let message =
                "the check of this folder broke down, which is a mistake in Switchboard; please report it";
            Err(vec![Problem::about("folder", "folder.check", message)])
        };
        checked.await.unwrap_or_else(broke)
    }

    /// The second half.
    fn settle(&mut self, verdict: Verdict) -> Outcome {
        match verdict {
            Ok((next, changes, warnings)) => self.sound(next, changes, &warnings),
            Err(problems) => self.hold_back(&problems),
        }
    }

    /// What would be worse than it is now: each problem, and each assistant that would be gone or lose a number.
    fn loses(&self, verdict: &Verdict) -> BTreeSet<String> {
        let next = match verdict {
            Ok((next, ..)) => next,
            Err(problems) => return problems.iter().map(Problem::line).collect(),
        };
        let numbers: BTreeSet<_> = next.iter().flat_map(|assistant| assistant.numbers()).collect();
        let rest = next.iter().any(|assistant| assistant.answers_the_rest());
        let current = self.roster.borrow();
        let lost = current.iter().filter(|assistant| {
            next.by_name(assistant.name()).is_none()
                || !assistant.numbers().iter().all(|number| numbers.contains(number))
                || (assistant.answers_the_rest() && !rest)
        });
        lost.map(|assistant| assistant.name().to_owned()).collect()
    }

    fn sound(&mut self, next: Roster, changes: Changes, warnings: &[Problem]) -> Outcome {
        let mended = !self.held_back.is_empty();
        let swap = !changes.is_empty();
        self.held_back.clear();
        let assistants = next.len();
        if swap {
            self.roster.send_replace(Arc::new(next));
        }
        if swap || mended {
            self.standing.send_modify(|standing| {
                standing.generation += u64::from(swap);
                standing.problems = 0;
            });
        }
        let lines: BTreeSet<String> = warnings.iter().map(Problem::line).collect();
        let known = self.warned.replace(lines.clone());
        let first = known.is_none() && !swap;
        let known = if first { lines } else { known.unwrap_or_default() };
        warnings.iter().filter(|warning| !known.contains(&warning.line())).for_each(reloaded::warned);
        if mended {
            reloaded::mended(swap);
        }
        match swap {
            true => {
                reloaded::applied(&changes, self.standing.borrow().generation, assistants);
                Outcome::Applied(changes)
            }
            false if mended => Outcome::Mended,
            false => Outcome::Unchanged,
        }
    }

    fn hold_back(&mut self, problems: &[Problem]) -> Outcome {
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        let lines: BTreeSet<String> = problems.iter().map(Problem::line).collect();
        if lines != self.held_back {
            let new = problems.iter().filter(|problem| !self.held_back.contains(&problem.line()));
            reloaded::held_back(new, errors);
            self.held_back = lines;
            self.standing.send_modify(|standing| standing.problems = errors);
        }
        Outcome::HeldBack(errors)
    }
}

/// The same as [`check`], where calls are to come: an assistant whose provider lacks its key is a problem too.
///
/// # Errors
/// All that is wrong, and what is odd, sorted by place.
pub fn check_to_serve(
    folder: Result<Folder, Vec<Problem>>,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    let (roster, warnings) = check(folder, environment, providers)?;
    let lacking = roster.without_key();
    if lacking.is_empty() { Ok((roster, warnings)) } else { Err(lacking) }
}

/// Checks a folder as a whole: the roster and what is odd about it.
///
/// # Errors
/// All that is wrong, and what is odd, sorted by place.
pub fn check(
    folder: Result<Folder, Vec<Problem>>,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    let checked = check_whole(&folder?, environment, providers);
    match checked.roster {
        Ok(roster) => Ok((roster, checked.warnings)),
        Err(mut problems) => {
            problems.extend(checked.warnings);
            problem::sort(&mut problems);
            Err(problems)
        }
    }
}

/// [`Roster::check`] on all processors: the files are shared out among as many threads.
pub fn check_whole(
    folder: &Folder,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
) -> Checked {
    /// Fewer files than this are checked sooner than a thread starts.
    const SHARE: usize = 16;
    Roster::check_by(folder, environment, providers, &|files, check| {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let share = files.len().div_ceil(processors).max(SHARE);
        thread::scope(|scope| {
            let mut shares = files.chunks(share);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> =
                shares.map(|share| scope.spawn(|| share.iter().map(check).collect::<Vec<_>>())).collect();
            let mut outcomes: Vec<_> = own.iter().map(check).collect();
            for other in others {
                // A check that broke down here breaks down where it was asked for.
                outcomes.extend(other.join().unwrap_or_else(|broke| panic::resume_unwind(broke)));
            }
            outcomes
        })
    })
}
