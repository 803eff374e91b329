//! What the caller heard and when, to the millisecond, and the longest silence while the assistant owed something.
//!
//! It reads the phone's recording. With [`crate::model::Speech::Tagged`] it knows which words they were, so it also knows
//! when an answer was heard to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::caller::CallRecord;
use crate::model::{Aim, ResponseLog, SessionLog};
use crate::tag;
use switchboard_audio::{BYTES_PER_MS, decode};

/// The loudest sample of digital silence, with a coder's last bit: -70 dBFS.
const SILENT: i16 = 10;
/// Sounds that are closer than this are one.
const PAUSE: Duration = Duration::from_millis(40);
/// How much of an answer may be missing at its end.
const MISSING_MS: u64 = 40;

/// A stretch of the call, counted from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub from: Duration,
    pub until: Duration,
}

impl Span {
    pub fn lasts(self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

/// Something that the assistant owes the caller, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    pub span: Span,
    pub what: &'static str,
}

/// How much of one of the model's items was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The milliseconds that were heard, each counted once.
    pub ms: u64,
    /// The last of them, in the item's own time.
    pub end_ms: u64,
    /// From the first to the last of them.
    pub span: Span,
}

/// What one caller heard.
#[derive(Debug, Clone)]
pub struct Ear {
    began: Instant,
    ended: Duration,
    sounds: Vec<Span>,
    items: BTreeMap<u16, Heard>,
    spoke: Vec<Span>,
    keys: Vec<Duration>,
    started: Option<Duration>,
}

impl Ear {
    /// Of a phone that kept its audio.
    pub fn new(record: &CallRecord) -> Self {
        let since = |at: Instant| at.saturating_duration_since(record.started);
        let mut sounds = sounds(&record.heard);
        sounds.extend(record.said.iter().map(|said| {
            let from = since(said.at);
            Span { from, until: from + reading(&said.text) }
        }));
        sounds.sort_by_key(|sound| sound.from);
        let frames = record.streams.iter().flat_map(|stream| &stream.speech);
        let frame = Duration::from_millis(20);
        let spoke = frames.map(|at| Span { from: since(*at).saturating_sub(frame), until: since(*at) });
        Self {
            began: record.started,
            ended: since(record.ended),
            sounds: join(sounds, PAUSE),
            items: items(&record.heard),
            // A machine that was busy sends its frames late.
            spoke: join(spoke.collect(), Duration::from_millis(400)),
            keys: record.keys.iter().map(|at| since(*at)).collect(),
            started: record.streams.iter().find_map(|stream| stream.started).map(since),
        }
    }

    /// When there was sound: more than digital silence.
    pub fn sounds(&self) -> &[Span] {
        &self.sounds
    }

    /// When the caller spoke.
    pub fn spoke(&self) -> &[Span] {
        &self.spoke
    }

    /// What was heard of the model's item with this number.
    pub fn item(&self, number: u16) -> Option<Heard> {
        self.items.get(&number).copied()
    }

    /// Whether the whole item was heard, but for its last milliseconds.
    pub fn heard_whole(&self, number: u16, sent_ms: u64) -> bool {
        self.item(number).is_some_and(|heard| heard.ms + MISSING_MS >= sent_ms)
    }

    /// What the assistant owed: the greeting from the stream's start; an answer from the end of the caller's words or
    /// keys until it has been heard to its end, tools included. The caller's next words end a debt and begin another.
    pub fn owed(&self, sessions: &[SessionLog]) -> Vec<Owed> {
        let answers = self.answers(sessions);
        let mut asked: Vec<(Duration, &'static str)> = Vec::new();
        asked.extend(self.started.map(|at| (at, "greeting")));
        asked.extend(self.spoke.iter().map(|spoke| (spoke.until, "answer")));
        asked.extend(self.keys.iter().map(|at| (*at, "answer to keys")));
        asked.sort_unstable();
        let owed = asked.into_iter().map(|(from, what)| {
            let speaks = self.spoke.iter().map(|spoke| spoke.from).find(|at| *at > from);
            let answered =
                answers.iter().filter(|answer| answer.from >= from).map(|answer| answer.until).min();
            let until = [speaks, answered].into_iter().flatten().fold(self.ended, Duration::min);
            Owed { span: Span { from, until: until.max(from) }, what }
        });
        owed.collect()
    }

    /// The longest silence within these stretches, and during which one.
    pub fn longest_silence(&self, owed: &[Owed]) -> Option<Owed> {
        let silences = owed.iter().flat_map(|owed| {
            let mut from = owed.span.from;
            let mut silences = Vec::new();
            for sound in self.sounds.iter().filter(|sound| sound.until > owed.span.from) {
                let until = sound.from.min(owed.span.until);
                silences.push(Owed { span: Span { from, until: until.max(from) }, what: owed.what });
                from = from.max(sound.until);
            }
            let until = owed.span.until.max(from);
            silences.push(Owed { span: Span { from, until }, what: owed.what });
            silences
        });
        let clipped = silences.filter(|silence| silence.span.lasts() > Duration::ZERO);
        // The first of equal ones.
        clipped.reduce(|longest, next| if next.span.lasts() > longest.span.lasts() { next } else { longest })
    }

    /// The answers that were heard to their end, from their first sound to their last.
    fn answers(&self, sessions: &[SessionLog]) -> Vec<Span> {
        let mut answers = Vec::new();
        for session in sessions {
            for response in session.responses.iter().filter(|response| settles(response)) {
                let items = || session.items.iter().filter(|item| item.response == response.id);
                let heard = |number| self.item(number).map(|heard: Heard| heard.span);
                let (Some(first), Some(last)) = (items().next(), items().next_back()) else { continue };
                if items().all(|item| self.heard_whole(item.number, item.sent_ms))
                    && let (Some(first), Some(last)) = (heard(first.number), heard(last.number))
                {
                    answers.push(Span { from: first.from, until: last.until });
                }
            }
        }
        answers
    }

    /// What was heard, for people: times in seconds, the model's lines, other sounds, the caller's words.
    pub fn story(&self, record: &CallRecord, sessions: &[SessionLog]) -> String {
        let mut parts: Vec<(Duration, String)> = Vec::new();
        let seconds = |span: Span| format!("{:.1}–{:.1}", span.from.as_secs_f64(), span.until.as_secs_f64());
        let mut known = Vec::new();
        for (number, heard) in &self.items {
            let item = sessions.iter().flat_map(|session| &session.items).find(|item| item.number == *number);
            let Some(item) = item else { continue };
            let line: String = item.line.chars().take(18).collect();
            let whole = if self.heard_whole(*number, item.sent_ms) { "" } else { "…" };
            parts.push((heard.span.from, format!("“{line}{whole}” {}", seconds(heard.span))));
            known.push(heard.span);
        }
        for said in &record.said {
            let at = said.at.saturating_duration_since(self.began);
            parts.push((at, format!("Twilio says “{}” {:.1}", said.text, at.as_secs_f64())));
            known.push(Span { from: at, until: at + reading(&said.text) });
        }
        for sound in &self.sounds {
            let within = |span: &Span| span.until.min(sound.until).saturating_sub(span.from.max(sound.from));
            let covered: Duration = known.iter().map(within).sum();
            if covered + Duration::from_millis(100) < sound.lasts() {
                parts.push((sound.from, format!("sound {}", seconds(*sound))));
            }
        }
        parts.extend(self.spoke.iter().map(|spoke| (spoke.from, format!("[caller {}]", seconds(*spoke)))));
        parts.extend(self.keys.iter().map(|at| (*at, format!("[key {:.1}]", at.as_secs_f64()))));
        parts.sort();
        let parts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
        format!("{}, end {:.1}", parts.join(", "), self.ended.as_secs_f64())
    }
}

/// How long Twilio's voice reads: about 15 characters a second.
fn reading(text: &str) -> Duration {
    Duration::from_millis(text.chars().count() as u64 * 1_000 / 15)
}

/// Whether the caller has what he waits for when he has heard this response.
fn settles(response: &ResponseLog) -> bool {
    response.status == "completed"
        && match response.aim {
            Aim::Greeting | Aim::Answer => !response.calls,
            Aim::Goodbye => true,
            Aim::Aside | Aim::Form => false,
        }
}

/// The stretches that are more than digital silence. A level that does not change is silence, too.
fn sounds(heard: &[u8]) -> Vec<Span> {
    let mut sounds: Vec<Span> = Vec::new();
    for (ms, bytes) in heard.chunks(BYTES_PER_MS).enumerate() {
        let is_sound = bytes.iter().any(|byte| decode(*byte).abs() > SILENT)
            && (bytes.windows(2).any(|two| two[0] != two[1])
                || ms.checked_sub(1).is_some_and(|before| heard[before * BYTES_PER_MS] != bytes[0]));
        if !is_sound {
            continue;
        }
        let from = Duration::from_millis(ms as u64);
        let until = from + Duration::from_millis(1);
        match sounds.last_mut().filter(|last| last.until == from) {
            Some(last) => last.until = until,
            None => sounds.push(Span { from, until }),
        }
    }
    sounds
}

/// For each item, the milliseconds of it in the recording.
fn items(heard: &[u8]) -> BTreeMap<u16, Heard> {
    let mut items: BTreeMap<u16, (Heard, Vec<u32>)> = BTreeMap::new();
    let mut at = 0;
    while let Some(bytes) = heard.get(at..).and_then(|rest| rest.first_chunk()) {
        let Some((item, ms)) = tag::untag(bytes) else {
            at += 1;
            continue;
        };
        let from = Duration::from_micros(at as u64 * 125);
        let until = from + Duration::from_millis(1);
        at += tag::TAG_LEN;
        let (heard, all) =
            items.entry(item).or_insert((Heard { ms: 0, end_ms: 0, span: Span { from, until } }, Vec::new()));
        heard.span.until = until;
        heard.end_ms = heard.end_ms.max(u64::from(ms) + 1);
        all.push(ms);
    }
    let count = |mut all: Vec<u32>| {
        all.sort_unstable();
        all.dedup();
        all.len() as u64
    };
    items.into_iter().map(|(item, (heard, all))| (item, Heard { ms: count(all), ..heard })).collect()
}

/// Joins stretches, sorted by their beginning, that are closer than `pause`.
fn join(spans: Vec<Span>, pause: Duration) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut().filter(|last| span.from <= last.until + pause) {
            Some(last) => last.until = last.until.max(span.until),
            None => joined.push(span),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_audio::SILENCE;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn span(from: u64, until: u64) -> Span {
        Span { from: ms(from), until: ms(until) }
    }

    fn tagged(item: u16, from: u32, until: u32) -> Vec<u8> {
        (from..until).flat_map(|ms| tag::tag(item, ms)).collect()
    }

    fn ear(heard: &[u8], ended: u64) -> Ear {
        Ear {
            began: Instant::now(),
            ended: ms(ended),
            sounds: join(sounds(heard), PAUSE),
            items: items(heard),
            spoke: vec![span(1_000, 2_000)],
            keys: Vec::new(),
            started: Some(ms(100)),
        }
    }

    #[test]
    fn a_soft_tone_is_a_sound_and_digital_silence_is_none() {
        let tone: Vec<u8> = (0..800)
            .map(|at| switchboard_audio::encode((300.0 * (f64::from(at) * 0.35).sin()) as i16))
            .collect();
        let quiet = [SILENCE; 800];
        // Negative zero, a coder's last bit, and a level that does not change.
        let dead = [[0x7F; 400], [0xFE; 400], [0x00; 400], [SILENCE; 400]].concat();
        let heard = [&quiet[..], &tone, &quiet, &dead].concat();
        let found = join(sounds(&heard), ms(5));
        assert_eq!(found[0], span(100, 200));
        assert!(found[1..].iter().all(|click| click.lasts() <= ms(1)), "{found:?}");
    }

    #[test]
    fn an_item_is_heard_once_however_often_it_is_played() {
        let heard =
            [&[SILENCE; 83][..], &tagged(7, 0, 100), &tagged(7, 50, 150), &tagged(8, 20, 30)].concat();
        let ear = ear(&heard, 1_000);
        let seven = ear.item(7).unwrap();
        assert_eq!((seven.ms, seven.end_ms), (150, 150));
        assert!(ear.heard_whole(7, 190) && !ear.heard_whole(7, 191));
        assert_eq!(ear.item(8).map(|heard| (heard.ms, heard.end_ms)), Some((10, 30)));
    }

    #[test]
    fn a_debt_lasts_until_the_answer_has_been_heard_to_its_end() {
        let item = |number, response: &str| crate::model::SpokenItem {
            id: String::new(),
            number,
            response: response.to_owned(),
            line: String::new(),
            silent: false,
            sent_bytes: 8 * 1_000,
            sent_ms: 1_000,
            first_delta: None,
        };
        let response = |id: &str, status: &str| ResponseLog {
            id: id.to_owned(),
            aim: Aim::Answer,
            out_of_band: false,
            created: Instant::now(),
            ended: None,
            calls: false,
            status: status.to_owned(),
            reason: None,
        };
        let log = SessionLog {
            items: vec![item(1, "a"), item(2, "b"), item(3, "c")],
            responses: vec![response("a", "completed"), response("b", "failed"), response("c", "completed")],
            ..SessionLog::default()
        };
        // A greeting from 300 ms to 900; the caller until 2,000; a failed answer at 2,500; the good one at 5,000.
        let quiet = |ms: usize| vec![SILENCE; ms * 8];
        let heard = [
            quiet(300),
            tagged(1, 0, 600),
            quiet(1_600),
            tagged(2, 0, 1_000),
            quiet(1_500),
            tagged(3, 0, 1_000),
        ]
        .concat();
        let ear = ear(&heard, 9_000);
        let owed = ear.owed(std::slice::from_ref(&log));
        // The greeting was interrupted by the caller.
        assert_eq!(owed[0], Owed { span: span(100, 1_000), what: "greeting" });
        assert_eq!(owed[1], Owed { span: span(2_000, 6_000), what: "answer" });
        let silence = ear.longest_silence(&owed).unwrap();
        assert_eq!(silence, Owed { span: span(3_500, 5_000), what: "answer" });
        // Without the good answer, the debt lasts until the end of the call.
        let owed = ear.owed(&[SessionLog { responses: Vec::new(), ..log }]);
        assert_eq!(owed[1].span, span(2_000, 9_000));
        assert_eq!(ear.longest_silence(&owed).unwrap().span, span(6_000, 9_000));
    }
}
