//! A parked phone as the registry knows it: the answers to Twilio's questions, and the commands to its session. And the
//! jobs of a call.

use std::collections::BTreeMap;

use rustls::RootCertStore;
use tokio::time::timeout;

use super::*;
use crate::assistant::Folder;
use crate::assistant::plan::Nothing;
use crate::call::Stop;
use crate::call::{Return, TransferFailure};
use crate::phone::Party;
use crate::phone::PhoneNumber;
use crate::provider::Provider;
use crate::record::RecordId;
use crate::wire::twilio::webhook::Form;
use crate::yaml::SourceFile;

mod form;
mod machines;
mod model;
mod replays;
mod settle;
mod standby;

const CALL: &str = "CA00000000000000000000000000000001";
const OTHER: &str = "CA00000000000000000000000000000002";

fn call() -> CallSid {
    CallSid::parse(CALL).unwrap()
}

/// The plan of an assistant with these further keys, at a folder whose providers are `openai` and `house`.
pub(super) fn plan(more: &str) -> Arc<Plan> {
    let text = format!("instructions: Hi.\n{more}");
    let assistants = vec![SourceFile::new("assistants/clinic.yaml", text.into_bytes())];
    let openai = Provider::openai("ws://127.0.0.1:9", None);
    let house = Provider { name: "house".to_owned(), ..openai.clone() };
    let folder = Folder { assistants, ..Folder::default() };
    let checked = Roster::check(&folder, &BTreeMap::new(), &[Arc::new(openai), Arc::new(house)]);
    let roster = checked.roster.unwrap();
    let facts = Facts::nobody(Timestamp::UNIX_EPOCH);
    Arc::new(roster.by_name("clinic").unwrap().plan(&facts, &Nothing).unwrap())
}

pub(super) fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

pub(super) fn switchboard() -> Arc<Switchboard> {
    machine("")
}

/// One of several machines if it has a name.
pub(super) fn machine(name: &str) -> Arc<Switchboard> {
    machine_with(name, "")
}

/// The same, with further keys of its assistant.
pub(super) fn machine_with(name: &str, more: &str) -> Arc<Switchboard> {
    let text = "numbers: [\"+15550100001\"]\ninstructions: Hi.\non_failure: { say: Sorry. }\n\
                busy: { say: \"{{ now }}\" }\n";
    let text = format!("{text}{more}").into_bytes();
    let folder =
        Folder { assistants: vec![SourceFile::new("assistants/clinic.yaml", text)], ..Folder::default() };
    let providers = [Arc::new(Provider::openai("ws://127.0.0.1:9", None))];
    let roster = Roster::check(&folder, &BTreeMap::new(), &providers).roster.unwrap();
    let tls = tls();
    let parts = Parts {
        roster: watch::channel(Arc::new(roster)).1,
        tokens: vec![Secret::new("12345")],
        machine: name.to_owned(),
        max_calls: 2,
        cost_per_day: None,
        providers: vec!["openai".to_owned()],
        tools: Arc::new(Tools::new(&tls).unwrap()),
        tls,
        records: None,
        prices: Arc::default(),
        policy: Default::default(),
        recordings: None,
        now: None,
        captures: false,
        simulated: false,
    };
    Arc::new(Switchboard::new(parts).unwrap())
}

/// A server and the task of its only call, which ends when the second value is dropped. If the call is over, the task
/// is only closing its sockets.
pub(crate) fn leaving(is_over: bool) -> (Arc<Switchboard>, oneshot::Sender<()>) {
    let switchboard = switchboard();
    let place = switchboard.admission.place().filter(|_| !is_over);
    let (left, leaves) = oneshot::channel();
    switchboard.sessions.spawn(async move {
        let _: Result<(), _> = leaves.await;
        drop(place);
    });
    (switchboard, left)
}

pub(super) fn request(form: &str) -> CallRequest {
    let form = format!("CallSid={CALL}&From=%2B15550100007&To=%2B15550100001&{form}");
    CallRequest::read(&Form::parse(form.as_bytes())).unwrap()
}

/// A session whose stream has come and gone.
struct Parked {
    switchboard: Arc<Switchboard>,
    nonce: Nonce,
    ticket: String,
    commands: rare::Receiver<Command>,
    decision: watch::Sender<Option<Decision>>,
    plan: Arc<Plan>,
}

impl Parked {
    fn new(decision: Option<Decision>) -> Self {
        let switchboard = switchboard();
        let request = request("CallStatus=ringing");
        let assistant = switchboard.roster.borrow().find_party(&request.to).cloned().unwrap();
        let plan = Arc::new(assistant.plan(&facts(&request, None), &Nothing).unwrap());
        let nonce = [7; 16];
        let ticket = switchboard.seal(request.call.clone(), &plan, nonce).unwrap();
        let (stream_tx, _stream) = oneshot::channel();
        let (commands_tx, commands) = rare::channel(MAX_COMMANDS);
        let (decision_tx, decided) = watch::channel(None);
        let live = watch::channel(Glance::new(RecordId::new(Timestamp::now(), 0), Arc::default())).1;
        let handle = Handle {
            live,
            call: request.call,
            plan: plan.clone(),
            retried: false,
            commands: commands_tx,
            decision: decided,
        };
        switchboard.registry.enter(nonce, ticket.clone(), handle, stream_tx).unwrap();
        switchboard.admit(&ticket).unwrap();
        decision_tx.send_replace(decision);
        Self { switchboard, nonce, ticket, commands, decision: decision_tx, plan }
    }

    fn dialling() -> Self {
        let number = PhoneNumber::parse("+15550100009").unwrap();
        Self::new(Some(Decision::Dial { number, ring: Duration::from_secs(20) }))
    }

    /// Asks as Twilio does, and answers with this document.
    async fn ask(&self, form: &str, document: &str) -> (Next, Option<String>) {
        let after = self.switchboard.after_stream(&self.ticket, &request(form)).await;
        if after.known.is_none() {
            self.switchboard.answered(&after, document);
        }
        (after.next, after.known)
    }
}

const UP: &str = "CallStatus=in-progress";

#[tokio::test]
async fn a_rehearsal_chooses_the_time_of_its_call() {
    let mut switchboard = Arc::into_inner(switchboard()).unwrap();
    switchboard.now = Some("2026-12-24T18:30:00Z".parse().unwrap());
    switchboard.admission = Admission::new(0, Arc::default());
    let Ring::Busy(busy) = Arc::new(switchboard).ring(&request("CallStatus=ringing")) else {
        panic!("there is no place")
    };
    assert_eq!(busy.line.say, "Thursday, 24 December 2026, 18:30");
}

#[tokio::test]
async fn an_unanswered_dial_returns_to_the_session() {
    let mut parked = Parked::dialling();
    let (next, _) = parked.ask(UP, "dial").await;
    assert!(matches!(next, Next::Dial { ring, .. } if ring == Duration::from_secs(20)));
    let busy = format!("{UP}&DialCallStatus=busy");
    let (next, known) = parked.ask(&busy, "stream").await;
    let Next::Stream { ticket } = next else { panic!("the phone returns") };
    assert_eq!(known, None, "the answer after the stream does not count after the dial");
    let Some(Command::Returned(way)) = parked.commands.try_recv() else {
        panic!("the session gets no command")
    };
    assert_eq!((way.how, way.life), (Return::TransferFailed(TransferFailure::Busy), TICKET_LIFE));
    // A repeated question gets the same answer without an effect.
    assert_eq!(parked.ask(UP, "another").await.1.as_deref(), Some("dial"));
    assert_eq!(parked.ask(&busy, "another").await.1.as_deref(), Some("stream"));
    assert_eq!(parked.ask(&format!("{UP}&DialCallStatus=completed"), "x").await.1.as_deref(), Some("stream"));
    assert!(parked.commands.try_recv().is_none());
    // Only the new ticket lets a stream in, once.
    assert_eq!(parked.switchboard.admit(&parked.ticket).err(), Some(Refused::Used));
    assert!(parked.switchboard.admit(&ticket).is_ok());
    assert_eq!(parked.switchboard.admit(&ticket).err(), Some(Refused::Used));
}

#[tokio::test]
async fn a_call_that_ended_holds_its_plan_only_while_a_stream_may_start_with_it() {
    let holds = |parked: &Parked| Arc::strong_count(&parked.plan) > 1;
    for decision in [Decision::HangUp, Decision::Sorry] {
        let over = Parked::new(Some(decision));
        assert!(holds(&over));
        over.switchboard.registry.ended(&over.nonce);
        assert!(!holds(&over));
        assert!(over.decision.is_closed(), "its channels are gone, too");
    }
    // Its stream never started: the next one gets the same plan.
    let again = Parked::new(Some(Decision::Again));
    again.switchboard.registry.ended(&again.nonce);
    assert!(holds(&again));
    let kept = || match again.switchboard.registry.find(&again.nonce) {
        Some((Stage::Over(Some(rest)), _)) => rest.plan.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(kept());
    let (next, _) = again.ask(UP, "stream").await;
    assert!(matches!(next, Next::Stream { .. }));
    assert!(!kept());
}

#[tokio::test]
async fn the_session_learns_why_nobody_took_the_call() {
    for (status, why) in [
        ("no-answer", TransferFailure::NoAnswer),
        ("canceled", TransferFailure::NoAnswer),
        ("busy", TransferFailure::Busy),
        ("failed", TransferFailure::Unreachable),
        ("something-new", TransferFailure::Unreachable),
    ] {
        let mut parked = Parked::dialling();
        parked.ask(UP, "dial").await;
        parked.ask(&format!("{UP}&DialCallStatus={status}"), "stream").await;
        let Some(Command::Returned(way)) = parked.commands.try_recv() else { panic!("{status}") };
        assert_eq!(way.how, Return::TransferFailed(why), "{status}");
    }
}

#[tokio::test]
async fn an_answered_dial_ends_the_session_once() {
    for status in ["completed", "answered"] {
        let mut parked = Parked::dialling();
        parked.ask(UP, "dial").await;
        let form = format!("{UP}&DialCallStatus={status}");
        assert!(matches!(parked.ask(&form, "hang up").await.0, Next::HangUp));
        assert!(matches!(parked.commands.try_recv(), Some(Command::Transferred)), "{status}");
        assert_eq!(parked.ask(&form, "x").await.1.as_deref(), Some("hang up"));
        assert!(parked.commands.try_recv().is_none(), "once");
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_it_rings_was_not_transferred() {
    for (form, transferred) in [
        ("CallStatus=completed", false),
        ("CallStatus=completed&DialCallStatus=no-answer", false),
        ("CallStatus=completed&DialCallStatus=canceled", false),
        ("CallStatus=completed&DialCallStatus=completed", true),
    ] {
        let mut parked = Parked::dialling();
        parked.ask(UP, "dial").await;
        assert!(matches!(parked.ask(form, "").await.0, Next::Nothing), "{form}");
        match parked.commands.try_recv() {
            Some(Command::Transferred) => assert!(transferred, "{form}"),
            Some(Command::CallerHungUp) => assert!(!transferred, "{form}"),
            other => panic!("{form}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn one_document_presses_keys_and_brings_the_phone_back() {
    let mut parked = Parked::new(Some(Decision::Press("1w2#".to_owned().into())));
    let (Next::Press { keys, ticket }, None) = parked.ask(UP, "press").await else { panic!("keys") };
    assert_eq!(keys.expose(), "1w2#");
    let Some(Command::Returned(way)) = parked.commands.try_recv() else {
        panic!("the session gets no command")
    };
    assert_eq!(way.how, Return::KeysPressed);
    assert_eq!(way.life, TICKET_LIFE + after::ONE_KEY * 4, "pressing takes its time");
    assert_eq!(parked.ask(UP, "x").await.1.as_deref(), Some("press"));
    assert!(parked.commands.try_recv().is_none(), "keys are pressed once");
    assert!(parked.switchboard.admit(&ticket).is_ok());
}

#[tokio::test]
async fn a_stream_that_broke_is_followed_by_another_into_the_session() {
    let mut parked = Parked::new(Some(Decision::StreamAgain));
    let (next, _) = parked.ask(UP, "stream").await;
    let Next::Stream { ticket } = next else { panic!("another stream") };
    let Some(Command::Returned(way)) = parked.commands.try_recv() else { panic!("the session learns of it") };
    assert_eq!((way.how, way.life), (Return::StreamAgain, TICKET_LIFE));
    assert!(parked.switchboard.admit(&ticket).is_ok());
    assert!(matches!(parked.ask(UP, "again").await, (_, Some(known)) if known == "stream"));
    // Nobody comes back to a session that is over.
    let parked = Parked::new(Some(Decision::StreamAgain));
    parked.switchboard.registry.ended(&parked.nonce);
    assert!(matches!(parked.ask(UP, "sorry").await.0, Next::Sorry(_)));
}

/// The session of a parked phone.
fn session(parked: Parked) -> Session {
    let Parked { switchboard, nonce, commands, decision, .. } = parked;
    let Some((Stage::Live(handle), _)) = switchboard.registry.find(&nonce) else { panic!("it is live") };
    Session {
        filing: Filing::new(switchboard.records.clone(), handle.plan.clone(), &client()),
        jobs: Jobs::new(switchboard.clone(), client(), "01".into()),
        switchboard,
        span: tracing::Span::none(),
        plan: handle.plan.clone(),
        call: handle.call.clone(),
        nonce,
        retried: false,
        meter: Meter::new(None),
        rang: crate::link::now(),
        place: None,
        commands,
        decision,
        streams_lost: 0,
        sound: Sound::default(),
        unsettled: None,
        anomalies: BTreeMap::new(),
        must_say_goodbye: false,
        over: false,
    }
}

#[tokio::test]
async fn a_phone_sent_back_to_an_ending_session_leaves_no_ticket() {
    let parked = Parked::dialling();
    let (switchboard, nonce) = (parked.switchboard.clone(), parked.nonce);
    let Some((Stage::Live(handle), _)) = switchboard.registry.find(&nonce) else { panic!("it is live") };
    let session = session(parked);
    let ticket = switchboard.call_back(&nonce, &handle, Return::KeysPressed, Duration::ZERO).unwrap();
    // The session ends before it gets the command.
    drop(session);
    assert!(switchboard.registry.live().is_empty(), "the new ticket has no session");
    let after = switchboard.after_stream(&ticket, &request(UP)).await;
    assert!(matches!(after.next, Next::Sorry(_)));
    assert_eq!(switchboard.call_back(&nonce, &handle, Return::KeysPressed, Duration::ZERO), None);
}

#[tokio::test]
async fn a_dial_that_is_not_ours_moves_no_session() {
    // With a live conversation, and with one that is over.
    for over in [false, true] {
        let mut parked = if over { Parked::dialling() } else { Parked::new(None) };
        if over {
            parked.ask(UP, "dial").await;
            parked.switchboard.registry.ended(&parked.nonce);
        }
        let (next, _) = parked.ask(&format!("{UP}&DialCallStatus=busy"), "sorry").await;
        assert!(matches!(next, Next::Sorry(_)), "the caller hears something");
        assert!(parked.commands.try_recv().is_none(), "over: {over}");
    }
    let mut parked = Parked::new(None);
    let (next, _) = parked.ask(&format!("{UP}&DialCallStatus=completed"), "").await;
    assert!(matches!(next, Next::HangUp));
    assert!(parked.commands.try_recv().is_none());
}

#[tokio::test]
async fn a_ticket_of_another_call_has_no_effect() {
    let mut parked = Parked::dialling();
    parked.ask(UP, "dial").await;
    let form = format!("CallSid={OTHER}&From=%2B15550100007&To=%2B15550100001&{UP}&DialCallStatus=busy");
    let other = CallRequest::read(&Form::parse(form.as_bytes())).unwrap();
    let after = parked.switchboard.after_stream(&parked.ticket, &other).await;
    assert!(matches!(after.next, Next::Unknown));
    assert!(parked.commands.try_recv().is_none());
}

#[tokio::test]
async fn a_dial_result_after_a_restart_is_answered() {
    let parked = Parked::dialling();
    let restarted = switchboard();
    for (status, spoken) in [("busy", true), ("completed", false)] {
        let request = request(&format!("{UP}&DialCallStatus={status}"));
        let next = restarted.after_stream(&parked.ticket, &request).await.next;
        assert_eq!(matches!(next, Next::Sorry(_)), spoken, "{status}");
        assert_eq!(matches!(next, Next::HangUp), !spoken, "{status}");
    }
}

#[tokio::test]
async fn draining_reaches_parked_sessions() {
    let mut parked = Parked::dialling();
    parked.switchboard.say_goodbyes();
    assert!(matches!(parked.commands.try_recv(), Some(Command::Drain)));
    parked.switchboard.registry.ended(&parked.nonce);
    parked.switchboard.say_goodbyes();
    assert!(parked.commands.try_recv().is_none());
}

/// A tool for a job.
fn tool(job: crate::assistant::plan::Job) -> crate::assistant::plan::Tool {
    crate::assistant::plan::Tool {
        name: "look_up".to_owned(),
        description: String::new(),
        parameters: serde_json::Map::new(),
        arguments: None,
        rule: crate::assistant::plan::Rule::default(),
        work: crate::assistant::plan::Work::Job(Arc::new(job)),
    }
}

fn client() -> Client {
    let caller = Party::Withheld;
    let keep = Duration::from_secs(60);
    let (assistant, reader) = ("clinic".to_owned(), Default::default());
    Client { call: call(), assistant, called: caller.clone(), caller, keep, reader }
}

fn job_at(url: String) -> crate::assistant::plan::Job {
    crate::assistant::plan::Job::Http(crate::assistant::plan::HttpCall {
        method: "GET".to_owned(),
        url,
        headers: Vec::new(),
        body: None,
        success: Vec::new(),
        answer: None,
        parameters: serde_json::Map::new(),
        known: Default::default(),
    })
}

#[tokio::test]
async fn a_cancelled_job_ends_without_a_result() {
    use crate::call::Event;
    use tokio::io::AsyncReadExt as _;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let mut jobs = Jobs::new(switchboard(), client(), "01".into());
    let hangs = tool(job_at(url));
    for how in ["stopped", "the call ends"] {
        jobs.run("one".into(), Some(&hangs), serde_json::Map::new()).unwrap();
        let (mut socket, _) = hanging.accept().await.unwrap();
        assert!(socket.read(&mut [0; 64]).await.unwrap() > 0, "{how}: it asks");
        if how == "stopped" {
            jobs.stop(&"one".into(), Stop::Cancelled);
        } else {
            drop(std::mem::replace(&mut jobs, Jobs::new(switchboard(), client(), "01".into())));
        }
        let gone = async { while socket.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(Duration::from_secs(5), gone).await.expect("the connection is closed");
    }
    // The first result is that of a job that fails at once.
    let fails = tool(job_at("http://127.0.0.1:9/".to_owned()));
    jobs.run("two".into(), Some(&fails), serde_json::Map::new()).unwrap();
    let event =
        timeout(Duration::from_secs(5), std::future::poll_fn(|cx| jobs.poll_event(cx))).await.unwrap();
    assert!(
        matches!(event, Event::ToolFinished { id, outcome, .. } if id == "two".into() && outcome != "ok")
    );
}

#[tokio::test]
async fn a_call_runs_a_bounded_number_of_jobs() {
    use crate::call::Event;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = tool(job_at(format!("http://{}/", hanging.local_addr().unwrap())));
    let mut jobs = Jobs::new(switchboard(), client(), "01".into());
    for number in 0..32 {
        let id = number.to_string();
        assert!(jobs.run(id.as_str().into(), Some(&hangs), serde_json::Map::new()).is_ok());
    }
    let refused = jobs.run("more".into(), Some(&hangs), serde_json::Map::new()).unwrap_err();
    assert!(matches!(refused, Event::ToolFinished { .. }), "the model gets an answer");
    jobs.stop(&"0".into(), Stop::Timeout);
    assert!(jobs.run("more".into(), Some(&hangs), serde_json::Map::new()).is_ok(), "there is room again");
    assert!(jobs.run("none".into(), None, serde_json::Map::new()).is_err(), "no such tool");
}
