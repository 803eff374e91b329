//! `switchboard calls erase`: everything that belongs to a caller.

use std::io::{IsTerminal as _, stderr, stdin};

use anyhow::Context as _;

use super::Erase;
use crate::command::archive::Archive;
use crate::link::network::http_client;
use crate::link::tls;
use crate::problem::counted;
use crate::recording::{self, Archive as Recordings};
use crate::serve;
use crate::settings::Settings;
use crate::store::{Erased, Files, Filter, Left, MessageFiles, Remains, Store};
use crate::terminal::{Failure, Format, json, notify, print};

/// So many calls are counted before the question; the answer counts all.
const COUNTED: u32 = 1_000;

pub(super) async fn run(options: &Erase) -> Result<(), Failure> {
    let archive = Archive::open().await?;
    let state = archive.settings.state_dir.as_deref();
    let files = Files { waiting: serve::waiting(&archive.settings), messages: state.map(MessageFiles::new) };
    if archive.store.is_none() {
        notify(&archive.nothing());
    }
    if !options.yes {
        if !stdin().is_terminal() {
            return Err(Failure::Usage(
                "nobody can be asked here whether to erase for good; add --yes".to_owned(),
            ));
        }
        if !confirmed(options, archive.store.as_ref()).await? {
            notify("Nothing was erased.");
            return Err(Failure::Reported);
        }
    }
    // Before anything is erased: a bucket may need certificates.
    let recordings = recordings(&archive.settings)?;
    let mut erased = match &archive.store {
        Some(store) => {
            let store = store.clone().with_files(files);
            store.erase(&options.caller).await.map_err(anyhow::Error::from)?
        }
        // Files may wait for a database that is not there.
        None => files.erase(&options.caller).await,
    };
    erased.recordings = 0;
    for path in &erased.paths {
        match recordings.remove(path).await {
            Ok(was_there) => erased.recordings += u64::from(was_there),
            Err(why) => {
                erased.left.push(Left { what: Remains::Recording, why: format!("`{path}`: {why}") });
            }
        }
    }
    report(options, &erased)?;
    if erased.left.is_empty() {
        return Ok(());
    }
    for Left { what, why } in &erased.left {
        notify(&format!("error: {what}: {why}"));
    }
    notify("Remove recordings yourself: no record names them any more. For the rest, run the command again.");
    Err(Failure::Reported)
}

/// Where recordings are.
fn recordings(settings: &Settings) -> Result<Recordings, Failure> {
    let tls = tls::client_config(settings.recordings.is_some(), settings.ssl_cert_file.as_deref())?;
    let client = recording::client(http_client(&tls)).context("TLS cannot be set up")?;
    Ok(Recordings::new(settings.state_dir.clone(), settings.recordings.clone(), client))
}

/// Says what would go, and asks.
async fn confirmed(options: &Erase, store: Option<&Store>) -> Result<bool, Failure> {
    let filter = Filter { caller: Some(options.caller.clone()), ..Filter::default() };
    let found = match store {
        Some(store) => store.list(&filter, COUNTED).await.map_err(anyhow::Error::from)?.len(),
        None => 0,
    };
    let more = if found == COUNTED as usize { "at least " } else { "" };
    notify(&format!(
        "This erases {more}{} from {}, with their recordings, and undelivered messages. It cannot be undone.",
        counted(found, "call"),
        options.caller.expose(),
    ));
    let _ = std::io::Write::write_all(&mut stderr(), b"Type yes to erase: ");
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(anyhow::Error::from)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

fn report(options: &Erase, erased: &Erased) -> Result<(), Failure> {
    if options.format == Format::Json {
        return print(&json(erased));
    }
    let count = |count: u64, what: &str| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let Erased { calls, recordings, messages, unknown, .. } = erased;
    let mut text = format!(
        "Erased: {}, {}, {}.",
        count(*calls, "call"),
        count(*recordings, "recording"),
        count(*messages, "undelivered message")
    );
    if *unknown > 0 {
        text += &format!(
            "\n{} of assistants with `record: {{ numbers: none }}` may be from this caller too: nobody can tell. They go \
             when their `keep` is over.",
            count(*unknown, "call")
        );
    }
    print(&text)
}
