//! The account's numbers at Twilio, as their owner asks for them: which there are, who answers each, and setting what
//! each rings.
//!
//! Numbers are shown in full here, unlike anywhere else: the owner has to tell his own numbers apart, and asked for
//! nothing but them. What goes to standard error stays without them.

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Failure, environment, folder, report, settings_file};
use crate::link::twilio_rest::{Account, Change, Number, RestError};
use crate::numbers::{self, Answered, Finding, Row, Severity};
use crate::problem::Problem;
use crate::serve;
use crate::settings::{NumberUrls, Settings, Sources};

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
    /// Also numbers that a TwiML application or a SIP trunk answers: it is taken off them
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
    roster: crate::assistant::Roster,
}

impl Desk {
    fn open() -> Result<Self, Failure> {
        let environment = environment()?;
        let settings = Settings::read(&Sources { file: settings_file()?, environment: environment.clone() })?;
        let account = account(&settings)?;
        let (roster, _) = folder(&settings.assistants_dir, &environment, &settings.providers())?;
        Ok(Self { settings, account, roster })
    }

    async fn rows(&self, urls: Option<&NumberUrls>) -> Result<Vec<Row>, Failure> {
        let owned = self.account.numbers().await.map_err(told)?;
        Ok(numbers::compare(owned, &self.roster, urls))
    }
}

/// The account, or what is missing to act for it.
pub fn account(settings: &Settings) -> Result<Account, Failure> {
    let secure = settings.twilio_api_url.starts_with("https:");
    let missing = |name: &str, help: &str| {
        let message = format!("{name} is not set: Twilio does not say what numbers there are without it");
        Problem::about("environment", "setting.missing", message).help(help)
    };
    let mut problems = Vec::new();
    if settings.twilio_account_sid.is_none() {
        problems.push(missing(
            "TWILIO_ACCOUNT_SID",
            "copy it from the start page of the Twilio console into `.env`: it begins with AC",
        ));
    }
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
    let tls = serve::client_config(secure, settings.ssl_cert_file.as_deref())?;
    let account = serve::account(settings, &tls).context("TLS cannot be set up")?;
    account.ok_or_else(|| anyhow!("there are no credentials for Twilio").into())
}

fn told(error: RestError) -> Failure {
    anyhow!("{error}: {}", error.help()).into()
}

/// `switchboard numbers list`.
async fn list(format: Format) -> Result<(), Failure> {
    let desk = Desk::open()?;
    let urls = desk.settings.number_urls();
    let reachable = urls.as_ref().filter(|urls| unusable(urls).is_none());
    let rows = desk.rows(reachable).await?;
    if format == Format::Json {
        println!("{:#}", rows.iter().map(as_json).collect::<Value>());
        return Ok(());
    }
    if rows.is_empty() {
        println!("The account owns no number, and no assistant has one: buy one in Twilio's console.");
        return Ok(());
    }
    print!("{}", table(&rows, reachable.is_some()));
    if reachable.is_none() {
        println!(
            "\nWhat they should ring is not known: set PUBLIC_URL to the https address that Twilio calls."
        );
    } else if rows.iter().any(|row| !row.change.is_empty()) {
        println!("\n`switchboard numbers sync` shows what would be changed.");
    }
    Ok(())
}

/// Why numbers cannot be set to these.
fn unusable(urls: &NumberUrls) -> Option<Problem> {
    let public = ("PUBLIC_URL", &urls.status);
    // Behind the Functions' address, the voice URL is Twilio's own.
    let voice = ("TWILIO_FUNCTIONS_URL", &urls.voice);
    let (name, why) =
        [public, voice].into_iter().find_map(|(name, url)| Some((name, numbers::out_of_reach(url)?)))?;
    let help = "set it to the https address that Twilio calls, such as https://phone.example.com; while \
                developing, `switchboard serve --tunnel` makes one";
    Some(Problem::about("environment", "setting.out_of_reach", format!("{name} {why}")).help(help))
}

fn table(rows: &[Row], compared: bool) -> String {
    let mut lines = vec![["NUMBER", "NAME", "ANSWERED BY", "AT TWILIO"].map(str::to_owned)];
    for row in rows {
        let number = row.number.expose();
        let name = row.owned.as_ref().map(|owned| plain(owned.friendly_name.expose())).unwrap_or_default();
        // Twilio's own name for a number is the number, with spaces and brackets.
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let is_number = !digits(&name).is_empty() && number.ends_with(&digits(&name));
        let name = if is_number || name.is_empty() { "-".to_owned() } else { name };
        let mut findings = row.findings.iter().map(|finding| format!("{}: {finding}", word(finding)));
        let none = if compared { "right" } else { "-" };
        let first = findings.next().unwrap_or_else(|| none.to_owned());
        lines.push([number.to_owned(), name, answered(&row.answered), first]);
        lines.extend(findings.map(|more| [String::new(), String::new(), String::new(), more]));
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

fn as_json(row: &Row) -> Value {
    let owned = row.owned.as_ref().map(|owned| {
        json!({
            "sid": owned.sid,
            "name": owned.friendly_name.expose(),
            "voice": owned.voice,
            "voice_url": owned.voice_url,
            "voice_method": owned.voice_method,
            "fallback_url": owned.fallback_url,
            "status_callback": owned.status_callback,
            "application": owned.application,
            "trunk": owned.trunk,
        })
    });
    let findings = row.findings.iter().map(|finding| {
        json!({
            "severity": word(finding),
            "code": finding.code(),
            "message": finding.to_string(),
            "help": finding.help(),
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
    let desk = Desk::open()?;
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
        one(&desk.account, &row, options, &mut tally).await;
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
    /// Could not be set, or do not arrive here for another reason.
    astray: usize,
    /// Left out for want of `--all`.
    starred: usize,
    problems: Vec<Problem>,
}

/// Shows what one number needs, and does it where that is asked for.
async fn one(account: &Account, row: &Row, options: &Sync, tally: &mut Tally) {
    let name = match &row.answered {
        Answered::ByEntry(name) => name,
        Answered::ByStar(name) if options.all => name,
        Answered::ByStar(_) => {
            tally.starred += usize::from(!row.change.is_empty());
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
            tally.astray += 1;
            return row.findings.iter().for_each(|finding| println!("{head}: {finding}: {}", finding.help()));
        }
    };
    if owned.is_taken() && !options.take_back {
        tally.astray += 1;
        let what = if owned.application.is_some() { "a TwiML application" } else { "a SIP trunk" };
        println!(
            "{head}: {what} answers it, and somebody set it on purpose; it is left as it is. If this server is to \
             answer it, add --take-back"
        );
        return;
    }
    if let Some(guarded) = row.findings.iter().find(|finding| **finding == Finding::FunctionInFront) {
        println!("{head}: {guarded}: {}", guarded.help());
    }
    if row.change.is_empty() {
        tally.right += 1;
        return;
    }
    println!("{head}:");
    steps(owned, &row.change).iter().for_each(|step| println!("  {step}"));
    if !options.apply {
        tally.changed += 1;
        return;
    }
    let done = account.change_number(&owned.sid, &row.change).await;
    let failed = match done {
        Ok(now) if took(&now, &row.change) => None,
        Ok(_) => Some("Twilio took the request, and did not do it".to_owned()),
        Err(error) => Some(format!("{error}: {}", error.help())),
    };
    match failed {
        None => {
            tally.changed += 1;
            println!("  set");
        }
        Some(why) => {
            tally.astray += 1;
            println!("  not set");
            let message = format!("a number of `{name}` could not be set: {why}");
            tally.problems.push(Problem::about("twilio", "number.not_set", message));
        }
    }
}

/// Old → new, a line for each setting.
fn steps(owned: &Number, change: &Change) -> Vec<String> {
    let mut lines = Vec::new();
    if change.take_back {
        let (what, sid) = match (&owned.application, &owned.trunk) {
            (Some(sid), _) => ("application", sid),
            (None, Some(sid)) => ("trunk", sid),
            (None, None) => return lines,
        };
        lines.push(format!("{what:<15} {} → none", plain(sid)));
    }
    for (what, old, new) in [
        ("voice URL", &owned.voice_url, &change.voice_url),
        ("fallback URL", &owned.fallback_url, &change.fallback_url),
        ("status callback", &owned.status_callback, &change.status_callback),
    ] {
        if let Some(new) = new {
            let old = old.as_deref().map_or_else(|| "none".to_owned(), numbers::whole_url);
            lines.push(format!("{what:<15} {old} → {new}"));
        }
    }
    lines
}

/// Whether a number is what it was to be changed to.
fn took(now: &Number, change: &Change) -> bool {
    let same = |is: &Option<String>, should: &Option<String>| should.is_none() || is == should;
    same(&now.voice_url, &change.voice_url)
        && same(&now.fallback_url, &change.fallback_url)
        && same(&now.status_callback, &change.status_callback)
        && !(change.take_back && now.is_taken())
}

impl Tally {
    fn tell(self, options: &Sync) -> Result<(), Failure> {
        let Self { right, changed, astray, starred, problems } = self;
        let count = |count: usize| match count {
            1 => "1 number".to_owned(),
            count => format!("{count} numbers"),
        };
        let did = if options.apply { "set" } else { "to be set" };
        let mut parts = vec![format!("{} {did}", count(changed)), format!("{right} right already")];
        if astray > 0 {
            let verb = if astray == 1 { "does" } else { "do" };
            parts.push(format!("{} that {verb} not ring this server", count(astray)));
        }
        println!("{}.", parts.join(", "));
        if starred > 0 {
            println!("{} that only \"*\" answers: left as they are; --all sets them too.", count(starred));
        }
        if !options.apply && changed > 0 {
            println!("Nothing was changed: run it with --apply to set this.");
        }
        report(&problems);
        match options.apply && astray > 0 {
            true => Err(Failure::Told),
            false => Ok(()),
        }
    }
}
