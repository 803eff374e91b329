//! The account's numbers beside the folder's assistants: who answers each, what is wrong with it at Twilio, and the
//! change that would mend it.
//!
//! It asks nobody: the numbers, the roster and the addresses are handed in. What it finds is told without any number,
//! so that a finding may stand in a log; a row has the number for whoever may see it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use url::{Host, Url};

use crate::assistant::Roster;
use crate::link::quick_tunnel::is_tunnel;
use crate::link::twilio_rest::{Change, Number};
use crate::phone::PhoneNumber;
use crate::settings::NumberUrls;

/// One number: of the account, of the folder, or of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub number: PhoneNumber,
    /// As it is at Twilio; `None` where the account does not own it.
    pub owned: Option<Number>,
    pub answered: Answered,
    /// What is wrong or odd, the worst first.
    pub findings: Vec<Finding>,
    /// What would mend it, `take_back` included. Empty where nothing would, or where nobody answers it.
    pub change: Change,
}

/// Who answers a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The assistant of this name, whose file has the number.
    ByEntry(String),
    /// The assistant of this name, whose file has `*`.
    ByStar(String),
    ByNobody,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Calls do not arrive.
    Error,
    /// Calls arrive, and something is missing.
    Warning,
    /// Good to know.
    Note,
}

/// What is wrong or odd about a number. Prints as a sentence's beginning, without a number and a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A file has it, and the account does not.
    NotOwned,
    /// The same, of a number that examples are written with: nobody owns it.
    Example,
    /// It cannot be called at all.
    NoVoice,
    /// An application rings in the place of the voice URL, which Twilio then ignores.
    Application,
    /// A SIP trunk does.
    Trunk,
    /// The allowlist Function is in front of it, and where the Functions are is not known here: its voice URL stays.
    FunctionInFront,
    /// It rings a tunnel, and Twilio cannot say whether the allowlist Function was in front of it before: all of it
    /// stays.
    Tunnel { is: String },
    /// It rings something else; `None`: nothing.
    VoiceUrl { is: Option<String>, should: String },
    /// It rings this server, and no assistant answers.
    RingsNobody,
    /// The account has it, and it is no business of this folder's.
    Unanswered,
    /// Nothing of ours speaks when the voice URL fails, though there is what could; `None`: nothing at all does.
    Fallback { is: Option<String>, should: String },
    /// Nothing speaks when the voice URL fails, and no Function is known that could.
    NoFallback,
    /// We are not told of the ends of calls.
    StatusCallback { is: Option<String>, should: String },
    /// The voice URL is right, and asked by GET: that works as well.
    ByGet,
}

impl Answered {
    fn of(roster: &Roster, number: &PhoneNumber) -> Self {
        match roster.find(number) {
            Some(assistant) if assistant.numbers().contains(number) => {
                Self::ByEntry(assistant.name().to_owned())
            }
            Some(assistant) => Self::ByStar(assistant.name().to_owned()),
            None => Self::ByNobody,
        }
    }

    /// The assistant's name, where there is one.
    pub fn assistant(&self) -> Option<&str> {
        match self {
            Self::ByEntry(name) | Self::ByStar(name) => Some(name),
            Self::ByNobody => None,
        }
    }
}

impl Row {
    /// The worst of what was found.
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Finding::severity).min()
    }

    /// What to do about one of them, for this number: what only `*` answers is asked for by `--all`.
    pub fn help(&self, finding: &Finding) -> &'static str {
        match (&self.answered, finding) {
            (
                Answered::ByStar(_),
                Finding::VoiceUrl { .. } | Finding::Fallback { .. } | Finding::StatusCallback { .. },
            ) => "if it is to be answered here, run `switchboard numbers sync --all --apply`",
            (Answered::ByStar(_), Finding::Application | Finding::Trunk) => {
                "if this server is to answer it, run `switchboard numbers sync --all --apply --take-back`"
            }
            (Answered::ByStar(_), Finding::Tunnel { .. }) => {
                "run `switchboard serve --tunnel` where that tunnel was started: it puts back what the number rang \
                 before; or set TWILIO_FUNCTIONS_URL, if the allowlist is to be in front; or run `switchboard numbers \
                 sync --all --apply --take-back`, if everybody may call"
            }
            (_, finding) => finding.help(),
        }
    }
}

impl Finding {
    pub fn severity(&self) -> Severity {
        match self {
            Self::NotOwned
            | Self::NoVoice
            | Self::Application
            | Self::Trunk
            | Self::Tunnel { .. }
            | Self::VoiceUrl { .. }
            | Self::RingsNobody => Severity::Error,
            Self::FunctionInFront | Self::Fallback { .. } | Self::StatusCallback { .. } => Severity::Warning,
            Self::Example | Self::Unanswered | Self::NoFallback | Self::ByGet => Severity::Note,
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotOwned => "number.not_owned",
            Self::Example => "number.example",
            Self::FunctionInFront => "number.function_in_front",
            Self::NoVoice => "number.no_voice",
            Self::Application => "number.application",
            Self::Trunk => "number.trunk",
            Self::Tunnel { .. } => "number.tunnel",
            Self::VoiceUrl { .. } => "number.voice_url",
            Self::RingsNobody => "number.rings_nobody",
            Self::Unanswered => "number.unanswered",
            Self::Fallback { .. } => "number.fallback",
            Self::NoFallback => "number.no_fallback",
            Self::StatusCallback { .. } => "number.status_callback",
            Self::ByGet => "number.by_get",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NotOwned => {
                "buy it or bring it into this account, or take it out of `numbers`; TWILIO_ACCOUNT_SID says which \
                 account is looked at"
            }
            Self::Example => {
                "put a number of yours in its place, by the variable that stands in `numbers`; or leave it: nothing rings it"
            }
            Self::FunctionInFront => {
                "set TWILIO_FUNCTIONS_URL to what its voice URL says before /allowlist-function"
            }
            Self::NoVoice => "buy a number with the capability Voice in Twilio's console",
            Self::Tunnel { .. } => {
                "run `switchboard serve --tunnel` where that tunnel was started: it puts back what the number rang \
                 before; or set TWILIO_FUNCTIONS_URL, if the allowlist is to be in front; or run `switchboard numbers \
                 sync --apply --take-back`, if everybody may call"
            }
            Self::Application | Self::Trunk => {
                "if this server is to answer it, run `switchboard numbers sync --apply --take-back`"
            }
            Self::VoiceUrl { .. } | Self::Fallback { .. } | Self::StatusCallback { .. } => {
                "run `switchboard numbers sync --apply`"
            }
            Self::RingsNobody | Self::Unanswered => {
                "if an assistant is to answer it, write it into `numbers` of its file"
            }
            Self::NoFallback => {
                "deploy the Functions of `twilio/` with `make deploy-function`, and set TWILIO_FUNCTIONS_URL"
            }
            Self::ByGet => "nothing needs to be done",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwned => f.write_str("the account does not own it: no call can arrive"),
            Self::Example => f.write_str("a number for examples, which nobody can own"),
            Self::FunctionInFront => f.write_str(
                "an allowlist Function is in front of it, and TWILIO_FUNCTIONS_URL is not set: its voice URL is left as it is",
            ),
            Self::NoVoice => f.write_str("it has no voice capability: it cannot be called"),
            Self::Application => {
                f.write_str("a TwiML application answers it, for which Twilio ignores the voice URL")
            }
            Self::Trunk => f.write_str("a SIP trunk answers it, for which Twilio ignores the voice URL"),
            Self::Tunnel { is } => write!(
                f,
                "it rings the tunnel {}, and Twilio cannot say whether the allowlist Function was in front of it \
                 before: it is left as it is",
                shown_url(is)
            ),
            Self::VoiceUrl { is: Some(is), should } => write!(f, "it rings {}, not {should}", shown_url(is)),
            Self::VoiceUrl { is: None, should } => write!(f, "it rings nothing, and should ring {should}"),
            Self::RingsNobody => f.write_str("it rings this server, and no assistant answers it"),
            Self::Unanswered => f.write_str("no assistant of this folder answers it"),
            Self::Fallback { is: Some(is), should } => {
                write!(f, "its fallback URL is {}, not {should}", shown_url(is))
            }
            Self::Fallback { is: None, should } => {
                write!(
                    f,
                    "it has no fallback URL: nothing speaks when the voice URL fails; it should be {should}"
                )
            }
            Self::NoFallback => {
                f.write_str("it has no fallback URL: nothing speaks when this server is down")
            }
            Self::StatusCallback { is: Some(is), should } => {
                write!(f, "its status callback is {}, not {should}", shown_url(is))
            }
            Self::StatusCallback { is: None, should } => {
                write!(f, "it has no status callback, and should have {should}")
            }
            Self::ByGet => f.write_str("its voice URL is asked by GET, which works as POST does"),
        }
    }
}

/// An address for people: without a password and a query, which may hold a key.
pub fn shown_url(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    let hidden = if url.contains('?') { "?•••" } else { "" };
    let whole = match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let login = if host.contains('@') { "•••@" } else { "" };
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{login}{host}{path}")
        }
        None => plain.to_owned(),
    };
    crate::problem::masked(&format!("{whole}{hidden}"))
}

/// An address in full for its owner's own terminal, so that it can be put back; but without a password. Never for a
/// log: a query may hold a number.
pub fn whole_url(url: &str) -> String {
    let hidden = Url::parse(url).ok().filter(|url| url.password().is_some()).and_then(|mut url| {
        url.set_password(Some("xxx")).ok()?;
        Some(url.to_string())
    });
    let whole = hidden.unwrap_or_else(|| url.to_owned());
    whole.chars().filter(|letter| !letter.is_control()).collect()
}

/// Every number of the account and of the folder, sorted. Without `urls` it is not said what is wrong with theirs.
pub fn compare(owned: Vec<Number>, roster: &Roster, urls: Option<&NumberUrls>) -> Vec<Row> {
    let mut numbers: BTreeMap<PhoneNumber, Option<Number>> = BTreeMap::new();
    for assistant in roster.iter() {
        numbers.extend(assistant.numbers().iter().map(|number| (number.clone(), None)));
    }
    numbers.extend(owned.into_iter().map(|number| (number.number.clone(), Some(number))));
    let rows = numbers.into_iter().map(|(number, owned)| {
        let answered = Answered::of(roster, &number);
        let mut row = Row { number, owned, answered, findings: Vec::new(), change: Change::default() };
        row.judge(urls);
        row
    });
    rows.collect()
}

impl Row {
    /// For a number that rings a tunnel of which nothing is remembered: where `urls` are a tunnel themselves it is set
    /// as any other. Its owner tries things out, and everybody may call meanwhile.
    pub fn replace_tunnel(&mut self, urls: &NumberUrls) {
        let count = self.findings.len();
        if is_tunnel(&urls.voice) {
            self.findings.retain(|finding| !matches!(finding, Finding::Tunnel { .. }));
        }
        if self.findings.len() < count {
            self.judge_addresses(urls);
        }
    }

    fn judge(&mut self, urls: Option<&NumberUrls>) {
        let Some(owned) = &self.owned else {
            let example = self.number.is_example();
            return self.findings.push(if example { Finding::Example } else { Finding::NotOwned });
        };
        let findings = &mut self.findings;
        if self.answered == Answered::ByNobody {
            let ours = urls.is_some_and(|urls| is_same(owned.voice_url.as_deref(), &urls.voice));
            findings.push(if ours && !owned.is_taken() { Finding::RingsNobody } else { Finding::Unanswered });
            return;
        }
        if !owned.voice {
            findings.push(Finding::NoVoice);
            return;
        }
        if owned.application.is_some() {
            findings.push(Finding::Application);
        } else if owned.trunk.is_some() {
            findings.push(Finding::Trunk);
        }
        let Some(urls) = urls else { return };
        if let Some(is) = unknown_before(owned, urls) {
            // What it should be otherwise is known once it rings again what it rang.
            return findings.push(Finding::Tunnel { is: is.to_owned() });
        }
        self.judge_addresses(urls);
    }

    fn judge_addresses(&mut self, urls: &NumberUrls) {
        let Some(owned) = &self.owned else { return };
        let findings = &mut self.findings;
        self.change = mending(owned, urls);
        let unlike =
            |is: &Option<String>, should: &Option<String>| should.clone().map(|should| (is.clone(), should));
        if is_guarded(owned, urls) {
            findings.push(Finding::FunctionInFront);
        } else if let Some((is, should)) = unlike(&owned.voice_url, &self.change.voice_url) {
            findings.push(Finding::VoiceUrl { is, should });
        } else if owned.voice_method.eq_ignore_ascii_case("GET") {
            findings.push(Finding::ByGet);
        }
        if let Some((is, should)) = unlike(&owned.fallback_url, &self.change.fallback_url) {
            findings.push(Finding::Fallback { is, should });
        } else if owned.fallback_url.is_none() {
            findings.push(Finding::NoFallback);
        }
        if let Some((is, should)) = unlike(&owned.status_callback, &self.change.status_callback) {
            findings.push(Finding::StatusCallback { is, should });
        }
        findings.sort_by_key(Finding::severity);
    }
}

/// Whether the allowlist is in front of the number, and these addresses know of none: setting them would let
/// everybody through.
fn is_guarded(owned: &Number, urls: &NumberUrls) -> bool {
    urls.fallback.is_none() && rings_allowlist(owned)
}

/// The tunnel that rings in the place of what is not known, where no Function is known: setting the number to these
/// addresses could take an allowlist away that was in front of it before.
fn unknown_before<'a>(owned: &'a Number, urls: &NumberUrls) -> Option<&'a str> {
    let is = owned.voice_url.as_deref()?;
    (urls.fallback.is_none() && is_tunnel(is) && !is_same(Some(is), &urls.voice)).then_some(is)
}

/// Whether it rings an allowlist Function, wherever that is.
pub fn rings_allowlist(owned: &Number) -> bool {
    owned.voice_url.as_deref().is_some_and(is_allowlist)
}

/// Whether this is the address of an allowlist Function.
pub fn is_allowlist(url: &str) -> bool {
    url.split(['?', '#']).next().is_some_and(|path| path.ends_with("/allowlist-function"))
}

/// What makes a number ring as `urls` say. A fallback that somebody set stays where we have none, and so does an
/// allowlist in front.
pub fn mending(owned: &Number, urls: &NumberUrls) -> Change {
    let wanted =
        |is: &Option<String>, should: &str| (!is_same(is.as_deref(), should)).then(|| should.to_owned());
    Change {
        voice_url: wanted(&owned.voice_url, &urls.voice).filter(|_| !is_guarded(owned, urls)),
        fallback_url: urls.fallback.as_deref().and_then(|should| wanted(&owned.fallback_url, should)),
        status_callback: wanted(&owned.status_callback, &urls.status),
        take_back: owned.is_taken(),
        ..Change::default()
    }
}

/// What names end with that no public DNS has: those of networks at home and of companies, Fly's private ones, and
/// those that RFC 6761 keeps free.
const OF_NO_DNS: [&str; 8] =
    ["internal", "flycast", "local", "localhost", "lan", "home.arpa", "test", "invalid"];

/// Why Twilio cannot reach this address, or should not: a number is never set to it.
pub fn out_of_reach(url: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(url) else { return Some("is no address") };
    let private = match url.host() {
        None => return Some("has no host"),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_under = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
            !name.contains('.') || OF_NO_DNS.iter().any(|end| is_under(end))
        }
        Some(Host::Ipv4(ip)) => is_near(ip),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(is_near)
        }
    };
    if private {
        return Some("is an address of this machine or network, which Twilio cannot reach");
    }
    (url.scheme() != "https")
        .then_some("is not https: what callers say would be open to everybody on the way")
}

fn is_near(ip: Ipv4Addr) -> bool {
    // What providers share among their customers: RFC 6598.
    let is_shared = matches!(ip.octets(), [100, 64..=127, ..]);
    ip.is_loopback() || ip.is_private() || ip.is_unspecified() || ip.is_link_local() || is_shared
}

/// Whether two addresses are asked alike: what follows a `#` is for Twilio alone, such as its time limits.
fn is_same(is: Option<&str>, should: &str) -> bool {
    is.is_some_and(|is| is.split('#').next() == should.split('#').next())
}

#[cfg(test)]
mod tests;
