//! What interrupts the assistant and what does not, through the whole path: calls with real sounds over the assistant's
//! voice, with `interruptions: confirmed`.
//!
//! `cargo bench --bench ear` prints how often a stop was wrong or missed, and how long it took. The sounds are made by
//! `benches/ear/make.sh`; `--sounds DIR` adds recordings of your own. The simulated model's voice detection is a plain
//! level meter, and not OpenAI's.

#[path = "chaos/process.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use switchboard_audio::Clip;
use switchboard_simulator::caller::{CallRecord, Network, Phone, PhoneOptions};
use switchboard_simulator::model::{ModelOptions, ModelServer, Reply, Script};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use process::{Process, TOKEN};

const USAGE: &str = "\
cargo bench --bench ear -- [OPTIONS] [WORDS]
  WORDS          only sounds whose names contain one of these
  --sounds DIR   also the WAV files of this folder: speech-*.wav, word-*.wav, listener-*.wav, noise-*.wav
  --server FILE  the program to test (the one that cargo built with the benchmark)";

/// The simulated model has a recording of these words, which takes 13 s.
const GREETING: &str = "This is the simulated model. It follows a script and understands no words, so it cannot say \
    what your file says. The real model would answer from your instructions now. This answer is long, so that the \
    caller can interrupt it.";
/// How long the assistant speaks before the sound comes, and how long the call goes on after it.
const BEFORE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(3);
/// How loudly the phone hears itself, in decibels below what it plays.
const ECHOES: [f32; 3] = [20.0, 30.0, 40.0];
const AT_ONCE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Speech,
    Word,
    Listener,
    Noise,
    Echo,
}

impl Kind {
    fn interrupts(self) -> bool {
        matches!(self, Self::Speech | Self::Word)
    }
}

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    name: String,
    ulaw: Vec<u8>,
    echo: Option<f32>,
}

struct Heard {
    case: Case,
    latency: Duration,
    /// From the beginning of the sound until the phone was silent.
    stopped: Option<Duration>,
    /// From the end of the sound until the assistant spoke on.
    resumed: Option<Duration>,
    /// The model learned that it was interrupted.
    interrupted: bool,
    /// From the end of the caller's turn until the answer was asked for, at the model.
    asked: Option<Duration>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ear");
    let (mut folders, mut words) = (vec![own.clone()], Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {} // Added by cargo.
            "--sounds" => folders.push(arguments.next().context(USAGE)?.into()),
            "--server" => {
                let _ = process::PROGRAM.set(arguments.next().context(USAGE)?.into());
            }
            option if option.starts_with('-') => bail!("`{option}` is no option\n{USAGE}"),
            _ => words.push(argument),
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ear/make.sh");
    if !Command::new(script).arg(&own).status().is_ok_and(|status| status.success()) {
        bail!("the sounds cannot be made: install espeak-ng and sox");
    }
    let mut cases = Vec::new();
    for folder in folders {
        cases.extend(recordings(&folder)?);
    }
    let echo = |decibels: f32| Case {
        kind: Kind::Echo,
        name: format!("echo -{decibels} dB"),
        ulaw: Vec::new(),
        echo: Some(decibels),
    };
    cases.extend(ECHOES.map(echo));
    cases.retain(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut calls = JoinSet::new();
    for latency in [0, 40, 150].map(Duration::from_millis) {
        for case in cases.clone() {
            let room = room.clone();
            calls.spawn(async move {
                let _place = room.acquire_owned().await;
                call(case, latency).await
            });
        }
    }
    let mut all = Vec::new();
    while let Some(heard) = calls.join_next().await {
        all.push(heard??);
    }
    print(all);
    Ok(())
}

fn recordings(folder: &PathBuf) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let files = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for path in files.map(|file| Ok(file?.path())).collect::<anyhow::Result<Vec<_>>>()? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let kind = match name.split('-').next() {
            Some("speech") => Kind::Speech,
            Some("word") => Kind::Word,
            Some("listener") => Kind::Listener,
            Some("noise") => Kind::Noise,
            _ => continue,
        };
        let clip = Clip::from_wav(&std::fs::read(&path)?).with_context(|| name.clone())?;
        cases.push(Case { kind, name, ulaw: clip.ulaw.to_vec(), echo: None });
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}

async fn call(case: Case, latency: Duration) -> anyhow::Result<Heard> {
    // What a transcription model makes of noise is nothing, as a rule.
    let words = match case.kind {
        Kind::Speech => "Excuse me, what does that cost?",
        Kind::Word => "Stop!",
        Kind::Listener => "Mhm.",
        Kind::Noise => "",
        Kind::Echo => "The real model would answer",
    };
    let rest = Reply::say("Yes, I can hear you. Is there anything else?").to(words);
    let script = Script { rest, ..Script::default() };
    let think = Duration::from_millis(300);
    // Transcripts come at once, after half a second, or after two.
    let seed = case.name.bytes().map(u64::from).sum::<u64>() + latency.as_millis() as u64;
    let model = ModelServer::start(ModelOptions { script, think, seed, ..ModelOptions::default() }).await?;
    let assistant = format!(
        "numbers: [\"*\"]\ninstructions: You answer the phone.\ngreeting: {{ say: \"{GREETING}\" }}\n\
         turn_taking: {{ interruptions: confirmed }}\n"
    );
    let process = Process::start(&model.url(), None, &assistant).await?;
    let network = Network { up: latency, down: latency, ..Network::default() };
    let phone =
        Phone::dial(PhoneOptions { echo: case.echo, network, ..PhoneOptions::new(&process.url, TOKEN) });
    let control = phone.control();
    let length = switchboard_audio::duration(case.ulaw.len());
    let began = async {
        control.wait_for_stream(1).await;
        sleep(BEFORE).await;
        let began = Instant::now();
        control.say(case.ulaw.clone().into());
        sleep(length + AFTER).await;
        control.hang_up();
        began
    };
    let (began, record) = tokio::join!(began, phone.finished());
    let sessions = model.sessions();
    let interrupted = sessions.iter().any(|session| !session.truncations.is_empty());
    let asked = sessions.first().and_then(|session| {
        let stopped = *session.speech_stopped.first()?;
        let asked =
            session.events.iter().find(|event| event.at >= stopped && event.kind() == "response.create")?;
        Some(asked.at - stopped)
    });
    drop(process);
    model.stop().await;
    Ok(Heard { asked, ..judge(case, latency, began, length, interrupted, &record) })
}

fn judge(
    case: Case,
    latency: Duration,
    began: Instant,
    length: Duration,
    interrupted: bool,
    record: &CallRecord,
) -> Heard {
    let clears = record.streams.iter().flat_map(|stream| stream.clears.iter().map(|clear| clear.at));
    let clear = clears.into_iter().find(|at| case.kind == Kind::Echo || *at >= began);
    let media = record.streams.iter().flat_map(|stream| stream.media.iter().map(|media| media.at));
    let again = clear.and_then(|clear| media.into_iter().find(|at| *at > clear));
    Heard {
        stopped: clear.map(|clear| clear.saturating_duration_since(began)),
        resumed: again.filter(|_| !interrupted).map(|at| at.saturating_duration_since(began + length)),
        case,
        latency,
        interrupted,
        asked: None,
    }
}

fn print(all: Vec<Heard>) {
    let ms = |time: Option<Duration>| time.map_or("-".to_owned(), |time| time.as_millis().to_string());
    let mut kinds: BTreeMap<Kind, Vec<&Heard>> = BTreeMap::new();
    for heard in &all {
        kinds.entry(heard.case.kind).or_default().push(heard);
        let wrong = heard.interrupted != heard.case.kind.interrupts();
        let (stopped, resumed) = (ms(heard.stopped), ms(heard.resumed));
        let verdict = if wrong { "WRONG" } else { "right" };
        println!(
            "{:26} {:>3} ms away  {verdict}  silent after {stopped:>5} ms  on after {resumed:>5} ms",
            heard.case.name,
            heard.latency.as_millis(),
        );
    }
    println!(
        "\n| sound | calls | wrong | the phone is silent after, median / most | the voice goes on after, median / most |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (kind, heard) in kinds {
        let wrong = heard.iter().filter(|it| it.interrupted != kind.interrupts()).count();
        let times = |which: fn(&Heard) -> Option<Duration>| {
            let mut times: Vec<Duration> = heard.iter().filter_map(|it| which(it)).collect();
            times.sort();
            match times.len() {
                0 => "-".to_owned(),
                count => format!("{} / {} ms", times[count / 2].as_millis(), times[count - 1].as_millis()),
            }
        };
        let (stopped, resumed) = (times(|it| it.stopped), times(|it| it.resumed));
        println!("| {kind:?} | {} | {wrong} | {stopped} | {resumed} |", heard.len());
    }
    let speech = all.iter().filter(|heard| heard.case.kind == Kind::Speech);
    let mut asked: Vec<Duration> = speech.filter_map(|heard| heard.asked).collect();
    asked.sort();
    if let Some(median) = asked.get(asked.len() / 2) {
        println!(
            "\nAn answer to speech is asked for {:.1} ms after the turn, in the median.",
            median.as_secs_f64() * 1e3
        );
    }
}
