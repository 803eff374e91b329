//! A stand-in for `record::Recorder`.

use crate::record::*;

pub struct Recorder {
    record: CallRecord,
}

impl Recorder {
    pub fn new(id: RecordId) -> Self {
        let record = CallRecord {
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
            started: jiff::Timestamp::UNIX_EPOCH,
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
            anomalies: std::collections::BTreeMap::new(),
        };
        Self { record }
    }

    pub fn add(&mut self, entry: Entry) {
        let record = &mut self.record;
        record.seconds = record.seconds.max(entry.at_ms as f64 / 1000.0);
        match entry.what {
            What::Rang(rang) => {
                record.call = rang.call;
                record.started = rang.at;
                record.assistant = rang.assistant;
                record.from = rang.from;
                record.to = rang.to;
                record.test = rang.test;
            }
            What::Said(said) => record.turns.push(Turn {
                start_ms: entry.at_ms,
                end_ms: entry.at_ms,
                text: Some(said.text),
                voice: Voice::Caller,
            }),
            What::Anomaly { code } => *record.anomalies.entry(code).or_default() += 1,
            What::Recording { path } => record.recording = Some(path),
            What::Message { id } => record.message = Some(id),
            What::Ended(ended) => {
                record.reason = Some(ended.reason);
                record.seconds = ended.seconds;
            }
            _ => {}
        }
    }

    pub fn break_off(&mut self, seconds: f64) {
        self.record.broken_off = true;
        self.record.reason = Some("server.fault".to_owned());
        self.record.seconds = seconds;
    }

    pub fn record(&self) -> CallRecord {
        self.record.clone()
    }
}
