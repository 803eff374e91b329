//! The server under load, compared with a plain TCP splice of the same traffic.
//!
//! `cargo bench --bench load -- --calls 100` starts the release binary as its own process, drives simulated calls
//! through it from this one, and prints a table. `docs/performance.md` explains the figures.

#[path = "load/calls.rs"]
mod calls;
#[path = "load/rush.rs"]
mod rush;
#[path = "load/server.rs"]
mod server;
#[path = "load/splice.rs"]
mod splice;
#[path = "load/stats.rs"]
mod stats;
#[path = "load/truncation.rs"]
mod truncation;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::sleep;

use calls::{ASSISTANT, Fleet, Outcome, ROUND, Window, model, model_with_tool, with_tool};
use server::{Cost, Mute, Server, file_limit, resident};
use splice::{Spliced, Traffic};
use stats::{Spread, median, ms};

/// How many cores other processes may use during a measurement.
const QUIET: f64 = 0.25;
/// How often a run is repeated while other processes are busy; the last run counts.
const TRIES: usize = 2;

const USAGE: &str = "\
cargo bench --bench load -- [OPTIONS]
  --calls N        calls at once (100)
  --memory-calls N calls at once for the memory of one (500)
  --seconds N      how long each run is measured (20)
  --rounds N       runs of the server and of the splice, in turn (2)
  --server FILE    the program to measure (the one that cargo built with the benchmark)
  --rush N         short calls for the memory after them (25000)
  --later N        seconds after them at which it is measured again (660)
  --only A,B       of: start, switchboard, splice, tools, truncation, memory, rush (only if named)";

#[derive(Debug, Clone)]
struct Options {
    calls: usize,
    memory_calls: usize,
    seconds: u64,
    rounds: usize,
    rush: usize,
    later: usize,
    only: Vec<String>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            calls: 100,
            memory_calls: 500,
            seconds: 20,
            rounds: 2,
            rush: 25_000,
            later: 660,
            only: Vec::new(),
        };
        while let Some(word) = words.next() {
            if word == "--bench" {
                continue; // Added by cargo.
            }
            let value = words.next().with_context(|| format!("`{word}` needs a value\n{USAGE}"))?;
            let number = || value.parse().ok().filter(|n| *n > 0);
            let number = || number().with_context(|| format!("`{value}` is not a number from 1\n{USAGE}"));
            match word.as_str() {
                "--calls" => options.calls = number()?,
                "--memory-calls" => options.memory_calls = number()?,
                "--seconds" => options.seconds = number()? as u64,
                "--rounds" => options.rounds = number()?,
                "--rush" => options.rush = number()?,
                "--later" => options.later = number()?,
                "--server" => drop(server::PROGRAM.set(value.into())),
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                _ => bail!("`{word}` is no option\n{USAGE}"),
            }
        }
        const PARTS: [&str; 7] = ["start", "switchboard", "splice", "tools", "truncation", "memory", "rush"];
        if let Some(odd) = options.only.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("`{odd}` is no part\n{USAGE}");
        }
        Ok(options)
    }

    fn has(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let is_splice = words.next_if(|word| word == "splice").is_some();
    // The splice has one thread: a copy between threads would make the baseline dearer.
    let runtime = match is_splice {
        true => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        false => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let done = runtime.context("no runtime").and_then(|runtime| {
        runtime.block_on(async {
            match is_splice {
                true => splice::run(words.next().context("no port")?.parse()?).await,
                false => bench(&Options::read(words)?).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(options: &Options) -> anyhow::Result<()> {
    let calls = if options.has("memory") { options.calls.max(options.memory_calls) } else { options.calls };
    let (needed, limit) = (calls * 2 + 200, file_limit()?);
    if limit < needed {
        bail!(
            "{calls} calls need {needed} open files, but the limit is {limit}. Run `ulimit -n {needed}` first"
        );
    }
    let began = Instant::now();
    println!("{} calls, {} s a run, {} rounds\n", options.calls, options.seconds, options.rounds);
    println!("{:<44}{:>14}  {:>14}", "", "measured", "goal");
    if options.has("start") {
        start().await?;
    }
    if options.has("switchboard") || options.has("splice") {
        compare(options).await?;
    }
    if options.has("tools") {
        tools(options).await?;
    }
    if options.has("truncation") {
        truncate().await?;
    }
    if options.has("memory") {
        memory(options).await?;
    }
    if options.only.iter().any(|part| part == "rush") {
        let later = Duration::from_secs(options.later as u64);
        let [before, after, at_last] = rush::measure(options.rush, later).await?;
        row("resident before short calls", mib(before), "");
        row(&format!("  after {}", options.rush), mib(after), "");
        row(&format!("  {} s later", options.later), mib(at_last), "");
    }
    println!("\ndone in {} s", began.elapsed().as_secs());
    Ok(())
}

fn row(what: &str, measured: impl std::fmt::Display, goal: &str) {
    println!("{what:<44}{measured:>14}  {goal:>14}");
}

/// Prints a row and marks it if it misses its goal.
fn judged(what: &str, measured: Duration, goal_ms: f64) {
    let missed = if measured.as_secs_f64() * 1_000.0 > goal_ms { "  MISSED" } else { "" };
    println!("{what:<44}{:>14}  {:>14}{missed}", ms(measured), format!("≤ {goal_ms} ms"));
}

async fn start() -> anyhow::Result<()> {
    let model = model().await?;
    let mut times = Vec::new();
    let mut rest = 0;
    for _ in 0..10 {
        let server = Server::start(&model.url(), ASSISTANT, 10)?;
        times.push(server.ready_after);
        sleep(Duration::from_millis(100)).await;
        rest = resident(server.pid())?;
    }
    model.stop().await;
    judged("start to ready, median of 10", Spread::new(times).at(0.5), 50.0);
    row("resident at rest", mib(rest), "≤ 20 MiB");
    Ok(())
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1_024.0)
}

/// Measures the server and the splice in turn.
async fn compare(options: &Options) -> anyhow::Result<()> {
    let traffic = if options.has("splice") { Some(Traffic::record(ASSISTANT).await?) } else { None };
    let mut windows = Vec::new();
    let mut outcome = Outcome::default();
    let mut spliced = Vec::new();
    for _ in 0..options.rounds {
        for again in (0..TRIES).rev().filter(|_| options.has("switchboard")) {
            let (window, more) = run(options.calls, options.window(), None).await?;
            if print_cost("switchboard", &window.cost, options.calls) || again == 0 {
                windows.push(window);
                outcome.extend(more);
                break;
            }
        }
        for again in (0..TRIES).rev() {
            let Some(traffic) = &traffic else { break };
            let run = splice::measure(traffic, options.calls, options.window()).await?;
            if print_cost("splice", &run.cost, options.calls) || again == 0 {
                spliced.push(run);
                break;
            }
        }
    }
    let cpu_ms = |costs: Vec<Cost>| {
        let each = costs.iter().map(|cost| cost.per_call_minute(options.calls));
        median(each.map(|[user, kernel]| (user + kernel).as_secs_f64() * 1e3).collect())
    };
    let ours = cpu_ms(windows.iter().map(|window| window.cost).collect());
    let splices = cpu_ms(spliced.iter().map(|run| run.cost).collect());
    if !windows.is_empty() {
        row("CPU per call-minute", format!("{ours:.1} ms"), "");
        let mean = |of: fn(&Window) -> f64| windows.iter().map(of).sum::<f64>() / windows.len() as f64;
        row("  caller's frames at the model, per second", format!("{:.1}", mean(|w| w.appends)), "50");
        row("  model's audio, seconds per second", format!("{:.2}", mean(|w| w.spoken)), "");
    }
    if let Some(traffic) = &traffic {
        row("CPU per call-minute of the splice", format!("{splices:.1} ms"), "");
        for (from, (writes, bytes)) in ["phone", "model"].into_iter().zip(traffic.rates()) {
            row(
                &format!("  from the {from}: writes, bytes per second"),
                format!("{writes:.1}, {bytes:.0}"),
                "",
            );
        }
    }
    if !windows.is_empty() && !spliced.is_empty() {
        let missed = if ours > splices * 1.35 { "  MISSED" } else { "" };
        println!("{:<44}{:>14}  {:>14}{missed}", "ratio", format!("{:.2}", ours / splices), "≤ 1.35");
    }
    report(outcome, spliced);
    Ok(())
}

/// Prints the cost of a run. False if other processes were too busy, so that it should be repeated.
fn print_cost(what: &str, cost: &Cost, calls: usize) -> bool {
    let [user, kernel] = cost.per_call_minute(calls).map(|cpu| cpu.as_millis());
    let quiet = cost.others <= QUIET;
    let verdict = if quiet { "" } else { "  (not quiet)" };
    println!(
        "  {what:<12}{user:>4} ms user, {kernel:>4} ms kernel; others {:.2} cores{verdict}",
        cost.others
    );
    quiet
}

/// Prints the times of a run and the splice's.
fn report(outcome: Outcome, spliced: Vec<Spliced>) {
    let (mut to_model, mut to_phone) = (Vec::new(), Vec::new());
    for run in spliced {
        to_model.extend(run.to_model);
        to_phone.extend(run.to_phone);
    }
    let (is_real, bad, calls) = (outcome.calls > 0, outcome.bad.clone(), outcome.calls);
    let other_clears = outcome.other_clears;
    let [ours_to_model, ours_to_phone, clears, webhooks] = outcome.spreads();
    let pairs = [
        ("phone to model", ours_to_model, Spread::new(to_model)),
        ("model to phone", ours_to_phone, Spread::new(to_phone)),
    ];
    for (way, ours, splices) in pairs {
        for (name, part, goal) in [("p50", 0.5, 0.3), ("p99", 0.99, 1.5)] {
            let (a, b) = (ours.at(part), splices.at(part));
            match (is_real, splices.len()) {
                (true, 0) => row(&format!("{way}, {name}"), ms(a), ""),
                (false, _) => row(&format!("{way} through the splice, {name}"), ms(b), ""),
                (true, _) => {
                    row(&format!("{way}, {name}: ours, splice"), format!("{}, {}", ms(a), ms(b)), "");
                    judged(&format!("  added, {name}"), a.saturating_sub(b), goal);
                }
            }
        }
    }
    if is_real {
        row("speech_started to clear, p50", ms(clears.at(0.5)), "");
        judged("  p99", clears.at(0.99), 2.0);
        row(&format!("  longest of {}", clears.len()), ms(clears.max()), "");
        row("clears of other causes", other_clears, "");
        row("webhook answered, p50", ms(webhooks.at(0.5)), "");
        judged("  p99", webhooks.at(0.99), 10.0);
        row(&format!("failed calls, of {calls}"), bad.len(), "0");
        for what in bad.iter().take(5) {
            println!("  {what}");
        }
    }
}

/// Measures calls with a hanging tool and calls without one, in turn.
async fn tools(options: &Options) -> anyhow::Result<()> {
    let [mut plain, mut hanging] = [Outcome::default(), Outcome::default()];
    let [mut costs, mut more_costs] = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        for (tool, all, costs) in [(false, &mut plain, &mut costs), (true, &mut hanging, &mut more_costs)] {
            let mute = tool.then(Mute::start).transpose()?;
            let (window, outcome) = run(options.calls, options.window(), mute.as_ref()).await?;
            print_cost(if tool { "a tool hangs" } else { "no tool" }, &window.cost, options.calls);
            costs.push(window.cost.per_call_minute(options.calls).iter().sum::<Duration>());
            all.extend(outcome);
        }
    }
    println!("\na tool hangs in each of {} calls: without, with", options.calls);
    let cpu = |costs: Vec<Duration>| median(costs.iter().map(|cost| cost.as_secs_f64() * 1e3).collect());
    row("CPU per call-minute", format!("{:.1}, {:.1} ms", cpu(costs), cpu(more_costs)), "");
    let bad = [plain.bad.len(), hanging.bad.len()];
    let names = ["phone to model", "model to phone", "speech_started to clear"];
    for ((name, a), b) in names.into_iter().zip(plain.spreads()).zip(hanging.spreads()) {
        for (part, at) in [("p50", 0.5), ("p99", 0.99)] {
            row(&format!("{name}, {part}"), format!("{}, {}", ms(a.at(at)), ms(b.at(at))), "");
        }
    }
    row("failed calls", format!("{}, {}", bad[0], bad[1]), "0, 0");
    Ok(())
}

/// Runs calls through a fresh server. With `mute`, a tool hangs in each of them.
async fn run(calls: usize, window: Duration, mute: Option<&Mute>) -> anyhow::Result<(Window, Outcome)> {
    let (model, assistant) = match mute {
        Some(mute) => (model_with_tool().await?, with_tool(&mute.url)),
        None => (model().await?, ASSISTANT.to_owned()),
    };
    let server = Server::start(&model.url(), &assistant, calls)?;
    eprintln!("  (server process: {})", server.pid());
    let fleet = Fleet::start(&server, &server.url(), &model, calls).await?;
    let began = Instant::now();
    while mute.is_some_and(|mute| mute.taken() < calls) {
        if began.elapsed() > ROUND * 2 {
            bail!("not every call used its tool; server log:\n{}", server.log());
        }
        sleep(Duration::from_millis(100)).await;
    }
    let (window, marks) = fleet.measure(server.pid(), window).await?;
    let outcome = fleet.finish(marks).await?;
    let log = server.log();
    if !log.is_empty() {
        eprintln!("  (server log:\n{log})");
    }
    drop(server);
    model.stop().await;
    Ok((window, outcome))
}

async fn truncate() -> anyhow::Result<()> {
    let judged = truncation::measure(6).await?;
    println!("\ntruncation compared with what was heard");
    println!(
        "{:<12}{:<10}{:<26}{:>8}{:>10}{:>10}{:>10}{:>8}{:>8}{:>12}",
        "network",
        "jitter",
        "interrupted in",
        "items",
        "median",
        "worst",
        "goal",
        "past",
        "missing",
        "left out"
    );
    for (case, judged) in &judged {
        let (half, worst) = judged.spread();
        let missed = worst > case.goal_ms() || judged.past_sent + judged.missing > 0;
        println!(
            "{:<12}{:<10}{:<26}{:>8}{:>10}{:>10}{:>10}{:>8}{:>8}{:>12}{}",
            format!("{} ms", case.network_ms),
            format!("{} ms", case.jitter_ms),
            case.moment.name(),
            judged.errors.len(),
            format!("{half} ms"),
            format!("{worst} ms"),
            format!("≤ {} ms", case.goal_ms()),
            judged.past_sent,
            judged.missing,
            judged.stalled,
            if missed { "  MISSED" } else { "" },
        );
        if worst > case.goal_ms() {
            println!("            reported minus heard: {:?}", judged.errors);
        }
        for what in judged.bad.iter().take(3) {
            println!("            {what}");
        }
    }
    println!();
    Ok(())
}

async fn memory(options: &Options) -> anyhow::Result<()> {
    let calls = options.memory_calls;
    let model = model().await?;
    let server = Server::start(&model.url(), ASSISTANT, calls)?;
    sleep(Duration::from_millis(200)).await;
    let rest = resident(server.pid())?;
    let fleet = Fleet::start(&server, &server.url(), &model, calls).await?;
    let (window, marks) = fleet.measure(server.pid(), Duration::from_secs(5)).await?;
    let outcome = fleet.finish(marks).await?;
    let each = window.resident_kib.saturating_sub(rest) as f64 / calls as f64;
    let missed = if each > 60.0 { "  MISSED" } else { "" };
    println!(
        "{:<44}{:>14}  {:>14}{missed}",
        format!("resident per call, at {calls}"),
        format!("{each:.0} KiB"),
        "≤ 60 KiB"
    );
    row("  in total, and at rest", format!("{}, {}", mib(window.resident_kib), mib(rest)), "");
    row(&format!("  failed calls, of {calls}"), outcome.bad.len(), "0");
    for what in outcome.bad.iter().take(3) {
        println!("  {what}");
    }
    drop(server);
    model.stop().await;
    Ok(())
}
