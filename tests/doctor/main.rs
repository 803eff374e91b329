//! `switchboard doctor`, the program itself, against a running `switchboard serve` behind proxies that misbehave, a
//! simulated model and a simulated Twilio that do, and whatever else stands where it should not.
//!
//! Whatever is printed is read: a secret or a whole phone number in it fails the test.

mod account;
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

/// How long one check-up may take, whatever goes wrong: the program's own limits are shorter.
const PATIENCE: Duration = Duration::from_secs(80);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OTHER_TOKEN: &str = "fedcba9876543210fedcba9876543210";
const KEY: &str = "sk-simulated";
/// What stands in tokens of tools, and nowhere else.
const WHISPER: &str = "hush-hush";
const CLINIC: &str = "numbers: [\"+15550100001\"]\ninstructions: You answer the phone.\n";

/// A folder to run in, with what is set there.
struct Place {
    folder: TempDir,
    environment: BTreeMap<String, String>,
}

/// What a check-up said.
struct Told {
    code: i32,
    out: String,
    err: String,
    /// Empty where it was text.
    findings: Vec<Value>,
}

impl Place {
    /// An assistant, and no setting but a token. Nothing of the network is set: what is asked is refused.
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

    /// Runs the check-up, and reads what it found.
    async fn doctor(&self, arguments: &[&str]) -> Told {
        let arguments = [&["doctor", "--format", "json"], arguments].concat();
        let mut told = self.run(&arguments).await;
        told.findings = match serde_json::from_str(&told.out) {
            Ok(Value::Array(findings)) => findings,
            other => panic!("no findings but {other:?} in {}{}", told.out, told.err),
        };
        for finding in told.findings.iter().filter(|finding| finding["severity"] != "ok") {
            let fix = finding["fix"].as_str().unwrap_or_default();
            assert!(!fix.is_empty(), "what is wrong can be mended: {finding}");
        }
        let bad = told.findings.iter().any(|finding| finding["severity"] == "error");
        assert!(arguments.contains(&"--strict") || (told.code == 1) == bad, "{}: {}", told.code, told.out);
        told
    }

    async fn run(&self, arguments: &[&str]) -> Told {
        let output = timeout(PATIENCE, self.command(arguments).output()).await;
        let output = output.expect("it ends in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for never in [TOKEN, OTHER_TOKEN, KEY, WHISPER, "5550100001", "5550100002", "panicked"] {
            assert!(!out.contains(never) && !err.contains(never), "`{never}` is in\n{out}{err}");
        }
        Told { code: output.status.code().unwrap(), out, err, findings: Vec::new() }
    }
}

impl Told {
    /// All findings of a name.
    fn all(&self, check: &str) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["check"] == check).collect()
    }

    /// The one finding of a name has this severity, and these words in its message, its cause and its fix.
    #[track_caller]
    fn says(&self, what: &str, check: &str, severity: &str, words: [&str; 3]) {
        let found: Vec<&Value> =
            self.all(check).into_iter().filter(|finding| finding["severity"] == severity).collect();
        let fits = |finding: &&Value| {
            let texts = ["message", "cause", "fix"].map(|name| finding[name].as_str().unwrap_or_default());
            texts.iter().zip(words).all(|(text, words)| text.contains(words))
        };
        let fitting = found.iter().filter(|finding| fits(finding)).count();
        assert_eq!(fitting, 1, "{what}: no one `{severity}` of `{check}` with {words:?} in\n{}", self.out);
    }

    /// Nothing is said under these names.
    #[track_caller]
    fn silent(&self, what: &str, checks: &[&str]) {
        for check in checks {
            assert!(self.all(check).is_empty(), "{what}: `{check}` is told in\n{}", self.out);
        }
    }

    /// Everything under these names is fine, and something is.
    #[track_caller]
    fn fine(&self, what: &str, checks: &[&str]) {
        for check in checks {
            let found = self.all(check);
            let fine = !found.is_empty() && found.iter().all(|finding| finding["severity"] == "ok");
            assert!(fine, "{what}: `{check}` is not fine in\n{}", self.out);
        }
    }
}

/// A program that serves; killed when dropped.
struct Serving {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Serving {
    /// Serves one assistant on a port of its own choice.
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
            let line = lines.next().expect("the program says that it is ready").unwrap();
            if line.contains("\"Ready\"") {
                break line
                    .split("\"address\":\"127.0.0.1:")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
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

/// Twilio, with the token of these tests.
async fn twilio(numbers: Vec<Value>) -> RestServer {
    let credentials = vec![(ACCOUNT.to_owned(), TOKEN.to_owned())];
    RestServer::start(AccountOptions { credentials, numbers, ..AccountOptions::default() }).await.unwrap()
}

/// Everything as it should be, behind a proxy that only passes on: the whole text, read by a person.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_fine_and_says_so() {
    let proxy = Proxy::start(Habit::Plain).await;
    let serving = Serving::start(&proxy.url, TOKEN);
    proxy.lead_to(serving.port);
    let model = ModelServer::start(ModelOptions::default()).await.unwrap();
    let twilio = twilio(vec![right(1, "+15550100001", &proxy.url)]).await;
    let url = model.url();
    let place = Place::new().with(&[
        ("OPENAI_REALTIME_URL", &url),
        ("PUBLIC_URL", &proxy.url),
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_API_URL", twilio.url()),
    ]);
    let told = place.run(&["doctor"]).await;
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{}", told.out);
    let port = |url: &str| url.split(['/', ':']).nth(4).unwrap().to_owned();
    let text = told.out.replace(&port(&url), "PORT").replace(&port(&proxy.url), "PORT");
    insta::assert_snapshot!(text);
    assert_eq!(place.run(&["doctor", "--strict"]).await.code, 1, "warnings count where they are to");
    let told = place.doctor(&[]).await;
    let checks = [
        "provider.session",
        "twilio.account",
        "number.ok",
        "public.server",
        "public.signature",
        "public.stream",
    ];
    told.fine("all is well", &checks);
    told.fine("all is well", &["clock.skew", "folder.check"]);
    // Looking changes nothing, and opens no call.
    assert!(twilio.changes().is_empty());
    for session in model.sessions() {
        assert_eq!(session.events.len(), 0, "nothing was asked of the model");
    }
}

#[tokio::test]
async fn wrong_usage_is_two() {
    assert_eq!(Place::new().run(&["doctor", "--format", "xml"]).await.code, 2);
}

/// Reads a file of the place.
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// As behind `| head`: whoever reads has read enough, and that is nobody's fault.
#[tokio::test]
async fn nobody_who_reads_is_no_panic() {
    let place = Place::new();
    for arguments in [&["doctor"][..], &["doctor", "--format", "json"]] {
        let mut child =
            place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends in time").unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.contains("panicked")), (Some(1), false), "{err}");
    }
}
