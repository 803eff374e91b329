//! `switchboard calls export`: every record that matches, one JSON object in each line.

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, anyhow};
use jiff::tz::TimeZone;

use super::{Export, Lines};
use crate::command::archive::Archive;
use crate::disk::Unfinished;
use crate::problem::counted;
use crate::store::{Filter, Store, StoreError};
use crate::terminal::{Failure, notify};

pub(super) async fn run(Export { which, out, format: Lines::Json }: &Export) -> Result<(), Failure> {
    let archive = Archive::open().await?;
    let filter = which.filter(&TimeZone::system())?;
    if archive.store.is_none() {
        notify(&archive.nothing());
    }
    let Some(out) = out else {
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

/// Writes record by record, the newest first, so that memory does not depend on how many there are.
async fn write(store: Option<&Store>, filter: Filter, output: &mut impl Write) -> Result<usize, NotExported> {
    let mut count = 0;
    let Some(store) = store else { return Ok(count) };
    let mut records = store.export(filter);
    while let Some(record) = records.next().await.map_err(NotExported::Store)? {
        let line = serde_json::to_string(&record).map_err(|error| NotExported::Output(error.into()))?;
        writeln!(output, "{line}").map_err(NotExported::Output)?;
        count += 1;
    }
    Ok(count)
}
