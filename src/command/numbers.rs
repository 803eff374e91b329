//! The account's numbers at Twilio, as their owner asks for them: which there are, who answers each, and setting what
//! each rings.
//!
//! Numbers are shown in full here, unlike anywhere else: the owner has to tell his own numbers apart, and asked for
//! nothing but them. What goes to standard error stays without them.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::say::say;
use super::{Failure, environment, folder_in_force, report, settings_file};
use crate::assistant::Roster;
use crate::link::tls;
use crate::link::twilio_rest::{Account, Change, NotSet, Number, RestError};
use crate::numbers::{self, Answered, Finding, Row, Severity};
use crate::phone::PhoneNumber;
use crate::problem::Problem;
use crate::settings::{NumberUrls, Settings, Sources};
use crate::tunnel::pointing::{Hold, Pointed};

/// What can be done with the account's numbers.
#[derive(Debug, Subcommand)]
pub enum Numbers {
    /// List the account's numbers beside the folder's assistants, with what is wrong at Twilio
    List {
        /// How to tell it
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Show what differs from what the numbers should ring; with --apply, set it
    Sync(Sync),
}

/// What `numbers sync` does.
#[derive(Debug, Args)]
pub struct Sync {
    /// Set voice URL, fallback URL and status callback of each number, as shown without it
    #[arg(long)]
    apply: bool,
    /// Also the numbers that only "*" answers; otherwise those that a file lists
    #[arg(long)]
    all: bool,
    /// Also numbers that a TwiML application, a SIP trunk or a tunnel answers: it is taken off them
    #[arg(long)]
    take_back: bool,
}

/// How `numbers list` tells what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Text,
    /// An array, for programs
    Json,
}

/// `switchboard numbers …`.
pub async fn numbers(what: Numbers) -> Result<(), Failure> {
    match what {
        Numbers::List { format } => list(format).await,
        Numbers::Sync(options) => sync(&options).await,
    }
}

/// What is known before Twilio is asked.
struct Desk {
    settings: Settings,
    account: Account,
    roster: Roster,
}

impl Desk {
    async fn open() -> Result<Self, Failure> {
        let environment = environment()?;
        let settings = Settings::read(&Sources { file: settings_file()?, environment: environment.clone() })?;
        // Here the account's credentials are sent, and changes are asked for by them: nothing goes anywhere else.
        report(settings.twilio_in_clear_text().map_or(&[][..], std::slice::from_ref));
        let account = account(&settings)?;
        let roster = folder_in_force(&settings, &environment).await?;
        Ok(Self { settings, account, roster })
    }

    async fn rows(&self, urls: Option<&NumberUrls>) -> Result<Vec<Row>, Failure> {
        let owned = self.account.numbers().await.map_err(told)?;
        Ok(compare(owned, &self.roster, urls, state_dir(&self.settings)))
    }
}

/// [`numbers::compare`], with what `tunnel.json` remembers.
pub fn compare(owned: Vec<Number>, roster: &Roster, urls: Option<&NumberUrls>, state: &Path) -> Vec<Row> {
    let mut rows = numbers::compare(owned, roster, urls);
    if let Some(urls) = urls {
        let is_forgotten = |row: &&mut Row| {
            row.owned.as_ref().is_some_and(|owned| Pointed::rang_before(state, owned).is_none())
        };
        rows.iter_mut().filter(is_forgotten).for_each(|row| row.replace_tunnel(urls));
    }
    rows
}

/// The account, or what is missing or cannot be right to act for it.
pub fn account(settings: &Settings) -> Result<Account, Failure> {
    let secure = settings.twilio_api_url.starts_with("https:");
    let missing = |name: &str, help: &str| {
        let message = format!("{name} is not set: Twilio does not say what numbers there are without it");
        Problem::about("environment", "setting.missing", message).help(help)
    };
    let mut problems = Vec::new();
    const SID: &str = "copy it from the start page of the Twilio console into `.env`: it begins with AC";
    if settings.twilio_account_sid.is_none() {
        problems.push(missing("TWILIO_ACCOUNT_SID", SID));
    }
    // One that no account has is not worth a request.
    let odd = settings.odd_secrets().into_iter().find(|odd| odd.setting == "TWILIO_ACCOUNT_SID");
    problems.extend(odd.map(|odd| Problem::about("environment", "setting.value", odd.message).help(SID)));
    let has_key = settings.twilio_api_key.is_some() && settings.twilio_api_secret.is_some();
    if settings.twilio_auth_tokens.is_empty() && !has_key {
        problems.push(missing(
            "TWILIO_AUTH_TOKEN",
            "copy it from the start page of the Twilio console into `.env`; or make an API key there, and set \
             TWILIO_API_KEY and TWILIO_API_SECRET",
        ));
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let tls = tls::client_config(secure, settings.ssl_cert_file.as_deref())?;
    let account = Account::from_settings(settings, &tls).context("TLS cannot be set up")?;
    account.ok_or_else(|| anyhow!("there are no credentials for Twilio").into())
}

/// Where a tunnel remembers what its number rang before.
pub fn state_dir(settings: &Settings) -> &Path {
    // Where the owner has no folder for state, it is the one that this is started in.
    settings.state_dir.as_deref().unwrap_or(Path::new("."))
}

fn told(error: RestError) -> Failure {
    anyhow!("{error}: {}", error.help()).into()
}

/// `switchboard numbers list`.
async fn list(format: Format) -> Result<(), Failure> {
    let desk = Desk::open().await?;
    let urls = desk.settings.number_urls();
    let reachable = urls.as_ref().filter(|urls| unusable(urls).is_none());
    let rows = desk.rows(reachable).await?;
    let state = state_dir(&desk.settings);
    if format == Format::Json {
        return say(&format!("{:#}", rows.iter().map(|row| as_json(row, state)).collect::<Value>()));
    }
    if rows.is_empty() {
        return say("The account owns no number, and no assistant has one: buy one in Twilio's console.");
    }
    let mut text = table(&rows, reachable.is_some(), state);
    if reachable.is_none() {
        text +=
            "\nWhat they should ring is not known: set PUBLIC_URL to the https address that Twilio calls.\n";
    } else if rows.iter().any(|row| !row.change.is_empty()) {
        text += "\n`switchboard numbers sync` shows what would be changed.\n";
    }
    say(&text)
}

/// Why numbers cannot be set to these.
pub fn unusable(urls: &NumberUrls) -> Option<Problem> {
    let public = ("PUBLIC_URL", &urls.status);
    // Behind the Functions' address, the voice URL is Twilio's own.
    let voice = ("TWILIO_FUNCTIONS_URL", &urls.voice);
    let (name, why) =
        [public, voice].into_iter().find_map(|(name, url)| Some((name, numbers::out_of_reach(url)?)))?;
    let help = "set it to the https address that Twilio calls, such as https://phone.example.com; while \
                developing, `switchboard serve --tunnel` makes one";
    Some(Problem::about("environment", "setting.out_of_reach", format!("{name} {why}")).help(help))
}

/// `compared`: it is known what numbers should ring; otherwise what they ring is shown.
fn table(rows: &[Row], compared: bool, state: &Path) -> String {
    let mut lines = vec![["NUMBER", "NAME", "ANSWERED BY", "AT TWILIO"].map(str::to_owned)];
    for row in rows {
        let name = row.owned.as_ref().map(|owned| plain(owned.friendly_name.expose()));
        let name = name.filter(|name| !name.is_empty() && !is_own_name(name, &row.number));
        let told = |finding: &Finding| format!("{}: {finding}", word(finding));
        let mut states: Vec<String> = row.findings.iter().map(told).collect();
        match &row.owned {
            Some(owned) if !compared && !says_what_rings(row) => {
                states.push(format!("rings {}", rings(owned)))
            }
            Some(_) if states.is_empty() => states.push("right".to_owned()),
            Some(_) | None => {}
        }
        let before = row.owned.as_ref().and_then(|owned| before_tunnel(owned, state));
        if let Some(before) = before {
            // Below the line that says which tunnel it rings.
            let says = |finding: &Finding| is_tunnel(finding) || matches!(finding, Finding::VoiceUrl { .. });
            let at = row.findings.iter().position(says).map_or(states.len(), |at| at + 1);
            states.insert(at, format!("  {before}"));
        }
        let mut head =
            [row.number.expose().to_owned(), name.unwrap_or("-".to_owned()), answered(&row.answered)];
        for state in states {
            let [number, name, by] = std::mem::take(&mut head);
            lines.push([number, name, by, state]);
        }
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [number, name, by, state] in &lines {
        let [a, b, c] = widths;
        text.push_str(format!("{number:<a$}  {name:<b$}  {by:<c$}  {state}").trim_end());
        text.push('\n');
    }
    text
}

/// Whether this is the name that Twilio itself gives a number: the number, with or without its country code, as people
/// write it, such as `(555) 010-0001`.
fn is_own_name(name: &str, number: &PhoneNumber) -> bool {
    /// The longest country code.
    const CODE: usize = 3;
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let all = number.expose().trim_start_matches('+');
    let is_written_so = name
        .chars()
        .all(|letter| letter.is_ascii_digit() || matches!(letter, '+' | ' ' | '(' | ')' | '-' | '.'));
    is_written_so && all.strip_suffix(&digits).is_some_and(|code| code.len() <= CODE)
}

fn says_what_rings(row: &Row) -> bool {
    row.findings.iter().any(|finding| matches!(finding, Finding::Application | Finding::Trunk))
}

/// What rings when the number is called.
fn rings(owned: &Number) -> String {
    match owned.taken_by() {
        Some(what) => what.to_owned(),
        None => owned.voice_url.as_deref().map_or_else(|| "nothing".to_owned(), numbers::whole_url),
    }
}

fn is_tunnel(finding: &Finding) -> bool {
    matches!(finding, Finding::Tunnel { .. })
}

/// What a number rang before the tunnel that it rings, where that is remembered here.
pub fn before_tunnel(owned: &Number, state: &Path) -> Option<String> {
    let before = Pointed::rang_before(state, owned)?.unwrap_or_else(|| "nothing".to_owned());
    let known = if numbers::is_allowlist(&before) { ": that is the allowlist Function" } else { "" };
    Some(format!("before that tunnel it rang {before}, as tunnel.json says{known}"))
}

/// Whether that was an allowlist Function: it is not taken away, whatever is wished.
fn was_guarded(owned: &Number, state: &Path) -> bool {
    Pointed::rang_before(state, owned).flatten().is_some_and(|before| numbers::is_allowlist(&before))
}

/// Whether it rings a tunnel that is open, started here: that one puts it back, and nothing is set meanwhile.
pub fn rings_open_tunnel(owned: &Number, state: &Path) -> bool {
    Hold::is_taken(state) && Pointed::rang_before(state, owned).is_some()
}

/// What to do about a finding: nothing is set while the number's tunnel is open, and --take-back does nothing about an
/// allowlist that tunnel.json knows of.
pub fn help(row: &Row, finding: &Finding, state: &Path) -> &'static str {
    let is_so = |what: fn(&Number, &Path) -> bool| row.owned.as_ref().is_some_and(|owned| what(owned, state));
    let is_set_by_sync = matches!(
        finding,
        Finding::Application
            | Finding::Trunk
            | Finding::Tunnel { .. }
            | Finding::VoiceUrl { .. }
            | Finding::Fallback { .. }
            | Finding::StatusCallback { .. }
    );
    if is_set_by_sync && is_so(rings_open_tunnel) {
        return "end `switchboard serve --tunnel` here first: it is put back when that tunnel ends";
    }
    match is_tunnel(finding) && is_so(was_guarded) {
        true => {
            "set TWILIO_FUNCTIONS_URL to that Function's address up to /allowlist-function, and sync again; or run \
             `switchboard serve --tunnel`, which puts the Function in front again; or do that in Twilio's console"
        }
        false => row.help(finding),
    }
}

fn answered(answered: &Answered) -> String {
    match answered {
        Answered::ByEntry(name) => name.clone(),
        Answered::ByStar(name) => format!("{name} (*)"),
        Answered::ByNobody => "nobody".to_owned(),
    }
}

fn word(finding: &Finding) -> &'static str {
    match finding.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A number as `--format json` has it. URLs are as in the table: without a password. `before_tunnel` is `null` but for a
/// number that rings a tunnel of this folder; there `voice_url` is what it rang before, `null` for nothing.
fn as_json(row: &Row, state: &Path) -> Value {
    let owned = row.owned.as_ref().map(|owned| {
        json!({
            "sid": owned.sid,
            "name": owned.friendly_name.expose(),
            "voice": owned.voice,
            "voice_url": owned.voice_url.as_deref().map(numbers::whole_url),
            "voice_method": owned.voice_method,
            "fallback_url": owned.fallback_url.as_deref().map(numbers::whole_url),
            "status_callback": owned.status_callback.as_deref().map(numbers::whole_url),
            "application": owned.application,
            "trunk": owned.trunk,
            "before_tunnel": Pointed::rang_before(state, owned).map(|voice_url| json!({ "voice_url": voice_url })),
        })
    });
    let findings = row.findings.iter().map(|finding| {
        json!({
            "severity": word(finding),
            "code": finding.code(),
            "message": finding.to_string(),
            "help": help(row, finding, state),
        })
    });
    json!({
        "number": row.number.expose(),
        "assistant": row.answered.assistant(),
        "by_star": matches!(row.answered, Answered::ByStar(_)),
        "twilio": owned,
        "findings": findings.collect::<Value>(),
    })
}

/// A text of somebody else's, as a terminal may show it.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

/// `switchboard numbers sync`.
async fn sync(options: &Sync) -> Result<(), Failure> {
    let desk = Desk::open().await?;
    let Some(urls) = desk.settings.number_urls() else {
        let message = "PUBLIC_URL is not set: it says what the numbers should ring";
        let help = "set it to the https address that Twilio calls, such as https://phone.example.com";
        return Err(vec![Problem::about("environment", "setting.missing", message).help(help)].into());
    };
    if let Some(problem) = unusable(&urls) {
        return Err(vec![problem].into());
    }
    let mut tally = Tally::default();
    for row in desk.rows(Some(&urls)).await? {
        one(&desk, &row, &urls, options, &mut tally).await;
    }
    tally.tell(options)
}

/// What became of the numbers.
#[derive(Default)]
struct Tally {
    /// Ring as they should already.
    right: usize,
    /// To be set, or set.
    changed: usize,
    /// Could not be set.
    failed: usize,
    /// Do not ring this server, and are not to be set.
    left: usize,
    /// Left out for want of `--all`.
    starred: usize,
    /// Not tried: nothing can be set at the moment.
    untried: usize,
    is_stopped: bool,
    problems: Vec<Problem>,
    /// What could not be said. What was begun goes on: half of it is worse than all of it unsaid.
    unsaid: Option<Failure>,
}

impl Tally {
    fn say(&mut self, text: &str) {
        if let Err(why) = say(text) {
            self.unsaid.get_or_insert(why);
        }
    }
}

/// Shows what one number needs, and does it where that is asked for.
async fn one(desk: &Desk, row: &Row, urls: &NumberUrls, options: &Sync, tally: &mut Tally) {
    let name = match &row.answered {
        Answered::ByEntry(name) => name,
        Answered::ByStar(name) if options.all => name,
        Answered::ByStar(_) => {
            let rings_tunnel = row.findings.iter().any(is_tunnel);
            tally.starred += usize::from(rings_tunnel || !row.change.is_empty());
            return;
        }
        Answered::ByNobody => return,
    };
    let head = format!("{} ({name})", row.number.expose());
    let owned = match &row.owned {
        Some(owned) if owned.voice => owned,
        // Nobody waits for it to ring.
        None if row.number.is_example() => return,
        _ => {
            tally.left += 1;
            let told = |finding| format!("{head}: {finding}: {}", row.help(finding));
            return row.findings.iter().for_each(|finding| tally.say(&told(finding)));
        }
    };
    if let Some(what) = owned.taken_by().filter(|_| !options.take_back) {
        tally.left += 1;
        tally.say(&format!(
            "{head}: {what} answers it, and somebody set it on purpose; it is left as it is. If this server is to \
             answer it, add --take-back"
        ));
        return;
    }
    let mut change = row.change.clone();
    let state = state_dir(&desk.settings);
    let before = before_tunnel(owned, state);
    let tunnel = row.findings.iter().find(|finding| is_tunnel(finding));
    if (tunnel.is_some() || !change.is_empty()) && rings_open_tunnel(owned, state) {
        tally.left += 1;
        tally.say(&format!(
            "{head}: it rings a tunnel that is open, and is left as it is: it is put back when that tunnel ends. End \
             `switchboard serve --tunnel` here first"
        ));
        return before.iter().for_each(|before| tally.say(&format!("  {before}")));
    }
    if let Some(tunnel) = tunnel {
        if !options.take_back || was_guarded(owned, state) {
            tally.left += 1;
            tally.say(&format!("{head}: {tunnel}: {}", help(row, tunnel, state)));
            return before.iter().for_each(|before| tally.say(&format!("  {before}")));
        }
        change = numbers::mending(owned, urls);
    }
    if let Some(guarded) = row.findings.iter().find(|finding| **finding == Finding::FunctionInFront) {
        tally.say(&format!("{head}: {guarded}: {}", row.help(guarded)));
    }
    if change.is_empty() {
        tally.right += 1;
        return;
    }
    if tally.is_stopped {
        tally.untried += 1;
        return;
    }
    before.iter().for_each(|before| tally.say(&format!("{head}: {before}")));
    tally.say(&format!("{head}:"));
    steps(owned, &change).iter().for_each(|step| tally.say(&format!("  {step}")));
    if !options.apply {
        tally.changed += 1;
        return;
    }
    match desk.account.set_number(&owned.sid, &change).await {
        Ok(()) => {
            tally.changed += 1;
            tally.say("  set");
        }
        Err(why) => {
            tally.failed += 1;
            tally.is_stopped = matches!(why, NotSet::Refused(error) if error.is_of_all());
            tally.say("  not set");
            let message = format!("a number of `{name}` could not be set: {why}");
            tally.problems.push(Problem::about("twilio", "number.not_set", message));
        }
    }
}

/// Old → new, a line for each setting; with the method where the old one is not asked by POST, as the new one is. For
/// whoever has to put it back, so in full.
pub(crate) fn steps(owned: &Number, change: &Change) -> Vec<String> {
    let mut lines = Vec::new();
    if change.take_back {
        let (what, sid) = match (&owned.application, &owned.trunk) {
            (Some(sid), _) => ("application", sid),
            (None, Some(sid)) => ("trunk", sid),
            (None, None) => return lines,
        };
        lines.push(format!("{what:<15} {} → none", plain(sid)));
    }
    for (what, old, method, new) in [
        ("voice URL", &owned.voice_url, &owned.voice_method, &change.voice_url),
        ("fallback URL", &owned.fallback_url, &owned.fallback_method, &change.fallback_url),
        ("status callback", &owned.status_callback, &owned.status_method, &change.status_callback),
    ] {
        let Some(new) = new else { continue };
        let old = old.as_deref().map(numbers::whole_url);
        lines.push(match old {
            Some(old) if !method.eq_ignore_ascii_case("POST") => {
                format!("{what:<15} {old} ({}) → {new} (POST)", plain(method))
            }
            old => format!("{what:<15} {} → {new}", old.as_deref().unwrap_or("none")),
        });
    }
    lines
}

impl Tally {
    fn tell(mut self, options: &Sync) -> Result<(), Failure> {
        let count = |count: usize| match count {
            1 => "1 number".to_owned(),
            count => format!("{count} numbers"),
        };
        let did = if options.apply { "set" } else { "to be set" };
        let mut parts = vec![format!("{} {did}", count(self.changed))];
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        if self.untried > 0 {
            parts.push(format!("{} not tried any more", self.untried));
        }
        match self.left {
            0 => {}
            1 => parts.push("1 left as it is".to_owned()),
            left => parts.push(format!("{left} left as they are")),
        }
        parts.push(format!("{} right already", self.right));
        let mut text = format!("{}.\n", parts.join(", "));
        if self.failed > 0 {
            text += "The errors say why: mend that, and run the same again, which sets only what is not right yet.\n";
        }
        if self.starred > 0 {
            text += &format!(
                "{} that only \"*\" answers: left as they are; --all sets them too.\n",
                count(self.starred)
            );
        }
        if !options.apply && self.changed > 0 {
            text += "Nothing was changed: run it with --apply to set this.\n";
        }
        self.say(&text);
        report(&self.problems);
        match self.unsaid {
            Some(why) => Err(why),
            None if options.apply && self.failed + self.left > 0 => Err(Failure::Told),
            None => Ok(()),
        }
    }
}
