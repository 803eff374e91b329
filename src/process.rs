//! This process and the system: how many descriptors it may open, and who may read its memory.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// The most connections that may be open for anything but a call: webhooks, health checks, strangers.
pub const SPARE_CONNECTIONS: usize = 1024;
/// A call's descriptors: the phone's socket and the model's, and as many again for its tools.
const PER_CALL: usize = 4;
/// The server's own: listeners, the log, the watch over the folder, pipes to MCP servers.
const OWN: usize = 128;

/// Raises the descriptor limit to what `calls` concurrent calls need, as far as the system allows. It is raised no
/// further, because tools' programs inherit it and some of them look at every descriptor they could have. Returns a
/// warning if the limit stays too low.
pub fn raise_descriptor_limit(calls: usize) -> Option<String> {
    let (soft, hard) = limits()?;
    let wanted = needed(calls).min(hard);
    let raised = wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    too_low(if raised { wanted } else { soft }, calls)
}

/// How many connections may be open for anything but a call. If descriptors are few, it is what `calls` calls leave,
/// but at least a quarter.
pub fn connections(calls: usize) -> usize {
    limits().map_or(SPARE_CONNECTIONS, |(soft, _)| left_by(calls, soft))
}

/// Hides this process's memory and environment, where the secrets are, from everyone but root: programs of the same
/// user, such as tools, could read them otherwise. Returns a warning if that fails.
pub fn hide() -> Option<String> {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        return Some(format!("warning: programs of the same user can read this one's secrets: {error}"));
    }
    None
}

/// The soft limit and the hard one, if the system has them.
fn limits() -> Option<(rlim_t, rlim_t)> {
    getrlimit(Resource::RLIMIT_NOFILE).ok()
}

fn too_low(limit: rlim_t, calls: usize) -> Option<String> {
    let needed = needed(calls);
    (limit < needed).then(|| {
        format!(
            "This process may open {limit} descriptors, but MAX_CALLS={calls} can need {needed}. Raise the limit \
             (`ulimit -n {needed}`, LimitNOFILE={needed} in systemd, `--ulimit nofile={needed}` in Docker) or lower \
             MAX_CALLS"
        )
    })
}

fn left_by(calls: usize, limit: rlim_t) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(PER_CALL * calls + OWN).max(limit / 4).min(SPARE_CONNECTIONS)
}

fn needed(calls: usize) -> rlim_t {
    rlim_t::try_from(PER_CALL * calls + SPARE_CONNECTIONS + OWN).unwrap_or(rlim_t::MAX)
}

/// For a test that judges its whole process: runs it again in a process of its own. `true` there.
#[cfg(test)]
pub fn is_alone(test: &str) -> bool {
    const ALONE: &str = "SWITCHBOARD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
    let output = itself.args([test, "--exact"]).env(ALONE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_calls_their_descriptors() {
        for (what, calls, limit, left) in [
            ("plenty", 1000, 1_048_576, 1024),
            ("no limit", 1000, rlim_t::MAX, 1024),
            ("exactly enough", 1000, 5152, 1024),
            ("a few less", 100, 1528, 1000),
            ("the usual limit", 1000, 1024, 256),
            ("few calls", 100, 1024, 496),
        ] {
            assert_eq!(left_by(calls, limit), left, "{what}");
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_reported_with_its_fix() {
        assert_eq!(too_low(5152, 1000), None);
        let warning = too_low(1024, 1000).unwrap();
        for figure in ["1024", "MAX_CALLS=1000", "ulimit -n 5152", "LimitNOFILE=5152", "nofile=5152"] {
            assert!(warning.contains(figure), "`{figure}` is not in: {warning}");
        }
    }
}
