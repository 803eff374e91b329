//! The account's numbers at Twilio, as their owner asks for them: listing them, and setting what they call.
//!
//! Numbers are shown in full here, unlike anywhere else: the owner has to tell his own numbers apart. Standard error
//! shows none.

use std::path::Path;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::assistant::Roster;
use crate::link::tls;
use crate::link::twilio_rest::{Account, NotSet, Number, RestError};
use crate::numbers::{self, Answered, Row};
use crate::phone::PhoneNumber;
use crate::problem::catalogue::{self, Setting};
use crate::problem::{Problem, counted};
use crate::settings::{Need, NumberUrls, Settings};
use crate::terminal::{Failure, Format, print, report};
use crate::tunnel::pointing::{Pointed, compare, state_dir};
use crate::workspace::Workspace;

/// What can be done with the account's numbers.
#[derive(Debug, Subcommand)]
pub enum Numbers {
    /// List the account's numbers with the assistants that answer them, and what is wrong
    List {
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Show what would change at Twilio; with --apply, change it
    Sync(Sync),
}

/// What `numbers sync` does.
#[derive(Debug, Args)]
pub struct Sync {
    /// Set the voice URL, fallback URL and status callback of each number
    #[arg(long)]
    apply: bool,
    /// Include the numbers that only "*" answers
    #[arg(long)]
    all: bool,
    /// Include numbers that a TwiML application, a SIP trunk or a tunnel answers, and take them back
    #[arg(long)]
    take_back: bool,
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
        let workspace = Workspace::open()?;
        // The account's credentials are sent to this address.
        let of_twilio = |problem: &&Problem| problem.of_setting() == Some("TWILIO_API_URL");
        report(&workspace.problems.iter().filter(of_twilio).cloned().collect::<Vec<_>>());
        let account = account(&workspace.settings)?;
        let roster = workspace.roster_in_force().await?;
        Ok(Self { settings: workspace.settings, account, roster })
    }

    async fn rows(&self, urls: Option<&NumberUrls>) -> Result<Vec<Row>, Failure> {
        let owned = self.account.numbers().await.map_err(failure)?;
        Ok(compare(owned, &self.roster, urls, state_dir(&self.settings)))
    }
}

/// The account, or what is missing to act for it.
pub fn account(settings: &Settings) -> Result<Account, Failure> {
    let mut problems = settings.missing(Need::Account);
    // A SID that no account has is not worth a request.
    let of_sid = |problem: &Problem| problem.of_setting() == Some("TWILIO_ACCOUNT_SID");
    problems.extend(settings.check_secrets().into_iter().filter(of_sid));
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let secure = settings.twilio_api_url.starts_with("https:");
    let tls = tls::client_config(secure, settings.ssl_cert_file.as_deref())?;
    let account = Account::from_settings(settings, &tls).map_err(anyhow::Error::from)?;
    account.ok_or_else(|| anyhow!("there are no credentials for Twilio").into())
}

fn failure(error: RestError) -> Failure {
    anyhow!("{error}: {}", error.help()).into()
}

/// `switchboard numbers list`.
async fn list(format: Format) -> Result<(), Failure> {
    let desk = Desk::open().await?;
    let urls = desk.settings.number_urls().filter(|urls| check_urls(urls).is_none());
    let rows = desk.rows(urls.as_ref()).await?;
    let state = state_dir(&desk.settings);
    if format == Format::Json {
        return print(&format!("{:#}", rows.iter().map(|row| json(row, state)).collect::<Value>()));
    }
    if rows.is_empty() {
        return print("The account owns no number, and no assistant lists one. Buy one in Twilio's console.");
    }
    let mut text = table(&rows, urls.is_some());
    if urls.is_none() {
        text += "\nWhat the numbers should call is unknown: set PUBLIC_URL to the https address that Twilio calls.\n";
    } else if rows.iter().any(|row| !row.change.is_empty()) {
        text += "\n`switchboard numbers sync` shows what it would change.\n";
    }
    print(&text)
}

/// Why numbers cannot be pointed at these addresses.
pub fn check_urls(urls: &NumberUrls) -> Option<Problem> {
    let of = |name: &str, url: &str| {
        let why = numbers::unreachable(url)?.to_string();
        Some(Problem::setting(name, Setting::PublicUrlUnreachable { name: name.to_owned(), why }))
    };
    // With Functions, the voice URL is theirs.
    of("PUBLIC_URL", &urls.status).or_else(|| of("TWILIO_FUNCTIONS_URL", &urls.voice))
}

/// `compared`: it is known what numbers should call; otherwise the table shows what they call.
fn table(rows: &[Row], compared: bool) -> String {
    let mut lines = vec![["NUMBER", "NAME", "ANSWERED BY", "AT TWILIO"].map(str::to_owned)];
    for row in rows {
        let name = row.owned.as_ref().map(|owned| numbers::printable(owned.friendly_name.expose()));
        let name = name.filter(|name| !name.is_empty() && !is_own_name(name, &row.number));
        let describe =
            |problem: &catalogue::Number| format!("{}: {}", problem.severity().name(), problem.message());
        let mut states: Vec<String> = row.problems.iter().map(describe).collect();
        if let Some(owned) = row.owned.as_ref().filter(|owned| !owned.is_taken()) {
            if !compared {
                states.push(format!("calls {}", voice_url(owned)));
            } else if states.is_empty() {
                states.push("ok".to_owned());
            }
        }
        let answered = match &row.answered {
            Answered::ByEntry(name) => name.clone(),
            Answered::ByStar(name) => format!("{name} (*)"),
            Answered::ByNobody => "nobody".to_owned(),
        };
        let mut head = [row.number.expose().to_owned(), name.unwrap_or("-".to_owned()), answered];
        for state in states {
            let [number, name, by] = std::mem::take(&mut head);
            lines.push([number, name, by, state]);
        }
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let [a, b, c] = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [number, name, by, state] in &lines {
        text.push_str(format!("{number:<a$}  {name:<b$}  {by:<c$}  {state}").trim_end());
        text.push('\n');
    }
    text
}

/// Whether Twilio itself gave the number this name: the number as people write it, such as `(555) 010-0001`.
fn is_own_name(name: &str, number: &PhoneNumber) -> bool {
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let is_number = name.chars().all(|c| c.is_ascii_digit() || "+ ()-.".contains(c));
    is_number && digits.len() >= 7 && number.expose().ends_with(&digits)
}

fn voice_url(owned: &Number) -> String {
    owned.voice_url.as_deref().map_or_else(|| "nothing".to_owned(), numbers::whole_url)
}

/// A number as `--format json` has it. URLs have no password. `before_tunnel` is `null` unless the number points at a tunnel
/// of this folder; its `voice_url` is the one before, `null` for none.
fn json(row: &Row, state: &Path) -> Value {
    let url = |url: &Option<String>| url.as_deref().map(numbers::whole_url);
    let owned = row.owned.as_ref().map(|owned| {
        json!({
            "sid": owned.sid,
            "name": owned.friendly_name.expose(),
            "voice": owned.voice,
            "voice_url": url(&owned.voice_url),
            "voice_method": owned.voice_method,
            "fallback_url": url(&owned.fallback_url),
            "status_callback": url(&owned.status_callback),
            "application": owned.application,
            "trunk": owned.trunk,
            "before_tunnel": Pointed::rang_before(state, owned).map(|voice_url| json!({ "voice_url": voice_url })),
        })
    });
    let findings = row.problems.iter().map(|problem| {
        json!({
            "severity": problem.severity().name(),
            "code": problem.code(),
            "message": problem.message(),
            "help": problem.fix(),
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

/// `switchboard numbers sync`.
async fn sync(options: &Sync) -> Result<(), Failure> {
    let desk = Desk::open().await?;
    let Some(urls) = desk.settings.number_urls() else {
        return Err(vec![Problem::setting("PUBLIC_URL", Setting::MissingPublicUrl)].into());
    };
    if let Some(problem) = check_urls(&urls) {
        return Err(vec![problem].into());
    }
    let mut tally = Tally::default();
    for row in desk.rows(Some(&urls)).await? {
        sync_one(&desk, &row, &urls, options, &mut tally).await;
    }
    tally.finish(options)
}

/// What happened to the numbers.
#[derive(Default)]
struct Tally {
    /// Correct already.
    correct: usize,
    /// Set, or to be set.
    changed: usize,
    failed: usize,
    /// Left alone, though they do not call this server.
    left: usize,
    /// Skipped without `--all`.
    starred: usize,
    /// Not tried, because no number can be set.
    skipped: usize,
    is_stopped: bool,
    problems: Vec<Problem>,
    /// Output that could not be written. The changes continue: half of them would be worse.
    unwritten: Option<Failure>,
}

impl Tally {
    fn print(&mut self, text: &str) {
        if let Err(why) = print(text) {
            self.unwritten.get_or_insert(why);
        }
    }
}

/// Shows what would change for one number, and changes it with `--apply`.
async fn sync_one(desk: &Desk, row: &Row, urls: &NumberUrls, options: &Sync, tally: &mut Tally) {
    let to_apply = row.to_apply(urls, options.take_back);
    let name = match &row.answered {
        Answered::ByEntry(name) => name,
        Answered::ByStar(name) if options.all => name,
        Answered::ByStar(_) => {
            tally.starred += usize::from(!to_apply.is_ok_and(|change| change.is_empty()));
            return;
        }
        Answered::ByNobody => return,
    };
    // Nobody waits for it to ring.
    if row.owned.is_none() && row.number.is_example() {
        return;
    }
    let head = format!("{} ({name})", row.number.expose());
    let describe = |problem: &catalogue::Number| match problem.fix() {
        Some(fix) => format!("{head}: {}; {fix}", problem.message()),
        None => format!("{head}: {}", problem.message()),
    };
    let (change, owned) = match (to_apply, &row.owned) {
        (Ok(change), Some(owned)) => (change, owned),
        (Err(problem), _) => {
            tally.left += 1;
            return tally.print(&describe(problem));
        }
        (Ok(_), None) => return,
    };
    if let Some(guarded) = row.problems.iter().find(|problem| **problem == catalogue::Number::FunctionInFront)
    {
        tally.print(&describe(guarded));
    }
    if change.is_empty() {
        tally.correct += 1;
        return;
    }
    if tally.is_stopped {
        tally.skipped += 1;
        return;
    }
    tally.print(&format!("{head}:"));
    numbers::steps(owned, &change).iter().for_each(|step| tally.print(&format!("  {step}")));
    if !options.apply {
        tally.changed += 1;
        return;
    }
    match desk.account.set_number(&owned.sid, &change).await {
        Ok(()) => {
            tally.changed += 1;
            tally.print("  set");
        }
        Err(why) => {
            tally.failed += 1;
            tally.is_stopped = matches!(why, NotSet::Refused(error) if error.affects_all());
            tally.print("  not set");
            let what = catalogue::Number::NotSet { why: why.to_string() };
            tally.problems.push(Problem::file("twilio", what));
        }
    }
}

impl Tally {
    fn finish(mut self, options: &Sync) -> Result<(), Failure> {
        let changed = if options.apply { "changed" } else { "to change" };
        let mut parts = vec![format!("{} {changed}", counted(self.changed, "number"))];
        for (number, what) in [
            (self.failed, "failed"),
            (self.skipped, "not tried"),
            (self.left, "left alone"),
            (self.correct, "already correct"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {what}"));
            }
        }
        let mut text = format!("{}.\n", parts.join(", "));
        if self.starred > 0 {
            let starred = counted(self.starred, "number");
            text +=
                &format!("Skipped, because only \"*\" answers them: {starred}. Add --all to include them.\n");
        }
        if !options.apply && self.changed > 0 {
            text += "Nothing was changed. Add --apply to make these changes.\n";
        }
        self.print(&text);
        report(&self.problems);
        match self.unwritten {
            Some(why) => Err(why),
            None if options.apply && self.failed + self.left > 0 => Err(Failure::Reported),
            None => Ok(()),
        }
    }
}
