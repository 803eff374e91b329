//! The speech models that assistants use: a session of each is begun, as at the start of a call, and closed again.
//!
//! OpenAI looks at key and model after the upgrade, others before it: so an open socket proves nothing, and a session
//! does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;

use super::clock::{self, Reading};
use super::net::{self, Answer, Fault, Net, word_of};
use super::report::{Finding, Severity};
use crate::assistant::plan::{Nothing, Plan};
use crate::assistant::{Facts, Roster};
use crate::link::model::{self, NotConnected};
use crate::phone::Party;
use crate::problem;
use crate::provider::{Failure, OPENAI_REALTIME_URL, Provider, Shutdown, Transcribing};
use crate::session::MODEL_PATIENCE;
use crate::settings::Settings;

/// So many days before a model is shut down it is about to be.
const SOON: i64 = 120;

/// Of who says nothing else.
const NO_EVENTS: &str = "opens a WebSocket, and what it says there is no event of the Realtime API";
/// Where nothing is known of a code.
const LOOK_UP: &str =
    "look up the code in the provider's documentation, and check address, model and `dialect`";
/// What an end of calls is called, and what callers hear.
const REFUSED: &str = "every call ends `model.refused`: callers hear `on_failure`";
const UNREACHABLE: &str = "every call ends `model.unreachable`: callers hear `on_failure`";

/// A model that some assistants talk with.
#[derive(Debug, Clone)]
pub struct Used {
    pub provider: Arc<Provider>,
    pub model: String,
    /// The models that write down what callers say.
    transcribers: Vec<String>,
    /// Whether all who use it let the model call tools of the provider's own.
    hosts: bool,
    assistants: Vec<String>,
}

impl Used {
    /// For people: where it is, and what is asked for.
    pub fn place(&self) -> String {
        let host = url::Url::parse(&self.provider.url).ok();
        let host = host.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
        match host {
            Some((host, Some(port))) => format!("{host}:{port}"),
            Some((host, None)) => host.to_owned(),
            None => self.provider.name.clone(),
        }
    }

    fn who(&self) -> String {
        format!(
            "`{}` of `{}` at {}",
            problem::shown(&self.model),
            self.provider.name,
            problem::shown(&self.place())
        )
    }

    fn for_whom(&self) -> String {
        let names: Vec<&str> = self.assistants.iter().map(String::as_str).collect();
        match names.len() {
            0 => String::new(),
            1..=4 => format!(", for {}", problem::list(&names)),
            more => format!(", for {more} assistants"),
        }
    }
}

/// Every provider and model that the folder uses; where there is no folder, what it would use by default.
pub fn used(roster: Option<&Roster>, settings: &Settings) -> Vec<Used> {
    let mut found: BTreeMap<(String, String), Used> = BTreeMap::new();
    let facts = Facts {
        caller: Party::Withheld,
        called: Party::Withheld,
        call: "CA00000000000000000000000000000000".to_owned(),
        now: jiff::Timestamp::now(),
    };
    for assistant in roster.into_iter().flat_map(Roster::iter) {
        // One that cannot be rendered is the folder's problem.
        let Ok(Plan { provider, model, transcription, hosted, .. }) = assistant.plan(&facts, &Nothing) else {
            continue;
        };
        let used = found.entry((provider.name.clone(), model.clone())).or_insert_with(|| Used {
            provider,
            model,
            transcribers: Vec::new(),
            hosts: true,
            assistants: Vec::new(),
        });
        used.hosts &= !hosted.is_empty();
        used.assistants.push(assistant.name().to_owned());
        if let Some(transcription) = transcription.filter(|t| !used.transcribers.contains(&t.model)) {
            used.transcribers.push(transcription.model);
        }
    }
    if found.is_empty() {
        let provider = Arc::new(settings.provider());
        let model = provider.default_model().to_owned();
        return vec![Used {
            provider,
            model,
            transcribers: Vec::new(),
            hosts: false,
            assistants: Vec::new(),
        }];
    }
    found.into_values().collect()
}

/// What is known of the models without asking anybody, on this day.
pub fn known(used: &Used, today: Date) -> Vec<Finding> {
    let mut findings = Vec::new();
    let provider = &used.provider;
    match provider.model(&used.model) {
        Some(model) => findings.extend(ending(&used.model, model.shutdown.as_ref(), today, &used.for_whom())),
        None if !provider.abilities.models.is_empty() => {
            let known = provider.abilities.models.iter().map(|model| &*model.name);
            findings.push(
                Finding::warning(
                    "provider.model",
                    format!(
                        "`{}` is no model of `{}` that is known here{}",
                        problem::shown(&used.model),
                        provider.name,
                        used.for_whom()
                    ),
                )
                .causes("where the provider does not know it either, every call ends `model.refused`")
                .fix(format!("look at `model` in the file: {}", problem::suggestion(&used.model, known))),
            );
        }
        None => {}
    }
    if let Transcribing::Named(known) = &provider.abilities.transcription {
        for name in &used.transcribers {
            let shutdown =
                known.iter().find(|known| known.name == **name).and_then(|known| known.shutdown.as_ref());
            findings.extend(ending(name, shutdown, today, &used.for_whom()));
        }
    }
    findings
}

/// A model that goes, by its announced last day.
fn ending(model: &str, shutdown: Option<&Shutdown>, today: Date, for_whom: &str) -> Option<Finding> {
    let (day, next) = shutdown?;
    let fix = format!("write `model: {next}` (or the same under `transcription`), and rehearse it");
    let last = Date::strptime("%d %B %Y", &**day).ok();
    let left = last.map(|last| last.duration_since(today).as_hours() / 24);
    let told = |how: &str| format!("`{}` {how} on {day}{for_whom}", problem::shown(model));
    Some(match left {
        Some(left) if left < 0 => Finding::error("provider.shutdown", told("was announced to be shut down"))
            .causes(REFUSED)
            .fix(fix),
        Some(left) if left > SOON => Finding::ok("provider.shutdown", told("is to be shut down")).fix(fix),
        Some(left) => Finding::warning(
            "provider.shutdown",
            format!("{}: {left} days are left", told("is to be shut down")),
        )
        .causes("from that day on every call ends `model.refused`")
        .fix(fix),
        None => Finding::warning("provider.shutdown", told("is to be shut down")).fix(fix),
    })
}

/// Begins a session of the model, and closes it.
pub async fn ask(used: &Used, net: &Net) -> (Vec<Finding>, Option<Reading>) {
    if used.provider.lacks_key() {
        let finding = Finding::error(
            "provider.key",
            format!("`{}` needs a key, and there is none{}", used.provider.name, used.for_whom()),
        );
        let finding =
            finding.causes("`switchboard serve` does not start").fix(where_the_key_is(&used.provider));
        return (vec![finding], None);
    }
    let probe = model::probe(&used.provider, &used.model, used.hosts, net.tls.clone()).await;
    let finding = match probe.outcome {
        Ok(()) => of_session(used, probe.took),
        Err(why) => of_failure(used, net, why),
    };
    (vec![finding], clock::reading(&probe.headers))
}

fn of_failure(used: &Used, net: &Net, why: NotConnected) -> Finding {
    let who = used.who();
    match why {
        NotConnected::Network(fault) => of_fault(used, &fault),
        NotConnected::Refused(answer) => of_answer(used, &net.answer(*answer)),
        NotConnected::BadKey => Finding::error("provider.key", format!("{who}: {why}"))
            .causes(REFUSED)
            .fix(where_the_key_is(&used.provider)),
        NotConnected::Error { code, .. } => {
            let code = code.map(|code| word_of(&net.veiled(&code)));
            of_code(used, code.as_deref().unwrap_or("no code"))
        }
        // The reason ends with the code: `invalid_request_error.invalid_api_key`.
        NotConnected::Closed { code: Some(code @ (1008 | 3000..=4999)), reason } => {
            let reason = net.veiled(&reason);
            let word = word_of(reason.rsplit('.').next().unwrap_or_default());
            match (judge(&word), code) {
                (Some(_), _) => of_code(used, &word),
                (None, code) => {
                    let (check, what, fix) = match code {
                        3000 => ("provider.key", "does not accept the key", where_the_key_is(&used.provider)),
                        _ => ("provider.session", "begins no session", LOOK_UP.to_owned()),
                    };
                    let how = with_reason(code, &reason);
                    let message = format!("{who} {what}: it closes with {how}{}", used.for_whom());
                    Finding::error(check, message).causes(REFUSED).fix(fix)
                }
            }
        }
        NotConnected::Closed { code, reason } => {
            let how = match code {
                Some(code) => format!("with {}", with_reason(code, &net.veiled(&reason))),
                None => "without a reason".to_owned(),
            };
            odd(
                used,
                format!("{who} closes the connection at once, {how}"),
                "look at the provider's log and status page, and at the address in between",
            )
        }
        NotConnected::BadFrame => odd(
            used,
            format!("{who} opens a WebSocket, and sends a frame that is broken, or larger than a call takes"),
            "check that the address is the one of a Realtime endpoint, and what stands in between",
        ),
        NotConnected::Late { garbage: 0 } | NotConnected::Misconfigured(_) => odd(
            used,
            format!("{who} opens a WebSocket, and begins no session in {} s", model::ATTEMPT.as_secs()),
            "check that the address is the one of a Realtime endpoint, and the provider's status page",
        ),
        NotConnected::Late { .. } => odd(
            used,
            format!("{who} {NO_EVENTS}"),
            "check that the address is the one of a Realtime endpoint, and `dialect` in switchboard.yaml",
        ),
    }
}

fn with_reason(code: u16, reason: &str) -> String {
    match reason.trim() {
        "" => code.to_string(),
        reason => format!("{code}, `{}`", problem::shown(reason)),
    }
}

/// A session began. A call waits for one no longer than it waits for each attempt, or than its caller can.
fn of_session(used: &Used, took: Duration) -> Finding {
    let message = format!("a session of {} begins{}", used.who(), used.for_whom());
    if took < MODEL_PATIENCE {
        return Finding::ok("provider.session", message);
    }
    let late = format!("{message}, after {:.1} s", took.as_secs_f64());
    Finding::warning("provider.reach", late)
        .causes("callers hear silence at first; if it takes longer, calls end `model.unreachable`")
        .fix("look at this machine's network and at what stands in between; the provider's status page says more")
}

fn odd(used: &Used, message: String, fix: &str) -> Finding {
    Finding::error("provider.reach", format!("{message}{}", used.for_whom())).causes(UNREACHABLE).fix(fix)
}

/// What a word of the provider's is about: the check, how bad it is, and what is wrong in plain words.
fn judge(code: &str) -> Option<(&'static str, Severity, &'static str)> {
    use Severity::{Error, Warning};
    Some(match Failure::from_code(code)? {
        Failure::Key => ("provider.key", Error, "does not accept the key"),
        Failure::Region => ("provider.key", Error, "does not serve this country or this address"),
        Failure::Credit => ("provider.credit", Error, "accepts the key, and its account has no credit left"),
        Failure::AccountClosed => ("provider.credit", Error, "says that the account is closed"),
        Failure::Model => ("provider.model", Error, "has no such model for this key"),
        Failure::BetaApi => ("provider.reach", Error, "is asked in the way of the beta, which is over"),
        Failure::RateLimit => {
            ("provider.credit", Warning, "accepts the key, and allows no more at the moment")
        }
        Failure::ServerError => ("provider.reach", Warning, "has a fault of its own"),
        Failure::Conflict => return None,
    })
}

/// From the code of an error, wherever it was written.
fn of_code(used: &Used, code: &str) -> Finding {
    let (check, severity, what) = match judge(code) {
        Some(judged) => judged,
        // Without a code OpenAI says that no key came.
        None if matches!(code, "invalid_request_error" | "no code") => (
            "provider.key",
            Severity::Error,
            "does not begin a session; so OpenAI answers where no key comes through",
        ),
        None => ("provider.session", Severity::Error, "does not begin a session"),
    };
    let message = format!("{} {what} ({}){}", used.who(), problem::shown(code), used.for_whom());
    let finding = Finding::of(check, severity, message);
    let finding = match (check, severity) {
        (_, Severity::Warning) => finding.causes("calls that begin now may end `model.unreachable`"),
        ("provider.reach", _) => finding.causes(UNREACHABLE),
        _ => finding.causes(REFUSED),
    };
    finding.fix(match (check, severity) {
        ("provider.key", _) => where_the_key_is(&used.provider),
        ("provider.credit", Severity::Warning) | ("provider.reach", Severity::Warning) => {
            "try again in a minute; the provider's status page says more".to_owned()
        }
        ("provider.credit", _) => match used.provider.name.as_str() {
            "openai" => {
                "add credit, or raise the limit, at https://platform.openai.com/settings/organization/billing"
                    .to_owned()
            }
            name => format!("add credit to the account at `{name}`"),
        },
        ("provider.model", _) => {
            let known = used.provider.abilities.models.iter().filter(|model| model.shutdown.is_none());
            let names: Vec<&str> = known.map(|model| &*model.name).take(4).collect();
            match names.is_empty() {
                true => "write another `model` into the files, or allow it to the key's project".to_owned(),
                false => format!(
                    "write a `model` into the files that the key's project may use, such as {}",
                    problem::list(&names)
                ),
            }
        }
        _ => LOOK_UP.to_owned(),
    })
}

/// From an answer in the place of a WebSocket.
fn of_answer(used: &Used, answer: &Answer) -> Finding {
    let who = used.who();
    let seen = answer.seen();
    if let Some(code) = answer.code().filter(|code| judge(code).is_some()) {
        return of_code(used, &code);
    }
    let told = |check, what: &str, cause: &str, fix: String| {
        Finding::error(check, format!("{who} {what} ({seen}){}", used.for_whom())).causes(cause).fix(fix)
    };
    match answer.status {
        _ if answer.in_between().is_some() => {
            let fix = answer.in_between().unwrap_or_default().to_owned();
            told("provider.reach", "is hidden by what stands before it", UNREACHABLE, fix)
        }
        401 => told("provider.key", "does not accept the key", REFUSED, where_the_key_is(&used.provider)),
        403 if answer.is_page() => told(
            "provider.reach",
            "is kept from us by a firewall in between",
            REFUSED,
            "let this machine through to the provider, or use another address".to_owned(),
        ),
        403 => told(
            "provider.key",
            "accepts no session with this key",
            REFUSED,
            format!(
                "check what the key may do, and from which countries and addresses; {}",
                where_the_key_is(&used.provider)
            ),
        ),
        404 => told(
            "provider.model",
            "has no such endpoint or model",
            REFUSED,
            format!(
                "check the path of {}, and the model's name (at Azure: the deployment's)",
                where_the_url_is(&used.provider)
            ),
        ),
        400 => told(
            "provider.model",
            "does not take such a request: mostly the model is not one for speech",
            REFUSED,
            format!("check the model's name, and {}", where_the_url_is(&used.provider)),
        ),
        407 => told(
            "provider.reach",
            "is behind a proxy that wants a password",
            UNREACHABLE,
            "allow this machine to connect without it".to_owned(),
        ),
        429 => {
            let finding = Finding::warning(
                "provider.credit",
                format!("{who} allows no more ({seen}){}", used.for_whom()),
            );
            finding
                .causes("calls that begin now end `model.unreachable`")
                .fix("look at the limits and the credit of the account; try again in a minute")
        }
        300..=399 => told(
            "provider.reach",
            "sends us elsewhere",
            UNREACHABLE,
            match (answer.leads_away(), answer.leads_back(&used.provider.url)) {
                (true, true) => format!("set {} to where it leads", where_the_url_is(&used.provider)),
                (true, false) => {
                    format!("{}, or check {}", net::IN_BETWEEN, where_the_url_is(&used.provider))
                }
                (false, _) => {
                    format!("check {}: no Realtime endpoint does so", where_the_url_is(&used.provider))
                }
            },
        ),
        426 => told(
            "provider.reach",
            "saw no upgrade: a proxy in between takes it out",
            UNREACHABLE,
            "have the proxy pass `Connection: upgrade` and `Upgrade: websocket` on".to_owned(),
        ),
        500..=599 => told(
            "provider.reach",
            "has a fault of its own, or what stands before it has",
            UNREACHABLE,
            "try again in a minute; the provider's status page says more".to_owned(),
        ),
        _ => told(
            "provider.reach",
            "does not answer as a Realtime server does",
            UNREACHABLE,
            format!(
                "check {}; a proxy or a login page may answer in its place",
                where_the_url_is(&used.provider)
            ),
        ),
    }
}

fn of_fault(used: &Used, fault: &Fault) -> Finding {
    let fix = match fault {
        Fault::BadUrl => format!("check {}", where_the_url_is(&used.provider)),
        // Nothing is misspelt there.
        Fault::DnsFailed | Fault::ConnectionRefused | Fault::Unreachable(_) | Fault::ConnectTimeout
            if used.provider.url == OPENAI_REALTIME_URL =>
        {
            "check this machine's network and DNS, and whether a firewall keeps it from OpenAI: the address is OpenAI's own"
                .to_owned()
        }
        fault => format!("{}; the address is in {}", fault.help(), where_the_url_is(&used.provider)),
    };
    let message = format!("{} is not reached: {fault}{}", used.who(), used.for_whom());
    Finding::error("provider.reach", message).causes(UNREACHABLE).fix(fix)
}

fn where_the_key_is(provider: &Provider) -> String {
    match provider.name.as_str() {
        "openai" => {
            "make a key at https://platform.openai.com/api-keys, and set OPENAI_API_KEY to it; on Fly: \
                     `fly secrets set OPENAI_API_KEY=…`"
                .to_owned()
        }
        name => format!("set the variable that `key` of `{name}` in switchboard.yaml names"),
    }
}

fn where_the_url_is(provider: &Provider) -> String {
    match provider.name.as_str() {
        "openai" => "OPENAI_REALTIME_URL".to_owned(),
        name => format!("`url` of `{name}` in switchboard.yaml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn using(model: &str, transcriber: &str) -> Used {
        Used {
            provider: Arc::new(Provider::openai(OPENAI_REALTIME_URL, None)),
            model: model.to_owned(),
            transcribers: vec![transcriber.to_owned()],
            hosts: false,
            assistants: vec!["clinic".to_owned()],
        }
    }

    #[test]
    fn models_that_go_are_told_by_the_day() {
        for (what, used, today, told) in [
            ("it stays", using("gpt-realtime-2.1", "gpt-transcribe"), (2026, 11, 23), None),
            (
                "in two months",
                using("gpt-realtime", "gpt-transcribe"),
                (2026, 11, 23),
                Some(("warning", "58 days")),
            ),
            (
                "far away",
                using("gpt-realtime", "gpt-transcribe"),
                (2026, 6, 1),
                Some(("ok", "20 January 2027")),
            ),
            (
                "on its last day",
                using("gpt-realtime", "gpt-transcribe"),
                (2027, 1, 20),
                Some(("warning", "0 days")),
            ),
            (
                "gone",
                using("gpt-realtime", "gpt-transcribe"),
                (2027, 1, 21),
                Some(("error", "was announced")),
            ),
            (
                "the other model",
                using("gpt-realtime-2.1", "whisper-1"),
                (2027, 2, 1),
                Some(("warning", "whisper-1")),
            ),
            (
                "nobody knows it",
                using("gpt-realtime-9", "gpt-transcribe"),
                (2026, 11, 23),
                Some(("warning", "no model of")),
            ),
        ] {
            let (year, month, day) = today;
            let found = known(&used, jiff::civil::date(year, month, day));
            let found: Vec<_> = found.iter().map(|f| (f.severity.name(), f.message.as_str())).collect();
            match told {
                None => assert!(found.is_empty(), "{what}: {found:?}"),
                Some((severity, words)) => {
                    let fits = found.len() == 1 && found[0].0 == severity && found[0].1.contains(words);
                    assert!(fits, "{what}: {found:?}");
                }
            }
        }
    }
}
