//! `switchboard calls`: what the store knows about calls.
//!
//! Numbers and words are shown as the store has them: they are the owner's own, on the owner's terminal. Nothing of
//! them is logged.

mod erase;
mod export;
mod list;
mod moment;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::archive::{Archive, Listing};
use super::number;
use crate::phone::PhoneNumber;
use crate::record::{self, CallRecord, Finding, REASONS, is_reason, print as lines};
use crate::store::Filter;
use crate::terminal::{Failure, Format, json, notify, print};
use moment::Moment;

/// What can be asked about calls.
#[derive(Debug, Subcommand)]
pub enum Calls {
    /// List calls, the newest first
    List(List),
    /// Show a call: the conversation, what was heard, tools, times, cost, and why it ended
    Show(One),
    /// Explain what went wrong in a call, and what to change
    Explain(One),
    /// Write the records of calls as JSON, one in each line
    Export(Export),
    /// Erase everything that belongs to a caller: records, recordings and undelivered messages
    Erase(Erase),
}

/// Which calls are meant.
#[derive(Debug, Args)]
struct Which {
    /// Only calls that this assistant answered
    #[arg(long, value_name = "NAME")]
    assistant: Option<String>,
    /// Only calls from this number
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    caller: Option<PhoneNumber>,
    /// Only calls since then: 7d, 2026-11-30, 2026-11-30T18:30, or with an offset 2026-11-30T18:30:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only calls before then, written the same way; a day is included
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Only calls that ended for this reason: a code such as model.lost, or its first half
    #[arg(long, value_name = "CODE", value_parser = a_reason)]
    reason: Option<String>,
    /// Only calls in which somebody said this
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    which: Which,
    /// Only calls before this one: where the last list ended
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Args)]
pub struct One {
    /// The id of the record, at least its first six characters, or Twilio's call SID
    id: String,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// Write to this file; by default to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value = "json")]
    format: Lines,
}

/// The formats of an export.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lines {
    /// One object in each line
    Json,
}

#[derive(Debug, Args)]
pub struct Erase {
    /// The caller's number
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    caller: PhoneNumber,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// `switchboard calls …`.
pub async fn calls(what: Calls) -> Result<(), Failure> {
    match what {
        Calls::List(options) => list(&options).await,
        Calls::Show(options) => show(&options).await,
        Calls::Explain(options) => explain(&options).await,
        Calls::Export(options) => export::run(&options).await,
        Calls::Erase(options) => erase::run(&options).await,
    }
}

impl Archive {
    async fn get(&self, id: &str) -> Result<CallRecord, Failure> {
        let Some(store) = &self.store else { return Err(anyhow!("{}", self.nothing()).into()) };
        let found = store.get(id.trim()).await.map_err(anyhow::Error::from)?;
        found.ok_or_else(|| {
            anyhow!(
                "there is no record of a call `{}`: give an id of `switchboard calls list`, at least six characters of \
                 it, or a call SID",
                crate::problem::shown(id)
            )
            .into()
        })
    }
}

impl Which {
    fn filter(&self, zone: &TimeZone) -> Result<Filter, Failure> {
        let now = Timestamp::now();
        let beyond = |name: &str| Failure::Usage(format!("--{name} is beyond the calendar"));
        let since =
            self.since.map(|since| since.start(zone, now).ok_or_else(|| beyond("since"))).transpose()?;
        let until =
            self.until.map(|until| until.end(zone, now).ok_or_else(|| beyond("until"))).transpose()?;
        Ok(Filter {
            assistant: self.assistant.clone(),
            caller: self.caller.clone(),
            since,
            until,
            reason: self.reason.clone(),
            text: self.text.clone(),
            before: None,
        })
    }

    fn is_any(&self) -> bool {
        let Self { assistant, caller, since, until, reason, text } = self;
        assistant.is_none()
            && caller.is_none()
            && since.is_none()
            && until.is_none()
            && reason.is_none()
            && text.is_none()
    }
}

/// Reads the code of an end reason, or its first half.
fn a_reason(text: &str) -> Result<String, String> {
    let text = text.trim().to_lowercase();
    if is_reason(&text) {
        return Ok(text);
    }
    let codes: Vec<&str> = REASONS.iter().map(|reason| reason.code).collect();
    Err(format!("it is one of {}, or the part before the dot", codes.join(", ")))
}

async fn list(options: &List) -> Result<(), Failure> {
    let archive = Archive::open().await?;
    let zone = TimeZone::system();
    let mut filter = options.which.filter(&zone)?;
    let Some(store) = &archive.store else {
        return match options.listing.format {
            Format::Text => print(&archive.nothing()),
            Format::Json => {
                notify(&archive.nothing());
                print("[]")
            }
        };
    };
    if let Some(before) = &options.before {
        filter.before = Some(archive.get(before).await?.id);
    }
    let rows = store.list(&filter, options.listing.limit).await.map_err(anyhow::Error::from)?;
    if options.listing.format == Format::Json {
        return print(&json(&rows));
    }
    let Some(last) = rows.last().filter(|_| !rows.is_empty()) else {
        let is_any = options.which.is_any() && options.before.is_none();
        return print(if is_any { "No call was recorded yet." } else { "No call matches." });
    };
    print(&list::table(&rows, &zone))?;
    if rows.len() == options.listing.limit as usize {
        notify(&format!("Older calls: add `--before {}`.", last.id));
    }
    Ok(())
}

async fn show(options: &One) -> Result<(), Failure> {
    let archive = Archive::open().await?;
    let mut record = archive.get(&options.id).await?;
    if options.format == Format::Json {
        return print(&json(&record));
    }
    // A record names a file by its place in the state folder.
    let in_state =
        |path: &String| Some(archive.settings.state_dir.as_ref()?.join(path).display().to_string());
    record.recording = record.recording.map(|path| match path.contains("://") {
        true => path,
        false => in_state(&path).unwrap_or(path),
    });
    print(&shown(&record, &TimeZone::system()))
}

fn shown(record: &CallRecord, zone: &TimeZone) -> String {
    let mut text = lines::heading(record, zone);
    text.push(String::new());
    let conversation = lines::conversation(record);
    match conversation.is_empty() {
        true => text.push("Nobody said anything.".to_owned()),
        false => text.extend(conversation),
    }
    text.push(String::new());
    text.extend(lines::summary(record));
    let findings = record::explain(record).len();
    if findings > 0 {
        text.push(String::new());
        let things = crate::problem::counted(findings, "thing");
        text.push(format!("`switchboard calls explain {}` has {things} to say about this call.", record.id));
    }
    text.join("\n")
}

async fn explain(options: &One) -> Result<(), Failure> {
    let record = Archive::open().await?.get(&options.id).await?;
    let findings = record::explain(&record);
    match options.format {
        Format::Text => print(&explained(&record, &findings, &TimeZone::system())),
        Format::Json => print(&json(&findings)),
    }
}

/// The most evidence that is printed for a finding. JSON has all of it.
const MAX_EVIDENCE: usize = 5;

fn explained(record: &CallRecord, findings: &[Finding], zone: &TimeZone) -> String {
    let mut text = lines::heading(record, zone);
    text.push(lines::summary_row("end", &lines::end(record)));
    text.push(String::new());
    if findings.is_empty() {
        text.push("Nothing went wrong that the record shows.".to_owned());
    }
    for (index, finding) in findings.iter().enumerate() {
        text.push(format!("{}. {}  [{}]", index + 1, finding.what, finding.code));
        for evidence in finding.evidence.iter().take(MAX_EVIDENCE) {
            let when = evidence.at_ms.map_or_else(String::new, lines::clock);
            text.push(format!("   {when:>8}  {}", evidence.what));
        }
        if finding.evidence.len() > MAX_EVIDENCE {
            text.push(format!("   {:8}  and {} more", "", finding.evidence.len() - MAX_EVIDENCE));
        }
        if !finding.advice.is_empty() {
            text.push(format!("   To do: {}", finding.advice));
        }
        text.push(String::new());
    }
    text.join("\n")
}
