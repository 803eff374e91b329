//! What a deployment is made of, read against the program: `fly.toml`, `Dockerfile`, `docker-compose.yml`,
//! `.env.example`, the Functions' settings, the Makefile; and that nothing real stands in any file.

mod make;
mod real;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchboard::phone::Party;
use switchboard::process::SPARE_CONNECTIONS;
use switchboard::settings::{self, Settings, Sources, env_file};

/// A goodbye, and what is told to others when the last call has ended.
const LAST_WORDS: Duration = Duration::from_secs(15);

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn fly() -> toml::Table {
    read("fly.toml").parse().unwrap()
}

/// What a machine on Fly gets from `[env]`.
fn fly_environment() -> BTreeMap<String, String> {
    let texts = fly()["env"].as_table().unwrap().clone();
    texts
        .into_iter()
        .map(|(name, value)| (name, value.as_str().expect("a text, as Fly wants it").to_owned()))
        .collect()
}

fn settings_of(environment: BTreeMap<String, String>) -> Settings {
    Settings::checked(&Sources { file: None, environment }).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// `300`, `5s`, `10m`.
fn time(value: &toml::Value) -> Duration {
    match value {
        toml::Value::Integer(seconds) => Duration::from_secs((*seconds).try_into().unwrap()),
        toml::Value::String(text) => seconds(text),
        other => panic!("{other:?} is no time"),
    }
}

fn seconds(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    Duration::from_secs(match unit {
        "s" => number,
        "m" => number * 60,
        _ => panic!("{text} is no time"),
    })
}

/// One stage of the Dockerfile.
struct Stage {
    name: String,
    base: String,
    /// Name and arguments, in order.
    instructions: Vec<(String, String)>,
}

impl Stage {
    /// The arguments of every instruction of that name.
    fn all(&self, name: &str) -> Vec<&str> {
        self.instructions.iter().filter(|(found, _)| found == name).map(|(_, rest)| rest.as_str()).collect()
    }
}

fn stages() -> Vec<Stage> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let mut stages: Vec<Stage> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').expect("an instruction says something");
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        if name == "FROM" {
            let (base, name) = rest.split_once(" AS ").expect("every stage has a name");
            let (name, base) = (name.to_owned(), base.to_owned());
            stages.push(Stage { name, base, instructions: Vec::new() });
        } else {
            stages.last_mut().expect("FROM comes first").instructions.push((name.to_owned(), rest));
        }
    }
    stages
}

#[test]
fn fly_and_the_program_agree() {
    let fly = fly();
    let environment = fly_environment();
    for name in environment.keys() {
        assert!(settings::names().any(|known| known == name), "[env] sets {name}, which is no setting");
    }
    let settings = settings_of(environment);
    let service = &fly["http_service"];
    assert_eq!(service["internal_port"].as_integer(), Some(settings.port.into()));
    assert_eq!(fly["metrics"]["port"].as_integer(), settings.metrics_port.map(Into::into));
    assert_ne!(settings.metrics_port, Some(settings.port));

    // A machine is stopped by nobody but a deployment, and a deployment waits for its calls.
    assert_eq!(service["auto_stop_machines"].as_str(), Some("off"));
    assert_eq!(fly["kill_signal"].as_str(), Some("SIGTERM"));
    let kill = time(&fly["kill_timeout"]);
    assert!(kill <= Duration::from_secs(300), "Fly waits no longer");
    assert!(settings.drain + LAST_WORDS <= kill, "calls are cut: {:?} of {kill:?}", settings.drain);
    assert_eq!(fly["deploy"]["strategy"].as_str(), Some("bluegreen"));
    assert!(time(&fly["deploy"]["wait_timeout"]) >= kill + Duration::from_secs(120));
    assert!(fly.get("mounts").is_none(), "no volume goes with bluegreen");

    // Room for the webhooks beside as many calls as there may be: full machines answer, too. And the server, which knows
    // strangers from callers, makes room before Fly's proxy lets nobody in.
    let concurrency = &service["concurrency"];
    assert_eq!(concurrency["type"].as_str(), Some("connections"));
    let calls = i64::try_from(settings.max_calls).unwrap();
    let others = i64::try_from(SPARE_CONNECTIONS).unwrap();
    assert!(concurrency["hard_limit"].as_integer().unwrap() > calls + others);
    assert!(concurrency["soft_limit"].as_integer().unwrap() <= calls);

    let checks = service["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["path"].as_str() == Some("/readyz")),
        "it alone says `no new calls`"
    );
    assert_eq!(fly["build"]["dockerfile"].as_str(), Some("Dockerfile"));
}

#[test]
fn what_fly_and_docker_ask_of_the_program_it_answers() {
    let fly = fly();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("assistants")).unwrap();
    let assistant = "numbers: [\"*\"]\ninstructions: You answer the phone.\n";
    std::fs::write(folder.path().join("assistants/a.yaml"), assistant).unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, metrics) = (free(), free());
    let mut child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .arg("serve")
        .current_dir(folder.path())
        .env_clear()
        .envs(fly_environment())
        .envs([("PORT", port.to_string()), ("METRICS_PORT", metrics.to_string())])
        .envs([
            ("HOST", "127.0.0.1"),
            ("PUBLIC_URL", "https://phone.example.com"),
            ("OPENAI_API_KEY", "sk-simulated"),
            ("TWILIO_AUTH_TOKEN", "12345"),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"Ready\"")));
    let status = |port: u16, path: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let mut asked = vec![(metrics, fly["metrics"]["path"].as_str().unwrap().to_owned())];
    for check in fly["http_service"]["checks"].as_array().unwrap() {
        asked.push((port, check["path"].as_str().unwrap().to_owned()));
    }
    for stage in stages() {
        for check in stage.all("HEALTHCHECK") {
            asked.push((port, health_url(check).path().to_owned()));
        }
    }
    let answers: Vec<_> = asked.iter().map(|(port, path)| (path, status(*port, path))).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready.is_some());
    assert_eq!(answers.len(), 4, "{answers:?}");
    for (path, status) in answers {
        assert_eq!(status, "200", "{path}");
    }
}

/// Where a HEALTHCHECK looks.
fn health_url(check: &str) -> url::Url {
    let command = check.split_once("CMD ").unwrap().1;
    let command: Vec<String> = serde_json::from_str(command).expect("exec form: there is no shell");
    command.last().unwrap().parse().unwrap()
}

#[test]
fn the_image_is_the_program_and_little_else() {
    let port = settings_of(BTreeMap::new()).port;
    let stages = stages();
    let [build, images @ ..] = &stages[..] else { panic!("no stage") };
    assert_eq!(build.name, "build");

    // The compiler is new enough, and everything that Cargo.toml names is there.
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let tag = build.base.strip_prefix("rust:").and_then(|tag| tag.split('-').next()).unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(version(tag) >= version(oldest), "{tag}");
    for folder in ["Cargo.toml Cargo.lock ./", "src src", "crates crates", "benches benches"] {
        assert!(build.all("COPY").contains(&folder), "{folder}");
    }
    let built = build.all("RUN").iter().filter(|run| run.contains("cargo build --release --locked")).count();
    assert_eq!(built, 1);

    let release = |base: &str| ["trixie", "debian13"].iter().any(|name| base.contains(name));
    assert!(stages.iter().all(|stage| release(&stage.base)), "the same C library everywhere");
    assert_eq!(
        images.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(),
        ["with-node", "switchboard"]
    );
    for stage in images {
        let name = &stage.name;
        assert_eq!(stage.base.contains("node:"), name == "with-node", "Node is in one of them only");
        assert_eq!(stage.all("USER").len(), 1, "{name} runs as root");
        assert!(!["root", "0"].contains(&stage.all("USER")[0]));
        assert_eq!(stage.all("EXPOSE"), [port.to_string()]);
        let entry: Vec<String> = serde_json::from_str(stage.all("ENTRYPOINT")[0]).expect("exec form");
        assert_eq!(entry, ["/usr/local/bin/switchboard"]);
        assert_eq!(stage.all("CMD"), ["[\"serve\"]"]);
        assert!(stage.all("COPY").contains(&"assistants assistants"), "{name} has no assistants");
        assert_eq!(stage.all("WORKDIR"), ["/app"], "where the program looks for them");
        let checks = stage.all("HEALTHCHECK");
        assert_eq!(health_url(checks[0]).port(), Some(port));
        let wget = "--from=busybox:1.37.0-musl /bin/wget /bin/wget";
        assert!(stage.all("COPY").contains(&wget), "the check needs it");
        let certificates = "/etc/ssl/certs/ca-certificates.crt";
        let own = stage.all("COPY").iter().any(|copy| copy.ends_with(certificates));
        assert!(own || stage.base.contains("distroless/"), "{name} trusts nobody, so it reaches no model");
    }

    // What is copied is not ignored, and is there; what may be secret is ignored.
    let ignore = read(".dockerignore");
    let mut rules = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"), "closed by default");
    let open: BTreeSet<&str> = rules.map(|rule| rule.strip_prefix('!').expect("it only opens")).collect();
    for stage in &stages {
        for copy in stage.all("COPY").into_iter().filter(|copy| !copy.starts_with("--from")) {
            let (sources, _) = copy.rsplit_once(' ').unwrap();
            for source in sources.split(' ') {
                if source == "switchboard.yam[l]" {
                    assert!(open.contains("switchboard.yaml"));
                    continue;
                }
                assert!(open.contains(source), "{source} is copied, and .dockerignore hides it");
                assert!(path(source).exists(), "{source} is copied, and is not there");
            }
        }
    }
    assert!(!open.iter().any(|rule| rule.contains(".env") || rule.contains('*')), "{open:?}");
}

#[test]
fn compose_serves_what_the_image_is() {
    let compose: Value = serde_yaml::from_str(&read("docker-compose.yml")).unwrap();
    let services = &compose["services"];
    let settings = settings_of(BTreeMap::new());
    let port = settings.port;
    let server = &services["switchboard"];
    assert_eq!(server["build"], ".");
    assert!(server["profiles"].is_null(), "it starts without being asked for by name");
    // For this machine's proxy alone: a firewall of the host does not stop what Docker publishes.
    assert_eq!(server["ports"], serde_json::json!([format!("127.0.0.1:{port}:{port}")]));
    assert_eq!(server["environment"]["PORT"], port.to_string());
    for (name, _) in server["environment"].as_object().unwrap() {
        assert!(settings::names().any(|known| known == name), "{name} is no setting");
    }
    assert_eq!(server["env_file"][0]["path"], ".env");
    // What `.env` names are paths of the host; in the container they are these, whatever it says. STATE_DIR is
    // a volume, which takes over the owner that its folder has in the image: nothing else can be written.
    assert_eq!(server["read_only"], true);
    assert_eq!(server["volumes"], serde_json::json!(["./assistants:/app/assistants:ro", "state:/app/state"]));
    assert!(compose["volumes"].as_object().unwrap().contains_key("state"));
    // npx keeps below its home what it fetches, and runs it there: Docker's own default is that nothing runs in /tmp.
    assert_eq!(server["tmpfs"], serde_json::json!(["/tmp:exec"]));
    let node = stages().into_iter().find(|stage| stage.name == "with-node").unwrap();
    assert_eq!(node.all("ENV"), ["HOME=/tmp"]);
    assert_eq!(server["environment"]["ASSISTANTS_DIR"], "assistants");
    assert_eq!(server["environment"]["STATE_DIR"], "state");
    assert_eq!(server["environment"]["SSL_CERT_FILE"], "/etc/ssl/certs/ca-certificates.crt");
    for stage in &stages()[1..] {
        let owned = format!("--from=build --chown={0}:{0} /build/state state", stage.all("USER")[0]);
        assert!(stage.all("COPY").contains(&owned.as_str()), "{}", stage.name);
        assert_eq!(stage.all("WORKDIR"), ["/app"]);
    }
    assert!(stages()[0].all("RUN").iter().any(|run| run.contains("mkdir -p state ")));
    let grace = seconds(server["stop_grace_period"].as_str().unwrap());
    assert!(settings.drain + LAST_WORDS <= grace, "calls are cut");
    let tunnel = &services["cloudflared"];
    assert_eq!(tunnel["profiles"], serde_json::json!(["dev"]));
    assert!(tunnel["command"].as_str().unwrap().ends_with(&format!("--url http://switchboard:{port}")));
}

/// The names that a file of assignments holds, with those that are written behind a `#`; the second text has those
/// taken in.
fn names_in(file: &str) -> (BTreeSet<String>, String) {
    let is_assignment = |line: &str| {
        line.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    let lines: Vec<String> = read(file)
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(hidden) if is_assignment(hidden) => hidden.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let text = lines.join("\n");
    let (read, problems) = env_file::read(file, text.as_bytes());
    let names: BTreeSet<String> = read.values().map(|(name, _)| name).collect();
    let duplicates = read.check(&names, false);
    assert!(problems.is_empty() && duplicates.is_empty(), "{problems:?} {duplicates:?}");
    (names, text)
}

/// What stands after `opening` in a text, up to the first character that belongs to no name.
fn named_after(text: &str, opening: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let found = text.split(opening).skip(1);
    found
        .map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn the_example_of_an_env_has_every_variable_and_no_other() {
    let (names, text) = names_in(".env.example");
    let mut known: BTreeSet<String> = settings::names().map(str::to_owned).collect();
    // `make launch-mcp` hands it to the server that it starts.
    known.insert("TODOIST_API_KEY".to_owned());
    for file in std::fs::read_dir(path("assistants")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "yaml") {
            known.extend(named_after(&std::fs::read_to_string(file).unwrap(), "${"));
        }
    }
    let missing: Vec<_> = known.difference(&names).collect();
    assert!(missing.is_empty(), ".env.example lacks {missing:?}");
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(unknown.is_empty(), "nobody reads {unknown:?} of .env.example");

    // As it stands it sets nothing; with every line taken in, every value is one that could be.
    let plain = env_file::read(".env.example", read(".env.example").as_bytes()).0;
    assert!(plain.values().all(|(_, value)| value.is_empty()), "a copy must say what is missing");
    let environment = env_file::read(".env.example", text.as_bytes()).0.values().collect();
    assert_eq!(Settings::read(&Sources { file: None, environment }).1, []);
}

#[test]
fn the_example_of_the_functions_settings_has_all_that_they_read() {
    let (names, _) = names_in("twilio/.env.example");
    let mut read_there: BTreeSet<String> = ["twilio/allowlist-function.js", "twilio/fallback-function.js"]
        .iter()
        .flat_map(|file| named_after(&read(file), "context."))
        .collect();
    read_there.insert("ALLOWED_NUMBERS".to_owned());
    read_there.insert("ALLOWED_NUMBERS_15550100001".to_owned());
    assert_eq!(names, read_there);
}

#[test]
fn the_functions_and_the_program_know_the_same_withheld_numbers() {
    let known = |file: &str| -> BTreeSet<String> {
        let text = read(file);
        let list = text.split("const WITHHELD").nth(1).and_then(|rest| rest.split("];").next()).unwrap();
        let entries = list.split(['"', '\'']).map(str::to_owned);
        entries.filter(|entry| entry.len() > 4 && entry.bytes().all(|b| b.is_ascii_digit())).collect()
    };
    let program = known("src/phone.rs");
    assert_eq!(known("twilio/allowlist-function.js"), program);
    assert_eq!(program.len(), 5);
    for digits in program {
        for number in [format!("+{digits}"), format!("+1{digits}")] {
            assert!(Party::from_twilio(&number) == Party::Withheld, "{number}");
        }
    }
}

#[test]
fn npm_and_cargo_fetch_from_the_public_registries() {
    for file in ["twilio/package-lock.json", "tests/mcp/package-lock.json"] {
        let lock: Value = serde_json::from_str(&read(file)).unwrap();
        for (name, package) in lock["packages"].as_object().unwrap() {
            let from = package["resolved"].as_str().unwrap_or("https://registry.npmjs.org/");
            assert!(from.starts_with("https://registry.npmjs.org/"), "{file}: {name}");
            assert!(name.is_empty() || package["integrity"].is_string(), "{file}: {name}");
        }
    }
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let from = package.get("source").and_then(toml::Value::as_str);
        assert!(
            from.is_none_or(|from| from == "registry+https://github.com/rust-lang/crates.io-index"),
            "{package:?}"
        );
    }
}
