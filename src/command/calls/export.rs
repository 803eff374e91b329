//! `switchboard calls export`: every record that matches, one JSON object in each line.

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, anyhow};
use jiff::tz::TimeZone;

use super::{Archive, Export};
use crate::disk::Unfinished;
use crate::problem::counted;
use crate::store::{Filter, Store, StoreError};
use crate::terminal::{Failure, notify};

/// How many calls are asked for at once. Records are read one by one.
const PAGE: u32 = 500;

pub(super) async fn run(options: &Export) -> Result<(), Failure> {
    let archive = Archive::open().await?;
    let filter = options.which.filter(&TimeZone::system())?;
    if archive.store.is_none() {
        notify(&archive.nothing());
    }
    let Some(out) = &options.out else {
        let mut stdout = BufWriter::new(io::stdout().lock());
        let written = write(archive.store.as_ref(), filter, &mut stdout).await;
        return match written.and_then(|_| stdout.flush().map_err(NotExported::Output)) {
            // The reader has seen enough, as `head` does.
            Err(NotExported::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(NotExported::Output(error)) => {
                Err(anyhow!("cannot write to standard output: {error}").into())
            }
            Err(NotExported::Store(error)) => Err(anyhow::Error::from(error).into()),
            Ok(()) => Ok(()),
        };
    };
    let shown = out.display();
    let cannot = || format!("`{shown}` cannot be written");
    let mut file = Unfinished::create(out).with_context(cannot)?;
    let count = match write(archive.store.as_ref(), filter, &mut file).await {
        Ok(count) => count,
        Err(NotExported::Output(error)) => {
            return Err(anyhow::Error::from(error).context(cannot()).into());
        }
        Err(NotExported::Store(error)) => return Err(anyhow::Error::from(error).into()),
    };
    file.finish().with_context(cannot)?;
    notify(&format!("Wrote {} to {shown}.", counted(count, "record")));
    Ok(())
}

enum NotExported {
    Store(StoreError),
    Output(io::Error),
}

/// Writes page by page, the newest first, so that memory does not depend on how many there are. Calls that begin
/// meanwhile are not among them.
async fn write(
    store: Option<&Store>,
    mut filter: Filter,
    output: &mut impl Write,
) -> Result<usize, NotExported> {
    let mut count = 0;
    let Some(store) = store else { return Ok(count) };
    loop {
        let rows = store.list(&filter, PAGE).await.map_err(NotExported::Store)?;
        for row in &rows {
            // It may have been purged meanwhile.
            let Some(record) = store.get(row.id.as_str()).await.map_err(NotExported::Store)? else {
                continue;
            };
            let line = serde_json::to_string(&record).map_err(|error| NotExported::Output(error.into()))?;
            writeln!(output, "{line}").map_err(NotExported::Output)?;
            count += 1;
        }
        match rows.last() {
            Some(last) if rows.len() == PAGE as usize => filter.before = Some(last.id.clone()),
            _ => return Ok(count),
        }
    }
}
