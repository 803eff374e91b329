//! Limits, with a real server, phones that call it, and a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;
use switchboard_simulator::caller::{
    CallEnd, CallRecord as Heard, DialOutcome, Phone, PhoneHandle, PhoneOptions,
};
use switchboard_simulator::model::{ModelOptions, ModelServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::assistant::plan::{Blocked, Gate};
use crate::assistant::{Folder, Roster};
use crate::provider::prices::{ModelPrices, Price};
use crate::record::{Entry, RecordId, Recorder, Sink};
use crate::serve::{Serve, run};
use crate::settings::{Settings, Sources};
use crate::store::{Filter, Place};
use crate::yaml::SourceFile;

const TOKEN: &str = "12345";
const PATIENCE: Duration = Duration::from_secs(40);
const CLINIC: &str = "numbers: [\"+15550100001\"]\n\
                      instructions: You answer the phone.\n\
                      greeting: { say: Hello. }\n\
                      busy: { say: Later. }\n";

struct Server {
    url: String,
    model: ModelServer,
    records: Arc<Mutex<BTreeMap<RecordId, Recorder>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// `cost`: what a call may cost. A second of the model costs a dollar.
    async fn start(gate: Gate, cost: Option<f64>) -> Self {
        Self::start_in(None, gate, cost).await
    }

    /// With a folder for its `state`, its records are in a database there.
    async fn start_in(state: Option<&Path>, gate: Gate, cost: Option<f64>) -> Self {
        let options = ModelOptions { burst: 50.0, ..ModelOptions::default() };
        let model = ModelServer::start(options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let environment = [
            ("OPENAI_API_KEY", "sk-simulated"),
            ("OPENAI_REALTIME_URL", &model.url()),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("PUBLIC_URL", &url),
            ("DRAIN_SECONDS", "0"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sources = Sources { file: None, environment: environment.into() };
        let mut settings = Settings::checked(&sources).unwrap();
        settings.state_dir = state.map(Path::to_owned);
        let a_dollar_a_second = ModelPrices { minute: Some(Price::dollars(60.0)), ..ModelPrices::default() };
        settings.prices.set(crate::provider::DEFAULT_MODEL, a_dollar_a_second);
        let ready = settings.for_serve().unwrap();
        let assistants = vec![SourceFile::new("assistants/clinic.yaml", CLINIC.as_bytes().to_vec())];
        let folder = Folder { assistants, ..Folder::default() };
        let roster = Roster::check(&folder, &BTreeMap::new(), &ready.providers).roster.unwrap();
        let limited = roster.by_name("clinic").unwrap().limited(gate, cost);
        let records = Arc::new(Mutex::new(BTreeMap::new()));
        let (sink, prices) = (records.clone(), Arc::new(settings.prices.clone()));
        let (stop, stopped) = oneshot::channel();
        let sink: Sink = Arc::new(move |id: &RecordId, entry: Entry| {
            let new = || Recorder::new(id.clone()).priced(prices.clone());
            sink.lock().unwrap().entry(id.clone()).or_insert_with(new).add(entry);
        });
        let serve = Serve {
            settings,
            ready,
            roster: roster.with(limited),
            reload: None,
            listener,
            metrics_listener: None,
            metrics: None,
            records: Some(sink).filter(|_| state.is_none()),
            tools_first: false,
            now: None,
            captures: false,
            simulated: false,
            console: None,
            doctor: None,
            letters: None,
        };
        let task = tokio::spawn(run(serve, async move { drop(stopped.await) }));
        Self { url, model, records, stop, task }
    }

    fn dial(&self, from: &str) -> PhoneHandle {
        let mut options = PhoneOptions::new(self.url.clone(), TOKEN);
        options.from = from.to_owned();
        options.dials =
            vec![DialOutcome { status: "completed".to_owned(), after: Duration::from_millis(10) }];
        Phone::dial(options)
    }

    /// The reasons of all records, in the order of their rings.
    fn reasons(&self) -> Vec<Option<String>> {
        self.records.lock().unwrap().values().map(|recorder| recorder.record().reason).collect()
    }

    async fn end(self) {
        drop(self.stop);
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        self.model.stop().await;
    }
}

async fn heard(phone: PhoneHandle) -> Heard {
    let heard = timeout(PATIENCE, phone.finished()).await.expect("the call ends");
    heard.assert_clean();
    heard
}

#[tokio::test]
async fn a_blocked_caller_is_not_answered_and_one_too_many_hears_that_all_lines_are_busy() {
    let gate = Gate {
        block: vec![Blocked::Prefix("+1900".to_owned()), Blocked::Withheld],
        calls: Some(1),
        ..Gate::default()
    };
    let server = Server::start(gate, None).await;
    for blocked in ["+19005550100", "anonymous", "+266696687"] {
        assert_eq!(
            heard(server.dial(blocked)).await.end,
            CallEnd::Rejected("rejected".to_owned()),
            "{blocked}"
        );
    }
    assert!(server.model.sessions().is_empty(), "no model was called");
    let first = server.dial("+15550100100");
    assert!(first.wait_until_playing_for(Duration::from_millis(50)).await);
    let second = heard(server.dial("+15550100101")).await;
    assert_eq!((second.said[0].text.as_str(), second.end), ("Later.", CallEnd::HungUp));
    first.hang_up();
    heard(first).await;
    let mut reasons = server.reasons();
    reasons.sort();
    let [blocked, busy] = ["refused.blocked", "refused.busy"].map(|code| Some(code.to_owned()));
    let hung_up = Some("caller.hung_up".to_owned());
    assert_eq!(reasons, [hung_up, blocked.clone(), blocked.clone(), blocked, busy]);
    let third = server.dial("+15550100102");
    assert!(third.wait_until_playing_for(Duration::from_millis(50)).await, "there is room again");
    third.hang_up();
    heard(third).await;
    server.end().await;
}

#[tokio::test]
async fn a_call_comes_to_an_end_when_its_money_does() {
    let server = Server::start(Gate::default(), Some(4.0)).await;
    let heard = heard(server.dial("+15550100100")).await;
    assert_eq!(heard.end, CallEnd::HungUp);
    assert_eq!(server.reasons(), [Some("limit.cost".to_owned())]);
    let record = server.records.lock().unwrap().values().next().unwrap().record();
    let cost = record.cost.unwrap().total;
    assert!((4.0..9.0).contains(&cost), "{cost}");
    let session = &server.model.sessions()[0];
    let at = |kind: &str, purpose: Option<&str>| {
        let is_it = |event: &Value| {
            event["type"] == kind && purpose.is_none_or(|it| event["response"]["metadata"]["purpose"] == it)
        };
        let events = session.events.iter().filter(|event| is_it(&event.event));
        events.map(|event| event.at).collect::<Vec<_>>()
    };
    let (near, goodbye) = (at("conversation.item.create", None), at("response.create", Some("goodbye")));
    assert_eq!((near.len(), goodbye.len()), (1, 1), "it is asked once to come to an end");
    assert!(goodbye[0] - near[0] > Duration::from_millis(300), "80 % came before all of it");
    server.end().await;
}

#[tokio::test]
async fn a_day_that_is_used_up_ends_with_the_busy_line() {
    let gate = Gate { cost_per_day: Some(1.0), ..Gate::default() };
    let server = Server::start(gate, None).await;
    let first = server.dial("+15550100100");
    // A call that runs counts.
    let refused = async {
        loop {
            if let Some(heard) = heard_soon(server.dial("+15550100101")).await {
                break heard;
            }
        }
    };
    let refused = timeout(PATIENCE, refused).await.expect("the day is used up");
    assert_eq!(refused.said[0].text, "Later.");
    assert!(server.reasons().contains(&Some("refused.limit".to_owned())));
    first.hang_up();
    heard(first).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_another_machine_counts_within_a_few_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let other = Server::start_in(Some(folder.path()), Gate::default(), None).await;
    // A ring is refused either way: for its cost, until the other's call is known.
    let gate = Gate { calls: Some(1), cost_per_day: Some(0.0), ..Gate::default() };
    let server = Server::start_in(Some(folder.path()), gate, None).await;
    let call = other.dial("+15550100100");
    assert!(call.wait_until_playing_for(Duration::from_millis(50)).await);
    let began = Instant::now();
    let store = Store::open(&Place::Sqlite(folder.path().join("switchboard.db"))).await.unwrap();
    let busy = Filter { reason: Some("refused.busy".to_owned()), ..Filter::default() };
    let counts = async {
        while store.list(&busy, 1).await.unwrap().is_empty() {
            assert_eq!(heard(server.dial("+15550100101")).await.said[0].text, "Later.");
        }
    };
    timeout(PATIENCE, counts).await.expect("it counts");
    assert!(began.elapsed() < Duration::from_secs(8), "after {:?}", began.elapsed());
    call.hang_up();
    heard(call).await;
    server.end().await;
    other.end().await;
}

/// What a caller hears who is refused; `None`, and hangs up, if there is a stream.
async fn heard_soon(phone: PhoneHandle) -> Option<Heard> {
    let is_answered = phone.wait_until_playing_for(Duration::from_millis(50)).await;
    phone.hang_up();
    let heard = heard(phone).await;
    (!is_answered).then_some(heard)
}
