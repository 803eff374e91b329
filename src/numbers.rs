//! The account's numbers compared with the folder's assistants: who answers each, what is wrong with it at Twilio, and
//! the change that would fix it.
//!
//! It makes no requests: the numbers, the roster and the addresses are arguments.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use url::{Host, Url};

use crate::assistant::Roster;
use crate::link::quick_tunnel::is_tunnel;
use crate::link::twilio_rest::{Change, Number};
use crate::phone::PhoneNumber;
use crate::problem::catalogue::Number as Problem;
use crate::settings::NumberUrls;

/// One number of the account, of the folder, or of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub number: PhoneNumber,
    /// As it is at Twilio; `None` if the account does not own it.
    pub owned: Option<Number>,
    pub answered: Answered,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
    /// What would fix it. Empty if nothing would, or if it is left alone on purpose.
    pub change: Change,
}

/// Who answers a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// The assistant of this name, which lists the number.
    ByEntry(String),
    /// The assistant of this name, which lists `*`.
    ByStar(String),
    ByNobody,
}

/// What is remembered of a number that points at a tunnel of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The tunnel is still open.
    pub open: bool,
    /// Its voice URL before.
    pub before: Option<String>,
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

    /// The assistant's name.
    pub fn assistant(&self) -> Option<&str> {
        match self {
            Self::ByEntry(name) | Self::ByStar(name) => Some(name),
            Self::ByNobody => None,
        }
    }
}

/// A URL for people, without its login and its query, which may contain a key.
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

/// A whole URL except its password, for the owner's terminal: he may want it back. Never for a log: a query may contain a
/// number.
pub fn whole_url(url: &str) -> String {
    let hidden = Url::parse(url).ok().filter(|url| url.password().is_some()).and_then(|mut url| {
        url.set_password(Some("xxx")).ok()?;
        Some(url.to_string())
    });
    let whole = hidden.unwrap_or_else(|| url.to_owned());
    whole.chars().filter(|letter| !letter.is_control()).collect()
}

/// Every number of the account and of the folder, sorted. Without `urls`, addresses are not compared. `remembered`: what is
/// known of a number that points at a tunnel.
pub fn compare(
    owned: Vec<Number>,
    roster: &Roster,
    urls: Option<&NumberUrls>,
    remembered: &dyn Fn(&Number) -> Option<Memory>,
) -> Vec<Row> {
    let mut numbers: BTreeMap<PhoneNumber, Option<Number>> = BTreeMap::new();
    for assistant in roster.iter() {
        numbers.extend(assistant.numbers().iter().map(|number| (number.clone(), None)));
    }
    numbers.extend(owned.into_iter().map(|number| (number.number.clone(), Some(number))));
    let rows = numbers.into_iter().map(|(number, owned)| {
        let answered = Answered::of(roster, &number);
        let mut row = Row { number, owned, answered, problems: Vec::new(), change: Change::default() };
        row.check(urls, remembered);
        row.problems.sort_by_key(|problem| Reverse(problem.severity()));
        row
    });
    rows.collect()
}

impl Row {
    fn check(&mut self, urls: Option<&NumberUrls>, remembered: &dyn Fn(&Number) -> Option<Memory>) {
        let Some(owned) = &self.owned else {
            let example = self.number.is_example();
            return self.problems.push(if example { Problem::Example } else { Problem::NotOwned });
        };
        let problems = &mut self.problems;
        if self.answered == Answered::ByNobody {
            let ours = urls.is_some_and(|urls| is_same(owned.voice_url.as_deref(), &urls.voice));
            problems.push(if ours && !owned.is_taken() { Problem::NoAssistant } else { Problem::Unanswered });
            return;
        }
        if !owned.voice {
            return problems.push(Problem::NoVoice);
        }
        if owned.application.is_some() {
            problems.push(Problem::Application);
        } else if owned.trunk.is_some() {
            problems.push(Problem::Trunk);
        }
        let Some(urls) = urls else { return };
        let memory = remembered(owned);
        if memory.as_ref().is_some_and(|memory| memory.open) {
            return problems.push(Problem::OpenTunnel);
        }
        if let Some(is) = unknown_tunnel(owned, urls, memory.is_some()) {
            let is = shown_url(is);
            let guarded = memory.and_then(|memory| memory.before).is_some_and(|before| is_allowlist(&before));
            return problems.push(match guarded {
                true => Problem::GuardedTunnel { is },
                false => Problem::Tunnel { is },
            });
        }
        self.change = fix(owned, urls);
        let was = |is: &Option<String>| is.as_deref().map(shown_url);
        match (&self.change.voice_url, was(&owned.voice_url)) {
            _ if is_guarded(owned, urls) => problems.push(Problem::FunctionInFront),
            (Some(should), Some(is)) => problems.push(Problem::VoiceUrl { is, should: should.clone() }),
            (Some(should), None) => problems.push(Problem::NoVoiceUrl { should: should.clone() }),
            (None, _) if owned.voice_method.eq_ignore_ascii_case("GET") => problems.push(Problem::ByGet),
            (None, _) => {}
        }
        match (&self.change.fallback_url, was(&owned.fallback_url)) {
            (Some(should), is) => problems
                .push(Problem::Fallback { is: is.unwrap_or("not set".to_owned()), should: should.clone() }),
            (None, None) => problems.push(Problem::NoFallback),
            (None, Some(_)) => {}
        }
        if let Some(should) = &self.change.status_callback {
            let is = was(&owned.status_callback).unwrap_or("not set".to_owned());
            problems.push(Problem::StatusCallback { is, should: should.clone() });
        }
    }

    /// What `numbers sync` changes.
    ///
    /// # Errors
    /// The problem for which the number is left alone. `take_back`: what was set on purpose is changed too.
    pub fn to_apply(&self, urls: &NumberUrls, take_back: bool) -> Result<Change, &Problem> {
        let leaves = |problem: &&Problem| match problem {
            Problem::NotOwned | Problem::NoVoice | Problem::OpenTunnel | Problem::GuardedTunnel { .. } => {
                true
            }
            Problem::Application | Problem::Trunk | Problem::Tunnel { .. } => !take_back,
            _ => false,
        };
        if let Some(problem) = self.problems.iter().find(leaves) {
            return Err(problem);
        }
        let is_tunnel = self.problems.iter().any(|problem| matches!(problem, Problem::Tunnel { .. }));
        Ok(match &self.owned {
            Some(owned) if is_tunnel => fix(owned, urls),
            Some(_) | None => self.change.clone(),
        })
    }
}

/// Whether an allowlist Function is in front of the number and `urls` do not include one: setting them would let everybody
/// through.
fn is_guarded(owned: &Number, urls: &NumberUrls) -> bool {
    urls.fallback.is_none() && rings_allowlist(owned)
}

/// The tunnel that the number points at, if no Function is known: changing it could remove an allowlist that was in front
/// of the number before. A tunnel may replace one that nothing remembers: its owner tries things out.
fn unknown_tunnel<'a>(owned: &'a Number, urls: &NumberUrls, is_remembered: bool) -> Option<&'a str> {
    let is = owned.voice_url.as_deref()?;
    let replaces = is_tunnel(&urls.voice) && !is_remembered;
    (urls.fallback.is_none() && is_tunnel(is) && !is_same(Some(is), &urls.voice) && !replaces).then_some(is)
}

/// Whether its voice URL is an allowlist Function, wherever that is.
pub fn rings_allowlist(owned: &Number) -> bool {
    owned.voice_url.as_deref().is_some_and(is_allowlist)
}

/// Whether this is the address of an allowlist Function.
pub fn is_allowlist(url: &str) -> bool {
    url.split(['?', '#']).next().is_some_and(|path| path.ends_with("/allowlist-function"))
}

/// What points a number at `urls`. A fallback stays if we have none, and so does an allowlist in front.
fn fix(owned: &Number, urls: &NumberUrls) -> Change {
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

/// Endings of names that public DNS never has: those of home and company networks, of Fly's private network, and those
/// that RFC 6761 reserves.
const PRIVATE_DOMAINS: [&str; 8] =
    ["internal", "flycast", "local", "localhost", "lan", "home.arpa", "test", "invalid"];

/// Why Twilio cannot use an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    #[error("is not a URL")]
    NotAUrl,
    #[error("has no host")]
    NoHost,
    #[error("is an address of this machine or network")]
    Private,
    #[error("is not https, so calls would not be encrypted")]
    NotHttps,
}

/// Why Twilio cannot use this address. A number is never pointed at it.
pub fn unreachable(url: &str) -> Option<Unreachable> {
    let Ok(url) = Url::parse(url) else { return Some(Unreachable::NotAUrl) };
    let private = match url.host() {
        None => return Some(Unreachable::NoHost),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_under = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
            !name.contains('.') || PRIVATE_DOMAINS.iter().any(|end| is_under(end))
        }
        Some(Host::Ipv4(ip)) => is_private(ip),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(is_private)
        }
    };
    if private {
        return Some(Unreachable::Private);
    }
    (url.scheme() != "https").then_some(Unreachable::NotHttps)
}

fn is_private(ip: Ipv4Addr) -> bool {
    // Shared by customers of one provider: RFC 6598.
    let is_shared = matches!(ip.octets(), [100, 64..=127, ..]);
    ip.is_loopback() || ip.is_private() || ip.is_unspecified() || ip.is_link_local() || is_shared
}

/// A text from Twilio that is safe for a terminal.
pub fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

/// Old → new, one line for each setting, so that the owner can restore the old ones.
pub fn steps(owned: &Number, change: &Change) -> Vec<String> {
    let mut lines = Vec::new();
    if let (true, Some(what), Some(sid)) =
        (change.take_back, owned.taken_by(), owned.application.as_ref().or(owned.trunk.as_ref()))
    {
        lines.push(format!("{what}: {} → none", printable(sid)));
    }
    for (what, old, method, new) in [
        ("voice URL", &owned.voice_url, &owned.voice_method, &change.voice_url),
        ("fallback URL", &owned.fallback_url, &owned.fallback_method, &change.fallback_url),
        ("status callback", &owned.status_callback, &owned.status_method, &change.status_callback),
    ] {
        let Some(new) = new else { continue };
        lines.push(match old.as_deref().map(whole_url) {
            Some(old) if !method.eq_ignore_ascii_case("POST") => {
                format!("{what}: {old} ({}) → {new} (POST)", printable(method))
            }
            old => format!("{what}: {} → {new}", old.as_deref().unwrap_or("none")),
        });
    }
    lines
}

/// Whether two addresses are the same without their fragments, which only Twilio reads.
fn is_same(is: Option<&str>, should: &str) -> bool {
    is.is_some_and(|is| is.split('#').next() == should.split('#').next())
}

#[cfg(test)]
mod tests;
