//! The assistants in force, and what happens to an edit.
//!
//! A folder is read whole, from the disk or from a URL, and checked whole. If it passes, one `Arc` is swapped; if not,
//! the roster in force stays and every problem is logged. The modules below know where folders come from and when to
//! look.

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

use jiff::Timestamp;
use tokio::sync::watch as channel;

use crate::assistant::plan::RecordPolicy;
use crate::assistant::{Changes, Checked, Folder, Roster};
use crate::observe::reloaded;
use crate::problem::catalogue::ReadFolder;
use crate::problem::{self, Problem};
use crate::provider::Provider;

pub use archive::ArchiveError;
pub use remote::RemoteFolder;
pub use settings::SettingsFile;
pub use watch::{Pace, Watcher};

/// Owns the roster in force, and is the only one that swaps it.
pub struct Keeper {
    roster: channel::Sender<Arc<Roster>>,
    standing: channel::Sender<Standing>,
    edits: channel::Sender<Edits>,
    environment: Arc<BTreeMap<String, String>>,
    /// The first is the default.
    providers: Arc<[Arc<Provider>]>,
    /// What is kept of a call, where a file says nothing else.
    record: RecordPolicy,
    /// The logged problems of the rejected edit. Empty: no edit is rejected.
    rejected: Vec<Problem>,
    /// The logged warnings; `None` until the first folder.
    warned: Option<Vec<Problem>>,
}

/// A folder's roster, its changes to the one in force, and its warnings; or all its problems.
type Verdict = Result<(Roster, Changes, Vec<Problem>), Vec<Problem>>;

/// The state of the roster in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// 1 at start, and one more with every swap.
    pub generation: u64,
    /// How many errors the rejected edit has; 0: no edit is rejected.
    pub problems: usize,
}

/// The last edits, for people.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Everything that is wrong with the edit that is rejected now, warnings included.
    pub rejected: Vec<Problem>,
    /// When it was rejected.
    pub rejected_at: Option<Timestamp>,
    /// What the last swap changed, and when it was.
    pub applied: Option<(Timestamp, Changes)>,
    /// The warnings of the roster in force.
    pub warnings: Vec<Problem>,
}

impl Keeper {
    /// Keeps a roster that passed its check. Later folders are checked with this environment, these providers, of
    /// which the first is the default, and these defaults of what is kept.
    pub fn new(
        roster: Roster,
        environment: impl Into<Arc<BTreeMap<String, String>>>,
        providers: impl Into<Arc<[Arc<Provider>]>>,
        record: RecordPolicy,
    ) -> Keeper {
        Keeper {
            roster: channel::Sender::new(Arc::new(roster)),
            standing: channel::Sender::new(Standing { generation: 1, problems: 0 }),
            edits: channel::Sender::new(Edits::default()),
            environment: environment.into(),
            providers: providers.into(),
            record,
            rejected: Vec::new(),
            warned: None,
        }
    }

    /// The roster in force. A swap is complete when it shows here.
    pub fn roster(&self) -> channel::Receiver<Arc<Roster>> {
        self.roster.subscribe()
    }

    /// Shows a new generation only after its roster is in force.
    pub fn standing(&self) -> channel::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Shows an edit only after it is in force.
    pub fn edits(&self) -> channel::Receiver<Edits> {
        self.edits.subscribe()
    }

    /// Checks a folder, or the reasons why there is none, and puts it in force if it passes. Logs and counts the
    /// outcome once: the same folder again changes and logs nothing.
    pub async fn apply(&mut self, folder: Result<Folder, Vec<Problem>>) {
        let verdict = self.check(folder).await;
        self.settle(verdict);
    }

    /// The first half of [`Self::apply`], without effect.
    async fn check(&self, folder: Result<Folder, Vec<Problem>>) -> Verdict {
        let (environment, providers, record) =
            (self.environment.clone(), self.providers.clone(), self.record);
        let current = self.roster.borrow().clone();
        // The check takes a while, and calls share this runtime.
        let checked = tokio::task::spawn_blocking(move || {
            let (next, warnings) = check_to_serve(folder, &environment, &providers, record)?;
            let changes = current.changes(&next);
            Ok((next, changes, warnings))
        });
        let panicked = |_| Err(vec![Problem::file("folder", ReadFolder::Panicked)]);
        checked.await.unwrap_or_else(panicked)
    }

    /// The second half.
    fn settle(&mut self, verdict: Verdict) {
        match verdict {
            Ok((next, changes, warnings)) => self.accept(next, &changes, &warnings),
            Err(problems) => self.reject(&problems),
        }
    }

    /// Whether the folder has problems, or lacks an assistant or a number that is in force.
    fn takes_away(&self, verdict: &Verdict) -> bool {
        let Ok((next, ..)) = verdict else { return true };
        let numbers: BTreeSet<_> = next.iter().flat_map(|assistant| assistant.numbers()).collect();
        let rest = next.iter().any(|assistant| assistant.answers_the_rest());
        self.roster.borrow().iter().any(|assistant| {
            next.by_name(assistant.name()).is_none()
                || !assistant.numbers().iter().all(|number| numbers.contains(number))
                || (assistant.answers_the_rest() && !rest)
        })
    }

    fn accept(&mut self, next: Roster, changes: &Changes, warnings: &[Problem]) {
        let fixed = !self.rejected.is_empty();
        let swap = !changes.is_empty();
        self.rejected.clear();
        if swap {
            self.roster.send_replace(Arc::new(next));
        }
        if swap || fixed {
            self.standing.send_modify(|standing| {
                standing.generation += u64::from(swap);
                standing.problems = 0;
            });
            self.edits.send_modify(|edits| {
                (edits.rejected, edits.rejected_at) = (Vec::new(), None);
                if swap {
                    edits.applied = Some((Timestamp::now(), changes.clone()));
                }
                edits.warnings = warnings.to_vec();
            });
        }
        let known = match self.warned.take() {
            Some(known) => known,
            None if swap => Vec::new(),
            // The warnings of the roster in force were logged at start.
            None => warnings.to_vec(),
        };
        unknown(warnings, &known).for_each(reloaded::warned);
        self.warned = Some(warnings.to_vec());
        if fixed {
            reloaded::fixed(swap);
        }
        if swap {
            reloaded::applied(changes, self.standing.borrow().generation, &self.roster.borrow());
        }
    }

    fn reject(&mut self, problems: &[Problem]) {
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        let is_known = unknown(problems, &self.rejected).next().is_none();
        if !is_known || problems.len() != self.rejected.len() {
            reloaded::rejected(unknown(problems, &self.rejected), errors);
            self.rejected = problems.to_vec();
            self.standing.send_modify(|standing| standing.problems = errors);
            self.edits.send_modify(|edits| {
                (edits.rejected, edits.rejected_at) = (problems.to_vec(), Some(Timestamp::now()));
            });
        }
    }
}

/// The problems that are not among the known ones.
fn unknown<'a>(problems: &'a [Problem], known: &'a [Problem]) -> impl Iterator<Item = &'a Problem> {
    problems.iter().filter(|problem| !known.iter().any(|known| known.same_as(problem)))
}

/// Checks a folder as a whole for a server that takes calls, which needs the keys of its providers. Returns the roster
/// and warnings; or all problems and warnings, sorted by place.
pub fn check_to_serve(
    folder: Result<Folder, Vec<Problem>>,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
    record: RecordPolicy,
) -> Result<(Roster, Vec<Problem>), Vec<Problem>> {
    let checked = check_whole(&folder?, environment, providers, record);
    match checked.roster {
        Ok(roster) => match roster.without_key() {
            lacking if lacking.is_empty() => Ok((roster, checked.warnings)),
            lacking => Err(lacking),
        },
        Err(mut problems) => {
            problems.extend(checked.warnings);
            problem::sort(&mut problems);
            Err(problems)
        }
    }
}

/// [`Roster::check`] with the files divided among as many threads as there are processors.
pub fn check_whole(
    folder: &Folder,
    environment: &BTreeMap<String, String>,
    providers: &[Arc<Provider>],
    record: RecordPolicy,
) -> Checked {
    /// Checking fewer files than this takes less time than starting a thread.
    const SHARE: usize = 16;
    Roster::check_by(folder, environment, providers, record, &|files, check| {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let share = files.len().div_ceil(processors).max(SHARE);
        thread::scope(|scope| {
            let mut shares = files.chunks(share);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> =
                shares.map(|share| scope.spawn(|| share.iter().map(check).collect::<Vec<_>>())).collect();
            let mut outcomes: Vec<_> = own.iter().map(check).collect();
            for other in others {
                // A panic reaches the caller.
                outcomes.extend(other.join().unwrap_or_else(|payload| panic::resume_unwind(payload)));
            }
            outcomes
        })
    })
}
