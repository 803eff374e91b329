//! The account at Twilio and its numbers: are the credentials right, does the account take calls, and does each
//! number ring what it should.

use std::path::Path;

use super::clock::Reading;
use super::net::{Answer, Fault, Net};
use super::report::{Finding, Severity};
use crate::assistant::Roster;
use crate::command::numbers as desk;
use crate::link::twilio_rest::{Account, Change, NotSet, Number, RestError, Status};
use crate::numbers::{self, Answered, Row};
use crate::settings::Settings;

/// A change at Twilio that mends a number.
#[derive(Debug, Clone)]
pub struct Mend {
    /// As it is before.
    owned: Number,
    change: Change,
    /// What it rang before the tunnel that it rings: the record of that is of no use once it is set.
    before: Option<String>,
    /// The number as people may see it, and what is set.
    pub told: String,
}

impl Mend {
    /// Old → new, in full: whoever set the old one may want it back, and it is shown nowhere else.
    pub fn steps(&self) -> Vec<String> {
        self.before.iter().cloned().chain(desk::steps(&self.owned, &self.change)).collect()
    }
}

/// What looking at an account gave.
#[derive(Default)]
pub struct Seen {
    pub findings: Vec<Finding>,
    pub mends: Vec<Mend>,
    pub clock: Option<Reading>,
}

/// Looks at the account and its numbers, side by side. `roster`: the folder in force, where it is known. `is_remote`:
/// ASSISTANTS_URL says where it is.
pub async fn check(
    account: Option<&Account>,
    settings: &Settings,
    roster: Option<&Roster>,
    is_remote: bool,
    net: &Net,
) -> Seen {
    let Some(account) = account else {
        return Seen { findings: vec![of_nothing(settings)], ..Seen::default() };
    };
    let address = format!("{}/2010-04-01", settings.twilio_api_url.trim_end_matches('/'));
    let (standing, owned, root) =
        tokio::join!(account.standing(), account.numbers(), net.ask(net.client.get(address)));
    // Who answers in Twilio's place has a clock of its own.
    let is_twilio = !matches!(standing, Err(RestError::NotTwilio));
    let clock = root.as_ref().ok().and_then(|answer| answer.clock).filter(|_| is_twilio);
    let mut seen = Seen { clock, ..Seen::default() };
    // A standard API key may do all but look at the account itself.
    let is_key = settings.twilio_api_key.is_some() && settings.twilio_api_secret.is_some();
    let is_hidden = is_key && matches!(standing, Err(RestError::Refused { status: 401 | 403, .. }));
    let trouble = match (&standing, &owned) {
        (Ok(_), _) => None,
        // So what became of the list says how it is.
        (Err(_), owned) if is_hidden => owned.as_ref().err().copied(),
        (Err(error), _) => Some(*error),
    };
    seen.findings.extend(match (standing, trouble) {
        (_, Some(error)) => vec![of_error(&error, &root)],
        (Ok(standing), None) => of_standing(standing.status, standing.trial),
        (Err(_), None) => vec![Finding::ok(
            "twilio.account",
            "Twilio accepts the API key; how the account itself stands it shows to no standard key",
        )],
    });
    match (owned, roster) {
        // It is told already.
        (Err(error), _) if Some(error) == trouble => {}
        (Err(error), _) => seen.findings.push(
            Finding::error("number.list", format!("the account's numbers cannot be listed: {error}"))
                .causes(codes(&error))
                .fix(error.help()),
        ),
        (Ok(_), None) => seen.findings.push(match is_remote {
            // Another folder may have other numbers.
            true => Finding::warning(
                "number.list",
                "the numbers are not compared: ASSISTANTS_URL says who answers them, and its folder was not \
                     fetched, or has errors",
            )
            .fix("mend that first, and run `switchboard doctor` again"),
            false => Finding::warning("number.list", "the numbers are not compared: the folder has errors")
                .fix("mend the folder first: `switchboard check`"),
        }),
        (Ok(owned), Some(roster)) => {
            let urls = settings.number_urls();
            let why = urls.as_ref().map(|urls| desk::unusable(urls).map(|why| why.message()));
            let (urls, why) = match why {
                Some(None) => (urls, None),
                Some(Some(why)) => (None, Some(format!("what the numbers should ring is not known: {why}"))),
                None => (None, Some("what the numbers should ring is not known".to_owned())),
            };
            seen.findings.extend(why.map(|why| {
                Finding::warning("number.list", why).fix(
                    "set PUBLIC_URL to the https address that Twilio calls; while developing, `switchboard serve --tunnel` \
                     makes one and has a number ring it",
                )
            }));
            let state = desk::state_dir(settings);
            for row in desk::compare(owned, roster, urls.as_ref(), state) {
                seen.findings.extend(of_row(&row, urls.is_some(), state));
                seen.mends.extend(mend_of(&row, state));
            }
        }
    }
    seen
}

/// Makes the change that mends a number.
///
/// # Errors
/// [`NotSet`].
pub async fn mend(account: &Account, mend: &Mend) -> Result<(), NotSet> {
    account.set_number(&mend.owned.sid, &mend.change).await
}

fn of_standing(status: Status, trial: bool) -> Vec<Finding> {
    let mut findings = match status {
        Status::Active => Vec::new(),
        Status::Suspended => vec![
            Finding::error("twilio.account", "the account is suspended")
                .causes("no call comes in and nothing goes out")
                .fix("pay, or answer what Twilio asks, in Twilio's console: https://console.twilio.com"),
        ],
        Status::Closed => vec![
            Finding::error("twilio.account", "the account is closed")
                .causes("no call comes in and nothing goes out")
                .fix("set TWILIO_ACCOUNT_SID and its credentials to those of an account that is open"),
        ],
        Status::Other => vec![
            Finding::warning("twilio.account", "Twilio says of the account what is not known here")
                .fix("look at the account in Twilio's console: https://console.twilio.com"),
        ],
    };
    if trial {
        findings.push(
            Finding::warning(
                "twilio.account",
                "it is a trial account: callers hear a notice first, only numbers that are verified in the console can \
                 be dialled or texted, and few calls go at once",
            )
            .causes("21608 for texts to other numbers; 10004 above the limit of calls at once")
            .fix("upgrade the account in Twilio's console, or verify the numbers that you try it with"),
        );
    } else if status == Status::Active {
        findings
            .push(Finding::ok("twilio.account", "Twilio accepts the credentials, and the account is active"));
    }
    findings
}

fn of_nothing(settings: &Settings) -> Finding {
    let fix = match &settings.twilio_account_sid {
        None => {
            "set TWILIO_ACCOUNT_SID: it begins with AC, and stands on the start page of Twilio's console. Where the \
                 auth token should not be used for this, set TWILIO_API_KEY and TWILIO_API_SECRET too"
        }
        Some(_) => {
            "set TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and TWILIO_API_SECRET, beside TWILIO_ACCOUNT_SID"
        }
    };
    Finding::warning("twilio.credentials", "there are no credentials for Twilio's REST interface")
        .causes("the numbers at Twilio cannot be looked at or set, and no text message can be sent")
        .fix(fix)
}

/// `root`: what the same address said without credentials.
fn of_error(error: &RestError, root: &Result<Answer, Fault>) -> Finding {
    let check = match error {
        RestError::Network(_) | RestError::NotTwilio => "twilio.reach",
        RestError::Refused { status: 401 | 403 | 404, .. } => "twilio.credentials",
        RestError::Refused { .. } => "twilio.reach",
    };
    let (message, fix) = match (error, root) {
        (RestError::Refused { status: 401, .. }, _) => {
            (format!("Twilio does not accept the credentials: {error}"), error.help().to_owned())
        }
        (RestError::Network(_), Err(fault)) => (
            format!("Twilio's REST interface is not reached: {fault}"),
            format!(
                "{}; the address is in TWILIO_API_URL, and by default https://api.twilio.com",
                fault.help()
            ),
        ),
        (RestError::NotTwilio, Ok(answer)) => {
            (format!("the account cannot be looked at: {error} ({})", answer.seen()), error.help().to_owned())
        }
        _ => (format!("the account cannot be looked at: {error}"), error.help().to_owned()),
    };
    Finding::error(check, message).causes(codes(error)).fix(fix)
}

/// What comes of it when the account cannot be used by REST.
fn codes(error: &RestError) -> String {
    let code = match error {
        RestError::Refused { code: Some(code), .. } => format!(" ({code})"),
        RestError::Refused { status: 401, .. } => " (20003)".to_owned(),
        _ => String::new(),
    };
    format!("no text message is sent and no number is set{code}; calls themselves need no REST")
}

/// `compared`: it is known what numbers should ring. `state`: where a tunnel remembers what they rang.
fn of_row(row: &Row, compared: bool, state: &Path) -> Vec<Finding> {
    let who = match &row.answered {
        Answered::ByEntry(name) => format!("{}, which `{name}` answers", row.number),
        Answered::ByStar(name) => format!("{}, which `{name}` answers as every other", row.number),
        Answered::ByNobody => row.number.to_string(),
    };
    if row.findings.iter().all(|finding| finding.severity() == numbers::Severity::Note) && row.owned.is_some()
    {
        let notes = row.findings.iter().map(|finding| of_finding(row, &who, finding, state));
        let ok = (row.answered != Answered::ByNobody)
            .then(|| Finding::ok("number.ok", format!("{who}: {}", rings(row, compared))));
        return ok.into_iter().chain(notes).collect();
    }
    let rings_open_tunnel = |owned: &Number| desk::rings_open_tunnel(owned, state);
    if row.owned.as_ref().is_some_and(rings_open_tunnel) {
        use numbers::Finding as Of;
        let is_put_back = |finding: &&Of| {
            matches!(
                finding,
                Of::Tunnel { .. } | Of::VoiceUrl { .. } | Of::Fallback { .. } | Of::StatusCallback { .. }
            )
        };
        let message =
            format!("{who}: it rings a tunnel that is open, and rings what it rang before once that ends");
        let others = row.findings.iter().filter(|finding| !is_put_back(finding));
        let others = others.map(|finding| of_finding(row, &who, finding, state));
        return std::iter::once(Finding::ok("number.tunnel", message)).chain(others).collect();
    }
    row.findings.iter().map(|finding| of_finding(row, &who, finding, state)).collect()
}

fn rings(row: &Row, compared: bool) -> String {
    if compared {
        return "it rings what it should".to_owned();
    }
    let url = row.owned.as_ref().and_then(|owned| owned.voice_url.as_deref());
    let what = url.map_or_else(|| "nothing".to_owned(), numbers::shown_url);
    format!("it rings {what}; whether it should is not known")
}

fn of_finding(row: &Row, who: &str, finding: &numbers::Finding, state: &Path) -> Finding {
    use numbers::Finding as Of;
    let severity = match (finding, finding.severity()) {
        // Nothing is wrong with a call, and nobody speaks when the server is down.
        (Of::NoFallback, _) => Severity::Warning,
        (_, numbers::Severity::Error) => Severity::Error,
        (_, numbers::Severity::Warning) => Severity::Warning,
        (_, numbers::Severity::Note) => Severity::Ok,
    };
    let cause = match finding {
        Of::NotOwned | Of::NoVoice => "callers hear that the number is not in service",
        Of::Application | Of::Trunk => "calls go elsewhere, and never reach this server",
        Of::VoiceUrl { is: None, .. } => "callers hear that the number is not set up",
        Of::VoiceUrl { .. } => {
            "calls go elsewhere; 11200 where nothing answers there, 12100 where it is no TwiML"
        }
        Of::RingsNobody => "callers hear that the number is not in use",
        Of::Fallback { .. } | Of::NoFallback => {
            "when the server is down (11200), callers hear an application error, and the call ends"
        }
        Of::StatusCallback { .. } => {
            "the end of a call is learnt late where its stream is lost, and the line is kept until then"
        }
        Of::FunctionInFront | Of::Tunnel { .. } => {
            "`numbers sync` does not set it, so that nobody gets past the allowlist"
        }
        Of::Example | Of::Unanswered | Of::ByGet => "",
    };
    let message = format!("{who}: {finding}");
    if *finding == Of::ByGet {
        return Finding::ok(finding.code(), message);
    }
    let told = Finding::of(finding.code(), severity, message);
    let told = if cause.is_empty() { told } else { told.causes(cause) };
    let is_taken = row.owned.as_ref().is_some_and(Number::is_taken);
    match (finding, &row.answered) {
        // Without that it is left alone, by whatever sets numbers.
        (Of::VoiceUrl { .. } | Of::Fallback { .. } | Of::StatusCallback { .. }, _) if is_taken => {
            told.fix(row.help(&Of::Trunk))
        }
        (Of::VoiceUrl { .. } | Of::Fallback { .. } | Of::StatusCallback { .. }, Answered::ByEntry(_)) => {
            told.fix(format!("{}, or `switchboard doctor --fix`", finding.help()))
        }
        (finding, _) => told.fix(desk::help(row, finding, state)),
    }
}

/// What `numbers sync --apply` would set: of numbers that a file lists. What an application or a trunk answers may be
/// somebody's on purpose, and so may be what only `*` answers.
fn mend_of(row: &Row, state: &Path) -> Option<Mend> {
    let owned = row.owned.as_ref()?;
    let change = Change { take_back: false, ..row.change.clone() };
    let listed = matches!(row.answered, Answered::ByEntry(_));
    if !listed || !owned.voice || owned.is_taken() || change.is_empty() {
        return None;
    }
    let set = [
        ("voice URL", &change.voice_url),
        ("fallback URL", &change.fallback_url),
        ("status callback", &change.status_callback),
    ];
    let set = set
        .into_iter()
        .filter_map(|(name, url)| Some(format!("{name} = {}", numbers::shown_url(url.as_deref()?))));
    let told = format!("{}: {}", row.number, set.collect::<Vec<_>>().join(", "));
    Some(Mend { owned: owned.clone(), change, before: desk::before_tunnel(owned, state), told })
}
