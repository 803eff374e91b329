//! What the server reports as heard, compared with what the phone really played.
//!
//! Each millisecond of the model's voice names its item and position ([`tag::tag`]), and the phone keeps everything that
//! it played, so the heard part of each item is known exactly. Answers have two items of 4 s; each call interrupts them
//! at a different millisecond.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use switchboard_simulator::caller::{Act, CallEnd, CallRecord, Line, Network, Phone, PhoneOptions, When};
use switchboard_simulator::model::{ModelOptions, ModelServer, Reply, Script, SessionLog, Speech};
use switchboard_simulator::tag;
use tokio::time::sleep;

use crate::calls::{call_of, loud, quiet};
use crate::server::{Server, TOKEN};

/// 60 characters: 4 s of audio each.
const ITEMS: [&str; 2] = [
    "The first item of two is as long as any sentence, four secs.",
    "The second item of the two follows with no pause in between.",
];
const ITEM_MS: u64 = 4_000;
/// The server answers `speech_started` with truncations within 2 ms. If it takes longer, the machine was busy.
const STALLED: Duration = Duration::from_millis(10);

const ASSISTANT: &str = r#"
numbers: ["*"]
instructions: "You answer the phone. Call {{ call.id }}."
greeting: { first: caller }
turn_taking: { silence: 300ms }
"#;

/// When the caller interrupts the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// In the first item, while the answer is being generated.
    First,
    /// In the second item, while it is being generated.
    Second,
    /// In the second item, long after the whole answer was generated.
    Late,
}

impl Moment {
    /// Seconds of audio that the model generates per second.
    fn burst(self) -> f64 {
        match self {
            Self::First | Self::Second => 1.2,
            Self::Late => 6.0,
        }
    }

    /// How long the answer has played when the caller interrupts.
    fn playing_for(self) -> Duration {
        Duration::from_millis(match self {
            Self::First => 1_000,
            Self::Second | Self::Late => ITEM_MS + 300,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first item, being made",
            Self::Second => "second item, being made",
            Self::Late => "second item, all made",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// Network delay in each direction and jitter, in milliseconds.
    pub network_ms: u64,
    pub jitter_ms: u64,
    pub moment: Moment,
}

impl Case {
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for network_ms in [0, 40, 150] {
            for jitter_ms in [0, 30] {
                for moment in [Moment::First, Moment::Second, Moment::Late] {
                    all.push(Self { network_ms, jitter_ms, moment });
                }
            }
        }
        all
    }

    /// The largest allowed difference between a truncation and what was heard.
    pub fn goal_ms(self) -> u64 {
        20 + self.jitter_ms
    }
}

/// The results of one case.
#[derive(Debug, Default)]
pub struct Judged {
    /// Reported minus heard, in milliseconds, for each truncated item.
    pub errors: Vec<i64>,
    /// Truncations past the sent audio, or refused by the model.
    pub past_sent: usize,
    /// Items that were cut off without a truncation.
    pub missing: usize,
    /// Items left out because the machine was stalled during the interruption: the model got the truncation late, although
    /// there is no network delay to it.
    pub stalled: usize,
    pub bad: Vec<String>,
}

/// Runs every case with `calls` calls each, all at once.
pub async fn measure(calls: u64) -> anyhow::Result<BTreeMap<Case, Judged>> {
    let mut judged = BTreeMap::new();
    let cases = Case::all();
    let (made, being_made) = cases.iter().partition::<Vec<Case>, _>(|case| case.moment == Moment::Late);
    let (a, b) = tokio::join!(run(&made, calls), run(&being_made, calls));
    judged.extend(a?);
    judged.extend(b?);
    Ok(judged)
}

/// Runs cases with the same burst through a fresh server.
async fn run(cases: &[Case], calls: u64) -> anyhow::Result<BTreeMap<Case, Judged>> {
    let answer = Reply { items: ITEMS.map(str::to_owned).into(), ..Reply::default() };
    let model = ModelServer::start(ModelOptions {
        think: Duration::from_millis(200),
        burst: cases[0].moment.burst(),
        speech: Speech::Tagged,
        script: Script { replies: vec![answer], rest: Reply::say("Good.") },
        ..ModelOptions::default()
    })
    .await?;
    let server = Server::start(&model.url(), ASSISTANT, cases.len() * calls as usize + 1)?;
    let mut phones = Vec::new();
    for nth in 0..calls {
        for case in cases {
            sleep(Duration::from_millis(7)).await;
            let options = options(&server, *case, nth);
            phones.push((*case, Phone::dial(options)));
        }
    }
    let mut records = Vec::new();
    for (case, phone) in phones {
        records.push((case, phone.finished().await));
    }
    let logs = model.sessions();
    let log_of: BTreeMap<&str, &SessionLog> =
        logs.iter().filter_map(|log| Some((call_of(log)?, log))).collect();
    let mut judged: BTreeMap<Case, Judged> = BTreeMap::new();
    for (case, record) in &records {
        let judged = judged.entry(*case).or_default();
        match log_of.get(record.call_sid.as_str()) {
            Some(log) => judged.take(record, log),
            None => judged.bad.push("a call never reached the model".to_owned()),
        }
    }
    Ok(judged)
}

fn options(server: &Server, case: Case, nth: u64) -> PhoneOptions {
    let ms = Duration::from_millis;
    let clip = |length: usize| -> Bytes { loud(length).chain(quiet(400)).collect() };
    let network = Network {
        up: ms(case.network_ms),
        down: ms(case.network_ms),
        jitter: ms(case.jitter_ms),
        seed: nth * 1_000 + case.network_ms + case.jitter_ms,
    };
    // A different point within the frame, the delta and the item each time.
    let playing_for = case.moment.playing_for() + ms(nth * 173 % 1_500) + Duration::from_micros(nth * 337);
    let line = |when, act| Line { when, act };
    let script = vec![
        line(When::After(ms(700) + ms(case.network_ms * 4)), Act::Say(clip(800))),
        line(When::PlayingFor(playing_for), Act::Say(clip(500))),
        line(When::Quiet(ms(700)), Act::HangUp),
    ];
    PhoneOptions { network, script, ..PhoneOptions::new(server.url(), TOKEN) }
}

impl Judged {
    fn take(&mut self, record: &CallRecord, log: &SessionLog) {
        if record.end != CallEnd::CallerHungUp {
            self.bad.push(format!("a call ended with {:?}", record.end));
        }
        self.bad.extend(record.violations.iter().map(|fault| format!("{}: {}", fault.code, fault.what)));
        self.past_sent += log.errors.iter().filter(|code| *code == "invalid_value").count();
        let heard = heard(&record.heard);
        for item in &log.items {
            let heard_ms = heard.get(&item.number).copied().unwrap_or(0);
            match log.truncations.iter().find(|cut| cut.item == item.id) {
                Some(cut) => {
                    let said = log.speech_started.iter().rev().find(|at| **at <= cut.at);
                    if said.is_some_and(|said| cut.at - *said > STALLED) {
                        self.stalled += 1;
                    } else {
                        self.errors.push(cut.audio_end_ms as i64 - heard_ms as i64);
                    }
                    self.past_sent += usize::from(cut.audio_end_ms > cut.sent_ms);
                }
                None => self.missing += usize::from(heard_ms + 1 < item.sent_ms),
            }
        }
    }

    /// The median and the largest error.
    pub fn spread(&self) -> (u64, u64) {
        let mut errors: Vec<u64> = self.errors.iter().map(|error| error.unsigned_abs()).collect();
        errors.sort_unstable();
        (errors.get(errors.len() / 2).copied().unwrap_or(0), errors.last().copied().unwrap_or(0))
    }
}

/// For each item, the milliseconds up to the last one played.
fn heard(audio: &[u8]) -> BTreeMap<u16, u64> {
    let mut heard = BTreeMap::new();
    let mut at = 0;
    while let Some(bytes) = audio.get(at..).and_then(|rest| rest.first_chunk()) {
        at += match tag::untag(bytes) {
            Some((item, ms)) => {
                let end = heard.entry(item).or_default();
                *end = u64::from(ms + 1).max(*end);
                tag::TAG_LEN
            }
            None => 1,
        };
    }
    heard
}
