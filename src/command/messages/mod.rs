//! `switchboard messages`: what is on its way to owners, and what did not arrive.
//!
//! A list shows nothing of what somebody said, and no address. What would be delivered is shown only on demand.

mod list;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use super::archive::{Archive, Listing};
use crate::problem::{counted, shown};
use crate::record::print::one_line;
use crate::store::{Found, Listed, Message, MessageFiles, UNCLEAR};
use crate::terminal::{Failure, Format, json, notify, print};

/// So many messages are searched for an id.
const MOST: u32 = 100_000;
/// The fewest characters of an id.
const LEAST: usize = 6;

/// What can be asked about messages.
#[derive(Debug, Subcommand)]
pub enum Messages {
    /// List messages, notifications, forms and alerts, the newest first
    List(List),
    /// Show what would be delivered
    Show(One),
    /// Try again, for another three days: these, or everything that was given up
    Retry(Retry),
}

#[derive(Debug, Args)]
pub struct List {
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Args)]
pub struct One {
    /// The id, or at least its first six characters; with `.email`, `.sms` or `.file` only that way
    id: String,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub struct Retry {
    /// Ids, as for `show`. Without one: all that were given up, but for text messages that may have arrived
    ids: Vec<String>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The states of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// It is tried again
    Waiting,
    /// It has arrived
    Delivered,
    /// It is not tried any more
    #[value(name = "given_up")]
    GivenUp,
}

impl State {
    fn code(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

/// `switchboard messages …`.
pub async fn messages(what: Messages) -> Result<(), Failure> {
    let desk = Desk { archive: Archive::open().await? };
    match what {
        Messages::List(options) => list(&desk, &options).await,
        Messages::Show(options) => show(&desk, &options).await,
        Messages::Retry(options) => retry(&desk, &options).await,
    }
}

/// The store, and the files of messages that it has not taken yet.
struct Desk {
    archive: Archive,
}

/// A message with what would be delivered; `None`: it is delivered, and nothing of it is kept.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    message: Listed,
    body: Option<Value>,
}

impl Desk {
    /// The newest first.
    async fn all(&self, state: Option<State>, limit: u32) -> Result<Vec<Listed>, Failure> {
        let state = state.map(State::code);
        let mut found = match &self.archive.store {
            Some(store) => store.messages(state, limit).await.map_err(anyhow::Error::from)?,
            None => Vec::new(),
        };
        let in_files = self.in_files().into_iter().map(|(message, _)| message);
        // One that is being moved is in both.
        let is_new = |message: &Listed| !found.iter().any(|other| other.id == message.id);
        let fits = |message: &Listed| state.is_none_or(|state| message.state == state);
        let more: Vec<Listed> = in_files.filter(|message| fits(message) && is_new(message)).collect();
        found.extend(more);
        found.sort_by(|one, other| other.taken.cmp(&one.taken).then_with(|| one.id.cmp(&other.id)));
        found.truncate(limit as usize);
        Ok(found)
    }

    /// Those that wait in files, with their bodies.
    fn in_files(&self) -> Vec<(Listed, String)> {
        let Some(state) = self.archive.settings.state_dir.as_deref() else { return Vec::new() };
        let Found { waiting, given_up, unclear, .. } = MessageFiles::new(state).read();
        let waiting =
            waiting.into_iter().map(|message| (listed(&message, State::Waiting, None), message.body));
        let unclear = unclear
            .into_iter()
            .map(|message| (listed(&message, State::GivenUp, Some(UNCLEAR.to_owned())), message.body));
        let given_up = given_up
            .into_iter()
            .map(|(message, error)| (listed(&message, State::GivenUp, Some(error)), message.body));
        waiting.chain(unclear).chain(given_up).collect()
    }

    /// The messages whose ids begin so: those of one letter.
    async fn find(&self, id: &str) -> Result<Vec<Listed>, Failure> {
        let id = id.trim();
        let all = self.all(None, MOST).await?;
        let begins = |message: &&Listed| match id.split_once('.') {
            Some((start, way)) => letter(&message.id).starts_with(start) && message.via == way,
            None => letter(&message.id).starts_with(id),
        };
        let exact: Vec<&Listed> = all.iter().filter(|message| letter(&message.id) == id).collect();
        let found: Vec<&Listed> = match exact.is_empty() {
            true => all.iter().filter(begins).collect(),
            false => exact,
        };
        let Some(first) = found.first().filter(|_| id.len() >= LEAST) else {
            return Err(anyhow!(
                "there is no message `{}`: give an id of `switchboard messages list`, or at least {LEAST} characters of it",
                shown(id)
            )
            .into());
        };
        if found.iter().any(|message| letter(&message.id) != letter(&first.id)) {
            return Err(anyhow!("several messages begin with `{}`: give more of the id", shown(id)).into());
        }
        Ok(found.into_iter().cloned().collect())
    }

    /// What would be delivered.
    async fn body(&self, message: &Listed) -> Result<Option<String>, Failure> {
        let kept = match &self.archive.store {
            Some(store) => store.message_body(&message.id).await.map_err(anyhow::Error::from)?,
            None => None,
        };
        let in_file = || self.in_files().into_iter().find(|(other, _)| other.id == message.id);
        Ok(kept.or_else(|| Some(in_file()?.1)).filter(|body| !body.is_empty()))
    }
}

/// A message of a file.
fn listed(message: &Message, state: State, error: Option<String>) -> Listed {
    let seconds = i64::try_from(message.taken).unwrap_or(i64::MAX);
    Listed {
        id: message.id.clone(),
        purpose: message.to.purpose.code().to_owned(),
        via: message.to.via.code().to_owned(),
        assistant: message.to.assistant.clone(),
        call: message.call.clone(),
        taken: Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX),
        state: state.code().to_owned(),
        // Only the database counts them.
        attempts: 0,
        next: None,
        error,
    }
}

/// The id of a message's letter, which goes several ways.
fn letter(id: &str) -> &str {
    id.split_once('.').map_or(id, |(letter, _)| letter)
}

async fn list(desk: &Desk, options: &List) -> Result<(), Failure> {
    let found = desk.all(options.state, options.listing.limit).await?;
    if options.listing.format == Format::Json {
        return print(&json(&found));
    }
    if found.is_empty() {
        return print(match options.state {
            None => "There are no messages.",
            Some(_) => "No message is in this state.",
        });
    }
    print(list::table(&found, &TimeZone::system()).trim_end())
}

async fn show(desk: &Desk, options: &One) -> Result<(), Failure> {
    let mut all = Vec::new();
    for message in desk.find(&options.id).await? {
        let body = desk.body(&message).await?;
        // All are JSON, but those of a newer version may not be.
        let body = body.map(|body| serde_json::from_str(&body).unwrap_or(Value::String(body)));
        all.push(Shown { message, body });
    }
    match options.format {
        Format::Json => print(&json(&all)),
        Format::Text => {
            let texts: Vec<String> = all.iter().map(text).collect();
            print(&texts.join("\n\n"))
        }
    }
}

/// As the owner would read it. No control character reaches the terminal.
fn text(Shown { message, body }: &Shown) -> String {
    let Listed { id, via, state, .. } = message;
    let mut lines = vec![format!("{id} ({via}, {state})")];
    let words = |key: &str| body.as_ref().and_then(|body| body[key].as_str());
    match (body, words("text")) {
        (None, _) => lines.push("It is delivered, so nothing of it is kept.".to_owned()),
        (Some(_), Some(text)) => {
            lines.extend(words("subject").map(one_line));
            lines.extend(text.lines().map(one_line));
        }
        (Some(body), None) => lines.push(json(body)),
    }
    lines.join("\n")
}

async fn retry(desk: &Desk, options: &Retry) -> Result<(), Failure> {
    let mut ids = Vec::new();
    for id in &options.ids {
        let found = desk.find(id).await?;
        ids.extend(
            found.into_iter().filter(|message| message.state != "delivered").map(|message| message.id),
        );
    }
    let retried = match &desk.archive.store {
        Some(store) if options.ids.is_empty() || !ids.is_empty() => {
            store.retry_messages(&ids).await.map_err(anyhow::Error::from)?
        }
        _ => 0,
    };
    if options.format == Format::Json {
        print(&json(&serde_json::json!({ "retried": retried })))?;
    } else if retried > 0 {
        let count = counted(usize::try_from(retried).unwrap_or(usize::MAX), "message");
        print(&format!("Trying {count} again."))?;
    }
    if retried > 0 || options.ids.is_empty() {
        if retried == 0 && options.format == Format::Text {
            return print("No message was given up.");
        }
        return Ok(());
    }
    notify("error: nothing to try again: it is delivered, or the server moves it from a file by itself");
    Err(Failure::Reported)
}
