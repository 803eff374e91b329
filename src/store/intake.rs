//! The calls that run, and the changes that wait for the database. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::call::{Call, Owner, nano};
use super::op::Op;
use crate::provider::prices::Prices;
use crate::record::{Entry, RecordId, Recorder, What};

/// What may wait in memory.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// See the module.
pub struct Intake {
    process: String,
    prices: Arc<Prices>,
    live: HashMap<RecordId, Live>,
    queue: VecDeque<Arc<Op>>,
    bytes: usize,
    /// The secret of the numbers' hashes, once it is known.
    pub secret: Option<String>,
}

/// A call that runs.
struct Live {
    recorder: Recorder,
    owner: Owner,
    keep_until_ms: Option<i64>,
    seq: i64,
    is_adopted: bool,
}

impl Intake {
    pub fn new(process: String, prices: Arc<Prices>) -> Self {
        Self { process, prices, live: HashMap::new(), queue: VecDeque::new(), bytes: 0, secret: None }
    }

    /// Takes an entry. One of a call that is over, or never rang, is dropped, but for the place of a recording. Returns
    /// false if the record of a call is lost: it ends, and its ring was dropped.
    pub fn take_in(&mut self, id: &RecordId, entry: Entry) -> bool {
        let Ok(body) = serde_json::to_string(&entry) else { return true };
        if let What::Rang(rang) = &entry.what
            && !self.live.contains_key(id)
        {
            let live = Live {
                recorder: Recorder::new(id.clone()).priced(self.prices.clone()),
                owner: Owner::of(rang),
                keep_until_ms: rang.keep_until.map(|until| until.as_millisecond()),
                seq: 0,
                is_adopted: false,
            };
            self.live.insert(id.clone(), live);
        }
        let is_end = matches!(entry.what, What::Ended(_));
        let is_charged = matches!(entry.what, What::Used { .. } | What::Transcribed { .. });
        let Some(live) = self.live.get_mut(id) else {
            if let What::Recording { path } = entry.what {
                self.push(Op::Recording { id: id.to_string(), path });
            }
            return !is_end;
        };
        match entry.what {
            What::GivenUp => {
                self.live.remove(id);
                let process = self.process.clone();
                self.push(Op::GivenUp { id: id.to_string(), process });
                return true;
            }
            What::Withdrawn => {
                self.live.remove(id);
                self.forget(id);
                self.push(Op::Withdrawn { id: id.to_string() });
                return true;
            }
            What::Adopted => {
                live.is_adopted = true;
                self.push(Op::Adopted { id: id.to_string() });
                return true;
            }
            _ => live.recorder.add(entry),
        }
        if live.recorder.is_over() {
            self.end(id);
            return true;
        }
        let seq = live.seq;
        let cost_nano = is_charged.then(|| live.recorder.cost()).flatten().map(nano);
        live.seq += 1;
        if seq == 0 {
            let call = Call::of(&live.recorder.record(), live.owner.clone(), live.keep_until_ms);
            let process = self.process.clone();
            self.push(Op::Began { call: Box::new(call), process });
        }
        self.push(Op::Noted { id: id.to_string(), seq, body, cost_nano });
        true
    }

    /// The record has everything, so what waits of the call goes.
    fn end(&mut self, id: &RecordId) {
        let Some(live) = self.live.remove(id) else { return };
        let record = live.recorder.record();
        let call = Box::new(Call::of(&record, live.owner, live.keep_until_ms));
        let Ok(record) = serde_json::to_string(&record) else { return };
        self.forget(id);
        self.push(Op::Ended { call, record });
        if live.is_adopted {
            self.push(Op::Adopted { id: id.to_string() });
        }
    }

    /// Removes what waits of a call.
    fn forget(&mut self, id: &RecordId) {
        let bytes = &mut self.bytes;
        self.queue.retain(|op| {
            let stays = op.id() != id.as_str();
            if !stays {
                *bytes -= op.bytes();
            }
            stays
        });
    }

    fn push(&mut self, op: Op) {
        let op = match &self.secret {
            Some(secret) => op.keyed(secret),
            None => op,
        };
        self.bytes += op.bytes();
        self.queue.push_back(Arc::new(op));
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether more waits than may.
    pub fn is_full(&self) -> bool {
        self.queue.len() > MOST || self.bytes > MOST_BYTES
    }

    /// Takes the oldest changes out of the queue.
    pub fn take(&mut self, most: usize) -> Vec<Arc<Op>> {
        let taken: Vec<Arc<Op>> = self.queue.drain(..most.min(self.queue.len())).collect();
        self.bytes -= taken.iter().map(|op| op.bytes()).sum::<usize>();
        taken
    }

    /// Puts back what could not be written.
    pub fn give_back(&mut self, ops: Vec<Arc<Op>>) {
        self.bytes += ops.iter().map(|op| op.bytes()).sum::<usize>();
        for op in ops.into_iter().rev() {
            self.queue.push_front(op);
        }
    }

    /// Makes room. First go the notes of running calls, which are needed only if this process is killed; then the oldest.
    /// Returns what went.
    pub fn shed(&mut self) -> Vec<Arc<Op>> {
        if !self.is_full() {
            return Vec::new();
        }
        let all = self.queue.drain(..);
        let (gone, stays): (VecDeque<_>, _) = all.partition(|op| matches!(**op, Op::Noted { .. }));
        self.queue = stays;
        let mut gone = Vec::from(gone);
        self.bytes = self.queue.iter().map(|op| op.bytes()).sum();
        while self.is_full() {
            let Some(op) = self.queue.pop_front() else { break };
            self.bytes -= op.bytes();
            gone.push(op);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ended, Form, Rang, Said};

    fn rang() -> What {
        What::Rang(Rang {
            call: "CA1".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
            assistant: None,
            assistant_version: None,
            from: None,
            to: None,
            caller: None,
            numberless: false,
            test: false,
            simulated: false,
            keep_until: None,
        })
    }

    fn said(text: &str) -> What {
        What::Said(Said { item: "item".to_owned(), text: text.to_owned() })
    }

    fn ended() -> What {
        What::Ended(Ended { reason: "caller.hung_up".to_owned(), seconds: 1.0, longest_silence_ms: 0 })
    }

    fn note(intake: &mut Intake, id: &str, what: What) {
        intake.take_in(&id.into(), Entry { at_ms: 0, what });
    }

    #[test]
    fn a_call_that_ends_leaves_one_change() {
        let mut intake = Intake::new("P".to_owned(), Arc::default());
        for id in ["A", "B"] {
            note(&mut intake, id, rang());
            note(&mut intake, id, said("hello"));
        }
        assert_eq!(intake.len(), 6);
        note(&mut intake, "A", ended());
        note(&mut intake, "A", said("late"));
        note(&mut intake, "never rang", said("late"));
        let ids: Vec<String> = intake.take(10).iter().map(|op| op.id().to_owned()).collect();
        assert_eq!(ids, ["B", "B", "B", "A"]);
        assert_eq!((intake.bytes, intake.live.len()), (0, 1));
    }

    #[test]
    fn what_follows_the_end_of_a_call_belongs_to_it() {
        let mut intake = Intake::new("P".to_owned(), Arc::default());
        let form = Form { outcome: "ok".to_owned(), summary: Some("A wish.".to_owned()), fields: None };
        let path = "s3://bucket/A.wav".to_owned();
        let recording = What::Recording { path: path.clone() };
        for what in [rang(), What::Unsettled, ended(), What::Form(form), recording] {
            note(&mut intake, "A", what);
        }
        // Each of them is in the database if this process is killed now.
        let ops = intake.take(10);
        assert!(matches!(*ops[0], Op::Began { .. }));
        assert!(ops[1..].iter().all(|op| matches!(**op, Op::Noted { .. })), "{ops:?}");
        note(&mut intake, "A", What::Settled);
        let ops = intake.take(10);
        let [Op::Ended { call, record }] = &ops.iter().map(|op| &**op).collect::<Vec<_>>()[..] else {
            panic!("{ops:?}");
        };
        assert_eq!(call.recording, Some(path));
        assert!(record.contains("A wish."));
        assert_eq!(intake.live.len(), 0);
    }

    #[test]
    fn a_call_that_rings_again_leaves_nothing() {
        let mut intake = Intake::new("P".to_owned(), Arc::default());
        for what in [rang(), said("hello"), What::Withdrawn, said("late")] {
            note(&mut intake, "A", what);
        }
        let ops = intake.take(10);
        assert!(matches!(&ops[..], [op] if matches!(**op, Op::Withdrawn { .. })), "{ops:?}");
        assert_eq!((intake.bytes, intake.live.len()), (0, 0));
    }

    #[test]
    fn a_record_whose_ring_was_dropped_is_lost_once() {
        let mut intake = Intake::new("P".to_owned(), Arc::default());
        let mut is_kept = |what| intake.take_in(&"A".into(), Entry { at_ms: 0, what });
        assert!(is_kept(said("hello")));
        assert!(!is_kept(ended()));
        assert!(is_kept(rang()) && is_kept(ended()), "it rang");
    }

    #[test]
    fn what_waits_is_bounded_and_records_go_last() {
        let mut intake = Intake::new("P".to_owned(), Arc::default());
        for call in 0..100 {
            note(&mut intake, &call.to_string(), rang());
            note(&mut intake, &call.to_string(), ended());
        }
        note(&mut intake, "long", rang());
        let text = "x".repeat(100_000);
        for _ in 0..100 {
            note(&mut intake, "long", said(&text));
        }
        assert!(intake.is_full());
        assert_eq!(intake.shed().len(), 101, "the notes of the running call");
        assert_eq!(intake.len(), 101);
        for call in 0..MOST {
            note(&mut intake, &call.to_string(), rang());
            note(&mut intake, &call.to_string(), ended());
            intake.shed();
        }
        assert!(!intake.is_full() && intake.len() > 5_000, "{}", intake.len());
        let all = intake.len();
        let taken = intake.take(10);
        intake.give_back(taken);
        assert_eq!(intake.len(), all);
        intake.take(all);
        assert_eq!(intake.bytes, 0);
    }
}
