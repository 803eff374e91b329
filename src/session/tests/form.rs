//! The form after a call, with simulated models.

use std::future::poll_fn;
use std::sync::Mutex;

use serde_json::{Value, json};
use switchboard_simulator::model::{
    Aim, Fault, ModelOptions, ModelServer, Moment, Point, Speech, Trouble, Which,
};
use switchboard_simulator::pace::Pace;

use super::*;
use crate::assistant::arguments::Arguments;
use crate::assistant::plan::AfterCall;
use crate::call::{Event, Note, Turn};
use crate::link::model::ModelStep;
use crate::record::{CallRecord, Entry, Form as Filled, Recorder, What};
use crate::session::model::Model;

const PATIENCE: Duration = Duration::from_secs(20);

fn after_call() -> AfterCall {
    let schema = json!({"type": "object", "required": ["summary", "people"], "properties": {
        "summary": {"type": "string"}, "people": {"type": "integer"}}});
    let Value::Object(schema) = schema else { panic!("an object") };
    AfterCall { form: Arguments::new(schema).unwrap(), summary: true, webhook: None }
}

/// A call's model, with another provider to fall back to.
struct Models {
    own: ModelServer,
    other: ModelServer,
    model: Model,
    session: Session,
    _pace: Option<Arc<Pace>>,
}

impl Models {
    async fn open(faults: Vec<Fault>, forms: bool) -> Self {
        let pace = Pace::keep();
        let options = ModelOptions {
            key: String::new(),
            speech: Speech::Stamped,
            think: Duration::from_millis(50),
            ..ModelOptions::default()
        };
        let other = ModelServer::start(options.clone()).await.unwrap();
        let own = ModelServer::start(ModelOptions { faults, ..options }).await.unwrap();
        let mut session = session(Parked::new(Some(Decision::HangUp)));
        let at = |server: &ModelServer, forms| {
            let mut provider = Provider::openai(server.url(), None);
            provider.abilities.forms = forms;
            Plan {
                provider: Arc::new(provider),
                after_call: Some(after_call()),
                ..Plan::clone(&session.plan)
            }
        };
        let fallback = vec![Arc::new(at(&other, true))];
        session.plan = Arc::new(Plan { fallback, ..at(&own, forms) });
        let model = Model::connecting(session.plan.clone(), session.switchboard.clone());
        let mut models = Self { own, other, model, session, _pace: pace };
        models.until(|event| matches!(event, Event::ModelReady { .. })).await;
        models
    }

    /// The same after the caller has said something.
    async fn talked(faults: Vec<Fault>) -> Self {
        let mut models = Self::open(faults, true).await;
        models.model.link().unwrap().fill(&said());
        models
    }

    async fn until(&mut self, is: impl Fn(&Event) -> bool) {
        let seen = async {
            loop {
                let step = poll_fn(|cx| self.model.poll_step(cx)).await;
                if matches!(&step, ModelStep::Event(event) if is(event)) {
                    return;
                }
            }
        };
        timeout(PATIENCE, seen).await.expect("it happens");
    }

    async fn outcome(&mut self) -> String {
        timeout(PATIENCE, self.model.fill_form()).await.expect("it ends").outcome
    }
}

fn said() -> [Turn; 1] {
    [Turn::Caller("A table for 4.".to_owned().into())]
}

fn forms(server: &ModelServer) -> usize {
    server.sessions().iter().flat_map(|session| &session.responses).filter(|one| one.aim == Aim::Form).count()
}

#[tokio::test]
async fn the_form_and_what_it_cost_are_filed() {
    let mut models = Models::talked(Vec::new()).await;
    let sent: Arc<Mutex<Vec<Entry>>> = Arc::default();
    let to = sent.clone();
    let sink: Sink = Arc::new(move |_, entry| to.lock().unwrap().push(entry));
    let records = Records { sink: Some(sink), ..models.session.switchboard.records.clone() };
    models.session.filing = Filing::new(records, models.session.plan.clone(), &client());
    models.session.filing.started(crate::link::now());
    models.session.file_form(&mut models.model).await;
    let mut recorder = Recorder::new("01".into());
    let entries = sent.lock().unwrap().clone();
    let charged = entries.iter().position(|entry| matches!(entry.what, What::Used { .. }));
    let form = entries.iter().position(|entry| matches!(entry.what, What::Form(_)));
    assert!(charged.is_some() && charged < form, "{entries:?}");
    entries.into_iter().for_each(|entry| recorder.add(entry));
    let CallRecord { summary, fields, tokens, .. } = recorder.record();
    assert_eq!(summary.as_deref(), Some("The caller said: A table for 4."));
    assert_eq!(fields, Some(json!({"people": 4})));
    assert!(tokens.made > 0);
    assert!(models.model.notes.is_empty(), "nothing is filed twice");
}

#[tokio::test]
async fn a_call_that_goes_on_elsewhere_has_no_form_here() {
    for decision in [None, Some(Decision::Again)] {
        let mut models = Models::talked(Vec::new()).await;
        models.session.decision.send_replace(decision);
        models.session.file_form(&mut models.model).await;
        assert_eq!(forms(&models.own), 0);
    }
}

#[tokio::test]
async fn a_call_without_words_has_no_form() {
    let mut models = Models::open(Vec::new(), true).await;
    assert_eq!(models.outcome().await, "skipped");
    // Nor has one whose provider cannot fill it in.
    let mut models = Models::open(Vec::new(), false).await;
    models.model.link().unwrap().fill(&said());
    assert_eq!(models.outcome().await, "skipped");
    assert_eq!(forms(&models.own), 0);
}

#[tokio::test]
async fn a_session_that_is_gone_fills_in_nothing() {
    let mut models = Models::talked(Vec::new()).await;
    models.own.strike(Trouble::Drop);
    models.until(|event| matches!(event, Event::ModelLost(_))).await;
    assert_eq!(models.outcome().await, "lost");
    let mut silent = Models::open(Vec::new(), true).await;
    silent.own.strike(Trouble::Drop);
    silent.until(|event| matches!(event, Event::ModelLost(_))).await;
    assert_eq!(silent.outcome().await, "skipped");
}

#[tokio::test]
async fn a_second_session_with_the_conversation_fills_it_in() {
    for (filled, expected) in [(true, "ok"), (false, "lost")] {
        let mut models = Models::talked(Vec::new()).await;
        models.model.open_standby(1);
        models.until(|event| matches!(event, Event::StandbyReady { .. })).await;
        if filled {
            models.model.fill_standby(&said());
        }
        models.own.strike(Trouble::Drop);
        models.until(|event| matches!(event, Event::ModelLost(_))).await;
        assert_eq!(models.outcome().await, expected);
        assert_eq!(forms(&models.other), usize::from(filled));
        let of_other = |note: &Note| matches!(note, Note::Used { endpoint: 1, .. });
        assert_eq!(models.model.notes.iter().any(of_other), filled, "the other provider charges for it");
    }
}

#[tokio::test]
async fn a_session_in_use_needs_no_second_one() {
    let mut models = Models::talked(Vec::new()).await;
    models.model.open_standby(1);
    models.until(|event| matches!(event, Event::StandbyReady { .. })).await;
    models.model.fill_standby(&said());
    assert_eq!(models.outcome().await, "ok");
    assert_eq!((forms(&models.own), forms(&models.other)), (1, 0));
}

#[tokio::test]
async fn a_server_that_stops_waits_for_no_form() {
    let mute = Fault::once(Moment::Response(Which::For(Aim::Form), Point::Created), Trouble::Mute);
    let mut models = Models::talked(vec![mute]).await;
    let switchboard = models.session.switchboard.clone();
    let began = tokio::time::Instant::now();
    let (form, ()) = tokio::join!(timeout(PATIENCE, models.model.fill_form()), async {
        sleep(Duration::from_secs(1)).await;
        switchboard.end_forms();
    });
    let late = Filled { outcome: "late".to_owned(), summary: None, fields: None };
    assert_eq!(form.expect("it ends"), late);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // One that begins only then ends at once.
    assert_eq!(models.outcome().await, "late");
}
