//! `serve --tunnel` as a person starts it, with a fake cloudflared and a simulated Twilio.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;
use switchboard_simulator::twilio::{ACCOUNT, AccountOptions, RestFault, RestServer, number};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const URL: &str = "https://four-random-words-here.trycloudflare.com";
const OLD: &str = "https://old.example.com/voice";
const OLD_STATUS: &str = "https://old.example.com/status";
const NUMBER: &str = "+15550100001";

/// Prints what cloudflared prints.
const CLOUDFLARED: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" > "$here/arguments"
env > "$here/environment"
say() { echo "2026-03-02T10:00:00Z INF $1" >&2; }
say "Thank you for trying Cloudflare Tunnel. Doing so, without a Cloudflare account, is a quick way to experiment."
say "Requesting new quick Tunnel on trycloudflare.com..."
say "+--------------------------------------------------------------------------------------------+"
say "|  Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):  |"
say "|  https://four-random-words-here.trycloudflare.com                                          |"
say "+--------------------------------------------------------------------------------------------+"
say "Version 2026.2.0"
say "Registered tunnel connection connIndex=0 connection=0 event=0 ip=192.0.2.1 location=ams07 protocol=quic"
echo $$ > "$here/pid.new" && mv "$here/pid.new" "$here/pid"
exec sleep 600
"#;

/// A folder with a fake cloudflared, and an account that owns a number.
struct Desk {
    folder: tempfile::TempDir,
    twilio: RestServer,
}

/// A running server; killed when dropped.
struct Serving {
    child: Child,
    lines: Receiver<String>,
    output: String,
}

fn old_number() -> Value {
    let mut number = number(1, NUMBER);
    number["voice_url"] = OLD.into();
    number["voice_method"] = "GET".into();
    number["status_callback"] = OLD_STATUS.into();
    number["voice_fallback_url"] = "https://old.example.com/fallback".into();
    number
}

impl Desk {
    async fn open(cloudflared: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["assistants", "bin"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        if let Some(script) = cloudflared {
            let program = folder.path().join("bin/cloudflared");
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let numbers = vec![old_number(), number(2, "+15550100002")];
        let twilio =
            RestServer::start(AccountOptions { numbers, ..AccountOptions::default() }).await.unwrap();
        let desk = Self { folder, twilio };
        desk.list(NUMBER);
        desk
    }

    /// Gives the folder's assistant this number.
    fn list(&self, number: &str) {
        let text = format!("numbers: [\"{number}\"]\ninstructions: You answer the phone.\n");
        std::fs::write(self.path("assistants/desk.yaml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A command in the folder, with every required setting.
    fn command(&self, program: &str) -> Command {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_clear().envs([
            ("PATH", path.as_str()),
            ("OPENAI_API_KEY", "sk-simulated"),
            ("OPENAI_REALTIME_URL", "ws://127.0.0.1:9/v1/realtime"),
            ("TWILIO_AUTH_TOKEN", "12345"),
            ("TWILIO_ACCOUNT_SID", ACCOUNT),
            ("TWILIO_API_URL", self.twilio.url()),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
        ]);
        command
    }

    fn serve(&self, arguments: &[&str], more: &[(&str, &str)]) -> Serving {
        let mut command = self.command(env!("CARGO_BIN_EXE_switchboard"));
        command.arg("serve").args(arguments);
        command.envs(more.iter().copied()).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (line_tx, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| line_tx.send(line))
        });
        Serving { child, lines, output: String::new() }
    }

    /// The number as Twilio has it.
    fn number(&self) -> Value {
        self.twilio.number(NUMBER)
    }

    #[track_caller]
    fn assert_as_before(&self) {
        let (mut now, before) = (self.number(), old_number());
        now["date_updated"] = before["date_updated"].clone();
        assert_eq!(now, before);
    }

    #[track_caller]
    fn assert_nothing_runs(&self) {
        let pid = self.read("bin/pid");
        let process = Path::new("/proc").join(pid.trim());
        let until = Instant::now() + PATIENCE;
        while !pid.is_empty() && process.exists() {
            assert!(Instant::now() < until, "cloudflared outlived us");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Serving {
    /// The next line that holds `words`.
    #[track_caller]
    fn line(&mut self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.output.push_str(&line);
                    self.output.push('\n');
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(_) => panic!("no line has `{words}`:\n{}", self.output),
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Its exit code and its output, once it ends by itself.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        let output = loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.output.push_str(&line);
                    self.output.push('\n');
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    break std::mem::take(&mut self.output);
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the server does not end:\n{}", self.output)
                }
            }
        };
        let code = self.child.wait().unwrap().code();
        for never in ["15550100001", "5550100002", "panicked", "sk-simulated"] {
            assert!(!output.contains(never), "{never} is in\n{output}");
        }
        (code, output)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of a webhook that is signed for this address.
fn call_status(address: &str, public_url: &str) -> u16 {
    let body = "CallSid=CA00000000000000000000000000000001&CallStatus=completed";
    let signed =
        format!("{public_url}/call-statusCallSidCA00000000000000000000000000000001CallStatuscompleted");
    let mut mac = Hmac::<Sha1>::new_from_slice(b"12345").unwrap();
    mac.update(signed.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut socket = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /call-status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Twilio-Signature: {signature}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_points_at_the_tunnel_and_then_back() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let public = [("PUBLIC_URL", "https://phone.example.com")];
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &public);
    serving.line("PUBLIC_URL is not used");
    let pointed = serving.line("Pointed the number at the tunnel");
    assert!(
        pointed.contains(OLD) && pointed.contains("+1555•••01"),
        "the owner can point it back: {pointed}"
    );
    let ready: Value = serde_json::from_str(&serving.line("\"Ready\"")).unwrap();
    assert_eq!(ready["public_url"], URL);
    let address = ready["address"].as_str().unwrap();
    let arguments = desk.read("bin/arguments");
    let expected = format!("tunnel --no-autoupdate --config /dev/null --url http://{address}\n");
    assert_eq!(arguments, expected);
    assert_eq!(call_status(address, URL), 204);
    assert_eq!(call_status(address, "https://phone.example.com"), 403);
    let now = desk.number();
    assert_eq!(now["voice_url"], format!("{URL}/incoming-call"));
    assert_eq!((&now["voice_method"], &now["status_callback_method"]), (&"POST".into(), &"POST".into()));
    assert_eq!(now["status_callback"], format!("{URL}/call-status"));
    assert_eq!(now["voice_fallback_url"], "https://old.example.com/fallback");
    for secret in ["12345", "sk-simulated"] {
        assert!(!desk.read("bin/environment").contains(secret), "cloudflared gets no secret of ours");
    }
    serving.signal("TERM");
    let (code, output) = serving.end();
    assert_eq!(code, Some(0), "{output}");
    let at = |words: &str| output.find(words).unwrap_or_else(|| panic!("`{words}` is not in {output}"));
    assert!(at("Restored the number") < at("Draining"), "new calls go elsewhere while old ones end");
    desk.assert_as_before();
    desk.assert_nothing_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_terminal_closes_the_number_is_pointed_back() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
    serving.line("\"Ready\"");
    serving.signal("HUP");
    let (code, output) = serving.end();
    assert_eq!(code, Some(0), "{output}");
    desk.assert_as_before();
    desk.assert_nothing_runs();
    assert!(!desk.path("state/tunnel.json").exists());
}

/// Waits until it is so.
#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The system sends SIGHUP only to `make`, which leads the terminal's session and waits for us.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn when_the_terminal_of_make_closes_the_number_is_pointed_back() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let recipe = format!(
        "tunnel:\n\t@{} serve --tunnel --number {NUMBER}; echo $$? > code.new; mv code.new code\n",
        env!("CARGO_BIN_EXE_switchboard")
    );
    std::fs::write(desk.path("Makefile"), recipe).unwrap();
    // `script` makes a terminal, records it, and closes it when it ends.
    let mut terminal = desk.command("script");
    terminal.args(["--quiet", "--flush", "--command", "exec make tunnel", "seen"]).env("SHELL", "/bin/sh");
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let seen = |words: &str| wait_for(words, || desk.read("seen").contains(words));
    seen("Ready");
    let plain = desk.read("seen").split('\u{1b}').collect::<String>();
    let address = plain.split("127.0.0.1:").nth(1).unwrap();
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    // Input, and its end, does not end the server.
    terminal.stdin.as_mut().unwrap().write_all(b"typed\n\x04").unwrap();
    seen("typed");
    assert_eq!(call_status(&format!("127.0.0.1:{port}"), URL), 204);
    assert_eq!(desk.number()["voice_url"], format!("{URL}/incoming-call"));

    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_for("the number is restored", || desk.number()["voice_url"] == OLD);
    desk.assert_as_before();
    wait_for("it ends", || desk.path("code").exists());
    assert_eq!(desk.read("code"), "0\n", "writing to the closed terminal breaks nothing");
    desk.assert_nothing_runs();
    assert!(!desk.path("state/tunnel.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tunnel_leaves_the_first_one_its_number() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut first = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
    first.line("\"Ready\"");
    let (code, output) = desk.serve(&["--tunnel"], &[]).end();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("another tunnel of this folder is open"), "{output}");
    assert_eq!(desk.number()["voice_url"], format!("{URL}/incoming-call"));
    first.signal("TERM");
    assert_eq!(first.end().0, Some(0));
    desk.assert_as_before();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_too_a_killed_tunnels_number_is_pointed_back_by_the_next() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut killed = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
    killed.line("\"Ready\"");
    killed.signal("KILL");
    killed.end();
    assert_eq!(desk.number()["voice_url"], format!("{URL}/incoming-call"));
    let mut next = desk.serve(&["--tunnel"], &[]);
    next.line("An earlier tunnel was killed");
    next.line("\"Ready\"");
    desk.assert_as_before();
    next.signal("TERM");
    assert_eq!(next.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_number_the_account_is_not_changed() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    // Standard input is no terminal, so there is no question.
    let mut serving = desk.serve(&["--tunnel"], &[]);
    assert!(serving.line("No number points at the tunnel").contains(&format!("{URL}/incoming-call")));
    serving.line("\"Ready\"");
    serving.signal("INT");
    assert_eq!(serving.end().0, Some(0));
    assert!(desk.twilio.changes().is_empty());
    desk.assert_nothing_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_cloudflared_dies_the_number_is_pointed_back_and_the_exit_code_is_one() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
    serving.line("\"Ready\"");
    assert!(Command::new("kill").arg(desk.read("bin/pid").trim()).status().unwrap().success());
    let (code, output) = serving.end();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("The tunnel ended"), "{output}");
    assert!(output.contains("Registered tunnel connection"), "{output}");
    desk.assert_as_before();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_tunnels_number_is_pointed_back_by_the_next() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let state = desk.path("state").display().to_string();
    let state = [("STATE_DIR", state.as_str())];
    let mut killed = desk.serve(&["--tunnel", "--number", NUMBER], &state);
    killed.line("\"Ready\"");
    killed.signal("KILL");
    killed.end();
    desk.assert_nothing_runs();
    let mode = std::fs::metadata(desk.path("state/tunnel.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(desk.number()["voice_url"], format!("{URL}/incoming-call"));
    assert!(!desk.read("state/tunnel.json").contains("5550100001"), "no number is on the disk");

    let mut next = desk.serve(&["--tunnel"], &state);
    next.line("An earlier tunnel was killed");
    next.line("\"Ready\"");
    desk.assert_as_before();
    assert!(!desk.path("state/tunnel.json").exists());
    next.signal("TERM");
    assert_eq!(next.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn surprises_for_the_owner_are_logged() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    desk.twilio.edit(|account| {
        account.numbers[0]["voice_url"] = "https://an-older-one.trycloudflare.com/incoming-call".into();
    });
    let functions = [("TWILIO_FUNCTIONS_URL", "https://functions.example.com")];
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &functions);
    serving.line("The number pointed at another tunnel");
    serving.line("The allowlist Function does not guard the tunnel");
    serving.line("\"Ready\"");
    assert_eq!(desk.number()["voice_url"], format!("{URL}/incoming-call"));
    serving.signal("TERM");
    assert_eq!(serving.end().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_was_changed_meanwhile_stays() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
    serving.line("\"Ready\"");
    desk.twilio.edit(|account| account.numbers[0]["voice_url"] = "https://new.example.com/voice".into());
    serving.signal("TERM");
    assert_eq!(serving.end().0, Some(0));
    let now = desk.number();
    assert_eq!(
        (&now["voice_url"], &now["voice_method"]),
        (&"https://new.example.com/voice".into(), &"POST".into())
    );
    assert_eq!(now["status_callback"], OLD_STATUS, "this one was not changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_cannot_be_pointed_back_is_reported_with_its_old_url() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let state = desk.path("state").display().to_string();
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &[("STATE_DIR", &state)]);
    serving.line("\"Ready\"");
    desk.twilio.plan("", usize::MAX, RestFault::Refuse { status: 401, code: 20003 });
    serving.signal("TERM");
    let (code, output) = serving.end();
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("still points at the closed tunnel")
            && output.contains(OLD)
            && output.contains("20003"),
        "{output}"
    );
    assert!(desk.path("state/tunnel.json").exists(), "the next tunnel tries again");
    desk.assert_nothing_runs();
}

/// After an answer that proves nothing, the number can still be restored later.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_counts_as_pointed_back_only_if_twilio_shows_it() {
    let mut by_post = old_number();
    by_post["voice_method"] = "POST".into();
    let mut tunnelled = old_number();
    tunnelled["voice_url"] = format!("{URL}/incoming-call").into();
    let not_done = "did not do it";
    for (what, only, fault, words) in [
        ("a login page's 404", "", RestFault::Proxy { status: 404 }, "not Twilio's REST API"),
        ("another 404", "", RestFault::Refuse { status: 404, code: 20001 }, "error 20001"),
        ("a success without effect", "POST ", RestFault::Answer(tunnelled), not_done),
        ("a success without the method", "POST ", RestFault::Answer(by_post), not_done),
        ("another number's answer", "GET ", RestFault::Answer(number(2, "+15550100002")), "not Twilio's"),
    ] {
        let desk = Desk::open(Some(CLOUDFLARED)).await;
        let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
        serving.line("\"Ready\"");
        desk.twilio.plan(only, usize::MAX, fault);
        serving.signal("TERM");
        let (code, output) = serving.end();
        assert_eq!(code, Some(1), "{what}: {output}");
        assert!(
            output.contains("still points at the closed tunnel") && output.contains(words),
            "{what}: {output}"
        );
        assert!(
            !output.contains("Restored the number") && desk.path("state/tunnel.json").exists(),
            "{what}: {output}"
        );
    }
    // The number was released.
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut serving = desk.serve(&["--tunnel", "--number", NUMBER], &[]);
    serving.line("\"Ready\"");
    desk.twilio.edit(|account| account.numbers.clear());
    serving.signal("TERM");
    let (code, output) = serving.end();
    assert!(code == Some(0) && output.contains("has left the account"), "{output}");
    assert!(!desk.path("state/tunnel.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_without_effect_is_an_error() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    desk.twilio.plan("POST ", usize::MAX, RestFault::Answer(old_number()));
    let (code, output) = desk.serve(&["--tunnel", "--number", NUMBER], &[]).end();
    assert!(code == Some(1) && output.contains("could not be pointed at the tunnel"), "{output}");
    assert!(
        !output.contains("Pointed the number at the tunnel") && !desk.path("state/tunnel.json").exists(),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn if_no_number_can_be_pointed_the_log_shows_why() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let mut serving = desk.serve(&["--tunnel"], &[("TWILIO_ACCOUNT_SID", "")]);
    let why = serving.line("No number can be pointed at the tunnel");
    assert!(why.contains("WARN") && why.contains("TWILIO_ACCOUNT_SID"), "{why}");
    serving.signal("TERM");
    assert_eq!(serving.end().0, Some(0));
    // At a terminal, with a wrong digit in the number.
    desk.list("+12025550199");
    desk.twilio.edit(|account| account.numbers.truncate(1));
    let mut terminal = desk.command("script");
    let program = format!("exec {} serve --tunnel", env!("CARGO_BIN_EXE_switchboard"));
    terminal.args(["--quiet", "--flush", "--command", &program, "seen"]).env("SHELL", "/bin/sh");
    let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let seen = |words: &str| wait_for(words, || desk.read("seen").contains(words));
    seen("No number can be pointed at the tunnel");
    seen("Ready");
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    desk.assert_nothing_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_no_number_pointed_at_the_tunnel() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    // Twilio does what was asked, but each answer is lost.
    desk.twilio.plan("POST ", 4, RestFault::BreakAfter { status: 500 });
    let (code, output) = desk.serve(&["--tunnel", "--number", NUMBER], &[]).end();
    assert!(code == Some(1) && output.contains("could not be pointed at the tunnel"), "{output}");
    assert_eq!(desk.twilio.changes().len(), 5);
    desk.assert_as_before();
    desk.assert_nothing_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_reported_before_cloudflared_starts() {
    let desk = Desk::open(Some(CLOUDFLARED)).await;
    let token = [("TWILIO_AUTH_TOKEN", "wrong")];
    let account = [("TWILIO_ACCOUNT_SID", "")];
    let key = [("OPENAI_API_KEY", "")];
    for (what, arguments, more, code, words) in [
        ("not owned", &["--tunnel", "--number", "+15550100009"][..], &[][..], 1, "does not own it"),
        ("nobody answers it", &["--tunnel", "--number", "+15550100002"], &[], 1, "no assistant answers it"),
        ("bad credentials", &["--tunnel", "--number", NUMBER], &token, 1, "error 20003"),
        ("no credentials", &["--tunnel", "--number", NUMBER], &account, 1, "TWILIO_ACCOUNT_SID is not set"),
        ("a setting is missing", &["--tunnel"], &key, 1, "OPENAI_API_KEY is not set"),
        ("no number", &["--tunnel", "--number", "5550"], &[], 2, "`--number 5550`"),
        ("no tunnel", &["--number", NUMBER], &[], 2, "--tunnel"),
    ] {
        let mut serving = desk.serve(arguments, more);
        let output = loop {
            match serving.lines.recv_timeout(PATIENCE) {
                Ok(line) => serving.output.push_str(&line),
                Err(_) => break serving.output.clone(),
            }
        };
        assert_eq!(serving.child.wait().unwrap().code(), Some(code), "{what}: {output}");
        assert!(output.contains(words), "{what}: {output}");
    }
    assert!(!desk.path("bin/arguments").exists(), "cloudflared was started");
    assert!(desk.twilio.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tunnel_the_server_does_not_start() {
    let desk = Desk::open(None).await;
    let (code, output) = desk.serve(&["--tunnel", "--number", NUMBER], &[]).end();
    assert!(code == Some(1) && output.contains("`cloudflared` is not installed"), "{output}");

    let refused = "#!/bin/sh\necho 'ERR Error unmarshaling QuickTunnel response: error code: 1015 \
                   status_code=\"429 Too Many Requests\"' >&2\nexit 1\n";
    let desk = Desk::open(Some(refused)).await;
    let (code, output) = desk.serve(&["--tunnel", "--number", NUMBER], &[]).end();
    assert!(code == Some(1) && output.contains("429 Too Many Requests"), "{output}");
    assert!(desk.twilio.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_wait_for_a_tunnel() {
    let silent = "#!/bin/sh\nhere=$(dirname \"$0\")\necho $$ > \"$here/pid\"\nexec sleep 600\n";
    let desk = Desk::open(Some(silent)).await;
    let mut serving = desk.serve(&["--tunnel"], &[]);
    serving.line("Opening a tunnel");
    let until = Instant::now() + PATIENCE;
    while desk.read("bin/pid").is_empty() {
        assert!(Instant::now() < until, "cloudflared is started");
        std::thread::sleep(Duration::from_millis(10));
    }
    serving.signal("INT");
    let (code, output) = serving.end();
    assert_eq!(code, Some(0), "{output}");
    desk.assert_nothing_runs();
    assert_eq!(desk.twilio.changes(), []);
    assert_eq!(json!(desk.number()["voice_url"]), OLD);
}
