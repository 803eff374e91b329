//! A test harness: the whole server on port 0, a strict Realtime server on one side, strict phones on the other, and a
//! check of every log line.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use switchboard::assistant::{Folder, Roster};
use switchboard::call::{Anomaly, EndReason};
use switchboard::console::OneTimeLink;
use switchboard::record::{self, Entry, RecordId, Recorder, Sink, Voice, What};
use switchboard::reload::read::read_folder;
use switchboard::serve::{self, From, Reload, Serve};
use switchboard::settings::{Settings, Sources};
use switchboard::yaml::SourceFile;
use switchboard_simulator::caller::{CallRecord, DialOutcome, Phone, PhoneHandle, PhoneOptions};
use switchboard_simulator::model::{ModelOptions, ModelServer, SessionLog};
use switchboard_simulator::pace::Pace;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub const TOKEN: &str = "12345";
/// Longer than any step of a test.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The file of an assistant that greets and can end the call.
pub const CLINIC: &str = r#"
numbers: ["+15550100001"]
instructions: You answer the phone.
greeting: { say: "Hello, Example Dental, how can I help?" }
call_control: { end_call: true }
on_failure: { say: "Sorry, something broke.", dial: "+15550100009" }
"#;

pub struct Harness {
    pub model: ModelServer,
    pub server: String,
    /// Opens the console once.
    pub link: Option<String>,
    entries: mpsc::UnboundedReceiver<(RecordId, Entry)>,
    recorders: BTreeMap<RecordId, Recorder>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<anyhow::Result<()>>,
    _pace: Option<Arc<Pace>>,
}

/// What a server does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    /// It captures prepared lines.
    Captures,
    /// It keeps records.
    Keeps,
    /// Its console opens by a link.
    Link,
}

/// How a call ended, and its record.
pub struct Ended {
    pub reason: EndReason,
    pub record: record::CallRecord,
}

impl Ended {
    /// How often this was counted.
    pub fn count(&self, anomaly: Anomaly) -> u64 {
        self.record.anomalies.get(anomaly.code()).copied().unwrap_or_default()
    }

    /// The longest silence in which something was owed.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.record.longest_silence_ms)
    }

    /// The words of the caller's turns; `None` for one without a transcript.
    pub fn caller_said(&self) -> Vec<Option<&str>> {
        let callers = self.record.turns.iter().filter(|turn| turn.voice == Voice::Caller);
        callers.map(|turn| turn.text.as_deref()).collect()
    }

    /// The log line of its end.
    pub fn line(&self) -> String {
        let lines = LINES.lock().unwrap();
        let of_call = |line: &&String| line.contains("Call ended") && line.contains(&self.record.call);
        lines.iter().find(of_call).cloned().expect("the end of the call is logged")
    }
}

impl Harness {
    pub async fn open(assistant: &str, model: ModelOptions) -> Self {
        Self::with(assistant, &[], model, &[]).await
    }

    /// `greetings`: recordings by file name. `settings`: override the usual ones.
    pub async fn with(
        assistant: &str,
        greetings: &[(&str, Vec<u8>)],
        model: ModelOptions,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::with_file(assistant, greetings, model, settings, None).await
    }

    /// The same, with a `switchboard.yaml`.
    pub async fn with_file(
        assistant: &str,
        greetings: &[(&str, Vec<u8>)],
        model: ModelOptions,
        settings: &[(&str, &str)],
        file: Option<&str>,
    ) -> Self {
        let folder = Folder {
            assistants: vec![SourceFile::new("assistants/clinic.yaml", assistant.as_bytes().to_vec())],
            greetings: greetings
                .iter()
                .map(|(name, wav)| SourceFile::new(format!("assistants/greetings/{name}"), wav.clone()))
                .collect(),
            ..Folder::default()
        };
        Self::serve(folder, None, model, settings, file, Kind::Usual).await
    }

    /// Serves a folder on disk and watches it for edits.
    pub async fn on_disk(dir: &Path, model: ModelOptions) -> Self {
        Self::serve(read_folder(dir).unwrap(), Some(dir), model, &[], None, Kind::Usual).await
    }

    /// Prepared lines are captured, as `switchboard serve` does.
    pub async fn capturing(assistant: &str, model: ModelOptions, settings: &[(&str, &str)]) -> Self {
        let assistants = vec![SourceFile::new("assistants/clinic.yaml", assistant.as_bytes().to_vec())];
        Self::serve(Folder { assistants, ..Folder::default() }, None, model, settings, None, Kind::Captures)
            .await
    }

    /// Its console opens by a link, as that of `switchboard serve --console` does.
    pub async fn with_link(assistant: &str) -> Self {
        let assistants = vec![SourceFile::new("assistants/clinic.yaml", assistant.as_bytes().to_vec())];
        let folder = Folder { assistants, ..Folder::default() };
        Self::serve(folder, None, ModelOptions::default(), &[], None, Kind::Link).await
    }

    /// Records go to the store, as those of `switchboard serve` do: [`Self::ended`] learns of none.
    pub async fn keeping(assistant: &str, model: ModelOptions, settings: &[(&str, &str)]) -> Self {
        let assistants = vec![SourceFile::new("assistants/clinic.yaml", assistant.as_bytes().to_vec())];
        Self::serve(Folder { assistants, ..Folder::default() }, None, model, settings, None, Kind::Keeps)
            .await
    }

    async fn serve(
        folder: Folder,
        dir: Option<&Path>,
        model: ModelOptions,
        settings: &[(&str, &str)],
        file: Option<&str>,
        kind: Kind,
    ) -> Self {
        watch_the_log();
        let model = ModelServer::start(model).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let url = model.url();
        let mut environment: BTreeMap<String, String> = [
            ("OPENAI_API_KEY", "sk-simulated"),
            ("OPENAI_REALTIME_URL", &url),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("PUBLIC_URL", &server),
            ("DRAIN_SECONDS", "0"),
        ]
        .into_iter()
        .chain(settings.iter().copied())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        environment.retain(|_, value| !value.is_empty());
        let file = file.map(|text| SourceFile::new("switchboard.yaml", text));
        let sources = Sources { file, environment: environment.clone() };
        let mut settings = Settings::checked(&sources).unwrap();
        // Calls of different tests share nothing.
        settings.state_dir = settings.state_dir.filter(|_| environment.contains_key("STATE_DIR"));
        let ready = settings.for_serve().unwrap();
        let checked = Roster::check(&folder, &environment, &ready.providers);
        let roster = checked.roster.unwrap_or_else(|problems| panic!("{problems:#?}"));
        let (entries_tx, entries) = mpsc::unbounded_channel();
        let records = Arc::new(move |id: &RecordId, entry| drop(entries_tx.send((id.clone(), entry))));
        let (stop, stopped) = oneshot::channel::<()>();
        let console = (kind == Kind::Link).then(OneTimeLink::default);
        let link = console.as_ref().map(|link| link.url(""));
        let serve = Serve {
            settings,
            ready,
            roster,
            reload: dir.map(|dir| Reload {
                from: From::Disk(dir.to_owned()),
                settings_file: dir.join("../switchboard.yaml"),
                environment,
                again: Default::default(),
            }),
            listener,
            metrics_listener: None,
            metrics: METRICS.get_or_init(|| switchboard::observe::metrics::install().ok()).clone(),
            records: (kind != Kind::Keeps).then_some(records as Sink),
            letters: None,
            tools_first: false,
            now: None,
            captures: kind == Kind::Captures,
            simulated: false,
            console,
            doctor: None,
        };
        let serving = tokio::spawn(serve::run(serve, async {
            let _ = stopped.await;
        }));
        // The events of a real folder come in the clock's time.
        let pace = if dir.is_none() { Pace::keep() } else { None };
        let recorders = BTreeMap::new();
        Self { model, server, link, entries, recorders, stop: Some(stop), serving, _pace: pace }
    }

    /// The options of a phone that calls this server.
    pub fn phone(&self) -> PhoneOptions {
        let mut options = PhoneOptions::new(self.server.clone(), TOKEN);
        options.dials =
            vec![DialOutcome { status: "completed".to_owned(), after: Duration::from_millis(10) }];
        options
    }

    pub fn dial(&self, options: PhoneOptions) -> PhoneHandle {
        Phone::dial(options)
    }

    /// Waits for the next call to end. Refused rings do not count.
    pub async fn ended(&mut self) -> Ended {
        loop {
            let (id, entry) =
                timeout(PATIENCE, self.entries.recv()).await.expect("a call ends in time").unwrap();
            let is_end = matches!(entry.what, What::Ended(_));
            let recorder = self.recorders.entry(id.clone()).or_insert_with(|| Recorder::new(id));
            recorder.add(entry);
            if is_end {
                let record = recorder.record();
                let code = record.reason.as_deref();
                let reason = EndReason::ALL.iter().copied().find(|reason| Some(reason.code()) == code);
                // A refused ring is no call.
                if let Some(reason) = reason {
                    return Ended { reason, record };
                }
                assert!(code.is_some_and(|code| code.starts_with("refused.")), "{code:?}");
            }
        }
    }

    /// Waits for the next form that is filed, and the record with it.
    pub async fn form(&mut self) -> (record::Form, record::CallRecord) {
        loop {
            let (id, entry) =
                timeout(PATIENCE, self.entries.recv()).await.expect("a form is filed in time").unwrap();
            let recorder = self.recorders.entry(id.clone()).or_insert_with(|| Recorder::new(id));
            recorder.add(entry.clone());
            if let What::Form(form) = entry.what {
                return (form, recorder.record());
            }
        }
    }

    /// Waits for the address of a recording in a bucket.
    pub async fn uploaded(&mut self) -> String {
        loop {
            let next = timeout(PATIENCE, self.entries.recv()).await;
            let (_, entry) = next.expect("a recording is uploaded in time").unwrap();
            if let What::Recording { path } = entry.what
                && path.starts_with("s3://")
            {
                return path;
            }
        }
    }

    /// The model's first session.
    pub fn session(&self) -> SessionLog {
        self.model.sessions().into_iter().next().expect("the model was called")
    }

    /// All metrics of this process.
    pub fn metrics(&self) -> String {
        METRICS.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
    }

    /// Starts draining.
    pub fn close(&mut self) {
        drop(self.stop.take());
    }

    /// Stops everything and asserts that no session is left and no log line held personal data.
    pub async fn quit(mut self) {
        self.close();
        timeout(PATIENCE, self.serving).await.expect("the server stops").unwrap().unwrap();
        self.model.stop().await;
        assert!(!LEAKED.load(Ordering::SeqCst), "a log line contained a number, a word or a key");
    }
}

/// Waits for the end of a call.
pub async fn finished(phone: PhoneHandle) -> CallRecord {
    timeout(PATIENCE, phone.finished()).await.expect("the call ends in time")
}

/// A swelling tone, loud enough to be speech.
pub fn speech(ms: usize) -> Bytes {
    (0..ms * 8)
        .map(|at| {
            let time = at as f64 / 8_000.0;
            let swell = 0.6 + 0.4 * (time * 4.0 * std::f64::consts::TAU).sin();
            let tone =
                (time * 220.0 * std::f64::consts::TAU).sin() + (time * 530.0 * std::f64::consts::TAU).sin();
            switchboard_audio::encode((tone * swell * 7_000.0) as i16)
        })
        .collect()
}

/// Sends a raw request; returns the status and the answer.
pub async fn http(server: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = server.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// The content of `/metrics`.
pub fn metrics() -> String {
    METRICS.get().and_then(Option::as_ref).expect("metrics are installed").render()
}

/// The value of a counter: 0 until something is counted.
pub fn counted(series: &str) -> u64 {
    let page = metrics();
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{series} is not in {page}"))
}

/// Whether any log line contains all these words.
pub fn logged(words: &[&str]) -> bool {
    LINES.lock().unwrap().iter().any(|line| words.iter().all(|word| line.contains(word)))
}

/// Every log line so far.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One recorder for the whole process.
static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

static LEAKED: AtomicBool = AtomicBool::new(false);

/// Reads every log event and panics if one contains a phone number, spoken words, or a key.
fn watch_the_log() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let subscriber = tracing_subscriber::registry().with(Watch);
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Watch;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Watch {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if !switchboard::observe::is_ours(event.metadata()) {
            return;
        }
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        judge(&text.0);
        LINES.lock().unwrap().push(text.0);
    }

    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut text = Text(String::new());
        attributes.record(&mut text);
        judge(&text.0);
    }
}

/// Panics at what no log line may contain: phone numbers, words of the conversation, keys.
pub fn judge(text: &str) {
    let personal =
        ["5550100", "Example Dental", "simulated model", "You answer the phone", TOKEN, "sk-simulated"];
    if let Some(found) = personal.iter().find(|personal| text.contains(**personal)) {
        // Long enough not to match a port.
        LEAKED.store(true, Ordering::SeqCst);
        panic!("a log line contains `{found}`: {text}");
    }
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
