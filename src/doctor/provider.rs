//! The models that assistants use: a session of each is begun as a call begins it, and closed again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::answer::{describe, is_page};
use super::{Findings, Net, clock};
use crate::assistant::plan::{Nothing, Plan};
use crate::assistant::{Facts, Roster};
use crate::link::model::{NotConnected, probe as begin_session};
use crate::problem::catalogue::Provider as Found;
use crate::problem::{Problem, Subject, Suggestion};
use crate::provider::{Cause, Provider, Shutdown, Transcribing};
use crate::settings::Settings;

/// A shutdown within so many days is a warning.
const SOON_DAYS: i64 = 120;

/// A session that takes longer to begin is too slow: the caller would wait in silence.
const SLOW: Duration = Duration::from_secs(3);

/// A model that some assistants use.
#[derive(Debug, Clone)]
pub struct Used {
    pub provider: Arc<Provider>,
    model: String,
    transcribers: Vec<String>,
    /// Whether all who use it have the provider's host call MCP servers.
    hosts: bool,
}

impl Used {
    pub fn host(&self) -> String {
        let url = url::Url::parse(&self.provider.url).ok();
        match url.as_ref().and_then(|url| Some((url.host_str()?, url.port()))) {
            Some((host, Some(port))) => format!("{host}:{port}"),
            Some((host, None)) => host.to_owned(),
            None => self.provider.name.clone(),
        }
    }

    fn describe(&self) -> String {
        format!("`{}` at {}", self.model, self.host())
    }

    fn problem(&self, what: Found) -> Problem {
        Problem::new(what).with_subject(Subject::Server(self.host()))
    }
}

/// Every model that the folder uses; without a folder, the default one.
pub fn used(roster: Option<&Roster>, settings: &Settings) -> Vec<Used> {
    let mut found: BTreeMap<(String, String), Used> = BTreeMap::new();
    for assistant in roster.into_iter().flat_map(Roster::iter) {
        // An assistant that cannot be rendered is a problem of the folder.
        let Ok(plan) = assistant.plan(&Facts::nobody(Timestamp::now()), &Nothing) else { continue };
        let plan = Arc::new(plan);
        for endpoint in 0..plan.endpoints() {
            let Plan { provider, model, transcription, hosted, .. } = Plan::clone(plan.at(endpoint));
            let used = found.entry((provider.name.clone(), model.clone())).or_insert_with(|| Used {
                provider,
                model,
                transcribers: Vec::new(),
                hosts: true,
            });
            used.hosts &= !hosted.is_empty();
            used.transcribers.extend(transcription.map(|transcription| transcription.model));
        }
    }
    if found.is_empty() {
        let provider = Arc::new(settings.provider());
        let model = provider.default_model().to_owned();
        return vec![Used { provider, model, transcribers: Vec::new(), hosts: false }];
    }
    let mut found: Vec<Used> = found.into_values().collect();
    for used in &mut found {
        used.transcribers.sort();
        used.transcribers.dedup();
    }
    found
}

/// What is known of the models without asking anybody, on this day.
pub fn known(used: &Used, today: Date) -> Vec<Problem> {
    let mut found = Vec::new();
    let provider = &used.provider;
    match provider.model(&used.model) {
        Some(model) => found.extend(shutdown(&used.model, model.shutdown.as_ref(), today)),
        None if !provider.abilities.models.is_empty() => {
            let known = provider.abilities.models.iter().map(|model| &*model.name);
            let help = Suggestion::new(&used.model, known).to_string();
            found.push(Found::Unknown { model: used.describe(), help });
        }
        None => {}
    }
    if let Transcribing::Named(known) = &provider.abilities.transcription {
        for name in &used.transcribers {
            let known = known.iter().find(|known| known.name == **name);
            found.extend(shutdown(name, known.and_then(|known| known.shutdown.as_ref()), today));
        }
    }
    found.into_iter().map(|what| used.problem(what)).collect()
}

/// A model with an announced last day.
fn shutdown(model: &str, shutdown: Option<&Shutdown>, today: Date) -> Option<Found> {
    let (day, next) = shutdown?;
    let (model, day, next) = (model.to_owned(), day.to_string(), next.to_string());
    let last = Date::strptime("%d %B %Y", &day).ok()?;
    Some(match last.duration_since(today).as_hours() / 24 {
        ..0 => Found::ShutDown { model, day, next },
        days @ 0..=SOON_DAYS => Found::ShutsDown { model, day, days, next },
        _ => Found::ShutsDownLater { model, day, next },
    })
}

/// Begins a session of the model, and closes it.
pub async fn probe(used: &Used, net: &Net) -> Findings {
    if used.provider.lacks_key() {
        let what = Found::KeyMissing { provider: used.provider.name.clone() };
        return vec![used.problem(what)].into();
    }
    let probe = begin_session(&used.provider, &used.model, used.hosts, net.tls.clone()).await;
    let what = match probe.outcome {
        Ok(()) => session(used.describe(), probe.took),
        Err(why) => not_connected(used.describe(), &why),
    };
    let clocks = clock::reading(&probe.headers).map(|reading| (used.host(), reading)).into_iter().collect();
    Findings { problems: vec![used.problem(what)], clocks, ..Findings::default() }
}

/// A call waits no longer than its caller does.
fn session(model: String, took: Duration) -> Found {
    match took < SLOW {
        true => Found::Session { model },
        false => Found::Slow { model, seconds: took.as_secs_f64() },
    }
}

fn not_connected(model: String, why: &NotConnected) -> Found {
    let failure = why.failure();
    match (why, failure.cause) {
        (NotConnected::Network(fault), _) => {
            Found::Unreachable { model, fault: fault.to_string(), help: fault.help() }
        }
        (NotConnected::Late { garbage: 0 }, _) => Found::Late { model },
        (NotConnected::BadFrame | NotConnected::Late { .. }, _) => Found::Invalid { model },
        (NotConnected::Misconfigured(code), _) => Found::Error { model, code: code.clone() },
        // What answers with a page is not the provider, whatever its status says.
        (NotConnected::Refused(answer), _) if answer.status != 401 && is_page(answer) => {
            Found::Page { model, answer: describe(answer) }
        }
        (NotConnected::Refused(_), Some(Cause::Model)) if failure.code.is_none() => Found::NotFound { model },
        (NotConnected::BadKey, _) | (_, Some(Cause::Key)) => Found::Key { model },
        (_, Some(Cause::Region)) => Found::Region { model },
        (_, Some(Cause::Credit)) => Found::Credit { model },
        (_, Some(Cause::AccountClosed)) => Found::AccountClosed { model },
        (_, Some(Cause::Model)) => Found::Model { model },
        (_, Some(Cause::BetaApi)) => Found::BetaApi { model },
        (_, Some(Cause::RateLimit)) => Found::RateLimit { model },
        (NotConnected::Closed { code, .. }, _) => {
            Found::Closed { model, code: code.map_or("no code".to_owned(), |code| code.to_string()) }
        }
        (_, Some(Cause::ServerError | Cause::Conflict)) => Found::ServerError { model },
        (NotConnected::Refused(answer), _) => Found::Answered { model, answer: describe(answer) },
        (NotConnected::Error(_), _) => {
            Found::Error { model, code: failure.code.as_deref().unwrap_or("no code").to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Severity;
    use crate::provider::OPENAI_REALTIME_URL;

    #[test]
    fn the_shutdown_of_a_model_is_reported_by_the_day() {
        for (what, model, transcriber, today, expected) in [
            ("it stays", "gpt-realtime-2.1", "gpt-transcribe", (2026, 11, 23), None),
            ("in two months", "gpt-realtime", "gpt-transcribe", (2026, 11, 23), Some(Severity::Warning)),
            ("far away", "gpt-realtime", "gpt-transcribe", (2026, 6, 1), Some(Severity::Note)),
            ("on its last day", "gpt-realtime", "gpt-transcribe", (2027, 1, 20), Some(Severity::Warning)),
            ("gone", "gpt-realtime", "gpt-transcribe", (2027, 1, 21), Some(Severity::Error)),
            ("the transcriber", "gpt-realtime-2.1", "whisper-1", (2027, 2, 1), Some(Severity::Warning)),
            ("unknown", "gpt-realtime-9", "gpt-transcribe", (2026, 11, 23), Some(Severity::Warning)),
        ] {
            let used = Used {
                provider: Arc::new(Provider::openai(OPENAI_REALTIME_URL, None)),
                model: model.to_owned(),
                transcribers: vec![transcriber.to_owned()],
                hosts: false,
            };
            let (year, month, day) = today;
            let found = known(&used, jiff::civil::date(year, month, day));
            assert_eq!(found.first().map(Problem::severity), expected, "{what}: {found:?}");
            assert!(found.len() < 2, "{what}: {found:?}");
        }
    }
}
