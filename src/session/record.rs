//! The record of a call, as its session writes it: each entry goes to the sink, and what is charged is summed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::limits::Limits;
use crate::assistant::plan::{Plan, RecordPolicy};
use crate::call::{EndReason, Note, Tally};
use crate::link;
use crate::provider::prices::Prices;
use crate::record::{Answering, Bill, Ended, Entry, Priced, Rang, RecordId, Refusal, Sink, What};
use crate::tool::Client;
use crate::wire::twilio::webhook::CallRequest;

/// Standstills of the process that one call remembers.
const MAX_STANDSTILLS: usize = 256;
/// Entries that wait for the stream.
const MAX_WAITING: usize = 64;

/// Where records go, and what things cost.
#[derive(Clone)]
pub(super) struct Records {
    /// `None`: nowhere.
    pub sink: Option<Sink>,
    pub prices: Arc<Prices>,
    /// What is kept of rings that no assistant answers.
    pub policy: RecordPolicy,
    /// Learn what calls cost.
    pub limits: Arc<Limits>,
}

impl Records {
    /// A ring that becomes no call has a short record.
    pub fn refused(&self, request: &CallRequest, by: Answering<'_>, why: Refusal) {
        let Some(sink) = &self.sink else { return };
        let at = Timestamp::now();
        let id = RecordId::new(at, rand::random());
        let rang = Rang::new(request.call.as_str(), &request.from, &request.to, by, at);
        let ended = Ended { reason: why.code().to_owned(), seconds: 0.0, longest_silence_ms: 0 };
        for what in [What::Rang(rang), What::Ended(ended)] {
            sink(&id, Entry { at_ms: 0, what });
        }
    }
}

/// The record of one call.
pub(super) struct Filing {
    pub id: RecordId,
    records: Records,
    plan: Arc<Plan>,
    /// Sent when the stream begins, or the call ends without one: a call that another machine takes over while it rings
    /// has its record there.
    ring: Option<Rang>,
    /// What waits for that.
    waiting: Vec<What>,
    rang: Instant,
    /// When the stream began.
    began: Option<Instant>,
    /// When the process stood still, in the call's time, and for how long.
    standstills: Vec<(Instant, Duration)>,
    bill: Bill,
    /// How long the call lasted, in seconds, if it is over.
    lasted: Option<f64>,
}

impl Filing {
    /// A call that rings now.
    pub fn new(records: Records, plan: Arc<Plan>, client: &Client) -> Self {
        let at = Timestamp::now();
        let answering = Answering::from(&*plan);
        let ring = Rang::new(client.call.as_str(), &client.caller, &client.called, answering, at);
        Self {
            id: RecordId::new(at, rand::random()),
            records,
            plan,
            ring: Some(ring),
            waiting: Vec::new(),
            rang: link::now(),
            began: None,
            standstills: Vec::new(),
            bill: Bill::default(),
            lasted: None,
        }
    }

    /// The same under this id.
    pub fn named(self, id: RecordId) -> Self {
        Self { id, ..self }
    }

    /// What the call has cost so far as far as it is known, in dollars. The limits learn it, too.
    pub fn cost(&self) -> f64 {
        let so_far = || millis(link::now().saturating_duration_since(self.rang)) as f64 / 1_000.0;
        let seconds = self.lasted.unwrap_or_else(so_far);
        let Priced { at_least, .. } = self.bill.priced(&self.records.prices, seconds);
        self.records.limits.spent(&self.id, at_least);
        at_least
    }

    /// The stream began.
    pub fn started(&mut self, now: Instant) {
        self.began = Some(now);
        self.file(What::Started { ring_ms: millis(now.saturating_duration_since(self.rang)) });
    }

    /// The process stood still until now, which is this time of the call.
    pub fn stood_still(&mut self, now: Instant, time: Duration) {
        if self.standstills.len() < MAX_STANDSTILLS {
            self.standstills.push((now, time));
        }
    }

    pub fn note(&mut self, note: Note) {
        if let Some(what) = What::of_note(note, &self.plan, |at| self.ms(at)) {
            self.file(what);
        }
    }

    /// Takes an entry about something that happens now.
    pub fn file(&mut self, what: What) {
        if let Some(ring) = self.ring.take() {
            if !matches!(what, What::Started { .. } | What::Ended(_)) {
                self.ring = Some(ring);
                return self.waiting.extend((self.waiting.len() < MAX_WAITING).then_some(what));
            }
            self.send(0, What::Rang(ring));
            std::mem::take(&mut self.waiting).into_iter().for_each(|what| self.send(0, what));
        }
        let at_ms = self.began.map_or(0, |began| millis(link::now().saturating_duration_since(began)));
        self.send(at_ms, what);
    }

    /// The call is over. Returns what it cost.
    pub fn ended(&mut self, reason: EndReason, lasted: Duration, tally: &Tally) -> Option<f64> {
        let seconds = millis(lasted) as f64 / 1_000.0;
        let (reason, longest_silence_ms) = (reason.code().to_owned(), millis(tally.silence));
        self.file(What::Ended(Ended { reason, seconds, longest_silence_ms }));
        self.lasted = Some(seconds);
        self.cost();
        let Priced { cost, .. } = self.bill.priced(&self.records.prices, seconds);
        cost.map(|cost| cost.total)
    }

    /// The call goes on at another machine, where it has another record.
    pub fn given_up(&mut self) {
        if self.began.is_some() {
            let lasted = link::now().saturating_duration_since(self.rang);
            self.ended(EndReason::CallerLost, lasted, &Tally::default());
        }
    }

    fn send(&mut self, at_ms: u64, what: What) {
        let is_charged = matches!(what, What::Used { .. } | What::Transcribed { .. });
        let entry = Entry { at_ms, what };
        self.bill.add(&entry);
        if is_charged {
            self.cost();
        }
        if let Some(sink) = &self.records.sink {
            sink(&self.id, entry);
        }
    }

    /// Milliseconds from the stream's start to a time of the call, whose clock stands still while the process does.
    fn ms(&self, at: Instant) -> u64 {
        let lost: Duration =
            self.standstills.iter().filter(|(then, _)| *then <= at).map(|(_, time)| *time).sum();
        self.began.map_or(0, |began| millis((at + lost).saturating_duration_since(began)))
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::call::Anomaly;
    use crate::call::tests::plan;
    use crate::id::CallSid;
    use crate::phone::Party;

    /// A call's record, and the entries that it sent.
    fn filing() -> (Filing, Arc<Mutex<Vec<Entry>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let to = sent.clone();
        let sink: Sink = Arc::new(move |_: &RecordId, entry| to.lock().unwrap().push(entry));
        let call = CallSid::parse("CA00000000000000000000000000000001").unwrap();
        let (assistant, caller, called) = ("clinic".to_owned(), Party::Withheld, Party::Withheld);
        let client = Client { call, assistant, caller, called, keep: Duration::ZERO };
        let records = Records {
            sink: Some(sink),
            prices: Arc::default(),
            policy: RecordPolicy::default(),
            limits: Arc::default(),
        };
        (Filing::new(records, Arc::new(plan()), &client), sent)
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_of_the_call_becomes_one_of_the_phones_across_a_standstill() {
        let (mut filing, sent) = filing();
        tokio::time::advance(Duration::from_millis(250)).await;
        let began = link::now();
        filing.started(began);
        tokio::time::advance(Duration::from_millis(5_000)).await;
        // The process stood still for 3 s of these 5.
        let (call, ms) = (began + Duration::from_millis(2_000), Duration::from_millis);
        filing.stood_still(call, ms(3_000));
        let (item, ended) = ("u".into(), call + ms(100));
        filing.note(Note::CallerSpoke { item, began: call - ms(500), ended });
        let entries = sent.lock().unwrap();
        assert_eq!(entries[1], Entry { at_ms: 0, what: What::Started { ring_ms: 250 } });
        let spoke = What::CallerSpoke { item: "u".to_owned(), start_ms: 1_500, end_ms: 5_100 };
        assert_eq!(entries[2], Entry { at_ms: 5_000, what: spoke });
    }

    #[test]
    fn a_call_that_another_machine_takes_while_it_rings_leaves_nothing() {
        let (mut filing, sent) = filing();
        filing.note(Note::Anomaly(Anomaly::CallerBadFrame));
        filing.given_up();
        assert!(sent.lock().unwrap().is_empty());
    }

    #[test]
    fn what_happens_before_the_stream_is_sent_once_the_call_is_ours() {
        let (mut filing, sent) = filing();
        filing.note(Note::Anomaly(Anomaly::CallerBadFrame));
        filing.ended(EndReason::CallerLost, Duration::from_millis(1_500), &Tally::default());
        let entries = sent.lock().unwrap();
        assert!(matches!(entries[0].what, What::Rang(_)));
        assert!(matches!(entries[1].what, What::Anomaly { .. }));
        let What::Ended(ended) = &entries[2].what else { panic!("{entries:?}") };
        assert_eq!((ended.reason.as_str(), ended.seconds), ("caller.lost", 1.5));
    }
}
