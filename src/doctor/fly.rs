//! `fly.toml` beside what the server needs: time to drain, a signal that it understands, a check that it is ready, and
//! nobody who stops it while people talk.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;

use super::report::{Finding, Severity};
use super::settings;
use super::toml::Table;
use crate::problem::{self, Problem};
use crate::process::SPARE_CONNECTIONS;
use crate::serve;
use crate::settings::{Settings, Sources};
use crate::yaml::SourceFile;

/// The file, in the folder where the program was started.
pub const FILE: &str = "fly.toml";
/// Fly's own limit of `kill_timeout`, and what it takes without one, in seconds.
const MOST_PATIENCE: u64 = 300;
const LEAST_PATIENCE: u64 = 5;
/// What `wait_timeout` is without one, in seconds.
const USUAL_WAIT: u64 = 300;

/// The app's name as the file comes with the project. Names of apps are unique among all of Fly's.
const EXAMPLE: &str = "switchboard-example";

/// Judges a `fly.toml`; `switchboard.yaml` goes with the image, `.env` does not. `here` is what holds on this machine.
pub fn check(text: &str, file: Option<&SourceFile>, here: &Settings) -> Vec<Finding> {
    let table = match Table::read(text) {
        Ok(table) => table,
        Err(line) => {
            let finding = Finding::error("fly.file", format!("{FILE}:{line}: this is no TOML"));
            return vec![
                finding.fix("mend the line; `fly config validate` says whether Fly understands the file"),
            ];
        }
    };
    let (there, mut findings) = deployed(&table, file);
    findings.extend(stop(&table, &there));
    findings.extend(deploy(&table));
    findings.extend(service(&table, &there));
    findings.extend(metrics(&table, &there));
    if findings.iter().all(|finding| finding.severity == Severity::Ok) {
        let drain = there.drain.as_secs();
        let message = format!(
            "{FILE} gives calls the {drain} s of DRAIN_SECONDS and a goodbye, and keeps machines running"
        );
        findings.push(Finding::ok("fly.deploy", message));
    }
    findings.extend(app(&table, here));
    findings
}

/// Whose app it is. Whoever only tries things here needs none.
fn app(table: &Table, here: &Settings) -> Option<Finding> {
    const CHECK: &str = "fly.app";
    let name = table.text("app").filter(|name| !name.is_empty());
    let message = match name.as_deref() {
        Some(EXAMPLE) => format!("app is still `{EXAMPLE}`, the name in the example"),
        Some(_) => return None,
        None => "app is not set".to_owned(),
    };
    let public = here.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
    let on_fly = public.is_some_and(|url| url.host_str().is_some_and(|host| host.ends_with(".fly.dev")));
    let finding = match here.on_fly || on_fly {
        true => {
            Finding::error(CHECK, message).causes("`fly deploy` fails, or calls go to somebody else's app")
        }
        false => Finding::warning(CHECK, message).causes("none while you try it here; `fly deploy` fails"),
    };
    Some(finding.fix("run `fly apps create NAME`, and write `app = \"NAME\"` at the top of fly.toml"))
}

/// The settings as they are on Fly: what `[env]` says, over `switchboard.yaml`. Secrets are not known. And what the
/// server there would not take: that is left out.
fn deployed(table: &Table, file: Option<&SourceFile>) -> (Settings, Vec<Finding>) {
    let mut environment: BTreeMap<String, String> = table.below("env").into_iter().collect();
    if let Some(app) = table.text("app") {
        environment.insert("FLY_APP_NAME".to_owned(), app);
    }
    let read = Settings::read(&Sources { file: None, environment: environment.clone() });
    let mut problems = read.err().unwrap_or_default();
    problems.retain(Problem::is_error);
    // A problem of a setting begins with its name.
    let is_wrong = |name: &str| problems.iter().any(|problem| problem.of_setting() == Some(name));
    environment.retain(|name, _| !is_wrong(name));
    // The file may name secrets, which are not known: the rest of it holds all the same.
    let there = settings::readable(file, &environment);
    let told = |problem: &Problem| {
        let finding = Finding::error("fly.file", format!("{FILE}, [env]: {}", problem.message()));
        let fix = "write it so under [env] of fly.toml, or take it out there";
        finding.causes("the server does not start there").fix(problem.fix().as_deref().unwrap_or(fix))
    };
    (there, problems.iter().map(told).collect())
}

/// How long the process has, and whether it hears that it is to end.
fn stop(table: &Table, there: &Settings) -> Vec<Finding> {
    const CHECK: &str = "fly.stop";
    let mut findings = Vec::new();
    match table.text("kill_signal").as_deref() {
        Some("SIGTERM" | "SIGINT") => {}
        Some(other) => findings.push(
            Finding::error(
                CHECK,
                format!("kill_signal is `{}`, which the server does not listen for", problem::shown(other)),
            )
            .causes("every deploy cuts all calls off: callers hear the fallback URL, Twilio tells of 31921")
            .fix("write `kill_signal = \"SIGTERM\"` at the top of fly.toml"),
        ),
        None => findings.push(
            Finding::warning(CHECK, "kill_signal is not set, and Fly's pages disagree on what it is then")
                .causes("none with SIGTERM or SIGINT: the server listens for both")
                .fix("write `kill_signal = \"SIGTERM\"` at the top of fly.toml"),
        ),
    }
    let cut = "calls that are still up are cut off without a goodbye: callers hear the fallback URL, Twilio tells of 31921";
    let needed = serve::longest_end(there.drain).as_secs();
    let write = format!("write `kill_timeout = {MOST_PATIENCE}` at the top of fly.toml");
    let patience = match (table.get("kill_timeout"), seconds(table, "kill_timeout")) {
        (None, _) => {
            let message = format!(
                "kill_timeout is not set: Fly kills the server {LEAST_PATIENCE} s after a deploy begins"
            );
            findings.push(Finding::error(CHECK, message).causes(cut).fix(write));
            return findings;
        }
        (Some(_), None) => {
            let message = "kill_timeout is not a time: it is a number of seconds, or a text such as \"5m\"";
            findings.push(Finding::error(CHECK, message).causes(cut).fix(write));
            return findings;
        }
        (Some(_), Some(patience)) => patience,
    };
    if patience > MOST_PATIENCE {
        let message = format!("kill_timeout is {patience} s, and Fly takes {MOST_PATIENCE} at most");
        findings.push(
            Finding::warning(CHECK, message)
                .causes("Fly refuses the file, or kills the server sooner than it says")
                .fix(write.clone()),
        );
    }
    let patience = patience.min(MOST_PATIENCE);
    if needed > patience {
        let goodbyes = needed - there.drain.as_secs();
        let message = format!(
            "draining takes up to {needed} s (DRAIN_SECONDS is {}, what is left over takes {goodbyes}), and \
             Fly kills the server after {patience}",
            there.drain.as_secs()
        );
        let fits = patience.saturating_sub(goodbyes);
        let fix = match MOST_PATIENCE >= needed {
            true => write,
            false => format!("set `DRAIN_SECONDS = \"{fits}\"` under [env] of fly.toml"),
        };
        findings.push(Finding::error(CHECK, message).causes(cut).fix(fix));
    }
    findings
}

/// In which order machines are replaced.
fn deploy(table: &Table) -> Vec<Finding> {
    const CHECK: &str = "fly.deploy";
    let mut findings = Vec::new();
    let bluegreen = "write `strategy = \"bluegreen\"` under [deploy] of fly.toml";
    let strategy = table.text("deploy.strategy");
    match strategy.as_deref() {
        Some("bluegreen") => {}
        Some("immediate") => findings.push(
            Finding::error(CHECK, "the strategy `immediate` replaces all machines at once")
                .causes("while it lasts nobody answers: 11200, and callers hear the fallback URL")
                .fix(bluegreen),
        ),
        other => {
            let name = problem::shown(other.unwrap_or("rolling"));
            let message =
                format!("the strategy is `{name}`: Fly may send calls to a machine that is about to end");
            findings.push(
                Finding::warning(CHECK, message)
                    .causes("some callers hear the fallback URL during a deploy (11200)")
                    .fix(bluegreen),
            );
        }
    }
    if table.has("mounts") && matches!(strategy.as_deref(), Some("bluegreen" | "canary")) {
        findings.push(
            Finding::error(CHECK, "a volume is mounted, with which Fly refuses this strategy")
                .causes("`fly deploy` fails")
                .fix("take [mounts] out of fly.toml: the server needs no volume"),
        );
    }
    let wait = seconds(table, "deploy.wait_timeout").unwrap_or(USUAL_WAIT);
    let patience = seconds(table, "kill_timeout").unwrap_or(LEAST_PATIENCE).min(MOST_PATIENCE);
    if wait <= patience {
        let message = format!("wait_timeout is {wait} s, no longer than the {patience} s of kill_timeout");
        findings.push(
            Finding::warning(CHECK, message)
                .causes("`fly deploy` gives up waiting and destroys machines that still have calls")
                .fix("write `wait_timeout = \"10m\"` under [deploy] of fly.toml"),
        );
    }
    findings
}

/// How the proxy reaches the server.
fn service(table: &Table, there: &Settings) -> Vec<Finding> {
    const CHECK: &str = "fly.service";
    let base = ["http_service", "services.0", "services"].into_iter().find(|base| table.has(base));
    let Some(base) = base else {
        let none = Finding::error(CHECK, "there is no [http_service]: Fly sends the server nothing");
        let none = none.causes("11205 when a phone rings");
        return vec![none.fix(format!("write [http_service] with `internal_port = {}`", there.port))];
    };
    let mut findings = Vec::new();
    let port = table.text(&format!("{base}.internal_port"));
    if port.as_deref() != Some(&there.port.to_string()) {
        let is = port.as_deref().map_or("not set".to_owned(), problem::shown);
        let message = format!("internal_port is {is}, and the server listens on {}", there.port);
        findings.push(
            Finding::error(CHECK, message)
                .causes("Fly's proxy reaches nobody (502): 11200 when a phone rings")
                .fix(format!("write `internal_port = {}`, or set PORT under [env]", there.port)),
        );
    }
    match table.text(&format!("{base}.auto_stop_machines")).as_deref() {
        Some("off" | "false") | None => {}
        Some(other) => findings.push(
            Finding::error(
                CHECK,
                format!(
                    "auto_stop_machines is `{}`: Fly stops machines while people talk",
                    problem::shown(other)
                ),
            )
            .causes("calls are cut off (31921), or wait for a machine to start")
            .fix("write `auto_stop_machines = \"off\"`"),
        ),
    }
    findings.extend(checks(table, base));
    let hard = seconds(table, &format!("{base}.concurrency.hard_limit"));
    // Counted by requests, who is silent counts for nothing.
    let (what, others, strangers, why) = match table.text(&format!("{base}.concurrency.type")).as_deref() {
        Some("requests") => ("requests", 0, "", "webhooks need room as well"),
        _ => {
            ("connections", SPARE_CONNECTIONS, " and strangers", "the server itself has strangers make room")
        }
    };
    let wanted = there.max_calls + others;
    if let Some(hard) = hard.filter(|hard| usize::try_from(*hard).is_ok_and(|hard| hard <= wanted)) {
        let message = format!(
            "Fly's proxy lets {hard} {what} in, which the {} calls of MAX_CALLS{strangers} can fill",
            there.max_calls
        );
        findings.push(
            Finding::warning(CHECK, message)
                .causes(
                    "above that no webhook comes through (11200): callers hear the fallback URL, not `busy`",
                )
                .fix(format!("set `hard_limit` above {wanted}: {why}")),
        );
    }
    findings
}

fn checks(table: &Table, base: &str) -> Vec<Finding> {
    const CHECK: &str = "fly.service";
    let lists = [format!("{base}.checks"), format!("{base}.http_checks")];
    let paths: Vec<String> = lists
        .iter()
        .flat_map(|list| {
            let count = table.count(list);
            let one_by_one = (0..count).map(move |index| format!("{list}.{index}.path"));
            // One check may be a plain table.
            one_by_one.chain((count == 0 && table.has(list)).then(|| format!("{list}.path")))
        })
        .map(|path| table.text(&path).unwrap_or_default())
        .collect();
    let write = "write under [[http_service.checks]]: `path = \"/readyz\"`";
    let told = |severity, message: String, cause: &str| {
        vec![Finding::of(CHECK, severity, message).causes(cause).fix(write)]
    };
    if paths.is_empty() {
        let (severity, cause) = match table.text("deploy.strategy").as_deref() {
            Some("bluegreen") => (Severity::Error, "`fly deploy` fails: bluegreen needs a check"),
            _ => (
                Severity::Warning,
                "calls are sent to machines that are not ready yet, or about to end (11200)",
            ),
        };
        return told(severity, "Fly does not check whether the server is ready".to_owned(), cause);
    }
    if paths.iter().any(|path| path == "/readyz") {
        return Vec::new();
    }
    match paths.iter().all(|path| path == "/healthz") {
        true => told(
            Severity::Warning,
            "Fly checks /healthz, which says ok also while the server drains".to_owned(),
            "calls are sent to a machine that is about to end, and have to be sent on",
        ),
        false => {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            told(
                Severity::Error,
                format!("Fly checks {}, where the server says 404", problem::list(&paths)),
                "the machine is never healthy, and `fly deploy` fails",
            )
        }
    }
}

/// Where Fly looks for metrics.
fn metrics(table: &Table, there: &Settings) -> Option<Finding> {
    if there.metrics_port == Some(there.port) {
        let message =
            format!("METRICS_PORT is {} there, as PORT is: one port is listened on once", there.port);
        let finding = Finding::error("fly.metrics", message).causes("the server does not start there");
        return Some(
            finding.fix("write `METRICS_PORT = \"9091\"` under [env], and `port = 9091` under [metrics]"),
        );
    }
    let port = seconds(table, "metrics.port")?;
    if there.metrics_port.map(u64::from) == Some(port) {
        return None;
    }
    let message = format!(
        "[metrics] has port {port}, where the server does not listen: METRICS_PORT is {}",
        match there.metrics_port {
            Some(port) => port.to_string(),
            None => "not set".to_owned(),
        }
    );
    let finding = Finding::warning("fly.metrics", message).causes("Fly's dashboards stay empty");
    Some(finding.fix(format!("write `METRICS_PORT = \"{port}\"` under [env]")))
}

/// A time in seconds, written as a number or with its unit; or a plain number.
fn seconds(table: &Table, path: &str) -> Option<u64> {
    match table.get(path)? {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => duration(text.trim()).map(|duration| duration.as_secs()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Go's way to write durations, such as `5m` or `1m30s`; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Checks the good file with one text replaced.
    fn judged(from: &str, to: &str) -> Vec<Finding> {
        assert!(GOOD.contains(from), "{from}");
        check(&GOOD.replace(from, to), None, &here(&[]))
    }

    fn here(variables: &[(&str, &str)]) -> Settings {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&Sources { file: None, environment: environment.collect() }).unwrap()
    }

    #[test]
    fn a_good_file_is_fine() {
        let found = judged("", "");
        assert_eq!(
            (found.len(), found[0].severity, found[0].check),
            (1, Severity::Ok, "fly.deploy"),
            "{found:?}"
        );
    }

    #[test]
    fn each_line_that_would_cost_calls_is_told() {
        for (from, to, severity, name, words) in [
            ("kill_signal = \"SIGTERM\"\n", "", "warning", "fly.stop", "kill_signal is not set"),
            (
                "\"SIGTERM\"",
                "\"SIGKILL\"",
                "error",
                "fly.stop",
                "`SIGKILL`, which the server does not listen for",
            ),
            ("kill_timeout = 300\n", "", "error", "fly.stop", "kills the server 5 s after"),
            ("kill_timeout = 300", "kill_timeout = \"4m\"", "", "", ""),
            (
                "kill_timeout = 300",
                "kill_timeout = \"90s\"",
                "error",
                "fly.stop",
                "and Fly kills the server after 90",
            ),
            ("kill_timeout = 300", "kill_timeout = 400", "warning", "fly.stop", "Fly takes 300 at most"),
            (
                "kill_timeout = 300",
                "kill_timeout = \"10000000000000000000s10000000000000000000s\"",
                "error",
                "fly.stop",
                "is not a time",
            ),
            ("kill_timeout = 300", "kill_timeout = \"soon\"", "error", "fly.stop", "is not a time"),
            ("\"200\"", "\"300\"", "error", "fly.stop", "DRAIN_SECONDS is 300"),
            ("\"bluegreen\"", "\"rolling\"", "warning", "fly.deploy", "`rolling`"),
            ("\"bluegreen\"", "\"immediate\"", "error", "fly.deploy", "all machines at once"),
            ("[metrics]", "[mounts]\nsource = \"x\"\n[metrics]", "error", "fly.deploy", "a volume"),
            ("  wait_timeout = \"10m\"\n", "", "warning", "fly.deploy", "wait_timeout is 300 s"),
            (
                "internal_port = 5050",
                "internal_port = 8080",
                "error",
                "fly.service",
                "8080, and the server listens on 5050",
            ),
            ("  internal_port = 5050\n", "", "error", "fly.service", "not set, and the server listens"),
            ("\"off\"", "\"stop\"", "error", "fly.service", "`stop`"),
            ("\"off\"", "true", "error", "fly.service", "`true`"),
            ("\"off\"", "false", "", "", ""),
            ("/readyz", "/healthz", "warning", "fly.service", "/healthz"),
            ("/readyz", "/", "error", "fly.service", "says 404"),
            (
                "  [[http_service.checks]]\n    path = \"/readyz\"\n",
                "",
                "error",
                "fly.service",
                "does not check",
            ),
            ("port = 9091", "port = 9000", "warning", "fly.metrics", "port 9000"),
            ("\"9091\"", "\"5050\"", "error", "fly.metrics", "METRICS_PORT is 5050 there"),
            (
                "[deploy]",
                "MAX_CALLS = \"few\"\n[deploy]",
                "error",
                "fly.file",
                "[env]: MAX_CALLS must be a number",
            ),
            (
                "[metrics]",
                "[http_service.concurrency]\nhard_limit = 20\n[metrics]",
                "warning",
                "fly.service",
                "20 connections",
            ),
            (
                "[metrics]",
                "[http_service.concurrency]\nhard_limit = 2024\n[metrics]",
                "warning",
                "fly.service",
                "2024 connections",
            ),
            ("[metrics]", "[http_service.concurrency]\nhard_limit = 2025\n[metrics]", "", "", ""),
            (
                "[metrics]",
                "[http_service.concurrency]\ntype = \"requests\"\nhard_limit = 1000\n[metrics]",
                "warning",
                "fly.service",
                "1000 requests in, which the 1000 calls of MAX_CALLS can fill",
            ),
            (
                "[metrics]",
                "[http_service.concurrency]\ntype = \"requests\"\nhard_limit = 1001\n[metrics]",
                "",
                "",
                "",
            ),
            ("app = ", "what is this\napp = ", "error", "fly.file", "fly.toml:2:"),
            ("\"voice-bridge\"", "\"switchboard-example\"", "warning", "fly.app", "the name in the example"),
            ("app = \"voice-bridge\"\n", "", "warning", "fly.app", "app is not set"),
        ] {
            let found = judged(from, to);
            let bad: Vec<_> = found.iter().filter(|finding| finding.severity != Severity::Ok).collect();
            if severity.is_empty() {
                assert!(bad.is_empty(), "{to}: {bad:?}");
                continue;
            }
            let fits = bad.len() == 1 && bad[0].severity.name() == severity && bad[0].check == name;
            assert!(fits && bad[0].message.contains(words) && bad[0].fix.is_some(), "{to}: {bad:?}");
        }
    }

    #[test]
    fn the_file_of_this_project_is_fine() {
        let text = include_str!("../../fly.toml");
        let bad = |here: &Settings| {
            let found = check(text, None, here).into_iter();
            found.filter(|finding| finding.severity != Severity::Ok).collect::<Vec<_>>()
        };
        // But for the name, which is the owner's to choose.
        let tried = bad(&here(&[("PUBLIC_URL", "https://phone.example.com")]));
        let one = |bad: &[Finding]| bad.len() == 1 && bad[0].check == "fly.app";
        assert!(one(&tried) && tried[0].severity == Severity::Warning, "{tried:?}");
        let deployed = bad(&here(&[("PUBLIC_URL", "https://switchboard-example.fly.dev")]));
        assert!(one(&deployed) && deployed[0].severity == Severity::Error, "{deployed:?}");
    }

    #[test]
    fn a_setting_that_a_secret_of_fly_fills_hides_no_other() {
        let file = SourceFile::new(
            "switchboard.yaml",
            "port: 8080\nopenai_api_key: \"${OPENAI_API_KEY}\"\ndrain_seconds: 290\n",
        );
        let text = GOOD.replace("internal_port = 5050", "internal_port = 8080");
        let text = text.replace("  DRAIN_SECONDS = \"200\"\n", "");
        let found = check(&text, Some(&file), &here(&[]));
        let messages: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert!(messages.len() == 1 && messages[0].contains("DRAIN_SECONDS is 290"), "{messages:?}");
    }

    #[test]
    fn a_file_without_a_service_is_told_and_an_empty_one_too() {
        for text in ["", "app = \"x\"\n"] {
            let found = check(text, None, &here(&[]));
            assert!(found.iter().any(|finding| finding.message.contains("no [http_service]")), "{found:?}");
        }
    }
}
