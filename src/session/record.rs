//! The record of a call, as its session writes it: each entry goes to the sink, and what is charged is summed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::limits::Limits;
use super::live::{Glance, State};
use super::settle::{Notices, Pending, Settling};
use crate::assistant::plan::{Plan, RecordPolicy};
use crate::call::{EndReason, Note, Tally};
use crate::link;
use crate::notice;
use crate::provider::prices::Prices;
use crate::record::{
    Answering, Bill, Ended, Entry, Form, Priced, Rang, RecordId, Recorder, Refusal, Sink, What,
};
use crate::tool::Client;
use crate::wire::twilio::webhook::CallRequest;

/// Standstills of the process that one call remembers.
const MAX_STANDSTILLS: usize = 256;

/// Where records go, and what things cost.
#[derive(Clone)]
pub(super) struct Records {
    /// `None`: nowhere.
    pub sink: Option<Sink>,
    pub prices: Arc<Prices>,
    /// What is kept of rings that no assistant answers.
    pub policy: RecordPolicy,
    /// A simulated model answers.
    pub simulated: bool,
    /// Tells owners.
    pub notices: Notices,
    /// Learn what calls cost.
    pub limits: Arc<Limits>,
}

impl Records {
    /// A ring that becomes no call has a short record, and the owner may want to know.
    pub fn refused(&self, request: &CallRequest, by: Answering<'_>, why: Refusal) {
        let at = Timestamp::now();
        let id = RecordId::new(at, rand::random());
        let rang = Rang::new(request.call.as_str(), &request.from, &request.to, by, at);
        let ended = Ended { reason: why.code().to_owned(), seconds: 0.0, longest_silence_ms: 0 };
        let mut recorder = Recorder::new(id.clone());
        for what in [What::Rang(rang), What::Ended(ended)] {
            let entry = Entry { at_ms: 0, what };
            recorder.add(entry.clone());
            if let Some(sink) = &self.sink {
                sink(&id, entry);
            }
        }
        if let (Some(assistant), Some((notify, reader))) = (by.assistant, by.tells) {
            let client = Client {
                call: request.call.clone(),
                assistant: assistant.to_owned(),
                caller: request.from.clone(),
                called: request.to.clone(),
                keep: by.policy.keep,
                reader: reader.clone(),
            };
            self.notices.refused(recorder.record(), notify, client);
        }
    }
}

/// The record of one call.
pub(super) struct Filing {
    pub id: RecordId,
    records: Records,
    plan: Arc<Plan>,
    /// Not sent yet: it comes first.
    ring: Option<Rang>,
    rang: Instant,
    /// When the stream began.
    began: Option<Instant>,
    /// When the process stood still, in the call's time, and for how long.
    standstills: Vec<(Instant, Duration)>,
    bill: Bill,
    /// How long the call lasted, in seconds, if it is over.
    lasted: Option<f64>,
    longest_silence: Duration,
    /// Shows the call to whoever watches.
    live: Option<watch::Sender<Glance>>,
    /// For what follows the call, if anything may.
    whole: Option<Box<Whole>>,
}

/// A call as its owner is told of it.
struct Whole {
    recorder: Recorder,
    client: Client,
    form: Option<Form>,
}

impl Filing {
    /// A call that rings now.
    pub fn new(records: Records, plan: Arc<Plan>, client: &Client) -> Self {
        let at = Timestamp::now();
        let answering = Answering::from(&*plan);
        let mut ring = Rang::new(client.call.as_str(), &client.caller, &client.called, answering, at);
        ring.simulated = records.simulated;
        let id = RecordId::new(at, rand::random());
        let whole = (plan.notify.is_some() || plan.after_call.is_some()).then(|| {
            let recorder = Recorder::new(id.clone()).priced(records.prices.clone());
            Box::new(Whole { recorder, client: client.clone(), form: None })
        });
        Self {
            id,
            records,
            plan,
            ring: Some(ring),
            rang: link::now(),
            began: None,
            standstills: Vec::new(),
            bill: Bill::default(),
            lasted: None,
            longest_silence: Duration::ZERO,
            live: None,
            whole,
        }
    }

    /// The phone rings. From now on there is a record, whatever happens to this process.
    pub fn rings(&mut self) {
        if let Some(ring) = self.ring.take() {
            self.send(0, What::Rang(ring));
        }
    }

    /// The same under this id, before anything is filed.
    pub fn named(mut self, id: RecordId) -> Self {
        if let Some(whole) = &mut self.whole {
            whole.recorder = Recorder::new(id.clone()).priced(self.records.prices.clone());
        }
        Self { id, ..self }
    }

    /// Shows the call here from now on.
    pub fn watched(&mut self, live: watch::Sender<Glance>) {
        self.live = Some(live);
    }

    /// What the call is doing now.
    pub fn is_now(&self, state: State) {
        if let Some(live) = &self.live {
            live.send_if_modified(|live| {
                let before = live.state;
                live.state = state;
                before != state
            });
        }
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

    /// The longest silence so far. Only a longer one than before is an entry.
    pub fn silence(&mut self, longest: Duration) {
        if longest > self.longest_silence {
            self.longest_silence = longest;
            self.file(What::Silence { ms: millis(longest) });
        }
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
        self.rings();
        self.send(self.now_ms(), what);
    }

    fn now_ms(&self) -> u64 {
        self.began.map_or(0, |began| millis(link::now().saturating_duration_since(began)))
    }

    /// The call is over. Returns what it cost, and whether its record is complete: otherwise [`Self::settle`] follows.
    pub fn ended(
        &mut self,
        reason: EndReason,
        lasted: Duration,
        tally: &Tally,
        left_message: bool,
    ) -> (Option<f64>, bool) {
        let seconds = millis(lasted) as f64 / 1_000.0;
        let (reason, longest_silence_ms) = (reason.code().to_owned(), millis(tally.silence));
        let ended = What::Ended(Ended { reason, seconds, longest_silence_ms });
        let more_follows = self.plan.after_call.is_some() || self.is_wanted(&ended, left_message);
        let is_settled = self.whole.is_none() || !more_follows;
        if !is_settled {
            self.file(What::Unsettled);
        }
        self.file(ended);
        self.lasted = Some(seconds);
        self.cost();
        let Priced { cost, .. } = self.bill.priced(&self.records.prices, seconds);
        (cost.map(|cost| cost.total), is_settled)
    }

    /// Whether the owner wants to hear of a call that ends so.
    fn is_wanted(&self, ended: &What, left_message: bool) -> bool {
        let (Some(whole), Some(notify)) = (&self.whole, &self.plan.notify) else { return false };
        let mut recorder = whole.recorder.clone();
        recorder.add(Entry { at_ms: 0, what: ended.clone() });
        notice::is_wanted(&notify.when, &recorder.record(), left_message)
    }

    /// After the end, and the form: tells the owner, and completes the record. `messages` were taken in the call.
    pub fn settle(&mut self, messages: Vec<Pending>) {
        let Some(whole) = self.whole.take() else { return };
        let Whole { recorder, client, form } = *whole;
        let (sink, id, plan) = (self.records.sink.clone(), self.id.clone(), self.plan.clone());
        let at_ms = self.now_ms();
        let settled = move || {
            if let Some(sink) = sink {
                sink(&id, Entry { at_ms, what: What::Settled });
            }
        };
        let settling = Settling { record: recorder.record(), form, plan, client, messages };
        self.records.notices.settle(settling, settled);
    }

    /// The call goes on at another machine, which has its record if the stream did not begin here.
    pub fn given_up(&mut self) {
        // The other machine tells the owner.
        self.whole = None;
        if self.began.is_none() {
            self.file(What::GivenUp);
        } else {
            let lasted = link::now().saturating_duration_since(self.rang);
            self.ended(EndReason::CallerLost, lasted, &Tally::default(), false);
        }
    }

    /// The stream did not start, and may be tried again under another record.
    pub fn withdrawn(&mut self) {
        self.whole = None;
        self.file(What::Withdrawn);
    }

    fn send(&mut self, at_ms: u64, what: What) {
        let is_charged = matches!(what, What::Used { .. } | What::Transcribed { .. });
        let entry = Entry { at_ms, what };
        self.bill.add(&entry);
        if is_charged {
            self.cost();
        }
        if let Some(whole) = &mut self.whole {
            if let What::Form(form) = &entry.what {
                whole.form = Some(form.clone());
            }
            whole.recorder.add(entry.clone());
        }
        if let Some(live) = &self.live {
            live.send_modify(|live| live.add(entry.clone()));
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
    use crate::session::tests::switchboard;

    /// A call's record, and the entries that it sent.
    fn filing() -> (Filing, Arc<Mutex<Vec<Entry>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let to = sent.clone();
        let sink: Sink = Arc::new(move |_: &RecordId, entry| to.lock().unwrap().push(entry));
        let call = CallSid::parse("CA00000000000000000000000000000001").unwrap();
        let (assistant, caller, called) = ("clinic".to_owned(), Party::Withheld, Party::Withheld);
        let client =
            Client { call, assistant, caller, called, keep: Duration::ZERO, reader: Default::default() };
        let records = Records { sink: Some(sink), ..switchboard().records.clone() };
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

    #[tokio::test]
    async fn a_call_that_another_machine_takes_while_it_rings_does_not_end_here() {
        let (mut filing, sent) = filing();
        filing.rings();
        assert!(matches!(sent.lock().unwrap()[0].what, What::Rang(_)), "it is known while it rings");
        filing.given_up();
        let entries = sent.lock().unwrap();
        assert_eq!((entries.len(), &entries[1].what), (2, &What::GivenUp));
    }

    #[tokio::test]
    async fn a_longer_silence_is_filed_before_the_call_ends() {
        let (mut filing, sent) = filing();
        for ms in [0, 700, 300, 700, 900] {
            filing.silence(Duration::from_millis(ms));
        }
        let silences: Vec<What> = sent.lock().unwrap()[1..].iter().map(|entry| entry.what.clone()).collect();
        assert_eq!(silences, [What::Silence { ms: 700 }, What::Silence { ms: 900 }]);
    }

    #[tokio::test]
    async fn the_ring_comes_first() {
        let (mut filing, sent) = filing();
        filing.note(Note::Anomaly(Anomaly::CallerBadFrame));
        filing.ended(EndReason::CallerLost, Duration::from_millis(1_500), &Tally::default(), false);
        let entries = sent.lock().unwrap();
        assert!(matches!(entries[0].what, What::Rang(_)));
        assert!(matches!(entries[1].what, What::Anomaly { .. }));
        let What::Ended(ended) = &entries[2].what else { panic!("{entries:?}") };
        assert_eq!((ended.reason.as_str(), ended.seconds), ("caller.lost", 1.5));
    }
}
