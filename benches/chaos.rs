//! Calls in which something goes wrong, through the release binary over real sockets, and what the caller hears.
//!
//! `cargo bench --bench chaos` (`make chaos`) makes one call for each fault and moment, with and without a second
//! provider, and prints a table: the longest silence while the assistant owed something, whether the conversation
//! survived, and how the call ended. `docs/reliability.md` explains it.

#[path = "chaos/call.rs"]
mod call;
#[path = "chaos/judge.rs"]
mod judge;
#[path = "chaos/process.rs"]
mod process;
#[path = "chaos/row.rs"]
mod row;
#[path = "chaos/rows.rs"]
mod rows;
#[path = "chaos/table.rs"]
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use row::Row;

const USAGE: &str = "\
cargo bench --bench chaos -- [OPTIONS] [WORDS]
  WORDS          only rows whose names contain all of these words, such as: reset answer
  --list         print the names of the rows
  --at-once N    calls at the same time (24)
  --server FILE  the program to test (the one that cargo built with the benchmark)
  --told         say for every row what was heard, and not only for those that fail
  --write        write the table into docs/reliability.md; only with all rows";

#[derive(Debug, Default)]
struct Options {
    words: Vec<String>,
    list: bool,
    told: bool,
    write: bool,
    at_once: Option<usize>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => {} // Added by cargo.
                "--list" => options.list = true,
                "--told" => options.told = true,
                "--write" => options.write = true,
                "--at-once" => {
                    let number =
                        words.next().and_then(|value| value.parse().ok()).filter(|number| *number > 0);
                    options.at_once =
                        Some(number.with_context(|| format!("--at-once needs a number\n{USAGE}"))?);
                }
                "--server" => {
                    let file = words.next().with_context(|| format!("--server needs a file\n{USAGE}"))?;
                    let _ = process::PROGRAM.set(file.into());
                }
                odd if odd.starts_with('-') => bail!("`{odd}` is no option\n{USAGE}"),
                _ => options.words.extend(word.split_whitespace().map(str::to_owned)),
            }
        }
        if options.write && !options.words.is_empty() {
            bail!("--write needs all rows\n{USAGE}");
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let done = Options::read(std::env::args().skip(1)).and_then(|options| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(run(&options))
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the calls; whether every row reached its goal.
async fn run(options: &Options) -> anyhow::Result<bool> {
    let chosen = |row: &Row| options.words.iter().all(|word| row.name().contains(word.as_str()));
    let rows: Vec<Row> = rows::all().into_iter().filter(chosen).collect();
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.name()));
        return Ok(true);
    }
    if rows.is_empty() {
        bail!("no row has this name; --list prints them");
    }
    let (began, count) = (Instant::now(), rows.len());
    let room = Arc::new(Semaphore::new(options.at_once.unwrap_or(24)));
    let mut calls = JoinSet::new();
    for (nth, row) in rows.into_iter().enumerate() {
        let room = room.clone();
        calls.spawn(async move {
            let _place = room.acquire_owned().await;
            (nth, call::make(row).await)
        });
    }
    let mut outcomes = Vec::with_capacity(count);
    while let Some(done) = calls.join_next().await {
        let (nth, outcome) = done?;
        eprintln!("{:>3}/{count}  {}  {}", outcomes.len() + 1, verdict(&outcome), outcome.row.name());
        outcomes.push((nth, outcome));
    }
    outcomes.sort_by_key(|(nth, _)| *nth);
    let outcomes: Vec<judge::Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    let table = table::markdown(&outcomes);
    println!("{table}");
    let failed = outcomes.iter().filter(|outcome| outcome.failure().is_some()).count();
    for outcome in outcomes.iter().filter(|outcome| options.told || outcome.failure().is_some()) {
        println!("{}: {}", outcome.row.name(), verdict(outcome));
        println!("    heard: {}", outcome.story);
        println!("    end: {}; sessions: {:?}", outcome.end, outcome.sessions);
    }
    println!("{} of {count} rows in {} s, {failed} failed", count - failed, began.elapsed().as_secs());
    if options.write {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
        let old = std::fs::read_to_string(&page)?;
        let new = table::replaced(&old, &table).context("docs/reliability.md has no place for the table")?;
        std::fs::write(page, new)?;
    }
    Ok(failed == 0)
}

fn verdict(outcome: &judge::Outcome) -> String {
    match outcome.failure() {
        None if outcome.row.goal == row::Goal::Shown => "shown".to_owned(),
        None => "ok".to_owned(),
        Some(why) => {
            let during = outcome
                .silence
                .map(|silence| format!(" ({} from {:.1} s)", silence.what, silence.span.from.as_secs_f64()));
            format!("FAILED: {why}{}", during.unwrap_or_default())
        }
    }
}
