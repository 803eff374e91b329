//! What `--fix` may do: close `.env` to other users, and point listed numbers at this server.

use super::{Found, settings};
use crate::link::twilio_rest::{self, NotSet, Number};
use crate::numbers::{self, Answered, Row};
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
        let steps = numbers::steps(&change.owned, &change.change);
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

#[cfg(test)]
mod tests {
    use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestServer, number};

    use super::*;
    use crate::assistant::{Folder, Roster};
    use crate::doctor::redact::Redactor;
    use crate::link::tls;
    use crate::link::twilio_rest::Account;
    use crate::numbers::compare;
    use crate::problem::catalogue::Public;
    use crate::provider::{OPENAI_REALTIME_URL, Provider};
    use crate::secret::Secret;
    use crate::settings::NumberUrls;
    use crate::yaml::SourceFile;

    const VOICE: &str = "https://phone.example.com/incoming-call";

    /// Tested here and not with the program: a number is never pointed at an address of this machine.
    #[tokio::test]
    async fn only_numbers_that_a_file_lists_are_set_and_only_if_the_server_answers() {
        let mut numbers: Vec<_> =
            (1..=4).map(|index| number(index, &format!("+1555010000{index}"))).collect();
        numbers[1]["voice_application_sid"] = format!("AP{:032}", 1).into();
        numbers[2]["voice_url"] = "https://four-random-words.trycloudflare.com/incoming-call".into();
        let twilio =
            RestServer::start(AccountOptions { numbers, ..AccountOptions::default() }).await.unwrap();
        let tls = tls::client_config(false, None).unwrap();
        let account = || Account::new(twilio.url(), ACCOUNT, ACCOUNT, Secret::new("12345"), &tls).unwrap();
        let files = [("desk", "[\"+15550100001\", \"+15550100002\", \"+15550100003\"]"), ("rest", "[\"*\"]")];
        let file = |(name, numbers): (&str, &str)| {
            let text = format!("numbers: {numbers}\ninstructions: You answer the phone.\n");
            SourceFile::new(format!("assistants/{name}.yaml"), text)
        };
        let folder = Folder { assistants: files.map(file).to_vec(), ..Folder::default() };
        let provider = Provider::openai(OPENAI_REALTIME_URL, None);
        let roster = Roster::check(&folder, &Default::default(), &[provider.into()]).roster.unwrap();
        let status = "https://phone.example.com/call-status".to_owned();
        let urls = NumberUrls { voice: VOICE.to_owned(), fallback: None, status };
        let rows = compare(account().numbers().await.unwrap(), &roster, Some(&urls), &|_| None);
        let mut found = Found {
            problems: vec![Problem::new(Public::OpenStream)],
            redactor: Redactor::default(),
            account: Some(account()),
            changes: rows.iter().filter_map(Change::of).collect(),
            open_env_file: false,
            has_tunnel: false,
        };
        let done = apply(&found).await;
        assert_eq!((fixable(&found), twilio.changes().len()), (0, 0), "{done:?}");
        found.problems.clear();
        assert_eq!(fixable(&found), 1);
        let done = apply(&found).await;
        assert!(matches!(&done[..], [set] if set.severity() == Severity::Ok), "{done:?}");
        assert!(!done[0].message().contains("5550100001"), "{done:?}");
        let is_set = |number: &serde_json::Value| number["voice_url"] == VOICE;
        assert_eq!(twilio.numbers().iter().map(is_set).collect::<Vec<_>>(), [true, false, false, false]);
    }
}
