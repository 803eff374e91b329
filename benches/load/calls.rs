//! Simulated calls through a running server, and what they measure.
//!
//! A conversation of 16 s repeats: the caller asks for 3 s. The answer (5 s of audio, generated in 1 s) begins 0.8 s
//! later. After 3 s of it, the caller interrupts for 2 s; the second answer is heard to its end. So the caller speaks
//! 31 % of the time, the assistant is heard 50 % of the time, and each call has an interruption every 16 s. The phone
//! sends 50 frames a second throughout. Each call is at a different point of the conversation, and the calls begin a
//! little more than 20 ms apart, so that their frames do not arrive in one burst.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bytes::Bytes;
use switchboard_audio::SILENCE;
use switchboard_simulator::caller::voice::speech;
use switchboard_simulator::caller::{CallEnd, CallRecord, Phone, PhoneHandle, PhoneOptions};
use switchboard_simulator::model::{ModelOptions, ModelServer, Reply, Script, SessionLog, Speech};
use tokio::time::{sleep, sleep_until};

use crate::server::{Cost, Meter, Server, TOKEN, resident};
use crate::stats::Spread;

/// One round of the conversation.
pub const ROUND: Duration = Duration::from_secs(16);
/// 75 characters: 5 s of audio.
const ANSWER: &str = "An answer of the length that people are used to; it takes five long seconds";

/// The assistant of all calls. The call SID in the prompt identifies the call of a model session.
pub const ASSISTANT: &str = r#"
numbers: ["*"]
instructions: "You answer the phone. Call {{ call.id }}."
greeting: { say: "Hello." }
turn_taking: { silence: 500ms }
"#;

/// The same with a tool that calls the service at this address.
pub fn with_tool(url: &str) -> String {
    format!(
        "{ASSISTANT}functions:\n  look_up: {{ description: Looks., timeout: 60s, http: {{ url: {url} }} }}\n"
    )
}

/// A simulated model with stamped audio, for [`Fleet`].
pub async fn model() -> std::io::Result<ModelServer> {
    answering(Vec::new()).await
}

/// The same, but the first answer of each call uses the tool of [`with_tool`].
pub async fn model_with_tool() -> std::io::Result<ModelServer> {
    answering(vec![Reply::say(ANSWER).and_call("look_up", "{}")]).await
}

async fn answering(replies: Vec<Reply>) -> std::io::Result<ModelServer> {
    let script = Script { replies, rest: Reply::say(ANSWER) };
    let think = Duration::from_millis(300);
    ModelServer::start(ModelOptions { think, speech: Speech::Stamped, script, ..ModelOptions::default() })
        .await
}

/// A tone that every voice detector detects.
pub fn loud(ms: usize) -> impl Iterator<Item = u8> {
    [0x10, 0x90].into_iter().cycle().take(ms * 8)
}

pub fn quiet(ms: usize) -> impl Iterator<Item = u8> {
    std::iter::repeat_n(SILENCE, ms * 8)
}

/// Enough rounds for six minutes.
fn conversation() -> Bytes {
    // Words, which the server's own ear takes for speech: it does not wait for an answer to a tone.
    let (asks, interrupts) = (speech(3_000), speech(2_000));
    let round: Vec<u8> =
        asks.iter().copied().chain(quiet(3_800)).chain(interrupts).chain(quiet(7_200)).collect();
    round.repeat(24).into()
}

/// How long after the first call the `nth` of `calls` begins.
pub fn stagger(nth: usize, calls: usize) -> Duration {
    let nth = nth as u32;
    Duration::from_millis(20) * nth + Duration::from_millis(20) * nth / calls as u32
}

/// The point of the conversation at which the `nth` of `calls` begins.
pub fn phase(nth: usize, calls: usize) -> Duration {
    ROUND * nth as u32 / calls as u32
}

/// Calls in progress.
pub struct Fleet<'a> {
    model: &'a ModelServer,
    phones: Vec<PhoneHandle>,
}

/// The results of a measured window.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    pub cost: Cost,
    pub resident_kib: u64,
    /// The caller's frames that reached the model, per second and call.
    pub appends: f64,
    /// Seconds of audio that the model generated, per second and call.
    pub spoken: f64,
}

/// The results of all calls.
#[derive(Debug, Default)]
pub struct Outcome {
    pub to_model: Vec<Duration>,
    pub to_phone: Vec<Duration>,
    pub clears: Vec<Duration>,
    /// Clears that followed no `speech_started`.
    pub other_clears: usize,
    pub webhooks: Vec<Duration>,
    pub calls: usize,
    /// What went wrong in calls: an unexpected end or a violation.
    pub bad: Vec<String>,
}

impl<'a> Fleet<'a> {
    /// Starts all calls and waits until each has audio in both directions. The phones connect to `front`.
    pub async fn start(
        server: &Server,
        front: &str,
        model: &'a ModelServer,
        calls: usize,
    ) -> anyhow::Result<Self> {
        let clip = conversation();
        let began = Instant::now();
        let mut phones = Vec::with_capacity(calls);
        for nth in 0..calls {
            sleep_until((began + stagger(nth, calls)).into()).await;
            let options = PhoneOptions {
                public_url: server.url(),
                keep_audio: false,
                stamps: true,
                ..PhoneOptions::new(front, TOKEN)
            };
            let phone = Phone::dial(options);
            let from = phase(nth, calls).as_millis() as usize / 20 * 160;
            phone.say(clip.slice(from..));
            phones.push(phone);
        }
        let deadline = Instant::now() + Duration::from_secs(15);
        let talks = |log: &SessionLog| log.appends > 0 && log.items.iter().any(|item| item.sent_bytes > 0);
        while sessions(model, |log| talks(log)).iter().filter(|talks| **talks).count() < calls {
            if Instant::now() > deadline {
                bail!("not all of {calls} calls started; server log:\n{}", server.log());
            }
            sleep(Duration::from_millis(100)).await;
        }
        sleep(Duration::from_secs(1)).await;
        Ok(Self { model, phones })
    }

    /// Measures the calls and the process for `long`.
    pub async fn measure(&self, pid: u32, long: Duration) -> anyhow::Result<(Window, Marks)> {
        let count = |log: &SessionLog| {
            let spoken: u64 = log.items.iter().map(|item| item.sent_bytes).sum();
            (log.appends, spoken, log.latencies.len())
        };
        let (before, meter) = (sessions(self.model, count), Meter::start(pid)?);
        sleep(long).await;
        let (cost, after) = (meter.read()?, sessions(self.model, count));
        let call_seconds = cost.lasted.as_secs_f64() * self.phones.len() as f64;
        let sum = |counts: &[(u64, u64, usize)]| {
            counts.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        };
        let (first, last) = (sum(&before), sum(&after));
        let window = Window {
            cost,
            resident_kib: resident(pid)?,
            appends: (last.0 - first.0) as f64 / call_seconds,
            spoken: (last.1 - first.1) as f64 / 8_000.0 / call_seconds,
        };
        Ok((window, Marks(before.iter().zip(&after).map(|(from, to)| (from.2, to.2)).collect())))
    }

    /// All callers hang up. The model's figures cover only `marks`; the phones' cover the whole calls.
    pub async fn finish(self, marks: Marks) -> anyhow::Result<Outcome> {
        let calls = self.phones.len();
        let mut records = Vec::with_capacity(calls);
        for phone in &self.phones {
            phone.hang_up();
            sleep(Duration::from_millis(1)).await;
        }
        for phone in self.phones {
            records.push(phone.finished().await);
        }
        let mut outcome = Outcome { calls, ..Outcome::default() };
        let logs = self.model.sessions();
        for (log, (from, to)) in logs.iter().zip(marks.0) {
            outcome.to_model.extend_from_slice(&log.latencies[from..to]);
        }
        let started: HashMap<&str, &[Instant]> =
            logs.iter().filter_map(|log| Some((call_of(log)?, log.speech_started.as_slice()))).collect();
        for record in &records {
            outcome.take(record, started.get(record.call_sid.as_str()).copied().unwrap_or_default());
        }
        ensure!(!outcome.to_model.is_empty(), "no stamped audio reached the model");
        Ok(outcome)
    }
}

/// The range of each model log that belongs to a window.
pub struct Marks(Vec<(usize, usize)>);

impl Outcome {
    fn take(&mut self, record: &CallRecord, speech_started: &[Instant]) {
        self.webhooks.extend(record.documents.first().map(|document| document.took));
        for stream in &record.streams {
            self.to_phone.extend_from_slice(&stream.latencies);
            let mut answered = None;
            for clear in &stream.clears {
                let cause = speech_started.iter().rev().find(|at| **at <= clear.at);
                // The second after a `speech_started` has another cause.
                match cause.filter(|cause| answered != Some(**cause)) {
                    Some(at) => self.clears.push(clear.at - *at),
                    None => self.other_clears += 1,
                }
                answered = cause.copied();
            }
        }
        if record.end != CallEnd::CallerHungUp {
            self.bad.push(format!("a call ended with {:?}", record.end));
        }
        self.bad.extend(record.violations.iter().map(|fault| format!("{}: {}", fault.code, fault.what)));
    }

    pub fn extend(&mut self, other: Self) {
        self.to_model.extend(other.to_model);
        self.to_phone.extend(other.to_phone);
        self.clears.extend(other.clears);
        self.other_clears += other.other_clears;
        self.webhooks.extend(other.webhooks);
        self.calls += other.calls;
        self.bad.extend(other.bad);
    }

    pub fn spreads(self) -> [Spread; 4] {
        [self.to_model, self.to_phone, self.clears, self.webhooks].map(Spread::new)
    }
}

/// The call SID in the instructions of a session.
pub fn call_of(log: &SessionLog) -> Option<&str> {
    log.of_kind("session.update").find_map(|update| {
        let text = update["session"]["instructions"].as_str()?;
        text.split_once("Call ")?.1.get(..34)
    })
}

/// Reads each session's log without copying it.
fn sessions<T>(model: &ModelServer, look: impl Fn(&SessionLog) -> T) -> Vec<T> {
    (0..)
        .map_while(|number| model.session(number))
        .map(|log| look(&log.lock().expect("no holder of a log panics")))
        .collect()
}
