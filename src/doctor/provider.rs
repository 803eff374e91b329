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
use crate::provider::{Failure, Provider, Shutdown, Transcribing};
use crate::session::MODEL_PATIENCE;
use crate::settings::Settings;

/// A shutdown within so many days is a warning.
const SOON_DAYS: i64 = 120;

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
    match took < MODEL_PATIENCE {
        true => Found::Session { model },
        false => Found::Slow { model, seconds: took.as_secs_f64() },
    }
}

fn not_connected(model: String, why: &NotConnected) -> Found {
    if let Some(failure) = why.failure() {
        return match failure {
            Failure::Key => Found::Key { model },
            Failure::Region => Found::Region { model },
            Failure::Credit => Found::Credit { model },
            Failure::AccountClosed => Found::AccountClosed { model },
            Failure::Model => Found::Model { model },
            Failure::BetaApi => Found::BetaApi { model },
            Failure::RateLimit => Found::RateLimit { model },
            Failure::ServerError | Failure::Conflict => Found::ServerError { model },
        };
    }
    match why {
        NotConnected::BadKey => Found::Key { model },
        NotConnected::Network(fault) => {
            Found::Unreachable { model, fault: fault.to_string(), help: fault.help() }
        }
        NotConnected::Refused(answer) => match answer.status {
            401 => Found::Key { model },
            _ if is_page(answer) => Found::Page { model, answer: describe(answer) },
            404 => Found::NotFound { model },
            429 => Found::RateLimit { model },
            500..=599 => Found::ServerError { model },
            _ => Found::Answered { model, answer: describe(answer) },
        },
        NotConnected::Error { code, .. } => match code.as_deref() {
            // OpenAI reports this without a code if no key reached it.
            Some("invalid_request_error") | None => Found::Key { model },
            Some(code) => Found::Error { model, code: code.to_owned() },
        },
        NotConnected::Closed { code: Some(3000), .. } => Found::Key { model },
        NotConnected::Closed { code, .. } => {
            Found::Closed { model, code: code.map_or("no code".to_owned(), |code| code.to_string()) }
        }
        NotConnected::BadFrame => Found::Invalid { model },
        NotConnected::Late { garbage: 0 } => Found::Late { model },
        NotConnected::Late { .. } => Found::Invalid { model },
        NotConnected::Misconfigured(code) => Found::Error { model, code: code.clone() },
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
