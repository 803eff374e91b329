//! What follows the end of a call: the owner is told once.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::assistant::arguments::Arguments;
use crate::assistant::plan::{AfterCall, Job, Mailbox, Notify, Occasion, Reader, Webhook};
use crate::notice::{Purpose, form_id, notification_id};
use crate::post::Letter;
use crate::record::{Entry, Form, RecordId, Recorder, What};
use crate::session::settle::{remembered, remembered_form};

/// A server, what it tells owners, and what it records.
struct Watched {
    switchboard: Arc<Switchboard>,
    letters: Arc<Mutex<Vec<Letter>>>,
    entries: Arc<Mutex<Vec<(RecordId, Entry)>>>,
}

/// Nobody listens there.
fn mailbox() -> Mailbox {
    let webhook = Webhook { url: "http://127.0.0.1:9/".to_owned(), secret: Secret::new("12345") };
    Mailbox { webhook: Some(webhook), ..Mailbox::default() }
}

impl Watched {
    fn new() -> Self {
        let (letters, entries) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (letters_to, entries_to) = (letters.clone(), entries.clone());
        let mut switchboard = Arc::into_inner(switchboard()).unwrap();
        let letter = move |letter: &Letter, _| letters_to.lock().unwrap().push(letter.clone());
        switchboard.tools.show_letters(Arc::new(letter));
        let entry = move |id: &RecordId, entry| entries_to.lock().unwrap().push((id.clone(), entry));
        switchboard.records.sink = Some(Arc::new(entry));
        Self { switchboard: Arc::new(switchboard), letters, entries }
    }

    /// The session of a call whose owner wants to hear of these.
    fn session(&self, when: &[Occasion]) -> Session {
        let mut session = session(Parked::new(None));
        let mut plan = Plan::clone(&session.plan);
        plan.notify = Some(Notify { to: mailbox(), when: when.to_vec() });
        session.plan = Arc::new(plan);
        session.switchboard = self.switchboard.clone();
        session.filing = Filing::new(self.switchboard.records.clone(), session.plan.clone(), &client());
        session.jobs = Jobs::new(self.switchboard.clone(), client(), session.filing.id.clone());
        session.retried = true;
        session
    }

    /// What was recorded about the end, and after it.
    fn last_entries(&self) -> Vec<What> {
        let entries = self.entries.lock().unwrap();
        let entries = entries.iter().map(|(_, entry)| entry.what.clone());
        entries.skip_while(|what| !matches!(what, What::Unsettled | What::Ended(_))).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_is_told_once_between_the_end_and_the_last_entry() {
    let watched = Watched::new();
    let session = watched.session(&[Occasion::Always]);
    let id = session.filing.id.clone();
    let (stream_tx, stream) = oneshot::channel();
    drop(stream_tx);
    session.run(stream).await;
    let [What::Unsettled, What::Ended(_)] = watched.last_entries()[..] else {
        panic!("{:?}", watched.last_entries())
    };
    watched.switchboard.jobs_done().await;
    let letters = watched.letters.lock().unwrap();
    let [letter] = letters.as_slice() else { panic!("{} letters", letters.len()) };
    assert_eq!((letter.id.as_str(), letter.purpose), (&*notification_id(&id), Purpose::Notification));
    assert_eq!(letter.content.event["data"]["failures"], json!(["caller.lost"]));
    assert!(letter.to.webhook.is_some() && letter.call == Some(call()));
    assert!(matches!(watched.last_entries()[..], [What::Unsettled, What::Ended(_), What::Settled]));
    drop(letters);
    assert_told_from_the_record(&watched);
}

/// A process that was killed at any time before the last entry leaves a record from which the owner is told the same.
fn assert_told_from_the_record(watched: &Watched) {
    let letters = watched.letters.lock().unwrap();
    let told: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
    let entries = watched.entries.lock().unwrap();
    let notify = Notify { to: mailbox(), when: vec![Occasion::Always] };
    let mut recorder = Recorder::new(entries[0].0.clone());
    for (_, entry) in entries.iter() {
        assert!(!recorder.is_over(), "more follows");
        recorder.add(entry.clone());
        let mut left = recorder.clone();
        left.break_off(1.0);
        let letter = remembered(&left.record(), &notify, &Reader::default(), Duration::ZERO).unwrap();
        assert!(told.contains(&letter.id.as_str()), "{}", letter.id);
    }
    assert!(recorder.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_wants_to_hear_of_is_over_at_its_end() {
    let watched = Watched::new();
    let session = watched.session(&[Occasion::Message, Occasion::TransferFailed, Occasion::Refused]);
    let (_, stream) = oneshot::channel();
    session.run(stream).await;
    watched.switchboard.jobs_done().await;
    assert!(watched.letters.lock().unwrap().is_empty());
    assert!(matches!(watched.last_entries()[..], [What::Ended(_)]), "{:?}", watched.last_entries());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_still_being_taken_is_in_the_notification() {
    let watched = Watched::new();
    let mut session = watched.session(&[Occasion::Message]);
    let serde_json::Value::Object(fields) = json!({ "name": "Ann" }) else { unreachable!() };
    let tool = tool(Job::TakeMessage(mailbox()));
    session.jobs.run("t".into(), Some(&tool), fields.clone()).unwrap();
    // A session that ends undecided tells the owner, too.
    drop(session);
    watched.switchboard.jobs_done().await;
    let letters = watched.letters.lock().unwrap();
    let [message, notification] = letters.as_slice() else { panic!("{} letters", letters.len()) };
    assert_eq!((message.purpose, notification.purpose), (Purpose::Message, Purpose::Notification));
    let data = &notification.content.event["data"];
    assert_eq!(data["messages"], json!([{ "id": message.id, "fields": fields }]));
    assert_eq!(data["failures"], json!(["server.fault", "message.undelivered"]));
    let record = watched.last_entries();
    assert!(record.iter().any(|what| matches!(what, What::Message { id } if *id == message.id)));
    assert_eq!(record.last(), Some(&What::Settled));
    drop(letters);
    assert_told_from_the_record(&watched);
}

#[tokio::test(start_paused = true)]
async fn refused_rings_are_told_once_in_a_while() {
    let watched = Watched::new();
    let session = watched.session(&[Occasion::Refused]);
    let request = request("CallStatus=ringing");
    let refuse = |why| watched.switchboard.records.refused(&request, Answering::from(&*session.plan), why);
    let told = || -> Vec<(String, u64)> {
        let letters = watched.letters.lock().unwrap();
        let data = letters.iter().map(|letter| &letter.content.event["data"]);
        data.map(|data| (data["reason"].as_str().unwrap().to_owned(), data["also_refused"].as_u64().unwrap()))
            .collect()
    };
    for why in [Refusal::Busy, Refusal::Busy, Refusal::Failed, Refusal::Busy] {
        refuse(why);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let busy = |others| ("refused.busy".to_owned(), others);
    let failed = ("refused.failed".to_owned(), 0);
    assert_eq!(told(), [busy(0), failed.clone()]);
    tokio::time::sleep(Duration::from_secs(6 * 60)).await;
    refuse(Refusal::Busy);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told(), [busy(0), failed, busy(2)]);
    assert_eq!(watched.entries.lock().unwrap().len(), 10, "each ring has its record");
    let caller = &watched.letters.lock().unwrap()[0].content.event["data"]["caller"];
    assert_eq!(caller, "+15550100007");
}

#[tokio::test(start_paused = true)]
async fn a_form_that_was_filled_is_sent_from_the_record_and_no_other_is() {
    let watched = Watched::new();
    let session = watched.session(&[Occasion::Always]);
    let (_, stream) = oneshot::channel();
    session.run(stream).await;
    let entries = watched.entries.lock().unwrap();
    let letter = |outcome: &str, summary: Option<&str>, webhook: bool| {
        let mut recorder = Recorder::new(entries[0].0.clone());
        entries.iter().for_each(|(_, entry)| recorder.add(entry.clone()));
        let (outcome, summary) = (outcome.to_owned(), summary.map(str::to_owned));
        recorder.add(Entry {
            at_ms: 0,
            what: What::Form(Form { outcome, summary: summary.clone(), fields: None }),
        });
        let webhook = mailbox().webhook.filter(|_| webhook);
        let form = Arguments::new(serde_json::Map::new()).unwrap();
        let after = AfterCall { form, summary: true, webhook };
        remembered_form(&recorder.record(), &after, &Reader::default(), Duration::ZERO)
    };
    let sent = letter("ok", Some("Ann has pain."), true).unwrap();
    assert_eq!((sent.id, sent.purpose), (form_id(&entries[0].0), Purpose::Form));
    assert_eq!(sent.content.event["data"]["summary"], "Ann has pain.");
    assert!(letter("late", None, true).is_none(), "there is no form");
    assert!(letter("ok", Some("Ann has pain."), false).is_none(), "there is no webhook");
}
