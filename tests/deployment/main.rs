//! The files of a deployment agree with the program: `fly.toml`, `Dockerfile`, `docker-compose.yml`, `.env.example`,
//! the workflows, the Functions' settings and the Makefile. No file contains anything real.

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

/// For the goodbyes, and for what follows the last call.
const LAST_WORDS: Duration = Duration::from_secs(16);

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn fly() -> toml::Table {
    read("fly.toml").parse().unwrap()
}

/// The environment that `[env]` gives a machine on Fly.
fn fly_environment() -> BTreeMap<String, String> {
    let texts = fly()["env"].as_table().unwrap().clone();
    texts
        .into_iter()
        .map(|(name, value)| (name, value.as_str().expect("Fly accepts strings only").to_owned()))
        .collect()
}

fn settings_from(environment: BTreeMap<String, String>) -> Settings {
    Settings::checked(&Sources { file: None, environment }).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// `300`, `5s`, `10m`.
fn time(value: &toml::Value) -> Duration {
    match value {
        toml::Value::Integer(seconds) => Duration::from_secs((*seconds).try_into().unwrap()),
        toml::Value::String(text) => seconds(text),
        other => panic!("{other:?} is not a duration"),
    }
}

fn seconds(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    Duration::from_secs(match unit {
        "s" => number,
        "m" => number * 60,
        _ => panic!("{text} is not a duration"),
    })
}

/// One stage of the Dockerfile.
struct Stage {
    name: String,
    /// The image, without its digest.
    base: String,
    /// Name and arguments, in order.
    instructions: Vec<(String, String)>,
}

impl Stage {
    /// The arguments of every instruction with this name.
    fn all(&self, name: &str) -> Vec<&str> {
        self.instructions.iter().filter(|(found, _)| found == name).map(|(_, rest)| rest.as_str()).collect()
    }
}

fn stages() -> Vec<Stage> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let mut stages: Vec<Stage> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').expect("an instruction has arguments");
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        if name == "FROM" {
            let (base, name) = rest.split_once(" AS ").expect("every stage has a name");
            let base = pinned(base).to_owned();
            stages.push(Stage { name: name.to_owned(), base, instructions: Vec::new() });
        } else {
            stages.last_mut().expect("an instruction before FROM").instructions.push((name.to_owned(), rest));
        }
    }
    stages
}

/// An image without its digest, which it must have.
fn pinned(image: &str) -> &str {
    let (tag, digest) = image.split_once("@sha256:").unwrap_or_else(|| panic!("{image} has no digest"));
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{image}");
    tag
}

#[test]
fn fly_toml_agrees_with_the_program() {
    let fly = fly();
    let environment = fly_environment();
    for name in environment.keys() {
        assert!(settings::names().any(|known| known == name), "[env] sets {name}, which is not a setting");
    }
    let settings = settings_from(environment);
    let service = &fly["http_service"];
    assert_eq!(service["internal_port"].as_integer(), Some(settings.port.into()));
    assert_eq!(fly["metrics"]["port"].as_integer(), settings.metrics_port.map(Into::into));
    assert_ne!(settings.metrics_port, Some(settings.port));

    // Only a deployment stops a machine, and it waits for the calls.
    assert_eq!(service["auto_stop_machines"].as_str(), Some("off"));
    assert_eq!(fly["kill_signal"].as_str(), Some("SIGTERM"));
    let kill = time(&fly["kill_timeout"]);
    assert!(kill <= Duration::from_secs(300), "Fly allows no more");
    assert!(settings.drain + LAST_WORDS <= kill, "calls are cut: {:?} of {kill:?}", settings.drain);
    assert_eq!(fly["deploy"]["strategy"].as_str(), Some("bluegreen"));
    assert!(time(&fly["deploy"]["wait_timeout"]) >= kill + Duration::from_secs(120));
    assert!(fly.get("mounts").is_none(), "volumes and bluegreen exclude each other");

    // A full machine still answers webhooks. And the server, which can tell strangers from callers, drops strangers
    // before Fly's proxy admits nobody.
    let concurrency = &service["concurrency"];
    assert_eq!(concurrency["type"].as_str(), Some("connections"));
    let calls = i64::try_from(settings.max_calls).unwrap();
    let others = i64::try_from(SPARE_CONNECTIONS).unwrap();
    assert!(concurrency["hard_limit"].as_integer().unwrap() > calls + others);
    assert!(concurrency["soft_limit"].as_integer().unwrap() <= calls);

    let checks = service["checks"].as_array().unwrap();
    assert!(
        checks.iter().all(|check| check["path"].as_str() == Some("/readyz")),
        "only /readyz reports draining"
    );
    assert_eq!(fly["build"]["dockerfile"].as_str(), Some("Dockerfile"));
}

#[test]
fn the_program_answers_every_health_check_and_metrics_path() {
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
    let mut paths = vec![(metrics, fly["metrics"]["path"].as_str().unwrap().to_owned())];
    for check in fly["http_service"]["checks"].as_array().unwrap() {
        paths.push((port, check["path"].as_str().unwrap().to_owned()));
    }
    for stage in stages() {
        for check in stage.all("HEALTHCHECK") {
            paths.push((port, health_url(check).path().to_owned()));
        }
    }
    let answers: Vec<_> = paths.iter().map(|(port, path)| (path, status(*port, path))).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready.is_some());
    assert_eq!(answers.len(), 4, "{answers:?}");
    for (path, status) in answers {
        assert_eq!(status, "200", "{path}");
    }
}

/// The URL that a HEALTHCHECK requests.
fn health_url(check: &str) -> url::Url {
    let command = check.split_once("CMD ").unwrap().1;
    let command: Vec<String> = serde_json::from_str(command).expect("exec form, because there is no shell");
    command.last().unwrap().parse().unwrap()
}

#[test]
fn the_images_hold_the_program_and_little_else() {
    let port = settings_from(BTreeMap::new()).port;
    let stages = stages();
    let [build, busybox, images @ ..] = &stages[..] else { panic!("a stage is missing") };
    assert_eq!((build.name.as_str(), busybox.name.as_str()), ("build", "busybox"));

    // The compiler is new enough, and everything Cargo.toml names is copied.
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let tag = build.base.strip_prefix("rust:").and_then(|tag| tag.split('-').next()).unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(version(tag) >= version(oldest), "{tag}");
    for folder in ["Cargo.toml Cargo.lock ./", "src src", "crates crates", "benches benches"] {
        assert!(build.all("COPY").contains(&folder), "{folder}");
    }
    assert!(build.all("RUN").iter().any(|run| run.contains("apt-get install") && run.contains(" tini ")));
    let built = build.all("RUN").iter().filter(|run| run.contains("cargo build --release --locked")).count();
    assert_eq!(built, 1);

    let debian_13 = |base: &str| ["trixie", "debian13"].iter().any(|name| base.contains(name));
    assert!(debian_13(&build.base) && images.iter().all(|stage| debian_13(&stage.base)), "one C library");
    assert_eq!(
        images.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(),
        ["with-node", "switchboard"]
    );
    for stage in images {
        let name = &stage.name;
        assert_eq!(stage.base.contains("node:"), name == "with-node", "only one of them has Node");
        assert_eq!(stage.all("USER").len(), 1, "{name} runs as root");
        assert!(!["root", "0"].contains(&stage.all("USER")[0]));
        assert_eq!(stage.all("EXPOSE"), [port.to_string()]);
        let entry: Vec<String> = serde_json::from_str(stage.all("ENTRYPOINT")[0]).expect("exec form");
        // Programs run as the same user, who must not read the environment of the first process.
        assert_eq!(entry, ["/usr/local/bin/tini", "-s", "--", "/usr/local/bin/switchboard"]);
        let init = "--from=build --chmod=0111 /usr/bin/tini-static /usr/local/bin/tini";
        assert!(stage.all("COPY").contains(&init), "{name} has no init, or a readable one");
        assert_eq!(stage.all("CMD"), ["[\"serve\"]"]);
        assert!(stage.all("COPY").contains(&"assistants assistants"), "{name} has no assistants");
        assert_eq!(stage.all("WORKDIR"), ["/app"], "where the program looks for them");
        let checks = stage.all("HEALTHCHECK");
        assert_eq!(health_url(checks[0]).port(), Some(port));
        assert!(stage.all("COPY").contains(&"--from=busybox /bin/wget /bin/wget"), "HEALTHCHECK needs wget");
        let certificates = "/etc/ssl/certs/ca-certificates.crt";
        let own = stage.all("COPY").iter().any(|copy| copy.ends_with(certificates));
        assert!(
            own || stage.base.contains("distroless/"),
            "{name} has no certificates, so it cannot reach a model"
        );
    }

    // Docker sees what is copied, and nothing that may be secret.
    let ignore = read(".dockerignore");
    let mut rules = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"), "nothing is included by default");
    let included: BTreeSet<&str> =
        rules.map(|rule| rule.strip_prefix('!').expect("it only includes")).collect();
    for stage in &stages {
        for copy in stage.all("COPY").into_iter().filter(|copy| !copy.starts_with("--from")) {
            let (sources, _) = copy.rsplit_once(' ').unwrap();
            for source in sources.split(' ') {
                if source == "switchboard.yam[l]" {
                    assert!(included.contains("switchboard.yaml"));
                    continue;
                }
                assert!(included.contains(source), "{source} is copied, but .dockerignore excludes it");
                assert!(path(source).exists(), "{source} is copied, but does not exist");
            }
        }
    }
    assert!(!included.iter().any(|rule| rule.contains(".env") || rule.contains('*')), "{included:?}");
}

/// The lines of fly.toml and of docs/deploy.md for one machine with a volume.
#[test]
fn a_volume_on_fly_is_mounted_where_the_image_keeps_its_state() {
    let text = read("fly.toml").replace("# [mounts]", "[mounts]");
    let text = text.replace("# source =", "source =").replace("# destination =", "destination =");
    let fly: toml::Table = text.parse().unwrap();
    let docs = read("docs/deploy.md");
    let docs = docs.split("```toml\n# fly.toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let docs: toml::Table = docs.parse().unwrap();
    assert_eq!(docs["mounts"], fly["mounts"]);
    let state = settings_from(BTreeMap::new()).state_dir.unwrap();
    for stage in &stages()[2..] {
        let kept = Path::new(stage.all("WORKDIR")[0]).join(&state);
        assert_eq!(fly["mounts"]["destination"].as_str().map(Path::new), Some(kept.as_path()));
    }
    // Fly starts no machine beside one that has the volume.
    assert_eq!(docs["deploy"]["strategy"].as_str(), Some("rolling"));
    assert_eq!(docs["deploy"]["wait_timeout"], fly["deploy"]["wait_timeout"]);
}

#[test]
fn compose_agrees_with_the_image() {
    let compose: Value = serde_yaml::from_str(&read("docker-compose.yml")).unwrap();
    let services = &compose["services"];
    let settings = settings_from(BTreeMap::new());
    let port = settings.port;
    let server = &services["switchboard"];
    assert_eq!(server["build"], ".");
    assert!(server["init"].is_null(), "programs can read the environment of Docker's init");
    assert!(server["profiles"].is_null(), "it starts by default");
    // Only this machine reaches the port: Docker's published ports bypass the host's firewall.
    assert_eq!(server["ports"], serde_json::json!([format!("127.0.0.1:{port}:{port}")]));
    assert_eq!(server["environment"]["PORT"], port.to_string());
    for (name, _) in server["environment"].as_object().unwrap() {
        assert!(settings::names().any(|known| known == name), "{name} is not a setting");
    }
    assert_eq!(server["env_file"][0]["path"], ".env");
    // Paths in `.env` are the host's, so Compose overrides them. STATE_DIR is a volume, which inherits the owner of its
    // folder in the image; nothing else is writable.
    assert_eq!(server["read_only"], true);
    assert_eq!(server["volumes"], serde_json::json!(["./assistants:/app/assistants:ro", "state:/app/state"]));
    assert!(compose["volumes"].as_object().unwrap().contains_key("state"));
    // npx runs what it downloads from its home, and Docker mounts /tmp as noexec by default.
    assert_eq!(server["tmpfs"], serde_json::json!(["/tmp:exec"]));
    let node = stages().into_iter().find(|stage| stage.name == "with-node").unwrap();
    assert_eq!(node.all("ENV"), ["HOME=/tmp"]);
    assert_eq!(server["environment"]["ASSISTANTS_DIR"], "assistants");
    assert_eq!(server["environment"]["STATE_DIR"], "state");
    assert_eq!(
        settings.state_dir.as_deref(),
        Some(Path::new("state")),
        "the images create it under this name"
    );
    assert_eq!(server["environment"]["SSL_CERT_FILE"], "/etc/ssl/certs/ca-certificates.crt");
    for stage in &stages()[2..] {
        let owned = format!("--from=build --chown={0}:{0} /build/state state", stage.all("USER")[0]);
        assert!(stage.all("COPY").contains(&owned.as_str()), "{}", stage.name);
        assert_eq!(stage.all("WORKDIR"), ["/app"]);
    }
    assert!(stages()[0].all("RUN").iter().any(|run| run.contains("mkdir -p state ")));
    let grace = seconds(server["stop_grace_period"].as_str().unwrap());
    assert!(settings.drain + LAST_WORDS <= grace, "calls are cut");
    let tunnel = &services["cloudflared"];
    pinned(tunnel["image"].as_str().unwrap());
    assert_eq!(tunnel["profiles"], serde_json::json!(["dev"]));
    assert!(tunnel["command"].as_str().unwrap().ends_with(&format!("--url http://switchboard:{port}")));
}

/// The names a file of assignments sets, commented-out ones included, and its text with those uncommented.
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

/// The names that follow `opening` in a text.
fn named_after(text: &str, opening: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let found = text.split(opening).skip(1);
    found
        .map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn the_example_env_has_every_variable_and_no_other() {
    let (names, text) = names_in(".env.example");
    let mut known: BTreeSet<String> = settings::names().map(str::to_owned).collect();
    // `make launch-mcp` passes it to the server it starts.
    known.insert("TODOIST_API_KEY".to_owned());
    for file in std::fs::read_dir(path("assistants")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "yaml") {
            known.extend(named_after(&std::fs::read_to_string(file).unwrap(), "${"));
        }
    }
    let missing: Vec<_> = known.difference(&names).collect();
    assert!(missing.is_empty(), ".env.example lacks {missing:?}");
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(unknown.is_empty(), "nothing reads {unknown:?} of .env.example");

    // A plain copy sets nothing. With every line uncommented, every value is valid.
    let plain = env_file::read(".env.example", read(".env.example").as_bytes()).0;
    assert!(
        plain.values().all(|(_, value)| value.is_empty()),
        "a plain copy must leave what is missing empty"
    );
    let environment = env_file::read(".env.example", text.as_bytes()).0.values().collect();
    assert_eq!(Settings::read(&Sources { file: None, environment }).1, []);
}

#[test]
fn the_functions_example_env_has_every_variable_they_read() {
    let (names, _) = names_in("twilio/.env.example");
    let mut used: BTreeSet<String> = ["twilio/allowlist-function.js", "twilio/fallback-function.js"]
        .iter()
        .flat_map(|file| named_after(&read(file), "context."))
        .collect();
    used.insert("ALLOWED_NUMBERS".to_owned());
    used.insert("ALLOWED_NUMBERS_15550100001".to_owned());
    assert_eq!(names, used);
}

#[test]
fn the_functions_and_the_program_agree_on_withheld_numbers() {
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
fn npm_and_cargo_use_the_public_registries_only() {
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

#[test]
fn workflows_pin_actions_by_commit_and_use_the_rust_of_the_image() {
    let stages = stages();
    let rust = stages[0].base.strip_prefix("rust:").and_then(|tag| tag.split('-').next()).unwrap();
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    for file in ["ci", "release"] {
        let text = read(&format!(".github/workflows/{file}.yml"));
        let actions: Vec<&str> =
            text.split("uses: ").skip(1).map(|rest| rest.lines().next().unwrap()).collect();
        assert!(!actions.is_empty(), "{file}");
        for action in actions {
            let commit = action.split(['@', ' ']).nth(1).unwrap();
            let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_commit && action.contains(" # v"), "{file}: {action}");
        }
        for rest in text.split("toolchain install ").skip(1) {
            let version = rest.split(' ').next().unwrap();
            assert!(version == rust || version == oldest, "{file}: Rust {version}");
        }
    }
}
