//! A folder on the disk, a watcher over it, and everything it logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use switchboard::assistant::plan::Nothing;
use switchboard::assistant::plan::RecordPolicy;
use switchboard::assistant::{Facts, Roster};
use switchboard::phone::Party;
use switchboard::provider::{OPENAI_REALTIME_URL, Provider};
use switchboard::reload::{Keeper, Pace, SettingsFile, Standing, Watcher};
use switchboard::secret::Secret;
use switchboard::settings::{Settings, Sources};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A single save is in force within this time, and a burst within [`BURST`].
pub const SAVE: Duration = Duration::from_millis(1_000);
pub const BURST: Duration = Duration::from_millis(2_500);
/// What the check takes in addition, which is not optimized here.
const SLACK: Duration = Duration::from_millis(700);
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a test watches that nothing happens: longer than the quiet, the check and the slack.
pub const WINDOW: Duration = Duration::from_millis(1_500);

/// What no line may hold.
const SECRETS: [&str; 4] = ["hunter2value", "5550100", "You answer for", "gpt-realtime-2.1-mini"];

/// Logging the reload of an assistant with this name panics.
pub const PANICS: &str = "panics";

pub struct Switchboard {
    temp: TempDir,
    pub dir: PathBuf,
    pub roster: watch::Receiver<Arc<Roster>>,
    pub standing: watch::Receiver<Standing>,
    log: Arc<Mutex<Vec<String>>>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
    watching: JoinHandle<()>,
    /// How late the timers of this runtime have been in all.
    late: watch::Receiver<Duration>,
    _guards: Box<dyn std::any::Any>,
}

/// Adds up how late a timer of this runtime is, until the receiver is dropped.
fn lateness() -> watch::Receiver<Duration> {
    const TICK: Duration = Duration::from_millis(5);
    let (late, receiver) = watch::channel(Duration::ZERO);
    tokio::spawn(async move {
        while !late.is_closed() {
            let began = Instant::now();
            tokio::time::sleep(TICK).await;
            late.send_modify(|late| *late += began.elapsed().saturating_sub(TICK * 2));
        }
    });
    receiver
}

/// An assistant whose text is `words`.
pub fn assistant(words: &str) -> String {
    format!("instructions: You answer for {words}.\n")
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

impl Switchboard {
    /// A folder with one assistant `a` whose text is `one`.
    pub async fn open() -> Switchboard {
        Switchboard::with(Pace::default(), |root| {
            write(&root.join("assistants/a.yaml"), assistant("one"));
            root.join("assistants")
        })
        .await
    }

    /// `make` writes the files and returns the folder. The watcher has read it once when this returns.
    pub async fn with(pace: Pace, make: impl FnOnce(&Path) -> PathBuf) -> Switchboard {
        let temp = tempfile::tempdir().unwrap();
        let dir = make(temp.path());
        let log = Arc::<Mutex<Vec<String>>>::default();
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let metrics = recorder.handle();
        let guards = Box::new((listen(log.clone()), ::metrics::set_default_local_recorder(recorder)));
        let environment: BTreeMap<String, String> =
            [("SECRET", "hunter2value")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = Arc::new(environment);
        let path = temp.path().join("switchboard.yaml");
        let file =
            fs::read(&path).ok().map(|bytes| switchboard::yaml::SourceFile::new("switchboard.yaml", bytes));
        let sources = Sources { file, environment: BTreeMap::clone(&environment) };
        let settings = SettingsFile::new(path, environment.clone(), Settings::checked(&sources).unwrap());
        let provider = Arc::new(Provider::openai(OPENAI_REALTIME_URL, Some(Secret::new("sk-simulated"))));
        let keeper = Keeper::new(Roster::default(), environment, [provider], RecordPolicy::default());
        let (roster, standing) = (keeper.roster(), keeper.standing());
        let stop = CancellationToken::new();
        let watcher = Watcher::new(keeper, dir.clone(), Some(settings), pace);
        let watching = tokio::spawn(watcher.run(stop.clone()));
        let mut switchboard = Switchboard {
            temp,
            dir,
            roster,
            standing,
            log,
            metrics,
            stop,
            watching,
            late: lateness(),
            _guards: guards,
        };
        switchboard.generation(2).await;
        switchboard.log.lock().unwrap().clear();
        switchboard
    }

    pub fn root(&self) -> &Path {
        self.temp.path()
    }

    /// Waits until this generation is in force.
    pub async fn generation(&mut self, generation: u64) {
        self.until(|standing| standing.generation >= generation).await;
        assert_eq!(self.standing.borrow().generation, generation, "{:#?}", self.lines());
    }

    /// Waits until the rejected edit has this many problems.
    pub async fn problems(&mut self, problems: usize) {
        self.until(|standing| standing.problems == problems).await;
    }

    async fn until(&mut self, fits: impl FnMut(&Standing) -> bool) {
        let met = timeout(PATIENCE, self.standing.wait_for(fits)).await.is_ok();
        if !met {
            panic!("this does not come: {:?}\n{:#?}", *self.standing.borrow(), self.lines());
        }
    }

    /// Waits until the assistant's text has these words, which must be within `limit` of `since`.
    pub async fn says(&mut self, name: &str, words: &str, since: Instant, limit: Duration) {
        let fits = |roster: &Arc<Roster>| text(roster, name).contains(words);
        let met = timeout(PATIENCE, self.roster.wait_for(fits)).await.is_ok_and(|seen| seen.is_ok());
        assert!(met, "`{words}` is not in force: {:#?}", self.lines());
        let took = since.elapsed();
        assert!(took <= limit + self.slack(), "in force after {took:?}");
    }

    /// How much a busy machine may add: threads and timers are late alike.
    pub fn slack(&self) -> Duration {
        SLACK + 3 * *self.late.borrow()
    }

    /// The assistant's prompt in force; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        text(&self.roster.borrow(), name)
    }

    /// Asserts that for a while no roster is swapped, no problem comes or goes, and no line is logged.
    pub async fn nothing_happens(&mut self) {
        let (standing, lines) = (*self.standing.borrow(), self.lines());
        self.standing.mark_unchanged();
        let _ = timeout(WINDOW, self.standing.changed()).await;
        assert_eq!(*self.standing.borrow(), standing);
        assert_eq!(self.lines(), lines);
    }

    /// Every line since the server opened.
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line with these words.
    pub async fn line(&self, words: &str) -> String {
        let found = async {
            loop {
                if let Some(line) = self.lines().into_iter().find(|line| line.contains(words)) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no `{words}` in {:#?}", self.lines()))
    }

    /// How many lines hold these words.
    pub fn count(&self, words: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(words)).count()
    }

    /// The value of a metric, with its labels as Prometheus writes them.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.render();
        let line = page.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default()
    }

    /// Ends the watcher, and asserts that no line has a secret.
    pub async fn quit(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.watching).await.unwrap().unwrap();
        for line in self.log.lock().unwrap().iter() {
            assert!(!SECRETS.iter().any(|secret| line.contains(secret)), "a secret is in: {line}");
        }
    }
}

fn text(roster: &Roster, name: &str) -> String {
    let facts = Facts {
        caller: Party::Withheld,
        called: Party::from_twilio("+15550100001"),
        call: "CA00000000000000000000000000000001".to_owned(),
        now: "2026-03-03T14:05:00Z".parse().unwrap(),
    };
    roster
        .by_name(name)
        .map(|assistant| assistant.plan(&facts, &Nothing).unwrap().instructions)
        .unwrap_or_default()
}

/// Records every event of this thread, whose runtime runs the watcher.
fn listen(log: Arc<Mutex<Vec<String>>>) -> tracing::subscriber::DefaultGuard {
    use tracing_subscriber::layer::SubscriberExt as _;
    tracing::subscriber::set_default(tracing_subscriber::registry().with(Listener(log)))
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Listener {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target().starts_with("switchboard") {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            let panics = line.0.contains(PANICS);
            self.0.lock().unwrap().push(line.0);
            assert!(!panics, "the test asked for a panic");
        }
    }
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
