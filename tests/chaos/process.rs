//! The server in this process, in the time of the test. It has the interface of the process that `make chaos` tests.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::assistant::{Folder, Roster};
use switchboard::record::{Entry, RecordId, What};
use switchboard::serve::{self, Serve};
use switchboard::settings::{Settings, Sources};
use switchboard::yaml::SourceFile;
use switchboard_simulator::pace::Pace;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub const TOKEN: &str = "chaos";
const KEY: &str = "sk-simulated";

pub struct Process {
    /// `http://host:port`
    pub url: String,
    entries: Mutex<mpsc::UnboundedReceiver<Entry>>,
    _serving: AbortOnDropHandle<anyhow::Result<()>>,
    _pace: Option<Arc<Pace>>,
}

impl Process {
    /// Starts it with one assistant, which answers every number. `other` is the address of a second provider.
    pub async fn start(model: &str, other: Option<&str>, assistant: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let environment: BTreeMap<String, String> = [
            ("OPENAI_API_KEY", KEY),
            ("OTHER_KEY", KEY),
            ("OPENAI_REALTIME_URL", model),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("PUBLIC_URL", &url),
            ("DRAIN_SECONDS", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let file = other.map(|url| {
            let text = format!("providers: {{ other: {{ url: \"{url}\", key: \"${{OTHER_KEY}}\" }} }}\n");
            SourceFile::new("switchboard.yaml", text.into_bytes())
        });
        let settings = Settings::checked(&Sources { file, environment: environment.clone() });
        let mut settings = settings.unwrap_or_else(|problems| panic!("{problems:#?}"));
        settings.state_dir = None;
        let ready = settings.for_serve().expect("the settings are complete");
        let assistants = vec![SourceFile::new("assistants/chaos.yaml", assistant.as_bytes().to_vec())];
        let folder = Folder { assistants, ..Folder::default() };
        let checked = Roster::check(&folder, &environment, &ready.providers);
        let roster = checked.roster.unwrap_or_else(|problems| panic!("{problems:#?}"));
        let (entries_tx, entries) = mpsc::unbounded_channel();
        static METRICS: OnceLock<Option<metrics_exporter_prometheus::PrometheusHandle>> = OnceLock::new();
        let serve = Serve {
            captures: false,
            simulated: false,
            console: None,
            doctor: None,
            letters: None,
            settings,
            ready,
            roster,
            reload: None,
            listener,
            metrics_listener: None,
            metrics: METRICS.get_or_init(|| switchboard::observe::metrics::install().ok()).clone(),
            records: Some(Arc::new(move |_: &RecordId, entry| drop(entries_tx.send(entry)))),
            tools_first: false,
            now: None,
        };
        let serving = tokio::spawn(serve::run(serve, std::future::pending()));
        Ok(Self {
            url,
            entries: Mutex::new(entries),
            _serving: AbortOnDropHandle::new(serving),
            _pace: Pace::keep(),
        })
    }

    pub async fn signal(&self, signal: &str) {
        panic!("no process of its own gets {signal}");
    }

    /// How the call ended; waits for it.
    pub async fn end_line(&self, patience: Duration) -> Option<Value> {
        let mut entries = self.entries.lock().await;
        let look = async {
            loop {
                if let What::Ended(ended) = entries.recv().await?.what {
                    return Some(json!({"reason": ended.reason}));
                }
            }
        };
        timeout(patience, look).await.ok().flatten()
    }
}
