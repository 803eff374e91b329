//! What `serve` finds on this machine: two ports that are two, a filter for its log, a folder that it may write to, and
//! what a tunnel of before left there.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::report::Finding;
use crate::command::numbers::state_dir;
use crate::observe;
use crate::problem;
use crate::settings::Settings;
use crate::tunnel::pointing::{Hold, Pointed};

const NO_START: &str = "`switchboard serve` does not start";

/// Looks at all of it. The folder for state is written to, and left as it was.
pub fn check(settings: &Settings) -> Vec<Finding> {
    [ports(settings), log(&settings.log), state(settings), tunnel(settings)].into_iter().flatten().collect()
}

/// Whether a number rings a tunnel of this folder that is open.
pub fn has_tunnel(settings: &Settings) -> bool {
    Pointed::is_left(state_dir(settings)) && Hold::is_taken(state_dir(settings))
}

fn ports(settings: &Settings) -> Option<Finding> {
    if settings.port == 0 || settings.metrics_port != Some(settings.port) {
        return None;
    }
    let message = format!("METRICS_PORT is {}, as PORT is: one port is listened on once", settings.port);
    let another = if settings.port == 9091 { 9092 } else { 9091 };
    let fix = format!(
        "set METRICS_PORT={another}; or leave it out: then the metrics are at /metrics of the server itself, for \
         whoever has METRICS_TOKEN"
    );
    Some(Finding::error("settings.read", message).causes(NO_START).fix(fix))
}

fn log(filter: &str) -> Option<Finding> {
    const FIX: &str =
        "write a level, such as RUST_LOG=info; more of one part: RUST_LOG=info,switchboard::session=debug";
    if let Err(error) = observe::filter(filter) {
        let message = format!("RUST_LOG cannot be read: {error}");
        return Some(Finding::error("settings.read", message).causes(NO_START).fix(FIX));
    }
    if filter.split(',').any(is_heard) {
        return None;
    }
    let message = "RUST_LOG names neither a level nor a part of this program";
    Some(Finding::warning("settings.odd", message).causes("nothing is logged, errors neither").fix(FIX))
}

/// Whether a part of a filter decides on lines of ours.
fn is_heard(part: &str) -> bool {
    const LEVELS: [&str; 12] =
        ["off", "error", "warn", "info", "debug", "trace", "0", "1", "2", "3", "4", "5"];
    let part = part.trim().to_lowercase();
    let target = part.split(['=', '[']).next().unwrap_or_default();
    // Without a target it is for all of them. A target is the beginning of one.
    LEVELS.contains(&&*part) || "switchboard".starts_with(target) || target.starts_with("switchboard")
}

fn state(settings: &Settings) -> Option<Finding> {
    let dir = settings.state_dir.as_deref()?;
    let why = unusable(dir).err()?;
    let message =
        format!("STATE_DIR, `{}`, cannot be used: {why}", problem::shown(&dir.display().to_string()));
    let finding = Finding::warning("settings.state", message).causes(
        "messages that callers leave are in memory alone, and lost with the server; `serve --tunnel` points no number",
    );
    Some(
        finding
            .fix("set STATE_DIR to a folder that whoever runs the server may write to, or make that one so"),
    )
}

/// Whether files can be made in a folder, or in the one that it would be made in.
fn unusable(dir: &Path) -> Result<(), String> {
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => Err("it is a file, and no folder".to_owned()),
        Ok(_) => probe(dir).map_err(|error| format!("nothing can be written there ({})", error.kind())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = dir.ancestors().skip(1).map(|above| match above.as_os_str().is_empty() {
                true => Path::new("."),
                false => above,
            });
            let above = above.into_iter().find(|above| above.exists()).unwrap_or(Path::new("/"));
            let made = if above.is_dir() { probe(above) } else { Err(io::ErrorKind::NotADirectory.into()) };
            made.map_err(|error| format!("it is not there, and cannot be made ({})", error.kind()))
        }
        Err(error) => Err(format!("it cannot be looked at ({})", error.kind())),
    }
}

/// Makes a file, and removes it.
fn probe(dir: &Path) -> io::Result<()> {
    let file = dir.join(format!(".switchboard-doctor-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}

fn tunnel(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "number.tunnel";
    if has_tunnel(settings) {
        return Some(Finding::ok(
            CHECK,
            "a tunnel is open: the number that rings it rings what it rang before once that ends",
        ));
    }
    if !Pointed::is_left(state_dir(settings)) {
        return None;
    }
    let message = "a tunnel that was killed left `tunnel.json` behind: a number may still ring its address, which is gone";
    let finding = Finding::warning(CHECK, message)
        .causes("11200 or 11205 on each of its calls: callers hear an application error");
    Some(finding.fix(
        "run `switchboard serve --tunnel` once more: it puts back first what the number rang. Or set that in Twilio's \
         console, and remove `tunnel.json`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn judged(variables: &[(&str, &str)]) -> Vec<(&'static str, &'static str, String)> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::read(&Sources { file: None, environment: environment.collect() }).unwrap();
        let found = check(&settings).into_iter();
        found.map(|finding| (finding.check, finding.severity.name(), finding.message)).collect()
    }

    #[test]
    fn what_serve_would_stumble_over_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let within = |path: &str| folder.path().join(path).display().to_string();
        let read = ("settings.read", "error");
        let odd = ("settings.odd", "warning");
        let state = ("settings.state", "warning");
        for (what, name, value, expected, words) in [
            ("one port for two", "METRICS_PORT", "5050", Some(read), "METRICS_PORT is 5050, as PORT is"),
            ("two ports", "METRICS_PORT", "9091", None, ""),
            ("a filter that is none", "RUST_LOG", "info,[[", Some(read), "RUST_LOG cannot be read"),
            ("a level that is none", "RUST_LOG", "switchboard=loud", Some(read), "RUST_LOG cannot be read"),
            ("a misspelt level", "RUST_LOG", "inof", Some(odd), "names neither a level nor a part"),
            ("another's part", "RUST_LOG", "hyper=debug", Some(odd), "names neither"),
            ("a level", "RUST_LOG", "WARN", None, ""),
            ("a part of ours", "RUST_LOG", "hyper=info,switchboard::call=debug", None, ""),
            ("a span", "RUST_LOG", "[call]=debug", None, ""),
            ("a folder", "STATE_DIR", &within(""), None, ""),
            ("one to be made", "STATE_DIR", &within("a/b"), None, ""),
            ("a file", "STATE_DIR", &within("file"), Some(state), "it is a file"),
            ("one in a file", "STATE_DIR", &within("file/a"), Some(state), "cannot be"),
            ("where nobody may write", "STATE_DIR", "/proc/switchboard", Some(state), "cannot be made"),
            (
                "where nobody may write either",
                "STATE_DIR",
                "/proc",
                Some(state),
                "nothing can be written there",
            ),
        ] {
            let found = judged(&[(name, value)]);
            match expected {
                None => assert!(found.is_empty(), "{what}: {found:?}"),
                Some((check, severity)) => {
                    let one = found.len() == 1 && (found[0].0, found[0].1) == (check, severity);
                    assert!(one && found[0].2.contains(words), "{what}: {found:?}");
                }
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left there");
        assert!(judged(&[("PORT", "0"), ("METRICS_PORT", "0")]).is_empty(), "any two free ones");
    }

    #[test]
    fn a_tunnel_that_was_killed_is_told_apart_from_one_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let state = [("STATE_DIR", folder.path().to_str().unwrap())];
        assert!(judged(&state).is_empty());
        let hold = Hold::take(folder.path()).unwrap();
        assert!(judged(&state).is_empty(), "it points no number");
        fs::write(folder.path().join("tunnel.json"), "{}").unwrap();
        let open = judged(&state);
        assert!(open.len() == 1 && open[0].1 == "ok" && open[0].2.contains("a tunnel is open"), "{open:?}");
        drop(hold);
        let left = judged(&state);
        assert!(left.len() == 1 && left[0].1 == "warning" && left[0].2.contains("was killed"), "{left:?}");
    }
}
