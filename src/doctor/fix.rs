//! What `--fix` may do: close `.env` to other users, and point listed numbers at this server.

use super::{Found, settings};
use crate::link::twilio_rest::{self, NotSet, Number};
use crate::numbers::{Answered, Row, whole_url};
use crate::problem::catalogue::{Doctor, What};
use crate::problem::{Problem, Severity};
use crate::settings::FILE;
use crate::terminal::notify;
use crate::workspace::ENV_FILE;

/// A change at Twilio that fixes a number.
pub struct Change {
    /// As it is before.
    owned: Number,
    change: twilio_rest::Change,
}

impl Change {
    /// Only of numbers that a file lists: what an application, a trunk or a tunnel answers may be so on purpose, and so may
    /// what only `*` answers.
    pub fn of(row: &Row) -> Option<Change> {
        let owned = row.owned.as_ref().filter(|owned| owned.voice && !owned.is_taken())?;
        let change = twilio_rest::Change { take_back: false, ..row.change.clone() };
        let is_listed = matches!(row.answered, Answered::ByEntry(_));
        (is_listed && !change.is_empty()).then(|| Change { owned: owned.clone(), change })
    }

    /// Old → new, in full, so that the owner can restore the old one.
    fn steps(&self) -> Vec<String> {
        let Change { owned, change } = self;
        let all = [
            ("voice URL", &owned.voice_url, &change.voice_url),
            ("fallback URL", &owned.fallback_url, &change.fallback_url),
            ("status callback", &owned.status_callback, &change.status_callback),
        ];
        let step = |(what, old, new): (&str, &Option<String>, &Option<String>)| {
            let old = old.as_deref().map_or("none".to_owned(), whole_url);
            Some(format!("{what}: {old} → {}", new.as_deref()?))
        };
        all.into_iter().filter_map(step).collect()
    }
}

/// How many findings `--fix` fixes.
pub fn fixable(found: &Found) -> usize {
    let numbers = if blocked(found).is_some() { 0 } else { found.changes.len() };
    usize::from(found.open_env_file) + numbers
}

/// The code of the finding for which the numbers are left alone: nobody would answer, or it is unclear who should.
fn blocked(found: &Found) -> Option<&'static str> {
    if found.has_tunnel {
        return Some("number.tunnel");
    }
    let blocks = |problem: &&Problem| {
        let matters = match problem.what() {
            What::Setting(_) | What::Public(_) | What::Function(_) | What::Twilio(_) | What::Doctor(_) => {
                true
            }
            What::File(_) => [ENV_FILE, FILE].contains(&problem.path()),
            _ => false,
        };
        problem.severity() == Severity::Error && matters
    };
    found.problems.iter().find(blocks).map(Problem::code)
}

/// Fixes what is safe to fix, after showing it.
pub async fn apply(found: &Found) -> Vec<Problem> {
    let mut done = Vec::new();
    if found.open_env_file {
        notify("Closing .env to other users of this machine …");
        done.push(match settings::close_env_file() {
            Ok(()) => Problem::new(Doctor::EnvFileClosed),
            Err(error) => Problem::new(Doctor::EnvFileOpen { error: error.to_string() }),
        });
    }
    let Some(account) = found.account.as_ref().filter(|_| !found.changes.is_empty()) else { return done };
    if let Some(because) = blocked(found) {
        done.push(Problem::new(Doctor::NumbersLeft { because }));
        return done;
    }
    for change in &found.changes {
        let number = &change.owned.number;
        let steps = change.steps();
        let shown: String = steps.iter().map(|step| format!("\n  {}", found.redactor.hide(step))).collect();
        notify(&format!("Setting {number} …{shown}"));
        let change_text = format!("{number}: {}", steps.join(", "));
        match account.set_number(&change.owned.sid, &change.change).await {
            Ok(()) => done.push(Problem::new(Doctor::NumberSet { change: change_text })),
            Err(why) => {
                let (help, stops) = match &why {
                    NotSet::Refused(error) => (error.help(), error.affects_all()),
                    NotSet::NotDone => ("try again, or set the number in Twilio's console", false),
                };
                let what = Doctor::NumberNotSet { change: change_text, why: why.to_string(), help };
                done.push(Problem::new(what));
                // The next one would fail the same way.
                if stops {
                    break;
                }
            }
        }
    }
    done
}
