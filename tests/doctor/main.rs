//! `switchboard doctor`, against a running `switchboard serve` behind proxies that misbehave, and a simulated model and
//! Twilio that do so too.
//!
//! Every output is searched: a secret or a whole phone number in it fails the test.

mod account;
mod mail;
mod provider;
mod proxy;
mod public;
mod remote;
#[path = "../mcp/stub.rs"]
#[expect(dead_code, reason = "the tests of MCP use more of it")]
mod stub;
mod surroundings;
mod tools;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchboard_simulator::model::{ModelOptions, ModelServer};
use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestServer, number};
use tempfile::TempDir;
use tokio::time::timeout;

use self::proxy::{Habit, Proxy};

/// The longest that one run may take. The program's own limits are shorter.
const PATIENCE: Duration = Duration::from_secs(80);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER_TOKEN: &str = "fedcba9876543210fedcba9876543210";
const KEY: &str = "sk-simulated";
/// The token of a tool.
const WHISPER: &str = "hush-hush";
const CLINIC: &str = "numbers: [\"+15550100001\"]\ninstructions: You answer the phone.\n";

/// A folder to run in, and the environment.
struct Place {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

/// What a run printed.
struct Report {
    exit: i32,
    out: String,
    err: String,
    /// Empty if the format was text.
    rows: Vec<Value>,
}

impl Place {
    /// One assistant, and a model at which nothing listens.
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap(), environment: BTreeMap::new() };
        place.file("assistants/clinic.yaml", CLINIC);
        let nowhere = "ws://127.0.0.1:9/v1/realtime";
        let set = [("TWILIO_AUTH_TOKEN", TOKEN), ("OPENAI_API_KEY", KEY), ("OPENAI_REALTIME_URL", nowhere)];
        place.with(&set)
    }

    fn with(mut self, variables: &[(&str, &str)]) -> Place {
        self.environment
            .extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    fn without(mut self, variable: &str) -> Place {
        self.environment.remove(variable);
        self
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs `switchboard doctor --format json`.
    async fn doctor(&self, arguments: &[&str]) -> Report {
        let mut report = self.run(&[&["doctor", "--format", "json"], arguments].concat()).await;
        report.rows = match serde_json::from_str(&report.out) {
            Ok(Value::Array(rows)) => rows,
            other => panic!("no rows but {other:?} in {}{}", report.out, report.err),
        };
        let is = |row: &Value, severity: &str| row["severity"] == severity;
        for row in report.rows.iter().filter(|row| is(row, "warning") || is(row, "error")) {
            let obvious = row["code"].as_str().unwrap().starts_with("setting.");
            assert!(obvious || row["help"].is_string(), "there is no help: {row}");
        }
        let has_error = report.rows.iter().any(|row| is(row, "error"));
        assert_eq!(report.exit, i32::from(has_error), "{}", report.out);
        report
    }

    async fn run(&self, arguments: &[&str]) -> Report {
        let output = timeout(PATIENCE, self.command(arguments).output()).await;
        let output = output.expect("it ends in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for never in [TOKEN, OTHER_TOKEN, KEY, WHISPER, "5550100001", "5550100002", "panicked"] {
            assert!(!out.contains(never) && !err.contains(never), "`{never}` is in\n{out}{err}");
        }
        Report { exit: output.status.code().unwrap(), out, err, rows: Vec::new() }
    }
}

impl Report {
    /// Code and severity of each row whose code starts like this.
    fn found(&self, prefix: &str) -> Vec<(&str, &str)> {
        let row = |row| Some((text_of(row, "code"), text_of(row, "severity")));
        self.rows.iter().filter_map(row).filter(|(code, _)| code.starts_with(prefix)).collect()
    }

    /// The rows whose codes start like this are exactly these, except those that are fine.
    #[track_caller]
    fn assert_bad(&self, what: &str, prefix: &str, expected: &[(&str, &str)]) {
        let mut bad = self.found(prefix);
        bad.retain(|(_, severity)| *severity != "ok");
        assert_eq!(bad, expected, "{what}: {}", self.out);
    }

    /// There is a row with this code and severity.
    #[track_caller]
    fn assert_has(&self, what: &str, code: &str, severity: &str) {
        assert!(self.found(code).contains(&(code, severity)), "{what}: no {severity} {code} in {}", self.out);
    }

    #[track_caller]
    fn assert_lacks(&self, what: &str, codes: &[&str]) {
        for code in codes {
            assert!(self.found(code).is_empty(), "{what}: {code} is in {}", self.out);
        }
    }

    /// There are rows with each code, and all are fine.
    #[track_caller]
    fn assert_fine(&self, what: &str, codes: &[&str]) {
        for code in codes {
            let found = self.found(code);
            let is_fine = !found.is_empty() && found.iter().all(|(_, severity)| *severity == "ok");
            assert!(is_fine, "{what}: {code} is not fine in {}", self.out);
        }
    }
}

fn text_of<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

/// A running server; killed when dropped.
struct Serving {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Serving {
    /// Serves one assistant on a free port.
    fn start(public_url: &str, tokens: &str) -> Serving {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assistants")).unwrap();
        std::fs::write(folder.path().join("assistants/clinic.yaml"), CLINIC).unwrap();
        let environment = [
            ("OPENAI_API_KEY", KEY),
            ("OPENAI_REALTIME_URL", "ws://127.0.0.1:9/v1/realtime"),
            ("TWILIO_AUTH_TOKEN", tokens),
            ("PUBLIC_URL", public_url),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("LOG_FORMAT", "json"),
        ];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.arg("serve").current_dir(folder.path()).env_clear().envs(environment);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("the server ends before it is ready").unwrap();
            if line.contains("\"Ready\"") {
                break line.split("127.0.0.1:").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Serving { child, port, _folder: folder }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number as it should be.
fn right(index: usize, digits: &str, public_url: &str) -> Value {
    let mut right = number(index, digits);
    right["voice_url"] = format!("{public_url}/incoming-call").into();
    right["status_callback"] = format!("{public_url}/call-status").into();
    right["voice_fallback_url"] = "https://example.com/fallback".into();
    right
}

/// Twilio, which accepts the token of these tests.
async fn twilio(numbers: Vec<Value>) -> RestServer {
    let credentials = vec![(ACCOUNT.to_owned(), TOKEN.to_owned())];
    RestServer::start(AccountOptions { credentials, numbers, ..AccountOptions::default() }).await.unwrap()
}

/// One snapshot of the whole text, with everything as it should be.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_fine() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.forward_to(serving.port);
    let model = ModelServer::start(ModelOptions::default()).await.unwrap();
    let twilio = twilio(vec![right(1, "+15550100001", &proxy.url)]).await;
    let url = model.url();
    let place = Place::new().with(&[
        ("OPENAI_REALTIME_URL", &url),
        ("PUBLIC_URL", &proxy.url),
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_API_URL", twilio.url()),
    ]);
    let report = place.run(&["doctor"]).await;
    assert_eq!((report.exit, report.err.as_str()), (0, ""), "{}", report.out);
    let port = |url: &str| url.split(['/', ':']).nth(4).unwrap().to_owned();
    let text = report.out.replace(&port(&url), "PORT").replace(&port(&proxy.url), "PORT");
    insta::assert_snapshot!(text);
    assert_eq!(place.run(&["doctor", "--strict"]).await.exit, 1, "with --strict a warning counts");
    let report = place.doctor(&[]).await;
    let codes = [
        "folder.check",
        "provider.session",
        "twilio.account",
        "number.unchecked",
        "public.server",
        "public.signature",
        "public.stream",
        "clock.skew",
    ];
    report.assert_fine("all", &codes);
    report.assert_bad("all", "", &[("setting.out_of_reach", "warning")]);
    assert!(twilio.changes().is_empty());
    assert!(
        model.sessions().iter().all(|session| session.events.is_empty()),
        "nothing is asked of the model"
    );
}

/// One snapshot of the whole text, with nothing as it should be.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fine() {
    let place = Place { folder: tempfile::tempdir().unwrap(), environment: BTreeMap::new() };
    // Nothing is asked outside this machine.
    let place = place.with(&[("OPENAI_REALTIME_URL", "ws://127.0.0.1:9")]);
    place.file(".env", "PORT=many\nwhat is this\nTWILIO_AUTH_TOKEN=hush-hush\n");
    let env_file = place.folder.path().join(".env");
    std::fs::set_permissions(env_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    place.file("switchboard.yaml", "prot: 1\n");
    let report = place.run(&["doctor"]).await;
    assert_eq!(report.exit, 1);
    insta::assert_snapshot!(report.out);
}

#[tokio::test]
async fn wrong_usage_exits_with_two() {
    assert_eq!(Place::new().run(&["doctor", "--format", "xml"]).await.exit, 2);
}

/// The permissions of a file.
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_reader_that_stops_causes_no_panic() {
    let place = Place::new();
    let mut command = place.command(&["doctor"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends in time").unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.contains("panicked")), (Some(1), false), "{err}");
}
