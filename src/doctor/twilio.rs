//! The account at Twilio and its numbers.

use super::answer::header;
use super::fix::Change;
use super::{Findings, Net, clock};
use crate::assistant::Roster;
use crate::link::network::ask;
use crate::link::twilio_rest::{Account, RestError, Status};
use crate::numbers::{self, Answered, Row};
use crate::problem::catalogue::{Number, Twilio as Found};
use crate::problem::{Problem, Subject};
use crate::settings::Settings;
use crate::tunnel::pointing::{compare, state_dir};

/// Checks the account and its numbers concurrently. `roster`: the folder in force, if it is known.
pub async fn probe(
    account: Option<&Account>,
    settings: &Settings,
    roster: Option<&Roster>,
    net: &Net,
) -> Findings {
    let Some(account) = account else { return vec![Problem::new(Found::NoCredentials)].into() };
    let address = format!("{}/2010-04-01", settings.twilio_api_url);
    let (standing, owned, root) =
        tokio::join!(account.standing(), account.numbers(), ask(net.http.get(address)));
    // Whoever answers in Twilio's place has a clock of its own.
    let root = root
        .ok()
        .filter(|answer| standing != Err(RestError::NotTwilio) && !header(answer, "date").is_empty());
    let clock = root.and_then(|answer| clock::reading(&answer.headers));
    let mut found = Findings {
        clocks: clock.map(|reading| ("Twilio".to_owned(), reading)).into_iter().collect(),
        ..Findings::default()
    };
    // A standard API key may do everything but look at the account itself.
    let has_key = settings.twilio_api_key.is_some() && settings.twilio_api_secret.is_some();
    let is_hidden = has_key && matches!(standing, Err(RestError::Refused { status: 401 | 403, .. }));
    match (&standing, &owned) {
        (Ok(standing), _) => found.problems.extend(of_standing(standing.status, standing.trial)),
        (Err(_), Ok(_)) if is_hidden => found.problems.push(Problem::new(Found::ApiKey)),
        (Err(_), Err(error)) if is_hidden => found.problems.push(of_error(error)),
        (Err(error), _) => found.problems.push(of_error(error)),
    }
    match (owned, roster) {
        (Err(error), _) if standing.is_ok() => {
            let what = Found::NotListed { error: error.to_string(), help: error.help() };
            found.problems.push(Problem::new(what));
        }
        (Err(_), _) => {}
        (Ok(_), None) => found.problems.push(Problem::new(Found::NotCompared)),
        (Ok(owned), Some(roster)) => {
            let urls = settings.number_urls().filter(|urls| numbers::unreachable(&urls.status).is_none());
            for row in compare(owned, roster, urls.as_ref(), state_dir(settings)) {
                found.problems.extend(of_row(&row, urls.is_some()));
                found.changes.extend(Change::of(&row));
            }
        }
    }
    found
}

fn of_standing(status: Status, trial: bool) -> Vec<Problem> {
    let status = match status {
        Status::Active if trial => None,
        Status::Active => Some(Found::Account),
        Status::Suspended => Some(Found::Suspended),
        Status::Closed => Some(Found::Closed),
        Status::Other => Some(Found::UnknownStatus),
    };
    status.into_iter().chain(trial.then_some(Found::Trial)).map(Problem::new).collect()
}

fn of_error(error: &RestError) -> Problem {
    let (text, help) = (error.to_string(), error.help());
    Problem::new(match error {
        RestError::Refused { status: 401 | 403 | 404, .. } => Found::Refused { error: text, help },
        _ => Found::Unreachable { error: text, help },
    })
}

/// `compared`: it is known what numbers should call.
fn of_row(row: &Row, compared: bool) -> Vec<Problem> {
    let mut found = row.problems.clone();
    if row.owned.is_some() && row.answered != Answered::ByNobody && found.is_empty() {
        let is = row.owned.as_ref().and_then(|owned| owned.voice_url.as_deref());
        found.push(match compared {
            true => Number::Right,
            false => Number::Unchecked { is: is.map_or("nothing".to_owned(), numbers::shown_url) },
        });
    }
    let subject = || Subject::Number(row.number.to_string());
    found.into_iter().map(|what| Problem::new(what).with_subject(subject())).collect()
}
