//! `fly.toml`, compared with what the server needs: time to drain, a signal that it handles, a readiness check, and
//! nothing that stops a machine during calls.

use std::collections::BTreeMap;

use toml::Value;

use crate::duration;
use crate::problem::catalogue::Fly as Found;
use crate::problem::{self, Place, Problem};
use crate::process::SPARE_CONNECTIONS;
use crate::serve;
use crate::settings::{Settings, Sources};
use crate::workspace::{Workspace, read_or_none};

/// The file, in the folder where the command is started.
pub const FILE: &str = "fly.toml";
/// The largest `kill_timeout` that Fly allows, and the default, in seconds.
const MAX_KILL: u64 = 300;
const DEFAULT_KILL: u64 = 5;
/// The default `wait_timeout`, in seconds.
const DEFAULT_WAIT: u64 = 300;
/// The app's name in the file as it comes with the project. Names of apps are unique on Fly.
const EXAMPLE: &str = "switchboard-example";

/// Checks the file, if there is one.
pub fn check(workspace: &Workspace) -> Vec<Problem> {
    match read_or_none(FILE) {
        Ok(None) => Vec::new(),
        Ok(Some(bytes)) => check_text(&String::from_utf8_lossy(&bytes), workspace),
        Err(problem) => vec![*problem],
    }
}

fn check_text(text: &str, workspace: &Workspace) -> Vec<Problem> {
    let at = |what: Found| Problem::file(FILE, what);
    let table = match text.parse::<toml::Table>() {
        Ok(table) => Table(Value::Table(table)),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            return vec![at(Found::NotToml { line: text[..start].matches('\n').count() + 1 })];
        }
    };
    let (there, mut problems) = deployed(&table, workspace);
    let mut found = stop(&table, &there);
    found.extend(deploy(&table));
    found.extend(service(&table, &there));
    found.extend(metrics(&table, &there));
    if found.is_empty() && problems.is_empty() {
        found.push(Found::Good { seconds: there.drain.as_secs() });
    }
    found.extend(app(&table, &workspace.settings));
    problems.extend(found.into_iter().map(at));
    problems
}

/// The settings on Fly: [env] over `switchboard.yaml`. Secrets are unknown here, so what the file needs them for is ignored.
fn deployed(table: &Table, workspace: &Workspace) -> (Settings, Vec<Problem>) {
    let mut environment: BTreeMap<String, String> = table.env();
    environment.extend(table.text("app").map(|app| ("FLY_APP_NAME".to_owned(), app)));
    let (there, problems) = Settings::read(&Sources { file: workspace.settings_file.clone(), environment });
    let is_ours = |problem: &Problem| problem.is_error() && problem.place.is_none();
    let problems = problems.into_iter().filter(is_ours).map(|problem| problem.at(Place::file(FILE)));
    (there, problems.collect())
}

fn app(table: &Table, here: &Settings) -> Option<Found> {
    let app = table.text("app").filter(|app| !app.is_empty());
    let public = here.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
    let is_on_fly = public.is_some_and(|url| url.host_str().is_some_and(|host| host.ends_with(".fly.dev")));
    match app {
        Some(app) if app != EXAMPLE => None,
        Some(app) if here.on_fly() || is_on_fly => Some(Found::AppExample { app }),
        Some(_) | None => Some(Found::AppUnset),
    }
}

/// The signal that ends the process, and the time it has to end.
fn stop(table: &Table, there: &Settings) -> Vec<Found> {
    let mut found = Vec::new();
    match table.text("kill_signal").as_deref() {
        Some("SIGTERM" | "SIGINT") => {}
        Some(other) => found.push(Found::KillSignal { signal: problem::shown(other) }),
        None => found.push(Found::NoKillSignal),
    }
    let is = match (table.get("kill_timeout"), table.seconds("kill_timeout")) {
        (Some(_), None) => {
            found.push(Found::KillTimeoutInvalid);
            return found;
        }
        (_, is) => is.unwrap_or(DEFAULT_KILL),
    };
    if is > MAX_KILL {
        found.push(Found::KillTimeoutLong { is });
    }
    let is = is.min(MAX_KILL);
    let needed = serve::longest_end(there.drain).as_secs();
    if needed > is {
        let fits = MAX_KILL.saturating_sub(needed - there.drain.as_secs());
        found.push(Found::KillTimeout { needed, is, fits });
    }
    found
}

/// How machines are replaced.
fn deploy(table: &Table) -> Vec<Found> {
    let mut found = Vec::new();
    let strategy = table.text("deploy.strategy");
    match strategy.as_deref() {
        Some("bluegreen") => {}
        Some("immediate") => found.push(Found::Immediate),
        // The machine must release the volume before the next one gets it.
        Some("rolling") if table.get("mounts").is_some() => {}
        other => found.push(Found::Strategy { is: problem::shown(other.unwrap_or("rolling")) }),
    }
    if table.get("mounts").is_some() && matches!(strategy.as_deref(), Some("bluegreen" | "canary")) {
        found.push(Found::Volume);
    }
    let wait = table.seconds("deploy.wait_timeout").unwrap_or(DEFAULT_WAIT);
    let kill = table.seconds("kill_timeout").unwrap_or(DEFAULT_KILL).min(MAX_KILL);
    if wait <= kill {
        found.push(Found::WaitTimeout { wait, kill });
    }
    found
}

/// How the proxy reaches the server.
fn service(table: &Table, there: &Settings) -> Vec<Found> {
    let base = ["http_service", "services.0", "services"].into_iter().find(|base| table.get(base).is_some());
    let Some(base) = base else { return vec![Found::NoService { port: there.port }] };
    let mut found = Vec::new();
    let port = table.text(&format!("{base}.internal_port"));
    if port.as_deref() != Some(&there.port.to_string()) {
        let is = port.as_deref().map_or("not set".to_owned(), problem::shown);
        found.push(Found::Port { is, port: there.port });
    }
    match table.text(&format!("{base}.auto_stop_machines")).as_deref() {
        Some("off" | "false") | None => {}
        Some(other) => found.push(Found::AutoStop { is: problem::shown(other) }),
    }
    let paths = table.check_paths(base);
    if !paths.iter().any(|path| path == "/readyz") {
        let health_only = !paths.is_empty() && paths.iter().all(|path| path == "/healthz");
        found.push(if health_only { Found::HealthCheck } else { Found::NoCheck });
    }
    // An idle connection counts as a connection, but not as a request.
    let others = match table.text(&format!("{base}.concurrency.type")).as_deref() {
        Some("requests") => 0,
        _ => SPARE_CONNECTIONS,
    };
    let needed = there.max_calls + others;
    let limit = table.number(&format!("{base}.concurrency.hard_limit"));
    if let Some(limit) = limit.filter(|limit| usize::try_from(*limit).is_ok_and(|limit| limit <= needed)) {
        found.push(Found::Limit { limit, needed });
    }
    found
}

/// Where Fly looks for metrics.
fn metrics(table: &Table, there: &Settings) -> Option<Found> {
    let port = table.number("metrics.port")?;
    let is = there.metrics_port.map_or("not set".to_owned(), |port| port.to_string());
    (is != port.to_string()).then_some(Found::MetricsPort { port, is })
}

/// Values by their paths, such as `http_service.checks.0.path`.
struct Table(Value);

impl Table {
    fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |value, key| match value {
            Value::Array(list) => list.get(key.parse::<usize>().ok()?),
            value => value.get(key),
        })
    }

    /// A plain value as text, however it is written.
    fn text(&self, path: &str) -> Option<String> {
        plain(self.get(path)?)
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Seconds as a number, or a duration such as `5m`, in seconds.
    fn seconds(&self, path: &str) -> Option<u64> {
        self.number(path).or_else(|| Some(duration::parse(&self.text(path)?)?.as_secs()))
    }

    fn env(&self) -> BTreeMap<String, String> {
        let table = self.get("env").and_then(Value::as_table);
        table.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
    }

    /// The paths of all checks of a service. A single check may be a plain table.
    fn check_paths(&self, base: &str) -> Vec<String> {
        let lists = ["checks", "http_checks"].map(|list| format!("{base}.{list}"));
        let paths = lists.iter().flat_map(|list| match self.get(list) {
            Some(Value::Array(checks)) => (0..checks.len()).map(|at| format!("{list}.{at}.path")).collect(),
            Some(_) => vec![format!("{list}.path")],
            None => Vec::new(),
        });
        paths.map(|path| self.text(&path).unwrap_or_default()).collect()
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Severity;
    use crate::yaml::SourceFile;

    const GOOD: &str = r#"
app = "voice-bridge"
kill_signal = "SIGTERM"
kill_timeout = 300
[env]
  DRAIN_SECONDS = "200"
  METRICS_PORT = "9091"
[deploy]
  strategy = "bluegreen"
  wait_timeout = "10m"
[http_service]
  internal_port = 5050
  auto_stop_machines = "off"
  [[http_service.checks]]
    path = "/readyz"
[metrics]
  port = 9091
"#;

    fn here(file: Option<&str>, variables: &[(&str, &str)]) -> Workspace {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let file = file.map(|text| SourceFile::new("switchboard.yaml", text));
        Workspace::with(Sources { file, environment: environment.collect() })
    }

    /// The code and severity of everything that is not fine.
    fn bad(text: &str, workspace: &Workspace) -> Vec<(&'static str, Severity)> {
        let found = check_text(text, workspace).into_iter();
        let found = found.map(|problem| (problem.code(), problem.severity()));
        found.filter(|(_, severity)| *severity != Severity::Ok).collect()
    }

    #[test]
    fn each_line_that_would_cost_calls_is_reported() {
        use Severity::{Error, Warning};
        let limit = |kind: &str, limit: u32| {
            format!("[http_service.concurrency]\n{kind}hard_limit = {limit}\n[metrics]")
        };
        let (connections, enough) = (limit("", 2024), limit("", 2025));
        let (requests, enough_requests) =
            (limit("type = \"requests\"\n", 1000), limit("type = \"requests\"\n", 1001));
        let bluegreen = "[deploy]\n  strategy = \"bluegreen\"\n";
        let check = "  [[http_service.checks]]\n    path = \"/readyz\"\n";
        for (from, to, expected) in [
            ("app = ", "app = ", None),
            ("kill_signal = \"SIGTERM\"\n", "", Some(("fly.stop", Warning))),
            ("\"SIGTERM\"", "\"SIGKILL\"", Some(("fly.stop", Error))),
            ("kill_timeout = 300\n", "", Some(("fly.stop", Error))),
            ("kill_timeout = 300", "kill_timeout = \"4m\"", None),
            ("kill_timeout = 300", "kill_timeout = \"90s\"", Some(("fly.stop", Error))),
            ("kill_timeout = 300", "kill_timeout = 400", Some(("fly.stop", Warning))),
            ("kill_timeout = 300", "kill_timeout = \"soon\"", Some(("fly.stop", Error))),
            ("\"200\"", "\"300\"", Some(("fly.stop", Error))),
            ("\"bluegreen\"", "\"rolling\"", Some(("fly.strategy", Warning))),
            ("\"bluegreen\"", "\"immediate\"", Some(("fly.strategy", Error))),
            ("[metrics]", "[mounts]\nsource = \"x\"\n[metrics]", Some(("fly.volume", Error))),
            (bluegreen, "[mounts]\nsource = \"x\"\n[deploy]\n  strategy = \"rolling\"\n", None),
            ("  wait_timeout = \"10m\"\n", "", Some(("fly.wait", Warning))),
            ("internal_port = 5050", "internal_port = 8080", Some(("fly.port", Error))),
            ("  internal_port = 5050\n", "", Some(("fly.port", Error))),
            ("\"off\"", "\"stop\"", Some(("fly.auto_stop", Error))),
            ("\"off\"", "true", Some(("fly.auto_stop", Error))),
            ("\"off\"", "false", None),
            ("/readyz", "/healthz", Some(("fly.check", Warning))),
            ("/readyz", "/", Some(("fly.check", Error))),
            (check, "", Some(("fly.check", Error))),
            ("port = 9091", "port = 9000", Some(("fly.metrics", Warning))),
            ("[deploy]", "MAX_CALLS = \"few\"\n[deploy]", Some(("setting.value", Error))),
            ("[metrics]", &connections, Some(("fly.limit", Warning))),
            ("[metrics]", &enough, None),
            ("[metrics]", &requests, Some(("fly.limit", Warning))),
            ("[metrics]", &enough_requests, None),
            ("app = ", "what is this\napp = ", Some(("fly.file", Error))),
            ("\"voice-bridge\"", "\"switchboard-example\"", Some(("fly.app", Warning))),
            ("app = \"voice-bridge\"\n", "", Some(("fly.app", Warning))),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let found = bad(&GOOD.replace(from, to), &here(None, &[]));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{to}");
        }
    }

    #[test]
    fn the_projects_own_file_is_fine_except_for_the_name() {
        let text = include_str!("../../fly.toml");
        let elsewhere = here(None, &[("PUBLIC_URL", "https://phone.example.com")]);
        assert_eq!(bad(text, &elsewhere), [("fly.app", Severity::Warning)]);
        let deployed = here(None, &[("PUBLIC_URL", "https://switchboard-example.fly.dev")]);
        assert_eq!(bad(text, &deployed), [("fly.app", Severity::Error)]);
    }

    #[test]
    fn the_settings_file_counts_and_a_secret_of_fly_is_not_missing() {
        let file = "port: 8080\nopenai_api_key: \"${OPENAI_API_KEY}\"\ndrain_seconds: 290\n";
        let text = GOOD.replace("internal_port = 5050", "internal_port = 8080");
        let text = text.replace("  DRAIN_SECONDS = \"200\"\n", "");
        assert_eq!(bad(&text, &here(Some(file), &[])), [("fly.stop", Severity::Error)]);
    }
}
