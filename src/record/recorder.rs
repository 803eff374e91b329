//! The fold of a call's entries into its record.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::bill::{Bill, Priced};
use super::entry::{Entry, Rang, Said, Spoke, What};
use super::{CallRecord, Direction, Event, Happened, RecordId, TokenCounts, Turn, VERSION, Voice};
use crate::call::heard_words;
use crate::provider::prices::Prices;

/// The most turns, tool calls, events and waiting transcripts of one record. Hours of talk have fewer.
const MAX_KEPT: usize = 10_000;
/// The most anomalies in the timeline. All of them are counted.
const MAX_ANOMALIES: usize = 200;
/// An answer and its turn begin within this time of each other.
const SAME_MOMENT: u64 = 150;
/// An answer waits at most this long for what plays before it.
const WAITS: u64 = 3_000;
/// The reason of a call whose process ended before it.
const BROKEN_OFF: &str = "server.fault";

/// Folds the entries of one call, in whatever order they come.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// All but what is derived in [`Self::record`].
    known: CallRecord,
    turns: Vec<Known>,
    /// The turns under way.
    caller_speaks: Option<Known>,
    assistant_speaks: Option<Known>,
    /// Transcripts whose turns have not come.
    words: BTreeMap<String, String>,
    /// Answers: when each began, and how long it took.
    answers: Vec<(u64, u64)>,
    anomalies_shown: usize,
    bill: Bill,
    prices: Arc<Prices>,
    /// From the ring to the stream's start, and from there to the last entry.
    ring_ms: u64,
    last_ms: u64,
    ended: bool,
    unsettled: bool,
}

/// A turn, and whose transcript it waits for.
#[derive(Debug, Clone)]
struct Known {
    turn: Turn,
    item: Option<String>,
}

impl Recorder {
    /// The built-in prices count, until [`Self::priced`] gives others.
    pub fn new(id: RecordId) -> Self {
        let known = CallRecord {
            version: VERSION,
            id,
            call: String::new(),
            assistant: None,
            assistant_version: None,
            direction: Direction::Inbound,
            test: false,
            simulated: false,
            from: None,
            to: None,
            started: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            reason: None,
            broken_off: false,
            first_word_ms: None,
            longest_silence_ms: 0,
            interruptions: 0,
            turns: Vec::new(),
            tools: Vec::new(),
            events: Vec::new(),
            tokens: TokenCounts::default(),
            cost: None,
            unpriced: Vec::new(),
            recording: None,
            summary: None,
            fields: None,
            message: None,
            anomalies: BTreeMap::new(),
        };
        Self {
            known,
            turns: Vec::new(),
            caller_speaks: None,
            assistant_speaks: None,
            words: BTreeMap::new(),
            answers: Vec::new(),
            anomalies_shown: 0,
            bill: Bill::default(),
            prices: Arc::default(),
            ring_ms: 0,
            last_ms: 0,
            ended: false,
            unsettled: false,
        }
    }

    /// The same with these prices.
    pub fn priced(mut self, prices: Arc<Prices>) -> Self {
        self.prices = prices;
        self
    }

    /// Takes in an entry.
    pub fn add(&mut self, entry: Entry) {
        self.bill.add(&entry);
        let at_ms = entry.at_ms;
        self.last_ms = self.last_ms.max(at_ms);
        match entry.what {
            What::Rang(rang) => self.rang(rang),
            What::Started { ring_ms } => self.ring_ms = ring_ms,
            What::FirstWord { ms } => self.known.first_word_ms = Some(ms),
            What::Answered { ms } => push(&mut self.answers, (at_ms, ms)),
            What::CallerSpoke { item, start_ms, end_ms } => {
                self.caller_speaks = None;
                self.turn(caller_turn(start_ms, end_ms), Some(item));
            }
            What::AssistantSpoke(spoke) => {
                self.assistant_speaks = None;
                self.assistant_spoke(at_ms, spoke);
            }
            What::CallerSpeaks { item, start_ms, end_ms } => {
                self.caller_speaks = Some(Known { turn: caller_turn(start_ms, end_ms), item: Some(item) });
            }
            What::AssistantSpeaks(spoke) => {
                let item = spoke.item.clone();
                self.assistant_speaks = Some(Known { turn: assistant_turn(spoke), item });
            }
            What::Said(Said { item, text }) => self.said(item, &text),
            What::Keys { keys, count } => self.happened(at_ms, Happened::Keys { keys, count }),
            What::Tool(tool) => {
                let place = self.known.tools.partition_point(|other| other.start_ms <= tool.start_ms);
                insert(&mut self.known.tools, place, tool);
            }
            What::Reconnected(reconnect) => self.happened(at_ms, Happened::Reconnected(reconnect)),
            What::Transferred(transfer) => self.happened(at_ms, Happened::Transferred(transfer)),
            What::Anomaly { code } => self.anomaly(at_ms, code),
            What::Used { .. } | What::Transcribed { .. } => {}
            What::Message { id } => self.known.message = Some(id),
            What::Silence { ms } => {
                self.known.longest_silence_ms = self.known.longest_silence_ms.max(ms);
            }
            What::Recording { path } => self.known.recording = Some(path),
            What::Ended(ended) => {
                self.ended = true;
                (self.caller_speaks, self.assistant_speaks) = (None, None);
                self.known.reason = Some(ended.reason);
                self.known.seconds = ended.seconds;
                self.known.longest_silence_ms = ended.longest_silence_ms;
            }
            What::Form(form) => {
                self.known.summary = form.summary;
                self.known.fields = form.fields.map(serde_json::Value::Object);
            }
            What::Unsettled => self.unsettled = true,
            What::Settled => self.unsettled = false,
            What::Adopted | What::GivenUp | What::Withdrawn => {}
        }
    }

    /// The process ended before the call did, about this long after the ring.
    pub fn break_off(&mut self, seconds: f64) {
        if !self.ended {
            self.ended = true;
            self.known.broken_off = true;
            self.known.reason = Some(BROKEN_OFF.to_owned());
            self.known.seconds = seconds.max(self.elapsed());
        }
    }

    /// Whether the call has ended, and nothing more comes.
    pub fn is_over(&self) -> bool {
        self.ended && !self.unsettled
    }

    /// The record so far, also while the call runs.
    pub fn record(&self) -> CallRecord {
        self.latest(usize::MAX)
    }

    /// The same with the last `most` turns, tool calls and events only.
    pub fn latest(&self, most: usize) -> CallRecord {
        let mut record = self.known.clone();
        keep_last(&mut record.tools, most);
        keep_last(&mut record.events, most);
        if !self.ended {
            record.seconds = self.elapsed();
        }
        record.turns = last(&self.turns, most).iter().map(|known| known.turn.clone()).collect();
        for Known { turn, item } in self.caller_speaks.iter().chain(&self.assistant_speaks) {
            let mut turn = turn.clone();
            if let Some(words) = item.as_ref().and_then(|item| self.words.get(item)) {
                turn.say(words);
            }
            let place = record.turns.partition_point(|other| other.start_ms <= turn.start_ms);
            record.turns.insert(place, turn);
        }
        keep_last(&mut record.turns, most);
        answered(&mut record.turns, last(&self.answers, most));
        let interrupted = |event: &&Event| event.what == Happened::Interrupted;
        record.interruptions =
            u32::try_from(self.known.events.iter().filter(interrupted).count()).unwrap_or(u32::MAX);
        record.tokens = self.bill.tokens();
        let Priced { cost, unpriced, .. } = self.bill.priced(&self.prices, record.seconds);
        (record.cost, record.unpriced) = (cost, unpriced);
        record
    }

    /// What the call has cost so far, in dollars; `None` if nothing was charged, or not everything has a price.
    pub fn cost(&self) -> Option<f64> {
        let seconds = if self.ended { self.known.seconds } else { self.elapsed() };
        self.bill.priced(&self.prices, seconds).cost.map(|cost| cost.total)
    }

    /// Seconds from the ring to the last entry.
    fn elapsed(&self) -> f64 {
        self.ring_ms.saturating_add(self.last_ms) as f64 / 1_000.0
    }

    fn rang(&mut self, rang: Rang) {
        let Rang { call, at, assistant, assistant_version, from, to, test, simulated, .. } = rang;
        let known = &mut self.known;
        (known.call, known.started) = (call, at);
        (known.assistant, known.assistant_version) = (assistant, assistant_version);
        (known.from, known.to) = (from, to);
        (known.test, known.simulated) = (test, simulated);
    }

    fn assistant_spoke(&mut self, at_ms: u64, spoke: Spoke) {
        let (item, interrupted) = (spoke.item.clone(), spoke.interrupted);
        self.turn(assistant_turn(spoke), item);
        // All that one interruption cuts is reported at once.
        if interrupted
            && !self.known.events.iter().any(|it| it.at_ms == at_ms && it.what == Happened::Interrupted)
        {
            self.happened(at_ms, Happened::Interrupted);
        }
    }

    fn turn(&mut self, mut turn: Turn, item: Option<String>) {
        let words = item.as_ref().and_then(|item| self.words.remove(item));
        if let Some(text) = words {
            turn.say(&text);
        }
        let place = self.turns.partition_point(|other| other.turn.start_ms <= turn.start_ms);
        insert(&mut self.turns, place, Known { turn, item });
    }

    fn said(&mut self, item: String, text: &str) {
        // A new session may use an id again, so the newest turn that lacks its words is meant.
        let of_item = |known: &&mut Known| known.item.as_deref() == Some(item.as_str());
        let waiting = self.turns.iter_mut().rev().filter(of_item).find(|known| known.turn.text.is_none());
        match waiting {
            Some(known) => known.turn.say(text),
            None if self.words.len() < MAX_KEPT => {
                self.words.insert(item, text.to_owned());
            }
            None => {}
        }
    }

    fn anomaly(&mut self, at_ms: u64, code: String) {
        let known = self.known.anomalies.contains_key(&code);
        if known || self.known.anomalies.len() < MAX_ANOMALIES {
            *self.known.anomalies.entry(code.clone()).or_default() += 1;
        }
        if self.anomalies_shown < MAX_ANOMALIES {
            self.anomalies_shown += 1;
            self.happened(at_ms, Happened::Anomaly { code });
        }
    }

    fn happened(&mut self, at_ms: u64, what: Happened) {
        let place = self.known.events.partition_point(|other| other.at_ms <= at_ms);
        insert(&mut self.known.events, place, Event { at_ms, what });
    }
}

fn caller_turn(start_ms: u64, end_ms: u64) -> Turn {
    Turn { start_ms, end_ms: end_ms.max(start_ms), text: None, voice: Voice::Caller }
}

fn assistant_turn(spoke: Spoke) -> Turn {
    let Spoke { item: _, text, start_ms, sent_ms, heard_ms, interrupted } = spoke;
    let heard_ms = heard_ms.min(sent_ms);
    let voice = Voice::Assistant { heard_text: None, sent_ms, heard_ms, interrupted, latency_ms: None };
    let mut turn = Turn { start_ms, end_ms: start_ms.saturating_add(heard_ms), text: None, voice };
    if let Some(text) = text {
        turn.say(&text);
    }
    turn
}

impl Turn {
    /// Gives it its words. A transcript of nothing is none.
    fn say(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Voice::Assistant { heard_text, sent_ms, heard_ms, .. } = &mut self.voice {
            *heard_text = Some(heard_words(text, *heard_ms, *sent_ms).to_owned());
        }
        self.text = Some(text.to_owned());
    }
}

/// Gives each answer's latency to the turn that it began.
fn answered(turns: &mut [Turn], answers: &[(u64, u64)]) {
    for (at, ms) in answers {
        let begins = |turn: &&mut Turn| {
            (at.saturating_sub(SAME_MOMENT)..=at.saturating_add(WAITS)).contains(&turn.start_ms)
        };
        let free = turns.iter_mut().filter(begins).find_map(|turn| match &mut turn.voice {
            Voice::Assistant { latency_ms: latency_ms @ None, .. } => Some(latency_ms),
            Voice::Assistant { .. } | Voice::Caller => None,
        });
        if let Some(latency_ms) = free {
            *latency_ms = Some(*ms);
        }
    }
}

/// The last `most` of a list.
fn last<T>(list: &[T], most: usize) -> &[T] {
    &list[list.len().saturating_sub(most)..]
}

fn keep_last<T>(list: &mut Vec<T>, most: usize) {
    list.drain(..list.len().saturating_sub(most));
}

fn push<T>(list: &mut Vec<T>, value: T) {
    let end = list.len();
    insert(list, end, value);
}

/// Inserts a value while there is room.
fn insert<T>(list: &mut Vec<T>, place: usize, value: T) {
    if list.len() < MAX_KEPT {
        list.insert(place, value);
    }
}

#[cfg(test)]
mod tests;
