//! MCP servers: real ones, installed with npm from the lock file here, and stubs for what can go wrong.
//!
//! A test fails if any log event of any level contains an argument, a result or a token.

mod answers;
mod everything;
mod fly;
mod health;
mod modern;
mod stub;
mod todoist;
mod trouble;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use switchboard::assistant::plan::{Job, Listed, Reach, Server, ServerUse, Supply as _};
use switchboard::id::CallSid;
use switchboard::link::tls::client_config;
use switchboard::observe;
use switchboard::phone::Party;
use switchboard::secret::Secret;
use switchboard::tool::{Client, Done, Tools, Trouble};
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// The longest wait.
const LIMIT: Duration = Duration::from_secs(30);
/// Shorter than any wait for a server, and longer than a busy machine takes for an answer that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(4);
/// In arguments, results and tokens; must not appear in the log.
const WHISPER: &str = "hush-hush";

/// The tools of a process, with its log checked.
fn tools() -> Tools {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let ours = tracing_subscriber::filter::filter_fn(observe::is_ours);
        let subscriber = tracing_subscriber::registry().with(Watch.with_filter(ours));
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    Tools::new(&client_config(false, None).unwrap()).unwrap()
}

/// A server at an address, with a token.
fn at(name: &str, url: &str) -> Arc<Server> {
    let token = ("authorization".to_owned(), Secret::new(format!("Bearer {WHISPER}")));
    let reach = Reach::Url { url: url.to_owned(), headers: vec![token] };
    Arc::new(Server { name: name.to_owned(), reach })
}

/// A server that is a program, with its environment.
fn program(name: &str, command: &[&str], env: &[(&str, &str)]) -> Arc<Server> {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let env = env.iter().map(|&(name, value)| (name.to_owned(), Secret::new(value))).collect();
    Arc::new(Server { name: name.to_owned(), reach: Reach::Command { command, env, secrets: Vec::new() } })
}

/// Tools with these servers, without an allow list.
fn keeping(servers: &[&Arc<Server>]) -> Tools {
    let tools = tools();
    tools.keep(servers.iter().map(|&server| used(server)));
    tools
}

/// A server as the assistant `clinic` uses it, without an allow list.
fn used(server: &Arc<Server>) -> ServerUse {
    used_by("clinic", server, None)
}

/// A server as an assistant uses it. The file names the allowed tools.
fn used_by(assistant: &str, server: &Arc<Server>, allow: Option<&[&str]>) -> ServerUse {
    let allow: Option<Vec<String>> = allow.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let named = allow.clone().unwrap_or_default();
    ServerUse { assistant: assistant.to_owned(), server: server.clone(), allow, named }
}

async fn call(tools: &Tools, server: &Arc<Server>, tool: &str, arguments: Value) -> Done {
    call_with(tools, server, tool, arguments, Value::Object(Map::new()), || {}).await
}

async fn call_with(
    tools: &Tools,
    server: &Arc<Server>,
    tool: &str,
    arguments: Value,
    fixed: Value,
    working: impl Fn() + Send,
) -> Done {
    let Value::Object(fixed) = fixed else { panic!("no object") };
    let Value::Object(arguments) = arguments else { panic!("no object") };
    let job = Job::Mcp { server: server.clone(), tool: tool.to_owned(), fixed };
    let client = Client {
        call: CallSid::parse("CA0123456789abcdef0123456789abcdef").unwrap(),
        assistant: "clinic".to_owned(),
        caller: Party::Withheld,
        called: Party::Withheld,
        keep: Duration::from_secs(60),
        reader: Default::default(),
    };
    let done = tools.run(&job, arguments, &client, working);
    timeout(LIMIT, done).await.expect("an answer")
}

/// The output of a call, which must have succeeded.
fn worked(done: Done) -> String {
    assert_eq!(done.failed, None, "{}", done.output.expose());
    done.output.expose().to_owned()
}

/// Waits until the server is listed.
async fn listed(tools: &Tools, server: &Arc<Server>) -> Arc<[Listed]> {
    until(|| tools.listed(server)).await
}

/// Waits until the server works again after its first failure.
async fn back(server: &Server) {
    until(|| log_of(server).into_iter().find(|line| line.contains("works again"))).await;
}

/// Waits until there is a value.
async fn until<T>(what: impl Fn() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = what() {
            return value;
        }
        assert!(since.elapsed() < LIMIT, "timed out; the log:\n{}", log().join("\n"));
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the server has failed.
async fn trouble(tools: &Tools, server: &Arc<Server>) -> Trouble {
    until(|| tools.trouble(server)).await
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listener.local_addr().unwrap().port()
}

/// A script of a server that npm has installed.
fn installed(script: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/node_modules").join(script);
    assert!(
        path.exists(),
        "the real MCP servers are not installed: run `npm ci --prefix tests/mcp`, or `make test`, which does it"
    );
    path.display().to_string()
}

/// Kills the process whose ID is in a file, and removes the file.
fn kill(file: &PathBuf) {
    let number = std::fs::read_to_string(file).unwrap();
    std::fs::remove_file(file).unwrap();
    let killed = std::process::Command::new("kill").args(["-KILL", number.trim()]).status().unwrap();
    assert!(killed.success());
}

fn is_alive(number: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", number.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// All our log lines so far.
fn log() -> Vec<String> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The log lines about the server.
fn log_of(server: &Server) -> Vec<String> {
    let name = format!("server=\"{}\"", server.name);
    log().into_iter().filter(|line| line.contains(&name)).collect()
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Watch;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Watch {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut text = Text(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut text);
        check_privacy(&text.0);
        if event.metadata().target().starts_with("switchboard") {
            LOG.lock().unwrap_or_else(PoisonError::into_inner).push(text.0);
        }
    }

    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut text = Text(String::new());
        attributes.record(&mut text);
        check_privacy(&text.0);
    }
}

/// Aborts the process: a panic in a task would go unnoticed.
fn check_privacy(line: &str) {
    if line.contains(WHISPER) {
        eprintln!("the log contains: {line}");
        std::process::abort();
    }
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
